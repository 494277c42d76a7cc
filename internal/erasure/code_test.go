package erasure

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"testing"

	"ringfort/internal/errs"
	"ringfort/internal/vfs"
)

func fill(rng *rand.Rand, b []byte) {
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
}

// encodeBlob makes all fragments of a blob, stripe by stripe as a writer that
// does not know the size does.
func encodeBlob(t *testing.T, l Layout, data []byte) [][]byte {
	t.Helper()
	c, err := NewCode(l.K, l.M)
	if err != nil {
		t.Fatal(err)
	}
	frags := make([][]byte, l.Fragments())
	buf := vfs.AlignedBuffer(c.BufferSize(int(l.StripeSize())))
	for at := 0; at < len(data); {
		for i := range buf {
			buf[i] = 0xee // what an earlier stripe may have left
		}
		n := copy(buf[:l.StripeSize()], data[at:])
		blocks, err := c.Encode(nil, buf, n)
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := c.Verify(blocks); !ok || err != nil {
			t.Fatalf("%+v: fresh stripe does not verify: %v", l, err)
		}
		for i, b := range blocks {
			frags[i] = append(frags[i], b...)
		}
		at += n
	}
	return frags
}

// readBack takes a range of the blob from those fragments that mask has.
func readBack(t *testing.T, c *Code, l Layout, frags [][]byte, mask uint32, off, n int64) []byte {
	t.Helper()
	var usable []Index
	for i := range frags {
		if mask>>i&1 == 1 {
			usable = append(usable, Index(i))
		}
	}
	p, err := l.Plan(off, n, usable)
	if err != nil {
		t.Fatal(err)
	}
	got := make([][]byte, l.Fragments()) // what was read, over the fragment's whole length
	window := make([][]byte, l.Fragments())
	for _, r := range p.Reads {
		got[r.Index] = make([]byte, l.FragmentSize())
		copy(got[r.Index][r.Off:r.Off+r.Len], frags[r.Index][r.Off:])
		if len(p.Rebuild) > 0 && r.Off <= p.Lo && r.Off+r.Len >= p.Hi {
			window[r.Index] = got[r.Index][p.Lo:p.Hi]
		}
	}
	for _, i := range p.Rebuild {
		window[i] = make([]byte, 0, p.Hi-p.Lo)
	}
	if len(p.Rebuild) > 0 {
		if err := c.Reconstruct(window, p.Rebuild...); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range p.Rebuild {
		got[i] = make([]byte, l.FragmentSize())
		copy(got[i][p.Lo:], window[i])
	}
	var out []byte
	for piece := range l.Pieces(off, n) {
		i := piece.Index
		if l.K == 1 {
			i = p.Reads[0].Index
		}
		out = append(out, got[i][piece.FragOff:piece.FragOff+piece.Len]...)
	}
	return out
}

func sizes(rng *rand.Rand, k int) []int64 {
	const b = BlockAlign
	s := int64(k) * b
	return []int64{0, 1, 2, int64(k), int64(k) + 1, 63, b - 1, b, b + 1, s - 1, s, s + 1, s + b, 2*s - 1, 2 * s, rng.Int64N(3*s) + 1}
}

// TestEveryCode takes every code up to 8+4 over many sizes, every way to lose
// fragments of small codes and random ones of the others.
func TestEveryCode(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for k := 1; k <= 8; k++ {
		for m := 0; m <= 4; m++ {
			t.Run(fmt.Sprintf("%d+%d", k, m), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, uint64(k*10+m)))
				c, err := NewCode(k, m)
				if err != nil {
					t.Fatal(err)
				}
				for _, size := range sizes(rng, k) {
					l := Layout{K: k, M: m, BlockSize: BlockAlign, Size: size}
					data := make([]byte, size)
					fill(rng, data)
					frags := encodeBlob(t, l, data)
					for i, f := range frags {
						if int64(len(f)) != l.FragmentSize() {
							t.Fatalf("%+v: fragment %d is %d bytes long, want %d", l, i, len(f), l.FragmentSize())
						}
					}
					if size > 0 {
						loseAndRead(t, rng, c, l, frags, data)
					}
				}
			})
		}
	}
}

