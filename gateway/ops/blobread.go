package ops

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"ringfort/internal/blob"
	"ringfort/internal/catalog"
	"ringfort/internal/erasure"
	"ringfort/internal/errs"
	"ringfort/internal/peer"
)

const (
	// readAhead is how many stripes are read before they are asked for.
	readAhead = 2
	// smallWindow is how many bytes a reader reads at a time while the memory for
	// reading is lent out. That memory is its own, and comes on top of the
	// configured amount: a reader must never wait for another one, since it may
	// feed an upload that others wait for. It has one such window at a time.
	smallWindow = 32 << 10
)

// blobSource is a blob to be read.
type blobSource struct {
	s      *Service
	key    *key
	id     blob.ID
	layout erasure.Layout
}

func (s *Service) source(k *key, id blob.ID, c catalog.Coding, size int64) (*blobSource, error) {
	l := erasure.Layout{K: int(c.K), M: int(c.M), BlockSize: int64(c.BlockSize), Size: size}
	if err := l.Validate(); err != nil {
		return nil, errs.Wrap("ops.Get", errs.Corrupt, err)
	}
	return &blobSource{s: s, key: k, id: id, layout: l}, nil
}

// open returns the bytes [off, off+n) of the blob.
func (b *blobSource) open(ctx context.Context, off, n int64) *blobReader {
	ctx, cancel := context.WithCancel(ctx)
	r := &blobReader{blobSource: b, ctx: ctx, cancel: cancel, left: n, windows: make(chan window, readAhead), freed: make(chan struct{}, 1)}
	r.streams = make([]*stream, b.layout.Fragments())
	r.usable = b.preference()
	r.s.cfg.Workers.Go(func() { r.produce(off, off+n) })
	return r
}

// preference lists the fragments in the order in which they are to be used: data
// before parity, and of whole copies a near one first.
func (b *blobSource) preference() []erasure.Index {
	n := min(b.layout.Fragments(), len(b.key.place.Devices))
	list := make([]erasure.Index, n)
	for i := range list {
		list[i] = erasure.Index(i)
	}
	if b.layout.K == 1 {
		if i := slices.IndexFunc(b.key.place.Devices[:n], func(d Device) bool { return d.Near }); i > 0 {
			list[0], list[i] = list[i], list[0]
		}
	}
	return list
}

// window is a run of blob bytes, at most a stripe.
type window struct {
	bytes []byte
	mem   memory
	err   error
}

// blobReader streams a range of a blob. One goroutine reads from it; another one
// fetches ahead.
type blobReader struct {
	*blobSource
	ctx     context.Context
	cancel  context.CancelFunc
	windows chan window
	cur     window
	left    int64 // bytes of windows that were not taken yet
	failed  error // what the producer ended with
	taken   bool  // cur is to be given back
	// held counts the windows that were made and not given back; freed tells the
	// producer that there is one less.
	held  atomic.Int32
	freed chan struct{}

	// Of the producer:
	usable  []erasure.Index
	streams []*stream // by fragment, nil if not open
}

// stream is one fragment being read.
type stream struct {
	rc  io.ReadCloser
	pos int64 // in the fragment
	end int64 // of what was asked for
}

func (r *blobReader) produce(off, end int64) {
	defer close(r.windows)
	defer r.closeStreams()
	for off < end {
		first, _ := r.layout.StripeRange(off, 1)
		st := r.layout.Stripe(first)
		n := min(st.Offset+st.Len, end) - off
		w := r.window(off, n, end)
		r.held.Add(1)
		select {
		case r.windows <- w:
		case <-r.ctx.Done():
			w.mem.release()
			return
		}
		if w.err != nil {
			return
		}
		off += int64(len(w.bytes))
	}
}

func (r *blobReader) closeStreams() {
	for _, s := range r.streams {
		if s != nil {
			s.rc.Close()
		}
	}
}

// window reads [off, off+n) of one stripe, or less where memory is short, from
// other fragments when some fail.
func (r *blobReader) window(off, n, end int64) window {
	var failed []error
	for {
		plan, err := r.layout.Plan(off, n, r.usable)
		if err != nil {
			return window{err: &errs.Error{Op: "ops.Get", Kind: errs.Unavailable,
				What: "too few fragments of the object can be read", Err: joinAll(append(failed, err))}}
		}
		mem, ok := r.memory(r.need(&plan, n), n <= smallWindow)
		if !ok {
			n = smallWindow
			continue
		}
		w, bad, err := r.attempt(&plan, mem, off, n, end)
		if err == nil {
			return w
		}
		if r.ctx.Err() != nil || len(bad) == 0 {
			return window{err: err}
		}
		failed = append(failed, err)
		r.usable = slices.DeleteFunc(r.usable, func(i erasure.Index) bool { return slices.Contains(bad, i) })
	}
}

