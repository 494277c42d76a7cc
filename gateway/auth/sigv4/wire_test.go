package sigv4

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsv4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/minio/minio-go/v7/pkg/signer"
)

var seedFlag = flag.Uint64("seed", 0, "repeat a randomized test with this seed")

func rng(t *testing.T) *rand.Rand {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("repeat with: go test -run %s -seed %d", t.Name(), seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// send passes a request over the wire's text, as a server would see it.
func send(t *testing.T, r *http.Request) *http.Request {
	t.Helper()
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	got, err := http.ReadRequest(bufio.NewReader(&b))
	if err != nil {
		t.Fatalf("%v in %q", err, b.String())
	}
	return got
}

// oddities are what names and values are made of in the round trips.
var oddities = []string{
	"a", "b", "Z", "0", "/", "//", ".", "..", "%", "%2F", "%2f", "%00", "+", " ", "  ", "ü", "日本", "\u00a0", "🎷",
	"~", "-", "_", "*", "'", "(", ")", "!", "$", "&", ",", ";", "=", ":", "@", "?", "#", "[", "]", "{", "}", "|",
	"\\", "^", "`", "\"", "<", ">", "\x01", "\x7f", "\n", "\xff", "\xc3(",
}

func odd(r *rand.Rand, n int, without string) string {
	var b strings.Builder
	for range r.IntN(n) {
		if s := oddities[r.IntN(len(oddities))]; without == "" || !strings.ContainsAny(s, without) {
			b.WriteString(s)
		}
	}
	return b.String()
}

// randomRequest makes a request for an odd key with odd parameters and metadata.
func randomRequest(t *testing.T, r *rand.Rand, pathEncode func(string) string) *http.Request {
	key := odd(r, 12, "")
	u := &url.URL{Scheme: "http", Host: "localhost:9000", Path: "/bucket/" + key}
	u.RawPath = pathEncode(u.Path)
	q := url.Values{}
	for _, name := range []string{"prefix", "delimiter", "acl", "response-content-type", "uploadId"} {
		if r.IntN(3) == 0 {
			q.Add(name, odd(r, 6, ""))
		}
	}
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20")
	req, err := http.NewRequest([]string{"GET", "PUT", "DELETE", "HEAD"}[r.IntN(4)], u.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if req.URL.EscapedPath() != u.RawPath {
		t.Fatalf("path %q became %q", u.RawPath, req.URL.EscapedPath())
	}
	for range r.IntN(3) {
		// A header's value cannot hold control characters.
		req.Header.Add(fmt.Sprintf("x-amz-meta-k%d", r.IntN(3)), "v"+odd(r, 6, "\x01\n\x7f\u00a0")+"v")
	}
	return req
}

// What the real clients' signers sign must verify, whatever the names, and must
// not once it is changed.
func TestRoundTrips(t *testing.T) {
	random := rng(t)
	ours := NewSigner(Credentials{AccessKey: exampleID, SecretKey: exampleSecret, SessionToken: "tok/en+="}, "eu-west-7")
	sdk := awsv4.NewSigner(func(o *awsv4.SignerOptions) { o.DisableURIPathEscaping = true })
	creds := aws.Credentials{AccessKeyID: exampleID, SecretAccessKey: exampleSecret}
	ctx := context.Background()
	for name, sign := range map[string]func(t *testing.T, r *http.Request) *http.Request{
		"ours header": func(t *testing.T, r *http.Request) *http.Request {
			if _, err := ours.Sign(r, UnsignedPayload, time.Now()); err != nil {
				t.Fatal(err)
			}
			return r
		},
		"ours query": func(t *testing.T, r *http.Request) *http.Request {
			if _, err := ours.Presign(r, time.Minute, time.Now()); err != nil {
				t.Fatal(err)
			}
			return r
		},
		"aws header": func(t *testing.T, r *http.Request) *http.Request {
			r.Header.Set("X-Amz-Content-Sha256", EmptySHA256)
			if err := sdk.SignHTTP(ctx, creds, r, EmptySHA256, "s3", "eu-west-7", time.Now()); err != nil {
				t.Fatal(err)
			}
			return r
		},
		"aws query": func(t *testing.T, r *http.Request) *http.Request {
			q := r.URL.Query()
			q.Set("X-Amz-Expires", "60")
			r.URL.RawQuery = q.Encode()
			uri, header, err := sdk.PresignHTTP(ctx, creds, r, UnsignedPayload, "s3", "eu-west-7", time.Now())
			if err != nil {
				t.Fatal(err)
			}
			out, err := http.NewRequest(r.Method, uri, nil)
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range header {
				if k != "Host" {
					out.Header[k] = v
				}
			}
			return out
		},
		"minio header": func(_ *testing.T, r *http.Request) *http.Request {
			r.Header.Set("X-Amz-Content-Sha256", UnsignedPayload)
			return signer.SignV4(*r, exampleID, exampleSecret, "", "eu-west-7")
		},
		"minio query": func(_ *testing.T, r *http.Request) *http.Request {
			return signer.PreSignV4(*r, exampleID, exampleSecret, "", "eu-west-7", 60)
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := NewVerifier(Config{})
			for range 400 {
				r := randomRequest(t, random, EncodePath)
				if strings.HasPrefix(name, "minio") && !utf8.ValidString(r.URL.Path) {
					continue // minio-go does not keep such names
				}
				r = sign(t, r)
				got := send(t, r)
				if !Present(got) {
					t.Fatalf("no signature in %s", r.URL)
				}
				if _, err := verify(v, got, exampleSecret, time.Now()); err != nil {
					t.Fatalf("%s %s %v: %s", r.Method, r.URL, r.Header, details(err))
				}
				tamper(t, v, random, got)
			}
		})
	}
}

// tamper changes one thing that is signed.
func tamper(t *testing.T, v *Verifier, random *rand.Rand, r *http.Request) {
	t.Helper()
	what := ""
	switch random.IntN(4) {
	case 0:
		what, r.URL.Path, r.URL.RawPath = "path", r.URL.Path+"x", ""
	case 1:
		what, r.URL.RawQuery = "query", r.URL.RawQuery+"&versionId=1"
	case 2:
		what, r.Host = "host", "example.com"
	case 3:
		what = "method"
		r.Method = "POST"
	}
	if _, err := verify(v, r, exampleSecret, time.Now()); code(err) != CodeSignatureDoesNotMatch {
		t.Fatalf("%s changed in %s %s: %v", what, r.Method, r.URL, err)
	}
}

// Clients that send a path less or more encoded than S3 does are right when they
// sign S3's form, or the form that they send.
func TestOtherPathEncodings(t *testing.T) {
	v := NewVerifier(Config{})
	s := NewSigner(Credentials{AccessKey: exampleID, SecretKey: exampleSecret}, "r")
	for _, sent := range []string{
		"/b/a+b", "/b/a%2Bb", "/b/a(b)", "/b/a%28b%29", "/b/%61", "/b/x%2Fy", "/b/x%2fy", "/b/a;b", "/b/a=b@c:d",
		"/b//", "/b/../c", "/b/./c", "/b/%2e%2e/c", "/b/ü", "/b/%c3%bc", "/b/a%25b", "/b/a%00b", "/", "//b//k//",
	} {
		for _, literal := range []bool{false, true} {
			r := request(t, "GET "+sent+" HTTP/1.1", "Host: h")
			u := *r.URL
			if literal {
				// A path that the canonical form takes as it is.
				in := input{r: r, signed: "host;x-amz-content-sha256;x-amz-date", payload: UnsignedPayload,
					timestamp: "20130524T000000Z", scope: Scope{"20130524", "r"}, path: []byte(r.URL.EscapedPath())}
				r.Header.Set("X-Amz-Date", in.timestamp)
				r.Header.Set("X-Amz-Content-Sha256", UnsignedPayload)
				key := deriveKey(exampleSecret, "20130524", "r")
				sig, err := new(work).sign(&in, &key)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+exampleID+"/20130524/r/s3/aws4_request, SignedHeaders="+in.signed+", Signature="+string(sig[:]))
			} else if _, err := s.Sign(r, UnsignedPayload, exampleTime); err != nil {
				t.Fatal(err)
			}
			if *r.URL != u {
				t.Fatal("signing changed the URL")
			}
			if _, err := verify(v, r, exampleSecret, exampleTime); err != nil {
				t.Errorf("%s (signed as sent: %v): %s", sent, literal, details(err))
			}
		}
	}
}
