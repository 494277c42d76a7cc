// Package workers runs short functions on goroutines that stay for the next one.
//
// A new goroutine begins with a small stack, and a lookup in a device's index
// needs a deep one: growing it, copy by copy, costs more than the rest of the
// start. A goroutine that has run one function has the stack that the next needs.
//
// A Pool is safe for concurrent use. What it runs is on its own: a Pool knows
// nothing of contexts, results or panics.
package workers

import (
	"sync"
	"sync/atomic"
)

// Pool runs functions, each at once and on a goroutine of its own. A nil Pool
// starts a new goroutine for each.
type Pool struct {
	limit int64 // of functions at a time; 0: any number
	keep  int64 // goroutines that stay when they have nothing to do
	jobs  chan func()
	quit  chan struct{}
	count atomic.Int64
	idle  atomic.Int64
	wg    sync.WaitGroup
}

// New returns a pool that runs at most limit functions at a time, or any number
// if limit is 0, and lets keep goroutines wait for more. It must be stopped.
func New(limit, keep int) *Pool {
	return &Pool{
		limit: int64(limit), keep: int64(keep),
		jobs: make(chan func()), quit: make(chan struct{}),
	}
}

// Go runs f, whatever the limit is. It does not wait.
func (p *Pool) Go(f func()) {
	if p == nil {
		go f()
		return
	}
	if p.hand(f) {
		return
	}
	p.count.Add(1)
	p.start(f)
}

// Try runs f and answers true, or answers false if as many as may be are running.
func (p *Pool) Try(f func()) bool {
	if p.hand(f) {
		return true
	}
	if n := p.count.Add(1); p.limit > 0 && n > p.limit {
		p.count.Add(-1)
		return false
	}
	p.start(f)
	return true
}

// hand gives f to a goroutine that waits, if there is one.
func (p *Pool) hand(f func()) bool {
	select {
	case p.jobs <- f:
		return true
	default:
		return false
	}
}

func (p *Pool) start(f func()) {
	p.wg.Add(1)
	go p.loop(f)
}

func (p *Pool) loop(f func()) {
	defer p.wg.Done()
	defer p.count.Add(-1)
	for {
		f()
		f = nil // not held while waiting
		if p.idle.Add(1) > p.keep {
			p.idle.Add(-1)
			return
		}
		select {
		case f = <-p.jobs:
			p.idle.Add(-1)
		case <-p.quit:
			p.idle.Add(-1)
			return
		}
	}
}

// Stop lets the waiting goroutines go. What is run after it runs on goroutines
// that do not stay. It must be called once.
func (p *Pool) Stop() {
	if p != nil {
		close(p.quit)
	}
}

// Wait returns when all functions have ended, after Stop. Nothing may be run from
// then on.
func (p *Pool) Wait() {
	if p != nil {
		p.wg.Wait()
	}
}
