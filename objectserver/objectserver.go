// Package objectserver keeps objects on one device: the registers of object keys
// and the small bytes that ride in them, packed fragments, fragments in files,
// and what is to be cleared away.
//
// Read [Server] first. It knows nothing of rings, quorums or protocols: it keeps
// the rules of one device (package register), stores fragments where their length
// says (the volume's bulk log up to Config.PackMax, package fragfile above), and
// deletes what its caller has found out to be dead.
//
// # What deletes a fragment
//
//   - DropBlobs and DropGroup, from a writer that failed or a sweeper that has
//     closed the door with a promise.
//   - A record that replaced one which was known chosen, once it is known chosen
//     itself: the replaced group waits in the garbage queue for Config.Grace, so
//     that whoever is reading it can end, and is then deleted.
//   - A group that was replaced without being known chosen becomes a suspect: a
//     sweeper has to ask the key's other devices first (Suspects).
//   - A file without an index entry, left by a crash between the two, is deleted
//     by Reconcile.
//
// # Crash and concurrency
//
// What a call acknowledged is on stable storage. A fragment in a file is synced
// before its index entry is written, so an entry never names a file that is not
// there; a file without an entry is found by Reconcile. All methods are safe for
// concurrent use.
package objectserver

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"ringfort/internal/erasure"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
	"ringfort/internal/vfs"
	"ringfort/internal/volume"
	"ringfort/objectserver/fragfile"
)

// The key spaces of the object service in a device's volume. The numbers are on disk;
// 1 to 15 are the service's.
const (
	spaceStates    volume.SpaceID = 1 // key hash -> register.State, small bytes as tail
	spaceNotes     volume.SpaceID = 2 // key hash -> register.Note; Kept: see register.AcceptorConfig
	spaceFragments volume.SpaceID = 3 // owner, blob id, index -> where
	spaceGarbage   volume.SpaceID = 4 // due µs, owner, group -> nothing
	spaceSuspects  volume.SpaceID = 5 // owner, group -> since µs
)

// Spaces lists the key spaces that the volume has to be opened with.
func Spaces() []volume.Space {
	return []volume.Space{
		{ID: spaceStates, Name: "object states", Kept: true},
		{ID: spaceNotes, Name: "object notes", Kept: true},
		{ID: spaceFragments, Name: "fragments", Kept: true},
		{ID: spaceGarbage, Name: "garbage"},
		{ID: spaceSuspects, Name: "suspects"},
	}
}

// Config says what a server works on.
type Config struct {
	Volume *volume.Volume
	FS     vfs.FS
	Dir    string // of the fragment files

	// PackMax is the length in bytes up to which a fragment lies in the volume's
	// bulk log. Default 1 MiB: more means more bytes to compact, less means more
	// files.
	PackMax int64
	// Grace is how long the bytes of a replaced object are kept for those who
	// are reading them. Default 5 minutes.
	Grace time.Duration
	// Buffers lends the memory in which packed fragments are gathered; the
	// devices of a node share it. Default: a pool of 16 MiB.
	Buffers *erasure.Pool
	// PackMemory bounds, in bytes, the memory of packed fragments that Buffers has
	// no room for. Beyond it a write answers Busy at once; it does not wait, because
	// two uploads could wait for each other on two devices. Default 128 MiB, what
	// the fragment files' writers may take as well.
	PackMemory int64
	// Fragfile tunes the fragment files.
	Fragfile fragfile.Config
	Log      *slog.Logger
	// Now is the device's clock; nil: time.Now.
	Now func() time.Time
}

// Server is the object service of one device.
type Server struct {
	cfg   Config
	vol   *volume.Volume
	files *fragfile.Store
	// packed is how many of PackMemory's bytes are in use.
	packed atomic.Int64
	*register.Acceptor

	strayMu sync.Mutex // guards strays, and one Reconcile at a time
	// strays are files that had no index entry when Reconcile looked, and since when.
	strays map[fragfile.Name]time.Time
}

