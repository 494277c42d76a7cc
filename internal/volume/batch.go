package volume

import (
	"bytes"

	"github.com/cespare/xxhash/v2"

	"ringfort/internal/errs"
)

// Batch is a set of changes that take effect all together or not at all. Get one
// from [Volume.NewBatch], fill it, and give it to Commit or CommitLazy once:
// either takes it over, and it must not be touched again. A batch that is not to
// be committed is given back with Discard. Not for concurrent use.
//
// Changes to one key within a batch take effect in their order.
type Batch struct {
	v    *Volume
	lane Lane

	ops  []byte // the operations as they will stand in the frame
	list []pendingOp
	blob int64 // bytes of all blobs
	err  error // the first misuse

	urgent bool // may use the reserve
	frees  bool // holds nothing but deletes
	moves  bool // is compaction's
	own    bool // is the volume's own

	// Guarded by the lane's mutex once committed.
	state batchState
	lazy  bool
	left  bool        // the committer has gone: the writer gives the batch back
	done  chan result // of capacity 1
}

// result is what a committer is told.
type result struct {
	err  error
	left bool // the writer still has the batch, and gives it back
}

type batchState byte

const (
	batchFilling batchState = iota
	batchQueued             // in the lane's queue
	batchTaken              // the writer is reading its memory
	batchCopied             // the writer needs its memory no more
	batchDone
)

// pendingOp is an operation of a batch: its logOp, in which key and head stay
// empty, since the bytes they would alias move while the batch grows.
type pendingOp struct {
	logOp
	keyAt, keyLen    uint32 // in the batch's ops
	headAt, valueLen uint32 // in the batch's ops: the head, or the second of a pair
	old              Ref    // what it replaces
	ref              Ref    // Put, Move: where it lies, set by the writer
	spill            []byte // the head, if spilled; the caller's memory
	tail             []byte // the caller's memory
}

// maxPooledOps bounds what a pooled batch keeps of its operation bytes.
const maxPooledOps = 256 << 10

// NewBatch returns an empty batch for a lane.
func (v *Volume) NewBatch(lane Lane) *Batch {
	b := v.batches.Get().(*Batch)
	b.v, b.lane, b.frees = v, lane, true
	if lane >= lanes {
		b.misuse("lane %d", lane)
	}
	return b
}

// Discard gives back a batch that was not committed.
func (b *Batch) Discard() { b.release() }

// release returns the batch to the pool.
func (b *Batch) release() {
	v := b.v
	clear(b.list) // let go of the callers' memory
	ops, list, done := b.ops[:0], b.list[:0], b.done
	if cap(ops) > maxPooledOps {
		ops = nil
	}
	if cap(list) > 4096 {
		list = nil
	}
	*b = Batch{ops: ops, list: list, done: done}
	v.batches.Put(b)
}

// Len returns how many operations the batch holds.
func (b *Batch) Len() int { return len(b.list) }

// Bytes returns how many bytes the batch adds to the log, but for its frame.
func (b *Batch) Bytes() int64 { return int64(len(b.ops)) + b.blob }

// Urgent lets the batch use the disk space held in reserve. It is for what makes
// room or ends work under way, such as deletes with a record of them.
func (b *Batch) Urgent() { b.urgent = true }

func (b *Batch) misuse(what string, args ...any) {
	if b.err == nil {
		b.err = errs.New("volume.Batch", errs.Invalid, what, args...)
	}
}

// Put stores an entry. The head is kept with the key and returned by Get; the tail
// (may be nil) lies in the log alone and is read by ReadTail. Key and head are
// copied, except that a head longer than Config.MaxHeadBytes and the tail are the
// batch's until the commit returns: do not change them before.
//
// old is the Ref of the Value that this replaces, zero if there is none: of the
// newest, as it is after all that was committed before, lazily or not. A wrong one
// cannot harm the entry, but space is reclaimed later than it could be, and an
// entry that is deleted after that may come back in a Rebuild. It must lie in the
// batch's own lane: to bring an entry into the other one, delete it first.
func (b *Batch) Put(space SpaceID, key, head, tail []byte, old Ref) {
	if int64(len(head))+int64(len(tail)) > maxBatchBytes {
		b.misuse("a value of %d bytes", int64(len(head))+int64(len(tail)))
		return
	}
	op := logOp{kind: opPut, space: space, key: key, head: head, headLen: uint32(len(head))}
	var spill []byte
	if len(head) > b.v.cfg.MaxHeadBytes && !b.own { // the volume's own is read while it is replayed
		op.flags |= flagSpilled
		spill, op.headSum = head, xxhash.Sum64(head)
	}
	if len(tail) > 0 {
		op.flags |= flagTail
		op.tailLen, op.tailSum = uint32(len(tail)), xxhash.Sum64(tail)
	}
	if !old.IsZero() {
		if l, ok := b.v.segs.lane(old.Segment); ok && l != b.lane {
			b.misuse("a Put in lane %v over an entry in lane %v", b.lane, l)
		}
		op.flags |= flagFirst
		op.first = old.first
	}
	b.put(op, old, spill, tail)
	b.frees = false
}

