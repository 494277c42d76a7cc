package s3test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"ringfort/gateway/auth/sigv2"
	"ringfort/gateway/auth/sigv4"
	"ringfort/gateway/s3api/chunked"
	"ringfort/internal/checksum"
)

// sums are the checksums of an SDK's answer by algorithm.
func sums(crc32, crc32c, crc64, sha1, sha256 *string) map[checksum.Algorithm]string {
	m := map[checksum.Algorithm]string{}
	for a, v := range map[checksum.Algorithm]*string{
		checksum.CRC32: crc32, checksum.CRC32C: crc32c, checksum.CRC64NVME: crc64, checksum.SHA1: sha1, checksum.SHA256: sha256,
	} {
		if v != nil {
			m[a] = *v
		}
	}
	return m
}

func wantSum(e *env, what string, got map[checksum.Algorithm]string, a checksum.Algorithm, want string) {
	e.t.Helper()
	if len(got) != 1 || got[a] != want {
		e.t.Errorf("%s: checksums %v, want %v %s", what, got, a, want)
	}
}

// head asks for an object's checksum.
func (e *env) headSum(key string) (map[checksum.Algorithm]string, types.ChecksumType) {
	e.t.Helper()
	h, err := e.s3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String(e.withBucket()), Key: &key, ChecksumMode: types.ChecksumModeEnabled})
	e.must("HeadObject", err)
	return sums(h.ChecksumCRC32, h.ChecksumCRC32C, h.ChecksumCRC64NVME, h.ChecksumSHA1, h.ChecksumSHA256), h.ChecksumType
}

func testChecksums(e *env) {
	b := e.withBucket()
	body := pattern(100_000, 7)
	for _, a := range checksum.All() {
		want := checksum.Of(a, body).String()
		// As SDKs do: in a header, or behind the body.
		put, err := e.s3.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &b, Key: aws.String(a.String()), Body: bytes.NewReader(body), ChecksumAlgorithm: types.ChecksumAlgorithm(a.String()),
		})
		e.must("PutObject with "+a.String(), err)
		wantSum(e, "PutObject", sums(put.ChecksumCRC32, put.ChecksumCRC32C, put.ChecksumCRC64NVME, put.ChecksumSHA1, put.ChecksumSHA256), a, want)
		equal(e, "type", put.ChecksumType, types.ChecksumTypeFullObject)
		got, typ := e.headSum(a.String())
		wantSum(e, "HeadObject", got, a, want)
		equal(e, "type", typ, types.ChecksumTypeFullObject)
		out, err := e.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &b, Key: aws.String(a.String()), ChecksumMode: types.ChecksumModeEnabled})
		e.must("GetObject", err)
		read, err := io.ReadAll(out.Body) // the SDK verifies
		out.Body.Close()
		if err != nil || !bytes.Equal(read, body) {
			e.t.Errorf("%s: reading: %v", a, err)
		}
		// By hand, in a header.
		ans := e.wantAnswer("PUT with a header", call{method: "PUT", path: e.object("hand"), body: body, header: map[string]string{a.Header(): want}}, 200, "")
		equal(e, "returned", ans.header.Get(a.Header()), want)
	}
	// Without one, the server computes CRC64NVME.
	e.wantAnswer("PUT without", call{method: "PUT", path: e.object("none"), body: body}, 200, "")
	got, _ := e.headSum("none")
	wantSum(e, "computed", got, checksum.CRC64NVME, checksum.Of(checksum.CRC64NVME, body).String())
	h := e.do(call{method: "HEAD", path: e.object("none")})
	equal(e, "a checksum that was not asked for", h.header.Get("X-Amz-Checksum-Crc64nvme"), "")
	part := e.do(call{method: "GET", path: e.object("none"), header: map[string]string{"Range": "bytes=0-9", "x-amz-checksum-mode": "ENABLED"}})
	equal(e, "a checksum of a range", part.header.Get("X-Amz-Checksum-Crc64nvme"), "")
	l, err := e.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &b, Prefix: aws.String("SHA256")})
	e.must("ListObjectsV2", err)
	if len(l.Contents) != 1 || len(l.Contents[0].ChecksumAlgorithm) != 1 || l.Contents[0].ChecksumAlgorithm[0] != "SHA256" || l.Contents[0].ChecksumType != "FULL_OBJECT" {
		e.t.Errorf("listed: %+v", l.Contents)
	}
	// A copy has the algorithm of its source.
	cp, err := e.s3.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &b, Key: aws.String("copy"), CopySource: aws.String(b + "/SHA1")})
	e.must("CopyObject", err)
	equal(e, "the copy's", value(cp.CopyObjectResult.ChecksumSHA1), checksum.Of(checksum.SHA1, body).String())
	cp, err = e.s3.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &b, Key: aws.String("copy2"), CopySource: aws.String(b + "/SHA1"), ChecksumAlgorithm: "CRC32C"})
	e.must("CopyObject", err)
	equal(e, "the copy's", value(cp.CopyObjectResult.ChecksumCRC32C), checksum.Of(checksum.CRC32C, body).String())
}

