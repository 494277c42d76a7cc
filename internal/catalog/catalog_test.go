package catalog

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"ringfort/internal/errs"
	"ringfort/internal/timestamp"
	"ringfort/internal/wire"
)

// codec is how a type is written and read, without its type.
type codec struct {
	encode func(any) ([]byte, error)
	decode func([]byte) (any, error)
}

// codecOf makes a codec of a type whose decoder returns a pointer.
func codecOf[T any, P interface {
	*T
	Encode() ([]byte, error)
}](decode func([]byte) (*T, error)) codec {
	return codec{
		func(v any) ([]byte, error) { x := v.(T); return P(&x).Encode() },
		func(b []byte) (any, error) {
			v, err := decode(b)
			if v == nil {
				return nil, err
			}
			return *v, err
		},
	}
}

// valueCodecOf makes one of a type whose decoder returns a value.
func valueCodecOf[T any, P interface {
	*T
	Encode() ([]byte, error)
}](decode func([]byte) (T, error)) codec {
	return codecOf[T, P](func(b []byte) (*T, error) {
		v, err := decode(b)
		if err != nil {
			return nil, err
		}
		return &v, nil
	})
}

var codecs = map[string]codec{
	"account":       codecOf(DecodeAccount),
	"container":     codecOf(DecodeContainer),
	"object":        codecOf(DecodeObject),
	"upload":        codecOf(DecodeUpload),
	"bucket owner":  codecOf(DecodeBucketOwner),
	"row value":     valueCodecOf(DecodeRowValue),
	"container row": valueCodecOf(DecodeContainerRow),
	"part":          valueCodecOf(DecodePart),
	"manifest entry": {
		func(v any) ([]byte, error) { e := v.(ManifestEntry); return e.AppendTo(nil) },
		func(b []byte) (any, error) { return DecodeManifestEntry(b) },
	},
	"row": {
		func(v any) ([]byte, error) { r := v.(Row); return r.AppendTo(nil), nil },
		func(b []byte) (any, error) {
			r := wire.NewReader(b)
			row := ReadRow(&r)
			return row, r.Done()
		},
	},
}

var (
	ts1  = timestamp.T{Micros: 0x0102030405060708, Logical: 0x090a0b0c, Seq: 0x0d0e0f10, Writer: 0x1112131415161718}
	ts2  = timestamp.T{Micros: MaxMicros, Writer: 1}
	inc  = Incarnation{0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf}
	md5s = "00112233445566778899aabbccddeeff"
	meta = Pairs{{"cache-control", "no-cache"}, {"meta-color", "blue"}}
	sum  = base64.StdEncoding.EncodeToString([]byte{1, 2, 3, 4})
	// sum64 is as long as a SHA-512.
	sum64 = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xc5}, MaxChecksumBytes))

	sampleObject = Object{
		ContainerAccount: "main", Container: "photos", Incarnation: inc, Name: "a/b c\x00d",
		Size: 1 << 40, ETag: md5s, ContentType: "image/jpeg", Modified: 1_700_000_000_000_000, TS: ts1,
		Layout: PagedManifest, Coding: Coding{8, 4, 1 << 17}, Attempt: 1 << 50, Missing: 0x8001, PartCount: 2, Meta: meta,
	}
)

const MaxMicros = timestamp.MaxMicros

