package ops

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"ringfort/internal/catalog"
	"ringfort/internal/erasure"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/policy"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
)

// Service carries out operations. Make one with New.
type Service struct {
	cfg      Config
	cluster  Cluster
	secret   *keyhash.Secret
	clock    *timestamp.Clock
	log      *slog.Logger
	proposer register.Proposer
	stripes  *erasure.Pool // of what is being written
	windows  *erasure.Pool // of what is being read

	codesMu sync.Mutex
	codes   map[policy.Spec]*erasure.Code // by what blobs need, few

	leases leases
}

// New returns a Service.
func New(cfg Config) *Service {
	cfg.InlineMax = cmp.Or(cfg.InlineMax, 64<<10)
	cfg.BlockSize = cmp.Or(cfg.BlockSize, erasure.DefaultBlockSize)
	cfg.MemoryBytes = cmp.Or(cfg.MemoryBytes, 32<<20)
	cfg.HedgeAfter = cmp.Or(cfg.HedgeAfter, 100*time.Millisecond)
	cfg.Timeout = cmp.Or(cfg.Timeout, 20*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Service{
		cfg: cfg, cluster: cfg.Cluster, secret: cfg.Secret, clock: cfg.Clock, log: cfg.Log,
		proposer: register.Proposer{Clock: cfg.Clock, HedgeAfter: cfg.HedgeAfter, Workers: cfg.Workers},
		stripes:  erasure.NewPool(cfg.MemoryBytes / 2),
		windows:  erasure.NewPool(cfg.MemoryBytes / 2),
		codes:    make(map[policy.Spec]*erasure.Code),
	}
}

// code returns the erasure code of a blob.
func (s *Service) code(k, m int) (*erasure.Code, error) {
	s.codesMu.Lock()
	defer s.codesMu.Unlock()
	spec := policy.Spec{K: k, M: m}
	if c := s.codes[spec]; c != nil {
		return c, nil
	}
	c, err := erasure.NewCode(k, m)
	if err == nil {
		s.codes[spec] = c
	}
	return c, err
}

// policyNamed returns the policy of a container; "" is the default.
func (s *Service) policyNamed(name string) (Policy, error) {
	for _, p := range s.cluster.Policies() {
		if p.Name == name || name == "" && p.Default {
			return p, nil
		}
	}
	return Policy{}, errs.New("ops", errs.Invalid, "there is no storage policy %q", name)
}

// Policies lists the storage policies, the default first.
func (s *Service) Policies() []Policy { return s.cluster.Policies() }

// key is a register on the ring: where it is and how to reach its devices.
type key struct {
	service peer.Service
	hash    keyhash.Hash
	place   Place
	quorum  *register.Quorum
}

func (s *Service) containerHash(account, name string) keyhash.Hash {
	return s.secret.Of(keyhash.Container, account, name)
}

func (s *Service) containerKey(h keyhash.Hash) *key {
	return newKey(peer.Containers, h, s.cluster.Container(h), 0)
}

func (s *Service) accountKey(h keyhash.Hash) *key {
	return newKey(peer.Accounts, h, s.cluster.Account(h), 0)
}

func (s *Service) accountHash(name string) keyhash.Hash {
	return s.secret.Of(keyhash.Account, name)
}

// objectKey returns the register of an object of a container.
func (s *Service) objectKey(c *catalog.Container, name string) (*key, Policy, error) {
	p, err := s.policyNamed(c.Policy)
	if err != nil {
		return nil, p, err
	}
	h := s.secret.Of(keyhash.Object, string(c.Incarnation[:]), name)
	place, err := s.cluster.Object(p.Name, h)
	if err != nil {
		return nil, p, err
	}
	return newKey(peer.Objects, h, place, p.Spec.RecordDevices(), p.Spec.Copies()), p, nil
}

// newKey returns a key whose record is on the first r devices of the place, on
// all if r is 0.
func newKey(svc peer.Service, h keyhash.Hash, place Place, r int, copies ...int) *key {
	if r == 0 || r > len(place.Devices) {
		r = len(place.Devices)
	}
	k := &key{service: svc, hash: h, place: place}
	replicas := make([]replica, r)
	list := make([]register.Replica, r)
	for i := range replicas {
		replicas[i] = replica{key: k, device: &place.Devices[i]}
		list[i] = &replicas[i]
	}
	c := r
	if len(copies) > 0 {
		c = copies[0]
	}
	k.quorum = register.NewQuorum(list, c)
	return k
}

func (k *key) target(d *Device) peer.Target {
	return k.place.target(d)
}

// forReading returns the quorum with a near device in front, if one is among
// those that are sent the bytes: one answer then mostly needs no network.
func (k *key) forReading() *register.Quorum {
	q := k.quorum
	i := slices.IndexFunc(k.place.Devices[:min(q.Copies, len(q.Replicas))], func(d Device) bool { return d.Near })
	if i <= 0 {
		return q
	}
	c := *q
	c.Replicas = slices.Clone(q.Replicas)
	c.Replicas[0], c.Replicas[i] = c.Replicas[i], c.Replicas[0]
	return &c
}

// replica is one record device of one key.
type replica struct {
	key    *key
	device *Device
}

func (r *replica) Learn(ctx context.Context) (register.Known, error) {
	return r.device.Node.Learn(ctx, r.key.target(r.device), r.key.service, r.key.hash)
}

func (r *replica) Read(ctx context.Context, data bool) (register.State, error) {
	return r.device.Node.Read(ctx, r.key.target(r.device), r.key.service, r.key.hash, data)
}

func (r *replica) Write(ctx context.Context, rec *register.Record) (register.Answer, error) {
	return r.device.Node.Write(ctx, r.key.target(r.device), r.key.service, r.key.hash, rec)
}

func (r *replica) Prepare(ctx context.Context, b, sweep timestamp.T) (register.Answer, error) {
	return r.device.Node.Prepare(ctx, r.key.target(r.device), r.key.service, r.key.hash, b, sweep)
}

// settle tells the record devices that a record was chosen and its row delivered.
func (k *key) settle(ballot timestamp.T) {
	done := []register.Settled{{Key: k.hash, Ballot: ballot}}
	for i := range k.quorum.Replicas {
		d := &k.place.Devices[i]
		d.Node.Settle(k.target(d), k.service, done)
	}
}

// putRows stores rows in a listing and returns when a quorum of its devices has
// them. svc and place say whose listing it is.
func (s *Service) putRows(ctx context.Context, svc peer.Service, place Place, l peer.Listing, rows []catalog.Row) error {
	ctx, cancel := detached(ctx, s.cfg.Timeout)
	n := len(place.Devices)
	replies := make(chan error, n)
	for i := range place.Devices {
		d := &place.Devices[i]
		s.cfg.Workers.Go(func() {
			replies <- d.Node.PutRows(ctx, place.target(d), svc, l, rows)
		})
	}
	done, gone, need := 0, 0, n/2+1
	var failed []error
	for range n {
		err := <-replies
		switch {
		case err == nil:
			done++
		case errs.Is(err, errs.NoBucket):
			gone++
			failed = append(failed, err)
		default:
			failed = append(failed, err)
		}
		if done >= need {
			go drain(replies, n-done-len(failed), cancel)
			return nil
		}
		if len(failed) > n-need {
			break
		}
	}
	go drain(replies, n-done-len(failed), cancel)
	if gone > 0 {
		return errs.New("ops.putRows", errs.NoBucket, "the container was deleted meanwhile")
	}
	return &errs.Error{Op: "ops.putRows", Kind: errs.Unavailable, What: "too few of the listing's devices answer", Err: joinAll(failed)}
}

func drain(replies <-chan error, n int, then func()) {
	for range n {
		<-replies
	}
	then()
}

func (s *Service) now() int64 { return time.Now().UnixMicro() }
