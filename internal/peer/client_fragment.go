package peer

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"ringfort/internal/errs"
)

// readAll fills p from r until r ends; more than p holds is an error.
func readAll(r io.Reader, p []byte) (n int, err error) {
	n, err = io.ReadFull(r, p)
	switch err {
	case io.EOF, io.ErrUnexpectedEOF:
		return n, nil
	case nil:
		return n, errs.New("peer", errs.Corrupt, "an error of more than %d bytes", len(p))
	}
	return n, err
}

// CreateFragment implements Fragments. It returns when the device has begun the
// fragment. The context covers the writing too: when it ends, the fragment is
// given up.
func (c *Client) CreateFragment(ctx context.Context, t Target, h *FragmentHeader) (FragmentWriter, error) {
	const op = "peer.CreateFragment"
	if h.Size < -1 {
		return nil, errs.New(op, errs.Invalid, "size %d", h.Size)
	}
	if err := checkFragment(op, h.Index); err != nil {
		return nil, err
	}
	m := createRequest{t, *h}
	query := m.appendTo(nil)
	for {
		tr, err := c.begin(ctx, op, http.MethodPut, t.Device, query)
		if err != nil {
			return nil, err
		}
		resp, err := tr.response()
		if err == nil && resp.StatusCode != http.StatusContinue {
			err = errs.New(op, errs.Unavailable, "%s took the fragment before it was sent", c.address)
		}
		if err == nil {
			w := &fragmentWriter{transfer: tr, answered: make(chan struct{})}
			go w.await()
			return w, nil
		}
		if tr.stale(err) {
			continue
		}
		return nil, tr.wrap(err)
	}
}

// stale ends a transfer that failed before anything was answered, and reports
// whether it did so because its kept connection had gone away meanwhile.
func (t *transfer) stale(err error) bool {
	if t.ctx.Err() == nil && t.reused && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, new(*net.OpError))) {
		t.end(false)
		return true
	}
	t.end(errors.As(err, new(*remoteError)))
	return false
}

// fragmentWriter sends a fragment. The goroutine await reads the server's answer
// while the fragment is still being sent, because a refusal must not wait for a
// server that no longer takes bytes.
type fragmentWriter struct {
	*transfer
	answered chan struct{}
	result   error       // of the request; set before answered is closed
	reusable bool        // as result
	failing  atomic.Bool // answered by a failure: writes are pointless

	sent   int64
	small  *buffer // gathered small writes, behind room for heads
	err    error   // of an earlier Write
	closed bool
	head   [64]byte // chunk head and block head of what is being sent
	vec    net.Buffers
}

// await reads the final answer.
func (w *fragmentWriter) await() {
	defer close(w.answered)
	resp, err := w.response()
	if err != nil {
		w.result = err
		w.failing.Store(true)
		// Whoever is writing need not go on.
		w.stream.conn.SetWriteDeadline(time.Unix(1, 0))
		return
	}
	w.reusable = !resp.Close && resp.Body.Close() == nil
}

// Write sends p, or keeps it if it is small.
func (w *fragmentWriter) Write(p []byte) (int, error) {
	if w.closed {
		return 0, errs.New(w.op, errs.Invalid, "the fragment is closed")
	}
	if w.err != nil {
		return 0, w.err
	}
	n := len(p)
	if w.small != nil || len(p) < blockSize/2 {
		p = w.gather(p)
		if w.err == nil && len(p) == 0 {
			return n, nil
		}
	}
	for len(p) > 0 && w.err == nil {
		k := min(len(p), blockSize)
		w.flush(blockData, p[:k])
		p = p[k:]
	}
	if w.err != nil {
		return 0, w.err
	}
	return n, nil
}

// gather copies p behind what is kept, and sends what is kept when it makes a
// block; it returns what is left of p, to be sent as it is.
func (w *fragmentWriter) gather(p []byte) []byte {
	if w.small == nil {
		w.small = w.client.pools.get(blockSize)
	}
	for w.err == nil && len(w.small.b)+len(p) >= blockSize {
		k := blockSize - len(w.small.b)
		w.small.b = append(w.small.b, p[:k]...)
		p = p[k:]
		w.flushSmall()
		if len(p) >= blockSize/2 {
			return p
		}
	}
	if w.err == nil {
		w.small.b = append(w.small.b, p...)
	}
	return nil
}

