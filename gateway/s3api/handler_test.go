package s3api_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"ringfort/gateway/auth"
	"ringfort/gateway/auth/sigv4"
	"ringfort/gateway/s3api"
	"ringfort/gateway/s3api/s3test"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
)

// TestStoreFailures: what the store cannot do is told in S3's terms, without a
// word of what went on inside.
func TestStoreFailures(t *testing.T) {
	var logged bytes.Buffer
	f := newFixture(t, func(c *s3api.Config) { c.Log = slog.New(slog.NewTextHandler(&logged, nil)) })
	f.ok("PUT", "/bucket", "")
	f.ok("PUT", "/bucket/k", "x")
	for _, c := range []struct {
		kind   errs.Kind
		status int
		code   string
		logs   bool
	}{
		{errs.Unavailable, 503, "ServiceUnavailable", true}, {errs.OutcomeUnknown, 503, "ServiceUnavailable", true}, {errs.Busy, 503, "SlowDown", true},
		{errs.Full, 507, "InsufficientStorage", true}, {errs.Corrupt, 500, "InternalError", true}, {errs.Other, 500, "InternalError", true},
		{errs.Conflict, 409, "ConditionalRequestConflict", false}, {errs.NoBucket, 404, "NoSuchBucket", false}, {errs.Gone, 404, "NoSuchBucket", false},
	} {
		for _, op := range []string{"Put", "Open", "Head", "Delete", "List", "Resolve", "Range"} {
			f.store.Fail = func(got string) error {
				if got == op {
					return errs.New("s3test", c.kind, "the inside story")
				}
				return nil
			}
			logged.Reset()
			method, path := map[string]string{"Put": "PUT", "Head": "HEAD", "Delete": "DELETE"}[op], "/bucket/k"
			switch {
			case op == "List":
				path = "/bucket"
			case method == "":
			}
			if method == "" {
				method = "GET"
			}
			w := f.do(method, path, "")
			if w.Code != c.status || method != "HEAD" && !strings.Contains(w.Body.String(), "<Code>"+c.code+"</Code>") {
				t.Errorf("%s fails with %v: %d %s", op, c.kind, w.Code, w.Body)
			}
			if strings.Contains(w.Body.String(), "inside story") {
				t.Errorf("the answer tells: %s", w.Body)
			}
			if got := strings.Contains(logged.String(), "inside story"); got != c.logs {
				t.Errorf("%v: logged %q", c.kind, logged.String())
			}
			if c.status == 503 && method != "HEAD" && w.Header().Get("Retry-After") == "" {
				t.Errorf("%v: no Retry-After", c.kind)
			}
		}
	}
}

func TestEvents(t *testing.T) {
	f := newFixture(t)
	f.ok("PUT", "/bucket", "")
	f.ok("PUT", "/bucket/a/b", "hello")
	f.ok("GET", "/bucket/a/b", "")
	f.do("GET", "/bucket/none", "")
	f.do("GET", "/bucket?frobnicate", "")
	var got strings.Builder
	for _, e := range f.events {
		fmt.Fprintf(&got, "%s %s/%s %s %d %s %d\n", e.Operation, e.Bucket, e.Key, e.Account, e.Status, e.Code, e.BytesOut)
		if len(e.RequestID) != 16 || (e.Err == nil) != (e.Code == "") {
			t.Errorf("%+v", e)
		}
	}
	bodies := f.events[3].BytesOut
	want := fmt.Sprintf("CreateBucket bucket/ main 200  0\nPutObject bucket/a/b main 200  0\nGetObject bucket/a/b main 200  5\nGetObject bucket/none main 404 NoSuchKey %d\n bucket/ main 501 NotImplemented %d\n", bodies, f.events[4].BytesOut)
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", &got, want)
	}
}

