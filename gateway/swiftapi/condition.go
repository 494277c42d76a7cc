package swiftapi

import (
	"net/http"
	"strings"
	"time"
)

// judge weighs a request's conditions against a resource, in the order of RFC
// 9110: nil, or an Error of 412 or 304. A date that cannot be read counts as not
// there.
func (q *request) judge(etag string, modifiedMicros int64) error {
	h := q.r.Header
	match, none := h.Get("If-Match"), h.Get("If-None-Match")
	modified := wholeSeconds(modifiedMicros)
	if match != "" {
		if !matchETag(match, etag) {
			return refuse(http.StatusPreconditionFailed, "")
		}
	} else if t, ok := httpTime(h.Get("If-Unmodified-Since")); ok && modified > t {
		return refuse(http.StatusPreconditionFailed, "")
	}
	if none != "" {
		if matchETag(none, etag) {
			return refuse(http.StatusNotModified, "")
		}
	} else if t, ok := httpTime(h.Get("If-Modified-Since")); ok && modified <= t {
		return refuse(http.StatusNotModified, "")
	}
	return nil
}

// httpTime reads a date of a header, in seconds since 1970.
func httpTime(s string) (int64, bool) {
	if s == "" {
		return 0, false
	}
	t, err := http.ParseTime(s)
	if err != nil {
		t, err = time.Parse(time.RFC1123Z, s)
	}
	return t.Unix(), err == nil
}

// matchETag reports whether a list of entity tags, or "*", names etag. Quotes may
// be there or not, on both sides.
func matchETag(list, etag string) bool {
	etag = strings.Trim(etag, `"`)
	for part := range strings.SplitSeq(list, ",") {
		part = strings.TrimSpace(part)
		if part == "*" || strings.Trim(strings.TrimPrefix(part, "W/"), `"`) == etag {
			return true
		}
	}
	return false
}

// rangeApplies reports whether If-Range, if there, names the resource as it is.
func (q *request) rangeApplies(etag string, modifiedMicros int64) bool {
	v := q.header("If-Range")
	if v == "" {
		return true
	}
	if t, ok := httpTime(v); ok {
		return t == wholeSeconds(modifiedMicros)
	}
	return strings.Trim(v, `"`) == strings.Trim(etag, `"`)
}
