package swiftapi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"ringfort/gateway/auth"
	"ringfort/internal/errs"
)

// Handler serves the Swift protocol. Make one with New.
//
// It must see requests as they were sent: no router before it may clean their
// paths.
type Handler struct {
	cfg    Config
	store  Store
	tokens tokens
	info   []byte // the answer to GET /info
}

// New returns a Handler; its errors are errs.Invalid and about cfg.
func New(cfg Config) (*Handler, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	h := &Handler{cfg: cfg, store: cfg.Store, tokens: tokens{key: cfg.TokenKey}}
	h.info = h.describe()
	return h, nil
}

// request is one request on its way. One goroutine uses it.
type request struct {
	h   *Handler
	w   http.ResponseWriter
	r   *http.Request
	ctx context.Context
	id  string

	target
	owner  string // the account without its prefix
	params params
	who    auth.Identity
	op     string

	values   [16]string // of the answer's headers, so that they cost no allocations
	used     int        // of values
	bodyRead bool       // to its end, or to an error
	status   int        // 0 until the answer has begun
	bytesOut int64
	// broken says that an answer of no stated length ended early: only cutting the
	// connection can tell the client.
	broken bool
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	q := &request{h: h, w: w, r: r, ctx: r.Context(), id: newTransactionID(start, r.Header.Get("X-Trans-Id-Extra"))}
	q.set("X-Trans-Id", q.id)
	q.set("X-Openstack-Request-Id", q.id)
	err := q.serve()
	if err != nil {
		q.fail(toError(err))
	}
	if h.cfg.Observe != nil {
		h.cfg.Observe(&Event{
			RequestID: q.id, Operation: q.op, Account: q.owner, Container: q.container, Object: q.object,
			Status: q.status, Err: err, BytesOut: q.bytesOut, Duration: time.Since(start),
		})
	}
	if q.broken {
		panic(http.ErrAbortHandler) // net/http's way to cut a connection; it recovers
	}
}

// newTransactionID returns "tx", 21 random hexadecimal digits, a dash and the time
// in 10 more, as Swift does, and what the client wants to find in its logs.
func newTransactionID(now time.Time, extra string) string {
	var raw [11]byte
	rand.Read(raw[:])
	b := make([]byte, 0, 48)
	b = append(b, "tx"...)
	b = hex.AppendEncode(b, raw[:])[:23]
	b = append(b, '-')
	sec := strconv.FormatInt(now.Unix(), 16)
	for range 10 - len(sec) {
		b = append(b, '0')
	}
	b = append(b, sec...)
	if extra != "" {
		b = append(b, '-')
		b = append(b, url.QueryEscape(extra[:min(len(extra), 32)])...)
	}
	return string(b)
}

// serve takes a request through all checks, in the order of the package comment.
func (q *request) serve() error {
	if done, err := q.servePublic(); done {
		return err
	}
	var err error
	if q.target, err = parsePath(q.r.URL.Path); err != nil {
		return err
	}
	if q.params, err = parseParams(q.r.URL.RawQuery); err != nil {
		return err
	}
	methods := operations[q.level()]
	if q.r.Method == http.MethodOptions {
		return q.options()
	}
	serve, ok := methods[q.r.Method]
	if !ok {
		return q.notAllowed()
	}
	if err := q.authorize(); err != nil {
		return err
	}
	q.op = q.r.Method + " " + q.level().String()
	if err := q.checkLengths(q.r.Method); err != nil {
		return err
	}
	if err := q.checkFeatures(); err != nil {
		return err
	}
	if _, ok := q.params["bulk-delete"]; ok && (q.r.Method == http.MethodPost || q.r.Method == http.MethodDelete) {
		return bulkDelete(q)
	}
	return serve(q)
}

// methodCopy is Swift's own method.
const methodCopy = "COPY"

// operations are what is served, by what a path names and by method.
//
// Read only: it is a table, not state.
var operations = map[level]map[string]func(*request) error{
	accountLevel: {
		http.MethodGet: getAccount, http.MethodHead: headAccount, http.MethodPost: postAccount,
		http.MethodPut: manageAccount, http.MethodDelete: manageAccount,
	},
	containerLevel: {
		http.MethodGet: getContainer, http.MethodHead: headContainer, http.MethodPost: postContainer,
		http.MethodPut: putContainer, http.MethodDelete: deleteContainer,
	},
	objectLevel: {
		http.MethodGet: getObject, http.MethodHead: headObject, http.MethodPost: postObject,
		http.MethodPut: putObject, http.MethodDelete: deleteObject, methodCopy: copyObject,
	},
}

