package replicator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
)

// fakeDevice is a device's services, in memory.
type fakeDevice struct {
	notes    map[peer.Service]map[keyhash.Hash]int64 // µs
	suspects []Group
	groups   []Group // of fragments that no record names, in order of their owners
	stray    int     // files without an entry

	asked     []time.Time // the times that Groups and Reconcile were given
	reconcile error
	listErr   error
}

func (d *fakeDevice) Notes(s peer.Service, start keyhash.Hash, before int64, fn func(keyhash.Hash, register.Note) bool) error {
	if d.listErr != nil {
		return d.listErr
	}
	var keys []keyhash.Hash
	for k, micros := range d.notes[s] {
		if micros <= before && bytes.Compare(k[:], start[:]) > 0 {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b keyhash.Hash) int { return bytes.Compare(a[:], b[:]) })
	for _, k := range keys {
		if !fn(k, register.Note{Micros: d.notes[s][k]}) {
			break
		}
	}
	return nil
}

func (d *fakeDevice) Value(s peer.Service, key keyhash.Hash) (uint32, []byte, error) {
	if _, ok := d.notes[s][key]; !ok {
		return 0, nil, nil
	}
	return policyOf(s), fmt.Appendf(nil, "%d/%v", s, key), nil
}

func (d *fakeDevice) Suspects(fn func(Group) bool) error {
	for _, g := range d.suspects {
		if !fn(g) {
			break
		}
	}
	return nil
}

func (d *fakeDevice) Acquit(g Group) {
	d.suspects = slices.DeleteFunc(slices.Clone(d.suspects), func(x Group) bool { return x == g })
}

func (d *fakeDevice) Groups(start []byte, before time.Time, fn func([]byte, Group) bool) error {
	d.asked = append(d.asked, before)
	for _, g := range d.groups {
		at := g.Owner[:]
		if bytes.Compare(at, start) > 0 && g.Group.Time().Before(before) && !fn(at, g) {
			break
		}
	}
	return nil
}

func (d *fakeDevice) Reconcile(_ context.Context, before time.Time) (int, error) {
	d.asked = append(d.asked, before)
	n := d.stray
	d.stray = 0
	return n, d.reconcile
}

// fakeGateway settles and sweeps over all devices.
type fakeGateway struct {
	devices   []*fakeDevice
	delivered []string
	swept     []Group
	alive     map[timestamp.T]bool
	err       error  // of the next calls
	then      func() // called after each delivery
}

// policyOf is the policy under which a fake device holds its keys.
func policyOf(s peer.Service) uint32 {
	if s == peer.Objects {
		return 7
	}
	return 0
}

func (g *fakeGateway) Deliver(_ context.Context, s peer.Service, policy uint32, key keyhash.Hash, value []byte) error {
	if g.err != nil {
		return g.err
	}
	if policy != policyOf(s) && value != nil {
		return errs.New("test", errs.Invalid, "delivered under policy %d", policy)
	}
	g.delivered = append(g.delivered, string(value))
	for _, d := range g.devices {
		delete(d.notes[s], key)
	}
	if g.then != nil {
		g.then()
	}
	return nil
}

func (g *fakeGateway) Sweep(_ context.Context, policy uint32, owner keyhash.Hash, group timestamp.T) (bool, error) {
	if g.err != nil {
		return false, g.err
	}
	if g.alive[group] {
		return false, nil
	}
	gone := Group{owner, group, policy}
	g.swept = append(g.swept, gone)
	for _, d := range g.devices {
		d.groups = slices.DeleteFunc(slices.Clone(d.groups), func(x Group) bool { return x == gone })
	}
	return true, nil
}

func ago(d time.Duration) timestamp.T {
	return timestamp.T{Micros: uint64(time.Now().Add(-d).UnixMicro()), Writer: 1}
}

// work has a replicator go over the devices in virtual time.
func work(t *testing.T, g *fakeGateway, cfg Config, fn func(t *testing.T, r *Replicator, logged func() string)) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		cfg.Gateway, cfg.Log = g, slog.New(slog.NewTextHandler(&log, nil))
		var list []Device
		for _, d := range g.devices {
			list = append(list, d)
		}
		fn(t, New(cfg, list), log.String)
	})
}

func TestOldNotesAreSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDevice{notes: map[peer.Service]map[keyhash.Hash]int64{}}
		now := time.Now()
		want := 0
		for _, s := range []peer.Service{peer.Objects, peer.Containers, peer.Accounts} {
			d.notes[s] = map[keyhash.Hash]int64{{0xff, byte(s)}: now.UnixMicro()} // a young one
			for i := range 2*page + 3 {
				d.notes[s][keyhash.Hash{byte(i >> 8), byte(i), 1}] = now.Add(-30 * time.Second).UnixMicro()
				want++
			}
		}
		g := &fakeGateway{devices: []*fakeDevice{d}}
		r := New(Config{Gateway: g, PerSecond: 1000}, []Device{d})
		r.started = now.Add(-time.Hour) // else all notes here are from before it
		r.Round(context.Background())
		if len(g.delivered) != want {
			t.Errorf("%d of %d old notes were settled", len(g.delivered), want)
		}
		for s, left := range d.notes {
			if len(left) != 1 || left[keyhash.Hash{0xff, byte(s)}] == 0 {
				t.Errorf("service %d: %d notes are left", s, len(left))
			}
		}
		if took := time.Since(now); took < time.Duration(want)*time.Millisecond {
			t.Errorf("%d keys in %v: faster than was configured", want, took)
		}
		time.Sleep(time.Minute)
		r.Round(context.Background())
		if len(g.delivered) != want+3 {
			t.Error("the young ones have grown old, and are not settled")
		}
	})
}

