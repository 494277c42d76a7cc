package s3test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"ringfort/gateway/auth/sigv4"
)

func testBadAuth(e *env) {
	e.withBucket()
	e.put("k", []byte("secret"))
	signer := func(key, secret, region string) *sigv4.Signer {
		return sigv4.NewSigner(sigv4.Credentials{AccessKey: key, SecretKey: secret}, region)
	}
	get := func(change func(*call)) call {
		c := call{method: "GET", path: e.object("k")}
		change(&c)
		return c
	}
	e.wantAnswer("nobody", get(func(c *call) { c.plain = true }), 403, "AccessDenied")
	e.wantAnswer("a wrong secret", get(func(c *call) { c.signer = signer(e.AccessKey, e.SecretKey+"x", e.Region) }), 403, "SignatureDoesNotMatch")
	e.wantAnswer("an unknown key", get(func(c *call) { c.signer = signer("NOSUCHKEY", e.SecretKey, e.Region) }), 403, "InvalidAccessKeyId")
	e.wantAnswer("a slow clock", get(func(c *call) { c.at = time.Now().Add(-20 * time.Minute) }), 403, "RequestTimeTooSkewed")
	e.wantAnswer("a fast clock", get(func(c *call) { c.at = time.Now().Add(20 * time.Minute) }), 403, "RequestTimeTooSkewed")
	e.wantAnswer("a bit off", get(func(c *call) { c.at = time.Now().Add(-10 * time.Minute) }), 200, "")
	e.wantAnswer("another path", get(func(c *call) {
		c.mangle = func(r *http.Request) { r.URL.Path += "2" }
	}), 403, "SignatureDoesNotMatch")
	e.wantAnswer("another parameter", get(func(c *call) {
		c.mangle = func(r *http.Request) { r.URL.RawQuery = "acl" }
	}), 403, "SignatureDoesNotMatch")
	e.wantAnswer("an unsigned x-amz header", get(func(c *call) {
		c.mangle = func(r *http.Request) { r.Header.Set("X-Amz-Copy-Source", "/a/b") }
	}), 403, "AccessDenied")
	e.wantAnswer("a malformed header", get(func(c *call) {
		c.mangle = func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 nonsense") }
	}), 400, "AuthorizationHeaderMalformed")
	e.wantAnswer("an unknown scheme", get(func(c *call) {
		c.mangle = func(r *http.Request) { r.Header.Set("Authorization", "Bearer token") }
	}), 403, "AccessDenied")
	e.wantAnswer("a session token", get(func(c *call) {
		c.signer = sigv4.NewSigner(sigv4.Credentials{AccessKey: e.AccessKey, SecretKey: e.SecretKey, SessionToken: "t"}, e.Region)
	}), 400, "InvalidToken")
	h := e.do(call{method: "HEAD", path: e.object("k"), plain: true})
	equal(e, "HEAD by nobody", h.status, 403)
	e.wantAnswer("PUT by nobody", call{method: "PUT", path: e.object("k"), body: []byte("x"), plain: true}, 403, "AccessDenied")
	e.wantBody("k", []byte("secret"))
}

func testBadBodies(e *env) {
	b := e.withBucket()
	e.wantTooLarge(call{method: "PUT", path: e.object("k"), payload: "UNSIGNED-PAYLOAD"})
	e.wantAnswer("no length", call{method: "PUT", path: e.object("k"), payload: "UNSIGNED-PAYLOAD", mangle: func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader("hello")), -1
	}}, 411, "MissingContentLength")
	e.wantAnswer("chunks without their length", call{method: "PUT", path: e.object("k"), payload: sigv4.Streaming, body: []byte("0;chunk-signature=")}, 411, "MissingContentLength")
	e.wantGone("k")
	// A body that ends early leaves nothing behind.
	req := e.request(call{method: "PUT", path: e.object("k"), payload: "UNSIGNED-PAYLOAD", body: []byte("only this")})
	e.cutShort(req, "only this", 1000)
	e.wantGone("k")
	long := "<Delete>" + strings.Repeat(" ", 9<<20) + "</Delete>"
	e.wantAnswer("a list that is too long", call{method: "POST", path: "/" + b + "?delete", body: []byte(long)}, 400, "MaxMessageLengthExceeded")
	e.wantAnswer("a setting that is too long", call{method: "PUT", path: "/" + b + "?tagging", body: []byte(long)}, 400, "MaxMessageLengthExceeded")
}

