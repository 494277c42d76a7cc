// Package wire reads and writes the primitive values that Ringfort's messages
// and stored values are made of. It is not a serializer: each type writes its
// own fields in order, and its package documents them.
//
// Writing appends to a byte slice. Reading uses a [Reader], which remembers the
// first failure, so that a decoder reads all fields and asks once. A Reader
// never allocates more than its input is long, so a hostile length costs nothing.
//
// Every value has one encoding only, and a Reader refuses any other: what was
// read and is written again gives the same bytes.
//
//	uvarint   unsigned LEB128, as short as it can be: at most 10 bytes
//	bytes     uvarint length, then the bytes
//	string    as bytes
//	bool      one byte, 0 or 1
package wire

import (
	"encoding/binary"
	"math"

	"ringfort/internal/errs"
	"ringfort/internal/timestamp"
)

// AppendBytes appends p with its length.
func AppendBytes(b, p []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(p)))
	return append(b, p...)
}

// AppendString appends s with its length.
func AppendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// AppendBool appends one byte.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// Reader takes values off the front of a byte slice. After a failure every read
// returns zero values and Err tells the first cause.
type Reader struct {
	b   []byte
	err error
}

// NewReader reads from b. Slices it returns alias b.
func NewReader(b []byte) Reader { return Reader{b: b} }

func (r *Reader) fail(what string) {
	if r.err == nil {
		r.err = errs.New("wire", errs.Corrupt, what)
	}
	r.b = nil
}

// Fail refuses the input, as a field's owner does who has read a value that cannot
// be. Only the first failure counts.
func (r *Reader) Fail(what string) { r.fail(what) }

// FailWith is Fail with an error of the owner's, whose kind is kept.
func (r *Reader) FailWith(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

// Uvarint reads an unsigned number.
func (r *Reader) Uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("number cut short or too long")
		return 0
	}
	if n > 1 && r.b[n-1] == 0 {
		r.fail("number is longer than it need be")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// UvarintMax reads an unsigned number that is not above limit, so that it fits the
// narrower type it is meant for.
func (r *Reader) UvarintMax(limit uint64) uint64 {
	v := r.Uvarint()
	if v > limit {
		r.fail("number is too large")
		return 0
	}
	return v
}

// Int64 reads an unsigned number that fits an int64.
func (r *Reader) Int64() int64 { return int64(r.UvarintMax(math.MaxInt64)) }

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if len(r.b) < 1 {
		r.fail("byte missing")
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

// Bool reads one byte that must be 0 or 1.
func (r *Reader) Bool() bool {
	v := r.Byte()
	if v > 1 {
		r.fail("boolean is neither 0 nor 1")
		return false
	}
	return v == 1
}

// Fixed reads n bytes; the result aliases the input.
func (r *Reader) Fixed(n int) []byte {
	if n < 0 || len(r.b) < n {
		r.fail("field cut short")
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// Bytes reads a length and that many bytes; the result aliases the input.
func (r *Reader) Bytes() []byte {
	n := r.Uvarint()
	if n > uint64(len(r.b)) {
		r.fail("length beyond the end")
		return nil
	}
	return r.Fixed(int(n))
}

// String reads a length and that many bytes.
func (r *Reader) String() string { return string(r.Bytes()) }

// Uint64 reads 8 bytes, big-endian.
func (r *Reader) Uint64() uint64 {
	if b := r.Fixed(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Uint32 reads 4 bytes, big-endian.
func (r *Reader) Uint32() uint32 {
	if b := r.Fixed(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// Timestamp reads a timestamp.T. One that is not valid is refused: nothing could
// ever be written above it.
func (r *Reader) Timestamp() timestamp.T {
	t, _ := timestamp.Decode(r.Fixed(timestamp.Size))
	if !t.Valid() {
		r.fail("timestamp is beyond the end of time")
		return timestamp.T{}
	}
	return t
}

// Count reads a number of elements, each at least size bytes long, and fails if
// the rest of the input could not hold them.
func (r *Reader) Count(size int) int {
	n := r.Uvarint()
	if n > uint64(len(r.b)/max(size, 1)) {
		r.fail("more elements than bytes")
		return 0
	}
	return int(n)
}

// Rest returns what has not been read.
func (r *Reader) Rest() []byte {
	v := r.b
	r.b = nil
	return v
}

// Len returns how many bytes are left.
func (r *Reader) Len() int { return len(r.b) }

// Err returns the first failure.
func (r *Reader) Err() error { return r.err }

// Done returns the first failure, or one if bytes are left over.
func (r *Reader) Done() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("bytes left over")
	}
	return r.err
}