func TestIdentities(t *testing.T) {
	f := newFixture(t)
	f.signer = sigv4.NewSigner(sigv4.Credentials{AccessKey: "AKOFF", SecretKey: "secret-off"}, "us-east-1")
	if w := f.do("GET", "/", ""); w.Code != 403 || !strings.Contains(w.Body.String(), "disabled") {
		t.Errorf("a disabled key: %d %s", w.Code, w.Body)
	}
	f = newFixture(t, func(c *s3api.Config) { c.Identities = failing{} })
	if w := f.do("GET", "/", ""); w.Code != 503 {
		t.Errorf("identities cannot be read: %d %s", w.Code, w.Body)
	}
	f = newFixture(t, func(c *s3api.Config) { c.Region = "eu-west-1" })
	if w := f.do("GET", "/", ""); w.Code != 400 || !strings.Contains(w.Body.String(), "<Region>eu-west-1</Region>") {
		t.Errorf("another region: %d %s", w.Code, w.Body)
	}
	f.signer = sigv4.NewSigner(sigv4.Credentials{AccessKey: "AKMAIN", SecretKey: "secret-of-main"}, "eu-west-1")
	f.ok("PUT", "/bucket", "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>")
	if w := f.ok("GET", "/bucket?location", ""); !strings.Contains(w.Body.String(), ">eu-west-1<") {
		t.Errorf("location %s", w.Body)
	}
	if w := f.do("PUT", "/bucket2", "<CreateBucketConfiguration><LocationConstraint>us-west-2</LocationConstraint></CreateBucketConfiguration>"); w.Code != 400 {
		t.Errorf("another location: %d %s", w.Code, w.Body)
	}
}

type failing struct{}

func (failing) Lookup(context.Context, string) (auth.Identity, error) {
	return auth.Identity{}, errs.New("test", errs.Unavailable, "no quorum")
}

// Swift's containers may have names that S3 does not allow: what is there can be
// reached.
func TestForeignContainerNames(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	if _, _, err := f.store.CreateContainer(ctx, &catalog.Container{Account: "main", Name: "Über_Container"}); err != nil {
		t.Fatal(err)
	}
	f.ok("PUT", "/%C3%9Cber_Container/k", "x")
	if w := f.ok("GET", "/%C3%9Cber_Container/k", ""); w.Body.String() != "x" {
		t.Errorf("%q", w.Body)
	}
	if w := f.do("PUT", "/%C3%9Cber_2", ""); w.Code != 400 {
		t.Errorf("creating another: %d", w.Code)
	}
	if w := f.do("GET", "/"+strings.Repeat("c", 257)+"/k", ""); !strings.Contains(w.Body.String(), "InvalidBucketName") {
		t.Errorf("a long name: %d %s", w.Code, w.Body)
	}
}

// brokenStore fails after some of a body, for a key "half", or before any of it.
type brokenStore struct{ *s3test.Store }

func (s brokenStore) Open(ctx context.Context, c *catalog.Container, name string) (*catalog.Object, s3api.Handle, error) {
	o, h, err := s.Store.Open(ctx, c, name)
	return o, brokenHandle{h, name}, err
}

type brokenHandle struct {
	s3api.Handle
	name string
}

func (h brokenHandle) Range(_ context.Context, _, n int64) (io.ReadCloser, error) {
	fails := iotest.ErrReader(errs.New("test", errs.Unavailable, "too few fragments"))
	if h.name == "half" {
		return io.NopCloser(io.MultiReader(strings.NewReader(strings.Repeat("x", int(n)/2)), fails)), nil
	}
	return io.NopCloser(fails), nil
}

