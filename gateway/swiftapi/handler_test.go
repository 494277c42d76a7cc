package swiftapi_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ringfort/gateway/auth"
	"ringfort/gateway/ops"
	"ringfort/gateway/swiftapi"
	"ringfort/gateway/swiftapi/swifttest"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
)

// api calls a handler without a network.
type api struct {
	t     testing.TB
	h     http.Handler
	token string
}

func handler(t testing.TB, store swiftapi.Store, change func(*swiftapi.Config)) *api {
	t.Helper()
	cfg := swiftapi.Config{Store: store, Identities: identities(), TokenKey: bytes.Repeat([]byte{7}, 32)}
	if change != nil {
		change(&cfg)
	}
	h, err := swiftapi.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	a := &api{t: t, h: h}
	a.token = a.login("main:AK", "secret")
	return a
}

func (a *api) login(user, key string) string {
	a.t.Helper()
	return a.do("GET", "/auth/v1.0", "", "X-Auth-User: "+user, "X-Auth-Key: "+key).Header().Get("X-Auth-Token")
}

func (a *api) do(method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("X-Auth-Token", a.token)
	r.Header.Set("Content-Length", fmt.Sprint(len(body)))
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	a.h.ServeHTTP(w, r)
	return w
}

func (a *api) is(status int, method, path, body string, header ...string) *httptest.ResponseRecorder {
	a.t.Helper()
	w := a.do(method, path, body, header...)
	if w.Code != status {
		a.t.Fatalf("%s %s: %d, want %d: %s", method, path, w.Code, status, w.Body)
	}
	return w
}

const root = "/v1/AUTH_main"

