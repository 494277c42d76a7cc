package ops

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"ringfort/internal/blob"
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

// call is one call to a device, as faults see it.
type call struct {
	name    string // of the method; "WriteFragment", "CommitFragment", "ReadFragment" for what they return
	service peer.Service
	key     keyhash.Hash
	record  *register.Record // of Write
	table   catalog.Table    // of PutRows, ListRows, GetRows
}

// fault decides what becomes of a call: nil lets it pass.
type fault func(ctx context.Context, c call) error

// node is a node with one device behind a layer of faults.
type node struct {
	peer.Node
	id   ring.DeviceID
	seen *seen

	mu     sync.Mutex // guards what follows
	before fault      // the call does not reach the device
	after  fault      // it does, and its answer is lost

	gate   sync.RWMutex // shared by the calls under way; guards closed
	closed bool
}

// pass carries out a call on the device, unless the test has ended: writes that
// nobody waits for any more may still be on their way.
func pass[T any](n *node, fn func() (T, error)) (v T, err error) {
	n.gate.RLock()
	defer n.gate.RUnlock()
	if n.closed {
		return v, errDown
	}
	return fn()
}

func (n *node) close() {
	n.gate.Lock()
	defer n.gate.Unlock()
	n.closed = true
}

func (n *node) set(before, after fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.before, n.after = before, after
}

func (n *node) faults() (before, after fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.before, n.after
}

var errDown = errs.New("test", errs.Unavailable, "the device is down")

// down answers everything with an error.
func down(context.Context, call) error { return errDown }

// hung never answers.
func hung(ctx context.Context, _ call) error {
	<-ctx.Done()
	return errs.Wrap("test", errs.Canceled, ctx.Err())
}

// only restricts a fault to some methods.
func only(f fault, names ...string) fault {
	return func(ctx context.Context, c call) error {
		for _, n := range names {
			if n == c.name {
				return f(ctx, c)
			}
		}
		return nil
	}
}

func through[T any](ctx context.Context, n *node, c call, fn func() (T, error)) (v T, err error) {
	before, after := n.faults()
	if before != nil {
		if err := before(ctx, c); err != nil {
			return v, err
		}
	}
	v, err = pass(n, fn)
	if err == nil && after != nil {
		if err := after(ctx, c); err != nil {
			var none T
			return none, err
		}
	}
	return v, err
}

func (n *node) do(ctx context.Context, c call, fn func() error) error {
	_, err := through(ctx, n, c, func() (struct{}, error) { return struct{}{}, fn() })
	return err
}

func (n *node) Learn(ctx context.Context, t peer.Target, s peer.Service, k keyhash.Hash) (register.Known, error) {
	return through(ctx, n, call{name: "Learn", service: s, key: k}, func() (register.Known, error) { return n.Node.Learn(ctx, t, s, k) })
}

func (n *node) Read(ctx context.Context, t peer.Target, s peer.Service, k keyhash.Hash, data bool) (register.State, error) {
	return through(ctx, n, call{name: "Read", service: s, key: k}, func() (register.State, error) { return n.Node.Read(ctx, t, s, k, data) })
}

func (n *node) ReadLeased(ctx context.Context, t peer.Target, k keyhash.Hash, l register.Lease) (register.State, error) {
	return through(ctx, n, call{name: "ReadLeased", service: peer.Containers, key: k}, func() (register.State, error) { return n.Node.ReadLeased(ctx, t, k, l) })
}

func (n *node) Write(ctx context.Context, t peer.Target, s peer.Service, k keyhash.Hash, r *register.Record) (register.Answer, error) {
	return through(ctx, n, call{name: "Write", service: s, key: k, record: r}, func() (register.Answer, error) { return n.Node.Write(ctx, t, s, k, r) })
}

func (n *node) Prepare(ctx context.Context, t peer.Target, s peer.Service, k keyhash.Hash, b, sweep timestamp.T) (register.Answer, error) {
	return through(ctx, n, call{name: "Prepare", service: s, key: k}, func() (register.Answer, error) { return n.Node.Prepare(ctx, t, s, k, b, sweep) })
}

func (n *node) Settle(t peer.Target, s peer.Service, done []register.Settled) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // it does not wait
	n.do(ctx, call{name: "Settle", service: s}, func() error {
		n.Node.Settle(t, s, done)
		return nil
	})
}

func (n *node) PutRows(ctx context.Context, t peer.Target, s peer.Service, l peer.Listing, rows []catalog.Row) error {
	return n.do(ctx, call{name: "PutRows", service: s, key: l.Key, table: l.Table}, func() error { return n.Node.PutRows(ctx, t, s, l, rows) })
}

