package ops

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"time"

	pvfs "github.com/cockroachdb/pebble/v2/vfs"

	"ringfort/account"
	"ringfort/container"
	"ringfort/internal/blob"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
	"ringfort/internal/volume"
	"ringfort/objectserver"
)

// storage is a node with the real services of one device, on a file system in
// memory.
type storage struct {
	objects   *objectserver.Server
	container *container.Server
	account   *account.Server
}

var _ peer.Node = (*storage)(nil)

func real(t testing.TB) peer.Node {
	t.Helper()
	fs := pvfs.NewMem()
	v, err := volume.Open(t.Context(), volume.Config{
		Dir: "/volume", FS: fs, MetaSegmentBytes: 8 << 20, BulkSegmentBytes: 16 << 20, PreallocateBytes: 64 << 10,
		MemTableBytes: 256 << 10, MaxBatchBytes: 2 << 20, DisableZeroAhead: true,
		Spaces: append(append(objectserver.Spaces(), container.Spaces()...), account.Spaces()...),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Errorf("closing a volume: %v", err)
		}
	})
	n := &storage{}
	if n.objects, err = objectserver.Open(t.Context(), objectserver.Config{Volume: v, FS: fs, Dir: "/fragments", PackMax: 16 << 10}); err != nil {
		t.Fatal(err)
	}
	// It was started a minute ago: leases that an earlier process may have granted
	// have run out.
	var started atomic.Bool
	now := func() time.Time {
		if !started.Load() {
			return time.Now().Add(-time.Minute)
		}
		return time.Now()
	}
	if n.container, err = container.New(container.Config{Volume: v, Now: now}); err != nil {
		t.Fatal(err)
	}
	started.Store(true)
	if n.account, err = account.New(account.Config{Volume: v}); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *storage) Learn(ctx context.Context, t peer.Target, s peer.Service, k keyhash.Hash) (register.Known, error) {
	switch s {
	case peer.Objects:
		return n.objects.Of(t.Policy).Learn(k)
	case peer.Containers:
		return n.container.Learn(ctx, k)
	}
	return n.account.Learn(ctx, k)
}

func (n *storage) Read(ctx context.Context, t peer.Target, s peer.Service, k keyhash.Hash, data bool) (register.State, error) {
	switch s {
	case peer.Objects:
		return n.objects.Of(t.Policy).Read(k, data)
	case peer.Containers:
		return n.container.Read(ctx, k, data)
	}
	return n.account.Read(ctx, k, data)
}

func (n *storage) ReadLeased(ctx context.Context, _ peer.Target, k keyhash.Hash, l register.Lease) (register.State, error) {
	return n.container.ReadLeased(ctx, k, l)
}

func (n *storage) Write(ctx context.Context, t peer.Target, s peer.Service, k keyhash.Hash, r *register.Record) (register.Answer, error) {
	switch s {
	case peer.Objects:
		return n.objects.Of(t.Policy).Write(ctx, k, r)
	case peer.Containers:
		return n.container.Write(ctx, k, r)
	}
	return n.account.Write(ctx, k, r)
}

func (n *storage) Prepare(ctx context.Context, t peer.Target, s peer.Service, k keyhash.Hash, b, sweep timestamp.T) (register.Answer, error) {
	switch s {
	case peer.Objects:
		return n.objects.Of(t.Policy).Prepare(ctx, k, b, sweep)
	case peer.Containers:
		return n.container.Prepare(ctx, k, b, sweep)
	}
	return n.account.Prepare(ctx, k, b, sweep)
}

func (n *storage) Settle(_ peer.Target, s peer.Service, done []register.Settled) {
	switch s {
	case peer.Objects:
		n.objects.Settle(done)
	case peer.Containers:
		n.container.Settle(done)
	default:
		n.account.Settle(done)
	}
}

func (n *storage) PutRows(ctx context.Context, _ peer.Target, s peer.Service, l peer.Listing, rows []catalog.Row) error {
	if s == peer.Containers {
		return n.container.PutRows(ctx, &l, rows)
	}
	return n.account.PutRows(ctx, &l, rows)
}

func (n *storage) ListRows(ctx context.Context, _ peer.Target, s peer.Service, q *peer.RowQuery) (*peer.RowPage, error) {
	if s == peer.Containers {
		return n.container.ListRows(ctx, q)
	}
	return n.account.ListRows(ctx, q)
}

func (n *storage) GetRows(ctx context.Context, _ peer.Target, s peer.Service, l peer.Listing, names []string) ([]peer.RowState, error) {
	if s == peer.Containers {
		return n.container.GetRows(ctx, &l, names)
	}
	return n.account.GetRows(ctx, &l, names)
}

func (n *storage) ListingStats(ctx context.Context, _ peer.Target, s peer.Service, l peer.Listing) (peer.ListingStats, error) {
	if s == peer.Containers {
		return n.container.ListingStats(ctx, &l)
	}
	return n.account.ListingStats(ctx, &l)
}

func (n *storage) CreateFragment(ctx context.Context, t peer.Target, h *peer.FragmentHeader) (peer.FragmentWriter, error) {
	return n.objects.CreateFragment(ctx, t.Policy, h)
}

func (n *storage) OpenFragment(ctx context.Context, _ peer.Target, f peer.FragmentName, off, size int64) (io.ReadCloser, error) {
	return n.objects.OpenFragment(ctx, f, off, size)
}

func (n *storage) DropBlobs(ctx context.Context, _ peer.Target, owner keyhash.Hash, ids []blob.ID) error {
	return n.objects.DropBlobs(ctx, owner, ids)
}

func (n *storage) DropGroup(ctx context.Context, _ peer.Target, owner keyhash.Hash, g timestamp.T) error {
	return n.objects.DropGroup(ctx, owner, g)
}

func (n *storage) Revoke(context.Context, keyhash.Hash) error { return nil }

func (n *storage) Status(context.Context) (*peer.NodeStatus, error) {
	return nil, errs.New("test", errs.NotImplemented, "")
}

// backends are what the tests of what is stored run on.
var backends = []struct {
	name string
	make func(testing.TB) peer.Node
}{{"real", real}, {"fake", fake}}
