package register

import (
	"sync"

	"ringfort/internal/keyhash"
)

// absentKeys remembers keys that were just found not to be there. A write of a new
// object asks each device twice, to learn what it has and to replace it, and to
// find nothing is what costs an index most.
//
// INVARIANT: a key in the set has no entry. Whoever looks a key up takes the
// generation first and notes what it found under it; whoever commits a key bumps
// the generation after the entry can be seen and before the key is unlocked. So a
// lookup from before the commit is not noted after it.
type absentKeys struct {
	shards [16]absentShard
}

type absentShard struct {
	mu         sync.Mutex // guards the rest
	generation uint64
	keys       map[keyhash.Hash]struct{}
}

// maxAbsent bounds a shard: 16 of it take some 200 KiB.
const maxAbsent = 512

func (a *absentKeys) shard(key keyhash.Hash) *absentShard { return &a.shards[key[14]%16] }

// look reports whether the key is known to be absent, and the generation to note
// it under if it is not.
func (a *absentKeys) look(key keyhash.Hash) (known bool, generation uint64) {
	s := a.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known = s.keys[key]
	return known, s.generation
}

// note remembers that a lookup which began under a generation found nothing.
func (a *absentKeys) note(key keyhash.Hash, generation uint64) {
	s := a.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.generation != generation {
		return
	}
	if s.keys == nil {
		s.keys = make(map[keyhash.Hash]struct{}, maxAbsent)
	}
	if len(s.keys) >= maxAbsent {
		clear(s.keys) // cheaper than keeping an order
	}
	s.keys[key] = struct{}{}
}

// forget is called when a key has been committed.
func (a *absentKeys) forget(key keyhash.Hash) {
	s := a.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	delete(s.keys, key)
}
