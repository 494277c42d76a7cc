package s3api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"ringfort/gateway/auth"
	"ringfort/gateway/auth/sigv4"
	"ringfort/gateway/s3api/chunked"
)

// Handler serves the S3 protocol. Make one with New.
//
// It must see requests as they were sent: no router before it may clean or decode
// their paths (gorilla/mux: SkipClean and UseEncodedPath).
type Handler struct {
	cfg     Config
	store   Store
	v4      *sigv4.Verifier
	table   map[endpoint]*operation
	domains []string // ".domain", lower case
	region  string

	buffers  sync.Pool // *[]byte
	hashings sync.Pool // *hashing
	decoders sync.Pool // *chunked.Decoder
}

// New returns a Handler.
func New(cfg Config) *Handler {
	cfg.fill()
	h := &Handler{
		cfg: cfg, store: cfg.Store,
		v4:     sigv4.NewVerifier(sigv4.Config{Region: cfg.Region, MaxSkew: cfg.MaxSkew}),
		table:  operations(),
		region: cfg.Region,
	}
	if h.region == "" {
		h.region = defaultRegion
	}
	for _, d := range cfg.Domains {
		h.domains = append(h.domains, "."+strings.ToLower(strings.Trim(d, ".")))
	}
	h.buffers.New = func() any { return new([]byte) }
	h.hashings.New = func() any { return new(hashing) }
	h.decoders.New = func() any { return new(chunked.Decoder) }
	return h
}

// request is one request on its way. One goroutine uses it.
type request struct {
	h   *Handler
	w   http.ResponseWriter
	r   *http.Request
	ctx context.Context
	id  string
	op  *operation

	bucket, key string
	hosted      bool // the bucket was in the host name
	query       query
	who         auth.Identity
	signed      signed

	bodyRead bool // to its end
	status   int
	bytesIn  int64
	bytesOut int64
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	q := &request{h: h, w: w, r: r, ctx: r.Context(), id: newRequestID()}
	head := w.Header()
	fixed := [...]string{q.id, h.cfg.HostID, "Ringfort"}
	head["X-Amz-Request-Id"] = fixed[0:1:1]
	head["X-Amz-Id-2"] = fixed[1:2:2]
	head["Server"] = fixed[2:3:3]
	err := q.serve()
	var e *Error
	if err != nil {
		e = toError(err)
		q.fail(e)
	}
	if h.cfg.Observe != nil {
		h.cfg.Observe(q.event(e, err, start))
	}
}

func (q *request) event(e *Error, err error, start time.Time) *Event {
	ev := &Event{
		RequestID: q.id, Account: q.who.Account, Bucket: q.bucket, Key: q.key,
		Status: q.status, Err: err, BytesIn: q.bytesIn, BytesOut: q.bytesOut, Duration: time.Since(start),
	}
	if q.op != nil {
		ev.Operation = q.op.name
	}
	if e != nil {
		ev.Code = e.Code
	}
	return ev
}

// newRequestID returns 16 hexadecimal digits, as S3's are.
func newRequestID() string {
	var raw [8]byte
	rand.Read(raw[:])
	var text [16]byte
	hex.Encode(text[:], raw[:])
	for i, c := range text {
		if c >= 'a' {
			text[i] = c - 'a' + 'A'
		}
	}
	return string(text[:])
}

// serve takes a request through all checks, in the order of the package comment.
func (q *request) serve() error {
	if err := q.parse(); err != nil {
		return err
	}
	if q.r.Method == http.MethodOptions {
		return q.preflight()
	}
	if err := q.authenticate(); err != nil {
		return err
	}
	op, err := q.h.route(q)
	if err != nil {
		return err
	}
	q.op = op
	if err := q.checkHeaders(); err != nil {
		return err
	}
	return op.serve(q)
}

// preflight answers a browser's question whether it may ask: no bucket can be set
// up for it.
func (q *request) preflight() error {
	if q.r.Header.Get("Origin") == "" {
		return refuse("BadRequest", "Insufficient information. Origin request header needed.")
	}
	return refuse("AccessForbidden", "", "Method", q.r.Header.Get("Access-Control-Request-Method"), "ResourceType", "BUCKET")
}

// fail answers with an error.
func (q *request) fail(e *Error) {
	if e.Status >= 500 && e.Status != http.StatusNotImplemented && e.Err != nil && !errors.Is(e.Err, context.Canceled) {
		q.h.cfg.Log.Error("s3 request failed", "request", q.id, "bucket", q.bucket, "key", q.key, "code", e.Code, "err", e.Err)
	}
	if q.status != 0 {
		return // the answer has begun: all that is left is to cut it short
	}
	switch {
	case !e.hasBody():
		q.begin(e.Status)
	case q.r.Method == http.MethodHead:
		q.w.Header()["Content-Type"] = xmlType
		q.begin(e.Status)
	default:
		if e.Status == http.StatusServiceUnavailable {
			q.w.Header().Set("Retry-After", "1")
		}
		b := q.h.buffer()
		defer q.h.release(b)
		*b = q.appendError((*b)[:0], e)
		q.sendXML(e.Status, *b)
	}
}

// appendError appends an error's body. Names in it that XML cannot hold lose what
// it cannot: a client that fails to parse an error does not see its code.
func (q *request) appendError(b []byte, e *Error) []byte {
	b = append(b, xmlHeader+"<Error>"...)
	b = appendElement(b, "Code", e.Code)
	b = appendElement(b, "Message", e.Message)
	switch e.Code {
	case "NoSuchBucket", "BucketAlreadyExists", "BucketAlreadyOwnedByYou", "BucketNotEmpty", "InvalidBucketName", "NoSuchTagSet":
		b = appendElement(b, "BucketName", legible(q.bucket))
	case "NoSuchKey":
		b = appendElement(b, "Key", legible(q.key))
	case "NoSuchUpload":
		b = appendElement(b, "UploadId", legible(q.query.get("uploadId")))
	case "MethodNotAllowed":
		b = appendElement(b, "Method", q.r.Method)
	}
	for _, d := range e.Details {
		b = appendElement(b, d.Name, legible(d.Value))
	}
	b = append(b, "<Resource>/"...)
	b = appendURL(b, q.bucket)
	if q.key != "" {
		b = appendURL(append(b, '/'), q.key)
	}
	b = append(b, "</Resource>"...)
	b = appendElement(b, "RequestId", q.id)
	b = appendElement(b, "HostId", q.h.cfg.HostID)
	return append(b, "</Error>"...)
}

// keepBufferBytes is the largest buffer that is kept for later answers: a page of
// a thousand keys of usual length.
const keepBufferBytes = 1 << 20

func (h *Handler) buffer() *[]byte { return h.buffers.Get().(*[]byte) }

func (h *Handler) release(b *[]byte) {
	if cap(*b) <= keepBufferBytes {
		h.buffers.Put(b)
	}
}
