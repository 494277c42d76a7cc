package peertest

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"ringfort/internal/catalog"
	"ringfort/internal/catalog/catalogtest"
	"ringfort/internal/errs"
	"ringfort/internal/peer"
)

// row makes an object's row.
func (x *suite) row(name string, size int64) catalog.Row {
	ts := x.clock.Now()
	v := catalog.RowValue{Size: size, ETag: "d41d8cd98f00b204e9800998ecf8427e", ContentType: "text/plain", Modified: 1}
	return catalog.Row{Name: name, Ballot: ts, TS: ts, Bytes: size, Value: catalogtest.Bytes(&v)}
}

func (x *suite) putRows(t *testing.T, c *container, rows ...catalog.Row) {
	t.Helper()
	if err := x.node.PutRows(x.ctx(t), c.target, peer.Containers, c.listing, rows); err != nil {
		t.Fatalf("PutRows: %v", err)
	}
}

func (x *suite) list(t *testing.T, c *container, q peer.RowQuery) *peer.RowPage {
	t.Helper()
	q.Listing = c.listing
	p, err := x.node.ListRows(x.ctx(t), c.target, peer.Containers, &q)
	if err != nil {
		t.Fatalf("ListRows %+v: %v", q, err)
	}
	return p
}

func names(p *peer.RowPage) []string {
	out := []string{}
	for _, e := range p.Entries {
		if e.CommonPrefix != "" {
			out = append(out, e.CommonPrefix+"*")
		} else {
			out = append(out, e.Name)
		}
	}
	return out
}

func (x *suite) rowsNeedTheirContainer(t *testing.T) {
	c := x.container(t)
	x.putRows(t, c, x.row("a", 1))
	rows := []catalog.Row{x.row("b", 1)}

	absent := peer.Listing{Key: x.key(), Incarnation: c.listing.Incarnation, Table: catalog.Objects}
	wantKind(t, x.node.PutRows(x.ctx(t), x.Target(peer.Containers, absent.Key), peer.Containers, absent, rows), errs.Unavailable)
	other := c.listing
	other.Incarnation[0]++
	wantKind(t, x.node.PutRows(x.ctx(t), c.target, peer.Containers, other, rows), errs.NoBucket)
	c.value.State = catalog.Deleting
	x.putContainer(t, c)
	wantKind(t, x.node.PutRows(x.ctx(t), c.target, peer.Containers, c.listing, rows), errs.NoBucket)

	c.value.State = catalog.Live
	x.putContainer(t, c)
	if got := names(x.list(t, c, peer.RowQuery{Limit: 10})); !slices.Equal(got, []string{"a"}) {
		t.Fatalf("a refused row was stored: %v", got)
	}
}

func (x *suite) newestRowStands(t *testing.T) {
	c := x.container(t)
	older, newer := x.row("n", 10), x.row("n", 20)
	x.putRows(t, c, newer)
	x.putRows(t, c, older, x.row("m", 5))
	p := x.list(t, c, peer.RowQuery{Limit: 10})
	if len(p.Entries) != 2 || p.More || !reflect.DeepEqual(p.Entries[1].Row, newer) {
		t.Fatalf("ListRows: %+v", p)
	}
	x.wantStats(t, c, peer.ListingStats{Count: 2, Bytes: 25})

	gone := x.row("n", 0)
	gone.Deleted, gone.Bytes, gone.Value = true, 0, nil
	x.putRows(t, c, gone)
	x.putRows(t, c, newer)
	if got := names(x.list(t, c, peer.RowQuery{Limit: 10})); !slices.Equal(got, []string{"m"}) {
		t.Fatalf("a tombstone does not hide: %v", got)
	}
	x.wantStats(t, c, peer.ListingStats{Count: 1, Bytes: 5})
	st, err := x.node.GetRows(x.ctx(t), c.target, peer.Containers, c.listing, []string{"n", "absent", "m"})
	if err != nil || len(st) != 3 {
		t.Fatalf("GetRows: %+v, %v", st, err)
	}
	if !st[0].Found || !st[0].Row.Deleted || st[0].Row.Ballot != gone.Ballot || st[1].Found || !st[2].Found || st[2].Row.Bytes != 5 {
		t.Fatalf("GetRows: %+v", st)
	}
	if st, err := x.node.GetRows(x.ctx(t), c.target, peer.Containers, c.listing, nil); err != nil || len(st) != 0 {
		t.Fatalf("GetRows of nothing: %+v, %v", st, err)
	}
	x.putRows(t, c)
}

