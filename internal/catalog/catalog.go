// Package catalog says what registers and listing rows mean: the values that
// describe accounts, containers and objects, and how they are encoded.
//
// Gateways write these values, container and account servers read some of them
// (the state of a container decides whether its rows are taken), and the auditor
// compares them. Read [Container], [Object] and [Row] first. The package does no
// I/O and holds no state.
//
// # Encoding
//
// An encoding begins with a byte that says what it is (high four bits) and in
// which version (low four bits, 1). Then come the struct's fields in their order,
// made of the primitives of package wire:
//
//	number       uvarint, none of them negative
//	text         string
//	enumeration  1 B, and only the values that have a name here
//	incarnation  16 B
//	timestamp    24 B
//	coding       1 B K, 1 B M, uvarint block size
//	etag         0x00 and 16 B: an MD5; or 0x01 and a string, which is not the
//	             hexadecimal form of one
//	pairs        uvarint count; of each name and value as strings; strictly
//	             ascending by the bytes of the name
//
// Two types are exceptions:
//
//   - [Row] has no such byte. It is never on its own: a stored row begins with the
//     version of package listing, whose key holds the name; one on the wire is part
//     of a message of package peer. See [Row.AppendBody].
//   - [ManifestEntry] has one size and no such byte, so that entry i of a list is
//     read alone. The version of the list is that of its [Object], whose record or
//     blob it is; the record's or the blob's checksums cover it.
//
// [Part] is the same information in the usual form: a part has a row of its own
// until its upload is completed, and a manifest entry after that. What it gives up
// there is said with [ManifestEntry].
//
// Encodings carry no checksum: what holds them does (a record, a row, a frame).
//
// A value has one encoding, and an encoding one value: a decoder refuses whatever
// Encode would not have written (errs.Corrupt). Encode sorts pairs, and refuses what
// no decoder would take (errs.Invalid). A later version is errs.NotImplemented,
// "written by a newer program": it is not damage, and nobody may heal it. A new
// value of an enumeration is therefore a new version of what has it.
package catalog

import (
	"encoding/hex"
	"slices"
	"strings"
)

// tag is the first byte of an encoding. The numbers are on disk.
type tag byte

const (
	tagAccount      tag = 0x11
	tagContainer    tag = 0x21
	tagObject       tag = 0x31
	tagUpload       tag = 0x41
	tagBucketOwner  tag = 0x51
	tagRowValue     tag = 0x61
	tagContainerRow tag = 0x71
	tagPart         tag = 0x81
)

// IsUpload reports whether an encoded value is an Upload, of whatever version:
// objects and uploads share the registers of a policy's ring.
func IsUpload(b []byte) bool { return len(b) > 0 && b[0]>>4 == byte(tagUpload)>>4 }

// Incarnation is a container's own id, new each time it is created.
type Incarnation [16]byte

// String returns 32 hexadecimal digits.
func (i Incarnation) String() string { return hex.EncodeToString(i[:]) }

// IsZero reports whether i is no incarnation at all.
func (i Incarnation) IsZero() bool { return i == Incarnation{} }

// Pair is a named value.
type Pair struct{ Name, Value string }

// Pairs is a small set of named values, sorted by name. The nil Pairs is empty.
type Pairs []Pair

// Get returns the value of name, "" if there is none.
func (p Pairs) Get(name string) string {
	v, _ := p.Lookup(name)
	return v
}

// Lookup returns the value of name and whether there is one.
func (p Pairs) Lookup(name string) (string, bool) {
	i, ok := slices.BinarySearchFunc(p, name, func(x Pair, n string) int { return strings.Compare(x.Name, n) })
	if !ok {
		return "", false
	}
	return p[i].Value, true
}

// With returns p with name set to value. p itself is not changed.
func (p Pairs) With(name, value string) Pairs {
	i, ok := slices.BinarySearchFunc(p, name, func(x Pair, n string) int { return strings.Compare(x.Name, n) })
	c := slices.Clone(p)
	if ok {
		c[i].Value = value
		return c
	}
	return slices.Insert(c, i, Pair{name, value})
}

// Without returns p without name. p itself is not changed.
func (p Pairs) Without(name string) Pairs {
	return slices.DeleteFunc(slices.Clone(p), func(x Pair) bool { return x.Name == name })
}

// WithPrefix returns the pairs whose names begin with prefix.
func (p Pairs) WithPrefix(prefix string) Pairs {
	var out Pairs
	for _, x := range p {
		if strings.HasPrefix(x.Name, prefix) {
			out = append(out, x)
		}
	}
	return out
}

