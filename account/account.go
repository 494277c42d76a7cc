// Package account is the account service of one device: the registers of
// accounts and of the cluster-wide bucket directory, and the rows of an account's
// containers.
//
// It is not for quorums nor for the meaning of an account's metadata (the
// gateway's), nor for how rows are kept (package listing, which it shares with
// package container).
//
// Read first: [Server]; listing.Service, of which it is made.
//
// A row is taken unless the account's register on this device says that the
// account is being reaped: then the answer is errs.Gone. An account without a
// register is taken for one that was not written yet: accounts come into being
// with their first container, and their totals follow lazily.
//
// All calls are safe for concurrent use, and what is answered is on stable
// storage, but for what Settle passes on.
package account

import (
	"context"
	"time"

	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/listing"
	"ringfort/internal/peer"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
	"ringfort/internal/volume"
)

// The key spaces. The numbers are on disk; 32 to 47 are the service's.
const (
	spaceStates     volume.SpaceID = 32
	spaceNotes      volume.SpaceID = 33
	spaceRows       volume.SpaceID = 34
	spaceTombstones volume.SpaceID = 36
	spaceCounters   volume.SpaceID = 37
)

// Spaces returns the key spaces that a volume needs for a Server. Registers never
// leave the log; rows may, since other devices have them too.
func Spaces() []volume.Space {
	return []volume.Space{
		{ID: spaceStates, Name: "account registers", Kept: true},
		{ID: spaceNotes, Name: "account register notes", Kept: true},
		{ID: spaceRows, Name: "account rows"},
		{ID: spaceTombstones, Name: "account row tombstones"},
		{ID: spaceCounters, Name: "account row counters"},
	}
}

// Config says what a server works with.
type Config struct {
	Volume *volume.Volume // opened with Spaces among its spaces
	// Now is the device's clock; nil: time.Now.
	Now func() time.Time
}

// Server is the account service of one device.
type Server struct {
	service *listing.Service[bool] // what is remembered: the account is being reaped
}

// New returns a server over the volume.
func New(cfg Config) (*Server, error) {
	if cfg.Volume == nil {
		return nil, errs.New("account.New", errs.Invalid, "a volume is needed")
	}
	return &Server{listing.NewService(listing.ServiceConfig[bool]{
		Acceptor: register.NewAcceptor(register.AcceptorConfig{
			Volume: cfg.Volume, States: spaceStates, Notes: spaceNotes, Now: cfg.Now,
		}),
		Store: listing.NewStore(cfg.Volume, listing.Spaces{
			Current: spaceRows, Tombstones: spaceTombstones, Counters: spaceCounters,
		}),
		Decode: decodeGone,
		Admit:  admit,
	})}, nil
}

func decodeGone(st register.State) (bool, error) {
	if st.Record == nil || st.Record.Tombstone {
		return false, nil
	}
	a, err := catalog.DecodeAccount(st.Record.Value)
	if err != nil {
		return false, err
	}
	return a.Deleted, nil
}

func admit(gone bool, l *peer.Listing) error {
	const op = "account.PutRows"
	switch {
	case !l.Incarnation.IsZero() || l.Table != catalog.Containers:
		return errs.New(op, errs.Invalid, "not an account's listing")
	case gone:
		return errs.New(op, errs.Gone, "the account is being deleted")
	}
	return nil
}

// Learn returns the newest timestamp that the device has seen for a key.
func (s *Server) Learn(ctx context.Context, key keyhash.Hash) (register.Known, error) {
	return s.service.Learn(ctx, key)
}

// Read returns the device's state of a key.
func (s *Server) Read(ctx context.Context, key keyhash.Hash, data bool) (register.State, error) {
	return s.service.Read(ctx, key, data)
}

// Write asks the device to accept a record (rule 1).
func (s *Server) Write(ctx context.Context, key keyhash.Hash, r *register.Record) (register.Answer, error) {
	return s.service.Write(ctx, key, r)
}

// Prepare asks for a promise (rule 2).
func (s *Server) Prepare(ctx context.Context, key keyhash.Hash, ballot, sweep timestamp.T) (register.Answer, error) {
	return s.service.Prepare(ctx, key, ballot, sweep)
}

// Settle passes on that records were chosen.
func (s *Server) Settle(done []register.Settled) { s.service.Settle(done) }

// PutRows stores rows, each if it is newer than what is held.
func (s *Server) PutRows(ctx context.Context, l *peer.Listing, rows []catalog.Row) error {
	return s.service.PutRows(ctx, l, rows)
}

// ListRows returns a page of current names.
func (s *Server) ListRows(ctx context.Context, q *peer.RowQuery) (*peer.RowPage, error) {
	return s.service.ListRows(ctx, q)
}

// GetRows returns what is known of each name, tombstones included.
func (s *Server) GetRows(ctx context.Context, l *peer.Listing, names []string) ([]peer.RowState, error) {
	return s.service.GetRows(ctx, l, names)
}

// ListingStats returns a listing's totals.
func (s *Server) ListingStats(ctx context.Context, l *peer.Listing) (peer.ListingStats, error) {
	return s.service.ListingStats(ctx, l)
}
