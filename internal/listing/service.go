package listing

import (
	"context"

	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
)

// Service is one device's registers of one kind, and the rows that hang from
// them: whether a row is taken depends on what the register of its listing's key
// says on this device. INVARIANT: every row stored was admitted by the register's
// state at a moment when it was being stored: registers and rows of a key never
// change at the same time.
type Service[V any] struct {
	cfg   ServiceConfig[V]
	gates gates[V]
}

// ServiceConfig says what a service is made of. All fields are needed.
type ServiceConfig[V any] struct {
	Acceptor *register.Acceptor // of the registers; nobody else may Write to it
	Store    *Store             // of the rows; nobody else may put into it

	// Decode returns what must be remembered of a register to admit rows.
	Decode func(register.State) (V, error)
	// Admit returns nil if rows of the listing are taken, or the error to answer.
	Admit func(V, *peer.Listing) error
}

// NewService returns a service.
func NewService[V any](cfg ServiceConfig[V]) *Service[V] { return &Service[V]{cfg: cfg} }

// Learn returns the newest timestamp that the device has seen for a key.
func (s *Service[V]) Learn(_ context.Context, key keyhash.Hash) (register.Known, error) {
	return s.cfg.Acceptor.Learn(key)
}

// Read returns the device's state of a key.
func (s *Service[V]) Read(_ context.Context, key keyhash.Hash, data bool) (register.State, error) {
	return s.cfg.Acceptor.Read(key, data)
}

// ReadLocked calls fn with the device's state of a key, before any write may
// change it.
func (s *Service[V]) ReadLocked(ctx context.Context, key keyhash.Hash, fn func(register.State) error) error {
	return s.cfg.Acceptor.ReadLocked(ctx, key, fn)
}

// Write asks the device to accept a record (rule 1). It waits for rows that are
// being stored; when it has returned, rows are judged by what the register then
// says.
func (s *Service[V]) Write(ctx context.Context, key keyhash.Hash, r *register.Record) (register.Answer, error) {
	if err := s.gates.close(ctx, key); err != nil {
		return register.Answer{}, errs.Wrap("listing.Write", errs.Canceled, err)
	}
	defer s.gates.open(key)
	return s.cfg.Acceptor.Write(ctx, key, r)
}

// Prepare asks for a promise (rule 2). It leaves the record as it is, and so the
// rows alone.
func (s *Service[V]) Prepare(ctx context.Context, key keyhash.Hash, ballot, sweep timestamp.T) (register.Answer, error) {
	return s.cfg.Acceptor.Prepare(ctx, key, ballot, sweep)
}

// Settle passes on that records were chosen.
func (s *Service[V]) Settle(done []register.Settled) { s.cfg.Acceptor.Settle(done) }

// PutRows stores rows if the register admits them; see [Store.Put].
func (s *Service[V]) PutRows(ctx context.Context, l *peer.Listing, rows []catalog.Row) error {
	value, known, err := s.gates.share(ctx, l.Key)
	if err != nil {
		return errs.Wrap("listing.PutRows", errs.Canceled, err)
	}
	if !known {
		if value, err = s.load(l.Key); err != nil {
			s.gates.unshare(l.Key)
			return err
		}
		s.gates.learn(l.Key, value)
	}
	if err := s.cfg.Admit(value, l); err != nil {
		s.gates.unshare(l.Key)
		return err
	}
	return s.cfg.Store.PutWith(ctx, l, rows, func() { s.gates.unshare(l.Key) })
}

func (s *Service[V]) load(key keyhash.Hash) (v V, err error) {
	state, err := s.cfg.Acceptor.Read(key, false)
	if err != nil {
		return v, err
	}
	return s.cfg.Decode(state)
}

// ListRows returns a page of current names. It does not ask the register: a
// listing of what is being deleted must show whether it is empty.
func (s *Service[V]) ListRows(ctx context.Context, q *peer.RowQuery) (*peer.RowPage, error) {
	return s.cfg.Store.List(ctx, q)
}

// GetRows returns what is known of each name, tombstones included.
func (s *Service[V]) GetRows(ctx context.Context, l *peer.Listing, names []string) ([]peer.RowState, error) {
	return s.cfg.Store.Get(ctx, l, names)
}

// ListingStats returns a listing's totals.
func (s *Service[V]) ListingStats(_ context.Context, l *peer.Listing) (peer.ListingStats, error) {
	return s.cfg.Store.Stats(l)
}

// DropIncarnation removes all rows of an incarnation if dead still answers true
// for the register's state while no row is on its way. It reports whether it did.
func (s *Service[V]) DropIncarnation(ctx context.Context, key keyhash.Hash, inc catalog.Incarnation, dead func(register.State) (bool, error)) (bool, error) {
	if err := s.gates.close(ctx, key); err != nil {
		return false, errs.Wrap("listing.DropIncarnation", errs.Canceled, err)
	}
	defer s.gates.open(key)
	state, err := s.cfg.Acceptor.Read(key, false)
	if err != nil {
		return false, err
	}
	if ok, err := dead(state); !ok {
		return false, err
	}
	// Not the caller's context: the gate stays closed until the outcome is known.
	if err := s.cfg.Store.DropIncarnation(context.WithoutCancel(ctx), key, inc); err != nil {
		return false, err
	}
	return true, nil
}
