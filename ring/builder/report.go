package builder

import (
	"fmt"
	"math"

	"ringfort/ring"
	"ringfort/ring/internal/topology"
)

// Report says how well the table fits the devices and their weights as they are
// now. Without a table the replicas are all zero.
type Report struct {
	ID           ring.UUID      `json:"id"`
	Epoch        ring.Epoch     `json:"epoch"`
	Pending      bool           `json:"pending"` // changes wait for a rebalance
	Power        uint           `json:"power"`
	Partitions   int            `json:"partitions"`
	Replicas     int            `json:"replicas"`
	MinPartHours int            `json:"min_part_hours"`
	Overload     *float64       `json:"overload"` // null: unlimited
	Devices      []DeviceReport `json:"devices"`
	Levels       []LevelReport  `json:"levels"` // region, zone, node
	// Balance is the largest deviation of a device from what it should hold, in
	// per cent. One partition more or less is not counted.
	Balance float64 `json:"balance_percent"`
	// PositionBalance is the same for the replicas of a device at one position
	// against an equal part of its replicas at each.
	PositionBalance float64 `json:"position_balance_percent"`
	// Stranded is how many replicas lie on devices removed or of weight 0.
	Stranded int64 `json:"stranded"`
}

// DeviceReport is a device and its load.
type DeviceReport struct {
	ring.Device
	Removed  bool  `json:"removed"`
	Replicas int64 `json:"replicas"` // it holds
	Want     int64 `json:"want"`     // it should hold
	First    int64 `json:"first"`    // of its replicas that come first in their partition
	// Fair is what it would hold if weights alone counted.
	Fair float64 `json:"fair"`
	// Deviation is Replicas against Want in per cent.
	Deviation float64 `json:"deviation_percent"`
}

// LevelReport says how far apart replicas stand at one level.
type LevelReport struct {
	Level   string `json:"level"`
	Domains int    `json:"domains"` // that have a device with a weight
	// Together is the most replicas of one partition in one domain, over all
	// partitions: what a failure of one domain can take.
	Together int `json:"together"`
	// Possible is the least that Together could be with these devices.
	Possible int `json:"possible"`
	// Crowded is how many partitions hold more replicas in some domain than they
	// would if distance alone counted.
	Crowded int `json:"crowded"`
}

// Report makes a report. A builder whose devices are too few for its replicas
// has targets of zero.
func (b *Builder) Report() *Report {
	r := &Report{ID: b.id, Epoch: b.epoch, Pending: b.changed, Power: b.power, Partitions: 1 << b.power,
		Replicas: b.replicas, MinPartHours: b.minPartHours}
	if !math.IsInf(b.overload, 1) {
		o := b.overload
		r.Overload = &o
	}
	tree := b.tree()
	t := &targets{fair: make([]float64, len(tree.Tiers)), want: make([]int64, len(tree.Tiers)), apart: make([]int32, len(tree.Tiers))}
	live := topology.SumUp(tree, func(d int32) int {
		if b.devices[d].Weight > 0 {
			return 1
		}
		return 0
	})
	if live[0] >= b.replicas {
		t = b.targets(tree)
	}
	b.reportDevices(r, tree, t)
	for l := topology.Region; l <= topology.Node; l++ {
		r.Levels = append(r.Levels, b.reportLevel(tree, t, live, l))
	}
	return r
}

func (b *Builder) reportDevices(r *Report, tree *topology.Tree, t *targets) {
	count := make([]int64, len(b.devices)*b.replicas)
	for i, d := range b.table {
		count[int(d)*b.replicas+i%b.replicas]++
	}
	for i := range b.devices {
		leaf := tree.Paths[i].At(topology.Device)
		d := DeviceReport{Device: b.devices[i].Device, Removed: b.devices[i].removed, Want: t.want[leaf],
			Fair: t.fair[leaf] * float64(r.Partitions)}
		at := count[i*b.replicas : (i+1)*b.replicas]
		for _, n := range at {
			d.Replicas += n
		}
		d.First = at[0]
		if b.table != nil {
			d.Deviation = percent(float64(d.Replicas-d.Want), float64(d.Want))
			if d.Replicas-d.Want > 1 || d.Want-d.Replicas > 1 {
				r.Balance = max(r.Balance, math.Abs(d.Deviation))
			}
			for _, n := range at {
				even := float64(d.Replicas) / float64(b.replicas)
				if math.Abs(float64(n)-even) > 1 {
					r.PositionBalance = max(r.PositionBalance, math.Abs(percent(float64(n)-even, even)))
				}
			}
		}
		if d.Weight == 0 {
			r.Stranded += d.Replicas
		}
		r.Devices = append(r.Devices, d)
	}
}

// percent returns part of whole in per cent; of nothing, anything is 100 %.
func percent(part, whole float64) float64 {
	switch {
	case part == 0:
		return 0
	case whole == 0:
		return math.Copysign(100, part)
	}
	return 100 * part / whole
}

func (b *Builder) reportLevel(tree *topology.Tree, t *targets, live []int, l topology.Level) LevelReport {
	r := LevelReport{Level: l.String()}
	for i := range tree.Tiers {
		if tree.Tiers[i].Level == l && live[i] > 0 {
			r.Domains++
			r.Possible = max(r.Possible, int(t.apart[i]))
		}
	}
	for p := 0; p < len(b.table); p += b.replicas {
		row := b.table[p : p+b.replicas]
		crowded := false
		for _, d := range row {
			tier, n := tree.Paths[d].At(l), 0
			for _, e := range row {
				if tree.Paths[e].At(l) == tier {
					n++
				}
			}
			r.Together = max(r.Together, n)
			crowded = crowded || n > int(t.apart[tier])
		}
		if crowded {
			r.Crowded++
		}
	}
	return r
}

// overloadNotice is how far beyond its fair share a device may be before a
// report warns of it: such a device is full long before the others.
const overloadNotice = 0.25

// Warnings returns what an operator should look at, one sentence each; none
// means that all is well.
func (r *Report) Warnings() (w []string) {
	if r.Epoch == 0 {
		return []string{"the ring has not been balanced yet"}
	}
	if r.Pending { // the rest would only say again what has changed
		return []string{"devices or settings have changed since the last rebalance"}
	}
	if r.Stranded > 0 {
		w = append(w, fmt.Sprintf("%d replicas are on devices that were removed or have weight 0", r.Stranded))
	}
	if r.Balance > 1 {
		w = append(w, fmt.Sprintf("a device is %.2f%% away from what it should hold", r.Balance))
	}
	for _, l := range r.Levels {
		if l.Crowded > 0 {
			w = append(w, fmt.Sprintf("%d partitions have more replicas in one %s than they need to have", l.Crowded, l.Level))
		}
	}
	if d := r.mostOverloaded(); d != nil {
		w = append(w, fmt.Sprintf("%s should hold %.2f times its fair share so that replicas stand apart: add devices in region %q, zone %q, or limit the overload",
			d.ID, float64(d.Want)/d.Fair, d.Region, d.Zone))
	}
	return w
}

// mostOverloaded returns the device furthest beyond its fair share, if that is
// worth a warning.
func (r *Report) mostOverloaded() (worst *DeviceReport) {
	most := 1 + overloadNotice
	for i := range r.Devices {
		d := &r.Devices[i]
		if d.Fair >= 1 && float64(d.Want)/d.Fair > most {
			worst, most = d, float64(d.Want)/d.Fair
		}
	}
	return worst
}
