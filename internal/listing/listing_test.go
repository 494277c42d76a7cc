package listing

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	pvfs "github.com/cockroachdb/pebble/v2/vfs"

	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/listing/listingtest"
	"ringfort/internal/peer"
	"ringfort/internal/timestamp"
	"ringfort/internal/vfs"
	"ringfort/internal/volume"
)

var seeds = flag.Int("listing.seeds", 20, "how many random histories to try")

var testSpaces = Spaces{Current: 18, Versions: 19, Tombstones: 20, Counters: 21}

func openVolume(t testing.TB, fs vfs.FS, dir string) *volume.Volume {
	t.Helper()
	v, err := volume.Open(context.Background(), volume.Config{
		Dir: dir, FS: fs,
		Spaces: []volume.Space{{ID: 18, Name: "rows"}, {ID: 19, Name: "versions"}, {ID: 20, Name: "tombstones"}, {ID: 21, Name: "counters"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// newStore returns a store in memory.
func newStore(t testing.TB) *Store {
	v := openVolume(t, pvfs.NewMem(), "/vol")
	s := NewStore(v, testSpaces)
	t.Cleanup(func() {
		if err := s.Check(context.Background()); err != nil {
			t.Error(err)
		}
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func testListing(n uint64, table catalog.Table) peer.Listing {
	l := peer.Listing{Table: table, Incarnation: catalog.Incarnation{byte(n), 0xff}}
	binary.BigEndian.PutUint64(l.Key[:], n)
	for i := range l.Key[8:] {
		l.Key[8+i] = 0xff // so that the end of a prefix must carry
	}
	return l
}

func at(n int) timestamp.T { return timestamp.T{Micros: uint64(n)} }

func row(name string, ballot int, bytes int64) catalog.Row {
	return catalog.Row{Name: name, Ballot: at(ballot), TS: at(ballot), Bytes: bytes, Value: []byte(name)}
}

func gone(name string, ballot int) catalog.Row {
	return catalog.Row{Name: name, Ballot: at(ballot), TS: at(ballot), Deleted: true}
}

func put(t testing.TB, s *Store, l peer.Listing, rows ...catalog.Row) {
	t.Helper()
	if err := s.Put(context.Background(), &l, rows); err != nil {
		t.Fatal(err)
	}
}

// names lists what a query shows, common prefixes in brackets.
func names(t testing.TB, s *Store, q peer.RowQuery) (out []string) {
	t.Helper()
	if q.Limit == 0 {
		q.Limit = 1000
	}
	p, err := s.List(context.Background(), &q)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range p.Entries {
		if e.CommonPrefix != "" {
			out = append(out, "["+e.CommonPrefix+"]")
		} else {
			out = append(out, e.Name)
		}
	}
	if p.More {
		out = append(out, "...")
	}
	return out
}

func TestNewestWins(t *testing.T) {
	s := newStore(t)
	l := testListing(1, catalog.Objects)
	for i, c := range []struct {
		row   catalog.Row
		stats peer.ListingStats
		tombs int64
		state catalog.Row
	}{
		{row("a", 5, 10), peer.ListingStats{Count: 1, Bytes: 10}, 0, row("a", 5, 10)},
		{row("a", 5, 10), peer.ListingStats{Count: 1, Bytes: 10}, 0, row("a", 5, 10)},
		{row("a", 4, 99), peer.ListingStats{Count: 1, Bytes: 10}, 0, row("a", 5, 10)},
		{row("a", 6, 3), peer.ListingStats{Count: 1, Bytes: 3}, 0, row("a", 6, 3)},
		{gone("a", 5), peer.ListingStats{Count: 1, Bytes: 3}, 0, row("a", 6, 3)},
		{gone("a", 7), peer.ListingStats{}, 1, gone("a", 7)},
		{row("a", 6, 3), peer.ListingStats{}, 1, gone("a", 7)},
		{gone("a", 9), peer.ListingStats{}, 1, gone("a", 9)},
		{row("a", 10, 1), peer.ListingStats{Count: 1, Bytes: 1}, 0, row("a", 10, 1)},
	} {
		put(t, s, l, c.row)
		stats, err := s.Stats(&l)
		if err != nil || stats != c.stats {
			t.Fatalf("step %d: %+v, %v; want %+v", i, stats, err, c.stats)
		}
		if n, _ := s.counters(&l); n.tombstones != c.tombs {
			t.Fatalf("step %d: %d tombstones, want %d", i, n.tombstones, c.tombs)
		}
		got, err := s.Get(context.Background(), &l, []string{"a", "b"})
		if err != nil || !got[0].Found || got[0].Row.Ballot != c.state.Ballot || got[0].Row.Deleted != c.state.Deleted || got[1].Found {
			t.Fatalf("step %d: %+v, %v", i, got, err)
		}
	}
}

func TestOnePutOfManyRows(t *testing.T) {
	s := newStore(t)
	l := testListing(1, catalog.Objects)
	put(t, s, l, row("b", 1, 1), row("a", 3, 7), row("a", 2, 5), gone("c", 1), row("a", 1, 3))
	stats, err := s.Stats(&l)
	if err != nil || stats != (peer.ListingStats{Count: 2, Bytes: 8}) {
		t.Errorf("%+v, %v", stats, err)
	}
	if got := fmt.Sprint(names(t, s, peer.RowQuery{Listing: l})); got != "[a b]" {
		t.Error(got)
	}
	if empty, err := s.IsEmpty(context.Background(), &l); empty || err != nil {
		t.Error(empty, err)
	}
	put(t, s, l, gone("a", 9), gone("b", 9))
	if empty, err := s.IsEmpty(context.Background(), &l); !empty || err != nil {
		t.Error(empty, err)
	}
}

func TestTheRuleOfTheMarker(t *testing.T) {
	s := newStore(t)
	l := testListing(1, catalog.Objects)
	for i, n := range []string{"a", "b", "b/", "b/1", "b/2", "b0", "c/x/1", "c/x/2", "d"} {
		put(t, s, l, row(n, i+1, 1))
	}
	for _, c := range []struct {
		q    peer.RowQuery
		want string
	}{
		{peer.RowQuery{Delimiter: "/"}, "[a b [b/] b0 [c/] d]"},
		{peer.RowQuery{Delimiter: "/", Limit: 3}, "[a b [b/] ...]"},
		{peer.RowQuery{Delimiter: "/", Marker: "b/"}, "[b0 [c/] d]"},
		{peer.RowQuery{Delimiter: "/", Marker: "b/", Inclusive: true}, "[[b/] b0 [c/] d]"},
		{peer.RowQuery{Delimiter: "/", Marker: "b/1"}, "[[b/] b0 [c/] d]"},
		{peer.RowQuery{Delimiter: "/", Marker: "b/2"}, "[b0 [c/] d]"},
		{peer.RowQuery{Delimiter: "/", Marker: "c/x/"}, "[[c/] d]"}, // not a common prefix here
		{peer.RowQuery{Delimiter: "/", Marker: "b/", Reverse: true}, "[b a]"},
		{peer.RowQuery{Delimiter: "/", Marker: "b/1", Reverse: true}, "[[b/] b a]"},
		{peer.RowQuery{Delimiter: "/", Marker: "d", Reverse: true, Limit: 2}, "[[c/] b0 ...]"},
		{peer.RowQuery{Delimiter: "/", EndMarker: "b/1"}, "[a b [b/]]"},
		{peer.RowQuery{Delimiter: "/", EndMarker: "b/"}, "[a b]"},
		{peer.RowQuery{Delimiter: "/", Prefix: "b/"}, "[b/ b/1 b/2]"},
		{peer.RowQuery{Delimiter: "/", Prefix: "b/", Marker: "b/"}, "[b/1 b/2]"},
		{peer.RowQuery{Delimiter: "/", Prefix: "c/"}, "[[c/x/]]"},
		{peer.RowQuery{Delimiter: "/", Prefix: "c/", Marker: "c/x/"}, "[]"},
		{peer.RowQuery{Delimiter: "/x", Prefix: ""}, "[a b b/ b/1 b/2 b0 [c/x] d]"},
		{peer.RowQuery{Delimiter: "/x", Reverse: true, Limit: 2}, "[d [c/x] ...]"},
		{peer.RowQuery{Marker: "b", EndMarker: "b/2"}, "[b/ b/1]"},
		{peer.RowQuery{Marker: "b/2", EndMarker: "b", Reverse: true, Inclusive: true}, "[b/2 b/1 b/]"},
		{peer.RowQuery{Marker: "z"}, "[]"},
		{peer.RowQuery{Marker: "b", EndMarker: "a"}, "[]"},
	} {
		c.q.Listing = l
		if got := fmt.Sprint(names(t, s, c.q)); got != c.want {
			t.Errorf("%+v: %s, want %s", c.q, got, c.want)
		}
	}
}

func TestModel(t *testing.T) {
	base := uint64(os.Getpid()) << 20
	for i := range *seeds {
		seed := base + uint64(i)
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) { model(t, seed) }) {
			t.Fatalf("seed %d", seed)
		}
	}
}

// model makes random changes to a few listings, each with a model, and compares.
func model(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	s := newStore(t)
	ctx := context.Background()
	listings := []peer.Listing{
		testListing(1, catalog.Objects), testListing(1, catalog.Versions), testListing(1, catalog.Parts),
		testListing(2, catalog.Objects), testListing(1<<64-1, catalog.Versions),
	}
	models := make([]listingtest.Model, len(listings))
	var pool []string
	for range 40 {
		pool = append(pool, listingtest.Name(r, 5))
	}
	for range 60 {
		i := r.IntN(len(listings))
		l, m := listings[i], &models[i]
		var rows []catalog.Row
		for range 1 + r.IntN(6) {
			rows = append(rows, listingtest.Row(r, pool[r.IntN(len(pool))], 40))
		}
		put(t, s, l, rows...)
		m.Put(rows...)
		if r.IntN(50) == 0 {
			if err := s.DropIncarnation(ctx, l.Key, l.Incarnation); err != nil {
				t.Fatal(err)
			}
			for j := range listings {
				if listings[j].Key == l.Key {
					models[j] = listingtest.Model{}
				}
			}
		}
		for range 15 {
			i := r.IntN(len(listings))
			q := listingtest.Query(r, listings[i])
			if !namesOnly(q.Table) {
				q.Delimiter = ""
			}
			got, err := s.List(ctx, q)
			want, _ := models[i].ListRows(ctx, q)
			if err != nil {
				t.Fatalf("%+v: %v", q, err)
			}
			if diff := listingtest.Same(got, want, true); diff != "" {
				t.Fatalf("%+v: %s", q, diff)
			}
		}
		if stats, err := s.Stats(&l); err != nil || stats != m.Stats() {
			t.Fatalf("stats: %+v, %v; want %+v", stats, err, m.Stats())
		}
		got, err := s.Get(ctx, &l, pool)
		want, _ := m.GetRows(ctx, &l, pool)
		for j := range got {
			if err != nil || got[j].Found != want[j].Found || got[j].Row.Ballot != want[j].Row.Ballot || got[j].Row.Deleted != want[j].Row.Deleted {
				t.Fatalf("%q: %+v, %v; want %+v", pool[j], got[j], err, want[j])
			}
		}
	}
}

// TestConcurrentWriters has many writers store rows of the same few names in any
// order. Whatever the order, the newest of each name stands and the counters agree.
func TestConcurrentWriters(t *testing.T) {
	s := newStore(t)
	l := testListing(3, catalog.Objects)
	var (
		all []catalog.Row
		m   listingtest.Model
		r   = rand.New(rand.NewPCG(1, 1))
	)
	for i := range 2000 {
		x := listingtest.Row(r, fmt.Sprintf("n%d", r.IntN(12)), 1<<30)
		x.Ballot.Seq = uint32(i)
		all = append(all, x)
	}
	m.Put(all...)
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := w * 125; i < (w+1)*125; i += 5 {
				if err := s.Put(context.Background(), &l, all[i:i+5]); err != nil {
					t.Error(err)
				}
				// A name that was stored once must never be seen as unknown.
				got, err := s.Get(context.Background(), &l, []string{all[i].Name})
				if err != nil || !got[0].Found || got[0].Row.Ballot.Less(all[i].Ballot) {
					t.Errorf("%+v, %v, after %v was stored", got, err, all[i].Ballot)
				}
			}
		})
	}
	wg.Wait()
	if stats, err := s.Stats(&l); err != nil || stats != m.Stats() {
		t.Errorf("%+v, %v; want %+v", stats, err, m.Stats())
	}
	q := &peer.RowQuery{Listing: l, Limit: 100}
	got, err := s.List(context.Background(), q)
	want, _ := m.ListRows(context.Background(), q)
	if err != nil || listingtest.Same(got, want, true) != "" {
		t.Error(err, listingtest.Same(got, want, true))
	}
	for i := range s.locks.shards {
		if n := len(s.locks.shards[i].held); n != 0 {
			t.Errorf("%d locks are left over", n)
		}
	}
}

// TestPowerCut cuts the power while many write. What was acknowledged is there
// afterwards, and counters agree with rows whatever else is.
func TestPowerCut(t *testing.T) {
	for i := range *seeds {
		seed := uint64(os.Getpid())<<20 + uint64(i)
		fs := pvfs.NewCrashableMem()
		s := NewStore(openVolume(t, fs, "/vol"), testSpaces)
		l := testListing(4, catalog.Objects)
		var (
			mu    sync.Mutex
			acked listingtest.Model
			wg    sync.WaitGroup
			after *pvfs.MemFS
			n     int
		)
		for w := range 8 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(w)))
				for range 25 {
					rows := []catalog.Row{
						listingtest.Row(r, listingtest.Name(r, 2), 1<<20),
						listingtest.Row(r, listingtest.Name(r, 2), 1<<20),
					}
					if err := s.Put(context.Background(), &l, rows); err != nil {
						t.Error(err)
					}
					mu.Lock()
					if n++; n == 100 {
						after = fs.CrashClone(pvfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(seed, 99))})
					}
					if after == nil {
						acked.Put(rows...)
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if err := s.v.Close(); err != nil {
			t.Fatal(err)
		}
		s = NewStore(openVolume(t, after, "/vol"), testSpaces)
		if err := s.Check(context.Background()); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for name, want := range acked.All() {
			got, err := s.Get(context.Background(), &l, []string{name})
			if err != nil || !got[0].Found || got[0].Row.Ballot.Less(want.Ballot) {
				t.Fatalf("seed %d: %q: %+v, %v, want %+v or newer", seed, name, got, err, want)
			}
		}
		if err := s.v.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKnownIsNeverUnknown: while a name moves between rows and tombstones, nobody
// sees it in neither.
func TestKnownIsNeverUnknown(t *testing.T) {
	s := newStore(t)
	l := testListing(6, catalog.Objects)
	put(t, s, l, row("a", 1, 1))
	var done atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for !done.Load() {
				got, err := s.Get(context.Background(), &l, []string{"a"})
				if err != nil || !got[0].Found {
					t.Errorf("%+v, %v", got, err)
					return
				}
			}
		})
	}
	for i := 2; i < 1000; i += 2 {
		put(t, s, l, gone("a", i))
		put(t, s, l, row("a", i+1, 1))
	}
	done.Store(true)
	wg.Wait()
}

