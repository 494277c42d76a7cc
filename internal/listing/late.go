package listing

import (
	"context"
	"sync"

	"ringfort/internal/volume"
)

// lateBatches releases what belongs to batches whose committers have left before
// their fate was known. The volume takes batches in order: when a later, empty
// one has ended, so have they.
type lateBatches struct {
	v     *volume.Volume
	space volume.SpaceID // of the fence

	mu      sync.Mutex // guards the rest
	waiting []func()
	count   int // waiting, and being waited for
	running bool
}

// maxLate bounds what a device that does not answer can pile up. Beyond it the
// store answers errs.Busy to puts.
const maxLate = 4096

func (b *lateBatches) full() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count >= maxLate
}

// add has release called once every batch committed so far has ended.
func (b *lateBatches) add(release func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = append(b.waiting, release)
	b.count++
	if !b.running {
		b.running = true
		go b.run()
	}
}

// run ends when nothing is waiting. It outlives its callers' contexts on purpose;
// the volume's Close or failure ends it.
func (b *lateBatches) run() {
	for {
		b.mu.Lock()
		batch := b.waiting
		b.waiting = nil
		if len(batch) == 0 {
			b.running = false
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()

		// Whatever the volume answers, it has ended all earlier batches: it has
		// applied them, or it has failed and applies nothing any more.
		b.v.Commit(context.Background(), b.fence())
		for _, release := range batch {
			release()
		}
		b.mu.Lock()
		b.count -= len(batch)
		b.mu.Unlock()
	}
}

// fence returns a batch that changes nothing: no name's key is that short.
func (b *lateBatches) fence() *volume.Batch {
	f := b.v.NewBatch(volume.Meta)
	f.Delete(b.space, []byte{0}, volume.Ref{})
	f.Urgent()
	return f
}