// allow is the Allow header of each level.
func (l level) allow() string {
	if l == objectLevel {
		return "COPY, DELETE, GET, HEAD, OPTIONS, POST, PUT"
	}
	return "DELETE, GET, HEAD, OPTIONS, POST, PUT"
}

func (q *request) notAllowed() error {
	return refuse(http.StatusMethodNotAllowed, "").with("Allow", q.level().allow())
}

// options answers a browser's question whether it may ask: no container can be set
// up for it. Without an Origin it is the methods that are asked for.
func (q *request) options() error {
	if q.r.Header.Get("Origin") != "" {
		return refuse(http.StatusUnauthorized, "").with("Allow", q.level().allow())
	}
	q.w.Header().Set("Allow", q.level().allow())
	q.empty(http.StatusOK)
	return nil
}

// header returns a request header, "" if it is not there.
func (q *request) header(name string) string { return q.r.Header.Get(name) }

// set sets a header of the answer.
func (q *request) set(name, value string) {
	if q.used == len(q.values) {
		q.w.Header()[name] = []string{value}
		return
	}
	q.values[q.used] = value
	q.used++
	q.w.Header()[name] = q.values[q.used-1 : q.used : q.used]
}

// begin sends status and headers. net/http reads what is left of the request's body
// first, for which the client has the idle time.
func (q *request) begin(status int) {
	q.status = status
	if idle := q.h.cfg.IdleTimeout; idle > 0 && q.r.ContentLength != 0 && !q.bodyRead {
		_ = http.NewResponseController(q.w).SetReadDeadline(time.Now().Add(idle))
	}
	q.w.WriteHeader(status)
}

// empty sends an answer without a body.
func (q *request) empty(status int) {
	head := q.w.Header()
	if status != http.StatusNoContent && status != http.StatusNotModified {
		head["Content-Length"] = []string{"0"}
	}
	if _, ok := head["Content-Type"]; !ok {
		head["Content-Type"] = []string{htmlType}
	}
	q.begin(status)
}

const (
	htmlType = "text/html; charset=UTF-8"
	textType = "text/plain; charset=utf-8"
)

// sendBody sends a whole body.
func (q *request) sendBody(status int, contentType string, body []byte) {
	head := q.w.Header()
	head["Content-Type"] = []string{contentType}
	head["Content-Length"] = []string{strconv.Itoa(len(body))}
	q.begin(status)
	if q.r.Method != http.MethodHead && len(body) > 0 {
		_, _ = q.newPatient().Write(body) // a client that went away is no error of ours
	}
}

// page is the body of an answer that has nothing to say but its status.
func page(status int) []byte {
	return []byte("<html><h1>" + statusText(status) + "</h1><p>" + reasons[status].text + "</p></html>")
}

// fail answers with an error.
func (q *request) fail(e *Error) {
	own := e.Status >= 500 && e.Status != http.StatusNotImplemented || q.status != 0
	if own && q.ctx.Err() == nil && !errors.Is(e.Err, context.Canceled) {
		q.h.cfg.Log.Error("swift request failed", "request", q.id, "account", q.owner,
			"container", q.container, "object", q.object, "status", e.Status, "err", e.Err)
	}
	if q.status != 0 {
		return // the answer has begun: all that is left is to cut it short
	}
	head := q.w.Header()
	for name, values := range e.Header {
		head[name] = values
	}
	delete(head, "Content-Length")
	switch {
	case e.Status == http.StatusNotModified:
		q.begin(e.Status)
	case e.Body != nil:
		q.sendBody(e.Status, e.ContentType, e.Body)
	case e.Text == "":
		q.sendBody(e.Status, htmlType, page(e.Status))
	default:
		q.sendBody(e.Status, textType, []byte(e.Text+"\n"))
	}
}

// isNot reports whether err says that something is not there.
func isNot(err error) bool {
	k := errs.KindOf(err)
	return k == errs.NotFound || k == errs.NoBucket
}
