package faultfs

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	pvfs "github.com/cockroachdb/pebble/v2/vfs"

	"ringfort/internal/vfs"
)

const anyWrite = pvfs.WriteCategoryUnspecified

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, fs vfs.FS, name string, data string) vfs.File {
	t.Helper()
	f, err := fs.Create(name, anyWrite)
	must(t, err)
	_, err = f.Write([]byte(data))
	must(t, err)
	return f
}

func read(t *testing.T, fs vfs.FS, name string) string {
	t.Helper()
	f, err := fs.Open(name)
	if vfs.IsNotExist(err) {
		return "(none)"
	}
	must(t, err)
	defer f.Close()
	info, err := f.Stat()
	must(t, err)
	b := make([]byte, info.Size())
	if len(b) > 0 {
		_, err = f.ReadAt(b, 0)
		must(t, err)
	}
	return string(b)
}

// Without a random source, exactly what was synced is left: names by their
// directory's sync, bytes by their file's.
func TestCrashKeepsWhatWasSynced(t *testing.T) {
	m := NewMem()
	must(t, m.MkdirAll("/d", 0o755))
	must(t, vfs.SyncDir(m, "/"))
	a := create(t, m, "/d/a", "one")
	must(t, a.Sync())
	must(t, vfs.SyncDir(m, "/d"))
	_, err := a.WriteAt([]byte("two, longer"), 0)
	must(t, err)
	b := create(t, m, "/d/b", "synced, but its name is not")
	must(t, b.Sync())
	c := m.Crash(nil)
	if got := read(t, c, "/d/a"); got != "one" {
		t.Error("a:", got)
	}
	if got := read(t, c, "/d/b"); got != "(none)" {
		t.Error("b:", got)
	}
	must(t, m.Remove("/d/a"))
	if got := read(t, m.Crash(nil), "/d/a"); got != "one" {
		t.Error("a removal that was not synced:", got)
	}
	must(t, m.Rename("/d/b", "/d/a"))
	must(t, vfs.SyncDir(m, "/d"))
	if got := read(t, m.Crash(nil), "/d/a"); got != "synced, but its name is not" {
		t.Error("renamed:", got)
	}
}

// With one, a write may be torn at sectors and within one, and every tear is some
// mixture of old and new bytes at their own places.
func TestCrashTears(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(3000) {
		m := NewMem()
		f := create(t, m, "/a", string(bytes.Repeat([]byte("o"), 3*SectorSize)))
		must(t, f.Sync())
		must(t, vfs.SyncDir(m, "/"))
		_, err := f.WriteAt(bytes.Repeat([]byte("n"), 3*SectorSize), SectorSize)
		must(t, err)
		got := read(t, m.Crash(rand.New(rand.NewPCG(seed, 1))), "/a")
		if len(got) < 3*SectorSize || len(got) > 4*SectorSize || got[:SectorSize] != string(bytes.Repeat([]byte("o"), SectorSize)) {
			t.Fatalf("seed %d: %d bytes", seed, len(got))
		}
		for i := range got[SectorSize:] {
			if c := got[SectorSize+i]; c != 'n' && c != 'o' && c != 0 {
				t.Fatalf("seed %d: byte %d is %q", seed, i, c)
			}
		}
		switch mid := got[SectorSize : 2*SectorSize]; {
		case mid[0] == 'o':
			seen["sector old"]++
		case mid[SectorSize-1] == 'n':
			seen["sector new"]++
		default:
			seen["sector torn"]++
		}
		if len(got) == 3*SectorSize {
			seen["not grown"]++
		}
		if len(got) == 4*SectorSize && got[2*SectorSize] == 'o' && got[3*SectorSize] == 'n' {
			seen["out of order"]++
		}
	}
	for _, what := range []string{"sector old", "sector new", "sector torn", "not grown", "out of order"} {
		if seen[what] == 0 {
			t.Errorf("never seen: %s (%v)", what, seen)
		}
	}
}

// Names change in their order, and a move happens whole or not at all.
func TestCrashDirectories(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(300) {
		m := NewMem()
		f := create(t, m, "/a", "x")
		must(t, f.Sync())
		must(t, vfs.SyncDir(m, "/"))
		must(t, m.Rename("/a", "/b"))
		create(t, m, "/c", "")
		must(t, m.Remove("/c"))
		names, err := m.Crash(rand.New(rand.NewPCG(seed, 2))).List("/")
		must(t, err)
		seen[string(bytes.Join(toBytes(names), []byte(" ")))] = true
	}
	for s := range seen {
		if !slices.Contains([]string{"a", "b", "b c"}, s) {
			t.Errorf("impossible: %q", s)
		}
	}
	if len(seen) != 3 {
		t.Error(seen)
	}
}

func toBytes(s []string) (b [][]byte) {
	for _, x := range s {
		b = append(b, []byte(x))
	}
	return b
}

func TestCutAt(t *testing.T) {
	for n := 1; n <= 5; n++ {
		for _, after := range []bool{false, true} {
			m := NewMem()
			f := Wrap(m)
			f.CutAt(n, after)
			steps := []func() error{
				func() error { return f.MkdirAll("/d", 0o755) },
				func() error { _, err := f.Create("/d/a", anyWrite); return err },
				func() error { return vfs.SyncDir(f, "/d") },
				func() error { return f.Rename("/d/a", "/d/b") },
				func() error { return f.Remove("/d/b") },
			}
			for i, s := range steps {
				if err := s(); (i+1 < n) != (err == nil) || err != nil && !errors.Is(err, ErrPowerCut) {
					t.Fatalf("cut at %d: step %d: %v", n, i+1, err)
				}
			}
			if f.Count() != n || !f.IsCut() {
				t.Fatal(n, f.Count())
			}
			done := n - 1
			if after {
				done = n
			}
			if _, err := m.List("/d"); (err == nil) != (done >= 1) {
				t.Fatal("the operation before the cut", n, after, err)
			}
			if got := read(t, m, "/d/b"); (got != "(none)") != (done == 4) {
				t.Fatal("rename", n, after)
			}
			if _, err := f.List("/d"); !errors.Is(err, ErrPowerCut) {
				t.Fatal("reads must fail too", err)
			}
		}
	}
}

func TestFailAndHang(t *testing.T) {
	f := Wrap(NewMem())
	a, err := f.Create("/a", anyWrite)
	must(t, err)
	undo := f.FailNth(EIO, 2, IsKind("/a", Write))
	for i, want := range []error{nil, EIO, nil} {
		if _, err := a.Write([]byte("x")); !errors.Is(err, want) {
			t.Fatal(i, err)
		}
	}
	undo()
	undo() // twice is harmless
	stop := f.Fail(ENOSPC, IsKind("", Sync, SyncDir))
	if err := a.Sync(); !errors.Is(err, ENOSPC) {
		t.Fatal(err)
	}
	if err := vfs.SyncDir(f, "/"); !errors.Is(err, ENOSPC) {
		t.Fatal(err)
	}
	stop()
	release := f.Hang(IsKind("/a", Sync))
	done := make(chan error)
	go func() { done <- a.Sync() }()
	_, err = a.Write([]byte("others go on"))
	must(t, err)
	select {
	case <-done:
		t.Fatal("did not hang")
	default:
	}
	release()
	must(t, <-done)
	if f.Hanging() != 0 {
		t.Fatal("still counted")
	}
}
