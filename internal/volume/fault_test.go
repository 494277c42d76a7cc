package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pvfs "github.com/cockroachdb/pebble/v2/vfs"

	"ringfort/internal/errs"
	"ringfort/internal/vfs/faultfs"
)

// faulty opens a volume on a fresh disk with faults.
func faulty(t *testing.T, change func(*Config)) (*Volume, *faultfs.FS, *faultfs.Mem, Config) {
	t.Helper()
	mem := faultfs.NewMem()
	fs := faultfs.Wrap(mem)
	cfg := testConfig(fs)
	if change != nil {
		change(&cfg)
	}
	return open(t, cfg), fs, mem, cfg
}

func put(v *Volume, lane Lane, key, head string, tail []byte) error {
	b := v.NewBatch(lane)
	b.Put(kept, []byte(key), []byte(head), tail, Ref{})
	return v.Commit(context.Background(), b)
}

func mustPut(t *testing.T, v *Volume, lane Lane, key, head string, tail []byte) {
	t.Helper()
	if err := put(v, lane, key, head, tail); err != nil {
		t.Fatal(err)
	}
}

func mustHave(t *testing.T, v *Volume, key, head string) {
	t.Helper()
	val, err := v.Get(kept, []byte(key))
	if err != nil || string(val.Head) != head {
		t.Fatalf("%s: %q, %v; want %q", key, val.Head, err, head)
	}
}

func wantKind(t *testing.T, err error, k errs.Kind) {
	t.Helper()
	if !errs.Is(err, k) {
		t.Fatalf("got %v (%v), want %v", err, errs.KindOf(err), k)
	}
}

