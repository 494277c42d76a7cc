package fragfile

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"ringfort/internal/errs"
	"ringfort/internal/vfs"
	"ringfort/internal/vfs/faultfs"
)

// checkStore is the store's own consistency check: every fragment verifies, every
// file is a fragment, and nothing unfinished lies about.
func checkStore(t testing.TB, s *Store) (names []Name) {
	t.Helper()
	err := s.Walk(context.Background(), 0, func(n Name) error {
		names = append(names, n)
		_, err := s.Verify(context.Background(), n, nil)
		return err
	}, func(path string) { t.Errorf("%s is no fragment", path) })
	if err != nil {
		t.Fatal(err)
	}
	for i := range folders {
		if left, err := s.fs.List(s.tmpFolder(byte(i))); err != nil || len(left) > 0 {
			t.Fatalf("left over: %v %v", left, err)
		}
	}
	if n := s.writers.Load(); n != 0 {
		t.Errorf("%d writers are open", n)
	}
	return names
}

// stores runs a test on a file system in memory and on the real one.
func stores(t *testing.T, f func(t *testing.T, s *Store)) {
	t.Run("mem", func(t *testing.T) {
		s := openStore(t, pebblevfs.NewMem(), "/disk/frag")
		f(t, s)
		checkStore(t, s)
	})
	t.Run("disk", func(t *testing.T) {
		s := openStore(t, vfs.Default(), t.TempDir()+"/frag")
		s.cfg.BufferBytes = 256 << 10
		f(t, s)
		checkStore(t, s)
	})
	t.Run("buffered", func(t *testing.T) {
		s := openStore(t, vfs.Default(), t.TempDir()+"/frag")
		s.cfg.Buffered, s.cfg.BufferBytes = true, 256<<10
		f(t, s)
		checkStore(t, s)
	})
}

func TestWriteAndRead(t *testing.T) {
	sizes := []int64{0, 1, 4095, 4096, 4097, 32768, 50_000, 2*erasureBlock + 1, MaxPacked - 1, MaxPacked, MaxPacked + 1, 2*MaxPacked + 12345}
	stores(t, func(t *testing.T, s *Store) {
		rng := testRand(t)
		for _, size := range sizes {
			h := newHeader(rng, 1, 2, size)
			if size < 1<<20 {
				h = newHeader(rng, 3, 2, 3*size)
			}
			data := randomBytes(rng, h.Layout().FragmentSize())
			if err := put(s, h, data, rng); err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
			r, err := s.Open(h.Name)
			if err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
			checkReads(t, rng, r, h, data)
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			want := geometry{form: paged, checkSize: checkSizeNew, dataLen: int64(len(data))}.total()
			if n, err := s.Size(h.Name); err != nil || n != want {
				t.Errorf("file of %d bytes, want %d: %v", n, want, err)
			}
		}
	})
}

const erasureBlock = 128 << 10

func TestModel(t *testing.T) {
	rng := testRand(t)
	mem := pebblevfs.NewMem()
	s := openStore(t, mem, "/d")
	model := map[Name][]byte{}
	names := func() []Name {
		var list []Name
		for n := range model {
			list = append(list, n)
		}
		slices.SortFunc(list, func(a, b Name) int { return strings.Compare(a.String(), b.String()) })
		return list
	}
	for range 400 {
		switch list := names(); {
		case len(list) == 0 || rng.IntN(3) == 0: // write, now and then again
			h := newHeader(rng, 2, 1, rng.Int64N(200_000))
			if len(list) > 0 && rng.IntN(4) == 0 {
				h.Name = list[rng.IntN(len(list))]
			}
			data := randomBytes(rng, h.Layout().FragmentSize())
			if err := put(s, h, data, rng); err != nil {
				t.Fatal(err)
			}
			model[h.Name] = data
		case rng.IntN(4) == 0: // begin and give up
			h := newHeader(rng, 2, 1, 100_000)
			h.Name = list[rng.IntN(len(list))]
			w, err := s.Create(context.Background(), h)
			if err != nil {
				t.Fatal(err)
			}
			w.Write(make([]byte, rng.IntN(50_000)))
			w.Abort()
		case rng.IntN(3) == 0:
			n := list[rng.IntN(len(list))]
			if err := s.Remove(n); err != nil {
				t.Fatal(err)
			}
			delete(model, n)
			if _, err := s.Open(n); !errs.Is(err, errs.NotFound) {
				t.Fatalf("removed and opened: %v", err)
			}
			if err := s.Remove(n); !errs.Is(err, errs.NotFound) {
				t.Fatalf("removed twice: %v", err)
			}
		case rng.IntN(10) == 0:
			s = openStore(t, mem, "/d")
		default:
			n := list[rng.IntN(len(list))]
			r, err := s.Open(n)
			if err != nil {
				t.Fatal(err)
			}
			checkReads(t, rng, r, r.Header(), model[n])
			r.Close()
		}
	}
	found := checkStore(t, s)
	if len(found) != len(model) {
		t.Fatalf("%d fragments, want %d", len(found), len(model))
	}
}

