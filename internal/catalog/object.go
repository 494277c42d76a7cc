package catalog

import (
	"encoding/binary"
	"encoding/hex"

	"ringfort/internal/timestamp"
	"ringfort/internal/wire"
)

// Layout says where and how an object's bytes are kept.
type Layout byte

const (
	// Inline bytes ride in the record.
	Inline Layout = 0
	// Blob bytes are one erasure-coded or replicated blob.
	Blob Layout = 1
	// Manifest objects are a list of parts, each a blob; the list (see
	// ManifestEntry) rides in the record.
	Manifest Layout = 2
	// PagedManifest objects are a list of parts that is a blob itself.
	PagedManifest Layout = 3
)

// Coding is how a blob is cut into fragments.
type Coding struct {
	K, M      byte   // data and parity; k=1: m+1 whole copies
	BlockSize uint32 // bytes of one block of a stripe
}

// Object is what an object's record says about it. It is the value of the
// object's register; small bytes are the record's data.
type Object struct {
	ContainerAccount string      // owner of the container
	Container        string      // with Incarnation and Name: whose row this is
	Incarnation      Incarnation // of the container
	Name             string      // also guards against a collision of key hashes

	Size        int64
	ETag        string // without quotes: 32 hex digits of the MD5, or "md5-N" for N parts
	ContentType string
	Modified    int64       // Last-Modified: µs since 1970 by the gateway's wall clock
	TS          timestamp.T // X-Timestamp and version id: the PUT, not later metadata changes

	Layout Layout
	Coding Coding // of the blob, or of the parts and of the manifest's blob
	// Attempt is that of the blob id, of the manifest's blob if there are parts.
	Attempt uint64

	// Missing has a bit for each fragment that was not synced when the record was
	// written: what the healer has to make up for. With parts it is the union of
	// theirs and the manifest's; which part it is, the manifest's entries say.
	Missing uint16
	// PartCount is the number of parts of a multipart object, else 0.
	PartCount int

	// Meta is everything else that travels with an object, by lower-case header
	// name: user metadata "x-amz-meta-…" under "meta-…" for both protocols,
	// "content-encoding", "cache-control", "x-delete-at", …; "s3-tagging";
	// checksums "checksum-crc32" (base64), "checksum-type".
	Meta Pairs
}

// Part is one part of a multipart upload; encoded, it is the value of the part's
// row.
type Part struct {
	Number  int
	Attempt uint64 // with the group and the number: the blob's id
	Size    int64
	ETag    string // 32 hex digits
	// Checksum in base64, of the upload's algorithm; "" if none.
	Checksum string
	Modified int64  // µs since 1970
	Missing  uint16 // fragments that were not synced, as in Object
	Coding   Coding // of the part's blob
}

// AppendTo appends o's encoding.
func (o *Object) AppendTo(b []byte) []byte {
	b = append(b, byte(tagObject))
	b = wire.AppendString(b, o.ContainerAccount)
	b = wire.AppendString(b, o.Container)
	b = append(b, o.Incarnation[:]...)
	b = wire.AppendString(b, o.Name)
	b = binary.AppendUvarint(b, uint64(o.Size))
	b = appendETag(b, o.ETag)
	b = wire.AppendString(b, o.ContentType)
	b = binary.AppendUvarint(b, uint64(o.Modified))
	b = o.TS.AppendTo(b)
	b = append(b, byte(o.Layout), o.Coding.K, o.Coding.M)
	b = binary.AppendUvarint(b, uint64(o.Coding.BlockSize))
	b = binary.AppendUvarint(b, o.Attempt)
	b = binary.AppendUvarint(b, uint64(o.Missing))
	b = binary.AppendUvarint(b, uint64(o.PartCount))
	return o.Meta.appendTo(b)
}

// DecodeObject reads what AppendTo wrote.
func DecodeObject(b []byte) (*Object, error) {
	const op = "catalog.DecodeObject"
	r := wire.NewReader(b)
	if err := checkTag(&r, tagObject, op); err != nil {
		return nil, err
	}
	o := &Object{ContainerAccount: r.String(), Container: r.String()}
	copy(o.Incarnation[:], r.Fixed(16))
	o.Name = r.String()
	o.Size = int64(r.Uvarint())
	o.ETag = readETag(&r)
	o.ContentType = r.String()
	o.Modified = int64(r.Uvarint())
	o.TS = r.Timestamp()
	o.Layout = Layout(r.Byte())
	o.Coding = Coding{K: r.Byte(), M: r.Byte(), BlockSize: uint32(r.Uvarint())}
	o.Attempt = r.Uvarint()
	o.Missing = uint16(r.Uvarint())
	o.PartCount = int(r.Uvarint())
	o.Meta = readPairs(&r)
	return o, done(&r, op)
}

