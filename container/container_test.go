package container

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pvfs "github.com/cockroachdb/pebble/v2/vfs"

	"ringfort/internal/catalog"
	"ringfort/internal/catalog/catalogtest"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
	"ringfort/internal/vfs"
	"ringfort/internal/volume"
)

var (
	ctx  = context.Background()
	key  = keyhash.Hash{1, 2, 3}
	incA = catalog.Incarnation{0xa}
	incB = catalog.Incarnation{0xb}
)

// bench is a server over a volume that can be closed and opened again.
type bench struct {
	*Server
	t    testing.TB
	fs   vfs.FS
	v    *volume.Volume
	now  time.Time
	reap chan ReapEvent
}

func newBench(t testing.TB) *bench {
	b := &bench{t: t, fs: pvfs.NewMem(), now: time.Unix(1e9, 0), reap: make(chan ReapEvent, 100)}
	b.open()
	t.Cleanup(func() { b.v.Close() })
	return b
}

func (b *bench) open() {
	b.t.Helper()
	var err error
	if b.v, err = volume.Open(ctx, volume.Config{Dir: "/vol", FS: b.fs, Spaces: Spaces()}); err != nil {
		b.t.Fatal(err)
	}
	b.Server, err = New(Config{
		Volume: b.v, Now: func() time.Time { return b.now },
		OnReap:            func(e ReapEvent) { b.reap <- e },
		ReapSuspectsEvery: time.Millisecond,
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) reopen() {
	b.t.Helper()
	if err := b.v.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.open()
}

func at(n int) timestamp.T { return timestamp.T{Micros: uint64(n)} }

func record(n int, c catalog.Container) *register.Record {
	c.Name = "c"
	return &register.Record{Ballot: at(n), TS: at(n), Op: at(n), Root: at(n), Mod: at(n), Value: catalogtest.Bytes(&c)}
}

func (b *bench) write(k keyhash.Hash, r *register.Record) register.Answer {
	b.t.Helper()
	a, err := b.Write(ctx, k, r)
	if err != nil || !a.Accepted {
		b.t.Fatalf("%+v, %v", a, err)
	}
	return a
}

// settle settles a record and waits until that is on the disk: the volume takes
// batches in order.
func (b *bench) settle(k keyhash.Hash, n int) {
	b.t.Helper()
	b.Settle([]register.Settled{{Key: k, Ballot: at(n)}})
	other := keyhash.Hash{0xee}
	st, err := b.Read(ctx, other, false)
	if err != nil {
		b.t.Fatal(err)
	}
	b.write(other, record(int(st.Highest().Micros)+1, catalog.Container{Incarnation: incA, State: catalog.Live}))
}

func objects(inc catalog.Incarnation) *peer.Listing {
	return &peer.Listing{Key: key, Incarnation: inc, Table: catalog.Objects}
}

func row(name string) catalog.Row {
	return catalog.Row{Name: name, Ballot: at(1), TS: at(1), Bytes: 1}
}

func (b *bench) count(l *peer.Listing) int {
	b.t.Helper()
	p, err := b.ListRows(ctx, &peer.RowQuery{Listing: *l, Limit: 10000})
	if err != nil {
		b.t.Fatal(err)
	}
	return len(p.Entries)
}

func TestWhichRowsAreTaken(t *testing.T) {
	b := newBench(t)
	ok := errs.Other
	for i, c := range []struct {
		state *catalog.Container // written first; nil: nothing is
		l     peer.Listing
		want  errs.Kind
	}{
		{nil, *objects(incA), errs.Unavailable}, // away when it was made
		{&catalog.Container{Incarnation: incA, State: catalog.Live}, *objects(incA), ok},
		{nil, *objects(incB), errs.NoBucket},
		{nil, peer.Listing{Key: key, Incarnation: incA, Table: catalog.Uploads}, ok},
		{nil, peer.Listing{Key: key, Incarnation: incA, Table: catalog.Versions}, ok},
		{nil, peer.Listing{Key: key, Incarnation: incA, Table: catalog.Containers}, errs.Invalid},
		{nil, peer.Listing{Key: key, Table: catalog.Objects}, errs.Invalid},
		{nil, peer.Listing{Key: key, Incarnation: incA, Table: 99}, errs.Invalid},
		{nil, peer.Listing{Key: key, Incarnation: incA, Table: catalog.Objects, RangeEpoch: 1}, errs.Unavailable},
		{&catalog.Container{Incarnation: incA, State: catalog.Deleting}, *objects(incA), errs.NoBucket},
		{&catalog.Container{Incarnation: incA, State: catalog.Live, RangeEpoch: 2}, *objects(incA), errs.Moved},
		{nil, peer.Listing{Key: key, Incarnation: incA, Table: catalog.Objects, RangeEpoch: 2}, ok},
		{&catalog.Container{Incarnation: incA, State: catalog.Deleted}, *objects(incA), errs.NoBucket},
		{&catalog.Container{Incarnation: incB, State: catalog.Live}, *objects(incB), ok},
		{nil, *objects(incA), errs.NoBucket},
	} {
		if c.state != nil {
			b.write(key, record(i+1, *c.state))
		}
		for range 2 { // from the register, then from memory
			err := b.PutRows(ctx, &c.l, []catalog.Row{row(fmt.Sprint("x", i))})
			if errs.KindOf(err) != c.want || (err == nil) != (c.want == ok) {
				t.Errorf("step %d: %v, want %v", i, err, c.want)
			}
		}
	}
	dead := record(100, catalog.Container{State: catalog.Deleted})
	dead.Tombstone, dead.Value = true, nil
	b.write(key, dead)
	if err := b.PutRows(ctx, objects(incB), []catalog.Row{row("y")}); !errs.Is(err, errs.NoBucket) {
		t.Error(err)
	}
	b.reopen()
	if err := b.PutRows(ctx, objects(incB), []catalog.Row{row("y")}); !errs.Is(err, errs.NoBucket) {
		t.Error(err)
	}
	if n := b.count(objects(incB)); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
}

// TestRefusedWriteChangesNothing: a register write that is refused leaves rows as
// they were judged before.
func TestRefusedWriteChangesNothing(t *testing.T) {
	b := newBench(t)
	b.write(key, record(5, catalog.Container{Incarnation: incA, State: catalog.Live}))
	a, err := b.Write(ctx, key, record(4, catalog.Container{Incarnation: incA, State: catalog.Deleting}))
	if err != nil || a.Accepted || a.Leases != nil {
		t.Fatalf("%+v, %v", a, err)
	}
	if err := b.PutRows(ctx, objects(incA), []catalog.Row{row("x")}); err != nil {
		t.Error(err)
	}
	pr, err := b.Prepare(ctx, key, at(9), timestamp.T{})
	if err != nil || !pr.Accepted {
		t.Fatal(pr, err)
	}
	if err := b.PutRows(ctx, objects(incA), []catalog.Row{row("y")}); err != nil {
		t.Error(err)
	}
	if k, err := b.Learn(ctx, key); err != nil || k.Highest != at(9) || !k.Exists {
		t.Error(k, err)
	}
}

// TestDeletingAgainstRows: once Deleting has been accepted, a listing shows every
// row that was ever acknowledged, and no other is.
func TestDeletingAgainstRows(t *testing.T) {
	b := newBench(t)
	b.write(key, record(1, catalog.Container{Incarnation: incA, State: catalog.Live}))
	var (
		wg      sync.WaitGroup
		taken   atomic.Int64
		started sync.WaitGroup
	)
	for w := range 8 {
		started.Add(1)
		wg.Go(func() {
			first := true
			for i := 0; ; i++ {
				err := b.PutRows(ctx, objects(incA), []catalog.Row{row(fmt.Sprintf("%d/%d", w, i))})
				if first {
					first = false
					started.Done()
				}
				if errs.Is(err, errs.NoBucket) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				taken.Add(1)
			}
		})
	}
	started.Wait()
	b.write(key, record(2, catalog.Container{Incarnation: incA, State: catalog.Deleting}))
	stats, err := b.ListingStats(ctx, objects(incA))
	wg.Wait()
	after, err2 := b.ListingStats(ctx, objects(incA))
	if err != nil || err2 != nil || stats.Count != taken.Load() || after != stats {
		t.Errorf("%+v when Deleting was accepted, %+v at the end, %d rows taken, %v, %v", stats, after, taken.Load(), err, err2)
	}
}

func holders(list []register.Lease) string {
	s := ""
	for _, l := range list {
		s += fmt.Sprintf("%d:%s:%d ", l.Holder, l.Address, (l.Micros-1)/1000)
	}
	return s
}

func TestLeases(t *testing.T) {
	b := newBench(t)
	n := 0
	write := func() string {
		n++
		return holders(b.write(key, record(n, catalog.Container{Incarnation: incA, State: catalog.Live})).Leases)
	}
	grant := func(holder uint64) {
		t.Helper()
		st, err := b.ReadLeased(ctx, key, register.Lease{Holder: holder, Address: "h"})
		if err != nil || st.Record == nil || st.Record.Ballot != at(n) {
			t.Fatalf("%+v, %v", st, err)
		}
	}
	check := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	check(write(), "0::2020 ") // what an earlier process granted
	b.now = b.now.Add(time.Second)
	grant(7)
	check(write(), "0::1020 7:h:2020 ")
	b.now = b.now.Add(LeaseTime)
	check(write(), "7:h:20 ")
	grant(8)
	b.now = b.now.Add(19 * time.Millisecond)
	grant(7)
	check(write(), "8:h:2001 7:h:2020 ")
	// A write repeated because its answer was lost reports the same.
	again := b.write(key, record(n, catalog.Container{Incarnation: incA, State: catalog.Live}))
	check(holders(again.Leases), "8:h:2001 7:h:2020 ")
	// Another container's leases are its own.
	other := b.write(keyhash.Hash{9}, record(1, catalog.Container{Incarnation: incA, State: catalog.Live}))
	check(holders(other.Leases), "")
	b.now = b.now.Add(time.Hour)
	check(write(), "")
	b.reopen()
	check(write(), "0::2020 ")
	for _, bad := range []register.Lease{{}, {Holder: 1, Address: string(make([]byte, 1000))}} {
		if _, err := b.ReadLeased(ctx, key, bad); !errs.Is(err, errs.Invalid) {
			t.Error(err)
		}
	}
}

// TestLeaseDoesNotOutwaitItsCaller: while a device does not answer, a container that
// is being written stays locked; who asks for a lease on it leaves when its time is
// over, and does not pile up behind the device.
func TestLeaseDoesNotOutwaitItsCaller(t *testing.T) {
	b := newBench(t)
	b.write(key, record(1, catalog.Container{Incarnation: incA, State: catalog.Live}))
	locked, release := make(chan struct{}), make(chan struct{})
	ended := make(chan error)
	go func() {
		ended <- b.service.ReadLocked(ctx, key, func(register.State) error { close(locked); <-release; return nil })
	}()
	<-locked
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	if _, err := b.ReadLeased(short, key, register.Lease{Holder: 7}); !errs.Is(err, errs.Canceled) {
		t.Error(err)
	}
	close(release)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := holders(b.leases.of(key)); got != "0::2020 " {
		t.Errorf("a lease was noted that nobody got: %q", got)
	}
}

// TestLeasesAreBounded: when there is no room for another lease it is not
// forgotten but taken for an unknown one on everything.
func TestLeasesAreBounded(t *testing.T) {
	now := time.Unix(1e9, 0)
	var l leases
	l.init(func() time.Time { return now })
	now = now.Add(time.Minute)
	var k keyhash.Hash
	for i := range maxLeases + 10 {
		k[0], k[1], k[2] = byte(i), byte(i>>8), byte(i>>16)
		l.note(k, register.Lease{Holder: 5})
	}
	if got := holders(l.of(k)); got != "0::2020 " {
		t.Errorf("no room: %q", got)
	}
	if len(l.young) != maxLeases || l.count != maxLeases {
		t.Errorf("%d leases noted", len(l.young))
	}
	if got := holders(l.of(keyhash.Hash{})); got != "0::2020 5::2020 " {
		t.Errorf("noted: %q", got)
	}
	now = now.Add(LeaseTime + leaseMargin)
	l.note(k, register.Lease{Holder: 6})
	if got := holders(l.of(k)); got != "6::2020 " {
		t.Errorf("later: %q", got)
	}
	now = now.Add(LeaseTime + leaseMargin)
	if l.of(k); len(l.young)+len(l.old) != 1 {
		t.Errorf("%d and %d leases kept", len(l.young), len(l.old))
	}
}

func TestReaping(t *testing.T) {
	b := newBench(t)
	live := func(n int, inc catalog.Incarnation) {
		b.write(key, record(n, catalog.Container{Incarnation: inc, State: catalog.Live}))
		for _, table := range []catalog.Table{catalog.Objects, catalog.Uploads, catalog.Versions} {
			l := &peer.Listing{Key: key, Incarnation: inc, Table: table}
			dead := row("dead")
			dead.Deleted = true
			if err := b.PutRows(ctx, l, []catalog.Row{row("x"), row("y"), dead}); err != nil {
				t.Fatal(err)
			}
		}
	}
	reaped := func(want ...catalog.Incarnation) {
		t.Helper()
		b.ReapAll(ctx)
		if len(b.reap) != len(want) {
			t.Fatalf("%d were reaped, want %v", len(b.reap), want)
		}
		for _, inc := range want {
			if e := <-b.reap; e.Err != nil || e.Incarnation != inc || e.Key != key {
				t.Fatalf("%+v, want %v", e, inc)
			}
		}
	}
	live(1, incA)
	b.settle(key, 1)
	reaped()
	b.write(key, record(2, catalog.Container{Incarnation: incA, State: catalog.Deleting}))
	b.settle(key, 2)
	reaped()
	b.write(key, record(3, catalog.Container{Incarnation: incA, State: catalog.Deleted}))
	reaped() // not known chosen: it may yet live
	b.reopen()
	b.settle(key, 3)
	reaped(incA)
	reaped()
	for _, l := range []*peer.Listing{objects(incA), {Key: key, Incarnation: incA, Table: catalog.Versions}} {
		st, err := b.GetRows(ctx, l, []string{"x", "dead"})
		if err != nil || st[0].Found || st[1].Found || b.count(l) != 0 {
			t.Errorf("%+v, %v: rows are left", st, err)
		}
	}

	// A later container of the name keeps its rows while an older one's go.
	live(4, incA)
	b.settle(key, 4)
	live(5, incB)
	reaped()
	b.settle(key, 5)
	reaped(incA)
	if b.count(objects(incB)) != 2 {
		t.Error("the new container lost its rows")
	}
}

func TestRunReaps(t *testing.T) {
	b := newBench(t)
	b.write(key, record(1, catalog.Container{Incarnation: incA, State: catalog.Live}))
	if err := b.PutRows(ctx, objects(incA), []catalog.Row{row("x")}); err != nil {
		t.Fatal(err)
	}
	run, cancel := context.WithCancelCause(ctx)
	ended := make(chan error)
	go func() { ended <- b.Run(run) }()
	b.write(key, record(2, catalog.Container{Incarnation: incA, State: catalog.Deleted}))
	b.settle(key, 2)
	// Run may have looked before the settling was on the disk; it looks again at
	// everything in an hour, and at what is settled again, at once.
	b.suspects.add(key)
	if e := <-b.reap; e.Err != nil || e.Incarnation != incA {
		t.Errorf("%+v", e)
	}
	cause := errors.New("enough")
	cancel(cause)
	if err := <-ended; !errors.Is(err, cause) {
		t.Error(err)
	}
}

// TestSpacesAreFrozen: the numbers are on disks.
func TestSpacesAreFrozen(t *testing.T) {
	got := ""
	for _, s := range Spaces() {
		got += fmt.Sprintf("%d %s kept=%v\n", s.ID, s.Name, s.Kept)
	}
	const want = `16 container registers kept=true
17 container register notes kept=true
18 container rows kept=false
19 container version rows kept=false
20 container row tombstones kept=false
21 container row counters kept=false
`
	if got != want {
		t.Errorf("spaces are\n%swere\n%s", got, want)
	}
}

// TestNewerContainer: a register that a newer program wrote decides nothing here: no
// row is taken on its account, and none reaped.
func TestNewerContainer(t *testing.T) {
	b := newBench(t)
	b.write(key, record(1, catalog.Container{Incarnation: incA, State: catalog.Live}))
	if err := b.PutRows(ctx, objects(incA), []catalog.Row{row("x")}); err != nil {
		t.Fatal(err)
	}
	newer := record(2, catalog.Container{Incarnation: incB, State: catalog.Live})
	newer.Value[0]++
	b.write(key, newer)
	b.settle(key, 2)
	if err := b.PutRows(ctx, objects(incB), []catalog.Row{row("x")}); !errs.Is(err, errs.NotImplemented) {
		t.Error(err)
	}
	b.ReapAll(ctx)
	if len(b.reap) != 1 {
		t.Fatalf("%d reap events", len(b.reap))
	}
	if e := <-b.reap; !errs.Is(e.Err, errs.NotImplemented) || b.count(objects(incA)) != 1 {
		t.Errorf("%+v", e)
	}
}

func TestNewRefusesBadConfig(t *testing.T) {
	if _, err := New(Config{}); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
}
