package catalog

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"math"

	"ringfort/internal/errs"
)

// ManifestEntrySize is the length of an encoded ManifestEntry in bytes. Entries
// have one size, so that entry i of a manifest of any length is read alone.
const ManifestEntrySize = 48 + MaxChecksumBytes

// ManifestEntry is one part of a finished multipart object. Entries are in order of
// their offsets and of their part numbers, which rise strictly:
//
//	0   8   end: offset just after the part in the object
//	8   8   size of the part
//	16  8   attempt, with the group and the number the blob's id
//	24  4   part number
//	28  2   fragments that were not synced, a bit for each index
//	30  2   length of the checksum in bytes, 0 to 64
//	32  16  MD5
//	48  64  checksum of the upload's algorithm, zero-padded
//
// all numbers big-endian. Of a [Part] it does not keep when the part was written
// and how it is coded: the latter is the same for all parts, and in the [Object].
type ManifestEntry struct {
	End      int64
	Size     int64
	Attempt  uint64
	Number   uint32
	Missing  uint16
	MD5      [16]byte
	Checksum string // base64, "" if none; at most MaxChecksumBytes
}

// AppendTo appends e's encoding. A checksum that does not fit, or is not the base64
// form of one, is errs.Invalid, as are impossible lengths.
func (e *ManifestEntry) AppendTo(b []byte) ([]byte, error) {
	const op = "catalog.ManifestEntry.AppendTo"
	sum, err := rawChecksum(e.Checksum)
	if err != nil {
		return b, errs.Wrap(op, errs.Invalid, err)
	}
	if e.Size < 0 || e.End < e.Size {
		return b, errs.New(op, errs.Invalid, "part %d of %d bytes ends at %d", e.Number, e.Size, e.End)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(e.End))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Size))
	b = binary.BigEndian.AppendUint64(b, e.Attempt)
	b = binary.BigEndian.AppendUint32(b, e.Number)
	b = binary.BigEndian.AppendUint16(b, e.Missing)
	b = binary.BigEndian.AppendUint16(b, uint16(len(sum)))
	b = append(b, e.MD5[:]...)
	var padded [MaxChecksumBytes]byte
	copy(padded[:], sum)
	return append(b, padded[:]...), nil
}

// DecodeManifestEntry reads an entry from exactly ManifestEntrySize bytes.
func DecodeManifestEntry(b []byte) (ManifestEntry, error) {
	const op = "catalog.DecodeManifestEntry"
	if len(b) != ManifestEntrySize {
		return ManifestEntry{}, errs.New(op, errs.Corrupt, "%d bytes", len(b))
	}
	end, size := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	e := ManifestEntry{
		End: int64(end), Size: int64(size),
		Attempt: binary.BigEndian.Uint64(b[16:]),
		Number:  binary.BigEndian.Uint32(b[24:]),
		Missing: binary.BigEndian.Uint16(b[28:]),
		MD5:     [16]byte(b[32:]),
	}
	n := int(binary.BigEndian.Uint16(b[30:]))
	if n > MaxChecksumBytes || end > math.MaxInt64 || size > end {
		return ManifestEntry{}, errs.New(op, errs.Corrupt, "part %d: impossible lengths", e.Number)
	}
	sum, padding := b[48:48+n], b[48+n:]
	for _, x := range padding {
		if x != 0 {
			return ManifestEntry{}, errs.New(op, errs.Corrupt, "part %d: bytes behind its checksum", e.Number)
		}
	}
	e.Checksum = base64.StdEncoding.EncodeToString(sum)
	return e, nil
}

// ETag returns the part's MD5 in hexadecimal.
func (e *ManifestEntry) ETag() string { return hex.EncodeToString(e.MD5[:]) }
