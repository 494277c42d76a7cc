package volume

import (
	"encoding/binary"
	"io"
	"math"

	"ringfort/internal/errs"
	"ringfort/internal/vfs"
)

// frameScanner reads the frames of one segment, in windows so that the disk sees
// large reads.
type frameScanner struct {
	f    vfs.File
	id   SegmentID
	lane Lane
	key  uint64 // the volume's
	size int64  // of the file

	win []byte
	at  int64 // where win begins in the file
	ops []logOp
}

const scanWindow = 1 << 20

// openScanner opens a segment for scanning.
func (v *Volume) openScanner(s *segment) (*frameScanner, error) {
	f, err := v.cfg.FS.Open(s.path)
	if err != nil {
		return nil, ioError("volume.scan", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, ioError("volume.scan", err)
	}
	if info.Size() > math.MaxUint32 {
		f.Close()
		return nil, errs.New("volume.scan", errs.Corrupt, "%s has %d bytes: offsets have 32 bits", s.path, info.Size())
	}
	return &frameScanner{f: f, id: s.id, lane: s.lane, key: v.frameKey(), size: info.Size()}, nil
}

// limit ends the scan at an offset, so that a window does not hold what is being
// written there.
func (s *frameScanner) limit(end int64) { s.size = min(s.size, end) }

func (s *frameScanner) close() { s.f.Close() }

// bytes returns [off, off+n) of the file, or ok false if the file is shorter. The
// result is good until the next call.
func (s *frameScanner) bytes(off, n int64) (p []byte, ok bool, err error) {
	if off < 0 || n < 0 || off+n > s.size {
		return nil, false, nil
	}
	if off < s.at || off+n > s.at+int64(len(s.win)) {
		want := min(max(n, scanWindow), s.size-off)
		if int64(cap(s.win)) < want {
			s.win = make([]byte, want)
		}
		s.win, s.at = s.win[:want], off
		if err := readFull(s.f, s.win, off); err != nil {
			s.win = s.win[:0]
			if err == io.ErrUnexpectedEOF {
				return nil, false, nil
			}
			return nil, false, ioError("volume.scan", err)
		}
	}
	return s.win[off-s.at:][:n:n], true, nil
}

// header reads the frame header at off, if there is a sound one of this segment.
func (s *frameScanner) header(off int64) (h frameHeader, ok bool, err error) {
	p, ok, err := s.bytes(off, headerSize)
	if !ok || err != nil {
		return h, false, err
	}
	return s.parse(p)
}

// parse reads a frame header, if p begins with a sound one of this segment.
func (s *frameScanner) parse(p []byte) (h frameHeader, ok bool, err error) {
	h, ok, err = parseFrameHeader(p, s.key)
	if h.segment != s.id { // a stale one, of what a recycled file held before
		return h, false, nil
	}
	return h, ok && h.lane == s.lane, err
}

// frame reads the whole frame at off and verifies it. ops and blobs are good
// until the next call.
func (s *frameScanner) frame(off int64) (h frameHeader, ops []logOp, blobs []byte, ok bool, err error) {
	if h, ok, err = s.header(off); !ok || err != nil {
		return h, nil, nil, false, err
	}
	n := headerSize + int64(h.opsLen) + int64(h.blobLen)
	p, ok, err := s.bytes(off, n)
	if !ok || err != nil {
		return h, nil, nil, false, err
	}
	if s.ops, err = decodeOps(&h, p[headerSize:headerSize+int64(h.opsLen)], s.ops); err != nil {
		return h, nil, nil, false, unlessCorrupt(err)
	}
	blobs = p[headerSize+int64(h.opsLen):]
	for i := range s.ops {
		o := &s.ops[i]
		if n := o.blobLen(); n > 0 && !o.checkBlob(blobs[o.blob:o.blob+n]) {
			return h, s.ops, blobs, false, nil
		}
	}
	return h, s.ops, blobs, true, nil
}

// operations reads the header and operations of the frame at off and verifies
// them, leaving the blobs alone. ops are good until the next call.
func (s *frameScanner) operations(off int64) (h frameHeader, ops []logOp, ok bool, err error) {
	if h, ok, err = s.header(off); !ok || err != nil {
		return h, nil, false, err
	}
	p, ok, err := s.bytes(off+headerSize, int64(h.opsLen))
	if !ok || err != nil {
		return h, nil, false, err
	}
	if s.ops, err = decodeOps(&h, p, s.ops); err != nil {
		return h, nil, false, unlessCorrupt(err)
	}
	return h, s.ops, true, nil
}

// unlessCorrupt returns err unless it is damage, which scanners report as a frame
// that is not there.
func unlessCorrupt(err error) error {
	if errs.Is(err, errs.Corrupt) {
		return nil
	}
	return err
}

// nextHeader finds the first sound frame header of this segment at or behind off
// and before limit.
func (s *frameScanner) nextHeader(off, limit int64) (at int64, h frameHeader, ok bool, err error) {
	step := s.lane.align()
	limit = min(limit, s.size)
	for off = alignUp(off, step); off+headerSize <= limit; off += step {
		p, ok, err := s.bytes(off, headerSize)
		if err != nil {
			return 0, h, false, err
		}
		if !ok || binary.LittleEndian.Uint32(p) != frameMagic {
			continue
		}
		h, ok, err := s.parse(p)
		if ok || err != nil {
			return off, h, ok, err
		}
	}
	return 0, h, false, nil
}

// info reads the segment's first block.
func (s *frameScanner) info() (info segmentInfo, ok bool, err error) {
	p, ok, err := s.bytes(0, segmentInfoSize)
	if !ok || err != nil {
		return info, false, err
	}
	info, ok, err = parseSegmentInfo(p)
	return info, ok && info.id == s.id && info.lane == s.lane, err
}
