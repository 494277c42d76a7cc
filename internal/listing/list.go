package listing

import (
	"bytes"
	"context"
	"strings"

	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/peer"
	"ringfort/internal/volume"
)

// MaxPageBytes is where a page ends early: the sum of its names and values.
const MaxPageBytes = 4 << 20

// List returns a page of a listing. See the package's comment for the order and
// for how the next page is asked.
func (s *Store) List(ctx context.Context, q *peer.RowQuery) (*peer.RowPage, error) {
	const op = "listing.List"
	if err := s.checkListing(op, &q.Listing); err != nil {
		return nil, err
	}
	if q.Limit < 1 || q.Limit > peer.MaxPage {
		return nil, errs.New(op, errs.Invalid, "a limit of %d", q.Limit)
	}
	if q.Delimiter != "" && !namesOnly(q.Table) {
		return nil, errs.New(op, errs.Invalid, "table %d is not rolled up: its keys hold more than names", q.Table)
	}
	lo, hi := bounds(q)
	if bytes.Compare(lo, hi) >= 0 {
		return &peer.RowPage{}, nil
	}
	it, err := s.v.NewIter(s.space(q.Table), lo, hi)
	if err != nil {
		return nil, err
	}
	defer it.Close()
	l := lister{q: q, it: it, prefix: append(appendTableKey(nil, &q.Listing), q.Prefix...), delimiter: []byte(q.Delimiter)}
	return l.page(ctx)
}

// namesOnly reports whether a table's rows are named as clients name things, so that
// a delimiter in a row's name is one in theirs.
func namesOnly(t catalog.Table) bool { return t == catalog.Objects || t == catalog.Containers }

// bounds returns the keys lo <= key < hi between which a query's names are.
func bounds(q *peer.RowQuery) (lo, hi []byte) {
	table := appendTableKey(make([]byte, 0, tableKeyLen+len(q.Prefix)+len(q.Marker)+1), &q.Listing)
	key := func(name string) []byte { return append(table[:tableKeyLen:tableKeyLen], name...) }
	after := func(name string) []byte { return append(key(name), 0) }

	// The table's byte is small: what begins with it has an end.
	lo, hi = key(q.Prefix), prefixEnd(key(q.Prefix))
	raise := func(k []byte) {
		if bytes.Compare(k, lo) > 0 {
			lo = k
		}
	}
	lower := func(k []byte) {
		if bytes.Compare(k, hi) < 0 {
			hi = k
		}
	}
	switch {
	case q.Marker == "":
	case q.Reverse && q.Inclusive:
		lower(after(q.Marker))
	case q.Reverse:
		lower(key(q.Marker))
	case q.Inclusive:
		raise(key(q.Marker))
	case IsCommonPrefix(q.Marker, q.Prefix, q.Delimiter):
		raise(prefixEnd(key(q.Marker)))
	default:
		raise(after(q.Marker))
	}
	switch {
	case q.EndMarker == "":
	case q.Reverse:
		raise(after(q.EndMarker))
	default:
		lower(key(q.EndMarker))
	}
	return lo, hi
}

// CommonPrefix returns the common prefix that name is rolled up into in a listing
// by prefix and delimiter, "" if it is shown itself.
func CommonPrefix(name, prefix, delimiter string) string {
	if delimiter == "" || !strings.HasPrefix(name, prefix) {
		return ""
	}
	i := strings.Index(name[len(prefix):], delimiter)
	if i < 0 {
		return ""
	}
	return name[:len(prefix)+i+len(delimiter)]
}

// IsCommonPrefix reports whether name is itself a common prefix in a listing by
// prefix and delimiter, and so as a marker stands for all names under it.
func IsCommonPrefix(name, prefix, delimiter string) bool {
	return name != "" && CommonPrefix(name, prefix, delimiter) == name
}

// lister makes one page.
type lister struct {
	q         *peer.RowQuery
	it        *volume.Iter
	prefix    []byte // table's key and the query's prefix
	delimiter []byte

	entries []peer.Entry
	bytes   int
	names   strings.Builder // the current chunk of names
	values  []byte          // the current chunk of values
}

// chunkBytes is how much is allocated at a time for a page's names and values.
const chunkBytes = 16 << 10

func (l *lister) page(ctx context.Context) (*peer.RowPage, error) {
	for ok := l.first(); ok; {
		if len(l.entries) == l.q.Limit || l.bytes >= MaxPageBytes {
			return &peer.RowPage{Entries: l.entries, More: true}, l.it.Err()
		}
		if len(l.entries)%256 == 255 && ctx.Err() != nil {
			return nil, errs.Wrap("listing.List", errs.Canceled, ctx.Err())
		}
		key := l.it.Key()
		var group []byte // the key of the common prefix
		if len(l.delimiter) > 0 {
			if i := bytes.Index(key[len(l.prefix):], l.delimiter); i >= 0 {
				group = key[:len(l.prefix)+i+len(l.delimiter)]
			}
		}
		if err := l.add(key, len(group)); err != nil {
			return nil, err
		}
		if group == nil {
			ok = l.next()
		} else {
			ok = l.skip(group)
		}
	}
	return &peer.RowPage{Entries: l.entries}, l.it.Err()
}

func (l *lister) first() bool {
	if l.q.Reverse {
		return l.it.Last()
	}
	return l.it.First()
}

func (l *lister) next() bool {
	if l.q.Reverse {
		return l.it.Prev()
	}
	return l.it.Next()
}

// skip goes to the first key beyond the group. Most groups are small or huge: a
// step is tried before the seek, which costs ten times as much.
func (l *lister) skip(group []byte) bool {
	g := append([]byte(nil), group...) // the iterator's key changes
	if !l.next() {
		return false
	}
	if !bytes.HasPrefix(l.it.Key(), g) {
		return true
	}
	if l.q.Reverse {
		return l.it.SeekLT(g)
	}
	return l.it.SeekGE(prefixEnd(g)) // has an end, as in bounds
}

// add appends the entry of the row at key; groupLen is the length of the key of
// its common prefix, 0 if it has none.
func (l *lister) add(key []byte, groupLen int) error {
	head := l.it.Head()
	if err := l.it.Err(); err != nil {
		return err
	}
	row, err := decodeStored(head)
	if err != nil {
		return err
	}
	if l.entries == nil {
		l.entries = make([]peer.Entry, 0, min(l.q.Limit, 1000))
	}
	row.Name = l.keepName(key[tableKeyLen:])
	row.Value = l.keepValue(row.Value)
	e := peer.Entry{Row: row}
	if groupLen > 0 {
		e.CommonPrefix = row.Name[:groupLen-tableKeyLen]
	}
	l.entries = append(l.entries, e)
	l.bytes += len(row.Name) + len(row.Value)
	return nil
}

// keepName copies a name into the page's memory: a Builder that has room leaves
// what it returned before where it is.
func (l *lister) keepName(name []byte) string {
	if l.names.Cap()-l.names.Len() < len(name) {
		l.names = strings.Builder{}
		l.names.Grow(max(chunkBytes, len(name)))
	}
	at := l.names.Len()
	l.names.Write(name)
	return l.names.String()[at:]
}

func (l *lister) keepValue(value []byte) []byte {
	if len(value) == 0 {
		return nil
	}
	if cap(l.values)-len(l.values) < len(value) {
		l.values = make([]byte, 0, max(chunkBytes, len(value)))
	}
	at := len(l.values)
	l.values = append(l.values, value...)
	return l.values[at:len(l.values):len(l.values)]
}
