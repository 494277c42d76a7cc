package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
	"ringfort/ring"
)

// pipes is a network in memory, so that connections may live in a bubble of
// virtual time. It is a net.Listener and dials itself.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once

	mu     sync.Mutex // guards the rest
	down   bool       // dialing fails
	dialed int
	near   []net.Conn
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	p.mu.Lock()
	p.dialed++
	down := p.down
	p.mu.Unlock()
	if down {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		p.mu.Lock()
		p.near = append(p.near, near)
		p.mu.Unlock()
		return near, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) set(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

func (p *pipes) dials() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dialed
}

// cut closes all connections.
func (p *pipes) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.near {
		c.Close()
	}
	p.near = nil
}

// bubble runs fn in virtual time with a client of node over pipes.
func bubble(t *testing.T, node Node, sc ServerConfig, cc ClientConfig, fn func(t *testing.T, p *pipes, c *Client)) {
	synctest.Test(t, func(t *testing.T) {
		s := mustSecret(t, secretText)
		p := newPipes()
		sc.Secret, cc.Secret, cc.Dial = s, s, p.dial
		srv := NewServer(node, sc)
		h := &http.Server{Handler: srv}
		served := make(chan struct{})
		go func() { h.Serve(p); close(served) }()
		c := NewClient("pipe:1", cc)
		fn(t, p, c)
		c.Close()
		srv.Close()
		h.Close()
		<-served
	})
}

func ask(c *Client) error {
	_, err := c.Learn(context.Background(), Target{Device: 1}, Objects, keyhash.Hash{})
	return err
}

// slow is a node whose Learn waits until it is released.
type slow struct {
	deaf
	entered chan ring.DeviceID
	release chan struct{}
}

func newSlow() *slow {
	return &slow{entered: make(chan ring.DeviceID, 1000), release: make(chan struct{})}
}

func (s *slow) Learn(ctx context.Context, t Target, _ Service, _ keyhash.Hash) (k register.Known, err error) {
	s.entered <- t.Device
	select {
	case <-s.release:
		return register.Known{Exists: true}, nil
	case <-ctx.Done():
		return k, errs.Wrap("slow", errs.Canceled, ctx.Err())
	}
}

