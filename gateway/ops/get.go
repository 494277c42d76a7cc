package ops

import (
	"bytes"
	"context"
	"io"

	"ringfort/internal/blob"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/register"
)

// Head returns what is known of an object, errs.NotFound if there is none.
func (s *Service) Head(ctx context.Context, c *catalog.Container, name string) (*catalog.Object, error) {
	h, err := s.open(ctx, c, name, false)
	if err != nil {
		return nil, err
	}
	return h.Object, nil
}

// Open returns a handle on an object as it is now. What is read through the
// handle is that version, also when the object is overwritten meanwhile.
func (s *Service) Open(ctx context.Context, c *catalog.Container, name string) (*Handle, error) {
	return s.open(ctx, c, name, true)
}

func (s *Service) open(ctx context.Context, c *catalog.Container, name string, data bool) (*Handle, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	k, _, err := s.objectKey(c, name)
	if err != nil {
		return nil, err
	}
	var r *register.Record
	for range 3 {
		r, err = s.proposer.Read(ctx, k.forReading(), data)
		if !errs.Is(err, errs.Conflict) {
			break // else it was replaced between two answers
		}
	}
	if err != nil {
		return nil, err
	}
	o, err := s.liveObject(r, name)
	if err != nil {
		return nil, err
	}
	if o == nil {
		return nil, errs.New("ops.Get", errs.NotFound, "object %q does not exist", name)
	}
	return &Handle{Object: o, s: s, key: k, record: r}, nil
}

// Handle is one version of an object, open for reading.
type Handle struct {
	Object *catalog.Object
	s      *Service
	key    *key
	record *register.Record
}

// Close gives the handle up.
func (h *Handle) Close() {}

// Range returns the object's bytes [off, off+n). The reader must be closed; it
// also is an io.WriterTo.
func (h *Handle) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	o := h.Object
	if off < 0 || n < 0 || off > o.Size || n > o.Size-off {
		return nil, errs.New("ops.Range", errs.BadRange, "%d bytes from %d of %d", n, off, o.Size)
	}
	if n == 0 {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	switch o.Layout {
	case catalog.Inline:
		if int64(len(h.record.Data)) != o.Size {
			return nil, errs.New("ops.Range", errs.Corrupt, "the record of %d bytes has %d", o.Size, len(h.record.Data))
		}
		return inlineReader{bytes.NewReader(h.record.Data[off : off+n])}, nil
	case catalog.Blob:
		b, err := h.s.source(h.key, blob.ID{Group: h.record.Group, Attempt: o.Attempt}, o.Coding, o.Size)
		if err != nil {
			return nil, err
		}
		return b.open(ctx, off, n), nil
	}
	return h.manifestRange(ctx, off, n)
}

type inlineReader struct{ *bytes.Reader }

func (inlineReader) Close() error { return nil }

// manifest reads entries of the list of parts.
type manifest struct {
	h     *Handle
	bytes []byte // of entries first, first+1, …
	first int
}

// manifestPage is how many entries are read at a time.
const manifestPage = 512

// entry returns entry i of the list of parts.
func (m *manifest) entry(ctx context.Context, i int) (catalog.ManifestEntry, error) {
	if i >= m.h.Object.PartCount {
		return catalog.ManifestEntry{}, errs.New("ops.Get", errs.Corrupt, "the list of %d parts ends before the object does", m.h.Object.PartCount)
	}
	at := (i - m.first) * catalog.ManifestEntrySize
	if at < 0 || at >= len(m.bytes) {
		if err := m.load(ctx, i); err != nil {
			return catalog.ManifestEntry{}, err
		}
		at = (i - m.first) * catalog.ManifestEntrySize
	}
	return catalog.DecodeManifestEntry(m.bytes[at : at+catalog.ManifestEntrySize])
}

// load reads the page of entries that has entry i.
func (m *manifest) load(ctx context.Context, i int) error {
	o := m.h.Object
	if o.Layout == catalog.Manifest {
		if len(m.h.record.Data) != o.PartCount*catalog.ManifestEntrySize {
			return errs.New("ops.Get", errs.Corrupt, "the list of %d parts has %d bytes", o.PartCount, len(m.h.record.Data))
		}
		m.bytes, m.first = m.h.record.Data, 0
		return nil
	}
	m.first = i - i%manifestPage
	n := min(manifestPage, o.PartCount-m.first)
	b, err := m.h.s.source(m.h.key, blob.ID{Group: m.h.record.Group, Attempt: o.Attempt}, o.Coding, int64(o.PartCount*catalog.ManifestEntrySize))
	if err != nil {
		return err
	}
	r := b.open(ctx, int64(m.first*catalog.ManifestEntrySize), int64(n*catalog.ManifestEntrySize))
	defer r.Close()
	m.bytes = make([]byte, n*catalog.ManifestEntrySize)
	_, err = io.ReadFull(r, m.bytes)
	return err
}

