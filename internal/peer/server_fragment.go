package peer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"ringfort/internal/errs"
	"ringfort/internal/wire"
)

// fragment answers a request to write or read one fragment.
func (s *Server) fragment(w http.ResponseWriter, r *http.Request) {
	sess, cred, ok := s.authenticate(r)
	if !ok {
		refuse(w)
		return
	}
	f := &fragmentRequest{
		server: s, w: w, r: r, rc: http.NewResponseController(w),
		proof: func(status int) string { return sess.proof(cred.counter, status) },
	}
	defer f.clearDeadlines()
	defer f.recover()
	p, err := decodeQuery(r.URL.Query().Get("q"))
	if err != nil {
		f.fail(err)
		return
	}
	switch r.Method {
	case http.MethodPut:
		f.put(p)
	case http.MethodGet:
		f.get(p)
	default:
		f.fail(errs.New("peer", errs.NotImplemented, "method %s", r.Method))
	}
}

// fragmentRequest is one fragment on its way.
type fragmentRequest struct {
	server *Server
	w      http.ResponseWriter
	r      *http.Request
	rc     *http.ResponseController
	proof  func(status int) string
	began  bool // the status has been sent
	fixed  bool // the answer's length is known, and left of it is not sent
	left   int64
	last   bool // the connection ends with this request
}

// clearDeadlines leaves the connection to the next request as it was. One that
// is to end keeps them: net/http still reads a little of what the client sends.
func (f *fragmentRequest) clearDeadlines() {
	if f.last {
		return
	}
	f.rc.SetReadDeadline(time.Time{})
	f.rc.SetWriteDeadline(time.Time{})
}

func (f *fragmentRequest) recover() {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p) // ours: the connection is to be cut
	}
	f.server.logPanic(f.r.Method+" fragment", p)
	if f.began {
		panic(http.ErrAbortHandler) // what was begun cannot be called good any more
	}
	f.fail(errPanic())
}

func (f *fragmentRequest) status(code int) {
	f.began = true
	f.w.Header()["Date"] = nil
	f.w.Header().Set("Content-Type", "application/octet-stream")
	f.w.Header().Set(proofHeader, f.proof(code))
	f.w.WriteHeader(code)
}

// fail answers with an error. What the client still sends is not read: the
// connection ends.
func (f *fragmentRequest) fail(err error) {
	if f.r.Method == http.MethodPut {
		f.w.Header().Set("Connection", "close")
		f.rc.SetReadDeadline(time.Now().Add(f.server.cfg.StallTimeout))
		f.last = true
	}
	f.rc.SetWriteDeadline(time.Now().Add(f.server.cfg.StallTimeout))
	f.status(http.StatusInternalServerError)
	f.w.Write(appendError(nil, err))
	f.rc.Flush()
}

func (f *fragmentRequest) put(p []byte) {
	const op = "peer.CreateFragment"
	rd := wire.NewReader(p)
	m := readCreateRequest(&rd)
	if err := rd.Done(); err != nil {
		f.fail(badPayload(op, err))
		return
	}
	if err := f.server.streams.acquire(op, m.target.Device); err != nil {
		f.fail(err)
		return
	}
	defer f.server.streams.release(m.target.Device)
	// Without this the answer to a client that is still sending would wait for it.
	f.rc.EnableFullDuplex()
	fw, err := f.server.node.CreateFragment(f.r.Context(), m.target, &m.header)
	if err != nil {
		f.fail(err)
		return
	}
	defer fw.Abort() // nothing, once it is committed
	if err := f.receive(fw); err != nil {
		f.fail(err)
		return
	}
	f.w.Header().Set("Content-Length", "0")
	f.rc.SetWriteDeadline(time.Now().Add(f.server.cfg.StallTimeout))
	f.status(http.StatusOK)
}

// receive passes the blocks of a body on to fw and commits it.
func (f *fragmentRequest) receive(fw FragmentWriter) error {
	buf := f.server.pools.get(blockSize + blockHeaderSize)
	defer f.server.pools.put(buf)
	var offset int64
	for {
		f.rc.SetReadDeadline(time.Now().Add(f.server.cfg.StallTimeout))
		b, payload, err := readBlock(f.r.Body, buf, offset)
		if err != nil {
			return err
		}
		switch b.kind {
		case blockData:
			if _, err := fw.Write(payload); err != nil {
				return err
			}
			offset += int64(len(payload))
		case blockCommit:
			return f.commit(fw, payload)
		default:
			return errs.New("peer", errs.Corrupt, "block of kind %d in a body", b.kind)
		}
	}
}

func (f *fragmentRequest) commit(fw FragmentWriter, payload []byte) error {
	size, left, err := decodeCommit(payload)
	if err != nil {
		return err
	}
	// Having seen the end of the body, net/http watches for the client to go away.
	if n, err := f.r.Body.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return errs.New("peer", errs.Corrupt, "bytes after the commit")
	}
	f.rc.SetReadDeadline(time.Time{})
	ctx := f.r.Context()
	if left > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, left)
		defer cancel()
	}
	return fw.Commit(ctx, size)
}

