package listing

import (
	"ringfort/internal/keyhash"
	"ringfort/internal/register"
)

// Notes calls fn with the notes of registers that are older than before (µs), from
// the key after start, until fn answers false.
func (s *Service[V]) Notes(start keyhash.Hash, before int64, fn func(keyhash.Hash, register.Note) bool) error {
	return s.cfg.Acceptor.Notes(start, before, fn)
}
