package peer

import (
	"sync"
	"time"

	"ringfort/internal/register"
)

// settleQueue gathers settled records for a few milliseconds and sends many in
// one message, which nobody answers. When more wait than may, the oldest are
// forgotten, as is everything while the peer is away: a device finds out again
// what it was not told.
type settleQueue struct {
	client *Client
	wake   chan struct{} // of capacity 1: something waits
	full   chan struct{} // of capacity 1: a batch is full

	mu      sync.Mutex // guards the rest
	started bool
	closed  bool
	items   []settleItem // a ring once it has SettleQueue items
	oldest  int
}

type settleItem struct {
	target  Target
	service Service
	done    register.Settled
}

func newSettleQueue(c *Client) *settleQueue {
	return &settleQueue{client: c, wake: make(chan struct{}, 1), full: make(chan struct{}, 1)}
}

// add queues what is done; it never waits.
func (q *settleQueue) add(t Target, s Service, done []register.Settled) {
	if len(done) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	if !q.started {
		q.started = true
		q.client.loops.Go(q.run)
	}
	limit := q.client.cfg.SettleQueue
	before := len(q.items)
	for _, d := range done {
		item := settleItem{t, s, d}
		if len(q.items) < limit {
			q.items = append(q.items, item)
			continue
		}
		q.items[q.oldest] = item
		q.oldest = (q.oldest + 1) % limit
	}
	if before == 0 {
		signal(q.wake)
	}
	if batch := q.client.cfg.SettleBatch; before < batch && len(q.items) >= batch {
		signal(q.full)
	}
}

// signal leaves a message in a channel of capacity 1.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take returns everything that waits, oldest first.
func (q *settleQueue) take() []settleItem {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	if q.oldest > 0 {
		items = append(append(make([]settleItem, 0, len(items)), items[q.oldest:]...), items[:q.oldest]...)
	}
	q.items, q.oldest = nil, 0
	select {
	case <-q.full: // it was about these
	default:
	}
	return items
}

func (q *settleQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.items = nil
}

// run sends what waits until the client is closed.
func (q *settleQueue) run() {
	done := q.client.ctx.Done()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-q.wake:
		case <-done:
			return
		}
		timer.Reset(q.client.cfg.SettleEvery)
		select {
		case <-timer.C:
		case <-q.full:
			timer.Stop()
		case <-done:
			return
		}
		items := q.take()
		for len(items) > 0 {
			n := min(len(items), q.client.cfg.SettleBatch)
			q.send(items[:n])
			items = items[n:]
		}
	}
}

func (q *settleQueue) send(items []settleItem) {
	c := q.client
	l, err := c.link(c.ctx, false)
	if err != nil {
		return
	}
	groups := groupSettled(items)
	b := c.pools.frame(16 + len(groups)*24 + len(items)*settledSize)
	b.b = appendSettle(b.b, groups)
	sealFrame(b.b, 0, msgSettle, 0, c.cfg.CallTimeout)
	if l.queue.push(c.ctx.Done(), nil, b) != nil {
		c.pools.put(b)
	}
}

// groupSettled puts neighbours with the same target together.
func groupSettled(items []settleItem) []settleGroup {
	var groups []settleGroup
	for _, it := range items {
		n := len(groups)
		if n == 0 || groups[n-1].target != it.target || groups[n-1].service != it.service {
			groups = append(groups, settleGroup{target: it.target, service: it.service})
			n++
		}
		groups[n-1].done = append(groups[n-1].done, it.done)
	}
	return groups
}
