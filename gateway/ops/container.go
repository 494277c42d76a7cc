package ops

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/listing/merge"
	"ringfort/internal/peer"
	"ringfort/internal/register"
)

func joinAll(list []error) error { return errors.Join(list...) }

// errSame ends a conditional change that finds everything as it should be.
var errSame = errors.New("already so")

func noContainer(op, name string) error {
	return errs.New(op, errs.NoBucket, "container %q does not exist", name)
}

// misplaced is the error of a record that is not about the key it is stored under:
// two names with one 128-bit hash, or a bug. Nobody is to act on it.
func misplaced(what string) error {
	return errs.New("ops", errs.Corrupt, "the record of another %s is stored under this key", what)
}

// containerNamed decodes a container's register, in whichever state it is; nil if
// there never was one.
func containerNamed(r *register.Record, account, name string) (*catalog.Container, error) {
	if r == nil || r.Tombstone {
		return nil, nil
	}
	c, err := catalog.DecodeContainer(r.Value)
	switch {
	case err != nil:
		return nil, err
	case c.Account != account || c.Name != name:
		return nil, misplaced("container")
	}
	return c, nil
}

// containerOf is containerNamed for who knows the register's key alone.
func (s *Service) containerOf(r *register.Record, h keyhash.Hash) (*catalog.Container, error) {
	if r == nil || r.Tombstone {
		return nil, nil
	}
	c, err := catalog.DecodeContainer(r.Value)
	switch {
	case err != nil:
		return nil, err
	case s.containerHash(c.Account, c.Name) != h:
		return nil, misplaced("container")
	}
	return c, nil
}

// liveContainer decodes a container's register; nil if there is no live one.
func liveContainer(r *register.Record, account, name string) (*catalog.Container, error) {
	c, err := containerNamed(r, account, name)
	if err != nil || c == nil || c.State != catalog.Live {
		return nil, err
	}
	return c, nil
}

// bucketOwner decodes the directory's record of a name, nil if nobody holds it.
func bucketOwner(r *register.Record, bucket string) (*catalog.BucketOwner, error) {
	if r == nil || r.Tombstone {
		return nil, nil
	}
	o, err := catalog.DecodeBucketOwner(r.Value)
	switch {
	case err != nil:
		return nil, err
	case o.Bucket != bucket:
		return nil, misplaced("bucket name")
	}
	return o, nil
}

func containerRecord(c *catalog.Container) (*register.Record, error) {
	value, err := c.Encode()
	return &register.Record{Value: value}, err
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
	k := s.containerKey(s.containerHash(c.Account, c.Name))
	if c.Global {
		if err := s.claimFor(ctx, k, &c); err != nil {
			return nil, false, err
		}
	}
	var have *catalog.Container // what is there already
	var at *register.Record     // its record
	out, err := s.proposer.Update(ctx, k.quorum, s.clock.Now(), func(cur *register.Record) (*register.Record, error) {
		have, err = liveContainer(cur, c.Account, c.Name)
		switch {
		case err != nil:
			return nil, err
		case have != nil && c.Global && !have.Global:
			have.Global = true // it gives the name back when it is deleted
			return containerRecord(have)
		case have != nil:
			at = cur
			return nil, errSame
		case being(cur):
			return nil, errs.New(op, errs.Conflict, "container %q is being deleted", c.Name)
		}
		return containerRecord(&c)
	})
	switch {
	case err == nil:
		at = out.Record
	case !errors.Is(err, errSame):
		return nil, false, err
	}
	if have == nil {
		have = &c
	} else if c.Global {
		if err := s.claimName(ctx, have); err != nil {
			return nil, false, err
		}
	}
	// Also when it was there before: who made it may have died before this.
	if err := s.listContainer(ctx, have, at); err != nil {
		return nil, false, err
	}
	k.settle(at.Ballot)
	return have, have.Incarnation == c.Incarnation, nil
}

// claimFor enters the name of a container that is to be made, or is there already,
// into the cluster-wide directory.
func (s *Service) claimFor(ctx context.Context, k *key, c *catalog.Container) error {
	r, err := s.proposer.Read(ctx, k.quorum, false)
	if err != nil {
		return err
	}
	if being(r) {
		return errs.New("ops.CreateContainer", errs.Conflict, "container %q is being deleted", c.Name)
	}
	have, err := liveContainer(r, c.Account, c.Name)
	if err != nil {
		return err
	}
	if have != nil {
		c = have
	}
	return s.claimName(ctx, c)
}

