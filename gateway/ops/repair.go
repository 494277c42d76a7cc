package ops

import (
	"context"
	"errors"

	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
)

// Deliver does what a gateway that died may have left undone for a key: it makes
// the newest record certain, delivers its row, and settles it. value is what one
// device's record says; it tells whose row it is. policy is where the device has it.
func (s *Service) Deliver(ctx context.Context, svc peer.Service, policy uint32, h keyhash.Hash, value []byte) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	switch svc {
	case peer.Objects:
		return s.deliverObject(ctx, policy, h, value)
	case peer.Containers:
		return s.deliverContainer(ctx, h)
	}
	k := s.accountKey(h) // accounts and bucket names have no rows
	r, err := s.proposer.Settle(ctx, k.quorum)
	if err == nil && r != nil {
		k.settle(r.Ballot)
	}
	return err
}

func (s *Service) deliverObject(ctx context.Context, policy uint32, h keyhash.Hash, value []byte) error {
	if value == nil {
		return nil
	}
	p, err := s.policyAt(policy)
	if err != nil {
		return err
	}
	k, err := s.keyAt(p, h)
	if err != nil {
		return err
	}
	upload := catalog.IsUpload(value)
	if !upload {
		o, err := catalog.DecodeObject(value)
		if err != nil {
			return err
		}
		if s.secret.Of(keyhash.Object, string(o.Incarnation[:]), o.Name) != h {
			return misplaced("object") // its row would say so of a name that it is not about
		}
		c, err := s.incarnation(ctx, o.ContainerAccount, o.Container, o.Incarnation)
		if err != nil {
			return err
		}
		if c == nil {
			return s.bury(ctx, k)
		}
	}
	r, err := s.proposer.Spread(ctx, k.quorum) // to whom it has not reached yet, too
	if err != nil || r == nil {
		return err
	}
	if upload {
		k.settle(r.Ballot)
		return nil
	}
	return s.deliver(ctx, k, r)
}

// incarnation returns a container as it is now, nil if this incarnation of it is
// gone for ever. One that is being deleted is not gone: it may turn out not to be
// empty.
func (s *Service) incarnation(ctx context.Context, account, name string, inc catalog.Incarnation) (*catalog.Container, error) {
	r, err := s.proposer.Read(ctx, s.containerKey(s.containerHash(account, name)).quorum, false)
	if err != nil {
		return nil, err
	}
	c, err := containerNamed(r, account, name)
	if err != nil || c == nil || c.Incarnation != inc || c.State == catalog.Deleted {
		return nil, err
	}
	return c, nil
}

// bury deletes a record of a container that is gone: nothing of it can be read any
// more, and its row was refused.
func (s *Service) bury(ctx context.Context, k *key) error {
	out, err := s.proposer.Update(ctx, k.quorum, s.clock.Now(), func(cur *register.Record) (*register.Record, error) {
		if cur == nil || cur.Tombstone {
			return nil, errSame
		}
		return &register.Record{Tombstone: true, Epoch: k.place.Epoch, Value: cur.Value}, nil
	})
	switch {
	case errors.Is(err, errSame):
		if r, err := s.proposer.Read(ctx, k.quorum, false); err == nil && r != nil {
			k.settle(r.Ballot)
		}
		return nil
	case err != nil:
		return err
	}
	k.settle(out.Record.Ballot)
	return nil
}

// keyAt returns the register of a hash in the ring of a policy.
func (s *Service) keyAt(p Policy, h keyhash.Hash) (*key, error) {
	place, err := s.cluster.Object(p.Name, h)
	if err != nil {
		return nil, err
	}
	return newKey(peer.Objects, h, place, p.Spec.RecordDevices(), p.Spec.Copies()), nil
}

func (s *Service) deliverContainer(ctx context.Context, h keyhash.Hash) error {
	k := s.containerKey(h)
	r, err := s.proposer.Settle(ctx, k.quorum)
	if err != nil {
		return err
	}
	c, err := s.containerOf(r, h)
	if err != nil || c == nil {
		return err
	}
	if c.State == catalog.Deleting {
		return s.resume(ctx, c)
	}
	if err := s.listContainer(ctx, c, r); err != nil {
		return err
	}
	k.settle(r.Ballot)
	return nil
}

// resume ends the deletion of a container that a gateway began and did not end:
// until then nothing in it can be reached.
func (s *Service) resume(ctx context.Context, c *catalog.Container) error {
	c, r, err := s.changeContainer(ctx, c.Account, c.Name, func(c *catalog.Container, _ *register.Record) error {
		if c == nil || c.State != catalog.Deleting {
			return errSame
		}
		return nil // the same again, as an operation of its own
	})
	if errors.Is(err, errSame) {
		return nil
	}
	if err == nil {
		err = s.decide(ctx, c, r)
	}
	if errs.Is(err, errs.NotEmpty) {
		return nil
	}
	return err
}

// Sweep gives up a group of blobs unless a record or an unfinished upload names
// it, and reports whether it did. When it has, no record can name the group any
// more, whichever gateway wakes up.
func (s *Service) Sweep(ctx context.Context, policyIndex uint32, owner keyhash.Hash, group timestamp.T) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	p, err := s.policyAt(policyIndex)
	if err != nil {
		return false, err
	}
	k, err := s.keyAt(p, owner)
	if err != nil {
		return false, err
	}
	r, err := s.proposer.Read(ctx, k.quorum, false)
	if err != nil || r != nil && r.Group == group {
		return false, err
	}
	open, err := s.uploadUnfinished(ctx, owner, p, group)
	if err != nil || open {
		return false, err
	}
	r, err = s.proposer.Sweep(ctx, k.quorum, group)
	if err != nil || r != nil && r.Group == group {
		return false, err
	}
	for i := range k.place.Devices {
		d := &k.place.Devices[i]
		if derr := d.Node.DropGroup(ctx, k.target(d), owner, group); derr != nil {
			err = derr // that device's own sweeper finds it again
		}
	}
	return true, err
}

func (s *Service) policyAt(index uint32) (Policy, error) {
	for _, p := range s.cluster.Policies() {
		if p.Index == index {
			return p, nil
		}
	}
	return Policy{}, errs.New("ops", errs.Invalid, "there is no storage policy with index %d", index)
}

// uploadUnfinished reports whether the group is that of an upload which may still
// become an object.
func (s *Service) uploadUnfinished(ctx context.Context, owner keyhash.Hash, p Policy, group timestamp.T) (bool, error) {
	k, err := s.uploadOf(owner, p, group.String())
	if err != nil {
		return false, err
	}
	var r *register.Record
	if r, err = s.proposer.Read(ctx, k.quorum, false); err != nil || r == nil || r.Tombstone {
		return false, err
	}
	u, err := catalog.DecodeUpload(r.Value)
	if err != nil {
		return false, err
	}
	if u.State != catalog.UploadOpen && u.State != catalog.UploadCompleting {
		return false, nil
	}
	c, err := s.incarnation(ctx, u.Account, u.Container, u.Incarnation)
	return c != nil, err // with the container its uploads are gone
}
