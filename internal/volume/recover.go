package volume

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"ringfort/internal/errs"
	"ringfort/internal/vfs"
)

func beUint64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }

// eachOwn calls f for the index entries of one sort in the volume's own space.
func (v *Volume) eachOwn(sort byte, f func(key, val []byte) error) error {
	it, err := v.db.NewIter(&pebble.IterOptions{
		LowerBound: []byte{byte(ownSpace), sort}, UpperBound: []byte{byte(ownSpace), sort + 1},
	})
	if err != nil {
		return errs.Wrap("volume.index", indexKind(err), err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		if err := f(it.Key(), it.Value()); err != nil {
			it.Close()
			return err
		}
	}
	if err := it.Close(); err != nil {
		return errs.Wrap("volume.index", indexKind(err), err)
	}
	return nil
}

// position reads how far pebble's durable or visible state has a lane's log.
func (v *Volume) position(l Lane) (position, error) {
	b, found, err := lookup(v.db, positionKey(l))
	if err != nil || !found {
		return position{}, err
	}
	return decodePosition(b)
}

// recover brings the index up to the end of the log.
//
// INVARIANT: a frame is replayed behind every frame of the other lane that had been
// applied when it was made, as its header says. Two changes of a key of which one
// was committed before the other was given to the volume thus keep their order,
// whichever lanes they are in. The order of the rest was anybody's guess before.
func (v *Volume) recover(ctx context.Context) error {
	if err := v.listSegments(); err != nil {
		return err
	}
	if err := v.loadFindings(); err != nil {
		return err
	}
	if err := v.loadSpaces(); err != nil { // before entries are replayed: which to keep
		return err
	}
	gen, err := v.readGeneration()
	if err != nil {
		return err
	}
	clean, active, err := v.readClean()
	if err != nil {
		return err
	}
	var rs [lanes]*replay
	for l := range Lane(lanes) {
		rs[l] = &replay{v: v, l: v.lanes[l], clean: clean != 0 && clean == gen, active: active>>l&1 != 0}
	}
	if err := replayAll(ctx, rs); err != nil {
		return err
	}
	if gen, err = v.readGeneration(); err != nil {
		return err
	}
	if gen >= math.MaxUint32 {
		return errs.New("volume.Open", errs.Corrupt, "generation %d", gen)
	}
	v.generation = gen + 1
	return nil
}

// replayAll replays both lanes, each up to where it must wait for the other.
func replayAll(ctx context.Context, rs [lanes]*replay) error {
	var next [lanes]func() (frameHeader, bool) // apply the lane's frame, and go on to the one behind it
	var head [lanes]frameHeader
	var more [lanes]bool
	for l, r := range rs {
		r.touched = make(map[*segment]struct{})
		pull, stop := iter.Pull(r.frames(ctx))
		defer stop()
		next[l] = pull
		head[l], more[l] = pull()
	}
	// Not on after a failure: what is kept of the index must be what some crash of
	// the running volume could have left.
	for (more[Meta] || more[Bulk]) && rs[Meta].err == nil && rs[Bulk].err == nil {
		l := Bulk
		// Both can have to wait only in a log that nobody has written.
		if !more[Bulk] || more[Meta] && head[Bulk].other >= head[Meta].seq && head[Meta].other < head[Bulk].seq {
			l = Meta
		}
		head[l], more[l] = next[l]()
	}
	if err := errors.Join(rs[Meta].err, rs[Bulk].err); err != nil {
		return err
	}
	for l, r := range rs {
		if err := r.missed(rs[1-l].saw); err != nil {
			return err
		}
	}
	return nil
}

// missed reports what the other lane has seen applied of this one, and so durable,
// and is not there any more: its end was taken for a torn tail. The numbers of those
// frames are not used again.
func (r *replay) missed(seen uint64) error {
	if seen <= r.l.seq {
		return nil
	}
	err := r.lost(Finding{Kind: RangeLost, Segment: r.l.prev, From: r.l.prevEnd, FirstSeq: r.l.seq + 1, LastSeq: seen, What: "the other lane saw frames that are not there"})
	r.l.seq = seen
	r.l.durable.Store(seen)
	r.l.applied.Store(seen)
	return err
}

// readClean returns the generation that was last closed in order, 0 if none was,
// and as bits the lanes that had a segment to go on with.
func (v *Volume) readClean() (gen uint64, active byte, err error) {
	b, found, err := lookup(v.db, cleanKey)
	if err != nil || !found {
		return 0, 0, err
	}
	if len(b) != 9 || b[8]>>lanes != 0 {
		return 0, 0, errs.New("volume.Open", errs.Corrupt, "the mark of a clean close has %d bytes", len(b))
	}
	return binary.LittleEndian.Uint64(b), b[8], nil
}

func (v *Volume) readGeneration() (uint64, error) {
	e, found, err := v.entry(ownSpace, generationKey)
	if err != nil || !found {
		return 0, err
	}
	if len(e.head) != 8 {
		return 0, errs.New("volume.Open", errs.Corrupt, "the generation has %d bytes", len(e.head))
	}
	return binary.LittleEndian.Uint64(e.head), nil
}

// listSegments fills the table from the log directory and the index's counts.
func (v *Volume) listSegments() error {
	names, err := v.cfg.FS.List(v.path("log"))
	if err != nil {
		return ioError("volume.Open", err)
	}
	last := SegmentID(0)
	for _, name := range names {
		l, id, free, ok := parseSegmentName(name)
		if !ok {
			continue
		}
		last = max(last, id)
		if free {
			v.free[l] = append(v.free[l], v.path("log", name))
			continue
		}
		v.segs.add(&segment{id: id, lane: l, path: v.path("log", name)})
	}
	err = v.eachOwn('s', func(key, val []byte) error {
		id := SegmentID(binary.BigEndian.Uint32(key[2:]))
		last = max(last, id)
		if s := v.segs.get(id); s != nil {
			return s.decodeCounts(val)
		}
		return nil
	})
	v.lastSegment.Store(uint32(last))
	if err == nil && slices.ContainsFunc(v.free[:], func(f []string) bool { return len(f) > 0 }) {
		// A process that was killed may have left the renames to the page cache: see reap.
		err = ioError("volume.Open", vfs.SyncDir(v.cfg.FS, v.path("log")))
	}
	return err
}

// replay brings one lane's log into the index, from where the index left it.
type replay struct {
	v       *Volume
	l       *lane
	clean   bool // the volume was closed in order: the log ends at the index's position
	active  bool // with clean: and can be written on there
	rebuild bool // everything from the beginning, into an empty index

	pos      position
	expect   uint64 // seq of the next frame
	resynced bool   // frames were lost: the next may have any higher seq
	touched  map[*segment]struct{}
	saw      uint64 // the last frame of the other lane that one of these came after
	yield    func(frameHeader) bool
	err      error
}

// errStopped ends a replay because the other lane's has failed.
var errStopped = errs.New("volume.Open", errs.Canceled, "the other lane cannot be replayed")

// frames replays the lane's log. It yields each frame's header, and applies the
// frame when it is asked for the next. What went wrong is in r.err at the end.
func (r *replay) frames(ctx context.Context) iter.Seq[frameHeader] {
	return func(yield func(frameHeader) bool) {
		r.yield = yield
		if r.err = r.run(ctx); r.err == errStopped {
			r.err = nil
		}
	}
}

func (r *replay) run(ctx context.Context) error {
	v, l := r.v, r.l
	var err error
	if r.pos, err = v.position(l.id); err != nil {
		return err
	}
	r.expect = r.pos.seq + 1
	segs := v.segs.of(l.id)
	for len(segs) > 0 && segs[0].id < r.pos.segment {
		segs = segs[1:]
	}
	if r.pos.segment != 0 && (len(segs) == 0 || segs[0].id != r.pos.segment) {
		if err := r.lost(Finding{Kind: SegmentMissing, Segment: r.pos.segment, What: "the index has applied a part of it"}); err != nil {
			return err
		}
	}
	if r.clean && len(segs) == 1 && segs[0].id == r.pos.segment {
		if done, err := r.resume(segs[0]); done || err != nil {
			return err
		}
	}
	for i, s := range segs {
		if err := ctx.Err(); err != nil {
			return errs.Wrap("volume.Open", errs.Canceled, err)
		}
		if err := r.segment(s, segs[i+1:]); err != nil {
			return err
		}
	}
	l.seq = r.expect - 1
	l.durable.Store(l.seq)
	l.applied.Store(l.seq)
	if all := v.segs.of(l.id); len(all) > 0 {
		l.prev = all[len(all)-1].id
		l.prevEnd = all[len(all)-1].end.Load()
	}
	return nil
}

// resume goes on writing where a clean close ended. It reports false if another
// opening has written there since, which the index then does not know.
//
// INVARIANT: at most one frame of a lane is in flight, so what a crash in the first
// commit of an opening leaves at that place is one frame. If its header is not
// whole, nothing of it can be taken for a frame, and it may be overwritten.
func (r *replay) resume(s *segment) (bool, error) {
	l := r.l
	sc, err := r.v.openScanner(s)
	if err != nil {
		return false, err
	}
	defer sc.close()
	if _, written, err := sc.header(int64(r.pos.offset)); written || err != nil {
		return false, err
	}
	l.seq = r.pos.seq
	l.durable.Store(l.seq)
	l.applied.Store(l.seq)
	s.end.Store(int64(r.pos.offset))
	if !r.active {
		l.prev, l.prevEnd = s.id, int64(r.pos.offset)
		return true, nil
	}
	lead := int64(r.pos.offset) % vfs.BlockSize
	last, ok, err := sc.bytes(int64(r.pos.offset)-lead, lead)
	if err != nil || !ok {
		return false, err
	}
	copy(l.tail[:], last)
	f, err := r.v.cfg.FS.OpenReadWrite(s.path, pebbleWrite)
	if err != nil {
		return false, ioError("volume.Open", err)
	}
	l.seg, l.file, l.off, l.claimed = s, f, int64(r.pos.offset), int64(r.pos.offset)
	l.active.Store(uint32(s.id))
	return true, nil
}

// segment replays one segment; later are those behind it.
func (r *replay) segment(s *segment, later []*segment) error {
	v := r.v
	sc, err := v.openScanner(s)
	if err != nil {
		return err
	}
	defer sc.close()
	info, ok, err := sc.info()
	if err != nil {
		return err
	}
	if !ok {
		_, _, any, err := sc.nextHeader(segmentHeader, sc.size)
		if err != nil {
			return err
		}
		if !any {
			return r.unborn(s)
		}
		if err := r.lost(Finding{Kind: SegmentHeader, Segment: s.id, To: segmentHeader, What: "checksum"}); err != nil {
			return err
		}
	}
	off := int64(segmentHeader)
	if s.id == r.pos.segment {
		off = int64(r.pos.offset)
		if off > alignUp(sc.size, s.lane.align()) { // a tear may have cost the last frame its padding
			err := r.lost(Finding{Kind: RangeLost, Segment: s.id, From: sc.size, To: off, What: "the file is shorter than what was applied of it"})
			if err != nil {
				return err
			}
			s.end.Store(off)
			return nil
		}
	} else if ok && info.firstSeq > r.expect {
		// What is missing before was reported where it was found, or is a segment
		// that is not there.
		if !r.resynced && !r.rebuild {
			err := r.lost(Finding{Kind: RangeLost, Segment: s.id, FirstSeq: r.expect, LastSeq: info.firstSeq - 1, What: "frames missing before the segment"})
			if err != nil {
				return err
			}
		}
		r.expect = info.firstSeq
	}
	bound, err := r.bound(s, later)
	if err != nil {
		return err
	}
	return r.replayFrames(sc, s, off, bound, later)
}

// unborn removes a segment that a crash has left before its first block was durable.
func (r *replay) unborn(s *segment) error {
	v := r.v
	if s.id == r.pos.segment {
		return r.lost(Finding{Kind: RangeLost, Segment: s.id, From: 0, To: int64(r.pos.offset), What: "no frame is left in the segment"})
	}
	v.segs.forget(s)
	return ioError("volume.Open", v.cfg.FS.Remove(s.path))
}

// bound returns where the frames of s end, if the next segment tells, or 0.
func (r *replay) bound(s *segment, later []*segment) (int64, error) {
	if len(later) == 0 {
		return 0, nil
	}
	sc, err := r.v.openScanner(later[0])
	if err != nil {
		return 0, err
	}
	defer sc.close()
	info, ok, err := sc.info()
	if err != nil || !ok || info.prev != s.id {
		return 0, err
	}
	return int64(info.prevEnd), nil
}

// replayFrames replays the frames of one segment from off. bound is where they are
// known to end, or 0.
func (r *replay) replayFrames(sc *frameScanner, s *segment, off, bound int64, later []*segment) error {
	for bound == 0 || off < bound {
		h, ops, _, ok, err := sc.frame(off)
		if err != nil {
			return err
		}
		if ok && (h.seq == r.expect || r.resynced && h.seq > r.expect) {
			r.resynced = false
			if !r.yield(h) {
				return errStopped
			}
			if err := r.apply(s, &h, ops, off); err != nil {
				return err
			}
			off += h.size()
			if h.seal {
				break
			}
			continue
		}
		next, lost, err := r.judge(sc, off, bound, later)
		if err != nil {
			return err
		}
		if !lost {
			break // a torn tail
		}
		f := Finding{Kind: RangeLost, Segment: s.id, From: off, To: next, FirstSeq: r.expect, What: "frames that were durable cannot be read"}
		if err := r.lost(f); err != nil {
			return err
		}
		r.resynced = true
		if next >= max(bound, sc.size) {
			off = next
			break
		}
		off = next
	}
	s.end.Store(off)
	return nil
}

// judge decides about a bad frame at off: lost, if anything later says that it had
// been durable; then next is where reading can go on.
func (r *replay) judge(sc *frameScanner, off, bound int64, later []*segment) (next int64, lost bool, err error) {
	limit := sc.size
	if bound > 0 {
		limit, lost = bound, true
	}
	next = limit
	at := off + sc.lane.align()
	for {
		found, h, ok, err := sc.nextHeader(at, limit)
		if err != nil {
			return 0, false, err
		}
		if !ok {
			break
		}
		if h.seq >= r.expect && next == limit {
			if _, _, _, whole, err := sc.frame(found); err != nil {
				return 0, false, err
			} else if whole {
				next = found
			}
		}
		lost = lost || h.durable >= r.expect
		if lost && next < limit {
			return next, true, nil
		}
		at = found + sc.lane.align()
	}
	if lost || r.rebuild {
		return next, lost, nil // rebuilding, the segment that would tell may be long gone
	}
	for _, s := range later {
		claim, err := r.claims(s)
		if err != nil || claim {
			return next, claim, err
		}
	}
	return 0, false, nil
}

// claims reports whether a later segment says that the expected frame was durable.
func (r *replay) claims(s *segment) (bool, error) {
	sc, err := r.v.openScanner(s)
	if err != nil {
		return false, err
	}
	defer sc.close()
	_, h, ok, err := sc.nextHeader(segmentHeader, sc.size)
	return ok && h.durable >= r.expect, err
}

// lost stores a finding.
func (r *replay) lost(f Finding) error {
	f.Lane = r.l.id
	pb := r.v.db.NewBatch()
	defer pb.Close()
	if err := r.v.storeFinding(pb, f); err != nil {
		return err
	}
	return ioError("volume.Open", r.v.db.Apply(pb, pebble.NoSync))
}

// apply brings one frame into the index. Refs of what operations replace are
// looked up, since the index is exactly as it was before the frame.
func (r *replay) apply(s *segment, h *frameHeader, ops []logOp, off int64) error {
	v := r.v
	pb := v.db.NewBatchWithSize(int(h.opsLen) + len(ops)*48 + 64)
	defer pb.Close()
	within := map[string]Ref{} // what the frame itself has changed
	for i := range ops {
		o := &ops[i]
		if o.space == ownSpace && o.kind != opDelete && bytes.Equal(o.key, spacesKey) {
			if err := v.adoptSpaces(o.head); err != nil {
				return err
			}
		}
		ref, old, changed, err := r.step(pb, within, s, o, off, h.opsLen)
		if err != nil {
			return err
		}
		if changed || o.kind == opTomb {
			v.account(r.touched, s, o, ref, old)
		}
		if changed && (!ref.IsZero() || !old.IsZero()) {
			within[string(indexKey(nil, o.space, o.key))] = ref
		}
	}
	s.end.Store(off + h.size())
	r.pos = position{segment: s.id, offset: uint32(off + h.size()), seq: h.seq}
	r.expect = h.seq + 1
	r.saw = max(r.saw, h.other)
	if err := v.applyIndex(pb, r.touched, s, r.l.id, r.pos); err != nil {
		return ioError("volume.Open", err)
	}
	return nil
}

// step adds one operation to pb. It returns where its entry lies now and where it
// lay before, and whether the index changes at all.
func (r *replay) step(pb *pebble.Batch, within map[string]Ref, s *segment, o *logOp, off int64, opsLen uint32) (ref, old Ref, changed bool, err error) {
	switch o.kind {
	case opPut, opMove, opDelete, opTomb:
		if o.kind != opTomb || r.rebuild {
			if old, err = r.old(within, o); err != nil {
				return ref, old, false, err
			}
		}
	}
	if !r.rebuild {
		if o.kind == opTomb || o.kind == opMove && !old.same(o.from) {
			return Ref{}, Ref{}, false, nil
		}
		return r.v.indexOp(pb, o, s.id, off, opsLen), old, true, nil
	}
	if !r.v.kept[o.space] || o.kind == opAdd {
		return Ref{}, Ref{}, false, nil
	}
	if o.kind == opTomb {
		// Of the copies that it names only: an entry put again later stays.
		l, ok := r.v.segs.lane(old.Segment)
		if !ok || !o.deletes(old, l) {
			return Ref{}, Ref{}, false, nil
		}
		del := *o
		del.kind = opDelete
		o = &del
	}
	return r.v.indexOp(pb, o, s.id, off, opsLen), old, true, nil
}

// old returns where the entry of an operation's key lies at this point.
func (r *replay) old(within map[string]Ref, o *logOp) (Ref, error) {
	if ref, ok := within[string(indexKey(nil, o.space, o.key))]; ok {
		return ref, nil
	}
	if !r.v.kept[o.space] && o.kind == opPut && o.flags&(flagSpilled|flagTail) == 0 {
		return Ref{}, nil // rows: not worth a lookup each
	}
	e, _, err := r.v.entry(o.space, bytes.Clone(o.key))
	return e.ref, err
}
