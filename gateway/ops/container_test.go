package ops

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/peer"
	"ringfort/internal/policy"
	"ringfort/internal/register"
)

func TestContainerLife(t *testing.T) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			c := newCluster(t, policy.EC(2, 2), 4, b.make)
			s := c.gateway(nil)
			_, err := s.Container(t.Context(), "a", "c")
			wantKind(t, err, errs.NoBucket)
			wantKind(t, s.DeleteContainer(t.Context(), "a", "c"), errs.NoBucket)
			first := s.mustContainer(t, "c")
			again, created, err := s.CreateContainer(t.Context(), &catalog.Container{Account: "a", Name: "c", Meta: catalog.Pairs{{Name: "x", Value: "y"}}})
			if err != nil || created || again.Incarnation != first.Incarnation || again.Meta != nil {
				t.Fatalf("made twice: %+v, %v, %v", again, created, err)
			}
			mustPut(t, s, first, "o", random(1, 40*testBlock))
			wantKind(t, s.DeleteContainer(t.Context(), "a", "c"), errs.NotEmpty)
			wantBytes(t, s, first, "o", random(1, 40*testBlock))
			mustPut(t, s, first, "p", []byte("it lives on"))
			for _, n := range []string{"o", "p"} {
				if err := s.Delete(t.Context(), first, n, nil); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.DeleteContainer(t.Context(), "a", "c"); err != nil {
				t.Fatal(err)
			}
			_, err = s.Container(t.Context(), "a", "c")
			wantKind(t, err, errs.NoBucket)
			_, err = putBytes(t.Context(), s, first, "q", []byte("too late"))
			wantKind(t, err, errs.NoBucket)
			second := s.mustContainer(t, "c")
			if second.Incarnation == first.Incarnation {
				t.Fatal("an incarnation was used twice")
			}
			got, err := names(t.Context(), s, second, 10)
			if err != nil || len(got) != 0 {
				t.Fatalf("the new container lists %v, %v", got, err)
			}
			_, err = s.Head(t.Context(), second, "q")
			wantKind(t, err, errs.NotFound)
			_, err = putBytes(t.Context(), s, first, "q", []byte("far too late"))
			wantKind(t, err, errs.NoBucket)
			list, _, err := s.ListContainers(t.Context(), "a", &Query{Limit: 10})
			if err != nil || len(list) != 1 || list[0].Name != "c" || list[0].Incarnation != second.Incarnation {
				t.Fatalf("ListContainers: %+v, %v", list, err)
			}
		})
	}
}

// One of many requests to make a container makes it, and all agree on it.
func TestCreateRace(t *testing.T) {
	c := newCluster(t, policy.EC(2, 2), 4, real)
	gateways := []*Service{c.gateway(nil), c.gateway(nil)}
	for round := range 5 {
		var made, known atomic.Int32
		var inc sync.Map
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				co, created, err := gateways[i%2].CreateContainer(t.Context(), &catalog.Container{Account: "a", Name: fmt.Sprint("c", round), Global: true})
				if err != nil {
					t.Errorf("CreateContainer: %v", err)
					return
				}
				if created {
					made.Add(1)
				}
				if _, had := inc.LoadOrStore(co.Incarnation, true); !had {
					known.Add(1)
				}
			})
		}
		wg.Wait()
		if made.Load() != 1 || known.Load() != 1 {
			t.Fatalf("made %d times, as %d incarnations", made.Load(), known.Load())
		}
		// The directory names the one that there is, so its end frees the name.
		if err := gateways[0].DeleteContainer(t.Context(), "a", fmt.Sprint("c", round)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := gateways[1].CreateContainer(t.Context(), &catalog.Container{Account: "b", Name: fmt.Sprint("c", round), Global: true}); err != nil {
			t.Fatalf("the name was not given back: %v", err)
		}
	}
}

