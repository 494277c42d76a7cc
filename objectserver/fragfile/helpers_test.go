package fragfile

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"ringfort/internal/blob"
	"ringfort/internal/erasure"
	"ringfort/internal/timestamp"
	"ringfort/internal/vfs"
)

// newHeader returns the header of a fragment of a k+m blob of size bytes.
func newHeader(rng *rand.Rand, k, m uint8, size int64) Header {
	h := Header{K: k, M: m, BlockSize: erasure.DefaultBlockSize, Policy: 7, Size: size}
	for i := range h.Owner {
		h.Owner[i] = byte(rng.Uint32())
	}
	h.Blob = blob.ID{
		Group:   timestamp.T{Micros: rng.Uint64N(timestamp.MaxMicros + 1), Logical: rng.Uint32(), Seq: rng.Uint32(), Writer: rng.Uint64()},
		Part:    rng.Uint32N(10000),
		Attempt: rng.Uint64(),
	}
	h.Index = erasure.Index(rng.IntN(int(k + m)))
	return h
}

func randomBytes(rng *rand.Rand, n int64) []byte {
	b := make([]byte, n+8)
	for i := int64(0); i < n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], rng.Uint64())
	}
	return b[:n:n]
}

func openStore(t testing.TB, fs vfs.FS, dir string) *Store {
	t.Helper()
	s, err := Open(context.Background(), fs, dir, smallConfig())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// smallConfig has a buffer that is small enough to be flushed often.
func smallConfig() Config {
	c := Default()
	c.BufferBytes = 4 * pageSize
	return c
}

// put writes a fragment in pieces of random lengths.
func put(s *Store, h Header, data []byte, rng *rand.Rand) error {
	size := h.Size
	if size != SizeUnknown && rng.IntN(2) == 0 {
		h.Size = SizeUnknown // the size comes with Commit
	}
	w, err := s.Create(context.Background(), h)
	if err != nil {
		return err
	}
	defer w.Abort()
	for len(data) > 0 {
		n := min(len(data), 1+rng.IntN(100_000))
		if _, err := w.Write(data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return w.Commit(context.Background(), size)
}
