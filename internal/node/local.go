package node

import (
	"context"
	"io"
	"sync"
	"time"

	"ringfort/internal/blob"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
	"ringfort/ring"
)

// Local is a node's own services, as the gateways see them: its own gateway by
// plain calls, others through a peer.Server.
type Local struct {
	name    string
	version string
	started time.Time
	devices map[ring.DeviceID]*device
	order   []*device
	// epoch returns the epoch of the ring that a service's targets of a policy come
	// from, false if there is no such ring.
	epoch func(peer.Service, uint32) (uint64, bool)
	// revoke makes this node's gateway forget a container.
	revoke func(keyhash.Hash)
	epochs func() map[string]uint64
}

var (
	_ peer.Node         = (*Local)(nil)
	_ peer.DeviceStates = (*Local)(nil)
)

func (l *Local) use(t peer.Target, s peer.Service) (*services, func(), error) {
	known, ok := l.epoch(s, t.Policy)
	switch {
	case !ok:
		return nil, nil, errs.New("node", errs.Invalid,
			"configurations differ: node %s has no ring of storage policy %d for service %d", l.name, t.Policy, s)
	case t.Epoch != 0 && t.Epoch < known:
		return nil, nil, errs.New("node", errs.Moved, "the request is of ring epoch %d, this node is at %d", t.Epoch, known)
	}
	d := l.devices[t.Device]
	if d == nil {
		return nil, nil, errs.New("node", errs.Unavailable, "node %s has no device %v", l.name, t.Device)
	}
	return d.use()
}

// registers are the calls that the services have in common.
type registers interface {
	Learn(ctx context.Context, key keyhash.Hash) (register.Known, error)
	Read(ctx context.Context, key keyhash.Hash, data bool) (register.State, error)
	Write(ctx context.Context, key keyhash.Hash, r *register.Record) (register.Answer, error)
	Prepare(ctx context.Context, key keyhash.Hash, ballot, sweep timestamp.T) (register.Answer, error)
	Settle(done []register.Settled)
}

// objectRegisters gives the object service the shape of the others.
type objectRegisters struct {
	register.Registers
	settle func([]register.Settled)
}

func (o objectRegisters) Learn(_ context.Context, key keyhash.Hash) (register.Known, error) {
	return o.Registers.Learn(key)
}

func (o objectRegisters) Read(_ context.Context, key keyhash.Hash, data bool) (register.State, error) {
	return o.Registers.Read(key, data)
}

func (o objectRegisters) Settle(done []register.Settled) { o.settle(done) }

// registers returns a service's registers of a policy; there is but one of
// containers and accounts, as use has made sure.
func (s *services) registers(svc peer.Service, policy uint32) (registers, error) {
	switch svc {
	case peer.Objects:
		return objectRegisters{s.objects.Of(policy), s.objects.Settle}, nil
	case peer.Containers:
		return s.container, nil
	case peer.Accounts:
		return s.account, nil
	}
	return nil, errs.New("node", errs.Invalid, "there is no service %d", svc)
}

// onRegisters calls fn with a service's registers on a device.
func onRegisters[T any](l *Local, t peer.Target, svc peer.Service, fn func(registers) (T, error)) (v T, err error) {
	s, done, err := l.use(t, svc)
	if err != nil {
		return v, err
	}
	defer done()
	r, err := s.registers(svc, t.Policy)
	if err != nil {
		return v, err
	}
	return fn(r)
}

// Learn implements peer.Registers.
func (l *Local) Learn(ctx context.Context, t peer.Target, svc peer.Service, key keyhash.Hash) (register.Known, error) {
	return onRegisters(l, t, svc, func(r registers) (register.Known, error) { return r.Learn(ctx, key) })
}

// Read implements peer.Registers.
func (l *Local) Read(ctx context.Context, t peer.Target, svc peer.Service, key keyhash.Hash, data bool) (register.State, error) {
	return onRegisters(l, t, svc, func(r registers) (register.State, error) { return r.Read(ctx, key, data) })
}

// ReadLeased implements peer.Registers.
func (l *Local) ReadLeased(ctx context.Context, t peer.Target, key keyhash.Hash, holder register.Lease) (register.State, error) {
	s, done, err := l.use(t, peer.Containers)
	if err != nil {
		return register.State{}, err
	}
	defer done()
	return s.container.ReadLeased(ctx, key, holder)
}

// Write implements peer.Registers.
func (l *Local) Write(ctx context.Context, t peer.Target, svc peer.Service, key keyhash.Hash, rec *register.Record) (register.Answer, error) {
	return onRegisters(l, t, svc, func(r registers) (register.Answer, error) { return r.Write(ctx, key, rec) })
}

// Prepare implements peer.Registers.
func (l *Local) Prepare(ctx context.Context, t peer.Target, svc peer.Service, key keyhash.Hash, ballot, sweep timestamp.T) (register.Answer, error) {
	return onRegisters(l, t, svc, func(r registers) (register.Answer, error) { return r.Prepare(ctx, key, ballot, sweep) })
}

// Settle implements peer.Registers.
func (l *Local) Settle(t peer.Target, svc peer.Service, done []register.Settled) {
	onRegisters(l, t, svc, func(r registers) (struct{}, error) {
		r.Settle(done)
		return struct{}{}, nil
	})
}

