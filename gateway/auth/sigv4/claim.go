package sigv4

import (
	"crypto/sha256"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"ringfort/internal/errs"
)

// Query parameters of a presigned URL. Their case matters.
const (
	paramAlgorithm     = "X-Amz-Algorithm"
	paramCredential    = "X-Amz-Credential"
	paramDate          = "X-Amz-Date"
	paramExpires       = "X-Amz-Expires"
	paramSignedHeaders = "X-Amz-SignedHeaders"
	paramSignature     = "X-Amz-Signature"
	paramToken         = "X-Amz-Security-Token"
	paramPayload       = "X-Amz-Content-Sha256"

	headerDate    = "X-Amz-Date"
	headerToken   = "X-Amz-Security-Token"
	headerPayload = "X-Amz-Content-Sha256"

	// maxSignedHeaders bounds the work that a list of names can cause. S3's
	// longest requests sign some forty, and user metadata at most a hundred more.
	maxSignedHeaders = 256
	maxExpires       = 7 * 24 * time.Hour
)

// Claim is what a request says of itself, not yet verified. Its strings may be
// parts of the request's headers.
type Claim struct {
	AccessKey string
	Scope     Scope
	// Presigned says that the signature is in the query.
	Presigned bool
	// Time is when the request was signed; Expires how long a presigned URL is good.
	Time    time.Time
	Expires time.Duration
	// SignedHeaders are names in lower case, sorted, joined by ';'.
	SignedHeaders string
	Signature     string
	// SecurityToken is the session token of temporary credentials, if there is one.
	SecurityToken string
	Payload       Payload
	// ContentSHA256 is the body's hash when Payload is PayloadSigned.
	ContentSHA256 [sha256.Size]byte

	timestamp   string // Time as it is signed
	payloadText string // x-amz-content-sha256 as it is signed
}

// Present reports whether r carries a Version 4 signature, well formed or not.
func Present(r *http.Request) bool {
	for _, a := range r.Header["Authorization"] {
		if strings.HasPrefix(a, "AWS4-") {
			return true
		}
	}
	return presigned(r.URL.RawQuery)
}

func presigned(query string) bool {
	return query != "" && (hasParam(query, paramAlgorithm) || hasParam(query, paramSignature) || hasParam(query, paramCredential))
}

func hasParam(query, name string) bool {
	for query != "" {
		var part string
		part, query, _ = strings.Cut(query, "&")
		if part, _, _ = strings.Cut(part, "="); part == name {
			return true
		}
	}
	return false
}

// Parse reads the signature of r, from the Authorization header or the query, and
// checks all that needs neither the secret nor the time. Its error is an *Error.
// It is not for requests without a signature: see Present.
func (v *Verifier) Parse(r *http.Request) (Claim, error) {
	var c Claim
	auth := r.Header["Authorization"]
	c.Presigned = presigned(r.URL.RawQuery)
	if len(auth) > 1 || c.Presigned && len(auth) > 0 {
		return Claim{}, OnlyOneMechanism()
	}
	var err error
	switch {
	case c.Presigned:
		err = c.parseQuery(r)
	case len(auth) == 1:
		err = c.parseHeader(r, auth[0])
	default:
		err = refuse(errs.Denied, CodeAccessDenied, "Access Denied")
	}
	if err == nil && v.cfg.Region != "" && c.Scope.Region != v.cfg.Region {
		err = credentialError(c.Presigned, []string{"Region", v.cfg.Region},
			"the region '%s' is wrong; expecting '%s'", c.Scope.Region, v.cfg.Region)
	}
	if err == nil {
		err = checkSigned(&c, r.Header)
	}
	if err != nil {
		return Claim{}, err
	}
	return c, nil
}

