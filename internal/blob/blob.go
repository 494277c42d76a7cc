// Package blob is the vocabulary of object bytes that live outside records: the
// name of a set of fragments, and nothing else.
//
// A blob is the bytes of one object version, or of one part of a multipart
// upload, cut into fragments that lie on several devices. Its [ID] is made once,
// by the operation that writes it, and never used again, not even for the same
// bytes: that is what lets a sweeper delete a blob that no record names.
//
// On disk and on the wire an ID is 36 bytes, big-endian, and its bytes compare
// as the IDs do, so that the blobs of one group stand together in an index:
//
//	 0  24  group: a timestamp.T, shared by the parts of one upload
//	24   4  part number; 0 for an object written in one piece
//	28   8  attempt: tells repeated uploads of one part from one another
package blob

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"

	"ringfort/internal/errs"
	"ringfort/internal/timestamp"
)

// IDSize is the length of an encoded ID in bytes.
const IDSize = timestamp.Size + 4 + 8

// ID names a blob. The zero ID names none.
type ID struct {
	Group   timestamp.T // of the operation or upload that made it
	Part    uint32      // part of a multipart upload, else 0
	Attempt uint64      // makes the ID unique among uploads of one part
}

// Compare returns -1, 0 or +1 as a stands before, at or after b.
func (a ID) Compare(b ID) int {
	if c := a.Group.Compare(b.Group); c != 0 {
		return c
	}
	if c := cmp.Compare(a.Part, b.Part); c != 0 {
		return c
	}
	return cmp.Compare(a.Attempt, b.Attempt)
}

// IsZero reports whether a names no blob.
func (a ID) IsZero() bool { return a == ID{} }

// AppendTo appends the 36 bytes of a to b.
func (a ID) AppendTo(b []byte) []byte {
	b = a.Group.AppendTo(b)
	b = binary.BigEndian.AppendUint32(b, a.Part)
	return binary.BigEndian.AppendUint64(b, a.Attempt)
}

// Decode reads an ID from the first 36 bytes of b; ok is false if b is shorter or
// the group is no valid timestamp.
func Decode(b []byte) (a ID, ok bool) {
	if len(b) < IDSize {
		return ID{}, false
	}
	if a.Group, _ = timestamp.Decode(b); !a.Group.Valid() {
		return ID{}, false
	}
	a.Part = binary.BigEndian.Uint32(b[timestamp.Size:])
	a.Attempt = binary.BigEndian.Uint64(b[timestamp.Size+4:])
	return a, true
}

// String returns 72 hexadecimal digits that sort as the IDs do.
func (a ID) String() string {
	var b [IDSize]byte
	return hex.EncodeToString(a.AppendTo(b[:0]))
}

// Parse reads what String wrote: exactly 72 lower-case hexadecimal digits, so
// that an ID has one text form only.
func Parse(s string) (ID, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != IDSize {
		return ID{}, errs.New("blob.Parse", errs.Invalid, "%q is not %d hexadecimal digits", s, 2*IDSize)
	}
	a, ok := Decode(b)
	if !ok || a.String() != s {
		return ID{}, errs.New("blob.Parse", errs.Invalid, "%q is no blob's, or has upper-case digits", s)
	}
	return a, nil
}
