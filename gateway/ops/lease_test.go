package ops

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/policy"
	"ringfort/internal/register"
)

func value(t *testing.T, s *Service, name string) string {
	t.Helper()
	co, err := s.Container(t.Context(), "a", name)
	if err != nil {
		t.Fatal(err)
	}
	return co.Meta.Get("v")
}

func setValue(ctx context.Context, s *Service, name, v string) error {
	_, err := s.UpdateContainer(ctx, "a", name, func(c *catalog.Container) error {
		c.Meta = c.Meta.With("v", v)
		return nil
	})
	return err
}

// A change is felt by every gateway when it is acknowledged, and what is not
// changed is not asked for again.
func TestLeases(t *testing.T) {
	c := newCluster(t, policy.Replica(3), 3, real)
	s, other := c.gateway(nil), c.gateway(nil)
	s.mustContainer(t, "c")
	var asked atomic.Int32
	c.all(func(_ context.Context, x call) error {
		if x.name == "ReadLeased" {
			asked.Add(1)
		}
		return nil
	}, nil)
	for i := range 20 {
		begun := time.Now()
		if err := setValue(t.Context(), s, "c", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begun); d > time.Second {
			t.Errorf("a change took %v: nobody answered", d)
		}
		for _, g := range []*Service{s, other} {
			if got := value(t, g, "c"); got != fmt.Sprint(i) {
				t.Fatalf("change %d: read %q", i, got)
			}
		}
		n := asked.Load()
		value(t, s, "c")
		value(t, other, "c")
		if asked.Load() != n {
			t.Error("asked again under a lease")
		}
	}
	if err := s.DeleteContainer(t.Context(), "a", "c"); err != nil {
		t.Fatal(err)
	}
	_, err := other.Container(t.Context(), "a", "c")
	wantKind(t, err, errs.NoBucket)
}

// Under load as well: who reads after a change was acknowledged sees it.
func TestLeasesUnderLoad(t *testing.T) {
	c := newCluster(t, policy.Replica(3), 3, real)
	gateways := []*Service{c.gateway(nil), c.gateway(nil), c.gateway(nil)}
	gateways[0].mustContainer(t, "c")
	var acked atomic.Int64
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	for _, g := range gateways {
		for range 2 {
			wg.Go(func() {
				for ctx.Err() == nil {
					least := acked.Load()
					co, err := g.Container(t.Context(), "a", "c")
					if err != nil {
						t.Error(err)
						return
					}
					var got int64
					fmt.Sscan(co.Meta.Get("v"), &got)
					if got < least {
						t.Errorf("read %d after %d was acknowledged", got, least)
						return
					}
				}
			})
		}
	}
	for n := int64(1); ctx.Err() == nil; n++ {
		if err := setValue(t.Context(), gateways[n%2], "c", fmt.Sprint(n)); err != nil {
			t.Fatal(err)
		}
		acked.Store(n)
	}
	wg.Wait()
	t.Logf("%d changes", acked.Load())
}

// deafGateway is one that does not answer.
type deafGateway struct{ peer.Node }

func (deafGateway) Revoke(ctx context.Context, _ keyhash.Hash) error {
	<-ctx.Done()
	return ctx.Err()
}

// A holder that does not answer, or that nobody knows, delays a change until its
// lease has run out, and no longer; and until then it may act on it.
func TestHolderDoesNotAnswer(t *testing.T) {
	for _, known := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, policy.Replica(3), 3, fake)
			s, silent := c.gateway(nil), c.gateway(nil)
			s.mustContainer(t, "c")
			address := silent.cfg.Holder.Address
			if known {
				c.gateways[address] = deafGateway{}
			} else {
				delete(c.gateways, address)
			}
			value(t, silent, "c")
			time.Sleep(700 * time.Millisecond)
			begun := time.Now()
			if err := setValue(t.Context(), s, "c", "new"); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(begun); d < leaseTime-700*time.Millisecond || d > leaseTime+100*time.Millisecond {
				t.Errorf("the change took %v", d)
			}
			if got := value(t, silent, "c"); got != "new" {
				t.Errorf("after the change was acknowledged: %q", got)
			}
			time.Sleep(time.Minute)
		})
	}
}

// Devices may have granted one holder's lease at different times, and any subset
// of them accepts the change.
func TestLastLeaseCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, policy.Replica(3), 3, fake)
		s := c.gateway(nil)
		begun := time.Now()
		s.recall(t.Context(), keyhash.Hash{1}, []register.Lease{
			{Holder: 7, Micros: 100_000}, {Holder: 7, Micros: 1_900_000}, {Holder: 0, Micros: 200_000}, {Holder: 0, Micros: 300_000},
			{Holder: s.cfg.Holder.Holder, Micros: 2_000_000},
		})
		if d := time.Since(begun); d != 1900*time.Millisecond {
			t.Errorf("waited %v", d)
		}
	})
}

// An answer that was under way when the lease was revoked is not kept.
func TestRevokedWhileAsking(t *testing.T) {
	c := newCluster(t, policy.Replica(3), 3, fake)
	s := c.gateway(nil)
	s.mustContainer(t, "c")
	h := s.containerHash("a", "c")
	s.Revoke(h)
	c.all(nil, func(_ context.Context, x call) error {
		if x.name == "ReadLeased" {
			s.Revoke(h)
		}
		return nil
	})
	if _, err := s.Container(t.Context(), "a", "c"); err != nil {
		t.Fatal(err)
	}
	if s.leases.get(h) != nil {
		t.Error("an answer from before the revocation was kept")
	}
}

func TestLeasesAreBounded(t *testing.T) {
	var l leases
	for i := range 3 * maxLeases {
		h := keyhash.Hash{byte(i), byte(i >> 8), byte(i >> 16)}
		l.put(h, &catalog.Container{}, time.Now(), l.generation(h))
	}
	if len(l.held) > maxLeases {
		t.Errorf("%d leases are held", len(l.held))
	}
}
