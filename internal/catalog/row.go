package catalog

import (
	"encoding/binary"

	"ringfort/internal/timestamp"
	"ringfort/internal/wire"
)

// Table is one of a container's or account's lists of rows.
//
// Names of objects and containers hold no NUL, so it separates the parts of a row's
// name in the tables whose rows say more than a name: the rows of a name stand
// together, and names are in the order of their bytes, since NUL is before all
// others. But such a row's name is not what a client knows as a name. A prefix of it
// may be asked for, a delimiter may not: it could be found in an id, or in the bytes
// of a timestamp. Who lists these tables rolls names up on its own.
type Table byte

// The tables. The numbers are on disk.
const (
	Objects    Table = 1 // of a container: the current version of each object, by name
	Uploads    Table = 2 // of a container: unfinished multipart uploads, name NUL upload id
	Parts      Table = 3 // of a container: parts of them, name NUL upload id NUL %05d part number
	Containers Table = 4 // of an account, by name

	// Versions is of a container: every version, as
	//
	//	name NUL inverted timestamp NUL version id
	//
	// The timestamp is the version's, as in Object.TS, each of its 24 bytes inverted
	// (xor 0xff), so that the newest stands first; it has one length, so that NULs
	// within it do no harm. The id is the text that the protocols show.
	Versions Table = 5
)

// Row is one line of a listing. Of two rows for one name the one with the newer
// ballot stands (rule 14).
type Row struct {
	Name    string
	Ballot  timestamp.T // of the record that it shows
	TS      timestamp.T // of the operation that made that record
	Deleted bool        // a tombstone: the name is gone
	Bytes   int64       // counted into the container's total
	Value   []byte      // what the listing shows; an encoded RowValue for objects
}

const (
	rowDeleted   = 1 << iota // a tombstone
	rowSameTS                // ts is left out: it is the ballot
	rowFlagsMask = 1<<iota - 1
)

// AppendTo appends r's encoding on the wire: the name as a string, then the body. A
// stored row keeps its name in its key.
func (r *Row) AppendTo(b []byte) []byte {
	b = wire.AppendString(b, r.Name)
	return r.AppendBody(b)
}

// AppendBody appends everything but the name:
//
//	24 B     ballot
//	1 B      flags: 1 deleted, 2 the next field is left out, being equal to the ballot
//	24 B     ts
//	uvarint  bytes counted into the total
//	uvarint length, value
//
// Who makes rows of what others say checks first that Bytes is not negative and
// that both timestamps are valid: otherwise no reader takes them.
func (r *Row) AppendBody(b []byte) []byte {
	b = r.Ballot.AppendTo(b)
	flags := byte(0)
	if r.Deleted {
		flags |= rowDeleted
	}
	if r.TS == r.Ballot {
		b = append(b, flags|rowSameTS)
	} else {
		b = r.TS.AppendTo(append(b, flags))
	}
	b = binary.AppendUvarint(b, uint64(r.Bytes))
	return wire.AppendBytes(b, r.Value)
}

// ReadRow reads a row with its name. Value aliases the input.
func ReadRow(r *wire.Reader) Row {
	name := r.String()
	row := ReadRowBody(r)
	row.Name = name
	return row
}

// ReadRowBody reads a row without its name. Value aliases the input; it is nil if
// there is none.
func ReadRowBody(r *wire.Reader) Row {
	row := Row{Ballot: r.Timestamp()}
	flags := r.Byte()
	if flags > rowFlagsMask {
		r.Fail("unknown flags of a row")
	}
	row.Deleted = flags&rowDeleted != 0
	if flags&rowSameTS != 0 {
		row.TS = row.Ballot
	} else if row.TS = r.Timestamp(); row.TS == row.Ballot {
		r.Fail("a row's timestamp should have been left out")
	}
	row.Bytes = r.Int64()
	if v := r.Bytes(); len(v) > 0 {
		row.Value = v
	}
	return row
}

// Newer reports whether r replaces old.
func (r *Row) Newer(old *Row) bool { return old.Ballot.Less(r.Ballot) }
