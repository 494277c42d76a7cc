package s3api

import (
	"errors"
	"net/http"
	"strconv"

	"ringfort/gateway/auth/sigv4"
	"ringfort/internal/errs"
)

// Error is a refusal in S3's words.
type Error struct {
	Code    string
	Status  int
	Message string
	Kind    errs.Kind
	Details []Detail // further elements of the body, in order
	Err     error    // the cause, if it is worth a line in the log
}

// Detail is one element of an error's body.
type Detail struct{ Name, Value string }

// Error prints code and message.
func (e *Error) Error() string {
	if e.Err != nil {
		return e.Code + ": " + e.Message + ": " + e.Err.Error()
	}
	return e.Code + ": " + e.Message
}

// Unwrap makes the kind visible to errs.KindOf.
func (e *Error) Unwrap() error {
	return &errs.Error{Op: "s3api", Kind: e.Kind, What: e.Code, Err: e.Err}
}

// refuse makes an Error of a code in the table; an empty message means S3's own.
// What follows are names and values of details.
func refuse(code, message string, details ...string) *Error {
	c, ok := codes[code]
	if !ok {
		c = codes["InternalError"]
	}
	if message == "" {
		message = c.message
	}
	e := &Error{Code: code, Status: c.status, Message: message, Kind: c.kind}
	for i := 0; i+1 < len(details); i += 2 {
		e.Details = append(e.Details, Detail{details[i], details[i+1]})
	}
	return e
}

// invalidArgument refuses one argument.
func invalidArgument(name, value, message string) *Error {
	return refuse("InvalidArgument", message, "ArgumentName", name, "ArgumentValue", value)
}

func notImplemented(what string) *Error {
	return refuse("NotImplemented", "A header you provided implies functionality that is not implemented", "Header", what)
}

type codeInfo struct {
	status  int
	kind    errs.Kind
	message string
}

// codes are S3's error codes with their status and usual text.
//
// Read only: it is a table, not state.
var codes = map[string]codeInfo{
	"AccessDenied":                          {403, errs.Denied, "Access Denied"},
	"AccessForbidden":                       {403, errs.Denied, "CORSResponse: CORS is not enabled for this bucket."},
	"AuthorizationHeaderMalformed":          {400, errs.Invalid, "The authorization header is malformed."},
	"AuthorizationQueryParametersError":     {400, errs.Invalid, "The authorization query parameters are malformed."},
	"BadDigest":                             {400, errs.BadDigest, "The Content-MD5 you specified did not match what we received."},
	"BadRequest":                            {400, errs.Invalid, "Bad Request"},
	"BucketAlreadyExists":                   {409, errs.Exists, "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again."},
	"BucketAlreadyOwnedByYou":               {409, errs.Exists, "Your previous request to create the named bucket succeeded and you already own it."},
	"BucketNotEmpty":                        {409, errs.NotEmpty, "The bucket you tried to delete is not empty"},
	"ConditionalRequestConflict":            {409, errs.Conflict, "The conditional request cannot succeed due to a conflicting operation against this resource."},
	"EntityTooLarge":                        {400, errs.TooLarge, "Your proposed upload exceeds the maximum allowed size"},
	"EntityTooSmall":                        {400, errs.Invalid, "Your proposed upload is smaller than the minimum allowed size"},
	"IllegalLocationConstraintException":    {400, errs.Invalid, "The specified location constraint is incompatible for the region specific endpoint this request was sent to."},
	"IncompleteBody":                        {400, errs.Incomplete, "You did not provide the number of bytes specified by the Content-Length HTTP header"},
	"InsufficientStorage":                   {507, errs.Full, "There is no room for this write. Delete something, or add disks."},
	"InternalError":                         {500, errs.Other, "We encountered an internal error. Please try again."},
	"InvalidAccessKeyId":                    {403, errs.Unauthenticated, "The AWS Access Key Id you provided does not exist in our records."},
	"InvalidArgument":                       {400, errs.Invalid, "Invalid Argument"},
	"InvalidBucketName":                     {400, errs.Invalid, "The specified bucket is not valid."},
	"InvalidDigest":                         {400, errs.Invalid, "The Content-MD5 you specified was invalid."},
	"InvalidPart":                           {400, errs.Invalid, "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag."},
	"InvalidPartNumber":                     {416, errs.BadRange, "The requested partnumber is not satisfiable"},
	"InvalidPartOrder":                      {400, errs.Invalid, "The list of parts was not in ascending order. Parts must be ordered by part number."},
	"InvalidRange":                          {416, errs.BadRange, "The requested range is not satisfiable"},
	"InvalidRequest":                        {400, errs.Invalid, "Invalid Request"},
	"InvalidStorageClass":                   {400, errs.Invalid, "The storage class you specified is not valid"},
	"InvalidTag":                            {400, errs.Invalid, "The tag provided was not a valid tag."},
	"InvalidToken":                          {400, errs.Invalid, "The provided token is malformed or otherwise invalid."},
	"InvalidURI":                            {400, errs.Invalid, "Couldn't parse the specified URI."},
	"KeyTooLongError":                       {400, errs.TooLarge, "Your key is too long"},
	"MalformedXML":                          {400, errs.Invalid, "The XML you provided was not well-formed or did not validate against our published schema"},
	"MaxMessageLengthExceeded":              {400, errs.TooLarge, "Your request was too big."},
	"MetadataTooLarge":                      {400, errs.TooLarge, "Your metadata headers exceed the maximum allowed metadata size"},
	"MethodNotAllowed":                      {405, errs.Invalid, "The specified method is not allowed against this resource."},
	"MissingContentLength":                  {411, errs.Invalid, "You must provide the Content-Length HTTP header."},
	"MissingRequestBodyError":               {400, errs.Invalid, "Request Body is empty"},
	"MissingSecurityHeader":                 {400, errs.Invalid, "Your request was missing a required header"},
	"NoSuchBucket":                          {404, errs.NoBucket, "The specified bucket does not exist"},
	"NoSuchBucketPolicy":                    {404, errs.NotFound, "The bucket policy does not exist"},
	"NoSuchConfiguration":                   {404, errs.NotFound, "The specified configuration does not exist."},
	"NoSuchCORSConfiguration":               {404, errs.NotFound, "The CORS configuration does not exist"},
	"NoSuchKey":                             {404, errs.NotFound, "The specified key does not exist."},
	"NoSuchLifecycleConfiguration":          {404, errs.NotFound, "The lifecycle configuration does not exist"},
	"NoSuchObjectLockConfiguration":         {404, errs.NotFound, "The specified object does not have a ObjectLock configuration"},
	"NoSuchPublicAccessBlockConfiguration":  {404, errs.NotFound, "The public access block configuration was not found"},
	"NoSuchTagSet":                          {404, errs.NotFound, "The TagSet does not exist"},
	"NoSuchUpload":                          {404, errs.NoUpload, "The specified multipart upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."},
	"NoSuchWebsiteConfiguration":            {404, errs.NotFound, "The specified bucket does not have a website configuration"},
	"NotImplemented":                        {501, errs.NotImplemented, "A header you provided implies functionality that is not implemented"},
	"NotModified":                           {304, errs.NotModified, "Not Modified"},
	"ObjectLockConfigurationNotFoundError":  {404, errs.NotFound, "Object Lock configuration does not exist for this bucket"},
	"OperationAborted":                      {409, errs.Conflict, "A conflicting conditional operation is currently in progress against this resource. Please try again."},
	"PreconditionFailed":                    {412, errs.Precondition, "At least one of the pre-conditions you specified did not hold"},
	"ReplicationConfigurationNotFoundError": {404, errs.NotFound, "The replication configuration was not found"},
	"RequestHeaderSectionTooLarge":          {400, errs.TooLarge, "Your request header and query string parameters exceed the maximum allowed size."},
	"RequestTimeTooSkewed":                  {403, errs.Denied, "The difference between the request time and the server's time is too large."},
	"RequestTimeout":                        {400, errs.Incomplete, "Your socket connection to the server was not read from or written to within the timeout period."},
	"ServerSideEncryptionConfigurationNotFoundError": {404, errs.NotFound, "The server side encryption configuration was not found"},
	"ServiceUnavailable":                             {503, errs.Unavailable, "Service is unable to handle request."},
	"SignatureDoesNotMatch":                          {403, errs.Denied, "The request signature we calculated does not match the signature you provided. Check your key and signing method."},
	"SlowDown":                                       {503, errs.Busy, "Please reduce your request rate."},
	"XAmzContentSHA256Mismatch":                      {400, errs.BadDigest, "The provided 'x-amz-content-sha256' header does not match what was computed."},
}

