package volume

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"

	"ringfort/internal/errs"
	"ringfort/internal/vfs"
	"ringfort/internal/vfs/faultfs"
)

// sampleOps are operations of every kind, encoded and as they should be read.
func sampleOps() ([]byte, []logOp) {
	var b []byte
	var want []logOp
	blob := uint32(0)
	add := func(o logOp, enc func() []byte) {
		o.start = uint32(len(b))
		b = enc()
		o.end = uint32(len(b))
		o.blob = blob
		blob += o.blobLen()
		want = append(want, o)
	}
	for _, o := range []logOp{
		{kind: opPut, space: 1, key: []byte("key"), head: []byte("head"), headLen: 4},
		{kind: opPut, space: 9, key: []byte{}, head: []byte{}, flags: flagTail, tailLen: 70000, tailSum: 1 << 60},
		{kind: opPut, space: 1, key: []byte("k"), flags: flagSpilled | flagTail | flagFirst, first: 77, headLen: 300, headSum: 5, tailLen: 1, tailSum: 6},
		{kind: opMove, space: 200, key: []byte("k2"), head: []byte("h"), headLen: 1, flags: flagFirst, first: 3, from: Ref{Segment: 4, Offset: 4096}},
	} {
		add(o, func() []byte { out, _, _ := appendPut(b, &o); return out })
	}
	for _, o := range []logOp{
		{kind: opDelete, space: 1, key: []byte("gone"), flags: flagNames | flagBulk, first: 2, at: Ref{Segment: 9, Offset: 4096}},
		{kind: opTomb, space: 1, key: []byte("gone"), flags: flagNames, first: 2, at: Ref{Segment: 8, Offset: 1<<32 - 1}},
		{kind: opDelete, space: 2, key: []byte("row")},
	} {
		add(o, func() []byte { out, _ := appendDelete(b, &o); return out })
	}
	for _, o := range []logOp{
		{kind: opDeleteRange, space: 2, key: []byte("a"), head: []byte("b")},
		{kind: opAdd, space: 3, key: []byte("n"), head: appendCounters(nil, []int64{1, -5, 1 << 40})},
	} {
		add(o, func() []byte { out, _, _ := appendPair(b, o.kind, o.space, o.key, o.head); return out })
	}
	for i := range want {
		if want[i].kind != opPut && want[i].kind != opMove {
			want[i].blob = 0
		}
	}
	return b, want
}

func sampleHeader(ops []byte, list []logOp) frameHeader {
	h := frameHeader{lane: Bulk, segment: 5, generation: 6, seq: 7, durable: 6, other: 1 << 40, opsLen: uint32(len(ops)), opCount: uint32(len(list)), opsSum: xxhash.Sum64(ops)}
	for i := range list {
		h.blobLen += list[i].blobLen()
	}
	return h
}

func TestFrameRoundTrip(t *testing.T) {
	ops, want := sampleOps()
	h := sampleHeader(ops, want)
	b := make([]byte, headerSize)
	h.put(b, 99)
	got, ok, err := parseFrameHeader(b, 99)
	if !ok || err != nil || got != h {
		t.Fatalf("%+v, want %+v", got, h)
	}
	if _, ok, _ := parseFrameHeader(b, 98); ok {
		t.Fatal("another volume's frame was accepted")
	}
	list, err := decodeOps(&h, ops, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if !reflect.DeepEqual(list[i], want[i]) {
			t.Errorf("operation %d: %+v\nwant %+v", i, list[i], want[i])
		}
	}
	for i := range b { // every byte of the header is covered
		c := slices.Clone(b)
		c[i] ^= 1
		if _, ok, err := parseFrameHeader(c, 99); ok || err != nil {
			t.Errorf("a flipped bit in header byte %d was not noticed", i)
		}
	}
	for i := range ops {
		c := slices.Clone(ops)
		c[i] ^= 1
		if _, err := decodeOps(&h, c, nil); err == nil {
			t.Errorf("a flipped bit in operation byte %d was not noticed", i)
		}
	}
	info := segmentInfo{lane: Bulk, id: 3, volume: [16]byte{1, 2}, firstSeq: 1 << 50, prev: 2, prevEnd: 1 << 31}
	info.put(b)
	if got, ok, err := parseSegmentInfo(b); !ok || err != nil || got != info {
		t.Fatalf("%+v, want %+v", got, info)
	}
}

func TestSegmentNames(t *testing.T) {
	for _, c := range []struct {
		name string
		lane Lane
		id   SegmentID
		free bool
		ok   bool
	}{
		{"meta-0000002a.seg", Meta, 42, false, true},
		{"bulk-ffffffff.seg", Bulk, 1<<32 - 1, false, true},
		{"free-bulk-00000001.seg", Bulk, 1, true, true},
		{"meta-0000002A.seg", 0, 0, false, false},
		{"meta-00000000.seg", 0, 0, false, false},
		{"meta-2a.seg", 0, 0, false, false},
		{"meta-0000002a.seg.tmp", 0, 0, false, false},
		{"other", 0, 0, false, false},
		{"", 0, 0, false, false},
	} {
		l, id, free, ok := parseSegmentName(c.name)
		if ok != c.ok || ok && (l != c.lane || id != c.id || free != c.free) {
			t.Errorf("%s: %v %d %v %v", c.name, l, id, free, ok)
		}
	}
}

