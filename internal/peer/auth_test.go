package peer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
)

const secretText = "a secret that must not be seen"

func mustSecret(t testing.TB, text string) Secret {
	t.Helper()
	s, err := NewSecret([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// loopback serves node over HTTP and returns where.
func loopback(t testing.TB, node Node, cfg ServerConfig) (addr string, s *Server) {
	t.Helper()
	s = NewServer(node, cfg)
	h := httptest.NewServer(s)
	t.Cleanup(func() {
		h.CloseClientConnections()
		s.Close()
		h.Close()
	})
	return h.Listener.Addr().String(), s
}

func newTestClient(t testing.TB, addr string, cfg ClientConfig) *Client {
	t.Helper()
	c := NewClient(addr, cfg)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestSecretDoesNotPrint(t *testing.T) {
	s := mustSecret(t, secretText)
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		fmt.Fprintf(&out, verb, s)
		fmt.Fprintf(&out, verb, &s)
		fmt.Fprintf(&out, verb, ClientConfig{Secret: s})
		fmt.Fprintf(&out, verb, struct{ S *Secret }{&s}.S)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "secret", s, "p", &s, "config", ServerConfig{Secret: s})
	b, _ := json.Marshal(s)
	out.Write(b)
	for _, bad := range []string{secretText, fmt.Sprintf("%x", s.key[:4]), fmt.Sprintf("%d", s.key[:4])[1:12]} {
		if strings.Contains(out.String(), bad) {
			t.Errorf("%q is in %s", bad, out.String())
		}
	}
	if _, err := NewSecret(make([]byte, MinSecretBytes-1)); !errs.Is(err, errs.Invalid) {
		t.Errorf("a short secret: %v", err)
	}
}

// Whoever does not prove the secret gets 401, no body, and nothing done.
func TestStrangersAreToldNothing(t *testing.T) {
	var log bytes.Buffer
	addr, _ := loopback(t, deaf{}, ServerConfig{Secret: mustSecret(t, secretText), Log: slog.New(slog.NewTextHandler(&log, nil))})
	other := mustSecret(t, "some other secret, also long")
	hello := formatHello(newNonce(), other.helloMAC(upgradeToken, newNonce()))
	for _, r := range []struct{ method, path, header, value string }{
		{"GET", "/", "", ""},
		{"GET", connectPath, "", ""},
		{"GET", connectPath, helloHeader, hello},
		{"GET", connectPath, helloHeader, "zz " + strings.Repeat("0", 64)},
		{"POST", connectPath, helloHeader, hello},
		{"GET", fragmentPath, "", ""},
		{"GET", fragmentPath + "?q=AAAA", "Authorization", "Ringfort " + strings.Repeat("0", 32) + " 1 " + strings.Repeat("0", 64)},
		{"PUT", fragmentPath, "Authorization", "Ringfort"},
		{"GET", PathPrefix + "status", "", ""},
	} {
		req, err := http.NewRequest(r.method, "http://"+addr+r.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Upgrade", upgradeToken)
		if r.header != "" {
			req.Header.Set(r.header, r.value)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 401 || len(body) != 0 || len(resp.Header) > 1 {
			t.Errorf("%s %s: %s, %v, %q", r.method, r.path, resp.Status, resp.Header, body)
		}
	}
	if strings.Contains(log.String(), secretText) {
		t.Error("the secret is in the log")
	}
}

func TestWrongSecret(t *testing.T) {
	for _, c := range []struct {
		name           string
		server, client Secret
	}{
		{"other", mustSecret(t, secretText), mustSecret(t, "some other secret, also long")},
		{"none at the client", mustSecret(t, secretText), Secret{}},
		{"none at the server", Secret{}, mustSecret(t, secretText)},
		{"none at all", Secret{}, Secret{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr, _ := loopback(t, deaf{}, ServerConfig{Secret: c.server})
			client := newTestClient(t, addr, ClientConfig{Secret: c.client})
			_, err := client.Learn(context.Background(), Target{}, Objects, keyhash.Hash{})
			if !errs.Is(err, errs.Unauthenticated) {
				t.Errorf("Learn: %v", err)
			}
			_, err = client.OpenFragment(context.Background(), Target{}, FragmentName{}, 0, 1)
			if !errs.Is(err, errs.Unauthenticated) {
				t.Errorf("OpenFragment: %v", err)
			}
			_, err = client.CreateFragment(context.Background(), Target{}, &FragmentHeader{})
			if !errs.Is(err, errs.Unauthenticated) {
				t.Errorf("CreateFragment: %v", err)
			}
		})
	}
}

// recorder is a connection that keeps what went over it.
type recorder struct {
	net.Conn
	mu      sync.Mutex
	out, in bytes.Buffer
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.in.Write(p[:n])
	return n, err
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	r.out.Write(p)
	r.mu.Unlock()
	return r.Conn.Write(p)
}

// record has a client make a call and a fragment request and returns what went
// over its connections, first the one of frames.
func record(t *testing.T, addr string, cfg ClientConfig) []*recorder {
	t.Helper()
	var mu sync.Mutex
	var all []*recorder
	cfg.Connections = 1
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		r := &recorder{Conn: conn}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, r)
		return r, nil
	}
	c := newTestClient(t, addr, cfg)
	if _, err := c.Status(context.Background()); err != nil {
		t.Fatal(err)
	}
	r, err := c.OpenFragment(context.Background(), Target{}, FragmentName{}, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	mu.Lock()
	defer mu.Unlock()
	return all
}

func TestReplayToTheServer(t *testing.T) {
	s := mustSecret(t, secretText)
	addr, srv := loopback(t, deaf{}, ServerConfig{Secret: s})
	recorded := record(t, addr, ClientConfig{Secret: s})

	// The whole handshake with the frames behind it: the server's nonce is new,
	// so the proof is wrong and the connection ends without a frame.
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	recorded[0].mu.Lock()
	conn.Write(recorded[0].out.Bytes())
	recorded[0].mu.Unlock()
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("%v, %v", resp, err)
	}
	if rest, err := io.ReadAll(in); len(rest) != 0 {
		t.Errorf("a replayed handshake is answered with %x, %v", rest, err)
	}
	srv.mu.Lock()
	if n := len(srv.conns); n != 1 {
		t.Errorf("%d connections", n)
	}
	srv.mu.Unlock()

	// A fragment request of a session that is still open.
	recorded[1].mu.Lock()
	request := recorded[1].out.String()
	recorded[1].mu.Unlock()
	for name, text := range map[string]string{
		"again":         request,
		"other method":  "PUT" + strings.TrimPrefix(request, "GET"),
		"other query":   strings.Replace(request, "q=", "q=A", 1),
		"other counter": strings.Replace(request, " 1 ", " 2 ", 1),
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(conn, text)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != 401 {
			t.Errorf("%s: %v, %v", name, resp, err)
		}
		conn.Close()
	}
}

// rogue listens and answers each connection with the same bytes.
func rogue(t *testing.T, answer []byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					conn.Write(answer)
					io.Copy(io.Discard, conn)
				}
			}()
		}
	}()
	return l.Addr().String()
}

