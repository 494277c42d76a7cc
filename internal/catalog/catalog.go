// Package catalog says what registers and listing rows mean: the values that
// describe accounts, containers and objects, and how they are encoded.
//
// Gateways write these values, container and account servers read some of them
// (the state of a container decides whether its rows are taken), and the auditor
// compares them. Read [Container], [Object] and [Row] first. The package does no
// I/O and holds no state.
//
// Every encoding begins with a byte that says what it is (high four bits) and in
// which version (low four bits, 1), and is made of the primitives of package wire,
// in the order of the struct's fields.
package catalog

import (
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"

	"ringfort/internal/errs"
	"ringfort/internal/timestamp"
	"ringfort/internal/wire"
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

// IsUpload reports whether an encoded value is an Upload: objects and uploads
// share the registers of a policy's ring.
func IsUpload(b []byte) bool { return len(b) > 0 && tag(b[0]) == tagUpload }

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

func (p Pairs) appendTo(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(p)))
	for _, x := range p {
		b = wire.AppendString(b, x.Name)
		b = wire.AppendString(b, x.Value)
	}
	return b
}

func readPairs(r *wire.Reader) Pairs {
	n := r.Count(2)
	if n == 0 {
		return nil
	}
	p := make(Pairs, n)
	for i := range p {
		p[i] = Pair{r.String(), r.String()}
	}
	return p
}

func checkTag(r *wire.Reader, want tag, op string) error {
	if v := tag(r.Byte()); r.Err() == nil && v != want {
		return errs.New(op, errs.Corrupt, "kind and version %#x, not %#x", v, want)
	}
	return nil
}

func done(r *wire.Reader, op string) error {
	if err := r.Done(); err != nil {
		return errs.Wrap(op, errs.Corrupt, err)
	}
	return nil
}

// ContainerState is where a container is in its life.
type ContainerState byte

const (
	// Live containers take rows and objects.
	Live ContainerState = 1
	// Deleting containers refuse rows while it is found out whether they are empty.
	Deleting ContainerState = 2
	// Deleted containers are gone; their incarnation is swept.
	Deleted ContainerState = 3
)

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

// AppendTo appends c's encoding.
func (c *Container) AppendTo(b []byte) []byte {
	b = append(b, byte(tagContainer))
	b = wire.AppendString(b, c.Account)
	b = wire.AppendString(b, c.Name)
	b = append(b, c.Incarnation[:]...)
	b = append(b, byte(c.State))
	b = wire.AppendString(b, c.Policy)
	b = binary.AppendUvarint(b, uint64(c.Created))
	b = wire.AppendBool(b, c.Global)
	b = append(b, c.Versioning)
	b = binary.AppendUvarint(b, c.RangeEpoch)
	return c.Meta.appendTo(b)
}

// DecodeContainer reads what AppendTo wrote.
func DecodeContainer(b []byte) (*Container, error) {
	const op = "catalog.DecodeContainer"
	r := wire.NewReader(b)
	if err := checkTag(&r, tagContainer, op); err != nil {
		return nil, err
	}
	c := &Container{Account: r.String(), Name: r.String()}
	copy(c.Incarnation[:], r.Fixed(16))
	c.State = ContainerState(r.Byte())
	c.Policy = r.String()
	c.Created = int64(r.Uvarint())
	c.Global = r.Bool()
	c.Versioning = r.Byte()
	c.RangeEpoch = r.Uvarint()
	c.Meta = readPairs(&r)
	return c, done(&r, op)
}

// Account is the value of an account's register.
type Account struct {
	Name    string
	Created int64 // µs since 1970
	Deleted bool  // being reaped
	Meta    Pairs // "x-account-meta-…" and the like
}

// AppendTo appends a's encoding.
func (a *Account) AppendTo(b []byte) []byte {
	b = append(b, byte(tagAccount))
	b = wire.AppendString(b, a.Name)
	b = binary.AppendUvarint(b, uint64(a.Created))
	b = wire.AppendBool(b, a.Deleted)
	return a.Meta.appendTo(b)
}