// cutShort sends a request by hand that promises more than it sends.
func (e *env) cutShort(req *http.Request, body string, promised int) {
	e.t.Helper()
	conn := e.dial()
	defer conn.Close()
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", req.Method, req.URL.RequestURI(), req.URL.Host, promised)
	req.Header.Write(conn)
	fmt.Fprintf(conn, "\r\n%s", body)
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		e.must("closing", c.CloseWrite())
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return // the server may hang up on such a client
	}
	defer res.Body.Close()
	if res.StatusCode < 400 {
		e.t.Errorf("a body cut short: %d", res.StatusCode)
	}
}

func (e *env) dial() net.Conn {
	e.t.Helper()
	u, err := url.Parse(e.URL)
	e.must("parsing the endpoint", err)
	var conn net.Conn
	if u.Scheme == "https" {
		tr, ok := e.Client.Transport.(*http.Transport)
		if !ok || tr.TLSClientConfig == nil {
			e.t.Skip("no way to dial TLS by hand")
		}
		cfg := tr.TLSClientConfig.Clone()
		cfg.NextProtos, cfg.ServerName = nil, u.Hostname()
		conn, err = tls.Dial("tcp", u.Host, cfg)
	} else {
		conn, err = net.Dial("tcp", u.Host)
	}
	e.must("dialling", err)
	e.must("setting a deadline", conn.SetDeadline(time.Now().Add(20*time.Second)))
	return conn
}

// exchange sends a request whose body, of the length given, it holds back until it
// is asked for it.
func (e *env) exchange(c call, length int) (continued bool, status int, body string) {
	e.t.Helper()
	req := e.request(c)
	conn := e.dial()
	defer conn.Close()
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n", req.Method, req.URL.RequestURI(), req.URL.Host, length)
	e.must("sending the head", req.Header.Write(conn))
	_, err := io.WriteString(conn, "\r\n")
	e.must("sending the head", err)
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, req)
	e.must("reading the answer", err)
	if continued = res.StatusCode == http.StatusContinue; continued {
		_, err := conn.Write(c.body)
		e.must("sending the body", err)
		res, err = http.ReadResponse(r, req)
		e.must("reading the second answer", err)
	}
	b, _ := io.ReadAll(res.Body)
	return continued, res.StatusCode, string(b)
}

// wantTooLarge announces a body that is larger than one piece may be.
func (e *env) wantTooLarge(c call) {
	e.t.Helper()
	continued, status, body := e.exchange(c, 5<<30+1)
	if continued || status != 400 || !strings.Contains(body, "EntityTooLarge") {
		e.t.Errorf("5 GiB and a byte: continued %v, %d %s", continued, status, body)
	}
}

// testContinue: a client that waits for leave to send is refused before it sends.
func testContinue(e *env) {
	e.withBucket()
	put := call{method: "PUT", path: e.object("k"), body: []byte("hello")}
	if continued, status, _ := e.exchange(put, len(put.body)); !continued || status != 200 {
		e.t.Errorf("PUT: continued %v, %d", continued, status)
	}
	e.wantBody("k", []byte("hello"))
	wrong := put
	wrong.signer = sigv4.NewSigner(sigv4.Credentials{AccessKey: e.AccessKey, SecretKey: "wrong"}, e.Region)
	if continued, status, _ := e.exchange(wrong, len(put.body)); continued || status != 403 {
		e.t.Errorf("PUT with a wrong signature: continued %v, %d", continued, status)
	}
	nowhere := put
	nowhere.path = "/" + newName() + "/k"
	if continued, status, _ := e.exchange(nowhere, len(put.body)); continued || status != 404 {
		e.t.Errorf("PUT into no bucket: continued %v, %d", continued, status)
	}
}

func testBadXML(e *env) {
	b := e.withBucket()
	for _, body := range []string{"", "hello", "<", "<Tagging>", "<Tagging><TagSet>", "<Other/>", "<Tagging/>", "<Tagging></Tagging><Tagging/>", "<?xml version=\"1.0\" encoding=\"latin1\"?><Tagging/>",
		"<Tagging><TagSet><Tag><Key>a</Key><Value>&unknown;</Value></Tag></TagSet></Tagging>", strings.Repeat("<a>", 20000)} {
		e.wantAnswer(fmt.Sprintf("PUT ?tagging %.40q", body), call{method: "PUT", path: "/" + b + "?tagging", body: []byte(body)}, 400, "MalformedXML")
	}
	name := newName()
	e.wantAnswer("CreateBucket", call{method: "PUT", path: "/" + name, body: []byte("hello")}, 400, "MalformedXML")
	e.wantAnswer("it was not created", call{method: "GET", path: "/" + name}, 404, "NoSuchBucket")
	// Entities of one's own are not expanded.
	bomb := `<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><Tagging><TagSet><Tag><Key>&b;</Key><Value></Value></Tag></TagSet></Tagging>`
	e.wantAnswer("entities", call{method: "PUT", path: "/" + b + "?tagging", body: []byte(bomb)}, 400, "MalformedXML")
}

