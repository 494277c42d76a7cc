package builder

import (
	"cmp"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"time"

	"ringfort/internal/errs"
	"ringfort/ring"
)

// Simple makes the first ring of a cluster in one call: epoch 1, replicas as far
// apart as the devices allow. The devices keep their ids, which must be different
// and not 0; too few devices for the replicas are refused as Invalid. The same
// arguments give the same ring, in any order of the devices.
func Simple(devices []ring.Device, replicas int, power uint, seed uint64) (*ring.Ring, error) {
	const op = "make ring"
	rnd := rand.New(rand.NewPCG(seed, 0))
	var id ring.UUID
	binary.BigEndian.PutUint64(id[:8], rnd.Uint64())
	binary.BigEndian.PutUint64(id[8:], rnd.Uint64())
	b, err := New(Config{ID: id, Power: power, Replicas: replicas, Overload: Unlimited, Seed: seed})
	if err != nil {
		return nil, err
	}
	if len(devices) > ring.MaxDevices {
		return nil, errs.New(op, errs.Invalid, "%d devices are more than %d", len(devices), ring.MaxDevices)
	}
	sorted := slices.Clone(devices)
	slices.SortFunc(sorted, func(x, y ring.Device) int { return cmp.Compare(x.ID, y.ID) })
	for i := range sorted {
		if i > 0 && sorted[i].ID == sorted[i-1].ID {
			return nil, errs.New(op, errs.Invalid, "two devices have the id %s", sorted[i].ID)
		}
		if err := b.admit(&sorted[i]); err != nil {
			return nil, errs.Wrap(op, errs.Other, err)
		}
	}
	if _, err := b.Rebalance(time.Unix(60, 0)); err != nil {
		return nil, err
	}
	return b.Ring()
}

// Simulate plays rebalances on a copy, each after the time that MinPartHours asks
// for, until nothing is left to do or limit is reached. It returns what each did
// and the copy, and leaves b as it is.
func (b *Builder) Simulate(now time.Time, limit int) ([]Result, *Builder, error) {
	c := b.Clone()
	var steps []Result
	for range limit {
		r, err := c.Rebalance(now)
		if err != nil {
			return nil, nil, err
		}
		steps = append(steps, r)
		if r.Settled() || (!r.Changed && r.Locked == 0) {
			break
		}
		now = now.Add(time.Duration(max(c.minPartHours, 1)) * time.Hour)
	}
	return steps, c, nil
}
