package gateway

import (
	"context"
	"crypto/tls"
	"encoding/xml"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// say answers with a word.
func say(word string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, word) })
}

func TestRouting(t *testing.T) {
	h := New(Config{S3: say("s3"), Swift: say("swift")})
	signed := http.Header{"Authorization": {"AWS4-HMAC-SHA256 Credential=x"}}
	signed2 := http.Header{"Authorization": {"AWS key:signature"}}
	token := http.Header{"X-Auth-Token": {"x"}}
	for _, x := range []struct {
		target string
		header http.Header
		want   string
	}{
		{"/", nil, "s3"},
		{"/bucket", nil, "s3"},
		{"/bucket/key", signed, "s3"},
		{"/bucket//key/../x", nil, "s3"},
		{"/bucket/a%2Fb", nil, "s3"},
		{"/bucket/%00", nil, "s3"},
		{"/v1", token, "swift"},
		{"/v1/", token, "swift"},
		{"/v1/AUTH_x", token, "swift"},
		{"/v1/AUTH_x/c//o/../p", token, "swift"},
		{"/v1/AUTH_x/c/o%2Fp", nil, "swift"},
		{"/v2/AUTH_x", nil, "swift"},
		{"/v1.0/AUTH_x", nil, "s3"}, // no version of one digit
		{"/v1x", nil, "s3"},
		{"/v10/x", nil, "s3"},
		{"/video/x", nil, "s3"},
		{"/vx", nil, "s3"},
		{"/v", nil, "s3"},
		{"/auth/v1.0", nil, "swift"},
		{"/auth/v1.0/", nil, "swift"},
		{"/auth/v1", nil, "swift"},
		{"/auth/v2.0/tokens", nil, "s3"},
		{"/auth", nil, "s3"},
		{"/info", nil, "swift"},
		{"/info/x", nil, "s3"},
		{"/information", nil, "s3"},
		{"/healthcheck", nil, "swift"},
		{"/crossdomain.xml", nil, "swift"},
		// Buckets of those names, asked for by who can only mean S3.
		{"/info", signed, "s3"},
		{"/info", signed2, "s3"},
		{"/info?X-Amz-Algorithm=a&X-Amz-Signature=b", nil, "s3"},
		{"/healthcheck?AWSAccessKeyId=a&Signature=b&Expires=1", nil, "s3"},
		{"/auth/v1.0", signed, "s3"},
		// Keys of a virtual-hosted bucket.
		{"/v1/data.json", signed, "s3"},
		{"/v1", signed2, "s3"},
		{"/v1/x?X-Amz-Signature=b", nil, "s3"},
	} {
		for _, method := range []string{"GET", "PUT", "POST", "DELETE", "COPY", "OPTIONS"} {
			r := httptest.NewRequest(method, x.target, nil)
			for k, v := range x.header {
				r.Header[k] = v
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != 200 || w.Body.String() != x.want {
				t.Errorf("%s %s %v: %d %s, want %s", method, x.target, x.header, w.Code, w.Body, x.want)
			}
		}
	}
	if h.Running() != 0 || h.Refused() != 0 {
		t.Errorf("%d are running, %d were refused", h.Running(), h.Refused())
	}
}

// One request too many is refused in its protocol's words, and makes no room for
// another one but its own.
func TestMaxRequests(t *testing.T) {
	enter, leave := make(chan struct{}), make(chan struct{})
	busy := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		enter <- struct{}{}
		<-leave
	})
	h := New(Config{S3: busy, Swift: busy, MaxRequests: 3})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/b/k", nil)) })
		<-enter
	}
	for _, x := range []struct {
		method, target string
		s3             bool
	}{{"GET", "/b/k", true}, {"PUT", "/b/k", true}, {"HEAD", "/b/k", true}, {"GET", "/v1/AUTH_a", false}, {"PUT", "/v1", false}, {"HEAD", "/v1/AUTH_a/c", false}, {"GET", "/auth/v1.0", false}, {"GET", "/healthcheck", false}} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(x.method, x.target, strings.NewReader("body")))
		if w.Code != 503 || w.Header().Get("Retry-After") == "" || w.Header().Get("Connection") != "close" {
			t.Errorf("%s %s: %d, %v", x.method, x.target, w.Code, w.Header())
		}
		var e struct{ Code string }
		err := xml.Unmarshal(w.Body.Bytes(), &e)
		switch {
		case x.method == "HEAD":
			if x.s3 && w.Body.Len() > 0 {
				t.Errorf("HEAD has a body: %s", w.Body)
			}
		case x.s3 && (err != nil || e.Code != "SlowDown" || w.Header().Get("Content-Type") != "application/xml"):
			t.Errorf("%s %s: %s, %v", x.method, x.target, w.Body, err)
		case !x.s3 && (err == nil || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain")):
			t.Errorf("%s %s: %s", x.method, x.target, w.Body)
		}
	}
	if h.Running() != 3 || h.Refused() != 8 {
		t.Errorf("%d are running, %d were refused", h.Running(), h.Refused())
	}
	close(leave)
	wg.Wait()
	go func() { <-enter }()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/b/k", nil))
	if w.Code != 200 || h.Running() != 0 {
		t.Errorf("afterwards: %d, %d running", w.Code, h.Running())
	}
}

