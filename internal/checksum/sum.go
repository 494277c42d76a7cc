package checksum

import (
	"crypto/subtle"
	"encoding/base64"
	"strconv"
	"strings"

	"ringfort/internal/errs"
)

// MaxParts is the most parts that a composite checksum may count: S3's limit for
// a multipart upload.
const MaxParts = 10000

// Sum is one checksum, or a composite one when Parts is above zero. The zero
// value is "no checksum". Sums are comparable with ==.
type Sum struct {
	alg   Algorithm
	parts uint16
	b     [maxSize]byte
}

// NewSum makes a Sum of raw bytes, which must be as many as the algorithm has.
func NewSum(a Algorithm, raw []byte) (Sum, error) {
	if !a.Valid() || len(raw) != a.Size() {
		return Sum{}, errs.New("checksum.NewSum", errs.Invalid, "%d bytes for %q", len(raw), a.String())
	}
	s := Sum{alg: a}
	copy(s.b[:], raw)
	return s, nil
}

// NewComposite makes a composite Sum of raw bytes and the number of parts.
func NewComposite(a Algorithm, raw []byte, parts int) (Sum, error) {
	s, err := NewSum(a, raw)
	if err != nil {
		return Sum{}, err
	}
	if parts < 1 || parts > MaxParts || !a.Allows(TypeComposite) {
		return Sum{}, errs.New("checksum.NewComposite", errs.Invalid, "%s of %d parts", a, parts)
	}
	s.parts = uint16(parts)
	return s, nil
}

// ParseSum reads a checksum as it stands in a header or in XML: base64. A value
// of another length, not in canonical base64, or composite is Invalid.
func ParseSum(a Algorithm, value string) (Sum, error) {
	s := Sum{alg: a}
	if !a.Valid() || len(value) != base64.StdEncoding.EncodedLen(a.Size()) || !decode64(&s, value) {
		return Sum{}, invalidValue(a)
	}
	return s, nil
}

// ParseAny reads a checksum that may be composite ("base64-N"), as clients send
// it to verify what CompleteMultipartUpload made.
func ParseAny(a Algorithm, value string) (Sum, error) {
	head, tail, composite := strings.Cut(value, "-") // '-' is not in base64's alphabet
	s, err := ParseSum(a, head)
	if err != nil || !composite {
		return s, err
	}
	n, nerr := strconv.ParseUint(tail, 10, 16)
	if nerr != nil || n < 1 || n > MaxParts || tail[0] == '0' || !a.Allows(TypeComposite) {
		return Sum{}, invalidValue(a)
	}
	s.parts = uint16(n)
	return s, nil
}

func decode64(s *Sum, value string) bool {
	// DecodedLen counts padding: at most two bytes more than the value has.
	var buf [maxSize + 2]byte
	n, err := base64.StdEncoding.Strict().Decode(buf[:], []byte(value))
	if err != nil || n != s.alg.Size() {
		return false
	}
	copy(s.b[:], buf[:n])
	return true
}

func invalidValue(a Algorithm) error {
	return errs.New("checksum.Parse", errs.Invalid, "Value for %s header is invalid.", strings.ToLower(a.Header()))
}

// Algorithm returns the algorithm, None for the zero Sum.
func (s Sum) Algorithm() Algorithm { return s.alg }

// IsZero reports whether there is no checksum.
func (s Sum) IsZero() bool { return s.alg == None }

// Parts returns the number of parts of a composite checksum, else 0.
func (s Sum) Parts() int { return int(s.parts) }

// Type returns TypeComposite when Parts is above zero.
func (s Sum) Type() Type {
	if s.parts > 0 {
		return TypeComposite
	}
	return TypeFullObject
}

// AppendRaw appends the checksum's bytes.
func (s Sum) AppendRaw(dst []byte) []byte { return append(dst, s.b[:s.alg.Size()]...) }

// Equal compares in constant time. Values of different algorithms or part counts
// are not equal. Zero Sums are equal.
func (s Sum) Equal(o Sum) bool {
	return s.alg == o.alg && s.parts == o.parts && subtle.ConstantTimeCompare(s.b[:], o.b[:]) == 1
}

// String prints the checksum as S3 does: base64, and "-N" when composite.
func (s Sum) String() string {
	var buf [64]byte
	b := base64.StdEncoding.AppendEncode(buf[:0], s.b[:s.alg.Size()])
	if s.parts > 0 {
		b = append(b, '-')
		b = strconv.AppendUint(b, uint64(s.parts), 10)
	}
	return string(b)
}

// Mismatch is the error for a body whose checksum is not the one its sender
// gave. Its kind is BadDigest.
func Mismatch(a Algorithm) error {
	return errs.New("checksum", errs.BadDigest, "The %s you specified did not match the calculated checksum.", a)
}
