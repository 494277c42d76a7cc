package listing

import (
	"bytes"
	"context"

	"ringfort/internal/errs"
	"ringfort/internal/peer"
	"ringfort/internal/volume"
)

// Check reads everything in the store and returns the first thing that is not as
// the package's comment says, as errs.Corrupt: a row that cannot be read, a name
// that has a row and a tombstone, a counter that does not agree with the rows.
// While rows are being put, it may report what is only on its way.
func (s *Store) Check(ctx context.Context) error {
	it, err := s.v.NewIter(s.spaces.Counters, nil, nil)
	if err != nil {
		return err
	}
	defer it.Close()
	var seen counters
	for ok := it.First(); ok; ok = it.Next() {
		l, err := splitTableKey(it.Key())
		if err != nil {
			return err
		}
		c, err := s.checkTable(ctx, &l)
		if err != nil {
			return err
		}
		seen.rows += c.rows
		seen.tombstones += c.tombstones
	}
	if err := it.Err(); err != nil {
		return err
	}
	return s.checkUncounted(ctx, &seen)
}

// checkTable checks one table against its counters.
func (s *Store) checkTable(ctx context.Context, l *peer.Listing) (c counters, err error) {
	const op = "listing.Check"
	if err := s.checkListing(op, l); err != nil {
		return c, err
	}
	key := appendTableKey(nil, l)
	err = s.scan(ctx, s.space(l.Table), key, func(key []byte, it *volume.Iter) error {
		row, err := decodeStored(it.Head())
		if err != nil {
			return err
		}
		if row.Deleted {
			return errs.New(op, errs.Corrupt, "%q: a tombstone among the rows", key)
		}
		c.rows++
		c.bytes += row.Bytes
		return nil
	})
	if err != nil {
		return c, err
	}
	err = s.scan(ctx, s.spaces.Tombstones, key, func(key []byte, it *volume.Iter) error {
		row, err := decodeStored(it.Head())
		if err != nil {
			return err
		}
		if !row.Deleted {
			return errs.New(op, errs.Corrupt, "%q: a row among the tombstones", key)
		}
		c.tombstones++
		if both, err := s.v.Has(s.space(l.Table), key); both || err != nil {
			return errs.New(op, errs.Corrupt, "%q: a row and a tombstone, or %v", key, err)
		}
		return nil
	})
	if err != nil {
		return c, err
	}
	held, err := s.counters(l)
	if err == nil && held != c {
		err = errs.New(op, errs.Corrupt, "listing %v: counters %+v, rows %+v", l, held, c)
	}
	return c, err
}

// checkUncounted looks for rows and tombstones of tables without counters.
func (s *Store) checkUncounted(ctx context.Context, seen *counters) error {
	var all counters
	for space, n := range map[volume.SpaceID]*int64{
		s.spaces.Current: &all.rows, s.spaces.Versions: &all.rows, s.spaces.Tombstones: &all.tombstones,
	} {
		if space == 0 {
			continue
		}
		err := s.scan(ctx, space, nil, func([]byte, *volume.Iter) error { *n++; return nil })
		if err != nil {
			return err
		}
	}
	if all.rows != seen.rows || all.tombstones != seen.tombstones {
		return errs.New("listing.Check", errs.Corrupt, "%d rows and %d tombstones, of which %d and %d are counted",
			all.rows, all.tombstones, seen.rows, seen.tombstones)
	}
	return nil
}

// scan calls fn at every key of a space that begins with prefix.
func (s *Store) scan(ctx context.Context, space volume.SpaceID, prefix []byte, fn func(key []byte, it *volume.Iter) error) error {
	var lo, hi []byte
	if len(prefix) > 0 {
		lo, hi = prefix, prefixEnd(prefix)
	}
	it, err := s.v.NewIter(space, lo, hi)
	if err != nil {
		return err
	}
	defer it.Close()
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return errs.Wrap("listing.Check", errs.Canceled, ctx.Err())
		}
		if err := fn(bytes.Clone(it.Key()), it); err != nil {
			return err
		}
	}
	return it.Err()
}
