package volume

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"ringfort/internal/errs"
	"ringfort/internal/vfs"
)

// SegmentID numbers the segments of a volume, both lanes in one count, never reused.
type SegmentID uint32

// Ref says where an entry lies in the log. The zero Ref is nowhere. It is
// comparable, and means nothing outside its volume.
type Ref struct {
	// Segment holds the entry.
	Segment SegmentID
	// Offset is that of the entry's blob, if it has one, else of its operation.
	Offset uint32
	// Length is that of operation and blob together, in bytes.
	Length uint32
	// first is the oldest segment that may hold an earlier copy of this key.
	first SegmentID
}

// IsZero reports whether r is nowhere.
func (r Ref) IsZero() bool { return r.Segment == 0 }

// String formats the Ref for people.
func (r Ref) String() string { return fmt.Sprintf("%d@%d+%d", r.Segment, r.Offset, r.Length) }

// same reports whether two Refs are of one copy.
func (r Ref) same(o Ref) bool { return r.Segment == o.Segment && r.Offset == o.Offset }

// behind reports whether r lies behind o in their lane's log.
func (r Ref) behind(o Ref) bool {
	return r.Segment > o.Segment || r.Segment == o.Segment && r.Offset > o.Offset
}

const (
	frameMagic   = 0x31464652 // "RFF1"
	frameVersion = 1
	headerSize   = 72

	segmentMagic   = 0x31534652 // "RFS1"
	segmentVersion = 1
	segmentHeader  = vfs.BlockSize // the first frame's offset

	metaAlign = 8
	bulkAlign = vfs.BlockSize
)

// align returns the multiple at which a lane's frames begin.
func (l Lane) align() int64 {
	if l == Bulk {
		return bulkAlign
	}
	return metaAlign
}

func alignUp(n, a int64) int64 { return (n + a - 1) &^ (a - 1) }

// frameHeader begins every frame; doc.go has its layout.
type frameHeader struct {
	lane       Lane
	seal       bool // the segment ends with this frame, which is empty
	segment    SegmentID
	generation uint32
	seq        uint64 // of this frame, from 1 in each lane
	durable    uint64 // every frame of the lane up to this one was durable when this was written
	other      uint64 // every frame of the other lane up to this one was applied when this was made
	opsLen     uint32
	blobLen    uint32
	opCount    uint32
	opsSum     uint64
}

// size is the frame's length in the log, padding included.
func (h *frameHeader) size() int64 {
	return alignUp(headerSize+int64(h.opsLen)+int64(h.blobLen), h.lane.align())
}

// put writes the header into b[:headerSize]. key is the volume's: with it in the
// checksum, nobody can store bytes that would pass for a frame where the log is
// searched behind damage.
func (h *frameHeader) put(b []byte, key uint64) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], frameMagic)
	b[4], b[5] = frameVersion, byte(h.lane)
	b[6], b[7] = 0, 0
	if h.seal {
		b[6] = 1
	}
	le.PutUint32(b[8:], uint32(h.segment))
	le.PutUint32(b[12:], h.generation)
	le.PutUint64(b[16:], h.seq)
	le.PutUint64(b[24:], h.durable)
	le.PutUint32(b[32:], h.opsLen)
	le.PutUint32(b[36:], h.blobLen)
	le.PutUint32(b[40:], h.opCount)
	le.PutUint32(b[44:], 0)
	le.PutUint64(b[48:], h.other)
	le.PutUint64(b[56:], h.opsSum)
	le.PutUint64(b[64:], xxhash.Sum64(b[:64])^key)
}

// parseFrameHeader reads a header and reports whether there is one: magic and
// checksum are right. It returns errs.NotImplemented for a sound one that says what
// this program does not know, since to take that for a torn tail would cut off what
// a newer program has acknowledged.
func parseFrameHeader(b []byte, key uint64) (h frameHeader, ok bool, err error) {
	le := binary.LittleEndian
	if len(b) < headerSize || le.Uint32(b) != frameMagic || le.Uint64(b[64:]) != xxhash.Sum64(b[:64])^key {
		return h, false, nil
	}
	if b[4] != frameVersion || b[5] >= lanes || b[6] > 1 || b[7] != 0 || le.Uint32(b[44:]) != 0 {
		h.segment = SegmentID(le.Uint32(b[8:]))
		return h, false, newer("a frame of version %d, lane %d", b[4], b[5])
	}
	h = frameHeader{
		lane: Lane(b[5]), seal: b[6] == 1, segment: SegmentID(le.Uint32(b[8:])), generation: le.Uint32(b[12:]),
		seq: le.Uint64(b[16:]), durable: le.Uint64(b[24:]), other: le.Uint64(b[48:]),
		opsLen: le.Uint32(b[32:]), blobLen: le.Uint32(b[36:]), opCount: le.Uint32(b[40:]), opsSum: le.Uint64(b[56:]),
	}
	return h, true, nil
}