func testWrongChecksums(e *env) {
	e.withBucket()
	body := []byte("the body")
	for _, a := range checksum.All() {
		e.wantAnswer("a wrong "+a.String(), call{method: "PUT", path: e.object("k"), body: body, header: map[string]string{a.Header(): checksum.Of(a, []byte("else")).String()}}, 400, "BadDigest")
		e.wantAnswer("a malformed "+a.String(), call{method: "PUT", path: e.object("k"), body: body, header: map[string]string{a.Header(): "xyz"}}, 400, "InvalidRequest")
	}
	e.wantAnswer("two", call{method: "PUT", path: e.object("k"), body: body, header: map[string]string{
		"x-amz-checksum-crc32": checksum.Of(checksum.CRC32, body).String(), "x-amz-checksum-sha1": checksum.Of(checksum.SHA1, body).String(),
	}}, 400, "InvalidRequest")
	e.wantAnswer("an algorithm without a value", call{method: "PUT", path: e.object("k"), body: body, header: map[string]string{"x-amz-sdk-checksum-algorithm": "CRC32"}}, 400, "InvalidRequest")
	e.wantAnswer("a wrong MD5", call{method: "PUT", path: e.object("k"), body: body, header: map[string]string{"Content-MD5": md5Base64([]byte("else"))}}, 400, "BadDigest")
	e.wantAnswer("a malformed MD5", call{method: "PUT", path: e.object("k"), body: body, header: map[string]string{"Content-MD5": "YQ=="}}, 400, "InvalidDigest")
	e.wantAnswer("a wrong SHA-256", call{method: "PUT", path: e.object("k"), body: body, payload: strings.Repeat("0", 64)}, 400, "XAmzContentSHA256Mismatch")
	e.wantGone("k")
	e.wantAnswer("a right MD5", call{method: "PUT", path: e.object("k"), body: body, header: map[string]string{"Content-MD5": md5Base64(body)}}, 200, "")
	e.wantBody("k", body)
}

// chunkedCall makes an aws-chunked upload by hand.
func (e *env) chunkedCall(key, payload string, body []byte, trailer map[string]string, mangle func([]byte) []byte) *http.Request {
	e.t.Helper()
	req, err := http.NewRequest("PUT", e.URL+e.object(key), nil)
	e.must("making the request", err)
	req.Header.Set("Content-Encoding", "aws-chunked")
	req.Header.Set("X-Amz-Decoded-Content-Length", fmt.Sprint(len(body)))
	for name := range trailer {
		req.Header.Set("X-Amz-Trailer", name)
	}
	v, err := e.signer.Sign(req, payload, time.Now())
	e.must("signing", err)
	var buf bytes.Buffer
	w := chunked.NewWriter(&buf, &v, 64<<10)
	for name, value := range trailer {
		w.SetTrailer(name, value)
	}
	_, err = w.Write(body)
	e.must("writing chunks", err)
	e.must("ending chunks", w.Close())
	raw := buf.Bytes()
	if mangle != nil {
		raw = mangle(raw)
	}
	req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
	return req
}

func (e *env) send(req *http.Request) *answer {
	e.t.Helper()
	res, err := e.Client.Do(req)
	e.must("sending", err)
	defer res.Body.Close()
	a := &answer{status: res.StatusCode, header: res.Header}
	a.body, _ = io.ReadAll(res.Body)
	if _, rest, ok := strings.Cut(string(a.body), "<Code>"); ok {
		a.code, _, _ = strings.Cut(rest, "</Code>")
	}
	return a
}

