package swiftapi

import (
	"encoding/json"
	"net/http"
	"strings"
)

// servePublic answers what needs no token; done is false if it is not that.
func (q *request) servePublic() (done bool, err error) {
	path := q.r.URL.Path
	switch path {
	case "/info", "/healthcheck", "/crossdomain.xml":
	default:
		if strings.HasPrefix(path, loginPrefix) {
			return true, q.login()
		}
		return false, nil
	}
	q.op = q.r.Method + " " + path[1:]
	switch q.r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		q.set("Allow", "HEAD, GET, OPTIONS")
		q.empty(http.StatusOK)
		return true, nil
	default:
		return true, refuse(http.StatusMethodNotAllowed, "").with("Allow", "HEAD, GET, OPTIONS")
	}
	switch path {
	case "/info":
		q.sendBody(http.StatusOK, "application/json; charset=UTF-8", q.h.info)
	case "/healthcheck":
		q.sendBody(http.StatusOK, "text/plain", []byte("OK"))
	default:
		q.sendBody(http.StatusOK, "application/xml", []byte(crossDomain))
	}
	return true, nil
}

// crossDomain lets no one in: nothing is public.
const crossDomain = `<?xml version="1.0"?>
<!DOCTYPE cross-domain-policy SYSTEM "http://www.adobe.com/xml/dtds/cross-domain-policy.dtd" >
<cross-domain-policy>
</cross-domain-policy>
`

type policyInfo struct {
	Name    string `json:"name"`
	Aliases string `json:"aliases"`
	Default bool   `json:"default,omitempty"`
}

// describe makes the answer to GET /info: what works, and its limits.
func (h *Handler) describe() []byte {
	var policies []policyInfo
	for _, p := range h.store.Policies() {
		policies = append(policies, policyInfo{p.Name, p.Name, p.Default})
	}
	info := map[string]any{
		"swift": map[string]any{
			"version":                   h.cfg.Version,
			"policies":                  policies,
			"max_file_size":             int64(maxObjectBytes),
			"max_meta_name_length":      maxMetaNameBytes,
			"max_meta_value_length":     maxMetaValueBytes,
			"max_meta_count":            maxMetaCount,
			"max_meta_overall_size":     maxMetaBytes,
			"max_header_size":           maxHeaderBytes,
			"max_object_name_length":    1024,
			"max_container_name_length": maxContainerNameBytes,
			"max_account_name_length":   maxAccountNameBytes,
			"container_listing_limit":   maxListing,
			"account_listing_limit":     maxListing,
			"account_autocreate":        true,
			"allow_account_management":  false,
			"strict_cors_mode":          true,
			"valid_api_versions":        []string{"v1", "v1.0"},
		},
		"tempauth": map[string]any{"account_acls": false},
		"slo": map[string]any{
			"max_manifest_segments": h.cfg.MaxSegments,
			"max_manifest_size":     h.cfg.MaxManifestBytes,
			"min_segment_size":      1,
			"allow_async_delete":    false,
		},
		"bulk_delete": map[string]any{
			"max_deletes_per_request": maxBulkDeletes,
			"max_failed_deletes":      maxBulkFailures,
		},
		"dlo": map[string]any{},
	}
	b, err := json.Marshal(info)
	if err != nil { // maps of strings and numbers
		return []byte("{}")
	}
	return b
}
