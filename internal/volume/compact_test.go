package volume

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ringfort/internal/errs"
	"ringfort/internal/vfs/faultfs"
)

// fill puts n entries of size bytes, and then one of another key so that their
// segments are sealed.
func fill(t *testing.T, v *Volume, lane Lane, n, size int) []Value {
	t.Helper()
	vals := make([]Value, n)
	for i := range n {
		key := fmt.Sprintf("%s%04d", lane, i)
		mustPut(t, v, lane, key, "head", bytes.Repeat([]byte{byte(i)}, size))
		var err error
		if vals[i], err = v.Get(kept, []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	return vals
}

func remove(t *testing.T, v *Volume, lane Lane, i int, val Value) {
	t.Helper()
	b := v.NewBatch(Meta)
	b.Delete(kept, fmt.Appendf(nil, "%s%04d", lane, i), val.Ref)
	commit(t, v, b)
}

// compactAll compacts until there is nothing to do, and flushes so that it can be
// freed.
func compactAll(t *testing.T, v *Volume) {
	t.Helper()
	for did := true; did; {
		var err error
		if did, err = v.CompactOnce(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.db.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := v.noteFlushed(); err != nil {
		t.Fatal(err)
	}
	if _, err := v.CompactOnce(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// Entries that compaction has moved are read through Values from before, and the
// space of the dead ones comes back.
func TestCompaction(t *testing.T) {
	for _, lane := range []Lane{Meta, Bulk} {
		t.Run(lane.String(), func(t *testing.T) {
			v, _, _, cfg := faulty(t, func(c *Config) { c.DisableCompaction = true })
			vals := fill(t, v, lane, 200, 4000)
			before := v.Stats()
			for i := range vals {
				if i%4 != 0 {
					remove(t, v, lane, i, vals[i])
				}
			}
			compactAll(t, v)
			after := v.Stats()
			if after.SegmentBytes[lane] > before.SegmentBytes[lane]/2 || after.MovedBytes == 0 {
				t.Fatalf("from %d to %d bytes, %d moved", before.SegmentBytes[lane], after.SegmentBytes[lane], after.MovedBytes)
			}
			if v.segs.get(vals[0].Ref.Segment) != nil {
				t.Fatal("the first segment is still there")
			}
			for i := 0; i < len(vals); i += 4 {
				got, err := v.ReadTail(vals[i], 0, 4000, nil)
				if err != nil || !bytes.Equal(got, bytes.Repeat([]byte{byte(i)}, 4000)) {
					t.Fatal(i, err)
				}
			}
			_, err := v.ReadTail(vals[1], 0, 4000, nil)
			wantKind(t, err, errs.NotFound)
			if err := v.checkCounts(); err != nil {
				t.Fatal(err)
			}
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
			if err := Rebuild(context.Background(), cfg); err != nil {
				t.Fatal(err)
			}
			v = open(t, cfg)
			for i := range vals {
				ok, err := v.Has(kept, fmt.Appendf(nil, "%s%04d", lane, i))
				if err != nil || ok != (i%4 == 0) {
					t.Fatal("after rebuild", i, ok, err)
				}
			}
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A Delete stays in the log until every older copy of its entry is gone, whatever
// is compacted in which order; then it goes too.
func TestTombs(t *testing.T) {
	v, _, _, cfg := faulty(t, func(c *Config) { c.DisableCompaction = true })
	put := func(head string) Ref {
		old, err := v.Get(kept, []byte("key"))
		if err != nil && !errs.Is(err, errs.NotFound) {
			t.Fatal(err)
		}
		b := v.NewBatch(Meta)
		b.Put(kept, []byte("key"), []byte(head), nil, old.Ref)
		commit(t, v, b)
		val, err := v.Get(kept, []byte("key"))
		if err != nil {
			t.Fatal(err)
		}
		return val.Ref
	}
	roll := func() *segment {
		l := v.lanes[Meta]
		s := l.seg
		for l.seg == s {
			b := v.NewBatch(Meta) // rows without a tail: nothing that compaction must keep
			b.Put(rows, []byte("x"), bytes.Repeat([]byte("y"), 60), nil, Ref{})
			commit(t, v, b)
		}
		return s
	}
	first := put("one")
	s1 := roll()
	second := put("two")
	if second.first != first.Segment {
		t.Fatal("the oldest copy is forgotten", second)
	}
	s2 := roll()
	b := v.NewBatch(Meta)
	b.Delete(kept, []byte("key"), second)
	commit(t, v, b)
	s3 := roll()
	tombs := func() (n int64) {
		v.applyMu.Lock()
		defer v.applyMu.Unlock()
		for _, s := range v.segs.of(Meta) {
			n += s.tombs
		}
		return n
	}
	compact := func(s *segment) {
		v.bg.compactMu.Lock()
		if err := v.rewrite(context.Background(), s); err != nil {
			t.Fatal(err)
		}
		v.bg.compactMu.Unlock()
		if err := v.db.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := v.noteFlushed(); err != nil {
			t.Fatal(err)
		}
		v.bg.compactMu.Lock()
		defer v.bg.compactMu.Unlock()
		if err := v.reap(); err != nil {
			t.Fatal(err)
		}
		if v.segs.get(s.id) != nil {
			t.Fatal("not freed")
		}
	}
	compact(s2) // the newer copy goes
	compact(s3) // the Delete must stay: "one" is still in s1
	if tombs() == 0 {
		t.Fatal("the Delete is gone before the copy")
	}
	rebuilt := func() {
		t.Helper()
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		if err := Rebuild(context.Background(), cfg); err != nil {
			t.Fatal(err)
		}
		v = open(t, cfg)
		if ok, err := v.Has(kept, []byte("key")); ok || err != nil {
			t.Fatal("a deleted entry is back", err)
		}
	}
	rebuilt()
	s1 = v.segs.get(s1.id)
	compact(s1)
	if s := v.lanes[Meta].seg; s != nil {
		roll()
	}
	for _, s := range v.segs.of(Meta) {
		if uint32(s.id) != v.lanes[Meta].active.Load() {
			compact(s)
		}
	}
	if n := tombs(); n != 0 {
		t.Fatalf("%d bytes of deletes are kept for nothing", n)
	}
	rebuilt()
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}

// A Delete that is carried on is of the copies up to the one that it named: what
// was put in Bulk again behind that, even in the same segment, stays.
func TestTombsSpareWhatCameAfter(t *testing.T) {
	v, _, _, cfg := faulty(t, func(c *Config) { c.DisableCompaction = true })
	put := func(tail string) Ref {
		b := v.NewBatch(Bulk)
		b.Put(kept, []byte("key"), []byte("head"), []byte(tail), Ref{})
		commit(t, v, b)
		val, err := v.Get(kept, []byte("key"))
		if err != nil {
			t.Fatal(err)
		}
		return val.Ref
	}
	first := put("one")
	b := v.NewBatch(Meta)
	b.Delete(kept, []byte("key"), first)
	commit(t, v, b)
	if second := put("two"); second.Segment != first.Segment || !second.behind(first) {
		t.Fatal("the test needs both in a segment", first, second)
	}
	deletes := v.lanes[Meta].seg
	fill(t, v, Meta, 100, 4000)
	v.bg.compactMu.Lock()
	err := v.rewrite(context.Background(), deletes)
	v.bg.compactMu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	n := int64(0)
	for _, s := range v.segs.of(Meta) {
		if s != deletes {
			n += s.tombs
		}
	}
	if n == 0 {
		t.Fatal("the Delete was not carried on, although a copy is in the log")
	}
	for range 2 { // Close frees the segment, so that the second time the tomb is all there is
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		if err := Rebuild(context.Background(), cfg); err != nil {
			t.Fatal(err)
		}
		v = open(t, cfg)
		val, err := v.Get(kept, []byte("key"))
		if err != nil {
			t.Fatal(err)
		}
		if tail, err := v.ReadTail(val, 0, val.TailLen, nil); string(tail) != "two" || err != nil {
			t.Fatalf("%q %v", tail, err)
		}
		if _, err := v.CompactOnce(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}

// A key may change lanes only through a Delete: copies that a Delete is of must all
// be in one lane.
func TestLanesOfAKey(t *testing.T) {
	v, _, _, _ := faulty(t, nil)
	defer v.Close()
	for _, lane := range []Lane{Meta, Bulk} {
		mustPut(t, v, lane, "key", "head", nil)
		val, err := v.Get(kept, []byte("key"))
		if err != nil {
			t.Fatal(err)
		}
		b := v.NewBatch(1 - lane)
		b.Put(kept, []byte("key"), []byte("other"), nil, val.Ref)
		wantKind(t, v.Commit(context.Background(), b), errs.Invalid)
		b = v.NewBatch(Meta)
		b.Delete(kept, []byte("key"), val.Ref)
		commit(t, v, b)
	}
}

// While an iterator is open, nothing it may point at is freed.
func TestIteratorHoldsSegments(t *testing.T) {
	v, _, _, _ := faulty(t, func(c *Config) { c.DisableCompaction = true })
	long := bytes.Repeat([]byte("long head "), 20)
	b := v.NewBatch(Meta)
	b.Put(kept, []byte("a"), long, []byte("tail"), Ref{})
	commit(t, v, b)
	it, err := v.NewIter(kept, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	val, err := v.Get(kept, []byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	b = v.NewBatch(Meta)
	b.Delete(kept, []byte("a"), val.Ref)
	commit(t, v, b)
	vals := fill(t, v, Meta, 100, 4000)
	for i := range vals {
		remove(t, v, Meta, i, vals[i])
	}
	compactAll(t, v)
	if v.segs.get(val.Ref.Segment) == nil {
		t.Fatal("freed under an iterator")
	}
	if !it.First() || !bytes.Equal(it.Head(), long) {
		t.Fatal("the snapshot has lost its entry", it.Err())
	}
	got, err := it.Value()
	if err != nil {
		t.Fatal(err)
	}
	if tail, err := v.ReadTail(got, 0, 4, nil); err != nil || string(tail) != "tail" {
		t.Fatal(tail, err)
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	compactAll(t, v)
	if v.segs.get(val.Ref.Segment) != nil {
		t.Fatal("not freed after the iterator was closed")
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}

// Compaction keeps to its rate.
func TestPacer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(1 << 20)
		start := time.Now()
		for range 100 {
			if err := p.wait(context.Background(), 128<<10); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took < 12*time.Second || took > 13*time.Second {
			t.Fatalf("12.5 MiB at 1 MiB/s took %v", took)
		}
		time.Sleep(time.Hour) // idle time is not saved up
		start = time.Now()
		for range 20 {
			if err := p.wait(context.Background(), 128<<10); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took < 2*time.Second {
			t.Fatalf("2.5 MiB at 1 MiB/s took %v after a pause", took)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		wantKind(t, p.wait(ctx, 1<<30), errs.Canceled)
	})
}

// Freed segments are used again, and their former frames are not taken for new ones.
func TestRecycling(t *testing.T) {
	v, _, mem, cfg := faulty(t, func(c *Config) { c.DisableCompaction = true })
	for round := range 5 {
		vals := fill(t, v, Bulk, 150, 4000)
		for i := range vals {
			remove(t, v, Bulk, i, vals[i])
		}
		compactAll(t, v)
		if round > 0 && len(v.free[Bulk]) == 0 {
			t.Fatal("nothing was kept for reuse")
		}
	}
	mustPut(t, v, Bulk, "last", "head", make([]byte, 300))
	names, err := mem.List("/vol/log")
	if err != nil || len(names) > 12 {
		t.Fatal(names, err)
	}
	cfg.FS = mem.Crash(nil)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = open(t, cfg)
	mustHave(t, v, "last", "head")
	if f := v.Findings(); len(f) > 0 {
		t.Fatal(f)
	}
	if err := v.Verify(context.Background(), func(f Finding) { t.Error(f) }); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}

// retire fills segments of a lane and empties them, so that all that is left is for
// the next CompactOnce to free their files.
func retire(t *testing.T, v *Volume, lane Lane) {
	t.Helper()
	vals := fill(t, v, lane, 150, 4000)
	for i := range vals {
		remove(t, v, lane, i, vals[i])
	}
	for _, s := range v.sealed(lane) {
		if err := v.rewrite(context.Background(), s); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.db.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := v.noteFlushed(); err != nil {
		t.Fatal(err)
	}
}

// mustBeSound opens what a power cut has left, and finds no damage.
func mustBeSound(t *testing.T, mem *faultfs.Mem, cfg Config) {
	t.Helper()
	cfg.FS = mem.Crash(nil)
	v := open(t, cfg)
	if f := v.Findings(); len(f) > 0 {
		t.Error(f)
	}
	if err := v.Verify(context.Background(), func(f Finding) { t.Error(f) }); err != nil {
		t.Error(err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}

// A freed segment whose removal is not durable yet may come back with a power cut:
// its file is not overwritten before.
func TestRecyclingWaitsForRemoval(t *testing.T) {
	v, fs, mem, cfg := faulty(t, func(c *Config) { c.DisableCompaction = true })
	retire(t, v, Bulk)
	release := fs.Hang(faultfs.IsKind("/vol/log", faultfs.SyncDir))
	reaped, rolled := make(chan error), make(chan error)
	go func() {
		_, err := v.CompactOnce(context.Background())
		reaped <- err
	}()
	wait := func(n int) {
		for fs.Hanging() < n {
			time.Sleep(time.Millisecond)
		}
	}
	wait(1)
	go func() {
		var err error
		for i := 0; i < 100 && err == nil; i++ { // enough to begin a segment
			err = put(v, Bulk, fmt.Sprintf("more%d", i), "head", make([]byte, 4000))
		}
		rolled <- err
	}()
	wait(2)
	mustBeSound(t, mem, cfg)
	release()
	for _, c := range []chan error{reaped, rolled} {
		if err := <-c; err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}

// The same when the process dies before the removal is durable, and the power goes
// during the opening that follows.
func TestRecyclingAfterKill(t *testing.T) {
	for n := 1; n <= 2; n++ {
		v, fs, mem, cfg := faulty(t, func(c *Config) { c.DisableCompaction = true })
		retire(t, v, Meta)
		fs.Fail(faultfs.EIO, faultfs.IsKind("/vol/log", faultfs.SyncDir))
		if _, err := v.CompactOnce(context.Background()); err == nil {
			t.Fatal("nothing was freed")
		}
		v.Close()
		fs = faultfs.Wrap(mem)
		cfg.FS = fs
		seen := 0
		isDir := faultfs.IsKind("/vol/log", faultfs.SyncDir)
		release := fs.Hang(func(o faultfs.Op) bool {
			if isDir(o) {
				seen++
			}
			return isDir(o) && seen == n
		})
		opened := make(chan error, 1)
		go func() {
			v, err := Open(context.Background(), cfg)
			if err == nil {
				err = v.Close()
			}
			opened <- err
		}()
		for fs.Hanging() == 0 && len(opened) == 0 {
			time.Sleep(time.Millisecond)
		}
		mustBeSound(t, mem, cfg)
		release()
		if err := <-opened; err != nil {
			t.Fatal(err)
		}
	}
}

// A compaction that ends early has moved entries already: changes that name where
// they were before still find them.
func TestRefsAfterCompactionEndsEarly(t *testing.T) {
	v, _, _, _ := faulty(t, func(c *Config) { c.DisableCompaction = true })
	b := v.NewBatch(Bulk)
	for i := range 12 {
		b.Put(kept, fmt.Appendf(nil, "k%d", i), []byte("head"), make([]byte, 4000), Ref{})
	}
	commit(t, v, b)
	var vals []Value
	for i := range 12 {
		val, err := v.Get(kept, fmt.Appendf(nil, "k%d", i))
		if err != nil {
			t.Fatal(err)
		}
		vals = append(vals, val)
	}
	fill(t, v, Bulk, 60, 4000) // until the first segment is sealed
	s := v.segs.get(vals[0].Ref.Segment)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	wantKind(t, v.rewrite(ctx, s), errs.Canceled)
	if val, err := v.Get(kept, []byte("k0")); err != nil || val.Ref.same(vals[0].Ref) {
		t.Fatal("nothing was moved", err)
	}
	if !slices.Contains(v.sealed(Bulk), s) {
		t.Fatal("it must be compacted another time")
	}
	b = v.NewBatch(Meta)
	for i := range vals {
		b.Delete(kept, fmt.Appendf(nil, "k%d", i), vals[i].Ref)
	}
	commit(t, v, b)
	if err := v.checkCounts(); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}
