package swiftapi

import (
	"net/http"
	"strings"
	"unicode/utf8"
)

// refusedHeaders ask for what is not there; with an empty value they ask for it to
// be taken away, which is so already.
//
// Read only: it is a table, not state.
var refusedHeaders = map[string]string{
	"X-Delete-At":                     "expiring objects",
	"X-Delete-After":                  "expiring objects",
	"X-If-Delete-At":                  "expiring objects",
	"X-Open-Expired":                  "expiring objects",
	"X-Symlink-Target":                "symlinks",
	"X-Symlink-Target-Account":        "symlinks",
	"X-Symlink-Target-Etag":           "symlinks",
	"X-Container-Read":                "ACLs",
	"X-Container-Write":               "ACLs",
	"X-Account-Access-Control":        "ACLs",
	"X-Container-Sync-To":             "container sync",
	"X-Container-Sync-Key":            "container sync",
	"X-Container-Sync-Auth":           "container sync",
	"X-Versions-Location":             "versioning",
	"X-History-Location":              "versioning",
	"X-Versions-Enabled":              "versioning",
	"X-Container-Rfc-Compliant-Etags": "quoted ETags",
	"X-Account-Rfc-Compliant-Etags":   "quoted ETags",
	"X-Container-Meta-Quota-Bytes":    "quotas",
	"X-Container-Meta-Quota-Count":    "quotas",
	"X-Account-Meta-Quota-Bytes":      "quotas",
	"X-Web-Mode":                      "static web sites",
}

// refusedPrefixes are the same for families of headers.
var refusedPrefixes = [...]struct{ prefix, what string }{
	{"X-Account-Quota-", "quotas"},
	{"X-Container-Meta-Temp-Url-Key", "temporary URLs"},
	{"X-Account-Meta-Temp-Url-Key", "temporary URLs"},
	{"X-Container-Meta-Web-", "static web sites"},
	{"X-Container-Meta-Access-Control-", "CORS"},
}

// refusedParams ask for what is not there by being in a query. Not among them
// are two that ask for what is so anyway, and that the swift client sends: symlink=get
// is for the object itself and not for what it links to; versions lists all versions,
// and every object is its only one.
var refusedParams = map[string]string{
	"extract-archive": "archive extraction",
	"version-id":      "versioning",
	"version_marker":  "versioning",
	"part-number":     "part numbers",
	"temp_url_sig":    "temporary URLs",
}

func notImplemented(what string) *Error {
	return refuse(http.StatusNotImplemented, "This server does not have %s.", what)
}

// checkFeatures refuses what is not there and headers that are too long.
func (q *request) checkFeatures() error {
	if !utf8.ValidString(q.header("Content-Type")) {
		return refuse(http.StatusBadRequest, "Invalid Content-Type")
	}
	for name, values := range q.r.Header {
		for _, v := range values {
			if len(name)+len(v) > maxHeaderBytes {
				return refuse(http.StatusBadRequest, "Header Line Too Long")
			}
			if v == "" || len(name) < 2 || name[0] != 'X' {
				continue
			}
			if what := refusedHeader(name); what != "" {
				return notImplemented(what)
			}
		}
	}
	for name, value := range q.params {
		if what, ok := refusedParams[name]; ok {
			return notImplemented(what)
		}
		switch {
		case name == "heartbeat" && truth(value):
			return notImplemented("heartbeats")
		case name == "async" && truth(value):
			return notImplemented("asynchronous deletes")
		}
	}
	return nil
}

func refusedHeader(name string) string {
	if what := refusedHeaders[name]; what != "" {
		return what
	}
	for i := range refusedPrefixes {
		if strings.HasPrefix(name, refusedPrefixes[i].prefix) {
			return refusedPrefixes[i].what
		}
	}
	return ""
}