func testBadHeaders(e *env) {
	e.withBucket()
	with := func(name, value string) call {
		return call{method: "PUT", path: e.object("k"), body: []byte("x"), header: map[string]string{name: value}}
	}
	for _, c := range []struct {
		name, value string
		status      int
		code        string
	}{
		{"x-amz-acl", "private", 200, ""}, {"x-amz-acl", "bucket-owner-full-control", 200, ""},
		{"x-amz-acl", "public-read", 501, "NotImplemented"}, {"x-amz-acl", "nonsense", 400, "InvalidArgument"},
		{"x-amz-storage-class", "STANDARD", 200, ""}, {"x-amz-storage-class", "GLACIER", 501, "NotImplemented"},
		{"x-amz-storage-class", "NONSENSE", 400, "InvalidStorageClass"},
		{"x-amz-server-side-encryption", "AES256", 501, "NotImplemented"},
		{"x-amz-server-side-encryption-customer-algorithm", "AES256", 501, "NotImplemented"},
		{"x-amz-website-redirect-location", "/x", 501, "NotImplemented"},
		{"x-amz-object-lock-mode", "COMPLIANCE", 501, "NotImplemented"},
		{"x-amz-grant-read", "id=1", 501, "NotImplemented"}, {"x-amz-write-offset-bytes", "5", 501, "NotImplemented"},
		{"x-amz-no-such-thing", "1", 501, "NotImplemented"}, {"x-amz-request-payer", "requester", 200, ""},
		{"x-amz-meta-fine", "1", 200, ""}, {"x-amz-sdk-checksum-algorithm", "MD2", 400, "InvalidRequest"},
		{"x-amz-checksum-xxhash64", "AAAAAAAAAAA=", 501, "NotImplemented"},
	} {
		e.wantAnswer(c.name+": "+c.value, with(c.name, c.value), c.status, c.code)
	}
	e.wantAnswer("much metadata", with("x-amz-meta-a", strings.Repeat("v", 3000)), 400, "MetadataTooLarge")
	e.wantAnswer("headers that are too long", with("Cache-Control", strings.Repeat("v", 20_000)), 400, "RequestHeaderSectionTooLarge")
}

func testNotImplemented(e *env) {
	b := e.withBucket()
	e.put("k", []byte("x"))
	for _, c := range []call{
		{method: "GET", path: e.object("k") + "?torrent"}, {method: "POST", path: e.object("k") + "?restore"},
		{method: "POST", path: e.object("k") + "?select&select-type=2"}, {method: "PUT", path: e.object("k") + "?retention"},
		{method: "PUT", path: e.object("k") + "?legal-hold"}, {method: "PUT", path: e.object("k") + "?renameObject"},
		{method: "POST", path: "/" + b}, {method: "GET", path: "/" + b + "?newfangled"}, {method: "PUT", path: "/" + b + "?replication"},
		{method: "DELETE", path: "/" + b + "?analytics&id=1"}, {method: "POST", path: e.object("k")},
	} {
		e.wantAnswer(c.method+" "+c.path, c, 501, "NotImplemented")
	}
	e.wantAnswer("two subresources", call{method: "GET", path: "/" + b + "?acl&policy"}, 400, "InvalidArgument")
	e.wantAnswer("PATCH", call{method: "PATCH", path: e.object("k")}, 405, "MethodNotAllowed")
	e.wantAnswer("DELETE of the service", call{method: "DELETE", path: "/"}, 405, "MethodNotAllowed")
	e.wantAnswer("a broken escape", call{method: "GET", path: e.object("k") + "?prefix=%zz", plain: true}, 400, "InvalidURI")
	e.wantBody("k", []byte("x"))
}

// testErrors looks at what every answer must carry.
func testErrors(e *env) {
	b := e.withBucket()
	for _, c := range []call{{method: "GET", path: "/" + b + "/none"}, {method: "GET", path: "/" + b}, {method: "HEAD", path: "/" + b}, {method: "GET", path: "/" + b, plain: true}} {
		a := e.do(c)
		if a.header.Get("X-Amz-Request-Id") == "" || a.header.Get("X-Amz-Id-2") == "" || a.header.Get("Server") == "" || a.header.Get("Date") == "" {
			e.t.Errorf("%s %s: headers %v", c.method, c.path, a.header)
		}
		if a.status >= 400 && (a.header.Get("Content-Type") != "application/xml" || !strings.Contains(string(a.body), "<HostId>")) {
			e.t.Errorf("%s %s: %s %s", c.method, c.path, a.header.Get("Content-Type"), a.body)
		}
	}
}
