package ops

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"time"

	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/register"
)

func joinAll(list []error) error { return errors.Join(list...) }

// errSame ends a conditional change that finds everything as it should be.
var errSame = errors.New("already so")

func noContainer(op, name string) error {
	return errs.New(op, errs.NoBucket, "container %q does not exist", name)
}

// liveContainer decodes a container's register; nil if there is no live one.
func liveContainer(r *register.Record) (*catalog.Container, error) {
	if r == nil || r.Tombstone {
		return nil, nil
	}
	c, err := catalog.DecodeContainer(r.Value)
	if err != nil || c.State != catalog.Live {
		return nil, err
	}
	return c, nil
}

func containerRecord(c *catalog.Container) *register.Record {
	return &register.Record{Value: c.AppendTo(nil)}
}

// CreateContainer makes a container as described by want: its Account, Name,
// Policy, Meta and Global. It returns the container and whether it is new; one
// that its account has already is returned as it is. A Global name that another
// account holds is errs.Exists.
func (s *Service) CreateContainer(ctx context.Context, want *catalog.Container) (*catalog.Container, bool, error) {
	const op = "ops.CreateContainer"
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	p, err := s.policyNamed(want.Policy)
	if err != nil {
		return nil, false, err
	}
	c := *want
	c.State, c.Policy, c.Created = catalog.Live, p.Name, s.now()
	rand.Read(c.Incarnation[:])
	if c.Global {
		if err := s.claimName(ctx, &c); err != nil {
			return nil, false, err
		}
	}
	k := s.containerKey(s.containerHash(c.Account, c.Name))
	var have *catalog.Container
	out, err := s.proposer.Update(ctx, k.quorum, s.clock.Now(), func(cur *register.Record) (*register.Record, error) {
		have, err = liveContainer(cur)
		if err != nil {
			return nil, err
		}
		if have != nil {
			return nil, errSame
		}
		if being(cur) {
			return nil, errs.New(op, errs.Conflict, "container %q is being deleted", c.Name)
		}
		return containerRecord(&c), nil
	})
	if errors.Is(err, errSame) {
		return have, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if err := s.listContainer(ctx, &c, out.Record); err != nil {
		return nil, false, err
	}
	k.settle(out.Record.Ballot)
	return &c, true, nil
}

// being reports whether r is a container in the state Deleting.
func being(r *register.Record) bool {
	if r == nil || r.Tombstone {
		return false
	}
	c, err := catalog.DecodeContainer(r.Value)
	return err == nil && c.State == catalog.Deleting
}

// claimName enters a bucket name into the cluster-wide directory.
func (s *Service) claimName(ctx context.Context, c *catalog.Container) error {
	k := s.accountKey(s.secret.Of(keyhash.Global, c.Name))
	mine := &catalog.BucketOwner{Bucket: c.Name, Account: c.Account, Incarnation: c.Incarnation}
	_, err := s.proposer.Update(ctx, k.quorum, s.clock.Now(), func(cur *register.Record) (*register.Record, error) {
		if cur != nil && !cur.Tombstone {
			o, err := catalog.DecodeBucketOwner(cur.Value)
			if err != nil {
				return nil, err
			}
			if o.Account != c.Account {
				return nil, errs.New("ops.CreateContainer", errs.Exists, "bucket name %q belongs to another account", c.Name)
			}
			return nil, errSame
		}
		return &register.Record{Value: mine.AppendTo(nil)}, nil
	})
	if errors.Is(err, errSame) {
		return nil
	}
	return err
}

// releaseName takes a bucket name out of the directory again.
func (s *Service) releaseName(ctx context.Context, c *catalog.Container) error {
	k := s.accountKey(s.secret.Of(keyhash.Global, c.Name))
	_, err := s.proposer.Update(ctx, k.quorum, s.clock.Now(), func(cur *register.Record) (*register.Record, error) {
		if cur == nil || cur.Tombstone {
			return nil, errSame
		}
		if o, err := catalog.DecodeBucketOwner(cur.Value); err != nil || o.Account != c.Account {
			return nil, errSame
		}
		return &register.Record{Tombstone: true}, nil
	})
	if errors.Is(err, errSame) {
		return nil
	}
	return err
}

// listContainer puts the container's row into its account's listing.
func (s *Service) listContainer(ctx context.Context, c *catalog.Container, r *register.Record) error {
	row := catalog.Row{Name: c.Name, Ballot: r.Ballot, TS: r.TS, Deleted: c.State == catalog.Deleted}
	if !row.Deleted {
		v := catalog.ContainerRow{Incarnation: c.Incarnation, Created: c.Created, Policy: c.Policy}
		row.Value = v.AppendTo(nil)
	}
	h := s.accountHash(c.Account)
	l := peer.Listing{Key: h, Table: catalog.Containers}
	return s.putRows(ctx, peer.Accounts, s.cluster.Account(h), l, []catalog.Row{row})
}

// Container returns a container of an account, errs.NoBucket if there is none.
// What it returns may be as old as the gateway's lease on it, which a change of
// anything that matters to requests waits for.
func (s *Service) Container(ctx context.Context, account, name string) (*catalog.Container, error) {
	h := s.containerHash(account, name)
	if c := s.leases.get(h); c != nil {
		return c, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	asked := time.Now()
	gen := s.leases.generation(h)
	k := s.containerKey(h)
	r, err := s.proposer.Read(ctx, leased(k, s.cfg.Holder), false)
	if err != nil {
		return nil, err
	}
	c, err := liveContainer(r)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, noContainer("ops.Container", name)
	}
	s.leases.put(h, c, asked, gen)
	return c, nil
}

// leased returns the quorum of a container's register with reads that ask for a
// lease.
func leased(k *key, holder register.Lease) *register.Quorum {
	q := *k.quorum
	q.Replicas = make([]register.Replica, len(k.quorum.Replicas))
	for i, r := range k.quorum.Replicas {
		q.Replicas[i] = &leasedReplica{replica: *r.(*replica), holder: holder}
	}
	return &q
}

type leasedReplica struct {
	replica
	holder register.Lease
}

func (r *leasedReplica) Read(ctx context.Context, _ bool) (register.State, error) {
	return r.device.Node.ReadLeased(ctx, r.key.target(r.device), r.key.hash, r.holder)
}

// Fresh is Container without a lease: the state now.
func (s *Service) Fresh(ctx context.Context, account, name string) (*catalog.Container, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	r, err := s.proposer.Read(ctx, s.containerKey(s.containerHash(account, name)).quorum, false)
	if err != nil {
		return nil, err
	}
	c, err := liveContainer(r)
	if err == nil && c == nil {
		err = noContainer("ops.Fresh", name)
	}
	return c, err
}

// Resolve finds a bucket by name: in the requester's account first, then in the
// cluster-wide directory.
func (s *Service) Resolve(ctx context.Context, account, name string) (*catalog.Container, error) {
	c, err := s.Container(ctx, account, name)
	if !errs.Is(err, errs.NoBucket) {
		return c, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	k := s.accountKey(s.secret.Of(keyhash.Global, name))
	r, rerr := s.proposer.Read(ctx, k.quorum, false)
	if rerr != nil {
		return nil, rerr
	}
	if r == nil || r.Tombstone {
		return nil, err
	}
	o, derr := catalog.DecodeBucketOwner(r.Value)
	if derr != nil {
		return nil, derr
	}
	if o.Account == account {
		return nil, err
	}
	return s.Container(ctx, o.Account, name)
}

// UpdateContainer changes a container: change is given the current state and
// alters it, or refuses with an error. It may be called more than once. The call
// returns when no gateway acts on the former state any more.
func (s *Service) UpdateContainer(ctx context.Context, account, name string, change func(*catalog.Container) error) (*catalog.Container, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	c, _, err := s.changeContainer(ctx, account, name, func(c *catalog.Container) error {
		if c == nil || c.State != catalog.Live {
			return noContainer("ops.UpdateContainer", name)
		}
		return change(c)
	})
	return c, err
}

// changeContainer changes a container in any state; change gets nil if there
// never was one.
func (s *Service) changeContainer(ctx context.Context, account, name string, change func(*catalog.Container) error) (*catalog.Container, *register.Record, error) {
	k := s.containerKey(s.containerHash(account, name))
	var next *catalog.Container
	out, err := s.proposer.Update(ctx, k.quorum, s.clock.Now(), func(cur *register.Record) (*register.Record, error) {
		next = nil
		if cur != nil && !cur.Tombstone {
			var err error
			if next, err = catalog.DecodeContainer(cur.Value); err != nil {
				return nil, err
			}
			next.Meta = slices.Clone(next.Meta)
		}
		if err := change(next); err != nil {
			return nil, err
		}
		return containerRecord(next), nil
	})
	if err != nil {
		return nil, nil, err
	}
	s.recall(ctx, k.hash, out.Leases)
	return next, out.Record, nil
}

// recall waits until no gateway acts on a container's former state: until each
// has confirmed that it forgot it, or its lease has run out.
func (s *Service) recall(ctx context.Context, h keyhash.Hash, held []register.Lease) {
	s.leases.drop(h)
	var wg sync.WaitGroup
	asked := map[uint64]bool{s.cfg.Holder.Holder: true}
	for _, l := range held {
		if l.Holder != 0 && asked[l.Holder] {
			continue
		}
		asked[l.Holder] = true
		wg.Go(func() {
			end := time.NewTimer(time.Duration(l.Micros) * time.Microsecond)
			defer end.Stop()
			if n := s.cluster.Gateway(l.Address); n != nil && l.Holder != 0 {
				if n.Revoke(ctx, h) == nil {
					return
				}
			}
			<-end.C
		})
	}
	wg.Wait()
}

// Revoke forgets what this gateway holds of a container under a lease.
func (s *Service) Revoke(h keyhash.Hash) { s.leases.drop(h) }

// DeleteContainer deletes an empty container: its register goes to Deleting, so
// that no row is taken any more; if W of its devices then show it empty it is
// Deleted, else Live again and errs.NotEmpty.
func (s *Service) DeleteContainer(ctx context.Context, account, name string) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	c, _, err := s.changeContainer(ctx, account, name, func(c *catalog.Container) error {
		if c == nil || c.State == catalog.Deleted {
			return noContainer("ops.DeleteContainer", name)
		}
		c.State = catalog.Deleting // again, if a gateway died half-way
		return nil
	})
	if err != nil {
		return err
	}
	empty, err := s.emptyNow(ctx, c)
	state := catalog.Live
	if err == nil && empty {
		state = catalog.Deleted
	}
	inc := c.Incarnation
	c, r, uerr := s.changeContainer(ctx, account, name, func(c *catalog.Container) error {
		if c == nil || c.Incarnation != inc || c.State != catalog.Deleting {
			return errs.New("ops.DeleteContainer", errs.Conflict, "container %q is being deleted by another request", name)
		}
		c.State = state
		return nil
	})
	if err = errors.Join(err, uerr); err != nil {
		return err
	}
	if !empty {
		return errs.New("ops.DeleteContainer", errs.NotEmpty, "container %q is not empty", name)
	}
	if err := s.listContainer(ctx, c, r); err != nil {
		return err
	}
	s.containerKey(s.containerHash(account, name)).settle(r.Ballot)
	if c.Global {
		return s.releaseName(ctx, c)
	}
	return nil
}

// emptyNow reports whether W devices of a Deleting container hold no row of it.
func (s *Service) emptyNow(ctx context.Context, c *catalog.Container) (bool, error) {
	h := s.containerHash(c.Account, c.Name)
	place := s.cluster.Container(h)
	q := &peer.RowQuery{Listing: listingOf(h, c, catalog.Objects), Limit: 1}
	empty := 0
	var failed []error
	for i := range place.Devices {
		d := &place.Devices[i]
		page, err := d.Node.ListRows(ctx, peer.Target{Device: d.ID, Epoch: place.Epoch, Partition: place.Partition}, peer.Containers, q)
		switch {
		case err != nil:
			failed = append(failed, err)
		case len(page.Entries) > 0:
			// One device may be behind: it counts against, but does not decide.
		default:
			empty++
		}
	}
	if empty >= len(place.Devices)/2+1 {
		return true, nil
	}
	if len(failed) > len(place.Devices)-len(place.Devices)/2-1 {
		return false, &errs.Error{Op: "ops.DeleteContainer", Kind: errs.Unavailable, What: "too few of the listing's devices answer", Err: joinAll(failed)}
	}
	return false, nil
}

func listingOf(h keyhash.Hash, c *catalog.Container, t catalog.Table) peer.Listing {
	return peer.Listing{Key: h, Incarnation: c.Incarnation, Table: t, RangeEpoch: c.RangeEpoch}
}

// ContainerStats returns a container's totals.
func (s *Service) ContainerStats(ctx context.Context, c *catalog.Container) (Stats, error) {
	h := s.containerHash(c.Account, c.Name)
	return s.listingStats(ctx, peer.Containers, s.cluster.Container(h), listingOf(h, c, catalog.Objects))
}

// listingStats asks R devices and returns what most of them say, the larger
// count if they differ: totals follow their rows, and a device that is behind
// has usually missed puts.
func (s *Service) listingStats(ctx context.Context, svc peer.Service, place Place, l peer.Listing) (Stats, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	n := len(place.Devices)
	need := n - n/2
	var best Stats
	var failed []error
	got := 0
	for i := range place.Devices {
		d := &place.Devices[i]
		st, err := d.Node.ListingStats(ctx, peer.Target{Device: d.ID, Epoch: place.Epoch, Partition: place.Partition}, svc, l)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		if got++; got == 1 || st.Count > best.Objects {
			best.Objects, best.Bytes = st.Count, st.Bytes
		}
		if got == need {
			return best, nil
		}
	}
	return Stats{}, &errs.Error{Op: "ops.Stats", Kind: errs.Unavailable, What: "too few of the listing's devices answer", Err: joinAll(failed)}
}
