package listing

import (
	"fmt"
	"testing"
)

func TestSpotless(t *testing.T) {
	var s spotless
	a, b := []byte("a"), []byte("b")
	_, known, stains := s.look(a)
	if known {
		t.Fatal("a table is known that nobody asked about")
	}
	s.learn(a, true, stains)
	if clean, known, _ := s.look(a); !clean || !known {
		t.Error("a clean table was not remembered")
	}

	// Between the question and the answer b gets a tombstone: the answer is old.
	_, _, stains = s.look(b)
	s.stain(b)
	s.learn(b, true, stains)
	if clean, _, _ := s.look(b); clean {
		t.Error("an answer from before the tombstone was believed")
	}

	s.stain(a)
	if clean, known, _ := s.look(a); clean || !known {
		t.Errorf("after a tombstone the table is clean %v, known %v", clean, known)
	}
}

func TestSpotlessIsBounded(t *testing.T) {
	var s spotless
	for i := range 3 * maxSpotless {
		s.learn(fmt.Append(nil, i), true, 0)
	}
	if n := len(s.clean); n > maxSpotless {
		t.Errorf("%d tables are remembered", n)
	}
}