// Open opens the service on an open volume.
func Open(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.PackMax == 0 {
		cfg.PackMax = 1 << 20
	}
	if cfg.Grace == 0 {
		cfg.Grace = 5 * time.Minute
	}
	if cfg.Buffers == nil {
		cfg.Buffers = erasure.NewPool(16 << 20)
	}
	if cfg.PackMemory == 0 {
		cfg.PackMemory = 128 << 20
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Fragfile == (fragfile.Config{}) {
		cfg.Fragfile = fragfile.Default()
	}
	files, err := fragfile.Open(ctx, cfg.FS, cfg.Dir, cfg.Fragfile)
	if err != nil {
		return nil, errs.Wrap("objectserver.Open", errs.Other, err)
	}
	s := &Server{cfg: cfg, vol: cfg.Volume, files: files}
	s.Acceptor = register.NewAcceptor(register.AcceptorConfig{
		Volume: cfg.Volume, States: spaceStates, Notes: spaceNotes, OnSettle: s.onSettle, Now: cfg.Now,
	})
	return s, nil
}

// onSettle gives up what a note lists, in the batch that removes the note.
func (s *Server) onSettle(b *volume.Batch, key keyhash.Hash, n *register.Note) {
	due := s.cfg.Now().Add(s.cfg.Grace).UnixMicro()
	for _, g := range n.Drops {
		b.Put(spaceGarbage, garbageKey(due, key, g), nil, nil, volume.Ref{})
	}
	for _, g := range n.Suspects {
		b.Put(spaceSuspects, groupKey(key, g), binary.BigEndian.AppendUint64(nil, uint64(s.cfg.Now().UnixMicro())), nil, volume.Ref{})
	}
}

// groupKey is owner (16 bytes) and group (24): the key of a suspect, whose value is
// the time in µs (8 bytes, big-endian) since which it is one, and the beginning of
// the keys of a group's fragments.
func groupKey(owner keyhash.Hash, group timestamp.T) []byte {
	return group.AppendTo(append(make([]byte, 0, 40), owner[:]...))
}

// garbageKey is the time in µs (8 bytes, big-endian) from which on the group may go,
// and its groupKey, so that what is due comes first. It has no value.
func garbageKey(due int64, owner keyhash.Hash, group timestamp.T) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 48), uint64(due))
	return group.AppendTo(append(b, owner[:]...))
}

// Group is a set of blobs of one key.
type Group struct {
	Owner keyhash.Hash
	Group timestamp.T
}

// parseGroup reads a groupKey.
func parseGroup(b []byte) (g Group, ok bool) {
	if len(b) != len(g.Owner)+timestamp.Size {
		return g, false
	}
	copy(g.Owner[:], b)
	g.Group, ok = timestamp.Decode(b[len(g.Owner):])
	return g, ok
}

// parseGarbage reads a garbageKey, without the time.
func parseGarbage(b []byte) (g Group, ok bool) {
	if len(b) < 8 {
		return g, false
	}
	return parseGroup(b[8:])
}

// Clear deletes the garbage that is due, up to limit groups, and returns how many
// it deleted.
func (s *Server) Clear(ctx context.Context, limit int) (int, error) {
	now := binary.BigEndian.AppendUint64(nil, uint64(s.cfg.Now().UnixMicro()))
	it, err := s.vol.NewIter(spaceGarbage, nil, now)
	if err != nil {
		return 0, err
	}
	var due []Group
	var keys [][]byte
	for ok := it.First(); ok && len(due) < limit; ok = it.Next() {
		g, valid := parseGarbage(it.Key())
		if !valid {
			return 0, errors.Join(it.Close(), errs.New("objectserver.Clear", errs.Corrupt, "garbage key %x", it.Key()))
		}
		due = append(due, g)
		keys = append(keys, append([]byte{}, it.Key()...))
	}
	if err := errors.Join(it.Err(), it.Close()); err != nil {
		return 0, err
	}
	n := 0
	var failed error
	for i, g := range due {
		if err := s.DropGroup(ctx, g.Owner, g.Group); err != nil {
			failed = err // the others go on; this one is tried again
			if ctx.Err() != nil {
				break
			}
			continue
		}
		b := s.vol.NewBatch(volume.Meta)
		b.Delete(spaceGarbage, keys[i], volume.Ref{})
		s.vol.CommitLazy(b)
		n++
	}
	return n, failed
}

// Suspects calls fn with the groups that may be dead, until fn answers false.
func (s *Server) Suspects(fn func(Group) bool) error {
	it, err := s.vol.NewIter(spaceSuspects, nil, nil)
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		g, valid := parseGroup(it.Key())
		if !valid {
			return errs.New("objectserver.Suspects", errs.Corrupt, "key %x of a suspect", it.Key())
		}
		if !fn(g) {
			return nil
		}
	}
	return it.Err()
}

// Acquit removes a group from the suspects.
func (s *Server) Acquit(g Group) {
	b := s.vol.NewBatch(volume.Meta)
	b.Delete(spaceSuspects, groupKey(g.Owner, g.Group), volume.Ref{})
	s.vol.CommitLazy(b)
}