// samples are values with all fields set and with as few as can be, and their bytes.
// The bytes are on disks: when this test fails, a format has changed.
var samples = []struct {
	what  string
	value any
	bytes string // in hexadecimal; spaces for the reader
}{
	{"account", Account{Name: "main", Created: 300, Deleted: true, Meta: meta},
		"11 046d61696e ac02 01 02 0d63616368652d636f6e74726f6c 086e6f2d6361636865 0a6d6574612d636f6c6f72 04626c7565"},
	{"account", Account{},
		"11 00 00 00 00"},
	{"container", Container{
		Account: "main", Name: "photos", Incarnation: inc, State: Deleting, Policy: "ec", Created: 1_700_000_000_000_000,
		Global: true, Versioning: 2, RangeEpoch: 300, Meta: meta,
	},
		"21 046d61696e 0670686f746f73 a0a1a2a3a4a5a6a7a8a9aaabacadaeaf 02 026563 8080f9c0c1c48203 01 02 ac02 02 0d63616368652d636f6e74726f6c 086e6f2d6361636865 0a6d6574612d636f6c6f72 04626c7565"},
	{"container", Container{State: Live},
		"21 00 00 00000000000000000000000000000000 01 00 00 00 00 00 00"},
	{"object", sampleObject,
		"31 046d61696e 0670686f746f73 a0a1a2a3a4a5a6a7a8a9aaabacadaeaf 07612f6220630064 808080808020 00 00112233445566778899aabbccddeeff 0a696d6167652f6a706567 8080f9c0c1c48203 0102030405060708 090a0b0c 0d0e0f10 1112131415161718 03 08 04 808008 8080808080808002 818002 02 02 0d63616368652d636f6e74726f6c 086e6f2d6361636865 0a6d6574612d636f6c6f72 04626c7565"},
	{"object", Object{},
		"31 00 00 00000000000000000000000000000000 00 00 01 00 00 00 000000000000000000000000000000000000000000000000 00 00 00 00 00 00 00 00"},
	{"upload", Upload{
		State: UploadCompleting, ID: ts1, Account: "main", Container: "photos", Incarnation: inc, Name: "n", Initiated: 300,
		ContentType: "a/b", Meta: meta, Prior: ts2, ETag: md5s + "-5", Size: 1 << 40,
	},
		"41 02 0102030405060708 090a0b0c 0d0e0f10 1112131415161718 046d61696e 0670686f746f73 a0a1a2a3a4a5a6a7a8a9aaabacadaeaf 016e ac02 03612f62 02 0d63616368652d636f6e74726f6c 086e6f2d6361636865 0a6d6574612d636f6c6f72 04626c7565 3fffffffffffffff 00000000 00000000 0000000000000001 01 2230303131323233333434353536363737383839396161626263636464656566662d35 808080808020"},
	{"upload", Upload{State: UploadOpen},
		"41 01 000000000000000000000000000000000000000000000000 00 00 00000000000000000000000000000000 00 00 00 00 000000000000000000000000000000000000000000000000 01 00 00"},
	{"bucket owner", BucketOwner{"photos", "main", inc},
		"51 0670686f746f73 046d61696e a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"},
	{"bucket owner", BucketOwner{},
		"51 00 00 00000000000000000000000000000000"},
	{"row value", RowValue{Size: 300, ETag: md5s, ContentType: "a/b", Modified: 301, Checksum: "CRC32,FULL_OBJECT", Extra: meta},
		"61 ac02 00 00112233445566778899aabbccddeeff 03612f62 ad02 1143524333322c46554c4c5f4f424a454354 02 0d63616368652d636f6e74726f6c 086e6f2d6361636865 0a6d6574612d636f6c6f72 04626c7565"},
	{"row value", RowValue{},
		"61 00 01 00 00 00 00 00"},
	{"container row", ContainerRow{inc, 300, "ec"},
		"71 a0a1a2a3a4a5a6a7a8a9aaabacadaeaf ac02 026563"},
	{"container row", ContainerRow{},
		"71 00000000000000000000000000000000 00 00"},
	{"part", Part{Number: 10000, Attempt: 1 << 63, Size: 300, ETag: md5s, Checksum: sum, Modified: 301, Missing: 0x8001, Coding: Coding{2, 1, 4096}},
		"81 904e 80808080808080808001 ac02 00 00112233445566778899aabbccddeeff 084151494442413d3d ad02 818002 02 01 8020"},
	{"part", Part{},
		"81 00 00 00 01 00 00 00 00 00 00 00"},
	{"part", Part{ETag: strings.ToUpper(md5s)},
		"81 00 00 00 01 203030313132323333343435353636373738383939414142424343444445454646 00 00 00 00 00 00"},
	{"manifest entry", ManifestEntry{
		End: 1 << 40, Size: 5 << 20, Attempt: 1 << 63, Number: 10000, Missing: 0x8001,
		MD5: [16]byte{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}, Checksum: sum,
	},
		"0000010000000000 0000000000500000 8000000000000000 00002710 8001 0004 00112233445566778899aabbccddeeff 01020304 000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"},
	{"manifest entry", ManifestEntry{End: 1, Checksum: sum64},
		"0000000000000001 00000000000000000000000000000000000000000000 0040 00000000000000000000000000000000 c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5"},
	{"manifest entry", ManifestEntry{},
		"00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"},
	{"row", Row{Name: "n\x00x", Ballot: ts2, TS: ts1, Deleted: true, Bytes: 300, Value: []byte("v")},
		"036e0078 3fffffffffffffff 00000000 00000000 0000000000000001 01 0102030405060708 090a0b0c 0d0e0f10 1112131415161718 ac02 0176"},
	{"row", Row{Name: "n", Ballot: ts1, TS: ts1},
		"016e 0102030405060708 090a0b0c 0d0e0f10 1112131415161718 02 00 00"},
	{"row", Row{},
		"00 000000000000000000000000000000000000000000000000 02 00 00"},
}

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBytesAreFrozen(t *testing.T) {
	seen := map[string]int{}
	for _, c := range samples {
		seen[c.what]++
		want := unhex(t, c.bytes)
		got, err := codecs[c.what].encode(c.value)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s %+v is\n%x, %v, was\n%x", c.what, c.value, got, err, want)
			continue
		}
		back, err := codecs[c.what].decode(want)
		if err != nil || !reflect.DeepEqual(back, c.value) {
			t.Errorf("%s %x was read as\n%+v, %v, was\n%+v", c.what, want, back, err, c.value)
		}
	}
	for what := range codecs {
		if seen[what] < 2 {
			t.Errorf("%s: no sample with all fields set and one with none", what)
		}
	}
}

