package catalog

import (
	"reflect"
	"strings"
	"testing"

	"ringfort/internal/timestamp"
	"ringfort/internal/wire"
)

var sampleObject = Object{
	ContainerAccount: "main", Container: "photos", Incarnation: Incarnation{1, 2, 3}, Name: "a/b c\x00d",
	Size: 1 << 40, ETag: strings.Repeat("ab", 16), ContentType: "image/jpeg", Modified: 1_700_000_000_000_000,
	TS:     timestamp.T{Micros: 9, Writer: 3},
	Layout: Manifest, Coding: Coding{8, 4, 1 << 17}, PartCount: 2, Missing: 9, Attempt: 1 << 50,
	Meta: Pairs{{"cache-control", "no-cache"}, {"meta-color", "blue"}},
}

func TestRoundTrips(t *testing.T) {
	o, err := DecodeObject(sampleObject.AppendTo(nil))
	if err != nil || !reflect.DeepEqual(*o, sampleObject) {
		t.Errorf("object: %+v, %v", o, err)
	}
	c := Container{
		Account: "main", Name: "photos", Incarnation: Incarnation{9}, State: Live, Policy: "default",
		Created: 5, Global: true, Versioning: 2, RangeEpoch: 1, Meta: Pairs{{"x-container-meta-a", "b"}},
	}
	if got, err := DecodeContainer(c.AppendTo(nil)); err != nil || !reflect.DeepEqual(*got, c) {
		t.Errorf("container: %+v, %v", got, err)
	}
	a := Account{Name: "main", Created: 7, Deleted: true, Meta: Pairs{{"k", ""}}}
	if got, err := DecodeAccount(a.AppendTo(nil)); err != nil || !reflect.DeepEqual(*got, a) {
		t.Errorf("account: %+v, %v", got, err)
	}
	w := BucketOwner{"photos", "main", Incarnation{4}}
	if got, err := DecodeBucketOwner(w.AppendTo(nil)); err != nil || *got != w {
		t.Errorf("owner: %+v, %v", got, err)
	}
	v := RowValue{Size: 3, ETag: "d41d8cd98f00b204e9800998ecf8427e-5", ContentType: "a/b", Modified: 4, Checksum: "CRC32", Extra: Pairs{{"slo-etag", "x"}}}
	if got, err := DecodeRowValue(v.AppendTo(nil)); err != nil || !reflect.DeepEqual(got, v) {
		t.Errorf("row value: %+v, %v", got, err)
	}
	u := Upload{UploadCompleting, timestamp.T{Micros: 77}, "main", "photos", Incarnation{2}, "n", 5, "a/b", Pairs{{"k", "v"}}, timestamp.T{Micros: 8}, "e", 9}
	if got, err := DecodeUpload(u.AppendTo(nil)); err != nil || !reflect.DeepEqual(*got, u) {
		t.Errorf("upload: %+v, %v", got, err)
	}
	cr := ContainerRow{Incarnation{7}, 8, "ec"}
	if got, err := DecodeContainerRow(cr.AppendTo(nil)); err != nil || got != cr {
		t.Errorf("container row: %+v, %v", got, err)
	}
	p := Part{Number: 10000, Attempt: 1 << 60, Size: 5 << 20, ETag: strings.Repeat("AB", 16), Checksum: "AAAAAA==", Modified: 3, Missing: 1, Coding: Coding{2, 2, 4096}}
	if got, err := DecodePart(p.AppendTo(nil)); err != nil || got != p {
		t.Errorf("part: %+v, %v", got, err)
	}
	for _, row := range []Row{
		{Name: "n", Ballot: timestamp.T{Micros: 1}, TS: timestamp.T{Micros: 1}, Bytes: 5, Value: []byte("v")},
		{Name: "n", Ballot: timestamp.T{Micros: 2}, TS: timestamp.T{Micros: 1}, Deleted: true, Value: []byte{}},
	} {
		r := wire.NewReader(row.AppendTo(nil))
		if got := ReadRow(&r); r.Done() != nil || !reflect.DeepEqual(got, row) {
			t.Errorf("row: %+v, %v", got, r.Done())
		}
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

func FuzzDecode(f *testing.F) {
	f.Add(sampleObject.AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, err := DecodeObject(b); err == nil {
			if again, err := DecodeObject(o.AppendTo(nil)); err != nil || !reflect.DeepEqual(o, again) {
				t.Fatalf("%+v became %+v, %v", o, again, err)
			}
		}
		DecodeContainer(b)
		DecodeAccount(b)
		DecodeBucketOwner(b)
		DecodeRowValue(b)
		DecodeContainerRow(b)
		DecodeUpload(b)
		DecodePart(b)
	})
}

func TestManifestEntry(t *testing.T) {
	e := ManifestEntry{End: 1 << 40, Size: 5 << 20, Attempt: 1 << 63, Number: 10000, Missing: 5, MD5: [16]byte{1, 2}, Checksum: "AAAAAQ=="}
	b := e.AppendTo(nil)
	if got, err := DecodeManifestEntry(b); err != nil || got != e || len(b) != ManifestEntrySize {
		t.Errorf("%+v, %v", got, err)
	}
	b[30] = 1
	if _, err := DecodeManifestEntry(b); err == nil {
		t.Error("a checksum longer than its field was accepted")
	}
}
