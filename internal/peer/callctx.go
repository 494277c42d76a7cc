package peer

import (
	"context"
	"sync"
	"time"
)

// callContext is the context of one served call. Most calls end without anyone
// waiting for their context, so its channel and its timer are made when they are
// first asked for: that is most of what a context costs.
type callContext struct {
	deadline time.Time // zero: none

	mu    sync.Mutex // guards the rest
	done  chan struct{}
	timer *time.Timer
	err   error
}

var _ context.Context = (*callContext)(nil)

func newCallContext(left time.Duration) *callContext {
	c := &callContext{}
	if left > 0 {
		c.deadline = time.Now().Add(left)
	}
	return c
}

// Deadline returns when the caller stops waiting.
func (c *callContext) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Done returns a channel that is closed when the call has ended.
func (c *callContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done != nil {
		return c.done
	}
	c.done = make(chan struct{})
	switch {
	case c.err != nil:
		close(c.done)
	case !c.deadline.IsZero():
		c.timer = time.AfterFunc(time.Until(c.deadline), func() { c.cancel(context.DeadlineExceeded) })
	}
	return c.done
}

// Err returns why the call has ended, nil while it has not.
func (c *callContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil && !c.deadline.IsZero() && !time.Now().Before(c.deadline) {
		c.end(context.DeadlineExceeded)
	}
	return c.err
}

// Value returns nil: nothing but time crosses the wire.
func (c *callContext) Value(any) any { return nil }

// cancel ends the call; only the first cause counts.
func (c *callContext) cancel(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.end(cause)
	}
}

// end is cancel with mu held.
func (c *callContext) end(cause error) {
	c.err = cause
	if c.done != nil {
		close(c.done)
	}
	if c.timer != nil {
		c.timer.Stop()
	}
}