// A failed write or sync of the log fails the volume for good; reads go on, and
// reopening finds what was acknowledged.
func TestLogErrorFailsTheVolume(t *testing.T) {
	for _, kind := range []faultfs.Kind{faultfs.Write, faultfs.Sync} {
		t.Run(string(kind), func(t *testing.T) {
			failed := make(chan error, 10)
			v, fs, mem, cfg := faulty(t, func(c *Config) {
				c.OnFail = func(err error) { failed <- err }
				c.DisableZeroAhead = true
			})
			mustPut(t, v, Meta, "a", "1", []byte("tail"))
			undo := fs.FailNth(faultfs.EIO, 1, faultfs.IsKind("/log/meta", kind))
			wantKind(t, put(v, Meta, "b", "2", nil), errs.Unavailable)
			undo()
			for _, lane := range []Lane{Meta, Bulk} {
				wantKind(t, put(v, lane, "c", "3", nil), errs.Unavailable)
			}
			mustHave(t, v, "a", "1")
			if err := <-failed; !errors.Is(err, faultfs.EIO) {
				t.Fatal(err)
			}
			if len(failed) > 0 {
				t.Fatal("OnFail was called twice")
			}
			if err := v.Close(); err == nil {
				t.Fatal("Close of a failed volume must say so")
			}
			cfg.FS = mem.Crash(nil)
			v = open(t, cfg)
			mustHave(t, v, "a", "1")
			if ok, _ := v.Has(kept, []byte("c")); ok {
				t.Fatal("what was refused is there")
			}
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// An I/O error of the index's files is the end of the volume too, and of nothing else.
func TestIndexErrorFailsTheVolume(t *testing.T) {
	for _, kind := range []faultfs.Kind{faultfs.Create, faultfs.Write, faultfs.Sync, faultfs.SyncDir} {
		t.Run(string(kind), func(t *testing.T) {
			failed := make(chan error, 10)
			v, fs, mem, cfg := faulty(t, func(c *Config) {
				c.OnFail = func(err error) { failed <- err }
				c.MemTableBytes = 64 << 10
			})
			fs.Fail(faultfs.EIO, faultfs.IsKind("/index", kind))
			acked := 0
			for i := range 20000 {
				if err := put(v, Meta, fmt.Sprintf("k%05d", i), "head", nil); err != nil {
					wantKind(t, err, errs.Unavailable)
					break
				}
				acked++
			}
			if err := <-failed; !errors.Is(err, faultfs.EIO) {
				t.Fatal(err)
			}
			for i := range acked {
				mustHave(t, v, fmt.Sprintf("k%05d", i), "head")
			}
			v.Close()
			cfg.FS = mem.Crash(nil)
			v = open(t, cfg)
			for i := range acked {
				mustHave(t, v, fmt.Sprintf("k%05d", i), "head")
			}
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Pebble takes a manifest that cannot be written for the end of the process. With
// compactions under way the volume fails alone, and what it had acknowledged is found
// by the next opening.
func TestManifestErrorFailsTheVolume(t *testing.T) {
	for _, kind := range []faultfs.Kind{faultfs.Create, faultfs.Write, faultfs.Sync} {
		for _, cause := range []error{faultfs.EIO, faultfs.ENOSPC} {
			if kind == faultfs.Create && cause == faultfs.ENOSPC {
				continue // a table that finds no room waits for some
			}
			t.Run(fmt.Sprint(kind, " ", cause), func(t *testing.T) {
				failed := make(chan error, 1)
				v, fs, mem, cfg := faulty(t, func(c *Config) {
					c.OnFail = func(err error) { failed <- err }
					c.MemTableBytes = 64 << 10
				})
				acked := 0
				fill := func(n int) (err error) {
					for ; n > 0 && err == nil; n-- {
						if err = put(v, Meta, fmt.Sprintf("k%05d", acked*7919%100000), "head", nil); err == nil {
							acked++
						}
					}
					return err
				}
				if err := fill(3000); err != nil { // so that there are tables to compact
					t.Fatal(err)
				}
				part := "/MANIFEST-"
				if kind == faultfs.Create {
					part = "/index/" // a new manifest, its marker, or a table
				}
				fs.Fail(cause, faultfs.IsKind(part, kind))
				err := fill(50000)
				wantKind(t, err, errs.Unavailable)
				if err := <-failed; !errors.Is(err, cause) {
					t.Fatal(err)
				}
				v.Close()
				cfg.FS = mem.Crash(nil)
				v = open(t, cfg)
				for i := range acked {
					mustHave(t, v, fmt.Sprintf("k%05d", i*7919%100000), "head")
				}
				if err := v.Close(); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// A sync that hangs holds up nobody longer than their context, and the other lane
// and readers not at all.
func TestHungSync(t *testing.T) {
	v, fs, _, _ := faulty(t, func(c *Config) { c.MaxQueueBytes = 4096 })
	mustPut(t, v, Meta, "a", "1", nil)
	release := fs.Hang(faultfs.IsKind("/log/meta", faultfs.Sync))
	ctx, cancel := context.WithCancel(context.Background())
	inFlight := make(chan error)
	go func() {
		b := v.NewBatch(Meta)
		b.Put(kept, []byte("b"), []byte("2"), nil, Ref{})
		inFlight <- v.Commit(ctx, b)
	}()
	for fs.Hanging() == 0 {
		time.Sleep(time.Millisecond)
	}
	queued := make(chan error)
	go func() {
		b := v.NewBatch(Meta)
		b.Put(kept, []byte("c"), bytes.Repeat([]byte("x"), 60), make([]byte, 5000), Ref{})
		queued <- v.Commit(ctx, b)
	}()
	for v.lanes[Meta].queued() == 0 {
		time.Sleep(time.Millisecond)
	}
	blocked := make(chan error) // the queue is full
	go func() {
		b := v.NewBatch(Meta)
		b.Put(kept, []byte("d"), []byte("4"), nil, Ref{})
		blocked <- v.Commit(ctx, b)
	}()
	mustHave(t, v, "a", "1")
	mustPut(t, v, Bulk, "e", "5", nil)
	if ok, err := v.Has(kept, []byte("b")); ok || err != nil {
		t.Fatal("visible before it is durable", err)
	}
	cancel()
	wantKind(t, <-inFlight, errs.OutcomeUnknown)
	wantKind(t, <-queued, errs.Canceled)
	wantKind(t, <-blocked, errs.Canceled)
	release()
	mustPut(t, v, Meta, "f", "6", nil)
	mustHave(t, v, "b", "2")
	for _, k := range []string{"c", "d"} {
		if ok, _ := v.Has(kept, []byte(k)); ok {
			t.Fatalf("%s was canceled before it was written, and is there", k)
		}
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}

func (l *lane) queued() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue)
}

// Within its reserve the disk takes deletes and urgent batches, and nothing else.
func TestReserve(t *testing.T) {
	mem := faultfs.NewMem()
	mem.SetUsage(pvfs.DiskUsage{AvailBytes: 100 << 20, TotalBytes: 1 << 30})
	cfg := testConfig(mem)
	cfg.ReserveBytes = 10 << 20
	v := open(t, cfg)
	mustPut(t, v, Meta, "a", "1", nil)
	mem.SetUsage(pvfs.DiskUsage{AvailBytes: 9 << 20, TotalBytes: 1 << 30})
	v.space.asked.Store(0)
	wantKind(t, put(v, Meta, "b", "2", nil), errs.Full)
	b := v.NewBatch(Meta)
	b.Put(kept, []byte("c"), []byte("3"), nil, Ref{})
	b.Urgent()
	commit(t, v, b)
	val, err := v.Get(kept, []byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	b = v.NewBatch(Meta)
	b.Delete(kept, []byte("a"), val.Ref)
	commit(t, v, b)
	mem.SetUsage(pvfs.DiskUsage{AvailBytes: 90 << 20, TotalBytes: 1 << 30})
	v.space.asked.Store(0)
	mustPut(t, v, Meta, "b", "2", nil)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}

// A disk that is full all the same refuses, forgets what it refused, and goes on
// when there is room.
func TestNoSpace(t *testing.T) {
	for _, kind := range []faultfs.Kind{faultfs.Write, faultfs.Preallocate, faultfs.Create} {
		t.Run(string(kind), func(t *testing.T) {
			v, fs, mem, cfg := faulty(t, func(c *Config) { c.PreallocateBytes = 4096; c.DisableZeroAhead = true })
			mustPut(t, v, Meta, "a", "1", nil)
			undo := fs.Fail(faultfs.ENOSPC, func(o faultfs.Op) bool {
				// A small write still fits: that is how the refused one is taken back.
				return o.Kind == kind && strings.Contains(o.Path, "/log/") && (kind != faultfs.Write || o.Len > headerSize)
			})
			full := 0
			for i := range 60 { // enough to need a new segment
				if err := put(v, Meta, fmt.Sprintf("b%d", i), "2", make([]byte, 6000)); err != nil {
					wantKind(t, err, errs.Full)
					full++
				}
			}
			if full == 0 {
				t.Fatal("nothing was refused")
			}
			undo()
			mustPut(t, v, Meta, "c", "3", nil)
			cfg.FS = mem.Crash(nil)
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
			v = open(t, cfg)
			mustHave(t, v, "a", "1")
			mustHave(t, v, "c", "3")
			if kind == faultfs.Write {
				if ok, _ := v.Has(kept, []byte("b0")); ok {
					t.Fatal("what was refused is there")
				}
			}
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// After ENOSPC on a write, a crash must not bring back what was refused.
func TestRefusedIsForgotten(t *testing.T) {
	v, fs, mem, cfg := faulty(t, nil)
	mustPut(t, v, Meta, "a", "1", nil)
	undo := fs.Fail(faultfs.ENOSPC, func(o faultfs.Op) bool {
		if o.Kind != faultfs.Write || !strings.Contains(o.Path, "/log/meta") || o.Len == headerSize {
			return false
		}
		return true
	})
	wantKind(t, put(v, Meta, "b", "2", nil), errs.Full)
	undo()
	fs.Cut()
	v.Close()
	cfg.FS = mem.Crash(nil)
	v = open(t, cfg)
	defer v.Close()
	mustHave(t, v, "a", "1")
	if ok, _ := v.Has(kept, []byte("b")); ok {
		t.Fatal("what was refused is there")
	}
}

func TestSecondOpener(t *testing.T) {
	v, _, _, cfg := faulty(t, nil)
	_, err := Open(context.Background(), cfg)
	wantKind(t, err, errs.Unavailable)
	wantKind(t, Rebuild(context.Background(), cfg), errs.Unavailable)
	mustPut(t, v, Meta, "a", "1", nil)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}

// flip changes one bit of a file.
func flip(t *testing.T, mem *faultfs.Mem, name string, at int64) {
	t.Helper()
	if !mem.Corrupt(name, func(b []byte) { b[at] ^= 4 }) {
		t.Fatalf("no file %s", name)
	}
}

// A rotten tail is noticed by its reader, by Verify and by compaction, which leaves
// the segment alone; everything else can be read.
func TestRottenTail(t *testing.T) {
	var found atomic.Int64
	v, _, mem, _ := faulty(t, func(c *Config) { c.DisableCompaction = true; c.OnFinding = func(Finding) { found.Add(1) } })
	for i := range 100 {
		mustPut(t, v, Meta, fmt.Sprintf("k%d", i), "head", bytes.Repeat([]byte{byte(i)}, 4000))
	}
	val, err := v.Get(kept, []byte("k7"))
	if err != nil {
		t.Fatal(err)
	}
	s := v.segs.get(val.Ref.Segment)
	flip(t, mem, s.path, int64(val.Ref.Offset)+100)
	_, err = v.ReadTail(val, 0, val.TailLen, nil)
	wantKind(t, err, errs.Corrupt)
	if found.Load() != 1 {
		t.Fatal("not reported")
	}
	var got []Finding
	if err := v.Verify(context.Background(), func(f Finding) { got = append(got, f) }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].Kind != EntryCorrupt || string(got[0].Key) != "k7" {
		t.Fatal(got)
	}
	for i := range 100 {
		if i%2 == 0 {
			b := v.NewBatch(Meta)
			val, err := v.Get(kept, fmt.Appendf(nil, "k%d", i))
			if err != nil {
				t.Fatal(err)
			}
			b.Delete(kept, fmt.Appendf(nil, "k%d", i), val.Ref)
			commit(t, v, b)
		}
	}
	if err := v.rewrite(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	if !v.bg.damaged[s.id] || v.segs.get(s.id) == nil {
		t.Fatal("a segment with a rotten entry must stay")
	}
	for i := 1; i < 100; i += 2 {
		val, err := v.Get(kept, fmt.Appendf(nil, "k%d", i))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = v.ReadTail(val, 0, val.TailLen, nil); (err != nil) != (i == 7) {
			t.Fatal(i, err)
		}
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}

// A rotten frame whose entries the index has whole is written again from there, and
// its segment goes.
func TestSalvage(t *testing.T) {
	v, _, mem, cfg := faulty(t, func(c *Config) { c.DisableCompaction = true })
	at := v.lanes[Meta].off
	s := v.lanes[Meta].seg
	b := v.NewBatch(Meta)
	for i := range 10 {
		b.Put(kept, fmt.Appendf(nil, "small%d", i), []byte("in the index"), nil, Ref{})
	}
	commit(t, v, b)
	vals := fill(t, v, Meta, 100, 4000)
	for i := range vals {
		remove(t, v, Meta, i, vals[i])
	}
	flip(t, mem, s.path, at+headerSize+3)
	compactAll(t, v)
	if v.segs.get(s.id) != nil {
		t.Fatal("the segment is still there")
	}
	if err := v.Verify(context.Background(), func(f Finding) { t.Error(f) }); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Rebuild(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	v = open(t, cfg)
	for i := range 10 {
		mustHave(t, v, fmt.Sprintf("small%d", i), "in the index")
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}

// Rot in the part of the log that must be replayed is not taken for a torn tail:
// what is behind it is recovered, and what was lost is on record.
func TestRotInTheReplayedLog(t *testing.T) {
	v, fs, mem, cfg := faulty(t, func(c *Config) { c.MemTableBytes = 8 << 20 })
	var at int64
	var path string
	for i := range 30 {
		if i == 10 {
			at, path = v.lanes[Meta].off, v.lanes[Meta].seg.path
		}
		mustPut(t, v, Meta, fmt.Sprintf("k%d", i), "head", nil)
	}
	fs.Cut()
	v.Close()
	mem = mem.Crash(nil)
	flip(t, mem, path, at+headerSize+5)
	for range 3 { // the finding survives restarts, and is there once
		cfg.FS = mem
		v = open(t, cfg)
		for i := range 30 {
			ok, err := v.Has(kept, fmt.Appendf(nil, "k%d", i))
			if err != nil || ok == (i == 10) {
				t.Fatal(i, ok, err)
			}
		}
		f := v.Findings()
		if len(f) != 1 || f[0].Kind != RangeLost || f[0].From != at || f[0].FirstSeq != 12 {
			t.Fatal(f)
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
	v = open(t, cfg)
	if err := v.ClearFindings(); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = open(t, cfg)
	if f := v.Findings(); len(f) != 0 {
		t.Fatal(f)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}

// The last frame of the log, if bad, is a torn tail and cut without complaint.
func TestTornTail(t *testing.T) {
	v, fs, mem, cfg := faulty(t, nil)
	mustPut(t, v, Meta, "a", "1", nil)
	at, path := v.lanes[Meta].off, v.lanes[Meta].seg.path
	mustPut(t, v, Meta, "b", "2", nil)
	fs.Cut()
	v.Close()
	mem = mem.Crash(nil)
	flip(t, mem, path, at+headerSize+5)
	cfg.FS = mem
	v = open(t, cfg)
	mustHave(t, v, "a", "1")
	if ok, _ := v.Has(kept, []byte("b")); ok || len(v.Findings()) > 0 {
		t.Fatal(ok, v.Findings())
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}

// The end of a lane that has rotted looks like a torn tail. If the other lane has
// gone on since, it tells that there was more.
func TestRotIsSeenFromTheOtherLane(t *testing.T) {
	for _, witness := range []bool{false, true} {
		v, fs, mem, cfg := faulty(t, nil)
		mustPut(t, v, Meta, "first", "1", nil)
		at := v.lanes[Meta].off
		path := v.lanes[Meta].seg.path
		mustPut(t, v, Meta, "rotten", "1", nil)
		if witness {
			mustPut(t, v, Bulk, "later", "1", nil)
		}
		fs.Cut()
		v.Close()
		mem = mem.Crash(nil)
		flip(t, mem, path, at+headerSize+2)
		cfg.FS = mem
		v = open(t, cfg)
		mustHave(t, v, "first", "1")
		f := v.Findings()
		if witness != (len(f) == 1) || witness && (f[0].Kind != RangeLost || f[0].Lane != Meta || f[0].FirstSeq == 0 || f[0].LastSeq != f[0].FirstSeq) {
			t.Errorf("with another lane's frame %v: %v", witness, f)
		}
		mustPut(t, v, Meta, "rotten", "2", nil)
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		v = open(t, cfg)
		mustHave(t, v, "rotten", "2")
		if got := v.Findings(); len(got) != len(f) {
			t.Errorf("the findings are now %v", got)
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Without its index a volume does not open as an empty one; Rebuild brings back
// what is kept.
func TestLostIndex(t *testing.T) {
	v, _, mem, cfg := faulty(t, nil)
	mustPut(t, v, Meta, "a", "1", []byte("tail"))
	mustPut(t, v, Bulk, "b", "2", []byte("tail"))
	b := v.NewBatch(Meta)
	b.Put(rows, []byte("r"), []byte("row"), nil, Ref{})
	commit(t, v, b)
	id, gen, durable := v.Identity()
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := mem.RemoveAll("/vol/index"); err != nil {
		t.Fatal(err)
	}
	_, err := Open(context.Background(), cfg)
	wantKind(t, err, errs.Corrupt)
	if err := Rebuild(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	v = open(t, cfg)
	mustHave(t, v, "a", "1")
	mustHave(t, v, "b", "2")
	if ok, _ := v.Has(rows, []byte("r")); ok {
		t.Fatal("rows are not rebuilt from the log")
	}
	id2, gen2, durable2 := v.Identity()
	if id2 != id || gen2 != gen+1 || durable2 <= durable {
		t.Fatal("identity", gen2, durable2)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := mem.Remove("/vol/VOLUME"); err != nil {
		t.Fatal(err)
	}
	_, err = Open(context.Background(), cfg)
	wantKind(t, err, errs.Corrupt)
}

// TestOperationOrder shows the file operations of making a volume and of a commit
// in each lane, so that the order of syncs can be reviewed.
func TestOperationOrder(t *testing.T) {
	mem := faultfs.NewMem()
	fs := faultfs.Wrap(mem)
	var out strings.Builder
	fs.Trace(func(o faultfs.Op) {
		if o.N > 0 && !strings.Contains(o.Path, "/index") {
			fmt.Fprintln(&out, o)
		}
	})
	cfg := testConfig(fs)
	cfg.DisableZeroAhead = true
	fmt.Fprintln(&out, "# open")
	v := open(t, cfg)
	fmt.Fprintln(&out, "# first commit in Bulk")
	mustPut(t, v, Bulk, "a", "1", make([]byte, 100))
	fmt.Fprintln(&out, "# second commit in Bulk")
	mustPut(t, v, Bulk, "b", "1", make([]byte, 5000))
	fmt.Fprintln(&out, "# commit in Meta")
	mustPut(t, v, Meta, "c", "1", nil)
	fmt.Fprintln(&out, "# close")
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/operations.txt", out.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil || string(want) != got {
		t.Fatalf("%s differs (go test -rewrite writes it): %v\n%s", name, err, got)
	}
}
