package ring

import (
	"bytes"
	"encoding/binary"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"ringfort/internal/errs"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

const golden = "testdata/v1/sample.ring"

func TestEncodeDecode(t *testing.T) {
	for _, r := range []*Ring{sample(t, 0, 1, 1, 1, 1, 1), sample(t, 6, 3, 2, 2, 1, 2), sample(t, 10, 16, 1, 4, 2, 3)} {
		got, err := Decode(r.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, r) {
			t.Error("a ring is not what was written")
		}
	}
}

// TestGolden opens the sample of every released version: files written once must
// be read for ever.
func TestGolden(t *testing.T) {
	r := sample(t, 5, 3, 2, 1, 2, 1)
	if *rewrite {
		if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, r.Encode(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.Encode(), want) {
		t.Error("the format has changed: give it a new version")
	}
	got, err := Load(vfs.Default, golden)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, r) {
		t.Error("the ring read is not the one that was written")
	}
}

// reseal puts the right checksum on damaged bytes.
func reseal(b []byte) []byte {
	n := len(b) - 8
	binary.BigEndian.PutUint64(b[n:], xxhash.Sum64(b[:n]))
	return b
}

func TestDecodeDamaged(t *testing.T) {
	good := sample(t, 4, 2, 1, 2, 1, 2).Encode()
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 0x10
		if _, err := Decode(b); err == nil {
			t.Fatalf("read with byte %d flipped", i)
		}
		if _, err := Decode(good[:i]); !errs.Is(err, errs.Corrupt) {
			t.Fatalf("the first %d bytes: %v", i, err)
		}
	}
	if _, err := Decode(append(bytes.Clone(good), 0)); !errs.Is(err, errs.Corrupt) {
		t.Errorf("with a byte more: %v", err)
	}
	later := bytes.Clone(good)
	later[9] = 2
	if _, err := Decode(reseal(later)); !errs.Is(err, errs.NotImplemented) {
		t.Errorf("a later version: %v", err)
	}
	twice := bytes.Clone(good)
	copy(twice[len(twice)-10:], twice[len(twice)-12:len(twice)-10])
	if _, err := Decode(reseal(twice)); !errs.Is(err, errs.Corrupt) {
		t.Errorf("two replicas on one device: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, r := range []*Ring{sample(f, 0, 1, 1, 1, 1, 1), sample(f, 4, 2, 2, 1, 1, 2)} {
		b := r.Encode()
		f.Add(b[20 : len(b)-8])
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		b := append([]byte("RFRTRING\x00\x01\x00\x00"), binary.BigEndian.AppendUint64(nil, uint64(len(payload)))...)
		b = append(append(b, payload...), make([]byte, 8)...)
		r, err := Decode(reseal(b))
		if err != nil {
			if !errs.Is(err, errs.Corrupt) {
				t.Fatalf("damage is reported as %v", err)
			}
			return
		}
		if !bytes.Equal(r.Encode(), b) {
			t.Fatal("a ring has two files")
		}
		for range r.Handoffs(0) {
		}
	})
}

func TestLoadMissing(t *testing.T) {
	if _, err := Load(vfs.Default, filepath.Join(t.TempDir(), "none.ring")); !errs.Is(err, errs.NotFound) {
		t.Errorf("a missing file: %v", err)
	}
}