func (w *fragmentWriter) flushSmall() {
	if w.small != nil && len(w.small.b) > 0 {
		w.flush(blockData, w.small.b)
		w.small.b = w.small.b[:0]
	}
}

// flush sends one block as one chunk with one system call.
func (w *fragmentWriter) flush(kind blockKind, payload []byte) {
	if w.failing.Load() {
		w.fail(nil)
		return
	}
	b := strconv.AppendInt(w.head[:0], int64(blockHeaderSize+len(payload)), 16)
	b = append(b, "\r\n"...)
	at := len(b)
	b = b[:at+blockHeaderSize]
	sealBlock(b[at:], w.sent, kind, payload)
	end := "\r\n"
	if kind == blockCommit {
		end = "\r\n0\r\n\r\n"
	}
	w.vec = append(w.vec[:0], b, payload, []byte(end))
	vec := w.vec
	w.stream.conn.SetWriteDeadline(time.Now().Add(w.client.cfg.StallTimeout))
	if w.failing.Load() { // await may have come between, and its deadline been lost
		w.fail(nil)
		return
	}
	if _, err := vec.WriteTo(w.stream.conn); err != nil {
		w.fail(err)
		return
	}
	if kind == blockData {
		w.sent += int64(len(payload))
	}
}

// graceForAnswer is how long a failed write waits for the server's explanation,
// which travels behind the event that made the write fail.
const graceForAnswer = 250 * time.Millisecond

// fail notes why writing failed: what the server said, if it said something.
func (w *fragmentWriter) fail(err error) {
	if err != nil {
		w.stream.conn.SetReadDeadline(time.Now().Add(graceForAnswer))
	}
	<-w.answered
	var told *errs.Error
	if errors.As(w.result, &told) || err == nil {
		err = w.result
	}
	w.err = w.wrap(err)
}

// Commit sends what is left and the size, and waits for the server to have
// committed.
func (w *fragmentWriter) Commit(ctx context.Context, size int64) error {
	if w.closed {
		return errs.New(w.op, errs.Invalid, "the fragment is closed")
	}
	if size < 0 {
		w.Abort()
		return errs.New(w.op, errs.Invalid, "size %d", size)
	}
	if ctx.Err() != nil {
		w.Abort()
		return errs.Wrap("peer.CommitFragment", errs.Canceled, ctx.Err())
	}
	conn := w.stream.conn
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	err := w.commit(ctx, size)
	if !stop() && err != nil {
		err = errs.Wrap("peer.CommitFragment", errs.Canceled, ctx.Err())
		w.reusable = false
	}
	w.finish(err == nil && w.reusable)
	return err
}

func (w *fragmentWriter) commit(ctx context.Context, size int64) error {
	if w.err != nil {
		return w.err
	}
	w.flushSmall()
	if w.err != nil {
		return w.err
	}
	left := w.client.cfg.CommitTimeout
	if deadline, ok := ctx.Deadline(); ok {
		left = min(left, max(time.Until(deadline), time.Millisecond))
	}
	var p [commitSize]byte
	w.flush(blockCommit, appendCommit(p[:0], size, left))
	if w.err != nil {
		return w.err
	}
	w.stream.conn.SetReadDeadline(time.Now().Add(w.client.cfg.CommitTimeout))
	<-w.answered
	if w.result != nil {
		return w.wrap(w.result)
	}
	return nil
}

// Abort gives the fragment up: a body that breaks off is no fragment.
func (w *fragmentWriter) Abort() {
	if w.closed {
		return
	}
	w.stream.conn.Close()
	w.finish(false)
}

// finish ends the transfer when await has.
func (w *fragmentWriter) finish(reuse bool) {
	w.closed = true
	if !reuse {
		w.stream.conn.Close()
	}
	<-w.answered
	w.client.pools.put(w.small)
	w.small = nil
	w.end(reuse)
}

