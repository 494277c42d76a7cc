package peer

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
	"ringfort/ring"
)

// logged is a node whose device 1 has a log, which a write makes longer.
type logged struct {
	deaf
	position atomic.Uint64
}

func (n *logged) DeviceState(d ring.DeviceID) (DeviceState, bool) {
	return DeviceState{Generation: 7, Position: n.position.Load()}, d == 1
}

func (n *logged) Write(context.Context, Target, Service, keyhash.Hash, *register.Record) (register.Answer, error) {
	n.position.Add(1)
	return register.Answer{Accepted: true}, nil
}

func (n *logged) Prepare(context.Context, Target, Service, keyhash.Hash, timestamp.T, timestamp.T) (register.Answer, error) {
	return register.Answer{}, errs.New("logged", errs.Full, "no room")
}

type report struct {
	device      ring.DeviceID
	before, now DeviceState
}

// watch remembers as the protocol wants it, and what it was told.
type watch struct {
	mu    sync.Mutex // guards the rest
	known map[ring.DeviceID]DeviceState
	told  []report
}

func (w *watch) Known(d ring.DeviceID) DeviceState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.known[d]
}

func (w *watch) Told(d ring.DeviceID, before, now DeviceState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known == nil {
		w.known = map[ring.DeviceID]DeviceState{}
	}
	w.known[d] = w.known[d].Max(now)
	w.told = append(w.told, report{d, before, now})
}

func (w *watch) last(t *testing.T, n int) report {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.told) != n {
		t.Fatalf("told %d times, not %d: %+v", len(w.told), n, w.told)
	}
	return w.told[n-1]
}

// Every answer of a device says how far it has come, the answer to a write with the
// write, and the error that it answers too.
func TestAnswersCarryTheDevice(t *testing.T) {
	node, w := &logged{}, &watch{}
	node.position.Store(300)
	bubble(t, node, ServerConfig{}, ClientConfig{Devices: w}, func(t *testing.T, _ *pipes, c *Client) {
		ctx, rec := t.Context(), &register.Record{Ballot: timestamp.T{Micros: 1}, TS: timestamp.T{Micros: 1}}
		if err := ask(c); err != nil {
			t.Fatal(err)
		}
		if got, want := w.last(t, 1), (report{1, DeviceState{}, DeviceState{7, 300}}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if a, err := c.Write(ctx, Target{Device: 1}, Objects, keyhash.Hash{}, rec); err != nil || !a.Accepted {
			t.Fatalf("%+v, %v", a, err)
		}
		if got, want := w.last(t, 2), (report{1, DeviceState{7, 300}, DeviceState{7, 301}}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		node.position.Store(5) // the device has gone back
		if _, err := c.Prepare(ctx, Target{Device: 1}, Objects, keyhash.Hash{}, timestamp.T{Micros: 2}, timestamp.T{}); !errs.Is(err, errs.Full) {
			t.Fatal(err)
		}
		got := w.last(t, 3)
		if want := (report{1, DeviceState{7, 301}, DeviceState{7, 5}}); got != want || !got.now.Behind(got.before) {
			t.Errorf("%+v, want %+v", got, want)
		}
		// A device that tells nothing, and a call that is for no device.
		if _, err := c.Learn(ctx, Target{Device: 2}, Objects, keyhash.Hash{}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Status(ctx); err != nil {
			t.Fatal(err)
		}
		w.last(t, 3)
	})
}

// A message that this program does not know is answered so, and the connection goes on;
// an answer that says more than this program knows fails its call.
func TestNewerMessages(t *testing.T) {
	bubble(t, deaf{}, ServerConfig{}, ClientConfig{Connections: 1}, func(t *testing.T, p *pipes, c *Client) {
		for _, kind := range []messageType{77, 127, 200} {
			b := c.pools.frame(8)
			b.b = appendTarget(b.b, Target{Device: 1})
			if _, err := c.exchange(t.Context(), kind, 1, b); !errs.Is(err, errs.NotImplemented) {
				t.Errorf("message %d: %v", kind, err)
			}
		}
		if err := ask(c); err != nil || p.dials() != 1 {
			t.Errorf("%v, %d connections", err, p.dials())
		}
		l := c.slots[0].current()
		a := answer{header: frameHeader{kind: msgLearn, flags: flagAnswer | flagsKnown + 1}, frame: make([]byte, frameHeaderSize)}
		if _, err := l.result(t.Context(), &asked{kind: msgLearn}, &a); !errs.Is(err, errs.NotImplemented) {
			t.Errorf("an answer with a flag of a newer program: %v", err)
		}
		a.header.flags = flagAnswer | flagDevice
		if _, err := l.result(t.Context(), &asked{kind: msgLearn}, &a); !errs.Is(err, errs.Corrupt) {
			t.Errorf("an answer without the state that it announces: %v", err)
		}
	})
}

// An answer that was sent before another one and comes after it tells less, and no
// device has gone back: it is held against what was known when it was asked for.
func TestOvertakenAnswers(t *testing.T) {
	w := &watch{}
	c := NewClient("pipe:1", ClientConfig{Devices: w})
	defer c.Close()
	early, late := &asked{kind: msgWrite, device: 1, known: w.Known(1)}, &asked{kind: msgWrite, device: 1, known: w.Known(1)}
	c.told(late, DeviceState{1, 20})
	c.told(early, DeviceState{1, 10})
	for _, r := range w.told {
		if r.now.Behind(r.before) {
			t.Errorf("%+v", r)
		}
	}
	if got := w.Known(1); got != (DeviceState{1, 20}) {
		t.Errorf("remembered %+v", got)
	}
}

func FuzzCutDeviceState(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 2, 2})
	f.Add(appendDeviceState([]byte("payload"), DeviceState{1 << 40, 1<<64 - 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		rest, s, err := cutDeviceState(b)
		if err != nil {
			if !errs.Is(err, errs.Corrupt) {
				t.Fatal(err)
			}
			return
		}
		if again := appendDeviceState(rest, s); string(again) != string(b) {
			t.Fatalf("%x became %x", b, again)
		}
	})
}
