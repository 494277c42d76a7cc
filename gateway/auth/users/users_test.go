package users

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ringfort/gateway/auth"
	"ringfort/gateway/ops"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/peer/peertest"
	"ringfort/internal/policy"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
	"ringfort/ring"
)

// cluster is three devices on one node.
type cluster struct{ node *peertest.Fake }

func (c cluster) place() ops.Place {
	var p ops.Place
	for i := range 3 {
		p.Devices = append(p.Devices, ops.Device{ID: ring.DeviceID(i + 1), Node: c.node})
	}
	return p
}

func (c cluster) Object(string, keyhash.Hash) (ops.Place, error) { return c.place(), nil }
func (c cluster) Container(keyhash.Hash) ops.Place               { return c.place() }
func (c cluster) Account(keyhash.Hash) ops.Place                 { return c.place() }
func (c cluster) Gateway(string) peer.Node                       { return c.node }
func (c cluster) Policies() []ops.Policy {
	return []ops.Policy{{Name: "p", Spec: policy.Replica(3), Default: true}}
}

var root = auth.Identity{Account: "main", User: "root", AccessKey: "ROOTKEY", Secret: "rootsecret", Root: true, Enabled: true}

func (c cluster) gateway() *Users { return New(c.service(), root) }

func (c cluster) service() *ops.Service {
	w := timestamp.NewWriter()
	return ops.New(ops.Config{
		Cluster: c, Secret: &keyhash.Secret{1}, Clock: timestamp.NewClock(w, nil),
		Holder: register.Lease{Holder: w, Address: "here", Micros: 2_000_000},
	})
}

func wantKind(t *testing.T, err error, k errs.Kind) {
	t.Helper()
	if !errs.Is(err, k) {
		t.Fatalf("error %v, want %v", err, k)
	}
}

