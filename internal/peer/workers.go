package peer

import (
	"sync"
	"sync/atomic"
)

// workers run requests on a bounded number of goroutines. A few that are out of
// work stay: a goroutine that has served a request has the stack that the next
// one needs, and a new one would have to grow it again.
type workers struct {
	limit int64
	keep  int64 // idle ones that stay
	jobs  chan *request
	quit  chan struct{}
	count atomic.Int64
	idle  atomic.Int64
	wg    sync.WaitGroup
}

func newWorkers(limit, keep int) *workers {
	return &workers{limit: int64(limit), keep: int64(keep), jobs: make(chan *request), quit: make(chan struct{})}
}

// run starts r, or answers false if as many as may be are at work.
func (w *workers) run(r *request) bool {
	select {
	case w.jobs <- r:
		return true
	default:
	}
	if w.count.Add(1) > w.limit {
		w.count.Add(-1)
		return false
	}
	w.wg.Add(1)
	go w.loop(r)
	return true
}

func (w *workers) loop(r *request) {
	defer w.wg.Done()
	defer w.count.Add(-1)
	for {
		r.serve()
		r = nil
		if w.idle.Add(1) > w.keep {
			w.idle.Add(-1)
			return
		}
		select {
		case r = <-w.jobs:
			w.idle.Add(-1)
		case <-w.quit:
			w.idle.Add(-1)
			return
		}
	}
}

// close lets the idle ones go and waits for all.
func (w *workers) close() {
	close(w.quit)
	w.wg.Wait()
}
