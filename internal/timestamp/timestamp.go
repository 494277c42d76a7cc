// Package timestamp is cluster time: a total order over writes that does not
// need honest clocks.
//
// A [T] is wall microseconds, then a logical counter, then the writer. Two
// different writes never carry the same T, because a writer id is drawn anew at
// every process start and the sequence inside it never repeats. A [Clock] makes
// them; [Clock.Above] makes one that is newer than what a server already holds,
// for one key only, so that a clock in the year 2100 harms the key it touched
// and no other.
//
// On disk and on the wire a T is 24 bytes, big-endian, in comparison order:
//
//	0   8   wall microseconds since 1970
//	8   4   logical: how far above a foreign timestamp this one was placed
//	12  4   sequence of the writer, wraps
//	16  8   writer id
package timestamp

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sync/atomic"
	"time"
)

// Size is the length of an encoded T in bytes.
const Size = 24

// T is one moment of cluster time. The zero T is before every other.
type T struct {
	Micros  uint64 // wall clock of the writer, µs since 1970
	Logical uint32 // raised to get above a foreign T with the same Micros
	Seq     uint32 // the writer's own count, so that its Ts differ
	Writer  uint64 // the process that made it
}

// Compare returns -1, 0 or +1 as t is before, equal to or after u.
func (t T) Compare(u T) int {
	switch {
	case t.Micros != u.Micros:
		return sign(t.Micros < u.Micros)
	case t.Logical != u.Logical:
		return sign(t.Logical < u.Logical)
	case t.Seq != u.Seq:
		return sign(t.Seq < u.Seq)
	case t.Writer != u.Writer:
		return sign(t.Writer < u.Writer)
	}
	return 0
}

func sign(less bool) int {
	if less {
		return -1
	}
	return 1
}

// Less reports whether t is before u.
func (t T) Less(u T) bool { return t.Compare(u) < 0 }

// MaxMicros bounds the wall clock part: 146,000 years. Anything later is a fault,
// and would leave no room above it.
const MaxMicros = 1<<62 - 1

// Valid reports whether t may be taken from a peer or a disk.
func (t T) Valid() bool { return t.Micros <= MaxMicros }

// IsZero reports whether t is the zero T.
func (t T) IsZero() bool { return t == T{} }

// Max returns the later of t and u.
func Max(t, u T) T {
	if t.Less(u) {
		return u
	}
	return t
}

// Time returns the wall clock part.
func (t T) Time() time.Time { return time.UnixMicro(int64(t.Micros)).UTC() }

// AppendTo appends the 24 bytes of t to b.
func (t T) AppendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, t.Micros)
	b = binary.BigEndian.AppendUint32(b, t.Logical)
	b = binary.BigEndian.AppendUint32(b, t.Seq)
	return binary.BigEndian.AppendUint64(b, t.Writer)
}

// Decode reads a T from the first 24 bytes of b; ok is false if b is shorter.
func Decode(b []byte) (t T, ok bool) {
	if len(b) < Size {
		return T{}, false
	}
	return T{
		Micros:  binary.BigEndian.Uint64(b),
		Logical: binary.BigEndian.Uint32(b[8:]),
		Seq:     binary.BigEndian.Uint32(b[12:]),
		Writer:  binary.BigEndian.Uint64(b[16:]),
	}, true
}

// String returns 48 hexadecimal digits that sort as the Ts do.
func (t T) String() string { return hex.EncodeToString(t.AppendTo(nil)) }

// Parse reads what String wrote: exactly 48 lower-case hexadecimal digits of a
// valid T, so that a T has one text form only.
func Parse(s string) (T, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != Size {
		return T{}, fmt.Errorf("timestamp: %q is not %d hexadecimal digits", s, 2*Size)
	}
	t, _ := Decode(b)
	if !t.Valid() || t.String() != s {
		return T{}, fmt.Errorf("timestamp: %q is no timestamp, or has upper-case digits", s)
	}
	return t, nil
}

// Clock makes Ts for one writer. It is safe for concurrent use.
type Clock struct {
	writer uint64
	now    func() time.Time
	seq    atomic.Uint32
	last   atomic.Uint64 // INVARIANT: never goes back, so Now never does
}

// NewClock returns a clock of the given writer; now is the wall clock, and
// time.Now if nil.
func NewClock(writer uint64, now func() time.Time) *Clock {
	if now == nil {
		now = time.Now
	}
	return &Clock{writer: writer, now: now}
}

// NewWriter draws a writer id. Call it once per process start: a restarted
// process that kept its id could repeat a ballot.
func NewWriter() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails since Go 1.24
	return binary.BigEndian.Uint64(b[:])
}

// Writer returns the clock's writer id.
func (c *Clock) Writer() uint64 { return c.writer }

// Now returns a T at the wall clock, after every earlier T of Now on this clock.
func (c *Clock) Now() T {
	micros := uint64(max(c.now().UnixMicro(), 0))
	for {
		last := c.last.Load()
		if micros <= last {
			micros = last + 1
		}
		if c.last.CompareAndSwap(last, micros) {
			return T{Micros: micros, Seq: c.seq.Add(1), Writer: c.writer}
		}
	}
}

// Above returns a T after both t and the wall clock. It does not move the clock:
// a foreign T far in the future stays the business of its own key.
func (c *Clock) Above(t T) T {
	n := c.Now()
	if t.Less(n) {
		return n
	}
	n.Micros, n.Logical = t.Micros, t.Logical+1
	if n.Logical == 0 { // wrapped
		n.Micros++
	}
	return n
}
