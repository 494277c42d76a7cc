package volume

import (
	"context"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	pvfs "github.com/cockroachdb/pebble/v2/vfs"
)

const pebbleWrite = pvfs.WriteCategoryUnspecified

// background is the volume's one goroutine for what is not a commit: it keeps the
// index flushed, and compacts.
type background struct {
	wg     sync.WaitGroup
	cancel context.CancelFunc
	kick   chan struct{} // of capacity 1
}

func (v *Volume) startBackground() {
	ctx, cancel := context.WithCancel(context.Background())
	v.bg.cancel = cancel
	v.bg.wg.Go(func() { v.backgroundLoop(ctx) })
}

func (v *Volume) stopBackground() {
	if v.bg.cancel != nil {
		v.bg.cancel()
	}
}

func (v *Volume) backgroundLoop(ctx context.Context) {
	<-ctx.Done()
}

// flushed is called by pebble, with its locks held, when a flush has ended.
func (v *Volume) flushed(ok bool) {
	if ok {
		for _, l := range v.lanes {
			l.unflushed.Store(0)
		}
	}
}

// kickCompaction wakes the background goroutine.
func (v *Volume) kickCompaction() {
	select {
	case v.bg.kick <- struct{}{}:
	default:
	}
}

// boundReplay has the index flushed when too much of the lane's log is ahead of it.
func (v *Volume) boundReplay(l *lane) {
	if l.unflushed.Load() > v.cfg.replayBytes(l.id) {
		l.unflushed.Store(0)
		_, _ = v.db.AsyncFlush() // pebble tells of a failure through its listener
	}
}

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

var _ = pebble.NoSync
