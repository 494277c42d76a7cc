package checksum

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"github.com/klauspost/crc32"
	"github.com/minio/crc64nvme"
)

// A Set that hashes with several algorithms passes the bytes in blocks of this
// size, so that all but the first algorithm find them in the processor's cache.
const blockSizeBytes = 16 << 10

// Set computes any number of checksums in one pass. It is an io.Writer that
// never fails. It may be used again after Reset. Not for concurrent use.
type Set struct {
	algs  []Algorithm
	store [numAlgorithms]Algorithm
	has   [numAlgorithms]bool

	crc32  uint32
	crc32c uint32
	crc64  uint64
	sha1   hash.Hash
	sha256 hash.Hash

	castagnoli *crc32.Table
	length     int64
	scratch    [maxSize]byte // a buffer passed to hash.Hash escapes: keep one
}

// NewSet returns a Set for the given algorithms. None, unknown and repeated ones
// are left out.
func NewSet(algs ...Algorithm) *Set {
	s := new(Set)
	s.Reset(algs...)
	return s
}

// Reset forgets what was written and the algorithms, and starts with these. What
// it allocated before is used again.
func (s *Set) Reset(algs ...Algorithm) {
	s.algs, s.has = s.store[:0], [numAlgorithms]bool{}
	s.crc32, s.crc32c, s.crc64, s.length = 0, 0, 0, 0
	for _, a := range algs {
		if !a.Valid() || s.has[a] {
			continue
		}
		s.has[a] = true
		s.algs = append(s.algs, a)
		switch a {
		case CRC32C:
			s.castagnoli = crc32.MakeTable(crc32.Castagnoli)
		case SHA1:
			s.sha1 = fresh(s.sha1, sha1.New)
		case SHA256:
			s.sha256 = fresh(s.sha256, sha256.New)
		}
	}
}

func fresh(h hash.Hash, make func() hash.Hash) hash.Hash {
	if h == nil {
		return make()
	}
	h.Reset()
	return h
}

// Write adds p to every checksum. It returns len(p) and nil.
func (s *Set) Write(p []byte) (int, error) {
	n := len(p)
	s.length += int64(n)
	if len(s.algs) < 2 {
		s.block(p)
		return n, nil
	}
	for len(p) > blockSizeBytes {
		s.block(p[:blockSizeBytes])
		p = p[blockSizeBytes:]
	}
	s.block(p)
	return n, nil
}

func (s *Set) block(p []byte) {
	for _, a := range s.algs {
		switch a {
		case CRC32:
			s.crc32 = crc32.Update(s.crc32, crc32.IEEETable, p)
		case CRC32C:
			s.crc32c = crc32.Update(s.crc32c, s.castagnoli, p)
		case CRC64NVME:
			s.crc64 = crc64nvme.Update(s.crc64, p)
		case SHA1:
			s.sha1.Write(p)
		case SHA256:
			s.sha256.Write(p)
		}
	}
}

// Len returns the number of bytes written.
func (s *Set) Len() int64 { return s.length }

// Has reports whether the Set computes a.
func (s *Set) Has(a Algorithm) bool { return a < numAlgorithms && s.has[a] }

// Algorithms returns what the Set computes, in the order given. The slice is
// valid until Reset.
func (s *Set) Algorithms() []Algorithm { return s.algs }

// Sum returns the checksum of what was written so far, or the zero Sum when the
// Set does not compute a.
func (s *Set) Sum(a Algorithm) Sum {
	if !s.Has(a) {
		return Sum{}
	}
	out := Sum{alg: a}
	switch a {
	case CRC32:
		binary.BigEndian.PutUint32(out.b[:], s.crc32)
	case CRC32C:
		binary.BigEndian.PutUint32(out.b[:], s.crc32c)
	case CRC64NVME:
		binary.BigEndian.PutUint64(out.b[:], s.crc64)
	case SHA1:
		copy(out.b[:], s.sha1.Sum(s.scratch[:0]))
	case SHA256:
		copy(out.b[:], s.sha256.Sum(s.scratch[:0]))
	}
	return out
}

// Of returns the checksum of p.
func Of(a Algorithm, p []byte) Sum {
	var s Set
	s.Reset(a)
	s.Write(p)
	return s.Sum(a)
}
