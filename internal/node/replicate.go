package node

import (
	"context"
	"time"

	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/register"
	"ringfort/objectserver"
	"ringfort/replicator"
)

// replicate runs the replicator over the node's devices.
func (n *Node) replicate(ctx context.Context) {
	var list []replicator.Device
	for _, d := range n.local.order {
		list = append(list, &replicated{d})
	}
	cfg := n.cfg.Replicator
	cfg.Gateway, cfg.Log = n.Ops, n.log
	replicator.New(cfg, list).Run(ctx)
}

// replicated shows a device to the replicator. A device out of service answers
// with its error.
type replicated struct{ d *device }

type notes interface {
	Notes(start keyhash.Hash, before int64, fn func(keyhash.Hash, register.Note) bool) error
}

// Notes implements replicator.Device.
func (r *replicated) Notes(svc peer.Service, start keyhash.Hash, before int64, fn func(keyhash.Hash, register.Note) bool) error {
	s, done, err := r.d.use()
	if err != nil {
		return err
	}
	defer done()
	var list notes
	switch svc {
	case peer.Containers:
		list = s.container
	case peer.Accounts:
		list = s.account
	default:
		list = s.objects
	}
	return list.Notes(start, before, fn)
}

// Value implements replicator.Device.
func (r *replicated) Value(svc peer.Service, key keyhash.Hash) (policy uint32, value []byte, err error) {
	s, done, err := r.d.use()
	if err != nil {
		return 0, nil, err
	}
	defer done()
	var st register.State
	if svc == peer.Objects {
		st, err = s.objects.Look(key)
	} else {
		var regs registers
		if regs, err = s.registers(svc, 0); err == nil {
			st, err = regs.Read(context.Background(), key, false)
		}
	}
	if err != nil || st.Record == nil {
		return 0, nil, err
	}
	return st.Policy, st.Record.Value, nil
}

// Suspects implements replicator.Device.
func (r *replicated) Suspects(fn func(replicator.Group) bool) error {
	s, done, err := r.d.use()
	if err != nil {
		return err
	}
	defer done()
	return s.objects.Suspects(func(g objectserver.Group) bool {
		policy, found, err := s.objects.PolicyOf(g)
		if err != nil || !found {
			s.objects.Acquit(g) // nothing of it is on this device
			return err == nil
		}
		return fn(replicator.Group{Owner: g.Owner, Group: g.Group, Policy: policy})
	})
}

// Acquit implements replicator.Device.
func (r *replicated) Acquit(g replicator.Group) {
	if s, done, err := r.d.use(); err == nil {
		defer done()
		s.objects.Acquit(objectserver.Group{Owner: g.Owner, Group: g.Group})
	}
}

// Groups implements replicator.Device.
func (r *replicated) Groups(start []byte, before time.Time, fn func([]byte, replicator.Group) bool) error {
	s, done, err := r.d.use()
	if err != nil {
		return err
	}
	defer done()
	return s.objects.Fragments(start, func(at []byte, f objectserver.Fragment) bool {
		if !f.Name.Blob.Group.Time().Before(before) {
			return true
		}
		st, err := s.objects.Look(f.Name.Owner)
		if err == nil && st.Record != nil && st.Record.Group == f.Name.Blob.Group {
			return true
		}
		return fn(at, replicator.Group{Owner: f.Name.Owner, Group: f.Name.Blob.Group, Policy: f.Policy})
	})
}

// Reconcile implements replicator.Device.
func (r *replicated) Reconcile(ctx context.Context, before time.Time) (int, error) {
	s, done, err := r.d.use()
	if err != nil {
		return 0, err
	}
	defer done()
	return s.objects.Reconcile(ctx, before)
}