// parseHeader reads "AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…".
func (c *Claim) parseHeader(r *http.Request, auth string) error {
	scheme, rest, _ := strings.Cut(auth, " ")
	if scheme != algorithm {
		return badScheme(scheme)
	}
	var credential string
	for rest != "" {
		var field string
		field, rest, _ = strings.Cut(rest, ",")
		name, value, _ := strings.Cut(strings.Trim(field, " \t"), "=")
		var to *string
		switch name {
		case "Credential":
			to = &credential
		case "SignedHeaders":
			to = &c.SignedHeaders
		case "Signature":
			to = &c.Signature
		default:
			return malformed(false, "the authorization component \"%s\" is malformed.", strings.Trim(field, " \t"))
		}
		if *to != "" || value == "" {
			return malformed(false, "the authorization component \"%s\" is malformed.", strings.Trim(field, " \t"))
		}
		*to = value
	}
	if credential == "" || c.SignedHeaders == "" || c.Signature == "" {
		return malformed(false, "the authorization header requires three components: Credential, SignedHeaders, and Signature.")
	}
	if err := c.parseCredential(credential); err != nil {
		return err
	}
	if err := c.headerTime(r.Header); err != nil {
		return err
	}
	c.SecurityToken = first(r.Header[headerToken])
	c.payloadText = first(r.Header[headerPayload])
	if c.payloadText == "" {
		return refuse(errs.Invalid, CodeInvalidRequest, "Missing required header for this request: x-amz-content-sha256")
	}
	return c.finish()
}

func badScheme(scheme string) error {
	if strings.HasPrefix(scheme, "AWS4-ECDSA-") {
		return refuse(errs.NotImplemented, CodeNotImplemented, "Signature Version 4A is not implemented.")
	}
	return refuse(errs.Invalid, CodeInvalidArgument, "Unsupported Authorization Type", "ArgumentName", "Authorization")
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// headerTime takes the time from x-amz-date, or else from Date.
func (c *Claim) headerTime(h http.Header) error {
	if ts := first(h[headerDate]); ts != "" {
		c.timestamp = ts
		var ok bool
		if c.Time, ok = parseISO(ts); !ok {
			return NoDate()
		}
		return nil
	}
	date := first(h["Date"])
	t, ok := parseISO(date)
	if !ok {
		var err error
		if t, err = http.ParseTime(date); err != nil {
			if t, err = time.Parse(time.RFC1123Z, date); err != nil {
				return NoDate()
			}
		}
	}
	c.Time, c.timestamp = t, t.UTC().Format(isoTime)
	return nil
}

// parseISO reads yyyymmddThhmmssZ and nothing looser.
func parseISO(s string) (time.Time, bool) {
	if len(s) != len(isoTime) {
		return time.Time{}, false
	}
	t, err := time.Parse(isoTime, s)
	return t, err == nil
}

// parseCredential reads access key/date/region/s3/aws4_request. An access key may
// itself hold slashes.
func (c *Claim) parseCredential(s string) error {
	var parts [4]string
	rest := s
	for i := 3; i >= 0; i-- {
		at := strings.LastIndexByte(rest, '/')
		if at < 0 {
			return credentialError(c.Presigned, nil,
				"the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".")
		}
		rest, parts[i] = rest[:at], rest[at+1:]
	}
	c.AccessKey, c.Scope = rest, Scope{Date: parts[0], Region: parts[1]}
	switch {
	case parts[3] != scopeEnd:
		return credentialError(c.Presigned, nil, "incorrect terminal \"%s\". This endpoint uses \"%s\".", parts[3], scopeEnd)
	case parts[2] != service:
		return credentialError(c.Presigned, nil, "incorrect service \"%s\". This endpoint belongs to \"%s\".", parts[2], service)
	case c.Scope.Region == "":
		return credentialError(c.Presigned, nil, "a non-empty region must be provided in the credential.")
	case c.AccessKey == "":
		return credentialError(c.Presigned, nil, "a non-empty Access Key (AKID) must be provided in the credential.")
	}
	return nil
}

// parseQuery reads the parameters of a presigned URL.
func (c *Claim) parseQuery(r *http.Request) error {
	var alg, credential, date, expires string
	for rest := r.URL.RawQuery; rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, "&")
		name, value, _ := strings.Cut(part, "=")
		var to *string
		switch name {
		case paramAlgorithm:
			to = &alg
		case paramCredential:
			to = &credential
		case paramDate:
			to = &date
		case paramExpires:
			to = &expires
		case paramSignedHeaders:
			to = &c.SignedHeaders
		case paramSignature:
			to = &c.Signature
		case paramToken:
			to = &c.SecurityToken
		case paramPayload:
			to = &c.payloadText
		default:
			continue
		}
		value, err := url.QueryUnescape(value)
		if err != nil || *to != "" {
			return malformed(true, "Error parsing the %s parameter", name)
		}
		*to = value
	}
	if alg != "" && alg != algorithm {
		if strings.HasPrefix(alg, "AWS4-ECDSA-") {
			return badScheme(alg)
		}
		return malformed(true, "X-Amz-Algorithm only supports \"%s\"", algorithm)
	}
	if alg == "" || credential == "" || date == "" || expires == "" || c.SignedHeaders == "" || c.Signature == "" {
		return malformed(true, "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.")
	}
	if err := c.parseCredential(credential); err != nil {
		return err
	}
	var ok bool
	if c.Time, ok = parseISO(date); !ok {
		return malformed(true, "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
	}
	c.timestamp = date
	if err := c.parseExpires(expires); err != nil {
		return err
	}
	if c.payloadText == "" {
		c.payloadText = first(r.Header[headerPayload])
	}
	if c.payloadText == "" {
		c.payloadText = UnsignedPayload
	}
	if c.SecurityToken == "" {
		c.SecurityToken = first(r.Header[headerToken])
	}
	return c.finish()
}

func (c *Claim) parseExpires(s string) error {
	seconds, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err != nil:
		return malformed(true, "X-Amz-Expires should be a number")
	case seconds < 0:
		return malformed(true, "X-Amz-Expires must be non-negative")
	case seconds == 0:
		return malformed(true, "X-Amz-Expires must be at least 1 second")
	case seconds > int64(maxExpires/time.Second):
		return malformed(true, "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds")
	}
	c.Expires = time.Duration(seconds) * time.Second
	return nil
}

