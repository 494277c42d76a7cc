package checksum

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"flag"
	stdcrc32 "hash/crc32"
	"hash/crc64"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"ringfort/internal/errs"
)

// The standard check input of CRC catalogues, and SHA values from FIPS 180.
func TestKnownValues(t *testing.T) {
	const check = "123456789"
	for _, c := range []struct {
		a    Algorithm
		in   string
		want string // base64
	}{
		{CRC32, check, b64(0xcb, 0xf4, 0x39, 0x26)},
		{CRC32C, check, b64(0xe3, 0x06, 0x92, 0x83)},
		{CRC64NVME, check, b64(0xae, 0x8b, 0x14, 0x86, 0x0a, 0x79, 0x98, 0x88)},
		{CRC32, "", "AAAAAA=="},
		{CRC64NVME, "", "AAAAAAAAAAA="},
		{SHA1, "abc", "qZk+NkcGgWq6PiVxeFDCbJzQ2J0="},
		{SHA256, "abc", "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="},
		// The trailer of AWS's chunked example: 65 KiB of 'a'.
		{CRC32C, strings.Repeat("a", 66560), "sOO8/Q=="},
	} {
		got := Of(c.a, []byte(c.in))
		if got.String() != c.want {
			t.Errorf("%s(%.12q) = %s, want %s", c.a, c.in, got, c.want)
		}
		back, err := ParseSum(c.a, c.want)
		if err != nil || back != got || !back.Equal(got) {
			t.Errorf("%s: parse gave %v, %v", c.a, back, err)
		}
	}
}

func b64(b ...byte) string { return base64.StdEncoding.EncodeToString(b) }

// A Set must agree with the standard library for all algorithms at once,
// whatever the sizes of the writes.
func TestSetModel(t *testing.T) {
	r, seed := rng(t)
	for range 200 {
		var set Set
		set.Reset(append(All(), SHA1, None, 77)...)
		var all []byte
		for range r.IntN(6) {
			p := randBytes(r, r.IntN(3*blockSizeBytes))
			all = append(all, p...)
			if n, err := set.Write(p); n != len(p) || err != nil {
				t.Fatalf("seed %d: write %d, %v", seed, n, err)
			}
		}
		s1, s256 := sha1.Sum(all), sha256.Sum256(all)
		nvme := crc64.Checksum(all, crc64.MakeTable(0x9a6c9329ac4bc9b5))
		want := map[Algorithm][]byte{
			CRC32:     be(uint64(stdcrc32.ChecksumIEEE(all)), 4),
			CRC32C:    be(uint64(stdcrc32.Checksum(all, stdcrc32.MakeTable(stdcrc32.Castagnoli))), 4),
			CRC64NVME: be(nvme, 8),
			SHA1:      s1[:],
			SHA256:    s256[:],
		}
		if len(set.Algorithms()) != 5 || set.Len() != int64(len(all)) {
			t.Fatalf("seed %d: %v of %d bytes", seed, set.Algorithms(), set.Len())
		}
		for a, raw := range want {
			if got := set.Sum(a).AppendRaw(nil); !bytes.Equal(got, raw) {
				t.Fatalf("seed %d: %s of %d bytes = %x, want %x", seed, a, len(all), got, raw)
			}
		}
	}
}

func TestSetReuse(t *testing.T) {
	s := NewSet(SHA256, CRC32)
	s.Write([]byte("old"))
	s.Reset(SHA256)
	if !s.Sum(CRC32).IsZero() || s.Has(CRC32) || s.Has(200) {
		t.Error("an algorithm survived Reset")
	}
	s.Write([]byte("abc"))
	if got := s.Sum(SHA256); got != Of(SHA256, []byte("abc")) {
		t.Error("bytes survived Reset")
	}
	p := make([]byte, 4096)
	if n := testing.AllocsPerRun(100, func() {
		s.Reset(CRC32, CRC64NVME, SHA256)
		s.Write(p)
		_ = s.Sum(SHA256)
	}); n != 0 {
		t.Errorf("%v allocations for a reused Set", n)
	}
}

