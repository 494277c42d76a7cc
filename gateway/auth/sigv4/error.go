package sigv4

import (
	"fmt"
	"strconv"
	"time"

	"ringfort/internal/errs"
)

// Error is a refusal in S3's words. Code is S3's error code, Message its text.
// Its kind is reached with errs.KindOf.
type Error struct {
	Code    string
	Message string
	Kind    errs.Kind
	// Details are the further elements of S3's error body, in their order.
	Details []Detail
}

// Detail is one further element of an error body. Values may hold anything that
// the request held: print them escaped.
type Detail struct{ Name, Value string }

// Error prints code and message. Details are left out: they may be long, and may
// hold what the client would not want in a log.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Unwrap makes the kind visible to errs.KindOf.
func (e *Error) Unwrap() error { return &errs.Error{Op: "auth", Kind: e.Kind, What: e.Code} }

// S3's codes that this package answers with.
const (
	CodeHeaderMalformed       = "AuthorizationHeaderMalformed"
	CodeQueryParameters       = "AuthorizationQueryParametersError"
	CodeSignatureDoesNotMatch = "SignatureDoesNotMatch"
	CodeRequestTimeTooSkewed  = "RequestTimeTooSkewed"
	CodeAccessDenied          = "AccessDenied"
	CodeContentSHA256Mismatch = "XAmzContentSHA256Mismatch"
	CodeInvalidArgument       = "InvalidArgument"
	CodeInvalidRequest        = "InvalidRequest"
	CodeInvalidURI            = "InvalidURI"
	CodeNotImplemented        = "NotImplemented"
	CodeIncompleteBody        = "IncompleteBody"
)

// refuse makes an Error; what follows the message are names and values of Details.
func refuse(kind errs.Kind, code, message string, details ...string) error {
	e := &Error{Code: code, Message: message, Kind: kind}
	for i := 0; i+1 < len(details); i += 2 {
		e.Details = append(e.Details, Detail{details[i], details[i+1]})
	}
	return e
}

// malformed refuses credentials that cannot be read, in the words of the place
// they came from.
func malformed(presigned bool, format string, args ...any) error {
	if presigned {
		return refuse(errs.Invalid, CodeQueryParameters, fmt.Sprintf(format, args...))
	}
	return refuse(errs.Invalid, CodeHeaderMalformed, "The authorization header is malformed; "+fmt.Sprintf(format, args...))
}

// credentialError refuses what stands in the credential itself.
func credentialError(presigned bool, details []string, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if presigned {
		return refuse(errs.Invalid, CodeQueryParameters, "Error parsing the X-Amz-Credential parameter; "+what, details...)
	}
	return refuse(errs.Invalid, CodeHeaderMalformed, "The authorization header is malformed; "+what, details...)
}

// OnlyOneMechanism refuses a request that is signed twice.
func OnlyOneMechanism() error {
	return refuse(errs.Invalid, CodeInvalidArgument,
		"Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified",
		"ArgumentName", "Authorization")
}

// NoDate refuses a request whose signature has no time.
func NoDate() error {
	return refuse(errs.Denied, CodeAccessDenied, "AWS authentication requires a valid Date or x-amz-date header")
}

// TooSkewed refuses a request whose time is further from the server's than allowed.
func TooSkewed(request, now time.Time, allowed time.Duration) error {
	return refuse(errs.Denied, CodeRequestTimeTooSkewed,
		"The difference between the request time and the server's time is too large.",
		"RequestTime", request.UTC().Format(isoTime), "ServerTime", now.UTC().Format(time.RFC3339),
		"MaxAllowedSkewMilliseconds", strconv.FormatInt(allowed.Milliseconds(), 10))
}

// Expired refuses a presigned URL that is used too late.
func Expired(expires, now time.Time) error {
	return refuse(errs.Denied, CodeAccessDenied, "Request has expired",
		"Expires", expires.UTC().Format(time.RFC3339), "ServerTime", now.UTC().Format(time.RFC3339))
}

// maxEchoBytes bounds what a mismatch sends back of the request.
const maxEchoBytes = 16 << 10

// Mismatch refuses a wrong signature. The string to sign, and the canonical
// request where there is one, are what lets a client's author find the error.
func Mismatch(accessKey, provided, stringToSign, canonical string) error {
	d := []string{"AWSAccessKeyId", accessKey, "StringToSign", stringToSign, "SignatureProvided", provided}
	if canonical != "" {
		d = append(d, "CanonicalRequest", canonical)
	}
	size := 0
	for _, s := range d {
		size += len(s)
	}
	if size > maxEchoBytes {
		d = nil
	}
	return refuse(errs.Denied, CodeSignatureDoesNotMatch,
		"The request signature we calculated does not match the signature you provided. Check your key and signing method.", d...)
}

func badQuery(what string) error {
	return refuse(errs.Invalid, CodeInvalidURI, "Couldn't parse the specified URI: "+what+".")
}