func FuzzFrame(f *testing.F) {
	ops, list := sampleOps()
	h := sampleHeader(ops, list)
	b := make([]byte, headerSize)
	h.put(b, 0)
	f.Add(append(b, ops...))
	f.Add(b[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		parseSegmentInfo(b)
		h, ok, _ := parseFrameHeader(b, 0)
		if !ok {
			// Let the operations be read in spite of it: checksums hide bugs.
			h = frameHeader{}
		}
		var ops []byte
		if len(b) > headerSize {
			ops = b[headerSize:]
		}
		h.opsLen, h.opsSum = uint32(len(ops)), xxhash.Sum64(ops)
		r := opReader{b: ops}
		h.opCount = 0
		for o := (logOp{}); r.next(&o); {
			h.opCount++
		}
		h.blobLen = uint32(r.blob)
		list, err := decodeOps(&h, ops, nil)
		if err != nil {
			return
		}
		// What was read is written back as the same bytes.
		var again []byte
		for i := range list {
			o := &list[i]
			switch o.kind {
			case opPut, opMove:
				again, _, _ = appendPut(again, o)
			case opDelete, opTomb:
				again, _ = appendDelete(again, o)
			default:
				again, _, _ = appendPair(again, o.kind, o.space, o.key, o.head)
			}
		}
		if !bytes.Equal(again, ops) {
			t.Fatalf("%x became %x", ops, again)
		}
	})
}

