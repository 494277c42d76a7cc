package register

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cespare/xxhash/v2"

	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/timestamp"
	"ringfort/internal/volume"
)

// The histories that made the rules, each told step by step. docs/register.md
// has them by the rules' numbers.

// lab is one key on devices A, B, C, … whose every message a test can decide about.
type lab struct {
	t       *testing.T
	devices []*Acceptor
	copies  int
	// bend, if not nil, breaks a rule.
	bend func(x *bent)
	now  int64 // µs, moved on by each client made
}

func newLab(t *testing.T, r, copies int) *lab {
	l := &lab{t: t, copies: copies, now: 1000}
	for range r {
		l.devices = append(l.devices, newAcceptor(AcceptorConfig{}, &labStore{}))
	}
	return l
}

// labStore is a disk that loses nothing.
type labStore struct {
	mu         sync.Mutex
	head, tail []byte
	n          *Note
}

func (s *labStore) state(keyhash.Hash) (volume.Value, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return volume.Value{Head: s.head, TailLen: len(s.tail)}, s.head != nil, nil
}

func (s *labStore) note(keyhash.Hash) (*heldNote, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n == nil {
		return nil, nil
	}
	return &heldNote{Note: *s.n}, nil
}

func (s *labStore) data(volume.Value, int) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.tail), nil
}

func (s *labStore) commit(c *change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.head, s.tail = slices.Clone(c.state), slices.Clone(c.data)
	switch {
	case c.given != nil:
		s.n = nil
	case c.note != nil:
		n := *c.note
		s.n = &n
	}
	return nil
}

func (s *labStore) forget(keyhash.Hash, *heldNote) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n = nil
}

// labClient is a gateway with a clock of its own.
type labClient struct {
	*Proposer
	l *lab
	q *Quorum
	// fate decides about a message; nil: it arrives.
	fate func(m labMessage) labFate
}

type labMessage struct {
	kind   string // learn, read, write, prepare
	device int
	r      *Record // write
	nth    int     // of its kind to this device, from 1
}

type labFate int

const (
	arrive    labFate = iota
	lose              // the device never sees it
	loseReply         // the device does what it is asked
)

var errLost = errs.New("lab", errs.Unavailable, "lost")

func (l *lab) client() *labClient {
	l.now += 1000
	at := l.now
	c := &labClient{l: l}
	c.Proposer = &Proposer{
		Clock:  timestamp.NewClock(uint64(at), func() time.Time { return time.UnixMicro(at) }),
		jitter: func(time.Duration) time.Duration { return 0 },
	}
	var list []Replica
	for i := range l.devices {
		x := &bent{Replica: &labReplica{c: c, i: i}}
		if l.bend != nil {
			l.bend(x)
		}
		list = append(list, x)
	}
	c.q = NewQuorum(list, l.copies)
	return c
}

// only returns a fate by which messages reach some devices alone.
func only(devices ...int) func(labMessage) labFate {
	return func(m labMessage) labFate {
		if slices.Contains(devices, m.device) {
			return arrive
		}
		return lose
	}
}

type labReplica struct {
	c     *labClient
	i     int
	mu    sync.Mutex
	count map[string]int
}

func labCall[T any](r *labReplica, kind string, rec *Record, fn func(a *Acceptor) (T, error)) (v T, err error) {
	r.mu.Lock()
	if r.count == nil {
		r.count = map[string]int{}
	}
	r.count[kind]++
	m := labMessage{kind: kind, device: r.i, r: rec, nth: r.count[kind]}
	r.mu.Unlock()
	f := arrive
	if r.c.fate != nil {
		f = r.c.fate(m)
	}
	if f == lose {
		return v, errLost
	}
	if v, err = fn(r.c.l.devices[r.i]); f == loseReply {
		var zero T
		return zero, errLost
	}
	return v, err
}

func (r *labReplica) Learn(context.Context) (Known, error) {
	return labCall(r, "learn", nil, func(a *Acceptor) (Known, error) { return a.Learn(keyhash.Hash{}) })
}

func (r *labReplica) Read(_ context.Context, data bool) (State, error) {
	return labCall(r, "read", nil, func(a *Acceptor) (State, error) { return a.Read(keyhash.Hash{}, data) })
}

