package register

import (
	"encoding/hex"
	"math"
	"reflect"
	"strings"
	"testing"

	"ringfort/internal/errs"
	"ringfort/internal/timestamp"
)

// Five timestamps, none like another, and how they are written.
var (
	tA = timestamp.T{Micros: 0x0102030405060708, Logical: 0x090a0b0c, Seq: 0x0d0e0f10, Writer: 0x1112131415161718}
	tB = timestamp.T{Micros: 0xb1, Writer: 0xb2}
	tC = timestamp.T{Micros: 0xc1, Writer: 0xc2}
	tD = timestamp.T{Micros: 0xd1, Writer: 0xd2}
	tE = timestamp.T{Micros: 0xe1, Writer: 0xe2}
)

const (
	hA = " 0102030405060708 090a0b0c 0d0e0f10 1112131415161718"
	hB = " 00000000000000b1 00000000 00000000 00000000000000b2"
	hC = " 00000000000000c1 00000000 00000000 00000000000000c2"
	hD = " 00000000000000d1 00000000 00000000 00000000000000d2"
	hE = " 00000000000000e1 00000000 00000000 00000000000000e2"
	h0 = " 0000000000000000 00000000 00000000 0000000000000000"
)

// unhex reads hexadecimal with blanks.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// goldenStates are all the shapes that a state has. They are on disks and between
// nodes: when one of them changes, a format has changed.
var goldenStates = []struct {
	name  string
	state State
	hex   string
}{
	{"nothing", State{}, "01 00"},
	{"a promise", State{Promised: tA}, "01 01" + hA},
	{"a promise under a policy", State{Policy: 300, Promised: tA}, "01 8140 ac02" + hA},
	{"swept groups", State{Promised: tA, Swept: Swept{Before: tB, Groups: []timestamp.T{tC, tD}}},
		"01 03" + hA + hB + "02" + hC + hD},
	{"swept alone", State{Swept: Swept{Groups: []timestamp.T{tC}}}, "01 02" + h0 + "01" + hC},
	{"a blind write", State{Held: true, Record: &Record{Ballot: tA, TS: tA, Op: tA, Root: tA, Mod: tA, Epoch: 300, Value: []byte("value")}},
		"01 f411" + hA + "ac02" + "76616c7565"},
	{"all timestamps", State{Held: true, Record: &Record{Ballot: tA, TS: tB, Op: tC, Root: tD, Mod: tE, Value: []byte{}}},
		"01 8410" + hA + hB + hC + hD + hE + "00"},
	{"a chain", State{Held: true, Record: &Record{Ballot: tA, TS: tA, Op: tA, Root: timestamp.T{}, Mod: tA, Chain: []timestamp.T{tB, tC}, Value: []byte("v")}},
		"01 b413" + hA + h0 + "02" + hB + hC + "00" + "76"},
	{"a group", State{Held: true, Record: &Record{Ballot: tA, TS: tA, Op: tA, Root: tA, Mod: tA, Group: tB, Value: []byte("v")}},
		"01 f415" + hA + hB + "00" + "76"},
	{"data, here", State{Held: true, Record: &Record{Ballot: tA, TS: tA, Op: tA, Root: tA, Mod: tA, DataLen: 300, DataSum: 0x0102030405060708, Value: []byte("v")}},
		"01 f419" + hA + "ac02" + "0102030405060708" + "00" + "76"},
	{"bare", State{Record: &Record{Ballot: tA, TS: tA, Op: tA, Root: tA, Mod: tA, DataLen: 300, DataSum: 0x0102030405060708, Value: []byte("v")}},
		"01 f409" + hA + "ac02" + "0102030405060708" + "00" + "76"},
	{"a tombstone", State{Held: true, Record: &Record{Ballot: tA, TS: tA, Op: tA, Root: tA, Mod: tA, Tombstone: true, Value: []byte{}}},
		"01 fc11" + hA + "00"},
	{"known committed", State{Held: true, Committed: true, Record: &Record{Ballot: tA, TS: tA, Op: tA, Root: tA, Mod: tA, Value: []byte{}}},
		"01 f431" + hA + "00"},
	{"everything", State{
		Policy: math.MaxUint32, Promised: tE, Swept: Swept{Before: tD, Groups: []timestamp.T{tE}}, Held: true, Committed: true,
		Record: &Record{
			Ballot: tA, TS: tB, Op: tC, Root: tD, Mod: tE, Chain: []timestamp.T{tA}, Group: tB, Tombstone: true,
			DataLen: 1, DataSum: 2, Epoch: math.MaxUint64, Value: []byte("v"),
		},
	}, "01 8f7e" + "ffffffff0f" + hE + hD + "01" + hE + hA + hB + hC + hD + hE + "01" + hA + hB + "01" + "0000000000000002" + "ffffffffffffffffff01" + "76"},
}

