package peer

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"ringfort/internal/errs"
)

// slot is the place of one connection. From its first use until the client is
// closed its goroutine keeps a connection open, or tries to.
type slot struct {
	client *Client
	live   atomic.Pointer[clientLink]

	mu      sync.Mutex // guards the rest
	started bool
	err     error         // why the last attempt failed; nil while none has
	changed chan struct{} // closed when live, err or closed change
	closed  bool
}

func newSlot(c *Client) *slot { return &slot{client: c, changed: make(chan struct{})} }

// current returns the open connection, or nil.
func (s *slot) current() *clientLink {
	l := s.live.Load()
	if l == nil || l.lost() {
		return nil
	}
	return l
}

// get returns the open connection. The first use, and the first after a loss,
// waits for the attempt to open one; while the peer is known to be away, get
// fails at once and leaves the attempts to the slot's goroutine.
func (s *slot) get(ctx context.Context) (*clientLink, error) {
	for {
		s.mu.Lock()
		if l := s.current(); l != nil {
			s.mu.Unlock()
			return l, nil
		}
		if s.closed || s.err != nil {
			err := s.err
			s.mu.Unlock()
			if err == nil {
				err = context.Cause(s.client.ctx)
			}
			return nil, err
		}
		if !s.started {
			s.started = true
			s.client.loops.Go(s.keep)
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, errs.Wrap("peer", errs.Canceled, ctx.Err())
		}
	}
}

