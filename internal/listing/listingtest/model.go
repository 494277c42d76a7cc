// Package listingtest has a listing that is too simple to be wrong, to test the
// others against.
//
// Read first: [Model]. It keeps a map and sorts it for every page.
package listingtest

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"ringfort/internal/catalog"
	"ringfort/internal/peer"
	"ringfort/internal/timestamp"
)

// Model is one listing on one device, by the rules of package listing. It is not
// for concurrent use, but for readers.
type Model struct {
	rows map[string]catalog.Row
}

// Put stores rows, each if it is newer than what is held.
func (m *Model) Put(rows ...catalog.Row) {
	if m.rows == nil {
		m.rows = make(map[string]catalog.Row)
	}
	for _, r := range rows {
		if old, ok := m.rows[r.Name]; !ok || old.Ballot.Less(r.Ballot) {
			m.rows[r.Name] = r
		}
	}
}

// Stats returns the totals.
func (m *Model) Stats() (s peer.ListingStats) {
	for _, r := range m.rows {
		if !r.Deleted {
			s.Count++
			s.Bytes += r.Bytes
		}
	}
	return s
}

// All returns everything that is known, tombstones included, in no order.
func (m *Model) All() iter.Seq2[string, catalog.Row] { return maps.All(m.rows) }

// ListRows returns a page.
func (m *Model) ListRows(_ context.Context, q *peer.RowQuery) (*peer.RowPage, error) {
	var names []string
	for name, r := range m.rows {
		if !r.Deleted && within(q, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if q.Reverse {
		slices.Reverse(names)
	}
	p := &peer.RowPage{}
	seen := make(map[string]bool)
	for _, name := range names {
		e := peer.Entry{Row: m.rows[name], CommonPrefix: group(q, name)}
		if seen[e.CommonPrefix] {
			continue
		}
		if len(p.Entries) == q.Limit {
			p.More = true
			break
		}
		seen[e.CommonPrefix] = e.CommonPrefix != ""
		p.Entries = append(p.Entries, e)
	}
	return p, nil
}

// group returns the common prefix of a name, "" if it has none.
func group(q *peer.RowQuery, name string) string {
	head, _, found := strings.Cut(name[len(q.Prefix):], q.Delimiter)
	if q.Delimiter == "" || !found {
		return ""
	}
	return q.Prefix + head + q.Delimiter
}

// within reports whether a query is about a name.
func within(q *peer.RowQuery, name string) bool {
	if !strings.HasPrefix(name, q.Prefix) {
		return false
	}
	marker, end := q.Marker, q.EndMarker
	after := func(a, b string) bool {
		if q.Reverse {
			return a < b
		}
		return a > b
	}
	if marker != "" && !after(name, marker) && !(q.Inclusive && name == marker) {
		return false
	}
	if end != "" && !after(end, name) {
		return false
	}
	// The rule of the marker.
	if marker != "" && !q.Inclusive && group(q, name) == marker {
		return false
	}
	return true
}

// GetRows returns what is known of each name.
func (m *Model) GetRows(_ context.Context, _ *peer.Listing, names []string) ([]peer.RowState, error) {
	out := make([]peer.RowState, len(names))
	for i, n := range names {
		r, ok := m.rows[n]
		out[i] = peer.RowState{Found: ok, Row: r}
	}
	return out, nil
}

// alphabet makes names that share prefixes, contain delimiters and end in the
// bytes at which careless arithmetic breaks.
var alphabet = []string{"a", "b", "/", "//", "ab", "\x00", "\xff", "é"}

// Name draws a name of at most n letters.
func Name(r *rand.Rand, n int) string {
	var b strings.Builder
	for range 1 + r.IntN(n) {
		b.WriteString(alphabet[r.IntN(len(alphabet))])
	}
	return b.String()
}

// Row draws a row of that name, live or deleted, with a ballot up to n.
func Row(r *rand.Rand, name string, n int) catalog.Row {
	b := 1 + r.IntN(n)
	row := catalog.Row{Name: name, Ballot: timestamp.T{Micros: uint64(b)}, TS: timestamp.T{Micros: uint64(b)}}
	// The ballot decides the rest: one ballot proposes one row.
	x := rand.New(rand.NewPCG(uint64(b), uint64(len(name))))
	if x.IntN(3) == 0 {
		row.Deleted = true
		return row
	}
	row.Bytes = int64(x.IntN(100))
	row.Value = fmt.Appendf(nil, "%s@%d", name, b)
	if x.IntN(10) == 0 {
		row.Value = append(row.Value, strings.Repeat("v", 2000)...)
	}
	return row
}

// Query draws a query about names as Name draws them.
func Query(r *rand.Rand, l peer.Listing) *peer.RowQuery {
	maybe := func(n int) string {
		if r.IntN(2) == 0 {
			return ""
		}
		return Name(r, n)
	}
	return &peer.RowQuery{
		Listing: l, Prefix: maybe(2), Marker: maybe(4), EndMarker: maybe(4),
		Inclusive: r.IntN(3) == 0, Reverse: r.IntN(2) == 0,
		Delimiter: []string{"", "/", "//", "b", "\xff", "a/"}[r.IntN(6)],
		Limit:     1 + r.IntN(12),
	}
}

// Same reports how two pages differ, "" if they do not. With proofs, the rows that
// prove common prefixes must be the same too.
func Same(got, want *peer.RowPage, proofs bool) string {
	line := func(e *peer.Entry) string {
		if e.CommonPrefix != "" && !proofs {
			return fmt.Sprintf("%q", e.CommonPrefix)
		}
		return fmt.Sprintf("%q %q %d %v %d %q", e.CommonPrefix, e.Name, e.Ballot.Micros, e.Deleted, e.Bytes, e.Value)
	}
	for i := range max(len(got.Entries), len(want.Entries)) {
		var g, w string
		if i < len(got.Entries) {
			g = line(&got.Entries[i])
		}
		if i < len(want.Entries) {
			w = line(&want.Entries[i])
		}
		if g != w {
			return fmt.Sprintf("entry %d: got %s, want %s", i, g, w)
		}
	}
	if got.More != want.More {
		return fmt.Sprintf("more: got %v, want %v", got.More, want.More)
	}
	return ""
}
