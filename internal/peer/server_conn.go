package peer

import (
	"context"
	"encoding/binary"
	"runtime/debug"
	"sync"

	"ringfort/internal/errs"
	"ringfort/ring"
)

// serverConn is the server's end of an upgraded connection: its calls.
type serverConn struct {
	server  *Server
	link    *link
	session *session
	calls   sync.WaitGroup // requests that have been started

	mu      sync.Mutex // guards the rest
	running map[uint32]*callContext
	bytes   int // of the requests under way
}

// take makes room for a frame, unless the connection has too much under way.
func (c *serverConn) take(h frameHeader) *buffer {
	n := frameHeaderSize + h.length
	if h.kind == msgPutRows {
		return c.takeBytes(&buffer{}, n) // the node may keep the rows' values
	}
	return c.takeBytes(c.server.pools.get(n), n)
}

func (c *serverConn) takeBytes(b *buffer, n int) *buffer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bytes+n > c.server.cfg.MaxRequestBytes {
		return nil
	}
	c.bytes += n
	return b
}

// giveBack undoes take once nobody looks at the frame any more.
func (c *serverConn) giveBack(h frameHeader, b *buffer) {
	c.mu.Lock()
	c.bytes -= frameHeaderSize + h.length
	c.mu.Unlock()
	if b != nil && h.kind != msgPutRows {
		c.server.pools.put(b)
	}
}

// handle starts what a frame asks for. An error ends the connection.
func (c *serverConn) handle(h frameHeader, b *buffer) error {
	if h.flags != 0 {
		return errs.New("peer", errs.NotImplemented, "a request with flags %#x: sent by a newer program", h.flags)
	}
	switch h.kind {
	case msgPing, msgPong, msgCancel:
		if b != nil {
			c.giveBack(h, b)
		}
		switch h.kind {
		case msgPing:
			c.link.control(0, msgPong)
		case msgCancel:
			c.cancel(h.stream)
		}
		return nil
	}
	if b == nil {
		c.refuse(h, errs.New("peer", errs.Busy, "too many bytes under way on the connection"))
		return nil
	}
	return c.start(h, b)
}

func (c *serverConn) start(h frameHeader, b *buffer) error {
	r := &request{conn: c, head: h, in: b, ctx: newCallContext(h.left)}
	if hasTarget(h.kind) {
		id, _ := binary.Uvarint(b.b[frameHeaderSize:])
		r.device, r.limited = ring.DeviceID(id), true
		if err := c.server.calls.acquire("peer", r.device); err != nil {
			c.giveBack(h, b)
			c.refuse(h, err)
			return nil
		}
	}
	if err := c.register(r); err != nil {
		return err
	}
	c.calls.Add(1)
	if !c.server.workers.Try(r.serve) {
		r.end(true)
		c.calls.Done()
		c.refuse(h, errs.New("peer", errs.Busy, "%d calls under way", c.server.cfg.MaxCalls))
	}
	return nil
}

// hasTarget reports whether a request begins with a target.
func hasTarget(k messageType) bool {
	return k != msgSettle && k != msgRevoke && k != msgStatus
}

func (c *serverConn) register(r *request) error {
	if r.head.kind == msgSettle {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.running[r.head.stream]; ok {
		return errs.New("peer", errs.Corrupt, "stream %d is in use", r.head.stream)
	}
	c.running[r.head.stream] = r.ctx
	return nil
}

// cancel tells a call that its caller has gone away.
func (c *serverConn) cancel(stream uint32) {
	c.mu.Lock()
	ctx := c.running[stream]
	c.mu.Unlock()
	if ctx != nil {
		ctx.cancel(context.Canceled)
	}
}

// cancelAll is for the end of the connection.
func (c *serverConn) cancelAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ctx := range c.running {
		ctx.cancel(context.Canceled)
	}
}

// refuse answers a request that was not begun.
func (c *serverConn) refuse(h frameHeader, err error) {
	if h.kind == msgSettle {
		return
	}
	b := c.server.pools.frame(128)
	b.b = appendError(b.b, err)
	sealFrame(b.b, h.stream, h.kind, flagAnswer|flagError, 0)
	c.link.queue.pushNow(b)
}

// request is one call that is being served.
type request struct {
	conn    *serverConn
	head    frameHeader
	in      *buffer
	ctx     *callContext
	device  ring.DeviceID
	limited bool // device holds a place in the limiter
}

// serve runs the call and queues its answer.
func (r *request) serve() {
	c := r.conn
	out := c.server.pools.frame(answerHint(r.head.kind))
	err, panicked := r.invoke(out)
	// INVARIANT: the stream is free before its answer can reach the client, which
	// may use the number again at once.
	gone := r.ctx.Err()
	r.end(!panicked)
	if r.head.kind == msgSettle || gone == context.Canceled {
		c.server.pools.put(out)
		c.calls.Done()
		return
	}
	flags := byte(flagAnswer)
	if err == nil && len(out.b)-frameHeaderSize > c.server.cfg.maxPayload() {
		err = errs.New("peer", errs.TooLarge, "an answer of %d bytes", len(out.b))
	}
	if err != nil {
		if gone != nil && errs.Is(err, errs.Canceled) {
			// The caller, if it still listens, has not given up; our time ran out.
			err = errs.Wrap("peer", errs.Unavailable, err)
		}
		flags |= flagError
		out.b = appendError(out.b[:frameHeaderSize], err)
	}
	if r.limited && c.server.states != nil {
		if s, ok := c.server.states.DeviceState(r.device); ok {
			out.b = appendDeviceState(out.b, s)
			flags |= flagDevice
		}
	}
	sealFrame(out.b, r.head.stream, r.head.kind, flags, 0)
	if c.link.queue.push(c.link.dead, nil, out) != nil {
		c.server.pools.put(out)
	}
	c.calls.Done()
}

// answerHint guesses the length of an answer's payload.
func answerHint(k messageType) int {
	switch k {
	case msgRead:
		return bufferSizes[1] - frameHeaderSize
	case msgListRows:
		return bufferSizes[2] - frameHeaderSize
	}
	return bufferSizes[0] - frameHeaderSize
}

// end gives back what the request holds; with recycle, its buffer too.
func (r *request) end(recycle bool) {
	c := r.conn
	if r.head.kind != msgSettle {
		c.mu.Lock()
		delete(c.running, r.head.stream)
		c.mu.Unlock()
	}
	r.ctx.cancel(context.Canceled)
	if r.limited {
		c.server.calls.release(r.device)
	}
	if !recycle {
		r.in = nil // whoever panicked may have left someone reading it
	}
	c.giveBack(r.head, r.in)
}

// invoke calls the node and appends its answer to out. A panic is logged and
// becomes an error: one request must not take the node down.
func (r *request) invoke(out *buffer) (err error, panicked bool) {
	defer func() {
		if p := recover(); p != nil {
			r.conn.server.logPanic(r.head.kind.String(), p)
			err, panicked = errPanic(), true
		}
	}()
	if r.ctx.Err() != nil {
		return errs.New("peer", errs.Unavailable, "the time ran out before the call began"), false
	}
	out.b, err = dispatch(r.ctx, r.conn.server.node, r.head.kind, r.in.b[frameHeaderSize:], out.b, r.conn.server.cfg.maxPayload())
	return err, false
}

func errPanic() error {
	return errs.New("peer", errs.Other, "the handler failed; the node's log says how")
}

func (s *Server) logPanic(call string, p any) {
	s.cfg.Log.Error("peer call panicked", "call", call, "panic", p, "stack", string(debug.Stack()))
}
