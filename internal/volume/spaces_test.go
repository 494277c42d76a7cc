package volume

import (
	"context"
	"slices"
	"testing"

	"ringfort/internal/errs"
	"ringfort/internal/vfs/faultfs"
)

func openKind(t *testing.T, cfg Config, want errs.Kind) {
	t.Helper()
	v, err := Open(context.Background(), cfg)
	if err == nil {
		v.Close()
	}
	wantKind(t, err, want)
}

// Whether a space is Kept is stored with the volume, and nobody opens it who says
// otherwise: the index would point at what compaction is free to drop.
func TestKeptNeverChanges(t *testing.T) {
	for _, flushed := range []bool{true, false} {
		v, fs, mem, cfg := faulty(t, nil)
		mustPut(t, v, Meta, "key", "head", nil)
		if flushed {
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
		} else { // the log alone knows
			fs.Cut()
			v.Close()
			mem = mem.Crash(nil)
			cfg.FS = faultfs.Wrap(mem)
		}
		for i := range cfg.Spaces {
			other := cfg
			other.Spaces = slices.Clone(cfg.Spaces)
			other.Spaces[i].Kept = !other.Spaces[i].Kept
			openKind(t, other, errs.Invalid)
			wantKind(t, Rebuild(context.Background(), other), errs.Invalid)
		}
		added := cfg
		added.Spaces = append(slices.Clone(cfg.Spaces), Space{40, "added", true})
		v = open(t, added)
		mustHave(t, v, "key", "head")
		b := v.NewBatch(Meta)
		b.Put(40, []byte("key"), []byte("added"), nil, Ref{})
		commit(t, v, b)
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		added.Spaces[3].Kept = false
		openKind(t, added, errs.Invalid)
	}
}

// A space that an opener does not name is out of its reach, and kept all the same.
func TestUnnamedSpace(t *testing.T) {
	v, _, _, cfg := faulty(t, func(c *Config) { c.DisableCompaction = true })
	mustPut(t, v, Meta, "key", "head", nil)
	vals := fill(t, v, Meta, 100, 4000)
	for i := range vals {
		remove(t, v, Meta, i, vals[i])
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	less := cfg
	less.Spaces = slices.Clone(cfg.Spaces)[1:] // without the kept one
	v = open(t, less)
	b := v.NewBatch(Meta)
	b.Put(kept, []byte("key"), nil, nil, Ref{})
	wantKind(t, v.Commit(context.Background(), b), errs.Invalid)
	compactAll(t, v)
	if err := v.Verify(context.Background(), func(f Finding) { t.Error(f) }); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	wantKind(t, Rebuild(context.Background(), less), errs.Invalid)
	if err := Rebuild(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	v = open(t, cfg)
	mustHave(t, v, "key", "head")
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}

// What Rebuild cannot fill is marked for good, and nothing else is.
func TestRebuildMarksWhatIsLost(t *testing.T) {
	v, _, _, cfg := faulty(t, nil)
	b := v.NewBatch(Meta)
	b.Put(kept, []byte("key"), []byte("head"), nil, Ref{})
	b.Put(rows, []byte("key"), []byte("row"), nil, Ref{})
	commit(t, v, b)
	if v.Lost(kept) || v.Lost(rows) {
		t.Fatal("lost before anything happened")
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Rebuild(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	cfg.Spaces = append(slices.Clone(cfg.Spaces), Space{40, "added", false})
	for range 2 {
		v = open(t, cfg)
		for id, want := range map[SpaceID]bool{kept: false, rows: true, cnts: true, 40: false, ownSpace: false} {
			if v.Lost(id) != want {
				t.Errorf("space %d: lost %v", id, !want)
			}
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A volume that must be there is not made, and one with another id not taken for it.
func TestIdentityIsAsked(t *testing.T) {
	mem := faultfs.NewMem()
	cfg := testConfig(mem)
	cfg.Existing = true
	openKind(t, cfg, errs.NotFound)
	if names, err := mem.List("/"); err != nil || len(names) > 0 {
		t.Fatal("something was made in its place", names, err)
	}
	wantKind(t, Rebuild(context.Background(), testConfig(mem)), errs.NotFound)
	cfg.Existing = false
	cfg.ID = [16]byte{1, 2, 3}
	v := open(t, cfg)
	if id, _, _ := v.Identity(); id != cfg.ID {
		t.Fatalf("made with id %x", id)
	}
	mustPut(t, v, Meta, "key", "head", nil)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Existing = true
	other := cfg
	other.ID[0]++
	openKind(t, other, errs.Invalid)
	v = open(t, cfg)
	mustHave(t, v, "key", "head")
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.ID = [16]byte{}
	if err := open(t, cfg).Close(); err != nil {
		t.Fatal(err)
	}
}

func FuzzSpaces(f *testing.F) {
	f.Add([]byte{1, 1, 2, 0})
	f.Add([]byte{2, 1, 1, 0})
	f.Add([]byte{1, 2})
	f.Add([]byte{0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var v Volume
		err := decodeSpaces(b, func(id SpaceID, k bool) error {
			v.stored[id], v.kept[id] = true, k
			return nil
		})
		if err == nil && string(v.encodeSpaces()) != string(b) {
			t.Fatalf("%x became %x", b, v.encodeSpaces())
		}
	})
}
