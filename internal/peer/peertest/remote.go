package peertest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/peer"
	"ringfort/internal/register"
)

// Connection is a node behind a transport.
type Connection struct {
	Node peer.Node // the near end
	Stop func()    // ends the far end at once, as a crash would
}

// Remote is the suite of what a transport adds to a Node: failures that travel,
// peers that hang, connections that break.
type Remote struct {
	// Connect puts node behind the transport; calls that are not answered are to
	// fail within about timeout.
	Connect func(t *testing.T, node peer.Node, timeout time.Duration) Connection
}

// Run runs the suite.
func (r Remote) Run(t *testing.T) {
	for _, c := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"ErrorKinds", r.errorKinds},
		{"HungPeer", r.hungPeer},
		{"CancelReachesThePeer", r.cancelReachesThePeer},
		{"DeadlineReachesThePeer", r.deadlineReachesThePeer},
		{"Panic", r.panics},
		{"LostInMidCall", r.lostInMidCall},
		{"LostInMidFragment", r.lostInMidFragment},
		{"FragmentGivenUp", r.fragmentGivenUp},
		{"FragmentContextEnds", r.fragmentContextEnds},
		{"FragmentRefused", r.fragmentRefused},
		{"FragmentReadFails", r.fragmentReadFails},
	} {
		t.Run(c.name, c.run)
	}
}

// short is the call timeout of tests in which calls hang; long that of the others.
const (
	short = 150 * time.Millisecond
	long  = 20 * time.Second
)

// inTime fails the test unless fn returns in time, and returns what it returned.
func inTime(t *testing.T, what string, fn func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- fn() }()
	select {
	case err := <-done:
		return err
	case <-time.After(limit):
		t.Fatalf("%s does not end", what)
		return nil
	}
}

// connect returns a suite over a transport to a fake.
func (r Remote) connect(t *testing.T, timeout time.Duration) (*suite, *Fake, Connection) {
	t.Helper()
	f := NewFake()
	c := r.Connect(t, f, timeout)
	x := newSuite(Suite{Open: func(*testing.T) peer.Node { return c.Node }}, t)
	return x, f, c
}

func learn(ctx context.Context, x *suite, o object) error {
	_, err := x.node.Learn(ctx, o.target, peer.Objects, o.key)
	return err
}

// hold makes every call of the given name wait until the test ends or its
// context does; entered tells of each.
func hold(t *testing.T, f *Fake, call string) (entered chan context.Context) {
	entered = make(chan context.Context, 100)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	f.Intercept(func(ctx context.Context, c string) error {
		if c != call {
			return nil
		}
		entered <- ctx
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-release:
			return errs.New("test", errs.Other, "the test is over")
		}
	})
	return entered
}

func (r Remote) errorKinds(t *testing.T) {
	x, f, _ := r.connect(t, long)
	o, frag := x.object(), x.fragment(10)
	for kind := errs.Other; kind <= errs.Gone; kind++ {
		told := errs.New("test", kind, "because of %d", kind)
		f.Intercept(func(context.Context, string) error { return told })
		for name, call := range map[string]func() error{
			"Learn": func() error { return learn(x.ctx(t), x, o) },
			"PutRows": func() error {
				return x.node.PutRows(x.ctx(t), o.target, peer.Containers, peer.Listing{Table: catalog.Objects}, nil)
			},
			"Revoke":         func() error { return x.node.Revoke(x.ctx(t), o.key) },
			"CreateFragment": func() error { _, err := x.node.CreateFragment(x.ctx(t), o.target, &frag.header); return err },
			"OpenFragment": func() error {
				_, err := x.node.OpenFragment(x.ctx(t), o.target, frag.name(), 0, 1)
				return err
			},
		} {
			err := call()
			if err == nil || errs.KindOf(err) != kind || !strings.Contains(err.Error(), "because of") {
				t.Errorf("%s: %v became %v (%v)", name, kind, err, errs.KindOf(err))
			}
		}
	}
	f.Intercept(nil)
	if err := learn(x.ctx(t), x, o); err != nil {
		t.Error(err)
	}
	f.Intercept(func(context.Context, string) error {
		return errs.New("test", errs.Full, strings.Repeat("long", 1<<20))
	})
	if err := learn(x.ctx(t), x, o); !errs.Is(err, errs.Full) || len(err.Error()) > 1<<16 {
		t.Errorf("a long explanation: %d bytes, %v", len(err.Error()), errs.KindOf(err))
	}
}

