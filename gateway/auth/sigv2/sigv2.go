// Package sigv2 verifies, and makes, AWS Signature Version 2 on S3 requests, for
// old clients: in the Authorization header ("AWS key:signature") and in the query
// (AWSAccessKeyId, Expires, Signature).
//
// Read first: [Parse], which gives a [Claim], and [Verify]. Refusals are
// *sigv4.Error, so that the S3 front end maps one type. [Sign] and [Presign] are
// the client's side and share the string to sign.
//
// It is not for new clients: Version 2 covers neither the body nor most of the
// query, and its hash is SHA-1. Whoever does not need it should switch it off.
//
// From AWS's "Signing and authenticating REST requests":
//
//		string to sign = method \n Content-MD5 \n Content-Type \n date \n amz headers + resource
//		signature      = base64(HMAC-SHA1(secret, string to sign))
//
//	  - date: the Date header; empty when x-amz-date is there, which then stands
//	    among the amz headers. In the query form it is Expires, seconds since 1970,
//	    and x-amz-date does not count.
//	  - amz headers: every x-amz-* header as "name:value\n", sorted, repeats joined
//	    by commas.
//	  - resource: "/bucket" if the bucket is in the Host, the path as it was sent,
//	    and those query parameters that name a subresource or override an answer's
//	    headers, sorted, values decoded.
//
// Parameters are matched decoded, as the handler will see them, or an attacker
// could write "acl" as "%61cl" and add it to somebody's presigned URL. For the
// same reason S3's younger subresources, which AWS's page does not list, count as
// signed: with a client that leaves them out such a request fails, which is the
// safe side.
//
// All functions are safe for concurrent use; nothing is kept.
package sigv2

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"ringfort/gateway/auth/sigv4"
	"ringfort/internal/errs"
)

// MaxSkew is how far a request's date may be from ours.
const MaxSkew = 15 * time.Minute

// maxPairs bounds the work that one query can cause.
const maxPairs = 1000

const scheme = "AWS "

// subresources are the parameters that are signed, sorted.
var subresources = [...]string{
	"accelerate", "acl", "analytics", "attributes", "cors", "defaultObjectAcl", "delete",
	"encryption", "intelligent-tiering", "inventory", "legal-hold", "lifecycle", "location",
	"logging", "metrics", "notification", "object-lock", "ownershipControls", "partNumber",
	"policy", "policyStatus", "publicAccessBlock", "replication", "requestPayment",
	"response-cache-control", "response-content-disposition", "response-content-encoding",
	"response-content-language", "response-content-type", "response-expires", "restore",
	"retention", "select", "select-type", "storageClass", "tagging", "torrent", "uploadId",
	"uploads", "versionId", "versioning", "versions", "website",
}

// Claim is what a request says of itself, not yet verified.
type Claim struct {
	AccessKey string
	Signature string
	// Presigned says that the signature is in the query.
	Presigned bool
	// Time is the request's date, or when a presigned URL expires.
	Time time.Time

	date string // the third line of the string to sign
}

// Present reports whether r carries a Version 2 signature, well formed or not.
func Present(r *http.Request) bool {
	for _, a := range r.Header["Authorization"] {
		if strings.HasPrefix(a, scheme) {
			return true
		}
	}
	return presigned(r.URL.RawQuery)
}

func presigned(query string) bool {
	if !strings.Contains(query, "Signature=") && !strings.Contains(query, "AWSAccessKeyId=") {
		return false // nearly always
	}
	for part := range strings.SplitSeq(query, "&") {
		if name, _, _ := strings.Cut(part, "="); name == "Signature" || name == "AWSAccessKeyId" {
			return true
		}
	}
	return false
}

// Parse reads the signature of r. Its error is a *sigv4.Error. It is not for
// requests without a signature: see Present.
func Parse(r *http.Request) (Claim, error) {
	auth := r.Header["Authorization"]
	inQuery := presigned(r.URL.RawQuery)
	switch {
	case len(auth) > 1, inQuery && len(auth) > 0:
		return Claim{}, sigv4.OnlyOneMechanism()
	case inQuery:
		return parseQuery(r)
	case len(auth) == 1 && strings.HasPrefix(auth[0], scheme):
		return parseHeader(r, strings.TrimSpace(auth[0][len(scheme):]))
	}
	return Claim{}, refuse(errs.Denied, sigv4.CodeAccessDenied, "Access Denied")
}

