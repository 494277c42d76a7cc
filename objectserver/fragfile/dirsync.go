package fragfile

import (
	"sync"

	"ringfort/internal/vfs"
)

// dirSync makes the names in one directory durable for many callers at once: who
// comes while a sync runs cannot rely on it and waits for the next, and of those
// who wait one syncs for all.
type dirSync struct {
	mu      sync.Mutex
	running *syncRound // has begun: too late to join
	next    *syncRound // those who wait for running to end
}

type syncRound struct {
	done chan struct{}
	err  error
}

// sync returns when all names put into dir before the call are durable.
func (d *dirSync) sync(fs vfs.FS, dir string) error {
	d.mu.Lock()
	if r := d.next; r != nil {
		d.mu.Unlock()
		<-r.done
		return r.err
	}
	r := &syncRound{done: make(chan struct{})}
	if before := d.running; before != nil {
		d.next = r // I lead the next round, once the running one is over
		d.mu.Unlock()
		<-before.done
		d.mu.Lock()
		d.next = nil
	}
	d.running = r
	d.mu.Unlock()

	r.err = vfs.SyncDir(fs, dir)
	d.mu.Lock()
	if d.running == r {
		d.running = nil
	}
	d.mu.Unlock()
	close(r.done)
	return r.err
}
