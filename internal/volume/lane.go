package volume

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
	pvfs "github.com/cockroachdb/pebble/v2/vfs"

	"ringfort/internal/errs"
	"ringfort/internal/vfs"
)

// groupBytes is how much one write takes from the queue at most, unless a single
// batch is larger; the writer's buffer is as large.
const groupBytes = 4 * mib

// directBytes is the size from which a write goes past the page cache. Measured on
// ext4 over NVMe, write and sync: 64 KiB alike, 256 KiB 160 µs against 160 to 300,
// 1 MiB 0.5 ms against 4 (into fresh space) or 0.4 (over old), at a tenth of the CPU.
const directBytes = 128 * kib

// lane is one of the two logs: a queue of batches and the goroutine that writes
// them.
type lane struct {
	v  *Volume
	id Lane

	mu     sync.Mutex // guards the queue and the batches' states; applyMu is never taken under it
	cond   sync.Cond  // the writer waits for batches, committers for room or for a copy to end
	queue  []*Batch
	bytes  int64    // in the queue
	idle   bool     // the writer waits
	waits  int      // committers waiting on cond
	flight []*Batch // taken by the writer and not answered
	closed bool

	// The writer's own.
	seg     *segment
	file    vfs.File // of seg, for writing
	direct  bool     // file is in direct mode
	off     int64    // where the next frame goes
	claimed int64    // how far seg's disk space is claimed
	ahead   aheadState
	seq     uint64              // of the last frame written
	buf     []byte              // aligned, grows up to groupBytes
	out     []byte              // buf, or a larger one for this frame alone
	tail    [vfs.BlockSize]byte // the block that off lies in, up to off
	group   []*Batch
	woken   int // committers answered with the last group
	touched map[*segment]struct{}
	prev    SegmentID // the lane's last segment before this one began
	prevEnd int64

	commitMu sync.Mutex // held by the writer over a commit, before any other lock; see Volume.settle

	active    atomic.Uint32 // id of seg, 0: none
	durable   atomic.Uint64 // seq of the last frame known durable
	applied   atomic.Uint64 // seq of the last frame applied to the index
	written   atomic.Int64  // bytes since the volume was opened
	unflushed atomic.Int64  // bytes since the index began its last flush
}

func newLane(v *Volume, id Lane) *lane {
	l := &lane{v: v, id: id, touched: make(map[*segment]struct{})}
	l.cond.L = &l.mu
	return l
}

// enqueue gives a batch to the writer. It waits while the queue is full.
func (l *lane) enqueue(ctx context.Context, b *Batch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bytes > l.v.cfg.MaxQueueBytes {
		if err := l.waitRoom(ctx); err != nil {
			return err
		}
	}
	if l.closed {
		return errs.New("volume.Commit", errs.Unavailable, "closed")
	}
	if err := l.v.failure(); err != nil {
		return err // nobody would answer any more
	}
	b.state = batchQueued
	l.queue = append(l.queue, b)
	l.bytes += b.Bytes()
	if l.idle {
		l.idle = false
		l.cond.Broadcast()
	}
	return nil
}

// waitRoom waits until the queue has room. With l.mu held.
func (l *lane) waitRoom(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		l.mu.Lock()
		l.cond.Broadcast()
		l.mu.Unlock()
	})
	defer stop()
	l.waits++
	defer func() { l.waits-- }()
	for l.bytes > l.v.cfg.MaxQueueBytes && !l.closed {
		if err := ctx.Err(); err != nil {
			return errs.Wrap("volume.Commit", errs.Canceled, err)
		}
		if err := l.v.failure(); err != nil {
			return err
		}
		l.cond.Wait()
	}
	return nil
}

// abandon is called by a committer whose context has ended. It reports an error
// for it to return, or false if the batch is done and its result waiting.
func (l *lane) abandon(ctx context.Context, b *Batch) (error, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b.state == batchQueued {
		i := slices.Index(l.queue, b)
		l.queue = slices.Delete(l.queue, i, i+1)
		l.bytes -= b.Bytes()
		b.state = batchDone
		b.release()
		return errs.Wrap("volume.Commit", errs.Canceled, ctx.Err()), true
	}
	l.waits++
	for b.state == batchTaken {
		l.cond.Wait() // the writer is copying the caller's memory: microseconds
	}
	l.waits--
	if b.state == batchDone || b.left {
		return nil, false
	}
	b.left = true
	return errs.Wrap("volume.Commit", errs.OutcomeUnknown, ctx.Err()), true
}

