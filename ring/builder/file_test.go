package builder

import (
	"bytes"
	"encoding/binary"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"ringfort/internal/errs"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// sample is a builder with a past: devices removed, partitions moved, changes
// waiting.
func sample(t testing.TB) *Builder {
	t.Helper()
	r := rand.New(rand.NewPCG(6, 6))
	b := newBuilder(t, Config{Power: 4, Replicas: 2, MinPartHours: 2, Overload: 0.25, Seed: 77}, cluster(r, 2, 1, 2, 2, 5, 9))
	rebalance(t, b, start)
	if err := b.Remove(3); err != nil {
		t.Fatal(err)
	}
	rebalance(t, b, start.Add(time.Hour))
	if err := b.Remove(5); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEncodeDecode(t *testing.T) {
	empty := newBuilder(t, DefaultConfig(), nil)
	empty.devices = []member{}
	for _, b := range []*Builder{empty, sample(t)} {
		got, err := Decode(b.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, b) {
			t.Errorf("read\n%+v, wrote\n%+v", got, b)
		}
	}
}

// TestGolden opens the sample of every released version, and guards the
// placement: a change of the algorithm shows here, and is to be meant.
func TestGolden(t *testing.T) {
	const golden = "testdata/v1/sample.builder"
	b := sample(t)
	if *rewrite {
		if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, b.Encode(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Load(vfs.Default, golden)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, b) {
		t.Error("the builder read is not the one that the same steps make now")
	}
	if want, err := os.ReadFile(golden); err != nil || !bytes.Equal(b.Encode(), want) {
		t.Errorf("the format has changed: give it a new version (%v)", err)
	}
}

func TestSaveLoadLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.builder")
	if _, err := Load(vfs.Default, path); !errs.Is(err, errs.NotFound) {
		t.Errorf("a missing file: %v", err)
	}
	lock, err := Lock(vfs.Default, path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(vfs.Default, path); !errs.Is(err, errs.Busy) {
		t.Errorf("locked twice: %v", err)
	}
	b := sample(t)
	if err := Save(vfs.Default, path, b); err != nil {
		t.Fatal(err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := Load(vfs.Default, path); err != nil || !reflect.DeepEqual(got, b) {
		t.Errorf("loaded %+v, %v", got, err)
	}
	if _, err := Lock(vfs.Default, filepath.Join(path, "none", "x")); err == nil {
		t.Error("locked in a directory that is not there")
	}
	b.table[0] = b.table[1]
	if err := Save(vfs.Default, path, b); !errs.Is(err, errs.Corrupt) {
		t.Errorf("a broken builder was saved: %v", err)
	}
}

func reseal(b []byte) []byte {
	n := len(b) - 8
	binary.BigEndian.PutUint64(b[n:], xxhash.Sum64(b[:n]))
	return b
}

func TestDecodeDamaged(t *testing.T) {
	b := sample(t)
	good := b.Encode()
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		if _, err := Decode(bad); err == nil {
			t.Fatalf("read with byte %d flipped", i)
		}
		if _, err := Decode(good[:i]); !errs.Is(err, errs.Corrupt) {
			t.Fatalf("the first %d bytes: %v", i, err)
		}
		Decode(reseal(bad)) // must not panic
	}
	r := b.Clone()
	r.changed = false
	made, err := r.Ring()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(made.Encode()); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "ring file") {
		t.Errorf("a ring file: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, b := range []*Builder{newBuilder(f, DefaultConfig(), nil), sample(f)} {
		data := b.Encode()
		f.Add(data[20 : len(data)-8])
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		data := append([]byte("RFRTBLDR\x00\x01\x00\x00"), binary.BigEndian.AppendUint64(nil, uint64(len(payload)))...)
		data = append(append(data, payload...), make([]byte, 8)...)
		b, err := Decode(reseal(data))
		if err != nil {
			if !errs.Is(err, errs.Corrupt) {
				t.Fatalf("damage is reported as %v", err)
			}
			return
		}
		if !bytes.Equal(b.Encode(), data) {
			t.Fatal("a builder has two files")
		}
		if b.power > 10 {
			return
		}
		b.Report()
		if _, err := b.Rebalance(start); err == nil {
			if err := b.Validate(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
