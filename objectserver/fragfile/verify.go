package fragfile

import (
	"context"
	"errors"
	"io"

	"github.com/cespare/xxhash/v2"

	"ringfort/internal/errs"
)

// maxBadRanges bounds a Report. A fragment with more damage than that is rebuilt
// as a whole.
const maxBadRanges = 256

// Range is a run of a fragment's data.
type Range struct {
	Off int64
	Len int64
}

// Report is what a verification found.
type Report struct {
	Header Header
	// Bytes is how much was read.
	Bytes int64
	// Bad lists the ranges of data that cannot be trusted, in order, neighbours
	// joined. With more than 256 of them the last reaches to the end.
	Bad []Range
}

// Pace is called during a verification with the number of bytes read since the
// last call. It may wait, to hold a scrubber to its rate; an error ends the
// verification.
type Pace func(ctx context.Context, bytes int) error

// VerifyPacked is [Store.Verify] for the packed fragment that src holds in size
// bytes.
func VerifyPacked(ctx context.Context, src io.ReaderAt, size int64, want Name, pace Pace) (Report, error) {
	r, err := OpenPacked(src, size, want)
	if err != nil {
		return Report{}, err
	}
	return verify(ctx, r, make([]byte, min(8*r.t.geometry.checkSize, max(r.Len(), pageSize))), pace)
}

// verifier reads a fragment from front to back.
type verifier struct {
	r      *Reader
	buf    []byte // at least one check block long, unless the data is shorter
	pace   Pace
	report Report
	all    xxhash.Digest // of the check pages
	wrong  error         // the first damage found
}

// verify returns the first damage as its error, and all of it in the report. An
// error that is not Corrupt means that the verification did not finish.
func verify(ctx context.Context, r *Reader, buf []byte, pace Pace) (Report, error) {
	v := &verifier{r: r, buf: buf, pace: pace, report: Report{Header: r.Header()}}
	v.all.Reset()
	if err := v.edges(ctx); err != nil {
		return v.report, err
	}
	g := r.t.geometry
	for i := range g.groups() {
		if err := v.group(ctx, i); err != nil {
			return v.report, err
		}
	}
	if v.wrong == nil && v.all.Sum64() != r.t.checks {
		v.damage("check pages do not match the trailer")
	}
	return v.report, v.wrong
}

func (v *verifier) damage(what string) {
	if v.wrong == nil {
		v.wrong = errs.New("fragfile.Verify", errs.Corrupt, "%v: %s", v.r.t.header.Name, what)
	}
}

// read reads size bytes at off, at most a buffer full. Only the failure of the
// device is returned: a fragment that ends too early is damage.
func (v *verifier) read(ctx context.Context, off, size int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, errs.Wrap("fragfile.Verify", errs.Canceled, err)
	}
	b := v.buf[:size]
	if err := readFull(v.r.src, b, off); err != nil {
		if errs.Is(err, errs.Corrupt) {
			v.damage("cut short")
			clear(b)
			return b, nil
		}
		return nil, errs.Wrap("fragfile.Verify", errs.Other, err)
	}
	v.report.Bytes += size
	if v.pace != nil {
		if err := v.pace(ctx, int(size)); err != nil {
			return nil, errs.Wrap("fragfile.Verify", errs.Other, err)
		}
	}
	return b, nil
}

// edges verifies the header's page, which readers do not need, and the padding
// before the trailer.
func (v *verifier) edges(ctx context.Context) error {
	g := v.r.t.geometry
	b, err := v.read(ctx, 0, g.padded(HeaderSize))
	if err != nil {
		return err
	}
	h, f, checkSize, err := decodeHeader(b)
	switch want := v.r.t.header; {
	case err != nil:
		v.damage("header: " + err.Error())
	case h.Size != SizeUnknown && h.Size != want.Size, f != g.form, checkSize != g.checkSize, tagOf(b) != v.r.t.tag:
		v.damage("header and trailer disagree")
	case !zero(b[HeaderSize:]):
		v.damage("padding of the header is not zero")
	}
	b, err = v.read(ctx, g.end(), g.padded(TrailerSize))
	if err != nil {
		return err
	}
	if !zero(b[:len(b)-TrailerSize]) {
		v.damage("padding of the trailer is not zero")
	}
	if _, err := decodeTrailer(b[len(b)-TrailerSize:], g.form, g.total()); err != nil {
		v.damage("trailer: " + err.Error())
	}
	return nil
}

// group verifies a group's check page, its data, and the padding of both.
func (v *verifier) group(ctx context.Context, i int64) error {
	g := v.r.t.geometry
	size := g.padded(int64(checkExtra + 8*g.blocks(i)))
	raw, err := v.read(ctx, g.checkOff(i), min(size, int64(len(v.buf))))
	if err != nil {
		return err
	}
	page, err := decodeCheckPage(append([]byte(nil), raw...), v.r.t.tag, i, g.blocks(i))
	if err != nil {
		v.damage(err.Error())
		v.bad(i*g.groupSize(), g.groupLen(i))
		return nil
	}
	if !zero(raw[len(page.raw):]) {
		v.damage("padding of a check page is not zero")
	}
	v.all.Write(page.raw)
	step := int64(len(v.buf)) / g.checkSize * g.checkSize
	if step == 0 {
		step = int64(len(v.buf)) // the data is shorter than a block
	}
	for in := int64(0); in < g.groupLen(i); in += step {
		n := min(step, g.groupLen(i)-in)
		b, err := v.read(ctx, g.dataOff(i)+in, min(step, g.padded(g.groupLen(i))-in))
		if err != nil {
			return err
		}
		if !zero(b[n:]) {
			v.damage("padding of the data is not zero")
		}
		v.data(page, in/g.checkSize, b[:n])
	}
	return nil
}

// data verifies blocks, of which first is the first, and goes on after a bad one.
func (v *verifier) data(page *checkPage, first int64, b []byte) {
	for len(b) > 0 {
		n, err := v.r.verify(page, first, b)
		if err == nil {
			return
		}
		var bad *BlockError
		if !errors.As(err, &bad) {
			return
		}
		if v.wrong == nil {
			v.wrong = errs.Wrap("fragfile.Verify", errs.Other, err)
		}
		v.bad(bad.Off, bad.Len)
		done := int64(n) + bad.Len
		b = b[done:]
		first += ceilDiv(done, v.r.t.geometry.checkSize)
	}
}

// bad adds a range to the report.
func (v *verifier) bad(off, n int64) {
	list := v.report.Bad
	if len(list) > 0 {
		last := &list[len(list)-1]
		if last.Off+last.Len == off {
			last.Len += n
			return
		}
		if len(list) == maxBadRanges {
			last.Len = v.r.Len() - last.Off
			return
		}
	}
	v.report.Bad = append(list, Range{Off: off, Len: n})
}

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