// testPayloads uploads with every kind of payload.
func testPayloads(e *env) {
	e.withBucket()
	for _, n := range []int{0, 1, 5000, 65536, 200_000} {
		body := pattern(n, uint64(n)+3)
		crc := checksum.Of(checksum.CRC32, body).String()
		trailer := map[string]string{"x-amz-checksum-crc32": crc}
		for _, kind := range []string{sigv4.UnsignedPayload, "signed"} {
			c := call{method: "PUT", path: e.object(kind), body: body}
			if kind != "signed" {
				c.payload = kind
			}
			e.wantAnswer(kind, c, 200, "")
			e.wantBody(kind, body)
		}
		for kind, trailer := range map[string]map[string]string{
			sigv4.Streaming: nil, sigv4.StreamingTrailer: trailer, sigv4.StreamingUnsignedTrailer: trailer,
		} {
			a := e.send(e.chunkedCall(kind, kind, body, trailer, nil))
			if a.status != 200 {
				e.t.Errorf("%s of %d bytes: %d %s", kind, n, a.status, a.body)
				continue
			}
			e.wantBody(kind, body)
			_, out := e.get(kind)
			equal(e, "encoding kept", value(out.ContentEncoding), "")
			if trailer != nil {
				equal(e, "checksum returned", a.header.Get("X-Amz-Checksum-Crc32"), crc)
			}
		}
	}
	body := pattern(100_000, 9)
	wrong := map[string]string{"x-amz-checksum-crc32": "AAAAAA=="}
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b = bytes.Clone(b); b[at] ^= 1; return b }
	}
	cut := func(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:len(b)-n] } }
	for _, c := range []struct {
		what, kind string
		trailer    map[string]string
		mangle     func([]byte) []byte
		code       string
	}{
		{"a wrong trailer", sigv4.StreamingUnsignedTrailer, wrong, nil, "BadDigest"},
		{"a wrong signed trailer", sigv4.StreamingTrailer, wrong, nil, "BadDigest"},
		{"a flipped byte", sigv4.Streaming, nil, flip(1000), "SignatureDoesNotMatch"},
		{"a flipped byte in the last chunk", sigv4.Streaming, nil, flip(90_000), "SignatureDoesNotMatch"},
		{"a body cut short", sigv4.Streaming, nil, cut(50_000), "IncompleteBody"},
		{"a body without its last chunk", sigv4.Streaming, nil, cut(90), "IncompleteBody"},
		{"an unsigned body cut short", sigv4.StreamingUnsignedTrailer, map[string]string{"x-amz-checksum-crc32": checksum.Of(checksum.CRC32, body).String()}, cut(50_000), "IncompleteBody"},
		{"chunks that are none", sigv4.Streaming, nil, func(b []byte) []byte { return []byte("hello") }, "IncompleteBody"},
	} {
		a := e.send(e.chunkedCall("bad", c.kind, body, c.trailer, c.mangle))
		if a.code != c.code {
			e.t.Errorf("%s: %d %s, want %s", c.what, a.status, a.code, c.code)
		}
		e.wantGone("bad")
	}
}

func testPresigned(e *env) {
	b := e.withBucket()
	body := []byte("presigned content")
	p := s3.NewPresignClient(e.s3)
	send := func(method, url string, header http.Header, body []byte) *answer {
		e.t.Helper()
		req, err := http.NewRequest(method, url, bytes.NewReader(body))
		e.must("making the request", err)
		for k, v := range header {
			if k != "Host" && k != "Content-Length" {
				req.Header[k] = v
			}
		}
		return e.send(req)
	}
	put, err := p.PresignPutObject(ctx, &s3.PutObjectInput{Bucket: &b, Key: aws.String("a/ü k"), ContentType: aws.String("text/x-test")})
	e.must("PresignPutObject", err)
	equal(e, "presigned PUT", send("PUT", put.URL, put.SignedHeader, body).status, 200)
	e.wantBody("a/ü k", body)
	get, err := p.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: &b, Key: aws.String("a/ü k"), ResponseContentType: aws.String("text/y")})
	e.must("PresignGetObject", err)
	a := send("GET", get.URL, get.SignedHeader, nil)
	if a.status != 200 || !bytes.Equal(a.body, body) || a.header.Get("Content-Type") != "text/y" {
		e.t.Errorf("presigned GET: %d %s %q", a.status, a.header.Get("Content-Type"), a.body)
	}
	equal(e, "presigned GET used for PUT", send("PUT", get.URL, nil, body).code, "SignatureDoesNotMatch")
	equal(e, "presigned GET with another parameter", send("GET", get.URL+"&versionId=null", nil, nil).code, "SignatureDoesNotMatch")
	equal(e, "presigned GET with an unsigned header", send("GET", get.URL, http.Header{"X-Amz-Request-Payer": {"requester"}}, nil).code, "AccessDenied")
	head, err := p.PresignHeadObject(ctx, &s3.HeadObjectInput{Bucket: &b, Key: aws.String("a/ü k")})
	e.must("PresignHeadObject", err)
	equal(e, "presigned HEAD", send("HEAD", head.URL, nil, nil).status, 200)
	req, err := http.NewRequest("GET", e.URL+e.object("a/ü k"), nil)
	e.must("making the request", err)
	_, err = e.signer.Presign(req, time.Second, time.Now().Add(-time.Minute))
	e.must("Presign", err)
	a = e.send(req)
	if a.status != 403 || a.code != "AccessDenied" || !strings.Contains(string(a.body), "expired") {
		e.t.Errorf("an expired URL: %d %s", a.status, a.body)
	}
	m, err := e.minio.PresignedGetObject(ctx, b, "a/ü k", time.Hour, nil)
	e.must("minio's PresignedGetObject", err)
	equal(e, "minio's presigned GET", send("GET", m.String(), nil, nil).status, 200)
}