func (n *node) ListRows(ctx context.Context, t peer.Target, s peer.Service, q *peer.RowQuery) (*peer.RowPage, error) {
	return through(ctx, n, call{name: "ListRows", service: s, key: q.Key, table: q.Table}, func() (*peer.RowPage, error) { return n.Node.ListRows(ctx, t, s, q) })
}

func (n *node) GetRows(ctx context.Context, t peer.Target, s peer.Service, l peer.Listing, names []string) ([]peer.RowState, error) {
	return through(ctx, n, call{name: "GetRows", service: s, key: l.Key, table: l.Table}, func() ([]peer.RowState, error) { return n.Node.GetRows(ctx, t, s, l, names) })
}

func (n *node) ListingStats(ctx context.Context, t peer.Target, s peer.Service, l peer.Listing) (peer.ListingStats, error) {
	return through(ctx, n, call{name: "ListingStats", service: s, key: l.Key}, func() (peer.ListingStats, error) { return n.Node.ListingStats(ctx, t, s, l) })
}

func (n *node) CreateFragment(ctx context.Context, t peer.Target, h *peer.FragmentHeader) (peer.FragmentWriter, error) {
	n.seen.note(h.ID)
	return through(ctx, n, call{name: "CreateFragment", key: h.Owner}, func() (peer.FragmentWriter, error) {
		w, err := n.Node.CreateFragment(ctx, t, h)
		if err != nil {
			return nil, err
		}
		return &faultWriter{w, n, ctx, h.Owner}, nil
	})
}

type faultWriter struct {
	peer.FragmentWriter
	n     *node
	ctx   context.Context
	owner keyhash.Hash
}

func (w *faultWriter) Write(p []byte) (int, error) {
	return through(w.ctx, w.n, call{name: "WriteFragment", key: w.owner}, func() (int, error) { return w.FragmentWriter.Write(p) })
}

func (w *faultWriter) Commit(ctx context.Context, size int64) error {
	err := w.n.do(ctx, call{name: "CommitFragment", key: w.owner}, func() error { return w.FragmentWriter.Commit(ctx, size) })
	if err != nil {
		w.Abort()
	}
	return err
}

func (w *faultWriter) Abort() {
	pass(w.n, func() (struct{}, error) {
		w.FragmentWriter.Abort()
		return struct{}{}, nil
	})
}

func (n *node) OpenFragment(ctx context.Context, t peer.Target, f peer.FragmentName, off, size int64) (io.ReadCloser, error) {
	return through(ctx, n, call{name: "OpenFragment", key: f.Owner}, func() (io.ReadCloser, error) {
		r, err := n.Node.OpenFragment(ctx, t, f, off, size)
		if err != nil {
			return nil, err
		}
		return &faultReader{r, n, ctx, f.Owner}, nil
	})
}

type faultReader struct {
	io.ReadCloser
	n     *node
	ctx   context.Context
	owner keyhash.Hash
}

func (r *faultReader) Read(p []byte) (int, error) {
	before, _ := r.n.faults()
	if before != nil {
		if err := before(r.ctx, call{name: "ReadFragment", key: r.owner}); err != nil {
			return 0, err
		}
	}
	return pass(r.n, func() (int, error) { return r.ReadCloser.Read(p) })
}

func (r *faultReader) Close() error {
	_, err := pass(r.n, func() (struct{}, error) { return struct{}{}, r.ReadCloser.Close() })
	return err
}

func (n *node) DropBlobs(ctx context.Context, t peer.Target, owner keyhash.Hash, ids []blob.ID) error {
	return n.do(ctx, call{name: "DropBlobs", key: owner}, func() error { return n.Node.DropBlobs(ctx, t, owner, ids) })
}

func (n *node) DropGroup(ctx context.Context, t peer.Target, owner keyhash.Hash, g timestamp.T) error {
	return n.do(ctx, call{name: "DropGroup", key: owner}, func() error { return n.Node.DropGroup(ctx, t, owner, g) })
}

// cluster is a small cluster, every node of which has one device.
type cluster struct {
	t        testing.TB
	nodes    []*node
	policies []Policy
	listing  int // devices of a listing
	secret   keyhash.Secret
	seen     seen

	mu       sync.Mutex // guards gateways
	gateways map[string]peer.Node
}

var _ Cluster = (*cluster)(nil)