// newer is the error for what a newer program has written.
func newer(what string, args ...any) error {
	return errs.New("volume.Open", errs.NotImplemented, what+": written by a newer program", args...)
}

// segmentInfo is what a segment's first block says.
type segmentInfo struct {
	lane     Lane
	id       SegmentID
	volume   [16]byte
	firstSeq uint64    // of the segment's first frame
	prev     SegmentID // the lane's segment before this one, 0: none
	prevEnd  uint32    // where that one's frames end
}

const segmentInfoSize = 64

func (s *segmentInfo) put(b []byte) {
	le := binary.LittleEndian
	clear(b[:segmentInfoSize])
	le.PutUint32(b[0:], segmentMagic)
	b[4], b[5] = segmentVersion, byte(s.lane)
	le.PutUint32(b[8:], uint32(s.id))
	copy(b[12:28], s.volume[:])
	le.PutUint64(b[28:], s.firstSeq)
	le.PutUint32(b[36:], uint32(s.prev))
	le.PutUint32(b[40:], s.prevEnd)
	le.PutUint64(b[56:], xxhash.Sum64(b[:56]))
}

// parseSegmentInfo reads what a segment's first block says, as parseFrameHeader does.
func parseSegmentInfo(b []byte) (s segmentInfo, ok bool, err error) {
	le := binary.LittleEndian
	if len(b) < segmentInfoSize || le.Uint32(b) != segmentMagic || le.Uint64(b[56:]) != xxhash.Sum64(b[:56]) {
		return s, false, nil
	}
	if b[4] != segmentVersion || b[5] >= lanes || le.Uint16(b[6:]) != 0 || le.Uint64(b[44:]) != 0 || le.Uint32(b[52:]) != 0 {
		return s, false, newer("a segment of version %d, lane %d", b[4], b[5])
	}
	s = segmentInfo{
		lane: Lane(b[5]), id: SegmentID(le.Uint32(b[8:])), firstSeq: le.Uint64(b[28:]),
		prev: SegmentID(le.Uint32(b[36:])), prevEnd: le.Uint32(b[40:]),
	}
	copy(s.volume[:], b[12:28])
	return s, true, nil
}

// Kinds of operations in a frame.
const (
	opPut         = 1
	opDelete      = 2
	opDeleteRange = 3
	opAdd         = 4
	opMove        = 5 // a Put made by compaction: only if the index still points at `from`
	opTomb        = 6 // a Delete carried on by compaction: of the copies that it names alone
)

// Flags of Put and Move.
const (
	flagSpilled = 1 << 0 // the head lies in the blob
	flagTail    = 1 << 1 // there is a tail
	flagFirst   = 1 << 2 // first is not the entry's own segment
)

// Flags of Delete and Tomb.
const (
	flagNames = 1 << 0 // the space is Kept: it is said which copies are deleted
	flagBulk  = 1 << 1 // they lie in lane Bulk, else in Meta
)

// logOp is one operation as it stands in a frame. Its slices alias the frame.
type logOp struct {
	kind  byte
	space SpaceID
	flags byte
	key   []byte
	head  []byte // Put, Move: the head unless spilled; DeleteRange: the upper end; Add: the encoded vector

	first SegmentID // Put, Move, Delete, Tomb
	from  Ref       // Move: segment and offset of the copy it replaces
	at    Ref       // Delete, Tomb: segment and offset of the newest copy it deletes

	headLen, tailLen uint32
	headSum, tailSum uint64

	start, end uint32 // of the operation, from the beginning of the frame's operations
	blob       uint32 // of its blob, from the beginning of the frame's blobs
}

// blobLen is how many blob bytes belong to the operation.
func (o *logOp) blobLen() uint32 {
	n := uint32(0)
	if o.flags&flagSpilled != 0 {
		n += o.headLen
	}
	if o.flags&flagTail != 0 {
		n += o.tailLen
	}
	return n
}

// ref returns where a Put or Move lies if its frame begins at off.
func (o *logOp) ref(seg SegmentID, off int64, opsLen uint32) Ref {
	r := Ref{Segment: seg, Length: o.end - o.start + o.blobLen(), first: seg}
	if o.flags&flagFirst != 0 {
		r.first = o.first
	}
	if o.flags&(flagSpilled|flagTail) != 0 {
		r.Offset = uint32(off) + headerSize + opsLen + o.blob
	} else {
		r.Offset = uint32(off) + headerSize + o.start
	}
	return r
}

