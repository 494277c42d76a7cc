package peer

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"ringfort/internal/errs"
	"ringfort/internal/workers"
)

// ServerConfig says how a Server behaves. A zero field takes its default, the
// number in its comment; a server without a Secret refuses everyone.
type ServerConfig struct {
	// Secret is the cluster's.
	Secret Secret
	// Log gets a line for each refused peer, lost connection and panic. Nil: none.
	Log *slog.Logger

	// MaxConnections is how many upgraded connections are kept: 4096. Each costs
	// two goroutines and ReadBufferBytes.
	MaxConnections int
	// MaxCalls is how many calls run at once: 1024. More are answered Busy.
	MaxCalls int
	// MaxDeviceCalls is how many of them may be for one device: 256. It keeps a
	// hung device from taking the places of the others.
	MaxDeviceCalls int
	// MaxStreams is how many fragments are read or written at once: 512. Each
	// costs a buffer of 128 KiB and what the node needs for it.
	MaxStreams int
	// MaxDeviceStreams is how many of them may be on one device: 128.
	MaxDeviceStreams int
	// MaxFrameBytes is the longest message: 8 MiB.
	MaxFrameBytes int
	// MaxRequestBytes is how many bytes of requests one connection may have under
	// way: 32 MiB. More are answered Busy.
	MaxRequestBytes int
	// QueueBytes is how many bytes of answers may wait on one connection before
	// handlers have to: 4 MiB.
	QueueBytes int
	// ReadBufferBytes is the size of a connection's read buffer: 64 KiB. Smaller
	// means more system calls when many calls are under way.
	ReadBufferBytes int
	// DeadAfter is how long a client may be silent, or take no bytes: 15 s.
	// Clients ask for a sign of life far more often.
	DeadAfter time.Duration
	// HandshakeTimeout bounds the opening of a connection: 5 s.
	HandshakeTimeout time.Duration
	// StallTimeout is how long a fragment's stream may stand still: 30 s.
	StallTimeout time.Duration
}

