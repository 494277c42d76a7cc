package listing

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"

	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/timestamp"
	"ringfort/internal/volume"
)

// Spaces are the key spaces of a store. None of them is Kept: rows can be made
// again from records and from other devices.
type Spaces struct {
	Current    volume.SpaceID // live rows, but for the table of versions
	Versions   volume.SpaceID // live rows of the table of versions; 0: there is no such table
	Tombstones volume.SpaceID
	Counters   volume.SpaceID
}

// Store keeps the rows of any number of listings in a volume. It is safe for
// concurrent use. It has no goroutine but one that waits for batches whose
// callers have left, and ends with the volume's answers to them.
type Store struct {
	v       *volume.Volume
	spaces  Spaces
	locks   nameLocks
	scratch sync.Pool // of *putScratch
	late    lateBatches

	spotless spotless
}

// NewStore returns a store over the volume's spaces.
func NewStore(v *volume.Volume, s Spaces) *Store {
	return &Store{
		v: v, spaces: s,
		scratch: sync.Pool{New: func() any { return new(putScratch) }},
		late:    lateBatches{v: v, space: s.Tombstones},
	}
}

// space returns where the live rows of a table are.
func (s *Store) space(t catalog.Table) volume.SpaceID {
	if t == catalog.Versions {
		return s.spaces.Versions
	}
	return s.spaces.Current
}

// counters is a listing's vector of counters, and a change of it.
type counters struct{ rows, bytes, tombstones int64 }

// putScratch is what one Put works with, used again by later ones.
type putScratch struct {
	key     []byte // table's key, then a name
	values  []byte // stored forms; the batch may refer to them until it is committed
	pending []*catalog.Row
	hashes  []uint64

	tombstones bool // some of the rows are
}

func (p *putScratch) reset() {
	clear(p.pending) // let go of the caller's rows
	p.tombstones = false
	p.key, p.values, p.pending, p.hashes = p.key[:0], p.values[:0], p.pending[:0], p.hashes[:0]
	if cap(p.values) > 64<<10 || cap(p.pending) > 1024 {
		*p = putScratch{}
	}
}

// Put stores rows, each if it is newer than what is held of its name, all in one
// batch. It returns nil once each of them, or something newer, is on stable
// storage. Doing it again does nothing.
//
// When the context ends before that, Put answers errs.Canceled if nothing was and
// will be stored, and errs.OutcomeUnknown if the device is at it.
func (s *Store) Put(ctx context.Context, l *peer.Listing, rows []catalog.Row) error {
	return s.PutWith(ctx, l, rows, func() {})
}

// PutWith is Put, and calls done exactly once when it is known what has become of
// the rows: before it returns, or, if the context ended first, later.
func (s *Store) PutWith(ctx context.Context, l *peer.Listing, rows []catalog.Row, done func()) error {
	p := s.scratch.Get().(*putScratch)
	defer func() {
		p.reset()
		s.scratch.Put(p)
	}()
	if err := s.admit(l, rows, p); err != nil {
		done()
		return err
	}
	if err := s.locks.lock(ctx, &p.hashes); err != nil {
		done()
		return errs.Wrap("listing.Put", errs.Canceled, err)
	}
	b, err := s.fill(l, p)
	if err == nil && b != nil {
		err = s.v.Commit(ctx, b)
		if errs.Is(err, errs.OutcomeUnknown) {
			late := *p
			late.hashes = slices.Clone(p.hashes)
			late.key = slices.Clone(p.key[:tableKeyLen])
			s.late.add(func() { s.stained(&late); s.locks.unlock(late.hashes); done() })
			return err
		}
		s.stained(p)
	}
	s.locks.unlock(p.hashes)
	done()
	return err
}

// stained notes the tombstones that p has put. The names are still locked.
func (s *Store) stained(p *putScratch) {
	if p.tombstones {
		s.spotless.stain(p.key[:tableKeyLen])
	}
}

// admit checks the rows and notes in p the newest of each name, and their locks.
func (s *Store) admit(l *peer.Listing, rows []catalog.Row, p *putScratch) error {
	const op = "listing.Put"
	if err := s.checkListing(op, l); err != nil {
		return err
	}
	if len(rows) > MaxPutRows {
		return errs.New(op, errs.TooLarge, "%d rows at once", len(rows))
	}
	if s.late.full() {
		return errs.New(op, errs.Busy, "the device has not answered earlier writes")
	}
	total := 0
	for i := range rows {
		if err := checkRow(op, &rows[i]); err != nil {
			return err
		}
		total += len(rows[i].Name) + len(rows[i].Value)
		p.pending = append(p.pending, &rows[i])
	}
	if total > MaxPutBytes {
		return errs.New(op, errs.TooLarge, "rows of %d bytes at once", total)
	}
	if len(p.pending) > 1 {
		slices.SortFunc(p.pending, func(a, b *catalog.Row) int {
			if c := strings.Compare(a.Name, b.Name); c != 0 {
				return c
			}
			return b.Ballot.Compare(a.Ballot)
		})
		p.pending = slices.CompactFunc(p.pending, func(a, b *catalog.Row) bool { return a.Name == b.Name })
	}
	p.key = appendTableKey(p.key, l)
	for _, r := range p.pending {
		p.hashes = append(p.hashes, xxhash.Sum64(append(p.key, r.Name...)))
	}
	return nil
}