// set publishes the slot's state and wakes those who wait for a change.
func (s *slot) set(l *clientLink, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live.Store(l)
	s.err = err
	if s.closed && l != nil {
		l.fail(context.Cause(s.client.ctx))
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *slot) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	if l := s.live.Load(); l != nil {
		l.fail(context.Cause(s.client.ctx))
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// keep is the slot's goroutine.
func (s *slot) keep() {
	c := s.client
	pause := c.cfg.BackoffMin
	away := false
	for c.ctx.Err() == nil {
		began := time.Now()
		l, err := c.open()
		if err == nil {
			if away {
				c.cfg.Log.Info("peer is back", "peer", c.address)
			}
			away = false
			s.set(l, nil)
			<-l.dead
			s.set(nil, nil)
			l.loops.Wait()
			if time.Since(began) >= c.cfg.BackoffMax {
				pause = c.cfg.BackoffMin
				continue // it was good for a while: try again at once
			}
			err = l.cause
		}
		if c.ctx.Err() != nil {
			return
		}
		if !away {
			c.cfg.Log.Warn("peer is away", "peer", c.address, "error", err)
		}
		away = true
		s.set(nil, errs.Wrap("peer", errs.Other, err))
		s.sleep(pause/2 + rand.N(pause))
		pause = min(2*pause, c.cfg.BackoffMax)
	}
}

func (s *slot) sleep(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.client.ctx.Done():
	}
}

// open dials the peer and takes the connection through the handshake.
func (c *Client) open() (*clientLink, error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.DialTimeout)
	defer cancel()
	conn, err := c.cfg.Dial(ctx, "tcp", c.address)
	if err != nil {
		return nil, errs.Wrap("peer.open", errs.Unavailable, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	l, err := c.shake(conn)
	if err == nil && !stop() {
		err = errs.Wrap("peer.open", errs.Unavailable, ctx.Err())
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	l.loops.Go(l.write)
	l.loops.Go(func() { l.watch(c.cfg.PingEvery) })
	l.loops.Go(l.receive)
	return l, nil
}

// shake proves the secret to the server and has it prove the secret.
func (c *Client) shake(conn net.Conn) (*clientLink, error) {
	const op = "peer.open"
	broken := func(err error) error {
		return errs.Wrap(op, errs.Unavailable, err)
	}
	t := transcript{token: upgradeToken, client: newNonce()}
	request := "GET " + connectPath + " HTTP/1.1\r\nHost: " + c.address +
		"\r\nConnection: Upgrade\r\nUpgrade: " + t.token +
		"\r\n" + helloHeader + ": " + formatHello(t.client, c.cfg.Secret.helloMAC(t.token, t.client)) + "\r\n\r\n"
	if _, err := io.WriteString(conn, request); err != nil {
		return nil, broken(err)
	}
	in := bufio.NewReaderSize(conn, 4<<10)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return nil, broken(err)
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusSwitchingProtocols:
	case http.StatusUnauthorized:
		return nil, errs.New(op, errs.Unauthenticated, "%s does not take our cluster secret", c.address)
	case http.StatusUpgradeRequired:
		return nil, errs.New(op, errs.NotImplemented, "%s speaks %q, not %s", c.address, resp.Header.Get("Upgrade"), upgradeToken)
	default:
		return nil, errs.New(op, errs.Unavailable, "%s answered %s", c.address, resp.Status)
	}
	nonce, proof, ok := parseHello(resp.Header.Get(helloHeader))
	t.server = nonce
	if !ok || !c.cfg.Secret.set || !equalMAC(c.cfg.Secret.over("server proof", &t), proof[:]) {
		return nil, errs.New(op, errs.Unauthenticated, "%s does not know our cluster secret", c.address)
	}
	mine := c.cfg.Secret.over("client proof", &t)
	if _, err := conn.Write(mine[:]); err != nil {
		return nil, broken(err)
	}
	early, _ := in.Peek(in.Buffered()) // in itself would hide from the link that bytes arrive
	l := &clientLink{client: c, session: c.cfg.Secret.session(&t), pending: make(map[uint32]*call)}
	l.link = newLink(conn, bytes.NewReader(early), &c.pools, linkLimits{
		maxFrameBytes: c.cfg.MaxFrameBytes, queueBytes: c.cfg.QueueBytes,
		readBytes: c.cfg.ReadBufferBytes, dead: c.cfg.DeadAfter,
	})
	// The welcome says that our proof was good.
	if h, err := l.first(); err != nil || h.kind != msgWelcome {
		return nil, errs.New(op, errs.Unavailable, "%s did not take our proof: %v", c.address, err)
	}
	return l, nil
}

// clientLink is the client's end of an upgraded connection: its calls.
type clientLink struct {
	*link
	client  *Client
	session *session
	loops   sync.WaitGroup

	mu      sync.Mutex // guards the rest
	pending map[uint32]*call
	stream  uint32 // used last
	ended   bool   // nothing is answered any more
}

// call is one call that waits for its answer. It is used again once it has left
// pending and its answer, if one was sent, has been taken.
type call struct {
	answer chan answer // of capacity 1
	timer  *time.Timer
}

type answer struct {
	header frameHeader
	frame  []byte
	err    error // the link ended
}

func (l *clientLink) lost() bool {
	select {
	case <-l.dead:
		return true
	default:
		return false
	}
}

// first reads one frame without payload.
func (l *clientLink) first() (h frameHeader, err error) {
	head, err := l.in.Peek(frameHeaderSize)
	if err != nil {
		return h, err
	}
	if h, err = parseFrameHeader(head, 0); err != nil {
		return h, err
	}
	var b buffer
	return h, l.readFrame(h, &b)
}

// receive hands answers to their calls until the link ends.
func (l *clientLink) receive() {
	take := func(frameHeader) *buffer { return &buffer{} }
	err := l.readFrames(take, func(h frameHeader, b *buffer) error {
		if h.kind == msgPing {
			l.control(0, msgPong)
		}
		if h.flags&flagAnswer != 0 {
			l.deliver(h, b.b)
		}
		return nil
	})
	l.fail(errs.New("peer", errs.Unavailable, "%s: %s", l.client.address, ended(err)))
	l.failAll()
}

func (l *clientLink) deliver(h frameHeader, frame []byte) {
	l.mu.Lock()
	c := l.pending[h.stream]
	delete(l.pending, h.stream)
	l.mu.Unlock()
	if c != nil { // else its caller has gone away
		c.answer <- answer{header: h, frame: frame}
	}
}

// failAll fails the calls under way and all later ones.
func (l *clientLink) failAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for id, c := range l.pending {
		delete(l.pending, id)
		c.answer <- answer{err: l.cause}
	}
}

// add registers a call and returns its stream.
func (l *clientLink) add(c *call) (uint32, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return 0, l.cause
	}
	if len(l.pending) >= l.client.cfg.MaxCalls {
		return 0, errs.New("peer", errs.Busy, "%d calls under way on the connection", len(l.pending))
	}
	for {
		l.stream++
		if _, used := l.pending[l.stream]; !used && l.stream != 0 {
			l.pending[l.stream] = c
			return l.stream, nil
		}
	}
}

