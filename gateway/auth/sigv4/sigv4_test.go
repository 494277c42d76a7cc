package sigv4

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"ringfort/internal/errs"
)

// signed returns a request signed with a header; extra headers are signed too.
func signed(t testing.TB, extra ...string) *http.Request {
	t.Helper()
	r := request(t, append([]string{"GET /b/k HTTP/1.1", "Host: h"}, extra...)...)
	s := NewSigner(Credentials{AccessKey: exampleID, SecretKey: exampleSecret}, "us-east-1")
	if _, err := s.Sign(r, EmptySHA256, exampleTime); err != nil {
		t.Fatal(err)
	}
	return r
}

func presignedRequest(t testing.TB, lines ...string) *http.Request {
	t.Helper()
	r := request(t, append([]string{"GET /b/k?a=1 HTTP/1.1", "Host: h"}, lines...)...)
	s := NewSigner(Credentials{AccessKey: exampleID, SecretKey: exampleSecret}, "us-east-1")
	if _, err := s.Presign(r, time.Hour, exampleTime); err != nil {
		t.Fatal(err)
	}
	return r
}

func edit(r *http.Request, old, new string) {
	if a := r.Header.Get("Authorization"); a != "" {
		r.Header.Set("Authorization", strings.Replace(a, old, new, 1))
		return
	}
	r.URL.RawQuery = strings.Replace(r.URL.RawQuery, old, new, 1)
}

