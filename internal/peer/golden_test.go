package peer

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"ringfort/internal/blob"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/messages.txt instead of comparing with it")

// goldenMessages is one of each message, by its name in the protocol's table, made of
// values that are all different and show their byte order.
func goldenMessages() (list []goldenMessage) {
	var (
		key      = keyhash.Hash{0: 0xa0, 15: 0xaf}
		target   = Target{Device: 300, Policy: 2, Epoch: 1 << 40, Partition: 5}
		ts       = timestamp.T{Micros: 0x0102030405060708, Logical: 0x090a0b0c, Seq: 0x0d0e0f10, Writer: 0x1112131415161718}
		other    = timestamp.T{Micros: 0xb1, Writer: 0xb2}
		id       = blob.ID{Group: ts, Part: 0x191a1b1c, Attempt: 0x1d1e1f2021222324}
		lease    = register.Lease{Holder: 1 << 50, Address: "host:1", Micros: 2e6}
		listing  = Listing{Key: key, Incarnation: catalog.Incarnation{0: 0xc0, 15: 0xcf}, Table: catalog.Parts, RangeEpoch: 6}
		row      = catalog.Row{Name: "name", Ballot: ts, TS: other, Bytes: 300, Value: []byte("value")}
		dead     = catalog.Row{Name: "dead", Ballot: ts, TS: ts, Deleted: true}
		head     = registerHead{target, Accounts, key}
		rows     = listingHead{target, Containers, listing}
		record   = register.Record{Ballot: ts, TS: ts, Op: other, Root: ts, Mod: ts, Group: other, Epoch: 7, Value: []byte("value")}
		withData = record
		state    = register.State{Policy: 2, Promised: other, Record: &record, Held: true, Committed: true}
	)
	withData.DataLen, withData.DataSum, withData.Data = 4, 0x2122232425262728, []byte("data")
	bare := *withData.WithoutData()
	add := func(name string, b []byte) { list = append(list, goldenMessage{name, b}) }
	add("Learn", head.appendTo(nil))
	add("Learn answer", appendKnown(nil, &register.Known{Highest: ts, Exists: true}))
	add("Read", (&readRequest{head, true}).appendTo(nil))
	add("Read answer", appendState(nil, &state))
	add("Read answer with data", appendState(nil, &register.State{Record: &withData, Held: true}))
	add("Read answer, nothing held", appendState(nil, &register.State{}))
	add("ReadLeased", (&leasedRequest{target, key, lease}).appendTo(nil))
	add("Write", (&writeRequest{head, &record}).appendTo(nil))
	add("Write with data", (&writeRequest{head, &withData}).appendTo(nil))
	add("Write bare", (&writeRequest{head, &bare}).appendTo(nil))
	add("Write answer", appendAnswer(nil, &register.Answer{Accepted: true, State: state, Leases: []register.Lease{lease}}))
	add("Write answer, swept", appendAnswer(nil, &register.Answer{Swept: true, State: register.State{Promised: ts}}))
	add("Prepare", (&prepareRequest{head, ts, other}).appendTo(nil))
	add("Settle", appendSettle(nil, []settleGroup{{target, Objects, []register.Settled{{Key: key, Ballot: ts}}}}))
	add("PutRows", (&putRowsRequest{rows, []catalog.Row{row, dead}}).appendTo(nil))
	add("ListRows", (&listRowsRequest{target, Containers, RowQuery{
		Listing: listing, Prefix: "p", Marker: "m", EndMarker: "e", Delimiter: "/", Inclusive: true, Reverse: true, Limit: 1000,
	}}).appendTo(nil))
	add("ListRows answer", appendPage(nil, &RowPage{More: true, Entries: []Entry{{Row: row}, {Row: row, CommonPrefix: "n"}}}, math.MaxInt))
	add("GetRows", (&getRowsRequest{rows, []string{"one", "two"}}).appendTo(nil))
	add("GetRows answer", appendRowStates(nil, []RowState{{}, {true, row}}, math.MaxInt))
	add("ListingStats", rows.appendTo(nil))
	add("ListingStats answer", appendStats(nil, &ListingStats{Count: 300, Bytes: 1 << 40}))
	add("DropBlobs", (&dropRequest{target, key, []blob.ID{id}}).appendTo(nil))
	add("Revoke", key[:])
	add("Status answer", appendStatus(nil, &NodeStatus{
		Name: "node", Version: "v", Started: 300, Micros: 1 << 50, Epochs: map[string]uint64{"b": 2, "a": 300},
		Devices: []DeviceStatus{{
			Device: 300, UUID: [16]byte{0: 0xd0, 15: 0xdf}, Path: "/d", State: "in service", Problem: "none",
			TotalBytes: 1 << 40, FreeBytes: 300, Uploads: 7,
		}},
	}))
	add("DropGroup", (&dropGroupRequest{target, key, ts}).appendTo(nil))
	add("error", appendError(nil, errs.New("op", errs.Full, "what")))
	add("device's state", appendDeviceState(nil, DeviceState{Generation: 300, Position: 1 << 40}))
	add("fragment PUT", (&createRequest{target, FragmentHeader{
		Owner: key, ID: id, Index: 5, Coding: catalog.Coding{K: 4, M: 2, BlockSize: 1 << 20}, Size: 1 << 40,
	}}).appendTo(nil))
	add("fragment PUT, size not known", (&createRequest{target, FragmentHeader{
		Owner: key, ID: id, Coding: catalog.Coding{K: 1, BlockSize: 4096}, Size: -1,
	}}).appendTo(nil))
	add("fragment GET", (&openRequest{fragmentHead{target, FragmentName{key, id, 254}}, 300, 1 << 40}).appendTo(nil))
	add("commit", appendCommit(nil, 1<<40, 300*time.Millisecond))
	frame := append(make([]byte, frameHeaderSize), "payload"...)
	sealFrame(frame, 0x01020304, msgWrite, flagAnswer|flagError|flagDevice, 300*time.Millisecond)
	add("frame", frame)
	welcome := make([]byte, frameHeaderSize)
	sealFrame(welcome, 0, msgWelcome, 0, 0)
	add("welcome", welcome)
	block := append(make([]byte, blockHeaderSize), "payload"...)
	sealBlock(block, 1<<40, blockLast, block[blockHeaderSize:])
	add("block", block)
	return append(list, goldenHandshake()...)
}

