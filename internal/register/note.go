package register

import (
	"encoding/binary"
	"slices"

	"ringfort/internal/errs"
	"ringfort/internal/timestamp"
	"ringfort/internal/wire"
)

// Note is what a device still has to see done about a key's record: the row that
// shows it delivered, and the blobs of the records it replaced given up. It is
// written in the same batch as the record. While it stands, the device does not
// know that the record was chosen; its absence is the mark "known committed". A
// bare record has none: it was chosen before it was sent.
//
// Stored form: version byte 1, 24 B ballot, uvarint micros, uvarint n and n x 24 B
// drops, uvarint n and n x 24 B suspects. A higher version is errs.NotImplemented.
type Note struct {
	Ballot timestamp.T // of the record that the note is about
	Micros int64       // when it was first written, by the device's clock
	// Drops are groups of records that were known chosen before this one
	// replaced them: once this one is chosen too, nothing can name them again.
	Drops []timestamp.T
	// Suspects are groups of records that were not known chosen: they may be
	// swept only behind a promise (see Prepare's sweep).
	Suspects []timestamp.T
}

// maxSuspects bounds a note on a key that is overwritten again and again before
// anything about it is settled. What falls out is found by the search for orphans.
const maxSuspects = 128

const noteVersion = 1

// AppendTo appends the stored form of n.
func (n *Note) AppendTo(b []byte) []byte {
	b = append(b, noteVersion)
	b = n.Ballot.AppendTo(b)
	b = binary.AppendUvarint(b, uint64(max(n.Micros, 0))) // a clock may be before 1970
	for _, list := range [][]timestamp.T{n.Drops, n.Suspects} {
		b = binary.AppendUvarint(b, uint64(len(list)))
		for _, t := range list {
			b = t.AppendTo(b)
		}
	}
	return b
}

// DecodeNote reads what AppendTo wrote.
func DecodeNote(b []byte) (Note, error) {
	r := wire.NewReader(b)
	if err := checkVersion("register.DecodeNote", &r, noteVersion); err != nil {
		return Note{}, err
	}
	n := Note{Ballot: r.Timestamp(), Micros: r.Int64()}
	for _, list := range []*[]timestamp.T{&n.Drops, &n.Suspects} {
		for range r.Count(timestamp.Size) {
			*list = append(*list, r.Timestamp())
		}
	}
	if err := r.Done(); err != nil {
		return Note{}, errs.Wrap("register.DecodeNote", errs.Corrupt, err)
	}
	return n, nil
}

// successor returns the note of rec, which takes the place of old. prev is old's
// own note, nil if old was known committed.
func successor(old, rec *Record, prev *Note, nowMicros int64) Note {
	n := Note{Ballot: rec.Ballot, Micros: nowMicros}
	if old == nil {
		return n
	}
	if prev != nil {
		n.Drops, n.Suspects = prev.Drops, prev.Suspects
	}
	switch {
	case old.Group.IsZero() || old.Group == rec.Group:
	case prev == nil:
		n.Drops = append(slices.Clip(n.Drops), old.Group)
	default:
		n.Suspects = append(slices.Clip(n.Suspects), old.Group)
	}
	// A lineage may come back to a group that it had left.
	is := func(t timestamp.T) bool { return t == rec.Group }
	n.Drops = slices.DeleteFunc(slices.Clone(n.Drops), is)
	n.Suspects = slices.DeleteFunc(slices.Clone(n.Suspects), is)
	n.Suspects = n.Suspects[max(0, len(n.Suspects)-maxSuspects):]
	return n
}
