package s3api

import (
	"io"
	"net/http"
	"strconv"
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
	o, err := q.h.store.Head(q.ctx, c, q.key)
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
	o, h, err := q.h.store.Open(q.ctx, c, q.key)
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
	q.setObjectHeaders(o)
	q.overrides()
	head := q.w.Header()
	head["Content-Length"] = []string{strconv.FormatInt(part.n, 10)}
	status := http.StatusOK
	if partial {
		status = http.StatusPartialContent
		head.Set("Content-Range", "bytes "+decimal(part.off)+"-"+decimal(part.off+part.n-1)+"/"+decimal(o.Size))
	}
	if q.header("X-Amz-Checksum-Mode") != "" {
		if err := q.setChecksumOf(o, h, partial); err != nil {
			return err
		}
	}
	q.begin(status)
	if body == nil {
		return nil
	}
	return q.copyOut(body)
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

// setChecksumOf adds the checksum of what is sent: of the object, or of the part
// that was asked for by number. Other ranges have none.
func (q *request) setChecksumOf(o *catalog.Object, h Handle, partial bool) error {
	whole := checksumOf(o)
	if !partial {
		setChecksum(q.w.Header(), whole)
		return nil
	}
	text := q.query.get("partNumber")
	if text == "" || h == nil || whole.IsZero() {
		return nil
	}
	n, err := parsePartNumber(text)
	if err != nil {
		return err
	}
	if o.PartCount == 0 {
		setChecksum(q.w.Header(), whole)
		return nil
	}
	parts, _, err := h.Parts(q.ctx, n-1, 1)
	if err != nil {
		return err
	}
	if len(parts) == 1 && parts[0].Checksum != "" {
		q.w.Header().Set(whole.Algorithm().Header(), parts[0].Checksum)
		q.w.Header().Set(checksum.HeaderType, whole.Type().String())
	}
	return nil
}

// copyOut sends a body. The answer has begun: when reading fails, all that is
// left is to send less than was promised, which closes the connection.
func (q *request) copyOut(body io.Reader) error {
	dst := io.Writer(q.w)
	idle := q.h.cfg.IdleTimeout
	if idle > 0 {
		dst = &patient{w: q.w, idle: idle, armed: time.Now()}
	}
	n, err := io.Copy(dst, body)
	q.bytesOut += n
	if err == nil {
		return nil
	}
	if q.ctx.Err() != nil || isTimeout(err) {
		return errs.Wrap("s3api", errs.Canceled, err)
	}
	return err
}

// patient is a connection being written to, whose deadline moves while the client
// takes bytes. It writes in pieces, so that the deadline is for a piece and not
// for all of a large body.
type patient struct {
	w     http.ResponseWriter
	idle  time.Duration
	armed time.Time
}

const pieceBytes = 1 << 20

func (p *patient) Write(b []byte) (int, error) {
	done := 0
	for {
		if now := time.Now(); now.Sub(p.armed) > min(rearm, p.idle/2) {
			p.armed = now
			_ = http.NewResponseController(p.w).SetWriteDeadline(now.Add(p.idle))
		}
		n, err := p.w.Write(b[done:min(done+pieceBytes, len(b))])
		done += n
		if err != nil || done == len(b) {
			return done, err
		}
	}
}
