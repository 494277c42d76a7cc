package s3api_test

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"ringfort/gateway/auth/sigv4"
	"ringfort/gateway/s3api"
	"ringfort/gateway/s3api/s3test"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// fixture is a handler over an empty store with a clock that stands still.
type fixture struct {
	t      testing.TB
	store  *s3test.Store
	h      *s3api.Handler
	signer *sigv4.Signer
	now    time.Time
	events []*s3api.Event
}

func newFixture(t testing.TB, change ...func(*s3api.Config)) *fixture {
	f := &fixture{t: t, store: s3test.NewStore(), now: time.Date(2026, 2, 3, 4, 5, 6, 789_000_000, time.UTC)}
	f.store.Now = func() time.Time { return f.now }
	f.h = newHandler(f.store, append([]func(*s3api.Config){func(c *s3api.Config) {
		c.Now = func() time.Time { return f.now }
		c.Observe = func(e *s3api.Event) { f.events = append(f.events, e) }
	}}, change...)...)
	f.signer = sigv4.NewSigner(sigv4.Credentials{AccessKey: "AKMAIN", SecretKey: "secret-of-main"}, "us-east-1")
	return f
}

// request makes a signed request; header holds names and values.
func (f *fixture) request(method, path, body string, header ...string) *http.Request {
	r := httptest.NewRequest(method, "http://s3.local"+path, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	sum := sha256.Sum256([]byte(body))
	if _, err := f.signer.Sign(r, hex.EncodeToString(sum[:]), f.now); err != nil {
		f.t.Fatal(err)
	}
	return r
}

func (f *fixture) do(method, path, body string, header ...string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	f.h.ServeHTTP(w, f.request(method, path, body, header...))
	return w
}

// ok is do for what must succeed.
func (f *fixture) ok(method, path, body string, header ...string) *httptest.ResponseRecorder {
	f.t.Helper()
	w := f.do(method, path, body, header...)
	if w.Code >= 300 {
		f.t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	return w
}

var requestID = regexp.MustCompile(`<RequestId>[0-9A-F]{16}</RequestId>`)

// golden compares an answer's status, type and body with a file.
func (f *fixture) golden(name string, w *httptest.ResponseRecorder) {
	f.t.Helper()
	body := requestID.ReplaceAllString(w.Body.String(), "<RequestId>0000000000000000</RequestId>")
	// One element a line, so that a change can be read.
	body = strings.ReplaceAll(body, "><", ">\n<")
	got := fmt.Sprintf("%d %s\n%s\n", w.Code, w.Header().Get("Content-Type"), body)
	file := filepath.Join("testdata", name+".txt")
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			f.t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		f.t.Fatal(err)
	}
	if !bytes.Equal(want, []byte(got)) {
		f.t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// TestGolden holds the bodies of all answers. After a change that is meant:
// go test ./gateway/s3api -run TestGolden -rewrite
func TestGolden(t *testing.T) {
	f := newFixture(t)
	f.golden("list-buckets-none", f.do("GET", "/", ""))
	f.ok("PUT", "/photos", "")
	f.ok("PUT", "/videos", "")
	f.golden("list-buckets", f.do("GET", "/", ""))
	f.golden("list-buckets-page", f.do("GET", "/?max-buckets=1&prefix=p", ""))
	f.golden("location", f.do("GET", "/photos?location", ""))
	f.golden("list-empty", f.do("GET", "/photos?list-type=2", ""))
	for _, k := range []string{"2025/a.jpg", "2025/b.jpg", "2026/c.jpg", "odd <&>\"'\u0001 ü", "z"} {
		f.ok("PUT", "/photos/"+strings.NewReplacer(" ", "%20", "<", "%3C", ">", "%3E", `"`, "%22", "\u0001", "%01").Replace(k), k)
	}
	for name, q := range map[string]string{
		"list-v2": "list-type=2", "list-v2-owner-url": "list-type=2&fetch-owner=true&encoding-type=url", "list-v2-page": "list-type=2&max-keys=2&delimiter=/&start-after=2025",
		"list-v2-zero": "list-type=2&max-keys=0", "list-v1": "", "list-v1-page": "max-keys=1&delimiter=/&encoding-type=url&marker=2025/", "versions": "versions&max-keys=2",
	} {
		f.golden(name, f.do("GET", "/photos?"+q, ""))
	}
	for _, sub := range []string{"acl", "versioning", "logging", "notification", "accelerate", "requestPayment", "ownershipControls", "inventory", "policy", "tagging", "cors"} {
		f.golden("get-"+sub, f.do("GET", "/photos?"+sub, ""))
	}
	f.ok("PUT", "/photos?tagging", "<Tagging><TagSet><Tag><Key>a</Key><Value>b c</Value></Tag></TagSet></Tagging>")
	f.golden("tagging", f.do("GET", "/photos?tagging", ""))
	f.golden("copy", f.do("PUT", "/photos/copy", "", "x-amz-copy-source", "photos/z"))
	list := "<Delete><Object><Key>copy</Key></Object><Object><Key>z</Key><ETag>x</ETag></Object></Delete>"
	sum := md5.Sum([]byte(list))
	f.golden("delete-objects", f.do("POST", "/photos?delete", list, "Content-MD5", base64.StdEncoding.EncodeToString(sum[:])))
	f.golden("attributes", f.do("GET", "/photos/z?attributes", "", "x-amz-object-attributes", "ETag,Checksum,ObjectParts,StorageClass,ObjectSize"))
	testGoldenMultipart(f)
	testGoldenErrors(f)
}

func testGoldenMultipart(f *fixture) {
	f.golden("create-upload", f.do("POST", "/photos/mp%20%26?uploads", "", "x-amz-checksum-algorithm", "SHA256"))
	id := fmt.Sprintf("%048x", 1)
	f.ok("PUT", "/photos/mp%20%26?partNumber=1&uploadId="+id, "part one")
	f.ok("PUT", "/photos/mp%20%26?partNumber=2&uploadId="+id, "part two")
	f.golden("copy-part", f.do("PUT", "/photos/mp%20%26?partNumber=3&uploadId="+id, "", "x-amz-copy-source", "photos/z"))
	f.golden("list-parts", f.do("GET", "/photos/mp%20%26?max-parts=2&uploadId="+id, ""))
	f.golden("list-uploads", f.do("GET", "/photos?uploads", ""))
	f.golden("list-uploads-url", f.do("GET", "/photos?uploads&encoding-type=url&prefix=m&delimiter=p&max-uploads=5", ""))
	part := func(n int, etag string) string {
		return fmt.Sprintf("<CompleteMultipartUpload><Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part></CompleteMultipartUpload>", n, etag)
	}
	f.golden("complete-bad", f.do("POST", "/photos/mp%20%26?uploadId="+id, part(2, "nonsense")))
	f.golden("complete", f.do("POST", "/photos/mp%20%26?uploadId="+id, part(2, fmt.Sprintf("&quot;%x&quot;", md5.Sum([]byte("part two"))))))
}

func testGoldenErrors(f *fixture) {
	f.golden("no-such-key", f.do("GET", "/photos/no%01such", ""))
	f.golden("no-such-bucket", f.do("GET", "/nosuch", ""))
	f.golden("no-such-upload", f.do("DELETE", "/photos/k?uploadId=abc", ""))
	f.golden("bucket-not-empty", f.do("DELETE", "/photos", ""))
	f.golden("bucket-exists", f.do("PUT", "/photos", ""))
	f.golden("invalid-range", f.do("GET", "/photos/z", "", "Range", "bytes=100-"))
	f.golden("not-implemented", f.do("PUT", "/photos/z", "", "x-amz-server-side-encryption", "aws:kms"))
	f.golden("precondition-failed", f.do("GET", "/photos/z", "", "If-Match", "x"))
	f.golden("key-too-long", f.do("GET", "/photos/"+strings.Repeat("k", 1025), ""))
	f.golden("method-not-allowed", f.do("DELETE", "/", ""))
	r := f.request("GET", "/photos/z", "")
	r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "AKMAIN", "AKNOBODY", 1))
	w := httptest.NewRecorder()
	f.h.ServeHTTP(w, r)
	f.golden("unknown-key", w)
}