func TestRefusals(t *testing.T) {
	type change func(r *http.Request)
	with := func(old, new string) change { return func(r *http.Request) { edit(r, old, new) } }
	header := func(name, value string) change { return func(r *http.Request) { r.Header.Set(name, value) } }
	const hdr, qry = false, true
	for _, c := range []struct {
		name   string
		query  bool
		change change
		after  time.Duration
		code   string
		kind   errs.Kind
		text   string
	}{
		{"good", hdr, with("", ""), 0, "", 0, ""},
		{"good late", hdr, with("", ""), 15 * time.Minute, "", 0, ""},
		{"good early", hdr, with("", ""), -15 * time.Minute, "", 0, ""},
		{"late", hdr, with("", ""), 15*time.Minute + 1, CodeRequestTimeTooSkewed, errs.Denied, "900000"},
		{"early", hdr, with("", ""), -15*time.Minute - 1, CodeRequestTimeTooSkewed, errs.Denied, ""},
		{"no spaces after commas", hdr, func(r *http.Request) { edit(r, ", S", ",S"); edit(r, ", S", ",  S") }, 0, "", 0, ""},
		{"no signature", hdr, func(r *http.Request) { r.Header.Del("Authorization") }, 0, CodeAccessDenied, errs.Denied, ""},
		{"bearer", hdr, header("Authorization", "Bearer x"), 0, CodeInvalidArgument, errs.Invalid, "Unsupported"},
		{"sigv4a", hdr, header("Authorization", "AWS4-ECDSA-P256-SHA256 x"), 0, CodeNotImplemented, errs.NotImplemented, ""},
		{"empty", hdr, header("Authorization", "AWS4-HMAC-SHA256"), 0, CodeHeaderMalformed, errs.Invalid, "three components"},
		{"unknown part", hdr, with(", Signed", ", X=1, Signed"), 0, CodeHeaderMalformed, errs.Invalid, "X=1"},
		{"repeated part", hdr, with(", Signed", ", Credential=a, Signed"), 0, CodeHeaderMalformed, errs.Invalid, ""},
		{"two headers", hdr, func(r *http.Request) { r.Header.Add("Authorization", "x") }, 0, CodeInvalidArgument, errs.Invalid, "Only one"},
		{"short credential", hdr, header("Authorization", "AWS4-HMAC-SHA256 Credential=a/b/c, SignedHeaders=host, Signature=00"), 0, CodeHeaderMalformed, errs.Invalid, "mal-formed"},
		{"service", hdr, with("/s3/", "/sts/"), 0, CodeHeaderMalformed, errs.Invalid, `"sts"`},
		{"terminal", hdr, with("aws4_request", "aws5_request"), 0, CodeHeaderMalformed, errs.Invalid, "aws5_request"},
		{"region", hdr, with("us-east-1", "mars-1"), 0, CodeHeaderMalformed, errs.Invalid, "'mars-1' is wrong; expecting 'us-east-1'"},
		{"no region", hdr, with("us-east-1", ""), 0, CodeHeaderMalformed, errs.Invalid, "non-empty region"},
		{"no access key", hdr, with(exampleID, ""), 0, CodeHeaderMalformed, errs.Invalid, "AKID"},
		{"other access key", hdr, with(exampleID, "a/b/c"), 0, "", 0, ""}, // the caller's secret decides
		{"other day", hdr, with("20130524", "20130525"), 0, CodeHeaderMalformed, errs.Invalid, "Invalid credential date"},
		{"unsorted", hdr, with("host;x-amz-content-sha256", "x-amz-content-sha256;host"), 0, CodeHeaderMalformed, errs.Invalid, "sorted"},
		{"repeated name", hdr, with("host;", "host;host;"), 0, CodeHeaderMalformed, errs.Invalid, "sorted"},
		{"upper case", hdr, with("host;", "Host;"), 0, CodeHeaderMalformed, errs.Invalid, "lower case"},
		{"too many names", hdr, with("host;", "host;"+manyNames(300)), 0, CodeHeaderMalformed, errs.Invalid, ""},
		{"host not signed", hdr, with("host;", ""), 0, CodeAccessDenied, errs.Denied, "not signed"},
		{"date not signed", hdr, with(";x-amz-date", ""), 0, CodeAccessDenied, errs.Denied, "not signed"},
		{"header not signed", hdr, header("x-amz-acl", "public-read"), 0, CodeAccessDenied, errs.Denied, "not signed"},
		{"other header not signed", hdr, header("Content-MD5", "x"), 0, "", 0, ""},
		{"absent header signed", hdr, with("host;", "host;x-amz-acl;"), 0, CodeSignatureDoesNotMatch, errs.Denied, ""},
		{"no date", hdr, func(r *http.Request) { r.Header.Del("x-amz-date") }, 0, CodeAccessDenied, errs.Denied, "valid Date"},
		{"bad date", hdr, header("x-amz-date", "20130524T000000.5Z"), 0, CodeAccessDenied, errs.Denied, "valid Date"},
		{"no payload", hdr, func(r *http.Request) { r.Header.Del("x-amz-content-sha256") }, 0, CodeInvalidRequest, errs.Invalid, "Missing required header"},
		{"bad payload", hdr, header("x-amz-content-sha256", "STREAMING"), 0, CodeInvalidArgument, errs.Invalid, "valid sha256"},
		{"ecdsa payload", hdr, header("x-amz-content-sha256", streamingECDSATrailer), 0, CodeNotImplemented, errs.NotImplemented, ""},
		{"other payload", hdr, header("x-amz-content-sha256", UnsignedPayload), 0, CodeSignatureDoesNotMatch, errs.Denied, ""},
		{"signature", hdr, with("Signature=", "Signature=0"), 0, CodeSignatureDoesNotMatch, errs.Denied, ""},
		{"semicolon", hdr, func(r *http.Request) { r.URL.RawQuery = "a=b;c=d" }, 0, CodeInvalidURI, errs.Invalid, "%3B"},
		{"bad escape", hdr, func(r *http.Request) { r.URL.RawQuery = "a=%2" }, 0, CodeInvalidURI, errs.Invalid, "escape"},
		{"bad escape in name", hdr, func(r *http.Request) { r.URL.RawQuery = "%zz=1" }, 0, CodeInvalidURI, errs.Invalid, "escape"},
		{"endless query", hdr, func(r *http.Request) { r.URL.RawQuery = strings.Repeat("&a", 2000) }, 0, CodeInvalidURI, errs.Invalid, "too many"},

		{"good", qry, with("", ""), time.Hour, "", 0, ""},
		{"raw separators", qry, func(r *http.Request) { edit(r, "%2F", "/"); edit(r, "a=1", "&a=%31&") }, 0, "", 0, ""},
		{"expired", qry, with("", ""), time.Hour + 1, CodeAccessDenied, errs.Denied, "Request has expired"},
		{"before its time", qry, with("", ""), -16 * time.Minute, CodeAccessDenied, errs.Denied, "not yet valid"},
		{"both", qry, header("Authorization", "AWS4-HMAC-SHA256 x"), 0, CodeInvalidArgument, errs.Invalid, "Only one"},
		{"algorithm", qry, with("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA512"), 0, CodeQueryParameters, errs.Invalid, "only supports"},
		{"sigv4a", qry, with("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), 0, CodeNotImplemented, errs.NotImplemented, ""},
		{"no algorithm", qry, with("X-Amz-Algorithm", "X-Amz-Algo"), 0, CodeQueryParameters, errs.Invalid, "requires"},
		{"no expires", qry, with("X-Amz-Expires", "X-Amz-Expire"), 0, CodeQueryParameters, errs.Invalid, "requires"},
		{"credential", qry, with("%2Fs3", "%2Fs4"), 0, CodeQueryParameters, errs.Invalid, "Error parsing the X-Amz-Credential parameter; incorrect service"},
		{"region", qry, with("us-east-1", "mars-1"), 0, CodeQueryParameters, errs.Invalid, "'mars-1' is wrong"},
		{"repeated", qry, with("a=1", "X-Amz-Date=20130524T000000Z"), 0, CodeQueryParameters, errs.Invalid, "X-Amz-Date"},
		{"date", qry, with("T000000Z", "000000Z"), 0, CodeQueryParameters, errs.Invalid, "ISO8601"},
		{"expires text", qry, with("=3600", "=x"), 0, CodeQueryParameters, errs.Invalid, "should be a number"},
		{"expires below", qry, with("=3600", "=-1"), 0, CodeQueryParameters, errs.Invalid, "non-negative"},
		{"expires zero", qry, with("=3600", "=0"), 0, CodeQueryParameters, errs.Invalid, "at least"},
		{"expires beyond", qry, with("=3600", "=604801"), 0, CodeQueryParameters, errs.Invalid, "week"},
		{"expires huge", qry, with("=3600", "=99999999999999999999"), 0, CodeQueryParameters, errs.Invalid, "number"},
		{"longer", qry, with("=3600", "=604800"), 0, CodeSignatureDoesNotMatch, errs.Denied, ""},
		{"header not signed", qry, header("x-amz-acl", "public-read"), 0, CodeAccessDenied, errs.Denied, "not signed"},
		{"host not signed", qry, with("=host", "=date"), 0, CodeAccessDenied, errs.Denied, "not signed"},
	} {
		where := map[bool]string{hdr: "header/", qry: "query/"}[c.query]
		t.Run(where+c.name, func(t *testing.T) {
			r := signed(t)
			if c.query {
				r = presignedRequest(t)
			}
			c.change(r)
			_, err := verify(NewVerifier(Config{Region: "us-east-1"}), r, exampleSecret, exampleTime.Add(c.after))
			if code(err) != c.code || err != nil && errs.KindOf(err) != c.kind {
				t.Fatalf("got %v (%v), want %s", err, errs.KindOf(err), c.code)
			}
			if err != nil && !strings.Contains(details(err), c.text) {
				t.Errorf("got %s, want %q in it", details(err), c.text)
			}
		})
	}
}

func manyNames(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "i%04d;", i)
	}
	return b.String()
}