// need is how much memory a plan for n bytes takes.
func (r *blobReader) need(p *erasure.Plan, n int64) int64 {
	if len(p.Rebuild) == 0 {
		return n
	}
	for _, rd := range p.Reads {
		n += rd.Len
	}
	return n + (p.Hi-p.Lo)*int64(len(p.Rebuild))
}

// memory is what a window lies in: lent by the pool, or the window's own.
type memory struct {
	bytes []byte
	buf   *erasure.Buffer // nil if it is its own
}

func (m memory) retain() {
	if m.buf != nil {
		m.buf.Retain()
	}
}

func (m memory) release() {
	if m.buf != nil {
		m.buf.Release()
	}
}

// memory gets memory for a window without waiting for other readers: while the
// windows before it are in use it waits for one of those to come back; and with
// none of them in use a small window gets memory in any case, and a larger one is
// to be made small.
func (r *blobReader) memory(n int64, small bool) (memory, bool) {
	for {
		if buf := r.s.windows.TryGet(int(n)); buf != nil {
			return memory{buf.Bytes, buf}, true
		}
		if r.held.Load() == 0 || r.ctx.Err() != nil {
			if !small {
				return memory{}, false
			}
			return memory{bytes: make([]byte, n)}, true
		}
		select {
		case <-r.freed:
		case <-r.ctx.Done():
		}
	}
}

// attempt carries out a plan. It returns the fragments that failed or were slow.
func (r *blobReader) attempt(p *erasure.Plan, mem memory, off, n, end int64) (window, []erasure.Index, error) {
	out := mem.bytes[:n:n]
	dst, scratch := r.destinations(p, out, mem.bytes[n:], off)
	bad, err := r.readAll(p, dst, end, mem)
	if err == nil && len(p.Rebuild) > 0 {
		err = r.rebuild(p, dst, scratch, out, off)
	}
	if err != nil {
		mem.release()
		return window{}, bad, err
	}
	return window{bytes: out, mem: mem}, nil, nil
}

// destinations says where each read of a plan goes: straight to its place in out
// if nothing has to be rebuilt, else to scratch, whose rest is returned.
func (r *blobReader) destinations(p *erasure.Plan, out, scratch []byte, off int64) (dst [][]byte, rest []byte) {
	dst = make([][]byte, len(p.Reads))
	for i, rd := range p.Reads {
		switch {
		case len(p.Rebuild) > 0:
			dst[i], scratch = scratch[:rd.Len:rd.Len], scratch[rd.Len:]
		case r.layout.K == 1:
			dst[i] = out[:rd.Len]
		default:
			blobOff, _ := r.layout.BlobOffset(rd.Index, rd.Off)
			dst[i] = out[blobOff-off:][:rd.Len]
		}
	}
	return dst, scratch
}

// rebuild makes the missing blocks and puts the range together. A fragment may
// have been read beyond [Lo, Hi), the range that the missing ones lack: the last
// data block of a blob is shorter than the others.
func (r *blobReader) rebuild(p *erasure.Plan, dst [][]byte, scratch, out []byte, off int64) error {
	code, err := r.s.code(r.layout.K, r.layout.M)
	if err != nil {
		return err
	}
	span := p.Hi - p.Lo
	blocks := make([][]byte, r.layout.Fragments())
	from := make([]int64, r.layout.Fragments()) // where in the fragment known bytes begin
	known := make([][]byte, r.layout.Fragments())
	for i, rd := range p.Reads {
		known[rd.Index], from[rd.Index] = dst[i], rd.Off
		if rd.Off <= p.Lo && rd.Off+rd.Len >= p.Hi {
			blocks[rd.Index] = dst[i][p.Lo-rd.Off:][:span]
		}
	}
	for _, i := range p.Rebuild {
		blocks[i], scratch = scratch[:0:span], scratch[span:]
	}
	if err := code.Reconstruct(blocks, p.Rebuild...); err != nil {
		return errs.Wrap("ops.Get", errs.Corrupt, err)
	}
	for _, i := range p.Rebuild {
		known[i], from[i] = blocks[i], p.Lo
	}
	for piece := range r.layout.Pieces(off, int64(len(out))) {
		copy(out[piece.BlobOff-off:], known[piece.Index][piece.FragOff-from[piece.Index]:][:piece.Len])
	}
	return nil
}

type readResult struct {
	i   int
	st  *stream
	err error
}

// readAll reads all ranges of a plan at once.
func (r *blobReader) readAll(p *erasure.Plan, dst [][]byte, end int64, mem memory) (bad []erasure.Index, err error) {
	results := make(chan readResult, len(p.Reads))
	for i, rd := range p.Reads {
		st := r.streams[rd.Index]
		r.streams[rd.Index] = nil // handed to the read; it comes back with the result
		mem.retain()
		r.s.cfg.Workers.Go(func() {
			st, err := r.read(st, rd, dst[i], end, len(p.Rebuild) > 0)
			mem.release()
			results <- readResult{i, st, err}
		})
	}
	return r.collect(p, results)
}