func TestNew(t *testing.T) {
	good := swiftapi.Config{Store: swifttest.NewStore(), Identities: identities(), TokenKey: make([]byte, 32)}
	for name, change := range map[string]func(*swiftapi.Config){
		"no store":      func(c *swiftapi.Config) { c.Store = nil },
		"no identities": func(c *swiftapi.Config) { c.Identities = nil },
		"a short key":   func(c *swiftapi.Config) { c.TokenKey = make([]byte, 31) },
	} {
		cfg := good
		change(&cfg)
		if _, err := swiftapi.New(cfg); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTokenEnds: a token ends with its time, its key and its secret.
func TestTokenEnds(t *testing.T) {
	now := time.Now()
	ids := identities()
	a := handler(t, swifttest.NewStore(), func(c *swiftapi.Config) {
		c.Identities, c.TokenLife = ids, time.Hour
		c.Now = func() time.Time { return now }
	})
	a.is(204, "GET", root, "")
	a.is(403, "GET", "/v1/AUTH_other", "")
	now = now.Add(59 * time.Minute)
	a.is(204, "GET", root, "")
	now = now.Add(time.Minute)
	w := a.is(401, "GET", root, "")
	if got := w.Header().Get("Www-Authenticate"); got != `Swift realm="AUTH_main"` {
		t.Errorf("WWW-Authenticate %q", got)
	}
	a.token = a.login("main:AK", "secret")
	was := ids["AK"]
	for name, change := range map[string]func(*auth.Identity){
		"another secret":  func(i *auth.Identity) { i.Secret = "new" },
		"switched off":    func(i *auth.Identity) { i.Enabled = false },
		"another account": func(i *auth.Identity) { i.Account = "x" },
	} {
		id := was
		change(&id)
		ids["AK"] = id
		if w := a.do("GET", root, ""); w.Code != 401 {
			t.Errorf("%s: %d", name, w.Code)
		}
		ids["AK"] = was
		a.is(204, "GET", root, "")
	}
	delete(ids, "AK")
	a.is(401, "GET", root, "")
	if a.login("main:OFF", "secret3") != "" {
		t.Error("a key that is switched off logs in")
	}
	if a.login("main:OTHER", "secret2") != "" {
		t.Error("another account's key logs in")
	}
}

// byName finds users by name as well.
type byName struct{ auth.Static }

func (b byName) LookupUser(_ context.Context, account, user string) (auth.Identity, error) {
	for _, id := range b.Static {
		if id.Account == account && id.User == user {
			return id, nil
		}
	}
	return auth.Identity{}, auth.Unknown(user)
}

type brokenUsers struct{}

func (brokenUsers) Lookup(context.Context, string) (auth.Identity, error) {
	return auth.Identity{}, errs.New("test", errs.Unavailable, "no quorum")
}

func TestLogin(t *testing.T) {
	a := handler(t, swifttest.NewStore(), func(c *swiftapi.Config) { c.Identities = byName{identities()} })
	if a.login("main:joe", "secret") == "" || a.login("main:AK", "secret") == "" {
		t.Error("no login by name")
	}
	if a.login("main:eve", "secret2") != "" || a.login("main:joe", "x") != "" {
		t.Error("a wrong login")
	}
	for _, c := range []struct {
		path, want string
		status     int
		header     []string
	}{
		{"/auth/v1.0", "http://example.com/v1/AUTH_main", 200, nil},
		{"/auth/v1.0/", "http://example.com/v1/AUTH_main", 200, nil},
		{"/auth/v1", "http://example.com/v1/AUTH_main", 200, nil},
		{"/auth/v1.0", "https://example.com/v1/AUTH_main", 200, []string{"X-Forwarded-Proto: https"}},
		{"/auth/v1.0", "http://example.com/v1/AUTH_main", 200, []string{"X-Forwarded-Proto: javascript"}},
		{"/auth/v2.0", "", 400, nil}, {"/auth/", "", 400, nil}, {"/auth/v1//auth", "", 400, nil},
	} {
		w := a.is(c.status, "GET", c.path, "", append(c.header, "X-Auth-User: main:AK", "X-Auth-Key: secret")...)
		if got := w.Header().Get("X-Storage-Url"); got != c.want {
			t.Errorf("%s: storage URL %q, want %q", c.path, got, c.want)
		}
	}
	a.is(405, "POST", "/auth/v1.0", "")
	r := httptest.NewRequest("GET", "/auth/v1.0", nil)
	r.Header.Set("X-Auth-User", "main:AK")
	r.Header.Set("X-Auth-Key", "secret")
	r.TLS = &tls.ConnectionState{}
	w := httptest.NewRecorder()
	a.h.ServeHTTP(w, r)
	if got := w.Header().Get("X-Storage-Url"); got != "https://example.com/v1/AUTH_main" {
		t.Errorf("storage URL over TLS %q", got)
	}
	b := handler(t, swifttest.NewStore(), func(c *swiftapi.Config) { c.StorageURL = "https://front:1/" })
	if got := b.do("GET", "/auth/v1.0", "", "X-Auth-User: main:AK", "X-Auth-Key: secret").Header().Get("X-Storage-Url"); got != "https://front:1/v1/AUTH_main" {
		t.Errorf("storage URL %q", got)
	}
	down := handler(t, swifttest.NewStore(), func(c *swiftapi.Config) { c.Identities = brokenUsers{} })
	down.is(503, "GET", "/auth/v1.0", "", "X-Auth-User: main:AK", "X-Auth-Key: secret")
	down.token = a.token
	down.is(503, "GET", root, "")
}

// TestAddresses is what cannot be asked on a port that serves S3 as well, where
// these paths are buckets.
func TestAddresses(t *testing.T) {
	a := handler(t, swifttest.NewStore(), nil)
	for path, want := range map[string]int{
		"/": 412, "/v1": 412, "/v1/": 412, "/v2": 412, "/v3/AUTH_main": 400, "/x/AUTH_main/c/o": 400, "/v1/AUTH_main//o": 412,
		"/v1/main": 403, "/v1.0/AUTH_main": 204, "//v1/AUTH_main": 400,
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.Path = path
		r.Header.Set("X-Auth-Token", a.token)
		w := httptest.NewRecorder()
		a.h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
}

// TestKinds: every kind of failure has its status, at every kind of request.
func TestKinds(t *testing.T) {
	want := map[errs.Kind]int{
		errs.Other: 500, errs.Invalid: 400, errs.NotFound: 404, errs.NoBucket: 404, errs.Exists: 409, errs.NotEmpty: 409,
		errs.Conflict: 409, errs.Precondition: 412, errs.NotModified: 304, errs.Unavailable: 503, errs.OutcomeUnknown: 503,
		errs.Corrupt: 500, errs.Full: 507, errs.Denied: 403, errs.Unauthenticated: 401, errs.NotImplemented: 501,
		errs.TooLarge: 413, errs.BadDigest: 422, errs.Incomplete: 499, errs.Canceled: 503, errs.Moved: 503, errs.NoUpload: 404,
		errs.BadRange: 416, errs.Busy: 503, errs.Swept: 503, errs.Gone: 410,
	}
	store := swifttest.NewStore()
	a := handler(t, store, nil)
	a.is(201, "PUT", root+"/c", "")
	a.is(201, "PUT", root+"/c/o", "x")
	for kind := errs.Other; kind <= errs.Gone; kind++ {
		store.Fail = func(string) error { return errs.New("test", kind, "as asked") }
		for _, r := range []string{"GET ", "HEAD ", "POST ", "GET /c", "HEAD /c", "PUT /c", "POST /c", "DELETE /c", "GET /c/o", "HEAD /c/o", "PUT /c/o", "POST /c/o", "DELETE /c/o"} {
			method, path, _ := strings.Cut(r, " ")
			w := a.do(method, root+path, "", "X-Container-Meta-A: b")
			if w.Code != want[kind] {
				t.Errorf("%s, %v: %d, want %d", r, kind, w.Code, want[kind])
			}
		}
	}
	store.Fail = func(string) error { return errors.New("no kind at all") }
	a.is(500, "GET", root+"/c/o", "")
}

// TestObserve: each request is told of once.
func TestObserve(t *testing.T) {
	var events []*swiftapi.Event
	a := handler(t, swifttest.NewStore(), func(c *swiftapi.Config) { c.Observe = func(e *swiftapi.Event) { events = append(events, e) } })
	events = nil
	a.is(201, "PUT", root+"/c", "")
	a.is(201, "PUT", root+"/c/o", "hello")
	w := a.is(200, "GET", root+"/c/o", "", "X-Trans-Id-Extra: from/me")
	a.is(404, "GET", root+"/c/none", "")
	if len(events) != 4 {
		t.Fatalf("%d events", len(events))
	}
	e := events[2]
	if e.Operation != "GET object" || e.Account != "main" || e.Container != "c" || e.Object != "o" || e.Status != 200 || e.BytesOut != 5 || e.Err != nil || e.RequestID != w.Header().Get("X-Trans-Id") {
		t.Errorf("%+v", e)
	}
	if !strings.HasSuffix(e.RequestID, "-from%2Fme") || len(e.RequestID) != 2+21+1+10+len("-from%2Fme") {
		t.Errorf("transaction id %q", e.RequestID)
	}
	if e := events[3]; e.Status != 404 || !errs.Is(e.Err, errs.NotFound) {
		t.Errorf("%+v", e)
	}
}

// TestShared: objects have their metadata under the names that S3 uses.
func TestShared(t *testing.T) {
	store := swifttest.NewStore()
	a := handler(t, store, nil)
	a.is(201, "PUT", root+"/c", "", "X-Container-Meta-Book: b", "X-Storage-Policy: silver")
	a.is(201, "PUT", root+"/c/o", "x", "X-Object-Meta-My-Name: v", "Content-Type: a/b", "Cache-Control: no", "Content-Encoding: gzip")
	ctx := context.Background()
	c, err := store.Container(ctx, "main", "c")
	if err != nil || c.Meta.Get("x-container-meta-book") != "b" || c.Policy != "silver" || c.Global {
		t.Errorf("%+v, %v", c, err)
	}
	o, err := store.Head(ctx, c, "o")
	if err != nil || o.Meta.Get("meta-my-name") != "v" || o.Meta.Get("cache-control") != "no" || o.Meta.Get("content-encoding") != "gzip" || o.ContentType != "a/b" {
		t.Errorf("%+v, %v", o, err)
	}
	// What S3 keeps there survives a POST and a copy onto itself; tags survive a copy.
	if _, err := store.Modify(ctx, c, "o", func(o *catalog.Object) error {
		o.Meta = o.Meta.With("s3-tagging", "a=b").With("checksum-crc32", "AAAA").With("meta-from-s3", "1")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	a.is(201, "COPY", root+"/c/o", "", "Destination: c/copy")
	a.is(201, "COPY", root+"/c/o", "", "Destination: c/o")
	w := a.is(200, "GET", root+"/c/o", "")
	if w.Header().Get("X-Object-Meta-From-S3") != "1" || w.Header().Get("S3-Tagging") != "" {
		t.Errorf("headers %v", w.Header())
	}
	a.is(202, "POST", root+"/c/o", "")
	for name, want := range map[string]string{"o": "a=b AAAA ", "copy": "a=b  1"} {
		o, err := store.Head(ctx, c, name)
		if err != nil {
			t.Fatal(err)
		}
		if got := o.Meta.Get("s3-tagging") + " " + o.Meta.Get("checksum-crc32") + " " + o.Meta.Get("meta-from-s3"); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestAccountDeleted(t *testing.T) {
	store := swifttest.NewStore()
	a := handler(t, store, nil)
	store.UpdateAccount(context.Background(), "main", func(a *catalog.Account) error { a.Deleted = true; return nil })
	a.is(410, "GET", root, "")
	a.is(410, "POST", root, "", "X-Account-Meta-A: b")
}

// TestLongDLO: a dynamic large object of more segments than a page has no stated
// length, and only ranges within the first page.
func TestLongDLO(t *testing.T) {
	store := swifttest.NewStore()
	s := server(t, store, nil)
	a := &api{t: t, h: s.Config.Handler}
	a.token = a.login("main:AK", "secret")
	a.is(201, "PUT", root+"/c", "")
	ctx := context.Background()
	c, err := store.Container(ctx, "main", "c")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for i := range 10003 {
		name := fmt.Sprintf("seg/%05d", i)
		want.WriteString(name)
		if _, err := store.Put(ctx, &ops.Put{Container: c, Name: name, Body: strings.NewReader(name), Size: int64(len(name))}); err != nil {
			t.Fatal(err)
		}
	}
	a.is(201, "PUT", root+"/c/m", "", "X-Object-Manifest: c/seg/")
	get := func(header ...string) (*http.Response, string, error) {
		r, err := http.NewRequest("GET", s.URL+root+"/c/m", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Auth-Token", a.token)
		for _, h := range header {
			name, value, _ := strings.Cut(h, ": ")
			r.Header.Set(name, value)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return resp, string(b), err
	}
	resp, body, err := get()
	if err != nil || body != want.String() || resp.ContentLength != -1 || resp.Header.Get("Etag") != "d41d8cd98f00b204e9800998ecf8427e" {
		t.Errorf("%d bytes of %d, %v, %v", len(body), want.Len(), err, resp.Header)
	}
	resp, body, _ = get("Range: bytes=9-18")
	if resp.StatusCode != 206 || body != want.String()[9:19] || resp.Header.Get("Content-Range") != "bytes 9-18/*" {
		t.Errorf("range: %d %q, %v", resp.StatusCode, body, resp.Header)
	}
	resp, body, _ = get("Range: bytes=-5")
	if resp.StatusCode != 200 || body != want.String() {
		t.Errorf("range of the end: %d, %d bytes", resp.StatusCode, len(body))
	}
	if w := a.is(200, "HEAD", root+"/c/m", ""); w.Header().Get("Content-Length") != "" {
		t.Error("a length on HEAD")
	}
	a.is(201, "COPY", root+"/c/m", "", "Destination: c/whole")
	if w := a.is(200, "GET", root+"/c/whole", ""); w.Body.String() != want.String() {
		t.Errorf("the copy has %d bytes", w.Body.Len())
	}
	testOpenLarge(t, s.Config.Handler.(*swiftapi.Handler), store, c, want.String())
	// Without a length, only a cut connection tells that the rest is missing.
	store.Fail = func() func(string) error {
		var n atomic.Int64
		return func(op string) error {
			if op == "Open" && n.Add(1) > 500 {
				return errs.New("test", errs.Unavailable, "no quorum")
			}
			return nil
		}
	}()
	if _, body, err := get(); err == nil {
		t.Errorf("an answer that ended early after %d bytes looks whole", len(body))
	}
}

// testOpenLarge reads the dynamic large object "m" of more segments than a page.
func testOpenLarge(t *testing.T, h *swiftapi.Handler, store *swifttest.Store, c *catalog.Container, want string) {
	t.Helper()
	ctx := t.Context()
	o, of, err := store.Open(ctx, c, "m")
	if err != nil {
		t.Fatal(err)
	}
	described, none, err := h.OpenLarge(ctx, c, o, nil)
	if err != nil || none != nil || described.Size != int64(len(want)) || described.ETag == o.ETag {
		t.Fatalf("%v, %+v, %v", none, described, err)
	}
	whole, lh, err := h.OpenLarge(ctx, c, o, of)
	if err != nil || whole.Size != described.Size || whole.ETag != described.ETag {
		t.Fatalf("%+v, %v", whole, err)
	}
	defer lh.Close()
	size := len(want)
	// Across the pages' border, in the second page, all, nothing.
	for _, s := range [][2]int{{size - 30, 15}, {size - 9, 9}, {size - 10, 3}, {0, size}, {4, 0}, {size, 0}} {
		r, err := lh.Range(ctx, int64(s[0]), int64(s[1]))
		if err != nil {
			t.Fatal(s, err)
		}
		got, err := io.ReadAll(r)
		if err != nil || string(got) != want[s[0]:s[0]+s[1]] {
			t.Errorf("%v: %d bytes, %v", s, len(got), err)
		}
		r.Close()
	}
}

// TestChangedUnderway: a segment that is changed after the answer began ends it
// early; never are other bytes sent.
func TestChangedUnderway(t *testing.T) {
	store := swifttest.NewStore()
	s := server(t, store, nil)
	a := &api{t: t, h: s.Config.Handler}
	a.token = a.login("main:AK", "secret")
	a.is(201, "PUT", root+"/c", "")
	a.is(201, "PUT", root+"/c/1", "aaa")
	a.is(201, "PUT", root+"/c/2", "bbb")
	a.is(201, "PUT", root+"/c/m?multipart-manifest=put", `[{"path":"c/1"},{"path":"c/2"}]`)
	a.is(201, "PUT", root+"/c/2", "ccc")
	for _, rng := range []string{"", "bytes=0-0,3-5"} {
		r, err := http.NewRequest("GET", s.URL+root+"/c/m", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Auth-Token", a.token)
		if rng != "" {
			r.Header.Set("Range", rng)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil || strings.Contains(string(b), "c") && rng == "" {
			t.Errorf("%q: %q, %v", rng, b, err)
		}
	}
}

// TestBodies: clients that are slow or go away.
func TestBodies(t *testing.T) {
	events := make(chan *swiftapi.Event, 10)
	s := server(t, swifttest.NewStore(), func(c *swiftapi.Config) {
		c.IdleTimeout = 100 * time.Millisecond
		c.Observe = func(e *swiftapi.Event) { events <- e }
	})
	a := &api{t: t, h: s.Config.Handler}
	a.token = a.login("main:AK", "secret")
	a.is(201, "PUT", root+"/c", "")
	for len(events) > 0 {
		<-events
	}
	send := func(text string, shut bool) (status int, line string) {
		t.Helper()
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(conn, "PUT %s/c/o HTTP/1.1\r\nHost: x\r\nX-Auth-Token: %s\r\n%s", root, a.token, text)
		if shut {
			conn.(*net.TCPConn).CloseWrite()
		}
		line, _ = bufio.NewReader(conn).ReadString('\n')
		return (<-events).Status, line
	}
	if status, line := send("Content-Length: 5\r\n\r\nhel", false); status != 408 || !strings.Contains(line, " 408 ") {
		t.Errorf("a slow body: %d, %q", status, line)
	}
	if status, _ := send("Content-Length: 5\r\n\r\nhel", true); status != 499 {
		t.Errorf("a short body: %d", status)
	}
	if status, _ := send("Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n", true); status != 499 {
		t.Errorf("a body in chunks that ends early: %d", status)
	}
	if status, _ := send("Transfer-Encoding: chunked\r\n\r\nzz\r\n", true); status != 499 {
		t.Errorf("junk chunks: %d", status)
	}
	if status, line := send("Content-Length: 5\r\nIf-None-Match: x\r\n\r\nhel", false); status != 400 || !strings.Contains(line, " 400 ") {
		t.Errorf("a slow body that is not wanted: %d, %q", status, line)
	}
	a.is(404, "GET", root+"/c/o", "")
}

// TestManifestCorrupt: a stored manifest that is not one is an error, never data.
func TestManifestCorrupt(t *testing.T) {
	store := swifttest.NewStore()
	a := handler(t, store, nil)
	a.is(201, "PUT", root+"/c", "")
	c, err := store.Container(context.Background(), "main", "c")
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range []struct{ body, size string }{
		{"junk", "5"}, {"[]", "5"}, {"[]", "x"}, {"[]", "-1"}, {`[{"name":"/c/o","hash":"x","bytes":6}]`, "5"},
	} {
		name := fmt.Sprint("m", i)
		_, err := store.Put(context.Background(), &ops.Put{Container: c, Name: name, Body: strings.NewReader(x.body), Size: int64(len(x.body)),
			Meta: catalog.Pairs{{Name: "row-slo-etag", Value: "x"}, {Name: "row-slo-size", Value: x.size}, {Name: "slo", Value: "1"}}})
		if err != nil {
			t.Fatal(err)
		}
		a.is(500, "GET", root+"/c/"+name, "")
	}
}

// TestDeleteFails: a segment that cannot be deleted leaves the manifest.
func TestDeleteFails(t *testing.T) {
	store := swifttest.NewStore()
	a := handler(t, store, nil)
	a.is(201, "PUT", root+"/c", "")
	a.is(201, "PUT", root+"/c/1", "aaa")
	a.is(201, "PUT", root+"/c/m?multipart-manifest=put", `[{"path":"c/1"}]`)
	store.Fail = func(op string) error {
		if op == "Delete" {
			return errs.New("test", errs.Unavailable, "no quorum")
		}
		return nil
	}
	w := a.is(200, "DELETE", root+"/c/m?multipart-manifest=delete", "", "Accept: application/json")
	var report struct {
		Status string `json:"Response Status"`
		Errors [][]string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &report); err != nil || report.Status != "400 Bad Request" || fmt.Sprint(report.Errors) != "[[/c/1 503 Service Unavailable]]" {
		t.Errorf("%v in %s", err, w.Body)
	}
	store.Fail = nil
	a.is(200, "GET", root+"/c/m", "")
}

// TestParallel hammers one name; the race detector watches.
func TestParallel(t *testing.T) {
	a := handler(t, swifttest.NewStore(), nil)
	a.is(201, "PUT", root+"/c", "")
	a.is(201, "PUT", root+"/c/o", "x")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 30 {
				switch i % 4 {
				case 0:
					a.do("PUT", root+"/c/o", "x")
				case 1:
					a.do("POST", root+"/c/o", "", "X-Object-Meta-A: b")
				case 2:
					if w := a.do("GET", root+"/c/o", ""); w.Code != 200 || w.Body.String() != "x" {
						t.Errorf("%d %q", w.Code, w.Body)
					}
				case 3:
					a.do("GET", root+"/c?format=json", "")
				}
			}
		})
	}
	wg.Wait()
}

// FuzzRequest: no request makes the server fail, whatever its path, query and
// headers.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "/c?format=json&delimiter=/", "Accept", "*/*", "")
	f.Add("PUT", "/c/o?multipart-manifest=put", "Etag", "x", `[{"path":"c/o"}]`)
	f.Add("COPY", "/c/o", "Destination", "c/p", "")
	f.Add("GET", "/c/o", "Range", "bytes=0-1,5-", "")
	f.Add("PUT", "/c/o", "X-Object-Manifest", "c/p", "x")
	f.Add("POST", "?bulk-delete", "Accept", "application/xml", "/c/x\nc/%zz\n\nd\n")
	f.Add("DELETE", "/c/o?multipart-manifest=delete", "Accept", "text/xml", "")
	store := swifttest.NewStore()
	a := handler(f, store, nil)
	a.is(201, "PUT", root+"/c", "")
	a.is(201, "PUT", root+"/c/o", "0123456789")
	f.Fuzz(func(t *testing.T, method, path, name, value, body string) {
		r, err := http.NewRequest(method, "http://x"+root+path, strings.NewReader(body))
		if err != nil {
			return
		}
		r.Header.Set("X-Auth-Token", a.token)
		r.Header.Set("Content-Length", fmt.Sprint(len(body)))
		r.Header[http.CanonicalHeaderKey(name)] = []string{value}
		w := httptest.NewRecorder()
		a.h.ServeHTTP(w, r)
		if w.Code >= 500 && w.Code != 501 {
			t.Errorf("%s %q %q: %q: %d %s", method, path, name, value, w.Code, w.Body)
		}
	})
}

func BenchmarkGet(b *testing.B) {
	a := handler(b, swifttest.NewStore(), nil)
	a.is(201, "PUT", root+"/c", "")
	a.is(201, "PUT", root+"/c/o", strings.Repeat("x", 4096), "X-Object-Meta-A: b")
	r := httptest.NewRequest("GET", root+"/c/o", nil)
	r.Header.Set("X-Auth-Token", a.token)
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		a.h.ServeHTTP(w, r)
		if w.Code != 200 {
			b.Fatal(w.Code)
		}
	}
}

// TestParts: what S3 stored in parts looks like a static large object, because its
// ETag is no MD5. The parts are no objects: whatever a client does with the list of
// them, it cannot reach any.
func TestParts(t *testing.T) {
	store := swifttest.NewStore()
	a := handler(t, store, nil)
	a.is(201, "PUT", root+"/c", "")
	c, err := store.Container(t.Context(), "main", "c")
	if err != nil {
		t.Fatal(err)
	}
	o, err := store.PutParts(c, "parts", "aaa", "bb", "") // the last may be empty
	if err != nil {
		t.Fatal(err)
	}
	etag := `"` + o.ETag + `"`
	check := func(w *httptest.ResponseRecorder, body string, header ...string) {
		t.Helper()
		if got := w.Body.String(); got != body {
			t.Errorf("body %q, want %q", got, body)
		}
		for i := 0; i < len(header); i += 2 {
			if got := w.Header().Get(header[i]); got != header[i+1] {
				t.Errorf("%s: %q, want %q", header[i], got, header[i+1])
			}
		}
	}
	large := []string{"Etag", etag, "X-Static-Large-Object", "True", "Content-Type", "a/b"}
	check(a.is(200, "GET", root+"/c/parts", ""), "aaabb", large...)
	check(a.is(200, "HEAD", root+"/c/parts", ""), "", append(large, "Content-Length", "5")...)
	check(a.is(206, "GET", root+"/c/parts", "", "Range: bytes=2-3"), "ab", large...)
	check(a.is(304, "GET", root+"/c/parts", "", "If-None-Match: "+o.ETag), "", "Etag", etag)

	w := a.is(200, "GET", root+"/c/parts?multipart-manifest=get", "")
	var list []struct {
		Name, Hash string
		Bytes      int64
	}
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list) != 2 {
		t.Fatalf("%v in %s", err, w.Body)
	}
	check(w, w.Body.String(), "X-Static-Large-Object", "True", "Content-Type", "application/json; charset=utf-8", "Content-Length", fmt.Sprint(w.Body.Len()))
	for i, body := range []string{"aaa", "bb"} {
		if s := list[i]; s.Hash != fmt.Sprintf("%x", md5.Sum([]byte(body))) || s.Bytes != int64(len(body)) {
			t.Errorf("part %d: %+v", i, s)
		}
		// As the swift client does when it overwrites a large object.
		a.is(404, "DELETE", root+list[i].Name, "")
		a.is(404, "GET", root+list[i].Name, "")
		a.is(400, "PUT", root+list[i].Name, "")
		if w := a.is(200, "POST", root+"?bulk-delete", list[i].Name+"\n", "Accept: application/json"); !strings.Contains(w.Body.String(), `"Number Not Found": 1`) || !strings.Contains(w.Body.String(), `"Errors": []`) {
			t.Errorf("bulk delete: %s", w.Body)
		}
	}
	raw := a.is(200, "GET", root+"/c/parts?multipart-manifest=get&format=raw", "").Body.String()
	if !strings.Contains(raw, `"size_bytes":3`) {
		t.Errorf("raw: %s", raw)
	}
	a.is(400, "PUT", root+"/c/new?multipart-manifest=put", raw)

	// POST and copies, also those that would take the manifest.
	a.is(202, "POST", root+"/c/parts", "", "X-Object-Meta-A: b")
	a.is(201, "COPY", root+"/c/parts", "", "Destination: c/parts", "X-Object-Meta-C: d")
	check(a.is(200, "GET", root+"/c/parts", ""), "aaabb", append(large, "X-Object-Meta-A", "b", "X-Object-Meta-C", "d")...)
	for _, query := range []string{"", "?multipart-manifest=get"} {
		a.is(201, "COPY", root+"/c/parts"+query, "", "Destination: c/copy")
		check(a.is(200, "GET", root+"/c/copy", ""), "aaabb", "X-Static-Large-Object", "", "Etag", fmt.Sprintf("%x", md5.Sum([]byte("aaabb"))))
	}
	// As a segment.
	a.is(201, "PUT", root+"/c/slo?multipart-manifest=put", `[{"path":"c/parts","etag":"`+o.ETag+`","range":"1-3"}]`)
	check(a.is(200, "GET", root+"/c/slo", ""), "aab")
	// A POST can make it a dynamic large object, and then it is that.
	a.is(202, "POST", root+"/c/parts", "", "X-Object-Manifest: c/copy")
	check(a.is(200, "GET", root+"/c/parts", ""), "aaabb", "X-Static-Large-Object", "", "X-Object-Manifest", "c/copy")
	check(a.is(200, "GET", root+"/c/parts?multipart-manifest=get", ""), "aaabb", "X-Static-Large-Object", "", "Content-Type", "a/b")
	a.is(202, "POST", root+"/c/parts", "")

	// Its parts go with it, and nothing else does.
	w = a.is(200, "DELETE", root+"/c/parts?multipart-manifest=delete", "", "Accept: application/json")
	if !strings.Contains(w.Body.String(), `"Number Deleted": 1`) || !strings.Contains(w.Body.String(), `"Response Status": "200 OK"`) {
		t.Errorf("%s", w.Body)
	}
	a.is(404, "HEAD", root+"/c/parts", "")
	check(a.is(200, "GET", root+"/c", ""), "copy\nslo\n")
}
