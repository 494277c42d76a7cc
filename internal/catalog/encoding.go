package catalog

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"math"
	"slices"
	"strings"

	"ringfort/internal/errs"
	"ringfort/internal/timestamp"
	"ringfort/internal/wire"
)

// maxCount bounds numbers that become an int: what is multiplied with it stays far
// from overflowing.
const maxCount = math.MaxInt32

// MaxChecksumBytes is the longest checksum of a part: a SHA-512's. It is the room
// that a [ManifestEntry] has.
const MaxChecksumBytes = 64

// encoder writes a value's fields and remembers the first that cannot be written.
type encoder struct {
	b   []byte
	err error
}

func newEncoder(t tag) *encoder {
	return &encoder{b: append(make([]byte, 0, 256), byte(t))}
}

func (e *encoder) fail(format string, args ...any) {
	if e.err == nil {
		e.err = errs.New("catalog", errs.Invalid, format, args...)
	}
}

func (e *encoder) done(op string) ([]byte, error) {
	if e.err != nil {
		return nil, errs.Wrap(op, errs.Invalid, e.err)
	}
	return e.b, nil
}

func (e *encoder) text(s string)             { e.b = wire.AppendString(e.b, s) }
func (e *encoder) bool(v bool)               { e.b = wire.AppendBool(e.b, v) }
func (e *encoder) uvarint(v uint64)          { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) incarnation(i Incarnation) { e.b = append(e.b, i[:]...) }

func (e *encoder) number(field string, v int64) {
	if v < 0 {
		e.fail("%s is negative: %d", field, v)
	}
	e.uvarint(uint64(v))
}

func (e *encoder) count(field string, v int) {
	if v < 0 || v > maxCount {
		e.fail("%s is not between 0 and %d: %d", field, maxCount, v)
	}
	e.uvarint(uint64(v))
}

func (e *encoder) enum(field string, v, least, most byte) {
	if v < least || v > most {
		e.fail("%s has the unknown value %d", field, v)
	}
	e.b = append(e.b, v)
}

func (e *encoder) timestamp(field string, t timestamp.T) {
	if !t.Valid() {
		e.fail("%s is beyond the end of time: %v", field, t)
	}
	e.b = t.AppendTo(e.b)
}

func (e *encoder) coding(c Coding) {
	e.b = append(e.b, c.K, c.M)
	e.uvarint(uint64(c.BlockSize))
}

func (e *encoder) etag(etag string) {
	if md5, ok := etagMD5(etag); ok {
		e.b = append(append(e.b, 0), md5[:]...)
		return
	}
	e.b = append(e.b, 1)
	e.text(etag)
}

// etagMD5 returns the MD5 that an ETag is in hexadecimal, if it is one.
func etagMD5(etag string) (sum [16]byte, ok bool) {
	if len(etag) != 2*len(sum) {
		return sum, false
	}
	_, err := hex.Decode(sum[:], []byte(etag))
	return sum, err == nil && hex.EncodeToString(sum[:]) == etag
}

func (e *encoder) checksum(s string) {
	if _, err := rawChecksum(s); err != nil && e.err == nil {
		e.err = err
	}
	e.text(s)
}

// rawChecksum returns the bytes of a part's checksum, errs.Invalid if it is not the
// base64 form of at most MaxChecksumBytes.
func rawChecksum(s string) ([]byte, error) {
	if len(s) <= base64.StdEncoding.EncodedLen(MaxChecksumBytes) {
		raw, err := base64.StdEncoding.DecodeString(s)
		if err == nil && len(raw) <= MaxChecksumBytes && base64.StdEncoding.EncodeToString(raw) == s {
			return raw, nil
		}
	}
	return nil, errs.New("catalog", errs.Invalid, "%.100q is not a checksum of at most %d bytes in base64", s, MaxChecksumBytes)
}

func comparePairs(a, b Pair) int { return strings.Compare(a.Name, b.Name) }

func (e *encoder) pairs(p Pairs) {
	if !slices.IsSortedFunc(p, comparePairs) {
		p = slices.Clone(p) // the caller's stays as it is
		slices.SortFunc(p, comparePairs)
	}
	e.uvarint(uint64(len(p)))
	for i, x := range p {
		if i > 0 && x.Name == p[i-1].Name {
			e.fail("%q has two values", x.Name)
		}
		e.text(x.Name)
		e.text(x.Value)
	}
}

// decoder reads a value's fields.
type decoder struct{ wire.Reader }

// newDecoder begins to read an encoding of a kind.
func newDecoder(b []byte, want tag, op string) (decoder, error) {
	d := decoder{wire.NewReader(b)}
	v := d.Byte()
	kind, version := v>>4, v&0xf
	switch {
	case d.Err() != nil:
		return d, errs.Wrap(op, errs.Corrupt, d.Err())
	case kind == byte(want)>>4 && version > byte(want)&0xf:
		return d, errs.New(op, errs.NotImplemented, "written by a newer program: version %d", version)
	case v != byte(want):
		return d, errs.New(op, errs.Corrupt, "kind and version %#x, not %#x", v, byte(want))
	}
	return d, nil
}

func (d *decoder) done(op string) error {
	if err := d.Done(); err != nil {
		return errs.Wrap(op, errs.Corrupt, err)
	}
	return nil
}

func (d *decoder) incarnation() (i Incarnation) {
	copy(i[:], d.Fixed(len(i)))
	return i
}

func (d *decoder) count() int { return int(d.UvarintMax(maxCount)) }

func (d *decoder) missing() uint16 { return uint16(d.UvarintMax(math.MaxUint16)) }

func (d *decoder) enum(least, most byte) byte {
	v := d.Byte()
	if v < least || v > most {
		d.Fail("unknown value of an enumeration")
	}
	return v
}

func (d *decoder) coding() Coding {
	return Coding{K: d.Byte(), M: d.Byte(), BlockSize: uint32(d.UvarintMax(math.MaxUint32))}
}

func (d *decoder) etag() string {
	if !d.Bool() {
		return hex.EncodeToString(d.Fixed(16))
	}
	s := d.String()
	if _, ok := etagMD5(s); ok {
		d.Fail("an MD5 spelt out")
	}
	return s
}

func (d *decoder) checksum() string {
	s := d.String()
	if _, err := rawChecksum(s); err != nil {
		d.Fail("a part's checksum is none")
	}
	return s
}

func (d *decoder) pairs() Pairs {
	n := d.Count(2)
	if n == 0 {
		return nil
	}
	p := make(Pairs, n)
	for i := range p {
		p[i] = Pair{d.String(), d.String()}
		if i > 0 && p[i].Name <= p[i-1].Name && d.Err() == nil {
			d.Fail("pairs are not in the order of their names, or one is there twice")
		}
	}
	return p
}
