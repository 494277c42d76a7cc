package sigv2

import (
	"bufio"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"

	"ringfort/gateway/auth/sigv4"
	"ringfort/internal/errs"
)

const (
	exampleID     = "AKIAIOSFODNN7EXAMPLE"
	exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

func request(t testing.TB, lines ...string) *http.Request {
	t.Helper()
	text := strings.Join(lines, "\r\n") + "\r\n\r\n"
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return r
}

func verify(r *http.Request, bucket string, now time.Time) error {
	c, err := Parse(r)
	if err != nil {
		return err
	}
	return Verify(&c, r, bucket, exampleSecret, now)
}

func code(err error) string {
	var e *sigv4.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func details(err error) string {
	s := err.Error()
	var e *sigv4.Error
	if errors.As(err, &e) {
		for _, d := range e.Details {
			s += "\n" + d.Name + ": " + d.Value
		}
	}
	return s
}

// The examples of AWS's "Signing and authenticating REST requests". Its DELETE
// example is left out: it contradicts the page's own rule about x-amz-date.
func TestAWSExamples(t *testing.T) {
	auth := func(s string) string { return "Authorization: AWS " + exampleID + ":" + s }
	for _, c := range []struct {
		name, bucket, date string
		lines              []string
	}{
		{"object GET", "johnsmith", "Tue, 27 Mar 2007 19:36:42 +0000", []string{
			"GET /photos/puppy.jpg HTTP/1.1", "Host: johnsmith.s3.amazonaws.com", auth("bWq2s1WEIj+Ydj0vQ697zp+IXMU=")}},
		{"object PUT", "johnsmith", "Tue, 27 Mar 2007 21:15:45 +0000", []string{
			"PUT /photos/puppy.jpg HTTP/1.1", "Content-Type: image/jpeg", "Content-Length: 94328",
			"Host: johnsmith.s3.amazonaws.com", auth("MyyxeRY7whkBe+bq8fHCL/2kKUg=")}},
		{"list", "johnsmith", "Tue, 27 Mar 2007 19:42:41 +0000", []string{
			"GET /?prefix=photos&max-keys=50&marker=puppy HTTP/1.1", "User-Agent: Mozilla/5.0",
			"Host: johnsmith.s3.amazonaws.com", auth("htDYFYduRNen8P9ZfE/s9SuKy0U=")}},
		{"fetch", "johnsmith", "Tue, 27 Mar 2007 19:44:46 +0000", []string{
			"GET /?acl HTTP/1.1", "Host: johnsmith.s3.amazonaws.com", auth("c2WLPFtWHVgbEmeEG93a4cG37dM=")}},
		{"upload", "static.johnsmith.net", "Tue, 27 Mar 2007 21:06:08 +0000", []string{
			"PUT /db-backup.dat.gz HTTP/1.1", "User-Agent: curl/7.15.5", "Host: static.johnsmith.net:8080",
			"x-amz-acl: public-read", "content-type: application/x-download", "Content-MD5: 4gJE4saaMU4BqNR0kLY+lw==",
			"X-Amz-Meta-ReviewedBy: joe@johnsmith.net", "X-Amz-Meta-ReviewedBy: jane@johnsmith.net",
			"X-Amz-Meta-FileChecksum: 0x02661779", "X-Amz-Meta-ChecksumAlgorithm: crc32",
			"Content-Disposition: attachment; filename=database.dat", "Content-Encoding: gzip", "Content-Length: 5913339",
			auth("ilyl83RwaSoYIEdixDQcA4OnAnc=")}},
		{"list all my buckets", "", "Wed, 28 Mar 2007 01:29:59 +0000", []string{
			"GET / HTTP/1.1", "Host: s3.amazonaws.com", auth("qGdzdERIC03wnaRNKh6OqZehG9s=")}},
		{"unicode keys", "", "Wed, 28 Mar 2007 01:49:49 +0000", []string{
			"GET /dictionary/fran%C3%A7ais/pr%c3%a9f%c3%a8re HTTP/1.1", "Host: s3.amazonaws.com", auth("DNEZGsoieTZ92F3bUfSPQcbGmlM=")}},
		{"query", "johnsmith", "Thu, 29 Mar 2007 03:40:20 +0000", []string{
			"GET /photos/puppy.jpg?AWSAccessKeyId=" + exampleID + "&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&Expires=1175139620 HTTP/1.1",
			"Host: johnsmith.s3.amazonaws.com"}},
	} {
		now, ok := parseDate(c.date)
		if !ok {
			t.Fatal(c.date)
		}
		lines := append(c.lines, "Date: "+c.date)
		if err := verify(request(t, lines...), c.bucket, now); err != nil {
			t.Errorf("%s: %s", c.name, details(err))
		}
		if err := verify(request(t, lines...), c.bucket+"x", now); code(err) != sigv4.CodeSignatureDoesNotMatch {
			t.Errorf("%s in another bucket: %v", c.name, err)
		}
	}
}

func TestListIsSorted(t *testing.T) {
	if !slices.IsSorted(subresources[:]) {
		t.Error("binary search needs a sorted list")
	}
}

var now = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)

// What our client signs must verify, and not once it is changed.
func TestRoundTrip(t *testing.T) {
	for _, target := range []string{
		"/", "/b/k", "/b//../k", "/b/a+b%20c", "/b/%C3%BC%2F%c3", "/b?uploads", "/b?uploads=&x=1", "/b/k?uploadId=a%2Fb&partNumber=1",
		"/b/k?response-content-type=text%2Fplain%3B+charset&versionId=7&acl", "/b/k?prefix=x",
	} {
		for _, bucket := range []string{"", "vb"} {
			for form, do := range map[string]func(r *http.Request) error{
				"header": func(r *http.Request) error { return Sign(r, exampleID, exampleSecret, bucket, now) },
				"x-amz-date": func(r *http.Request) error {
					r.Header.Set("X-Amz-Date", now.Format(time.RFC1123Z))
					return Sign(r, exampleID, exampleSecret, bucket, now)
				},
				"query": func(r *http.Request) error {
					return Presign(r, exampleID, exampleSecret, bucket, now.Add(time.Minute))
				},
			} {
				r := request(t, "PUT "+target+" HTTP/1.1", "Host: h", "x-amz-meta-a:  b ", "Content-Type: text/plain")
				if err := do(r); err != nil {
					t.Fatal(err)
				}
				if !Present(r) || sigv4.Present(r) {
					t.Errorf("%s %s: not seen as Version 2", form, target)
				}
				if err := verify(r, bucket, now); err != nil {
					t.Errorf("%s %s: %s", form, target, details(err))
				}
				for what, change := range map[string]func(r *http.Request){
					"method": func(r *http.Request) { r.Method = "DELETE" },
					"path":   func(r *http.Request) { r.URL.Path, r.URL.RawPath = r.URL.Path+"x", "" },
					"header": func(r *http.Request) { r.Header.Set("X-Amz-Acl", "public-read") },
					"type":   func(r *http.Request) { r.Header.Set("Content-Type", "text/html") },
					// A subresource added in any spelling.
					"subresource":         func(r *http.Request) { r.URL.RawQuery = "tagging&" + r.URL.RawQuery },
					"escaped subresource": func(r *http.Request) { r.URL.RawQuery += "&%74agging" },
				} {
					bad := r.Clone(t.Context())
					change(bad)
					if err := verify(bad, bucket, now); code(err) != sigv4.CodeSignatureDoesNotMatch {
						t.Errorf("%s %s, %s changed: %v", form, target, what, err)
					}
				}
			}
		}
	}
}

// What minio-go signs, and another encoding of the path than the one sent.
func TestOtherSigners(t *testing.T) {
	for _, path := range []string{"/b/k", "/b/a b+c(d)", "/b/ü/日本", "/b//.."} {
		for _, query := range []string{"", "acl=", "uploads=&prefix=x", "uploadId=a%2Fb%3D&partNumber=3", "response-content-type=a%20b"} {
			u := &url.URL{Scheme: "http", Host: "h", Path: path, RawPath: sigv4.EncodePath(path), RawQuery: query}
			r := &http.Request{Method: "GET", URL: u, Host: "h", Header: http.Header{"X-Amz-Meta-A": {"b"}}}
			if err := verify(signer.SignV2(*r, exampleID, exampleSecret, false), "", time.Now()); err != nil {
				t.Errorf("header %s?%s: %s", path, query, details(err))
			}
			r = &http.Request{Method: "GET", URL: u, Host: "h", Header: http.Header{}}
			if err := verify(signer.PreSignV2(*r, exampleID, exampleSecret, 60, false), "", time.Now()); err != nil {
				t.Errorf("query %s?%s: %s", path, query, details(err))
			}
		}
	}
	r := request(t, "GET /b/a%2Bb HTTP/1.1", "Host: h")
	if err := Sign(r, exampleID, exampleSecret, "", now); err != nil {
		t.Fatal(err)
	}
	r.URL.Path, r.URL.RawPath = "/b/a+b", "/b/a+b"
	if err := verify(r, "", now); err != nil {
		t.Errorf("a path sent less encoded than it was signed: %s", details(err))
	}
}

func TestRefusals(t *testing.T) {
	date := "Date: " + now.Format(http.TimeFormat)
	const query = "GET /?AWSAccessKeyId=a&Signature=b&Expires="
	for _, c := range []struct {
		name  string
		lines []string
		code  string
		kind  errs.Kind
	}{
		{"no signature", []string{"GET / HTTP/1.1"}, sigv4.CodeAccessDenied, errs.Denied},
		{"other scheme", []string{"GET / HTTP/1.1", "Authorization: AWS4-HMAC-SHA256 x"}, sigv4.CodeAccessDenied, errs.Denied},
		{"no colon", []string{"GET / HTTP/1.1", date, "Authorization: AWS ab"}, sigv4.CodeInvalidArgument, errs.Invalid},
		{"no key", []string{"GET / HTTP/1.1", date, "Authorization: AWS :b"}, sigv4.CodeInvalidArgument, errs.Invalid},
		{"no signature behind the key", []string{"GET / HTTP/1.1", date, "Authorization: AWS a:"}, sigv4.CodeInvalidArgument, errs.Invalid},
		{"two headers", []string{"GET / HTTP/1.1", date, "Authorization: AWS a:b", "Authorization: AWS a:b"}, sigv4.CodeInvalidArgument, errs.Invalid},
		{"no date", []string{"GET / HTTP/1.1", "Authorization: AWS a:b"}, sigv4.CodeAccessDenied, errs.Denied},
		{"bad date", []string{"GET / HTTP/1.1", "Date: today", "Authorization: AWS a:b"}, sigv4.CodeAccessDenied, errs.Denied},
		{"skewed", []string{"GET / HTTP/1.1", "Date: Thu, 02 Jan 2020 02:49:04 GMT", "Authorization: AWS a:b"}, sigv4.CodeRequestTimeTooSkewed, errs.Denied},
		{"skewed x-amz-date", []string{"GET / HTTP/1.1", date, "x-amz-date: 20200102T024904Z", "Authorization: AWS a:b"}, sigv4.CodeRequestTimeTooSkewed, errs.Denied},
		{"mismatch", []string{"GET / HTTP/1.1", date, "Authorization: AWS a:b"}, sigv4.CodeSignatureDoesNotMatch, errs.Denied},
		{"expired", []string{query + "1577934244 HTTP/1.1"}, sigv4.CodeAccessDenied, errs.Denied},
		{"not expired", []string{query + "1577934245 HTTP/1.1"}, sigv4.CodeSignatureDoesNotMatch, errs.Denied},
		{"no expiry", []string{"GET /?AWSAccessKeyId=a&Signature=b HTTP/1.1"}, sigv4.CodeAccessDenied, errs.Denied},
		{"bad expiry", []string{query + "soon HTTP/1.1"}, sigv4.CodeAccessDenied, errs.Denied},
		{"expiry below", []string{query + "-1 HTTP/1.1"}, sigv4.CodeAccessDenied, errs.Denied},
		{"twice", []string{query + "1&Expires=2 HTTP/1.1"}, sigv4.CodeAccessDenied, errs.Denied},
		{"both", []string{query + "1 HTTP/1.1", "Authorization: AWS a:b"}, sigv4.CodeInvalidArgument, errs.Invalid},
		{"semicolon", []string{query + "1&a;b HTTP/1.1"}, sigv4.CodeInvalidURI, errs.Invalid},
		{"escape", []string{query + "1&a=%zz HTTP/1.1"}, sigv4.CodeInvalidURI, errs.Invalid},
		{"endless", []string{query + "1" + strings.Repeat("&a", 2000) + " HTTP/1.1"}, sigv4.CodeInvalidURI, errs.Invalid},
	} {
		err := verify(request(t, append(c.lines, "Host: h")...), "", now)
		if code(err) != c.code || errs.KindOf(err) != c.kind {
			t.Errorf("%s: %v (%v), want %s", c.name, err, errs.KindOf(err), c.code)
		}
	}
}

// No panic, only typed errors, and no way in without the secret.
func FuzzVerify(f *testing.F) {
	f.Add("AWS a:b", "Thu, 02 Jan 2020 03:04:05 GMT", "/b/k", "acl&versionId=%20")
	f.Add("", "", "", "AWSAccessKeyId=a&Signature=b&Expires=1577934245")
	f.Fuzz(func(t *testing.T, auth, date, path, query string) {
		r := &http.Request{Method: "GET", URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{"Date": {date}}}
		if auth != "" {
			r.Header.Set("Authorization", auth)
		}
		_ = Present(r)
		c, err := Parse(r)
		if err == nil {
			err = Verify(&c, r, "", "a secret that no input can know", c.Time)
		}
		if code(err) == "" {
			t.Fatalf("got %v", err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	r := request(b, "PUT /bucket/key HTTP/1.1", "Host: h", "Content-Type: text/plain", "x-amz-meta-a: b")
	if err := Sign(r, exampleID, exampleSecret, "", now); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := verify(r, "", now); err != nil {
			b.Fatal(err)
		}
	}
}