func (x *suite) wantStats(t *testing.T, c *container, want peer.ListingStats) {
	t.Helper()
	got, err := x.node.ListingStats(x.ctx(t), c.target, peer.Containers, c.listing)
	if err != nil || got != want {
		t.Fatalf("ListingStats: %+v, %v, want %+v", got, err, want)
	}
}

func (x *suite) pages(t *testing.T) {
	c := x.container(t)
	var all []string
	var rows []catalog.Row
	for i := range 250 {
		n := fmt.Sprintf("k%03d", i)
		all = append(all, n)
		rows = append(rows, x.row(n, 1))
	}
	for _, n := range []string{"l", "l/\x01", "ä", "\U0001F600", strings.Repeat("z", 1024)} {
		all = append(all, n)
		rows = append(rows, x.row(n, 1))
	}
	slices.Sort(all)
	x.rand.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	x.putRows(t, c, rows...)
	for _, reverse := range []bool{false, true} {
		want := slices.Clone(all)
		if reverse {
			slices.Reverse(want)
		}
		var got []string
		marker := ""
		for range len(all) {
			p := x.list(t, c, peer.RowQuery{Limit: 7, Marker: marker, Reverse: reverse})
			got = append(got, names(p)...)
			if len(p.Entries) > 7 {
				t.Fatalf("%d entries, 7 were asked for", len(p.Entries))
			}
			if !p.More || len(p.Entries) == 0 {
				break
			}
			marker = p.Entries[len(p.Entries)-1].Name
		}
		if !slices.Equal(got, want) {
			t.Fatalf("reverse %v: got %v", reverse, got)
		}
	}
	for _, q := range []struct {
		peer.RowQuery
		want []string
	}{
		{peer.RowQuery{Prefix: "k01", Limit: 3}, []string{"k010", "k011", "k012"}},
		{peer.RowQuery{Prefix: "nothing", Limit: 3}, []string{}},
		{peer.RowQuery{Marker: "k247", Limit: 2}, []string{"k248", "k249"}},
		{peer.RowQuery{Marker: "k247", Inclusive: true, Limit: 2}, []string{"k247", "k248"}},
		{peer.RowQuery{Marker: "k2475", Inclusive: true, Limit: 1}, []string{"k248"}},
		{peer.RowQuery{Marker: "k001", EndMarker: "k004", Limit: 10}, []string{"k002", "k003"}},
		{peer.RowQuery{Marker: "k004", EndMarker: "k001", Reverse: true, Limit: 10}, []string{"k003", "k002"}},
		{peer.RowQuery{Marker: "k004", Inclusive: true, Reverse: true, Limit: 2}, []string{"k004", "k003"}},
		{peer.RowQuery{Marker: "k004", EndMarker: "k004", Limit: 10}, []string{}},
	} {
		if got := names(x.list(t, c, q.RowQuery)); !slices.Equal(got, q.want) {
			t.Errorf("%+v: got %v, want %v", q.RowQuery, got, q.want)
		}
	}
}

