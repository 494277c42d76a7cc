// Package node wires services together: it opens a node's devices, puts the
// services on them, connects them with the gateway, and serves. It is the only
// package that knows them all.
//
// Read [Open] first, then [Node.Serve]. A node is either a cluster by itself, set
// up on its directories at the first start (what is known of it then lies on each
// of them), or one of many, described by a configuration file and ring files.
//
// A device that cannot be opened or fails is out of service alone: the node starts
// and goes on without it, as long as one device is left.
package node

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"ringfort/gateway"
	"ringfort/gateway/auth"
	"ringfort/gateway/auth/users"
	"ringfort/gateway/ops"
	"ringfort/gateway/s3api"
	"ringfort/internal/erasure"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
	"ringfort/internal/vfs"
	"ringfort/internal/volume"
	"ringfort/internal/workers"
	"ringfort/objectserver"
	"ringfort/replicator"
	"ringfort/ring"
)

// Config says what a node is made of. The zero value of what is not needed stands
// for its default.
type Config struct {
	Name    string
	Version string
	Dirs    []string
	Policy  string // of a node by itself, at its set-up; "" for the default
	// Cluster, if not nil, makes the node one of many.
	Cluster *ClusterConfig

	// Root is the root identity's access key and secret; empty: those that were
	// generated at set-up.
	RootAccessKey, RootSecret string

	Region  string
	Domains []string

	// CacheBytes is the memory for the index blocks of all devices together.
	// Default 32 MiB, for a node with 4 devices in 250 MiB; more makes lookups in
	// large indexes read the disk less often.
	CacheBytes int64
	// DrainTime is how long a stop waits for requests under way. Default 30 s.
	DrainTime time.Duration

	Volume  volume.Config       // template; the paths are filled in
	Objects objectserver.Config // likewise
	Ops     ops.Config          // likewise
	Gateway gateway.Config      // likewise

	Replicator replicator.Config // likewise

	FS    vfs.FS
	Log   *slog.Logger
	Level *slog.LevelVar // of Log, changed through the admin listener; may be nil
}

// ClusterConfig is a node's place in a cluster of many.
type ClusterConfig struct {
	Rings   *Rings
	ID      string
	Secret  keyhash.Secret // of the placement hash
	Peer    peer.Secret
	Tokens  []byte
	Address string // of this node's peer listener, as the rings name it
	// Roles: "gateway" serves clients, "storage" serves devices.
	Gateway, Storage bool
}

// Node is a running node.
type Node struct {
	cfg     Config
	log     *slog.Logger
	local   *Local
	cluster *cluster
	Ops     *ops.Service
	Users   *users.Users
	handler *gateway.Handler
	cache   *pebble.Cache
	workers *workers.Pool
	metrics *metrics
	memory  *deviceMemory
	solo    *solo

	group   sync.WaitGroup // of the background loops
	stop    context.CancelFunc
	ready   readiness
	started time.Time
	closing sync.Once
}

func (c *Config) fill() {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.FS == nil {
		c.FS = vfs.Default()
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = 32 << 20
	}
	if c.Volume.MemTableBytes == 0 && len(c.Dirs) >= 4 {
		// Up to four exist for each device under load.
		c.Volume.MemTableBytes = 4 << 20
	}
	if c.DrainTime == 0 {
		c.DrainTime = 30 * time.Second
	}
}

// memTables is what the memory tables of all devices take at least, one each. Pebble
// takes them out of the block cache, which would otherwise have no room left for
// blocks; those that are being flushed leave it less for a moment.
func (c *Config) memTables() int64 {
	size := c.Volume.MemTableBytes
	if size == 0 {
		size = volume.DefaultMemTableBytes
	}
	return int64(len(c.Dirs)) * int64(size)
}

// identity is what a node knows of its cluster, however it came to know it.
type identity struct {
	cluster string
	secret  keyhash.Secret
	tokens  []byte
	peer    peer.Secret
	address string
	rings   *Rings
	devices []*device
	root    rootKeys
}