// An idle connection lives on pings alone.
func TestIdleConnectionLives(t *testing.T) {
	bubble(t, deaf{}, ServerConfig{}, ClientConfig{Connections: 1}, func(t *testing.T, p *pipes, c *Client) {
		for range 10 {
			if err := ask(c); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
		if n := p.dials(); n != 1 {
			t.Errorf("%d connections in ten hours", n)
		}
	})
}

// deafConn swallows everything from a moment on: a host that lost its power.
type deafConn struct {
	net.Conn
	dead *atomic.Bool
}

func (c deafConn) Write(p []byte) (int, error) {
	if c.dead.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func TestDeadPeerIsNoticed(t *testing.T) {
	node := newSlow()
	synctest.Test(t, func(t *testing.T) {
		node.entered, node.release = make(chan ring.DeviceID, 10), make(chan struct{})
		s, p, dead := mustSecret(t, secretText), newPipes(), new(atomic.Bool)
		srv := NewServer(node, ServerConfig{Secret: s})
		h := &http.Server{Handler: srv}
		go h.Serve(p)
		c := NewClient("pipe:1", ClientConfig{
			Secret: s, Connections: 1, CallTimeout: time.Hour,
			Dial: func(ctx context.Context, n, a string) (net.Conn, error) {
				if dead.Load() {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				conn, err := p.dial(ctx, n, a)
				return deafConn{conn, dead}, err
			},
		})
		began := time.Now()
		failed := make(chan error)
		go func() { failed <- ask(c) }()
		<-node.entered
		dead.Store(true)
		err := <-failed
		if took := time.Since(began); !errs.Is(err, errs.Unavailable) || took > 7*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
		// The next one waits for one attempt, those after it do not wait at all.
		began = time.Now()
		if err := ask(c); !errs.Is(err, errs.Unavailable) || time.Since(began) > 3*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		for range 10 {
			began = time.Now()
			if err := ask(c); !errs.Is(err, errs.Unavailable) || time.Since(began) != 0 {
				t.Errorf("after %v: %v", time.Since(began), err)
			}
		}
		// The server notices too, and lets the call go.
		time.Sleep(20 * time.Second)
		synctest.Wait()
		srv.mu.Lock()
		if n := len(srv.conns); n != 0 {
			t.Errorf("the server keeps %d dead connections", n)
		}
		srv.mu.Unlock()
		c.Close()
		srv.Close()
		h.Close()
	})
}

// A peer that is away is tried again less and less often, and found soon after
// it is back, by calls that never wait for it.
func TestReconnect(t *testing.T) {
	bubble(t, deaf{}, ServerConfig{}, ClientConfig{Connections: 1}, func(t *testing.T, p *pipes, c *Client) {
		if err := ask(c); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		p.set(true)
		p.cut()
		synctest.Wait()
		before := p.dials()
		for range 600 {
			began := time.Now()
			if err := ask(c); !errs.Is(err, errs.Unavailable) || time.Since(began) != 0 {
				t.Fatalf("after %v: %v", time.Since(began), err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := p.dials() - before; n < 10 || n > 60 {
			t.Errorf("%d attempts in a minute", n)
		}
		p.set(false)
		time.Sleep(5 * time.Second)
		if err := ask(c); err != nil {
			t.Errorf("after it came back: %v", err)
		}
		// A connection that breaks while the peer is there is replaced at once.
		time.Sleep(time.Minute)
		p.cut()
		synctest.Wait()
		if err := ask(c); err != nil {
			t.Errorf("after a connection broke: %v", err)
		}
	})
}

func TestCallTimeout(t *testing.T) {
	node := newSlow()
	bubble(t, node, ServerConfig{}, ClientConfig{Connections: 1}, func(t *testing.T, p *pipes, c *Client) {
		node.entered = make(chan ring.DeviceID, 10)
		node.release = make(chan struct{})
		began := time.Now()
		err := ask(c)
		if took := time.Since(began); !errs.Is(err, errs.Unavailable) || took < 9*time.Second || took > 11*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
		if n := p.dials(); n != 1 {
			t.Errorf("a slow call cost the connection")
		}
	})
}

// A device that hangs takes its own places and no others.
func TestBusyDevice(t *testing.T) {
	for _, side := range []string{"client", "server"} {
		t.Run(side, func(t *testing.T) {
			node := newSlow()
			sc, cc := ServerConfig{MaxDeviceCalls: 5}, ClientConfig{}
			if side == "client" {
				sc, cc = ServerConfig{}, ClientConfig{MaxDeviceCalls: 5}
			}
			s := mustSecret(t, secretText)
			sc.Secret, cc.Secret = s, s
			addr, _ := loopback(t, node, sc)
			c := newTestClient(t, addr, cc)
			var wg sync.WaitGroup
			for range 5 {
				wg.Go(func() {
					if err := ask(c); err != nil {
						t.Errorf("a call that was let in: %v", err)
					}
				})
			}
			for range 5 {
				<-node.entered
			}
			if err := ask(c); !errs.Is(err, errs.Busy) {
				t.Errorf("the sixth: %v", err)
			}
			if _, err := c.Read(context.Background(), Target{Device: 2}, Objects, keyhash.Hash{}, false); err != nil {
				t.Errorf("another device: %v", err)
			}
			close(node.release)
			wg.Wait()
			if err := ask(c); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func TestBusyServer(t *testing.T) {
	node := newSlow()
	s := mustSecret(t, secretText)
	addr, _ := loopback(t, node, ServerConfig{Secret: s, MaxCalls: 3})
	c := newTestClient(t, addr, ClientConfig{Secret: s})
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			_, err := c.Learn(context.Background(), Target{Device: ring.DeviceID(i)}, Objects, keyhash.Hash{})
			if err != nil {
				t.Error(err)
			}
		})
	}
	for range 3 {
		<-node.entered
	}
	if _, err := c.Read(context.Background(), Target{Device: 9}, Objects, keyhash.Hash{}, false); !errs.Is(err, errs.Busy) {
		t.Errorf("the fourth: %v", err)
	}
	if _, err := c.Status(context.Background()); !errs.Is(err, errs.Busy) {
		t.Errorf("one without a device: %v", err)
	}
	close(node.release)
	wg.Wait()
}

// Too many bytes under way on one connection are refused, and the connection and
// its other calls live on.
func TestTooManyBytesUnderWay(t *testing.T) {
	node := newSlow()
	s := mustSecret(t, secretText)
	addr, _ := loopback(t, node, ServerConfig{Secret: s, MaxRequestBytes: 1000})
	c := newTestClient(t, addr, ClientConfig{Secret: s, Connections: 1})
	big := &register.Record{Ballot: timestamp.T{Micros: 1}, Value: make([]byte, 100_000)}
	for range 3 {
		_, err := c.Write(context.Background(), Target{}, Objects, keyhash.Hash{}, big)
		if !errs.Is(err, errs.Busy) {
			t.Errorf("100 kB where 1 kB may be: %v", err)
		}
		if _, err := c.Status(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

func TestFrameLimit(t *testing.T) {
	s := mustSecret(t, secretText)
	addr, _ := loopback(t, deaf{}, ServerConfig{Secret: s})
	c := newTestClient(t, addr, ClientConfig{Secret: s})
	big := &register.Record{Ballot: timestamp.T{Micros: 1}, Value: make([]byte, 9<<20)}
	if _, err := c.Write(context.Background(), Target{}, Objects, keyhash.Hash{}, big); !errs.Is(err, errs.TooLarge) {
		t.Errorf("9 MiB: %v", err)
	}
	if _, err := c.GetRows(context.Background(), Target{}, Objects, Listing{}, make([]string, MaxPage+1)); !errs.Is(err, errs.TooLarge) {
		t.Errorf("too many names: %v", err)
	}
}

// Whatever a peer sends behind a good handshake, the server ends its connection
// at worst.
func TestGarbageBehindTheHandshake(t *testing.T) {
	s := mustSecret(t, secretText)
	addr, srv := loopback(t, deaf{}, ServerConfig{Secret: s, MaxFrameBytes: 1000})
	frame := func(stream uint32, kind messageType, flags byte, payload string) []byte {
		b := append(make([]byte, frameHeaderSize), payload...)
		sealFrame(b, stream, kind, flags, 0)
		return b
	}
	bad := frame(1, msgLearn, 0, "x")
	bad[30-6]++
	for name, c := range map[string]struct {
		bytes []byte
		ends  bool
	}{
		"noise":          {bytes.Repeat([]byte{0xA5}, 500), true},
		"bad checksum":   {bad, true},
		"too long":       {frame(1, msgLearn, 0, string(make([]byte, 2000))), true},
		"an answer":      {frame(1, msgLearn, flagAnswer, ""), true},
		"unknown call":   {frame(500, 99, 0, "abc"), false},
		"bad payload":    {frame(500, msgWrite, 0, "abc"), false},
		"cancel nothing": {frame(77, msgCancel, 0, ""), false},
		"long ping":      {frame(0, msgPing, 0, string(make([]byte, 900))), false},
		"bad settle":     {frame(0, msgSettle, 0, "\xff\xff\xff"), false},
		"empty":          {frame(500, 0, 0, ""), false},
	} {
		t.Run(name, func(t *testing.T) {
			c2 := NewClient(addr, ClientConfig{Secret: s})
			defer c2.Close()
			l, err := c2.open()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { l.fail(io.EOF); l.loops.Wait() }()
			b := c2.pools.get(len(c.bytes))
			b.b = append(b.b, c.bytes...)
			l.queue.pushNow(b)
			if c.ends {
				select {
				case <-l.dead:
				case <-time.After(10 * time.Second):
					t.Error("the server goes on")
				}
				return
			}
			p, err := l.call(context.Background(), &asked{kind: msgStatus}, c2.pools.frame(0))
			if err != nil {
				t.Errorf("the connection is of no use: %x, %v", p, err)
			}
		})
	}
	_ = srv
}

// A client that takes no answers is cut off; handlers do not pile up for ever.
func TestClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := mustSecret(t, secretText), newPipes()
		srv := NewServer(deaf{}, ServerConfig{Secret: s, QueueBytes: 1})
		h := &http.Server{Handler: srv}
		go h.Serve(p)
		c := NewClient("pipe:1", ClientConfig{Secret: s, Dial: p.dial})
		conn, err := p.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		l, err := c.shake(conn)
		if err != nil {
			t.Fatal(err)
		}
		for i := range uint32(20) {
			b := make([]byte, frameHeaderSize)
			sealFrame(b, i+1, msgStatus, 0, 0)
			conn.SetWriteDeadline(time.Now().Add(time.Minute))
			if _, err := conn.Write(b); err != nil {
				t.Fatal(err)
			}
		}
		_ = l
		time.Sleep(40 * time.Second)
		synctest.Wait()
		srv.mu.Lock()
		if n := len(srv.conns); n != 0 {
			t.Errorf("%d connections", n)
		}
		srv.mu.Unlock()
		conn.Close()
		c.Close()
		srv.Close()
		h.Close()
	})
}

func TestSendQueueHoldsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newSendQueue(100)
		full := &buffer{b: make([]byte, 90)}
		if err := q.push(nil, nil, full); err != nil {
			t.Fatal(err)
		}
		pushed := make(chan error, 4)
		for range 3 {
			go func() { pushed <- q.push(nil, nil, &buffer{b: make([]byte, 20)}) }()
		}
		synctest.Wait()
		if len(pushed) != 0 {
			t.Fatal("more than the limit is queued")
		}
		done := make(chan struct{})
		close(done)
		if err := q.push(done, nil, full); !errs.Is(err, errs.Canceled) {
			t.Errorf("a caller that has gone: %v", err)
		}
		q.pushNow(&buffer{b: make([]byte, 24)})
		frames, _ := q.take(nil)
		synctest.Wait()
		if len(frames) != 2 || len(pushed) != 3 {
			t.Errorf("took %d, then %d", len(frames), len(pushed))
		}
		big := &buffer{b: make([]byte, 1000)}
		go func() { pushed <- q.push(nil, nil, big) }()
		synctest.Wait()
		q.close(io.EOF)
		synctest.Wait()
		if len(pushed) != 4 {
			t.Error("someone waits for a queue that is closed")
		}
		if err := q.push(nil, nil, full); err != io.EOF {
			t.Errorf("push after close: %v", err)
		}
		q.close(nil)
	})
	q := newSendQueue(100) // one frame above the limit goes when nothing else waits
	if err := q.push(nil, nil, &buffer{b: make([]byte, 1000)}); err != nil {
		t.Error(err)
	}
}

func TestCallContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCallContext(time.Second)
		if d, ok := c.Deadline(); !ok || time.Until(d) != time.Second || c.Err() != nil {
			t.Error(d, ok, c.Err())
		}
		child, cancel := context.WithCancel(c)
		defer cancel()
		<-child.Done()
		if c.Err() != context.DeadlineExceeded || child.Err() != context.DeadlineExceeded {
			t.Error(c.Err(), child.Err())
		}
		c.cancel(context.Canceled)
		if c.Err() != context.DeadlineExceeded {
			t.Error("the first cause counts")
		}

		c = newCallContext(time.Second) // whose channel nobody asked for in time
		time.Sleep(2 * time.Second)
		if c.Err() != context.DeadlineExceeded {
			t.Error(c.Err())
		}
		<-c.Done()

		c = newCallContext(0)
		if _, ok := c.Deadline(); ok || c.Err() != nil {
			t.Error("a deadline out of nowhere")
		}
		c.cancel(context.Canceled)
		<-c.Done()
		if c.Err() != context.Canceled || c.Value(1) != nil {
			t.Error(c.Err())
		}
	})
}

// settler counts what is settled.
type settler struct {
	deaf
	mu   sync.Mutex
	got  []uint64
	runs int
}

func (s *settler) Settle(_ Target, _ Service, done []register.Settled) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs++
	for _, d := range done {
		s.got = append(s.got, d.Ballot.Micros)
	}
}

