package listing

import (
	"context"
	"slices"
	"sync"
)

// nameLocks is a mutex per name that is being written, and nothing per name that
// is not. A name stays locked while its batch is being synced, so different names
// must not share a mutex for longer than a look into a map. Names are told apart
// by a 64-bit hash: two names with one hash wait for each other, no more.
type nameLocks struct {
	shards [64]nameShard
}

type nameShard struct {
	mu   sync.Mutex // guards the rest; never held while waiting
	held map[uint64]*nameLock
	free []*nameLock // at most maxFreeLocks
}

const maxFreeLocks = 64

// nameLock is a mutex that can be given up waiting for.
type nameLock struct {
	token chan struct{} // of capacity 1: holds a token while locked
	users int           // holders and waiters, guarded by the shard's mu
}

func (n *nameLocks) shard(h uint64) *nameShard { return &n.shards[h%uint64(len(n.shards))] }

// lock locks all names given by their hashes, which it sorts, or none: it answers
// the context's error if that ends first. Names are locked in the order of their
// hashes, so that two callers cannot wait for each other.
func (n *nameLocks) lock(ctx context.Context, hashes *[]uint64) error {
	if len(*hashes) > 1 {
		slices.Sort(*hashes)
		*hashes = slices.Compact(*hashes)
	}
	for i, h := range *hashes {
		if err := n.lockOne(ctx, h); err != nil {
			n.unlock((*hashes)[:i])
			return err
		}
	}
	return nil
}

func (n *nameLocks) lockOne(ctx context.Context, h uint64) error {
	l := n.shard(h).acquire(h)
	select {
	case l.token <- struct{}{}:
		return nil
	default:
	}
	select {
	case l.token <- struct{}{}:
		return nil
	case <-ctx.Done():
		n.shard(h).release(h)
		return ctx.Err()
	}
}

// unlock unlocks names that lock has locked.
func (n *nameLocks) unlock(hashes []uint64) {
	for _, h := range hashes {
		s := n.shard(h)
		s.mu.Lock()
		<-s.held[h].token // never waits: the caller's token is in it
		s.releaseLocked(h)
		s.mu.Unlock()
	}
}

func (s *nameShard) acquire(h uint64) *nameLock {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.held[h]; l != nil {
		l.users++
		return l
	}
	if s.held == nil {
		s.held = make(map[uint64]*nameLock)
	}
	var l *nameLock
	if last := len(s.free) - 1; last >= 0 {
		l, s.free = s.free[last], s.free[:last]
	} else {
		l = &nameLock{token: make(chan struct{}, 1)}
	}
	l.users = 1
	s.held[h] = l
	return l
}

func (s *nameShard) release(h uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.releaseLocked(h)
}

func (s *nameShard) releaseLocked(h uint64) {
	l := s.held[h]
	if l.users--; l.users > 0 {
		return
	}
	delete(s.held, h)
	if len(s.free) < maxFreeLocks {
		s.free = append(s.free, l)
	}
}
