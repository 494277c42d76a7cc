package volume

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"ringfort/internal/errs"
	"ringfort/internal/vfs/faultfs"
)

// TestGoldenBytes shows every kind of bytes that a volume writes. What is in the
// file was written by version 1: it changes only by accident.
func TestGoldenBytes(t *testing.T) {
	var out strings.Builder
	show := func(what string, b []byte) { fmt.Fprintf(&out, "# %s\n%s\n", what, hex.Dump(b)) }
	id := [16]byte{0: 0xaa, 15: 0xbb}
	show("VOLUME", encodeIdentity(id))

	info := segmentInfo{lane: Bulk, id: 0x11, volume: id, firstSeq: 0x22, prev: 0x33, prevEnd: 0x44}
	b := make([]byte, segmentInfoSize)
	info.put(b)
	show("segment", b)

	ops, list := sampleOps()
	h := sampleHeader(ops, list)
	b = make([]byte, headerSize)
	h.put(b, binary.LittleEndian.Uint64(id[:]))
	show("frame", b)
	h = frameHeader{lane: Meta, seal: true, segment: 1, generation: 2, seq: 3, durable: 2, other: 4, opsSum: xxhash.Sum64(nil)}
	h.put(b, 0)
	show("frame that seals a segment", b)

	names := map[byte]string{opPut: "Put", opDelete: "Delete", opDeleteRange: "DeleteRange", opAdd: "Add", opMove: "Move", opTomb: "Tomb"}
	for i := range list {
		o := &list[i]
		show(fmt.Sprintf("%s, flags %d", names[o.kind], o.flags), ops[o.start:o.end])
	}
	at := Ref{Segment: 1, Offset: 2, Length: 3, first: 1}
	old := Ref{Segment: 4, Offset: 5, Length: 6, first: 1}
	plain := logOp{head: []byte("head"), headLen: 4}
	tail := logOp{flags: flagTail, head: []byte("head"), headLen: 4, tailLen: 300, tailSum: 7}
	spilled := logOp{flags: flagSpilled | flagTail, headLen: 200, headSum: 8, tailLen: 300, tailSum: 7}
	show("index entry of a row", appendIndexValue(nil, &plain, Ref{}))
	show("index entry that is located", appendIndexValue(nil, &plain, at))
	show("index entry with a first copy and a tail", appendIndexValue(nil, &tail, old))
	show("index entry with its head spilled", appendIndexValue(nil, &spilled, at))
	show("index entry of counters", appendCounters([]byte{tagCounters}, []int64{1, -5, 300}))

	pos := position{segment: 1, offset: 2, seq: 3}
	show("key of a position", positionKey(Bulk))
	show("position", pos.encode())
	s := &segment{id: 1, lane: Bulk, live: 2, tombs: 3, entries: 4}
	s.end.Store(5)
	show("key of a segment's counts", segmentKey(0x01020304))
	show("a segment's counts", s.encodeCounts())
	show("key of a finding", findingKey(0x0102030405060708))
	show("key of a lost space", lostKey(9))
	show("keys of the generation, the spaces and the clean close", append(append(append([]byte{}, generationKey...), spacesKey...), cleanKey...))
	var v Volume
	v.known[1], v.kept[1], v.stored[0x20] = true, true, true
	show("spaces", v.encodeSpaces())
	golden(t, "testdata/bytes.txt", out.String())
}

// What a newer program has written is refused and left as it is: taken for damage,
// it would be reported as lost, and taken for a torn tail, cut off.
func TestNewerIsRefused(t *testing.T) {
	frame := int64(segmentHeader)
	resum := func(b []byte, key uint64) { // of the first frame
		f := b[frame:]
		n := binary.LittleEndian.Uint32(f[32:])
		binary.LittleEndian.PutUint64(f[56:], xxhash.Sum64(f[headerSize:headerSize+n]))
		binary.LittleEndian.PutUint64(f[64:], xxhash.Sum64(f[:64])^key)
	}
	for name, change := range map[string]func(b []byte, key uint64){
		"version of a frame":   func(b []byte, _ uint64) { b[frame+4] = 2 },
		"flag of a frame":      func(b []byte, _ uint64) { b[frame+6] = 2 },
		"lane of a frame":      func(b []byte, _ uint64) { b[frame+5] = 2 },
		"rest of a frame":      func(b []byte, _ uint64) { b[frame+44] = 1 },
		"kind of an operation": func(b []byte, _ uint64) { b[frame+headerSize] = 7 },
		"flag of an operation": func(b []byte, _ uint64) { b[frame+headerSize+2] |= 0x80 },
		"version of a segment": func(b []byte, _ uint64) {
			b[4] = 2
			binary.LittleEndian.PutUint64(b[56:], xxhash.Sum64(b[:56]))
		},
		"rest of a segment": func(b []byte, _ uint64) {
			b[44] = 1
			binary.LittleEndian.PutUint64(b[56:], xxhash.Sum64(b[:56]))
		},
	} {
		v, fs, mem, cfg := faulty(t, nil)
		mustPut(t, v, Meta, "key", "head", nil)
		path, key := v.lanes[Meta].seg.path, v.frameKey()
		fs.Cut()
		v.Close()
		mem = mem.Crash(nil)
		var before []byte
		mem.Corrupt(path, func(b []byte) {
			change(b, key)
			resum(b, key)
			before = append(before, b...)
		})
		cfg.FS = mem
		_, err := Open(context.Background(), cfg)
		if !errs.Is(err, errs.NotImplemented) || !strings.Contains(err.Error(), "newer program") {
			t.Errorf("%s: %v", name, err)
		}
		if err := Rebuild(context.Background(), cfg); !errs.Is(err, errs.NotImplemented) {
			t.Errorf("%s: rebuild: %v", name, err)
		}
		mem.Corrupt(path, func(b []byte) {
			if string(b) != string(before) {
				t.Errorf("%s: the segment was changed", name)
			}
		})
	}
	mem := faultfs.NewMem()
	if err := open(t, testConfig(mem)).Close(); err != nil {
		t.Fatal(err)
	}
	mem.Corrupt("/vol/VOLUME", func(b []byte) {
		b[8]++
		binary.LittleEndian.PutUint64(b[32:], xxhash.Sum64(b[:32]))
	})
	openKind(t, testConfig(mem), errs.NotImplemented)
}

// Index values that this program does not know are not taken for what they resemble.
func TestIndexTags(t *testing.T) {
	o := logOp{head: []byte("head"), headLen: 4}
	good := appendIndexValue(nil, &o, Ref{Segment: 1, Offset: 2, Length: 3, first: 1})
	for _, c := range []struct {
		name   string
		change func(b []byte)
		want   errs.Kind
	}{
		{"bit 4", func(b []byte) { b[0] |= 0x10 }, errs.NotImplemented},
		{"bit 5", func(b []byte) { b[0] |= 0x20 }, errs.NotImplemented},
		{"counters and value", func(b []byte) { b[0] |= tagCounters }, errs.Corrupt},
		{"neither", func(b []byte) { b[0] &^= tagValue }, errs.Corrupt},
		{"located nowhere", func(b []byte) { clear(b[1:5]) }, errs.Corrupt},
		{"as it was", func([]byte) {}, errs.Other},
	} {
		b := append([]byte(nil), good...)
		c.change(b)
		_, err := decodeIndexValue(b)
		if got := errs.KindOf(err); got != c.want || (err == nil) != (c.want == errs.Other) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := decodeIndexValue([]byte{tagValue | tagFirst, 1, 0, 0, 0}); !errs.Is(err, errs.Corrupt) {
		t.Error("a first copy without a last one:", err)
	}
}