// rows are the calls on listings that containers and accounts have in common.
type rows interface {
	PutRows(ctx context.Context, l *peer.Listing, rows []catalog.Row) error
	ListRows(ctx context.Context, q *peer.RowQuery) (*peer.RowPage, error)
	GetRows(ctx context.Context, l *peer.Listing, names []string) ([]peer.RowState, error)
	ListingStats(ctx context.Context, l *peer.Listing) (peer.ListingStats, error)
}

func onRows[T any](l *Local, t peer.Target, svc peer.Service, fn func(rows) (T, error)) (v T, err error) {
	s, done, err := l.use(t, svc)
	if err != nil {
		return v, err
	}
	defer done()
	if s.lost[svc] {
		// As if it were absent: what is not there may have been acknowledged, and what
		// were taken now would count towards a quorum of those who can show it.
		return v, errs.New("node", errs.Unavailable, "device %v: %s", t.Device, lostText)
	}
	switch svc {
	case peer.Containers:
		return fn(s.container)
	case peer.Accounts:
		return fn(s.account)
	}
	return v, errs.New("node", errs.Invalid, "service %d has no listings", svc)
}

// PutRows implements peer.Rows.
func (l *Local) PutRows(ctx context.Context, t peer.Target, svc peer.Service, ls peer.Listing, list []catalog.Row) error {
	_, err := onRows(l, t, svc, func(r rows) (struct{}, error) { return struct{}{}, r.PutRows(ctx, &ls, list) })
	return err
}

// ListRows implements peer.Rows.
func (l *Local) ListRows(ctx context.Context, t peer.Target, svc peer.Service, q *peer.RowQuery) (*peer.RowPage, error) {
	return onRows(l, t, svc, func(r rows) (*peer.RowPage, error) { return r.ListRows(ctx, q) })
}

// GetRows implements peer.Rows.
func (l *Local) GetRows(ctx context.Context, t peer.Target, svc peer.Service, ls peer.Listing, names []string) ([]peer.RowState, error) {
	return onRows(l, t, svc, func(r rows) ([]peer.RowState, error) { return r.GetRows(ctx, &ls, names) })
}

// ListingStats implements peer.Rows.
func (l *Local) ListingStats(ctx context.Context, t peer.Target, svc peer.Service, ls peer.Listing) (peer.ListingStats, error) {
	return onRows(l, t, svc, func(r rows) (peer.ListingStats, error) { return r.ListingStats(ctx, &ls) })
}

// CreateFragment implements peer.Fragments.
func (l *Local) CreateFragment(ctx context.Context, t peer.Target, h *peer.FragmentHeader) (peer.FragmentWriter, error) {
	s, done, err := l.use(t, peer.Objects)
	if err != nil {
		return nil, err
	}
	w, err := s.objects.CreateFragment(ctx, t.Policy, h)
	if err != nil {
		done()
		return nil, err
	}
	return &countedWriter{FragmentWriter: w, done: sync.OnceFunc(done)}, nil
}

// countedWriter and countedReader are calls of their device until they end: its
// volume is not closed under them.
type countedWriter struct {
	peer.FragmentWriter
	done func()
}

func (w *countedWriter) Commit(ctx context.Context, size int64) error {
	defer w.done()
	return w.FragmentWriter.Commit(ctx, size)
}

func (w *countedWriter) Abort() {
	defer w.done()
	w.FragmentWriter.Abort()
}

type countedReader struct {
	peer.FragmentReader
	done func()
}

func (r *countedReader) Close() error {
	defer r.done()
	return r.FragmentReader.Close()
}

// OpenFragment implements peer.Fragments.
func (l *Local) OpenFragment(ctx context.Context, t peer.Target, f peer.FragmentName, off, n int64) (io.ReadCloser, error) {
	s, done, err := l.use(t, peer.Objects)
	if err != nil {
		return nil, err
	}
	r, err := s.objects.OpenFragment(ctx, f, off, n)
	if err != nil {
		done()
		return nil, err
	}
	return &countedReader{FragmentReader: r, done: sync.OnceFunc(done)}, nil
}

// DropBlobs implements peer.Fragments.
func (l *Local) DropBlobs(ctx context.Context, t peer.Target, owner keyhash.Hash, ids []blob.ID) error {
	s, done, err := l.use(t, peer.Objects)
	if err != nil {
		return err
	}
	defer done()
	return s.objects.DropBlobs(ctx, owner, ids)
}

// DropGroup implements peer.Fragments.
func (l *Local) DropGroup(ctx context.Context, t peer.Target, owner keyhash.Hash, group timestamp.T) error {
	s, done, err := l.use(t, peer.Objects)
	if err != nil {
		return err
	}
	defer done()
	return s.objects.DropGroup(ctx, owner, group)
}

// Revoke implements peer.Node.
func (l *Local) Revoke(_ context.Context, key keyhash.Hash) error {
	if l.revoke != nil {
		l.revoke(key)
	}
	return nil
}

// Status implements peer.Node.
func (l *Local) Status(context.Context) (*peer.NodeStatus, error) {
	st := &peer.NodeStatus{
		Name: l.name, Version: l.version, Started: l.started.UnixMicro(),
		Micros: time.Now().UnixMicro(), Epochs: l.epochs(),
	}
	for _, d := range l.order {
		st.Devices = append(st.Devices, d.status())
	}
	return st, nil
}
