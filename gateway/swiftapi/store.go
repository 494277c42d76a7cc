package swiftapi

import (
	"context"
	"io"

	"ringfort/gateway/ops"
	"ringfort/internal/catalog"
)

// Store is what the protocol needs of gateway/ops. For turns *ops.Service into
// one; swifttest has a fake. The methods are documented there.
type Store interface {
	Policies() []ops.Policy

	Account(ctx context.Context, name string) (*catalog.Account, error)
	UpdateAccount(ctx context.Context, name string, change func(*catalog.Account) error) (*catalog.Account, error)
	AccountStats(ctx context.Context, name string) (ops.Stats, error)

	CreateContainer(ctx context.Context, want *catalog.Container) (*catalog.Container, bool, error)
	Container(ctx context.Context, account, name string) (*catalog.Container, error)
	UpdateContainer(ctx context.Context, account, name string, change func(*catalog.Container) error) (*catalog.Container, error)
	DeleteContainer(ctx context.Context, account, name string) error
	ContainerStats(ctx context.Context, c *catalog.Container) (ops.Stats, error)
	ListContainers(ctx context.Context, account string, q *ops.Query) ([]ops.ContainerInfo, bool, error)
	WithStats(ctx context.Context, account string, list []ops.ContainerInfo) error

	Put(ctx context.Context, p *ops.Put) (*catalog.Object, error)
	Head(ctx context.Context, c *catalog.Container, name string) (*catalog.Object, error)
	// Open returns the object and a handle on its bytes, which the caller closes.
	Open(ctx context.Context, c *catalog.Container, name string) (*catalog.Object, Handle, error)
	Modify(ctx context.Context, c *catalog.Container, name string, change func(*catalog.Object) error) (*catalog.Object, error)
	Delete(ctx context.Context, c *catalog.Container, name string, judge func(*catalog.Object) error) error
	List(ctx context.Context, c *catalog.Container, q *ops.Query) (*ops.Page, error)
}

// Handle reads the bytes of one state of an object, whatever happens to the name
// meanwhile.
type Handle interface {
	// Range returns n bytes from off. The reader must be closed.
	Range(ctx context.Context, off, n int64) (io.ReadCloser, error)
	// Parts returns up to limit parts of an object that was uploaded in parts, in
	// order, of those with a number above after, and whether more follow.
	Parts(ctx context.Context, after, limit int) ([]catalog.ManifestEntry, bool, error)
	Close()
}

// For makes a Store of the cluster's operations.
func For(s *ops.Service) Store { return service{s} }

// service is an ops.Service, but for Open, which answers with a Handle.
type service struct{ *ops.Service }

func (s service) Open(ctx context.Context, c *catalog.Container, name string) (*catalog.Object, Handle, error) {
	h, err := s.Service.Open(ctx, c, name)
	if err != nil {
		return nil, nil, err
	}
	return h.Object, h, nil
}
