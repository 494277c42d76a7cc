package objectserver

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/cespare/xxhash/v2"

	"ringfort/internal/keyhash"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
	"ringfort/internal/volume"
)

func testVolume(d *device) volume.Config {
	return volume.Config{
		Dir: "/vol", FS: d.fs, Spaces: Spaces(), MemTableBytes: 64 << 10,
		MetaSegmentBytes: 256 << 10, BulkSegmentBytes: 256 << 10, PreallocateBytes: 16 << 10,
	}
}

func numbered(n int) (k keyhash.Hash) {
	binary.BigEndian.PutUint64(k[:], uint64(n)+1)
	return k
}

// rebuild makes the device's index again from its log, and opens it.
func (d *device) rebuild() {
	d.t.Helper()
	if err := d.vol.Close(); err != nil {
		d.t.Fatal(err)
	}
	if err := volume.Rebuild(context.Background(), testVolume(d)); err != nil {
		d.t.Fatal(err)
	}
	d.start()
}

func (d *device) mustWrite(key keyhash.Hash, r *register.Record) {
	d.t.Helper()
	if a, err := d.s.Write(context.Background(), key, r); err != nil || !a.Accepted {
		d.t.Fatalf("%+v, %v", a, err)
	}
}

// notes returns all of the device's notes.
func (d *device) notes() map[keyhash.Hash]register.Note {
	d.t.Helper()
	all := map[keyhash.Hash]register.Note{}
	err := d.s.Notes(keyhash.Hash{}, d.now.UnixMicro(), func(k keyhash.Hash, n register.Note) bool {
		all[k] = n
		return true
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return all
}

// No note means known chosen, so an index that is made again from the log has to have
// them all: a record that was not known chosen must not become so by losing its note,
// nor one that was lose its standing to a note that had been removed.
func TestRebuildKeepsNotes(t *testing.T) {
	d := newDevice(t)
	const keys = 300
	for round := range 3 { // so that notes are replaced, and lie in several segments
		for i := range keys {
			r := d.record(d.clock.Now())
			r.Data = make([]byte, 700)
			r.DataLen, r.DataSum = len(r.Data), xxhash.Sum64(r.Data)
			d.mustWrite(numbered(i), r)
			if i%3 == 0 && round > 0 {
				d.s.Settle([]register.Settled{{Key: numbered(i), Ballot: r.Ballot}})
			}
		}
	}
	// The last of the removals were queued, and a commit comes behind them.
	d.mustWrite(numbered(keys), d.record(timestamp.T{}))
	want := d.notes()
	if len(want) != keys-keys/3+1 {
		t.Fatalf("%d notes before", len(want))
	}
	d.rebuild()
	got := d.notes()
	if len(got) != len(want) {
		t.Errorf("%d notes after, %d before", len(got), len(want))
	}
	for i := range keys {
		k := numbered(i)
		st, err := d.s.Read(k, false)
		if err != nil || st.Record == nil {
			t.Fatalf("key %d: %+v, %v", i, st, err)
		}
		if st.Committed != (i%3 == 0) {
			t.Errorf("key %d: known committed %v", i, st.Committed)
		}
		if n, w := got[k], want[k]; n.Ballot != w.Ballot || len(n.Suspects) != len(w.Suspects) || len(n.Drops) != len(w.Drops) {
			t.Errorf("key %d: note %+v, before %+v", i, n, w)
		}
	}
}

// What a note replaces, and what is removed with it, is dead in the log at once, so
// that compaction sees it.
func TestNotesAreAccounted(t *testing.T) {
	d := newDevice(t)
	k := numbered(1)
	live := func() int64 { return d.vol.Stats().LiveBytes[volume.Meta] }
	d.mustWrite(k, d.record(timestamp.T{}))
	first := live()
	for range 100 {
		d.mustWrite(k, d.record(timestamp.T{}))
	}
	if n := live(); n > 2*first {
		t.Errorf("%d live bytes after 100 writes of a key, %d after the first", n, first)
	}
	var last timestamp.T
	for range 100 {
		r := d.record(timestamp.T{})
		d.mustWrite(k, r)
		d.s.Settle([]register.Settled{{Key: k, Ballot: r.Ballot}})
		last = r.Ballot
		d.mustWrite(numbered(2), d.record(timestamp.T{})) // what is queued has gone before
	}
	if n := live(); n > 4*first || n < 0 {
		t.Errorf("%d live bytes after 100 settled writes, %d after the first; the newest is %v", n, first, last)
	}
}
