package builder

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfort/internal/errs"
	"ringfort/ring"
)

func device(zone, node string, weight float64) ring.Device {
	return ring.Device{Region: "r", Zone: zone, Node: node, Address: node + ":1", Weight: weight}
}

func TestConfigRefuses(t *testing.T) {
	for _, c := range []struct {
		what string
		edit func(c *Config)
	}{
		{"power 25", func(c *Config) { c.Power = 25 }},
		{"0 replicas", func(c *Config) { c.Replicas = 0 }},
		{"17 replicas", func(c *Config) { c.Replicas = 17 }},
		{"-1 hours", func(c *Config) { c.MinPartHours = -1 }},
		{"9000 hours", func(c *Config) { c.MinPartHours = 9000 }},
		{"overload -0.1", func(c *Config) { c.Overload = -0.1 }},
		{"overload NaN", func(c *Config) { c.Overload = math.NaN() }},
	} {
		cfg := DefaultConfig()
		c.edit(&cfg)
		if _, err := New(cfg); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), c.what) {
			t.Errorf("want Invalid and %q, got %v", c.what, err)
		}
	}
}

func TestChangesRefused(t *testing.T) {
	b := newBuilder(t, Config{Power: 3, Replicas: 2}, []ring.Device{
		{UUID: ring.UUID{1}, Node: "n", Zone: "z", Address: "n:1", Weight: 1}, device("z", "m", 1)})
	for _, c := range []struct {
		what string
		kind errs.Kind
		err  func() error
	}{
		{"was given before", errs.Invalid, func() error { _, err := b.Add(ring.Device{ID: 1}); return err }},
		{"uuid", errs.Exists, func() error { _, err := b.Add(ring.Device{UUID: ring.UUID{1}}); return err }},
		{"cannot stand in", errs.Invalid, func() error { _, err := b.Add(ring.Device{Node: "n", Zone: "y", Address: "n:1"}); return err }},
		{"listens at", errs.Invalid, func() error { _, err := b.Add(ring.Device{Node: "n", Zone: "z", Address: "n:2"}); return err }},
		{"neither 0", errs.Invalid, func() error { _, err := b.Add(ring.Device{Weight: -1}); return err }},
		{"no d7", errs.NotFound, func() error { return b.SetWeight(7, 1) }},
		{"neither 0", errs.Invalid, func() error { return b.SetWeight(1, math.NaN()) }},
		{"no d7", errs.NotFound, func() error { return b.Remove(7) }},
		{"overload", errs.Invalid, func() error { return b.SetOverload(-1) }},
		{"hours", errs.Invalid, func() error { return b.SetMinPartHours(-1) }},
		{"not been balanced", errs.Invalid, func() error { _, err := b.Ring(); return err }},
		{"out of range", errs.Invalid, func() error { _, err := b.Rebalance(time.Unix(0, 0)); return err }},
	} {
		before := b.Encode()
		if err := c.err(); !errs.Is(err, c.kind) || !strings.Contains(err.Error(), c.what) {
			t.Errorf("want %v and %q, got %v", c.kind, c.what, err)
		}
		if !bytes.Equal(b.Encode(), before) {
			t.Errorf("%s: refused, but the builder has changed", c.what)
		}
	}
}

// TestFewerDevicesThanReplicas: a ring of D devices has at most D replicas,
// before the first rebalance and after.
func TestFewerDevicesThanReplicas(t *testing.T) {
	b := newBuilder(t, Config{Power: 4, Replicas: 3, Overload: Unlimited}, []ring.Device{
		device("a", "a", 1), device("b", "b", 1), device("c", "c", 0)})
	if _, err := b.Rebalance(start); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "2 devices with a weight cannot hold 3 replicas") {
		t.Fatal(err)
	}
	if err := b.SetWeight(3, 1); err != nil {
		t.Fatal(err)
	}
	rebalance(t, b, start)
	if err := b.Remove(1); err != nil {
		t.Fatal(err)
	}
	before := b.Encode()
	if _, err := b.Rebalance(start.Add(time.Hour)); !errs.Is(err, errs.Invalid) {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Encode(), before) {
		t.Error("a refused rebalance has changed the builder")
	}
	if w := b.Report().Warnings(); len(w) == 0 {
		t.Error("the report does not warn")
	}
	if _, err := Simple(nil, 1, 4, 0); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
}

