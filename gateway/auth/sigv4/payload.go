package sigv4

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"hash"
	"io"

	"ringfort/internal/errs"
)

// Payload says how a request's body is bound to its signature.
type Payload uint8

const (
	// PayloadSigned is a body whose SHA-256 is in x-amz-content-sha256.
	PayloadSigned Payload = iota
	// PayloadUnsigned is a body that no signature covers.
	PayloadUnsigned
	// PayloadStreaming is an aws-chunked body, each chunk signed.
	PayloadStreaming
	// PayloadStreamingTrailer is PayloadStreaming with signed trailing headers.
	PayloadStreamingTrailer
	// PayloadStreamingUnsignedTrailer is an aws-chunked body, unsigned, with
	// trailing headers: what today's SDKs send over TLS.
	PayloadStreamingUnsignedTrailer
)

// Values of x-amz-content-sha256 that are no hash.
const (
	UnsignedPayload          = "UNSIGNED-PAYLOAD"
	Streaming                = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	StreamingTrailer         = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	StreamingUnsignedTrailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

	streamingECDSA        = "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"
	streamingECDSATrailer = "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER"
)

// EmptySHA256 is the hex SHA-256 of no bytes.
const EmptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// Chunked reports whether the body is in aws-chunked framing.
func (p Payload) Chunked() bool { return p >= PayloadStreaming }

// SignedChunks reports whether every chunk carries a signature.
func (p Payload) SignedChunks() bool {
	return p == PayloadStreaming || p == PayloadStreamingTrailer
}

// Trailer reports whether headers may follow the last chunk.
func (p Payload) Trailer() bool {
	return p == PayloadStreamingTrailer || p == PayloadStreamingUnsignedTrailer
}

// ParsePayload reads a value of x-amz-content-sha256: the kind and, for
// PayloadSigned, the hash. Parse does so for signed requests; anonymous and
// Version 2 requests may carry the header too. Its error is an *Error.
func ParsePayload(v string) (kind Payload, sum [sha256.Size]byte, err error) {
	switch v {
	case UnsignedPayload:
		return PayloadUnsigned, sum, nil
	case Streaming:
		return PayloadStreaming, sum, nil
	case StreamingTrailer:
		return PayloadStreamingTrailer, sum, nil
	case StreamingUnsignedTrailer:
		return PayloadStreamingUnsignedTrailer, sum, nil
	case streamingECDSA, streamingECDSATrailer:
		return 0, sum, refuse(errs.NotImplemented, CodeNotImplemented,
			"A header you provided implies functionality that is not implemented",
			"Header", "x-amz-content-sha256")
	}
	if len(v) == 2*sha256.Size {
		var in [2 * sha256.Size]byte
		copy(in[:], v)
		if _, err := hex.Decode(sum[:], in[:]); err == nil {
			return PayloadSigned, sum, nil
		}
	}
	return 0, sum, refuse(errs.Invalid, CodeInvalidArgument,
		"x-amz-content-sha256 must be "+UnsignedPayload+", "+StreamingUnsignedTrailer+", "+Streaming+", "+
			StreamingTrailer+", "+streamingECDSA+", "+streamingECDSATrailer+" or a valid sha256 value.",
		"ArgumentName", "x-amz-content-sha256", "ArgumentValue", v)
}

// HashedBody reads a PayloadSigned body and compares its SHA-256. The bytes that
// complete it are not returned before the comparison: a wrong body ends in an
// Error with CodeContentSHA256Mismatch instead of its last bytes, also for a
// reader that asks for exactly the body's length and never sees io.EOF.
type HashedBody struct {
	src  io.Reader
	want [sha256.Size]byte
	left int64 // bytes still to come; below 0: unknown
	hash hash.Hash
	sum  [sha256.Size]byte
	err  error
}

// NewHashedBody reads src, whose SHA-256 must be want. length is the body's
// length, or -1 when only its end tells.
func NewHashedBody(src io.Reader, want [sha256.Size]byte, length int64) *HashedBody {
	b := &HashedBody{hash: sha256.New()}
	b.Reset(src, want, length)
	return b
}

// Reset makes b read another body, keeping what it allocated.
func (b *HashedBody) Reset(src io.Reader, want [sha256.Size]byte, length int64) {
	h := b.hash
	h.Reset()
	*b = HashedBody{src: src, want: want, left: length, hash: h}
}

// Read implements io.Reader. A body that ends before its length gives an Error
// with CodeIncompleteBody.
func (b *HashedBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.left == 0 {
		return 0, b.finish()
	}
	if len(p) == 0 {
		return 0, nil
	}
	if b.left > 0 && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.src.Read(p)
	b.hash.Write(p[:n])
	if b.left > 0 {
		b.left -= int64(n)
	}
	switch {
	case b.left == 0: // all of it is here, whatever err is
		if err := b.finish(); err != io.EOF {
			return 0, err
		}
		return n, io.EOF
	case err == nil:
		return n, nil
	case err != io.EOF:
		b.err = err
	case b.left > 0:
		b.err = refuse(errs.Incomplete, CodeIncompleteBody,
			"You did not provide the number of bytes specified by the Content-Length HTTP header")
	default:
		if err := b.finish(); err != io.EOF {
			return 0, err
		}
	}
	return n, b.err
}

// finish compares, once, and sets what every later Read returns.
func (b *HashedBody) finish() error {
	if subtle.ConstantTimeCompare(b.hash.Sum(b.sum[:0]), b.want[:]) == 1 {
		b.err = io.EOF
		return b.err
	}
	b.err = refuse(errs.BadDigest, CodeContentSHA256Mismatch,
		"The provided 'x-amz-content-sha256' header does not match what was computed.",
		"ClientComputedContentSHA256", hex.EncodeToString(b.want[:]),
		"S3ComputedContentSHA256", hex.EncodeToString(b.sum[:]))
	return b.err
}
