package listing

import (
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/wire"
)

const (
	rowVersion = 1

	incarnationKeyLen = len(keyhash.Hash{}) + len(catalog.Incarnation{})
	tableKeyLen       = incarnationKeyLen + 1

	// MaxNameBytes bounds a row's name: an object's name, an upload's id, a
	// part's number and the bytes between them.
	MaxNameBytes = 4096
	// MaxValueBytes bounds a row's value.
	MaxValueBytes = 64 << 10
	// MaxPutRows bounds one Put.
	MaxPutRows = 10000
	// MaxPutBytes bounds the names and values of one Put, well below what one
	// batch of the volume may hold.
	MaxPutBytes = 8 << 20
)

// appendTableKey appends the key of a table without a name.
func appendTableKey(b []byte, l *peer.Listing) []byte {
	b = append(b, l.Key[:]...)
	b = append(b, l.Incarnation[:]...)
	return append(b, byte(l.Table))
}

// prefixEnd returns the first key after all keys that begin with b, nil if there
// is none. b is not changed.
func prefixEnd(b []byte) []byte {
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] != 0xff {
			end := append([]byte(nil), b[:i+1]...)
			end[i]++
			return end
		}
	}
	return nil
}

// appendStored appends the stored form of a row.
func appendStored(b []byte, r *catalog.Row) []byte {
	return r.AppendBody(append(b, rowVersion))
}

// decodeStored reads a stored row, but for its name. The value aliases b.
func decodeStored(b []byte) (catalog.Row, error) {
	const op = "listing.decode"
	r := wire.NewReader(b)
	switch v := r.Byte(); {
	case v > rowVersion:
		return catalog.Row{}, errs.New(op, errs.NotImplemented, "written by a newer program: a row of version %d", v)
	case v < rowVersion:
		return catalog.Row{}, errs.New(op, errs.Corrupt, "a row of version %d, or of no bytes", v)
	}
	row := catalog.ReadRowBody(&r)
	if err := r.Done(); err != nil {
		return catalog.Row{}, errs.Wrap(op, errs.Corrupt, err)
	}
	return row, nil
}

func (s *Store) checkListing(op string, l *peer.Listing) error {
	if l.Table < catalog.Objects || l.Table > catalog.Versions || s.space(l.Table) == 0 {
		return errs.New(op, errs.Invalid, "table %d is not known", l.Table)
	}
	return nil
}

func checkRow(op string, r *catalog.Row) error {
	switch {
	case r.Name == "" || r.Ballot.IsZero():
		return errs.New(op, errs.Invalid, "a row without a name or a ballot")
	case !r.Ballot.Valid() || !r.TS.Valid():
		// Nothing could be put above it, nor would it be read again.
		return errs.New(op, errs.Invalid, "a row of a time beyond the end")
	case len(r.Name) > MaxNameBytes:
		return errs.New(op, errs.TooLarge, "a name of %d bytes", len(r.Name))
	case len(r.Value) > MaxValueBytes:
		return errs.New(op, errs.TooLarge, "a row of %d bytes", len(r.Value))
	case r.Bytes < 0:
		return errs.New(op, errs.Invalid, "a row of %d counted bytes", r.Bytes)
	}
	return nil
}

// splitTableKey reads the key of a table. Which table it is does not matter to those
// who go through all of them: they have no part in what its rows mean.
func splitTableKey(b []byte) (l peer.Listing, err error) {
	if len(b) != tableKeyLen {
		return l, errs.New("listing.decode", errs.Corrupt, "a table's key of %d bytes", len(b))
	}
	copy(l.Key[:], b)
	copy(l.Incarnation[:], b[len(l.Key):])
	l.Table = catalog.Table(b[incarnationKeyLen])
	return l, nil
}
