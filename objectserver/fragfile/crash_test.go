package fragfile

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"ringfort/internal/errs"
	"ringfort/internal/vfs/faultfs"
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

// TestPowerCut cuts the power before or after every single operation of a script,
// keeps a random part of what was not synced, and looks what is left: all that was
// acknowledged, nothing half. The first seed's cuts begin with the store's
// creation, the others' after it.
func TestPowerCut(t *testing.T) {
	first := rand.Uint64()
	seeds := 30
	if testing.Short() {
		seeds = 10
	}
	cuts := 0
	for i := range seeds {
		seed := first + uint64(i)
		for cut := 1; ; cut++ {
			over := powerCut(t, seed, cut, i == 0)
			if t.Failed() {
				t.Fatalf("seed %d, cut at operation %d", seed, cut)
			}
			if over {
				break
			}
			cuts++
		}
	}
	t.Logf("%d power cuts, seeds from %d", cuts, first)
}

// powerCut runs the script of a seed and cuts the power at operation number cut. It
// returns true if the script has fewer operations.
func powerCut(t *testing.T, seed uint64, cut int, creation bool) (over bool) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	pick := rand.New(rand.NewPCG(seed, uint64(cut)))
	mem := faultfs.NewMem()
	fs := faultfs.Wrap(mem)
	if !creation {
		openStore(t, fs, "/frag")
	}
	fs.CutAt(fs.Count()+cut, pick.IntN(2) == 0)
	model := map[Name][]byte{}
	maybe := map[Name]bool{} // removed, which is not synced
	s, err := Open(context.Background(), fs, "/frag", smallConfig())
	if err == nil {
		err = crashScript(s, rng, func(h Header, data []byte) { model[h.Name] = data; delete(maybe, h.Name) },
			func(n Name) { maybe[n] = true })
	}
	if !fs.IsCut() {
		if err != nil {
			t.Fatal(err)
		}
		return true
	}
	checkAfterCrash(t, mem.Crash(pick), model, maybe)
	return false
}

// checkAfterCrash opens what a crash has left, twice: the second time after a
// crash during the first.
func checkAfterCrash(t *testing.T, mem *faultfs.Mem, model map[Name][]byte, maybe map[Name]bool) {
	t.Helper()
	openStore(t, mem, "/frag")
	mem = mem.Crash(nil)
	s := openStore(t, mem, "/frag")
	checkStore(t, s) // whatever is there must be whole
	for n, data := range model {
		if err := compare(s, n, data); err != nil && !(maybe[n] && errs.Is(err, errs.NotFound)) {
			t.Errorf("acknowledged fragment %v: %v", n, err)
		}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	if err := put(s, newHeader(rng, 1, 0, 5000), make([]byte, 5000), rng); err != nil {
		t.Errorf("the store does not work after a crash: %v", err)
	}
}

// compare reads a fragment and compares it with data.
func compare(s *Store, n Name, data []byte) error {
	r, err := s.Open(n)
	if err != nil {
		return err
	}
	defer r.Close()
	got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Len()))
	if err == nil && !bytes.Equal(got, data) {
		err = errors.New("has other data")
	}
	return err
}

// TestFailingOperations lets each operation of a script fail once, with EIO and
// with ENOSPC: the caller is told, nothing half remains, and the store goes on.
func TestFailingOperations(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for cause, want := range map[error]errs.Kind{faultfs.EIO: errs.Unavailable, faultfs.ENOSPC: errs.Full} {
		for fail := 1; ; fail++ {
			failed := failingOperation(t, seed, fail, cause, want)
			if t.Failed() {
				t.Fatalf("operation %d (%s) failed with %v", fail, failed, cause)
			}
			if failed == "" {
				break
			}
		}
	}
}

// failingOperation returns which operation failed, or "" if there are fewer.
func failingOperation(t *testing.T, seed uint64, fail int, cause error, want errs.Kind) (failed faultfs.Kind) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	fs := faultfs.Wrap(faultfs.NewMem())
	s := openStore(t, fs, "/d")
	any := faultfs.IsKind("", faultfs.Create, faultfs.Preallocate, faultfs.Write, faultfs.Sync, faultfs.SyncDir,
		faultfs.Rename, faultfs.Remove)
	count := 0
	undo := fs.Fail(cause, func(o faultfs.Op) bool {
		if !any(o) {
			return false
		}
		if count++; count == fail {
			failed = o.Kind
			return true
		}
		return false
	})
	model := map[Name][]byte{}
	err := crashScript(s, rng, func(h Header, data []byte) { model[h.Name] = data }, func(n Name) { delete(model, n) })
	undo()
	switch {
	case failed == "" && err != nil:
		t.Error(err)
	case failed != "" && err == nil:
		t.Error("failure not told")
	case err != nil && (!errs.Is(err, want) || !errors.Is(err, cause)):
		t.Errorf("told as %v", err)
	}
	for n, data := range model {
		if err := compare(s, n, data); err != nil {
			t.Errorf("fragment %v: %v", n, err)
		}
	}
	if n := s.writers.Load(); n != 0 {
		t.Errorf("%d writers left open", n)
	}
	checkStore(t, openStore(t, fs, "/d"))
	return failed
}

// TestOrderOfOperations holds the sequence of one commit, so that a change of what
// is synced when is seen in review.
func TestOrderOfOperations(t *testing.T) {
	fs := faultfs.Wrap(faultfs.NewMem())
	s := openStore(t, fs, "/d")
	h, _ := sample()
	h.K, h.M, h.Index, h.Size = 1, 0, 0, 20_000
	var got []string
	fs.Trace(func(o faultfs.Op) { got = append(got, o.String()) })
	w, err := s.Create(context.Background(), h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 20_000)); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(context.Background(), 20_000); err != nil {
		t.Fatal(err)
	}
	fs.Trace(nil)
	folder := strings.TrimPrefix(s.folder(h.Folder()), "/d/")
	text := strings.NewReplacer(h.Name.String(), "NAME", "/d/"+folder, "FOLDER", "/d/tmp/"+folder, "TMP").Replace(strings.Join(got, "\n"))
	want := `create TMP/NAME.1
preallocate TMP/NAME.1
write TMP/NAME.1 [0, 16384)
write TMP/NAME.1 [16384, 32768)
sync TMP/NAME.1
rename FOLDER/NAME
open FOLDER
syncdir FOLDER`
	if text != want {
		t.Fatalf("operations:\n%s\nwant:\n%s", text, want)
	}
	checkStore(t, s)
}

// TestReadErrors lets a read fail: that is the device's failure, and not rot.
func TestReadErrors(t *testing.T) {
	rng := testRand(t)
	fs := faultfs.Wrap(faultfs.NewMem())
	s := openStore(t, fs, "/d")
	hd := newHeader(rng, 1, 0, 100_000)
	if err := put(s, hd, randomBytes(rng, 100_000), rng); err != nil {
		t.Fatal(err)
	}
	r, err := s.Open(hd.Name)
	if err != nil {
		t.Fatal(err)
	}
	undo := fs.Fail(faultfs.EIO, faultfs.IsKind("", faultfs.Read))
	for what, err := range map[string]error{
		"open":   func() error { _, err := s.Open(hd.Name); return err }(),
		"read":   func() error { _, err := r.ReadAt(make([]byte, 10), 5); return err }(),
		"verify": func() error { _, err := s.Verify(context.Background(), hd.Name, nil); return err }(),
	} {
		if !errs.Is(err, errs.Unavailable) || !errors.Is(err, faultfs.EIO) {
			t.Errorf("%s: %v", what, err)
		}
	}
	undo()
	r.Close()
	checkStore(t, s)
}