func TestRingWaitsForRebalance(t *testing.T) {
	b := newBuilder(t, Config{Power: 4, Replicas: 2, Overload: Unlimited}, []ring.Device{device("a", "a", 1), device("b", "b", 1)})
	rebalance(t, b, start)
	if res := rebalance(t, b, start); res.Changed || b.Epoch() != 1 {
		t.Errorf("a rebalance without changes made epoch %d", b.Epoch())
	}
	for _, change := range []func() error{
		func() error { return b.SetWeight(1, 2) },
		func() error { return b.Remove(2) },
		func() error { _, err := b.Add(device("c", "c", 1)); return err },
		func() error { return b.SetOverload(0.1) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Ring(); !errs.Is(err, errs.Invalid) || !b.Pending() {
			t.Errorf("a ring was made of changes that have no epoch: %v", err)
		}
	}
}

// TestIDsAreNotReused removes the newest device and adds another, also across a
// file.
func TestIDsAreNotReused(t *testing.T) {
	b := newBuilder(t, Config{Power: 4, Replicas: 1, Overload: Unlimited}, []ring.Device{device("a", "a", 1), device("b", "b", 1)})
	rebalance(t, b, start)
	if err := b.Remove(2); err != nil {
		t.Fatal(err)
	}
	if !b.Removed(2) || b.Removed(1) {
		t.Error("removed is told of the wrong device")
	}
	rebalance(t, b, start.Add(time.Hour))
	if b.Removed(2) || len(b.Devices()) != 1 {
		t.Errorf("devices are %v after d2 was emptied", b.Devices())
	}
	b, err := Decode(b.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if id, err := b.Add(device("b", "b", 1)); err != nil || id != 3 {
		t.Errorf("the next device is %v, %v", id, err)
	}
}

// TestMinPartHours: a partition stays for the time asked, unless a device of it
// is dead, and pretending that time has passed frees it.
func TestMinPartHours(t *testing.T) {
	b := newBuilder(t, Config{Power: 8, Replicas: 2, MinPartHours: 3, Overload: Unlimited},
		[]ring.Device{device("a", "a", 1), device("b", "b", 1)})
	rebalance(t, b, start)
	add := func(node string) {
		if _, err := b.Add(device(node, node, 1)); err != nil {
			t.Fatal(err)
		}
	}
	add("c")
	first := rebalance(t, b, start)
	if first.Moved == 0 || first.Locked != 0 {
		t.Fatalf("moves after the first placement: %+v", first)
	}
	add("d")
	if at, ok := b.MovedAt(0); ok && at != start {
		t.Errorf("partition 0 moved at %v", at)
	}
	res := rebalance(t, b, start.Add(3*time.Hour-time.Minute))
	if res.Locked != first.Moved {
		t.Errorf("%d partitions are locked, %d have moved", res.Locked, first.Moved)
	}
	if res := rebalance(t, b, start.Add(time.Minute)); res.Locked != first.Moved+res.Moved && res.Locked < first.Moved {
		t.Errorf("a clock set back unlocks: %+v", res)
	}
	if err := b.Remove(1); err != nil {
		t.Fatal(err)
	}
	if res := rebalance(t, b, start.Add(3*time.Hour)); res.Stranded != 0 {
		t.Errorf("a removed device keeps its locked partitions: %+v", res)
	}
	add("e")
	b.PretendTimePassed()
	if res := rebalance(t, b, start.Add(3*time.Hour)); res.Locked != 0 || res.Moved == 0 {
		t.Errorf("pretending has no effect: %+v", res)
	}
}

// TestTwoDevicesRemoved: partitions on both give up one replica at a time.
func TestTwoDevicesRemoved(t *testing.T) {
	var ds []ring.Device
	for i := range 6 {
		ds = append(ds, device("z", fmt.Sprint("n", i), 1))
	}
	b := newBuilder(t, Config{Power: 8, Replicas: 3, MinPartHours: 24, Overload: Unlimited}, ds)
	rebalance(t, b, start)
	for _, id := range []ring.DeviceID{1, 2} {
		if err := b.Remove(id); err != nil {
			t.Fatal(err)
		}
	}
	both := int64(0)
	for p := 0; p < len(b.table); p += 3 {
		if row := b.table[p : p+3]; holds(row, 0) && holds(row, 1) {
			both++
		}
	}
	if res := rebalance(t, b, start); both == 0 || res.Stranded != both {
		t.Errorf("%d replicas are stranded, %d partitions had two", res.Stranded, both)
	}
	if res := rebalance(t, b, start); res.Stranded != 0 || res.Moved < both {
		t.Errorf("after the second rebalance: %+v", res)
	}
	if len(b.devices) != 4 {
		t.Errorf("%d devices are left", len(b.devices))
	}
}

// TestOverload: two large zones and a small one; distance would give the small
// one a replica of everything.
func TestOverload(t *testing.T) {
	ds := []ring.Device{device("a", "a1", 50), device("a", "a2", 50), device("b", "b1", 50), device("b", "b2", 50), device("c", "c1", 20)}
	fair := 3 * 20.0 / 220
	for _, c := range []struct {
		overload, want float64
	}{{0, fair}, {0.1, 1.1 * fair}, {1, 2 * fair}, {100, 1}, {Unlimited, 1}} {
		b := newBuilder(t, Config{Power: 12, Replicas: 3, Overload: c.overload}, ds)
		rebalance(t, b, start)
		got := float64(b.loads()[4]) / 4096
		if math.Abs(got-c.want) > 1.0/4096 {
			t.Errorf("overload %v: the small zone has %.4f of a replica, wanted %.4f", c.overload, got, c.want)
		}
		crowded := b.Report().Levels[1].Crowded
		if want := int(math.Round((1 - c.want) * 4096)); crowded < want-1 || crowded > want+1 {
			t.Errorf("overload %v: %d partitions are crowded, wanted %d", c.overload, crowded, want)
		}
		if together(b, byNode) != 1 {
			t.Errorf("overload %v: two replicas on one node", c.overload)
		}
		if warns := strings.Contains(strings.Join(b.Report().Warnings(), "\n"), "d5 should hold 3.67 times"); warns != (c.want == 1) {
			t.Errorf("overload %v: warnings are %q", c.overload, b.Report().Warnings())
		}
	}
}

// TestDeterministic: the same seed gives the same bytes, another seed others.
func TestDeterministic(t *testing.T) {
	run := func(seed uint64) []byte {
		r := rand.New(rand.NewPCG(9, 9))
		b := newBuilder(t, Config{Power: 9, Replicas: 3, Overload: Unlimited, Seed: seed}, cluster(r, 2, 2, 3, 3, 1, 9))
		now := start
		for range 6 {
			rebalance(t, b, now)
			randomChange(t, b, r)
			now = now.Add(time.Hour)
		}
		return b.Encode()
	}
	if !bytes.Equal(run(1), run(1)) {
		t.Error("the same seed made two rings")
	}
	if bytes.Equal(run(1), run(2)) {
		t.Error("two seeds made the same ring")
	}
}

// TestPeersAreMixed: the partners of a device are as many as may be, so that
// rebuilding it is work for all.
func TestPeersAreMixed(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	b := newBuilder(t, Config{Power: 14, Replicas: 3, Overload: Unlimited}, cluster(r, 1, 5, 4, 5, 50, 100))
	rebalance(t, b, start)
	for d := range b.devices {
		n := make([]int, len(b.devices))
		sum, peers := 0, 0
		for p := 0; p < len(b.table); p += 3 {
			if row := b.table[p : p+3]; holds(row, uint16(d)) {
				for _, e := range row {
					if int(e) != d {
						if n[e] == 0 {
							peers++
						}
						n[e]++
						sum++
					}
				}
			}
		}
		if peers < 80 {
			t.Errorf("%s shares partitions with %d devices of the 80 in other zones", b.devices[d].ID, peers)
		}
		if most := slices.Max(n); most > sum/20 {
			t.Errorf("%s shares %d of %d with one device", b.devices[d].ID, most, sum)
		}
	}
}

// TestSimple: with as many devices as replicas every device is everywhere, and
// at every position equally often.
func TestSimple(t *testing.T) {
	for n := 1; n <= 16; n++ {
		var ds []ring.Device
		for i := range n {
			ds = append(ds, ring.Device{ID: ring.DeviceID(100 - i), Node: "n", Weight: 1})
		}
		r, err := Simple(ds, n, 10, uint64(n))
		if err != nil {
			t.Fatal(err)
		}
		again, err := Simple(reversed(ds), n, 10, uint64(n))
		if err != nil || !bytes.Equal(r.Encode(), again.Encode()) {
			t.Errorf("%d devices in another order make another ring (%v)", n, err)
		}
		count := map[ring.DeviceID][]int{}
		for _, d := range ds {
			count[d.ID] = make([]int, n)
		}
		for p := range ring.Partition(1 << 10) {
			for i, id := range r.Primaries(p) {
				count[id][i]++
			}
		}
		for id, c := range count {
			for i, k := range c {
				if k < 1024/n-1 || k > 1024/n+2 {
					t.Errorf("%d devices: %s is at position %d %d times", n, id, i, k)
				}
			}
		}
	}
	if _, err := Simple([]ring.Device{{ID: 1, Weight: 1}, {ID: 1, Weight: 1}}, 1, 4, 0); !errs.Is(err, errs.Invalid) {
		t.Errorf("two devices of one id: %v", err)
	}
	if _, err := Simple([]ring.Device{{Weight: 1}}, 1, 4, 0); !errs.Is(err, errs.Invalid) {
		t.Errorf("a device without id: %v", err)
	}
}

// TestPositionsStayEven: positions are even after the first placement and stay
// nearly so through changes.
func TestPositionsStayEven(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	b := newBuilder(t, Config{Power: 14, Replicas: 6, Overload: Unlimited}, cluster(r, 1, 6, 2, 3, 50, 100))
	rebalance(t, b, start)
	if p := b.Report().PositionBalance; p > 0.5 {
		t.Errorf("positions are off by %.2f%% at first", p)
	}
	now := start
	for range 6 {
		what := randomChange(t, b, r)
		now = now.Add(time.Hour)
		rebalance(t, b, now)
		t.Logf("after %s positions are off by %.2f%%", what, b.Report().PositionBalance)
	}
	if p := b.Report().PositionBalance; p > 10 {
		t.Errorf("positions are off by %.2f%% after changes", p)
	}
}

func TestSimulate(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	ds := cluster(r, 1, 3, 2, 2, 5, 10)
	b := newBuilder(t, Config{Power: 10, Replicas: 3, MinPartHours: 2, Overload: Unlimited}, ds)
	rebalance(t, b, start)
	for _, d := range ds { // twice the cluster: more than one move a partition
		d.Node += "b"
		d.Address = d.Node
		if _, err := b.Add(d); err != nil {
			t.Fatal(err)
		}
	}
	before := b.Encode()
	steps, after, err := b.Simulate(start, 20)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Encode(), before) {
		t.Error("simulating has changed the builder")
	}
	if last := steps[len(steps)-1]; len(steps) != 2 || !last.Settled() {
		t.Errorf("steps are %+v", steps)
	}
	if w := after.Report().Warnings(); len(w) > 0 {
		t.Errorf("at the end: %q", w)
	}
}

func reversed(ds []ring.Device) []ring.Device {
	ds = slices.Clone(ds)
	slices.Reverse(ds)
	return ds
}
