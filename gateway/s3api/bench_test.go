package s3api_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"ringfort/gateway/auth/sigv4"
	"ringfort/gateway/s3api/chunked"
)

// sink is a ResponseWriter that keeps nothing.
type sink struct {
	header http.Header
	status int
	n      int
}

func (s *sink) Header() http.Header { return s.header }

func (s *sink) WriteHeader(status int) { s.status = status }

func (s *sink) Write(p []byte) (int, error) {
	s.n += len(p)
	return len(p), nil
}

func (s *sink) SetReadDeadline(time.Time) error  { return nil }
func (s *sink) SetWriteDeadline(time.Time) error { return nil }

// serve sends one request over and over; body is sent anew each time.
func (f *fixture) serve(b *testing.B, r *http.Request, body []byte) {
	b.ReportAllocs()
	w := &sink{header: make(http.Header)}
	for b.Loop() {
		clear(w.header)
		w.status = 0
		if body != nil {
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		f.h.ServeHTTP(w, r)
		if w.status >= 300 {
			b.Fatalf("status %d", w.status)
		}
	}
}

func newBench(b *testing.B) *fixture {
	f := newFixture(b)
	f.ok("PUT", "/bucket", "")
	f.h = newHandler(f.store, withClock(f.now)) // and no Observe
	return f
}

func BenchmarkGet4K(b *testing.B) {
	f := newBench(b)
	f.ok("PUT", "/bucket/k", strings.Repeat("x", 4096))
	f.serve(b, f.request("GET", "/bucket/k", ""), nil)
}

func BenchmarkHead(b *testing.B) {
	f := newBench(b)
	f.ok("PUT", "/bucket/k", strings.Repeat("x", 4096))
	f.serve(b, f.request("HEAD", "/bucket/k", ""), nil)
}

// BenchmarkPut4K includes what the fake store does: the body's MD5 and a map.
func BenchmarkPut4K(b *testing.B) {
	f := newBench(b)
	body := strings.Repeat("x", 4096)
	b.Run("signed", func(b *testing.B) {
		r := f.request("PUT", "/bucket/k", body, "Content-Type", "application/octet-stream")
		f.serve(b, r, []byte(body))
	})
	b.Run("streaming", func(b *testing.B) {
		r, raw := f.streaming([]byte(body))
		f.serve(b, r, raw)
	})
}

// streaming makes an upload in signed chunks, as minio-go sends it.
func (f *fixture) streaming(body []byte) (*http.Request, []byte) {
	r := f.request("PUT", "/bucket/k", "", "Content-Type", "application/octet-stream",
		"X-Amz-Decoded-Content-Length", fmt.Sprint(len(body)))
	v, err := f.signer.Sign(r, sigv4.Streaming, f.now)
	if err != nil {
		f.t.Fatal(err)
	}
	var raw bytes.Buffer
	w := chunked.NewWriter(&raw, &v, 0)
	if _, err := w.Write(body); err != nil {
		f.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		f.t.Fatal(err)
	}
	r.ContentLength = int64(raw.Len())
	return r, raw.Bytes()
}

func BenchmarkList1000(b *testing.B) {
	f := newBench(b)
	for i := range 1000 {
		f.ok("PUT", fmt.Sprintf("/bucket/some/directory/object-%06d.jpg", i), "x")
	}
	for name, query := range map[string]string{"v1": "", "v2": "?list-type=2", "v2-url": "?list-type=2&encoding-type=url"} {
		b.Run(name, func(b *testing.B) {
			f.serve(b, f.request("GET", "/bucket"+query, ""), nil)
			b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "keys/s")
		})
	}
}
