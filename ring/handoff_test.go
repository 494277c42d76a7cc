package ring

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestHandoffsAreAllTheOthers(t *testing.T) {
	r := sample(t, 6, 3, 2, 2, 2, 3)
	for p := range Partition(64) {
		all := append(slices.Clone(r.Primaries(p)), slices.Collect(r.Handoffs(p))...)
		slices.Sort(all)
		if len(slices.Compact(all)) != 24 {
			t.Fatalf("partition %d has primaries and handoffs %v", p, all)
		}
		if again := slices.Collect(r.Handoffs(p)); !slices.Equal(again, slices.Collect(r.Handoffs(p))) {
			t.Fatalf("two walks differ: %v", again)
		}
	}
}

// TestHandoffsStandApart checks each handoff against the definition: no device
// that was left stood in a region, then zone, then node with fewer.
func TestHandoffsStandApart(t *testing.T) {
	r := sample(t, 6, 3, 3, 2, 2, 2)
	key := func(d Device, row []DeviceID) (k [3]int) {
		for _, id := range row {
			e, _ := r.Device(id)
			if e.Region == d.Region {
				k[0]++
				if e.Zone == d.Zone {
					k[1]++
					if e.Node == d.Node {
						k[2]++
					}
				}
			}
		}
		return k
	}
	for p := range Partition(64) {
		row := slices.Clone(r.Primaries(p))
		for h := range r.Handoffs(p) {
			d, _ := r.Device(h)
			mine := key(d, row)
			for _, e := range r.Devices() {
				if slices.Contains(row, e.ID) {
					continue
				}
				k := key(e, row)
				// Zones compare only within a region, nodes within a zone.
				if k[0] < mine[0] || (e.Region == d.Region && (k[1] < mine[1] || (e.Zone == d.Zone && k[2] < mine[2]))) {
					t.Fatalf("partition %d: after %v comes %v with %v, %v has %v", p, row, h, mine, e.ID, k)
				}
			}
			row = append(row, h)
		}
	}
}

func TestHandoffsLeaveOutWeightless(t *testing.T) {
	r := sample(t, 4, 2, 1, 1, 1, 6)
	ds := r.Devices()
	ds[2].Weight = 0
	r, err := New(Spec{Power: 4, Replicas: 2, Devices: ds, Table: r.table})
	if err != nil {
		t.Fatal(err)
	}
	for p := range Partition(16) {
		want := 3
		if r.Position(p, ds[2].ID) >= 0 {
			want = 4
		}
		got := slices.Collect(r.Handoffs(p))
		if slices.Contains(got, ds[2].ID) || len(got) != want {
			t.Errorf("partition %d with primaries %v has handoffs %v", p, r.Primaries(p), got)
		}
	}
}

// TestHandoffsFollowWeights: the first handoff is a device as often as its
// weight says, and the others keep their order when a device goes.
func TestHandoffsFollowWeights(t *testing.T) {
	const power = 15
	s := Spec{Power: power, Replicas: 1}
	for i := range 7 {
		s.Devices = append(s.Devices, Device{ID: DeviceID(i + 1), Weight: float64(i)})
	}
	s.Devices[0].Weight = 1e-3 // the only primary
	for range 1 << power {
		s.Table = append(s.Table, 1)
	}
	r, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	s.Devices = s.Devices[:6]
	less, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	first := map[DeviceID]int{}
	for p := range Partition(1 << power) {
		got := slices.Collect(r.Handoffs(p))
		first[got[0]]++
		got = slices.DeleteFunc(got, func(d DeviceID) bool { return d == 7 })
		if rest := slices.Collect(less.Handoffs(p)); !slices.Equal(got, rest) {
			t.Fatalf("partition %d: %v without d7 becomes %v", p, got, rest)
		}
	}
	for i := 1; i < 7; i++ {
		want := float64(i) / 21 * (1 << power)
		if n := float64(first[DeviceID(i+1)]); math.Abs(n-want) > 5*math.Sqrt(want) {
			t.Errorf("%s of weight %d comes first %v times, expected %.0f", DeviceID(i+1), i, n, want)
		}
	}
}

// TestHandoffsAreFixed guards the order, which all gateways and later versions
// must agree on, so that hints are found.
func TestHandoffsAreFixed(t *testing.T) {
	r := sample(t, 6, 3, 2, 2, 2, 2)
	for p, want := range map[Partition][]DeviceID{
		0:  handoffGolden0,
		63: handoffGolden63,
	} {
		if got := slices.Collect(r.Handoffs(p)); !slices.Equal(got, want) {
			t.Errorf("handoffs of %d are %v, were %v", p, got, want)
		}
	}
}

func TestNegLog2(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	for range 10000 {
		u := r.Uint64() >> r.IntN(64)
		want := -math.Log2(float64(u|1)/(1<<32)/(1<<32)) * (1 << 16)
		if got := float64(negLog2(u)); math.Abs(got-want) > 2 {
			t.Fatalf("negLog2(%x, %d bits) = %v, want %v", u, bits.Len64(u), got, want)
		}
	}
	if negLog2(math.MaxUint64) == 0 || negLog2(0) > 64<<16 {
		t.Error("out of range at an end")
	}
}

func BenchmarkFirstHandoff(b *testing.B) {
	r := sample(b, 10, 3, 2, 5, 10, 10)
	b.ReportAllocs()
	p := Partition(0)
	for b.Loop() {
		for range r.Handoffs(p & 1023) {
			break
		}
		p++
	}
}

func BenchmarkPrimaries(b *testing.B) {
	r := sample(b, 10, 3, 2, 5, 10, 10)
	b.ReportAllocs()
	p := Partition(0)
	for b.Loop() {
		r.Primaries(p & 1023)
		p++
	}
}