// TestDamage: whatever is not an encoding is refused, and none is cut short or goes
// on behind its end.
func TestDamage(t *testing.T) {
	for _, c := range samples {
		good := unhex(t, c.bytes)
		for i := range good {
			if _, err := codecs[c.what].decode(good[:i]); !errs.Is(err, errs.Corrupt) {
				t.Errorf("%s of %d bytes, cut to %d: %v", c.what, len(good), i, err)
			}
		}
		if _, err := codecs[c.what].decode(append(slices.Clone(good), 0)); !errs.Is(err, errs.Corrupt) {
			t.Errorf("%s with a byte more: %v", c.what, err)
		}
	}
}

// TestNewerVersion: what a newer program wrote is no damage, or it would be healed
// away.
func TestNewerVersion(t *testing.T) {
	for _, c := range samples {
		if c.what == "row" || c.what == "manifest entry" {
			continue // versioned by what holds them
		}
		b := unhex(t, c.bytes)
		b[0]++
		if _, err := codecs[c.what].decode(b); !errs.Is(err, errs.NotImplemented) || !strings.Contains(err.Error(), "written by a newer program") {
			t.Errorf("%s of version 2: %v", c.what, err)
		}
		b[0] -= 2 // version 0
		if _, err := codecs[c.what].decode(b); !errs.Is(err, errs.Corrupt) {
			t.Errorf("%s of version 0: %v", c.what, err)
		}
		b[0] += 0x11 // the next kind
		if _, err := codecs[c.what].decode(b); !errs.Is(err, errs.Corrupt) {
			t.Errorf("%s that is of another kind: %v", c.what, err)
		}
	}
	if !IsUpload([]byte{byte(tagUpload)}) || !IsUpload([]byte{byte(tagUpload) + 1}) || IsUpload([]byte{byte(tagObject)}) || IsUpload(nil) {
		t.Error("an upload is one in every version, and nothing else is")
	}
}

