package peer

import (
	"encoding/binary"

	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/wire"
)

// minRowSize is the length of the shortest encoded row: empty name, ballot,
// flags, bytes, empty value.
const minRowSize = 1 + 24 + 1 + 1 + 1

func appendListing(b []byte, l *Listing) []byte {
	b = append(b, l.Key[:]...)
	b = append(b, l.Incarnation[:]...)
	b = append(b, byte(l.Table))
	return binary.AppendUvarint(b, l.RangeEpoch)
}

func readListing(r *wire.Reader) (l Listing) {
	l.Key = readKey(r)
	copy(l.Incarnation[:], r.Fixed(len(l.Incarnation)))
	l.Table = catalog.Table(r.Byte())
	if r.Err() == nil && (l.Table < catalog.Objects || l.Table > catalog.Versions) {
		unknown(r, "table", byte(l.Table))
	}
	l.RangeEpoch = r.Uvarint()
	return l
}

// listingHead begins every message about rows.
type listingHead struct {
	target  Target
	service Service
	listing Listing
}

func (m *listingHead) appendTo(b []byte) []byte {
	b = append(appendTarget(b, m.target), byte(m.service))
	return appendListing(b, &m.listing)
}

func readListingHead(r *wire.Reader) listingHead {
	return listingHead{readTarget(r), readService(r), readListing(r)}
}

type putRowsRequest struct {
	listingHead
	rows []catalog.Row
}

func (m *putRowsRequest) appendTo(b []byte) []byte {
	b = m.listingHead.appendTo(b)
	b = binary.AppendUvarint(b, uint64(len(m.rows)))
	for i := range m.rows {
		b = m.rows[i].AppendTo(b)
	}
	return b
}

func rowSize(r *catalog.Row) int { return len(r.Name) + len(r.Value) + 80 }

func (m *putRowsRequest) size() int {
	n := 128
	for i := range m.rows {
		n += rowSize(&m.rows[i])
	}
	return n
}

func readPutRowsRequest(r *wire.Reader) putRowsRequest {
	m := putRowsRequest{listingHead: readListingHead(r)}
	m.rows = make([]catalog.Row, readCount(r, minRowSize))
	for i := range m.rows {
		m.rows[i] = catalog.ReadRow(r)
	}
	return m
}

type listRowsRequest struct {
	target  Target
	service Service
	query   RowQuery
}

const (
	queryInclusive = 1 << iota
	queryReverse
)

func (m *listRowsRequest) appendTo(b []byte) []byte {
	h := listingHead{m.target, m.service, m.query.Listing}
	b = h.appendTo(b)
	var flags byte
	if m.query.Inclusive {
		flags |= queryInclusive
	}
	if m.query.Reverse {
		flags |= queryReverse
	}
	b = append(b, flags)
	for _, s := range [...]string{m.query.Prefix, m.query.Marker, m.query.EndMarker, m.query.Delimiter} {
		b = wire.AppendString(b, s)
	}
	return binary.AppendUvarint(b, uint64(max(m.query.Limit, 0)))
}

func readListRowsRequest(r *wire.Reader) listRowsRequest {
	h := readListingHead(r)
	q := RowQuery{Listing: h.listing}
	flags := readFlags(r, "flags of a query", queryInclusive|queryReverse)
	q.Inclusive, q.Reverse = flags&queryInclusive != 0, flags&queryReverse != 0
	for _, s := range [...]*string{&q.Prefix, &q.Marker, &q.EndMarker, &q.Delimiter} {
		*s = r.String()
	}
	q.Limit = int(readUint32(r))
	return listRowsRequest{h.target, h.service, q}
}

// appendPage writes as much of a page as fits into limit bytes, at least one
// entry if there is any.
func appendPage(b []byte, p *RowPage, limit int) []byte {
	n, size := 0, 0
	for ; n < len(p.Entries); n++ {
		e := &p.Entries[n]
		size += rowSize(&e.Row) + len(e.CommonPrefix) + 3
		if n > 0 && size > limit {
			break
		}
	}
	b = wire.AppendBool(b, p.More || n < len(p.Entries))
	b = binary.AppendUvarint(b, uint64(n))
	for i := range p.Entries[:n] {
		b = wire.AppendString(b, p.Entries[i].CommonPrefix)
		b = p.Entries[i].Row.AppendTo(b)
	}
	return b
}

func readPage(r *wire.Reader) *RowPage {
	p := &RowPage{More: r.Bool()}
	if n := readCount(r, 1+minRowSize); n > 0 {
		p.Entries = make([]Entry, n)
	}
	for i := range p.Entries {
		p.Entries[i].CommonPrefix = r.String()
		p.Entries[i].Row = catalog.ReadRow(r)
	}
	return p
}

type getRowsRequest struct {
	listingHead
	names []string
}

func (m *getRowsRequest) appendTo(b []byte) []byte {
	b = m.listingHead.appendTo(b)
	b = binary.AppendUvarint(b, uint64(len(m.names)))
	for _, n := range m.names {
		b = wire.AppendString(b, n)
	}
	return b
}

func (m *getRowsRequest) size() int {
	n := 128
	for _, s := range m.names {
		n += len(s) + 3
	}
	return n
}

func readGetRowsRequest(r *wire.Reader) getRowsRequest {
	m := getRowsRequest{listingHead: readListingHead(r)}
	m.names = make([]string, readCount(r, 1))
	for i := range m.names {
		m.names[i] = r.String()
	}
	return m
}

// appendRowStates writes as many states as fit into limit bytes, at least one if
// there is any.
func appendRowStates(b []byte, states []RowState, limit int) []byte {
	n, size := 0, 0
	for ; n < len(states); n++ {
		size++
		if states[n].Found {
			size += rowSize(&states[n].Row)
		}
		if n > 0 && size+binary.MaxVarintLen64 > limit {
			break
		}
	}
	states = states[:n]
	b = binary.AppendUvarint(b, uint64(len(states)))
	for i := range states {
		b = wire.AppendBool(b, states[i].Found)
		if states[i].Found {
			b = states[i].Row.AppendTo(b)
		}
	}
	return b
}

func readRowStates(r *wire.Reader) []RowState {
	states := make([]RowState, readCount(r, 1))
	for i := range states {
		if states[i].Found = r.Bool(); states[i].Found {
			states[i].Row = catalog.ReadRow(r)
		}
	}
	return states
}

func appendStats(b []byte, s *ListingStats) []byte {
	return appendCount(appendCount(b, s.Count), s.Bytes)
}

func readStats(r *wire.Reader) ListingStats {
	return ListingStats{Count: r.Int64(), Bytes: r.Int64()}
}

// checkRowCount refuses what the other side would not read.
func checkRowCount(op string, n int) error {
	if n > MaxPage {
		return errs.New(op, errs.TooLarge, "%d rows in one call, at most %d go", n, MaxPage)
	}
	return nil
}
