// Package gateway is the HTTP front door: it tells S3 from Swift, bounds what is
// under way, and serves both over plain HTTP and TLS.
//
// Read [New] first, then [Server]. What a request means is the business of
// s3api and swiftapi; who may do it, of auth; how it is done, of ops.
//
// # Which protocol
//
// A request is Swift's when it carries no S3 signature and its path begins with /v1
// or another one-digit version (no bucket has a name of two letters) or with
// /auth/v1, or is /info, /healthcheck or /crossdomain.xml. Everything else is S3's:
// with a signature also what looks like Swift, since the key of a virtual-hosted
// bucket may begin in any way.
package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gorilla/mux"
	"golang.org/x/net/netutil"
)

// Config says what a gateway serves.
type Config struct {
	S3    http.Handler
	Swift http.Handler
	Log   *slog.Logger

	// MaxRequests bounds the requests under way; more are answered 503. Default 1024.
	MaxRequests int
	// MaxConnections bounds the open connections of each listener; more wait to
	// be accepted. Default 4096.
	MaxConnections int
	// MaxHeaderBytes bounds a request's line and headers. Default 64 KiB.
	MaxHeaderBytes int
}

// Handler routes requests to the two protocols.
type Handler struct {
	cfg     Config
	router  *mux.Router
	running atomic.Int64
	refused atomic.Int64
}

// New returns a Handler.
func New(cfg Config) *Handler {
	if cfg.MaxRequests == 0 {
		cfg.MaxRequests = 1024
	}
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = 4096
	}
	if cfg.MaxHeaderBytes == 0 {
		cfg.MaxHeaderBytes = 64 << 10
	}
	h := &Handler{cfg: cfg}
	// Paths are the protocols' own: nothing may clean or decode them.
	r := mux.NewRouter().SkipClean(true).UseEncodedPath()
	r.MatcherFunc(versioned).MatcherFunc(unsigned).Handler(cfg.Swift)
	for _, path := range []string{"/auth/v1.0", "/info", "/healthcheck", "/crossdomain.xml"} {
		r.Path(path).MatcherFunc(unsigned).Handler(cfg.Swift)
	}
	r.PathPrefix("/auth/v1").MatcherFunc(unsigned).Handler(cfg.Swift)
	// S3 as what is left over, not as a route: mux then makes no copy of the
	// request, which would cost as much as the rest of the routing.
	r.NotFoundHandler = cfg.S3
	r.MethodNotAllowedHandler = cfg.S3
	h.router = r
	return h
}

// versioned reports whether a path begins with a version of Swift's API, known or
// not: "/v" and a digit.
func versioned(r *http.Request, _ *mux.RouteMatch) bool {
	p := r.URL.Path
	return len(p) >= 3 && p[:2] == "/v" && p[2] >= '0' && p[2] <= '9' && (len(p) == 3 || p[3] == '/')
}

// unsigned reports whether a request carries no S3 signature.
func unsigned(r *http.Request, _ *mux.RouteMatch) bool {
	if strings.HasPrefix(r.Header.Get("Authorization"), "AWS") {
		return false
	}
	q := r.URL.RawQuery
	return !strings.Contains(q, "X-Amz-Signature=") && !strings.Contains(q, "AWSAccessKeyId=")
}

// ServeHTTP answers one request, or refuses it when too many are under way.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer h.running.Add(-1)
	if h.running.Add(1) > int64(h.cfg.MaxRequests) {
		h.refused.Add(1)
		h.refuse(w, r)
		return
	}
	continueEmpty(w, r)
	h.router.ServeHTTP(w, r)
}

// continueEmpty answers "100 Continue" to who expects it for a body of no bytes.
// net/http does not, as there is nothing to wait for; but botocore (1.29 at least),
// when it is answered at once, takes the status line of the next answer on the
// connection for a header, and hangs.
func continueEmpty(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength == 0 && strings.EqualFold(r.Header.Get("Expect"), "100-continue") {
		w.WriteHeader(http.StatusContinue)
	}
}

// Running is how many requests are under way.
func (h *Handler) Running() int64 { return max(h.running.Load(), 0) }

// Refused is how many requests were refused since the start because too many were
// under way.
func (h *Handler) Refused() int64 { return h.refused.Load() }

// refuse answers in words that clients of the request's protocol take as "try
// again".
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Retry-After", "1")
	w.Header().Set("Connection", "close") // its body is not read
	var m mux.RouteMatch
	if h.router.Match(r, &m) && m.MatchErr == nil { // only Swift has routes
		http.Error(w, "Too many requests are under way.", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(http.StatusServiceUnavailable)
	if r.Method != http.MethodHead {
		io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?>`+"\n<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>")
	}
}

// Server serves a Handler on any number of listeners.
type Server struct {
	http *http.Server
	max  int
}

// NewServer returns a server for a handler.
func NewServer(h *Handler, base context.Context) *Server {
	return &Server{max: h.cfg.MaxConnections, http: &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 20 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    h.cfg.MaxHeaderBytes,
		ErrorLog:          log.New(lineLog{h.cfg.Log}, "", 0),
		BaseContext:       func(net.Listener) context.Context { return base },
	}}
}

// lineLog passes on what net/http has to say, at debug: it is mostly about
// clients that went away. A handler's panic is a bug, and an error.
type lineLog struct{ log *slog.Logger }

func (l lineLog) Write(p []byte) (int, error) {
	if l.log == nil {
		return len(p), nil
	}
	level := slog.LevelDebug
	if bytes.HasPrefix(p, []byte("http: panic serving")) { // there is no other sign of it
		level = slog.LevelError
	}
	l.log.Log(context.Background(), level, "http", "message", strings.TrimSpace(string(p)))
	return len(p), nil
}

// Serve serves on a listener until the server is shut down, with TLS if
// certificates are given.
func (s *Server) Serve(l net.Listener, certificates *tls.Config) error {
	l = netutil.LimitListener(l, s.max)
	if certificates != nil {
		l = tls.NewListener(l, certificates)
	}
	err := s.http.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown stops taking connections and waits for requests under way, until ctx
// ends; then it breaks off those that are left.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}