// Open opens a node's devices and makes its services. Stop with Close.
func Open(ctx context.Context, cfg Config) (*Node, error) {
	cfg.fill()
	n := &Node{cfg: cfg, log: cfg.Log, started: time.Now()}
	id, err := n.identify()
	if err != nil {
		return nil, err
	}
	n.cache = pebble.NewCache(cfg.CacheBytes + cfg.memTables())
	if n.cfg.Objects.Buffers == nil {
		n.cfg.Objects.Buffers = erasure.NewPool(24 << 20)
	}
	if err := n.openDevices(ctx, id); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	if err := n.wire(id); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	n.background(ctx)
	return n, nil
}

// identify finds out who the node is.
func (n *Node) identify() (*identity, error) {
	if n.cfg.Cluster != nil {
		return n.identifyMember()
	}
	s, err := openSolo(n.cfg.Dirs, n.cfg.Policy)
	if err != nil {
		return nil, err
	}
	n.solo = s
	id := &identity{cluster: s.state.Cluster, secret: s.state.placement(), tokens: s.state.Tokens, root: s.state.Root}
	if id.rings, err = s.state.rings(); err != nil {
		return nil, err
	}
	dirs, err := cleanDirs(n.cfg.Dirs)
	if err != nil {
		return nil, err
	}
	for i, d := range s.state.Devices {
		id.devices = append(id.devices, &device{id: d.ID, uuid: d.UUID, dir: dirs[i], why: s.problems[i]})
	}
	return id, nil
}

// identifyMember matches the directories of one node of many with the rings'
// devices. A directory without a claim is claimed if it is named in no claim and
// its device has never been in use, which the ring cannot say: so claiming is the
// business of `ringfort device format`, and an unclaimed directory is refused.
func (n *Node) identifyMember() (*identity, error) {
	const op = "node.Open"
	c := n.cfg.Cluster
	id := &identity{cluster: c.ID, secret: c.Secret, tokens: c.Tokens, peer: c.Peer, address: c.Address, rings: c.Rings}
	if err := c.Rings.Validate(); err != nil {
		return nil, err
	}
	if !c.Storage {
		return id, nil
	}
	known := map[ring.UUID]ring.Device{}
	for _, r := range c.Rings.all() {
		for _, d := range r.Devices() {
			known[d.UUID] = d
		}
	}
	dirs, err := cleanDirs(n.cfg.Dirs)
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		cl, err := readClaim(dir)
		if err == nil && cl == nil {
			err = errs.New(op, errs.Invalid, "%s is not a device: claim it with `ringfort device format`", dir)
		}
		if err == nil && cl.Cluster != c.ID {
			err = errs.New(op, errs.Invalid, "%s belongs to cluster %s, not to %s", dir, cl.Cluster, c.ID)
		}
		if err != nil {
			n.log.Error("a directory is out of service", "dir", dir, "error", err)
			continue
		}
		if err := cl.checkPlacement(dir, c.Secret); err != nil {
			return nil, err
		}
		d, ok := known[cl.UUID]
		if !ok {
			n.log.Error("a directory is out of service", "dir", dir, "error", "no ring names its device", "uuid", cl.UUID)
			continue
		}
		dev := &device{id: d.ID, uuid: cl.UUID, dir: dir}
		if dev.why, _ = problem(dir, cl); dev.why == "" {
			if err := sameRings(dir, c.Rings); err != nil {
				return nil, err
			}
		}
		id.devices = append(id.devices, dev)
	}
	if len(id.devices) == 0 {
		return nil, errs.New(op, errs.Unavailable, "none of the node's directories is a device of the cluster's rings")
	}
	return id, nil
}

// all lists the rings.
func (r *Rings) all() []*ring.Ring {
	list := []*ring.Ring{r.Account, r.Container}
	for _, p := range r.Policies {
		list = append(list, p.Ring)
	}
	return list
}