func TestGlobalNames(t *testing.T) {
	c := newCluster(t, policy.Replica(3), 3, real)
	s := c.gateway(nil)
	ctx := t.Context()
	create := func(account, name string, global bool) error {
		_, _, err := s.CreateContainer(ctx, &catalog.Container{Account: account, Name: name, Global: global})
		return err
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(create("a", "n", true))
	wantKind(t, create("b", "n", true), errs.Exists)
	must(create("b", "n", false)) // a local name
	for _, x := range []struct{ account, owner string }{{"a", "a"}, {"b", "b"}, {"c", "a"}} {
		co, err := s.Resolve(ctx, x.account, "n")
		if err != nil || co.Account != x.owner {
			t.Fatalf("Resolve for %s: %+v, %v", x.account, co, err)
		}
	}
	wantKind(t, create("b", "n", true), errs.Exists)
	must(s.DeleteContainer(ctx, "a", "n"))
	_, err := s.Resolve(ctx, "c", "n")
	wantKind(t, err, errs.NoBucket)
	// A container of one's own that was not global becomes so, and gives the name
	// back at its end.
	must(create("b", "n", true))
	co, err := s.Resolve(ctx, "c", "n")
	if err != nil || co.Account != "b" {
		t.Fatalf("Resolve: %+v, %v", co, err)
	}
	must(s.DeleteContainer(ctx, "b", "n"))
	must(create("c", "n", true))

	// A deletion that comes late does not release the name of the next one.
	old, err := s.Fresh(ctx, "c", "n")
	must(err)
	must(s.DeleteContainer(ctx, "c", "n"))
	must(create("c", "n", true))
	must(s.releaseName(ctx, old))
	wantKind(t, create("d", "n", true), errs.Exists)
}

// A container whose maker died before its row was stored is listed once somebody
// is told that it exists.
func TestCreateAgainListsIt(t *testing.T) {
	c := newCluster(t, policy.Replica(3), 3, fake)
	s := c.gateway(nil)
	c.all(only(down, "PutRows"), nil)
	if _, _, err := s.CreateContainer(t.Context(), &catalog.Container{Account: "a", Name: "c"}); err == nil {
		t.Fatal("acknowledged without its row")
	}
	c.all(nil, nil)
	if _, created, err := s.CreateContainer(t.Context(), &catalog.Container{Account: "a", Name: "c"}); err != nil || created {
		t.Fatal(created, err)
	}
	list, _, err := s.ListContainers(t.Context(), "a", &Query{Limit: 10})
	if err != nil || len(list) != 1 {
		t.Fatalf("ListContainers: %+v, %v", list, err)
	}
}

// A device that has not heard of the deletion takes rows. It must not be one of
// those that prove the container empty.
func TestDeleteAsksThoseWhoKnow(t *testing.T) {
	for _, b := range backends {
		c := newCluster(t, policy.Replica(3), 3, b.make)
		s, other := c.gateway(nil), c.gateway(nil)
		co := s.mustContainer(t, "c")
		place := c.Container(s.containerHash("a", "c"))
		begun, stored, decided := make(chan struct{}), make(chan struct{}), make(chan struct{})
		var beginning, storing sync.Once
		state := func(x call) bool { return x.name == "Write" && x.service == peer.Containers }
		// The first device hears of the deletion at once, and misses the row.
		row := func(x call) bool { return x.name == "PutRows" && x.service == peer.Containers }
		place.Devices[0].Node.(*node).set(func(_ context.Context, x call) error {
			if row(x) {
				return errDown
			}
			return nil
		}, nil)
		// The second takes the row, and then hears of the deletion.
		place.Devices[1].Node.(*node).set(func(_ context.Context, x call) error {
			if state(x) {
				beginning.Do(func() { close(begun) })
				<-stored
			}
			return nil
		}, func(_ context.Context, x call) error {
			if row(x) {
				storing.Do(func() { close(stored) })
			}
			return nil
		})
		// The last does not hear of it at all, and takes the row at the end.
		place.Devices[2].Node.(*node).set(func(_ context.Context, x call) error {
			switch {
			case state(x):
				return errDown
			case row(x):
				<-decided
			}
			return nil
		}, nil)
		deleted, put := make(chan error, 1), make(chan error, 1)
		go func() { deleted <- s.DeleteContainer(t.Context(), "a", "c") }()
		<-begun
		go func() {
			_, err := putBytes(t.Context(), other, co, "o", []byte("x"))
			put <- err
		}()
		derr := <-deleted
		close(decided)
		perr := <-put
		c.all(nil, nil)
		if perr == nil && derr == nil {
			t.Fatalf("%s: both the PUT and the deletion of its container were acknowledged", b.name)
		}
		wantKind(t, derr, errs.NotEmpty)
		if perr != nil {
			t.Fatalf("%s: %v", b.name, perr)
		}
		wantBytes(t, s, co, "o", []byte("x"))
		if got, err := names(t.Context(), s, co, 10); err != nil || !slices.Equal(got, []string{"o"}) {
			t.Fatalf("%s: listed are %v, %v", b.name, got, err)
		}
	}
}

// A deletion that looked long ago must not take effect after the container has
// lived again.
func TestDeletionThatSlept(t *testing.T) {
	c := newCluster(t, policy.Replica(3), 3, real)
	s, other := c.gateway(nil), c.gateway(nil)
	co := s.mustContainer(t, "c")
	deleting := func(c *catalog.Container, _ *register.Record) error {
		c.State = catalog.Deleting
		return nil
	}
	d, r, err := s.changeContainer(t.Context(), "a", "c", deleting)
	if err != nil {
		t.Fatal(err)
	}
	if empty, err := s.emptyNow(t.Context(), d, r); !empty || err != nil {
		t.Fatal(empty, err)
	}
	// Meanwhile: another one gives up, an object is written, a third one begins.
	if _, _, err := other.changeContainer(t.Context(), "a", "c", func(c *catalog.Container, _ *register.Record) error {
		c.State = catalog.Live
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	mustPut(t, other, co, "o", []byte("x"))
	if _, _, err := other.changeContainer(t.Context(), "a", "c", deleting); err != nil {
		t.Fatal(err)
	}
	wantKind(t, s.decide(t.Context(), d, r), errs.Conflict)
	// Nobody decides any more but the replicator.
	_, err = s.Container(t.Context(), "a", "c")
	wantKind(t, err, errs.NoBucket)
	if err := s.Deliver(t.Context(), peer.Containers, 0, s.containerHash("a", "c"), nil); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, s, co, "o", []byte("x"))
	if _, err := s.Container(t.Context(), "a", "c"); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), co, "o", nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := other.changeContainer(t.Context(), "a", "c", deleting); err != nil {
		t.Fatal(err)
	}
	if err := s.Deliver(t.Context(), peer.Containers, 0, s.containerHash("a", "c"), nil); err != nil {
		t.Fatal(err)
	}
	if list, _, err := s.ListContainers(t.Context(), "a", &Query{Limit: 1}); err != nil || len(list) != 0 {
		t.Fatalf("ListContainers: %+v, %v", list, err)
	}
}

// A PUT that races the deletion of its container is in one that stays, or is told
// that there is none.
func TestPutAgainstDelete(t *testing.T) {
	c := newCluster(t, policy.EC(2, 2), 4, real)
	gateways := []*Service{c.gateway(nil), c.gateway(nil)}
	var stays, goes int
	for round := range 60 {
		name := fmt.Sprint("c", round)
		co := gateways[0].mustContainer(t, name)
		var perr, derr error
		var wg sync.WaitGroup
		wg.Go(func() { _, perr = putBytes(t.Context(), gateways[round%2], co, "o", random(1, 20*testBlock)) })
		wg.Go(func() { derr = gateways[1].DeleteContainer(t.Context(), "a", name) })
		wg.Wait()
		switch {
		case perr == nil:
			wantKind(t, derr, errs.NotEmpty)
			wantBytes(t, gateways[0], co, "o", random(1, 20*testBlock))
			if got, err := names(t.Context(), gateways[0], co, 2); err != nil || len(got) != 1 {
				t.Fatalf("listed are %v, %v", got, err)
			}
			stays++
		default:
			wantKind(t, perr, errs.NoBucket)
			if derr != nil {
				t.Fatalf("the PUT was refused, and the container stays: %v", derr)
			}
			goes++
		}
	}
	t.Logf("%d stayed, %d went", stays, goes)
}

// An empty container can be deleted although each device has missed something.
func TestDeleteContainerWithLaggards(t *testing.T) {
	c := newCluster(t, policy.Replica(3), 3, real)
	s := c.gateway(nil)
	co := s.mustContainer(t, "c")
	for i := range 3 {
		mustPut(t, s, co, fmt.Sprint(i), []byte("x"))
	}
	for i, d := range c.Container(s.containerHash("a", "c")).Devices {
		d.Node.(*node).set(only(down, "PutRows"), nil)
		if err := s.Delete(t.Context(), co, fmt.Sprint(i), nil); err != nil {
			t.Fatal(err)
		}
		c.all(nil, nil)
	}
	if got, err := names(t.Context(), s, co, 10); err != nil || len(got) != 0 {
		t.Fatalf("listed are %v, %v", got, err)
	}
	if err := s.DeleteContainer(t.Context(), "a", "c"); err != nil {
		t.Fatal(err)
	}
}

func TestUpdates(t *testing.T) {
	c := newCluster(t, policy.Replica(3), 3, real)
	s := c.gateway(nil)
	s.mustContainer(t, "c")
	const each = 10
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range each {
				if _, err := s.UpdateContainer(t.Context(), "a", "c", func(c *catalog.Container) error {
					c.Meta = c.Meta.With("n", c.Meta.Get("n")+"x")
					return nil
				}); err != nil {
					t.Errorf("UpdateContainer: %v", err)
				}
				if _, err := s.UpdateAccount(t.Context(), "a", func(a *catalog.Account) error {
					a.Meta = a.Meta.With("n", a.Meta.Get("n")+"x")
					return nil
				}); err != nil {
					t.Errorf("UpdateAccount: %v", err)
				}
			}
		})
	}
	wg.Wait()
	co, err := s.Fresh(t.Context(), "a", "c")
	if err != nil || len(co.Meta.Get("n")) != 4*each {
		t.Errorf("container: %+v, %v", co, err)
	}
	a, err := s.Account(t.Context(), "a")
	if err != nil || len(a.Meta.Get("n")) != 4*each || a.Created == 0 {
		t.Errorf("account: %+v, %v", a, err)
	}
	refused := errs.New("test", errs.Denied, "")
	_, err = s.UpdateContainer(t.Context(), "a", "c", func(*catalog.Container) error { return refused })
	wantKind(t, err, errs.Denied)
	_, err = s.UpdateContainer(t.Context(), "a", "none", func(*catalog.Container) error { return nil })
	wantKind(t, err, errs.NoBucket)
	_, _, err = s.CreateContainer(t.Context(), &catalog.Container{Account: "a", Name: "d", Policy: "none"})
	wantKind(t, err, errs.Invalid)
	if a, err := s.Account(t.Context(), "nobody"); err != nil || a.Name != "nobody" {
		t.Errorf("an account that was never written: %+v, %v", a, err)
	}
}

