package ops

import (
	"bytes"
	"context"
	"crypto/md5"
	"hash"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"ringfort/internal/blob"
	"ringfort/internal/catalog"
	"ringfort/internal/erasure"
	"ringfort/internal/errs"
	"ringfort/internal/peer"
)

const (
	// laneDepth is how many blocks may wait for one fragment's device: enough to
	// ride out a sync, little enough that a slow device soon slows the sender.
	laneDepth = 2
	// stallTime is how long devices may hold up the others.
	stallTime = 5 * time.Second
	// commitTime is how long a write waits for enough fragments to be synced.
	commitTime = time.Minute
	// straggleTime is how long a write waits for the last fragments when enough
	// of them are synced.
	straggleTime = 2 * time.Second
)

// storeBlob cuts what is read into fragments and writes them to their devices,
// with the MD5 and the caller's hashes computed beside. head is what was read
// already.
func (in *intake) storeBlob(id blob.ID, head []byte) (*stored, error) {
	spec := in.policy.Spec
	code, err := in.s.code(spec.K, spec.M)
	if err != nil {
		return nil, err
	}
	w := &blobWriter{
		in: in, code: code, id: id,
		coding: catalog.Coding{K: byte(spec.K), M: byte(spec.M), BlockSize: uint32(in.s.cfg.BlockSize)},
	}
	w.open()
	size, err := w.copy(io.MultiReader(bytes.NewReader(head), in.body))
	sum, herr := w.hashes.end()
	if err == nil {
		err = herr
	}
	if err == nil && in.size >= 0 && size != in.size {
		err = incomplete(size, in.size)
	}
	if err != nil {
		w.abort()
		return nil, err
	}
	missing, err := w.commit(size)
	if err != nil {
		in.s.dropBlobs(in.ctx, in.key, in.policy, []blob.ID{id})
		return nil, err
	}
	return &stored{in: in, size: size, md5: [md5.Size]byte(sum), group: id.Group, id: id, coding: w.coding, missing: missing}, nil
}

// blobWriter writes one blob: one lane for each fragment.
type blobWriter struct {
	in     *intake
	code   *erasure.Code
	id     blob.ID
	coding catalog.Coding
	ctx    context.Context // of the lanes: ends when the writer is done with them
	cancel context.CancelFunc
	lanes  []*lane
	hashes hashes
	result chan laneResult
}

type laneResult struct {
	index int
	err   error
}

// lane carries blocks to one fragment.
type lane struct {
	blocks chan block
	failed atomic.Pointer[error] // why nothing more is sent; nil while all is well
	commit bool                  // set before blocks is closed
	size   int64                 // likewise
}

// fail gives the lane up, for the first reason that is given.
func (l *lane) fail(err error) { l.failed.CompareAndSwap(nil, &err) }

// drain gives back what waits in a lane that was given up.
func (l *lane) drain() {
	for {
		select {
		case b, ok := <-l.blocks:
			if !ok {
				return
			}
			b.buf.Release()
		default:
			return
		}
	}
}

type block struct {
	bytes []byte
	buf   *erasure.Buffer
}

func (w *blobWriter) open() {
	w.ctx, w.cancel = context.WithCancel(context.WithoutCancel(w.in.ctx))
	w.hashes.start(md5.New(), w.in.also)
	n := w.code.K() + w.code.M()
	w.result = make(chan laneResult, n)
	for i := range n {
		l := &lane{blocks: make(chan block, laneDepth)}
		w.lanes = append(w.lanes, l)
		w.in.s.cfg.Workers.Go(func() { w.result <- laneResult{i, w.run(i, l)} })
	}
}

// run writes the blocks of fragment i as they come.
func (w *blobWriter) run(i int, l *lane) error {
	k := w.in.key
	var fw peer.FragmentWriter
	err := errs.New("ops.Put", errs.Unavailable, "the ring has no device for fragment %d", i)
	if i < len(k.place.Devices) {
		d := &k.place.Devices[i]
		h := &peer.FragmentHeader{Owner: k.hash, ID: w.id, Index: i, Coding: w.coding, Size: w.in.size}
		fw, err = d.Node.CreateFragment(w.ctx, k.target(d), h)
	}
	for b := range l.blocks {
		if err == nil {
			_, err = fw.Write(b.bytes)
		}
		b.buf.Release()
		if err != nil {
			l.fail(err)
		}
	}
	switch {
	case fw == nil:
		return err
	case err != nil || !l.commit:
		fw.Abort()
		return err
	}
	return fw.Commit(w.ctx, l.size)
}

// copy reads the body to its end, stripe by stripe.
func (w *blobWriter) copy(body io.Reader) (size int64, err error) {
	stripe := int64(w.code.K()) * int64(w.coding.BlockSize)
	for {
		want := stripe
		if w.in.size >= 0 {
			want = min(want, w.in.size-size)
		}
		if want == 0 {
			return size, atEnd(body)
		}
		buf, err := w.in.s.stripes.Get(w.in.ctx, w.code.BufferSize(int(want)))
		if err != nil {
			return size, err
		}
		n, err := io.ReadFull(body, buf.Bytes[:want])
		if n > 0 {
			size += int64(n)
			if serr := w.send(buf, n); serr != nil {
				err = serr
			}
		}
		buf.Release()
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return size, nil
		case err != nil:
			return size, err
		case size > w.in.max:
			return size, errs.New("ops.Put", errs.TooLarge, "more than %d bytes", w.in.max)
		}
	}
}

