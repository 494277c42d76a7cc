package s3api

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"ringfort/gateway/ops"
	"ringfort/internal/catalog"
	"ringfort/internal/checksum"
	"ringfort/internal/errs"
)

func headObject(q *request) error {
	c, err := q.container()
	if err != nil {
		return err
	}
	if q.query.has("partNumber") {
		return q.openAndSend(c)
	}
	o, err := q.head(c, q.key)
	if err != nil {
		return err
	}
	return q.sendObject(o, nil)
}

func getObject(q *request) error {
	c, err := q.container()
	if err != nil {
		return err
	}
	return q.openAndSend(c)
}

func (q *request) openAndSend(c *catalog.Container) error {
	o, h, err := q.open(c, q.key)
	if err != nil {
		return err
	}
	defer h.Close()
	return q.sendObject(o, h)
}

// sendObject answers GET and HEAD: conditions, range or part, headers, bytes. h
// may be nil for a HEAD without a part number.
func (q *request) sendObject(o *catalog.Object, h Handle) error {
	cond := q.readConditions()
	switch v, name := cond.judge(o, q.h.cfg.Now()); v {
	case failed:
		return preconditionFailed(name)
	case unchanged:
		head := q.w.Header()
		head.Set("Etag", quoteETag(o.ETag))
		head.Set("Last-Modified", httpTime(o.Modified))
		if v, ok := o.Meta.Lookup("cache-control"); ok {
			head.Set("Cache-Control", v)
		}
		return refuse("NotModified", "")
	}
	part, partial, err := q.selected(o, h)
	if err != nil {
		return err
	}
	var body io.ReadCloser
	if q.r.Method == http.MethodGet && part.n > 0 {
		if body, err = h.Range(q.ctx, part.off, part.n); err != nil {
			return err
		}
		defer body.Close()
	}
	sum, err := q.sumToSend(o, h, partial)
	if err != nil {
		return err
	}
	out := &patient{q: q, begin: func() {
		q.setObjectHeaders(o)
		q.overrides()
		setChecksum(q.w.Header(), sum, sum.String())
		q.beginBody(part, partial, o.Size)
	}}
	if body == nil {
		out.begin()
		return nil
	}
	return q.copyOut(out, body, part.n)
}

// beginBody sends the head of an answer that is part of an object of size bytes.
func (q *request) beginBody(part span, partial bool, size int64) {
	head, status := q.w.Header(), http.StatusOK
	head["Content-Length"] = []string{decimal(part.n)}
	if partial {
		status = http.StatusPartialContent
		head.Set("Content-Range", "bytes "+decimal(part.off)+"-"+decimal(part.off+part.n-1)+"/"+decimal(size))
	}
	q.begin(status)
}

// selected returns what of an object was asked for, and whether that is a part of
// it.
func (q *request) selected(o *catalog.Object, h Handle) (span, bool, error) {
	all := span{0, o.Size}
	rangeHeader := q.header("Range")
	if text, ok := q.query.lookup("partNumber"); ok {
		if rangeHeader != "" {
			return all, false, refuse("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
		}
		n, err := parsePartNumber(text)
		if err != nil {
			return all, false, err
		}
		off, size, err := h.Part(q.ctx, n)
		if errs.Is(err, errs.BadRange) || errs.Is(err, errs.NotFound) {
			count := max(o.PartCount, 1)
			return all, false, refuse("InvalidPartNumber", "", "PartNumberRequested", text, "ActualPartCount", strconv.Itoa(count))
		}
		if err != nil {
			return all, false, err
		}
		if o.PartCount > 0 {
			q.w.Header().Set("X-Amz-Mp-Parts-Count", strconv.Itoa(o.PartCount))
		}
		return span{off, size}, size > 0, nil
	}
	if rangeHeader == "" || !q.ifRange(o) {
		return all, false, nil
	}
	s, ok, err := parseRange(rangeHeader, o.Size)
	if err != nil {
		q.w.Header().Set("Content-Range", "bytes */"+decimal(o.Size))
		return all, false, err
	}
	if !ok {
		return all, false, nil
	}
	return s, true, nil
}

// ifRange reports whether a range may be applied: If-Range names the object as it
// is.
func (q *request) ifRange(o *catalog.Object) bool {
	v := q.header("If-Range")
	if v == "" {
		return true
	}
	if t, ok := parseHTTPTime(v); ok {
		return t.Unix() == o.Modified/1e6
	}
	return trimQuotes(v) == o.ETag
}

// parsePartNumber reads a part number of a request.
func parsePartNumber(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > ops.MaxParts {
		return 0, invalidArgument("partNumber", text, "Part number must be an integer between 1 and 10000, inclusive")
	}
	return n, nil
}

// sumToSend is the checksum of what is sent, if it was asked for: of the object,
// or of the part that was asked for by number. Other ranges have none.
func (q *request) sumToSend(o *catalog.Object, h Handle, partial bool) (none checksum.Sum, err error) {
	if !strings.EqualFold(q.header(checksum.HeaderMode), "ENABLED") {
		return none, nil
	}
	whole := checksumOf(o)
	if !partial {
		return whole, nil
	}
	text := q.query.get("partNumber")
	if text == "" || h == nil || whole.IsZero() {
		return none, nil
	}
	if o.PartCount == 0 {
		return whole, nil
	}
	n, err := parsePartNumber(text)
	if err != nil {
		return none, err
	}
	parts, _, err := h.Parts(q.ctx, n-1, 1)
	if err != nil || len(parts) == 0 || parts[0].Checksum == "" {
		return none, err
	}
	return checksum.ParseSum(whole.Algorithm(), parts[0].Checksum)
}

// copyOut sends a body of n bytes. When reading fails before the first of them,
// the error can still be told; later all that is left is to send less than was
// promised, which closes the connection.
func (q *request) copyOut(out *patient, body io.Reader, n int64) error {
	sent, err := io.Copy(out, body)
	q.bytesOut += sent
	switch {
	case err == nil && sent == n:
		return nil
	case err == nil:
		return errs.New("s3api", errs.Corrupt, "%d of %d bytes came from the store", sent, n)
	case q.ctx.Err() != nil || isTimeout(err):
		return errs.Wrap("s3api", errs.Canceled, err)
	}
	return err
}

// patient is the connection being written to. It sends the answer's head with the
// first bytes, and moves the deadline while the client takes bytes: it writes in
// pieces, so that the deadline is for a piece and not for all of a large body.
type patient struct {
	q     *request
	begin func()
	armed time.Time
}

const pieceBytes = 1 << 20

func (p *patient) Write(b []byte) (int, error) {
	idle := p.q.h.cfg.IdleTimeout
	if p.q.status == 0 {
		p.begin() // with the first deadline
		p.armed = time.Now()
	}
	done := 0
	for {
		if now := time.Now(); idle > 0 && now.Sub(p.armed) > min(rearm, idle/2) {
			p.armed = now
			_ = http.NewResponseController(p.q.w).SetWriteDeadline(now.Add(idle))
		}
		n, err := p.q.w.Write(b[done:min(done+pieceBytes, len(b))])
		done += n
		if err != nil || done == len(b) {
			return done, err
		}
	}
}
