package register

import (
	"context"
	"testing"

	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/timestamp"
)

// What a device holds of a key, be it a promise alone, says which ring it lies on,
// and nobody is served who believes in another one.
func TestAcceptorKeepsThePolicy(t *testing.T) {
	ctx, key := context.Background(), keyhash.Hash{}
	r := &Record{Ballot: at(5), TS: at(5), Op: at(5), Root: at(5), Mod: at(5), Value: []byte("v")}
	for name, first := range map[string]func(g Registers) (Answer, error){
		"promised": func(g Registers) (Answer, error) { return g.Prepare(ctx, key, at(5), timestamp.T{}) },
		"written":  func(g Registers) (Answer, error) { return g.Write(ctx, key, r) },
	} {
		a := newAcceptor(AcceptorConfig{}, &labStore{})
		if got, err := first(a.Of(3)); err != nil || !got.Accepted || got.State.Policy != 3 {
			t.Fatalf("%s: %+v, %v", name, got, err)
		}
		if s, err := a.Look(key); err != nil || s.Policy != 3 {
			t.Errorf("%s: the disk says policy %d, %v", name, s.Policy, err)
		}
		for _, wrong := range []uint32{0, 4} {
			g := a.Of(wrong)
			_, learn := g.Learn(key)
			_, read := g.Read(key, true)
			_, write := g.Write(ctx, key, r.At(at(9)))
			_, prepare := g.Prepare(ctx, key, at(9), timestamp.T{})
			for call, err := range map[string]error{"Learn": learn, "Read": read, "Write": write, "Prepare": prepare} {
				if !errs.Is(err, errs.Invalid) {
					t.Errorf("%s: %s under policy %d: %v", name, call, wrong, err)
				}
			}
		}
		if s, err := a.Of(3).Read(key, true); err != nil || s.Highest() != at(5) {
			t.Errorf("%s: a refused call changed the key: %+v, %v", name, s, err)
		}
	}
}

// That a record is known chosen is said on disk by the absence of a note and by
// nothing else: what wrote the mark beside it could not take it back with the note.
func TestCommittedIsNotStored(t *testing.T) {
	ctx, key := context.Background(), keyhash.Hash{}
	disk := &labStore{}
	a := newAcceptor(AcceptorConfig{}, disk)
	rec := small("v")
	r := (&Update{Record: rec, Op: at(5)}).blind(at(5))
	check := func(step string, got Answer, err error) {
		t.Helper()
		if err != nil || !got.Accepted || !got.State.Committed {
			t.Fatalf("%s: %+v, %v", step, got, err)
		}
		if s, err := DecodeState(disk.head); err != nil || s.Committed {
			t.Errorf("%s: the disk has the mark: %+v, %v", step, s, err)
		}
	}
	got, err := a.Write(ctx, key, r.WithoutData())
	check("bare", got, err)
	got, err = a.Write(ctx, key, r)
	check("the bytes of a bare record", got, err)
	got, err = a.Prepare(ctx, key, at(6), timestamp.T{})
	check("a promise over a chosen record", got, err)
}