func TestRefusals(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	l := testListing(1, catalog.Objects)
	late := timestamp.T{Micros: timestamp.MaxMicros + 1}
	bad := l
	bad.Table = 77
	long := row(string(make([]byte, MaxNameBytes+1)), 1, 0)
	big := row("x", 1, 0)
	big.Value = make([]byte, MaxValueBytes+1)
	huge := make([]catalog.Row, 200)
	for i := range huge {
		huge[i] = row(fmt.Sprint(i), 1, 0)
		huge[i].Value = make([]byte, MaxValueBytes)
	}
	for i, c := range []struct {
		l    peer.Listing
		rows []catalog.Row
		kind errs.Kind
	}{
		{bad, []catalog.Row{row("x", 1, 0)}, errs.Invalid},
		{l, []catalog.Row{row("", 1, 0)}, errs.Invalid},
		{l, []catalog.Row{row("x", 0, 0)}, errs.Invalid},
		{l, []catalog.Row{row("x", 1, -1)}, errs.Invalid},
		{l, []catalog.Row{{Name: "x", Ballot: late, TS: at(1)}}, errs.Invalid},
		{l, []catalog.Row{{Name: "x", Ballot: at(1), TS: late}}, errs.Invalid},
		{l, []catalog.Row{long}, errs.TooLarge},
		{l, []catalog.Row{big}, errs.TooLarge},
		{l, huge, errs.TooLarge},
		{l, make([]catalog.Row, MaxPutRows+1), errs.TooLarge},
	} {
		done := 0
		if err := s.PutWith(ctx, &c.l, c.rows, func() { done++ }); !errs.Is(err, c.kind) || done != 1 {
			t.Errorf("%d: %v, done %d", i, err, done)
		}
	}
	for _, limit := range []int{0, -1, peer.MaxPage + 1} {
		if _, err := s.List(ctx, &peer.RowQuery{Listing: l, Limit: limit}); !errs.Is(err, errs.Invalid) {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
	for _, table := range []catalog.Table{catalog.Uploads, catalog.Parts, catalog.Versions} {
		q := peer.RowQuery{Listing: testListing(1, table), Prefix: "x", Marker: "xa", Limit: 1}
		if _, err := s.List(ctx, &q); err != nil {
			t.Errorf("table %d: %v", table, err)
		}
		q.Delimiter = "/"
		if _, err := s.List(ctx, &q); !errs.Is(err, errs.Invalid) {
			t.Errorf("table %d with a delimiter: %v", table, err)
		}
	}
	put(t, s, l) // nothing is fine
	put(t, s, l, row(string(make([]byte, MaxNameBytes)), 1, 0))
}

// TestPageEndsEarly: a page of long values is cut, and the next goes on.
func TestPageEndsEarly(t *testing.T) {
	s := newStore(t)
	l := testListing(1, catalog.Objects)
	const n = 200
	for i := range n {
		r := row(fmt.Sprintf("%04d", i), 1, 1)
		r.Value = make([]byte, MaxValueBytes)
		put(t, s, l, r)
	}
	seen, pages := 0, 0
	for q := (peer.RowQuery{Listing: l, Limit: 1000}); ; pages++ {
		p, err := s.List(context.Background(), &q)
		if err != nil {
			t.Fatal(err)
		}
		seen += len(p.Entries)
		if !p.More {
			break
		}
		q.Marker = p.Entries[len(p.Entries)-1].Name
	}
	if seen != n || pages < 2 {
		t.Errorf("%d rows on %d pages", seen, pages)
	}
	// What is known of names ends early too: ten thousand of them would be 640 MB.
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("%04d", i))
	}
	for len(names) > 0 {
		st, err := s.Get(context.Background(), &l, names)
		if err != nil || len(st) == 0 || len(st) > MaxPageBytes/MaxValueBytes+1 {
			t.Fatalf("%d states, %v", len(st), err)
		}
		for i := range st {
			if !st[i].Found || st[i].Row.Name != names[i] {
				t.Fatalf("%q: %+v", names[i], st[i].Row.Name)
			}
		}
		names = names[len(st):]
	}
}