// fill makes the batch of what is new in p.pending, nil if nothing is. The names
// are locked.
func (s *Store) fill(l *peer.Listing, p *putScratch) (*volume.Batch, error) {
	var (
		b       *volume.Batch
		sum     counters
		deletes = true
	)
	for _, r := range p.pending {
		p.key = append(p.key[:tableKeyLen], r.Name...)
		h, err := s.load(l.Table, p.key)
		if err != nil {
			if b != nil {
				b.Discard()
			}
			return nil, err
		}
		if h.where != nowhere && !h.ballot.Less(r.Ballot) {
			continue
		}
		if b == nil {
			b = s.v.NewBatch(volume.Meta)
		}
		at := len(p.values)
		p.values = appendStored(p.values, r)
		s.replace(b, l.Table, p.key, &h, r.Deleted, p.values[at:len(p.values):len(p.values)])
		sum.move(&h, r)
		deletes = deletes && r.Deleted
		p.tombstones = p.tombstones || r.Deleted
	}
	if b == nil {
		return nil, nil
	}
	if sum != (counters{}) {
		b.Add(s.spaces.Counters, p.key[:tableKeyLen], sum.rows, sum.bytes, sum.tombstones)
	}
	if deletes {
		b.Urgent() // deleting is how a full disk becomes less full
	}
	return b, nil
}

// move counts the step from what is held to a newer row.
func (c *counters) move(h *held, r *catalog.Row) {
	switch h.where {
	case live:
		c.rows--
		c.bytes -= h.bytes
	case dead:
		c.tombstones--
	}
	if r.Deleted {
		c.tombstones++
	} else {
		c.rows++
		c.bytes += r.Bytes
	}
}

// place is where a name is kept.
type place byte

const (
	nowhere place = iota
	live          // among the rows
	dead          // among the tombstones
)

// held is what must be known of a name to replace it.
type held struct {
	where  place
	ballot timestamp.T
	bytes  int64
	val    volume.Value
}

// load looks a name up: a new one costs one miss, or two where there are
// tombstones, and a known one, by the package's invariant, one find and at most
// one miss. An absence is certain only if the name is locked.
func (s *Store) load(t catalog.Table, key []byte) (held, error) {
	h := held{where: live}
	val, err := s.v.Get(s.space(t), key)
	if errs.Is(err, errs.NotFound) {
		if may, err := s.mayHaveTombstones(key[:tableKeyLen]); err != nil || !may {
			return held{}, err
		}
		h.where = dead
		val, err = s.v.Get(s.spaces.Tombstones, key)
	}
	if errs.Is(err, errs.NotFound) {
		return held{}, nil
	}
	if err != nil {
		return h, err
	}
	row, err := decodeStored(val.Head)
	h.ballot, h.bytes, h.val = row.Ballot, row.Bytes, val
	return h, err
}

// replace puts a row or tombstone in the place of what is held.
func (s *Store) replace(b *volume.Batch, t catalog.Table, key []byte, h *held, deleted bool, value []byte) {
	to, from := s.space(t), s.spaces.Tombstones
	at, other := live, dead
	if deleted {
		to, from = from, to
		at, other = other, at
	}
	var old volume.Ref
	if h.where == at {
		old = h.val.Ref
	}
	b.Put(to, key, value, nil, old)
	if h.where == other {
		b.Delete(from, key, h.val.Ref)
	}
}

// Get returns what is known of each name, tombstones included. It ends early, as a
// page does, when names and values are many bytes; it tells of one name at least.
func (s *Store) Get(ctx context.Context, l *peer.Listing, names []string) ([]peer.RowState, error) {
	const op = "listing.Get"
	if err := s.checkListing(op, l); err != nil {
		return nil, err
	}
	if len(names) > peer.MaxPage {
		return nil, errs.New(op, errs.TooLarge, "%d names at once", len(names))
	}
	out := make([]peer.RowState, len(names))
	key := appendTableKey(make([]byte, 0, tableKeyLen+64), l)
	total := 0
	for i, name := range names {
		if total >= MaxPageBytes {
			return out[:i], nil
		}
		if i%64 == 63 && ctx.Err() != nil {
			return nil, errs.Wrap(op, errs.Canceled, ctx.Err())
		}
		key = append(key[:tableKeyLen], name...)
		h, err := s.find(ctx, l.Table, key)
		if err != nil {
			return nil, err
		}
		if h.where == nowhere {
			continue
		}
		row, err := decodeStored(h.val.Head)
		if err != nil {
			return nil, err
		}
		row.Name = name
		total += len(row.Name) + len(row.Value)
		out[i] = peer.RowState{Found: true, Row: row}
	}
	return out, nil
}

