package listing

import "sync"

// spotless remembers which tables have no tombstone, so that a new name there
// costs one lookup and not two. Most tables of a store that keeps backups are so.
//
// A name's tombstone matters to one who holds the name's lock only. The writer of
// a tombstone calls stain while it holds that lock, after the tombstone is in the
// index: whoever gets the lock next sees the stain.
type spotless struct {
	mu     sync.Mutex
	clean  map[string]bool // by the table's key; false: it has, or had, tombstones
	stains uint64          // how often stain was called
}

// maxSpotless bounds the tables that are remembered. Then all are forgotten:
// asking again costs a lookup a table.
const maxSpotless = 4096

// look reports whether the table has no tombstone, and if it does not know, a
// number for learn.
func (s *spotless) look(table []byte) (clean, known bool, stains uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clean, known = s.clean[string(table)]
	return clean, known, s.stains
}

// learn takes in whether the table had no tombstone at some time after look
// answered stains, unless some table got one since.
func (s *spotless) learn(table []byte, clean bool, stains uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stains != stains {
		return
	}
	if s.clean == nil || len(s.clean) >= maxSpotless {
		s.clean = map[string]bool{}
	}
	s.clean[string(table)] = clean
}

// stain notes that the table has got a tombstone.
func (s *spotless) stain(table []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stains++
	if s.clean[string(table)] {
		s.clean[string(table)] = false
	}
}

// mayHaveTombstones is false only if the table certainly has none.
func (s *Store) mayHaveTombstones(table []byte) (bool, error) {
	clean, known, stains := s.spotless.look(table)
	if known {
		return !clean, nil
	}
	c, err := s.countersOf(table)
	if err != nil {
		return true, err
	}
	s.spotless.learn(table, c.tombstones == 0, stains)
	return c.tombstones != 0, nil
}