func (r *labReplica) Write(_ context.Context, rec *Record) (Answer, error) {
	return labCall(r, "write", rec, func(a *Acceptor) (Answer, error) {
		return a.Write(context.Background(), keyhash.Hash{}, rec)
	})
}

func (r *labReplica) Prepare(_ context.Context, b, sweep timestamp.T) (Answer, error) {
	return labCall(r, "prepare", nil, func(a *Acceptor) (Answer, error) {
		return a.Prepare(context.Background(), keyhash.Hash{}, b, sweep)
	})
}

// put is a blind write of a value.
func (c *labClient) put(rec Record) (*Outcome, error) {
	ctx := context.Background()
	k, err := c.Highest(ctx, c.q)
	if err != nil {
		return nil, err
	}
	return c.Proposer.Write(ctx, c.q, &Update{Record: rec, Op: c.Clock.Now()}, k.Highest)
}

func (c *labClient) mustPut(rec Record) *Outcome {
	c.l.t.Helper()
	o, err := c.put(rec)
	if err != nil {
		c.l.t.Fatal(err)
	}
	return o
}

var errNotThat = errs.New("lab", errs.Precondition, "another value")

// swap writes a value if another is there; "" is for none.
func (c *labClient) swap(from, to string) error {
	_, err := c.Update(context.Background(), c.q, c.Clock.Now(), func(cur *Record) (*Record, error) {
		if text(cur) != from {
			return nil, errNotThat
		}
		rec := value(to)
		return &rec, nil
	})
	return err
}

func value(v string) Record { return Record{Value: []byte(v)} }

func small(v string) Record {
	r := value(v)
	r.Data = bytes.Repeat([]byte(v), 10)
	r.DataLen, r.DataSum = len(r.Data), xxhash.Sum64(r.Data)
	return r
}

func text(r *Record) string {
	if r == nil || r.Tombstone {
		return ""
	}
	return string(r.Value)
}

// reads asks from some devices alone what is there.
func (l *lab) reads(want string, devices ...int) {
	l.t.Helper()
	c := l.client()
	if len(devices) > 0 {
		c.fate = only(devices...)
	}
	r, err := c.Proposer.Read(context.Background(), c.q, true)
	if err != nil || text(r) != want {
		l.t.Errorf("%v read %q, %v; want %q", devices, text(r), err, want)
	}
}

// send has a record accepted by some devices, as one that was on its way.
func (l *lab) send(r *Record, devices ...int) {
	l.t.Helper()
	for _, i := range devices {
		if a, err := l.devices[i].Write(context.Background(), keyhash.Hash{}, r); err != nil || !a.Accepted {
			l.t.Fatalf("device %d: %+v, %v", i, a, err)
		}
	}
}

func (l *lab) settle(r *Record) {
	for _, a := range l.devices {
		a.Settle([]Settled{{Ballot: r.Ballot}})
	}
}

// blind is a record as its writer would first send it.
func (c *labClient) blind(rec Record, above timestamp.T) *Record {
	u := Update{Record: rec, Op: c.Clock.Now()}
	return u.blind(c.Clock.Above(above))
}

// 4c: a writer whose answers are lost must not bring back what was deleted since.
func TestLostAnswersDoNotResurrect(t *testing.T) {
	l := newLab(t, 3, 3)
	w, other := l.client(), l.client()
	var once sync.Once
	gone := make(chan struct{})
	var n sync.WaitGroup
	n.Add(3)
	w.fate = func(m labMessage) labFate {
		if m.kind != "write" || m.nth > 1 {
			return arrive
		}
		n.Done()
		return loseReply
	}
	go func() { // once all three have it: it is read and deleted
		n.Wait()
		for text(must(other.Proposer.Read(context.Background(), other.q, false))) != "v4" {
		}
		once.Do(func() { other.mustPut(Record{Tombstone: true}); close(gone) })
	}()
	w.jitter = func(time.Duration) time.Duration { <-gone; return 0 }
	if _, err := w.put(value("v4")); err != nil {
		t.Fatal(err)
	}
	l.reads("")
}

func must(r *Record, err error) *Record {
	if err != nil {
		return nil
	}
	return r
}