// Full object CRCs of parts must equal the CRC of all bytes; composites the
// hash of the concatenated raw values.
func TestParts(t *testing.T) {
	r, seed := rng(t)
	for range 300 {
		var whole []byte
		var data [][]byte
		size := r.IntN(2000)
		for i, n := 0, 1+r.IntN(9); i < n; i++ {
			p := randBytes(r, size)
			if r.IntN(3) == 0 {
				p = randBytes(r, r.IntN(3000))
			}
			data = append(data, p)
			whole = append(whole, p...)
		}
		for _, a := range All() {
			var parts []Part
			var raws []byte
			for _, p := range data {
				s := Of(a, p)
				parts = append(parts, Part{s, int64(len(p))})
				raws = s.AppendRaw(raws)
			}
			full, err := FullObject(a, parts)
			if a.CRC() {
				if err != nil || full != Of(a, whole) {
					t.Fatalf("seed %d: %s of %d parts = %v, %v; want %v", seed, a, len(parts), full, err, Of(a, whole))
				}
			} else if !errs.Is(err, errs.Invalid) {
				t.Fatalf("%s: full object gave %v", a, err)
			}
			comp, err := CompositeOf(a, parts)
			if a == CRC64NVME {
				if !errs.Is(err, errs.Invalid) {
					t.Fatalf("CRC64NVME composite gave %v", err)
				}
				continue
			}
			want := Of(a, raws).String() + "-" + strconv.Itoa(len(parts))
			if err != nil || comp.String() != want || comp.Type() != TypeComposite {
				t.Fatalf("seed %d: %s composite = %v, %v; want %s", seed, a, comp, err, want)
			}
			if back, err := ParseAny(a, want); err != nil || back != comp {
				t.Fatalf("parse %q = %v, %v", want, back, err)
			}
		}
	}
}

// Lengths far beyond what a test can hash: combining zeros in two steps must
// agree with combining them in one.
func TestCombineHugeLengths(t *testing.T) {
	const tib = int64(1) << 40
	for _, a := range []Algorithm{CRC32, CRC32C, CRC64NVME} {
		f := fieldOf(a)
		if got, want := f.mul(f.zeros(48*uint64(tib)), f.zeros(7)), f.zeros(48*uint64(tib)+7); got != want {
			t.Errorf("%s: x^(a)·x^(b) = %x, want %x", a, got, want)
		}
		if f.zeros(0) != f.one || f.mul(f.one, 0x1234) != 0x1234 {
			t.Errorf("%s: x^0 is not one", a)
		}
	}
}

func TestPartsRefused(t *testing.T) {
	ok := Part{Of(CRC32, []byte("a")), 1}
	comp, _ := CompositeOf(CRC32, []Part{ok})
	for name, parts := range map[string][]Part{
		"other algorithm": {ok, {Of(CRC32C, nil), 0}},
		"zero":            {ok, {}},
		"composite":       {ok, {comp, 1}},
	} {
		if _, err := FullObject(CRC32, parts); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: full object gave %v", name, err)
		}
		if _, err := OfParts(CRC32, TypeComposite, parts); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: composite gave %v", name, err)
		}
	}
	if _, err := FullObject(CRC32, []Part{{ok.Sum, -1}}); err == nil {
		t.Error("a negative length was accepted")
	}
	if _, err := CompositeOf(CRC32, make([]Part, MaxParts+1)); err == nil {
		t.Error("too many parts were accepted")
	}
	if s, err := OfParts(CRC64NVME, TypeFullObject, nil); err != nil || s != Of(CRC64NVME, nil) {
		t.Errorf("no parts gave %v, %v", s, err)
	}
}