func TestReplayToTheClient(t *testing.T) {
	s := mustSecret(t, secretText)
	addr, _ := loopback(t, deaf{}, ServerConfig{Secret: s})
	recorded := record(t, addr, ClientConfig{Secret: s})
	recorded[0].mu.Lock()
	answer := bytes.Clone(recorded[0].in.Bytes())
	recorded[0].mu.Unlock()
	c := newTestClient(t, rogue(t, answer), ClientConfig{Secret: s})
	if _, err := c.Status(context.Background()); !errs.Is(err, errs.Unauthenticated) {
		t.Errorf("a replayed server is answered with %v", err)
	}
	// One that reflects the client's own MAC.
	var zero [nonceSize]byte
	reflected := formatHello(zero, s.helloMAC(upgradeToken, zero))
	c = newTestClient(t, rogue(t, []byte("HTTP/1.1 101 x\r\nUpgrade: "+upgradeToken+"\r\n"+helloHeader+": "+reflected+"\r\n\r\n")), ClientConfig{Secret: s})
	if _, err := c.Status(context.Background()); !errs.Is(err, errs.Unauthenticated) {
		t.Errorf("a reflected MAC is answered with %v", err)
	}
	// One that answers a fragment request without knowing the session.
	for _, text := range []string{
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
	} {
		impostor := rogue(t, []byte(text))
		n := 0
		c = newTestClient(t, addr, ClientConfig{Secret: s, Connections: 1, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			to := addr
			if n++; n > 1 {
				to = impostor
			}
			return (&net.Dialer{}).DialContext(ctx, network, to)
		}})
		w, err := c.CreateFragment(context.Background(), Target{}, &FragmentHeader{})
		if err == nil {
			err = w.Commit(context.Background(), 0)
		}
		if !errs.Is(err, errs.Unavailable) {
			t.Errorf("an impostor's %q is taken: %v", text, err)
		}
	}
}