func TestSuspects(t *testing.T) {
	dead, alive := Group{keyhash.Hash{1}, timestamp.T{Micros: 1}, 4}, Group{keyhash.Hash{2}, timestamp.T{Micros: 2}, 5}
	d := &fakeDevice{suspects: []Group{dead, alive}}
	g := &fakeGateway{devices: []*fakeDevice{d}, alive: map[timestamp.T]bool{alive.Group: true}}
	work(t, g, Config{}, func(t *testing.T, r *Replicator, _ func() string) {
		g.err = errs.New("fake", errs.Unavailable, "no quorum")
		r.Round(context.Background())
		if len(d.suspects) != 2 || len(g.swept) != 0 {
			t.Errorf("without a quorum: %v are left, %v swept", d.suspects, g.swept)
		}
		g.err = nil
		r.Round(context.Background())
		if len(d.suspects) != 0 || !slices.Equal(g.swept, []Group{dead}) {
			t.Errorf("%v are left, %v swept", d.suspects, g.swept)
		}
	})
}

func TestOrphans(t *testing.T) {
	d := &fakeDevice{stray: 3}
	g := &fakeGateway{devices: []*fakeDevice{d}, alive: map[timestamp.T]bool{}}
	work(t, g, Config{PerSecond: 1000}, func(t *testing.T, r *Replicator, logged func() string) {
		var want []Group
		for i := range page + 50 {
			old := Group{keyhash.Hash{byte(i >> 8), byte(i), 1}, ago(25 * time.Hour), 1}
			d.groups = append(d.groups, old, old) // two fragments of one
			want = append(want, old)
		}
		young := Group{keyhash.Hash{0xf1}, ago(23 * time.Hour), 1}
		upload := Group{keyhash.Hash{0xf2}, ago(100 * time.Hour), 1}
		g.alive[upload.Group] = true
		d.groups = append(d.groups, young, upload)
		r.Round(context.Background())
		seen := map[Group]bool{}
		for _, x := range g.swept {
			seen[x] = true
		}
		for _, x := range want {
			if !seen[x] {
				t.Fatalf("%v was not swept", x)
			}
		}
		if seen[young] || seen[upload] {
			t.Error("what is young or alive was swept")
		}
		if d.stray != 0 || !strings.Contains(logged(), "files=3") {
			t.Errorf("files without an entry: %d, %s", d.stray, logged())
		}
		for _, before := range d.asked {
			if age := time.Since(before); age < 24*time.Hour {
				t.Errorf("asked for orphans no older than %v", age)
			}
		}

		// The search is repeated when its time has come, and not before.
		d.asked = nil
		r.Round(context.Background())
		if len(d.asked) != 0 {
			t.Error("orphans are looked for in each round")
		}
		time.Sleep(2 * time.Hour)
		r.Round(context.Background())
		if len(d.asked) == 0 || !slices.Contains(g.swept, young) {
			t.Error("orphans are never looked for again")
		}
	})
}

// A device out of service does not keep the others from being looked after, and
// what an operator should see is logged.
func TestOneBadDevice(t *testing.T) {
	k := keyhash.Hash{1}
	bad := &fakeDevice{listErr: errors.New("the disk has rotted"), reconcile: errs.New("fake", errs.Unavailable, "out of service")}
	good := &fakeDevice{notes: map[peer.Service]map[keyhash.Hash]int64{peer.Objects: {k: 1}}}
	g := &fakeGateway{devices: []*fakeDevice{bad, good}}
	work(t, g, Config{}, func(t *testing.T, r *Replicator, logged func() string) {
		r.Round(context.Background())
		if len(g.delivered) != 1 {
			t.Error("the good device was forgotten")
		}
		if out := logged(); !strings.Contains(out, "rotted") || strings.Contains(out, "out of service") {
			t.Errorf("logged: %s", out)
		}
	})
}

// Run repeats rounds, and ends with its context in the middle of one too.
func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDevice{notes: map[peer.Service]map[keyhash.Hash]int64{peer.Objects: {}}}
		for i := range 100 {
			d.notes[peer.Objects][keyhash.Hash{byte(i + 1)}] = 1
		}
		g := &fakeGateway{devices: []*fakeDevice{d}}
		r := New(Config{Gateway: g, PerSecond: 10}, []Device{d})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { r.Run(ctx); close(done) }()
		time.Sleep(5050 * time.Millisecond)
		cancel()
		synctest.Wait()
		select {
		case <-done:
		default:
			t.Fatal("Run goes on")
		}
		if n := len(g.delivered); n != 50 {
			t.Errorf("%d keys in 5 s at 10 a second", n)
		}
		ctx, cancel = context.WithCancel(context.Background())
		done = make(chan struct{})
		// It comes while Run is at work, by way of what Run itself has delivered.
		g.then = func() {
			if len(g.delivered) == 60 {
				d.notes[peer.Objects][keyhash.Hash{0, 200}] = 1 // behind where the round is
			}
		}
		go func() { r.Run(ctx); close(done) }()
		time.Sleep(time.Minute)
		cancel()
		<-done
		if n := len(g.delivered); n != 101 {
			t.Errorf("%d of 101 delivered", n)
		}
	})
}

// A note from before the process began is settled at once: after a crash, what
// was never acknowledged is listed as it is read.
func TestNotesFromBeforeTheStartAreOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := keyhash.Hash{1}
		d := &fakeDevice{notes: map[peer.Service]map[keyhash.Hash]int64{
			peer.Objects: {key: time.Now().Add(-time.Millisecond).UnixMicro()},
		}}
		g := &fakeGateway{devices: []*fakeDevice{d}}
		New(Config{Gateway: g}, []Device{d}).Round(context.Background())
		if len(g.delivered) != 1 {
			t.Errorf("%d notes were settled", len(g.delivered))
		}
	})
}
