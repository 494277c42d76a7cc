package swiftapi

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"ringfort/gateway/ops"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
)

// storedSegment is one element of a manifest as it is stored and as
// ?multipart-manifest=get shows it: the name and the fields are Swift's. Either
// Data is there or the rest.
type storedSegment struct {
	Name         string `json:"name,omitempty"` // "/container/object"
	Hash         string `json:"hash,omitempty"`
	Bytes        int64  `json:"bytes,omitempty"` // of the whole object
	ContentType  string `json:"content_type,omitempty"`
	LastModified string `json:"last_modified,omitempty"`
	Range        string `json:"range,omitempty"` // "first-last" of it
	SubSLO       bool   `json:"sub_slo,omitempty"`
	Data         []byte `json:"data,omitempty"`
}

// rawSegment is the same as ?multipart-manifest=get&format=raw shows it: what can
// be put again.
type rawSegment struct {
	Path  string `json:"path,omitempty"`
	ETag  string `json:"etag,omitempty"`
	Bytes int64  `json:"size_bytes,omitempty"`
	Range string `json:"range,omitempty"`
	Data  []byte `json:"data,omitempty"`
}

// length is how many bytes a segment contributes.
func (s *storedSegment) length() int64 { return s.span().n }

func (s *storedSegment) span() span {
	if s.Data != nil {
		return span{0, int64(len(s.Data))}
	}
	if first, last, ok := strings.Cut(s.Range, "-"); ok {
		a, err1 := strconv.ParseInt(first, 10, 64)
		b, err2 := strconv.ParseInt(last, 10, 64)
		if err1 == nil && err2 == nil && 0 <= a && a <= b && b < s.Bytes {
			return span{a, b - a + 1}
		}
	}
	return span{0, s.Bytes}
}

// staticSegments are a stored manifest's segments for reading.
func staticSegments(stored []storedSegment) segments {
	list := make(segments, len(stored))
	for i := range stored {
		s := &stored[i]
		list[i] = segment{data: s.Data, etag: s.Hash, whole: s.Bytes, span: s.span()}
		list[i].container, list[i].name, _ = splitObjectPath(s.Name)
	}
	return list
}

// openSegment opens n bytes from skip of a segment. One that is not there, or is not
// what the manifest says, is 409.
func (w opening) openSegment(ctx context.Context, s *segment, skip, n int64) (io.ReadCloser, error) {
	if s.data != nil {
		return io.NopCloser(bytes.NewReader(s.data[skip : skip+n])), nil
	}
	if w.depth++; w.depth > maxNesting {
		return nil, refuse(http.StatusConflict, "The large object is nested too deeply.")
	}
	c, err := w.q.h.store.Container(ctx, w.q.owner, s.container)
	if err != nil {
		return nil, changed(s, err)
	}
	ct, err := w.open(ctx, c, s.name)
	if err != nil {
		return nil, changed(s, err)
	}
	if s.etag != "" && ct.etag != s.etag || s.whole >= 0 && ct.size != s.whole || s.off+skip+n > ct.size {
		ct.done()
		return nil, changed(s, nil)
	}
	r, err := ct.part(ctx, s.off+skip, n)
	if err != nil {
		ct.done()
		return nil, err
	}
	return &closing{r, ct.done}, nil
}

// changed is the error for a segment that is not what it was; err is why, if it
// could not be opened.
func changed(s *segment, err error) error {
	if err != nil && !isNot(err) {
		return err
	}
	e := refuse(http.StatusConflict, "Segment /%s/%s is not there or has changed.", s.container, s.name)
	e.Err = err
	return e
}

// closing closes a content with its reader.
type closing struct {
	io.ReadCloser
	done func()
}

func (c *closing) Close() error {
	err := c.ReadCloser.Close()
	c.done()
	return err
}

// WriteTo passes the reader's own on.
func (c *closing) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, c.ReadCloser) }

// readManifest reads a static large object's manifest.
func (q *request) readManifest(ctx context.Context, o *catalog.Object, h Handle) ([]storedSegment, error) {
	const op = "swiftapi.readManifest"
	if o.Size > maxStoredFactor*q.h.cfg.MaxManifestBytes {
		return nil, errs.New(op, errs.Corrupt, "the manifest of %q has %d bytes", o.Name, o.Size)
	}
	r, err := h.Range(ctx, 0, o.Size)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw := make([]byte, o.Size)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, errs.Wrap(op, errs.Other, err)
	}
	var list []storedSegment
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, errs.Wrap(op, errs.Corrupt, err)
	}
	return list, nil
}

// maxStoredFactor is by how much the stored form of a manifest may exceed the
// limit of what is sent: it has content types and times.
const maxStoredFactor = 2

