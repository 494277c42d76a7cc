package catalog

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"

	"ringfort/internal/errs"
)

// ManifestEntrySize is the length of an encoded ManifestEntry in bytes. Entries
// have one size, so that entry i of a manifest of any length is read alone.
const ManifestEntrySize = 80

// ManifestEntry is one part of a finished multipart object, in order of offset:
//
//	0   8   end: offset just after the part in the object
//	8   8   size of the part
//	16  8   attempt, with the group and the number the blob's id
//	24  4   part number
//	28  2   fragments that were not synced, a bit for each index
//	30  2   length of the checksum in bytes, 0 to 32
//	32  16  MD5
//	48  32  checksum of the upload's algorithm, zero-padded
//
// all numbers big-endian.
type ManifestEntry struct {
	End      int64
	Size     int64
	Attempt  uint64
	Number   uint32
	Missing  uint16
	MD5      [16]byte
	Checksum string // base64, "" if none
}

// AppendTo appends e's encoding.
func (e *ManifestEntry) AppendTo(b []byte) []byte {
	sum, err := base64.StdEncoding.DecodeString(e.Checksum)
	if err != nil || len(sum) > 32 {
		sum = nil // checksums were checked when the part was taken
	}
	b = binary.BigEndian.AppendUint64(b, uint64(e.End))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Size))
	b = binary.BigEndian.AppendUint64(b, e.Attempt)
	b = binary.BigEndian.AppendUint32(b, e.Number)
	b = binary.BigEndian.AppendUint16(b, e.Missing)
	b = binary.BigEndian.AppendUint16(b, uint16(len(sum)))
	b = append(b, e.MD5[:]...)
	b = append(b, sum...)
	return append(b, make([]byte, 32-len(sum))...)
}

// DecodeManifestEntry reads an entry from exactly ManifestEntrySize bytes.
func DecodeManifestEntry(b []byte) (e ManifestEntry, err error) {
	const op = "catalog.DecodeManifestEntry"
	if len(b) != ManifestEntrySize {
		return e, errs.New(op, errs.Corrupt, "%d bytes", len(b))
	}
	e.End = int64(binary.BigEndian.Uint64(b))
	e.Size = int64(binary.BigEndian.Uint64(b[8:]))
	e.Attempt = binary.BigEndian.Uint64(b[16:])
	e.Number = binary.BigEndian.Uint32(b[24:])
	e.Missing = binary.BigEndian.Uint16(b[28:])
	n := binary.BigEndian.Uint16(b[30:])
	if n > 32 || e.Size < 0 || e.End < e.Size {
		return e, errs.New(op, errs.Corrupt, "part %d: impossible lengths", e.Number)
	}
	copy(e.MD5[:], b[32:])
	e.Checksum = base64.StdEncoding.EncodeToString(b[48 : 48+n])
	return e, nil
}

// ETag returns the part's MD5 in hexadecimal.
func (e *ManifestEntry) ETag() string { return hex.EncodeToString(e.MD5[:]) }