// put appends a Put or Move.
func (b *Batch) put(op logOp, old Ref, spill, tail []byte) {
	if !b.check(op.space, op.key) {
		return
	}
	op.start = uint32(len(b.ops))
	ops, keyAt, headAt := appendPut(b.ops, &op)
	b.ops = ops
	op.end = uint32(len(b.ops))
	p := pendingOp{old: old, spill: spill, tail: tail, keyAt: uint32(keyAt), keyLen: uint32(len(op.key))}
	if spill == nil {
		p.headAt, p.valueLen = uint32(headAt), uint32(len(op.head))
	}
	op.key, op.head = nil, nil
	p.logOp = op
	b.list = append(b.list, p)
	b.blob += int64(len(spill)) + int64(len(tail))
}

// move stores an entry again for compaction. from is the copy it replaces.
func (b *Batch) move(op logOp, from Ref, spill, tail []byte) {
	op.kind, op.from = opMove, from
	op.flags &^= flagFirst
	if from.first != from.Segment {
		op.flags |= flagFirst
		op.first = from.first
	}
	b.put(op, from, spill, tail)
	b.moves, b.urgent, b.frees = true, true, false
}

// tomb carries a Delete on for compaction.
func (b *Batch) tomb(op logOp) {
	op.kind = opTomb
	b.delete(op, Ref{})
	b.moves, b.urgent, b.frees = true, true, false
}

// Delete removes an entry. old is the Ref of its Value; with a zero one the
// writer must look it up.
func (b *Batch) Delete(space SpaceID, key []byte, old Ref) {
	if b.lane == Bulk {
		b.misuse("Delete in the Bulk lane")
	}
	op := logOp{kind: opDelete, space: space, key: key}
	if b.v.kept[space] {
		l, _ := b.v.segs.lane(old.Segment) // if it is gone, the writer looks the entry up
		op.nameDelete(old.first, old, l)
	}
	b.delete(op, old)
}

func (b *Batch) delete(op logOp, old Ref) {
	if !b.check(op.space, op.key) {
		return
	}
	op.start = uint32(len(b.ops))
	ops, keyAt := appendDelete(b.ops, &op)
	b.ops = ops
	op.end = uint32(len(b.ops))
	p := pendingOp{old: old, keyAt: uint32(keyAt), keyLen: uint32(len(op.key))}
	op.key = nil
	p.logOp = op
	b.list = append(b.list, p)
}

// DeleteRange removes all entries with lo <= key < hi of a space that is not Kept.
// A nil hi is the end of the space. What the entries had in the log is counted as
// dead only when its segment is next compacted.
func (b *Batch) DeleteRange(space SpaceID, lo, hi []byte) {
	if b.lane == Bulk {
		b.misuse("DeleteRange in the Bulk lane")
	}
	if b.v.kept[space] {
		b.misuse("DeleteRange in the kept space %d", space)
	}
	if len(hi) > 0 && bytes.Compare(lo, hi) > 0 {
		b.misuse("DeleteRange from %x down to %x", lo, hi)
	}
	b.pair(opDeleteRange, space, lo, hi)
}

// Add adds deltas to the vector of counters at key, element by element; a missing
// vector or element is 0. Put and Delete replace and remove a vector as they do a
// value; Add to a value replaces the value. Vectors are not rebuilt from the log.
// One that both lanes add to may be deleted only when Bulk has ended with it.
func (b *Batch) Add(space SpaceID, key []byte, deltas ...int64) {
	var buf [64]byte
	b.pair(opAdd, space, key, appendCounters(buf[:0], deltas))
	b.frees = false
}

func (b *Batch) pair(kind byte, space SpaceID, p, q []byte) {
	if !b.check(space, p) {
		return
	}
	start := len(b.ops)
	ops, pAt, qAt := appendPair(b.ops, kind, space, p, q)
	b.ops = ops
	b.list = append(b.list, pendingOp{
		logOp: logOp{kind: kind, space: space, start: uint32(start), end: uint32(len(b.ops))},
		keyAt: uint32(pAt), keyLen: uint32(len(p)), headAt: uint32(qAt), valueLen: uint32(len(q)),
	})
}

// check finds misuse that every operation can have. It reports false if there was
// any: the batch is not going to be committed.
func (b *Batch) check(space SpaceID, key []byte) bool {
	if !b.v.known[space] && !b.own {
		b.misuse("space %d is not configured", space)
	}
	if len(key) > maxKeyBytes {
		b.misuse("a key of %d bytes", len(key))
	}
	if b.Bytes() > maxBatchBytes {
		b.misuse("a batch of more than %d bytes", maxBatchBytes)
	}
	return b.err == nil
}

// maxBatchBytes bounds a batch while it is filled, whatever Config.MaxBatchBytes
// says when it is committed: its offsets have 32 bits.
const maxBatchBytes = gib

// maxKeyBytes bounds keys, so that an index block holds several.
const maxKeyBytes = 16 << 10
