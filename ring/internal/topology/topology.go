// Package topology arranges devices as a tree of failure domains: the root, then
// regions, zones, nodes and devices. Package ring walks it for handoffs and
// package builder places replicas by it.
//
// It knows names and positions only, no weights and no partitions. A zone
// belongs to its region and a node to its zone: zone "1" of two regions is two
// zones. The tree is a function of the labels alone and not of their order, and
// is not changed after [New], so that it may be read from many goroutines.
package topology

import (
	"cmp"
	"slices"
)

// Level is the depth of a tier.
type Level int

// The levels, from the whole cluster down to one device.
const (
	Root Level = iota
	Region
	Zone
	Node
	Device
)

// String returns the level in words.
func (l Level) String() string {
	return [...]string{"cluster", "region", "zone", "node", "device"}[l]
}

// Label says where a device stands. ID orders the devices of one node.
type Label struct {
	Region, Zone, Node string
	ID                 uint32
}

// Tier is one failure domain. Tiers are named by their index in Tree.Tiers.
type Tier struct {
	Level    Level
	Name     string // empty for the root and for devices
	Parent   int32  // -1 for the root
	Children []int32
	Device   int32 // index of the device's label; -1 above the device level
}

// Path holds the tiers that a device belongs to, at region, zone, node and
// device level.
type Path [4]int32

// At returns the tier of the path at a level from Region to Device.
func (p *Path) At(l Level) int32 { return p[l-Region] }

// Tree is the tree. Tiers[0] is the root, and a tier comes after its parent.
type Tree struct {
	Tiers []Tier
	Paths []Path // by device, in the order of the labels
}

// New arranges the devices that labels describe.
func New(labels []Label) *Tree {
	order := make([]int32, len(labels))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		x, y := &labels[a], &labels[b]
		return cmp.Or(cmp.Compare(x.Region, y.Region), cmp.Compare(x.Zone, y.Zone),
			cmp.Compare(x.Node, y.Node), cmp.Compare(x.ID, y.ID))
	})
	t := &Tree{Paths: make([]Path, len(labels))}
	t.add(-1, Root, "", -1)
	var last Path
	var prev *Label
	for _, d := range order {
		l := &labels[d]
		newRegion := prev == nil || l.Region != prev.Region
		newZone := newRegion || l.Zone != prev.Zone
		newNode := newZone || l.Node != prev.Node
		if newRegion {
			last[0] = t.add(0, Region, l.Region, -1)
		}
		if newZone {
			last[1] = t.add(last[0], Zone, l.Zone, -1)
		}
		if newNode {
			last[2] = t.add(last[1], Node, l.Node, -1)
		}
		last[3] = t.add(last[2], Device, "", d)
		t.Paths[d] = last
		prev = l
	}
	return t
}

func (t *Tree) add(parent int32, level Level, name string, device int32) int32 {
	id := int32(len(t.Tiers))
	t.Tiers = append(t.Tiers, Tier{Level: level, Name: name, Parent: parent, Device: device})
	if parent >= 0 {
		t.Tiers[parent].Children = append(t.Tiers[parent].Children, id)
	}
	return id
}

// SumUp adds the values of the devices up the tree: the result has a value for
// every tier.
func SumUp[V int | int64 | uint64 | float64](t *Tree, device func(d int32) V) []V {
	sum := make([]V, len(t.Tiers))
	for i := len(t.Tiers) - 1; i >= 0; i-- {
		if d := t.Tiers[i].Device; d >= 0 {
			sum[i] = device(d)
		}
		if p := t.Tiers[i].Parent; p >= 0 {
			sum[p] += sum[i]
		}
	}
	return sum
}