func (u *Users) must(t *testing.T, user User) *User {
	t.Helper()
	got, err := u.Add(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestUsers(t *testing.T) {
	u := cluster{peertest.NewFake()}.gateway()
	ctx := t.Context()
	if list, err := u.List(ctx); err != nil || len(list) != 0 {
		t.Fatalf("of none: %+v, %v", list, err)
	}
	_, err := u.Lookup(ctx, "NOBODY")
	wantKind(t, err, errs.Unauthenticated)
	if id, err := u.Lookup(ctx, root.AccessKey); err != nil || id != root || u.Root() != root {
		t.Fatalf("root is %+v, %v", id, err)
	}
	a := u.must(t, User{Account: "acme", Name: "alice"})
	if !a.Enabled || len(a.AccessKey) < 16 || len(a.Secret) < 32 || a.Created.IsZero() {
		t.Fatalf("%+v", a)
	}
	b := u.must(t, User{Account: "acme", Name: "bob", AccessKey: "BOBSKEY", Secret: "bobs-secret"})
	want := auth.Identity{Account: "acme", User: "bob", AccessKey: "BOBSKEY", Secret: "bobs-secret", Enabled: true}
	if id, err := u.Lookup(ctx, b.AccessKey); err != nil || id != want {
		t.Fatalf("%+v, %v", id, err)
	}
	_, err = u.Add(ctx, User{Account: "evil", Name: "eve", AccessKey: "BOBSKEY"})
	wantKind(t, err, errs.Exists)
	_, err = u.Add(ctx, User{Account: "evil", Name: "eve", AccessKey: root.AccessKey})
	wantKind(t, err, errs.Exists)

	list, err := u.List(ctx)
	if err != nil || len(list) != 2 || !slices.IsSortedFunc(list, func(x, y User) int { return strings.Compare(x.AccessKey, y.AccessKey) }) {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, x := range list {
		if x.Secret != "" || x.Account != "acme" || !x.Enabled {
			t.Errorf("listed is %+v", x)
		}
	}
	if x, err := u.SetEnabled(ctx, "BOBSKEY", false); err != nil || x.Enabled {
		t.Fatalf("%+v, %v", x, err)
	}
	want.Enabled = false
	if id, err := u.Lookup(ctx, "BOBSKEY"); err != nil || id != want {
		t.Fatalf("disabled: %+v, %v", id, err)
	}
	if _, err := u.SetEnabled(ctx, "BOBSKEY", true); err != nil {
		t.Fatal(err)
	}
	if id, err := u.Lookup(ctx, "BOBSKEY"); err != nil || !id.Enabled || id.Secret != "bobs-secret" {
		t.Fatalf("enabled: %+v, %v", id, err)
	}
	if err := u.Remove(ctx, "BOBSKEY"); err != nil {
		t.Fatal(err)
	}
	_, err = u.Lookup(ctx, "BOBSKEY")
	wantKind(t, err, errs.Unauthenticated)
	wantKind(t, u.Remove(ctx, "BOBSKEY"), errs.NotFound)
	wantKind(t, u.Remove(ctx, root.AccessKey), errs.Invalid)
	_, err = u.SetEnabled(ctx, "BOBSKEY", true)
	wantKind(t, err, errs.NotFound)
	_, err = u.SetEnabled(ctx, root.AccessKey, false)
	wantKind(t, err, errs.Invalid)
	again := u.must(t, User{Account: "other", Name: "bob", AccessKey: "BOBSKEY"})
	if id, err := u.Lookup(ctx, "BOBSKEY"); err != nil || id.Account != "other" || id.Secret != again.Secret {
		t.Fatalf("made again: %+v, %v", id, err)
	}
}

func TestBadUsers(t *testing.T) {
	u := cluster{peertest.NewFake()}.gateway()
	long := strings.Repeat("x", 65)
	for _, x := range []User{
		{}, {Account: "a"}, {Name: "n"}, {Account: Account, Name: "n"}, {Account: "a/b", Name: "n"}, {Account: "a", Name: "n:m"},
		{Account: long, Name: "n"}, {Account: "a", Name: long}, {Account: "a\n", Name: "n"}, {Account: "ä", Name: "n"},
		{Account: "a", Name: "n", AccessKey: "ab"}, {Account: "a", Name: "n", AccessKey: "a/b"}, {Account: "a", Name: "n", AccessKey: ".ab"},
		{Account: "a", Name: "n", AccessKey: strings.Repeat("x", 129)}, {Account: "a", Name: "n", Secret: "short"},
		{Account: "a", Name: "n", Secret: strings.Repeat("x", 129)},
	} {
		_, err := u.Add(t.Context(), x)
		wantKind(t, err, errs.Invalid)
	}
	for _, key := range []string{"", "a", "../x", "a b", "a\x00b", strings.Repeat("x", 1000)} {
		_, err := u.Lookup(t.Context(), key)
		wantKind(t, err, errs.Unauthenticated)
	}
}

// Of many who want one access key, one gets it.
func TestAddRace(t *testing.T) {
	c := cluster{peertest.NewFake()}
	gateways := []*Users{c.gateway(), c.gateway()}
	for round := range 5 {
		key := fmt.Sprint("KEY", round)
		var won atomic.Int32
		secrets := make([]string, 8)
		var wg sync.WaitGroup
		for i := range secrets {
			wg.Go(func() {
				x, err := gateways[i%2].Add(t.Context(), User{Account: "a", Name: fmt.Sprint("n", i), AccessKey: key})
				switch {
				case err == nil:
					won.Add(1)
					secrets[i] = x.Secret
				case !errs.Is(err, errs.Exists) && !errs.Is(err, errs.OutcomeUnknown):
					t.Errorf("Add: %v", err)
				}
			})
		}
		wg.Wait()
		id, err := gateways[0].Lookup(t.Context(), key)
		if err != nil || won.Load() > 1 || won.Load() == 1 && !slices.Contains(secrets, id.Secret) {
			t.Fatalf("%d have won, the key is %+v, %v", won.Load(), id, err)
		}
	}
}

// A change is felt at once where it is made, and everywhere within two seconds.
func TestCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := peertest.NewFake()
		c := cluster{node}
		here, there := c.gateway(), c.gateway()
		x := here.must(t, User{Account: "a", Name: "n", AccessKey: "THEKEY"})
		var calls atomic.Int32
		node.Intercept(func(context.Context, string) error { calls.Add(1); return nil })
		see := func(u *Users, enabled, exists bool) {
			t.Helper()
			id, err := u.Lookup(t.Context(), "THEKEY")
			if !exists {
				wantKind(t, err, errs.Unauthenticated)
			} else if err != nil || id.Enabled != enabled || id.Secret != x.Secret {
				t.Fatalf("%+v, %v", id, err)
			}
		}
		step := func(change func() error, enabled, exists bool) {
			t.Helper()
			if err := change(); err != nil {
				t.Fatal(err)
			}
			see(here, enabled, exists)
			time.Sleep(cacheTime)
			see(there, enabled, exists)
			synctest.Wait()
			n := calls.Load()
			for range 100 {
				see(there, enabled, exists)
			}
			if calls.Load() != n {
				t.Error("a cached user was looked up")
			}
		}
		set := func(on bool) func() error {
			return func() error { _, err := here.SetEnabled(t.Context(), "THEKEY", on); return err }
		}
		step(func() error { return nil }, true, true)
		step(set(false), false, true)
		step(set(true), true, true)
		step(func() error { return here.Remove(t.Context(), "THEKEY") }, false, false)
		step(func() error {
			_, err := here.Add(t.Context(), User{Account: "a", Name: "n", AccessKey: "THEKEY", Secret: x.Secret})
			return err
		}, true, true)
		time.Sleep(time.Minute)
	})
}

