package s3api

import (
	"context"
	"io"

	"ringfort/gateway/ops"
	"ringfort/internal/catalog"
)

// Store is what the protocol needs of gateway/ops. For turns *ops.Service into
// one; s3test has a fake. The methods are documented there.
type Store interface {
	CreateContainer(ctx context.Context, want *catalog.Container) (*catalog.Container, bool, error)
	Resolve(ctx context.Context, account, bucket string) (*catalog.Container, error)
	UpdateContainer(ctx context.Context, account, name string, change func(*catalog.Container) error) (*catalog.Container, error)
	DeleteContainer(ctx context.Context, account, name string) error
	ListContainers(ctx context.Context, account string, q *ops.Query) ([]ops.ContainerInfo, bool, error)

	Put(ctx context.Context, p *ops.Put) (*catalog.Object, error)
	Head(ctx context.Context, c *catalog.Container, name string) (*catalog.Object, error)
	// Open returns the object and a handle on its bytes, which the caller closes.
	Open(ctx context.Context, c *catalog.Container, name string) (*catalog.Object, Handle, error)
	Modify(ctx context.Context, c *catalog.Container, name string, change func(*catalog.Object) error) (*catalog.Object, error)
	Delete(ctx context.Context, c *catalog.Container, name string, judge func(*catalog.Object) error) error
	List(ctx context.Context, c *catalog.Container, q *ops.Query) (*ops.Page, error)

	CreateUpload(ctx context.Context, u *ops.Upload) error
	Upload(ctx context.Context, c *catalog.Container, name, id string) (*ops.Upload, error)
	PutPart(ctx context.Context, p *ops.PutPart) (*catalog.Part, error)
	ListParts(ctx context.Context, u *ops.Upload, after, limit int) ([]catalog.Part, bool, error)
	ListUploads(ctx context.Context, c *catalog.Container, q *ops.UploadQuery) (*ops.UploadPage, error)
	CompleteUpload(ctx context.Context, c *ops.Complete) (*catalog.Object, error)
	AbortUpload(ctx context.Context, u *ops.Upload) error
}

// Handle reads the bytes of one state of an object, whatever happens to the key
// meanwhile.
type Handle interface {
	// Range returns n bytes from off.
	Range(ctx context.Context, off, n int64) (io.ReadCloser, error)
	// Part returns where a part of the object lies; errs.BadRange if it has none
	// of that number. What was written in one piece is its own part 1.
	Part(ctx context.Context, number int) (off, size int64, err error)
	// Parts returns up to limit parts of a multipart object, in order, of those
	// with a number above after, and whether more follow.
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
