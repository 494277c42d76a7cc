package fragfile

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"ringfort/internal/errs"
)

// Reader reads a fragment's data by ranges, and verifies what it reads and no
// more. It is an io.ReaderAt over the data; any number of goroutines may use it
// until Close.
type Reader struct {
	src     io.ReaderAt
	close   func() error
	t       trailer
	page    atomic.Pointer[checkPage] // the check page used last
	scratch *sync.Pool                // of check blocks, for ranges that cut one
}

// OpenPacked returns a reader of the packed fragment that src holds in size
// bytes. A fragment other than want is Corrupt. Close does not close src.
func OpenPacked(src io.ReaderAt, size int64, want Name) (*Reader, error) {
	return newReader(src, size, packed, want, func() error { return nil }, newScratch())
}

func newScratch() *sync.Pool {
	return &sync.Pool{New: func() any { b := make([]byte, 0, checkSizeNew); return &b }}
}

// newReader reads the fragment's end: the trailer, and in the same read the last
// check page, which for fragments of one group is all that a read will need.
func newReader(src io.ReaderAt, size int64, f form, want Name, close func() error, scratch *sync.Pool) (*Reader, error) {
	const op = "fragfile.Open"
	if size < HeaderSize+TrailerSize {
		return nil, errs.New(op, errs.Corrupt, "fragment %v is %d bytes long", want, size)
	}
	end := make([]byte, min(size, 2*pageSize))
	if err := readFull(src, end, size-int64(len(end))); err != nil {
		return nil, errs.Wrap(op, errs.Other, err)
	}
	t, err := decodeTrailer(end[len(end)-TrailerSize:], f, size)
	if err != nil {
		return nil, &errs.Error{Op: op, What: want.String(), Err: err}
	}
	if t.header.Name != want {
		return nil, errs.New(op, errs.Corrupt, "found fragment %v in place of %v", t.header.Name, want)
	}
	r := &Reader{src: src, close: close, t: t, scratch: scratch}
	if n := t.geometry.groups(); n > 0 {
		at := t.geometry.checkOff(n-1) - (size - int64(len(end)))
		page, err := decodeCheckPage(end[at:], t.tag, n-1, t.geometry.blocks(n-1))
		if err == nil {
			r.page.Store(page)
		} // else the reads that need it will say so
	}
	return r, nil
}

// Header returns the fragment's header, with the blob's size.
func (r *Reader) Header() Header { return r.t.header }

// Len returns the length of the fragment's data in bytes.
func (r *Reader) Len() int64 { return r.t.geometry.dataLen }

// Close ends the reader's use of its file.
func (r *Reader) Close() error { return diskErr("fragfile.Close", r.close()) }

// ReadAt fills p with data from off on, as io.ReaderAt. Data that does not match
// its checksum is not returned: the error is Corrupt, has a *BlockError in its
// chain if the block and not its check page is bad, and n counts the verified
// bytes before it. Reads that begin and end at check blocks (of 32 KiB) go
// straight into p; a block that the range cuts is read whole, into other memory.
func (r *Reader) ReadAt(p []byte, off int64) (n int, err error) {
	const op = "fragfile.ReadAt"
	if off < 0 {
		return 0, errs.New(op, errs.Invalid, "offset %d", off)
	}
	for n < len(p) {
		at := off + int64(n)
		if at >= r.Len() {
			return n, io.EOF
		}
		m, err := r.readRun(p[n:], at)
		n += m
		if err != nil {
			return n, errs.Wrap(op, errs.Other, err)
		}
	}
	return n, nil
}

// readRun reads as much of p as one read of the source gives: whole blocks of
// one group, or the part of one block.
func (r *Reader) readRun(p []byte, off int64) (int, error) {
	g := r.t.geometry
	group := off / g.groupSize()
	page, err := r.checks(group)
	if err != nil {
		return 0, err
	}
	in := off - group*g.groupSize() // offset within the group
	left := g.groupLen(group) - in
	want := min(int64(len(p)), left)
	if want < left { // not to the end of the group: whole blocks only
		want -= want % g.checkSize
	}
	first := in / g.checkSize
	if in%g.checkSize == 0 && want > 0 {
		if err := readFull(r.src, p[:want], g.dataOff(group)+in); err != nil {
			return 0, err
		}
		return r.verify(page, first, p[:want])
	}
	start := first * g.checkSize
	size := min(g.checkSize, g.groupLen(group)-start)
	block := r.scratch.Get().(*[]byte)
	defer r.scratch.Put(block)
	if int64(cap(*block)) < size {
		*block = make([]byte, size)
	}
	b := (*block)[:size]
	if err := readFull(r.src, b, g.dataOff(group)+start); err != nil {
		return 0, err
	}
	if _, err := r.verify(page, first, b); err != nil {
		return 0, err
	}
	return copy(p, b[in-start:]), nil
}

// verify compares the blocks in b, of which first is the first in its group, and
// returns how many bytes are good.
func (r *Reader) verify(page *checkPage, first int64, b []byte) (n int, err error) {
	g := r.t.geometry
	for i := first; n < len(b); i++ {
		block := b[n:min(int64(n)+g.checkSize, int64(len(b)))]
		if xxhash.Sum64(block) != page.sum(i) {
			number := page.group*groupBlocks + i
			return n, errs.Wrap("", errs.Corrupt, &BlockError{
				Name: r.t.header.Name, Block: number, Off: number * g.checkSize, Len: int64(len(block)),
			})
		}
		n += len(block)
	}
	return n, nil
}

// checks returns the check page of a group.
func (r *Reader) checks(group int64) (*checkPage, error) {
	if p := r.page.Load(); p != nil && p.group == group {
		return p, nil
	}
	blocks := r.t.geometry.blocks(group)
	raw := make([]byte, checkExtra+8*blocks)
	if err := readFull(r.src, raw, r.t.geometry.checkOff(group)); err != nil {
		return nil, err
	}
	p, err := decodeCheckPage(raw, r.t.tag, group, blocks)
	if err != nil {
		return nil, &errs.Error{What: r.t.header.Name.String(), Err: err}
	}
	r.page.Store(p)
	return p, nil
}

// readFull reads all of p. A source that ends before is Corrupt: its length was
// known.
func readFull(src io.ReaderAt, p []byte, off int64) error {
	n, err := src.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return errs.New("", errs.Corrupt, "cut short at %d", off+int64(n))
	}
	return diskErr("", err)
}