// newCluster makes a cluster of as many devices as the policy needs, or of n if
// that is more, with listings on up to three.
func newCluster(t testing.TB, spec policy.Spec, n int, backend func(testing.TB) peer.Node) *cluster {
	t.Helper()
	c := &cluster{t: t, gateways: map[string]peer.Node{}, secret: keyhash.Secret{1}}
	for i := range max(n, spec.Fragments()) {
		n := &node{Node: backend(t), id: ring.DeviceID(i + 1), seen: &c.seen}
		t.Cleanup(n.close)
		c.nodes = append(c.nodes, n)
	}
	c.policies = []Policy{{Name: "default", Index: 3, Spec: spec, Default: true}}
	c.listing = min(3, len(c.nodes))
	return c
}

func fake(testing.TB) peer.Node { return peertest.NewFake() }

func (c *cluster) place(key keyhash.Hash, n int) Place {
	p := Place{Partition: ring.Partition(key[0]), Devices: make([]Device, n)}
	for i := range n {
		d := c.nodes[(int(key[0])+i)%len(c.nodes)]
		p.Devices[i] = Device{ID: d.id, Node: d}
	}
	return p
}

func (c *cluster) Object(name string, key keyhash.Hash) (Place, error) {
	for _, p := range c.policies {
		if p.Name == name {
			place := c.place(key, p.Spec.Fragments())
			place.Policy = p.Index
			return place, nil
		}
	}
	return Place{}, errs.New("test", errs.Invalid, "no policy %q", name)
}

func (c *cluster) Container(key keyhash.Hash) Place { return c.place(key, c.listing) }
func (c *cluster) Account(key keyhash.Hash) Place   { return c.place(key, c.listing) }
func (c *cluster) Policies() []Policy               { return c.policies }

func (c *cluster) Gateway(address string) peer.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gateways[address]
}

// revoker is the peer interface of a gateway.
type revoker struct {
	peer.Node
	service *Service
}

func (r revoker) Revoke(_ context.Context, key keyhash.Hash) error {
	r.service.Revoke(key)
	return nil
}

const (
	testInline = 8 << 10
	testBlock  = 4 << 10
)

// gateway makes a Service of the cluster; small sizes, so that small objects
// have many stripes. change may be nil.
func (c *cluster) gateway(change func(*Config)) *Service {
	writer := timestamp.NewWriter()
	address := fmt.Sprintf("gateway-%x", writer)
	cfg := Config{
		Cluster: c, Secret: &c.secret, Clock: timestamp.NewClock(writer, nil),
		Holder:    register.Lease{Holder: writer, Address: address, Micros: leaseTime.Microseconds()},
		InlineMax: testInline, BlockSize: testBlock, MemoryBytes: 8 << 20,
	}
	if change != nil {
		change(&cfg)
	}
	s := New(cfg)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gateways[address] = revoker{service: s}
	return s
}

// all sets the faults of every node; nil makes it whole.
func (c *cluster) all(before, after fault) {
	for _, n := range c.nodes {
		n.set(before, after)
	}
}

// mustContainer makes a container, and waits until all of its devices have heard of
// it.
func (s *Service) mustContainer(t testing.TB, name string) *catalog.Container {
	t.Helper()
	c, _, err := s.CreateContainer(t.Context(), &catalog.Container{Account: "a", Name: name})
	if err != nil {
		t.Fatalf("CreateContainer: %v", err)
	}
	k := s.containerKey(s.containerHash(c.Account, c.Name))
	for i := range k.place.Devices {
		d := &k.place.Devices[i]
		eventually(t, "a device hears of the container", func() bool {
			st, err := d.Node.(*node).Node.Read(t.Context(), k.target(d), peer.Containers, k.hash, false)
			return err == nil && st.Record != nil
		})
	}
	return c
}

// random returns n bytes that follow from a seed.
func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(b)
	return b
}

func putBytes(ctx context.Context, s *Service, c *catalog.Container, name string, b []byte) (*catalog.Object, error) {
	return s.Put(ctx, &Put{Container: c, Name: name, Body: bytes.NewReader(b), Size: int64(len(b))})
}

func mustPut(t testing.TB, s *Service, c *catalog.Container, name string, b []byte) *catalog.Object {
	t.Helper()
	o, err := putBytes(t.Context(), s, c, name, b)
	if err != nil {
		t.Fatalf("Put %s of %d bytes: %v", name, len(b), err)
	}
	return o
}