func (r Remote) hungPeer(t *testing.T) {
	x, f, _ := r.connect(t, short)
	o := x.object()
	if err := learn(x.ctx(t), x, o); err != nil {
		t.Fatal(err)
	}
	hold(t, f, "Learn")
	err := inTime(t, "a call of a peer that hangs", func() error { return learn(context.Background(), x, o) })
	wantKind(t, err, errs.Unavailable)
	// Others are not held up.
	if _, err := x.node.Read(x.ctx(t), o.target, peer.Objects, o.key, false); err != nil {
		t.Errorf("a call beside the one that hangs: %v", err)
	}
}

func (r Remote) cancelReachesThePeer(t *testing.T) {
	x, f, _ := r.connect(t, long)
	entered := hold(t, f, "Learn")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- learn(ctx, x, x.object()) }()
	there := <-entered
	cancel()
	err := inTime(t, "a cancelled call", func() error { return <-done })
	wantKind(t, err, errs.Canceled)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v hides the context's error", err)
	}
	inTime(t, "the call at the peer", func() error { <-there.Done(); return nil })
}

func (r Remote) deadlineReachesThePeer(t *testing.T) {
	x, f, _ := r.connect(t, long)
	entered := hold(t, f, "Learn")
	ctx, cancel := context.WithTimeout(context.Background(), short)
	defer cancel()
	err := inTime(t, "a call with a deadline", func() error { return learn(ctx, x, x.object()) })
	wantKind(t, err, errs.Canceled)
	there := <-entered
	if d, ok := there.Deadline(); !ok || time.Until(d) > short {
		t.Errorf("the deadline there is %v, %v", d, ok)
	}
	inTime(t, "the call at the peer", func() error { <-there.Done(); return nil })
	if there.Err() == nil {
		t.Error("ended without an error")
	}
}

func (r Remote) panics(t *testing.T) {
	x, f, _ := r.connect(t, long)
	o, frag := x.object(), x.fragment(10)
	for range 3 {
		f.Intercept(func(context.Context, string) error { panic("on purpose") })
		if err := learn(x.ctx(t), x, o); err == nil || errs.Is(err, errs.Unavailable) {
			t.Errorf("a panic is answered with %v", err)
		}
		if _, err := x.node.CreateFragment(x.ctx(t), frag.target, &frag.header); err == nil {
			t.Error("a panic is answered with a fragment")
		}
		f.Intercept(nil)
		if err := learn(x.ctx(t), x, o); err != nil {
			t.Errorf("after a panic: %v", err)
		}
		x.put(t, frag, x.bytes(10), 10)
	}
}

func (r Remote) lostInMidCall(t *testing.T) {
	x, f, c := r.connect(t, long)
	entered := hold(t, f, "Learn")
	const calls = 50
	failed := make(chan error, calls)
	for range calls {
		o := x.object()
		go func() { failed <- learn(context.Background(), x, o) }()
	}
	for range calls {
		<-entered
	}
	go c.Stop()
	for range calls {
		err := inTime(t, "a call whose connection is lost", func() error { return <-failed })
		wantKind(t, err, errs.Unavailable)
	}
	for range 3 {
		o := x.object()
		err := inTime(t, "a call of a peer that is gone", func() error { return learn(context.Background(), x, o) })
		wantKind(t, err, errs.Unavailable)
	}
	err := inTime(t, "a fragment of a peer that is gone", func() error {
		frag := x.fragment(1)
		_, err := x.node.CreateFragment(context.Background(), frag.target, &frag.header)
		return err
	})
	wantKind(t, err, errs.Unavailable)
	x.node.Settle(peer.Target{}, peer.Objects, []register.Settled{{}}) // must not wait
}

func (r Remote) lostInMidFragment(t *testing.T) {
	x, f, c := r.connect(t, long)
	frag := x.fragment(1 << 30)
	w, err := x.node.CreateFragment(x.ctx(t), frag.target, &frag.header)
	if err != nil {
		t.Fatal(err)
	}
	piece := x.bytes(1 << 20)
	if _, err := w.Write(piece); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() { c.Stop(); close(stopped) }()
	err = inTime(t, "writing to a peer that is gone", func() error {
		for {
			if _, err := w.Write(piece); err != nil {
				return err
			}
		}
	})
	wantKind(t, err, errs.Unavailable)
	if err := inTime(t, "Commit", func() error { return w.Commit(context.Background(), 1<<30) }); err == nil {
		t.Error("committed on a peer that is gone")
	}
	w.Abort()
	inTime(t, "Stop", func() error { <-stopped; return nil })
	if n := f.OpenWriters(); n != 0 {
		t.Errorf("%d fragments are still open at the peer", n)
	}
}