func (x *suite) commonPrefixes(t *testing.T) {
	c := x.container(t)
	for _, n := range []string{"a", "d/1", "d/2", "d/e/3", "d0", "e//1", "gone/1"} {
		x.putRows(t, c, x.row(n, 1))
	}
	gone := x.row("gone/1", 0)
	gone.Deleted, gone.Value = true, nil
	x.putRows(t, c, gone)
	for _, q := range []struct {
		peer.RowQuery
		want []string
	}{
		{peer.RowQuery{Delimiter: "/", Limit: 10}, []string{"a", "d/*", "d0", "e/*"}},
		{peer.RowQuery{Delimiter: "/", Limit: 2}, []string{"a", "d/*"}},
		{peer.RowQuery{Delimiter: "/", Prefix: "d/", Limit: 10}, []string{"d/1", "d/2", "d/e/*"}},
		{peer.RowQuery{Delimiter: "/", Prefix: "e/", Limit: 10}, []string{"e//*"}},
		{peer.RowQuery{Delimiter: "//", Limit: 10}, []string{"a", "d/1", "d/2", "d/e/3", "d0", "e//*"}},
		{peer.RowQuery{Delimiter: "/", Limit: 10, Reverse: true}, []string{"e/*", "d0", "d/*", "a"}},
	} {
		p := x.list(t, c, q.RowQuery)
		if got := names(p); !slices.Equal(got, q.want) {
			t.Errorf("%+v: got %v, want %v", q.RowQuery, got, q.want)
		}
		for _, e := range p.Entries {
			if e.Deleted || !strings.HasPrefix(e.Name, e.CommonPrefix) {
				t.Errorf("%q is proved by the row %q", e.CommonPrefix, e.Name)
			}
		}
	}
	if p := x.list(t, c, peer.RowQuery{Delimiter: "/", Limit: 2}); !p.More {
		t.Error("a page that was cut says that nothing follows")
	}
}

// markerIsCommonPrefix: a marker that is itself a common prefix of the query stands
// for all names under it; any other is a bound only. So the last entry of a page,
// whatever it is, begins the next.
func (x *suite) markerIsCommonPrefix(t *testing.T) {
	c := x.container(t)
	for _, n := range []string{"a", "d/", "d/1", "d/2", "d/e/3", "d0", "e//1", "f/1", "g"} {
		x.putRows(t, c, x.row(n, 1))
	}
	for _, q := range []struct {
		peer.RowQuery
		want []string
	}{
		{peer.RowQuery{Delimiter: "/", Marker: "d/"}, []string{"d0", "e/*", "f/*", "g"}},
		{peer.RowQuery{Delimiter: "/", Marker: "d/", Inclusive: true}, []string{"d/*", "d0", "e/*", "f/*", "g"}},
		{peer.RowQuery{Delimiter: "/", Marker: "d/1"}, []string{"d/*", "d0", "e/*", "f/*", "g"}},
		{peer.RowQuery{Delimiter: "/", Marker: "d/e/"}, []string{"d/*", "d0", "e/*", "f/*", "g"}}, // a common prefix of another query
		{peer.RowQuery{Delimiter: "/", Marker: "d/e/3"}, []string{"d0", "e/*", "f/*", "g"}},
		{peer.RowQuery{Delimiter: "/", Marker: "e/", EndMarker: "g"}, []string{"f/*"}},
		{peer.RowQuery{Delimiter: "/", Marker: "f"}, []string{"f/*", "g"}},
		{peer.RowQuery{Delimiter: "/", Prefix: "d/", Marker: "d/"}, []string{"d/1", "d/2", "d/e/*"}}, // the prefix itself is none
		{peer.RowQuery{Delimiter: "/", Prefix: "d/", Marker: "d/e/"}, []string{}},
		{peer.RowQuery{Delimiter: "//", Marker: "d/"}, []string{"d/1", "d/2", "d/e/3", "d0", "e//*", "f/1", "g"}},
		{peer.RowQuery{Delimiter: "//", Marker: "e//"}, []string{"f/1", "g"}},
		{peer.RowQuery{Marker: "d/"}, []string{"d/1", "d/2", "d/e/3", "d0", "e//1", "f/1", "g"}},
		{peer.RowQuery{Delimiter: "/", Marker: "d/", Reverse: true}, []string{"a"}},
		{peer.RowQuery{Delimiter: "/", Marker: "d/1", Reverse: true}, []string{"d/*", "a"}},
		{peer.RowQuery{Delimiter: "/", Marker: "d/", Reverse: true, Inclusive: true}, []string{"d/*", "a"}},
	} {
		q.Limit = 10
		if got := names(x.list(t, c, q.RowQuery)); !slices.Equal(got, q.want) {
			t.Errorf("%+v: got %v, want %v", q.RowQuery, got, q.want)
		}
	}
	for _, reverse := range []bool{false, true} {
		want := []string{"a", "d/*", "d0", "e/*", "f/*", "g"}
		if reverse {
			slices.Reverse(want)
		}
		for limit := 1; limit <= len(want); limit++ {
			got, q := []string{}, peer.RowQuery{Delimiter: "/", Limit: limit, Reverse: reverse}
			for range len(want) + 1 {
				p := x.list(t, c, q)
				page := names(p)
				if got = append(got, page...); !p.More {
					break
				}
				q.Marker = strings.TrimSuffix(page[len(page)-1], "*")
			}
			if !slices.Equal(got, want) {
				t.Errorf("pages of %d, reverse %v: got %v, want %v", limit, reverse, got, want)
			}
		}
	}
}