// take waits for batches and takes as many as one write may hold. It returns
// none once the lane is closed and the queue empty.
func (l *lane) take() []*Batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) < l.woken {
		// Those just answered are about to come back. Without this they would end up
		// in two halves that wait for each other's sync, each at half the rate.
		l.mu.Unlock()
		runtime.Gosched()
		l.mu.Lock()
	}
	for len(l.queue) == 0 {
		if l.closed {
			return nil
		}
		l.idle = true
		l.cond.Wait()
	}
	l.idle = false
	n, size := 0, int64(0)
	for n < len(l.queue) {
		b := l.queue[n]
		if n > 0 && (size+b.Bytes() > groupBytes || b.moves) {
			break
		}
		size += b.Bytes()
		b.state = batchTaken
		n++
		if b.moves {
			break
		}
	}
	l.group = append(l.group[:0], l.queue[:n]...)
	rest := copy(l.queue, l.queue[n:])
	clear(l.queue[rest:])
	l.queue = l.queue[:rest]
	l.bytes -= size
	l.flight = l.group
	if l.waits > 0 {
		l.cond.Broadcast()
	}
	return l.group
}

// finish tells the committers of a group how it went.
func (l *lane) finish(group []*Batch, err error) {
	l.mu.Lock()
	for _, b := range group {
		b.state = batchDone
	}
	l.flight = nil
	if l.waits > 0 {
		l.cond.Broadcast()
	}
	l.mu.Unlock()
	l.woken = 0
	for i, b := range group {
		group[i] = nil
		if b.lazy || b.left {
			b.release()
		} else {
			b.done <- result{err: err}
			l.woken++
		}
	}
}

// failAll answers everybody at once when the volume has failed, since the writer
// may never come back from a hung disk or from an index that cannot flush.
func (l *lane) failAll(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.flight {
		// Those that the writer is still copying it will answer itself: see copied.
		if b.state == batchCopied && !b.lazy && !b.left {
			b.left = true
			b.done <- result{err: err, left: true}
		}
	}
	for _, b := range l.queue {
		b.state = batchDone
		if b.lazy {
			b.release()
		} else {
			b.done <- result{err: err}
		}
	}
	clear(l.queue)
	l.queue, l.bytes = l.queue[:0], 0
	l.cond.Broadcast()
}

// copied says that the writer has done with the committers' memory. It returns an
// error if the volume has failed meanwhile.
func (l *lane) copied(group []*Batch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.v.failure(); err != nil {
		return err
	}
	for _, b := range group {
		b.state = batchCopied
	}
	if l.waits > 0 {
		l.cond.Broadcast()
	}
	return nil
}

// run is the writer.
func (l *lane) run() {
	for {
		group := l.take()
		if group == nil {
			return
		}
		err := l.v.failure()
		if err == nil {
			err = l.commit(group)
		}
		l.finish(group, err)
	}
}

// commit writes a group as one frame, makes it durable, and applies it.
//
// INVARIANT: the index holds nothing of a frame before the frame is durable, and
// within a lane frames are applied in the order of the log. What pebble has
// flushed is then an exact prefix of each lane. Each frame says what was applied of
// the other lane before it was made, so that recovery can keep to that order too.
func (l *lane) commit(group []*Batch) error {
	v := l.v
	l.commitMu.Lock()
	defer l.commitMu.Unlock()
	if v.anyStale(group) {
		// INVARIANT: no move of an entry is between its check and its apply while
		// a change of that entry is, in either lane.
		v.moveMu.Lock()
		defer v.moveMu.Unlock()
		newest := l.prev
		if l.seg != nil {
			newest = l.seg.id
		}
		if err := v.resolve(group, newest); err != nil {
			return err
		}
	}
	h := frameHeader{lane: l.id, generation: uint32(v.generation)}
	var ops, blobs, n int64
	for _, b := range group {
		ops += int64(len(b.ops))
		blobs += b.blob
		n += int64(len(b.list))
	}
	if n == 0 {
		return nil // compaction found that nothing is left to move
	}
	h.opsLen, h.blobLen, h.opCount = uint32(ops), uint32(blobs), uint32(n)
	if err := l.room(h.size()); err != nil {
		return err
	}
	h.segment, h.seq, h.durable = l.seg.id, l.seq+1, l.seq
	h.other = v.lanes[1-l.id].applied.Load()
	pb := v.db.NewBatchWithSize(int(ops) + int(n)*48 + 64)
	defer pb.Close()
	frame := l.buffer(h.size())
	l.encode(&h, group, frame, pb)
	if err := l.copied(group); err != nil {
		return err
	}
	if err := l.write(frame); err != nil {
		return err
	}
	l.off += h.size()
	l.seq++
	l.seg.end.Store(l.off)
	l.durable.Store(l.seq)
	l.written.Add(h.size())
	l.unflushed.Add(h.size())
	if err := l.apply(group, pb); err != nil {
		return err
	}
	v.stats.groups[l.id].Add(1)
	v.stats.commits[l.id].Add(int64(len(group)))
	if !group[0].moves {
		v.stats.user.Add(ops + blobs)
	} else {
		v.stats.moved.Add(h.size())
	}
	v.boundReplay(l)
	return nil
}