// AppendTo appends p's encoding.
func (p *Part) AppendTo(b []byte) []byte {
	b = append(b, byte(tagPart))
	b = binary.AppendUvarint(b, uint64(p.Number))
	b = binary.AppendUvarint(b, p.Attempt)
	b = binary.AppendUvarint(b, uint64(p.Size))
	b = appendETag(b, p.ETag)
	b = wire.AppendString(b, p.Checksum)
	b = binary.AppendUvarint(b, uint64(p.Modified))
	b = binary.AppendUvarint(b, uint64(p.Missing))
	b = append(b, p.Coding.K, p.Coding.M)
	return binary.AppendUvarint(b, uint64(p.Coding.BlockSize))
}

// DecodePart reads what AppendTo wrote.
func DecodePart(b []byte) (Part, error) {
	const op = "catalog.DecodePart"
	r := wire.NewReader(b)
	if err := checkTag(&r, tagPart, op); err != nil {
		return Part{}, err
	}
	p := Part{
		Number: int(r.Uvarint()), Attempt: r.Uvarint(), Size: int64(r.Uvarint()),
		ETag: readETag(&r), Checksum: r.String(), Modified: int64(r.Uvarint()),
		Missing: uint16(r.Uvarint()), Coding: Coding{K: r.Byte(), M: r.Byte(), BlockSize: uint32(r.Uvarint())},
	}
	return p, done(&r, op)
}

// An ETag is mostly an MD5: 16 bytes behind a 0 byte. Any other is a 1 byte and
// the text.
func appendETag(b []byte, etag string) []byte {
	if len(etag) == 32 {
		b = append(b, 0)
		if out, err := hex.AppendDecode(b, []byte(etag)); err == nil && hex.EncodeToString(out[len(b):]) == etag {
			return out
		}
		b = b[:len(b)-1]
	}
	b = append(b, 1)
	return wire.AppendString(b, etag)
}

func readETag(r *wire.Reader) string {
	if r.Bool() {
		return r.String()
	}
	return hex.EncodeToString(r.Fixed(16))
}

// RowValue is the value of an object's row: what a listing shows beside the name.
type RowValue struct {
	Size        int64 // of the object, also when Row.Bytes counts differently
	ETag        string
	ContentType string
	Modified    int64  // µs since 1970
	Checksum    string // "CRC32" and the like, "" if none; with ",FULL_OBJECT" or ",COMPOSITE"
	Extra       Pairs  // what one protocol shows besides: "slo-etag", "s3-owner", …
}

// AppendTo appends v's encoding.
func (v *RowValue) AppendTo(b []byte) []byte {
	b = append(b, byte(tagRowValue))
	b = binary.AppendUvarint(b, uint64(v.Size))
	b = appendETag(b, v.ETag)
	b = wire.AppendString(b, v.ContentType)
	b = binary.AppendUvarint(b, uint64(v.Modified))
	b = wire.AppendString(b, v.Checksum)
	return v.Extra.appendTo(b)
}

// DecodeRowValue reads what AppendTo wrote.
func DecodeRowValue(b []byte) (v RowValue, err error) {
	const op = "catalog.DecodeRowValue"
	r := wire.NewReader(b)
	if err := checkTag(&r, tagRowValue, op); err != nil {
		return v, err
	}
	v.Size = int64(r.Uvarint())
	v.ETag = readETag(&r)
	v.ContentType = r.String()
	v.Modified = int64(r.Uvarint())
	v.Checksum = r.String()
	v.Extra = readPairs(&r)
	return v, done(&r, op)
}

// ContainerRow is the value of a container's row in its account.
type ContainerRow struct {
	Incarnation Incarnation
	Created     int64 // µs since 1970
	Policy      string
}

// AppendTo appends c's encoding.
func (c *ContainerRow) AppendTo(b []byte) []byte {
	b = append(b, byte(tagContainerRow))
	b = append(b, c.Incarnation[:]...)
	b = binary.AppendUvarint(b, uint64(c.Created))
	return wire.AppendString(b, c.Policy)
}

// DecodeContainerRow reads what AppendTo wrote.
func DecodeContainerRow(b []byte) (c ContainerRow, err error) {
	const op = "catalog.DecodeContainerRow"
	r := wire.NewReader(b)
	if err := checkTag(&r, tagContainerRow, op); err != nil {
		return c, err
	}
	copy(c.Incarnation[:], r.Fixed(16))
	c.Created = int64(r.Uvarint())
	c.Policy = r.String()
	return c, done(&r, op)
}