// ContainerState is where a container is in its life. The numbers are on disk.
type ContainerState byte

const (
	// Live containers take rows and objects.
	Live ContainerState = 1
	// Deleting containers refuse rows while it is found out whether they are empty.
	Deleting ContainerState = 2
	// Deleted containers are gone; their incarnation is swept.
	Deleted ContainerState = 3
)

// maxVersioning is the last value of Container.Versioning.
const maxVersioning = 2

// Container is the value of a container's register.
type Container struct {
	Account     string
	Name        string
	Incarnation Incarnation
	State       ContainerState
	Policy      string // name of the storage policy, fixed at creation
	Created     int64  // µs since 1970, by the gateway's wall clock
	Global      bool   // the bucket name was claimed cluster-wide, by S3
	Versioning  byte   // 0 never, 1 enabled, 2 suspended
	RangeEpoch  uint64 // version of the split of its listing over partitions
	// Meta is everything else: Swift metadata under "x-container-meta-…" and the
	// like, S3 sub-resources under "s3-…" (tagging: "s3-tagging").
	Meta Pairs
}

// Encode returns c's encoding.
func (c *Container) Encode() ([]byte, error) {
	e := newEncoder(tagContainer)
	e.text(c.Account)
	e.text(c.Name)
	e.incarnation(c.Incarnation)
	e.enum("state", byte(c.State), byte(Live), byte(Deleted))
	e.text(c.Policy)
	e.number("created", c.Created)
	e.bool(c.Global)
	e.enum("versioning", c.Versioning, 0, maxVersioning)
	e.uvarint(c.RangeEpoch)
	e.pairs(c.Meta)
	return e.done("catalog.Container.Encode")
}

// DecodeContainer reads what Encode wrote.
func DecodeContainer(b []byte) (*Container, error) {
	const op = "catalog.DecodeContainer"
	d, err := newDecoder(b, tagContainer, op)
	if err != nil {
		return nil, err
	}
	c := &Container{Account: d.String(), Name: d.String(), Incarnation: d.incarnation()}
	c.State = ContainerState(d.enum(byte(Live), byte(Deleted)))
	c.Policy = d.String()
	c.Created = d.Int64()
	c.Global = d.Bool()
	c.Versioning = d.enum(0, maxVersioning)
	c.RangeEpoch = d.Uvarint()
	c.Meta = d.pairs()
	if err := d.done(op); err != nil {
		return nil, err
	}
	return c, nil
}

// Account is the value of an account's register.
type Account struct {
	Name    string
	Created int64 // µs since 1970
	Deleted bool  // being reaped
	Meta    Pairs // "x-account-meta-…" and the like
}

// Encode returns a's encoding.
func (a *Account) Encode() ([]byte, error) {
	e := newEncoder(tagAccount)
	e.text(a.Name)
	e.number("created", a.Created)
	e.bool(a.Deleted)
	e.pairs(a.Meta)
	return e.done("catalog.Account.Encode")
}

// DecodeAccount reads what Encode wrote.
func DecodeAccount(b []byte) (*Account, error) {
	const op = "catalog.DecodeAccount"
	d, err := newDecoder(b, tagAccount, op)
	if err != nil {
		return nil, err
	}
	a := &Account{Name: d.String(), Created: d.Int64(), Deleted: d.Bool(), Meta: d.pairs()}
	if err := d.done(op); err != nil {
		return nil, err
	}
	return a, nil
}

// BucketOwner is the value of a bucket name's register in the cluster-wide
// directory: which account holds the name, and under which incarnation.
type BucketOwner struct {
	Bucket      string
	Account     string
	Incarnation Incarnation
}

// Encode returns o's encoding.
func (o *BucketOwner) Encode() ([]byte, error) {
	e := newEncoder(tagBucketOwner)
	e.text(o.Bucket)
	e.text(o.Account)
	e.incarnation(o.Incarnation)
	return e.done("catalog.BucketOwner.Encode")
}

// DecodeBucketOwner reads what Encode wrote.
func DecodeBucketOwner(b []byte) (*BucketOwner, error) {
	const op = "catalog.DecodeBucketOwner"
	d, err := newDecoder(b, tagBucketOwner, op)
	if err != nil {
		return nil, err
	}
	o := &BucketOwner{Bucket: d.String(), Account: d.String(), Incarnation: d.incarnation()}
	if err := d.done(op); err != nil {
		return nil, err
	}
	return o, nil
}
