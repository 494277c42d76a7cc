package swiftapi

import (
	"context"
	"io"
	"strconv"

	"ringfort/internal/catalog"
	"ringfort/internal/errs"
)

// content is what a GET of an object gives: the object's own bytes, or, if it is
// a manifest, those of its segments.
type content struct {
	object *catalog.Object
	size   int64  // of the whole; -1 if it is not known
	known  int64  // if size is not known: the whole has at least as many bytes
	etag   string // of the whole; large objects' are sent in quotes
	large  bool   // the bytes are other objects'
	// own says that etag is the object's own though the content is not: a dynamic
	// large object of more segments than a page.
	own bool
	// parts says that the object was uploaded in parts over S3.
	parts bool
	// part opens n bytes from off. Some errors about segments come here, others
	// when the reader gets there. Nil for a HEAD.
	part func(ctx context.Context, off, n int64) (io.ReadCloser, error)
	// measure finds out size and etag if size is not known; it may take long. Called
	// once at most.
	measure func(ctx context.Context) error
	done    func() // gives up what part needs; never nil
}

func (c *content) sentETag() string {
	if c.large && !c.own || c.parts {
		return `"` + c.etag + `"`
	}
	return c.etag
}

// opening is a way down through manifests: whose they are, and how deep it goes.
type opening struct {
	q     *request
	depth int
	raw   bool // manifests as they are
	head  bool // no bytes are wanted
	// segment says that this is a segment of a dynamic large object, which are not
	// dynamic large objects themselves: a manifest may lie under its own prefix.
	segment bool
}

// open returns the content of an object.
func (w opening) open(ctx context.Context, c *catalog.Container, name string) (*content, error) {
	if w.head {
		o, err := w.q.h.store.Head(ctx, c, name)
		if err != nil {
			return nil, err
		}
		return w.of(ctx, o, nil)
	}
	o, h, err := w.q.h.store.Open(ctx, c, name)
	if err != nil {
		return nil, err
	}
	ct, err := w.of(ctx, o, h)
	if err != nil {
		h.Close()
		return nil, err
	}
	return ct, nil
}

// of makes the content of an opened object; h is nil for a HEAD.
func (w opening) of(ctx context.Context, o *catalog.Object, h Handle) (*content, error) {
	done := func() {}
	if h != nil {
		done = h.Close
	}
	manifest, dynamic := o.Meta.Lookup(metaManifest)
	switch {
	case w.raw:
	case isSLO(o):
		return w.static(ctx, o, h, done)
	case dynamic && !w.segment:
		return w.dynamic(ctx, o, manifest, done)
	}
	ct := &content{object: o, size: o.Size, etag: o.ETag, parts: inParts(o), done: done}
	if h != nil {
		ct.part = h.Range
	}
	return ct, nil
}

func isSLO(o *catalog.Object) bool { return o.Meta.Get(metaSLO) == "1" }

// static makes the content of a static large object. Its size and ETag are in the
// metadata; the manifest is read only when bytes are asked for.
func (w opening) static(ctx context.Context, o *catalog.Object, h Handle, done func()) (*content, error) {
	size, err := strconv.ParseInt(o.Meta.Get(metaSLOSize), 10, 64)
	if err != nil || size < 0 {
		return nil, errs.New("swiftapi", errs.Corrupt, "the static large object %q has no size", o.Name)
	}
	ct := &content{object: o, size: size, etag: o.Meta.Get(metaSLOETag), large: true, done: done}
	if h == nil {
		return ct, nil
	}
	// What is true for a segment of a dynamic object is not for one's segments.
	w.segment = false
	var list segments
	ct.part = func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		if list == nil {
			stored, err := w.q.readManifest(ctx, o, h)
			if err != nil {
				return nil, err
			}
			if list = staticSegments(stored); list.size() != size {
				return nil, errs.New("swiftapi", errs.Corrupt, "the manifest of %q comes to %d bytes, not %d", o.Name, list.size(), size)
			}
		}
		return w.read(ctx, list, off, n)
	}
	return ct, nil
}

// segments are the pieces of a large object, in order.
type segments []segment

type segment struct {
	data      []byte // in the manifest itself, or
	container string // an object's bytes, checked against
	name      string
	etag      string // "" means that any will do
	whole     int64  // the object's size; -1 means that any will do
	span             // of the object
}

func (s segments) size() (total int64) {
	for i := range s {
		total += s[i].n
	}
	return total
}

// read opens n bytes from off of the segments. The first segment is opened at
// once, so that one that changed is found before an answer begins.
func (w opening) read(ctx context.Context, list segments, off, n int64) (io.ReadCloser, error) {
	return (&segmentReader{way: w, ctx: ctx, list: list, skip: off, left: n}).begin()
}

// segmentReader gives the bytes of segments, one after the other.
type segmentReader struct {
	way  opening
	ctx  context.Context
	list segments
	skip int64 // bytes of what is in list
	left int64 // bytes behind them
	cur  io.ReadCloser
	// more, if not nil, gets further segments when list is used up.
	more func(ctx context.Context) (segments, error)
}

// begin opens the first segment.
func (r *segmentReader) begin() (io.ReadCloser, error) {
	if err := r.next(); err != nil && err != io.EOF {
		return nil, err
	}
	return r, nil
}

// next opens what comes next; io.EOF if nothing does.
func (r *segmentReader) next() error {
	if r.cur != nil {
		r.cur.Close()
		r.cur = nil
	}
	for r.cur == nil {
		if r.left == 0 {
			return io.EOF
		}
		if len(r.list) == 0 {
			if r.more == nil {
				return io.EOF
			}
			var err error
			if r.list, err = r.more(r.ctx); err != nil {
				return err
			}
			if len(r.list) == 0 {
				return io.EOF
			}
			continue
		}
		s := &r.list[0]
		if r.skip >= s.n {
			r.skip, r.list = r.skip-s.n, r.list[1:]
			continue
		}
		n := min(s.n-r.skip, r.left)
		cur, err := r.way.openSegment(r.ctx, s, r.skip, n)
		if err != nil {
			return err
		}
		r.cur, r.left = cur, r.left-n
		r.skip, r.list = 0, r.list[1:]
	}
	return nil
}

// Read implements io.Reader.
func (r *segmentReader) Read(p []byte) (int, error) {
	for {
		if r.cur == nil {
			if err := r.next(); err != nil {
				return 0, err
			}
		}
		n, err := r.cur.Read(p)
		if err == io.EOF {
			r.cur.Close()
			r.cur, err = nil, nil
		}
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
	}
}

// WriteTo lets segments write their own pieces.
func (r *segmentReader) WriteTo(w io.Writer) (total int64, err error) {
	for {
		if r.cur == nil {
			if err := r.next(); err == io.EOF {
				return total, nil
			} else if err != nil {
				return total, err
			}
		}
		n, err := io.Copy(w, r.cur)
		total += n
		if err != nil {
			return total, err
		}
		r.cur.Close()
		r.cur = nil
	}
}

// Close gives the reading up.
func (r *segmentReader) Close() error {
	if r.cur != nil {
		r.cur.Close()
		r.cur = nil
	}
	r.list, r.more, r.left = nil, nil, 0
	return nil
}