// openDevices brings the devices into service, all at a time: after a crash each
// replays its log.
func (n *Node) openDevices(ctx context.Context, id *identity) error {
	n.local = &Local{
		name: n.cfg.Name, version: n.cfg.Version, started: n.started,
		devices: map[ring.DeviceID]*device{}, order: id.devices,
	}
	var wg sync.WaitGroup
	for _, d := range id.devices {
		n.local.devices[d.id] = d
		if d.why != "" {
			n.log.Error("a device is out of service", "device", d.id, "dir", d.dir, "error", d.why)
			continue
		}
		wg.Go(func() {
			if err := d.open(ctx, &n.cfg, n.cache, n.log); err != nil {
				d.fail(err, n.log)
			}
		})
	}
	wg.Wait()
	if len(id.devices) > 0 && !slices.ContainsFunc(id.devices, func(d *device) bool { return d.running != nil }) {
		return errs.New("node.Open", errs.Unavailable, "no device can be brought into service: %s", id.devices[0].why)
	}
	return nil
}

// idleWorkers are kept for the gateway's next calls to devices: some for each of
// a few dozen requests at a time.
const idleWorkers = 64

// wire connects the services.
func (n *Node) wire(id *identity) error {
	n.memory = newDeviceMemory(n.log)
	client := func(address string) peer.Node {
		return peer.NewClient(address, peer.ClientConfig{Secret: id.peer, Log: n.log, Devices: n.memory})
	}
	n.cluster = newCluster(id.rings, n.local, id.address, client)
	n.local.epoch, n.local.epochs = n.cluster.epoch, n.cluster.epochs
	writer := timestamp.NewWriter()
	ocfg := n.cfg.Ops
	ocfg.Cluster, ocfg.Secret, ocfg.Clock, ocfg.Log = n.cluster, &id.secret, timestamp.NewClock(writer, nil), n.log
	n.workers = workers.New(0, idleWorkers)
	ocfg.Workers = n.workers
	ocfg.Holder = register.Lease{Holder: writer, Address: id.address}
	n.Ops = ops.New(ocfg)
	n.local.revoke = n.Ops.Revoke
	root := auth.Identity{Account: "main", User: "root", AccessKey: id.root.AccessKey, Secret: id.root.Secret, Root: true, Enabled: true}
	if n.cfg.RootAccessKey != "" {
		root.AccessKey, root.Secret = n.cfg.RootAccessKey, n.cfg.RootSecret
	}
	n.Users = users.New(n.Ops, root)
	n.metrics = newMetrics(n)
	swift, err := n.swift(id.tokens)
	if err != nil {
		return err
	}
	gcfg := n.cfg.Gateway
	gcfg.Log, gcfg.Swift = n.log, swift
	gcfg.S3 = s3api.New(s3api.Config{
		Store: s3api.For(n.Ops), Identities: n.Users, Large: large(swift), Log: n.log,
		Domains: n.cfg.Domains, Region: n.cfg.Region, Observe: n.metrics.observeS3,
	})
	n.handler = gateway.New(gcfg)
	return nil
}

// Listeners are where a node serves. Those that are nil are not served.
type Listeners struct {
	HTTP  net.Listener
	HTTPS net.Listener
	TLS   *tls.Config // of HTTPS
	Admin net.Listener
	Peer  net.Listener
}

