package objectserver

import (
	"context"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfort/internal/blob"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
	"ringfort/internal/volume"
	"ringfort/objectserver/fragfile"
)

var (
	goldenOwner = keyhash.Hash{0: 0xa0, 15: 0xaf}
	goldenGroup = timestamp.T{Micros: 0x0102030405060708, Logical: 0x090a0b0c, Seq: 0x0d0e0f10, Writer: 0x1112131415161718}
	goldenBlob  = blob.ID{Group: goldenGroup, Part: 0x191a1b1c, Attempt: 0x1d1e1f2021222324}
)

const (
	hexOwner = "a00000000000000000000000000000af"
	hexGroup = "0102030405060708090a0b0c0d0e0f101112131415161718"
	hexBlob  = hexGroup + "191a1b1c1d1e1f2021222324"
)

// dump is every entry of a space: its key, and its head behind a colon.
func (d *device) dump(space volume.SpaceID) (list []string) {
	d.t.Helper()
	it, err := d.vol.NewIter(space, nil, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		list = append(list, fmt.Sprintf("%x: %x", it.Key(), it.Head()))
	}
	if err := it.Err(); err != nil {
		d.t.Fatal(err)
	}
	return list
}

// TestBytesAreFrozen pins the entries of every space: they are on disks, and when this
// test fails a format has changed.
func TestBytesAreFrozen(t *testing.T) {
	d := newDevice(t)
	d.now = time.UnixMicro(0x2526272829)
	h := header(goldenOwner, goldenGroup, goldenBlob.Part, 10)
	h.ID = goldenBlob
	if err := d.store(h, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	long := *h
	long.Index, long.Size = 1, testPackMax+1
	if err := d.store(&long, make([]byte, testPackMax+1)); err != nil {
		t.Fatal(err)
	}
	at := func(n uint64) timestamp.T { return timestamp.T{Micros: goldenGroup.Micros, Writer: n} }
	write := func(b, group timestamp.T) {
		t.Helper()
		r := &register.Record{Ballot: b, TS: b, Op: b, Root: b, Mod: b, Group: group, Epoch: 5, Value: []byte("v")}
		if a, err := d.s.Of(testPolicy).Write(context.Background(), goldenOwner, r); err != nil || !a.Accepted {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	write(at(1), goldenGroup)
	d.s.Settle([]register.Settled{{Key: goldenOwner, Ballot: at(1)}})
	d.mustWrite(keyhash.Hash{1}, d.record(timestamp.T{})) // what is queued has gone before
	d.s.Settle([]register.Settled{})
	write(at(2), at(100))                 // drops the golden group
	write(at(3), at(101))                 // and makes the one before a suspect
	first := func(list []string) string { // the other key's come before
		return list[len(list)-1]
	}
	const (
		t3   = "0102030405060708" + "00000000" + "00000000" + "0000000000000003"
		g100 = "0102030405060708" + "00000000" + "00000000" + "0000000000000064"
		g101 = "0102030405060708" + "00000000" + "00000000" + "0000000000000065"
		now  = "0000002526272829"
	)
	if got, want := first(d.dump(spaceStates)), hexOwner+": "+"01"+"f455"+"09"+t3+g101+"05"+"76"; got != want {
		t.Errorf("state\n%s\n%s", got, want)
	}
	if got, want := first(d.dump(spaceNotes)), hexOwner+": "+"01"+t3+"a9d09cb1d204"+"01"+hexGroup+"01"+g100; got != want {
		t.Errorf("note\n%s\n%s", got, want)
	}
	want := []string{
		hexOwner + hexBlob + "00: " + "01" + "01" + "01" + "00000009" + "000000000000000a",
		hexOwner + hexBlob + "01: " + "02" + "01" + "01" + "00000009" + "0000000000002001",
	}
	if got := d.dump(spaceFragments); !slices.Equal(got, want) {
		t.Errorf("fragments\n%s\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	d.s.Settle([]register.Settled{{Key: goldenOwner, Ballot: at(3)}})
	d.mustWrite(keyhash.Hash{1}, d.record(timestamp.T{}))
	const minute = "0000002529baaf29" // later
	if got, want := d.dump(spaceGarbage), []string{minute + hexOwner + hexGroup + ": "}; !slices.Equal(got, want) {
		t.Errorf("garbage\n%q\n%q", got, want)
	}
	if got, want := d.dump(spaceSuspects), []string{hexOwner + g100 + ": " + now}; !slices.Equal(got, want) {
		t.Errorf("suspects\n%q\n%q", got, want)
	}
}

// Spaces have numbers for ever.
func TestSpacesAreFrozen(t *testing.T) {
	var got []string
	for _, s := range Spaces() {
		got = append(got, fmt.Sprint(s.ID, " ", s.Name, " ", s.Kept))
	}
	want := []string{"1 object states true", "2 object notes true", "3 fragments true", "4 garbage false", "5 suspects false"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// An entry that a newer program wrote is left alone, by readers and by those who
// delete; a corrupt one can be deleted.
func TestEntriesOfOthers(t *testing.T) {
	ctx := context.Background()
	good := entry(inLog, fragfile.Header{K: 1, M: 1, Policy: 3, Size: 5})
	for _, c := range []struct {
		name string
		head []byte
		kind errs.Kind
	}{
		{"newer", append([]byte{3}, good[1:]...), errs.NotImplemented},
		{"newer and longer", append([]byte{200}, make([]byte, 40)...), errs.NotImplemented},
		{"empty", nil, errs.Corrupt},
		{"zero", append([]byte{0}, good[1:]...), errs.Corrupt},
		{"short", good[:14], errs.Corrupt},
		{"long", append(slices.Clone(good), 0), errs.Corrupt},
		{"negative size", append(slices.Clone(good[:7]), 0xff, 0, 0, 0, 0, 0, 0, 0), errs.Corrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDevice(t)
			name := fragfile.Name{Owner: goldenOwner, Blob: goldenBlob}
			b := d.vol.NewBatch(volume.Meta)
			b.Put(spaceFragments, fragmentKey(name), c.head, nil, volume.Ref{})
			if err := d.vol.Commit(ctx, b); err != nil {
				t.Fatal(err)
			}
			if _, err := d.s.OpenFragment(ctx, peer.FragmentName{Owner: goldenOwner, ID: goldenBlob}, 0, 1); !errs.Is(err, c.kind) {
				t.Errorf("opened: %v", err)
			}
			if err := d.s.Fragments(nil, func([]byte, Fragment) bool { return true }); !errs.Is(err, c.kind) {
				t.Errorf("listed: %v", err)
			}
			err := d.s.DropGroup(ctx, goldenOwner, goldenGroup)
			if left := len(d.dump(spaceFragments)); (c.kind == errs.Corrupt) != (err == nil && left == 0) {
				t.Errorf("dropped: %v, %d are left", err, left)
			}
		})
	}
}

// A fragment's index is a byte on disk: one that does not fit names nothing.
func TestFragmentIndexIsNotCut(t *testing.T) {
	d := newDevice(t)
	h := header(goldenOwner, goldenGroup, 1, 10)
	if err := d.store(h, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{-1, 255, 256, math.MaxInt} {
		n := nameIn(h)
		n.Index = i
		if _, err := d.s.OpenFragment(context.Background(), n, 0, 1); !errs.Is(err, errs.Invalid) {
			t.Errorf("fragment %d: %v", i, err)
		}
	}
}

// Keys of the garbage queue and of suspects come from a disk.
func FuzzKeys(f *testing.F) {
	f.Add(garbageKey(7, goldenOwner, goldenGroup))
	f.Add(groupKey(goldenOwner, goldenGroup))
	f.Add(fragmentKey(fragfile.Name{Owner: goldenOwner, Blob: goldenBlob, Index: 3}))
	f.Add(entry(inFile, fragfile.Header{K: 4, M: 2, Policy: 9, Size: 1 << 40}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if g, ok := parseGroup(b); ok && string(groupKey(g.Owner, g.Group)) != string(b) {
			t.Errorf("group %x", b)
		}
		if g, ok := parseGarbage(b); ok && string(groupKey(g.Owner, g.Group)) != string(b[8:]) {
			t.Errorf("garbage %x", b)
		}
		if n, ok := parseFragmentKey(b); ok && string(fragmentKey(n)) != string(b) {
			t.Errorf("fragment %x", b)
		}
		if e, err := decodeEntry(fragfile.Name{}, b); err == nil {
			where := byte(inLog)
			if e.File {
				where = inFile
			}
			h := fragfile.Header{K: e.Coding.K, M: e.Coding.M, Policy: e.Policy, Size: e.Size}
			if again := entry(where, h); string(again) != string(b) {
				t.Errorf("entry %s became %s", hex.EncodeToString(b), hex.EncodeToString(again))
			}
		}
	})
}
