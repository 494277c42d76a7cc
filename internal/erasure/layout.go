package erasure

import (
	"iter"

	"ringfort/internal/errs"
)

// Index is a fragment's place in its blob: 0 to k-1 hold data, k to k+m-1
// parity. With k = 1 all hold the blob.
type Index uint8

// Limits of a layout. They bound what a header read from a disk can ask for.
const (
	// MaxFragments is the most fragments a blob has, k+m.
	MaxFragments = 255
	// BlockAlign divides every block size, so that the blocks of full stripes
	// can be written by direct I/O.
	BlockAlign = 4096
	// MaxBlockSize is the largest block size in bytes.
	MaxBlockSize = 16 << 20
	// MaxSize is the largest blob in bytes.
	MaxSize = 1 << 56
	// DefaultBlockSize is the block size in bytes that new blobs get. Measured
	// (BenchmarkEncode): 4+2 encodes 32, 35, 41, 44 GB/s of one core at 64,
	// 128, 256, 1024 KiB, all more than 30 times what MD5 does, so the memory
	// of a stripe in flight decides: 768 KiB here for 4+2, 1.5 MiB for 8+4.
	DefaultBlockSize = 128 << 10
)

// Layout says where each byte of a blob lies. Its methods expect a layout for
// which [Layout.Validate] returns nil, and ranges within the blob.
type Layout struct {
	K         int   // data fragments, at least 1
	M         int   // parity fragments, or further copies if K is 1
	BlockSize int64 // bytes of a block in a full stripe
	Size      int64 // bytes of the blob
}

// Validate reports, as an error of kind Invalid, a layout beyond the limits.
func (l Layout) Validate() error {
	const op = "erasure.Layout"
	switch {
	case l.K < 1 || l.M < 0 || l.K > MaxFragments || l.M > MaxFragments || l.K+l.M > MaxFragments:
		return errs.New(op, errs.Invalid, "%d+%d fragments", l.K, l.M)
	case l.BlockSize < BlockAlign || l.BlockSize > MaxBlockSize || l.BlockSize%BlockAlign != 0:
		return errs.New(op, errs.Invalid, "block size %d", l.BlockSize)
	case l.Size < 0 || l.Size > MaxSize:
		return errs.New(op, errs.Invalid, "size %d", l.Size)
	}
	return nil
}

// StripeSize returns the blob bytes of a full stripe.
func (l Layout) StripeSize() int64 { return int64(l.K) * l.BlockSize }

// Stripes returns the number of stripes, the shorter last one included.
func (l Layout) Stripes() int64 { return ceilDiv(l.Size, l.StripeSize()) }

// Fragments returns the number of fragments, k+m.
func (l Layout) Fragments() int { return l.K + l.M }

// FragmentSize returns the length in bytes of every fragment.
func (l Layout) FragmentSize() int64 {
	full, rest := l.Size/l.StripeSize(), l.Size%l.StripeSize()
	return full*l.BlockSize + ceilDiv(rest, int64(l.K))
}

// Stripe is one stripe of a blob.
type Stripe struct {
	Offset     int64 // of its first byte in the blob
	Len        int64 // its blob bytes; the rest of its k blocks is zeros
	FragOffset int64 // of its blocks in every fragment
	BlockLen   int64 // length of each of its blocks
}

// Stripe returns stripe i, for 0 <= i < Stripes().
func (l Layout) Stripe(i int64) Stripe {
	size := l.StripeSize()
	n := min(size, l.Size-i*size)
	return Stripe{
		Offset:     i * size,
		Len:        n,
		FragOffset: i * l.BlockSize,
		BlockLen:   ceilDiv(n, int64(l.K)),
	}
}

// StripeRange returns the stripes that the blob's bytes [off, off+n) touch: from
// first up to but not including end.
func (l Layout) StripeRange(off, n int64) (first, end int64) {
	if n <= 0 {
		return off / l.StripeSize(), off / l.StripeSize()
	}
	return off / l.StripeSize(), ceilDiv(off+n, l.StripeSize())
}

// Locate returns the data fragment that holds byte off of the blob, and where.
func (l Layout) Locate(off int64) (i Index, fragOff int64) {
	s := l.Stripe(off / l.StripeSize())
	in := off - s.Offset
	return Index(in / s.BlockLen), s.FragOffset + in%s.BlockLen
}

// BlobOffset is the inverse of Locate: the blob's offset of byte fragOff of
// fragment i. It is false for parity and for the zeros at the end of the last
// stripe.
func (l Layout) BlobOffset(i Index, fragOff int64) (off int64, ok bool) {
	if l.K == 1 {
		return fragOff, fragOff < l.Size
	}
	if int(i) >= l.K || fragOff >= l.FragmentSize() {
		return 0, false
	}
	s := l.Stripe(fragOff / l.BlockSize)
	in := int64(i)*s.BlockLen + fragOff - s.FragOffset
	return s.Offset + in, in < s.Len
}