// start serves a handler and returns its address.
func start(t *testing.T, cfg Config, certificates *tls.Config) (*Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(New(cfg), t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(l, certificates) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s, l.Addr().String()
}

func TestTLS(t *testing.T) {
	srv := httptest.NewTLSServer(nil) // for its certificate
	defer srv.Close()
	_, address := start(t, Config{S3: say("s3"), Swift: say("swift")}, &tls.Config{Certificates: srv.TLS.Certificates})
	client := srv.Client()
	resp, err := client.Get("https://" + address + "/b")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	client.CloseIdleConnections()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "s3" {
		t.Errorf("%s, %v", b, err)
	}
}

func TestHeadersTooLarge(t *testing.T) {
	_, address := start(t, Config{S3: say("s3"), Swift: say("swift"), MaxHeaderBytes: 8 << 10}, nil)
	for n, want := range map[int]int{1 << 10: 200, 100 << 10: 431} {
		r, err := http.NewRequest("GET", "http://"+address+"/b", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Amz-Meta-X", strings.Repeat("x", n))
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%d bytes of header: %d, want %d", n, resp.StatusCode, want)
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// Connections beyond the limit wait, ten times as many of them; they are neither
// refused nor forgotten.
func TestMaxConnections(t *testing.T) {
	const limit, more = 2, 20
	_, address := start(t, Config{S3: say("s3"), Swift: say("swift"), MaxConnections: limit}, nil)
	var open []net.Conn
	for range limit {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
		if _, err := io.WriteString(c, "GET /b HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil { // it was accepted
			t.Fatal(err)
		}
	}
	answered := make(chan error, more)
	for range more {
		go func() {
			resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(httptest.NewRequest("GET", "http://"+address+"/b", nil))
			if err == nil {
				resp.Body.Close()
			}
			answered <- err
		}()
	}
	select {
	case err := <-answered:
		t.Fatalf("a connection beyond the limit was served: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	for _, c := range open {
		c.Close()
	}
	for range more {
		if err := <-answered; err != nil {
			t.Error(err)
		}
	}
}

// lines is a log in memory.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A panic in a handler costs its own request, is seen by the operator, and leaves
// the count right.
func TestPanic(t *testing.T) {
	var log lines
	cfg := Config{Swift: say("swift"), Log: slog.New(slog.NewTextHandler(&log, nil)), S3: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			panic("a broken invariant")
		}
	})}
	s, address := start(t, cfg, nil)
	if resp, err := http.Get("http://" + address + "/panic"); err == nil {
		resp.Body.Close()
		t.Errorf("answered %d", resp.StatusCode)
	}
	resp, err := http.Get("http://" + address + "/b")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if h := s.http.Handler.(*Handler); h.Running() != 0 {
		t.Errorf("%d are running", h.Running())
	}
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "a broken invariant") {
		t.Errorf("the log says %q", log.String())
	}
}
