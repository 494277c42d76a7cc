package listing

import (
	"context"
	"sync"

	"ringfort/internal/keyhash"
)

// gates is, for each container or account, a lock that writers of rows share and
// a writer of its register has alone, and with it what the register said, so that
// storing a row need not read it. While a register changes no row is on its way;
// once the change is answered, every row taken before is on stable storage and
// every later one is judged by the new state.
//
// V is what is remembered of a register.
type gates[V any] struct {
	shards [16]gateShard[V]
}

type gateShard[V any] struct {
	mu sync.Mutex // guards the map and all of its gates; never held while waiting
	m  map[keyhash.Hash]*gate[V]
}

// maxIdleGates is how many registers a shard remembers that nobody is using:
// 16 shards of it cost some 2 MiB.
const maxIdleGates = 512

// gate is one register's. INVARIANT: a gate that is held or waited for is in its
// shard's map.
type gate[V any] struct {
	readers int
	writer  bool
	writers int           // waiting; new readers let them go first
	waiters int           // of both kinds
	changed chan struct{} // closed when a waiter should look again; nil: nobody waits

	known bool // value is the register's; only a writer makes it false
	value V
}

func (g *gates[V]) shard(key keyhash.Hash) *gateShard[V] {
	return &g.shards[int(key[15])%len(g.shards)]
}

// share waits until nobody changes the register. The caller must call unshare.
func (g *gates[V]) share(ctx context.Context, key keyhash.Hash) (value V, known bool, err error) {
	s := g.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.get(key)
	for t.writer || t.writers > 0 {
		if err := s.wait(ctx, t); err != nil {
			return value, false, err
		}
	}
	t.readers++
	return t.value, t.known, nil
}

// learn remembers what the register says. The caller shares the gate, so it still
// says so.
func (g *gates[V]) learn(key keyhash.Hash, value V) {
	s := g.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.m[key]
	t.value, t.known = value, true
}

// unshare ends share.
func (g *gates[V]) unshare(key keyhash.Hash) {
	s := g.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.m[key]
	t.readers--
	t.wake()
}

// close waits until the caller has the register for itself, and forgets what it
// said. The caller must call open.
func (g *gates[V]) close(ctx context.Context, key keyhash.Hash) error {
	s := g.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.get(key)
	t.writers++
	defer func() {
		t.writers--
		t.wake() // if given up: readers may have waited for us alone
	}()
	for t.writer || t.readers > 0 {
		if err := s.wait(ctx, t); err != nil {
			return err
		}
	}
	t.writer = true
	t.known = false
	return nil
}

// open ends close.
func (g *gates[V]) open(key keyhash.Hash) {
	s := g.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.m[key]
	t.writer = false
	t.wake()
}

// get returns the key's gate. With mu held, as all below.
func (s *gateShard[V]) get(key keyhash.Hash) *gate[V] {
	if t := s.m[key]; t != nil {
		return t
	}
	if s.m == nil {
		s.m = make(map[keyhash.Hash]*gate[V])
	}
	if len(s.m) >= maxIdleGates {
		s.evict()
	}
	t := new(gate[V])
	s.m[key] = t
	return t
}

// evict forgets a part of the idle gates, whichever the map yields first.
func (s *gateShard[V]) evict() {
	n := 0
	for key, t := range s.m {
		if !t.writer && t.readers == 0 && t.waiters == 0 {
			delete(s.m, key)
			n++
		}
		if n >= maxIdleGates/8 {
			return
		}
	}
}

func (s *gateShard[V]) wait(ctx context.Context, t *gate[V]) error {
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	changed := t.changed
	t.waiters++
	s.mu.Unlock()
	var err error
	select {
	case <-changed:
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.mu.Lock()
	t.waiters--
	return err
}

func (t *gate[V]) wake() {
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}