// appendPut appends a Put or Move without its blob, and tells where its key and
// head stand in the result.
func appendPut(b []byte, o *logOp) (_ []byte, keyAt, headAt int) {
	le := binary.LittleEndian
	b = append(b, o.kind, byte(o.space), o.flags)
	if o.kind == opMove {
		b = le.AppendUint32(b, uint32(o.from.Segment))
		b = le.AppendUint32(b, o.from.Offset)
	}
	if o.flags&flagFirst != 0 {
		b = le.AppendUint32(b, uint32(o.first))
	}
	b = binary.AppendUvarint(b, uint64(len(o.key)))
	keyAt = len(b)
	b = append(b, o.key...)
	if o.flags&flagSpilled != 0 {
		b = binary.AppendUvarint(b, uint64(o.headLen))
		b = le.AppendUint64(b, o.headSum)
	} else {
		b = binary.AppendUvarint(b, uint64(len(o.head)))
		headAt = len(b)
		b = append(b, o.head...)
	}
	if o.flags&flagTail != 0 {
		b = binary.AppendUvarint(b, uint64(o.tailLen))
		b = le.AppendUint64(b, o.tailSum)
	}
	return b, keyAt, headAt
}

// deleteFlagsAt is where the flags stand in a Delete, from its start, and
// deleteNamesSize how long what it names is behind them.
const (
	deleteFlagsAt   = 2
	deleteNamesSize = 12
)

// putDeleteNames writes what a Delete or Tomb names into b, which begins with its
// flags.
func putDeleteNames(b []byte, o *logOp) {
	le := binary.LittleEndian
	b[0] = o.flags
	le.PutUint32(b[1:], uint32(o.first))
	le.PutUint32(b[5:], uint32(o.at.Segment))
	le.PutUint32(b[9:], o.at.Offset)
}

// appendDelete appends a Delete or Tomb, and tells where its key stands.
func appendDelete(b []byte, o *logOp) (_ []byte, keyAt int) {
	b = append(b, o.kind, byte(o.space), o.flags)
	if o.flags&flagNames != 0 {
		b = append(b, make([]byte, deleteNamesSize)...)
		putDeleteNames(b[len(b)-deleteNamesSize-1:], o)
	}
	b = binary.AppendUvarint(b, uint64(len(o.key)))
	keyAt = len(b)
	return append(b, o.key...), keyAt
}

// deletes reports whether a Tomb is of the copy at ref, in a lane: of those of its
// own lane up to the one that it names. Copies behind that were put again later.
//
// INVARIANT: while there is an entry, its key is put again in its own lane alone, so
// the copies that a Delete is of lie all in one lane, where places grow with time.
func (o *logOp) deletes(ref Ref, l Lane) bool {
	return o.flags&flagNames != 0 && l == o.atLane() && ref.Segment >= o.first && !ref.behind(o.at)
}

// atLane is the lane of the copies that a Delete or Tomb is of.
func (o *logOp) atLane() Lane {
	if o.flags&flagBulk != 0 {
		return Bulk
	}
	return Meta
}

// nameDelete sets what a Delete names: the copies up to at, in lane l.
func (o *logOp) nameDelete(first SegmentID, at Ref, l Lane) {
	o.flags, o.first, o.at = flagNames, first, Ref{Segment: at.Segment, Offset: at.Offset}
	if l == Bulk {
		o.flags |= flagBulk
	}
}

// appendPair appends a DeleteRange or an Add: two byte strings, and tells where
// they stand.
func appendPair(b []byte, kind byte, space SpaceID, p, q []byte) (_ []byte, pAt, qAt int) {
	b = append(b, kind, byte(space))
	b = binary.AppendUvarint(b, uint64(len(p)))
	pAt = len(b)
	b = append(b, p...)
	b = binary.AppendUvarint(b, uint64(len(q)))
	qAt = len(b)
	return append(b, q...), pAt, qAt
}

// opReader takes operations off a frame's operation bytes.
type opReader struct {
	b    []byte
	pos  int
	last int    // where the operation read last begins
	blob uint64 // bytes of blob given to operations so far
	err  bool
	new  bool // with err: an operation that this program does not know
}

func (r *opReader) take(n uint64) []byte {
	if r.err || n > uint64(len(r.b)-r.pos) {
		r.err = true
		return nil
	}
	p := r.b[r.pos : r.pos+int(n) : r.pos+int(n)]
	r.pos += int(n)
	return p
}