// manyLongRows: rows that are too long for one answer are told of in several, by
// whichever call they are asked for.
func (x *suite) manyLongRows(t *testing.T) {
	c := x.container(t)
	var all []string
	for range 24 {
		var rows []catalog.Row
		for range 10 {
			r := x.row(fmt.Sprintf("k%03d", len(all)), 1)
			r.Value = bytes.Repeat([]byte{byte(len(all))}, 60000)
			rows, all = append(rows, r), append(all, r.Name)
		}
		x.putRows(t, c, rows...)
	}
	var listed, known []string
	for marker := ""; ; marker = listed[len(listed)-1] {
		p := x.list(t, c, peer.RowQuery{Limit: 1000, Marker: marker})
		if listed = append(listed, names(p)...); !p.More || len(p.Entries) == 0 {
			break
		}
	}
	for len(known) < len(all) {
		ask := all[len(known):]
		st, err := x.node.GetRows(x.ctx(t), c.target, peer.Containers, c.listing, ask)
		if err != nil || len(st) == 0 || len(st) > len(ask) {
			t.Fatalf("GetRows of %d names: %d states, %v", len(ask), len(st), err)
		}
		for i := range st {
			n := len(known)
			if !st[i].Found || st[i].Row.Name != ask[i] || !bytes.Equal(st[i].Row.Value, bytes.Repeat([]byte{byte(n)}, 60000)) {
				t.Fatalf("GetRows: %q is told of as %q, found %v", ask[i], st[i].Row.Name, st[i].Found)
			}
			known = append(known, ask[i])
		}
	}
	if !slices.Equal(listed, all) {
		t.Errorf("listed are %v", listed)
	}
}

// accountRows: an account's listing has no incarnation and needs no register.
func (x *suite) accountRows(t *testing.T) {
	k := x.key()
	target := x.Target(peer.Accounts, k)
	l := peer.Listing{Key: k, Table: catalog.Containers}
	v := catalog.ContainerRow{Incarnation: catalog.Incarnation{9}, Created: 5, Policy: "p"}
	ts := x.clock.Now()
	r := catalog.Row{Name: "bucket", Ballot: ts, TS: x.clock.Now(), Value: catalogtest.Bytes(&v)}
	if err := x.node.PutRows(x.ctx(t), target, peer.Accounts, l, []catalog.Row{r}); err != nil {
		t.Fatal(err)
	}
	p, err := x.node.ListRows(x.ctx(t), target, peer.Accounts, &peer.RowQuery{Listing: l, Limit: 10})
	if err != nil || len(p.Entries) != 1 || !reflect.DeepEqual(p.Entries[0].Row, r) {
		t.Fatalf("ListRows: %+v, %v", p, err)
	}
}
