package blob

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"ringfort/internal/errs"
	"ringfort/internal/timestamp"
)

// random draws IDs from a small space, so that fields collide and order is
// decided by each of them in turn.
func random(rng *rand.Rand) ID {
	return ID{
		Group:   timestamp.T{Micros: rng.Uint64N(3), Logical: rng.Uint32N(2), Seq: rng.Uint32N(2), Writer: rng.Uint64N(2)},
		Part:    rng.Uint32N(3),
		Attempt: rng.Uint64N(3) << 60,
	}
}

func TestOrderAndRoundTrip(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 10000 {
		a, b := random(rng), random(rng)
		ea, eb := a.AppendTo(nil), b.AppendTo(nil)
		if len(ea) != IDSize {
			t.Fatalf("%v: %d bytes", a, len(ea))
		}
		if got, want := bytes.Compare(ea, eb), a.Compare(b); got != want {
			t.Fatalf("bytes of %v and %v compare %d, IDs %d", a, b, got, want)
		}
		if got, want := strings.Compare(a.String(), b.String()), a.Compare(b); got != want {
			t.Fatalf("text of %v and %v compares %d, IDs %d", a, b, got, want)
		}
		if d, ok := Decode(ea); !ok || d != a {
			t.Fatalf("decoded %v, want %v", d, a)
		}
		if p, err := Parse(a.String()); err != nil || p != a {
			t.Fatalf("parsed %v (%v), want %v", p, err, a)
		}
		if a.IsZero() != (a.Compare(ID{}) == 0) {
			t.Fatalf("%v: IsZero is %v", a, a.IsZero())
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good := ID{Part: 0xabc}.String()
	for _, s := range []string{"", "00", good[1:], good + "00", "zz" + good[2:], strings.ToUpper(good), good[:71] + " ", "ff" + good[2:]} {
		if _, err := Parse(s); !errs.Is(err, errs.Invalid) {
			t.Errorf("Parse(%q) = %v", s, err)
		}
	}
	if _, ok := Decode(make([]byte, IDSize-1)); ok {
		t.Error("decoded an ID from too few bytes")
	}
	if _, ok := Decode(bytes.Repeat([]byte{0xff}, IDSize)); ok {
		t.Error("decoded an ID whose group is beyond the end of time")
	}
}

// The bytes are in fragments' names and headers.
func TestBytesAreFrozen(t *testing.T) {
	a := ID{
		Group: timestamp.T{Micros: 0x0102030405060708, Logical: 0x090a0b0c, Seq: 0x0d0e0f10, Writer: 0x1112131415161718},
		Part:  0x191a1b1c, Attempt: 0x1d1e1f2021222324,
	}
	if got, want := a.String(), "0102030405060708090a0b0c0d0e0f101112131415161718"+"191a1b1c"+"1d1e1f2021222324"; got != want {
		t.Errorf("%+v is %s, was %s", a, got, want)
	}
}

// FuzzDecode: what is accepted has no other form.
func FuzzDecode(f *testing.F) {
	f.Add(ID{Part: 1}.AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, ok := Decode(b); ok && !bytes.Equal(a.AppendTo(nil), b[:IDSize]) {
			t.Fatalf("%x became %v", b, a)
		}
	})
}
