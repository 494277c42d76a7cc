package volume

import (
	"bytes"
	"context"

	"ringfort/internal/errs"
)

// Verify reads every frame of the log back and checks it, and that every entry of
// the index points into the log. It calls report for each piece of damage, and
// returns an error only if it could not go on. It may run while the volume is in
// use, at the rate of Config.VerifyBytesPerSecond.
//
// Bytes that nothing points at any more are not looked at closer than their frame.
func (v *Volume) Verify(ctx context.Context, report func(Finding)) error {
	c := &verifier{v: v, report: report, pace: newPacer(v.cfg.VerifyBytesPerSecond), bad: make(map[SegmentID][]badRange)}
	for l := range Lane(lanes) {
		for _, s := range v.segs.of(l) {
			if err := c.segment(ctx, s.id); err != nil {
				return err
			}
		}
	}
	return c.index(ctx)
}

type verifier struct {
	v      *Volume
	report func(Finding)
	pace   pacer
	bad    map[SegmentID][]badRange
}

// badRange is a part of a segment that cannot be read.
type badRange struct{ from, to int64 }

func (c *verifier) segment(ctx context.Context, id SegmentID) error {
	s, ok, err := c.v.segs.acquire(id)
	if err != nil {
		return err
	}
	if !ok {
		return nil // compaction was faster
	}
	defer c.v.segs.release(s)
	// INVARIANT: the end is read before the file, its size included, and nothing
	// behind it is read. What lies before it is in the file by then; what is being
	// written behind it might otherwise be seen half, or as what a recycled file held
	// before, and be taken for damage once the end has moved on.
	end := s.end.Load()
	sc, err := c.v.openScanner(s)
	if err != nil {
		return err
	}
	defer sc.close()
	sc.limit(max(end, segmentHeader))
	if _, ok, err := sc.info(); err != nil {
		return err
	} else if !ok {
		c.report(Finding{Kind: SegmentHeader, Lane: s.lane, Segment: s.id, To: segmentHeader, What: "found by verify"})
	}
	for off := int64(segmentHeader); off < end; {
		h, ops, blobs, ok, err := sc.frame(off)
		if err != nil {
			return err
		}
		if ok || ops != nil {
			if !ok {
				if err := c.blobs(s, &h, ops, blobs, off); err != nil {
					return err
				}
			}
			off += h.size()
		} else {
			next, _, found, err := sc.nextHeader(off+sc.lane.align(), end)
			if err != nil {
				return err
			}
			if !found {
				next = end
			}
			c.bad[s.id] = append(c.bad[s.id], badRange{off, next})
			c.report(Finding{Kind: FrameCorrupt, Lane: s.lane, Segment: s.id, From: off, To: next, What: "found by verify"})
			off = next
		}
		if err := c.pace.wait(ctx, h.size()); err != nil {
			return err
		}
	}
	return nil
}

// blobs reports the entries of a frame whose blobs are bad, if they are in use.
func (c *verifier) blobs(s *segment, h *frameHeader, ops []logOp, blobs []byte, off int64) error {
	for i := range ops {
		o := &ops[i]
		n := o.blobLen()
		if n == 0 || o.checkBlob(blobs[o.blob:o.blob+n]) {
			continue
		}
		at := o.ref(s.id, off, h.opsLen)
		e, found, err := c.v.entry(o.space, o.key)
		if err != nil {
			return err
		}
		if found && e.ref.same(at) {
			c.report(Finding{
				Kind: EntryCorrupt, Lane: s.lane, Segment: s.id, From: int64(at.Offset), To: int64(at.Offset) + int64(n),
				Space: o.space, Key: bytes.Clone(o.key), What: "found by verify",
			})
		}
	}
	return nil
}

// index checks that what the index points at is there.
func (c *verifier) index(ctx context.Context) error {
	for id := range c.v.known {
		if id != int(ownSpace) && !c.v.known[id] && !c.v.stored[id] {
			continue
		}
		if err := c.space(ctx, SpaceID(id)); err != nil {
			return err
		}
	}
	return nil
}

func (c *verifier) space(ctx context.Context, id SpaceID) error {
	it, err := c.v.NewIter(id, nil, nil)
	if err != nil {
		return err
	}
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		if n++; n%1000 == 0 && ctx.Err() != nil {
			break
		}
		if id == ownSpace && !ownEntry(it.Key()) {
			continue
		}
		c.entry(id, it.Key(), it.Ref())
	}
	if err := it.Close(); err != nil {
		return err
	}
	return errs.Wrap("volume.Verify", errs.Canceled, ctx.Err())
}

// ownEntry reports whether a key of the volume's own space is that of an entry.
func ownEntry(key []byte) bool {
	return bytes.Equal(key, generationKey) || bytes.Equal(key, spacesKey)
}

// entry checks where one index entry points.
func (c *verifier) entry(id SpaceID, key []byte, r Ref) {
	if r.IsZero() {
		return
	}
	what := ""
	s := c.v.segs.get(r.Segment)
	switch {
	case s == nil:
		what = "its segment is missing"
	case int64(r.Offset) < segmentHeader || int64(r.Offset) >= s.end.Load():
		what = "it lies outside its segment"
	default:
		for _, b := range c.bad[r.Segment] {
			if b.from <= int64(r.Offset) && int64(r.Offset) < b.to {
				what = "its frame is corrupt"
			}
		}
	}
	if what != "" {
		c.report(Finding{
			Kind: EntryCorrupt, Segment: r.Segment, From: int64(r.Offset), To: int64(r.Offset) + int64(r.Length),
			Space: id, Key: bytes.Clone(key), What: what,
		})
	}
}