func TestStateBytesAreFrozen(t *testing.T) {
	for _, c := range goldenStates {
		want := unhex(t, c.hex)
		if got := c.state.AppendTo(nil); string(got) != string(want) {
			t.Errorf("%s is written as\n%x, not as\n%x", c.name, got, want)
		}
		if got, err := DecodeState(want); err != nil || !reflect.DeepEqual(got, c.state) {
			t.Errorf("%s is read as\n%+v %+v, %v", c.name, got, got.Record, err)
		}
	}
}

// What this program does not know, and what nobody can have meant.
func TestStateIsRefused(t *testing.T) {
	for _, c := range []struct {
		name, hex string
		kind      errs.Kind
	}{
		{"a newer version", "02 00", errs.NotImplemented},
		{"a much newer version", "ff 0102", errs.NotImplemented},
		{"a flag of a newer program", "01 808001", errs.NotImplemented},
		{"and with known ones", "01 818001" + hA, errs.NotImplemented},
		{"no version", "", errs.Corrupt},
		{"version 0", "00 00", errs.Corrupt},
		{"no flags", "01", errs.Corrupt},
		{"a promise that is none", "01 01" + h0, errs.Corrupt},
		{"the default policy, written down", "01 8140 00" + hA, errs.Corrupt},
		{"a policy of more than 32 bits", "01 8140 8080808010" + hA, errs.Corrupt},
		{"a number longer than it need be", "01 8100" + hA, errs.Corrupt},
		{"a tombstone without a record", "01 08", errs.Corrupt},
		{"known committed without a record", "01 8020", errs.Corrupt},
		{"nothing swept", "01 02" + h0 + "00", errs.Corrupt},
		{"an empty chain", "01 f413" + hA + "00" + "00", errs.Corrupt},
		{"more of a chain than there are bytes", "01 f413" + hA + "ffffffff0f" + "00", errs.Corrupt},
		{"a group that is none", "01 f415" + hA + h0 + "00", errs.Corrupt},
		{"data of no bytes", "01 f419" + hA + "00" + "0102030405060708" + "00", errs.Corrupt},
		{"data of more than any", "01 f419" + hA + "818080800f" + "0102030405060708" + "00", errs.Corrupt},
		{"a timestamp that is the same, written twice", "01 e411" + hA + hA + "00", errs.Corrupt},
		{"17 swept groups", "01 02" + h0 + "11" + strings.Repeat(hC, 17), errs.Corrupt},
	} {
		if s, err := DecodeState(unhex(t, c.hex)); !errs.Is(err, c.kind) {
			t.Errorf("%s: %+v, %v", c.name, s, err)
		}
	}
}

func TestNoteBytesAreFrozen(t *testing.T) {
	for _, c := range []struct {
		name string
		note Note
		hex  string
	}{
		{"nothing given up", Note{Ballot: tA, Micros: 300}, "01" + hA + "ac02" + "00" + "00"},
		{"drops", Note{Ballot: tA, Drops: []timestamp.T{tB, tC}}, "01" + hA + "00" + "02" + hB + hC + "00"},
		{"suspects", Note{Ballot: tA, Suspects: []timestamp.T{tD}}, "01" + hA + "00" + "00" + "01" + hD},
		{"both", Note{Ballot: tA, Micros: math.MaxInt64, Drops: []timestamp.T{tB}, Suspects: []timestamp.T{tC}},
			"01" + hA + "ffffffffffffffff7f" + "01" + hB + "01" + hC},
	} {
		want := unhex(t, c.hex)
		if got := c.note.AppendTo(nil); string(got) != string(want) {
			t.Errorf("%s is written as\n%x, not as\n%x", c.name, got, want)
		}
		if got, err := DecodeNote(want); err != nil || !reflect.DeepEqual(got, c.note) {
			t.Errorf("%s is read as %+v, %v", c.name, got, err)
		}
	}
	// A device whose clock is before 1970 writes a note that can be read.
	early := Note{Ballot: tA, Micros: -5}
	if n, err := DecodeNote(early.AppendTo(nil)); err != nil || n.Micros != 0 {
		t.Errorf("%+v, %v", n, err)
	}
	for _, c := range []struct {
		name, hex string
		kind      errs.Kind
	}{
		{"a newer version", "02" + hA + "00 00 00", errs.NotImplemented},
		{"version 0", "00" + hA + "00 00 00", errs.Corrupt},
		{"nothing", "", errs.Corrupt},
		{"cut short", "01" + hA + "00 00", errs.Corrupt},
		{"too long", "01" + hA + "00 00 00 00", errs.Corrupt},
		{"a time of 64 bits", "01" + hA + "ffffffffffffffffff01 00 00", errs.Corrupt},
	} {
		if n, err := DecodeNote(unhex(t, c.hex)); !errs.Is(err, c.kind) {
			t.Errorf("%s: %+v, %v", c.name, n, err)
		}
	}
}