// being reports whether r is a container in the state Deleting.
func being(r *register.Record) bool {
	if r == nil || r.Tombstone {
		return false
	}
	c, err := catalog.DecodeContainer(r.Value)
	return err == nil && c.State == catalog.Deleting
}

// claimName enters a container's name into the cluster-wide directory. A claim of
// an earlier incarnation in the same account is taken over, so that the end of that
// one does not release it.
func (s *Service) claimName(ctx context.Context, c *catalog.Container) error {
	k := s.accountKey(s.secret.Of(keyhash.Global, c.Name))
	mine := &catalog.BucketOwner{Bucket: c.Name, Account: c.Account, Incarnation: c.Incarnation}
	_, err := s.proposer.Update(ctx, k.quorum, s.clock.Now(), func(cur *register.Record) (*register.Record, error) {
		o, err := bucketOwner(cur, c.Name)
		switch {
		case err != nil:
			return nil, err
		case o == nil:
		case o.Account != c.Account:
			return nil, errs.New("ops.CreateContainer", errs.Exists, "bucket name %q belongs to another account", c.Name)
		case o.Incarnation == c.Incarnation:
			return nil, errSame
		}
		value, err := mine.Encode()
		return &register.Record{Value: value}, err
	})
	if errors.Is(err, errSame) {
		return nil
	}
	return err
}

