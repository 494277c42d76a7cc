package chunked

import (
	"net/http"
	"strconv"
	"strings"

	"ringfort/gateway/auth/sigv4"
	"ringfort/internal/errs"
)

// S3's codes that this package answers with, beside those of sigv4.
const (
	CodeIncompleteBody       = sigv4.CodeIncompleteBody
	CodeInvalidRequest       = sigv4.CodeInvalidRequest
	CodeMalformedTrailer     = "MalformedTrailerError"
	CodeInvalidChunkSize     = "InvalidChunkSizeError"
	CodeMissingContentLength = "MissingContentLength"
)

// AWSMinChunkBytes is the least that S3 accepts of a chunk that is not the last
// with data.
const AWSMinChunkBytes = 8 << 10

// maxTrailers bounds what a request may announce.
const maxTrailers = 16

const trailerSignature = "x-amz-trailer-signature"

// Options say how a body is framed and what it must hold.
type Options struct {
	// Payload is the kind of framing: one for which Chunked is true.
	Payload sigv4.Payload
	// Verified starts the chain of signatures. Needed when the chunks are signed.
	Verified *sigv4.Verified
	// DecodedLength is what the data must come to, or -1 when it is not known.
	DecodedLength int64
	// Trailers are the names, in lower case, of the headers that must follow the
	// data; no others may.
	Trailers []string
	// MinChunkBytes refuses smaller chunks before others. S3 has AWSMinChunkBytes;
	// 0 accepts all, at the price of a signature for every few bytes.
	MinChunkBytes int64
}

// OptionsOf reads the options from the headers of a request that has been
// verified, with S3's least chunk size. A request without
// x-amz-decoded-content-length is refused with CodeMissingContentLength.
func OptionsOf(r *http.Request, v *sigv4.Verified) (Options, error) {
	o := Options{Payload: v.Payload, Verified: v, MinChunkBytes: AWSMinChunkBytes}
	text := r.Header.Get("X-Amz-Decoded-Content-Length")
	if text == "" {
		return Options{}, refuse(errs.Invalid, CodeMissingContentLength, "You must provide the Content-Length HTTP header.")
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return Options{}, refuse(errs.Invalid, sigv4.CodeInvalidArgument, "The value of x-amz-decoded-content-length is invalid.",
			"ArgumentName", "x-amz-decoded-content-length", "ArgumentValue", text)
	}
	o.DecodedLength = int64(n)
	for _, line := range r.Header["X-Amz-Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.ToLower(strings.TrimSpace(name))
			if name == "" || name == trailerSignature {
				continue
			}
			if !o.Payload.Trailer() || len(o.Trailers) == maxTrailers {
				return Options{}, refuse(errs.Invalid, CodeInvalidRequest, "The x-amz-trailer header does not fit the payload that x-amz-content-sha256 announces")
			}
			o.Trailers = append(o.Trailers, name)
		}
	}
	return o, nil
}

// StoredEncoding returns the Content-Encoding that an object keeps: what the
// request's headers say, without the aws-chunked that this package has removed.
func StoredEncoding(values []string) string {
	var kept []string
	for _, line := range values {
		for e := range strings.SplitSeq(line, ",") {
			if e = strings.TrimSpace(e); e != "" && !strings.EqualFold(e, "aws-chunked") {
				kept = append(kept, e)
			}
		}
	}
	return strings.Join(kept, ",")
}

func refuse(kind errs.Kind, code, message string, details ...string) error {
	e := &sigv4.Error{Code: code, Message: message, Kind: kind}
	for i := 0; i+1 < len(details); i += 2 {
		e.Details = append(e.Details, sigv4.Detail{Name: details[i], Value: details[i+1]})
	}
	return e
}

func incomplete() error {
	return refuse(errs.Incomplete, CodeIncompleteBody, "The request body terminated unexpectedly")
}

func tooMuch() error {
	return refuse(errs.Invalid, CodeIncompleteBody, "The request body holds more than x-amz-decoded-content-length says")
}

func malformed(what string) error {
	return refuse(errs.Invalid, CodeInvalidRequest, "The chunked body is malformed: "+what)
}

func badTrailer() error {
	return refuse(errs.Invalid, CodeMalformedTrailer,
		"The request contained trailing data that was not well-formed or did not conform to our published schema.")
}

func badSignature() error {
	return refuse(errs.Denied, sigv4.CodeSignatureDoesNotMatch,
		"The request signature we calculated does not match the signature you provided. Check your key and signing method.")
}

func badChunkSize(chunk int, size int64) error {
	return refuse(errs.Invalid, CodeInvalidChunkSize, "Only the last chunk is allowed to have a size less than 8192 bytes",
		"Chunk", strconv.Itoa(chunk), "BadChunkSize", strconv.FormatInt(size, 10))
}
