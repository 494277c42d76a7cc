package container

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

// The key spaces. The numbers are on disk; 16 to 31 are the service's.
const (
	spaceStates     volume.SpaceID = 16
	spaceNotes      volume.SpaceID = 17
	spaceRows       volume.SpaceID = 18
	spaceVersions   volume.SpaceID = 19
	spaceTombstones volume.SpaceID = 20
	spaceCounters   volume.SpaceID = 21
)

// Spaces returns the key spaces that a volume needs for a Server. Registers never
// leave the log; rows may, since records and other devices have them too.
func Spaces() []volume.Space {
	return []volume.Space{
		{ID: spaceStates, Name: "container registers", Kept: true},
		{ID: spaceNotes, Name: "container register notes", Kept: true},
		{ID: spaceRows, Name: "container rows"},
		{ID: spaceVersions, Name: "container version rows"},
		{ID: spaceTombstones, Name: "container row tombstones"},
		{ID: spaceCounters, Name: "container row counters"},
	}
}

// Config says what a server works with.
type Config struct {
	Volume *volume.Volume // opened with Spaces among its spaces
	// Now is the device's clock; nil: time.Now. Leases need it to be monotonic.
	Now func() time.Time
	// OnReap is told of each incarnation that Run has removed, or failed to. It
	// must not block. Nil: nobody is told.
	OnReap func(ReapEvent)
	// ReapSuspectsEvery is how soon Run looks at containers that have changed, and
	// ReapAllEvery how often at all. Lower: rows of deleted containers take up room
	// for less time, for a look at every container's register. Defaults 30 s, 1 h.
	ReapSuspectsEvery time.Duration
	ReapAllEvery      time.Duration
}

// Server is the container service of one device.
type Server struct {
	cfg      Config
	service  *listing.Service[status]
	store    *listing.Store
	leases   leases
	suspects suspects
}

// New returns a server over the volume. Its reaper works while Run is called.
func New(cfg Config) (*Server, error) {
	if cfg.Volume == nil || cfg.ReapSuspectsEvery < 0 || cfg.ReapAllEvery < 0 {
		return nil, errs.New("container.New", errs.Invalid, "a volume is needed, and no negative times")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.ReapSuspectsEvery == 0 {
		cfg.ReapSuspectsEvery = 30 * time.Second
	}
	if cfg.ReapAllEvery == 0 {
		cfg.ReapAllEvery = time.Hour
	}
	store := listing.NewStore(cfg.Volume, listing.Spaces{
		Current: spaceRows, Versions: spaceVersions, Tombstones: spaceTombstones, Counters: spaceCounters,
	})
	s := &Server{cfg: cfg, store: store}
	s.service = listing.NewService(listing.ServiceConfig[status]{
		Acceptor: register.NewAcceptor(register.AcceptorConfig{
			Volume: cfg.Volume, States: spaceStates, Notes: spaceNotes, Now: cfg.Now,
		}),
		Store:  store,
		Decode: decodeStatus,
		Admit:  admit,
	})
	s.leases.init(cfg.Now)
	return s, nil
}

// status is what decides whether rows are taken.
type status struct {
	known       bool // the device has a record
	live        bool
	incarnation catalog.Incarnation
	rangeEpoch  uint64
}

func decodeStatus(st register.State) (status, error) {
	switch {
	case st.Record == nil:
		return status{}, nil
	case st.Record.Tombstone:
		return status{known: true}, nil
	}
	c, err := catalog.DecodeContainer(st.Record.Value)
	if err != nil {
		return status{}, err
	}
	return status{
		known: true, live: c.State == catalog.Live,
		incarnation: c.Incarnation, rangeEpoch: c.RangeEpoch,
	}, nil
}

// admit is the package comment's "which rows are taken".
func admit(s status, l *peer.Listing) error {
	const op = "container.PutRows"
	switch {
	case l.Incarnation.IsZero() || l.Table == catalog.Containers:
		return errs.New(op, errs.Invalid, "not a container's listing")
	case !s.known:
		return errs.New(op, errs.Unavailable, "no record of the container on this device")
	case !s.live || s.incarnation != l.Incarnation:
		return errs.New(op, errs.NoBucket, "incarnation %v is not live on this device", l.Incarnation)
	case l.RangeEpoch < s.rangeEpoch:
		return errs.New(op, errs.Moved, "the listing's split is at %d", s.rangeEpoch)
	case l.RangeEpoch > s.rangeEpoch:
		return errs.New(op, errs.Unavailable, "the listing's split is at %d on this device", s.rangeEpoch)
	}
	return nil
}

// Learn returns the newest timestamp that the device has seen for a container.
func (s *Server) Learn(ctx context.Context, key keyhash.Hash) (register.Known, error) {
	return s.service.Learn(ctx, key)
}

// Read returns the device's state of a container's register.
func (s *Server) Read(ctx context.Context, key keyhash.Hash, data bool) (register.State, error) {
	return s.service.Read(ctx, key, data)
}

// ReadLeased is Read, and notes that the holder may act on the answer for
// LeaseTime. Only its id and address are looked at.
func (s *Server) ReadLeased(ctx context.Context, key keyhash.Hash, holder register.Lease) (register.State, error) {
	if holder.Holder == 0 || len(holder.Address) > maxAddressBytes {
		return register.State{}, errs.New("container.ReadLeased", errs.Invalid, "a lease for holder %d", holder.Holder)
	}
	var out register.State
	err := s.service.ReadLocked(ctx, key, func(st register.State) error {
		s.leases.note(key, holder)
		out = st
		return nil
	})
	return out, err
}

// Write asks the device to accept a record (rule 1). The answer of an accepted one
// lists the leases on the container that still run.
func (s *Server) Write(ctx context.Context, key keyhash.Hash, r *register.Record) (register.Answer, error) {
	a, err := s.service.Write(ctx, key, r)
	if err == nil && a.Accepted {
		// Every lease on an older state was noted before the record was accepted.
		// That leases on the new state may be listed too does no harm, and that a
		// repeated write lists them again is needed: the first answer may be lost.
		a.Leases = s.leases.of(key)
	}
	return a, err
}

// Prepare asks for a promise (rule 2).
func (s *Server) Prepare(ctx context.Context, key keyhash.Hash, ballot, sweep timestamp.T) (register.Answer, error) {
	return s.service.Prepare(ctx, key, ballot, sweep)
}

// Settle passes on that records were chosen.
func (s *Server) Settle(done []register.Settled) {
	s.service.Settle(done)
	for _, d := range done {
		s.suspects.add(d.Key)
	}
}

// PutRows stores rows, each if it is newer than what is held. The errors that
// refuse them are the package comment's.
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
