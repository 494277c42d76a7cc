// Package checksum computes, prints, parses and combines the content checksums
// that S3 clients send and ask for: CRC32, CRC32C, CRC64NVME, SHA1 and SHA256.
//
// Read first: [Algorithm], [Sum] (one value), [Set] (several algorithms over one
// stream) and [Claim] (what a request's headers declare). [FullObject] and
// [CompositeOf] make a multipart object's checksum from those of its parts.
//
// It is not for the ETag (MD5), nor for the digests that guard bytes on our own
// disks. It knows the S3 header names and their values, and nothing else of HTTP.
//
// A checksum travels as the standard base64, with padding, of its bytes; a CRC's
// bytes are big-endian. A multipart object has one of two types:
//
//	FULL_OBJECT  the checksum of all bytes. For CRCs it follows from the parts'
//	             CRCs and lengths, so nothing is read again.
//	COMPOSITE    the checksum of the parts' raw checksums, concatenated, printed
//	             with the number of parts behind it: "base64-N".
//
// S3 allows COMPOSITE for all but CRC64NVME, and FULL_OBJECT for the CRCs only
// (source: S3 user guide, "Checking object integrity"). An object uploaded in one
// piece is always FULL_OBJECT, whatever the algorithm.
//
// Values are immutable and safe to share. A Set belongs to one goroutine.
package checksum

import (
	"strings"

	"ringfort/internal/errs"
)

// Algorithm is one of S3's checksum algorithms. The numbers may be stored:
// append, never renumber.
type Algorithm uint8

const (
	// None is no algorithm; the zero Sum has it.
	None Algorithm = 0
	// CRC32 is the CRC of IEEE 802.3.
	CRC32 Algorithm = 1
	// CRC32C is the Castagnoli CRC.
	CRC32C Algorithm = 2
	// CRC64NVME is the 64-bit CRC of the NVMe command set, the SDKs' default for
	// uploads that name no other.
	CRC64NVME Algorithm = 3
	// SHA1 is SHA-1.
	SHA1 Algorithm = 4
	// SHA256 is SHA-256.
	SHA256 Algorithm = 5
)

// numAlgorithms is one more than the highest Algorithm.
const numAlgorithms = 6

// Size of the largest checksum.
const maxSize = 32

// Names of S3's headers that this package reads. Go's canonical spelling, so
// that they can index an http.Header.
const (
	// HeaderPrefix begins every header that carries a checksum value.
	HeaderPrefix = "X-Amz-Checksum-"
	// HeaderSDKAlgorithm names the algorithm of the checksum in the same request.
	HeaderSDKAlgorithm = "X-Amz-Sdk-Checksum-Algorithm"
	// HeaderAlgorithm names the algorithm of a multipart upload being created.
	HeaderAlgorithm = "X-Amz-Checksum-Algorithm"
	// HeaderType names the type of a multipart upload's checksum.
	HeaderType = "X-Amz-Checksum-Type"
	// HeaderMode asks for checksums in the answer to GET and HEAD.
	HeaderMode = "X-Amz-Checksum-Mode"
	// HeaderTrailer lists the headers that follow a chunked body.
	HeaderTrailer = "X-Amz-Trailer"
)

type spec struct {
	name   string // as in XML and in x-amz-checksum-algorithm
	header string // canonical Go spelling
	size   uint8
}

// A table and no map: it is read on every request.
var specs = [numAlgorithms]spec{
	None:      {},
	CRC32:     {"CRC32", "X-Amz-Checksum-Crc32", 4},
	CRC32C:    {"CRC32C", "X-Amz-Checksum-Crc32c", 4},
	CRC64NVME: {"CRC64NVME", "X-Amz-Checksum-Crc64nvme", 8},
	SHA1:      {"SHA1", "X-Amz-Checksum-Sha1", 20},
	SHA256:    {"SHA256", "X-Amz-Checksum-Sha256", 32},
}

// All lists the algorithms in the order of their numbers.
func All() []Algorithm { return []Algorithm{CRC32, CRC32C, CRC64NVME, SHA1, SHA256} }

// Valid reports whether a is an algorithm, None excluded.
func (a Algorithm) Valid() bool { return a > None && a < numAlgorithms }

func (a Algorithm) spec() *spec {
	if !a.Valid() {
		a = None
	}
	return &specs[a]
}

// String returns S3's name of the algorithm, as in XML: "CRC32C". None is "".
func (a Algorithm) String() string { return a.spec().name }

// Header returns the header that carries a checksum of this algorithm, in Go's
// canonical spelling: "X-Amz-Checksum-Crc32c".
func (a Algorithm) Header() string { return a.spec().header }

// Size returns the bytes of a checksum of this algorithm.
func (a Algorithm) Size() int { return int(a.spec().size) }

// CRC reports whether the algorithm is a CRC, whose value for a whole follows
// from those of its parts.
func (a Algorithm) CRC() bool { return a == CRC32 || a == CRC32C || a == CRC64NVME }

// Parse reads an algorithm's name in either case. An algorithm that S3 has and
// this package has not is NotImplemented, anything else Invalid.
func Parse(name string) (Algorithm, error) {
	for a := CRC32; a < numAlgorithms; a++ {
		if strings.EqualFold(name, specs[a].name) {
			return a, nil
		}
	}
	// Algorithms that S3 documents beside ours.
	for _, other := range [...]string{"SHA512", "MD5", "XXHASH64", "XXHASH3", "XXHASH128"} {
		if strings.EqualFold(name, other) {
			return None, errs.New("checksum.Parse", errs.NotImplemented, "checksum algorithm %s", other)
		}
	}
	return None, errs.New("checksum.Parse", errs.Invalid, "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]")
}

// ForHeader returns the algorithm whose values travel in the named header, in
// any spelling, or None.
func ForHeader(name string) Algorithm {
	if len(name) <= len(HeaderPrefix) {
		return None
	}
	for a := CRC32; a < numAlgorithms; a++ {
		if strings.EqualFold(name, specs[a].header) {
			return a
		}
	}
	return None
}

// Type says what a multipart object's checksum covers. The numbers may be
// stored: append, never renumber.
type Type uint8

const (
	// TypeFullObject is the checksum of the object's bytes.
	TypeFullObject Type = 0
	// TypeComposite is the checksum of the parts' checksums.
	TypeComposite Type = 1
)

// String returns S3's name of the type.
func (t Type) String() string {
	if t == TypeComposite {
		return "COMPOSITE"
	}
	return "FULL_OBJECT"
}

// ParseType reads the value of x-amz-checksum-type.
func ParseType(s string) (Type, error) {
	switch {
	case strings.EqualFold(s, "FULL_OBJECT"):
		return TypeFullObject, nil
	case strings.EqualFold(s, "COMPOSITE"):
		return TypeComposite, nil
	}
	return 0, errs.New("checksum.ParseType", errs.Invalid, "Value for x-amz-checksum-type header is invalid.")
}

// DefaultType is the type of a multipart upload that names the algorithm alone.
func (a Algorithm) DefaultType() Type {
	if a == CRC64NVME {
		return TypeFullObject
	}
	return TypeComposite
}

// Allows reports whether a multipart upload may have a checksum of this
// algorithm and type.
func (a Algorithm) Allows(t Type) bool {
	if !a.Valid() {
		return false
	}
	if t == TypeComposite {
		return a != CRC64NVME
	}
	return a.CRC()
}