// 4a: a gateway with a slow clock still writes after what was acknowledged.
func TestSlowClockWins(t *testing.T) {
	l := newLab(t, 3, 3)
	slow, fast := l.client(), l.client()
	fast.mustPut(value("old"))
	if o := slow.mustPut(value("new")); text(o.Record) != "new" {
		t.Fatalf("told %q", text(o.Record))
	}
	l.reads("new")
}

// Root: a conditional write that did not see a blind one does not come after it.
func TestRootTellsBlindWriterToWriteAgain(t *testing.T) {
	l := newLab(t, 3, 3)
	first := l.client().mustPut(value("v1"))
	w, cas := l.client(), l.client()
	mine := w.blind(value("v3"), first.Record.Ballot)
	l.send(mine, 0)
	cas.fate = only(1, 2)
	if err := cas.swap("v1", "v2"); err != nil {
		t.Fatal(err)
	}
	tr := try{highest: mine.Ballot}
	for range 3 {
		if o, err := w.retryBlind(context.Background(), w.q, mine, &tr); err == nil {
			if text(o.Record) != "v3" {
				t.Fatalf("the blind write was told that it came before %q", text(o.Record))
			}
			break
		}
	}
	l.reads("v3")
}

// 5: what a "no" rests on is there for the next one too.
func TestNoIsCertain(t *testing.T) {
	l := newLab(t, 3, 3)
	l.send(l.client().blind(value("half"), timestamp.T{}), 0)
	c := l.client()
	if err := c.swap("", "new"); err != errNotThat {
		t.Fatal(err)
	}
	l.reads("half", 1, 2)
}

// 6: a conditional write knows its own first attempt when its answers were lost.
func TestRetryKnowsItsAttempt(t *testing.T) {
	l := newLab(t, 3, 3)
	c := l.client()
	c.fate = func(m labMessage) labFate {
		if m.kind == "write" && m.nth == 1 {
			return loseReply
		}
		return arrive
	}
	// Without an answer it cannot go on within its own call: the outcome is open.
	if err := c.swap("", "mine"); !errs.Is(err, errs.OutcomeUnknown) {
		t.Fatal(err)
	}
	l.reads("mine")

	// With a refusal it can: one device has it, the others had promised more.
	l = newLab(t, 3, 3)
	c = l.client()
	c.fate = func(m labMessage) labFate {
		if m.kind == "write" && m.nth == 1 && m.device > 0 {
			l.devices[m.device].Prepare(context.Background(), keyhash.Hash{}, after(m.r.Ballot), timestamp.T{})
		}
		return arrive
	}
	if err := c.swap("", "mine"); err != nil {
		t.Fatal(err)
	}
	l.reads("mine", 1, 2)
}

// 6: an operation that said no does not happen later, even when the judge has
// changed its mind about the same record.
func TestNoBuriesOldAttempts(t *testing.T) {
	l := newLab(t, 3, 3)
	first := l.client().mustPut(value("v0"))
	l.settle(first.Record)
	c := l.client()
	c.fate = func(m labMessage) labFate {
		switch {
		case m.kind == "write" && m.nth == 1 && m.device < 2:
			l.devices[m.device].Prepare(context.Background(), keyhash.Hash{}, after(m.r.Ballot), timestamp.T{})
		case m.kind == "prepare" && m.nth > 1 && m.device == 2:
			return lose
		}
		return arrive
	}
	asked := 0
	_, err := c.Update(context.Background(), c.q, c.Clock.Now(), func(cur *Record) (*Record, error) {
		if asked++; asked > 1 {
			return nil, errNotThat
		}
		rec := value("v1")
		return &rec, nil
	})
	if err != errNotThat || asked < 2 {
		t.Fatal(err, asked)
	}
	l.reads("v0", 0, 2)
	l.reads("v0", 1, 2)
}

// after is a T just above t, as another writer could have made it.
func after(t T) T { t.Logical++; return t }

// T shortens the tests.
type T = timestamp.T

