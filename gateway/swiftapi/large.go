package swiftapi

import (
	"context"
	"io"

	"ringfort/internal/catalog"
)

// OpenLarge opens what is kept in segments for another protocol: an object that is
// the manifest of a static or dynamic large object. It returns the object with the
// size and ETag of the whole, and a handle that reads the whole and owns of, which
// is a handle on the manifest. of may be nil, and then so is the handle. After an
// error of is still the caller's. An object that is no manifest comes back as it is.
//
// The segments are looked for in the account of c. An error that is errs.Conflict,
// here or from reading, says that a segment is not there or not what it was; errs.
// NotFound or errs.NoBucket that there is nothing for a dynamic one to read.
//
// Unlike a GET over Swift, it lists all segments of a dynamic large object, however
// many they are: others need to know the size before the first byte.
func (h *Handler) OpenLarge(ctx context.Context, c *catalog.Container, o *catalog.Object, of Handle) (*catalog.Object, Handle, error) {
	w := opening{q: &request{h: h, ctx: ctx, owner: c.Account}, head: of == nil}
	ct, err := w.of(ctx, o, of)
	if err != nil {
		return nil, nil, err
	}
	if ct.size < 0 {
		if err := ct.measure(ctx); err != nil {
			return nil, nil, err
		}
	}
	whole := *o
	whole.Size, whole.ETag = ct.size, ct.etag
	if of == nil {
		return &whole, nil, nil
	}
	return &whole, &largeHandle{ct}, nil
}

// largeHandle reads a large object.
type largeHandle struct{ ct *content }

// Range implements Handle.
func (h *largeHandle) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	return h.ct.part(ctx, off, n)
}

// Parts implements Handle. Segments are not an object's own parts.
func (h *largeHandle) Parts(context.Context, int, int) ([]catalog.ManifestEntry, bool, error) {
	return nil, false, nil
}

// Close implements Handle.
func (h *largeHandle) Close() { h.ct.done() }