// Serve serves until ctx ends, then drains: it stops taking connections, lets
// requests under way end, and returns. Close is still to be called.
func (n *Node) Serve(ctx context.Context, l Listeners) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	front := gateway.NewServer(n.handler, base)
	admin := &http.Server{Handler: n.admin(), ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return base }}
	peers := &http.Server{ReadHeaderTimeout: 10 * time.Second}
	if n.cfg.Cluster != nil {
		peers.Handler = peer.NewServer(n.local, peer.ServerConfig{Secret: n.cfg.Cluster.Peer, Log: n.log})
	}
	failed := make(chan error, 4)
	var serving sync.WaitGroup
	serve := func(l net.Listener, run func(net.Listener) error) {
		if l == nil {
			return
		}
		serving.Go(func() {
			if err := run(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}
	serve(l.Peer, peers.Serve)
	serve(l.HTTP, func(x net.Listener) error { return front.Serve(x, nil) })
	serve(l.HTTPS, func(x net.Listener) error { return front.Serve(x, l.TLS) })
	serve(l.Admin, admin.Serve)
	n.ready.set(true)
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	n.ready.set(false)
	drain, done := context.WithTimeout(context.Background(), n.cfg.DrainTime)
	defer done()
	err = errors.Join(err, front.Shutdown(drain))
	// The peers last: what this node's gateway does may need them, and theirs us.
	peers.Close()
	admin.Close()
	serving.Wait()
	return err
}

// Close stops the background work and the devices. A second call does nothing.
func (n *Node) Close() error {
	var err error
	n.closing.Do(func() { err = n.close() })
	return err
}

func (n *Node) close() error {
	if n.stop != nil {
		n.stop()
	}
	n.group.Wait()
	var err error
	if n.local != nil {
		var wg sync.WaitGroup
		failed := make([]error, len(n.local.order))
		for i, d := range n.local.order {
			wg.Go(func() { failed[i] = d.close() })
		}
		wg.Wait()
		err = errors.Join(failed...)
	}
	if n.cluster != nil {
		n.cluster.close()
	}
	n.workers.Stop()
	if n.cache != nil {
		n.cache.Unref()
	}
	return err
}

// background starts the loops that look after the node.
func (n *Node) background(ctx context.Context) {
	ctx, n.stop = context.WithCancel(context.WithoutCancel(ctx))
	n.group.Go(func() { n.watchMounts(ctx) })
	n.group.Go(func() { n.replicate(ctx) })
}

// watchEvery is how often claims are looked at: a disk that was unmounted under
// a running node must not be mistaken for the directory below it for long.
const watchEvery = 10 * time.Second

func (n *Node) watchMounts(ctx context.Context) {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for _, d := range n.local.order {
			if !d.inService() {
				continue
			}
			c, err := readClaim(d.dir)
			switch {
			case err != nil:
				d.fail(err, n.log)
			case c == nil || c.UUID != d.uuid:
				d.fail(errs.New("node", errs.Unavailable, "the directory is no longer the device: was it unmounted or replaced?"), n.log)
			case c.Mount && !isMount(d.dir):
				d.fail(errs.New("node", errs.Unavailable, "its file system is no longer mounted"), n.log)
			}
		}
	}
}

// Fresh reports whether the node was set up by this Open.
func (n *Node) Fresh() bool { return n.solo != nil && n.solo.fresh }

// Root returns the root identity, and whether its keys were generated.
func (n *Node) Root() (id auth.Identity, generated bool) {
	return n.Users.Root(), n.cfg.RootAccessKey == ""
}

// Policies lists the storage policies.
func (n *Node) Policies() []ops.Policy { return n.cluster.policies }

// ListingReplicas is on how many devices listings are kept.
func (n *Node) ListingReplicas() int { return n.cluster.rings.Container.Replicas() }

// Devices describes the node's devices.
func (n *Node) Devices() []peer.DeviceStatus {
	st, err := n.local.Status(context.Background())
	if err != nil {
		return nil
	}
	return st.Devices
}

// FormatDevice claims an empty directory for a cluster of many nodes, whose names
// are placed by secret.
func FormatDevice(dir, cluster string, secret keyhash.Secret) (ring.UUID, error) {
	c, err := readClaim(dir)
	if err != nil {
		return ring.UUID{}, err
	}
	if c != nil {
		return c.UUID, errs.New("node.FormatDevice", errs.Exists, "%s is already device %v of cluster %s", dir, c.UUID, c.Cluster)
	}
	c = &claim{Cluster: cluster, UUID: newUUID(), Placement: placementCheck(secret)}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return ring.UUID{}, err
	}
	return c.UUID, writeClaim(abs, c)
}
