package node

import (
	"context"

	"ringfort/gateway/s3api"
	"ringfort/gateway/swiftapi"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
)

// swift returns the handler of the Swift protocol.
func (n *Node) swift(tokens []byte) (*swiftapi.Handler, error) {
	return swiftapi.New(swiftapi.Config{
		Store: swiftapi.For(n.Ops), Identities: n.Users, TokenKey: tokens,
		Log: n.log, Version: n.cfg.Version, Observe: n.metrics.observeSwift,
	})
}

// large lets S3 read Swift's large objects: the two protocols do not know each
// other.
func large(swift *swiftapi.Handler) s3api.Large {
	return func(ctx context.Context, c *catalog.Container, o *catalog.Object, h s3api.Handle) (*catalog.Object, s3api.Handle, error) {
		var of swiftapi.Handle
		if h != nil {
			of = h
		}
		whole, wh, err := swift.OpenLarge(ctx, c, o, of)
		if err != nil || wh == nil {
			return whole, nil, err
		}
		return whole, &largeHandle{wh, whole.Size}, nil
	}
}

// largeHandle reads a large object, which S3 sees as written in one piece.
type largeHandle struct {
	swiftapi.Handle
	size int64
}

// Part implements s3api.Handle.
func (h *largeHandle) Part(_ context.Context, number int) (off, size int64, err error) {
	if number != 1 {
		return 0, 0, errs.New("node.largeHandle", errs.BadRange, "a large object has no part %d", number)
	}
	return 0, h.size, nil
}
