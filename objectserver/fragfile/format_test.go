package fragfile

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"ringfort/internal/erasure"
	"ringfort/internal/errs"
	"ringfort/internal/timestamp"
)

func testRand(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// packedBytes returns the packed fragment of h around data.
func packedBytes(t testing.TB, h Header, data []byte) []byte {
	t.Helper()
	head, tail, err := Pack(h, data)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Join([][]byte{head, data, tail}, nil)
}

func TestNames(t *testing.T) {
	rng := testRand(t)
	var folders [256]int
	for range 20000 {
		n := newHeader(rng, 4, 2, 0).Name
		s := n.String()
		if len(s) != 108 {
			t.Fatalf("%q is %d bytes long", s, len(s))
		}
		back, err := ParseName(s)
		if err != nil || back != n {
			t.Fatalf("%q parsed as %v: %v", s, back, err)
		}
		folders[n.Folder()]++
	}
	for i, n := range folders {
		if n < 40 || n > 130 { // mean 78
			t.Errorf("folder %d has %d of 20000 names", i, n)
		}
	}
	good := newHeader(rng, 4, 2, 0).Name.String()
	for _, s := range []string{
		"", "FORMAT", good + "0", good[1:], good[:len(good)-1], strings.ToUpper(good) + "A",
		strings.Replace(good, "-", "_", 1), good + "-00", "../" + good, good + ".1",
		good[:len(good)-2] + "AB", "zz" + good[2:], good[:len(good)-2] + "zz",
	} {
		if _, err := ParseName(s); !errs.Is(err, errs.Invalid) {
			t.Errorf("ParseName(%q) = %v", s, err)
		}
	}
}

func TestHeaderRoundTrip(t *testing.T) {
	rng := testRand(t)
	for range 1000 {
		h := newHeader(rng, uint8(1+rng.IntN(8)), uint8(rng.IntN(5)), rng.Int64N(1<<50)-1)
		b := h.appendTo(nil, paged, checkSizeNew)
		if len(b) != HeaderSize {
			t.Fatalf("%d bytes", len(b))
		}
		got, f, size, err := decodeHeader(b)
		if err != nil || got != h || f != paged || size != checkSizeNew {
			t.Fatalf("decoded %+v, want %+v: %v", got, h, err)
		}
		b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		if _, _, _, err := decodeHeader(b); !errs.Is(err, errs.Corrupt) {
			t.Fatalf("a flipped bit: %v", err)
		}
	}
}

// TestHeaderRefuses changes fields and makes the checksum right again, as a bug
// would.
func TestHeaderRefuses(t *testing.T) {
	rng := testRand(t)
	good := newHeader(rng, 4, 2, 1000).appendTo(nil, packed, checkSizeNew)
	for name, c := range map[string]struct {
		change func(b []byte)
		kind   errs.Kind
	}{
		"version":      {func(b []byte) { b[5] = 2 }, errs.NotImplemented},
		"form":         {func(b []byte) { b[6] = 3 }, errs.Corrupt},
		"reserved":     {func(b []byte) { b[63] = 1 }, errs.Corrupt},
		"index":        {func(b []byte) { b[60] = 6 }, errs.Corrupt},
		"k zero":       {func(b []byte) { b[61] = 0 }, errs.Corrupt},
		"k+m":          {func(b []byte) { b[61], b[62] = 255, 255 }, errs.Corrupt},
		"block size":   {func(b []byte) { binary.BigEndian.PutUint32(b[64:], 1000) }, errs.Corrupt},
		"check size":   {func(b []byte) { binary.BigEndian.PutUint32(b[68:], 0) }, errs.Corrupt},
		"check size 2": {func(b []byte) { binary.BigEndian.PutUint32(b[68:], 1<<31) }, errs.Corrupt},
		"size":         {func(b []byte) { b[80] = 0x90 }, errs.Corrupt},
	} {
		b := bytes.Clone(good)
		c.change(b)
		binary.BigEndian.PutUint64(b[headerSum:], xxhash.Sum64(b[:headerSum]))
		if _, _, _, err := decodeHeader(b); !errs.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGeometry(t *testing.T) {
	for _, f := range []form{paged, packed} {
		for _, n := range []int64{0, 1, 4095, 4096, 32767, 32768, 32769, MaxPacked - 1, MaxPacked, MaxPacked + 1, 3*MaxPacked + 70000} {
			g := geometry{form: f, checkSize: checkSizeNew, dataLen: n}
			at, data := g.padded(HeaderSize), int64(0)
			for i := range g.groups() {
				if g.dataOff(i) != at {
					t.Errorf("form %d, %d bytes: group %d at %d, want %d", f, n, i, g.dataOff(i), at)
				}
				at = g.checkOff(i) + g.padded(int64(checkExtra+8*g.blocks(i)))
				data += g.groupLen(i)
			}
			if data != n || g.end() != at || g.total() != at+g.padded(TrailerSize) {
				t.Errorf("form %d, %d bytes: groups hold %d, end at %d", f, n, data, at)
			}
			if f == paged && g.total()%pageSize != 0 {
				t.Errorf("%d bytes: file of %d", n, g.total())
			}
		}
	}
}

func TestPackedRanges(t *testing.T) {
	rng := testRand(t)
	for _, size := range []int64{0, 1, 100, 4096, 32767, 32768, 32769, 70000, 1 << 20} {
		h := newHeader(rng, 2, 2, size)
		data := randomBytes(rng, h.Layout().FragmentSize())
		b := packedBytes(t, h, data)
		if int64(len(b)) != PackedSize(int64(len(data))) {
			t.Fatalf("%d bytes packed into %d, announced %d", len(data), len(b), PackedSize(int64(len(data))))
		}
		room := append(make([]byte, HeaderSize, len(b)), data...)
		sealed, err := Seal(h, room)
		if err != nil || !bytes.Equal(sealed, b) || &sealed[0] != &room[0] {
			t.Fatalf("sealed in place differently from packed: %v", err)
		}
		r, err := OpenPacked(bytes.NewReader(b), int64(len(b)), h.Name)
		if err != nil {
			t.Fatal(err)
		}
		checkReads(t, rng, r, h, data)
		if rep, err := VerifyPacked(context.Background(), bytes.NewReader(b), int64(len(b)), h.Name, nil); err != nil || rep.Header != h {
			t.Fatalf("%d bytes: %+v %v", len(data), rep, err)
		}
		other := h.Name
		other.Owner[3]++
		if _, err := OpenPacked(bytes.NewReader(b), int64(len(b)), other); !errs.Is(err, errs.Corrupt) {
			t.Errorf("opened as another object's: %v", err)
		}
	}
}

// checkReads compares random ranges with data.
func checkReads(t *testing.T, rng *rand.Rand, r *Reader, h Header, data []byte) {
	t.Helper()
	if r.Header() != h || r.Len() != int64(len(data)) {
		t.Fatalf("header %+v of %d bytes, want %+v of %d", r.Header(), r.Len(), h, len(data))
	}
	if all, err := io.ReadAll(io.NewSectionReader(r, 0, r.Len())); err != nil || !bytes.Equal(all, data) {
		t.Fatalf("read %d of %d bytes: %v", len(all), len(data), err)
	}
	for range 60 {
		off := rng.Int64N(int64(len(data)) + 1)
		if rng.IntN(2) == 0 {
			off -= off % checkSizeNew
		}
		n := rng.Int64N(min(int64(len(data))-off, 1<<20) + 10)
		p := make([]byte, n)
		got, err := r.ReadAt(p, off)
		want := min(n, int64(len(data))-off)
		if int64(got) != want || !bytes.Equal(p[:got], data[off:off+want]) || (err == nil) != (want == n) || (err != nil && err != io.EOF) {
			t.Fatalf("[%d,+%d) of %d: %d bytes, %v", off, n, len(data), got, err)
		}
	}
	if _, err := r.ReadAt(make([]byte, 1), -1); !errs.Is(err, errs.Invalid) {
		t.Errorf("negative offset: %v", err)
	}
}

func TestPackRefuses(t *testing.T) {
	if _, err := Seal(Header{}, make([]byte, HeaderSize-1)); !errs.Is(err, errs.Invalid) {
		t.Errorf("no room for the header: %v", err)
	}
	rng := testRand(t)
	h := newHeader(rng, 1, 0, 100)
	for name, c := range map[string]struct {
		change func(*Header)
		n      int
		kind   errs.Kind
	}{
		"size unknown": {func(h *Header) { h.Size = SizeUnknown }, 100, errs.Invalid},
		"short":        {func(h *Header) {}, 99, errs.Incomplete},
		"long":         {func(h *Header) {}, 101, errs.Incomplete},
		"bad header":   {func(h *Header) { h.K = 0 }, 100, errs.Invalid},
		"too large":    {func(h *Header) { h.Size = MaxPacked + 1 }, MaxPacked + 1, errs.TooLarge},
	} {
		bad := h
		c.change(&bad)
		if _, _, err := Pack(bad, make([]byte, c.n)); !errs.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEveryBitPacked flips each bit of a packed fragment in turn, and cuts it at
// each length.
func TestEveryBitPacked(t *testing.T) {
	rng := testRand(t)
	h := newHeader(rng, 3, 1, 300)
	b := packedBytes(t, h, randomBytes(rng, 100))
	for i := range len(b) * 8 {
		b[i/8] ^= 1 << (i % 8)
		_, err := VerifyPacked(context.Background(), bytes.NewReader(b), int64(len(b)), h.Name, nil)
		b[i/8] ^= 1 << (i % 8)
		if !errs.Is(err, errs.Corrupt) && !errs.Is(err, errs.NotImplemented) {
			t.Fatalf("bit %d of %d flipped: %v", i, len(b)*8, err)
		}
	}
	for n := range len(b) {
		if _, err := OpenPacked(bytes.NewReader(b[:n]), int64(n), h.Name); !errs.Is(err, errs.Corrupt) {
			t.Fatalf("cut at %d of %d: %v", n, len(b), err)
		}
		// A source that is shorter than its index entry says.
		if _, err := OpenPacked(bytes.NewReader(b[:n]), int64(len(b)), h.Name); !errs.Is(err, errs.Corrupt) {
			t.Fatalf("ends at %d of %d: %v", n, len(b), err)
		}
	}
}

// A blob's id that none can have is not read as another one.
func TestImpossibleBlob(t *testing.T) {
	h := newHeader(rand.New(rand.NewPCG(1, 2)), 2, 1, 600)
	h.Blob.Group.Micros = timestamp.MaxMicros + 1
	if got, _, _, err := decodeHeader(h.appendTo(nil, packed, pageSize)); !errs.Is(err, errs.Corrupt) {
		t.Errorf("%v, %v", got.Name, err)
	}
}

func FuzzDecode(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int64{0, 1, 600} {
		h := newHeader(rng, 2, 1, size)
		head, tail, _ := Pack(h, make([]byte, h.Layout().FragmentSize()))
		f.Add(append(append(head, make([]byte, h.Layout().FragmentSize())...), tail...), true)
		f.Add(tail, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix { // repair the checksums, so that mutations get past them
			fixSums(b)
		}
		if h, fm, size, err := decodeHeader(b); err == nil {
			if !bytes.Equal(h.appendTo(nil, fm, size), b[:HeaderSize]) {
				t.Fatalf("header %+v is written differently than it was read", h)
			}
		}
		if len(b) < TrailerSize {
			return
		}
		tr, err := decodeTrailer(b[len(b)-TrailerSize:], packed, int64(len(b)))
		if err != nil {
			return
		}
		if !bytes.Equal(tr.appendTo(nil), b[len(b)-TrailerSize:]) {
			t.Fatalf("trailer %+v is written differently than it was read", tr)
		}
		r, err := OpenPacked(bytes.NewReader(b), int64(len(b)), tr.header.Name)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, io.NewSectionReader(r, 0, r.Len()))
		VerifyPacked(context.Background(), bytes.NewReader(b), int64(len(b)), tr.header.Name, nil)
	})
}

// fixSums makes the checksums of header and trailer right.
func fixSums(b []byte) {
	sum := func(b []byte, at int) { binary.BigEndian.PutUint64(b[at:], xxhash.Sum64(b[:at])) }
	if len(b) >= HeaderSize {
		sum(b, headerSum)
	}
	if len(b) >= TrailerSize {
		t := b[len(b)-TrailerSize:]
		sum(t, headerSum)
		sum(t, TrailerSize-8)
	}
}

func TestHeaderValidate(t *testing.T) {
	h := Header{K: 2, M: 1, BlockSize: erasure.DefaultBlockSize, Size: SizeUnknown}
	if err := h.Validate(); err != nil {
		t.Fatal(err)
	}
	h.Index = 3
	if err := h.Validate(); !errs.Is(err, errs.Invalid) {
		t.Errorf("index 3 of 2+1: %v", err)
	}
	h.Index, h.Size = 0, -2
	if err := h.Validate(); !errs.Is(err, errs.Invalid) {
		t.Errorf("size -2: %v", err)
	}
}