// That a user could not be looked up is not remembered, and is not "unknown".
func TestLookupFails(t *testing.T) {
	node := peertest.NewFake()
	c := cluster{node}
	c.gateway().must(t, User{Account: "a", Name: "n", AccessKey: "THEKEY"})
	u := c.gateway()
	node.Intercept(func(context.Context, string) error { return errs.New("test", errs.Unavailable, "down") })
	_, err := u.Lookup(t.Context(), "THEKEY")
	wantKind(t, err, errs.Unavailable)
	_, err = u.List(t.Context())
	wantKind(t, err, errs.Unavailable)
	node.Intercept(nil)
	if _, err := u.Lookup(t.Context(), "THEKEY"); err != nil {
		t.Fatal(err)
	}
}

// Strangers do not fill the memory.
func TestCacheIsBounded(t *testing.T) {
	u := cluster{peertest.NewFake()}.gateway()
	u.must(t, User{Account: "a", Name: "n"})
	for i := range maxCached + 50 {
		u.mu.Lock()
		u.cache[fmt.Sprint("K", i)] = cached{}
		full := len(u.cache) >= maxCached
		u.mu.Unlock()
		if full {
			break
		}
	}
	_, err := u.Lookup(t.Context(), "STRANGER")
	wantKind(t, err, errs.Unauthenticated)
	if len(u.cache) > maxCached {
		t.Errorf("%d are cached", len(u.cache))
	}
}

// between is a store in which something happens between the reading of a user and
// its writing.
type between struct {
	Store
	then func()
}

func (b *between) Put(ctx context.Context, p *ops.Put) (*catalog.Object, error) {
	if b.then != nil {
		b.then()
		b.then = nil
	}
	return b.Store.Put(ctx, p)
}

// Switching an access key on or off does not bring back another user's key.
func TestSetEnabledAgainstAnother(t *testing.T) {
	c := cluster{peertest.NewFake()}
	other := c.gateway()
	old := other.must(t, User{Account: "a", Name: "old", AccessKey: "THEKEY"})
	b := &between{Store: c.service()}
	u := New(b, root)
	b.then = func() {
		if err := other.Remove(t.Context(), "THEKEY"); err != nil {
			t.Fatal(err)
		}
		other.must(t, User{Account: "b", Name: "new", AccessKey: "THEKEY"})
	}
	_, err := u.SetEnabled(t.Context(), "THEKEY", true)
	wantKind(t, err, errs.Conflict)
	id, err := u.Lookup(t.Context(), "THEKEY")
	if err != nil || id.User != "new" || id.Secret == old.Secret {
		t.Fatalf("%+v, %v", id, err)
	}
}
