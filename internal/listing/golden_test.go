package listing

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/timestamp"
	"ringfort/internal/volume"
)

var (
	goldenKey    = keyhash.Hash{0: 0x10, 15: 0x1f}
	goldenInc    = catalog.Incarnation{0: 0xa0, 15: 0xaf}
	goldenBallot = timestamp.T{Micros: 0x0102030405060708, Logical: 0x090a0b0c, Seq: 0x0d0e0f10, Writer: 0x1112131415161718}
	goldenTS     = timestamp.T{Micros: 1, Writer: 2}
)

// TestBytesAreFrozen pins the keys and rows of every space: they are on disks, and
// when this test fails a format has changed.
func TestBytesAreFrozen(t *testing.T) {
	s := newStore(t)
	full := catalog.Row{Name: "n", Ballot: goldenBallot, TS: goldenTS, Bytes: 300, Value: []byte("v")}
	bare := catalog.Row{Name: "o", Ballot: goldenBallot, TS: goldenBallot}
	dead := catalog.Row{Name: "p", Ballot: goldenBallot, TS: goldenTS, Deleted: true}
	version := full
	version.Name = "n\x00" + string(bytes.Repeat([]byte{0xfe}, timestamp.Size)) + "\x00id"
	part := full
	part.Name = "n\x00id\x0000007"
	upload := full
	upload.Name = "n\x00id"
	for _, x := range []struct {
		table catalog.Table
		inc   catalog.Incarnation
		rows  []catalog.Row
	}{
		{catalog.Objects, goldenInc, []catalog.Row{full, bare, dead}},
		{catalog.Uploads, goldenInc, []catalog.Row{upload}},
		{catalog.Parts, goldenInc, []catalog.Row{part}},
		{catalog.Versions, goldenInc, []catalog.Row{version, dead}},
		{catalog.Containers, catalog.Incarnation{}, []catalog.Row{full}},
	} {
		put(t, s, peer.Listing{Key: goldenKey, Incarnation: x.inc, Table: x.table}, x.rows...)
	}
	const (
		key  = "1000000000000000000000000000001f"
		inc  = "a00000000000000000000000000000af"
		none = "00000000000000000000000000000000"
		b    = "0102030405060708090a0b0c0d0e0f101112131415161718" // the ballot
		ts   = "000000000000000100000000000000000000000000000002"
	)
	var (
		fe    = strings.Repeat("fe", 24)
		whole = "01" + b + "00" + ts + "ac02" + "0176"
	)
	for _, x := range []struct {
		name  string
		space volume.SpaceID
		want  []string
	}{
		{"current", testSpaces.Current, []string{
			key + none + "04" + "6e: " + whole,
			key + inc + "01" + "6e: " + whole,
			key + inc + "01" + "6f: " + "01" + b + "02" + "00" + "00",
			key + inc + "02" + "6e006964: " + whole,
			key + inc + "03" + "6e006964003030303037: " + whole,
		}},
		{"versions", testSpaces.Versions, []string{key + inc + "05" + "6e00" + fe + "006964: " + whole}},
		{"tombstones", testSpaces.Tombstones, []string{
			key + inc + "01" + "70: " + "01" + b + "01" + ts + "00" + "00",
			key + inc + "05" + "70: " + "01" + b + "01" + ts + "00" + "00",
		}},
		{"counters", testSpaces.Counters, []string{ // rows, bytes, tombstones
			key + none + "04: [1 300 0]",
			key + inc + "01: [2 300 1]",
			key + inc + "02: [1 300 0]",
			key + inc + "03: [1 300 0]",
			key + inc + "05: [1 300 1]",
		}},
	} {
		if got := dump(t, s, x.space); !slices.Equal(got, x.want) {
			t.Errorf("%s:\n%s\nwas\n%s", x.name, strings.Join(got, "\n"), strings.Join(x.want, "\n"))
		}
	}
}

// dump returns a space's keys and what is under them.
func dump(t *testing.T, s *Store, space volume.SpaceID) (out []string) {
	t.Helper()
	it, err := s.v.NewIter(space, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		line := hex.EncodeToString(it.Key()) + ": "
		if space == testSpaces.Counters {
			line += fmt.Sprint(it.Counters())
		} else {
			line += hex.EncodeToString(it.Head())
		}
		out = append(out, line)
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestNewerRow: a row of a later version is not damage, and nothing goes on as if it
// were not there.
func TestNewerRow(t *testing.T) {
	r := row("x", 1, 1)
	for version, kind := range map[byte]errs.Kind{0: errs.Corrupt, 2: errs.NotImplemented, 255: errs.NotImplemented} {
		b := appendStored(nil, &r)
		b[0] = version
		if _, err := decodeStored(b); !errs.Is(err, kind) {
			t.Errorf("version %d: %v", version, err)
		}
	}
	if _, err := decodeStored(nil); !errs.Is(err, errs.Corrupt) {
		t.Errorf("nothing: %v", err)
	}
	b := appendStored(nil, &r)
	for i := range b {
		if _, err := decodeStored(b[:i]); !errs.Is(err, errs.Corrupt) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
	if _, err := decodeStored(append(b, 0)); !errs.Is(err, errs.Corrupt) {
		t.Errorf("a byte more: %v", err)
	}
}
