package node

import (
	"sync"

	"ringfort/gateway/ops"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/policy"
	"ringfort/ring"
)

// RingPolicy is a storage policy with its ring.
type RingPolicy struct {
	Name    string
	Index   uint32
	Spec    policy.Spec
	Default bool
	Ring    *ring.Ring
}

// Rings are the rings of a cluster.
type Rings struct {
	Account   *ring.Ring
	Container *ring.Ring
	Policies  []RingPolicy // the default first
}

// Validate reports what does not fit together.
func (r *Rings) Validate() error {
	const op = "node.Rings"
	if r.Account == nil || r.Container == nil || len(r.Policies) == 0 {
		return errs.New(op, errs.Invalid, "an account ring, a container ring and a policy are needed")
	}
	if !r.Policies[0].Default {
		return errs.New(op, errs.Invalid, "no policy is the default")
	}
	seen := map[string]bool{}
	index := map[uint32]bool{}
	for _, p := range r.Policies {
		switch {
		case p.Name == "" || seen[p.Name]:
			return errs.New(op, errs.Invalid, "policy name %q is empty or used twice", p.Name)
		case index[p.Index]:
			return errs.New(op, errs.Invalid, "policy index %d is used twice", p.Index)
		case p.Spec.Validate() != nil:
			return p.Spec.Validate()
		case p.Ring.Replicas() != p.Spec.Fragments():
			return errs.New(op, errs.Invalid, "policy %s is %v and needs a ring of %d replicas; its ring has %d",
				p.Name, p.Spec, p.Spec.Fragments(), p.Ring.Replicas())
		}
		seen[p.Name], index[p.Index] = true, true
	}
	return r.sameIDs()
}

// sameIDs reports a device that has different ids in different rings: gateways
// would disagree on which devices hold a key.
func (r *Rings) sameIDs() error {
	ids := map[ring.UUID]ring.DeviceID{}
	uuids := map[ring.DeviceID]ring.UUID{}
	for _, x := range r.all() {
		for _, d := range x.Devices() {
			if id, ok := ids[d.UUID]; ok && id != d.ID {
				return errs.New("node.Rings", errs.Invalid,
					"device %v is %v in one ring and %v in another: build all rings with the same ids (ringfort ring add --id)", d.UUID, id, d.ID)
			}
			if u, ok := uuids[d.ID]; ok && u != d.UUID {
				return errs.New("node.Rings", errs.Invalid,
					"id %v is device %v in one ring and %v in another: build all rings with the same ids (ringfort ring add --id)", d.ID, u, d.UUID)
			}
			ids[d.UUID], uuids[d.ID] = d.ID, d.UUID
		}
	}
	return nil
}

// cluster is what the gateway knows of rings and nodes.
type cluster struct {
	rings    *Rings
	policies []ops.Policy
	local    *Local
	self     string // address of this node's peer listener, "" if it has none
	client   func(address string) peer.Node

	mu    sync.Mutex // guards nodes
	nodes map[string]peer.Node
	// devices are those of each ring, made once.
	devices map[*ring.Ring]map[ring.DeviceID]ops.Device
	names   map[string]string // of nodes, by address
}

var _ ops.Cluster = (*cluster)(nil)

func newCluster(rings *Rings, local *Local, self string, client func(string) peer.Node) *cluster {
	c := &cluster{rings: rings, local: local, self: self, client: client,
		nodes: map[string]peer.Node{}, devices: map[*ring.Ring]map[ring.DeviceID]ops.Device{}, names: map[string]string{}}
	for _, p := range rings.Policies {
		c.policies = append(c.policies, ops.Policy{Name: p.Name, Index: p.Index, Spec: p.Spec, Default: p.Default})
		c.addDevices(p.Ring)
	}
	c.addDevices(rings.Account)
	c.addDevices(rings.Container)
	return c
}

func (c *cluster) addDevices(r *ring.Ring) {
	if c.devices[r] != nil {
		return
	}
	m := make(map[ring.DeviceID]ops.Device)
	for _, d := range r.Devices() {
		c.names[d.Address] = d.Node
		x := ops.Device{ID: d.ID, Near: c.local.devices[d.ID] != nil}
		if x.Near {
			x.Node = c.local
		} else {
			x.Node = c.node(d.Address)
		}
		m[d.ID] = x
	}
	c.devices[r] = m
}

// node returns the node behind a peer address.
func (c *cluster) node(address string) peer.Node {
	if address == c.self && c.self != "" {
		return c.local
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.nodes[address]
	if n == nil {
		n = c.client(address)
		c.nodes[address] = n
	}
	return n
}

func (c *cluster) place(r *ring.Ring, key keyhash.Hash) ops.Place {
	p := r.PartitionOf(key)
	ids := r.Primaries(p)
	devices := c.devices[r]
	place := ops.Place{Partition: p, Epoch: uint64(r.Epoch()), Devices: make([]ops.Device, len(ids))}
	for i, id := range ids {
		place.Devices[i] = devices[id]
	}
	return place
}

// Object implements ops.Cluster.
func (c *cluster) Object(name string, key keyhash.Hash) (ops.Place, error) {
	for i := range c.rings.Policies {
		if c.rings.Policies[i].Name == name {
			place := c.place(c.rings.Policies[i].Ring, key)
			place.Policy = c.rings.Policies[i].Index
			return place, nil
		}
	}
	return ops.Place{}, errs.New("node", errs.Invalid, "there is no storage policy %q", name)
}

// Container implements ops.Cluster.
func (c *cluster) Container(key keyhash.Hash) ops.Place { return c.place(c.rings.Container, key) }

// Account implements ops.Cluster.
func (c *cluster) Account(key keyhash.Hash) ops.Place { return c.place(c.rings.Account, key) }

// Policies implements ops.Cluster.
func (c *cluster) Policies() []ops.Policy { return c.policies }

// Gateway implements ops.Cluster.
func (c *cluster) Gateway(address string) peer.Node {
	if address == "" {
		return nil
	}
	return c.node(address)
}

// epoch returns the epoch of the ring of a service and policy, false if there is no
// such ring. Containers and accounts have one ring each, of policy 0.
func (c *cluster) epoch(s peer.Service, policy uint32) (uint64, bool) {
	switch s {
	case peer.Containers:
		return uint64(c.rings.Container.Epoch()), policy == 0
	case peer.Accounts:
		return uint64(c.rings.Account.Epoch()), policy == 0
	case peer.Objects:
		for i := range c.rings.Policies {
			if p := &c.rings.Policies[i]; p.Index == policy {
				return uint64(p.Ring.Epoch()), true
			}
		}
	}
	return 0, false
}

func (c *cluster) epochs() map[string]uint64 {
	m := map[string]uint64{"account": uint64(c.rings.Account.Epoch()), "container": uint64(c.rings.Container.Epoch())}
	for _, p := range c.rings.Policies {
		m["policy "+p.Name] = uint64(p.Ring.Epoch())
	}
	return m
}

// named returns every node of the cluster by name or address.
func (c *cluster) named() map[string]peer.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := map[string]peer.Node{c.local.name: c.local}
	for address, n := range c.nodes {
		m[c.names[address]] = n
	}
	return m
}

// close ends the connections to other nodes.
func (c *cluster) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodes {
		if x, ok := n.(interface{ Close() error }); ok {
			x.Close()
		}
	}
}
