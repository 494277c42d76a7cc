package container

import (
	"ringfort/internal/catalog"
	"ringfort/internal/keyhash"
	"ringfort/internal/register"
)

// Notes calls fn with the notes of registers that are older than before (µs), from
// the key after start, until fn answers false.
func (s *Server) Notes(start keyhash.Hash, before int64, fn func(keyhash.Hash, register.Note) bool) error {
	return s.service.Notes(start, before, fn)
}

// Uploads returns how many rows of unfinished multipart uploads the device has.
func (s *Server) Uploads() (int64, error) { return s.store.TableRows(catalog.Uploads) }
