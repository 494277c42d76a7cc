package benchtool

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strconv"
	"sync/atomic"

	"ringfort/internal/errs"
)

// source is the block of random bytes that every body is a window into. An
// object's bytes follow from its key's number alone, so that they can be compared
// when they come back; windows begin at odd places, so that a server gains nothing
// from finding equal blocks.
type source struct{ block []byte }

// sourceBytes is prime, so that windows repeat late.
const sourceBytes = 4194301

func newSource(seed uint64) *source {
	s := &source{block: make([]byte, sourceBytes)}
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)})
	rng.Read(s.block)
	return s
}

// offset is where the bytes of object number i begin.
func (s *source) offset(i int64) int {
	return int(uint64(i) * 2654435761 % uint64(len(s.block)))
}

// bodyReader reads size bytes of an object out of the source. It can do nothing
// but read, so that the client treats it as the stream that it is.
type bodyReader struct {
	src  *source
	at   int
	left int64
}

// reset makes r read object number i from its start.
func (r *bodyReader) reset(i, size int64) { r.at, r.left = r.src.offset(i), size }

// Read copies the object's next bytes to p.
func (r *bodyReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(int64(len(p)), r.left)], r.src.block[r.at:])
	r.left -= int64(n)
	if r.at += n; r.at == len(r.src.block) {
		r.at = 0
	}
	return n, nil
}

// bodyChecker is the reverse: it takes an object's bytes in and compares them.
type bodyChecker struct {
	src *source
	at  int
}

// check compares the object's next bytes with p.
func (c *bodyChecker) check(p []byte) error {
	for len(p) > 0 {
		n := min(len(p), len(c.src.block)-c.at)
		if !bytes.Equal(p[:n], c.src.block[c.at:c.at+n]) {
			return errs.New("bench", errs.Corrupt, "an object reads back with other bytes than were written")
		}
		p = p[n:]
		if c.at += n; c.at == len(c.src.block) {
			c.at = 0
		}
	}
	return nil
}

// keyspace is the set of keys of one size that a run writes, reads and deletes.
// Keys are numbered; numbers below limit are written in turn and then over again.
// Deleting eats them from below.
type keyspace struct {
	bucket string
	prefix string // "bench-…/<size>/", which the null server takes the size from
	size   int64
	limit  int64
	puts   atomic.Int64 // PUTs begun; the key of the next is puts % limit
	gone   atomic.Int64 // keys deleted, or being deleted, from number 0 up
	// strays says that a delete failed, so that keys below gone may be there still.
	strays atomic.Bool
}

func newKeyspace(bucket, run string, size, limit int64) *keyspace {
	return &keyspace{
		bucket: bucket,
		prefix: run + "/" + strconv.FormatInt(size, 10) + "/",
		size:   size,
		limit:  max(limit, 1),
	}
}

// keyDigits is the width of a key's number, so that names sort by number.
const keyDigits = 12

// key returns the name of key number i.
func (k *keyspace) key(i int64) string {
	buf := make([]byte, 0, 96)
	buf = append(buf, k.prefix...)
	var digits [20]byte
	d := strconv.AppendInt(digits[:0], i, 10)
	for range keyDigits - len(d) {
		buf = append(buf, '0')
	}
	return string(append(buf, d...))
}

// nextPut returns the number of the key to write next.
func (k *keyspace) nextPut() int64 { return (k.puts.Add(1) - 1) % k.limit }

// written is how many keys have been written, deleted ones included.
func (k *keyspace) written() int64 { return min(k.puts.Load(), k.limit) }

// left is how many keys are there to be read or deleted.
func (k *keyspace) left() int64 { return max(k.written()-k.gone.Load(), 0) }

// pick returns a random key that is there, and false if there is none.
func (k *keyspace) pick(rng *rand.Rand) (int64, bool) {
	low, high := k.gone.Load(), k.written()
	if low >= high {
		return 0, false
	}
	return low + rng.Int64N(high-low), true
}

// nextDelete returns the number of the key to delete next, and false if none is
// left.
func (k *keyspace) nextDelete() (int64, bool) {
	i := k.gone.Add(1) - 1
	if i >= k.written() {
		k.gone.Add(-1)
		return 0, false
	}
	return i, true
}

// mirror returns a keyspace of the same keys in the same state, for the same load
// on another server.
func (k *keyspace) mirror() *keyspace {
	m := &keyspace{bucket: k.bucket, prefix: k.prefix, size: k.size, limit: k.limit}
	m.puts.Store(k.puts.Load())
	m.gone.Store(k.gone.Load())
	return m
}

// forget empties the keyspace after its objects have been deleted.
func (k *keyspace) forget() {
	k.puts.Store(0)
	k.gone.Store(0)
	k.strays.Store(false)
}