// send hands one stripe to the hashes and the lanes.
func (w *blobWriter) send(buf *erasure.Buffer, n int) error {
	blocks, err := w.code.Encode(make([][]byte, 0, len(w.lanes)), buf.Bytes, n)
	if err != nil {
		return err
	}
	w.hashes.write(buf, n)
	alive := 0
	stalled := time.Now().Add(stallTime)
	for i, l := range w.lanes {
		if l.failed.Load() != nil {
			continue
		}
		ok, err := w.feed(l, block{blocks[i], buf}, stalled)
		if err != nil {
			return err
		}
		if ok {
			alive++
		}
	}
	if alive < w.in.policy.Spec.MinFragments() {
		return w.tooFew()
	}
	return nil
}

// feed gives a block to a lane, and gives the lane up if it does not take it in
// time.
func (w *blobWriter) feed(l *lane, b block, until time.Time) (bool, error) {
	b.buf.Retain()
	select {
	case l.blocks <- b:
		return true, nil
	default:
	}
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case l.blocks <- b:
		return true, nil
	case <-t.C:
		l.fail(errs.New("ops.Put", errs.Unavailable, "a device has taken nothing for %v", stallTime))
		b.buf.Release()
		l.drain()
		return false, nil
	case <-w.in.ctx.Done():
		b.buf.Release()
		return false, w.in.ctx.Err()
	}
}

func (w *blobWriter) tooFew() error {
	var failed []error
	for _, l := range w.lanes {
		if err := l.failed.Load(); err != nil {
			failed = append(failed, *err)
		}
	}
	return fewErr(failed)
}

func fewErr(failed []error) error {
	full := 0
	for _, err := range failed {
		if errs.Is(err, errs.Full) {
			full++
		}
	}
	kind := errs.Unavailable
	if full > 0 {
		kind = errs.Full
	}
	return &errs.Error{Op: "ops.Put", Kind: kind, What: "too few devices take the object's fragments", Err: joinAll(failed)}
}

// abort ends all lanes without a fragment. It does not wait for them.
func (w *blobWriter) abort() {
	w.cancel()
	for _, l := range w.lanes {
		close(l.blocks)
	}
}

// commit makes the fragments durable, and returns which are missing.
func (w *blobWriter) commit(size int64) (missing uint16, err error) {
	for _, l := range w.lanes {
		l.commit, l.size = l.failed.Load() == nil, size
		close(l.blocks)
	}
	synced, left := 0, len(w.lanes)
	missing = uint16(1)<<len(w.lanes) - 1
	need := w.in.policy.Spec.MinFragments()
	var failed []error
	late := time.NewTimer(commitTime)
	defer late.Stop()
	waiting := true
	for waiting && left > 0 && synced+left >= need {
		select {
		case r := <-w.result:
			left--
			if why := w.lanes[r.index].failed.Load(); r.err == nil && why != nil {
				r.err = *why
			}
			if r.err != nil {
				failed = append(failed, r.err)
				continue
			}
			missing &^= 1 << r.index
			if synced++; synced == need {
				late.Reset(straggleTime)
			}
		case <-late.C:
			waiting = false
		case <-w.in.ctx.Done():
			waiting = false
		}
	}
	if synced >= need {
		go w.finish(left)
		return missing, nil
	}
	w.cancel()
	go func() {
		for range left {
			<-w.result
		}
		// Again, for those that came through in spite of all.
		w.in.s.dropBlobs(w.in.ctx, w.in.key, w.in.policy, []blob.ID{w.id})
	}()
	if err := w.in.ctx.Err(); err != nil {
		return 0, err
	}
	if left > 0 && synced+left >= need {
		failed = append(failed, errs.New("ops.Put", errs.Unavailable, "%d devices have not synced their fragments for %v", left, commitTime))
	}
	return 0, fewErr(failed)
}

// finish lets the last fragments be synced, for as long as that may take.
func (w *blobWriter) finish(left int) {
	defer w.cancel()
	t := time.AfterFunc(commitTime, w.cancel)
	defer t.Stop()
	for range left {
		<-w.result
	}
}

// hashes computes digests of the stripes beside the writing of them, each on its
// own goroutine: MD5 alone is slower than everything else together.
type hashes struct {
	md5   hash.Hash
	wg    sync.WaitGroup
	lanes []chan block
	mu    sync.Mutex
	err   error
}

func (h *hashes) start(sum hash.Hash, also io.Writer) {
	h.md5 = sum
	h.lane(sum)
	if also != nil {
		h.lane(also)
	}
}

func (h *hashes) lane(w io.Writer) {
	c := make(chan block, laneDepth)
	h.lanes = append(h.lanes, c)
	h.wg.Go(func() {
		for b := range c {
			if _, err := w.Write(b.bytes); err != nil {
				h.mu.Lock()
				h.err = err
				h.mu.Unlock()
			}
			b.buf.Release()
		}
	})
}

func (h *hashes) write(buf *erasure.Buffer, n int) {
	for _, c := range h.lanes {
		buf.Retain()
		c <- block{buf.Bytes[:n], buf}
	}
}

// end waits for the hashes and returns the MD5.
func (h *hashes) end() ([]byte, error) {
	for _, c := range h.lanes {
		close(c)
	}
	h.wg.Wait()
	return h.md5.Sum(nil), h.err
}