func loseAndRead(t *testing.T, rng *rand.Rand, c *Code, l Layout, frags [][]byte, data []byte) {
	t.Helper()
	all := uint32(1)<<l.Fragments() - 1
	var masks []uint32
	if l.Fragments() <= 6 && l.Size < 100 {
		for mask := range all + 1 {
			masks = append(masks, mask)
		}
	} else {
		for range 12 {
			mask := all
			for _, i := range rng.Perm(l.Fragments())[:rng.IntN(l.M+1)] {
				mask &^= 1 << i
			}
			masks = append(masks, mask)
		}
	}
	for _, mask := range masks {
		if bits.OnesCount32(mask) < l.K {
			continue // Plan's refusal has its own test
		}
		off := rng.Int64N(l.Size)
		n := rng.Int64N(l.Size-off) + 1
		if rng.IntN(2) == 0 {
			off, n = 0, l.Size
		}
		if got := readBack(t, c, l, frags, mask, off, n); !bytes.Equal(got, data[off:off+n]) {
			t.Fatalf("%+v: [%d,+%d) differs when only %b is there", l, off, n, mask)
		}
		repair(t, rng, c, l, frags, mask)
	}
}

// repair rebuilds every lost fragment, parity too, in chunks of a random length
// that has nothing to do with stripes.
func repair(t *testing.T, rng *rand.Rand, c *Code, l Layout, frags [][]byte, mask uint32) {
	t.Helper()
	size := l.FragmentSize()
	chunk := 1 + rng.Int64N(size)
	for at := int64(0); at < size; at += chunk {
		end := min(at+chunk, size)
		blocks := make([][]byte, l.Fragments())
		var want []Index
		for i := range blocks {
			if mask>>i&1 == 1 {
				blocks[i] = frags[i][at:end:end]
			} else {
				blocks[i] = make([]byte, 0, end-at)
				want = append(want, Index(i))
			}
		}
		if err := c.Reconstruct(blocks, want...); err != nil {
			t.Fatal(err)
		}
		for i, b := range blocks {
			if !bytes.Equal(b, frags[i][at:end]) {
				t.Fatalf("%+v: fragment %d [%d,%d) rebuilt wrong from %b", l, i, at, end, mask)
			}
		}
	}
}

func TestReconstructOnlyWhatIsAsked(t *testing.T) {
	c, _ := NewCode(4, 2)
	buf := make([]byte, c.BufferSize(400))
	fill(rand.New(rand.NewPCG(1, 1)), buf[:400])
	whole, err := c.Encode(nil, buf, 400)
	if err != nil {
		t.Fatal(err)
	}
	blocks := [][]byte{nil, make([]byte, 0, 100), whole[2], whole[3], whole[4], whole[5]}
	if err := c.Reconstruct(blocks, 1, 1, 2); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(blocks[1], whole[1]) || blocks[0] != nil {
		t.Fatal("rebuilt wrongly, or what was not asked for")
	}
}

func TestWideCodes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, km := range [][2]int{{16, 4}, {20, 10}, {200, 55}, {1, 254}, {255, 0}} {
		l := Layout{K: km[0], M: km[1], BlockSize: BlockAlign, Size: int64(km[0])*BlockAlign + 77}
		c, err := NewCode(l.K, l.M)
		if err != nil {
			t.Fatal(err)
		}
		data := make([]byte, l.Size)
		fill(rng, data)
		frags := encodeBlob(t, l, data)
		blocks := make([][]byte, l.Fragments())
		copy(blocks, frags)
		var want []Index
		for _, i := range rng.Perm(l.Fragments())[:l.M] {
			blocks[i] = make([]byte, 0, l.FragmentSize())
			want = append(want, Index(i))
		}
		if err := c.Reconstruct(blocks, want...); err != nil {
			t.Fatal(err)
		}
		for i := range frags {
			if !bytes.Equal(frags[i], blocks[i]) {
				t.Fatalf("%d+%d: fragment %d differs", l.K, l.M, i)
			}
		}
	}
}