// TestEncodeRefuses: what could not be read again is not written.
func TestEncodeRefuses(t *testing.T) {
	late := timestamp.T{Micros: MaxMicros + 1}
	twice := Pairs{{"a", "1"}, {"b", "2"}, {"a", "3"}}
	for what, values := range map[string][]any{
		"account":   {Account{Created: -1}, Account{Meta: twice}},
		"container": {Container{}, Container{State: 4}, Container{State: Live, Versioning: 3}, Container{State: Live, Created: -1}, Container{State: Live, Meta: twice}},
		"object": {
			Object{Size: -1}, Object{Modified: -1}, Object{TS: late}, Object{Layout: 4}, Object{PartCount: -1}, Object{PartCount: math.MaxInt32 + 1}, Object{Meta: twice},
		},
		"upload": {
			Upload{}, Upload{State: 5}, Upload{State: UploadOpen, ID: late}, Upload{State: UploadOpen, Prior: late},
			Upload{State: UploadOpen, Initiated: -1}, Upload{State: UploadOpen, Size: -1}, Upload{State: UploadOpen, Meta: twice},
		},
		"row value":     {RowValue{Size: -1}, RowValue{Modified: -1}, RowValue{Extra: twice}},
		"container row": {ContainerRow{Created: -1}},
		"part": {
			Part{Number: -1}, Part{Number: math.MaxInt32 + 1}, Part{Size: -1}, Part{Modified: -1}, Part{Checksum: "no base64"},
			Part{Checksum: base64.StdEncoding.EncodeToString(make([]byte, MaxChecksumBytes+1))},
		},
		"manifest entry": {
			ManifestEntry{Size: -1}, ManifestEntry{End: -1}, ManifestEntry{Size: 2, End: 1}, ManifestEntry{Checksum: "no base64"},
			ManifestEntry{Checksum: "AAAAAB=="}, ManifestEntry{Checksum: "AAAA\n"},
			ManifestEntry{Checksum: base64.StdEncoding.EncodeToString(make([]byte, MaxChecksumBytes+1))},
		},
	} {
		for _, v := range values {
			if b, err := codecs[what].encode(v); !errs.Is(err, errs.Invalid) || len(b) > 0 {
				t.Errorf("%s %+v was written as %x, %v", what, v, b, err)
			}
		}
	}
}

