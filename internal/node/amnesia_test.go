package node

import (
	"bytes"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/ring"
)

// A device that tells less than it had told is reported once for each time that it
// was opened; answers that overtake one another are not.
func TestDeviceMemory(t *testing.T) {
	var out bytes.Buffer
	m := newDeviceMemory(slog.New(slog.NewTextHandler(&out, nil)))
	st := func(g, p uint64) peer.DeviceState { return peer.DeviceState{Generation: g, Position: p} }
	for _, c := range []struct {
		what        string
		before, now peer.DeviceState
		known       peer.DeviceState
		reports     int64
	}{
		{"the first answer", st(0, 0), st(3, 100), st(3, 100), 0},
		{"a later one", st(3, 100), st(3, 110), st(3, 110), 0},
		{"one that was overtaken", st(3, 100), st(3, 105), st(3, 110), 0},
		{"opened again", st(3, 110), st(4, 112), st(4, 112), 0},
		{"set back, and opened", st(4, 112), st(4, 90), st(4, 112), 1},
		{"the same still", st(4, 112), st(4, 91), st(4, 112), 1},
		{"opened again, and still behind", st(4, 112), st(5, 95), st(5, 112), 2},
		{"emptied", st(5, 112), st(1, 200), st(5, 200), 3},
	} {
		m.Told(7, c.before, c.now)
		if got := m.Known(7); got != c.known || m.behind.Load() != c.reports {
			t.Errorf("%s: knows %+v and has reported %d, want %+v and %d", c.what, got, m.behind.Load(), c.known, c.reports)
		}
	}
	if n := strings.Count(out.String(), "a device has gone back"); n != 3 {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
	if got := m.Known(8); got != (peer.DeviceState{}) {
		t.Errorf("another device is known by %+v", got)
	}
}

// A node's devices tell their volume's numbers to whoever asks over the network.
func TestDevicesTell(t *testing.T) {
	dirs := tempDirs(t, 1)
	watch := newDeviceMemory(slog.New(slog.DiscardHandler))
	look := func() peer.DeviceState {
		n := open(t, testConfig(dirs...))
		defer n.Close()
		secret, err := peer.NewSecret([]byte("a secret of the cluster"))
		if err != nil {
			t.Fatal(err)
		}
		ps := peer.NewServer(n.local, peer.ServerConfig{Secret: secret})
		srv := httptest.NewServer(ps)
		c := peer.NewClient(strings.TrimPrefix(srv.URL, "http://"), peer.ClientConfig{Secret: secret, Devices: watch})
		defer func() { c.Close(); srv.Close(); ps.Close() }()
		if _, err := c.Learn(t.Context(), peer.Target{Device: 1}, peer.Objects, keyhash.Hash{}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Learn(t.Context(), peer.Target{Device: 99}, peer.Objects, keyhash.Hash{}); !errs.Is(err, errs.Unavailable) {
			t.Fatal(err)
		}
		return watch.Known(1)
	}
	first := look()
	second := look()
	if first.Generation == 0 || first.Position == 0 || second.Generation != first.Generation+1 || second.Position <= first.Position {
		t.Errorf("%+v, and after another opening %+v", first, second)
	}
	if watch.behind.Load() != 0 {
		t.Error("a device that was only opened again has gone back")
	}
	if _, ok := (&Local{}).DeviceState(1); ok {
		t.Error("a device that is not there tells something")
	}
}

// Epochs are compared with the ring of the request's own service and policy.
func TestEpochsOfPolicies(t *testing.T) {
	ringAt := func(epoch ring.Epoch) *ring.Ring {
		r, err := ring.New(ring.Spec{
			ID: ring.UUID{1}, Epoch: epoch, Replicas: 1,
			Devices: []ring.Device{{ID: 1, UUID: ring.UUID{2}, Region: "r", Zone: "z", Node: "n", Address: "a:1", Weight: 1}},
			Table:   []ring.DeviceID{1},
		})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	c := &cluster{rings: &Rings{
		Account: ringAt(3), Container: ringAt(5),
		Policies: []RingPolicy{{Name: "a", Index: 0, Ring: ringAt(10)}, {Name: "b", Index: 4, Ring: ringAt(2)}},
	}}
	l := &Local{name: "n", epoch: c.epoch, devices: map[ring.DeviceID]*device{1: {id: 1, running: &services{}}}}
	for _, x := range []struct {
		s      peer.Service
		policy uint32
		epoch  uint64
		kind   errs.Kind // 0: it is let in
	}{
		{peer.Objects, 0, 10, 0},
		{peer.Objects, 0, 11, 0},
		{peer.Objects, 0, 9, errs.Moved},
		{peer.Objects, 4, 2, 0},
		{peer.Objects, 4, 1, errs.Moved},
		{peer.Objects, 4, 0, 0}, // a ring that never changes
		{peer.Objects, 1, 10, errs.Invalid},
		{peer.Containers, 0, 5, 0},
		{peer.Containers, 0, 4, errs.Moved},
		{peer.Containers, 4, 5, errs.Invalid},
		{peer.Accounts, 0, 3, 0},
		{peer.Accounts, 0, 2, errs.Moved},
		{peer.Accounts, 4, 3, errs.Invalid},
		{9, 0, 10, errs.Invalid},
	} {
		_, done, err := l.use(peer.Target{Device: 1, Policy: x.policy, Epoch: x.epoch}, x.s)
		if err == nil {
			done()
		}
		if got := errs.KindOf(err); got != x.kind || (err == nil) != (x.kind == 0) {
			t.Errorf("service %d, policy %d, epoch %d: %v", x.s, x.policy, x.epoch, err)
		}
	}
}
