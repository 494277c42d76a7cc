package peer

import (
	"context"
	"io"

	"ringfort/internal/blob"
	"ringfort/internal/catalog"
	"ringfort/internal/keyhash"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
)

// deaf is a node that answers everything with nothing.
type deaf struct{}

var _ Node = deaf{}

func (deaf) Learn(context.Context, Target, Service, keyhash.Hash) (k register.Known, err error) {
	return
}

func (deaf) Read(context.Context, Target, Service, keyhash.Hash, bool) (s register.State, err error) {
	return
}

func (deaf) ReadLeased(context.Context, Target, keyhash.Hash, register.Lease) (s register.State, err error) {
	return
}

func (deaf) Write(context.Context, Target, Service, keyhash.Hash, *register.Record) (a register.Answer, err error) {
	return
}

func (deaf) Prepare(context.Context, Target, Service, keyhash.Hash, timestamp.T, timestamp.T) (a register.Answer, err error) {
	return
}
func (deaf) Settle(Target, Service, []register.Settled) {}
func (deaf) PutRows(context.Context, Target, Service, Listing, []catalog.Row) error {
	return nil
}

func (deaf) ListRows(context.Context, Target, Service, *RowQuery) (*RowPage, error) {
	return &RowPage{}, nil
}

func (deaf) GetRows(_ context.Context, _ Target, _ Service, _ Listing, names []string) ([]RowState, error) {
	return make([]RowState, len(names)), nil
}

func (deaf) ListingStats(context.Context, Target, Service, Listing) (s ListingStats, err error) {
	return
}

func (deaf) CreateFragment(context.Context, Target, *FragmentHeader) (FragmentWriter, error) {
	return deafWriter{}, nil
}

func (deaf) OpenFragment(context.Context, Target, FragmentName, int64, int64) (io.ReadCloser, error) {
	return io.NopCloser(io.LimitReader(nil, 0)), nil
}
func (deaf) DropBlobs(context.Context, Target, keyhash.Hash, []blob.ID) error   { return nil }
func (deaf) DropGroup(context.Context, Target, keyhash.Hash, timestamp.T) error { return nil }
func (deaf) Revoke(context.Context, keyhash.Hash) error                         { return nil }
func (deaf) Status(context.Context) (*NodeStatus, error)                        { return &NodeStatus{}, nil }

type deafWriter struct{}

func (deafWriter) Write(p []byte) (int, error)         { return len(p), nil }
func (deafWriter) Commit(context.Context, int64) error { return nil }
func (deafWriter) Abort()                              {}
