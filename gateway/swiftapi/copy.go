package swiftapi

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"ringfort/gateway/ops"
	"ringfort/internal/catalog"
)

// copying is one server-side copy. The request's conditions and its Range are
// about the source.
type copying struct {
	q                 *request
	fromContainer     string
	fromName          string
	toContainer, name string // the destination
	meta              catalog.Pairs
	fresh             bool // the source's metadata is not wanted
	source            *content
}

// copyObject answers COPY: the path is the source, Destination says where to.
func copyObject(q *request) error {
	dest := q.header("Destination")
	if dest == "" {
		return refuse(http.StatusPreconditionFailed, "Destination header required")
	}
	if err := q.ownAccount("Destination-Account"); err != nil {
		return err
	}
	container, name, ok := objectPath(dest)
	if !ok {
		return refuse(http.StatusPreconditionFailed, "Destination header must be of the form <container name>/<object name>")
	}
	cp := &copying{q: q, fromContainer: q.container, fromName: q.object, toContainer: container, name: name}
	return cp.run()
}

// copyFrom answers PUT with X-Copy-From: the path is the destination.
func copyFrom(q *request) error {
	if err := q.ownAccount("X-Copy-From-Account"); err != nil {
		return err
	}
	container, name, ok := objectPath(q.header("X-Copy-From"))
	if !ok {
		return refuse(http.StatusPreconditionFailed, "X-Copy-From header must be of the form <container name>/<object name>")
	}
	cp := &copying{q: q, fromContainer: container, fromName: name, toContainer: q.container, name: q.object}
	return cp.run()
}

func (cp *copying) run() error {
	q := cp.q
	if q.r.ContentLength != 0 {
		return refuse(http.StatusBadRequest, "Copy requests require a zero byte body")
	}
	var err error
	if cp.meta, err = q.objectMeta(); err != nil {
		return err
	}
	cp.fresh = truth(q.header("X-Fresh-Metadata"))
	from, err := q.h.store.Container(q.ctx, q.owner, cp.fromContainer)
	if err != nil {
		return err
	}
	to, err := q.h.store.Container(q.ctx, q.owner, cp.toContainer)
	if err != nil {
		return err
	}
	if cp.source, err = q.openSource(from, cp.fromName, false); err != nil {
		return err
	}
	defer cp.source.done()
	if err := q.judge(cp.source.etag, cp.source.object.Modified); err != nil {
		return err
	}
	itself := cp.fromContainer == cp.toContainer && cp.fromName == cp.name
	if itself && !cp.source.large && q.header("Range") == "" {
		return cp.toItself(to)
	}
	return cp.bytes(to)
}

// errReplaced says that the source is another object than was judged.
var errReplaced = errors.New("the source was replaced")

// toItself changes an object's metadata and leaves its bytes where they are.
func (cp *copying) toItself(c *catalog.Container) error {
	q, was := cp.q, cp.source.object
	if given := statedETag(q.header("Etag")); given != "" && given != was.ETag {
		return refuse(http.StatusUnprocessableEntity, "")
	}
	o, err := q.h.store.Modify(q.ctx, c, cp.name, func(o *catalog.Object) error {
		if o.TS != was.TS || o.Modified != was.Modified {
			return errReplaced
		}
		o.ContentType = cp.contentType(o)
		o.Meta = append(cp.merged(o.Meta), internal(o.Meta)...)
		sortPairs(o.Meta)
		o.Modified = max(q.h.cfg.Now().UnixMicro(), o.Modified)
		return checkTotals(o.Meta, metaUser)
	})
	if errors.Is(err, errReplaced) {
		return refuse(http.StatusConflict, "")
	}
	if err != nil {
		return err
	}
	return cp.answer(o)
}

// bytes writes a new object.
func (cp *copying) bytes(to *catalog.Container) error {
	q, src := cp.q, cp.source
	all := span{0, src.size}
	spans, partial, err := q.selected(src)
	if err != nil {
		return err
	}
	if partial {
		if len(spans) > 1 {
			return refuse(http.StatusBadRequest, "Only one range of a source can be copied.")
		}
		all = spans[0]
	}
	if all.n > maxObjectBytes {
		return refuse(http.StatusRequestEntityTooLarge, "")
	}
	meta := cp.merged(src.object.Meta)
	if tags, ok := src.object.Meta.Lookup(metaTagging); ok && !cp.fresh {
		meta = meta.With(metaTagging, tags)
	}
	if isSLO(src.object) && q.manifestItself() && !partial {
		for _, name := range [...]string{metaSLO, metaSLOETag, metaSLOSize} {
			meta = meta.With(name, src.object.Meta.Get(name))
		}
	}
	if err := checkTotals(meta, metaUser); err != nil {
		return err
	}
	put := &ops.Put{
		Container: to, Name: cp.name, Size: all.n,
		ContentType: cp.contentType(src.object), Meta: meta,
	}
	claimETag(put, q.header("Etag"))
	if all.n != 0 {
		body, err := src.part(q.ctx, all.off, all.n)
		if err != nil {
			return err
		}
		defer body.Close()
		put.Body = body
	}
	o, err := q.h.store.Put(q.ctx, put)
	if err != nil {
		return err
	}
	return cp.answer(o)
}

// contentType is the request's or else the source's.
func (cp *copying) contentType(source *catalog.Object) string {
	if truth(cp.q.header("X-Detect-Content-Type")) {
		return typeByName(cp.name)
	}
	if v := cp.q.header("Content-Type"); v != "" {
		return v
	}
	return source.ContentType
}

// merged returns the client's metadata of a copy: the source's, if it is wanted,
// and over it the request's. That a source is a dynamic large object is copied with
// its manifest only.
func (cp *copying) merged(source catalog.Pairs) catalog.Pairs {
	var meta catalog.Pairs
	for _, p := range source {
		keep := ofRequest(p.Name) && !cp.fresh && p.Name != metaManifest ||
			p.Name == metaManifest && cp.q.manifestItself()
		if keep {
			meta = append(meta, p)
		}
	}
	for _, p := range cp.meta {
		meta = meta.With(p.Name, p.Value)
	}
	return meta
}

// internal returns what is not the client's.
func internal(meta catalog.Pairs) catalog.Pairs {
	var out catalog.Pairs
	for _, p := range meta {
		if !ofRequest(p.Name) {
			out = append(out, p)
		}
	}
	return out
}

// answer says what was copied.
func (cp *copying) answer(o *catalog.Object) error {
	q := cp.q
	q.setMeta(o.Meta, metaUser, objectMetaPrefix)
	q.set("X-Copied-From", strings.TrimPrefix(escapePath("/"+cp.fromContainer+"/"+cp.fromName), "/"))
	q.set("X-Copied-From-Account", url.PathEscape(q.account))
	q.set("X-Copied-From-Last-Modified", lastModified(cp.source.object.Modified))
	q.created(o)
	return nil
}