// ofKind is the table from kinds to codes. A kind that is not there is an
// InternalError. An entry with text passes the error's own explanation on.
var ofKind = map[errs.Kind]struct {
	code string
	text bool
}{
	errs.Invalid:         {"InvalidArgument", true},
	errs.NotFound:        {"NoSuchKey", false},
	errs.NoBucket:        {"NoSuchBucket", false},
	errs.Exists:          {"BucketAlreadyExists", false},
	errs.NotEmpty:        {"BucketNotEmpty", false},
	errs.Conflict:        {"ConditionalRequestConflict", false},
	errs.Precondition:    {"PreconditionFailed", false},
	errs.NotModified:     {"NotModified", false},
	errs.Unavailable:     {"ServiceUnavailable", false},
	errs.OutcomeUnknown:  {"ServiceUnavailable", false},
	errs.Full:            {"InsufficientStorage", false},
	errs.Denied:          {"AccessDenied", false},
	errs.Unauthenticated: {"InvalidAccessKeyId", false},
	errs.NotImplemented:  {"NotImplemented", true},
	errs.TooLarge:        {"EntityTooLarge", false},
	errs.BadDigest:       {"BadDigest", false},
	errs.Incomplete:      {"IncompleteBody", false},
	errs.Canceled:        {"ServiceUnavailable", false},
	errs.Moved:           {"ServiceUnavailable", false},
	errs.NoUpload:        {"NoSuchUpload", false},
	errs.BadRange:        {"InvalidRange", false},
	errs.Busy:            {"SlowDown", false},
	errs.Swept:           {"ServiceUnavailable", false},
	errs.Gone:            {"NoSuchBucket", false},
}

// toError turns any error into S3's.
func toError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	var s *sigv4.Error
	if errors.As(err, &s) {
		e := refuse(s.Code, s.Message)
		for _, d := range s.Details {
			e.Details = append(e.Details, Detail(d))
		}
		return e
	}
	kind := errs.KindOf(err)
	row, ok := ofKind[kind]
	if !ok {
		row.code = "InternalError"
	}
	message := ""
	var x *errs.Error
	if row.text && errors.As(err, &x) {
		message = x.What
	}
	e = refuse(row.code, message)
	e.Kind, e.Err = kind, err
	if kind == errs.OutcomeUnknown {
		e.Message = "The outcome of this write is unknown: it may or may not have taken effect."
	}
	return e
}

// hasBody reports whether an error may have a body on the wire.
func (e *Error) hasBody() bool { return e.Status != http.StatusNotModified }

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
