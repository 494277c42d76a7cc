package sigv4

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// FuzzHeader feeds the header parser, the payload parser and the canonical form.
func FuzzHeader(f *testing.F) {
	r := signed(f)
	f.Add(r.Header.Get("Authorization"), r.Header.Get("X-Amz-Date"), EmptySHA256, "/b/k", "a=1&b=%20&&c")
	f.Add("AWS4-HMAC-SHA256 Credential=a/20130524/r/s3/aws4_request,SignedHeaders=host;x-amz-date,Signature=0", "", Streaming, "", "")
	f.Fuzz(func(t *testing.T, auth, date, payload, path, query string) {
		r := &http.Request{Method: "GET", Host: "h", URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{
			"Authorization": {auth}, "X-Amz-Date": {date}, "X-Amz-Content-Sha256": {payload}, "Date": {date},
		}}
		check(t, r)
	})
}

// FuzzQuery feeds the parser of presigned URLs.
func FuzzQuery(f *testing.F) {
	f.Add(presignedRequest(f).URL.RawQuery)
	f.Add("X-Amz-Signature=1&X-Amz-Signature=%zz")
	f.Fuzz(func(t *testing.T, query string) {
		check(t, &http.Request{Method: "GET", Host: "h", Header: http.Header{}, URL: &url.URL{Path: "/", RawQuery: query}})
	})
}

// check asks of any request: no panic, only typed errors, and no way to verify
// without the secret.
func check(t *testing.T, r *http.Request) {
	v := NewVerifier(Config{MaxSkew: 1 << 62})
	_ = Present(r)
	c, err := v.Parse(r)
	if err == nil {
		if c.AccessKey == "" || c.Scope.Region == "" || len(c.timestamp) != len(isoTime) ||
			!strings.Contains(";"+c.SignedHeaders+";", ";host;") {
			t.Fatalf("accepted %+v", c)
		}
		if c.Presigned && (c.Expires < time.Second || c.Expires > maxExpires) {
			t.Fatalf("accepted expiry %v", c.Expires)
		}
		_, err = v.Verify(&c, r, "a secret that no input can know", c.Time)
		if err == nil {
			t.Fatal("verified")
		}
	}
	if code(err) == "" {
		t.Fatalf("untyped error %v", err)
	}
}
