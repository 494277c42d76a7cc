package container

import (
	"slices"
	"sync"
	"time"

	"ringfort/internal/keyhash"
	"ringfort/internal/register"
)

const (
	// LeaseTime is for how long a gateway may act on a container's state, from the
	// moment before it asked for it.
	LeaseTime = 2 * time.Second

	// leaseMargin is for clocks that do not run at the same rate: a hundredth, some
	// twenty times what a steered clock may be off.
	leaseMargin = LeaseTime / 100

	maxLeases       = 1 << 16 // noted at a time in one generation
	maxAddressBytes = 300
)

// leases remembers who may act on what. Since all leases run equally long they are
// kept in two generations: when the older one has run out as a whole it is dropped.
type leases struct {
	now func() time.Time

	mu           sync.Mutex // guards the rest; may be taken under a key's lock
	unknownUntil time.Time  // until then, leases may run that are not noted
	young, old   map[keyhash.Hash][]lease
	count        int       // of young
	turn         time.Time // when young becomes old
}

type lease struct {
	holder  uint64
	address string
	until   time.Time
}

// init begins with what an earlier process may have granted.
func (l *leases) init(now func() time.Time) {
	l.now = now
	l.unknownUntil = now().Add(LeaseTime + leaseMargin)
}

// note grants or renews a lease.
func (l *leases) note(key keyhash.Hash, holder register.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.age(now)
	until := now.Add(LeaseTime + leaseMargin)
	list := l.young[key]
	i := slices.IndexFunc(list, func(x lease) bool { return x.holder == holder.Holder })
	switch {
	case i >= 0:
		list[i] = lease{holder.Holder, holder.Address, until}
	case l.count >= maxLeases:
		l.unknownUntil = until
	default:
		if l.young == nil {
			l.young = make(map[keyhash.Hash][]lease)
		}
		l.young[key] = append(list, lease{holder.Holder, holder.Address, until})
		l.count++
	}
}

// of returns the leases on a container that still run.
func (l *leases) of(key keyhash.Hash) []register.Lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.age(now)
	var out []register.Lease
	add := func(x lease) {
		if left := x.until.Sub(now); left > 0 {
			// Rounded up: a lease reported as over is over.
			out = append(out, register.Lease{Holder: x.holder, Address: x.address, Micros: left.Microseconds() + 1})
		}
	}
	add(lease{until: l.unknownUntil})
	for _, x := range l.young[key] {
		add(x)
	}
	for _, x := range l.old[key] {
		if !slices.ContainsFunc(l.young[key], func(y lease) bool { return y.holder == x.holder }) {
			add(x)
		}
	}
	return out
}

// age drops the generation that has run out. INVARIANT: when young becomes old,
// the old one was noted at least a lease's time ago.
func (l *leases) age(now time.Time) {
	if now.Before(l.turn) {
		return
	}
	l.old, l.young, l.count = l.young, nil, 0
	l.turn = now.Add(LeaseTime + leaseMargin)
}
