package chunked_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/minio-go/v7"
	miniocreds "github.com/minio/minio-go/v7/pkg/credentials"

	"ringfort/gateway/auth/sigv2"
	"ringfort/gateway/auth/sigv4"
	"ringfort/gateway/s3api/chunked"
	"ringfort/internal/checksum"
)

const (
	clientID     = "AKIAIOSFODNN7EXAMPLE"
	clientSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

// store is the least server that authenticates and reads bodies as the gateway
// does: signature, framing, hash, checksum, then and only then the commit.
type store struct {
	verifier *sigv4.Verifier

	mu      sync.Mutex // guards what follows
	objects map[string][]byte
	seen    map[string]int // payload kinds and algorithms met
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := s.serve(w, r); err != nil {
		http.Error(w, "<Error><Code>AccessDenied</Code><Message>"+err.Error()+"</Message></Error>", http.StatusForbidden)
	}
}

func (s *store) serve(w http.ResponseWriter, r *http.Request) error {
	v, err := s.authenticate(r)
	if err != nil {
		return err
	}
	key := r.URL.Path
	switch r.Method {
	case http.MethodPut:
		data, err := s.read(r, v)
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.objects[key] = data
		s.mu.Unlock()
		sum := md5.Sum(data)
		w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:])+`"`)
	case http.MethodGet, http.MethodHead:
		s.mu.Lock()
		data, ok := s.objects[key]
		s.mu.Unlock()
		if !ok {
			http.Error(w, "<Error><Code>NoSuchKey</Code></Error>", http.StatusNotFound)
			return nil
		}
		w.Header().Set("ETag", `"x"`)
		http.ServeContent(w, r, "", time.Unix(1, 0), bytes.NewReader(data))
	}
	return nil
}

func (s *store) authenticate(r *http.Request) (*sigv4.Verified, error) {
	if sigv2.Present(r) {
		c, err := sigv2.Parse(r)
		if err != nil {
			return nil, err
		}
		v := &sigv4.Verified{Payload: sigv4.PayloadUnsigned}
		if h := r.Header.Get("X-Amz-Content-Sha256"); h != "" {
			if v.Payload, v.ContentSHA256, err = sigv4.ParsePayload(h); err != nil {
				return nil, err
			}
		}
		s.count("v2")
		return v, sigv2.Verify(&c, r, "", clientSecret, time.Now())
	}
	c, err := s.verifier.Parse(r)
	if err != nil {
		return nil, err
	}
	if c.AccessKey != clientID {
		return nil, fmt.Errorf("access key %q", c.AccessKey)
	}
	v, err := s.verifier.Verify(&c, r, clientSecret, time.Now())
	s.count(fmt.Sprintf("payload %d", v.Payload))
	return &v, err
}

func (s *store) count(what string) {
	s.mu.Lock()
	s.seen[what]++
	s.mu.Unlock()
}

func (s *store) read(r *http.Request, v *sigv4.Verified) ([]byte, error) {
	claim, err := checksum.Claimed(r.Header)
	if err != nil {
		return nil, err
	}
	set := checksum.NewSet(claim.Algorithm)
	src := io.Reader(r.Body)
	var d *chunked.Decoder
	switch {
	case v.Payload.Chunked():
		o, err := chunked.OptionsOf(r, v)
		if err != nil {
			return nil, err
		}
		d = chunked.NewDecoder(r.Body, o)
		src = d
	case v.Payload == sigv4.PayloadSigned:
		src = sigv4.NewHashedBody(r.Body, v.ContentSHA256, r.ContentLength)
	}
	data, err := io.ReadAll(io.TeeReader(src, set))
	if err != nil {
		return nil, err
	}
	if want := r.Header.Get("Content-MD5"); want != "" {
		if sum := md5.Sum(data); base64.StdEncoding.EncodeToString(sum[:]) != want {
			return nil, fmt.Errorf("MD5")
		}
	}
	want := claim.Sum
	if claim.Trailing {
		if want, err = checksum.ParseSum(claim.Algorithm, d.Trailer(strings.ToLower(claim.Algorithm.Header()))); err != nil {
			return nil, err
		}
	}
	if !set.Sum(claim.Algorithm).Equal(want) {
		return nil, checksum.Mismatch(claim.Algorithm)
	}
	s.count(claim.Algorithm.String())
	return data, nil
}

func newStore(t *testing.T, tls bool) (*store, *httptest.Server) {
	s := &store{verifier: sigv4.NewVerifier(sigv4.Config{}), objects: map[string][]byte{}, seen: map[string]int{}}
	start := httptest.NewServer
	if tls {
		start = httptest.NewTLSServer
	}
	srv := start(s)
	t.Cleanup(srv.Close)
	return s, srv
}