// putManifest answers PUT ?multipart-manifest=put.
func putManifest(q *request) error {
	if q.header("X-Copy-From") != "" {
		return refuse(http.StatusMethodNotAllowed, "Multipart Manifest PUTs cannot be COPY requests").with("Allow", q.level().allow())
	}
	judge, err := q.writeJudge()
	if err != nil {
		return err
	}
	meta, err := q.objectMeta()
	if err != nil {
		return err
	}
	if _, ok := meta.Lookup(metaManifest); ok {
		return refuse(http.StatusBadRequest, "A static large object cannot be a dynamic one.")
	}
	c, err := q.ownContainer()
	if err != nil {
		return err
	}
	if err := q.judgeEarly(c, judge); err != nil {
		return err
	}
	body, err := q.readSmall(q.h.cfg.MaxManifestBytes)
	if err != nil {
		return err
	}
	list, err := parseManifest(body, q.h.cfg.MaxSegments)
	if err != nil {
		return err
	}
	if err := q.verify(list); err != nil {
		return err
	}
	stored, etag, size := storedForm(list)
	if given := statedETag(q.header("Etag")); given != "" && given != etag {
		return refuse(http.StatusUnprocessableEntity, "")
	}
	if int64(len(stored)) > maxStoredFactor*q.h.cfg.MaxManifestBytes {
		return refuse(http.StatusRequestEntityTooLarge, "")
	}
	meta = meta.With(metaSLO, "1").With(metaSLOETag, etag).With(metaSLOSize, strconv.FormatInt(size, 10))
	o, err := q.h.store.Put(q.ctx, &ops.Put{
		Container: c, Name: q.object, Body: bytes.NewReader(stored), Size: int64(len(stored)),
		ContentType: q.contentType(), Meta: meta, Judge: judge,
	})
	if err != nil {
		return err
	}
	q.set("Etag", `"`+etag+`"`)
	q.set("X-Manifest-Etag", o.ETag)
	q.set("Last-Modified", lastModified(o.Modified))
	q.empty(http.StatusCreated)
	return nil
}

// storedForm returns a verified manifest as it is stored, the ETag of the whole
// and its size.
func storedForm(list []putSegment) (stored []byte, etag string, size int64) {
	sum := md5.New()
	out := make([]storedSegment, len(list))
	for i := range list {
		out[i] = list[i].stored
		addETag(sum, &out[i])
		size += out[i].length()
	}
	return encodeJSON(out), hex.EncodeToString(sum.Sum(nil)), size
}

// addETag adds a segment to the ETag of the whole: MD5 of the segments' ETags, each
// with its range if it has one.
func addETag(sum hash.Hash, s *storedSegment) {
	switch {
	case s.Data != nil:
		own := md5.Sum(s.Data)
		io.WriteString(sum, hex.EncodeToString(own[:]))
	case s.Range != "":
		io.WriteString(sum, s.Hash+":"+s.Range+";")
	default:
		io.WriteString(sum, s.Hash)
	}
}

// encodeJSON is json.Marshal without escapes for HTML. What is given to it can
// always be encoded.
func encodeJSON(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return []byte("null")
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// verify looks at all segments' objects, and enters into list what they are. All
// that is wrong is in the error.
func (q *request) verify(list []putSegment) error {
	objects := map[string][]int{} // by path
	var paths []string
	for i := range list {
		s := &list[i]
		if s.stored.Data != nil {
			continue
		}
		if s.container == q.container && s.name == q.object {
			return refuse(http.StatusConflict, "Manifest object name %q cannot be included in the manifest", s.stored.Name)
		}
		if objects[s.stored.Name] == nil {
			paths = append(paths, s.stored.Name)
		}
		objects[s.stored.Name] = append(objects[s.stored.Name], i)
	}
	problems := make([]string, len(list))
	failed := make([]error, len(paths))
	q.each(len(paths), func(i int) {
		same := objects[paths[i]]
		ct, err := q.segmentContent(&list[same[0]])
		if err != nil && !isNot(err) {
			failed[i] = err
			return
		}
		for _, n := range same {
			if err != nil {
				problems[n] = "404 Not Found"
			} else {
				problems[n] = list[n].check(ct)
			}
		}
	})
	for _, err := range failed {
		if err != nil {
			return err
		}
	}
	var report errorList
	for i, p := range problems {
		if p != "" {
			report = append(report, [2]string{list[i].stored.Name, p})
		}
	}
	if len(report) == 0 {
		return nil
	}
	f, err := q.format()
	if err != nil {
		f = formats[0].format
	}
	x := refuse(http.StatusBadRequest, "Segments are not what the manifest says.")
	x.Body, x.ContentType = report.print(f, nil, "upload"), f.contentType
	return x
}

// each calls fn with 0 to n-1, several at a time, and returns when all have
// returned.
func (q *request) each(n int, fn func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(n, q.h.cfg.SegmentConcurrency) {
		wg.Go(func() {
			for i := range next {
				fn(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

func (q *request) segmentContent(s *putSegment) (*content, error) {
	c, err := q.h.store.Container(q.ctx, q.owner, s.container)
	if err != nil {
		return nil, err
	}
	return opening{q: q, head: true, depth: 1}.open(q.ctx, c, s.name)
}

// showManifest answers GET ?multipart-manifest=get of a static large object, and of
// what looks like one.
func (q *request) showManifest(o *catalog.Object, h Handle) (*content, error) {
	ct := &content{object: o, size: o.Size, etag: o.ETag, done: h.Close, part: h.Range}
	raw := strings.EqualFold(q.params["format"], "raw")
	var list []storedSegment
	var err error
	switch {
	case inParts(o):
		list, err = partsManifest(q.ctx, o, h)
	case raw:
		list, err = q.readManifest(q.ctx, o, h)
	default:
		return ct, nil // as it is stored
	}
	if err != nil {
		return nil, err
	}
	var body []byte
	if raw {
		body = encodeJSON(rawForm(list))
	} else {
		body = encodeJSON(list)
	}
	sum := md5.Sum(body)
	ct.size, ct.etag = int64(len(body)), hex.EncodeToString(sum[:])
	ct.part = func(_ context.Context, off, n int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(body[off : off+n])), nil
	}
	return ct, nil
}

func rawForm(list []storedSegment) []rawSegment {
	raw := make([]rawSegment, len(list))
	for i := range list {
		s := &list[i]
		raw[i] = rawSegment{Path: s.Name, ETag: s.Hash, Bytes: s.Bytes, Range: s.Range, Data: s.Data}
	}
	return raw
}
