package s3api

import (
	"net/url"
	"strings"
	"unicode/utf8"

	"ringfort/gateway/ops"
)

// query is a request's parameters in the order given.
type query []param

type param struct {
	name, value string
	bare        bool // there was no '='
}

// maxParams bounds the work that one URL can cause.
const maxParams = 1000

// parseQuery reads a raw query as url.ParseQuery does, but refuses what that
// drops: the request that was signed must be the one that is served.
func parseQuery(raw string) (query, error) {
	if raw == "" {
		return nil, nil
	}
	q := make(query, 0, strings.Count(raw, "&")+1)
	for raw != "" {
		var part string
		part, raw, _ = strings.Cut(raw, "&")
		if part == "" {
			continue
		}
		name, value, eq := strings.Cut(part, "=")
		name, err1 := url.QueryUnescape(name)
		value, err2 := url.QueryUnescape(value)
		if err1 != nil || err2 != nil || len(q) == maxParams {
			return nil, refuse("InvalidURI", "")
		}
		q = append(q, param{name, value, !eq})
	}
	return q, nil
}

// get returns the first value of a parameter, "" if there is none.
func (q query) get(name string) string {
	v, _ := q.lookup(name)
	return v
}

func (q query) has(name string) bool {
	_, ok := q.lookup(name)
	return ok
}

func (q query) lookup(name string) (string, bool) {
	for i := range q {
		if q[i].name == name {
			return q[i].value, true
		}
	}
	return "", false
}

// parse finds bucket, key and parameters, and refuses names that cannot be.
func (q *request) parse() error {
	var err error
	if q.query, err = parseQuery(q.r.URL.RawQuery); err != nil {
		return err
	}
	path := q.r.URL.Path
	if path == "" {
		path = "/"
	}
	if path[0] != '/' {
		return refuse("InvalidURI", "")
	}
	if q.bucket = q.h.hostBucket(q.r.Host); q.bucket != "" {
		q.hosted, q.key = true, path[1:]
	} else {
		q.bucket, q.key, _ = strings.Cut(path[1:], "/")
	}
	if q.bucket == "" && q.key != "" {
		return refuse("InvalidBucketName", "")
	}
	if err := checkBucketAddress(q.bucket); err != nil {
		return err
	}
	return checkKey(q.key)
}

// hostBucket returns the bucket of a virtual-hosted request, "" if it is none.
func (h *Handler) hostBucket(host string) string {
	if len(h.domains) == 0 {
		return ""
	}
	// A port, but not a part of an IPv6 address: that ends in a bracket.
	if at := strings.LastIndexByte(host, ':'); at >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:at]
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, d := range h.domains {
		if len(host) > len(d) && strings.HasSuffix(host, d) {
			return host[:len(host)-len(d)]
		}
	}
	return ""
}

// checkKey refuses keys that no object can have. The empty key is none.
func checkKey(key string) error {
	switch {
	case len(key) > ops.MaxNameBytes:
		return refuse("KeyTooLongError", "", "Size", decimal(int64(len(key))), "MaxSizeAllowed", decimal(ops.MaxNameBytes))
	case !utf8.ValidString(key):
		return refuse("InvalidURI", "")
	case strings.IndexByte(key, 0) >= 0:
		return refuse("InvalidArgument", "An object key must not hold a NUL byte.")
	}
	return nil
}

// maxContainerNameBytes is Swift's limit: buckets can be addressed that S3 could
// not have created.
const maxContainerNameBytes = 256

// checkBucketAddress refuses what cannot be the name of an existing bucket.
func checkBucketAddress(name string) error {
	if len(name) > maxContainerNameBytes || !utf8.ValidString(name) || strings.IndexByte(name, 0) >= 0 {
		return refuse("InvalidBucketName", "")
	}
	return nil
}

// validBucketName says whether S3 lets a bucket be created under name: 3 to 63
// lower-case letters, digits, dots and hyphens, beginning and ending with a letter
// or digit, without two dots in a row, not in the form of an IPv4 address, without
// reserved prefixes and suffixes. (Source: S3 user guide, "General purpose bucket
// naming rules".)
func validBucketName(name string) bool {
	if len(name) < 3 || len(name) > 63 {
		return false
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case c == '-' && i > 0 && i < len(name)-1:
		case c == '.' && i > 0 && i < len(name)-1 && name[i-1] != '.':
		default:
			return false
		}
	}
	for _, p := range [...]string{"xn--", "sthree-", "amzn-s3-demo-"} {
		if strings.HasPrefix(name, p) {
			return false
		}
	}
	for _, s := range [...]string{"-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3", "-an"} {
		if strings.HasSuffix(name, s) {
			return false
		}
	}
	return !looksLikeIPv4(name)
}

func looksLikeIPv4(name string) bool {
	parts := strings.Split(name, ".")
	if len(parts) != 4 {
		return false
	}
	for _, p := range parts {
		if p == "" || len(p) > 3 || strings.Trim(p, "0123456789") != "" {
			return false
		}
	}
	return true
}