func TestUnsignedHeadersAreNamed(t *testing.T) {
	r := signed(t)
	r.Header.Set("X-Amz-Copy-Source", "/b/other")
	_, err := verify(NewVerifier(Config{}), r, exampleSecret, exampleTime)
	if !strings.Contains(details(err), "HeadersNotSigned: x-amz-copy-source") {
		t.Error(details(err))
	}
}

func TestHeaderForms(t *testing.T) {
	v := NewVerifier(Config{})
	long := "x-amz-meta-" + strings.Repeat("n", 300)
	r := signed(t, "x-amz-meta-a:   two   words \t here ", "X-AMZ-META-b: one", "x-amz-meta-b:  two ", long+": v",
		"Content-Type: text/plain", "x-amz-meta-empty:", "x_amz_odd: under")
	w := v.pool.get()
	in := input{r: r, signed: signable(r.Header)}
	if err := w.canonicalize(&in); err != nil {
		t.Fatal(err)
	}
	want := "\ncontent-type:text/plain\nhost:h\nx-amz-content-sha256:" + EmptySHA256 + "\nx-amz-date:20130524T000000Z\n" +
		"x-amz-meta-a:two words here\nx-amz-meta-b:one,two\nx-amz-meta-empty:\n" + long + ":v\nx_amz_odd:under\n\n"
	if !strings.Contains(string(w.canonical), want) {
		t.Errorf("canonical request\n%s\nlacks\n%s", w.canonical, want)
	}
	c, err := v.Parse(r)
	if err != nil {
		t.Fatal(details(err))
	}
	if _, err := v.Verify(&c, r, exampleSecret, exampleTime); err != nil {
		t.Error(details(err))
	}
}