// TestManyListings: listings cost no descriptors.
func TestManyListings(t *testing.T) {
	n := 100_000
	if testing.Short() {
		n = 5000
	}
	v := openVolume(t, vfs.Default(), t.TempDir())
	defer v.Close()
	s := NewStore(v, testSpaces)
	before := descriptors(t)
	const writers = 64
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := w; i < n; i += writers {
				l := testListing(uint64(i), catalog.Objects)
				if err := s.Put(context.Background(), &l, []catalog.Row{row("a", 1, 1)}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	// The volume's own files grow in number with bytes, not with listings.
	if after := descriptors(t); after > before+64 {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	seen := 0
	if err := s.Incarnations(keyhash.Hash{}, func(keyhash.Hash, catalog.Incarnation) bool { seen++; return true }); err != nil || seen < n-1 || seen > n {
		t.Errorf("%d incarnations of %d, %v", seen, n, err)
	}
	for i := 0; i < n; i += n / 50 {
		if got := fmt.Sprint(names(t, s, peer.RowQuery{Listing: testListing(uint64(i), catalog.Objects)})); got != "[a]" {
			t.Fatalf("listing %d: %s", i, got)
		}
	}
}

func descriptors(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(list)
}

func FuzzDecodeStored(f *testing.F) {
	r := row("x", 3, 9)
	f.Add(appendStored(nil, &r))
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, err := splitTableKey(b); err == nil && !bytes.Equal(appendTableKey(nil, &l), b) {
			t.Fatalf("the key %x became %+v", b, l)
		}
		row, err := decodeStored(b)
		if err != nil {
			if !errs.Is(err, errs.Corrupt) && !errs.Is(err, errs.NotImplemented) {
				t.Fatal(err)
			}
			return
		}
		if again := appendStored(nil, &row); !bytes.Equal(again, b) {
			t.Fatalf("%x became %x", b, again)
		}
	})
}
