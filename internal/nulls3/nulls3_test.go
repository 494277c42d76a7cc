package nulls3

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

func TestSizeOf(t *testing.T) {
	for _, c := range []struct {
		key  string
		want int64
	}{
		{"run/4096/000001", 4096},
		{"run/0/1", 0},
		{"1048576/x", 1048576},
		{"plain", 4096},
		{"a/b/c", 4096},
		{"a/-5/c", 4096},
		{"a/99999999999999/c", 4096},
	} {
		if got := SizeOf(c.key); got != c.want {
			t.Errorf("SizeOf(%q) = %d, want %d", c.key, got, c.want)
		}
	}
}

func newCore(t *testing.T) *minio.Core {
	t.Helper()
	srv := httptest.NewServer(New())
	t.Cleanup(srv.Close)
	c, err := minio.NewCore(strings.TrimPrefix(srv.URL, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4("null", "nullnull", ""), Region: "us-east-1",
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestClient has a real client do everything that the benchmark does.
func TestClient(t *testing.T) {
	ctx := context.Background()
	c := newCore(t)
	if err := c.MakeBucket(ctx, "bench", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	// Sizes around a signed chunk's 64 KiB, and none.
	for _, n := range []int{0, 1, 4096, 65535, 65536, 65537, 1 << 20} {
		body := bytes.Repeat([]byte("ringfort"), n/8+1)[:n]
		info, err := c.PutObject(ctx, "bench", "k", bytes.NewReader(body), int64(n), "", "", minio.PutObjectOptions{})
		if err != nil {
			t.Fatalf("PUT %d: %v", n, err)
		}
		if want := md5.Sum(body); info.ETag != hex.EncodeToString(want[:]) {
			t.Errorf("PUT %d: ETag %s, want %x: the chunks were not unwrapped", n, info.ETag, want)
		}
	}
	for _, n := range []string{"0", "4096", "3000000"} {
		r, info, _, err := c.GetObject(ctx, "bench", "run/"+n+"/1", minio.GetObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.Copy(io.Discard, r)
		if err != nil || got != info.Size || got != SizeOf("run/"+n+"/1") {
			t.Errorf("GET %s: %d bytes, size %d, %v", n, got, info.Size, err)
		}
		r.Close()
	}
	if info, err := c.StatObject(ctx, "bench", "run/77/1", minio.StatObjectOptions{}); err != nil || info.Size != 77 {
		t.Errorf("HEAD: %v, %v", info.Size, err)
	}
	if err := c.RemoveObject(ctx, "bench", "run/77/1", minio.RemoveObjectOptions{}); err != nil {
		t.Error(err)
	}
	for _, n := range []int{1, 10, 1000} {
		v2, err := c.ListObjectsV2("bench", "p&", "", "", "", n)
		if err != nil || len(v2.Contents) != n || !v2.IsTruncated || v2.Prefix != "p&" {
			t.Errorf("list v2 of %d: %d keys, prefix %q, %v", n, len(v2.Contents), v2.Prefix, err)
		}
		v1, err := c.ListObjects("bench", "", "", "", n)
		if err != nil || len(v1.Contents) != n {
			t.Errorf("list v1 of %d: %d keys, %v", n, len(v1.Contents), err)
		}
	}
	if err := c.RemoveBucket(ctx, "bench"); err != nil {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	srv := httptest.NewServer(New())
	defer srv.Close()
	for _, c := range []struct {
		method, path, chunks string
		want                 int
	}{
		{"GET", "/", "", 501},
		{"POST", "/bucket/key", "", 501},
		{"POST", "/bucket", "", 501},
		{"GET", "/bucket?max-keys=many", "", 400},
		{"GET", "/bucket?max-keys=-1", "", 400},
		{"GET", "/bucket?max-keys=0", "", 200},
		{"PUT", "/bucket/key", "5;chunk-signature=x\r\nab", 400},
		{"PUT", "/bucket/key", "zz\r\n", 400},
		{"PUT", "/bucket/key", "-1\r\n", 400},
		{"PUT", "/bucket/key", "2\r\nabc\r\n0\r\n\r\n", 400},
		{"PUT", "/bucket/key", strings.Repeat("a", 10000), 400},
		{"PUT", "/bucket/key", "3;x=y\r\nabc\r\n0;x=z\r\nx-amz-checksum-crc32:AAAA\r\n\r\n", 200},
	} {
		req, err := http.NewRequest(c.method, srv.URL+c.path, strings.NewReader(c.chunks))
		if err != nil {
			t.Fatal(err)
		}
		if c.chunks != "" {
			req.Header.Set("X-Amz-Content-Sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER")
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s %s %q: %d, want %d", c.method, c.path, c.chunks, resp.StatusCode, c.want)
		}
	}
}

// FuzzChunked compares what comes out of the decoder whether its input arrives at
// once or byte by byte, and never lets it return more than it was given.
func FuzzChunked(f *testing.F) {
	f.Add([]byte("3;chunk-signature=ab\r\nabc\r\n0;chunk-signature=cd\r\n\r\n"))
	f.Add([]byte("0\r\n\r\n"))
	f.Add([]byte("ffffffffffffffff\r\n"))
	f.Add([]byte("2\nab\n1\nc\n0\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		whole, err1 := io.ReadAll(newChunkedReader(bytes.NewReader(in)))
		bytewise, err2 := io.ReadAll(newChunkedReader(iotest.OneByteReader(bytes.NewReader(in))))
		if !bytes.Equal(whole, bytewise) || (err1 == nil) != (err2 == nil) {
			t.Errorf("%q: %q, %v at once and %q, %v byte by byte", in, whole, err1, bytewise, err2)
		}
		if len(whole) > len(in) {
			t.Errorf("%d bytes out of %d", len(whole), len(in))
		}
	})
}

// TestChunkedRoundTrip encodes random bodies in random chunks.
func TestChunkedRoundTrip(t *testing.T) {
	const seed = 7
	rng := rand.New(rand.NewPCG(seed, seed))
	for i := range 200 {
		var want, in bytes.Buffer
		for range rng.IntN(5) {
			piece := bytes.Repeat([]byte{byte(rng.Uint32())}, 1+rng.IntN(9000))
			want.Write(piece)
			in.WriteString(strconv.FormatInt(int64(len(piece)), 16) + ";chunk-signature=0\r\n")
			in.Write(piece)
			in.WriteString("\r\n")
		}
		in.WriteString("0;chunk-signature=0\r\n\r\n")
		got, err := io.ReadAll(newChunkedReader(&in))
		if err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Fatalf("seed %d, case %d: %d bytes, want %d, %v", seed, i, len(got), want.Len(), err)
		}
	}
}