func FuzzIndexValue(f *testing.F) {
	o := logOp{flags: flagTail, head: []byte("head"), headLen: 4, tailLen: 9, tailSum: 10}
	f.Add(appendIndexValue(nil, &o, Ref{Segment: 1, Offset: 2, Length: 3, first: 1}))
	f.Add(appendCounters([]byte{tagCounters}, []int64{1, 2}))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeIndexValue(b)
		if err == nil && e.counters {
			addCounters(nil, e.head)
		}
		decodePosition(b)
		(&segment{}).decodeCounts(b)
		m := counterMerge{}
		m.MergeNewer(b)
		if _, _, err := m.Finish(true); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzRecover opens a volume whose last segment has been damaged anywhere. It must
// open, or say why not, and never panic.
func FuzzRecover(f *testing.F) {
	f.Add(uint32(4100), []byte{1, 2, 3}, false)
	f.Add(uint32(0), []byte("RFS1"), true)
	f.Fuzz(func(t *testing.T, at uint32, with []byte, bulk bool) {
		mem := faultfs.NewMem()
		fs := faultfs.Wrap(mem)
		cfg := testConfig(fs)
		v := open(t, cfg)
		for i := range 10 {
			mustPut(t, v, Lane(i%2), fmt.Sprintf("k%d", i), "head", make([]byte, 50*i))
		}
		lane := Meta
		if bulk {
			lane = Bulk
		}
		path := v.lanes[lane].seg.path
		fs.Cut()
		v.Close()
		mem = mem.Crash(nil)
		mem.Corrupt(path, func(b []byte) { copy(b[int(at)%len(b):], with) })
		cfg.FS = mem
		v, err := Open(context.Background(), cfg)
		if err != nil {
			return
		}
		if err := v.Verify(context.Background(), func(Finding) {}); err != nil {
			t.Fatal(err)
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// Adding vectors is the same in any grouping, as pebble's merging needs.
func TestCounterMerge(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var parts [][]byte
		var want []int64
		for range 1 + rng.IntN(8) {
			v := make([]int64, rng.IntN(4))
			for i := range v {
				v[i] = int64(rng.Uint64()) >> rng.IntN(64)
				if i == len(want) {
					want = append(want, 0)
				}
				want[i] += v[i]
			}
			parts = append(parts, appendCounters([]byte{tagCounters}, v))
		}
		for len(parts) > 1 {
			i := rng.IntN(len(parts) - 1)
			m, _ := counterMerger().Merge(nil, parts[i])
			m.MergeNewer(parts[i+1])
			sum, _, _ := m.Finish(false)
			parts = slices.Replace(parts, i, i+2, sum)
		}
		got, ok := addCounters(nil, parts[0][1:])
		if !ok || !slices.Equal(got, want) {
			t.Fatal(got, want)
		}
	}
}

func TestMisuse(t *testing.T) {
	v, _, _, _ := faulty(t, nil)
	defer v.Close()
	for name, c := range map[string]struct {
		lane Lane
		kind errs.Kind
		f    func(*Batch)
	}{
		"unknown space":        {Meta, errs.Invalid, func(b *Batch) { b.Put(77, nil, nil, nil, Ref{}) }},
		"own space":            {Meta, errs.Invalid, func(b *Batch) { b.Delete(ownSpace, []byte("g"), Ref{}) }},
		"range of kept":        {Meta, errs.Invalid, func(b *Batch) { b.DeleteRange(kept, nil, nil) }},
		"delete in bulk":       {Bulk, errs.Invalid, func(b *Batch) { b.Delete(rows, nil, Ref{}) }},
		"delete range in bulk": {Bulk, errs.Invalid, func(b *Batch) { b.DeleteRange(rows, nil, nil) }},
		"no lane":              {7, errs.Invalid, func(b *Batch) { b.Put(rows, nil, nil, nil, Ref{}) }},
		"long key":             {Meta, errs.Invalid, func(b *Batch) { b.Put(rows, make([]byte, maxKeyBytes+1), nil, nil, Ref{}) }},
		"large":                {Meta, errs.TooLarge, func(b *Batch) { b.Put(rows, nil, nil, make([]byte, 100<<10), Ref{}) }},
	} {
		b := v.NewBatch(c.lane)
		c.f(b)
		if err := v.Commit(context.Background(), b); !errs.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	val, err := v.Get(kept, []byte("none"))
	wantKind(t, err, errs.NotFound)
	_, err = v.ReadTail(val, 0, 1, nil)
	wantKind(t, err, errs.BadRange)
}

// The sample of version 1 in testdata was written by this package when the format
// was settled. It must open for ever.
func TestGoldenVolume(t *testing.T) {
	const dir = "testdata/v1"
	cfg := Config{
		FS: vfs.Default(), Spaces: []Space{{kept, "kept", true}, {rows, "rows", false}, {cnts, "counters", false}},
		MetaSegmentBytes: 64 << 10, BulkSegmentBytes: 64 << 10, PreallocateBytes: 4096,
		MaxHeadBytes: 64, DisableZeroAhead: true, DisableCompaction: true,
	}
	if *rewrite {
		writeGolden(t, cfg, dir)
	}
	for _, rebuilt := range []bool{false, true} {
		cfg.Dir = filepath.Join(t.TempDir(), "vol") // opening writes
		if err := os.CopyFS(cfg.Dir, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		if rebuilt {
			if err := Rebuild(context.Background(), cfg); err != nil {
				t.Fatal(err)
			}
		}
		v := open(t, cfg)
		mustHave(t, v, "small", "one")
		mustHave(t, v, "spilled", string(bytes.Repeat([]byte("long "), 20)))
		mustHave(t, v, "fragment", "bulk")
		for _, k := range []string{"small", "fragment"} {
			val, err := v.Get(kept, []byte(k))
			if err != nil {
				t.Fatal(err)
			}
			if tail, err := v.ReadTail(val, 0, val.TailLen, nil); err != nil || string(tail) != "the tail of "+k {
				t.Fatalf("%s: %q %v", k, tail, err)
			}
		}
		if ok, err := v.Has(kept, []byte("deleted")); ok || err != nil {
			t.Fatal(ok, err)
		}
		if !rebuilt {
			sum, err := v.Counters(cnts, []byte("n"))
			if err != nil || !slices.Equal(sum, []int64{3, -1}) {
				t.Fatal(sum, err)
			}
			if ok, err := v.Has(rows, []byte("row")); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}
		if id, gen, _ := v.Identity(); gen != 3 || id == [16]byte{} {
			t.Fatal(id, gen)
		}
		if err := v.Verify(context.Background(), func(f Finding) { t.Error(f) }); err != nil || len(v.Findings()) > 0 {
			t.Fatal(err, v.Findings())
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// writeGolden makes the sample: what a crash leaves, with a part of it flushed.
func writeGolden(t *testing.T, cfg Config, dir string) {
	t.Helper()
	cfg.Dir = filepath.Join(t.TempDir(), "vol")
	v := open(t, cfg)
	mustPut(t, v, Meta, "small", "one", []byte("the tail of small"))
	mustPut(t, v, Meta, "deleted", "x", []byte("gone"))
	mustPut(t, v, Meta, "spilled", string(bytes.Repeat([]byte("long "), 20)), nil)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = open(t, cfg)
	mustPut(t, v, Bulk, "fragment", "bulk", []byte("the tail of fragment"))
	val, err := v.Get(kept, []byte("deleted"))
	if err != nil {
		t.Fatal(err)
	}
	b := v.NewBatch(Meta)
	b.Delete(kept, []byte("deleted"), val.Ref)
	b.Put(rows, []byte("row"), []byte("a row"), nil, Ref{})
	b.Put(rows, []byte("row2"), []byte("a row"), nil, Ref{})
	b.DeleteRange(rows, []byte("row2"), nil)
	b.Add(cnts, []byte("n"), 3, -1)
	commit(t, v, b)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(cfg.Dir)); err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(dir, "LOCK"))
	os.Remove(filepath.Join(dir, "index", "LOCK"))
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}
