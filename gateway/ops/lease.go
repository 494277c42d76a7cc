package ops

import (
	"sync"
	"time"

	"ringfort/internal/catalog"
	"ringfort/internal/keyhash"
)

// leaseTime is how long a gateway acts on a container's state after it asked for
// it. Devices count from when they were asked, which is later, so a gateway
// always stops first.
const leaseTime = 2 * time.Second

// maxLeases bounds the containers that a gateway remembers.
const maxLeases = 10000

// leases are the container states that this gateway may act on.
type leases struct {
	mu   sync.Mutex
	held map[keyhash.Hash]lease
	// revoked counts revocations, so that an answer that was under way while one
	// came in is not kept.
	revoked uint64
}

type lease struct {
	container *catalog.Container // nobody changes it
	until     time.Time
}

func (l *leases) get(h keyhash.Hash) *catalog.Container {
	l.mu.Lock()
	defer l.mu.Unlock()
	x, ok := l.held[h]
	if !ok || !time.Now().Before(x.until) {
		return nil
	}
	return x.container
}

// generation is to be taken before a lease is asked for.
func (l *leases) generation(keyhash.Hash) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.revoked
}

func (l *leases) put(h keyhash.Hash, c *catalog.Container, asked time.Time, gen uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if gen != l.revoked {
		return
	}
	if l.held == nil || len(l.held) >= maxLeases {
		l.held = make(map[keyhash.Hash]lease) // cheaper than keeping an order
	}
	l.held[h] = lease{c, asked.Add(leaseTime)}
}

func (l *leases) drop(h keyhash.Hash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.revoked++
	delete(l.held, h)
}