func TestUnknownVersion(t *testing.T) {
	s := mustSecret(t, secretText)
	addr, _ := loopback(t, deaf{}, ServerConfig{Secret: s})
	const token = "ringfort-peer/999"
	nonce := newNonce()
	req, _ := http.NewRequest("GET", "http://"+addr+connectPath, nil)
	req.Header.Set("Upgrade", token)
	req.Header.Set(helloHeader, formatHello(nonce, s.helloMAC(token, nonce)))
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 426 || resp.Header.Get("Upgrade") != upgradeToken {
		t.Errorf("%s, %v", resp.Status, resp.Header)
	}
	c := newTestClient(t, rogue(t, []byte("HTTP/1.1 426 x\r\nUpgrade: ringfort-peer/2\r\nContent-Length: 0\r\n\r\n")), ClientConfig{Secret: s})
	if _, err := c.Status(context.Background()); !errs.Is(err, errs.NotImplemented) || !strings.Contains(err.Error(), "ringfort-peer/2") {
		t.Errorf("an old client is told %v", err)
	}
}

func TestReplayWindow(t *testing.T) {
	var w replayWindow
	for _, c := range []struct {
		n    uint64
		want bool
	}{
		{0, false}, {1, true}, {1, false}, {3, true}, {2, true}, {2, false}, {3, false},
		{1024, true}, {1, false}, {5, true}, {1030, true}, {6, false}, {7, true}, {7, false},
		{5000, true}, {1030, false}, {3976, false}, {3977, true}, {4999, true}, {5000, false},
		{1<<64 - 1, true}, {1<<64 - 1, false}, {1<<64 - 2, true}, {1, false},
	} {
		if got := w.take(c.n); got != c.want {
			t.Errorf("take(%d) = %v", c.n, got)
		}
	}
}

// The window takes each number once, as a map would, and refuses what is too old.
func TestReplayWindowModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var w replayWindow
	seen := map[uint64]bool{}
	newest := uint64(0)
	for range 100_000 {
		n := newest + r.Uint64N(40)
		if r.IntN(3) > 0 {
			n -= min(n, r.Uint64N(1200))
		}
		if r.IntN(1000) == 0 {
			n += r.Uint64N(3000)
		}
		want := n != 0 && !seen[n] && (n > newest || newest-n < replayWindowSize)
		if got := w.take(n); got != want {
			t.Fatalf("seed %d: take(%d) = %v with %d the newest", seed, n, got, newest)
		}
		if want {
			seen[n] = true
		}
		newest = max(newest, n)
	}
}
