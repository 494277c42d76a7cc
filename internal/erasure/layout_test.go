package erasure

import (
	"math/rand/v2"
	"slices"
	"testing"

	"ringfort/internal/errs"
)

func TestValidate(t *testing.T) {
	ok := Layout{K: 4, M: 2, BlockSize: DefaultBlockSize, Size: 1 << 40}
	if err := ok.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Layout){
		"no data":          func(l *Layout) { l.K = 0 },
		"negative parity":  func(l *Layout) { l.M = -1 },
		"too many":         func(l *Layout) { l.K, l.M = 200, 56 },
		"sum overflows":    func(l *Layout) { l.K, l.M = 1<<62, 1<<62 },
		"block of nothing": func(l *Layout) { l.BlockSize = 0 },
		"block unaligned":  func(l *Layout) { l.BlockSize = 4097 },
		"block huge":       func(l *Layout) { l.BlockSize = MaxBlockSize + BlockAlign },
		"negative size":    func(l *Layout) { l.Size = -1 },
		"size huge":        func(l *Layout) { l.Size = MaxSize + 1 },
	} {
		l := ok
		change(&l)
		if err := l.Validate(); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFragmentSize(t *testing.T) {
	const b = BlockAlign
	for _, c := range []struct {
		k          int
		size, want int64
	}{
		{1, 0, 0}, {1, 1, 1}, {1, b, b}, {1, b + 1, b + 1},
		{4, 0, 0}, {4, 1, 1}, {4, 4, 1}, {4, 5, 2},
		{4, 4*b - 1, b}, {4, 4 * b, b}, {4, 4*b + 1, b + 1}, {4, 8*b + 9, 2*b + 3},
	} {
		l := Layout{K: c.k, M: 2, BlockSize: b, Size: c.size}
		if got := l.FragmentSize(); got != c.want {
			t.Errorf("k=%d size=%d: %d bytes, want %d", c.k, c.size, got, c.want)
		}
		var sum, data int64
		for i := range l.Stripes() {
			s := l.Stripe(i)
			if s.Offset != data || s.FragOffset != sum {
				t.Errorf("k=%d size=%d stripe %d: %+v", c.k, c.size, i, s)
			}
			sum, data = sum+s.BlockLen, data+s.Len
		}
		if sum != c.want || data != c.size {
			t.Errorf("k=%d size=%d: stripes sum to %d of fragment and %d of blob", c.k, c.size, sum, data)
		}
	}
}

// randomLayout draws layouts with sizes at and around every boundary.
func randomLayout(rng *rand.Rand) Layout {
	l := Layout{K: 1 + rng.IntN(8), M: rng.IntN(5), BlockSize: BlockAlign * (1 + rng.Int64N(2))}
	switch rng.IntN(4) {
	case 0:
		l.Size = rng.Int64N(20)
	case 1:
		l.Size = max(0, rng.Int64N(4)*l.StripeSize()+rng.Int64N(3)-1)
	case 2:
		l.Size = max(0, rng.Int64N(4)*l.BlockSize+rng.Int64N(3)-1)
	default:
		l.Size = rng.Int64N(3 * l.StripeSize())
	}
	return l
}

// where is the definition of the layout, spelt out byte by byte: the fragment
// and offset of every byte of the blob.
func where(l Layout) (idx []Index, off []int64) {
	for start := int64(0); start < l.Size; start += l.StripeSize() {
		n := min(l.StripeSize(), l.Size-start)
		length := (n + int64(l.K) - 1) / int64(l.K)
		for x := range n {
			idx = append(idx, Index(x/length))
			off = append(off, start/int64(l.K)+x%length)
		}
	}
	return idx, off
}

func TestRangesAgainstDefinition(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 150 {
		l := randomLayout(rng)
		if l.Size == 0 {
			continue
		}
		idx, fragOff := where(l)
		for range 30 {
			off := rng.Int64N(l.Size)
			n := rng.Int64N(l.Size-off) + 1
			checkRange(t, l, idx, fragOff, off, n)
		}
		for range 30 {
			off := rng.Int64N(l.Size)
			i, fo := l.Locate(off)
			if i != idx[off] || fo != fragOff[off] {
				t.Fatalf("%+v: byte %d at %d/%d, want %d/%d", l, off, i, fo, idx[off], fragOff[off])
			}
			if back, ok := l.BlobOffset(i, fo); !ok || back != off {
				t.Fatalf("%+v: byte %d comes back as %d", l, off, back)
			}
		}
	}
}

func checkRange(t *testing.T, l Layout, idx []Index, fragOff []int64, off, n int64) {
	t.Helper()
	lo, hi := make([]int64, l.K), make([]int64, l.K)
	for x := off; x < off+n; x++ {
		i := idx[x]
		if hi[i] == 0 {
			lo[i] = fragOff[x]
		}
		hi[i] = fragOff[x] + 1
	}
	for i := range l.K {
		fo, fl := l.FragmentRange(Index(i), off, n)
		if fl != hi[i]-lo[i] || (fl > 0 && fo != lo[i]) {
			t.Fatalf("%+v: [%d,+%d) in fragment %d is [%d,+%d), want [%d,%d)", l, off, n, i, fo, fl, lo[i], hi[i])
		}
	}
	if l.K > 1 && l.M > 0 {
		if _, fl := l.FragmentRange(Index(l.K), off, n); fl != 0 {
			t.Fatalf("%+v: parity holds %d bytes of data", l, fl)
		}
	}
	at := off
	for p := range l.Pieces(off, n) {
		if p.BlobOff != at || p.Len <= 0 {
			t.Fatalf("%+v: piece %+v at %d", l, p, at)
		}
		for _, x := range []int64{0, p.Len / 2, p.Len - 1} {
			if idx[at+x] != p.Index || fragOff[at+x] != p.FragOff+x {
				t.Fatalf("%+v: piece %+v is wrong at +%d", l, p, x)
			}
		}
		at += p.Len
	}
	if at != off+n {
		t.Fatalf("%+v: pieces of [%d,+%d) end at %d", l, off, n, at)
	}
	first, end := l.StripeRange(off, n)
	if first != off/l.StripeSize() || end != (off+n-1)/l.StripeSize()+1 {
		t.Fatalf("%+v: [%d,+%d) in stripes [%d,%d)", l, off, n, first, end)
	}
}

func TestPaddingIsNoData(t *testing.T) {
	l := Layout{K: 4, M: 2, BlockSize: BlockAlign, Size: 5} // blocks of 2: [01][23][4.][..]
	for i, want := range [][]bool{{true, true}, {true, true}, {true, false}, {false, false}, {false, false}} {
		for x, ok := range want {
			if _, got := l.BlobOffset(Index(i), int64(x)); got != ok {
				t.Errorf("byte %d of fragment %d holds data: %v", x, i, got)
			}
		}
	}
}

func TestPlan(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 3000 {
		l := randomLayout(rng)
		if l.Size == 0 {
			continue
		}
		off := rng.Int64N(l.Size)
		n := rng.Int64N(l.Size-off) + 1
		var usable []Index
		for _, i := range rng.Perm(l.Fragments()) {
			if rng.IntN(4) > 0 {
				usable = append(usable, Index(i))
			}
		}
		p, err := l.Plan(off, n, usable)
		checkPlan(t, l, off, n, usable, p, err)
	}
}

func checkPlan(t *testing.T, l Layout, off, n int64, usable []Index, p Plan, err error) {
	t.Helper()
	var needed, lacking int
	for i := range Index(l.K) {
		if _, fl := l.FragmentRange(i, off, n); fl > 0 && l.K > 1 {
			needed++
			if !slices.Contains(usable, i) {
				lacking++
			}
		}
	}
	possible := lacking == 0 || len(usable) >= l.K
	if l.K == 1 {
		possible = len(usable) > 0
	}
	if possible != (err == nil) || (err != nil && !errs.Is(err, errs.Unavailable)) {
		t.Fatalf("%+v [%d,+%d) from %v: %v", l, off, n, usable, err)
	}
	if err != nil {
		return
	}
	seen := map[Index]Read{}
	covering := 0
	for _, r := range p.Reads {
		if _, twice := seen[r.Index]; twice || !slices.Contains(usable, r.Index) {
			t.Fatalf("%+v: reads %+v of usable %v", l, p.Reads, usable)
		}
		if r.Off < 0 || r.Len <= 0 || r.Off+r.Len > l.FragmentSize() {
			t.Fatalf("%+v: read %+v is outside of the fragment", l, r)
		}
		seen[r.Index] = r
		if r.Off <= p.Lo && r.Off+r.Len >= p.Hi {
			covering++
		}
	}
	if l.K == 1 {
		if len(p.Reads) != 1 || p.Reads[0] != (Read{usable[0], off, n}) {
			t.Fatalf("%+v: reads %+v, preferred %v", l, p.Reads, usable)
		}
		return
	}
	if lacking == 0 && (len(p.Reads) != needed || len(p.Rebuild) != 0) {
		t.Fatalf("%+v: %d fragments needed, plan %+v", l, needed, p)
	}
	if lacking > 0 && (covering != l.K || len(p.Rebuild) != lacking) {
		t.Fatalf("%+v: %d fragments cover, %d lack, plan %+v", l, covering, lacking, p)
	}
	for i := range Index(l.K) {
		fo, fl := l.FragmentRange(i, off, n)
		if fl == 0 {
			continue
		}
		if r, ok := seen[i]; ok {
			if fo < r.Off || fo+fl > r.Off+r.Len {
				t.Fatalf("%+v: fragment %d: [%d,+%d) not within %+v", l, i, fo, fl, r)
			}
		} else if !slices.Contains(p.Rebuild, i) || fo < p.Lo || fo+fl > p.Hi {
			t.Fatalf("%+v: fragment %d: [%d,+%d) is not rebuilt by %+v", l, i, fo, fl, p)
		}
	}
}