func TestCreateRefuses(t *testing.T) {
	s := openStore(t, pebblevfs.NewMem(), "/d")
	s.cfg.MaxWriters = 2
	rng := testRand(t)
	ctx := context.Background()
	h := newHeader(rng, 2, 1, 1000)

	bad := h
	bad.Index = 9
	if _, err := s.Create(ctx, bad); !errs.Is(err, errs.Invalid) {
		t.Errorf("bad header: %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Create(ended, h); !errs.Is(err, errs.Canceled) {
		t.Errorf("ended context: %v", err)
	}
	a, err := s.Create(ctx, h)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Create(ctx, h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(ctx, h); !errs.Is(err, errs.Busy) {
		t.Errorf("third of two writers: %v", err)
	}
	if _, err := a.Write(make([]byte, 501)); !errs.Is(err, errs.Invalid) {
		t.Errorf("more data than the blob calls for: %v", err)
	}
	if err := a.Commit(ctx, 1000); !errs.Is(err, errs.Invalid) {
		t.Errorf("commit after a refused write: %v", err)
	}
	if _, err := b.Write(make([]byte, 499)); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(ctx, 1000); !errs.Is(err, errs.Incomplete) {
		t.Errorf("less data than the blob calls for: %v", err)
	}
	c, _ := s.Create(ctx, h)
	c.Write(make([]byte, 500))
	if err := c.Commit(ctx, 999); !errs.Is(err, errs.Invalid) {
		t.Errorf("another size than announced: %v", err)
	}
	d, _ := s.Create(ctx, h)
	d.Write(make([]byte, 500))
	if err := d.Commit(ended, 1000); !errs.Is(err, errs.Canceled) {
		t.Errorf("commit with an ended context: %v", err)
	}
	d.Abort()
	if err := d.Commit(ctx, 1000); !errs.Is(err, errs.Invalid) {
		t.Errorf("commit after abort: %v", err)
	}
	if _, err := d.Write([]byte{1}); !errs.Is(err, errs.Invalid) {
		t.Errorf("write after abort: %v", err)
	}
	if got := checkStore(t, s); len(got) != 0 {
		t.Errorf("fragments %v came of refusals", got)
	}
}

func TestDamagedFiles(t *testing.T) {
	rng := testRand(t)
	mem := pebblevfs.NewMem()
	s := openStore(t, mem, "/d")
	h := newHeader(rng, 2, 2, 2*(MaxPacked+100_000))
	data := randomBytes(rng, h.Layout().FragmentSize())
	if err := put(s, h, data, rng); err != nil {
		t.Fatal(err)
	}
	raw, err := mem.UnsafeGetFileDataBuffer(s.path(h.Name))
	if err != nil {
		t.Fatal(err)
	}
	g := geometry{form: paged, checkSize: checkSizeNew, dataLen: int64(len(data))}

	// A bad block: found by whoever reads it, and by nobody else.
	bad := int64(5*checkSizeNew + 77)
	raw[g.dataOff(0)+bad] ^= 0x10
	r, err := s.Open(h.Name)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 8*checkSizeNew)
	n, err := r.ReadAt(p, checkSizeNew)
	var block *BlockError
	if n != 4*checkSizeNew || !errs.Is(err, errs.Corrupt) || !errors.As(err, &block) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if *block != (BlockError{Name: h.Name, Block: 5, Off: 5 * checkSizeNew, Len: checkSizeNew}) {
		t.Errorf("blamed %+v", *block)
	}
	if !bytes.Equal(p[:n], data[checkSizeNew:][:n]) {
		t.Error("wrong data before the bad block")
	}
	if n, err := r.ReadAt(p[:10], bad); n != 0 || !errs.Is(err, errs.Corrupt) {
		t.Errorf("part of the bad block: %d bytes, %v", n, err)
	}
	if _, err := r.ReadAt(p[:checkSizeNew], 6*checkSizeNew); err != nil {
		t.Errorf("block after the bad one: %v", err)
	}

	// Verify goes on and names all of it, here in both groups.
	raw[g.dataOff(0)+6*checkSizeNew] ^= 1
	raw[g.dataOff(1)+3*checkSizeNew] ^= 1
	rep, err := s.Verify(context.Background(), h.Name, nil)
	want := []Range{{5 * checkSizeNew, 2 * checkSizeNew}, {MaxPacked + 3*checkSizeNew, int64(len(data)) - MaxPacked - 3*checkSizeNew}}
	if !errs.Is(err, errs.Corrupt) || !slices.Equal(rep.Bad, want) || rep.Bytes != int64(len(raw)) {
		t.Errorf("verified %d of %d bytes, bad %v, want %v: %v", rep.Bytes, len(raw), rep.Bad, want, err)
	}

	// A bad check page takes its group with it, and only its group.
	raw[g.checkOff(0)+100] ^= 1
	if _, err := r.ReadAt(p[:1], MaxPacked+1); err != nil {
		t.Errorf("the other group: %v", err)
	}
	fresh, err := s.Open(h.Name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fresh.ReadAt(p[:1], 0); !errs.Is(err, errs.Corrupt) {
		t.Errorf("group without checksums: %v", err)
	}
	fresh.Close()
	r.Close()
	if rep, err := s.Verify(context.Background(), h.Name, nil); !errs.Is(err, errs.Corrupt) || rep.Bad[0] != (Range{0, MaxPacked}) {
		t.Errorf("bad %v: %v", rep.Bad, err)
	}
}

// TestEveryBitOfAFile flips each bit of a paged fragment in turn.
func TestEveryBitOfAFile(t *testing.T) {
	rng := testRand(t)
	mem := pebblevfs.NewMem()
	s := openStore(t, mem, "/d")
	h := newHeader(rng, 2, 2, 2000)
	if err := put(s, h, randomBytes(rng, 1000), rng); err != nil {
		t.Fatal(err)
	}
	raw, err := mem.UnsafeGetFileDataBuffer(s.path(h.Name))
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Open(h.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	buf := make([]byte, checkSizeNew)
	step := 1
	if testing.Short() {
		step = 7
	}
	for i := 0; i < len(raw)*8; i += step {
		raw[i/8] ^= 1 << (i % 8)
		fresh, err := newReader(r.src, int64(len(raw)), paged, h.Name, nil, s.scratch)
		if err == nil {
			_, err = verify(context.Background(), fresh, buf, nil)
		}
		raw[i/8] ^= 1 << (i % 8)
		if !errs.Is(err, errs.Corrupt) && !errs.Is(err, errs.NotImplemented) {
			t.Fatalf("bit %d of %d flipped: %v", i, len(raw)*8, err)
		}
	}
}

// TestTruncated cuts a file at every page and at odd places.
func TestTruncated(t *testing.T) {
	rng := testRand(t)
	mem := pebblevfs.NewMem()
	s := openStore(t, mem, "/d")
	h := newHeader(rng, 2, 2, 300_000)
	if err := put(s, h, randomBytes(rng, 150_000), rng); err != nil {
		t.Fatal(err)
	}
	raw, _ := mem.UnsafeGetFileDataBuffer(s.path(h.Name))
	whole := bytes.Clone(raw)
	for n := 0; n < len(whole); n += 1 + rng.IntN(pageSize) {
		f, err := mem.Create(s.path(h.Name), writeCategory)
		if err != nil {
			t.Fatal(err)
		}
		f.Write(bytes.Clone(whole[:n]))
		f.Close()
		if _, err := s.Open(h.Name); !errs.Is(err, errs.Corrupt) {
			t.Fatalf("cut at %d of %d: %v", n, len(whole), err)
		}
		if _, err := s.Verify(context.Background(), h.Name, nil); !errs.Is(err, errs.Corrupt) {
			t.Fatalf("cut at %d of %d: %v", n, len(whole), err)
		}
	}
}

func TestVerifyPace(t *testing.T) {
	rng := testRand(t)
	s := openStore(t, pebblevfs.NewMem(), "/d")
	h := newHeader(rng, 1, 0, 1_000_000)
	if err := put(s, h, randomBytes(rng, 1_000_000), rng); err != nil {
		t.Fatal(err)
	}
	var sum int64
	rep, err := s.Verify(context.Background(), h.Name, func(_ context.Context, n int) error { sum += int64(n); return nil })
	size, _ := s.Size(h.Name)
	if err != nil || sum != rep.Bytes || sum != size {
		t.Errorf("paced %d, reported %d, file %d: %v", sum, rep.Bytes, size, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	_, err = s.Verify(ctx, h.Name, func(ctx context.Context, _ int) error { cancel(); return ctx.Err() })
	if !errs.Is(err, errs.Canceled) {
		t.Errorf("stopped verification: %v", err)
	}
	checkStore(t, s)
}

func TestWalk(t *testing.T) {
	rng := testRand(t)
	mem := pebblevfs.NewMem()
	s := openStore(t, mem, "/d")
	want := map[string]bool{}
	for range 40 {
		h := newHeader(rng, 1, 0, 10)
		if err := put(s, h, make([]byte, 10), rng); err != nil {
			t.Fatal(err)
		}
		want[h.Name.String()] = true
	}
	stray := []string{"/d/00/notes.txt", ""}
	h := newHeader(rng, 1, 0, 10)
	stray[1] = s.fs.PathJoin(s.folder(h.Folder()+1), h.Name.String()) // a fragment in another's folder
	for _, path := range stray {
		f, _ := mem.Create(path, writeCategory)
		f.Close()
	}
	got := map[string]bool{}
	var odd []string
	last := byte(0)
	err := s.Walk(context.Background(), 0, func(n Name) error {
		if n.Folder() < last {
			t.Error("folders out of order")
		}
		last = n.Folder()
		got[n.String()] = true
		return nil
	}, func(path string) { odd = append(odd, path) })
	slices.Sort(odd)
	slices.Sort(stray)
	if err != nil || len(got) != len(want) || !slices.Equal(odd, stray) {
		t.Fatalf("%d of %d fragments, odd %v: %v", len(got), len(want), odd, err)
	}
	err = s.Walk(context.Background(), 128, func(n Name) error {
		if n.Folder() < 128 {
			t.Errorf("folder %d visited", n.Folder())
		}
		return nil
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("enough")
	if err := s.Walk(context.Background(), 0, func(Name) error { return stop }, nil); err != stop {
		t.Errorf("walk ended with %v", err)
	}
	for _, path := range stray {
		mem.Remove(path)
	}
	checkStore(t, s)
}

func TestForeignDirectory(t *testing.T) {
	mem := pebblevfs.NewMem()
	openStore(t, mem, "/d")
	f, _ := mem.Create("/d/FORMAT", writeCategory)
	f.Write([]byte("ringfort fragment store 2\n"))
	f.Close()
	if _, err := Open(context.Background(), mem, "/d", Default()); !errs.Is(err, errs.NotImplemented) {
		t.Errorf("a store of a later format: %v", err)
	}
	if _, err := Open(context.Background(), mem, "/e", Config{BufferBytes: 1000, MaxWriters: 1}); !errs.Is(err, errs.Invalid) {
		t.Errorf("bad configuration: %v", err)
	}
}

// TestConcurrent commits many fragments at a time, all into one folder, and counts
// the directory syncs that they share.
func TestConcurrent(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var syncs atomic.Int64
	fs := faultfs.Wrap(faultfs.NewMem())
	s := openStore(t, fs, "/d")
	folder := s.folder(3)
	release := make(chan struct{})
	fs.Trace(func(o faultfs.Op) {
		if o.Kind == faultfs.SyncDir && o.Path == folder {
			syncs.Add(1)
		}
	})
	var wg sync.WaitGroup
	var lock sync.Mutex
	var all []Name
	for w := range 16 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(w)))
			<-release
			for range 5 {
				hd := newHeader(rng, 1, 0, 5000)
				for hd.Folder() != 3 {
					hd.Blob.Attempt++
				}
				if err := put(s, hd, randomBytes(rng, 5000), rng); err != nil {
					t.Error(err)
					return
				}
				lock.Lock()
				all = append(all, hd.Name)
				lock.Unlock()
			}
		})
	}
	close(release)
	wg.Wait()
	t.Logf("%d commits took %d directory syncs", len(all), syncs.Load())
	if got := checkStore(t, s); len(got) != len(all) {
		t.Errorf("%d fragments of %d", len(got), len(all))
	}
}

func TestDiskErr(t *testing.T) {
	for err, want := range map[error]errs.Kind{
		syscall.ENOSPC: errs.Full, syscall.EDQUOT: errs.Full, syscall.ENOENT: errs.NotFound,
		syscall.EIO: errs.Unavailable, syscall.EROFS: errs.Unavailable,
	} {
		got := diskErr("x", err)
		if !errs.Is(got, want) || !errors.Is(got, err) {
			t.Errorf("%v becomes %v", err, got)
		}
	}
}