func parseHeader(r *http.Request, auth string) (Claim, error) {
	at := strings.LastIndexByte(auth, ':')
	if at <= 0 || at == len(auth)-1 {
		return Claim{}, refuse(errs.Invalid, sigv4.CodeInvalidArgument,
			"AWS authorization header is invalid. Expected AwsAccessKeyId:signature")
	}
	c := Claim{AccessKey: auth[:at], Signature: auth[at+1:], date: r.Header.Get("Date")}
	text := c.date
	if amz := r.Header.Get("X-Amz-Date"); amz != "" {
		c.date, text = "", amz
	}
	var ok bool
	if c.Time, ok = parseDate(text); !ok {
		return Claim{}, sigv4.NoDate()
	}
	return c, nil
}

// parseDate reads the forms of HTTP, with a zone as a number too, and ISO 8601's.
func parseDate(s string) (time.Time, bool) {
	if t, err := http.ParseTime(s); err == nil {
		return t, true
	}
	for _, form := range []string{time.RFC1123Z, "20060102T150405Z", time.RFC3339} {
		if t, err := time.Parse(form, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

func parseQuery(r *http.Request) (Claim, error) {
	q, err := pairs(r.URL.RawQuery)
	if err != nil {
		return Claim{}, err
	}
	c := Claim{Presigned: true}
	for _, p := range q {
		var to *string
		switch p.name {
		case "AWSAccessKeyId":
			to = &c.AccessKey
		case "Signature":
			to = &c.Signature
		case "Expires":
			to = &c.date
		default:
			continue
		}
		if *to != "" {
			return Claim{}, refuse(errs.Denied, sigv4.CodeAccessDenied, "The "+p.name+" parameter must be given once")
		}
		*to = p.value
	}
	if c.AccessKey == "" || c.Signature == "" || c.date == "" {
		return Claim{}, refuse(errs.Denied, sigv4.CodeAccessDenied,
			"Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters")
	}
	seconds, err := strconv.ParseInt(c.date, 10, 64)
	if err != nil || seconds < 0 {
		return Claim{}, refuse(errs.Denied, sigv4.CodeAccessDenied,
			"Invalid date (should be seconds since epoch): "+c.date)
	}
	c.Time = time.Unix(seconds, 0)
	return c, nil
}

// Verify checks the time of a claim, and its signature against the secret of its
// access key. r must be the request that c was parsed from; bucket is the name of
// the bucket that the Host names, empty for a path-style request. Its error is a
// *sigv4.Error: RequestTimeTooSkewed, AccessDenied for a URL that has expired,
// InvalidURI, or SignatureDoesNotMatch.
func Verify(c *Claim, r *http.Request, bucket, secret string, now time.Time) error {
	if c.Presigned {
		if now.After(c.Time) {
			return sigv4.Expired(c.Time, now)
		}
	} else if d := now.Sub(c.Time); d > MaxSkew || d < -MaxSkew {
		return sigv4.TooSkewed(c.Time, now, MaxSkew)
	}
	sent := r.URL.EscapedPath()
	toSign, err := stringToSign(r, c.date, c.Presigned, bucket, sent)
	if err != nil {
		return err
	}
	if match(secret, toSign, c.Signature) {
		return nil
	}
	// Clients that let a library encode the path sign S3's encoding of it.
	if encoded := sigv4.EncodePath(r.URL.Path); encoded != sent {
		other, err := stringToSign(r, c.date, c.Presigned, bucket, encoded)
		if err == nil && match(secret, other, c.Signature) {
			return nil
		}
	}
	return sigv4.Mismatch(c.AccessKey, c.Signature, toSign, "")
}

func match(secret, toSign, signature string) bool {
	return subtle.ConstantTimeCompare([]byte(sign(secret, toSign)), []byte(signature)) == 1
}

func sign(secret, toSign string) string {
	h := hmac.New(sha1.New, []byte(secret))
	h.Write([]byte(toSign))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// stringToSign builds what is signed; path is encoded.
func stringToSign(r *http.Request, date string, presigned bool, bucket, path string) (string, error) {
	var b strings.Builder
	for _, s := range []string{r.Method, r.Header.Get("Content-Md5"), r.Header.Get("Content-Type"), date} {
		b.WriteString(s)
		b.WriteByte('\n')
	}
	writeAmzHeaders(&b, r.Header, presigned)
	if bucket != "" {
		b.WriteByte('/')
		b.WriteString(bucket)
	}
	if path == "" {
		path = "/"
	}
	b.WriteString(path)
	q, err := pairs(r.URL.RawQuery)
	if err != nil {
		return "", err
	}
	writeSubresources(&b, q)
	return b.String(), nil
}

func writeAmzHeaders(b *strings.Builder, h http.Header, presigned bool) {
	type header struct {
		name   string
		values []string
	}
	var list []header
	for name, values := range h {
		name = strings.ToLower(name)
		if strings.HasPrefix(name, "x-amz-") && !(presigned && name == "x-amz-date") {
			list = append(list, header{name, values})
		}
	}
	slices.SortFunc(list, func(x, y header) int { return strings.Compare(x.name, y.name) })
	for _, x := range list {
		b.WriteString(x.name)
		for i, v := range x.values {
			b.WriteByte(":,"[min(i, 1)])
			b.WriteString(strings.TrimSpace(v))
		}
		b.WriteByte('\n')
	}
}

type pair struct{ name, value string }

// pairs decodes a query. A raw ';' is refused: url.Query, which the handler asks,
// drops such parameters silently.
func pairs(raw string) ([]pair, error) {
	if raw == "" {
		return nil, nil
	}
	var out []pair
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		n, err1 := url.QueryUnescape(name)
		v, err2 := url.QueryUnescape(value)
		if err1 != nil || err2 != nil || strings.Contains(part, ";") || len(out) == maxPairs {
			return nil, refuse(errs.Invalid, sigv4.CodeInvalidURI, "Couldn't parse the specified URI.")
		}
		out = append(out, pair{n, v})
	}
	return out, nil
}

// writeSubresources writes the signed parameters, the first of each name, as that
// is the one that the handler will use.
func writeSubresources(b *strings.Builder, q []pair) {
	var values [len(subresources)]*string
	for i := range q {
		if at, ok := slices.BinarySearch(subresources[:], q[i].name); ok && values[at] == nil {
			values[at] = &q[i].value
		}
	}
	separator := byte('?')
	for i, v := range values {
		if v == nil {
			continue
		}
		b.WriteByte(separator)
		b.WriteString(subresources[i])
		if *v != "" {
			b.WriteByte('=')
			b.WriteString(*v)
		}
		separator = '&'
	}
}

// Sign signs r with an Authorization header, and sets Date unless it or
// x-amz-date is set. bucket is as for Verify.
func Sign(r *http.Request, accessKey, secret, bucket string, now time.Time) error {
	date := r.Header.Get("Date")
	if r.Header.Get("X-Amz-Date") != "" {
		date = ""
	} else if date == "" {
		date = now.UTC().Format(http.TimeFormat)
		r.Header.Set("Date", date)
	}
	toSign, err := stringToSign(r, date, false, bucket, r.URL.EscapedPath())
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", scheme+accessKey+":"+sign(secret, toSign))
	return nil
}

// Presign signs r in its query, good until expires. bucket is as for Verify.
func Presign(r *http.Request, accessKey, secret, bucket string, expires time.Time) error {
	date := strconv.FormatInt(expires.Unix(), 10)
	toSign, err := stringToSign(r, date, true, bucket, r.URL.EscapedPath())
	if err != nil {
		return err
	}
	if r.URL.RawQuery != "" {
		r.URL.RawQuery += "&"
	}
	r.URL.RawQuery += fmt.Sprintf("AWSAccessKeyId=%s&Expires=%s&Signature=%s",
		url.QueryEscape(accessKey), date, url.QueryEscape(sign(secret, toSign)))
	return nil
}

func refuse(kind errs.Kind, code, message string) error {
	return &sigv4.Error{Code: code, Message: message, Kind: kind}
}
