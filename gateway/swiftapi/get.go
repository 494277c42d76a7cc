package swiftapi

import (
	"crypto/rand"
	"encoding/hex"
	"io"
	"net/http"
	"strconv"
	"strings"

	"ringfort/internal/catalog"
)

func headObject(q *request) error { return getObject(q) }

// getObject answers GET and HEAD.
func getObject(q *request) error {
	c, err := q.ownContainer()
	if err != nil {
		return err
	}
	ct, err := q.openSource(c, q.object, q.r.Method == http.MethodHead)
	if err != nil {
		if isNot(err) && strings.TrimSpace(q.header("If-Match")) == "*" {
			return refuse(http.StatusPreconditionFailed, "")
		}
		return err
	}
	defer ct.done()
	return q.sendContent(ct)
}

// openSource opens what a GET or a copy asks for: the manifest itself with
// ?multipart-manifest=get, else the whole.
func (q *request) openSource(c *catalog.Container, name string, head bool) (*content, error) {
	if !q.manifestItself() {
		return opening{q: q, head: head}.open(q.ctx, c, name)
	}
	o, h, err := q.h.store.Open(q.ctx, c, name)
	if err != nil {
		return nil, err
	}
	var ct *content
	if (isSLO(o) || inParts(o)) && q.r.Method != methodCopy && q.r.Method != http.MethodPut {
		ct, err = q.showManifest(o, h)
	} else {
		ct, err = opening{q: q, raw: true}.of(q.ctx, o, h)
	}
	if err != nil {
		h.Close()
	}
	return ct, err
}

// manifestItself reports whether a request is for manifests as they are.
func (q *request) manifestItself() bool { return q.params["multipart-manifest"] == "get" }

const defaultContentType = "application/octet-stream"

// setObjectHeaders puts an object's description into the answer.
func (q *request) setObjectHeaders(ct *content) {
	o := ct.object
	contentType := o.ContentType
	if contentType == "" {
		contentType = defaultContentType
	}
	q.set("Accept-Ranges", "bytes")
	q.set("Etag", ct.sentETag())
	q.set("Last-Modified", lastModified(o.Modified))
	q.set("X-Timestamp", timestampOf(o.Modified))
	q.setMeta(o.Meta, metaUser, objectMetaPrefix)
	for _, p := range o.Meta {
		for i := range storedHeaders {
			if p.Name == storedHeaders[i].meta {
				q.set(storedHeaders[i].header, p.Value)
			}
		}
	}
	if isSLO(o) {
		q.set("X-Manifest-Etag", o.ETag)
	}
	if isSLO(o) || inParts(o) {
		q.set("X-Static-Large-Object", "True")
		if q.manifestItself() {
			contentType = "application/json; charset=utf-8"
		}
	}
	q.set("Content-Type", contentType)
}

// sendContent answers with an object: conditions, ranges, headers, bytes.
func (q *request) sendContent(ct *content) error {
	o := ct.object
	if err := q.judge(ct.etag, o.Modified); err != nil {
		e := toError(err)
		return e.with("Etag", ct.sentETag()).with("Last-Modified", lastModified(o.Modified)).with("X-Timestamp", timestampOf(o.Modified))
	}
	q.setObjectHeaders(ct)
	if q.r.Method == http.MethodHead {
		if ct.size >= 0 {
			q.set("Content-Length", strconv.FormatInt(ct.size, 10))
		}
		q.begin(http.StatusOK)
		return nil
	}
	spans, partial, err := q.selected(ct)
	switch {
	case err != nil:
		return err
	case !partial:
		return q.sendSpan(ct, span{0, ct.size}, http.StatusOK)
	case len(spans) == 1:
		q.set("Content-Range", spans[0].contentRange(ct.size))
		return q.sendSpan(ct, spans[0], http.StatusPartialContent)
	}
	return q.sendParts(ct, spans)
}

// selected returns what of a content was asked for; partial is false if that is
// all of it.
func (q *request) selected(ct *content) (spans []span, partial bool, err error) {
	header := q.header("Range")
	if header == "" || !q.rangeApplies(ct.etag, ct.object.Modified) {
		return nil, false, nil
	}
	list, ok := parseRange(header)
	if !ok {
		return nil, false, nil
	}
	if ct.size < 0 {
		// Only what is within the part that is known can be found.
		if len(list) != 1 || list[0].suffix || list[0].last < 0 || list[0].last >= ct.known {
			return nil, false, nil
		}
		return resolve(list, ct.known), true, nil
	}
	spans = resolve(list, ct.size)
	if len(spans) == 0 {
		return nil, false, refuse(http.StatusRequestedRangeNotSatisfiable, "").with("Content-Range", "bytes */"+strconv.FormatInt(ct.size, 10))
	}
	if len(spans) == 1 && spans[0].n == 0 { // the end of nothing
		return nil, false, nil
	}
	return spans, true, nil
}

// sendSpan sends one span; n is -1 if the end is not known.
func (q *request) sendSpan(ct *content, s span, status int) error {
	if s.n == 0 {
		q.set("Content-Length", "0")
		q.begin(status)
		return nil
	}
	body, err := ct.part(q.ctx, s.off, s.n)
	if err != nil {
		q.w.Header().Del("Content-Range")
		return err
	}
	defer body.Close()
	if s.n >= 0 {
		q.set("Content-Length", strconv.FormatInt(s.n, 10))
	}
	q.begin(status)
	if _, err := io.Copy(q.newPatient(), body); err != nil {
		q.broken = s.n < 0
		return err
	}
	return nil
}

// sendParts sends several spans as multipart/byteranges.
func (q *request) sendParts(ct *content, spans []span) error {
	var raw [16]byte
	rand.Read(raw[:])
	boundary := hex.EncodeToString(raw[:])
	contentType := q.w.Header().Get("Content-Type")
	heads := make([]string, len(spans))
	end := "--" + boundary + "--"
	size := int64(len(end))
	for i, s := range spans {
		heads[i] = "--" + boundary + "\r\nContent-Type: " + contentType +
			"\r\nContent-Range: " + s.contentRange(ct.size) + "\r\n\r\n"
		size += int64(len(heads[i])) + s.n + 2
	}
	// Opened at once, so that a segment that changed is found before the answer begins.
	first, err := ct.part(q.ctx, spans[0].off, spans[0].n)
	if err != nil {
		return err
	}
	q.set("Content-Type", "multipart/byteranges;boundary="+boundary)
	q.set("Content-Length", strconv.FormatInt(size, 10))
	q.begin(http.StatusPartialContent)
	out := q.newPatient()
	for i, s := range spans {
		body := first
		if i > 0 {
			if body, err = ct.part(q.ctx, s.off, s.n); err != nil {
				return err
			}
		}
		if err := writePart(out, heads[i], body); err != nil {
			return err
		}
	}
	_, err = io.WriteString(out, end)
	return err
}

// writePart writes one part of a multipart answer and closes body.
func writePart(w io.Writer, head string, body io.ReadCloser) error {
	defer body.Close()
	if _, err := io.WriteString(w, head); err != nil {
		return err
	}
	if _, err := io.Copy(w, body); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\r\n")
	return err
}
