package volume

import (
	"bytes"
	"context"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"ringfort/internal/errs"
	"ringfort/internal/vfs"
)

// Compaction frees segments. It reads a segment's operations, asks the index about
// every entry, and writes what the index still points at again at the head of the
// same lane, as Moves. A Move is checked by the writer immediately before it is
// written, and no change of the same entry can come in between (see resolve), so an
// entry that was changed meanwhile is not brought back.
//
// A Delete of a kept entry must stay in the log as long as an older copy of the
// entry does, or Rebuild would bring it back: it is carried on as a Tomb that says
// where copies may be, from a segment (first) to the place of the last. An entry
// keeps the number of the oldest segment that may hold a copy of its key
// (Ref.first), so this is known when it is deleted. The place counts and not only its
// segment: the key may have been put again behind it. Deletes from the oldest segment
// are never carried on for long.
//
// The segment goes once the index has durably flushed past all that, and no
// iterator or reader from before is left.

// retired is a segment with nothing in it that is needed, which may go when the
// index has flushed so far.
type retired struct {
	s    *segment
	seq  [lanes]uint64 // every lane must be flushed to here
	iter uint64        // iterators up to this number must be closed
}

const (
	moveBatchBytes = 512 << 10
	maxRetired     = 4  // segments that wait for the index or an iterator, before no more are rewritten
	maxFreeFiles   = 2  // recycled files kept per lane
	maxSmall       = 8  // sealed segments of a lane that are nearly empty, before they are merged
	smallShare     = 16 // nearly empty: less than one part in this of a segment
)

// CompactOnce frees what can be freed and rewrites at most one segment. It reports
// whether it rewrote one. The volume does this by itself unless
// Config.DisableCompaction is set.
func (v *Volume) CompactOnce(ctx context.Context) (bool, error) {
	v.bg.compactMu.Lock()
	defer v.bg.compactMu.Unlock()
	if err := v.reap(); err != nil {
		return false, err
	}
	if len(v.bg.retired) >= maxRetired {
		return false, nil
	}
	s := v.pick()
	if s == nil {
		return false, nil
	}
	if err := v.rewrite(ctx, s); err != nil {
		return false, err
	}
	return true, v.reap()
}

// pick chooses the segment whose rewriting frees most, or nil.
func (v *Volume) pick() *segment {
	v.applyMu.Lock()
	defer v.applyMu.Unlock()
	ratio := v.cfg.CompactDeadRatio
	if v.space.tight() {
		ratio = min(ratio, 0.1)
	}
	var best *segment
	bestDead := -1.0
	for l := range Lane(lanes) {
		sealed := v.sealed(l)
		small, tombs, used := 0, int64(0), int64(0)
		var smallest *segment
		for i, s := range sealed {
			size := max(s.end.Load()-segmentHeader, 1)
			need := max(s.live, 0)
			if i > 0 {
				need += s.tombs
			}
			if dead := 1 - float64(need)/float64(size); dead >= ratio && dead > bestDead {
				best, bestDead = s, dead
			}
			if size < v.cfg.segmentBytes(l)/smallShare {
				small++
				if smallest == nil || size < smallest.end.Load() {
					smallest = s
				}
			}
			tombs += s.tombs
			used += size
		}
		if best == nil && small > maxSmall {
			best = smallest
		}
		if best == nil && tombs > used/4 && sealed[len(sealed)-1].id > v.bg.oldestAt {
			// Old segments hold the copies that tombs are kept for.
			best = sealed[0]
			v.bg.oldestAt = sealed[len(sealed)-1].id
		}
	}
	return best
}

// sealed returns the lane's segments that may be rewritten, oldest first.
func (v *Volume) sealed(l Lane) []*segment {
	var out []*segment
	all := v.segs.of(l)
	active := SegmentID(v.lanes[l].active.Load())
	if active == 0 && len(all) > 0 {
		// The last segment tells Rebuild how far the lane's seq had come.
		all = all[:len(all)-1]
	}
	for _, s := range all {
		if s.id != active && !s.retired && !v.bg.damaged[s.id] {
			out = append(out, s)
		}
	}
	return out
}

// tight reports whether the disk comes near its reserve.
func (g *spaceGuard) tight() bool {
	return g.free.Load() > 0 && g.free.Load() < 2*g.reserve.Load()
}

// rewrite moves what is needed of a segment and retires it.
//
// INVARIANT: once a segment is marked as moved from, it stays so, although rewriting
// it may end early: by then some entries have moved, and a batch that still names
// their old places must not be believed. A Delete in the log would name the wrong
// copies, and a Rebuild long after might bring the entry back.
func (v *Volume) rewrite(ctx context.Context, s *segment) (err error) {
	v.applyMu.Lock()
	empty := s.entries == 0 && s.tombs == 0
	v.applyMu.Unlock()
	s.moved.Store(true)
	v.settle()
	whole := true
	if !empty {
		c := &rewriter{v: v, s: s, pace: newPacer(v.cfg.CompactBytesPerSecond)}
		if whole, err = c.run(ctx); err == nil && !whole {
			whole, err = c.salvage(ctx)
		}
	}
	if err != nil {
		return err // it will be picked again
	}
	if !whole {
		v.bg.damaged[s.id] = true
		return nil
	}
	s.retired = true
	r := retired{s: s, iter: v.iters.last()}
	for l, lane := range v.lanes {
		r.seq[l] = lane.applied.Load()
	}
	v.bg.retired = append(v.bg.retired, r)
	v.flushSoon()
	return nil
}