func TestParseRefused(t *testing.T) {
	for _, c := range []struct {
		a Algorithm
		v string
	}{
		{CRC32, ""}, {CRC32, "AAAA"}, {CRC32, "AAAAAA"}, {CRC32, "AAAAAAA="}, {CRC32, "AAAAAB=="}, // stray bits
		{CRC32, "AAAAAA==-1x"}, {CRC32, "AAAA\nA=="}, {CRC32, "AAAAAA==-"}, {CRC32, "AAAAAA==-0"},
		{CRC32, "AAAAAA==-01"}, {CRC32, "AAAAAA==-10001"}, {CRC32, "AAAAAA==-+1"},
		{CRC64NVME, "AAAAAAAAAAA=-2"}, {SHA256, "AAAAAA=="}, {None, ""}, {99, "AAAAAA=="},
		{SHA1, strings.Repeat("A", 28)}, {CRC64NVME, "AAAAAAAAAAAA"},
	} {
		if s, err := ParseAny(c.a, c.v); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s %q gave %v, %v", c.a, c.v, s, err)
		}
	}
	if _, err := ParseSum(CRC32, "AAAAAA==-1"); err == nil {
		t.Error("ParseSum took a composite")
	}
	if _, err := NewComposite(CRC64NVME, make([]byte, 8), 1); err == nil {
		t.Error("a composite CRC64NVME")
	}
	if s, err := NewComposite(SHA1, make([]byte, 20), 3); err != nil || s.Parts() != 3 {
		t.Errorf("NewComposite = %v, %v", s, err)
	}
}

func TestAllows(t *testing.T) {
	for _, c := range []struct {
		a               Algorithm
		full, composite bool
		def             Type
	}{
		{CRC32, true, true, TypeComposite},
		{CRC32C, true, true, TypeComposite},
		{CRC64NVME, true, false, TypeFullObject},
		{SHA1, false, true, TypeComposite},
		{SHA256, false, true, TypeComposite},
		{None, false, false, TypeComposite},
	} {
		if c.a.Allows(TypeFullObject) != c.full || c.a.Allows(TypeComposite) != c.composite || c.a.DefaultType() != c.def {
			t.Errorf("%s: wrong types", c.a)
		}
		if c.a == None {
			continue
		}
		if got, err := Parse(strings.ToLower(c.a.String())); err != nil || got != c.a {
			t.Errorf("Parse(%s) = %v, %v", c.a, got, err)
		}
		if ForHeader(strings.ToLower(c.a.Header())) != c.a || http.CanonicalHeaderKey(c.a.Header()) != c.a.Header() {
			t.Errorf("%s: header %s", c.a, c.a.Header())
		}
	}
}

func TestClaimed(t *testing.T) {
	const v = "sOO8/Q=="
	for _, c := range []struct {
		name    string
		headers []string // name, value, ...
		want    string   // "ALG value trailing", or the error's kind
	}{
		{"none", nil, "  false"},
		{"value", []string{"x-amz-checksum-crc32c", v}, "CRC32C sOO8/Q== false"},
		{"value and name", []string{"x-amz-checksum-crc32c", v, "x-amz-sdk-checksum-algorithm", "crc32c"}, "CRC32C sOO8/Q== false"},
		{"trailer", []string{"x-amz-trailer", "x-amz-checksum-sha256", "x-amz-sdk-checksum-algorithm", "SHA256"}, "SHA256  true"},
		{"trailer among others", []string{"x-amz-trailer", "x-amz-meta-a, X-Amz-Checksum-CRC32"}, "CRC32  true"},
		{"multipart headers are no values", []string{"x-amz-checksum-type", "COMPOSITE", "x-amz-checksum-algorithm", "CRC32", "x-amz-checksum-mode", "ENABLED"}, "  false"},
		{"two values", []string{"x-amz-checksum-crc32c", v, "x-amz-checksum-crc32", v}, "invalid"},
		{"twice", []string{"x-amz-checksum-crc32c", v, "x-amz-checksum-crc32c", v}, "invalid"},
		{"value and trailer", []string{"x-amz-checksum-crc32c", v, "x-amz-trailer", "x-amz-checksum-crc32c"}, "invalid"},
		{"two trailers", []string{"x-amz-trailer", "x-amz-checksum-crc32c", "x-amz-trailer", "x-amz-checksum-crc32"}, "invalid"},
		{"bad value", []string{"x-amz-checksum-crc32c", "nonsense"}, "invalid"},
		{"composite value", []string{"x-amz-checksum-crc32c", v + "-2"}, "invalid"},
		{"name alone", []string{"x-amz-sdk-checksum-algorithm", "SHA256"}, "invalid"},
		{"other name", []string{"x-amz-checksum-crc32c", v, "x-amz-sdk-checksum-algorithm", "CRC32"}, "invalid"},
		{"unknown name", []string{"x-amz-checksum-crc32c", v, "x-amz-sdk-checksum-algorithm", "CRC7"}, "invalid"},
		{"unknown header", []string{"x-amz-checksum-crc7", v}, "invalid"},
		{"header we lack", []string{"x-amz-checksum-sha512", v}, "not implemented"},
		{"trailer we lack", []string{"x-amz-trailer", "x-amz-checksum-xxhash3"}, "not implemented"},
		{"name we lack", []string{"x-amz-sdk-checksum-algorithm", "MD5"}, "not implemented"},
	} {
		h := http.Header{}
		for i := 0; i < len(c.headers); i += 2 {
			h.Add(c.headers[i], c.headers[i+1])
		}
		got, err := Claimed(h)
		text := got.Algorithm.String() + " " + got.Sum.String() + " " + strconv.FormatBool(got.Trailing)
		if err != nil {
			text = errs.KindOf(err).String()
		}
		if text != c.want {
			t.Errorf("%s: %q (%v), want %q", c.name, text, err, c.want)
		}
	}
}