// finish checks what header and query have in common.
func (c *Claim) finish() error {
	if c.Scope.Date != c.timestamp[:8] {
		return credentialError(c.Presigned, nil,
			"Invalid credential date \"%s\". This date is not the same as X-Amz-Date: \"%s\".", c.Scope.Date, c.timestamp[:8])
	}
	var err error
	if c.Payload, c.ContentSHA256, err = ParsePayload(c.payloadText); err != nil {
		return err
	}
	// Sorted without repeats is what AWS prescribes, and what bounds our work.
	last, n := "", 0
	for name := range strings.SplitSeq(c.SignedHeaders, ";") {
		if n++; n > maxSignedHeaders || name <= last || !headerName(name) {
			if c.Presigned {
				return malformed(true, "X-Amz-SignedHeaders must be a sorted list of header names in lower case")
			}
			return malformed(false, "SignedHeaders must be a sorted list of header names in lower case.")
		}
		last = name
	}
	return nil
}

// headerName reports whether s is a header's name in lower case.
func headerName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || 'A' <= c && c <= 'Z' || strings.IndexByte("()<>@,;:\\\"/[]?={}", c) >= 0 {
			return false
		}
	}
	return s != ""
}

func amzHeader(name string) bool {
	return len(name) >= 6 && strings.EqualFold(name[:6], "x-amz-")
}

// checkSigned refuses a request with an x-amz-* header or a Host that is not
// signed. Counting suffices, as the names in the list are all different.
func checkSigned(c *Claim, h http.Header) error {
	present, signed, host := 0, 0, false
	for name, values := range h {
		if amzHeader(name) && len(values) > 0 {
			present++
		}
	}
	var key [64]byte
	for name := range strings.SplitSeq(c.SignedHeaders, ";") {
		switch {
		case name == "host":
			host = true
		case amzHeader(name):
			if len(h[string(appendHeaderKey(key[:0], name))]) > 0 {
				signed++
			}
		}
	}
	if host && signed == present {
		return nil
	}
	return refuse(errs.Denied, CodeAccessDenied, "There were headers present in the request which were not signed",
		"HeadersNotSigned", strings.Join(unsigned(c, h, host), ", "))
}

// unsigned names the first few headers that should have been signed.
func unsigned(c *Claim, h http.Header, host bool) []string {
	var names []string
	if !host {
		names = append(names, "host")
	}
	signed := ";" + c.SignedHeaders + ";"
	for name, values := range h {
		if len(names) == 10 {
			break
		}
		name = strings.ToLower(name)
		if amzHeader(name) && len(values) > 0 && !strings.Contains(signed, ";"+name+";") {
			names = append(names, name)
		}
	}
	return names
}
