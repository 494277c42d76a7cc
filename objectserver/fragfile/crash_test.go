package fragfile

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"syscall"
	"testing"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"ringfort/internal/errs"
)

// crashScript writes, replaces and removes fragments, and tells of each one when
// it has been acknowledged.
func crashScript(s *Store, rng *rand.Rand, acked func(h Header, data []byte), removed func(Name)) error {
	var kept []Header
	for range 5 {
		h := newHeader(rng, 2, 1, rng.Int64N(80_000))
		if len(kept) > 0 && rng.IntN(4) == 0 {
			h = kept[0] // the same fragment again, as a retry does
		}
		data := randomBytes(rand.New(rand.NewPCG(h.Blob.Attempt, 0)), h.Layout().FragmentSize())
		if err := put(s, h, data, rng); err != nil {
			return err
		}
		acked(h, data)
		kept = append(kept, h)
		if rng.IntN(4) == 0 {
			removed(h.Name)
			if err := s.Remove(h.Name); err != nil && !errs.Is(err, errs.NotFound) {
				return err
			}
			kept = kept[:0]
		}
	}
	return nil
}

// TestPowerCut cuts the power before every single operation of a script, keeps a
// random part of what was not synced, and looks what is left: all that was
// acknowledged, nothing half.
func TestPowerCut(t *testing.T) {
	first := rand.Uint64()
	seeds := 100
	if testing.Short() {
		seeds = 10
	}
	cuts := 0
	for i := range seeds {
		seed := first + uint64(i)
		for cut := 1; ; cut++ {
			over := powerCut(t, seed, cut, i == 0)
			if t.Failed() {
				t.Fatalf("seed %d, cut before operation %d", seed, cut)
			}
			if over {
				break
			}
			cuts++
		}
	}
	t.Logf("%d power cuts, seeds from %d", cuts, first)
}

// powerCut runs the script of a seed and cuts the power before operation number
// cut, counted from the store's creation or from its end. It returns true if the
// script has fewer operations.
func powerCut(t *testing.T, seed uint64, cut int, creation bool) (over bool) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	mem := pebblevfs.NewCrashableMem()
	var after *pebblevfs.MemFS
	ops := 0
	h := &hookFS{FS: mem}
	if !creation {
		openStore(t, h, "/frag")
	}
	h.hook = func(op, path string) error {
		if ops++; ops == cut {
			pick := rand.New(rand.NewPCG(seed, uint64(cut)))
			after = mem.CrashClone(pebblevfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[pick.IntN(3)], RNG: pick})
		}
		if after != nil {
			return errors.New("power is off")
		}
		return nil
	}
	model := map[Name][]byte{}
	maybe := map[Name]bool{} // removed, which is not synced
	s, err := Open(context.Background(), h, "/frag", smallConfig())
	if err == nil {
		err = crashScript(s, rng, func(h Header, data []byte) { model[h.Name] = data; delete(maybe, h.Name) },
			func(n Name) { maybe[n] = true })
	}
	if after == nil {
		if err != nil {
			t.Fatal(err)
		}
		return true
	}
	checkAfterCrash(t, after, model, maybe)
	return false
}

// checkAfterCrash opens what a crash has left, twice: the second time after a
// crash during the first.
func checkAfterCrash(t *testing.T, fs *pebblevfs.MemFS, model map[Name][]byte, maybe map[Name]bool) {
	t.Helper()
	openStore(t, fs, "/frag")
	fs = fs.CrashClone(pebblevfs.CrashCloneCfg{})
	s := openStore(t, fs, "/frag")
	for _, n := range checkStore(t, s) { // whatever is there must be whole
		if _, known := model[n]; !known {
			delete(model, n) // it was about to be acknowledged
		}
	}
	for n, data := range model {
		r, err := s.Open(n)
		if err != nil {
			if !maybe[n] {
				t.Errorf("acknowledged fragment %v is lost: %v", n, err)
			}
			continue
		}
		got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Len()))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("fragment %v: %d bytes of %d: %v", n, len(got), len(data), err)
		}
		r.Close()
	}
	if err := put(s, newHeader(rand.New(rand.NewPCG(1, 1)), 1, 0, 5000), make([]byte, 5000), rand.New(rand.NewPCG(1, 1))); err != nil {
		t.Errorf("the store does not work after a crash: %v", err)
	}
}