// find is load for those who do not hold the name's lock. Between load's two
// looks the name may move from the tombstones to the rows, and be seen in
// neither; so an absence is believed only under the lock.
func (s *Store) find(ctx context.Context, t catalog.Table, key []byte) (held, error) {
	h, err := s.load(t, key)
	if err != nil || h.where != nowhere {
		return h, err
	}
	hashes := []uint64{xxhash.Sum64(key)}
	if err := s.locks.lock(ctx, &hashes); err != nil {
		return h, errs.Wrap("listing.Get", errs.Canceled, err)
	}
	defer s.locks.unlock(hashes)
	return s.load(t, key)
}

// Stats returns the totals of a listing.
func (s *Store) Stats(l *peer.Listing) (peer.ListingStats, error) {
	if err := s.checkListing("listing.Stats", l); err != nil {
		return peer.ListingStats{}, err
	}
	c, err := s.counters(l)
	return peer.ListingStats{Count: c.rows, Bytes: c.bytes}, err
}

func (s *Store) counters(l *peer.Listing) (counters, error) {
	return s.countersOf(appendTableKey(nil, l))
}

func (s *Store) countersOf(table []byte) (c counters, err error) {
	v, err := s.v.Counters(s.spaces.Counters, table)
	if errs.Is(err, errs.NotFound) {
		return c, nil
	}
	for i, p := range []*int64{&c.rows, &c.bytes, &c.tombstones} {
		if i < len(v) {
			*p = v[i]
		}
	}
	return c, err
}

// IsEmpty reports whether a listing has no live row on this device.
func (s *Store) IsEmpty(ctx context.Context, l *peer.Listing) (bool, error) {
	p, err := s.List(ctx, &peer.RowQuery{Listing: *l, Limit: 1})
	return err == nil && len(p.Entries) == 0, err
}

// DropIncarnation removes everything of one incarnation: rows, tombstones and
// counters of all its tables, by ranges, at a cost that does not depend on how
// many there are. No row of it may be put at the same time or later; who calls
// this has closed the incarnation first (see [Service.DropIncarnation]).
func (s *Store) DropIncarnation(ctx context.Context, key keyhash.Hash, inc catalog.Incarnation) error {
	lo := append(key[:], inc[:]...)
	hi := prefixEnd(lo)
	b := s.v.NewBatch(volume.Meta)
	for _, space := range []volume.SpaceID{s.spaces.Current, s.spaces.Versions, s.spaces.Tombstones, s.spaces.Counters} {
		if space != 0 {
			b.DeleteRange(space, lo, hi)
		}
	}
	b.Urgent()
	return s.v.Commit(ctx, b)
}

// Incarnations calls fn with every container or account, and incarnation, of
// which the store holds anything, in key order after start; it stops when fn
// answers false. Its cost is that of the incarnations, not of their rows.
func (s *Store) Incarnations(start keyhash.Hash, fn func(keyhash.Hash, catalog.Incarnation) bool) error {
	lo := prefixEnd(start[:])
	if start == (keyhash.Hash{}) {
		lo = []byte{}
	}
	if lo == nil {
		return nil
	}
	return s.incarnations(lo, nil, fn)
}

// IncarnationsOf returns the incarnations of one container of which the store
// holds anything, at most limit.
func (s *Store) IncarnationsOf(key keyhash.Hash, limit int) (incs []catalog.Incarnation, err error) {
	err = s.incarnations(key[:], prefixEnd(key[:]), func(_ keyhash.Hash, inc catalog.Incarnation) bool {
		incs = append(incs, inc)
		return len(incs) < limit
	})
	return incs, err
}

func (s *Store) incarnations(lo, hi []byte, fn func(keyhash.Hash, catalog.Incarnation) bool) error {
	it, err := s.v.NewIter(s.spaces.Counters, lo, hi)
	if err != nil {
		return err
	}
	defer it.Close()
	for lo != nil && it.SeekGE(lo) {
		l, err := splitTableKey(it.Key())
		if err != nil {
			return err
		}
		if !fn(l.Key, l.Incarnation) {
			return nil
		}
		lo = prefixEnd(append(l.Key[:], l.Incarnation[:]...))
	}
	return it.Err()
}