var keys = []string{
	"plain", "a b", "a+b", "a%2Fb", "ü/日本/🎷", "x//y", "semi;colon", "q?x=1&y", "hash#", "(paren)!*'", "~tilde_-.", "=@:,$", "{[^]}|\\`\"<>",
}

// Real clients over HTTP and TLS: everything they send by default is understood,
// and what is read back is what was written.
func TestAWSClient(t *testing.T) {
	ctx := context.Background()
	for _, tls := range []bool{false, true} {
		st, srv := newStore(t, tls)
		c := s3.New(s3.Options{
			BaseEndpoint: &srv.URL, Region: "eu-central-1", UsePathStyle: true, HTTPClient: srv.Client(), RetryMaxAttempts: 1,
			Credentials: credentials.NewStaticCredentialsProvider(clientID, clientSecret, ""),
		})
		algorithms := append([]types.ChecksumAlgorithm{""}, "CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")
		for i, key := range keys {
			data := randomData(i * 20011)
			for _, seekable := range []bool{true, false} {
				in := &s3.PutObjectInput{Bucket: aws.String("bucket"), Key: aws.String(key), Body: bytes.NewReader(data),
					ChecksumAlgorithm: algorithms[i%len(algorithms)], Metadata: map[string]string{"k": "some  value "}}
				if !seekable {
					if !tls {
						continue // the SDK refuses to stream over plain HTTP
					}
					in.Body, in.ContentLength = io.MultiReader(bytes.NewReader(data)), aws.Int64(int64(len(data)))
				}
				if _, err := c.PutObject(ctx, in); err != nil {
					t.Fatalf("TLS %v, %q: %v", tls, key, err)
				}
				out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: in.Bucket, Key: in.Key})
				if err != nil {
					t.Fatalf("TLS %v, %q: %v", tls, key, err)
				}
				if got, err := io.ReadAll(out.Body); err != nil || !bytes.Equal(got, data) {
					t.Fatalf("TLS %v, %q: %d of %d bytes, %v", tls, key, len(got), len(data), err)
				}
				out.Body.Close()
			}
			pre, err := s3.NewPresignClient(c).PresignGetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: aws.String(key),
				ResponseContentType: aws.String("text/plain; charset=utf-8")})
			if err != nil {
				t.Fatal(err)
			}
			fetch(t, srv.Client(), pre.URL, data)
		}
		t.Logf("TLS %v: %v", tls, st.seen)
	}
}

func TestMinioClient(t *testing.T) {
	ctx := context.Background()
	for _, tls := range []bool{false, true} {
		for name, cred := range map[string]*miniocreds.Credentials{
			"v4": miniocreds.NewStaticV4(clientID, clientSecret, ""), "v2": miniocreds.NewStaticV2(clientID, clientSecret, ""),
		} {
			st, srv := newStore(t, tls)
			c, err := minio.New(strings.SplitN(srv.URL, "//", 2)[1], &minio.Options{
				Creds: cred, Secure: tls, Transport: srv.Client().Transport, Region: "r", TrailingHeaders: name == "v4", MaxRetries: 1,
			})
			if err != nil {
				t.Fatal(err)
			}
			for i, key := range keys {
				data := randomData(i * 20011)
				o := minio.PutObjectOptions{DisableMultipart: true, UserMetadata: map[string]string{"K": "v  w"}, DisableContentSha256: i%3 == 2}
				if name == "v4" && i%2 == 1 {
					o.Checksum = minio.ChecksumCRC32C
				}
				if _, err := c.PutObject(ctx, "bucket", key, bytes.NewReader(data), int64(len(data)), o); err != nil {
					t.Fatalf("%s, TLS %v, %q: %v", name, tls, key, err)
				}
				u, err := c.PresignedGetObject(ctx, "bucket", key, time.Minute, url.Values{"response-content-type": {"a/b; c=d"}})
				if err != nil {
					t.Fatal(err)
				}
				fetch(t, srv.Client(), u.String(), data)
			}
			t.Logf("%s, TLS %v: %v", name, tls, st.seen)
		}
	}
}

func fetch(t *testing.T, c *http.Client, uri string, want []byte) {
	t.Helper()
	resp, err := c.Get(uri)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || !bytes.Equal(got, want) {
		t.Fatalf("%s: %s, %d bytes: %.400s", uri, resp.Status, len(got), got)
	}
}

func randomData(n int) []byte {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}
