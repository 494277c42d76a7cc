package ring

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
)

// sample makes a ring of 2^power partitions over regions × zones × nodes ×
// perNode devices; replicas stand on random devices.
func sample(t testing.TB, power uint, replicas, regions, zones, nodes, perNode int) *Ring {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 1))
	s := Spec{ID: UUID{1, 2, 3}, Epoch: 7, Power: power, Replicas: replicas}
	for i := range regions * zones * nodes * perNode {
		n := i / perNode
		z := n / nodes
		node := fmt.Sprint("n", n+1)
		s.Devices = append(s.Devices, Device{
			ID: DeviceID(10 + 3*i), UUID: UUID{byte(i + 1)}, Region: fmt.Sprint("r", z/zones+1), Zone: fmt.Sprint("z", z%zones+1),
			Node: node, Address: node + ":7000", Weight: float64(1 + i%3), Meta: fmt.Sprint("disk ", i),
		})
	}
	for range 1 << power {
		for _, d := range r.Perm(len(s.Devices))[:replicas] {
			s.Table = append(s.Table, s.Devices[d].ID)
		}
	}
	ring, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func TestRing(t *testing.T) {
	r := sample(t, 6, 3, 2, 2, 1, 2)
	if r.Power() != 6 || r.Partitions() != 64 || r.Replicas() != 3 || r.Epoch() != 7 || r.ID() != (UUID{1, 2, 3}) {
		t.Error("a property is not what it was made with")
	}
	if p := r.PartitionOf(keyhash.Hash{0xff}); p != 63 {
		t.Errorf("the last hashes are in partition %d", p)
	}
	if p := r.PartitionOf(keyhash.Hash{0x08}); p != 2 {
		t.Errorf("hash 08... is in partition %d", p)
	}
	row := r.Primaries(5)
	if len(row) != 3 || cap(row) != 3 {
		t.Errorf("primaries are %v with capacity %d", row, cap(row))
	}
	if got := r.RecordDevices(5, 2); !slices.Equal(got, row[:2]) || cap(got) != 2 {
		t.Errorf("record devices are %v of %v", got, row)
	}
	if got := r.RecordDevices(5, 9); !slices.Equal(got, row) {
		t.Errorf("record devices are %v of %v", got, row)
	}
	if r.Position(5, row[2]) != 2 || r.Position(5, 9999) != -1 {
		t.Error("positions are wrong")
	}
	if d, ok := r.Device(13); !ok || d.Meta != "disk 1" {
		t.Errorf("device 13 is %v, %v", d, ok)
	}
	if _, ok := r.Device(14); ok {
		t.Error("device 14 is there")
	}
	if ds := r.Devices(); len(ds) != 8 || ds[7].ID != 31 {
		t.Errorf("devices are %v", ds)
	}
	if n := testing.AllocsPerRun(100, func() { r.Primaries(3); r.PartitionOf(keyhash.Hash{1}); r.Device(13) }); n != 0 {
		t.Errorf("reading allocates %v times", n)
	}
}

func TestNewRefuses(t *testing.T) {
	good := func() Spec {
		return Spec{Power: 1, Replicas: 2, Devices: []Device{{ID: 1, Weight: 1}, {ID: 2, Weight: 1}, {ID: 3, Weight: 1}},
			Table: []DeviceID{1, 2, 3, 1}}
	}
	if _, err := New(good()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		edit func(s *Spec)
	}{
		{"power 25 is more", func(s *Spec) { s.Power = 25 }},
		{"0 replicas", func(s *Spec) { s.Replicas = 0 }},
		{"17 replicas", func(s *Spec) { s.Replicas = 17 }},
		{"1 devices cannot hold 2 replicas", func(s *Spec) { s.Devices = s.Devices[:1] }},
		{"d2 is there twice", func(s *Spec) { s.Devices[0].ID = 2 }},
		{"ids begin at 1", func(s *Spec) { s.Devices[0].ID = 0 }},
		{"neither 0 nor", func(s *Spec) { s.Devices[0].Weight = -1 }},
		{"neither 0 nor", func(s *Spec) { s.Devices[0].Weight = math.NaN() }},
		{"neither 0 nor", func(s *Spec) { s.Devices[0].Weight = math.Inf(1) }},
		{"neither 0 nor", func(s *Spec) { s.Devices[0].Weight = 1e-9 }},
		{"zone of 256 bytes", func(s *Spec) { s.Devices[0].Zone = strings.Repeat("z", 256) }},
		{"not printable", func(s *Spec) { s.Devices[0].Node = "a\nb" }},
		{"not printable", func(s *Spec) { s.Devices[0].Meta = "\xff" }},
		{"the table has 3 entries", func(s *Spec) { s.Table = s.Table[:3] }},
		{"partition 1 names d9", func(s *Spec) { s.Table[3] = 9 }},
		{"partition 1 has two replicas on d3", func(s *Spec) { s.Table[3] = 3 }},
	} {
		s := good()
		c.edit(&s)
		_, err := New(s)
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), c.what) {
			t.Errorf("want Invalid and %q, got %v", c.what, err)
		}
	}
}

func TestUUID(t *testing.T) {
	u := UUID{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}
	const text = "00112233-4455-6677-8899-aabbccddeeff"
	if u.String() != text {
		t.Errorf("written as %s", u)
	}
	for _, s := range []string{text, strings.ReplaceAll(text, "-", ""), strings.ToUpper(text)} {
		if got, err := ParseUUID(s); err != nil || got != u {
			t.Errorf("%s is read as %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0", text[1:], text + "0", strings.Replace(text, "-", "0", 1), "x" + text[1:]} {
		if _, err := ParseUUID(s); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q is read with %v", s, err)
		}
	}
}

func TestMoves(t *testing.T) {
	r := sample(t, 4, 3, 1, 1, 1, 8)
	edit := func(edit func(s *Spec)) *Ring {
		s := Spec{ID: r.id, Epoch: 8, Power: 4, Replicas: 3, Devices: r.Devices(), Table: slices.Clone(r.table)}
		edit(&s)
		n, err := New(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	other := func(p Partition, skip int) DeviceID { // a device that p does not have
		for _, d := range r.devices {
			if r.Position(p, d.ID) < 0 {
				if skip--; skip < 0 {
					return d.ID
				}
			}
		}
		return 0
	}
	moves, err := Moves(r, edit(func(s *Spec) { s.Table[2] = other(0, 0); s.Table[3*5] = other(5, 0) }))
	if err != nil {
		t.Fatal(err)
	}
	got := slices.Collect(moves)
	want := []Move{{0, 2, r.table[2], other(0, 0)}, {5, 0, r.table[15], other(5, 0)}}
	if !slices.Equal(got, want) {
		t.Errorf("moves are %v, want %v", got, want)
	}
	for _, c := range []struct {
		what string
		next *Ring
	}{
		{"2 replicas of partition 5", edit(func(s *Spec) { s.Table[15], s.Table[16] = other(5, 0), other(5, 1) })},
		{"2 replicas of partition 5", edit(func(s *Spec) { s.Table[15], s.Table[16] = s.Table[16], s.Table[15] })},
		{"is not ring", edit(func(s *Spec) { s.ID[0]++ })},
		{"older", edit(func(s *Spec) { s.Epoch = 6 })},
		{"both have epoch 7", edit(func(s *Spec) { s.Epoch = 7; s.Table[0] = other(0, 0) })},
		{"cannot follow", sample(t, 5, 3, 1, 1, 1, 8)},
	} {
		if _, err := Moves(r, c.next); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), c.what) {
			t.Errorf("want Invalid and %q, got %v", c.what, err)
		}
	}
}