// Chosen means W acceptances under one ballot.
func TestAcceptancesAreNotAddedUp(t *testing.T) {
	run := func(bend func(x *bent)) bool {
		l := newLab(t, 3, 3)
		first := l.client().mustPut(value("v1"))
		l.settle(first.Record)
		w, cas, late := l.client(), l.client(), l.client()
		l.bend = bend
		retry := l.client()
		l.bend = nil
		mine := w.blind(value("v3"), first.Record.Ballot)
		l.send(mine, 0)
		// A conditional write that has not seen it reaches B.
		y := *cas.blind(value("y"), mine.Ballot)
		y.Root, y.Chain = first.Record.TS, []T{y.Op}
		l.send(&y, 1)
		// v3 is prepared again at A and C, and then y at A and B.
		tr := try{highest: timestamp.Max(mine.Ballot, y.Ballot)}
		retry.fate = only(0, 2)
		prep := retry.prepare(context.Background(), retry.q, &tr, T{})
		late.fate = only(0, 1)
		ltr := try{highest: tr.highest}
		lprep := late.prepare(context.Background(), late.q, &ltr, T{})
		if prep.err != nil || lprep.err != nil || text(prep.newest) != "v3" || text(lprep.newest) != "y" {
			t.Fatal("the history has not come about")
		}
		_, err := retry.finish(context.Background(), retry.q, &prep, &tr)
		if _, err := late.finish(context.Background(), late.q, &lprep, &ltr); err != nil {
			t.Fatal(err)
		}
		return err == nil // v3 is told done, although y, which did not see it, is chosen
	}
	if run(nil) {
		t.Error("v3 passes for chosen")
	}
	if !run(func(x *bent) {
		x.wrote = func(r *Record, a *Answer) {
			a.Accepted = a.Accepted || a.State.Record != nil && a.State.Record.TS == r.TS
		}
	}) {
		t.Error("the history does not show what it should")
	}
}

// 8: where R < W, R equal answers are not enough.
func TestEqualAnswersAreWrittenBack(t *testing.T) {
	l := newLab(t, 4, 4)
	first := l.client().mustPut(value("v1"))
	l.settle(first.Record)
	l.send(l.client().blind(value("v2"), first.Record.Ballot), 0, 1)
	l.reads("v2", 0, 1, 2)
	n := 0
	for _, a := range l.devices {
		if s, err := a.Read(keyhash.Hash{}, false); err == nil && text(s.Record) == "v2" {
			n++
		}
	}
	if n < 3 {
		t.Errorf("told, and on %d devices: the two others would tell v1", n)
	}
}

// A small write that fails half-way does not cost the devices outside its copies
// what they had voted for.
func TestHalfWrittenBytesDisplaceNothing(t *testing.T) {
	l := newLab(t, 5, 3)
	l.client().mustPut(small("v1"))
	del := l.client()
	del.fate = func(m labMessage) labFate {
		if m.kind == "write" && m.device < 2 {
			return lose
		}
		return arrive
	}
	del.mustPut(Record{Tombstone: true}) // chosen by C, D and E
	w := l.client()
	ctx, cancel := context.WithCancel(context.Background())
	w.fate = func(m labMessage) labFate {
		if m.kind == "write" && m.device < 3 {
			cancel()
			return lose
		}
		return arrive
	}
	rec := small("v2")
	if _, err := w.Proposer.Write(ctx, w.q, &Update{Record: rec, Op: w.Clock.Now()}, T{Micros: 1 << 50}); err == nil {
		t.Skip("it was chosen after all")
	}
	r := l.client()
	r.fate = only(0, 3, 4)
	got, err := r.Proposer.Read(context.Background(), r.q, false)
	if err != nil || text(got) == "v1" {
		t.Errorf("%q is back, %v", text(got), err)
	}
}

// Devices outside the copies get the record when it is chosen, and have no note.
func TestBareIsChosen(t *testing.T) {
	l := newLab(t, 5, 3)
	o := l.client().mustPut(small("v1"))
	for i, a := range l.devices {
		for deadline := time.Now().Add(10 * time.Second); ; {
			s, err := a.Read(keyhash.Hash{}, true)
			if err != nil {
				t.Fatal(err)
			}
			if s.Record != nil {
				if bare := i >= 3; s.Held == bare || s.Committed != bare || s.Record.Ballot != o.Record.Ballot {
					t.Errorf("device %d: %+v", i, s)
				}
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("device %d has nothing", i)
			}
			time.Sleep(time.Millisecond) // the answer did not wait for it
		}
	}
	l.reads("v1", 2, 3, 4) // with its bytes, which only C has
}

