package fragfile

import (
	"encoding/binary"
	"encoding/hex"
	"strings"

	"github.com/cespare/xxhash/v2"

	"ringfort/internal/blob"
	"ringfort/internal/erasure"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
)

// HeaderSize is the length of an encoded Header in bytes.
const HeaderSize = 96

// SizeUnknown is the Size of a Header whose blob is still being received.
const SizeUnknown int64 = -1

const (
	version       = 1
	magicHeader   = "RFFh"
	identityStart = 8  // owner, blob id and index: the fragment's identity,
	identityEnd   = 61 // as Name has it
	sizeStart     = 80
	headerSum     = 88
)

// form tells padded fragments from packed ones.
type form uint8

const (
	paged  form = 1 // a file, everything aligned to pages
	packed form = 2 // a byte string in the volume's bulk log
)

// Name identifies a fragment: whose it is, of which blob, and which one.
type Name struct {
	Owner keyhash.Hash // of the object's key
	Blob  blob.ID
	Index erasure.Index
}

// String returns the fragment's file name: owner, blob id and index in
// hexadecimal, joined by "-".
func (n Name) String() string {
	return n.Owner.String() + "-" + n.Blob.String() + "-" + hex.EncodeToString([]byte{byte(n.Index)})
}

// ParseName reads what String wrote, and nothing else.
func ParseName(s string) (n Name, err error) {
	bad := func() (Name, error) {
		return Name{}, errs.New("fragfile.ParseName", errs.Invalid, "%q is not a fragment's name", s)
	}
	parts := strings.Split(s, "-")
	if len(parts) != 3 || len(parts[0]) != 2*len(n.Owner) || len(parts[2]) != 2 {
		return bad()
	}
	if _, err := hex.Decode(n.Owner[:], []byte(parts[0])); err != nil {
		return bad()
	}
	if n.Blob, err = blob.Parse(parts[1]); err != nil {
		return bad()
	}
	var index [1]byte
	if _, err := hex.Decode(index[:], []byte(parts[2])); err != nil {
		return bad()
	}
	n.Index = erasure.Index(index[0])
	if n.String() != s { // upper-case digits
		return bad()
	}
	return n, nil
}

// appendTo appends the identity as it stands in a header.
func (n Name) appendTo(b []byte) []byte {
	b = append(b, n.Owner[:]...)
	b = n.Blob.AppendTo(b)
	return append(b, byte(n.Index))
}

// Folder returns the number of the store's folder that the fragment is in, for a
// Walk that goes on where an earlier one ended. It mixes the whole identity: the key hash alone would put the partitions of one device into
// few directories, or ten thousand parts of one upload into one.
func (n Name) Folder() byte {
	var b [identityEnd - identityStart]byte
	return byte(xxhash.Sum64(n.appendTo(b[:0])))
}

// Header is what a fragment says about itself.
type Header struct {
	Name
	K, M      uint8  // data and parity fragments of the blob
	BlockSize uint32 // block size of its stripes, in bytes
	Policy    uint32 // storage policy it was written under
	Size      int64  // of the whole blob in bytes, or SizeUnknown
}

// Layout returns the blob's layout. While the size is unknown it is that of an
// empty blob.
func (h Header) Layout() erasure.Layout {
	return erasure.Layout{K: int(h.K), M: int(h.M), BlockSize: int64(h.BlockSize), Size: max(h.Size, 0)}
}

// Validate reports, as an error of kind Invalid, a header that no fragment can
// have.
func (h Header) Validate() error {
	if err := h.Layout().Validate(); err != nil {
		return err
	}
	if h.Size < SizeUnknown {
		return errs.New("fragfile.Header", errs.Invalid, "size %d", h.Size)
	}
	if int(h.Index) >= int(h.K)+int(h.M) {
		return errs.New("fragfile.Header", errs.Invalid, "fragment %d of %d+%d", h.Index, h.K, h.M)
	}
	return nil
}

// appendTo appends the encoded header.
func (h Header) appendTo(b []byte, f form, checkSize int64) []byte {
	start := len(b)
	b = append(b, magicHeader...)
	b = binary.BigEndian.AppendUint16(b, version)
	b = append(b, byte(f), 0)
	b = h.Name.appendTo(b)
	b = append(b, h.K, h.M, 0)
	b = binary.BigEndian.AppendUint32(b, h.BlockSize)
	b = binary.BigEndian.AppendUint32(b, uint32(checkSize))
	b = binary.BigEndian.AppendUint32(b, h.Policy)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Size)) // SizeUnknown is all ones
	return binary.BigEndian.AppendUint64(b, xxhash.Sum64(b[start:]))
}

// tagOf returns the tag that check pages of the fragment with this encoded
// header carry.
func tagOf(encoded []byte) uint64 { return xxhash.Sum64(encoded[:sizeStart]) }

// decodeHeader reads a header. Any failure is Corrupt, except a version that is
// newer than this program.
func decodeHeader(b []byte) (h Header, f form, checkSize int64, err error) {
	const op = "fragfile.header"
	fail := func(what string) (Header, form, int64, error) {
		return Header{}, 0, 0, errs.New(op, errs.Corrupt, what)
	}
	switch {
	case len(b) < HeaderSize:
		return fail("cut short")
	case string(b[:4]) != magicHeader:
		return fail("not a fragment")
	case binary.BigEndian.Uint64(b[headerSum:]) != xxhash.Sum64(b[:headerSum]):
		return fail("checksum does not match")
	}
	if v := binary.BigEndian.Uint16(b[4:]); v != version {
		return Header{}, 0, 0, errs.New(op, errs.NotImplemented, "fragment of version %d, this program knows %d", v, version)
	}
	f = form(b[6])
	copy(h.Owner[:], b[8:])
	var named bool
	h.Blob, named = blob.Decode(b[24:])
	h.Index = erasure.Index(b[60])
	h.K, h.M = b[61], b[62]
	h.BlockSize = binary.BigEndian.Uint32(b[64:])
	checkSize = int64(binary.BigEndian.Uint32(b[68:]))
	h.Policy = binary.BigEndian.Uint32(b[72:])
	h.Size = int64(binary.BigEndian.Uint64(b[sizeStart:]))
	switch {
	case f != paged && f != packed:
		return fail("unknown form")
	case !named:
		return fail("no blob's id")
	case b[7] != 0 || b[63] != 0 || binary.BigEndian.Uint32(b[76:]) != 0:
		return fail("reserved bytes are not zero")
	case checkSize < pageSize || checkSize > maxCheckSize || checkSize%pageSize != 0:
		return fail("check block size out of bounds")
	}
	if err := h.Validate(); err != nil {
		return Header{}, 0, 0, errs.Wrap(op, errs.Corrupt, err)
	}
	return h, f, checkSize, nil
}