// take returns what was settled since it was last asked, and in how many calls.
func (s *settler) take() (got []uint64, runs int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	got, runs = s.got, s.runs
	s.got, s.runs = nil, 0
	return got, runs
}

func TestSettleIsBatched(t *testing.T) {
	node := &settler{}
	cfg := ClientConfig{Connections: 1, SettleBatch: 10, SettleQueue: 25}
	bubble(t, node, ServerConfig{}, cfg, func(t *testing.T, p *pipes, c *Client) {
		if err := ask(c); err != nil {
			t.Fatal(err)
		}
		one := func(n uint64) {
			c.Settle(Target{Device: 1}, Objects, []register.Settled{{Ballot: timestamp.T{Micros: n}}})
		}
		one(1)
		one(2)
		synctest.Wait()
		if got, _ := node.take(); len(got) != 0 {
			t.Error("sent at once")
		}
		time.Sleep(6 * time.Millisecond)
		synctest.Wait()
		if got, runs := node.take(); fmt.Sprint(got) != "[1 2]" || runs != 1 {
			t.Errorf("got %v in %d calls", got, runs)
		}
		for n := range uint64(30) { // 25 may wait: the oldest go
			one(n)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		got, runs := node.take()
		slices.Sort(got) // batches are served side by side
		if len(got) != 25 || got[0] != 5 || got[24] != 29 || runs != 3 {
			t.Errorf("got %v in %d calls", got, runs)
		}
		p.set(true)
		p.cut()
		synctest.Wait()
		one(100)
		time.Sleep(time.Minute)
		p.set(false)
		time.Sleep(10 * time.Second)
		one(101)
		time.Sleep(time.Second)
		synctest.Wait()
		if got, _ := node.take(); fmt.Sprint(got) != "[101]" {
			t.Errorf("after the peer was away: %v", got)
		}
	})
}

// Fragments use connections again, also after their server closed an idle one.
func TestStreamsAreKept(t *testing.T) {
	s := mustSecret(t, secretText)
	srv := NewServer(deaf{}, ServerConfig{Secret: s})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var opened atomic.Int64
	idle := make(chan net.Conn, 100)
	h := &http.Server{Handler: srv, ConnState: func(c net.Conn, st http.ConnState) {
		switch st {
		case http.StateNew:
			opened.Add(1)
		case http.StateIdle:
			idle <- c
		}
	}}
	go h.Serve(l)
	c := NewClient(l.Addr().String(), ClientConfig{Secret: s, Connections: 1})
	defer func() { c.Close(); srv.Close(); h.Close() }()
	put := func() {
		t.Helper()
		w, err := c.CreateFragment(context.Background(), Target{}, &FragmentHeader{Size: -1})
		if err == nil {
			_, err = w.Write(make([]byte, 200_000))
		}
		if err == nil {
			err = w.Commit(context.Background(), 200_000)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	get := func() {
		t.Helper()
		r, err := c.OpenFragment(context.Background(), Target{}, FragmentName{}, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
	for range 20 {
		put()
		<-idle
		get()
		<-idle
	}
	if n := opened.Load(); n != 2 { // one of frames, one of fragments
		t.Errorf("%d connections", n)
	}
	put()
	conn := <-idle
	conn.Close()
	put()
	if n := opened.Load(); n != 3 {
		t.Errorf("%d connections after one was closed", n)
	}
}

func TestFragmentStreamsAreBounded(t *testing.T) {
	s := mustSecret(t, secretText)
	addr, srv := loopback(t, deaf{}, ServerConfig{Secret: s, MaxDeviceStreams: 2})
	c := newTestClient(t, addr, ClientConfig{Secret: s, MaxDeviceStreams: 3})
	var open []FragmentWriter
	for range 2 {
		w, err := c.CreateFragment(context.Background(), Target{Device: 1}, &FragmentHeader{})
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, w)
	}
	if _, err := c.CreateFragment(context.Background(), Target{Device: 1}, &FragmentHeader{}); !errs.Is(err, errs.Busy) {
		t.Errorf("the third on one device: %v", err)
	}
	w, err := c.CreateFragment(context.Background(), Target{Device: 2}, &FragmentHeader{})
	if err != nil {
		t.Errorf("another device: %v", err)
	} else {
		w.Abort()
	}
	for _, w := range open {
		if err := w.Commit(context.Background(), 0); err != nil {
			t.Error(err)
		}
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		srv.streams.mu.Lock()
		n := srv.streams.count
		srv.streams.mu.Unlock()
		if n == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d places are not given back", n)
		}
	}
	if n := c.streams.places.count; n != 0 || len(c.streams.places.devices) != 0 {
		t.Errorf("%d places of the client are not given back", n)
	}
}