func TestDateHeader(t *testing.T) {
	// Signed by hand, with Date instead of x-amz-date.
	for _, date := range []string{"Fri, 24 May 2013 00:00:00 GMT", "Fri, 24 May 2013 02:00:00 +0200", "20130524T000000Z"} {
		r := request(t, "GET / HTTP/1.1", "Host: h", "Date: "+date, "x-amz-content-sha256: "+UnsignedPayload)
		in := input{r: r, path: []byte("/"), signed: "date;host;x-amz-content-sha256", payload: UnsignedPayload,
			timestamp: "20130524T000000Z", scope: Scope{"20130524", "us-east-1"}}
		key := deriveKey(exampleSecret, "20130524", "us-east-1")
		sig, err := new(work).sign(&in, &key)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", strings.TrimPrefix(credential(in.signed, string(sig[:])), "Authorization: "))
		if _, err := verify(NewVerifier(Config{}), r, exampleSecret, exampleTime); err != nil {
			t.Errorf("%s: %s", date, details(err))
		}
	}
}

func TestPresignedPayloads(t *testing.T) {
	v := NewVerifier(Config{})
	got, err := verify(v, presignedRequest(t), exampleSecret, exampleTime)
	if err != nil || got.Payload != PayloadUnsigned {
		t.Errorf("%v, %v", got.Payload, err)
	}
	got, err = verify(v, presignedRequest(t, "x-amz-content-sha256: "+EmptySHA256), exampleSecret, exampleTime)
	if err != nil || got.Payload != PayloadSigned || got.ContentSHA256 != sha256.Sum256(nil) {
		t.Errorf("%v, %v", got.Payload, err)
	}
}

func TestSecurityToken(t *testing.T) {
	s := NewSigner(Credentials{exampleID, exampleSecret, "to+ken/=="}, "r")
	for name, sign := range map[string]func(r *http.Request) error{
		"header": func(r *http.Request) error { _, err := s.Sign(r, UnsignedPayload, exampleTime); return err },
		"query":  func(r *http.Request) error { _, err := s.Presign(r, time.Second, exampleTime); return err },
	} {
		r := request(t, "GET / HTTP/1.1", "Host: h")
		if err := sign(r); err != nil {
			t.Fatal(err)
		}
		v := NewVerifier(Config{})
		c, err := v.Parse(r)
		if err != nil || c.SecurityToken != "to+ken/==" || c.AccessKey != exampleID {
			t.Fatalf("%s: %+v, %v", name, c, err)
		}
		if _, err := v.Verify(&c, r, exampleSecret, exampleTime); err != nil {
			t.Errorf("%s: %s", name, details(err))
		}
	}
}