// FragmentRange returns the part of fragment i that holds bytes of the blob's
// range [off, off+n): always one run, without a byte too many; n is 0 if
// there is none, as for parity.
func (l Layout) FragmentRange(i Index, off, n int64) (fragOff, fragLen int64) {
	if n <= 0 || (l.K > 1 && int(i) >= l.K) {
		return 0, 0
	}
	lo, hi := l.before(i, off), l.before(i, off+n)
	return lo, hi - lo
}

// before returns how many bytes of fragment i stand before byte off of the blob.
func (l Layout) before(i Index, off int64) int64 {
	if l.K == 1 {
		return off
	}
	stripe := off / l.StripeSize()
	in := off - stripe*l.StripeSize()
	if in == 0 { // also the blob's very end, where there is no stripe
		return stripe * l.BlockSize
	}
	s := l.Stripe(stripe)
	return s.FragOffset + min(max(in-int64(i)*s.BlockLen, 0), s.BlockLen)
}

// Piece is a run of blob bytes that lie side by side in one fragment.
type Piece struct {
	Index   Index // of the data fragment; with K = 1 any other will do as well
	FragOff int64 // where the run begins in the fragment
	BlobOff int64 // where it begins in the blob
	Len     int64
}

// Pieces yields the pieces of the blob's range [off, off+n), in blob order.
func (l Layout) Pieces(off, n int64) iter.Seq[Piece] {
	return func(yield func(Piece) bool) {
		end := off + n
		if l.K == 1 {
			if n > 0 {
				yield(Piece{FragOff: off, BlobOff: off, Len: n})
			}
			return
		}
		for off < end {
			s := l.Stripe(off / l.StripeSize())
			in := off - s.Offset
			pos := in % s.BlockLen
			p := Piece{
				Index:   Index(in / s.BlockLen),
				FragOff: s.FragOffset + pos,
				BlobOff: off,
				Len:     min(s.BlockLen-pos, s.Offset+s.Len-off, end-off),
			}
			if !yield(p) {
				return
			}
			off += p.Len
		}
	}
}

// Read is a range of one fragment that a Plan wants.
type Read struct {
	Index Index
	Off   int64
	Len   int64
}

// Plan is how to read a range of a blob from the fragments at hand.
type Plan struct {
	// Reads has at most one range per fragment: with no fragment missing
	// exactly the range's bytes, else also what rebuilding needs.
	Reads []Read
	// Rebuild names the data fragments that are needed and not at hand. Their
	// bytes [Lo, Hi) are to be rebuilt; exactly k of Reads cover [Lo, Hi).
	Rebuild []Index
	Lo, Hi  int64
}

// Plan chooses what to read of the fragments in usable, the preferred first, to
// have the blob's bytes [off, off+n). A long range may be planned piece by
// piece. With too few usable fragments the error is of kind Unavailable.
func (l Layout) Plan(off, n int64, usable []Index) (Plan, error) {
	if n <= 0 {
		return Plan{}, nil
	}
	if l.K == 1 {
		for _, i := range usable {
			if int(i) < l.Fragments() {
				return Plan{Reads: []Read{{Index: i, Off: off, Len: n}}}, nil
			}
		}
		return Plan{}, errs.New("erasure.Plan", errs.Unavailable, "no copy is readable")
	}
	var have, taken [MaxFragments + 1]bool
	for _, i := range usable {
		have[i] = int(i) < l.Fragments()
	}
	var p Plan
	for i := range Index(l.K) {
		switch fo, fl := l.FragmentRange(i, off, n); {
		case fl == 0:
		case have[i]:
			p.Reads = append(p.Reads, Read{Index: i, Off: fo, Len: fl})
			taken[i] = true
		case len(p.Rebuild) == 0:
			p.Rebuild, p.Lo, p.Hi = append(p.Rebuild, i), fo, fo+fl
		default:
			p.Rebuild, p.Lo, p.Hi = append(p.Rebuild, i), min(p.Lo, fo), max(p.Hi, fo+fl)
		}
	}
	if len(p.Rebuild) == 0 {
		return p, nil
	}
	for i := range p.Reads { // needed anyway, so the cheapest helpers
		r := &p.Reads[i]
		end := max(r.Off+r.Len, p.Hi)
		r.Off = min(r.Off, p.Lo)
		r.Len = end - r.Off
	}
	for _, i := range usable {
		if len(p.Reads) == l.K {
			break
		}
		if have[i] && !taken[i] {
			taken[i] = true
			p.Reads = append(p.Reads, Read{Index: i, Off: p.Lo, Len: p.Hi - p.Lo})
		}
	}
	if len(p.Reads) < l.K {
		return Plan{}, errs.New("erasure.Plan", errs.Unavailable,
			"%d of the %d fragments needed are readable", len(p.Reads), l.K)
	}
	return p, nil
}

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }
