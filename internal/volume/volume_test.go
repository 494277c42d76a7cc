package volume

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	pvfs "github.com/cockroachdb/pebble/v2/vfs"

	"ringfort/internal/errs"
	"ringfort/internal/vfs"
)

const (
	kept SpaceID = 1
	rows SpaceID = 2
	cnts SpaceID = 3
)

func testConfig(fs vfs.FS) Config {
	return Config{
		Dir: "/vol", FS: fs,
		Spaces:           []Space{{kept, "kept", true}, {rows, "rows", false}, {cnts, "counters", false}},
		MemTableBytes:    256 << 10,
		MaxHeadBytes:     64,
		MetaSegmentBytes: 256 << 10, BulkSegmentBytes: 256 << 10,
		PreallocateBytes: 64 << 10,
	}
}

func open(t testing.TB, cfg Config) *Volume {
	t.Helper()
	v, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func commit(t testing.TB, v *Volume, b *Batch) {
	t.Helper()
	if err := v.Commit(context.Background(), b); err != nil {
		t.Fatal(err)
	}
}

func TestPutGetReopen(t *testing.T) {
	fs := pvfs.NewCrashableMem()
	cfg := testConfig(fs)
	v := open(t, cfg)
	long := bytes.Repeat([]byte("h"), 100)
	tail := bytes.Repeat([]byte("tail"), 500)
	for i := range 100 {
		lane := Lane(i % 2)
		b := v.NewBatch(lane)
		b.Put(kept, fmt.Appendf(nil, "a%d", i), []byte("head"), tail, Ref{})
		b.Put(kept, fmt.Appendf(nil, "b%d", i), long, tail, Ref{})
		b.Put(rows, fmt.Appendf(nil, "c%d", i), []byte("row"), nil, Ref{})
		b.Add(cnts, []byte("n"), 1, int64(i))
		commit(t, v, b)
	}
	val, err := v.Get(kept, []byte("a7"))
	if err != nil {
		t.Fatal(err)
	}
	b := v.NewBatch(Meta)
	b.Delete(kept, []byte("a7"), val.Ref)
	b.DeleteRange(rows, []byte("c5"), []byte("c6"))
	commit(t, v, b)

	check := func(v *Volume) {
		t.Helper()
		for i := range 100 {
			for _, p := range []string{"a", "b"} {
				val, err := v.Get(kept, fmt.Appendf(nil, "%s%d", p, i))
				if p == "a" && i == 7 {
					if !errs.Is(err, errs.NotFound) {
						t.Fatalf("a7 is deleted, got %v", err)
					}
					continue
				}
				if err != nil {
					t.Fatal(p, i, err)
				}
				if want := map[string]string{"a": "head", "b": string(long)}[p]; string(val.Head) != want {
					t.Fatalf("%s%d: head %q", p, i, val.Head)
				}
				got, err := v.ReadTail(val, 0, val.TailLen, nil)
				if err != nil || !bytes.Equal(got, tail) {
					t.Fatal("tail", err)
				}
				got, err = v.ReadTail(val, 3, 10, []byte("x"))
				if err != nil || string(got) != "x"+string(tail[3:13]) {
					t.Fatal("part of tail", err)
				}
			}
		}
		sum, err := v.Counters(cnts, []byte("n"))
		if err != nil || len(sum) != 2 || sum[0] != 100 || sum[1] != 4950 {
			t.Fatal(sum, err)
		}
		it, err := v.NewIter(rows, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for ok := it.First(); ok; ok = it.Next() {
			n++
		}
		if err := it.Close(); err != nil || n != 89 {
			t.Fatal(n, err)
		}
	}
	check(v)
	crashed := fs.CrashClone(pvfs.CrashCloneCfg{})
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = open(t, cfg)
	check(v)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.FS = crashed
	v = open(t, cfg)
	check(v)
	if _, gen, n := v.Identity(); gen != 2 || n < 101 {
		t.Fatal(gen, n)
	}
	if f := v.Findings(); len(f) != 0 {
		t.Fatal(f)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}
