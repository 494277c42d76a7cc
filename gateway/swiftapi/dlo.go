package swiftapi

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"io"
	"math"
	"net/http"
	"net/url"
	"strings"

	"ringfort/gateway/ops"
	"ringfort/internal/catalog"
)

// parseManifestHeader reads X-Object-Manifest: "container/prefix", percent
// encoded.
func parseManifestHeader(v string) (container, prefix string, ok bool) {
	if strings.ContainsAny(v, "?&") {
		return "", "", false
	}
	container, prefix, _ = strings.Cut(v, "/")
	container, err1 := url.PathUnescape(container)
	prefix, err2 := url.PathUnescape(prefix)
	if err1 != nil || err2 != nil || container == "" || prefix == "" || prefix[0] == '/' {
		return "", "", false
	}
	if _, _, ok := splitObjectPath(container + "/x"); !ok || strings.Contains(container, "/") || strings.IndexByte(prefix, 0) >= 0 {
		return "", "", false
	}
	return container, prefix, true
}

// dynamic makes the content of a dynamic large object: the objects under a prefix,
// in order of their names, whatever they are at the time of reading. Its size and
// ETag are known if one page lists them all.
func (w opening) dynamic(ctx context.Context, o *catalog.Object, manifest string, done func()) (*content, error) {
	container, prefix, ok := parseManifestHeader(manifest)
	if !ok {
		return nil, refuse(http.StatusConflict, "The object's X-Object-Manifest cannot be read.")
	}
	c, err := w.q.h.store.Container(ctx, w.q.owner, container)
	if err != nil {
		return nil, err
	}
	l := &segmentListing{q: w.q, c: c, prefix: prefix}
	sum := md5.New() // of the segments' ETags
	first, err := l.page(ctx, sum)
	if err != nil {
		return nil, err
	}
	ct := &content{object: o, size: -1, known: first.size(), etag: o.ETag, large: true, own: true, done: done}
	if l.end {
		ct.size, ct.etag, ct.own = first.size(), hex.EncodeToString(sum.Sum(nil)), false
	}
	ct.measure = func(ctx context.Context) error {
		rest, size := *l, first.size()
		for !rest.end {
			list, err := rest.page(ctx, sum)
			if err != nil {
				return err
			}
			size += list.size()
		}
		ct.size, ct.etag, ct.own = size, hex.EncodeToString(sum.Sum(nil)), false
		return nil
	}
	w.segment = true
	ct.part = func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		if l.end {
			return w.read(ctx, first, off, n)
		}
		if n < 0 {
			n = math.MaxInt64
		}
		// Each reading goes through the pages for itself.
		rest := *l
		return (&segmentReader{way: w, ctx: ctx, list: first, skip: off, left: n, more: rest.next}).begin()
	}
	return ct, nil
}

// segmentListing lists the segments of a dynamic large object, page by page.
type segmentListing struct {
	q      *request
	c      *catalog.Container
	prefix string
	marker string
	end    bool // there are no more
}

// next returns the next page; none if there are no more.
func (l *segmentListing) next(ctx context.Context) (segments, error) {
	if l.end {
		return nil, nil
	}
	return l.page(ctx, io.Discard)
}

// page returns up to maxListing segments, and writes their ETags to sum.
func (l *segmentListing) page(ctx context.Context, sum io.Writer) (segments, error) {
	var list segments
	for !l.end && len(list) < maxListing {
		p, err := l.q.h.store.List(ctx, l.c, &ops.Query{Prefix: l.prefix, Marker: l.marker, Limit: maxListing - len(list)})
		if err != nil {
			return nil, err
		}
		for i := range p.Items {
			it := &p.Items[i]
			etag := it.ETag
			if e, ok := it.Extra.Lookup(metaSLOETag); ok {
				etag = e
			}
			io.WriteString(sum, etag)
			list = append(list, segment{container: l.c.Name, name: it.Name, etag: etag, whole: shownSize(it), span: span{0, shownSize(it)}})
			l.marker = it.Name
		}
		l.end = !p.More || len(p.Items) == 0
	}
	return list, nil
}
