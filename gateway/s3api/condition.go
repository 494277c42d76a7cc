package s3api

import (
	"net/http"
	"strings"
	"time"

	"ringfort/internal/catalog"
)

// httpTime prints a time in µs since 1970 as Last-Modified has it.
func httpTime(micros int64) string {
	return time.UnixMicro(micros).UTC().Format(http.TimeFormat)
}

// conditions are those of a read: RFC 9110's, in its order of precedence, which
// is S3's too.
type conditions struct {
	ifMatch, ifNoneMatch               string
	ifModifiedSince, ifUnmodifiedSince string
}

func (q *request) readConditions() conditions {
	return conditions{
		ifMatch: q.header("If-Match"), ifNoneMatch: q.header("If-None-Match"),
		ifModifiedSince: q.header("If-Modified-Since"), ifUnmodifiedSince: q.header("If-Unmodified-Since"),
	}
}

func (q *request) copyConditions() conditions {
	return conditions{
		ifMatch: q.header("X-Amz-Copy-Source-If-Match"), ifNoneMatch: q.header("X-Amz-Copy-Source-If-None-Match"),
		ifModifiedSince: q.header("X-Amz-Copy-Source-If-Modified-Since"), ifUnmodifiedSince: q.header("X-Amz-Copy-Source-If-Unmodified-Since"),
	}
}

// verdict is what conditions come to.
type verdict int

const (
	holds verdict = iota
	failed
	unchanged // a read's 304
)

// judge decides about an object, and names the condition that did not hold. A
// date that cannot be read counts as absent, and so does If-Modified-Since in the
// future.
func (c *conditions) judge(o *catalog.Object, now time.Time) (verdict, string) {
	if *c == (conditions{}) {
		return holds, ""
	}
	modified := o.Modified / 1e6
	if c.ifMatch != "" {
		if !matchETag(c.ifMatch, o.ETag) {
			return failed, "If-Match"
		}
	} else if t, ok := parseHTTPTime(c.ifUnmodifiedSince); ok && modified > t.Unix() {
		return failed, "If-Unmodified-Since"
	}
	if c.ifNoneMatch != "" {
		if matchETag(c.ifNoneMatch, o.ETag) {
			return unchanged, "If-None-Match"
		}
	} else if t, ok := parseHTTPTime(c.ifModifiedSince); ok && !t.After(now) && modified <= t.Unix() {
		return unchanged, "If-Modified-Since"
	}
	return holds, ""
}

func parseHTTPTime(s string) (time.Time, bool) {
	if s == "" {
		return time.Time{}, false
	}
	t, err := http.ParseTime(s)
	if err != nil {
		t, err = time.Parse(time.RFC1123Z, s)
	}
	return t, err == nil
}

// matchETag reports whether a list of entity tags, or "*", names etag. Quotes are
// optional, as in S3; weakness makes no difference.
func matchETag(list, etag string) bool {
	for part := range strings.SplitSeq(list, ",") {
		part = strings.TrimSpace(part)
		if part == "*" {
			return true
		}
		if strings.Trim(strings.TrimPrefix(part, "W/"), `"`) == etag {
			return true
		}
	}
	return false
}

func preconditionFailed(condition string) error {
	return refuse("PreconditionFailed", "", "Condition", condition)
}

// writeJudge reads the conditions of a write: If-None-Match: * and If-Match. It
// returns nil if there are none. Everything else that a condition could say is
// not implemented, as in S3.
func (q *request) writeJudge() (func(*catalog.Object) error, error) {
	match, none := q.header("If-Match"), q.header("If-None-Match")
	switch {
	case q.header("If-Modified-Since") != "":
		return nil, notImplemented("If-Modified-Since")
	case q.header("If-Unmodified-Since") != "":
		return nil, notImplemented("If-Unmodified-Since")
	case none != "" && strings.TrimSpace(none) != "*":
		return nil, notImplemented("If-None-Match")
	case match != "" && none != "":
		return nil, notImplemented("If-Match,If-None-Match")
	case none != "":
		return func(cur *catalog.Object) error {
			if cur != nil {
				return preconditionFailed("If-None-Match")
			}
			return nil
		}, nil
	case match != "":
		return func(cur *catalog.Object) error { return mustMatch(match, cur) }, nil
	}
	return nil, nil
}

// mustMatch is If-Match on a write. Of an object that is not there, "*" fails as
// a condition and an entity tag as a key, as S3 has it.
func mustMatch(list string, cur *catalog.Object) error {
	switch {
	case cur != nil && matchETag(list, shownETag(cur)):
		return nil
	case cur == nil && strings.TrimSpace(list) != "*":
		return refuse("NoSuchKey", "")
	}
	return preconditionFailed("If-Match")
}