// releaseName takes the name of a container that is gone out of the directory,
// unless a later one has it. The tombstone keeps the record, so that it goes on saying
// which name it is about, and which account had it.
func (s *Service) releaseName(ctx context.Context, c *catalog.Container) error {
	k := s.accountKey(s.secret.Of(keyhash.Global, c.Name))
	_, err := s.proposer.Update(ctx, k.quorum, s.clock.Now(), func(cur *register.Record) (*register.Record, error) {
		o, err := bucketOwner(cur, c.Name)
		if err != nil {
			return nil, err
		}
		if o == nil || o.Account != c.Account || o.Incarnation != c.Incarnation {
			return nil, errSame
		}
		return &register.Record{Tombstone: true, Value: cur.Value}, nil
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
		var err error
		if row.Value, err = v.Encode(); err != nil {
			return err
		}
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
	c, err := liveContainer(r, account, name)
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
	c, err := liveContainer(r, account, name)
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
	o, derr := bucketOwner(r, name)
	switch {
	case derr != nil:
		return nil, derr
	case o == nil || o.Account == account:
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
	c, _, err := s.changeContainer(ctx, account, name, func(c *catalog.Container, _ *register.Record) error {
		if c == nil || c.State != catalog.Live {
			return noContainer("ops.UpdateContainer", name)
		}
		return change(c)
	})
	return c, err
}

// changeContainer changes a container in any state; change gets nil if there
// never was one, and the record that says so.
func (s *Service) changeContainer(ctx context.Context, account, name string, change func(*catalog.Container, *register.Record) error) (*catalog.Container, *register.Record, error) {
	k := s.containerKey(s.containerHash(account, name))
	var next *catalog.Container
	out, err := s.proposer.Update(ctx, k.quorum, s.clock.Now(), func(cur *register.Record) (*register.Record, error) {
		var err error
		if next, err = containerNamed(cur, account, name); err != nil {
			return nil, err
		}
		if next != nil {
			next.Meta = slices.Clone(next.Meta)
		}
		if err := change(next, cur); err != nil {
			return nil, err
		}
		return containerRecord(next)
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
	// Devices may have granted a holder's lease at different times: the last one
	// to run out counts.
	last := map[uint64]register.Lease{}
	for _, l := range held {
		if l.Holder != s.cfg.Holder.Holder && l.Micros > last[l.Holder].Micros {
			last[l.Holder] = l
		}
	}
	var wg sync.WaitGroup
	for _, l := range last {
		wg.Go(func() {
			left := time.Duration(l.Micros) * time.Microsecond
			end := time.NewTimer(left)
			defer end.Stop()
			if n := s.cluster.Gateway(l.Address); n != nil && l.Holder != 0 {
				ctx, cancel := context.WithTimeout(ctx, left)
				defer cancel()
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
// that no row is taken any more; if those of its devices that hold this show it
// empty it is Deleted, else Live again and errs.NotEmpty.
func (s *Service) DeleteContainer(ctx context.Context, account, name string) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	c, r, err := s.changeContainer(ctx, account, name, func(c *catalog.Container, _ *register.Record) error {
		if c == nil || c.State == catalog.Deleted {
			return noContainer("ops.DeleteContainer", name)
		}
		c.State = catalog.Deleting // again, if a gateway died half-way
		return nil
	})
	if err != nil {
		return err
	}
	return s.decide(ctx, c, r)
}

// decide ends the deletion that the record r has begun. Whatever happens to its
// caller, it does not leave the container between life and death if it can help
// it; where it dies itself, Deliver begins again.
func (s *Service) decide(ctx context.Context, c *catalog.Container, r *register.Record) error {
	const op = "ops.DeleteContainer"
	look, cancel := context.WithTimeout(ctx, s.cfg.Timeout/2)
	empty, err := s.emptyNow(look, c, r)
	cancel()
	state := catalog.Live
	if err == nil && empty {
		state = catalog.Deleted
	}
	ctx, cancel = detached(ctx, s.cfg.Timeout)
	defer cancel()
	c, last, uerr := s.changeContainer(ctx, c.Account, c.Name, func(c *catalog.Container, cur *register.Record) error {
		// What was seen holds for this very record: between it and another one
		// that says Deleting the container may have lived.
		if c == nil || cur.Op != r.Op {
			return errs.New(op, errs.Conflict, "the container is being deleted by another request")
		}
		c.State = state
		return nil
	})
	if err = errors.Join(uerr, err); err != nil {
		return err
	}
	if err := s.listContainer(ctx, c, last); err != nil {
		return err
	}
	s.containerKey(s.containerHash(c.Account, c.Name)).settle(last.Ballot)
	if !empty {
		return errs.New(op, errs.NotEmpty, "container %q is not empty", c.Name)
	}
	if c.Global {
		return s.releaseName(ctx, c)
	}
	return nil
}

// emptyNow reports whether a container in the state Deleting, by the record r,
// has no rows. It asks W devices that hold r. A row that is acknowledged, before
// this or after, is on W devices too, so one of those that are asked has taken it:
// before it had r, and so before it was asked.
func (s *Service) emptyNow(ctx context.Context, c *catalog.Container, r *register.Record) (bool, error) {
	h := s.containerHash(c.Account, c.Name)
	k := s.containerKey(h)
	holders, err := k.holders(ctx, r)
	if err != nil {
		if _, err := s.proposer.Spread(ctx, k.quorum); err != nil {
			return false, err
		}
		if holders, err = k.holders(ctx, r); err != nil {
			return false, err
		}
	}
	devices := make([]merge.Device, len(holders))
	for i, d := range holders {
		f := &failover{service: k.service, place: k.place.only(d), next: 1, slow: s.cfg.Timeout}
		devices[i] = &failoverReader{f: f}
	}
	q := &peer.RowQuery{Listing: listingOf(h, c, catalog.Objects), Limit: 1}
	page, err := merge.List(ctx, q, devices)
	return err == nil && len(page.Entries) == 0, err
}

// holders returns the W first devices to answer that they hold a record.
func (k *key) holders(ctx context.Context, r *register.Record) ([]*Device, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n := len(k.quorum.Replicas)
	type answer struct {
		i   int
		err error
	}
	answers := make(chan answer, n)
	for i := range n {
		go func() {
			st, err := k.quorum.Replicas[i].Read(ctx, false)
			if err == nil && (st.Record == nil || st.Record.Op != r.Op) {
				err = errs.New("ops.holders", errs.Unavailable, "a device does not have the container's record")
			}
			answers <- answer{i, err}
		}()
	}
	var list []*Device
	var failed []error
	for range n {
		a := <-answers
		if a.err != nil {
			if failed = append(failed, a.err); len(failed) > n-k.quorum.W {
				break
			}
			continue
		}
		if list = append(list, &k.place.Devices[a.i]); len(list) == k.quorum.W {
			return list, nil
		}
	}
	return nil, few(ctx, "ops.DeleteContainer", failed)
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
	f := &failover{service: svc, place: place, listing: l, slow: s.cfg.HedgeAfter * 10}
	readers := f.quorum()
	answers := make([]peer.ListingStats, len(readers))
	g, ctx := errgroup.WithContext(ctx)
	for i, r := range readers {
		g.Go(func() (err error) {
			answers[i], err = r.ListingStats(ctx)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return Stats{}, err
	}
	best := Stats{Objects: answers[0].Count, Bytes: answers[0].Bytes}
	for _, a := range answers[1:] {
		if a.Count > best.Objects {
			best.Objects, best.Bytes = a.Count, a.Bytes
		}
	}
	return best, nil
}
