package merge

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/listing/listingtest"
	"ringfort/internal/peer"
	"ringfort/internal/timestamp"
)

var seeds = flag.Int("merge.seeds", 1500, "how many random clusters to try")

func at(n int) timestamp.T { return timestamp.T{Micros: uint64(n)} }

func row(name string, ballot int) catalog.Row {
	return catalog.Row{Name: name, Ballot: at(ballot), TS: at(ballot), Value: fmt.Append(nil, name, ballot)}
}

func gone(name string, ballot int) catalog.Row {
	r := row(name, ballot)
	r.Deleted = true
	return r
}

func device(rows ...catalog.Row) *listingtest.Model {
	m := new(listingtest.Model)
	m.Put(rows...)
	return m
}

// TestReplicasMissUpdates: every update reaches at least W of r replicas, each
// replica misses some; what any R of them merge to is what a listing that missed
// nothing shows.
func TestReplicasMissUpdates(t *testing.T) {
	base := uint64(os.Getpid()) << 24
	for i := range *seeds {
		seed := base + uint64(i)
		if err := missed(seed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func missed(seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 2))
	n := 1 + r.IntN(5)
	w := n/2 + 1
	replicas := make([]*listingtest.Model, n)
	for i := range replicas {
		replicas[i] = device()
	}
	truth := device()
	var pool []string
	for range 1 + r.IntN(60) {
		pool = append(pool, listingtest.Name(r, 5))
	}
	// What share of the replicas that need not have an update miss it.
	missing := r.Float64()
	for i := range r.IntN(200) {
		x := listingtest.Row(r, pool[r.IntN(len(pool))], 3)
		x.Ballot = at(i + 1)
		if r.IntN(4) == 0 {
			x.Deleted = true
		}
		truth.Put(x)
		for j, d := range r.Perm(n) {
			if j < w || r.Float64() > missing {
				replicas[d].Put(x)
			}
		}
	}
	for range 20 {
		var devices []Device
		for _, d := range r.Perm(n)[:n-w+1] {
			devices = append(devices, &terse{replicas[d], 1 + d})
		}
		q := listingtest.Query(r, peer.Listing{Table: catalog.Objects})
		if err := compare(q, devices, truth); err != nil {
			return err
		}
	}
	return nil
}

// compare compares a merged page, and all pages after it, with the truth.
func compare(q *peer.RowQuery, devices []Device, truth *listingtest.Model) error {
	ctx := context.Background()
	for range 1000 {
		got, err := List(ctx, q, devices)
		want, _ := truth.ListRows(ctx, q)
		if err != nil {
			return fmt.Errorf("%+v: %w", q, err)
		}
		if got.More && !want.More && len(got.Entries) == q.Limit {
			got.More = false // allowed: what follows is deleted
		}
		if diff := listingtest.Same(got, want, false); diff != "" {
			return fmt.Errorf("%+v: %s", q, diff)
		}
		for _, e := range got.Entries {
			// The row that proves a prefix is one that lives.
			s, _ := truth.GetRows(ctx, &q.Listing, []string{e.Name})
			if !s[0].Found || s[0].Row.Deleted || s[0].Row.Ballot != e.Ballot {
				return fmt.Errorf("%+v: %q is shown by a row that does not live", q, e.Name)
			}
		}
		if !want.More {
			return nil
		}
		q.Marker, q.Inclusive = place(&got.Entries[len(got.Entries)-1]), false
	}
	return errors.New("the listing does not end")
}

// terse tells of a few names at a time, as a device does whose rows are long.
type terse struct {
	Device
	atATime int
}

func (d *terse) GetRows(ctx context.Context, l *peer.Listing, names []string) ([]peer.RowState, error) {
	return d.Device.GetRows(ctx, l, names[:min(d.atATime, len(names))])
}

// wordy is asked with as much as a message holds, and no more; it knows nothing.
type wordy struct {
	t     *testing.T
	names int
}

func (d *wordy) ListRows(context.Context, *peer.RowQuery) (*peer.RowPage, error) {
	return &peer.RowPage{}, nil
}

func (d *wordy) GetRows(_ context.Context, _ *peer.Listing, names []string) ([]peer.RowState, error) {
	total := 0
	for _, n := range names {
		total += len(n)
	}
	if total > maxAskBytes || len(names) > peer.MaxPage {
		d.t.Errorf("asked about %d names of %d bytes at once", len(names), total)
	}
	d.names += len(names)
	return make([]peer.RowState, len(names)), nil
}

// TestLongNamesAreAskedInParts: questions about a page of the longest names go into
// messages.
func TestLongNamesAreAskedInParts(t *testing.T) {
	full := device()
	const n = 4000
	for i := range n {
		full.Put(row(fmt.Sprintf("%06d", i)+strings.Repeat("n", 1000), 1))
	}
	w := &wordy{t: t}
	p, err := List(context.Background(), &peer.RowQuery{Limit: peer.MaxPage}, []Device{full, w})
	if err != nil || len(p.Entries) != n || w.names != n {
		t.Errorf("%d entries, %d names asked about, %v", len(p.Entries), w.names, err)
	}
	for _, bad := range []int{0, 2} {
		_, err := ask(context.Background(), answering(bad), &peer.Listing{}, []string{"a"})
		if !errs.Is(err, errs.Corrupt) {
			t.Errorf("%d answers to one question: %v", bad, err)
		}
	}
}

// answering gives so many answers to any question.
type answering int

func (n answering) ListRows(context.Context, *peer.RowQuery) (*peer.RowPage, error) { return nil, nil }

func (n answering) GetRows(context.Context, *peer.Listing, []string) ([]peer.RowState, error) {
	return make([]peer.RowState, n), nil
}

func TestQuestionsAreFew(t *testing.T) {
	var same []catalog.Row
	for i := range 100 {
		same = append(same, row(fmt.Sprintf("d%02d/x", i/2)+fmt.Sprint(i), i+1))
	}
	a, b := device(same...), device(same...)
	b.Put(row("d07/y", 500), gone("d20/x40", 501), row("e", 502))
	b.Put(gone("d30/x60", 503), gone("d30/x61", 504))
	for _, c := range []struct {
		q    peer.RowQuery
		want string
	}{
		// A tombstone is asked for on the device that does not report the name.
		{peer.RowQuery{Limit: 1000}, `0: "d07/y" "e"; 1: "d20/x40" "d30/x60" "d30/x61"`},
		// The first rows under a prefix agree but for two.
		{peer.RowQuery{Limit: 1000, Delimiter: "/"}, `0: "d20/x41" "e"; 1: "d20/x40" "d30/x60"`},
		{peer.RowQuery{Limit: 1000, Prefix: "d1"}, ``},
		// What only one of the pages reaches is not asked about.
		{peer.RowQuery{Limit: 17}, `0: "d07/y"`},
	} {
		pa, _ := a.ListRows(context.Background(), &c.q)
		pb, _ := b.ListRows(context.Background(), &c.q)
		r, err := New(&c.q, []*peer.RowPage{pa, pb})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, q := range r.Questions() {
			got = append(got, fmt.Sprintf("%d: %s", q.Device, strings.Trim(fmt.Sprintf("%q", q.Names), "[]")))
		}
		if s := strings.Join(got, "; "); s != c.want {
			t.Errorf("%+v: %s, want %s", c.q, s, c.want)
		}
	}
}

// TestDeadPrefixes: a device that missed the deletion of everything under many
// prefixes shows none of them, and does not cost a call for each name.
func TestDeadPrefixes(t *testing.T) {
	stale, fresh, truth := device(), device(), device()
	for i := range 60 {
		for j := range 200 {
			r := row(fmt.Sprintf("%03d/%03d", i, j), 1)
			stale.Put(r)
			fresh.Put(gone(r.Name, 2))
		}
	}
	live := row("030/199", 3)
	fresh.Put(live)
	truth.Put(live)
	a, b := &counted{Device: stale}, &counted{Device: fresh}
	if err := compare(&peer.RowQuery{Delimiter: "/", Limit: 10}, []Device{a, b}, truth); err != nil {
		t.Error(err)
	}
	// 60 prefixes, each refuted by its names in three pages.
	if n := a.calls.Load(); n > 60*4+40 {
		t.Errorf("%d calls", n)
	}
	a.calls.Store(0)
	if err := compare(&peer.RowQuery{Limit: 10}, []Device{a, b}, truth); err != nil {
		t.Error(err)
	}
	if n := a.calls.Load(); n > 40 {
		t.Errorf("%d calls without a delimiter", n)
	}
}

type counted struct {
	Device
	calls atomic.Int64
}

func (c *counted) ListRows(ctx context.Context, q *peer.RowQuery) (*peer.RowPage, error) {
	c.calls.Add(1)
	return c.Device.ListRows(ctx, q)
}

type fixed struct {
	page   *peer.RowPage
	states []peer.RowState
	err    error
}

func (f *fixed) ListRows(context.Context, *peer.RowQuery) (*peer.RowPage, error) {
	return f.page, f.err
}
func (f *fixed) GetRows(context.Context, *peer.Listing, []string) ([]peer.RowState, error) {
	return f.states, f.err
}

// TestStrangeAnswers: devices that answer nonsense are found out.
func TestStrangeAnswers(t *testing.T) {
	e := func(name, prefix string) peer.Entry { return peer.Entry{Row: row(name, 1), CommonPrefix: prefix} }
	page := func(more bool, e ...peer.Entry) *peer.RowPage { return &peer.RowPage{Entries: e, More: more} }
	none := page(false)
	for name, c := range map[string]struct {
		devices []Device
		kind    errs.Kind
	}{
		"empty, and more":        {[]Device{&fixed{page: page(true)}}, errs.Corrupt},
		"out of order":           {[]Device{&fixed{page: page(false, e("b", ""), e("a", ""))}, &fixed{page: none}}, errs.Corrupt},
		"name and prefix":        {[]Device{&fixed{page: page(false, e("a/", ""))}, &fixed{page: page(false, e("a/b", "a/"))}}, errs.Corrupt},
		"too few answers":        {[]Device{&fixed{page: page(false, e("a", ""))}, &fixed{page: none}}, errs.Corrupt},
		"an answer to another":   {[]Device{&fixed{page: page(false, e("a", ""))}, &fixed{page: none, states: []peer.RowState{{Found: true, Row: row("b", 9)}}}}, errs.Corrupt},
		"the same page for ever": {[]Device{&fixed{page: page(true, e("a", ""))}}, errs.Corrupt},
		"an error":               {[]Device{&fixed{page: none}, &fixed{err: errs.New("x", errs.Unavailable, "down")}}, errs.Unavailable},
		"nobody":                 {nil, errs.Invalid},
	} {
		_, err := List(context.Background(), &peer.RowQuery{Limit: 10}, c.devices)
		if !errs.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIdenticalPagesCostNothing(t *testing.T) {
	p := benchmarkPage(1000, 0)
	q := &peer.RowQuery{Limit: 1000}
	copied := &peer.RowPage{Entries: slices.Clone(p.Entries), More: true}
	n := testing.AllocsPerRun(10, func() {
		r, err := New(q, []*peer.RowPage{p, copied})
		if err != nil || len(r.Questions())+len(r.Unproven()) != 0 || len(r.Page().Entries) != 1000 {
			t.Fatal(err)
		}
	})
	if n > 4 {
		t.Errorf("%v allocations for a page", n)
	}
}

func benchmarkPage(n, skip int) *peer.RowPage {
	p := &peer.RowPage{More: true}
	for i := range n {
		if skip == 0 || i%skip != 1 {
			p.Entries = append(p.Entries, peer.Entry{Row: row(fmt.Sprintf("photos/2024/%08d.jpg", i), i+1)})
		}
	}
	return p
}

// BenchmarkMerge merges two pages of 1,000 rows: equal ones, and ones of which
// every fiftieth row differs.
func BenchmarkMerge(b *testing.B) {
	for _, skip := range []int{0, 50} {
		b.Run(fmt.Sprintf("differ=%d", skip), func(b *testing.B) {
			x, y := benchmarkPage(1000, 0), benchmarkPage(1000, skip)
			q := &peer.RowQuery{Limit: 1000}
			b.ReportAllocs()
			for b.Loop() {
				r, err := New(q, []*peer.RowPage{x, y})
				if err != nil {
					b.Fatal(err)
				}
				for _, question := range r.Questions() {
					if err := r.Answer(question, make([]peer.RowState, len(question.Names))); err != nil {
						b.Fatal(err)
					}
				}
				r.Unproven()
				r.Page()
			}
			b.ReportMetric(1000*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
