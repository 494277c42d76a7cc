package register

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"ringfort/internal/timestamp"
)

func at(n int) T { return timestamp.T{Micros: uint64(n)} }

func TestSuccessor(t *testing.T) {
	rec := func(ballot, group int) *Record {
		r := &Record{Ballot: at(ballot), TS: at(ballot)}
		if group > 0 {
			r.Group = at(group)
		}
		return r
	}
	list := func(n ...int) (out []T) {
		for _, i := range n {
			out = append(out, at(i))
		}
		return out
	}
	for _, c := range []struct {
		name            string
		old             *Record
		prev            *Note
		rec             *Record
		drops, suspects []T
	}{
		{"the first record", nil, nil, rec(5, 1), nil, nil},
		{"in place of one known chosen", rec(4, 1), nil, rec(5, 2), list(1), nil},
		{"in place of one that may not be", rec(4, 1), &Note{}, rec(5, 2), nil, list(1)},
		{"small bytes displace a group", rec(4, 1), nil, rec(5, 0), list(1), nil},
		{"a record without a group displaces none", rec(4, 0), nil, rec(5, 2), nil, nil},
		{"metadata alone", rec(4, 1), nil, rec(5, 1), nil, nil},
		{"what was listed stays", rec(4, 3), &Note{Drops: list(1), Suspects: list(2)}, rec(5, 4), list(1), list(2, 3)},
		{"a lineage comes back", rec(4, 3), &Note{Drops: list(1), Suspects: list(2)}, rec(5, 1), nil, list(2, 3)},
		{"a suspect comes back", rec(4, 3), &Note{Drops: list(1), Suspects: list(2)}, rec(5, 2), list(1), list(3)},
	} {
		n := successor(c.old, c.rec, c.prev, 77)
		if n.Ballot != c.rec.Ballot || n.Micros != 77 || !slices.Equal(n.Drops, c.drops) || !slices.Equal(n.Suspects, c.suspects) {
			t.Errorf("%s: %+v", c.name, n)
		}
	}
}

// A key that is overwritten all the time, and never settled, has a bounded note,
// and the note before is not changed under its owner's hands.
func TestNotesAreBounded(t *testing.T) {
	var n Note
	for i := 1; i < 3*maxSuspects; i++ {
		prev := n
		was := slices.Clone(prev.Suspects)
		n = successor(&Record{Group: at(i)}, &Record{Ballot: at(1000 + i), Group: at(i + 1)}, &prev, 0)
		if !slices.Equal(prev.Suspects, was) {
			t.Fatal("the note before was changed")
		}
	}
	if len(n.Suspects) != maxSuspects || n.Suspects[maxSuspects-1] != at(3*maxSuspects-1) {
		t.Errorf("%d suspects, the last %v", len(n.Suspects), n.Suspects[len(n.Suspects)-1])
	}
}

func TestSwept(t *testing.T) {
	var s Swept
	if s.Has(at(1)) || !s.empty() {
		t.Error("nothing is swept yet")
	}
	s = s.With(at(5)).With(at(3)).With(at(5)).With(T{})
	if !s.Has(at(3)) || !s.Has(at(5)) || s.Has(at(4)) || len(s.Groups) != 2 || !slices.IsSortedFunc(s.Groups, T.Compare) {
		t.Errorf("%+v", s)
	}
	before := s
	for i := range maxSwept {
		s = s.With(at(10 + i))
	}
	if !slices.Equal(before.Groups, []T{at(3), at(5)}) {
		t.Error("With changed what it was given")
	}
	if len(s.Groups) != maxSwept {
		t.Errorf("%d groups", len(s.Groups))
	}
	for i := range maxSwept {
		if !s.Has(at(10 + i)) {
			t.Errorf("group %d is forgotten", 10+i)
		}
	}
	if !s.Has(at(3)) || !s.Has(at(5)) || s.Has(at(100)) {
		t.Errorf("%+v", s)
	}
}

func FuzzDecodeNote(f *testing.F) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		n := Note{Ballot: randomT(rng), Micros: rng.Int64()}
		for range rng.IntN(3) {
			n.Drops = append(n.Drops, randomT(rng))
			n.Suspects = append(n.Suspects, randomT(rng))
		}
		f.Add(n.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := DecodeNote(b)
		if err != nil {
			return
		}
		if again := n.AppendTo(nil); !bytes.Equal(again, b) { // one encoding only
			t.Fatalf("%+v is written as\n%x, was read from\n%x", n, again, b)
		}
	})
}
