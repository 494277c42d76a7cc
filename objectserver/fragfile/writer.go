package fragfile

import (
	"context"
	"errors"
	"strconv"
	"syscall"

	"ringfort/internal/errs"
	"ringfort/internal/vfs"
)

// Writer writes one fragment. Its owner calls Write as often as there is data and
// then Commit or Abort; either gives its memory and its place back, and Abort
// after Commit does nothing, so it can be deferred.
type Writer struct {
	s     *Store
	h     Header
	tmp   string
	f     vfs.File
	check *checker

	buf     []byte // what comes next in the file; length is the fill
	written int64  // bytes of the file behind buf
	dataLen int64
	limit   int64 // data that the blob's size allows, or -1
	direct  bool
	err     error // the first failure, which every later call returns
	done    bool
}

// Create begins a fragment. With a known blob size the file's space is allocated
// at once, so that a full disk answers Full here and not after the data has been
// sent. A fragment of the same name, if there is one, stays until Commit
// replaces it.
func (s *Store) Create(ctx context.Context, h Header) (*Writer, error) {
	const op = "fragfile.Create"
	if err := h.Validate(); err != nil {
		return nil, errs.Wrap(op, errs.Other, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, errs.Wrap(op, errs.Canceled, err)
	}
	if s.writers.Add(1) > int64(s.cfg.MaxWriters) {
		s.writers.Add(-1)
		return nil, errs.New(op, errs.Busy, "%d fragments are being written", s.cfg.MaxWriters)
	}
	w := &Writer{
		s:   s,
		h:   h,
		tmp: s.fs.PathJoin(s.tmpFolder(h.Folder()), h.Name.String()+"."+strconv.FormatUint(s.serial.Add(1), 10)),
	}
	if err := w.open(); err != nil {
		w.Abort()
		return nil, diskErr(op, err)
	}
	return w, nil
}

func (w *Writer) open() (err error) {
	total, size := int64(w.s.cfg.BufferBytes), w.s.cfg.BufferBytes
	w.limit = -1
	if w.h.Size != SizeUnknown {
		g := geometry{form: paged, checkSize: checkSizeNew, dataLen: w.h.Layout().FragmentSize()}
		w.limit, total = g.dataLen, g.total()
		size = int(min(int64(size), total))
	}
	if w.f, err = w.s.fs.Create(w.tmp, writeCategory); err != nil {
		w.f = nil
		return err
	}
	if w.limit >= 0 {
		// A file system that cannot reserve space allocates while writing.
		if err := w.f.Preallocate(0, total); err != nil && !errors.Is(err, syscall.EOPNOTSUPP) && !errors.Is(err, syscall.ENOSYS) {
			return err
		}
	}
	w.direct = !w.s.cfg.Buffered && vfs.SetDirect(w.f, true)
	w.buf = w.s.getBuffer(size)[:0]
	w.buf = w.h.appendTo(w.buf, paged, checkSizeNew)
	w.check = newChecker(tagOf(w.buf), checkSizeNew)
	w.pad()
	return nil
}

// Write takes more of the fragment's data. It keeps nothing of p.
func (w *Writer) Write(p []byte) (n int, err error) {
	const op = "fragfile.Write"
	if w.done && w.err == nil {
		return 0, errs.New(op, errs.Invalid, "fragment is closed")
	}
	if w.err == nil && w.limit >= 0 && int64(len(p)) > w.limit-w.dataLen {
		w.err = errs.New(op, errs.Invalid, "more than the %d bytes that a blob of %d calls for", w.limit, w.h.Size)
	}
	for n < len(p) && w.err == nil {
		take := w.check.add(p[n:])
		w.put(p[n : n+take])
		n += take
		w.dataLen += int64(take)
		if w.check.full() {
			w.endGroup()
		}
	}
	return n, w.err
}

// endGroup writes the check page after a group's data.
func (w *Writer) endGroup() {
	w.pad()
	w.put(w.check.seal())
	w.pad()
	w.check.start()
}

// put appends to the file, by way of the buffer.
func (w *Writer) put(p []byte) {
	for len(p) > 0 && w.err == nil {
		n := min(len(p), cap(w.buf)-len(w.buf))
		w.buf = append(w.buf, p[:n]...)
		p = p[n:]
		if len(w.buf) == cap(w.buf) {
			w.flush()
		}
	}
}

// pad appends zeros up to the next page. The buffer has the room, being a number
// of pages itself.
func (w *Writer) pad() {
	start := len(w.buf)
	end := (start + pageSize - 1) / pageSize * pageSize
	w.buf = w.buf[:end]
	clear(w.buf[start:])
	if len(w.buf) == cap(w.buf) && w.err == nil {
		w.flush()
	}
}

// flush writes the buffer, which is full or ends with a page.
func (w *Writer) flush() {
	n, err := w.f.Write(w.buf)
	if err != nil && w.direct && errors.Is(err, syscall.EINVAL) {
		// The file system took the flag and refuses the write.
		w.direct = false
		if vfs.SetDirect(w.f, false) {
			var m int
			m, err = w.f.Write(w.buf[n:])
			n += m
		}
	}
	switch {
	case err != nil:
		w.err = diskErr("fragfile.Write", err)
	case n != len(w.buf):
		w.err = errs.New("fragfile.Write", errs.Unavailable, "wrote %d of %d bytes", n, len(w.buf))
	}
	w.written += int64(len(w.buf))
	w.buf = w.buf[:0]
}

// Commit ends the fragment of a blob of the given size, which must be that of
// the header if it was known, and calls for as much data as was written
// (Incomplete otherwise). When it returns nil the fragment is durable under its
// name. After an error from the sync of the directory the fragment may or may not
// be there; after any other it is not, and what had the name before still has it.
func (w *Writer) Commit(ctx context.Context, size int64) error {
	const op = "fragfile.Commit"
	defer w.Abort()
	switch {
	case w.err != nil:
		return w.err
	case w.done:
		return errs.New(op, errs.Invalid, "fragment is closed")
	case w.h.Size != SizeUnknown && w.h.Size != size:
		return errs.New(op, errs.Invalid, "blob of %d bytes was announced with %d", size, w.h.Size)
	}
	w.h.Size = size
	if err := w.h.Validate(); err != nil {
		return errs.Wrap(op, errs.Other, err)
	}
	if want := w.h.Layout().FragmentSize(); w.dataLen != want {
		return errs.New(op, errs.Incomplete, "%d bytes written, a blob of %d calls for %d", w.dataLen, size, want)
	}
	w.finish()
	if w.err != nil {
		return w.err
	}
	if err := ctx.Err(); err != nil {
		return errs.Wrap(op, errs.Canceled, err)
	}
	if err := w.f.SyncData(); err != nil {
		return diskErr(op, err)
	}
	err := w.f.Close()
	w.f = nil
	if err != nil {
		return diskErr(op, err)
	}
	if err := w.s.fs.Rename(w.tmp, w.s.path(w.h.Name)); err != nil {
		return diskErr(op, err)
	}
	w.tmp = ""
	i := w.h.Folder()
	return diskErr(op, w.s.syncs[i].sync(w.s.fs, w.s.folder(i)))
}

// finish writes the last check page and the trailer.
func (w *Writer) finish() {
	if !w.check.empty() {
		w.endGroup()
	}
	g := geometry{form: paged, checkSize: checkSizeNew, dataLen: w.dataLen}
	t := trailer{header: w.h, geometry: g, tag: w.check.tag, checks: w.check.all.Sum64()}
	page := make([]byte, pageSize-TrailerSize, pageSize)
	w.put(t.appendTo(page))
	if len(w.buf) > 0 && w.err == nil {
		w.flush()
	}
	// INVARIANT: what was written is what the format calls for.
	if w.err == nil && w.written != g.total() {
		w.err = errs.New("fragfile.Commit", errs.Other, "wrote %d bytes where the format has %d", w.written, g.total())
	}
}

// Abort gives up a fragment that is not committed: nothing of it stays. It may be
// called at any time and more than once.
func (w *Writer) Abort() {
	if w.done {
		return
	}
	w.done = true
	if w.f != nil {
		w.f.Close()
		w.f = nil
	}
	if w.tmp != "" { // what cannot be removed now goes when the store is opened again
		w.s.fs.Remove(w.tmp)
	}
	if w.buf != nil {
		w.s.putBuffer(w.buf)
		w.buf = nil
	}
	w.s.writers.Add(-1)
}
