package register

import (
	"context"
	"sync"

	"ringfort/internal/keyhash"
)

// keyLocks is a mutex per key that is held, and nothing per key that is not.
// A key stays locked while its batch is being synced, so locks of different keys
// must not share a mutex.
type keyLocks struct {
	shards [64]struct {
		mu   sync.Mutex // guards held; never held while waiting
		held map[keyhash.Hash]*keyLock
		free []*keyLock // bounded by the number of keys once locked at a time
	}
}

type keyLock struct {
	taken chan struct{} // full while the key is locked
	users int           // holders and waiters, guarded by the shard's mu
}

// lock locks a key, or fails because ctx has ended.
func (k *keyLocks) lock(ctx context.Context, key keyhash.Hash) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l := k.acquire(key)
	select {
	case l.taken <- struct{}{}:
		return func() { <-l.taken; k.release(key, l) }, nil
	case <-ctx.Done():
		k.release(key, l)
		return nil, ctx.Err()
	}
}

// tryLock locks the key if nobody has it.
func (k *keyLocks) tryLock(key keyhash.Hash) (unlock func(), ok bool) {
	l := k.acquire(key)
	select {
	case l.taken <- struct{}{}:
		return func() { <-l.taken; k.release(key, l) }, true
	default:
		k.release(key, l)
		return nil, false
	}
}

func (k *keyLocks) acquire(key keyhash.Hash) *keyLock {
	s := &k.shards[key[15]%64]
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.held[key]; l != nil {
		l.users++
		return l
	}
	if s.held == nil {
		s.held = make(map[keyhash.Hash]*keyLock)
	}
	var l *keyLock
	if n := len(s.free); n > 0 {
		l, s.free = s.free[n-1], s.free[:n-1]
	} else {
		l = &keyLock{taken: make(chan struct{}, 1)}
	}
	l.users = 1
	s.held[key] = l
	return l
}

func (k *keyLocks) release(key keyhash.Hash, l *keyLock) {
	s := &k.shards[key[15]%64]
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(s.held, key)
		s.free = append(s.free, l) // nobody has it, and nobody waits for it
	}
}