// settle waits for the commits that are under way: those behind them see that the
// segment is being moved from.
func (v *Volume) settle() {
	for _, l := range v.lanes {
		l.commitMu.Lock()
		//lint:ignore SA2001 nothing is to be done under the lock: the point is to have waited for it
		l.commitMu.Unlock()
	}
}

// rewriter copies what is needed of one segment.
type rewriter struct {
	v     *Volume
	s     *segment
	pace  pacer
	batch *Batch
	arena []byte // blobs of the batch
	whole bool   // every frame and every live entry could be read
}

func (c *rewriter) run(ctx context.Context) (whole bool, err error) {
	sc, err := c.v.openScanner(c.s)
	if err != nil {
		return false, err
	}
	defer sc.close()
	defer func() {
		if c.batch != nil {
			c.batch.Discard()
		}
	}()
	c.whole = true
	end := c.s.end.Load()
	for off := int64(segmentHeader); off < end; {
		h, ops, ok, err := sc.operations(off)
		if err != nil {
			return false, err
		}
		if !ok {
			c.whole = false
			next, _, found, err := sc.nextHeader(off+sc.lane.align(), end)
			if err != nil {
				return false, err
			}
			if !found {
				next = end
			}
			c.v.report(Finding{Kind: FrameCorrupt, Lane: c.s.lane, Segment: c.s.id, From: off, To: next, What: "found by compaction"})
			off = next
			continue
		}
		if err := c.frame(ctx, sc, &h, ops, off); err != nil {
			return false, err
		}
		if err := c.pace.wait(ctx, headerSize+int64(h.opsLen)); err != nil {
			return false, err
		}
		off += h.size()
	}
	return c.whole, c.flush(ctx)
}

// salvage looks for entries in the parts of the segment that could not be read.
// Those that the index has whole are written again; it reports whether that was all.
func (c *rewriter) salvage(ctx context.Context) (whole bool, err error) {
	v := c.v
	whole = true
	for id := range v.known {
		if id != int(ownSpace) && !v.known[id] {
			continue
		}
		it, err := v.NewIter(SpaceID(id), nil, nil)
		if err != nil {
			return false, err
		}
		for ok := it.First(); ok && err == nil && ctx.Err() == nil; ok = it.Next() {
			if id == int(ownSpace) && !bytes.Equal(it.Key(), generationKey) {
				continue
			}
			e := it.parse()
			if e.ref.Segment != c.s.id {
				continue
			}
			if e.spilled || e.tailLen > 0 {
				whole = false // it was reported when it was found
				continue
			}
			c.into().move(logOp{space: SpaceID(id), key: it.Key(), head: e.head, headLen: e.headLen}, e.ref, nil, nil)
			if c.batch.Bytes() >= min(moveBatchBytes, v.cfg.MaxBatchBytes/2) {
				err = c.flush(ctx)
			}
		}
		if err2 := it.Close(); err == nil {
			err = err2
		}
		if err != nil {
			return false, err
		}
	}
	if ctx.Err() != nil {
		return false, errs.Wrap("volume.compact", errs.Canceled, ctx.Err())
	}
	return whole, c.flush(ctx)
}