// getRange reads a range of an object.
func getRange(ctx context.Context, s *Service, c *catalog.Container, name string, off, n int64) ([]byte, *catalog.Object, error) {
	h, err := s.Open(ctx, c, name)
	if err != nil {
		return nil, nil, err
	}
	defer h.Close()
	if n < 0 {
		n = h.Object.Size
	}
	r, err := h.Range(ctx, off, n)
	if err != nil {
		return nil, h.Object, err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err == nil && int64(len(b)) != n {
		err = fmt.Errorf("%d bytes of %d without an error", len(b), n)
	}
	return b, h.Object, err
}

func get(ctx context.Context, s *Service, c *catalog.Container, name string) ([]byte, *catalog.Object, error) {
	return getRange(ctx, s, c, name, 0, -1)
}

func wantBytes(t testing.TB, s *Service, c *catalog.Container, name string, want []byte) {
	t.Helper()
	got, o, err := get(t.Context(), s, c, name)
	if err != nil {
		t.Fatalf("Get %s: %v", name, err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("Get %s: %d bytes, other than the %d that were put", name, len(got), len(want))
	}
	if o.Layout != catalog.Manifest && o.Layout != catalog.PagedManifest && o.ETag != etag(want) {
		t.Fatalf("%s has the ETag %s, not %s", name, o.ETag, etag(want))
	}
}

func etag(b []byte) string {
	sum := md5.Sum(b)
	return hex.EncodeToString(sum[:])
}

func wantKind(t testing.TB, err error, kinds ...errs.Kind) {
	t.Helper()
	for _, k := range kinds {
		if errs.Is(err, k) {
			return
		}
	}
	t.Fatalf("error %v, want %v", err, kinds)
}

// names lists all of a container by pages of limit.
func names(ctx context.Context, s *Service, c *catalog.Container, limit int) ([]string, error) {
	out := []string{}
	for marker := ""; ; {
		p, err := s.List(ctx, c, &Query{Marker: marker, Limit: limit})
		if err != nil {
			return nil, err
		}
		for _, i := range p.Items {
			out = append(out, i.Name)
			marker = i.Name
		}
		if !p.More {
			return out, nil
		}
	}
}

// fragments counts the fragments of an object's blobs that devices hold under any
// of the ids.
func (c *cluster) fragments(s *Service, co *catalog.Container, name string, ids ...blob.ID) int {
	k, pol, err := s.objectKey(co, name)
	if err != nil {
		c.t.Fatal(err)
	}
	n := 0
	for i := range pol.Spec.Fragments() {
		d := &k.place.Devices[i]
		for _, id := range ids {
			r, err := d.Node.(*node).Node.OpenFragment(context.Background(), k.target(d), peer.FragmentName{Owner: k.hash, ID: id, Index: i}, 0, 1)
			if err == nil {
				r.Close()
				n++
			}
		}
	}
	return n
}

// seen collects the ids of the blobs whose fragments were begun on any device.
type seen struct {
	mu  sync.Mutex
	ids map[blob.ID]bool
}

// watchBlobs notes every blob that is begun from now on.
func (c *cluster) watchBlobs() *seen {
	c.seen.mu.Lock()
	defer c.seen.mu.Unlock()
	c.seen.ids = map[blob.ID]bool{}
	return &c.seen
}

func (s *seen) note(id blob.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids != nil {
		s.ids[id] = true
	}
}

func (s *seen) list() (out []blob.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.ids {
		out = append(out, id)
	}
	return out
}

// eventually waits for what goes on in the background.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// subsets calls fn with every choice of k of 0 … n-1.
func subsets(n, k int, fn func([]int)) {
	pick := make([]int, 0, k)
	var walk func(from int)
	walk = func(from int) {
		if len(pick) == k {
			fn(pick)
			return
		}
		for i := from; i < n; i++ {
			pick = append(pick, i)
			walk(i + 1)
			pick = pick[:len(pick)-1]
		}
	}
	walk(0)
}

// breaking is a body that fails after n bytes.
type breaking struct {
	n   int
	err error
}

var errBody = errors.New("the client went away")

func (b *breaking) Read(p []byte) (int, error) {
	if b.n == 0 {
		return 0, b.err
	}
	n := min(len(p), b.n)
	b.n -= n
	return n, nil
}

// futureClock is an hour ahead.
func futureClock() *timestamp.Clock {
	return timestamp.NewClock(timestamp.NewWriter(), func() time.Time { return time.Now().Add(time.Hour) })
}

// lent is how much memory is lent to requests.
func (s *Service) lent() int64 {
	a, _ := s.stripes.Usage()
	b, _ := s.windows.Usage()
	return a + b
}