// A device that has the bytes keeps them when it is told of the same record bare.
func TestBareKeepsBytes(t *testing.T) {
	l := newLab(t, 1, 1)
	r := l.client().blind(small("v"), T{})
	l.send(r, 0)
	l.send(r.WithoutData().At(after(r.Ballot)), 0)
	s, err := l.devices[0].Read(keyhash.Hash{}, true)
	if err != nil || !s.Held || !bytes.Equal(s.Record.Data, r.Data) || !s.Committed {
		t.Errorf("%+v, %v", s, err)
	}
}

// When a device with the bytes fails, another one gets them.
func TestAnotherDeviceGetsTheBytes(t *testing.T) {
	l := newLab(t, 5, 3)
	c := l.client()
	c.fate = only(0, 2, 4)
	c.mustPut(small("v1"))
	l.reads("v1", 0, 2, 4)
	for _, i := range []int{0, 2, 4} {
		if s, _ := l.devices[i].Read(keyhash.Hash{}, true); !s.Held {
			t.Errorf("device %d has no bytes", i)
		}
	}
}

// A judge may say no with whatever error it likes.
func TestVerdictIsToldAsItIs(t *testing.T) {
	l := newLab(t, 3, 3)
	for _, k := range []errs.Kind{errs.Conflict, errs.OutcomeUnknown, errs.Swept, errs.Unavailable} {
		asked, verdict := 0, errs.New("judge", k, "no")
		c := l.client()
		_, err := c.Update(context.Background(), c.q, c.Clock.Now(), func(*Record) (*Record, error) { asked++; return nil, verdict })
		if err != verdict || asked != 1 {
			t.Errorf("%v: %v after %d questions", k, err, asked)
		}
	}
}

// Swept groups.

func grouped(v string, g T) Record {
	r := value(v)
	r.Group = g
	return r
}

// A device whose own, older record names the group must not go on accepting it:
// with the devices that the sweeper did not reach it would make a quorum.
func TestSweptGroupIsNeverChosen(t *testing.T) {
	l := newLab(t, 5, 5)
	first := l.client().mustPut(value("v0"))
	w, cas, sweeper := l.client(), l.client(), l.client()
	g := w.Clock.Now()
	mine := w.blind(grouped("mine", g), first.Record.Ballot)
	l.send(mine, 0, 2)
	cas.fate = only(1, 3, 4)
	if err := cas.swap("v0", "n"); err != nil {
		t.Fatal(err)
	}
	sweeper.fate = only(0, 1, 3)
	r, err := sweeper.Sweep(context.Background(), sweeper.q, g)
	if err != nil || text(r) != "n" {
		t.Fatalf("%q, %v", text(r), err)
	}
	w.fate = func(m labMessage) labFate {
		if m.kind == "prepare" && (m.device == 1 || m.device == 3) {
			return lose
		}
		return arrive
	}
	tr := try{highest: mine.Ballot}
	for range 5 {
		var o *Outcome
		if o, err = w.retryBlind(context.Background(), w.q, mine, &tr); err == nil {
			t.Fatalf("%q was chosen; its blobs are gone", text(o.Record))
		}
		if errs.Is(err, errs.Swept) {
			break
		}
	}
	if !errs.Is(err, errs.Swept) {
		t.Error(err)
	}
	l.reads("n")
}

// A writer that slept leaves its record on a device that the sweeper did not
// reach. Those who find it there go on without it.
func TestReadersPassOverSweptRecords(t *testing.T) {
	l := newLab(t, 3, 3)
	first := l.client().mustPut(value("v0"))
	l.settle(first.Record)
	sweeper, w := l.client(), l.client()
	g := w.Clock.Now()
	sweeper.fate = only(0, 1)
	if r, err := sweeper.Sweep(context.Background(), sweeper.q, g); err != nil || text(r) != "v0" {
		t.Fatalf("%q, %v", text(r), err)
	}
	if _, err := w.put(grouped("mine", g)); !errs.Is(err, errs.Swept) {
		t.Fatal(err)
	}
	// The writer has its answer when two have refused: the third may take longer.
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if s, _ := l.devices[2].Read(keyhash.Hash{}, false); text(s.Record) == "mine" {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the history has not come about")
		}
	}
	l.reads("v0", 0, 1)
	l.reads("v0")
	c := l.client()
	if err := c.swap("v0", "v1"); err != nil {
		t.Error(err)
	}
	l.reads("v1", 1, 2)
}

