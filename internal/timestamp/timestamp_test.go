package timestamp

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

func random(r *rand.Rand) T {
	// Small ranges, so that equal fields are common.
	return T{r.Uint64N(3), r.Uint32N(3), r.Uint32N(3), r.Uint64N(3)}
}

func TestOrderMatchesEncoding(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 10000 {
		a, b := random(r), random(r)
		if got, want := a.Compare(b), bytes.Compare(a.AppendTo(nil), b.AppendTo(nil)); got != want {
			t.Fatalf("Compare(%v, %v) = %d, bytes say %d", a, b, got, want)
		}
		if d, ok := Decode(a.AppendTo(nil)); !ok || d != a {
			t.Fatalf("decoded %v as %v", a, d)
		}
		if p, err := Parse(a.String()); err != nil || p != a {
			t.Fatalf("parsed %v as %v, %v", a, p, err)
		}
	}
}

// The bytes are in every record, row and key: a change of them would lose all data.
func TestBytesAreFrozen(t *testing.T) {
	v := T{Micros: 0x0102030405060708, Logical: 0x090a0b0c, Seq: 0x0d0e0f10, Writer: 0x1112131415161718}
	if got, want := v.String(), "0102030405060708"+"090a0b0c"+"0d0e0f10"+"1112131415161718"; got != want {
		t.Errorf("%+v is %s, was %s", v, got, want)
	}
}

func TestDecodeShort(t *testing.T) {
	if _, ok := Decode(make([]byte, Size-1)); ok {
		t.Error("decoded 23 bytes")
	}
	upper := strings.ToUpper(T{Micros: 0xabc}.String())
	for _, s := range []string{"", "00", "zz", T{}.String() + "00", upper, T{Micros: MaxMicros + 1}.String()} {
		if _, err := Parse(s); err == nil {
			t.Errorf("parsed %q", s)
		}
	}
}

func TestNowIsUniqueAndRises(t *testing.T) {
	c := NewClock(7, func() time.Time { return time.UnixMicro(100) }) // a clock that stands still
	var mu sync.Mutex
	seen := map[T]bool{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var last T
			for range 1000 {
				n := c.Now()
				if !last.Less(n) {
					t.Errorf("%v is not after %v", n, last)
				}
				last = n
				mu.Lock()
				if seen[n] {
					t.Errorf("%v twice", n)
				}
				seen[n] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestAboveAFutureClock(t *testing.T) {
	c := NewClock(7, func() time.Time { return time.UnixMicro(100) })
	future := T{Micros: 1 << 60, Logical: 1<<32 - 1, Writer: 9}
	a, b := c.Above(future), c.Above(future)
	if !future.Less(a) || !future.Less(b) {
		t.Errorf("%v or %v is not above %v", a, b, future)
	}
	if a == b {
		t.Error("two ballots above the same T are equal")
	}
	if n := c.Now(); n.Micros > 1000 {
		t.Errorf("the future clock has infected ours: %v", n)
	}
	if p := c.Above(T{Micros: 5}); p.Micros < 100 {
		t.Errorf("%v is before the wall clock", p)
	}
}