func TestStats(t *testing.T) {
	c := newCluster(t, policy.Replica(3), 3, real)
	s := c.gateway(nil)
	want := Stats{}
	for i := range 3 {
		co := s.mustContainer(t, fmt.Sprint("c", i))
		for j := range 4 {
			mustPut(t, s, co, fmt.Sprint(j), random(1, 100*(i+1)))
			want.Objects++
			want.Bytes += int64(100 * (i + 1))
		}
		c.nodes[i].set(down, nil)
		// The other two may each have missed another row until now.
		eventually(t, "the totals are right with a device down", func() bool {
			st, err := s.ContainerStats(t.Context(), co)
			if err != nil {
				t.Fatalf("with a device down: %v", err)
			}
			return st.Objects == 4 && st.Bytes == int64(400*(i+1))
		})
		c.nodes[i].set(nil, nil)
	}
	st, err := s.AccountStats(t.Context(), "a")
	if err != nil || st.Containers != 3 || st.Objects != want.Objects || st.Bytes != want.Bytes || st.Policies["default"].Objects != want.Objects {
		t.Fatalf("AccountStats: %+v, %v", st, err)
	}
	c.all(down, nil)
	_, err = s.AccountStats(t.Context(), "a")
	wantKind(t, err, errs.Unavailable)
}