// An object whose group somebody takes for dead is left alone.
func TestLivingGroupIsNotSwept(t *testing.T) {
	l := newLab(t, 3, 3)
	w := l.client()
	g := w.Clock.Now()
	l.send(w.blind(grouped("v", g), T{}), 0, 1)
	s := l.client()
	if r, err := s.Sweep(context.Background(), s.q, g); err != nil || r == nil || r.Group != g {
		t.Fatalf("%+v, %v", r, err)
	}
	for i, a := range l.devices {
		st, err := a.Read(keyhash.Hash{}, false)
		if err != nil || st.Swept.Has(g) {
			t.Errorf("device %d refuses a living group: %+v, %v", i, st, err)
		}
	}
	a, err := l.devices[0].Prepare(context.Background(), keyhash.Hash{}, T{Micros: 1 << 40}, g)
	if err != nil || a.Accepted {
		t.Errorf("a device that has the record promised to refuse it: %+v, %v", a, err)
	}
}

// A dead record on fewer than W devices, of a key that has no older one, does not
// keep its group from being swept: there is nothing to write over it, and its
// devices refuse to list the group for as long as they live. R others that list it
// are enough, since no W without them are left.
func TestSweepPastHolders(t *testing.T) {
	for _, r := range []int{2, 4} {
		l := newLab(t, r, r)
		w := l.client()
		g := w.Clock.Now()
		half := r / 2
		var holders, others []int
		for i := range r {
			if i < half {
				holders = append(holders, i)
			} else {
				others = append(others, i)
			}
		}
		l.send(w.blind(grouped("dead", g), T{}), holders...)
		first := l.client() // gets no further than the others
		first.fate = only(others...)
		if _, err := first.Sweep(context.Background(), first.q, g); !errs.Is(err, errs.Unavailable) {
			t.Fatalf("r=%d: swept without W devices: %v", r, err)
		}
		s := l.client()
		if rec, err := s.Sweep(context.Background(), s.q, g); err != nil || rec != nil {
			t.Fatalf("r=%d: %+v, %v", r, rec, err)
		}
		for _, i := range others {
			if st, err := l.devices[i].Look(keyhash.Hash{}); err != nil || !st.Swept.Has(g) {
				t.Errorf("r=%d: device %d does not list the group: %+v, %v", r, i, st, err)
			}
		}
		// The writer wakes up, and is told; a read finds nothing; the key goes on.
		late := l.client()
		if _, err := late.put(grouped("late", g)); !errs.Is(err, errs.Swept) {
			t.Errorf("r=%d: a swept group was written: %v", r, err)
		}
		l.reads("")
		l.client().mustPut(value("next"))
		l.reads("next")
	}
}

// But a record that was chosen between the two rounds is on too many devices for R
// others to be left: the sweeper looks again, and finds it alive.
func TestSweepNeedsReaders(t *testing.T) {
	l := newLab(t, 4, 4)
	s, w := l.client(), l.client()
	g := w.Clock.Now()
	var once sync.Once
	s.fate = serial(func(m labMessage) labFate {
		switch {
		case m.kind != "prepare":
		case m.device < 2 && m.nth == 1:
			return lose // the first round asks the others, and finds nothing
		default:
			if m.nth == 2 || m.device < 2 {
				once.Do(func() { l.send(w.blind(grouped("chosen", g), T{}), 0, 1, 3) })
			}
		}
		return arrive
	})
	if rec, err := s.Sweep(context.Background(), s.q, g); err != nil || rec == nil || rec.Group != g {
		t.Fatalf("a chosen group was swept: %+v, %v", rec, err)
	}
	l.reads("chosen")
}