func TestUpload(t *testing.T) {
	for _, c := range []struct{ alg, typ, want string }{
		{"", "", " FULL_OBJECT"},
		{"CRC32", "", "CRC32 COMPOSITE"},
		{"crc32", "full_object", "CRC32 FULL_OBJECT"},
		{"CRC64NVME", "", "CRC64NVME FULL_OBJECT"},
		{"SHA1", "COMPOSITE", "SHA1 COMPOSITE"},
		{"SHA1", "FULL_OBJECT", "invalid"},
		{"CRC64NVME", "COMPOSITE", "invalid"},
		{"CRC32", "HALF", "invalid"},
		{"", "COMPOSITE", "invalid"},
		{"SHA512", "", "not implemented"},
	} {
		h := http.Header{}
		if c.alg != "" {
			h.Set(HeaderAlgorithm, c.alg)
		}
		if c.typ != "" {
			h.Set(HeaderType, c.typ)
		}
		a, typ, err := Upload(h)
		text := a.String() + " " + typ.String()
		if err != nil {
			text = errs.KindOf(err).String()
		}
		if text != c.want {
			t.Errorf("%s %s: %q (%v), want %q", c.alg, c.typ, text, err, c.want)
		}
	}
}

// Whatever parses must print as it was.
func FuzzParse(f *testing.F) {
	f.Add(uint8(2), "sOO8/Q==")
	f.Add(uint8(1), "AAAAAA==-12")
	f.Add(uint8(5), "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=-3")
	f.Fuzz(func(t *testing.T, a uint8, v string) {
		if s, err := ParseAny(Algorithm(a), v); err == nil && s.String() != v {
			t.Errorf("%q parsed and printed as %q", v, s)
		}
	})
}

func BenchmarkSet(b *testing.B) {
	p := make([]byte, 1<<20)
	for _, algs := range [][]Algorithm{{CRC32}, {CRC32C}, {CRC64NVME}, {SHA1}, {SHA256}, {CRC64NVME, SHA256}} {
		name := ""
		for _, a := range algs {
			name += a.String() + "+"
		}
		b.Run(strings.TrimSuffix(name, "+"), func(b *testing.B) {
			s := NewSet(algs...)
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				s.Write(p)
			}
		})
	}
}

func BenchmarkFullObject10000Parts(b *testing.B) {
	parts := make([]Part, MaxParts)
	for i := range parts {
		parts[i] = Part{Of(CRC64NVME, []byte{byte(i)}), 8 << 20}
	}
	for b.Loop() {
		if _, err := FullObject(CRC64NVME, parts); err != nil {
			b.Fatal(err)
		}
	}
}

var seedFlag = flag.Uint64("seed", 0, "repeat a randomized test with this seed")

func rng(t *testing.T) (*rand.Rand, uint64) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("repeat with: go test -run %s -seed %d", t.Name(), seed)
	return rand.New(rand.NewPCG(seed, 0)), seed
}

func randBytes(r *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

func be(v uint64, n int) []byte {
	p := make([]byte, n)
	for i := n - 1; i >= 0; i-- {
		p[i], v = byte(v), v>>8
	}
	return p
}
