package volume

import (
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"

	"ringfort/internal/errs"
)

// indexOp adds to pb what an operation changes in the index. It returns where a
// Put or Move lies, zero if the log need not keep it: an entry without a blob in a
// space that is not Kept.
func (v *Volume) indexOp(pb *pebble.Batch, o *logOp, seg SegmentID, off int64, opsLen uint32) Ref {
	var ref Ref
	switch o.kind {
	case opPut, opMove:
		if v.kept[o.space] || o.flags&(flagSpilled|flagTail) != 0 {
			ref = o.ref(seg, off, opsLen)
		}
		var tmp [maxIndexOverhead]byte
		head := o.head
		o.head = nil
		prefix := appendIndexValue(tmp[:0], o, ref)
		d := pb.SetDeferred(1+len(o.key), len(prefix)+len(head))
		putKey(d, o)
		copy(d.Value[copy(d.Value, prefix):], head)
		d.Finish()
	case opDelete:
		d := pb.DeleteDeferred(1 + len(o.key))
		putKey(d, o)
		d.Finish()
	case opDeleteRange:
		lo, hi := rangeKeys(o.space, o.key, o.head)
		pb.DeleteRange(lo, hi, nil)
	case opAdd:
		d := pb.MergeDeferred(1+len(o.key), 1+len(o.head))
		putKey(d, o)
		d.Value[0] = tagCounters
		copy(d.Value[1:], o.head)
		d.Finish()
	}
	return ref
}

func putKey(d *pebble.DeferredBatchOp, o *logOp) {
	d.Key[0] = byte(o.space)
	copy(d.Key[1:], o.key)
}

// rangeKeys returns the index keys that bound a range of a space; no hi is the
// end of the space.
func rangeKeys(space SpaceID, lo, hi []byte) (l, h []byte) {
	l = indexKey(nil, space, lo)
	if len(hi) > 0 {
		return l, indexKey(nil, space, hi)
	}
	return l, []byte{byte(space) + 1}
}

// account counts what an operation adds to and takes from the live bytes of the
// segments it concerns, which it notes in touched. With applyMu held.
//
// The counts only steer compaction, which asks the index about every entry.
func (v *Volume) account(touched map[*segment]struct{}, own *segment, o *logOp, ref, old Ref) {
	if !ref.IsZero() {
		own.live += int64(ref.Length)
		own.entries++
	}
	if !old.IsZero() {
		if s := v.segs.get(old.Segment); s != nil {
			s.live -= int64(old.Length)
			touched[s] = struct{}{}
		}
	}
	if (o.kind == opDelete || o.kind == opTomb) && v.kept[o.space] {
		own.tombs += int64(o.end - o.start)
	}
}

// applyIndex completes pb with the lane's new position and the counts of the
// touched segments, and applies it. With applyMu held.
func (v *Volume) applyIndex(pb *pebble.Batch, touched map[*segment]struct{}, own *segment, l Lane, pos position) error {
	touched[own] = struct{}{}
	for s := range touched {
		if err := pb.Set(segmentKey(s.id), s.encodeCounts(), nil); err != nil {
			return err
		}
	}
	clear(touched)
	if err := pb.Set(positionKey(l), pos.encode(), nil); err != nil {
		return err
	}
	return v.db.Apply(pb, pebble.NoSync)
}

const countsSize = 1 + 3*8 + 4

// encodeCounts is what the index keeps of a segment.
func (s *segment) encodeCounts() []byte {
	b := append(make([]byte, 0, countsSize), byte(s.lane))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.live))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.tombs))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.entries))
	return binary.LittleEndian.AppendUint32(b, uint32(s.end.Load()))
}

func (s *segment) decodeCounts(b []byte) error {
	if len(b) != countsSize {
		return errs.New("volume.index", errs.Corrupt, "counts of a segment of %d bytes", len(b))
	}
	if Lane(b[0]) != s.lane {
		return errs.New("volume.index", errs.Corrupt, "segment %d is counted in lane %d", s.id, b[0])
	}
	s.live = int64(binary.LittleEndian.Uint64(b[1:]))
	s.tombs = int64(binary.LittleEndian.Uint64(b[9:]))
	s.entries = int64(binary.LittleEndian.Uint64(b[17:]))
	s.end.Store(int64(binary.LittleEndian.Uint32(b[25:])))
	return nil
}

// anyStale reports whether a group must be looked at with the index in hand:
// because it moves entries, or names Refs that compaction may have moved, or
// deletes without a Ref what the log must remember to be deleted.
func (v *Volume) anyStale(group []*Batch) bool {
	for _, b := range group {
		if b.moves {
			return true
		}
		for i := range b.list {
			if v.stale(&b.list[i]) {
				return true
			}
		}
	}
	return false
}

func (v *Volume) stale(p *pendingOp) bool {
	if p.old.IsZero() {
		return p.kind == opDelete && v.kept[p.space]
	}
	s := v.segs.get(p.old.Segment)
	return s == nil || s.moved.Load()
}

// resolve brings the Refs of a group up to date, and drops from compaction's
// batches what has changed since it looked. With moveMu held, so that no move
// comes between this and the group's apply. newest is the lane's last segment.
func (v *Volume) resolve(group []*Batch, newest SegmentID) error {
	for _, b := range group {
		if b.moves {
			if err := v.dropMoved(b); err != nil {
				return err
			}
			continue
		}
		for i := range b.list {
			p := &b.list[i]
			if !v.stale(p) {
				continue
			}
			e, found, err := v.entry(p.space, b.ops[p.keyAt:p.keyAt+p.keyLen])
			if err != nil {
				return err
			}
			p.old = Ref{}
			if found {
				p.old = e.ref
			}
			if p.kind == opDelete && v.kept[p.space] {
				l, _ := v.segs.lane(p.old.Segment) // it is there: nothing was moved since
				p.nameDelete(p.old.first, p.old, l)
				if p.old.IsZero() {
					// Whatever copies there may be of what was deleted before.
					p.nameDelete(0, Ref{Segment: newest, Offset: 1<<32 - 1}, Meta)
				}
			}
		}
	}
	return nil
}

// dropMoved takes out of a batch of moves those whose entry is not where it was.
func (v *Volume) dropMoved(b *Batch) error {
	ops := make([]byte, 0, len(b.ops))
	keep := b.list[:0]
	blob := int64(0)
	for i := range b.list {
		p := b.list[i]
		if p.kind == opMove {
			e, found, err := v.entry(p.space, b.ops[p.keyAt:p.keyAt+p.keyLen])
			if err != nil {
				return err
			}
			if !found || !e.ref.same(p.from) {
				continue
			}
		}
		shift := p.start - uint32(len(ops))
		ops = append(ops, b.ops[p.start:p.end]...)
		p.start, p.end, p.keyAt = p.start-shift, p.end-shift, p.keyAt-shift
		if p.valueLen > 0 {
			p.headAt -= shift
		}
		blob += int64(len(p.spill)) + int64(len(p.tail))
		keep = append(keep, p)
	}
	clear(b.list[len(keep):])
	b.ops, b.list, b.blob = ops, keep, blob
	return nil
}
