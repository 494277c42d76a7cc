package ops

import (
	"context"
	"testing"

	"ringfort/internal/catalog"
	"ringfort/internal/catalog/catalogtest"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/policy"
	"ringfort/internal/register"
)

// misplace puts a record under a key, whatever the record is about.
func (s *Service) misplace(t *testing.T, k *key, value []byte) {
	t.Helper()
	rec := register.Record{Value: value, Epoch: k.place.Epoch}
	known, err := s.proposer.Highest(t.Context(), k.quorum)
	if err == nil {
		_, err = s.proposer.Write(t.Context(), k.quorum, &register.Update{Record: rec, Op: s.clock.Now()}, known.Highest)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Two names with one hash, or a bug that stores a record in the wrong place: whoever
// asks for the one name is told that something is wrong, and nothing of the other is
// shown, changed, listed or deleted.
func TestMisplacedRecords(t *testing.T) {
	c := newCluster(t, policy.Replica(3), 3, fake)
	s := c.gateway(nil)
	ctx := t.Context()
	other := catalog.Container{Account: "a", Name: "other", State: catalog.Live, Policy: "default", Incarnation: catalog.Incarnation{1}, Created: 1}
	elsewhere := other
	elsewhere.Account, elsewhere.Name = "b", "c"
	for _, wrong := range []catalog.Container{other, elsewhere} {
		s.misplace(t, s.containerKey(s.containerHash("a", "c")), catalogtest.Bytes(&wrong))
		for name, call := range map[string]func() error{
			"Container": func() error { _, err := s.Container(ctx, "a", "c"); return err },
			"Fresh":     func() error { _, err := s.Fresh(ctx, "a", "c"); return err },
			"Resolve":   func() error { _, err := s.Resolve(ctx, "a", "c"); return err },
			"Create": func() error {
				_, _, err := s.CreateContainer(ctx, &catalog.Container{Account: "a", Name: "c"})
				return err
			},
			"Create, global": func() error {
				_, _, err := s.CreateContainer(ctx, &catalog.Container{Account: "a", Name: "c", Global: true})
				return err
			},
			"Update": func() error {
				_, err := s.UpdateContainer(ctx, "a", "c", func(*catalog.Container) error { t.Error("a change was asked for"); return nil })
				return err
			},
			"Delete":  func() error { return s.DeleteContainer(ctx, "a", "c") },
			"Deliver": func() error { return s.Deliver(ctx, peer.Containers, 0, s.containerHash("a", "c"), nil) },
		} {
			if err := call(); !errs.Is(err, errs.Corrupt) {
				t.Errorf("%s of a container whose record is %s/%s: %v", name, wrong.Account, wrong.Name, err)
			}
		}
	}
	list, _, err := s.ListContainers(ctx, "a", &Query{Limit: 10})
	if err != nil || len(list) != 0 {
		t.Errorf("listed: %+v, %v", list, err)
	}

	s.misplace(t, s.accountKey(s.accountHash("a")), catalogtest.Bytes(&catalog.Account{Name: "b", Created: 1}))
	_, err = s.Account(ctx, "a")
	wantKind(t, err, errs.Corrupt)
	_, err = s.UpdateAccount(ctx, "a", func(*catalog.Account) error { t.Error("a change was asked for"); return nil })
	wantKind(t, err, errs.Corrupt)

	owner := &catalog.BucketOwner{Bucket: "other", Account: "x", Incarnation: catalog.Incarnation{2}}
	s.misplace(t, s.accountKey(s.secret.Of(keyhash.Global, "g")), catalogtest.Bytes(owner))
	_, err = s.Resolve(ctx, "a", "g")
	wantKind(t, err, errs.Corrupt)
	_, _, err = s.CreateContainer(ctx, &catalog.Container{Account: "a", Name: "g", Global: true})
	wantKind(t, err, errs.Corrupt)
	wantKind(t, s.releaseName(ctx, &catalog.Container{Account: "x", Name: "g", Incarnation: catalog.Incarnation{2}}), errs.Corrupt)

	co := s.mustContainer(t, "real")
	k, _, err := s.objectKey(co, "name")
	if err != nil {
		t.Fatal(err)
	}
	value := catalogtest.Bytes(&catalog.Object{ContainerAccount: "a", Container: "real", Incarnation: co.Incarnation, Name: "other", TS: s.clock.Now()})
	s.misplace(t, k, value)
	wantKind(t, s.Deliver(ctx, peer.Objects, k.place.Policy, k.hash, value), errs.Corrupt)
	if got, err := names(ctx, s, co, 10); err != nil || len(got) != 0 {
		t.Errorf("the row of a misplaced object is listed: %v, %v", got, err)
	}
}

// A bucket name that was given up goes on saying which it was and who had it.
func TestReleasedNameSaysWhose(t *testing.T) {
	c := newCluster(t, policy.Replica(3), 3, fake)
	s := c.gateway(nil)
	k := s.accountKey(s.secret.Of(keyhash.Global, "bucket"))
	create := func(account string) (*catalog.Container, error) {
		co, _, err := s.CreateContainer(t.Context(), &catalog.Container{Account: account, Name: "bucket", Global: true})
		return co, err
	}
	co, err := create("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := create("b"); !errs.Is(err, errs.Exists) {
		t.Errorf("a name that another account holds: %v", err)
	}
	if err := s.DeleteContainer(t.Context(), "a", "bucket"); err != nil {
		t.Fatal(err)
	}
	r, err := s.proposer.Read(context.Background(), k.quorum, false)
	if err != nil || r == nil || !r.Tombstone {
		t.Fatalf("%+v, %v", r, err)
	}
	o, err := catalog.DecodeBucketOwner(r.Value)
	if err != nil || *o != (catalog.BucketOwner{Bucket: "bucket", Account: "a", Incarnation: co.Incarnation}) {
		t.Errorf("the tombstone says %+v, %v", o, err)
	}
	if _, err := s.Resolve(t.Context(), "c", "bucket"); !errs.Is(err, errs.NoBucket) {
		t.Errorf("a name that was given up: %v", err)
	}
	if _, err := create("b"); err != nil {
		t.Errorf("a name that was given up cannot be had: %v", err)
	}
	if got, err := s.Resolve(t.Context(), "c", "bucket"); err != nil || got.Account != "b" {
		t.Errorf("%+v, %v", got, err)
	}
}