// goldenHandshake is what is proved with a secret and nonces that are known.
func goldenHandshake() (list []goldenMessage) {
	secret, err := NewSecret([]byte("a secret of sixteen bytes or more"))
	if err != nil {
		panic(err)
	}
	tr := transcript{token: upgradeToken, client: [nonceSize]byte{0: 0xc0, 31: 0xcf}, server: [nonceSize]byte{0: 0xe0, 31: 0xef}}
	add := func(name string, b []byte) { list = append(list, goldenMessage{name, b}) }
	add("token", []byte(tr.token))
	hello, server, client := secret.helloMAC(tr.token, tr.client), secret.over("server proof", &tr), secret.over("client proof", &tr)
	add("client hello", hello[:])
	add("server proof", server[:])
	add("client proof", client[:])
	s := secret.session(&tr)
	value, counter := s.authorize("PUT", "/ringfort-peer/fragment?q=AA")
	add("authorization", []byte(value))
	add("proof of an answer", []byte(s.proof(counter, 200)))
	return list
}

type goldenMessage struct {
	name  string
	bytes []byte
}

const goldenFile = "testdata/messages.txt"

// TestBytesAreFrozen pins what is between nodes. A change of any of it is a new
// upgrade token, see "Versions" in the package comment; then write the file again with
// -rewrite and read what has changed.
func TestBytesAreFrozen(t *testing.T) {
	var now bytes.Buffer
	for _, m := range goldenMessages() {
		fmt.Fprintf(&now, "%s: %x\n", m.name, m.bytes)
	}
	if *rewrite {
		if err := os.WriteFile(goldenFile, now.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	was, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	got, want := strings.Split(now.String(), "\n"), strings.Split(string(was), "\n")
	for i := range max(len(got), len(want)) {
		g, w := "", ""
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("is\n%s\nwas\n%s", g, w)
		}
	}
}

// What was written down can still be read, whatever has become of the writers.
func TestFrozenBytesAreRead(t *testing.T) {
	f, err := os.Open(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	readers := map[string]string{ // golden name -> name of the message's reader
		"Learn": "head", "Learn answer": "known", "Read": "read", "Read answer": "state", "Read answer with data": "state",
		"Read answer, nothing held": "state", "ReadLeased": "leased", "Write": "write", "Write with data": "write",
		"Write bare": "write", "Write answer": "answer", "Write answer, swept": "answer", "Prepare": "prepare",
		"Settle": "settle", "PutRows": "put rows", "ListRows": "list rows", "ListRows answer": "page", "GetRows": "get rows",
		"GetRows answer": "row states", "ListingStats": "listing", "ListingStats answer": "stats", "DropBlobs": "drop",
		"DropGroup": "drop group", "Status answer": "status", "fragment PUT": "create",
		"fragment PUT, size not known": "create", "fragment GET": "open",
	}
	byName := map[string]message{}
	for _, m := range messages() {
		byName[m.name] = m
	}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, digits, _ := strings.Cut(lines.Text(), ": ")
		reader, ok := readers[name]
		if !ok {
			continue
		}
		delete(readers, name)
		m, ok := byName[reader]
		if !ok {
			t.Errorf("no reader is called %q", reader)
			continue
		}
		b, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		v, err := m.read(b)
		if err != nil || !bytes.Equal(m.write(v), b) {
			t.Errorf("%s: %+v, %v", name, flat(v), err)
		}
	}
	if len(readers) > 0 {
		t.Errorf("not there: %v", readers)
	}
}

// Every message of the protocol has its bytes in the file.
func TestEveryMessageIsFrozen(t *testing.T) {
	have := map[string]bool{}
	for _, m := range goldenMessages() {
		have[strings.TrimSuffix(m.name, " answer")] = true
	}
	for _, name := range messageNames[1:] {
		if !have[name] {
			t.Errorf("%s is not frozen", name)
		}
	}
}

// What a newer program sends is refused as that.
func TestNewerIsRefused(t *testing.T) {
	byName := map[string]message{}
	for _, m := range messages() {
		byName[m.name] = m
	}
	key := strings.Repeat("00", 16)
	incarnation := key
	for _, c := range []struct {
		name, message, hex string
		kind               errs.Kind
	}{
		{"a service", "head", "01000000" + "04" + key, errs.NotImplemented},
		{"no service", "head", "01000000" + "00" + key, errs.Corrupt},
		{"a table", "listing", "01000000" + "02" + key + incarnation + "06" + "00", errs.NotImplemented},
		{"no table", "listing", "01000000" + "02" + key + incarnation + "00" + "00", errs.Corrupt},
		{"flags of a query", "list rows", "01000000" + "02" + key + incarnation + "01" + "00" + "04" + "00000000" + "01", errs.NotImplemented},
		{"flags of an answer", "answer", "04" + "00" + "00" + "0100", errs.NotImplemented},
		{"a version of a state", "state", "00" + "0200", errs.NotImplemented},
		{"a flag of a state", "state", "00" + "01808001", errs.NotImplemented},
		{"a device of more than 32 bits", "head", "8080808010000000" + "01" + key, errs.Corrupt},
		{"a partition of more than 32 bits", "head", "010000" + "8080808010" + "01" + key, errs.Corrupt},
		{"a policy of more than 32 bits", "head", "01" + "8080808010" + "0000" + "01" + key, errs.Corrupt},
	} {
		b, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(c.name, err)
		}
		if v, err := byName[c.message].read(b); !errs.Is(err, c.kind) {
			t.Errorf("%s: %+v, %v", c.name, v, err)
		}
	}
	if err := decodeError("op", []byte{byte(errs.Gone) + 1, 0}); !errs.Is(err, errs.NotImplemented) {
		t.Errorf("a kind of error: %v", err)
	}
}
