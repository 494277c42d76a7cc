package erasure

import (
	"errors"

	"github.com/klauspost/reedsolomon"

	"ringfort/internal/errs"
)

// maxCachedPatterns bounds the inverted matrices that a Code may keep, one for
// each pattern of loss it has met. All patterns of 8+4 (at most 793) and of
// 12+4 fit; a wider code inverts its matrix each time, which costs some
// microseconds beside blocks of 100 KiB.
const maxCachedPatterns = 4096

// Code makes the parity of stripes and rebuilds what is missing. It works on the
// caller's goroutine: a server has other stripes to keep its cores busy with,
// and splitting one of 10 µs costs more than it gains.
type Code struct {
	k, m int
	rs   reedsolomon.Encoder // nil if there is nothing to compute: k = 1 or m = 0
}

// NewCode returns the code with k data and m parity fragments. Building one
// costs a matrix: keep it.
func NewCode(k, m int) (*Code, error) {
	if err := (Layout{K: k, M: m, BlockSize: BlockAlign}).Validate(); err != nil {
		return nil, err
	}
	c := &Code{k: k, m: m}
	if k == 1 || m == 0 {
		return c, nil
	}
	rs, err := reedsolomon.New(k, m,
		reedsolomon.WithMaxGoroutines(1),
		reedsolomon.WithInversionCache(lossPatterns(k+m, m) <= maxCachedPatterns))
	if err != nil {
		return nil, errs.Wrap("erasure.NewCode", errs.Invalid, err)
	}
	c.rs = rs
	return c, nil
}

// lossPatterns counts the ways to lose 1 to m of n fragments, up to a bound.
func lossPatterns(n, m int) int {
	total, ways := 0, 1
	for i := 1; i <= m && total <= maxCachedPatterns; i++ {
		ways = ways * (n - i + 1) / i
		total += ways
	}
	return total
}

// K returns the number of data fragments.
func (c *Code) K() int { return c.k }

// M returns the number of parity fragments.
func (c *Code) M() int { return c.m }

// BufferSize returns how long a buffer must be to encode stripes of n bytes.
func (c *Code) BufferSize(n int) int {
	if c.k == 1 {
		return n
	}
	return (c.k + c.m) * blockLen(n, c.k)
}

// Encode makes the blocks of a stripe whose n bytes stand at the start of buf,
// and appends them, in fragment order, to blocks, which it returns. The blocks
// alias buf: the data where it stands, zeros up to the end of the last data
// block, then the parity, for which buf must be BufferSize(n) bytes long. With
// k = 1 all blocks are the same n bytes and buf is not written to.
func (c *Code) Encode(blocks [][]byte, buf []byte, n int) ([][]byte, error) {
	const op = "erasure.Encode"
	if n < 1 || n > len(buf) || c.BufferSize(n) > len(buf) {
		return blocks, errs.New(op, errs.Invalid, "stripe of %d bytes in a buffer of %d", n, len(buf))
	}
	if c.k == 1 {
		for range 1 + c.m {
			blocks = append(blocks, buf[:n:n])
		}
		return blocks, nil
	}
	size := blockLen(n, c.k)
	clear(buf[n : c.k*size])
	first := len(blocks)
	for i := range c.k + c.m {
		blocks = append(blocks, buf[i*size:(i+1)*size:(i+1)*size])
	}
	if c.rs == nil {
		return blocks, nil
	}
	return blocks, errs.Wrap(op, errs.Other, c.rs.Encode(blocks[first:]))
}

// Reconstruct rebuilds the fragments named in want. blocks has k+m elements: the
// same range of every fragment, of one length, or of length 0 where there is
// none; a block in want that has none must have the capacity for it, and
// is set to its full length. At least k others must be there. With k = 1 a
// wanted block becomes another name of one that is there.
//
// The range may be any: of a block, of a stripe, or over many stripes.
func (c *Code) Reconstruct(blocks [][]byte, want ...Index) error {
	const op = "erasure.Reconstruct"
	size, err := c.check(op, blocks)
	if err != nil {
		return err
	}
	required := make([]bool, c.k+c.m)
	missing := 0
	for _, w := range want {
		if int(w) >= len(blocks) {
			return errs.New(op, errs.Invalid, "fragment %d of %d", w, len(blocks))
		}
		if len(blocks[w]) == 0 && !required[w] {
			if c.k > 1 && cap(blocks[w]) < size {
				return errs.New(op, errs.Invalid, "no room for fragment %d", w)
			}
			required[w] = true
			missing++
		}
	}
	switch {
	case missing == 0:
		return nil
	case c.k == 1:
		return c.share(blocks, required)
	case c.rs == nil:
		return errs.New(op, errs.Unavailable, "no parity to rebuild from")
	}
	err = c.rs.ReconstructSome(blocks, required)
	if errors.Is(err, reedsolomon.ErrTooFewShards) {
		return errs.Wrap(op, errs.Unavailable, err)
	}
	return errs.Wrap(op, errs.Other, err)
}

// share gives the wanted blocks of a replicated stripe the bytes of one copy.
func (c *Code) share(blocks [][]byte, required []bool) error {
	for _, b := range blocks {
		if len(b) == 0 {
			continue
		}
		for i, r := range required {
			if r {
				blocks[i] = b
			}
		}
		return nil
	}
	return errs.New("erasure.Reconstruct", errs.Unavailable, "no copy")
}

// Verify reports whether all k+m blocks fit together. It cannot say which of
// them is wrong; block checksums do.
func (c *Code) Verify(blocks [][]byte) (bool, error) {
	const op = "erasure.Verify"
	size, err := c.check(op, blocks)
	if err != nil {
		return false, err
	}
	for i, b := range blocks {
		if len(b) != size {
			return false, errs.New(op, errs.Invalid, "fragment %d is missing", i)
		}
	}
	switch {
	case c.k == 1:
		for _, b := range blocks[1:] {
			if string(b) != string(blocks[0]) {
				return false, nil
			}
		}
		return true, nil
	case c.rs == nil:
		return true, nil
	}
	ok, err := c.rs.Verify(blocks)
	return ok, errs.Wrap(op, errs.Other, err)
}

// check returns the one length of the blocks that are there.
func (c *Code) check(op string, blocks [][]byte) (size int, err error) {
	if len(blocks) != c.k+c.m {
		return 0, errs.New(op, errs.Invalid, "%d blocks for %d+%d fragments", len(blocks), c.k, c.m)
	}
	for i, b := range blocks {
		switch {
		case len(b) == 0:
		case size == 0:
			size = len(b)
		case len(b) != size:
			return 0, errs.New(op, errs.Invalid, "block %d is %d bytes long, others %d", i, len(b), size)
		}
	}
	if size == 0 {
		return 0, errs.New(op, errs.Unavailable, "no fragment")
	}
	return size, nil
}

func blockLen(n, k int) int { return (n + k - 1) / k }