func (c ServerConfig) withDefaults() ServerConfig {
	orInt(&c.MaxConnections, 4096)
	orInt(&c.MaxCalls, 1024)
	orInt(&c.MaxDeviceCalls, 256)
	orInt(&c.MaxStreams, 512)
	orInt(&c.MaxDeviceStreams, 128)
	orInt(&c.MaxFrameBytes, 8<<20)
	c.MaxFrameBytes = min(c.MaxFrameBytes, maxFrameBytes)
	orInt(&c.MaxRequestBytes, 32<<20)
	orInt(&c.QueueBytes, 4<<20)
	orInt(&c.ReadBufferBytes, 64<<10)
	orTime(&c.DeadAfter, 15*time.Second)
	orTime(&c.HandshakeTimeout, 5*time.Second)
	orTime(&c.StallTimeout, 30*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// maxPayload is the longest answer, which leaves room for its device's state.
func (c *ServerConfig) maxPayload() int { return c.MaxFrameBytes - maxDeviceTrailer }

func orInt(p *int, def int) {
	if *p <= 0 {
		*p = def
	}
}

func orTime(p *time.Duration, def time.Duration) {
	if *p <= 0 {
		*p = def
	}
}

// Server answers the peers of one node over HTTP. It serves every path under
// PathPrefix. The http.Server it runs in should set ReadHeaderTimeout and must
// not set ReadTimeout or WriteTimeout, which would cut fragments short.
//
// Close it after the http.Server: upgraded connections are the Server's own.
type Server struct {
	node    Node
	states  DeviceStates // nil: the node's devices do not tell theirs
	cfg     ServerConfig
	pools   buffers
	workers *workers.Pool
	calls   *limiter
	streams *limiter

	mu       sync.Mutex // guards the rest
	closed   bool
	conns    map[*serverConn]struct{}
	sessions map[sessionID]*serverConn
	serving  sync.WaitGroup // connections and fragment requests
}

var _ http.Handler = (*Server)(nil)

// NewServer returns a server of node, whose answers carry the states of its devices if
// it is a DeviceStates.
func NewServer(node Node, cfg ServerConfig) *Server {
	cfg = cfg.withDefaults()
	states, _ := node.(DeviceStates)
	return &Server{
		node: node, states: states, cfg: cfg,
		workers:  workers.New(cfg.MaxCalls, min(cfg.MaxCalls, 64)),
		calls:    newLimiter(cfg.MaxCalls, cfg.MaxDeviceCalls),
		streams:  newLimiter(cfg.MaxStreams, cfg.MaxDeviceStreams),
		conns:    make(map[*serverConn]struct{}),
		sessions: make(map[sessionID]*serverConn),
	}
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	defer s.serving.Done()
	switch {
	case r.URL.Path == connectPath && r.Method == http.MethodGet:
		s.connect(w, r)
	case r.URL.Path == fragmentPath:
		s.fragment(w, r)
	default:
		refuse(w)
	}
}

// enter counts a request in, unless the server is closed.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.serving.Add(1)
	return true
}

// refuse tells a stranger nothing.
func refuse(w http.ResponseWriter) {
	w.Header().Set("Content-Length", "0")
	w.Header()["Date"] = nil
	w.WriteHeader(http.StatusUnauthorized)
}

// Close ends all connections, tells the calls under way that nobody waits any
// more, and returns when the last of them has. Calling it again does nothing.
func (s *Server) Close() error {
	s.mu.Lock()
	again := s.closed
	s.closed = true
	for c := range s.conns {
		c.link.fail(errs.New("peer", errs.Unavailable, "the server is closing"))
	}
	s.mu.Unlock()
	s.serving.Wait()
	if !again {
		s.workers.Stop()
		s.workers.Wait()
	}
	return nil
}

// connect takes an upgraded connection through the handshake and serves it.
func (s *Server) connect(w http.ResponseWriter, r *http.Request) {
	t := transcript{token: r.Header.Get("Upgrade"), server: newNonce()}
	nonce, sum, ok := parseHello(r.Header.Get(helloHeader))
	if len(t.token) > 64 || !ok || !s.cfg.Secret.set || !equalMAC(s.cfg.Secret.helloMAC(t.token, nonce), sum[:]) {
		if r.Header.Get(helloHeader) != "" { // else it is no peer, but someone knocking
			s.cfg.Log.Warn("peer refused: it does not prove our secret", "remote", r.RemoteAddr)
		}
		refuse(w)
		return
	}
	t.client = nonce
	if t.token != upgradeToken {
		w.Header().Set("Upgrade", upgradeToken)
		w.WriteHeader(http.StatusUpgradeRequired)
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.cfg.Log.Error("peer connection cannot be taken over", "remote", r.RemoteAddr, "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	// Bytes that came with the request belong to the connection.
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	early = bytes.Clone(early)
	c, err := s.shake(conn, early, &t)
	if err != nil {
		conn.Close()
		s.cfg.Log.Warn("peer refused", "remote", r.RemoteAddr, "error", err)
		return
	}
	s.serveConn(c, r.RemoteAddr)
}

// shake proves the secret to the client and has it prove the secret.
func (s *Server) shake(conn net.Conn, early []byte, t *transcript) (*serverConn, error) {
	conn.SetDeadline(time.Now().Add(s.cfg.HandshakeTimeout))
	proof := s.cfg.Secret.over("server proof", t)
	answer := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + upgradeToken +
		"\r\n" + helloHeader + ": " + formatHello(t.server, proof) + "\r\n\r\n"
	if _, err := io.WriteString(conn, answer); err != nil {
		return nil, err
	}
	in := io.MultiReader(bytes.NewReader(early), conn)
	var got [macSize]byte
	if _, err := io.ReadFull(in, got[:]); err != nil {
		return nil, err
	}
	if !equalMAC(s.cfg.Secret.over("client proof", t), got[:]) {
		return nil, errs.New("peer", errs.Unauthenticated, "the client's proof is wrong")
	}
	conn.SetDeadline(time.Time{})
	c := &serverConn{server: s, session: s.cfg.Secret.session(t), running: make(map[uint32]*callContext)}
	rest := early[min(len(early), macSize):]
	c.link = newLink(conn, bytes.NewReader(rest), &s.pools, linkLimits{
		maxFrameBytes: s.cfg.MaxFrameBytes, queueBytes: s.cfg.QueueBytes,
		readBytes: s.cfg.ReadBufferBytes, dead: s.cfg.DeadAfter,
	})
	return c, nil
}

// serveConn serves a connection until it ends.
func (s *Server) serveConn(c *serverConn, remote string) {
	if err := s.addConn(c); err != nil {
		c.link.fail(err)
		s.cfg.Log.Warn("peer refused", "remote", remote, "error", err)
		return
	}
	defer s.removeConn(c)
	var loops sync.WaitGroup
	loops.Go(c.link.write)
	loops.Go(func() { c.link.watch(0) })
	c.link.control(0, msgWelcome)
	err := c.link.readFrames(c.take, c.handle)
	c.link.fail(errs.New("peer", errs.Unavailable, "%s", ended(err)))
	s.cfg.Log.Debug("peer connection ended", "remote", remote, "cause", c.link.cause)
	loops.Wait()
	c.cancelAll()
	c.calls.Wait()
}

func (s *Server) addConn(c *serverConn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errs.New("peer", errs.Unavailable, "the server is closing")
	}
	if len(s.conns) >= s.cfg.MaxConnections {
		return errs.New("peer", errs.Busy, "%d peer connections already", len(s.conns))
	}
	s.conns[c] = struct{}{}
	s.sessions[c.session.id] = c
	return nil
}

func (s *Server) removeConn(c *serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	delete(s.sessions, c.session.id)
}

// session returns the session of an id, nil if there is none.
func (s *Server) session(id sessionID) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.sessions[id]; c != nil {
		return c.session
	}
	return nil
}

// authenticate reports whether r proves a session, and which.
func (s *Server) authenticate(r *http.Request) (*session, credentials, bool) {
	c, ok := parseCredentials(r.Header.Get("Authorization"))
	if !ok {
		return nil, c, false
	}
	sess := s.session(c.id)
	if sess == nil || !sess.accept(&c, r.Method, r.RequestURI) {
		return nil, c, false
	}
	return sess, c, true
}
