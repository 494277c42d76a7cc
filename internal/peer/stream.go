package peer

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"ringfort/internal/errs"
	"ringfort/ring"
)

// streamPool keeps a client's plain HTTP connections, which carry one fragment
// at a time.
type streamPool struct {
	client *Client
	places *limiter

	mu     sync.Mutex // guards the rest
	idle   []*stream  // used last at the end
	open   map[*stream]struct{}
	closed bool
}

// stream is one such connection. One request at a time uses it.
type stream struct {
	conn net.Conn
	in   *bufio.Reader
}

func newStreamPool(c *Client) *streamPool {
	return &streamPool{
		client: c, open: make(map[*stream]struct{}),
		places: newLimiter(c.cfg.MaxStreams, c.cfg.MaxDeviceStreams),
	}
}

// get returns a connection; reused says that it has been used before.
func (p *streamPool) get(ctx context.Context) (s *stream, reused bool, err error) {
	for {
		s, err := p.takeIdle()
		if err != nil {
			return nil, false, err
		}
		if s == nil {
			break
		}
		if quiet(s.conn) && s.in.Buffered() == 0 {
			return s, true, nil
		}
		p.discard(s) // the server has closed it meanwhile
	}
	ctx, cancel := context.WithTimeout(ctx, p.client.cfg.DialTimeout)
	defer cancel()
	conn, err := p.client.cfg.Dial(ctx, "tcp", p.client.address)
	if err != nil {
		return nil, false, errs.Wrap("peer", errs.Unavailable, err)
	}
	s = &stream{conn: conn, in: bufio.NewReaderSize(conn, 4<<10)}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		conn.Close()
		return nil, false, context.Cause(p.client.ctx)
	}
	p.open[s] = struct{}{}
	return s, false, nil
}

func (p *streamPool) takeIdle() (*stream, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, context.Cause(p.client.ctx)
	}
	n := len(p.idle)
	if n == 0 {
		return nil, nil
	}
	s := p.idle[n-1]
	p.idle[n-1] = nil
	p.idle = p.idle[:n-1]
	return s, nil
}

// put takes back a connection whose request and answer are complete.
func (p *streamPool) put(s *stream) {
	s.conn.SetDeadline(time.Time{})
	p.mu.Lock()
	if !p.closed && len(p.idle) < p.client.cfg.MaxIdleStreams {
		p.idle = append(p.idle, s)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	p.discard(s)
}

// discard closes a connection in whatever state it is.
func (p *streamPool) discard(s *stream) {
	s.conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, s)
}

func (p *streamPool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.idle = nil
	for s := range p.open {
		s.conn.Close()
	}
}

// transfer is one request on a stream, from its head to the end of its answer.
type transfer struct {
	client  *Client
	op      string
	ctx     context.Context
	device  ring.DeviceID
	stream  *stream
	reused  bool
	session *session
	counter uint64
	stop    func() bool // stops watching ctx
}

// begin takes a place and a connection and sends the head of a request.
func (c *Client) begin(ctx context.Context, op, method string, d ring.DeviceID, query []byte) (*transfer, error) {
	if err := ctx.Err(); err != nil {
		return nil, errs.Wrap(op, errs.Canceled, err)
	}
	for {
		if err := c.streams.places.acquire(op, d); err != nil {
			return nil, err
		}
		t := &transfer{client: c, op: op, ctx: ctx, device: d}
		err := t.send(method, query)
		if err == nil {
			return t, nil
		}
		if !t.stale(err) {
			return nil, t.wrap(err)
		}
	}
}

func (t *transfer) send(method string, query []byte) error {
	c := t.client
	l, err := c.link(t.ctx, false) // for its session
	if err != nil {
		return err
	}
	t.session = l.session
	if t.stream, t.reused, err = c.streams.get(t.ctx); err != nil {
		return err
	}
	conn := t.stream.conn
	t.stop = context.AfterFunc(t.ctx, func() { conn.Close() })
	uri := fragmentPath + "?q=" + encodeQuery(query)
	auth, counter := l.session.authorize(method, uri)
	t.counter = counter
	head := method + " " + uri + " HTTP/1.1\r\nHost: " + c.address + "\r\nAuthorization: " + auth
	if method == http.MethodPut {
		head += "\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked"
	}
	conn.SetDeadline(time.Now().Add(c.cfg.StallTimeout))
	_, err = conn.Write([]byte(head + "\r\n\r\n"))
	return err
}

// end gives everything back; with reuse, the connection to the next request.
func (t *transfer) end(reuse bool) {
	if t.stop != nil && !t.stop() {
		reuse = false // ctx has closed it, or is about to
	}
	t.client.streams.places.release(t.device)
	switch {
	case t.stream == nil:
	case reuse:
		t.client.streams.put(t.stream)
	default:
		t.client.streams.discard(t.stream)
	}
	t.stream = nil
}

// wrap gives an error of the connection its kind: a context that has ended is
// the reason for whatever happened to the connection.
func (t *transfer) wrap(err error) error {
	switch {
	case t.ctx.Err() != nil:
		return errs.Wrap(t.op, errs.Canceled, t.ctx.Err())
	case errors.As(err, new(*errs.Error)):
		return errs.Wrap(t.op, errs.Other, err)
	}
	return errs.Wrap(t.op, errs.Unavailable, err)
}

// response reads the head of an answer. Final answers must carry the proof that
// the session's server gave them; an error among them is returned as such.
func (t *transfer) response() (*http.Response, error) {
	resp, err := http.ReadResponse(t.stream.in, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusContinue {
		return resp, nil
	}
	if resp.Header.Get(proofHeader) != t.session.proof(t.counter, resp.StatusCode) {
		resp.Body.Close()
		return nil, errs.New(t.op, errs.Unavailable, "%s answered %s and did not prove who it is", t.client.address, resp.Status)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	p := make([]byte, maxErrorText+16)
	n, err := readAll(resp.Body, p)
	if err != nil {
		return nil, err
	}
	if cerr := resp.Body.Close(); cerr == nil && !resp.Close {
		return resp, &remoteError{decodeError(t.op, p[:n])}
	}
	return nil, decodeError(t.op, p[:n])
}

// remoteError is an error that the server told in good order: the connection can
// be used again.
type remoteError struct{ error }

func (e *remoteError) Unwrap() error { return e.error }