// waitFor asks until ok; the far side of a transport is not told when it is done.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not happen", what)
		}
	}
}

func (r Remote) fragmentGivenUp(t *testing.T) {
	x, f, _ := r.connect(t, long)
	for _, written := range []int{0, 10, 1 << 20} {
		frag := x.fragment(-1)
		w, err := x.node.CreateFragment(x.ctx(t), frag.target, &frag.header)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(x.bytes(written)); err != nil {
			t.Fatal(err)
		}
		w.Abort()
		waitFor(t, "the end of the fragment at the peer", func() bool { return f.OpenWriters() == 0 })
		x.wantAbsent(t, frag)
	}
}

func (r Remote) fragmentContextEnds(t *testing.T) {
	x, f, _ := r.connect(t, long)
	entered := hold(t, f, "CommitFragment")
	frag := x.fragment(10)
	w, err := x.node.CreateFragment(x.ctx(t), frag.target, &frag.header)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(x.bytes(10)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Commit(ctx, 10) }()
	there := <-entered
	cancel()
	wantKind(t, inTime(t, "Commit", func() error { return <-done }), errs.Canceled)
	inTime(t, "the commit at the peer", func() error { <-there.Done(); return nil })

	entered = hold(t, f, "OpenFragment")
	ctx, cancel = context.WithCancel(context.Background())
	go func() { <-entered; cancel() }()
	err = inTime(t, "OpenFragment", func() error {
		_, err := x.node.OpenFragment(ctx, frag.target, frag.name(), 0, 10)
		return err
	})
	wantKind(t, err, errs.Canceled)
}

// fragmentRefused: a device that fills up stops reading, and the writer must
// learn why, neither hang nor report a broken connection.
func (r Remote) fragmentRefused(t *testing.T) {
	x, f, _ := r.connect(t, long)
	piece := x.bytes(1 << 20)
	for range 5 {
		var once sync.Once
		f.Intercept(func(_ context.Context, call string) error {
			var err error
			if call == "WriteFragment" {
				once.Do(func() { err = errs.New("test", errs.Full, "no room") })
			}
			return err
		})
		frag := x.fragment(1 << 30)
		w, err := x.node.CreateFragment(x.ctx(t), frag.target, &frag.header)
		if err != nil {
			t.Fatal(err)
		}
		err = inTime(t, "writing to a device that is full", func() error {
			for {
				if _, err := w.Write(piece); err != nil {
					return err
				}
			}
		})
		wantKind(t, err, errs.Full)
		if err := w.Commit(x.ctx(t), 1<<30); !errs.Is(err, errs.Full) {
			t.Errorf("Commit after a failed write: %v", err)
		}
	}
	f.Intercept(func(_ context.Context, call string) error {
		if call == "CommitFragment" {
			return errs.New("test", errs.Full, "no room")
		}
		return nil
	})
	frag := x.fragment(1000)
	w, err := x.node.CreateFragment(x.ctx(t), frag.target, &frag.header)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(x.bytes(1000))
	wantKind(t, w.Commit(x.ctx(t), 1000), errs.Full)
	f.Intercept(nil)
	x.put(t, frag, x.bytes(1000), 1000)
}

// fragmentReadFails: what was read before a bad block arrives, then the error.
func (r Remote) fragmentReadFails(t *testing.T) {
	x, f, _ := r.connect(t, long)
	const size = 1 << 20
	frag := x.fragment(size)
	data := x.bytes(size)
	x.put(t, frag, data, size)
	for _, good := range []int{0, 1, 3} {
		reads := 0
		f.Intercept(func(_ context.Context, call string) error {
			if call == "ReadFragment" {
				if reads++; reads > good {
					return errs.New("test", errs.Corrupt, "a bad block")
				}
			}
			return nil
		})
		rd, err := x.node.OpenFragment(x.ctx(t), frag.target, frag.name(), 0, size)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(rd)
		wantKind(t, err, errs.Corrupt)
		if len(got) == size || !bytes.HasPrefix(data, got) || (good > 0 && len(got) == 0) {
			t.Errorf("%d bytes before the error, of %d good reads", len(got), good)
		}
		rd.Close()
	}
	f.Intercept(nil)
	if got := x.get(t, frag, 0, size); !bytes.Equal(got, data) {
		t.Error("wrong bytes")
	}
}