// search returns the first of the entries from lo to below hi for which is holds, hi
// if it does for none. It holds for all that follow one for which it does. It halves
// pages and not only entries: as soon as what is left is in one page, that one is at
// hand.
func (m *manifest) search(ctx context.Context, lo, hi int, is func(*catalog.ManifestEntry) bool) (int, error) {
	for lo < hi {
		mid := lo + (hi-lo)/2
		e, err := m.entry(ctx, mid)
		if err != nil {
			return 0, err
		}
		if is(&e) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo, nil
}

// find returns the index of the part that holds byte off.
func (m *manifest) find(ctx context.Context, off int64) (int, error) {
	return m.search(ctx, 0, m.h.Object.PartCount, func(e *catalog.ManifestEntry) bool { return e.End > off })
}

// above returns the index of the first part with a number above n, the number of
// parts if there is none. Numbers rise strictly from 1, so it is n at most; and it
// is n if the parts before are numbered without gaps, as nearly all are.
func (m *manifest) above(ctx context.Context, n int) (int, error) {
	hi := min(max(n, 0), m.h.Object.PartCount)
	if hi == 0 {
		return 0, nil
	}
	e, err := m.entry(ctx, hi-1)
	if err != nil || int64(e.Number) <= int64(n) {
		return hi, err
	}
	return m.search(ctx, 0, hi-1, func(e *catalog.ManifestEntry) bool { return int64(e.Number) > int64(n) })
}

func (h *Handle) manifestRange(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	r := &partsReader{ctx: ctx, m: manifest{h: h}, off: off, end: off + n}
	var err error
	r.next, err = r.m.find(ctx, off)
	return r, err
}

// partsReader reads the parts of a multipart object one after another.
type partsReader struct {
	ctx  context.Context
	m    manifest
	next int // index of the next part
	off  int64
	end  int64
	cur  *blobReader
}

func (r *partsReader) advance() error {
	if r.cur != nil {
		r.cur.Close()
		r.cur = nil
	}
	for r.off < r.end {
		e, err := r.m.entry(r.ctx, r.next)
		if err != nil {
			return err
		}
		r.next++
		if e.Size == 0 {
			continue
		}
		h := r.m.h
		id := blob.ID{Group: h.record.Group, Part: e.Number, Attempt: e.Attempt}
		b, err := h.s.source(h.key, id, h.Object.Coding, e.Size)
		if err != nil {
			return err
		}
		start := e.End - e.Size
		n := min(e.End, r.end) - r.off
		if r.off < start || n <= 0 {
			return errs.New("ops.Get", errs.Corrupt, "part %d does not follow the one before it", e.Number)
		}
		r.cur = b.open(r.ctx, r.off-start, n)
		r.off += n
		return nil
	}
	return io.EOF
}

// Read gives the bytes in order.
func (r *partsReader) Read(p []byte) (int, error) {
	for {
		if r.cur != nil {
			n, err := r.cur.Read(p)
			if n > 0 || err != io.EOF {
				return n, err
			}
		}
		if err := r.advance(); err != nil {
			return 0, err
		}
	}
}

// WriteTo writes whole windows.
func (r *partsReader) WriteTo(w io.Writer) (total int64, err error) {
	for {
		if r.cur != nil {
			n, err := r.cur.WriteTo(w)
			total += n
			if err != nil {
				return total, err
			}
		}
		if err := r.advance(); err != nil {
			if err == io.EOF {
				err = nil
			}
			return total, err
		}
	}
}

// Close ends the reading.
func (r *partsReader) Close() error {
	if r.cur != nil {
		return r.cur.Close()
	}
	return nil
}

// Part returns where part number of a multipart object lies. An object that was
// written in one piece is its own part 1.
func (h *Handle) Part(ctx context.Context, number int) (off, size int64, err error) {
	if h.Object.PartCount == 0 {
		if number == 1 {
			return 0, h.Object.Size, nil
		}
	} else {
		m := manifest{h: h}
		i, err := m.above(ctx, number-1)
		if err != nil {
			return 0, 0, err
		}
		if i < h.Object.PartCount {
			if e, err := m.entry(ctx, i); err != nil || int64(e.Number) == int64(number) {
				return e.End - e.Size, e.Size, err
			}
		}
	}
	return 0, 0, errs.New("ops.Part", errs.BadRange, "the object has no part %d", number)
}

// Parts returns up to limit parts with numbers above after, and whether there
// are more.
func (h *Handle) Parts(ctx context.Context, after, limit int) (parts []catalog.ManifestEntry, more bool, err error) {
	m := manifest{h: h}
	first, err := m.above(ctx, after)
	if err != nil {
		return nil, false, err
	}
	count := h.Object.PartCount
	end := first + min(max(limit, 0), count-first)
	parts = make([]catalog.ManifestEntry, 0, end-first)
	for i := first; i < end; i++ {
		e, err := m.entry(ctx, i)
		if err != nil {
			return nil, false, err
		}
		parts = append(parts, e)
	}
	return parts, end < count, nil
}
