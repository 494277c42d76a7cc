package listing

import (
	"ringfort/internal/catalog"
	"ringfort/internal/keyhash"
	"ringfort/internal/register"
)

// Notes calls fn with the notes of registers that are older than before (µs), from
// the key after start, until fn answers false.
func (s *Service[V]) Notes(start keyhash.Hash, before int64, fn func(keyhash.Hash, register.Note) bool) error {
	return s.cfg.Acceptor.Notes(start, before, fn)
}

// TableRows returns how many live rows the device has in one table of all
// listings together. Its cost is that of the listings, not of their rows.
func (s *Store) TableRows(t catalog.Table) (n int64, err error) {
	it, err := s.v.NewIter(s.spaces.Counters, nil, nil)
	if err != nil {
		return 0, err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		l, err := splitTableKey(it.Key())
		if err != nil {
			return n, err
		}
		if c := it.Counters(); l.Table == t && len(c) > 0 {
			n += c[0]
		}
	}
	return n, it.Err()
}