// TestFailingOperations lets each operation of a script fail once, with EIO and
// with ENOSPC: the caller is told, nothing half remains, and the store goes on.
func TestFailingOperations(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		for fail := 1; ; fail++ {
			rng := rand.New(rand.NewPCG(seed, 1))
			h := &hookFS{FS: pebblevfs.NewMem()}
			s := openStore(t, h, "/d")
			ops, failed := 0, ""
			h.hook = func(op, path string) error {
				if ops++; ops == fail {
					failed = op
					return cause
				}
				return nil
			}
			model := map[Name][]byte{}
			err := crashScript(s, rng, func(h Header, data []byte) { model[h.Name] = data }, func(n Name) { delete(model, n) })
			h.hook = nil
			if failed == "" {
				if err != nil {
					t.Fatal(err)
				}
				break
			}
			want := errs.Unavailable
			if cause == syscall.ENOSPC {
				want = errs.Full
			}
			// A fragment is told as failed, with its kind and cause, unless it
			// was only being cleaned up or a handle was closed.
			if err == nil && failed != "close" && failed != "remove" {
				t.Fatalf("operation %d (%s): failure not told", fail, failed)
			}
			if err != nil && (!errs.Is(err, want) || !errors.Is(err, cause)) {
				t.Fatalf("operation %d (%s): %v", fail, failed, err)
			}
			for n, data := range model {
				r, err := s.Open(n)
				if err != nil {
					t.Fatalf("operation %d (%s): fragment lost: %v", fail, failed, err)
				}
				got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Len()))
				if err != nil || !bytes.Equal(got, data) {
					t.Fatalf("operation %d (%s): %v", fail, failed, err)
				}
				r.Close()
			}
			checkStore(t, openStore(t, h, "/d"))
			if n := s.writers.Load(); n != 0 {
				t.Fatalf("operation %d (%s): %d writers left open", fail, failed, n)
			}
		}
	}
}

// TestOrderOfOperations holds the sequence of one commit, so that a change of what
// is synced when is seen in review.
func TestOrderOfOperations(t *testing.T) {
	h := &hookFS{FS: pebblevfs.NewMem()}
	s := openStore(t, h, "/d")
	rng := testRand(t)
	hd := newHeader(rng, 1, 0, 20_000)
	names := map[string]string{s.folder(hd.Folder()): "folder"}
	var got []string
	h.hook = func(op, path string) error {
		what, ok := names[path]
		if !ok {
			what = "temporary"
		}
		got = append(got, op+" "+what)
		return nil
	}
	w, err := s.Create(context.Background(), hd)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 20_000)); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(context.Background(), 20_000); err != nil {
		t.Fatal(err)
	}
	h.hook = nil
	want := []string{
		"create temporary", "preallocate temporary", "write temporary", "write temporary",
		"syncdata temporary", "close temporary", "rename temporary", "sync folder", "close folder",
	}
	if len(got) != len(want) {
		t.Fatalf("operations %q", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("operations %q, want %q", got, want)
		}
	}
	checkStore(t, s)
}

// TestReadErrors lets a read fail: that is the device's failure, and not rot.
func TestReadErrors(t *testing.T) {
	rng := testRand(t)
	h := &hookFS{FS: pebblevfs.NewMem()}
	s := openStore(t, h, "/d")
	hd := newHeader(rng, 1, 0, 100_000)
	if err := put(s, hd, randomBytes(rng, 100_000), rng); err != nil {
		t.Fatal(err)
	}
	r, err := s.Open(hd.Name)
	if err != nil {
		t.Fatal(err)
	}
	h.hook = func(op, path string) error {
		if op == "read" {
			return syscall.EIO
		}
		return nil
	}
	for what, err := range map[string]error{
		"open":   func() error { _, err := s.Open(hd.Name); return err }(),
		"read":   func() error { _, err := r.ReadAt(make([]byte, 10), 5); return err }(),
		"verify": func() error { _, err := s.Verify(context.Background(), hd.Name, nil); return err }(),
	} {
		if !errs.Is(err, errs.Unavailable) || !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v", what, err)
		}
	}
	h.hook = nil
	r.Close()
	checkStore(t, s)
}