// More conditional writes than a chain remembers do not make a retry's outcome
// unknown, as long as what came after its own attempt is all there.
func TestLongChains(t *testing.T) {
	l := newLab(t, 3, 3)
	for i := range MaxChain + 8 {
		from := ""
		if i > 0 {
			from = string(rune('A' + i - 1))
		}
		if err := l.client().swap(from, string(rune('A'+i))); err != nil {
			t.Fatal(i, err)
		}
	}
	last := string(rune('A' + MaxChain + 7))
	c := l.client()
	c.fate = func(m labMessage) labFate { // its first attempt is refused everywhere
		if m.kind == "write" && m.nth == 1 {
			l.devices[m.device].Prepare(context.Background(), keyhash.Hash{}, after(m.r.Ballot), T{})
		}
		return arrive
	}
	if err := c.swap(last, "end"); err != nil {
		t.Fatal(err)
	}
	l.reads("end")

	// But when the chain has been cut since, nobody knows.
	c = l.client()
	var once sync.Once
	c.fate = func(m labMessage) labFate {
		if m.kind == "write" && m.nth == 1 {
			once.Do(func() {
				for range MaxChain + 1 {
					if err := l.client().swap("end", "end"); err != nil {
						t.Error(err)
					}
				}
			})
			return arrive
		}
		return arrive
	}
	c.fate = serial(c.fate)
	if err := c.swap("end", "x"); !errs.Is(err, errs.OutcomeUnknown) {
		t.Fatal(err)
	}
	l.reads("end")
}

// serial has one message decided at a time.
func serial(fn func(labMessage) labFate) func(labMessage) labFate {
	var mu sync.Mutex
	return func(m labMessage) labFate {
		mu.Lock()
		defer mu.Unlock()
		return fn(m)
	}
}

// A device that says nothing costs the hedge and not the call's time.
func TestSilentDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for silent := range 4 {
			l := newLab(t, 4, 3)
			base := l.client()
			rec := base.blind(small("v1"), T{})
			l.send(rec, 0, 1, 2)
			c := l.client()
			c.HedgeAfter = 20 * time.Millisecond
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			c.fate = func(m labMessage) labFate {
				if m.device == silent {
					<-ctx.Done()
					return lose
				}
				return arrive
			}
			start := time.Now()
			r, err := c.Proposer.Read(ctx, c.q, true)
			if err != nil || text(r) != "v1" || time.Since(start) > 100*time.Millisecond {
				t.Errorf("silent %d: read %q, %v after %v", silent, text(r), err, time.Since(start))
			}
			start = time.Now()
			k, err := c.Highest(ctx, c.q)
			if err == nil {
				_, err = c.Proposer.Write(ctx, c.q, &Update{Record: small("v2"), Op: c.Clock.Now()}, k.Highest)
			}
			if err != nil || time.Since(start) > 100*time.Millisecond {
				t.Errorf("silent %d: write %v after %v", silent, err, time.Since(start))
			}
			cancel()
			time.Sleep(CallTimeout) // until all that was left behind has ended
		}
	})
}

// A quorum of both sets is one of each, whatever the numbers of the union are.
func TestMovingPartition(t *testing.T) {
	q := &Quorum{Replicas: make([]Replica, 5), W: 3, R: 3, Sets: [][]int{{0, 1, 2, 3}, {0, 1, 2, 4}}}
	of := func(list ...int) func(int) bool { return func(i int) bool { return slices.Contains(list, i) } }
	for _, c := range []struct {
		got  []int
		n    need
		want bool
	}{
		{[]int{0, 1}, readers, true},
		{[]int{0, 3}, readers, false},
		{[]int{3, 4, 0}, readers, true},
		{[]int{0, 1}, writers, false},
		{[]int{0, 1, 2}, writers, true},
		{[]int{0, 1, 3}, writers, false},
		{[]int{0, 1, 3, 4}, writers, true},
	} {
		if got := q.enough(of(c.got...), c.n); got != c.want {
			t.Errorf("%v for %d: %v", c.got, c.n, got)
		}
	}
}

// A key's lock is given up by whoever does not want to wait any longer.
func TestLockEndsWithContext(t *testing.T) {
	var k keyLocks
	unlock, err := k.lock(context.Background(), keyhash.Hash{1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { _, err := k.lock(ctx, keyhash.Hash{1}); done <- err }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, ok := k.tryLock(keyhash.Hash{1}); ok {
		t.Fatal("locked twice")
	}
	other, ok := k.tryLock(keyhash.Hash{2})
	if !ok {
		t.Fatal("keys must not share a lock")
	}
	other()
	unlock()
	if again, ok := k.tryLock(keyhash.Hash{1}); !ok {
		t.Fatal("the lock was not given back")
	} else {
		again()
	}
	for i := range k.shards {
		if n := len(k.shards[i].held); n != 0 {
			t.Errorf("%d locks left behind", n)
		}
	}
}