func TestPresignRefuses(t *testing.T) {
	s := NewSigner(Credentials{AccessKey: "a", SecretKey: "b"}, "r")
	for _, d := range []time.Duration{0, time.Millisecond, -time.Second, maxExpires + 1} {
		if _, err := s.Presign(request(t, "GET / HTTP/1.1", "Host: h"), d, exampleTime); !errs.Is(err, errs.Invalid) {
			t.Errorf("%v: %v", d, err)
		}
	}
	r := request(t, "GET /?a=%zz HTTP/1.1", "Host: h")
	if _, err := s.Presign(r, time.Second, exampleTime); code(err) != CodeInvalidURI || r.URL.RawQuery != "a=%zz" {
		t.Errorf("%v, %s", err, r.URL)
	}
	if _, err := s.Sign(r, "nonsense", exampleTime); code(err) != CodeInvalidArgument {
		t.Error(err)
	}
}

func TestHMAC(t *testing.T) {
	r := rng(t)
	var buf []byte
	for range 500 {
		key, msg := make([]byte, r.IntN(200)), make([]byte, r.IntN(500))
		for i := range key {
			key[i] = byte(r.Uint32())
		}
		for i := range msg {
			msg[i] = byte(r.Uint32())
		}
		h := hmac.New(sha256.New, key)
		h.Write(msg)
		var got [32]byte
		if got, buf = hmacSHA256(buf, key, msg); !bytes.Equal(got[:], h.Sum(nil)) {
			t.Fatalf("key %x, message %x", key, msg)
		}
	}
}

// The documented example of a signing key, from AWS's general reference.
func TestDeriveKey(t *testing.T) {
	k := deriveKey("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524", "us-east-1")
	if got := hex.EncodeToString(k[:]); got != "dbb893acc010964918f1fd433add87c70e8b0db6be30c1fbeafefa5ec6ba8378" {
		t.Error(got)
	}
}

func TestKeyCache(t *testing.T) {
	c := newKeyCache(8)
	id := func(i int) keyID { return keyID{fmt.Sprint(i), "20130524", "r"} }
	hot := id(-1)
	c.put(hot, "s", Key{42})
	for i := range 1000 {
		c.put(id(i), "s", Key{byte(i)})
		if k, ok := c.get(hot, "s"); !ok || k != (Key{42}) {
			t.Fatalf("a key in use was forgotten after %d others", i)
		}
		if n := len(c.young) + len(c.old); n > 8 {
			t.Fatalf("%d entries", n)
		}
	}
	if _, ok := c.get(id(0), "s"); ok {
		t.Error("an old key is still there")
	}
	if _, ok := c.get(hot, "other"); ok {
		t.Error("the key of another secret was returned")
	}
}

// Only what verified may fill the cache, and a changed secret takes effect.
func TestCacheAndSecrets(t *testing.T) {
	v := NewVerifier(Config{})
	if _, err := verify(v, signed(t), "wrong", exampleTime); code(err) != CodeSignatureDoesNotMatch || len(v.keys.young) != 0 {
		t.Errorf("%v, %d cached", err, len(v.keys.young))
	}
	if _, err := verify(v, signed(t), exampleSecret, exampleTime); err != nil || len(v.keys.young) != 1 {
		t.Errorf("%v, %d cached", err, len(v.keys.young))
	}
	if _, err := verify(v, signed(t), "changed", exampleTime); code(err) != CodeSignatureDoesNotMatch {
		t.Errorf("after the secret changed: %v", err)
	}
}

func TestMismatchEcho(t *testing.T) {
	r := signed(t)
	r.Method = "PUT"
	_, err := verify(NewVerifier(Config{}), r, exampleSecret, exampleTime)
	for _, want := range []string{"CanonicalRequest: PUT\n/b/k\n", "StringToSign: AWS4-HMAC-SHA256\n2013", "AWSAccessKeyId: " + exampleID} {
		if !strings.Contains(details(err), want) {
			t.Errorf("no %q in %s", want, details(err))
		}
	}
	r = signed(t, "x-amz-meta-a: "+strings.Repeat("x", maxEchoBytes))
	r.Method = "PUT"
	_, err = verify(NewVerifier(Config{}), r, exampleSecret, exampleTime)
	var e *Error
	if !errors.As(err, &e) || e.Code != CodeSignatureDoesNotMatch || e.Details != nil {
		t.Errorf("a long request is sent back: %v", err)
	}
}

