package volume

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	pvfs "github.com/cockroachdb/pebble/v2/vfs"

	"ringfort/internal/errs"
)

const pebbleWrite = pvfs.WriteCategoryUnspecified

// background is the volume's one goroutine for what is not a commit: it notes how
// far the index has been flushed, frees segments and compacts.
type background struct {
	wg     sync.WaitGroup
	ctx    context.Context
	cancel context.CancelFunc
	kick   chan struct{} // of capacity 1

	compactMu sync.Mutex // one compaction at a time; guards what follows; taken before all other locks
	retired   []retired
	damaged   map[SegmentID]bool // cannot be compacted: a part is not readable
	oldestAt  SegmentID          // the newest segment when the oldest was last compacted for its tombs

	flushedSeq [lanes]atomic.Uint64
}

// lookEvery is how often the background goroutine looks for work unasked.
const lookEvery = 2 * time.Second

func (v *Volume) startBackground() {
	v.bg.ctx, v.bg.cancel = context.WithCancel(context.Background())
	v.bg.damaged = make(map[SegmentID]bool)
	v.bg.wg.Go(v.backgroundLoop)
}

func (v *Volume) stopBackground() {
	if v.bg.cancel != nil {
		v.bg.cancel()
	}
}

func (v *Volume) backgroundLoop() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-v.bg.ctx.Done():
			return
		case <-v.bg.kick:
		case <-tick.C:
		}
		if v.failure() != nil {
			continue
		}
		v.space.full(v) // so that it is known in quiet times too
		if err := v.noteFlushed(); err != nil {
			v.cfg.Logger.Warn("reading the flushed position", "volume", v.cfg.Dir, "err", err)
			continue
		}
		if v.cfg.DisableCompaction {
			continue
		}
		for {
			did, err := v.CompactOnce(v.bg.ctx)
			if err != nil && v.bg.ctx.Err() == nil {
				v.cfg.Logger.Warn("compaction", "volume", v.cfg.Dir, "err", err)
			}
			if err != nil || !did {
				break
			}
		}
	}
}

// kickBackground wakes the background goroutine. It may be called with any lock held.
func (v *Volume) kickBackground() {
	select {
	case v.bg.kick <- struct{}{}:
	default:
	}
}

// noteFlushed learns which frames the index has durably, and how much log is ahead
// of it.
func (v *Volume) noteFlushed() error {
	it, err := v.db.NewIter(&pebble.IterOptions{
		LowerBound: positionKey(0), UpperBound: positionKey(lanes), OnlyReadGuaranteedDurable: true,
	})
	if err != nil {
		return errs.Wrap("volume.index", indexKind(err), err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		pos, err := decodePosition(it.Value())
		if err != nil {
			it.Close()
			return err
		}
		l := v.lanes[Lane(it.Key()[2])]
		v.bg.flushedSeq[l.id].Store(pos.seq)
		l.unflushed.Store(v.ahead(l.id, pos))
	}
	return ioError("volume.index", it.Close())
}

// ahead returns how many bytes of a lane's log lie behind pos.
func (v *Volume) ahead(l Lane, pos position) int64 {
	n := int64(0)
	for _, s := range v.segs.of(l) {
		switch {
		case s.id == pos.segment:
			n += s.end.Load() - int64(pos.offset)
		case s.id > pos.segment:
			n += s.end.Load()
		}
	}
	return n
}

// boundReplay has the index flushed when too much of the lane's log is ahead of it.
func (v *Volume) boundReplay(l *lane) {
	if l.unflushed.Load() > v.cfg.replayBytes(l.id) {
		l.unflushed.Store(0) // until the flush's end puts it right
		v.flushSoon()
	}
}

// flushSoon asks for a flush of the index; pebble tells of a failure through its
// listener.
func (v *Volume) flushSoon() { _, _ = v.db.AsyncFlush() }

// takeFree takes a file from the lane's free ones, "" if there is none.
func (v *Volume) takeFree(l Lane) string {
	v.freeMu.Lock()
	defer v.freeMu.Unlock()
	n := len(v.free[l])
	if n == 0 {
		return ""
	}
	name := v.free[l][n-1]
	v.free[l] = v.free[l][:n-1]
	return name
}
