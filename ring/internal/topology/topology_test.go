package topology

import (
	"math/rand/v2"
	"reflect"
	"testing"
)

func TestTree(t *testing.T) {
	labels := []Label{
		{"r2", "z1", "n3", 4},
		{"r1", "z1", "n1", 2},
		{"r1", "z1", "n1", 1},
		{"r1", "z2", "n2", 3},
	}
	tree := New(labels)
	type row struct {
		level  Level
		name   string
		parent int32
		device int32
	}
	want := []row{
		{Root, "", -1, -1},
		{Region, "r1", 0, -1}, {Zone, "z1", 1, -1}, {Node, "n1", 2, -1}, {Device, "", 3, 2}, {Device, "", 3, 1},
		{Zone, "z2", 1, -1}, {Node, "n2", 6, -1}, {Device, "", 7, 3},
		{Region, "r2", 0, -1}, {Zone, "z1", 9, -1}, {Node, "n3", 10, -1}, {Device, "", 11, 0},
	}
	var got []row
	for _, x := range tree.Tiers {
		got = append(got, row{x.Level, x.Name, x.Parent, x.Device})
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("tiers are\n%v, want\n%v", got, want)
	}
	if p := tree.Paths[1]; p != (Path{1, 2, 3, 5}) || p.At(Zone) != 2 {
		t.Errorf("path of device 1 is %v", p)
	}
	sums := SumUp(tree, func(d int32) int { return 1 << d })
	if sums[0] != 15 || sums[1] != 14 || sums[3] != 6 || sums[9] != 1 {
		t.Errorf("sums are %v", sums)
	}
}

func TestOrderOfLabelsDoesNotMatter(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var labels []Label
	for i := range 60 {
		labels = append(labels, Label{string(rune('a' + r.IntN(3))), string(rune('a' + r.IntN(3))), string(rune('a' + r.IntN(3))), uint32(i)})
	}
	ids := func(l []Label) (ids []uint32) {
		for _, x := range New(l).Tiers {
			if x.Device >= 0 {
				ids = append(ids, l[x.Device].ID)
			}
		}
		return ids
	}
	want := ids(labels)
	r.Shuffle(len(labels), func(i, j int) { labels[i], labels[j] = labels[j], labels[i] })
	if got := ids(labels); !reflect.DeepEqual(got, want) {
		t.Errorf("after shuffling the devices stand as %v, before as %v", got, want)
	}
}