// buffer returns n bytes to build a frame in, as far behind a block's beginning as
// the frame will be in the file, and with room up to the end of its last block.
func (l *lane) buffer(n int64) []byte {
	lead := l.off % vfs.BlockSize
	need := alignUp(lead+n, 64*kib)
	l.out = l.buf
	switch {
	case need <= int64(len(l.buf)):
	case need > groupBytes+64*kib:
		l.out = vfs.AlignedBuffer(int(need)) // a lone large batch: not kept
	default:
		l.buf = vfs.AlignedBuffer(int(min(max(need, 2*int64(len(l.buf))), groupBytes+64*kib)))
		l.out = l.buf
	}
	return l.out[lead : lead+n]
}

// encode builds the group's frame, and the index batch that goes with it.
func (l *lane) encode(h *frameHeader, group []*Batch, frame []byte, pb *pebble.Batch) {
	opAt := uint32(0)
	blobAt := uint32(0)
	blobs := frame[headerSize+h.opsLen:]
	for _, b := range group {
		ops := frame[headerSize+opAt:]
		copy(ops, b.ops)
		for i := range b.list {
			p := &b.list[i]
			o := p.logOp
			if o.kind == opDelete && o.flags&flagNames != 0 { // resolve may have changed them
				putDeleteNames(ops[o.start+deleteFlagsAt:], &o)
			}
			o.start += opAt
			o.end += opAt
			o.blob = blobAt
			blobAt += uint32(copy(blobs[blobAt:], p.spill))
			blobAt += uint32(copy(blobs[blobAt:], p.tail))
			o.key = b.ops[p.keyAt : p.keyAt+p.keyLen]
			o.head = b.ops[p.headAt : p.headAt+p.valueLen]
			p.ref = l.v.indexOp(pb, &o, h.segment, l.off, h.opsLen)
		}
		opAt += uint32(len(b.ops))
	}
	clear(frame[headerSize+int64(h.opsLen)+int64(h.blobLen):])
	h.opsSum = xxhash.Sum64(frame[headerSize : headerSize+h.opsLen])
	h.put(frame, l.v.frameKey())
}

// room makes sure that a frame of n bytes fits the current segment and that its
// disk space is claimed.
func (l *lane) room(n int64) error {
	size := l.v.cfg.segmentBytes(l.id)
	if l.seg == nil || l.off+n > size {
		if err := l.roll(); err != nil {
			return err
		}
	}
	l.ahead.frames++
	l.ahead.bytes += n
	if err := l.joinAhead(l.off+n > l.claimed); err != nil {
		return err
	}
	if l.wantAhead() {
		l.startAhead()
	}
	if l.off+n > l.claimed {
		if err := l.joinAhead(true); err != nil {
			return err
		}
	}
	if l.off+n > l.claimed {
		step := min(alignUp(l.off+n-l.claimed, l.v.cfg.PreallocateBytes), size-l.claimed)
		if err := l.file.Preallocate(l.claimed, step); err != nil {
			if isNoSpace(err) {
				return errs.Wrap("volume.Commit", errs.Full, err)
			}
			if !isUnsupported(err) {
				return l.v.fail(err)
			}
		}
		l.claimed += step
	}
	return nil
}

// roll begins a new segment: a recycled file if there is one.
func (l *lane) roll() error {
	v := l.v
	if l.seg != nil {
		if err := l.seal(); err != nil {
			return err
		}
		v.kickBackground()
	}
	id := SegmentID(v.lastSegment.Add(1))
	if id == 0 {
		return v.fail(errs.New("volume.Commit", errs.Unavailable, "the segment numbers are used up"))
	}
	s := &segment{id: id, lane: l.id, path: v.path("log", segmentName(l.id, id))}
	f, claimed, err := v.createSegment(s)
	if err != nil {
		return v.rollFailed(err)
	}
	head := vfs.AlignedBuffer(segmentHeader)
	info := segmentInfo{
		lane: l.id, id: id, volume: v.id, firstSeq: l.seq + 1,
		prev: l.prev, prevEnd: uint32(l.prevEnd),
	}
	info.put(head)
	if _, err = f.WriteAt(head, 0); err == nil {
		if err = f.Sync(); err == nil {
			err = vfs.SyncDir(v.cfg.FS, v.path("log"))
		}
	}
	if err != nil {
		f.Close()
		return v.rollFailed(err)
	}
	s.end.Store(segmentHeader)
	v.segs.add(s)
	l.seg, l.file, l.direct, l.off, l.claimed = s, f, false, segmentHeader, claimed
	l.active.Store(uint32(id))
	return nil
}