func TestReplicasShareTheBuffer(t *testing.T) {
	c, _ := NewCode(1, 2)
	buf := []byte("replicated")
	blocks, err := c.Encode(nil, buf, len(buf))
	if err != nil || len(blocks) != 3 {
		t.Fatal(blocks, err)
	}
	for _, b := range blocks {
		if &b[0] != &buf[0] {
			t.Fatal("a copy was made")
		}
	}
	if ok, err := c.Verify(blocks); !ok || err != nil {
		t.Fatal(err)
	}
	lost := [][]byte{nil, nil, blocks[2]}
	if err := c.Reconstruct(lost, 0); err != nil || &lost[0][0] != &buf[0] || lost[1] != nil {
		t.Fatal("copy 0 was not shared alone", err)
	}
}

func TestRefusals(t *testing.T) {
	c, _ := NewCode(2, 1)
	b := func(n int) []byte { return make([]byte, n) }
	for name, x := range map[string]struct {
		kind errs.Kind
		call func() error
	}{
		"no data":            {errs.Invalid, func() error { _, err := NewCode(0, 1); return err }},
		"too many":           {errs.Invalid, func() error { _, err := NewCode(250, 6); return err }},
		"empty stripe":       {errs.Invalid, func() error { _, err := c.Encode(nil, b(8), 0); return err }},
		"buffer short":       {errs.Invalid, func() error { _, err := c.Encode(nil, b(5), 4); return err }},
		"too few blocks":     {errs.Invalid, func() error { return c.Reconstruct([][]byte{b(1), b(1)}, 0) }},
		"unequal blocks":     {errs.Invalid, func() error { return c.Reconstruct([][]byte{b(1), b(2), nil}, 2) }},
		"no such fragment":   {errs.Invalid, func() error { return c.Reconstruct([][]byte{b(1), b(1), nil}, 3) }},
		"no room":            {errs.Invalid, func() error { return c.Reconstruct([][]byte{b(2), b(2), b(1)[:0]}, 2) }},
		"nothing there":      {errs.Unavailable, func() error { return c.Reconstruct(make([][]byte, 3), 0) }},
		"one of two":         {errs.Unavailable, func() error { return c.Reconstruct([][]byte{b(1), b(1)[:0], nil}, 1) }},
		"verify needs all":   {errs.Invalid, func() error { _, err := c.Verify([][]byte{b(1), b(1), nil}); return err }},
		"verify needs equal": {errs.Invalid, func() error { _, err := c.Verify([][]byte{b(1), b(1), b(2)}); return err }},
	} {
		if err := x.call(); !errs.Is(err, x.kind) {
			t.Errorf("%s: %v, want kind %v", name, err, x.kind)
		}
	}
	flipped := [][]byte{{1, 2}, {3, 4}, nil}
	flipped[2] = make([]byte, 0, 2)
	if err := c.Reconstruct(flipped, 2); err != nil {
		t.Fatal(err)
	}
	flipped[1][0] ^= 1
	if ok, err := c.Verify(flipped); ok || err != nil {
		t.Errorf("a flipped bit verifies: %v %v", ok, err)
	}
}

// TestGolden holds the matrix fast: parity on disks of today must be readable by
// every later version of this program and of the library.
func TestGolden(t *testing.T) {
	for _, g := range []struct {
		k, m   int
		parity string
	}{
		{2, 2, "8bcd42e54615ff5dcb3da235c6c59fed"},
		{4, 2, "97245eb67d7cd993"},
		{8, 4, "8cd3a1030aa93e70"},
	} {
		c, _ := NewCode(g.k, g.m)
		buf := make([]byte, c.BufferSize(16))
		for i := range 16 {
			buf[i] = byte(i*i*37 + 11)
		}
		blocks, err := c.Encode(nil, buf, 16)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(bytes.Join(blocks[g.k:], nil)); got != g.parity {
			t.Errorf("parity of %d+%d is %s, want %s", g.k, g.m, got, g.parity)
		}
	}
}
