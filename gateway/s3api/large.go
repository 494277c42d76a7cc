package s3api

import (
	"context"
	"io"
	"strconv"
	"strings"

	"ringfort/gateway/ops"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
)

// Large opens what Swift keeps in segments: an object that is a manifest, and
// whose content is that of other objects. It returns the object with the size and
// entity tag of the whole, and a handle that reads the whole and owns h. h is nil,
// and so is the handle, when only the description is wanted; after an error h is
// still the caller's. It is called for objects that are marked as manifests, and for
// no others. An error, of it or of reading, that is errs.Conflict, errs.NotFound or
// errs.NoBucket says that there is a segment missing or changed.
type Large func(ctx context.Context, c *catalog.Container, o *catalog.Object, h Handle) (*catalog.Object, Handle, error)

// Marks that gateway/swiftapi leaves in the metadata of manifests, and in the
// extra values of their rows.
const (
	metaSLO      = "slo"
	metaDLO      = "x-object-manifest"
	extraSLOSize = "row-slo-size"
	extraSLOETag = "row-slo-etag"
	// largeSuffix tells a large object's entity tag from an MD5, as clients that
	// compare it with the bytes expect of objects in parts. Swift's own S3 front end
	// has the same.
	largeSuffix = "-N"
)

func isLarge(o *catalog.Object) bool {
	if len(o.Meta) == 0 {
		return false
	}
	_, dynamic := o.Meta.Lookup(metaDLO)
	return dynamic || o.Meta.Get(metaSLO) == "1"
}

// head describes an object as S3 shows it.
func (q *request) head(c *catalog.Container, key string) (*catalog.Object, error) {
	o, err := q.h.store.Head(q.ctx, c, key)
	if err != nil || !isLarge(o) {
		return o, err
	}
	o, _, err = q.whole(c, o, nil)
	return o, err
}

// open opens an object as S3 shows it.
func (q *request) open(c *catalog.Container, key string) (*catalog.Object, Handle, error) {
	o, h, err := q.h.store.Open(q.ctx, c, key)
	if err != nil || !isLarge(o) {
		return o, h, err
	}
	whole, wh, err := q.whole(c, o, h)
	if err != nil {
		h.Close()
	}
	return whole, wh, err
}

func (q *request) whole(c *catalog.Container, o *catalog.Object, h Handle) (*catalog.Object, Handle, error) {
	if q.h.cfg.Large == nil {
		return nil, nil, refuse("NotImplemented", "The object is a Swift large object, which this server does not read over S3.")
	}
	whole, wh, err := q.h.cfg.Large(q.ctx, c, o, h)
	if err != nil {
		return nil, nil, ofSegments(err)
	}
	if wh != nil {
		wh = &segmented{wh}
	}
	shown := *whole
	shown.ETag += largeSuffix
	shown.PartCount = 0
	shown.Meta = withoutChecksum(shown.Meta) // they would be the manifest's
	return &shown, wh, nil
}

// segmented is a handle on a large object.
type segmented struct{ Handle }

// Range implements Handle.
func (s *segmented) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	r, err := s.Handle.Range(ctx, off, n)
	return r, ofSegments(err)
}

// ofSegments turns an error about a large object's segments into one about it: that
// another object or bucket is not there must not look as if this one were not.
func ofSegments(err error) error {
	switch errs.KindOf(err) {
	case errs.Conflict, errs.NotFound, errs.NoBucket:
		e := refuse("OperationAborted", "A segment of the large object is not there or has changed.")
		e.Err = err
		return e
	}
	return err
}

// shownETag is the entity tag under which S3 shows an object that was not opened.
func shownETag(o *catalog.Object) string {
	if etag, ok := o.Meta.Lookup(extraSLOETag); ok {
		return etag + largeSuffix
	}
	return o.ETag
}

// largeRow corrects the line of a static large object, which describes its
// manifest. A dynamic one's size is known only by listing its segments, so its
// line stays as it is.
func largeRow(it *ops.Item) {
	text, ok := it.Extra.Lookup(extraSLOSize)
	if !ok {
		return
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
		it.Size, it.ETag, it.Checksum = n, it.Extra.Get(extraSLOETag)+largeSuffix, ""
	}
}

// visible reports whether S3 shows an entry of an object's metadata. What it does
// not show says how the object's own bytes are to be read, and so does not go
// along when they are copied; it stays when they stay.
func visible(name string) bool {
	if strings.HasPrefix(name, metaUser) || strings.HasPrefix(name, metaSum) || name == metaTagging {
		return true
	}
	for i := range systemHeaders {
		if name == systemHeaders[i].meta {
			return true
		}
	}
	return false
}

// pick returns the entries that S3 shows, or those that it does not.
func pick(meta catalog.Pairs, shown bool) catalog.Pairs {
	var out catalog.Pairs
	for _, p := range meta {
		if visible(p.Name) == shown {
			out = append(out, p)
		}
	}
	return out
}