// OpenFragment implements Fragments. The context covers the reading too.
func (c *Client) OpenFragment(ctx context.Context, t Target, f FragmentName, off, n int64) (io.ReadCloser, error) {
	const op = "peer.OpenFragment"
	if err := checkFragment(op, f.Index, off, n); err != nil {
		return nil, err
	}
	m := openRequest{fragmentHead{t, f}, off, n}
	query := m.appendTo(nil)
	for {
		tr, err := c.begin(ctx, op, http.MethodGet, t.Device, query)
		if err != nil {
			return nil, err
		}
		resp, err := tr.response()
		if err == nil {
			return &fragmentReader{transfer: tr, body: resp.Body, keep: !resp.Close}, nil
		}
		if tr.stale(err) {
			continue
		}
		return nil, tr.wrap(err)
	}
}

// fragmentReader reads a fragment's blocks.
type fragmentReader struct {
	*transfer
	body   io.ReadCloser
	keep   bool // the connection outlives the answer
	buf    *buffer
	rest   []byte // of the block in buf
	offset int64
	last   bool  // the last block has been read
	err    error // what the next Read answers when rest is empty
	closed bool
}

// Read returns verified bytes only.
func (r *fragmentReader) Read(p []byte) (int, error) {
	if r.closed {
		return 0, errs.New(r.op, errs.Invalid, "the fragment is closed")
	}
	for len(r.rest) == 0 {
		if r.err == nil && r.last {
			r.err = io.EOF
		}
		if r.err != nil {
			return 0, r.err
		}
		if len(p) == 0 {
			return 0, nil
		}
		if n := r.next(p); n > 0 {
			return n, nil
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// next reads a block: straight into p if it fits there, else into rest.
func (r *fragmentReader) next(p []byte) int {
	n, err := r.readBlock(p)
	if err != nil {
		r.err = r.wrap(err)
		r.rest = nil
		return 0
	}
	return n
}

func (r *fragmentReader) readBlock(p []byte) (int, error) {
	if r.buf == nil {
		r.buf = r.client.pools.get(blockHeaderSize)
	}
	r.stream.conn.SetReadDeadline(time.Now().Add(r.client.cfg.StallTimeout))
	head := r.buf.b[:blockHeaderSize]
	if _, err := io.ReadFull(r.body, head); err != nil {
		return 0, brokenStream(err)
	}
	b, err := parseBlock(head, r.offset)
	if err != nil {
		return 0, err
	}
	var into []byte
	direct := b.length <= len(p) && b.kind != blockError
	if direct {
		into = p[:b.length]
	} else {
		into, head = r.room(b.length, head)
	}
	if _, err := io.ReadFull(r.body, into); err != nil {
		return 0, brokenStream(err)
	}
	if err := b.check(head, into); err != nil {
		return 0, err
	}
	r.offset += int64(b.length)
	switch b.kind {
	case blockLast:
		r.last = true
	case blockError:
		return 0, decodeError(r.op, into)
	case blockCommit:
		return 0, errs.New(r.op, errs.Corrupt, "a commit in an answer")
	}
	if direct {
		return b.length, nil
	}
	r.rest = into
	return 0, nil
}

// room returns n bytes behind a copy of head.
func (r *fragmentReader) room(n int, head []byte) (into, kept []byte) {
	if cap(r.buf.b) < blockHeaderSize+n {
		b := r.client.pools.get(blockHeaderSize + n)
		copy(b.b[:blockHeaderSize], head)
		r.client.pools.put(r.buf)
		r.buf = b
	}
	all := r.buf.b[:blockHeaderSize+n]
	return all[blockHeaderSize:], all[:blockHeaderSize]
}

// Close ends the reading. A stream that was read to its last block leaves its
// connection to the next one.
func (r *fragmentReader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	reuse := r.keep && r.last && r.err == nil || r.err == io.EOF
	if reuse {
		// Only the end of the chunked body is missing, and the server sends it
		// right behind the last block.
		r.stream.conn.SetReadDeadline(time.Now().Add(r.client.cfg.StallTimeout))
		n, err := r.body.Read(make([]byte, 1))
		reuse = n == 0 && err == io.EOF
	}
	r.rest = nil
	r.client.pools.put(r.buf)
	r.buf = nil
	r.end(reuse)
	return nil
}