func testSigV2(e *env) {
	e.withBucket()
	body := []byte("signed the old way")
	request := func(method, path string, body []byte) *http.Request {
		req, err := http.NewRequest(method, e.URL+path, bytes.NewReader(body))
		e.must("making the request", err)
		return req
	}
	req := request("PUT", e.object("v 2"), body)
	req.Header.Set("Content-Type", "text/old")
	req.Header.Set("X-Amz-Meta-Age", "old")
	e.must("Sign", sigv2.Sign(req, e.AccessKey, e.SecretKey, "", time.Now()))
	if a := e.send(req); a.status != 200 {
		e.t.Fatalf("PUT: %d %s", a.status, a.body)
	}
	got, out := e.get("v 2")
	equal(e, "body", string(got), string(body))
	equal(e, "metadata", out.Metadata["age"], "old")
	req = request("GET", "/"+e.bucket+"?acl", nil)
	e.must("Sign", sigv2.Sign(req, e.AccessKey, e.SecretKey, "", time.Now()))
	equal(e, "GET ?acl", e.send(req).status, 200)
	req = request("GET", e.object("v 2"), nil)
	e.must("Presign", sigv2.Presign(req, e.AccessKey, e.SecretKey, "", time.Now().Add(time.Hour)))
	equal(e, "presigned GET", string(e.send(req).body), string(body))
	req = request("GET", e.object("v 2"), nil)
	e.must("Presign", sigv2.Presign(req, e.AccessKey, e.SecretKey, "", time.Now().Add(-time.Hour)))
	equal(e, "an expired one", e.send(req).code, "AccessDenied")
	req = request("GET", e.object("v 2"), nil)
	e.must("Sign", sigv2.Sign(req, e.AccessKey, e.SecretKey+"x", "", time.Now()))
	equal(e, "a wrong secret", e.send(req).code, "SignatureDoesNotMatch")
	req = request("GET", e.object("v 2"), nil)
	e.must("Sign", sigv2.Sign(req, e.AccessKey, e.SecretKey, "", time.Now().Add(-time.Hour)))
	equal(e, "a skewed clock", e.send(req).code, "RequestTimeTooSkewed")
}

// testVirtualHosts addresses the bucket in the host name.
func testVirtualHosts(e *env) {
	if e.Domain == "" {
		e.t.Skip("no domain")
	}
	b := e.withBucket()
	e.put("a/k", []byte("hosted"))
	host := func(r *http.Request) { r.Host = b + "." + e.Domain }
	request := func(method, path string, body []byte) *http.Request {
		req, err := http.NewRequest(method, e.URL+path, bytes.NewReader(body))
		e.must("making the request", err)
		host(req)
		_, err = e.signer.Sign(req, sigv4.UnsignedPayload, time.Now())
		e.must("signing", err)
		return req
	}
	equal(e, "GET", string(e.send(request("GET", "/a/k", nil)).body), "hosted")
	equal(e, "PUT", e.send(request("PUT", "/new", []byte("x"))).status, 200)
	e.wantBody("new", []byte("x"))
	a := e.send(request("GET", "/?list-type=2", nil))
	if !strings.Contains(string(a.body), "<Key>a/k</Key>") || !strings.Contains(string(a.body), "<Name>"+b+"</Name>") {
		e.t.Errorf("the listing: %s", a.body)
	}
	req, err := http.NewRequest("GET", e.URL+"/a/k", nil)
	e.must("making the request", err)
	host(req)
	e.must("Sign", sigv2.Sign(req, e.AccessKey, e.SecretKey, b, time.Now()))
	equal(e, "GET with Version 2", string(e.send(req).body), "hosted")
}
