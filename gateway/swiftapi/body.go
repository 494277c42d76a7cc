package swiftapi

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

// rearm is how often, at most, a connection's deadline is moved.
const rearm = 5 * time.Second

// entity is a request's body, with a deadline that moves while bytes arrive.
type entity struct {
	q     *request
	size  int64 // -1 if it is not known
	armed time.Time
	err   error // the first error but io.EOF
}

// newEntity prepares to read a body of at most max bytes; nothing is read yet.
func (q *request) newEntity(max int64) (*entity, error) {
	e := &entity{q: q, size: q.r.ContentLength}
	if e.size == 0 && q.r.ProtoMajor < 2 && q.header("Content-Length") == "" && len(q.r.TransferEncoding) == 0 {
		return nil, refuse(http.StatusLengthRequired, "")
	}
	if e.size > max {
		return nil, refuse(http.StatusRequestEntityTooLarge, "")
	}
	return e, nil
}

// Read implements io.Reader.
func (e *entity) Read(p []byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	idle := e.q.h.cfg.IdleTimeout
	if idle > 0 {
		if now := time.Now(); now.Sub(e.armed) > min(rearm, idle/2) {
			e.armed = now
			// Not every ResponseWriter can: then the listener's own limits hold.
			_ = http.NewResponseController(e.q.w).SetReadDeadline(now.Add(idle))
		}
	}
	n, err := e.q.r.Body.Read(p)
	if err == nil {
		return n, nil
	}
	slow := errors.Is(err, os.ErrDeadlineExceeded)
	switch {
	case slow:
		// The deadline stays: net/http would wait for the rest of the body before it
		// answers.
		e.q.set("Connection", "close")
	case idle > 0:
		// A deadline left behind would cancel the request's context while the store
		// is still at work.
		_ = http.NewResponseController(e.q.w).SetReadDeadline(time.Time{})
	}
	e.q.bodyRead = true
	if err == io.EOF {
		return n, err
	}
	status := statusDisconnect
	if slow {
		status = http.StatusRequestTimeout
	}
	x := refuse(status, "")
	x.Err = err
	e.err = x
	return n, e.err
}

// explain prefers what went wrong with the body over what the store made of it.
func (e *entity) explain(err error) error {
	if err != nil && e.err != nil {
		return e.err
	}
	return err
}

// readSmall reads a whole body of at most max bytes.
func (q *request) readSmall(max int64) ([]byte, error) {
	e, err := q.newEntity(max)
	if err != nil {
		return nil, err
	}
	// Grows with what arrives: a header alone must not make us hold its number.
	var buf bytes.Buffer
	if e.size > 0 && e.size < 64<<10 {
		buf.Grow(int(e.size) + bytes.MinRead)
	}
	if _, err := buf.ReadFrom(io.LimitReader(e, max+1)); err != nil {
		return nil, e.explain(err)
	}
	if int64(buf.Len()) > max {
		return nil, refuse(http.StatusRequestEntityTooLarge, "")
	}
	return buf.Bytes(), nil
}

// patient is a connection being written to, whose deadline moves while the client
// takes bytes. It writes in pieces, so that the deadline is for a piece and not
// for all of a large body.
type patient struct {
	q     *request
	armed time.Time
}

const pieceBytes = 1 << 20

// newPatient returns where a body is written to. The deadline that it leaves is
// the connection's, and net/http sets it anew for the next request.
func (q *request) newPatient() *patient { return &patient{q: q} }

// Write implements io.Writer.
func (p *patient) Write(b []byte) (done int, err error) {
	idle := p.q.h.cfg.IdleTimeout
	if !p.q.bodyRead && p.q.r.ContentLength != 0 {
		idle *= 2 // begin may wait once for what is left of the body
	}
	for {
		if idle > 0 {
			if now := time.Now(); now.Sub(p.armed) > min(rearm, idle/2) {
				p.armed = now
				_ = http.NewResponseController(p.q.w).SetWriteDeadline(now.Add(idle))
			}
		}
		n, err := p.q.w.Write(b[done:min(done+pieceBytes, len(b))])
		done += n
		p.q.bytesOut += int64(n)
		if err != nil || done == len(b) {
			return done, err
		}
	}
}