// readBlock reads the next block of a stream at offset. The payload lies in buf.
func readBlock(r io.Reader, buf *buffer, offset int64) (b block, payload []byte, err error) {
	var head [blockHeaderSize]byte
	h := head[:]
	if cap(buf.b) >= blockHeaderSize {
		h = buf.b[:blockHeaderSize] // an array of ours would escape into r
	}
	if _, err := io.ReadFull(r, h); err != nil {
		return b, nil, brokenStream(err)
	}
	if b, err = parseBlock(h, offset); err != nil {
		return b, nil, err
	}
	if cap(buf.b) < blockHeaderSize+b.length {
		buf.b = append(make([]byte, 0, blockHeaderSize+b.length), h...)
	}
	h = buf.b[:blockHeaderSize]
	payload = buf.b[blockHeaderSize : blockHeaderSize+b.length]
	if _, err := io.ReadFull(r, payload); err != nil {
		return b, nil, brokenStream(err)
	}
	return b, payload, b.check(h, payload)
}

// brokenStream is the error of a stream that ended before its time.
func brokenStream(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errs.New("peer", errs.Incomplete, "the stream was broken off")
	}
	return errs.Wrap("peer", errs.Unavailable, err)
}

func (f *fragmentRequest) get(p []byte) {
	const op = "peer.OpenFragment"
	rd := wire.NewReader(p)
	m := readOpenRequest(&rd)
	if err := rd.Done(); err != nil {
		f.fail(badPayload(op, err))
		return
	}
	if err := f.server.streams.acquire(op, m.target.Device); err != nil {
		f.fail(err)
		return
	}
	defer f.server.streams.release(m.target.Device)
	fr, err := f.server.node.OpenFragment(f.r.Context(), m.target, m.name, m.off, m.n)
	if err != nil {
		f.fail(err)
		return
	}
	defer fr.Close()
	n := m.n
	if r, ok := fr.(FragmentReader); ok {
		// With the length of the answer known it is not chunked, and a block costs
		// one system call of each side and not two.
		n = min(n, r.Left())
		if f.left, f.fixed = streamLen(n); f.fixed {
			f.w.Header().Set("Content-Length", strconv.FormatInt(f.left, 10))
		}
	}
	f.status(http.StatusOK)
	f.send(fr, n)
}

// streamLen returns the length of n bytes sent as blocks, and whether an error fits in
// the place of each block, the last one too.
func streamLen(n int64) (total int64, room bool) {
	blocks := max(1, (n+blockSize-1)/blockSize)
	last := n - (blocks-1)*blockSize
	return n + blocks*blockHeaderSize, last >= maxErrorText+16
}

// send writes what fr gives, n bytes at the most, as blocks.
func (f *fragmentRequest) send(fr io.Reader, n int64) {
	buf := f.server.pools.get(int(min(n, blockSize)) + blockHeaderSize)
	defer f.server.pools.put(buf)
	frame := buf.b[:min(cap(buf.b), blockHeaderSize+blockSize)]
	var offset int64
	for {
		want := min(n-offset, int64(len(frame)-blockHeaderSize))
		got, err := io.ReadFull(fr, frame[blockHeaderSize:blockHeaderSize+int(want)])
		kind := blockData
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF || (err == nil && offset+int64(got) == n):
			kind = blockLast
		case err != nil:
			f.sendError(frame, offset, got, err)
			return
		}
		sealBlock(frame, offset, kind, frame[blockHeaderSize:blockHeaderSize+got])
		if !f.sendBlock(frame[:blockHeaderSize+got]) || kind == blockLast {
			return
		}
		offset += int64(got)
	}
}

// sendError sends the bytes that were read before a failure, and the failure.
func (f *fragmentRequest) sendError(frame []byte, offset int64, got int, cause error) {
	text := appendError(nil, cause)
	if got > 0 && (!f.fixed || f.left >= int64(2*blockHeaderSize+got+len(text))) {
		sealBlock(frame, offset, blockData, frame[blockHeaderSize:blockHeaderSize+got])
		if !f.sendBlock(frame[:blockHeaderSize+got]) {
			return
		}
		offset += int64(got)
	}
	frame = append(frame[:blockHeaderSize], text...)
	sealBlock(frame, offset, blockError, frame[blockHeaderSize:])
	f.sendBlock(frame)
}

// sendBlock reports whether the client took the block.
func (f *fragmentRequest) sendBlock(b []byte) bool {
	f.rc.SetWriteDeadline(time.Now().Add(f.server.cfg.StallTimeout))
	_, err := f.w.Write(b)
	f.left -= int64(len(b))
	return err == nil
}
