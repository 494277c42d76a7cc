package peer

import (
	"sync"
	"time"

	"ringfort/internal/errs"
)

// sendQueue holds the frames that wait for a connection's writer. Its bound is
// in bytes: whoever passes it waits until the writer has taken what is there,
// which is how a peer that reads slowly slows its callers down.
type sendQueue struct {
	limitBytes int
	wake       chan struct{} // of capacity 1: there is something to write

	mu     sync.Mutex // guards the rest
	frames []*buffer
	bytes  int
	space  chan struct{} // closed when the writer has taken everything; nil: nobody waits
	closed error
}

func newSendQueue(limitBytes int) *sendQueue {
	return &sendQueue{limitBytes: limitBytes, wake: make(chan struct{}, 1)}
}

// push queues a frame, waiting for room until done is closed or timer fires. The
// queue owns the frame if push returns nil.
func (q *sendQueue) push(done <-chan struct{}, timer <-chan time.Time, b *buffer) error {
	for {
		q.mu.Lock()
		if q.closed != nil {
			q.mu.Unlock()
			return q.closed
		}
		if q.bytes == 0 || q.bytes+len(b.b) <= q.limitBytes {
			q.add(b)
			return nil
		}
		if q.space == nil {
			q.space = make(chan struct{})
		}
		space := q.space
		q.mu.Unlock()
		select {
		case <-space:
		case <-timer:
			return errs.New("peer", errs.Unavailable, "no room to send within the time of the call")
		case <-done:
			return errs.New("peer", errs.Canceled, "gave up while waiting to send")
		}
	}
}

// pushNow queues a small control frame, whatever is queued already. Its callers
// send at most one for each frame received or each tick.
func (q *sendQueue) pushNow(b *buffer) {
	q.mu.Lock()
	if q.closed != nil {
		q.mu.Unlock()
		return
	}
	q.add(b)
}

// add appends b and unlocks.
func (q *sendQueue) add(b *buffer) {
	first := len(q.frames) == 0
	q.frames = append(q.frames, b)
	q.bytes += len(b.b)
	if first {
		select { // under the lock: close closes the channel
		case q.wake <- struct{}{}:
		default:
		}
	}
	q.mu.Unlock()
}

// take moves everything queued into the slice it is given.
func (q *sendQueue) take(into []*buffer) ([]*buffer, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed != nil {
		return into, q.closed
	}
	into, q.frames = q.frames, into[:0]
	q.bytes = 0
	if q.space != nil {
		close(q.space)
		q.space = nil
	}
	return into, nil
}

// close makes every later and waiting push fail with err.
func (q *sendQueue) close(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed != nil {
		return
	}
	q.closed = err
	q.frames, q.bytes = nil, 0
	if q.space != nil {
		close(q.space)
		q.space = nil
	}
	close(q.wake)
}
