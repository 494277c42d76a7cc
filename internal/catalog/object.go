package catalog

import "ringfort/internal/timestamp"

// Layout says where and how an object's bytes are kept. The numbers are on disk.
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
	// Checksum in base64, of the upload's algorithm, at most MaxChecksumBytes; ""
	// if none.
	Checksum string
	Modified int64  // µs since 1970
	Missing  uint16 // fragments that were not synced, as in Object
	Coding   Coding // of the part's blob
}

// Encode returns o's encoding.
func (o *Object) Encode() ([]byte, error) {
	e := newEncoder(tagObject)
	e.text(o.ContainerAccount)
	e.text(o.Container)
	e.incarnation(o.Incarnation)
	e.text(o.Name)
	e.number("size", o.Size)
	e.etag(o.ETag)
	e.text(o.ContentType)
	e.number("modified", o.Modified)
	e.timestamp("ts", o.TS)
	e.enum("layout", byte(o.Layout), byte(Inline), byte(PagedManifest))
	e.coding(o.Coding)
	e.uvarint(o.Attempt)
	e.uvarint(uint64(o.Missing))
	e.count("number of parts", o.PartCount)
	e.pairs(o.Meta)
	return e.done("catalog.Object.Encode")
}

// DecodeObject reads what Encode wrote.
func DecodeObject(b []byte) (*Object, error) {
	const op = "catalog.DecodeObject"
	d, err := newDecoder(b, tagObject, op)
	if err != nil {
		return nil, err
	}
	o := &Object{ContainerAccount: d.String(), Container: d.String(), Incarnation: d.incarnation(), Name: d.String()}
	o.Size = d.Int64()
	o.ETag = d.etag()
	o.ContentType = d.String()
	o.Modified = d.Int64()
	o.TS = d.Timestamp()
	o.Layout = Layout(d.enum(byte(Inline), byte(PagedManifest)))
	o.Coding = d.coding()
	o.Attempt = d.Uvarint()
	o.Missing = d.missing()
	o.PartCount = d.count()
	o.Meta = d.pairs()
	if err := d.done(op); err != nil {
		return nil, err
	}
	return o, nil
}

// Encode returns p's encoding.
func (p *Part) Encode() ([]byte, error) {
	e := newEncoder(tagPart)
	e.count("part number", p.Number)
	e.uvarint(p.Attempt)
	e.number("size", p.Size)
	e.etag(p.ETag)
	e.checksum(p.Checksum)
	e.number("modified", p.Modified)
	e.uvarint(uint64(p.Missing))
	e.coding(p.Coding)
	return e.done("catalog.Part.Encode")
}

// DecodePart reads what Encode wrote.
func DecodePart(b []byte) (Part, error) {
	const op = "catalog.DecodePart"
	d, err := newDecoder(b, tagPart, op)
	if err != nil {
		return Part{}, err
	}
	p := Part{
		Number: d.count(), Attempt: d.Uvarint(), Size: d.Int64(), ETag: d.etag(), Checksum: d.checksum(),
		Modified: d.Int64(), Missing: d.missing(), Coding: d.coding(),
	}
	if err := d.done(op); err != nil {
		return Part{}, err
	}
	return p, nil
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

// Encode returns v's encoding.
func (v *RowValue) Encode() ([]byte, error) {
	e := newEncoder(tagRowValue)
	e.number("size", v.Size)
	e.etag(v.ETag)
	e.text(v.ContentType)
	e.number("modified", v.Modified)
	e.text(v.Checksum)
	e.pairs(v.Extra)
	return e.done("catalog.RowValue.Encode")
}

// DecodeRowValue reads what Encode wrote.
func DecodeRowValue(b []byte) (RowValue, error) {
	const op = "catalog.DecodeRowValue"
	d, err := newDecoder(b, tagRowValue, op)
	if err != nil {
		return RowValue{}, err
	}
	v := RowValue{
		Size: d.Int64(), ETag: d.etag(), ContentType: d.String(), Modified: d.Int64(),
		Checksum: d.String(), Extra: d.pairs(),
	}
	if err := d.done(op); err != nil {
		return RowValue{}, err
	}
	return v, nil
}

// ContainerRow is the value of a container's row in its account.
type ContainerRow struct {
	Incarnation Incarnation
	Created     int64 // µs since 1970
	Policy      string
}

// Encode returns c's encoding.
func (c *ContainerRow) Encode() ([]byte, error) {
	e := newEncoder(tagContainerRow)
	e.incarnation(c.Incarnation)
	e.number("created", c.Created)
	e.text(c.Policy)
	return e.done("catalog.ContainerRow.Encode")
}

// DecodeContainerRow reads what Encode wrote.
func DecodeContainerRow(b []byte) (ContainerRow, error) {
	const op = "catalog.DecodeContainerRow"
	d, err := newDecoder(b, tagContainerRow, op)
	if err != nil {
		return ContainerRow{}, err
	}
	c := ContainerRow{Incarnation: d.incarnation(), Created: d.Int64(), Policy: d.String()}
	if err := d.done(op); err != nil {
		return ContainerRow{}, err
	}
	return c, nil
}