// Totals of many containers are asked for side by side, a few at a time, and come
// back in the order of the list.
func TestStatsOfManyContainers(t *testing.T) {
	c := newCluster(t, policy.Replica(1), 1, fake)
	s := c.gateway(nil)
	const n = 3 * statsAtATime
	var list []ContainerInfo
	for i := range n {
		co := s.mustContainer(t, fmt.Sprintf("c%02d", i))
		for j := range i % 3 {
			mustPut(t, s, co, fmt.Sprint(j), make([]byte, i))
		}
		list = append(list, ContainerInfo{Name: co.Name, Incarnation: co.Incarnation})
	}
	list = slices.Insert(list, 5, ContainerInfo{Name: "a/", Prefix: true})

	var running, most atomic.Int64
	together := make(chan struct{}) // closed once as many run as may
	var once sync.Once
	c.all(only(func(ctx context.Context, _ call) error {
		now := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
		}
		if now == statsAtATime {
			once.Do(func() { close(together) })
		}
		select {
		case <-together:
			time.Sleep(time.Millisecond) // so that one too many would be seen
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}, "ListingStats"), nil)
	if err := s.WithStats(t.Context(), "a", list); err != nil {
		t.Fatal(err)
	}
	if m := most.Load(); m != statsAtATime {
		t.Errorf("%d at a time", m)
	}
	i := 0
	for _, x := range list {
		if x.Prefix {
			if x.Count != 0 {
				t.Errorf("%+v", x)
			}
			continue
		}
		if x.Name != fmt.Sprintf("c%02d", i) || x.Count != int64(i%3) || x.Bytes != int64(i*(i%3)) {
			t.Errorf("container %d: %+v", i, x)
		}
		i++
	}
	// One that fails ends it, without going through all the others.
	var asked atomic.Int64
	c.all(only(func(context.Context, call) error { asked.Add(1); return errDown }, "ListingStats"), nil)
	wantKind(t, s.WithStats(t.Context(), "a", list), errs.Unavailable)
	if a := asked.Load(); a > statsAtATime {
		t.Errorf("%d were asked", a)
	}
}