// DecodeAccount reads what AppendTo wrote.
func DecodeAccount(b []byte) (*Account, error) {
	const op = "catalog.DecodeAccount"
	r := wire.NewReader(b)
	if err := checkTag(&r, tagAccount, op); err != nil {
		return nil, err
	}
	a := &Account{Name: r.String(), Created: int64(r.Uvarint()), Deleted: r.Bool(), Meta: readPairs(&r)}
	return a, done(&r, op)
}

// BucketOwner is the value of a bucket name's register in the cluster-wide
// directory: which account holds the name, and under which incarnation.
type BucketOwner struct {
	Bucket      string
	Account     string
	Incarnation Incarnation
}

// AppendTo appends o's encoding.
func (o *BucketOwner) AppendTo(b []byte) []byte {
	b = append(b, byte(tagBucketOwner))
	b = wire.AppendString(b, o.Bucket)
	b = wire.AppendString(b, o.Account)
	return append(b, o.Incarnation[:]...)
}

// DecodeBucketOwner reads what AppendTo wrote.
func DecodeBucketOwner(b []byte) (*BucketOwner, error) {
	const op = "catalog.DecodeBucketOwner"
	r := wire.NewReader(b)
	if err := checkTag(&r, tagBucketOwner, op); err != nil {
		return nil, err
	}
	o := &BucketOwner{Bucket: r.String(), Account: r.String()}
	copy(o.Incarnation[:], r.Fixed(16))
	return o, done(&r, op)
}

// Table is one of a container's or account's lists of rows.
type Table byte

// The tables. The numbers are on disk.
const (
	Objects    Table = 1 // of a container: the current version of each object
	Uploads    Table = 2 // of a container: unfinished multipart uploads, name NUL upload id
	Parts      Table = 3 // of a container: parts of them, name NUL upload id NUL %05d part number
	Containers Table = 4 // of an account
	Versions   Table = 5 // of a container: every version, name NUL inverted timestamp
)

// Row is one line of a listing. Of two rows for one name the one with the newer
// ballot stands (rule 14).
type Row struct {
	Name    string
	Ballot  timestamp.T // of the record that it shows
	TS      timestamp.T // of the operation that made that record
	Deleted bool        // a tombstone: the name is gone
	Bytes   int64       // counted into the container's total
	Value   []byte      // what the listing shows; an encoded RowValue for objects
}

// AppendTo appends r's encoding (on the wire; a stored row keeps its name in its key).
func (r *Row) AppendTo(b []byte) []byte {
	b = wire.AppendString(b, r.Name)
	return r.AppendBody(b)
}

// AppendBody appends everything but the name.
func (r *Row) AppendBody(b []byte) []byte {
	b = r.Ballot.AppendTo(b)
	same := r.TS == r.Ballot
	flags := byte(0)
	if r.Deleted {
		flags |= 1
	}
	if same {
		flags |= 2
	}
	b = append(b, flags)
	if !same {
		b = r.TS.AppendTo(b)
	}
	b = binary.AppendUvarint(b, uint64(r.Bytes))
	return wire.AppendBytes(b, r.Value)
}

// ReadRow reads a row with its name. Value aliases the input.
func ReadRow(r *wire.Reader) Row {
	name := r.String()
	row := ReadRowBody(r)
	row.Name = name
	return row
}

// ReadRowBody reads a row without its name. Value aliases the input.
func ReadRowBody(r *wire.Reader) Row {
	row := Row{Ballot: r.Timestamp()}
	flags := r.Byte()
	row.Deleted = flags&1 != 0
	if flags&2 != 0 {
		row.TS = row.Ballot
	} else {
		row.TS = r.Timestamp()
	}
	row.Bytes = int64(r.Uvarint())
	row.Value = r.Bytes()
	return row
}

// Newer reports whether r replaces old.
func (r *Row) Newer(old *Row) bool { return old.Ballot.Less(r.Ballot) }
