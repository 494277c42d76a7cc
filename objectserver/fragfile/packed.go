package fragfile

import (
	"ringfort/internal/errs"
)

// MaxPacked is the most data that a packed fragment holds: one group of check
// blocks. The limit at which fragments become files is far below.
const MaxPacked = groupBlocks * checkSizeNew

// PackedSize returns the length of a packed fragment with n bytes of data.
func PackedSize(n int64) int64 {
	return geometry{form: packed, checkSize: checkSizeNew, dataLen: n}.total()
}

// Pack makes a packed fragment around data, which must be the whole data of the
// fragment that h describes, the blob's size included. The fragment is head,
// data, tail, one after another; data is not copied.
func Pack(h Header, data []byte) (head, tail []byte, err error) {
	const op = "fragfile.Pack"
	if err := h.Validate(); err != nil {
		return nil, nil, errs.Wrap(op, errs.Other, err)
	}
	switch {
	case h.Size == SizeUnknown:
		return nil, nil, errs.New(op, errs.Invalid, "blob size is not known")
	case len(data) > MaxPacked:
		return nil, nil, errs.New(op, errs.TooLarge, "%d bytes, at most %d", len(data), MaxPacked)
	case int64(len(data)) != h.Layout().FragmentSize():
		return nil, nil, errs.New(op, errs.Incomplete, "%d bytes of %d", len(data), h.Layout().FragmentSize())
	}
	g := geometry{form: packed, checkSize: checkSizeNew, dataLen: int64(len(data))}
	head = h.appendTo(make([]byte, 0, HeaderSize), packed, checkSizeNew)
	c := newChecker(tagOf(head), checkSizeNew)
	tail = make([]byte, 0, g.total()-HeaderSize-g.dataLen)
	if len(data) > 0 {
		c.add(data)
		tail = append(tail, c.seal()...)
	}
	t := trailer{header: h, geometry: g, checks: c.all.Sum64()}
	return head, t.appendTo(tail), nil
}

// Seal is Pack for a caller that has left room: buf is HeaderSize bytes of any
// content and then the data. The header is put into the room and the tail after
// the data, in place if buf has the capacity for PackedSize bytes; the result is
// the whole fragment.
func Seal(h Header, buf []byte) ([]byte, error) {
	if len(buf) < HeaderSize {
		return nil, errs.New("fragfile.Seal", errs.Invalid, "no room for the header")
	}
	head, tail, err := Pack(h, buf[HeaderSize:])
	if err != nil {
		return nil, err
	}
	copy(buf, head)
	return append(buf, tail...), nil
}
