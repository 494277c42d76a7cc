package swiftapi

import (
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"ringfort/gateway/ops"
)

// accountPrefix stands before an account's name in paths, as tempauth's reseller
// prefix does.
const accountPrefix = "AUTH_"

// target is what a path under /v1 names. Empty fields are not there.
type target struct {
	account   string // as in the path, prefix included
	container string
	object    string
}

// level is what kind of resource a target is.
type level int

const (
	accountLevel level = iota
	containerLevel
	objectLevel
)

func (l level) String() string { return [...]string{"account", "container", "object"}[l] }

func (t *target) level() level {
	switch {
	case t.object != "":
		return objectLevel
	case t.container != "":
		return containerLevel
	}
	return accountLevel
}

// parsePath reads a decoded path.
func parsePath(path string) (target, error) {
	version, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	var t target
	t.account, rest, _ = strings.Cut(rest, "/")
	if t.account != "" && version != "v1" && version != "v1.0" {
		return t, refuse(http.StatusBadRequest, "The version of the API is v1.")
	}
	if !utf8.ValidString(path) || strings.IndexByte(path, 0) >= 0 {
		return t, refuse(http.StatusPreconditionFailed, "Invalid UTF8 or contains NULL")
	}
	t.container, t.object, _ = strings.Cut(rest, "/")
	if t.account == "" || t.container == "" && t.object != "" {
		return t, refuse(http.StatusPreconditionFailed, "Bad URL")
	}
	return t, nil
}

// checkLengths refuses names that cannot be, with 400 where something would be
// made of that name and 404 elsewhere.
func (t *target) checkLengths(method string) error {
	status := http.StatusNotFound
	if method == http.MethodPut {
		status = http.StatusBadRequest
	}
	switch {
	case len(t.account) > maxAccountNameBytes:
		return refuse(status, "Account name length of %d longer than %d", len(t.account), maxAccountNameBytes)
	case len(t.container) > maxContainerNameBytes:
		return refuse(status, "Container name length of %d longer than %d", len(t.container), maxContainerNameBytes)
	case len(t.object) > ops.MaxNameBytes:
		return refuse(status, "Object name length of %d longer than %d", len(t.object), ops.MaxNameBytes)
	}
	return nil
}

// objectPath reads "container/object", with or without a slash before it, percent
// encoded, as in X-Copy-From and Destination.
func objectPath(value string) (container, object string, ok bool) {
	p, err := url.PathUnescape(value)
	if err != nil {
		return "", "", false
	}
	return splitObjectPath(p)
}

// splitObjectPath is objectPath for a name that is not encoded.
func splitObjectPath(p string) (container, object string, ok bool) {
	container, object, ok = strings.Cut(strings.TrimPrefix(p, "/"), "/")
	ok = ok && container != "" && object != "" && utf8.ValidString(p) && strings.IndexByte(p, 0) < 0 &&
		len(container) <= maxContainerNameBytes && len(object) <= ops.MaxNameBytes
	return container, object, ok
}

// params are a query's parameters; of several with one name the last counts, as
// in Swift.
type params map[string]string

// maxParams bounds the work that one URL can cause.
const maxParams = 1000

// parseParams reads a raw query. Unlike url.ParseQuery it drops nothing: what it
// cannot read is refused.
func parseParams(raw string) (params, error) {
	if raw == "" {
		return nil, nil
	}
	p := params{}
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		name, err1 := url.QueryUnescape(name)
		value, err2 := url.QueryUnescape(value)
		if err1 != nil || err2 != nil || len(p) == maxParams {
			return nil, refuse(http.StatusBadRequest, "The query cannot be read.")
		}
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return nil, refuse(http.StatusBadRequest, "A parameter of the query is not valid UTF-8.")
		}
		p[name] = value
	}
	return p, nil
}

// truth reads a boolean as Swift's configuration does.
func truth(s string) bool {
	switch strings.ToLower(s) {
	case "true", "1", "yes", "on", "t", "y":
		return true
	}
	return false
}