// collect waits for the reads of a plan. A fragment that keeps the others waiting
// for long is given up if there is another, and one that keeps them waiting for
// very long in any case; its read ends on its own.
func (r *blobReader) collect(p *erasure.Plan, results <-chan readResult) (bad []erasure.Index, err error) {
	done := make([]bool, len(p.Reads))
	left := len(p.Reads)
	defer func() {
		if left > 0 {
			go closeLate(results, left)
		}
	}()
	slow := time.NewTimer(r.s.cfg.HedgeAfter * 10)
	defer slow.Stop()
	patient := false
	var failed []error
	for left > 0 {
		select {
		case x := <-results:
			left--
			done[x.i] = true
			r.streams[p.Reads[x.i].Index] = x.st
			if x.err != nil {
				bad = append(bad, p.Reads[x.i].Index)
				failed = append(failed, x.err)
			}
		case <-slow.C:
			if len(r.usable)-left-len(bad) < r.layout.K && !patient {
				patient = true // nobody else has it: wait
				slow.Reset(r.s.cfg.Timeout)
				continue
			}
			for i, rd := range p.Reads {
				if !done[i] {
					bad = append(bad, rd.Index)
				}
			}
			return bad, errors.Join(append(failed, errs.New("ops.Get", errs.Unavailable, "a device is slow"))...)
		case <-r.ctx.Done():
			return nil, r.ctx.Err()
		}
	}
	return bad, errors.Join(failed...)
}

func closeLate(results <-chan readResult, n int) {
	for range n {
		if x := <-results; x.st != nil {
			x.st.rc.Close()
		}
	}
}

// read fills dst with a range of a fragment, from st if it stands right.
func (r *blobReader) read(st *stream, rd erasure.Read, dst []byte, end int64, degraded bool) (*stream, error) {
	if st != nil && (st.pos != rd.Off || st.end < rd.Off+rd.Len) {
		st.rc.Close()
		st = nil
	}
	if st == nil {
		d := &r.key.place.Devices[rd.Index]
		name := peer.FragmentName{Owner: r.key.hash, ID: r.id, Index: int(rd.Index)}
		// To the end of the range: a fragment is then read in one go.
		last := max(rd.Off+rd.Len, r.lastOf(rd.Index, end, degraded))
		rc, err := d.Node.OpenFragment(r.ctx, r.key.target(d), name, rd.Off, last-rd.Off)
		if err != nil {
			return nil, err
		}
		st = &stream{rc: rc, pos: rd.Off, end: last}
	}
	if _, err := io.ReadFull(st.rc, dst); err != nil {
		st.rc.Close()
		return nil, errs.Wrap("ops.Get", errs.Other, err)
	}
	st.pos += int64(len(dst))
	return st, nil
}

// lastOf returns where in fragment i the blob's bytes before end stop; for parity,
// and for data from which other data is rebuilt, that is where those of any data
// fragment stop at the latest.
func (r *blobReader) lastOf(i erasure.Index, end int64, degraded bool) int64 {
	if r.layout.K == 1 {
		return end
	}
	if int(i) < r.layout.K && !degraded {
		from, n := r.layout.FragmentRange(i, 0, end)
		return from + n
	}
	_, stop := r.layout.StripeRange(end-1, 1)
	st := r.layout.Stripe(stop - 1)
	return st.FragOffset + st.BlockLen
}

// Read gives the bytes in order.
func (r *blobReader) Read(p []byte) (int, error) {
	if len(r.cur.bytes) == 0 {
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.cur.bytes)
	r.cur.bytes = r.cur.bytes[n:]
	return n, nil
}

// next takes the next window.
func (r *blobReader) next() error {
	r.release()
	w, ok := <-r.windows
	switch {
	case r.failed != nil:
		return r.failed
	case !ok && r.left > 0: // the producer was stopped: this is not the end of the object
		return errs.Wrap("ops.Get", errs.Canceled, context.Cause(r.ctx))
	case !ok:
		return io.EOF
	case w.err != nil:
		r.failed = w.err
		return w.err
	}
	r.left -= int64(len(w.bytes))
	r.cur, r.taken = w, true
	return nil
}

// WriteTo writes whole windows: no copy between.
func (r *blobReader) WriteTo(w io.Writer) (total int64, err error) {
	for {
		if len(r.cur.bytes) == 0 {
			if err := r.next(); err != nil {
				if err == io.EOF {
					err = nil
				}
				return total, err
			}
		}
		n, err := w.Write(r.cur.bytes)
		total += int64(n)
		r.cur.bytes = r.cur.bytes[n:]
		if err != nil {
			return total, err
		}
	}
}

// release gives the current window back.
func (r *blobReader) release() {
	if !r.taken {
		return
	}
	r.cur.mem.release()
	r.cur, r.taken = window{}, false
	r.held.Add(-1)
	select {
	case r.freed <- struct{}{}:
	default: // it has not looked since the last one
	}
}

// Close ends the reading.
func (r *blobReader) Close() error {
	r.cancel()
	r.release()
	for w := range r.windows {
		w.mem.release()
	}
	return nil
}