// seal ends the current segment with a frame that says so, if there is room.
func (l *lane) seal() error {
	if err := l.joinAhead(true); err != nil {
		return err
	}
	h := frameHeader{lane: l.id, seal: true, segment: l.seg.id, generation: uint32(l.v.generation), seq: l.seq + 1, durable: l.seq}
	h.other = l.v.lanes[1-l.id].applied.Load()
	h.opsSum = xxhash.Sum64(nil)
	if l.off+h.size() <= l.v.cfg.segmentBytes(l.id) {
		frame := l.buffer(h.size())
		clear(frame)
		h.put(frame, l.v.frameKey())
		if err := l.write(frame); err != nil {
			return err
		}
		l.off += h.size()
		l.seq++
		l.seg.end.Store(l.off)
		l.durable.Store(l.seq)
	}
	if err := l.file.Close(); err != nil {
		return l.v.fail(err)
	}
	l.prev, l.prevEnd = l.seg.id, l.off
	l.file, l.seg = nil, nil
	l.active.Store(0)
	return nil
}

// rollFailed sorts out why a segment could not be begun. Nothing was promised of
// it, so a full disk is no failure of the volume.
func (v *Volume) rollFailed(err error) error {
	if isNoSpace(err) {
		return errs.Wrap("volume.Commit", errs.Full, err)
	}
	return v.fail(err)
}

// createSegment opens the file of a new segment and returns how much of its disk
// space is claimed already.
func (v *Volume) createSegment(s *segment) (vfs.File, int64, error) {
	fs := v.cfg.FS
	claimed := int64(segmentHeader)
	if free := v.takeFree(s.lane); free != "" {
		if err := fs.Rename(free, s.path); err != nil {
			return nil, 0, err
		}
		if info, err := fs.Stat(s.path); err == nil {
			claimed = max(claimed, min(info.Size(), v.cfg.segmentBytes(s.lane)))
		}
	}
	f, err := fs.OpenReadWrite(s.path, pvfs.WriteCategoryUnspecified)
	return f, claimed, err
}

// write puts the frame that buffer returned into the log and makes it durable. A
// large one is written in whole blocks, with direct I/O where there is any: the
// block that it begins in is written again as it was, and the block that it ends
// in is filled with zeros.
func (l *lane) write(frame []byte) error {
	lead := l.off % vfs.BlockSize
	end := lead + int64(len(frame))
	p, at := frame, l.off
	large := int64(len(frame)) >= l.v.cfg.directBytes
	if large {
		copy(l.out, l.tail[:lead])
		whole := alignUp(end, vfs.BlockSize)
		clear(l.out[end:whole])
		p, at = l.out[:whole], l.off-lead
	}
	if large != l.direct && vfs.SetDirect(l.file, large) {
		l.direct = large
	}
	if _, err := l.file.WriteAt(p, at); err != nil {
		if isNoSpace(err) && l.unwrite() == nil {
			return errs.Wrap("volume.Commit", errs.Full, err)
		}
		return l.v.fail(err)
	}
	if err := l.file.SyncData(); err != nil {
		return l.v.fail(err)
	}
	if last := end &^ (vfs.BlockSize - 1); last == 0 {
		copy(l.tail[lead:], frame)
	} else {
		copy(l.tail[:], l.out[last:end])
	}
	return nil
}

// unwrite takes back what a write may have left behind when the disk was full:
// its callers are told no, so it must not be found after a crash.
func (l *lane) unwrite() error {
	if l.direct && vfs.SetDirect(l.file, false) {
		l.direct = false
	}
	if _, err := l.file.WriteAt(make([]byte, headerSize), l.off); err != nil {
		return err
	}
	return l.file.SyncData()
}

// apply makes a durable group visible.
func (l *lane) apply(group []*Batch, pb *pebble.Batch) error {
	v := l.v
	v.applyMu.Lock()
	defer v.applyMu.Unlock()
	for _, b := range group {
		for i := range b.list {
			p := &b.list[i]
			v.account(l.touched, l.seg, &p.logOp, p.ref, p.old)
		}
	}
	pos := position{segment: l.seg.id, offset: uint32(l.off), seq: l.seq}
	err := v.applyIndex(pb, l.touched, l.seg, l.id, pos)
	if err == nil {
		err = v.failure() // pebble tells of a failed apply through its logger
	}
	if err != nil {
		return v.fail(err)
	}
	l.applied.Store(l.seq)
	return nil
}

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

func isUnsupported(err error) bool {
	return errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EINVAL)
}