func TestHashedBody(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 1000)
	sum := sha256.Sum256(data)
	n := int64(len(data))
	for _, c := range []struct {
		name   string
		body   []byte
		length int64
		code   string
		got    int // bytes a one-byte-at-a-time reader sees
	}{
		{"right", data, n, "", len(data)},
		{"right, length unknown", data, -1, "", len(data)},
		{"more than its length", append(data[:len(data):len(data)], 'x'), n, "", len(data)},
		{"wrong", append([]byte("x"), data[1:]...), n, CodeContentSHA256Mismatch, len(data) - 1},
		{"wrong, length unknown", data[1:], -1, CodeContentSHA256Mismatch, len(data) - 1},
		{"short", data[:100], n, CodeIncompleteBody, 100},
		{"empty", nil, 0, CodeContentSHA256Mismatch, 0},
	} {
		for how, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "bytewise": iotest.OneByteReader, "data with EOF": iotest.DataErrReader,
		} {
			b := NewHashedBody(wrap(bytes.NewReader(c.body)), sum, c.length)
			got, err := io.ReadAll(b)
			if code(err) != c.code || c.code == "" && (err != nil || !bytes.Equal(got, data)) {
				t.Errorf("%s, %s: %d bytes, %v", c.name, how, len(got), err)
			}
			if how == "bytewise" && len(got) != c.got {
				t.Errorf("%s: %d bytes came out, want %d", c.name, len(got), c.got)
			}
			if _, again := b.Read(make([]byte, 1)); c.code != "" && again != err {
				t.Errorf("%s: then %v", c.name, again)
			}
		}
	}
	// A reader that asks for exactly the length must not get a wrong body either.
	b := NewHashedBody(bytes.NewReader(make([]byte, 10)), sum, 10)
	if _, err := io.ReadFull(b, make([]byte, 10)); code(err) != CodeContentSHA256Mismatch {
		t.Errorf("ReadFull gave %v", err)
	}
	b.Reset(bytes.NewReader(nil), sha256.Sum256(nil), 0)
	if n, err := b.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("an empty body gave %d, %v", n, err)
	}
}

// The claim and its verification are on the path of every request.
func TestAllocations(t *testing.T) {
	v := NewVerifier(Config{})
	for name, r := range map[string]*http.Request{
		"header":          signed(t, "Content-Type: text/plain", "x-amz-meta-a: b"),
		"header, escapes": signedFor(t, "/b/a b+c?list-type=2&prefix=x%2Fy&delimiter=/"),
	} {
		if n := testing.AllocsPerRun(200, func() {
			c, err := v.Parse(r)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := v.Verify(&c, r, exampleSecret, exampleTime); err != nil {
				t.Fatal(err)
			}
		}); n > 0 && !raceEnabled {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func signedFor(t testing.TB, target string) *http.Request {
	t.Helper()
	r := httptest.NewRequest("GET", strings.ReplaceAll(target, " ", "%20"), nil)
	s := NewSigner(Credentials{AccessKey: exampleID, SecretKey: exampleSecret}, "us-east-1")
	if _, err := s.Sign(r, EmptySHA256, exampleTime); err != nil {
		t.Fatal(err)
	}
	return r
}

func BenchmarkVerify(b *testing.B) {
	v := NewVerifier(Config{})
	put := signed(b, "Content-Type: application/octet-stream", "x-amz-meta-a: b", "Content-MD5: 1B2M2Y8AsgTpgAmY7PhCfg==")
	for name, r := range map[string]*http.Request{"header": put, "list": signedFor(b, "/b?list-type=2&prefix=x%2Fy&delimiter=/"), "presigned": presignedRequest(b)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c, err := v.Parse(r)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := v.Verify(&c, r, exampleSecret, exampleTime); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSign(b *testing.B) {
	s := NewSigner(Credentials{AccessKey: exampleID, SecretKey: exampleSecret}, "us-east-1")
	r := httptest.NewRequest("PUT", "/bucket/key", nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Sign(r, UnsignedPayload, exampleTime); err != nil {
			b.Fatal(err)
		}
	}
}