// frame copies what is needed of one frame.
func (c *rewriter) frame(ctx context.Context, sc *frameScanner, h *frameHeader, ops []logOp, off int64) error {
	for i := range ops {
		o := &ops[i]
		switch o.kind {
		case opPut, opMove:
			if err := c.entry(sc, h, o, off); err != nil {
				return err
			}
		case opDelete, opTomb:
			c.tomb(o)
		}
		if c.batch != nil && c.batch.Bytes() >= min(moveBatchBytes, c.v.cfg.MaxBatchBytes/2) {
			if err := c.flush(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// entry copies an entry if the index points at it.
func (c *rewriter) entry(sc *frameScanner, h *frameHeader, o *logOp, off int64) error {
	v := c.v
	n := o.blobLen()
	if !v.kept[o.space] && n == 0 {
		return nil
	}
	at := o.ref(c.s.id, off, h.opsLen)
	e, found, err := v.entry(o.space, o.key)
	if err != nil || !found || !e.ref.same(at) {
		return err
	}
	var blob []byte
	if n > 0 {
		if len(c.arena)+int(n) > cap(c.arena) {
			c.arena = make([]byte, 0, max(moveBatchBytes+int(n), 2*int(n)))
		}
		blob = c.arena[len(c.arena) : len(c.arena)+int(n)]
		c.arena = c.arena[:len(c.arena)+int(n)]
		if err := readFull(sc.f, blob, int64(at.Offset)); err != nil || !o.checkBlob(blob) {
			c.whole = false
			v.report(Finding{
				Kind: EntryCorrupt, Lane: c.s.lane, Segment: c.s.id, From: int64(at.Offset),
				To: int64(at.Offset) + int64(n), Space: o.space, Key: append([]byte(nil), o.key...), What: "found by compaction",
			})
			return nil
		}
	}
	var spill, tail []byte
	if o.flags&flagSpilled != 0 {
		spill = blob[:o.headLen:o.headLen]
		blob = blob[o.headLen:]
	}
	if o.flags&flagTail != 0 {
		tail = blob
	}
	c.into().move(*o, e.ref, spill, tail)
	return nil
}

// tomb carries a Delete on if copies of what it deletes may be in other segments.
func (c *rewriter) tomb(o *logOp) {
	if !c.v.kept[o.space] {
		return
	}
	// The copies here go with the segment.
	if c.v.segs.anyIn(o.first, o.at.Segment, c.s.id) {
		c.into().tomb(*o)
	}
}

func (c *rewriter) into() *Batch {
	if c.batch == nil {
		c.batch = c.v.NewBatch(c.s.lane)
		c.batch.own = true
	}
	return c.batch
}

// flush commits what has been collected.
func (c *rewriter) flush(ctx context.Context) error {
	if c.batch == nil {
		return nil
	}
	b := c.batch
	c.batch = nil
	n := b.Bytes()
	// Not the caller's context: a batch of moves must not be left behind half way
	// through its check.
	if err := c.v.Commit(context.WithoutCancel(ctx), b); err != nil {
		return err
	}
	c.arena = nil // the batch had its memory; it is small beside what was read
	return c.pace.wait(ctx, n)
}

// reap frees the retired segments whose time has come. With compactMu held.
func (v *Volume) reap() error {
	var freed []*segment
	keep := v.bg.retired[:0]
	oldest := v.iters.oldest()
	for _, r := range v.bg.retired {
		ready := oldest > r.iter
		for l := range r.seq {
			ready = ready && v.bg.flushedSeq[l].Load() >= r.seq[l]
		}
		if ready && v.segs.end(r.s) {
			freed = append(freed, r.s)
		} else {
			keep = append(keep, r)
		}
	}
	v.bg.retired = keep
	if len(freed) == 0 {
		return nil
	}
	var free [lanes][]string
	for _, s := range freed {
		name, err := v.recycle(s, len(free[s.lane]))
		if err != nil {
			return v.fail(err)
		}
		if name != "" {
			free[s.lane] = append(free[s.lane], name)
		}
	}
	// INVARIANT: a segment is in the table, and its file not used again, until it is
	// durably gone. If it could come back after a crash, tombs for its entries must
	// not be dropped, and its first block must be its own.
	if err := vfs.SyncDir(v.cfg.FS, v.path("log")); err != nil {
		return v.fail(err)
	}
	v.freeMu.Lock()
	for l := range free {
		v.free[l] = append(v.free[l], free[l]...)
	}
	v.freeMu.Unlock()
	v.applyMu.Lock()
	defer v.applyMu.Unlock()
	for _, s := range freed {
		v.segs.forget(s)
		if err := v.db.Delete(segmentKey(s.id), pebble.NoSync); err != nil {
			return errs.Wrap("volume.compact", indexKind(err), err)
		}
	}
	return nil
}

// recycle keeps a segment's file for reuse, or removes it. It returns the file's
// new name, "" if it was removed; pending is how many such names are not in v.free
// yet. Overwriting a file that was written before costs a third less per sync than a
// fresh one, since the file system's journal has nothing to say about it.
func (v *Volume) recycle(s *segment, pending int) (string, error) {
	v.freeMu.Lock()
	full := len(v.free[s.lane])+pending >= maxFreeFiles
	v.freeMu.Unlock()
	if full || v.space.tight() {
		return "", v.cfg.FS.Remove(s.path)
	}
	name := v.path("log", freeName(s.lane, s.id))
	return name, v.cfg.FS.Rename(s.path, name)
}

// pacer holds work to a rate.
type pacer struct {
	perSecond int64
	owed      time.Duration
	since     time.Time
}

func newPacer(bytesPerSecond int64) pacer {
	return pacer{perSecond: bytesPerSecond, since: time.Now()}
}

// wait waits as long as n bytes of work should take from the last wait on.
func (p *pacer) wait(ctx context.Context, n int64) error {
	if p.perSecond > 0 {
		p.owed += time.Duration(float64(n) / float64(p.perSecond) * float64(time.Second))
		if spare := p.owed - time.Since(p.since); spare > 20*time.Millisecond {
			t := time.NewTimer(spare)
			defer t.Stop()
			select {
			case <-t.C:
			case <-ctx.Done():
			}
		} else if spare < -time.Second {
			p.owed, p.since = 0, time.Now() // no catching up
		}
	}
	return errs.Wrap("volume.pace", errs.Canceled, ctx.Err())
}