func (r *opReader) u8() byte {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *opReader) u32() uint32 {
	if p := r.take(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (r *opReader) u64() uint64 {
	if p := r.take(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

func (r *opReader) uvarint() uint64 {
	if r.err {
		return 0
	}
	v, n := binary.Uvarint(r.b[r.pos:])
	if n <= 0 || n > 1 && r.b[r.pos+n-1] == 0 { // cut short, or longer than it need be
		r.err = true
		return 0
	}
	r.pos += n
	return v
}

func (r *opReader) bytes() []byte { return r.take(r.uvarint()) }

func (r *opReader) length() uint32 {
	v := r.uvarint()
	if v > 1<<32-1 {
		r.err = true
		return 0
	}
	return uint32(v)
}

// next reads one operation. It reports false at the end and after a failure.
func (r *opReader) next(o *logOp) bool {
	if r.err || r.pos == len(r.b) {
		return false
	}
	r.last = r.pos
	*o = logOp{start: uint32(r.pos)}
	o.kind = r.u8()
	o.space = SpaceID(r.u8())
	switch o.kind {
	case opPut, opMove:
		r.put(o)
	case opDelete, opTomb:
		r.delete(o)
	case opDeleteRange:
		o.key, o.head = r.bytes(), r.bytes()
		if len(o.head) > 0 && bytes.Compare(o.key, o.head) > 0 {
			r.err = true
		}
	case opAdd:
		o.key, o.head = r.bytes(), r.bytes()
		if _, ok := addCounters(nil, o.head); !ok {
			r.err = true
		}
	default:
		r.unknown()
	}
	o.end = uint32(r.pos)
	return !r.err
}

// unknown notes that what comes next is not of this version.
func (r *opReader) unknown() {
	r.new = r.new || !r.err
	r.err = true
}

func (r *opReader) delete(o *logOp) {
	o.flags = r.u8()
	switch o.flags {
	case 0:
	case flagNames, flagNames | flagBulk:
		o.first = SegmentID(r.u32())
		o.at = Ref{Segment: SegmentID(r.u32()), Offset: r.u32()}
	default:
		r.unknown()
	}
	o.key = r.bytes()
}

func (r *opReader) put(o *logOp) {
	o.flags = r.u8()
	if o.flags&^(flagSpilled|flagTail|flagFirst) != 0 {
		r.unknown()
	}
	if o.kind == opMove {
		o.from.Segment, o.from.Offset = SegmentID(r.u32()), r.u32()
	}
	if o.flags&flagFirst != 0 {
		o.first = SegmentID(r.u32())
	}
	o.key = r.bytes()
	if o.flags&flagSpilled != 0 {
		o.headLen = r.length()
		o.headSum = r.u64()
	} else {
		o.head = r.bytes()
		o.headLen = uint32(len(o.head))
	}
	if o.flags&flagTail != 0 {
		o.tailLen = r.length()
		o.tailSum = r.u64()
	}
	o.blob = uint32(r.blob)
	r.blob += uint64(o.blobLen())
	if r.blob > 1<<32-1 {
		r.err = true
	}
}

// decodeOps checks a frame's operation bytes against its header and reads them
// all. The result aliases ops. errs.Corrupt: they are damaged; errs.NotImplemented:
// they are sound and of a newer program.
func decodeOps(h *frameHeader, ops []byte, into []logOp) ([]logOp, error) {
	if uint32(len(ops)) != h.opsLen || xxhash.Sum64(ops) != h.opsSum {
		return nil, errs.New("volume.decodeOps", errs.Corrupt, "checksum of the operations")
	}
	r := opReader{b: ops}
	into = into[:0]
	for o := (logOp{}); r.next(&o); {
		into = append(into, o)
	}
	if r.new {
		return nil, newer("an operation of kind %d with flags %d", ops[r.last], ops[min(r.last+2, len(ops)-1)])
	}
	if r.err || uint32(len(into)) != h.opCount || r.blob != uint64(h.blobLen) {
		return nil, errs.New("volume.decodeOps", errs.Corrupt, "operations do not match their header")
	}
	return into, nil
}

// checkBlob verifies an operation's blob bytes.
func (o *logOp) checkBlob(blob []byte) bool {
	if uint32(len(blob)) != o.blobLen() {
		return false
	}
	if o.flags&flagSpilled != 0 {
		if xxhash.Sum64(blob[:o.headLen]) != o.headSum {
			return false
		}
		blob = blob[o.headLen:]
	}
	return o.flags&flagTail == 0 || xxhash.Sum64(blob) == o.tailSum
}
