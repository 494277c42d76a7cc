package peer

import (
	"sync"

	"ringfort/internal/errs"
	"ringfort/ring"
)

// limiter bounds what is under way, in all and for each device, so that one
// device that hangs cannot take the places of the others.
type limiter struct {
	total     int
	perDevice int

	mu      sync.Mutex // guards the rest
	count   int
	devices map[ring.DeviceID]int // only those with something under way
}

func newLimiter(total, perDevice int) *limiter {
	return &limiter{total: total, perDevice: perDevice, devices: make(map[ring.DeviceID]int)}
}

// acquire takes a place, or fails with errs.Busy at once.
func (l *limiter) acquire(op string, d ring.DeviceID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.devices[d]
	switch {
	case n >= l.perDevice:
		return errs.New(op, errs.Busy, "device %d has %d calls under way", d, n)
	case l.count >= l.total:
		return errs.New(op, errs.Busy, "%d calls under way", l.count)
	}
	l.count++
	l.devices[d] = n + 1
	return nil
}

// release gives a place back.
func (l *limiter) release(d ring.DeviceID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count--
	if n := l.devices[d]; n > 1 {
		l.devices[d] = n - 1
	} else {
		delete(l.devices, d)
	}
}