// TestBrokenBody: a body that fails half-way is cut short so that the client
// notices, and is not followed by an error that it would take for the body.
func TestBrokenBody(t *testing.T) {
	store := s3test.NewStore()
	srv := httptest.NewServer(newHandler(brokenStore{store}))
	defer srv.Close()
	f := newFixture(t)
	f.now = time.Now()
	send := func(method, path, body string) *http.Response {
		r := f.request(method, path, body)
		r.URL.Host, r.RequestURI = strings.TrimPrefix(srv.URL, "http://"), ""
		if body == "" {
			r.Body = http.NoBody
		}
		res, err := srv.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	send("PUT", "/bucket", "").Body.Close()
	send("PUT", "/bucket/half", strings.Repeat("y", 100_000)).Body.Close()
	send("PUT", "/bucket/none", strings.Repeat("y", 100_000)).Body.Close()
	res := send("GET", "/bucket/none", "")
	if res.StatusCode != 503 || res.Header.Get("Etag") != "" {
		t.Errorf("failing before the first byte: %s, %v", res.Status, res.Header)
	}
	io.Copy(io.Discard, res.Body)
	res.Body.Close()
	res = send("GET", "/bucket/half", "")
	got, err := io.ReadAll(res.Body)
	res.Body.Close()
	if !errors.Is(err, io.ErrUnexpectedEOF) || len(got) > 50_000 || bytes.Contains(got, []byte("Error")) {
		t.Errorf("%s, %d bytes, %v: %.300s", res.Status, len(got), err, got)
	}
}

// TestMetadataNames: the names of user metadata are sent in lower case, as S3 does.
// Clients that show them as they came must not show others than were put.
func TestMetadataNames(t *testing.T) {
	store := s3test.NewStore()
	srv := httptest.NewServer(newHandler(store))
	defer srv.Close()
	f := newFixture(t)
	f.now = time.Now()
	f.h = newHandler(store, withClock(f.now))
	f.ok("PUT", "/bucket", "")
	f.ok("PUT", "/bucket/k", "x", "x-amz-meta-Colour", "blue", "X-Amz-Meta-two-words_a", "b")
	for _, method := range []string{"HEAD", "GET"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(srv.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "%s /bucket/k HTTP/1.1\r\nHost: s3.local\r\nConnection: close\r\n", method)
		f.request(method, "/bucket/k", "").Header.Write(conn)
		fmt.Fprint(conn, "\r\n")
		raw, err := io.ReadAll(conn)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{"x-amz-meta-colour: blue", "x-amz-meta-two-words_a: b"} {
			if !bytes.Contains(raw, []byte("\r\n"+line+"\r\n")) {
				t.Errorf("%s: no %q in %q", method, line, raw)
			}
		}
	}
}

// userMeta is a header of an answer under the very name that goes out.
func userMeta(w *httptest.ResponseRecorder, name string) string {
	return strings.Join(w.Header()["x-amz-meta-"+name], ",")
}

// TestSlowClient: one who stops sending is answered and let go.
func TestSlowClient(t *testing.T) {
	events := make(chan *s3api.Event, 4)
	srv := httptest.NewServer(newHandler(s3test.NewStore(), func(c *s3api.Config) {
		c.IdleTimeout = 50 * time.Millisecond
		c.Observe = func(e *s3api.Event) { events <- e }
	}))
	defer srv.Close()
	f := newFixture(t)
	f.now = time.Now()
	conn, err := net.Dial("tcp", strings.TrimPrefix(srv.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	send := func(method, path, body string, length int) *http.Response {
		r := f.request(method, path, body)
		fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: s3.local\r\nContent-Length: %d\r\n", method, path, length)
		r.Header.Write(conn)
		fmt.Fprintf(conn, "\r\n%s", body)
		res, err := http.ReadResponse(bufio.NewReader(conn), r)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	if res := send("PUT", "/bucket", "", 0); res.StatusCode != 200 {
		t.Fatal(res.Status)
	}
	<-events
	res := send("PUT", "/bucket/k", "some, but not all", 1000)
	body, _ := io.ReadAll(res.Body)
	if res.StatusCode != 400 || !bytes.Contains(body, []byte("RequestTimeout")) {
		t.Errorf("%s %s", res.Status, body)
	}
	if e := <-events; e.Code != "RequestTimeout" {
		t.Errorf("%+v", e)
	}
}

// TestStuckReader: one who stops taking bytes does not keep the handler.
func TestStuckReader(t *testing.T) {
	store := s3test.NewStore()
	events := make(chan *s3api.Event, 4)
	srv := httptest.NewServer(newHandler(store, func(c *s3api.Config) {
		c.IdleTimeout = 50 * time.Millisecond
		c.Observe = func(e *s3api.Event) { events <- e }
	}))
	defer srv.Close()
	f := newFixture(t)
	f.now = time.Now()
	f.h = newHandler(store, withClock(f.now))
	f.ok("PUT", "/bucket", "")
	f.ok("PUT", "/bucket/k", strings.Repeat("x", 32<<20)) // more than sockets buffer
	conn, err := net.Dial("tcp", strings.TrimPrefix(srv.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := f.request("GET", "/bucket/k", "")
	fmt.Fprint(conn, "GET /bucket/k HTTP/1.1\r\nHost: s3.local\r\n")
	r.Header.Write(conn)
	fmt.Fprint(conn, "\r\n")
	e := <-events // and nothing was read
	if e.Err == nil || e.BytesOut >= 32<<20 || e.Status != 200 {
		t.Errorf("%+v", e)
	}
}

// A deadline of one answer must not reach into the next on the connection.
func TestDeadlinesDoNotLinger(t *testing.T) {
	store := s3test.NewStore()
	gate := make(chan struct{})
	srv := httptest.NewServer(newHandler(store, func(c *s3api.Config) { c.IdleTimeout = 30 * time.Millisecond }))
	defer srv.Close()
	f := newFixture(t)
	f.now = time.Now()
	f.h = newHandler(store, withClock(f.now))
	f.ok("PUT", "/bucket", "")
	store.Fail = func(op string) error {
		if op == "List" {
			<-gate
		}
		return nil
	}
	client := srv.Client()
	client.Transport.(*http.Transport).MaxConnsPerHost = 1
	send := func(method, path, body string) int {
		r := f.request(method, path, body)
		r.URL.Host, r.RequestURI = strings.TrimPrefix(srv.URL, "http://"), ""
		if body == "" {
			r.Body = http.NoBody
		}
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		io.Copy(io.Discard, res.Body)
		return res.StatusCode
	}
	if got := send("PUT", "/bucket/k", "body"); got != 200 {
		t.Error(got)
	}
	timer := time.AfterFunc(100*time.Millisecond, func() { close(gate) }) // well after both deadlines
	defer timer.Stop()
	if got := send("GET", "/bucket", ""); got != 200 {
		t.Errorf("a slow listing: %d", got)
	}
}

// TestRouting: what no operation is made for is refused, whatever the method.
func TestRouting(t *testing.T) {
	f := newFixture(t)
	f.ok("PUT", "/bucket", "")
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"POST", "/", 405}, {"HEAD", "/", 405}, {"PATCH", "/bucket", 405}, {"TRACE", "/bucket/k", 405},
		{"POST", "/bucket/k", 501}, {"GET", "/bucket?acl&tagging", 400}, {"GET", "/bucket?x-id=ListObjects", 200},
		{"GET", "/bucket?acl&acl", 200}, {"GET", "//k", 400}, {"GET", "/bucket//", 404}, {"GET", "/bucket/?list-type=2", 200},
		{"PUT", "/bucket?list-type=2", 409}, {"DELETE", "/bucket?uploads", 501}, {"GET", "/bucket/k?versionId=x", 400},
	} {
		if w := f.do(c.method, c.path, ""); w.Code != c.status {
			t.Errorf("%s %s: %d, want %d: %s", c.method, c.path, w.Code, c.status, w.Body)
		}
	}
}

// withClock makes the handler's clock stand still.
func withClock(now time.Time) func(*s3api.Config) {
	return func(c *s3api.Config) { c.Now = func() time.Time { return now } }
}

// TestLarge: what Swift keeps in segments reads as a whole, or not at all.
func TestLarge(t *testing.T) {
	const whole = "the bytes of all segments"
	f := newFixture(t)
	f.ok("PUT", "/bucket", "")
	f.ok("PUT", "/bucket/large", `[{"a manifest"}]`, "x-amz-meta-color", "red")
	c, err := f.store.Resolve(t.Context(), "main", "bucket")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.store.Modify(t.Context(), c, "large", func(o *catalog.Object) error {
		o.Meta = o.Meta.With("slo", "1").With("row-slo-etag", "abc").With("row-slo-size", fmt.Sprint(len(whole)))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"GET", "HEAD"} {
		if w := f.do(method, "/bucket/large", ""); w.Code != 501 {
			t.Errorf("%s without a way to read it: %d %s", method, w.Code, w.Body)
		}
	}
	f.h = newHandler(f.store, withClock(f.now), func(cfg *s3api.Config) {
		cfg.Large = func(_ context.Context, _ *catalog.Container, o *catalog.Object, h s3api.Handle) (*catalog.Object, s3api.Handle, error) {
			out := *o
			out.Size, out.ETag = int64(len(whole)), "abc"
			if h == nil {
				return &out, nil, nil
			}
			return &out, wholeHandle{h, whole}, nil
		}
	})
	if w := f.ok("GET", "/bucket/large", ""); w.Body.String() != whole || w.Header().Get("Etag") != `"abc-N"` {
		t.Errorf("GET: %v %s", w.Header(), w.Body)
	}
	if w := f.ok("GET", "/bucket/large", "", "Range", "bytes=4-8"); w.Body.String() != "bytes" {
		t.Errorf("a range: %s", w.Body)
	}
	if w := f.ok("HEAD", "/bucket/large", "", "x-amz-checksum-mode", "ENABLED"); w.Header().Get("Content-Length") != fmt.Sprint(len(whole)) || w.Header().Get("X-Amz-Checksum-Crc64nvme") != "" {
		t.Errorf("HEAD: %v", w.Header())
	}
	if w := f.ok("GET", "/bucket?list-type=2", ""); !strings.Contains(w.Body.String(), fmt.Sprintf("<Size>%d</Size>", len(whole))) || !strings.Contains(w.Body.String(), "abc-N") {
		t.Errorf("listed: %s", w.Body)
	}
	f.ok("PUT", "/bucket/copy", "", "x-amz-copy-source", "bucket/large")
	if w := f.ok("GET", "/bucket/copy", ""); w.Body.String() != whole || userMeta(w, "color") != "red" || strings.Contains(w.Header().Get("Etag"), "-N") {
		t.Errorf("the copy: %v %s", w.Header(), w.Body)
	}
	f.ok("PUT", "/bucket/large", "", "x-amz-copy-source", "bucket/large", "x-amz-metadata-directive", "REPLACE")
	if w := f.ok("GET", "/bucket/large", ""); w.Body.String() != whole || userMeta(w, "color") != "" {
		t.Errorf("copied to itself: %v %s", w.Header(), w.Body)
	}
}

// TestLargeBroken: a segment that is missing is a conflict, found when the object is
// opened or read; it does not look as if the object itself, or its bucket, were not
// there.
func TestLargeBroken(t *testing.T) {
	f := newFixture(t)
	f.ok("PUT", "/bucket", "")
	f.ok("PUT", "/bucket/large", `[{"a manifest"}]`)
	c, err := f.store.Resolve(t.Context(), "main", "bucket")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.store.Modify(t.Context(), c, "large", func(o *catalog.Object) error {
		o.Meta = o.Meta.With("x-object-manifest", "segments/x")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		kind   errs.Kind
		status int
		code   string
	}{
		{errs.Conflict, 409, "OperationAborted"}, {errs.NotFound, 409, "OperationAborted"}, {errs.NoBucket, 409, "OperationAborted"},
		{errs.Unavailable, 503, "ServiceUnavailable"},
	} {
		fails := errs.New("test", test.kind, "of a segment")
		for name, large := range map[string]s3api.Large{
			"opening": func(context.Context, *catalog.Container, *catalog.Object, s3api.Handle) (*catalog.Object, s3api.Handle, error) {
				return nil, nil, fails
			},
			"reading": func(_ context.Context, _ *catalog.Container, o *catalog.Object, h s3api.Handle) (*catalog.Object, s3api.Handle, error) {
				return o, failingHandle{h, fails}, nil
			},
		} {
			f.h = newHandler(f.store, withClock(f.now), func(cfg *s3api.Config) { cfg.Large = large })
			for what, w := range map[string]*httptest.ResponseRecorder{
				"GET":  f.do("GET", "/bucket/large", ""),
				"copy": f.do("PUT", "/bucket/copy", "", "x-amz-copy-source", "bucket/large"),
			} {
				if w.Code != test.status || !strings.Contains(w.Body.String(), "<Code>"+test.code+"</Code>") {
					t.Errorf("%v when %s, %s: %d %s", test.kind, name, what, w.Code, w.Body)
				}
			}
		}
	}
}

type failingHandle struct {
	s3api.Handle
	err error
}

func (h failingHandle) Range(context.Context, int64, int64) (io.ReadCloser, error) { return nil, h.err }

type wholeHandle struct {
	s3api.Handle
	content string
}

func (h wholeHandle) Range(_ context.Context, off, n int64) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(h.content[off : off+n])), nil
}