// TestDecodeRefuses: values that Encode never writes.
func TestDecodeRefuses(t *testing.T) {
	hexText := hex.EncodeToString([]byte(md5s))
	for _, c := range []struct{ what, name, bytes string }{
		{"container", "state 0", "21 00 00" + zeros(16) + "00 00 00 00 00 00 00"},
		{"container", "state 4", "21 00 00" + zeros(16) + "04 00 00 00 00 00 00"},
		{"container", "versioning 3", "21 00 00" + zeros(16) + "01 00 00 00 03 00 00"},
		{"container", "global 2", "21 00 00" + zeros(16) + "01 00 00 02 00 00 00"},
		{"upload", "state 0", "41 00" + zeros(24) + "00 00" + zeros(16) + "00 00 00 00" + zeros(24) + "01 00 00"},
		{"upload", "state 5", "41 05" + zeros(24) + "00 00" + zeros(16) + "00 00 00 00" + zeros(24) + "01 00 00"},
		{"upload", "time beyond the end", "41 01 ff" + zeros(23) + "00 00" + zeros(16) + "00 00 00 00" + zeros(24) + "01 00 00"},
		{"object", "layout 4", "31 00 00" + zeros(16) + "00 00 01 00 00 00" + zeros(24) + "04 00 00 00 00 00 00 00"},
		{"object", "block size of 33 bits", "31 00 00" + zeros(16) + "00 00 01 00 00 00" + zeros(24) + "00 00 00 8080808010 00 00 00 00"},
		{"object", "missing of 17 bits", "31 00 00" + zeros(16) + "00 00 01 00 00 00" + zeros(24) + "00 00 00 00 00 808004 00 00"},
		{"object", "size of 64 bits", "31 00 00" + zeros(16) + "00 80808080808080808001 01 00 00 00" + zeros(24) + "00 00 00 00 00 00 00 00"},
		{"account", "pairs unsorted", "11 00 00 00 02 0162 00 0161 00"},
		{"account", "pair twice", "11 00 00 00 02 0161 00 0161 00"},
		{"account", "long number", "11 00 8000 00 00"},
		{"row value", "MD5 spelt out", "61 00 01 20" + hexText + "00 00 00 00"},
		{"part", "no base64", "81 00 00 00 01 00 01 21 00 00 00 00 00"},
		{"part", "number of 32 bits", "81 8080808008 00 00 01 00 00 00 00 00 00 00"},
		{"row", "flags 4", "00" + zeros(24) + "06 00 00"},
		{"row", "timestamp written twice", "00" + zeros(24) + "00" + zeros(24) + "00 00"},
		{"row", "negative bytes", "00" + zeros(24) + "02 80808080808080808001 00"},
		{"manifest entry", "long checksum", zeros(31) + "41" + zeros(80)},
		{"manifest entry", "bytes in the padding", zeros(31) + "01" + zeros(16) + "0001" + zeros(62)},
		{"manifest entry", "negative end", "80" + zeros(111)},
		{"manifest entry", "negative size", zeros(8) + "80" + zeros(103)},
		{"manifest entry", "size beyond its end", zeros(15) + "01" + zeros(96)},
	} {
		v, err := codecs[c.what].decode(unhex(t, c.bytes))
		if !errs.Is(err, errs.Corrupt) {
			t.Errorf("%s with %s was read as %+v, %v", c.what, c.name, v, err)
		}
	}
	// The same with nothing wrong, so that the above fail for their reason alone.
	for what, good := range map[string]string{
		"container":      "21 00 00" + zeros(16) + "01 00 00 00 00 00 00",
		"upload":         "41 01" + zeros(24) + "00 00" + zeros(16) + "00 00 00 00" + zeros(24) + "01 00 00",
		"object":         "31 00 00" + zeros(16) + "00 00 01 00 00 00" + zeros(24) + "00 00 00 00 00 00 00 00",
		"account":        "11 00 00 00 02 0161 00 0162 00",
		"row value":      "61 00 01 00 00 00 00 00",
		"part":           "81 00 00 00 01 00 00 00 00 00 00 00",
		"row":            "00" + zeros(24) + "02 00 00",
		"manifest entry": zeros(112),
	} {
		if _, err := codecs[what].decode(unhex(t, good)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func zeros(n int) string { return strings.Repeat("00", n) }

// TestEncodeSorts: the order in which pairs were put together does not show, and the
// caller's stay as they are.
func TestEncodeSorts(t *testing.T) {
	mixed := Pairs{{"b", "2"}, {"c", "3"}, {"a", "1"}}
	got, err := (&Account{Meta: mixed}).Encode()
	want, err2 := (&Account{Meta: Pairs{{"a", "1"}, {"b", "2"}, {"c", "3"}}}).Encode()
	if err != nil || err2 != nil || !bytes.Equal(got, want) || mixed[0].Name != "b" {
		t.Errorf("%x, %v; %x, %v; %v", got, err, want, err2, mixed)
	}
}

func TestPairs(t *testing.T) {
	p := Pairs(nil).With("b", "2").With("a", "1").With("b", "3")
	if p.Get("a") != "1" || p.Get("b") != "3" || len(p) != 2 || p[0].Name != "a" {
		t.Errorf("%v", p)
	}
	q := p.Without("a")
	if _, ok := q.Lookup("a"); ok || p.Get("a") != "1" {
		t.Errorf("%v from %v", q, p)
	}
}

// FuzzDecode: what is accepted has no other form, and survives being written again.
func FuzzDecode(f *testing.F) {
	for _, c := range samples {
		f.Add(unhex(f, c.bytes))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for what, c := range codecs {
			v, err := c.decode(b)
			if err != nil {
				if k := errs.KindOf(err); k != errs.Corrupt && k != errs.NotImplemented {
					t.Fatalf("%s: %v", what, err)
				}
				continue
			}
			again, err := c.encode(v)
			if err != nil || !bytes.Equal(again, b) {
				t.Fatalf("%s %x became %x, %v", what, b, again, err)
			}
			if back, err := c.decode(again); err != nil || !reflect.DeepEqual(back, v) {
				t.Fatalf("%s %+v became %+v, %v", what, v, back, err)
			}
		}
	})
}

// FuzzEncode: what is written is read as it was, whatever the fields hold.
func FuzzEncode(f *testing.F) {
	f.Add("n", md5s, "t", int64(5), uint64(7), byte(1), 3, uint16(9), "k", "v", sum)
	f.Add("", "d41d8cd98f00b204e9800998ecf8427e-5", "", int64(-1), uint64(0), byte(9), -1, uint16(0), "", "", "x")
	f.Fuzz(func(t *testing.T, name, etag, text string, n int64, u uint64, enum byte, count int, missing uint16, key, value, checksum string) {
		ts := timestamp.T{Micros: u, Writer: u}
		pairs := Pairs(nil).With(key, value).With(name, text)
		coding := Coding{enum, enum, uint32(u)}
		for what, v := range map[string]any{
			"object": Object{
				Container: text, Name: name, Size: n, ETag: etag, ContentType: text, Modified: n, TS: ts, Layout: Layout(enum),
				Coding: coding, Attempt: u, Missing: missing, PartCount: count, Meta: pairs,
			},
			"container":      Container{Account: text, Name: name, State: ContainerState(enum), Policy: value, Created: n, Versioning: enum, RangeEpoch: u, Meta: pairs},
			"upload":         Upload{State: UploadState(enum), ID: ts, Name: name, Initiated: n, Meta: pairs, Prior: ts, ETag: etag, Size: n},
			"row value":      RowValue{Size: n, ETag: etag, ContentType: text, Modified: n, Checksum: checksum, Extra: pairs},
			"part":           Part{Number: count, Attempt: u, Size: n, ETag: etag, Checksum: checksum, Modified: n, Missing: missing, Coding: coding},
			"manifest entry": ManifestEntry{End: n, Size: n / 2, Attempt: u, Number: uint32(u), Missing: missing, Checksum: checksum},
		} {
			b, err := codecs[what].encode(v)
			if err != nil {
				if !errs.Is(err, errs.Invalid) {
					t.Fatalf("%s: %v", what, err)
				}
				continue
			}
			if back, err := codecs[what].decode(b); err != nil || !reflect.DeepEqual(back, v) {
				t.Fatalf("%s %+v became %+v, %v", what, v, back, err)
			}
		}
	})
}

// TestManifestEntryHoldsLongChecksums: a SHA-512 fits, behind other entries too.
func TestManifestEntryHoldsLongChecksums(t *testing.T) {
	var list []byte
	var err error
	for i := range 3 {
		e := ManifestEntry{End: int64(i), Number: uint32(i), Checksum: sum64}
		if list, err = e.AppendTo(list); err != nil {
			t.Fatal(err)
		}
	}
	if len(list) != 3*ManifestEntrySize || ManifestEntrySize != 112 {
		t.Fatalf("%d bytes", len(list))
	}
	e, err := DecodeManifestEntry(list[2*ManifestEntrySize:])
	if err != nil || e.Number != 2 || e.Checksum != sum64 {
		t.Errorf("%+v, %v", e, err)
	}
	// One that does not fit leaves the list as it was.
	bad := ManifestEntry{Checksum: base64.StdEncoding.EncodeToString(make([]byte, 65))}
	if after, err := bad.AppendTo(list); err == nil || len(after) != len(list) {
		t.Errorf("%d bytes, %v", len(after), err)
	}
}