// forget takes a call out of pending and reports whether it was still there; if
// not, its answer has been or is about to be sent.
func (l *clientLink) forget(stream uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.pending[stream]
	delete(l.pending, stream)
	return ok
}

// call sends a request and waits for its answer. It owns b.
func (l *clientLink) call(ctx context.Context, q *asked, b *buffer) ([]byte, error) {
	kind := q.kind
	c := l.client.getCall()
	stream, err := l.add(c)
	if err != nil {
		l.pools.put(b)
		l.client.putCall(c)
		return nil, errs.Wrap(kind.op(), errs.Other, err)
	}
	left := l.client.cfg.CallTimeout
	if deadline, ok := ctx.Deadline(); ok {
		left = min(left, max(time.Until(deadline), time.Millisecond))
	}
	sealFrame(b.b, stream, kind, 0, left)
	c.timer.Reset(l.client.cfg.CallTimeout)
	if err := l.queue.push(ctx.Done(), c.timer.C, b); err != nil {
		l.pools.put(b)
		return l.abandon(ctx, q, c, stream, err)
	}
	select {
	case a := <-c.answer:
		l.client.putCall(c)
		return l.result(ctx, q, &a)
	case <-ctx.Done():
	case <-c.timer.C:
	}
	l.control(stream, msgCancel)
	return l.abandon(ctx, q, c, stream, nil)
}

// abandon ends a call whose time is up, or that could not be sent, unless its
// answer arrives at this very moment.
func (l *clientLink) abandon(ctx context.Context, q *asked, c *call, stream uint32, cause error) ([]byte, error) {
	kind := q.kind
	if !l.forget(stream) {
		a := <-c.answer
		l.client.putCall(c)
		return l.result(ctx, q, &a)
	}
	l.client.putCall(c)
	switch {
	case ctx.Err() != nil:
		return nil, errs.Wrap(kind.op(), errs.Canceled, ctx.Err())
	case cause != nil:
		return nil, errs.Wrap(kind.op(), errs.Other, cause)
	}
	return nil, errs.New(kind.op(), errs.Unavailable, "no answer from %s within %v", l.client.address, l.client.cfg.CallTimeout)
}

// result turns an answer into what the call returns.
func (l *clientLink) result(ctx context.Context, q *asked, a *answer) ([]byte, error) {
	kind := q.kind
	switch {
	case a.err != nil:
		return nil, errs.Wrap(kind.op(), errs.Other, a.err)
	case a.header.kind != kind:
		return nil, errs.New(kind.op(), errs.Corrupt, "answered by %v", a.header.kind)
	case a.header.flags&^flagsKnown != 0:
		return nil, errs.New(kind.op(), errs.NotImplemented, "an answer with flags %#x: sent by a newer program", a.header.flags)
	}
	p := a.frame[frameHeaderSize:]
	if a.header.flags&flagDevice != 0 {
		rest, s, err := cutDeviceState(p)
		if err != nil {
			return nil, errs.Wrap(kind.op(), errs.Other, err)
		}
		l.client.told(q, s)
		p = rest
	}
	if a.header.flags&flagError != 0 {
		err := decodeError(kind.op(), p)
		// When the time runs out both sides notice, and the other may say so first.
		if deadline, ok := ctx.Deadline(); ok && errs.Is(err, errs.Unavailable) && time.Until(deadline) <= 0 {
			err = errs.Wrap(kind.op(), errs.Canceled, context.DeadlineExceeded)
		}
		return nil, err
	}
	return p, nil
}

func (c *Client) getCall() *call {
	if x, ok := c.idle.Get().(*call); ok {
		return x
	}
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &call{answer: make(chan answer, 1), timer: t}
}

// putCall takes a call back. INVARIANT: nobody else knows it any more.
func (c *Client) putCall(x *call) {
	x.timer.Stop()
	c.idle.Put(x)
}
