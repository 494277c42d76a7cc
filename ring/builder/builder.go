// Package builder makes rings: it decides which device keeps which replica of
// which partition, and changes its mind as little as it can when devices come,
// go or change their weight. It computes only; publishing a ring and moving data
// are the cluster's business, and reading a ring is package ring's.
//
// Read [Builder] first, then [Builder.Rebalance] and [Report]. [Simple] makes a
// ring in one call. DESIGN.md beside this file explains the arithmetic.
//
// What a rebalance promises, in order of precedence:
//
//  1. No two replicas of a partition on one device, ever.
//  2. At most one replica of a partition moves per rebalance, and none of a
//     partition moved in the last MinPartHours, unless its device was removed or
//     has weight 0.
//  3. Replicas stand apart as far as the devices allow: spread evenly over
//     regions, then zones, then nodes, as long as that loads no device beyond its
//     fair share times 1+Overload.
//  4. Every device holds what its weight entitles it to under 1 and 3, to within
//     one partition once no moves are held back by 2.
//  5. Few moves: those that 3 and 4 require, and at most a few per cent more.
//  6. Each device holds its replicas evenly over the positions of a row.
//
// The same seed, changes and times give the same ring, on every machine.
//
// A Builder is not safe for concurrent use. [Save] is atomic: after a crash the
// file holds the old builder or the new; [Lock] keeps two programs from changing
// one file.
//
// # File format, version 1
//
// The envelope of package ringfile (magic "RFRTBLDR", version, length, xxhash64
// of everything before it) around:
//
//	16       ring id
//	uvarint  epoch of the last rebalance, 0 before the first
//	1        power
//	1        replicas
//	uvarint  min part hours
//	8        overload, IEEE 754 double, big-endian; +Inf is unlimited
//	8        seed, big-endian
//	4        id of the next device, big-endian
//	1        1 if changes wait for a rebalance, else 0
//	uvarint  number of devices
//	         the devices, ascending by id, each as in a ring file and then
//	  1        1 if the device was removed and is being emptied, else 0
//	1        1 if the rest is there, else 0
//	rest     table as in a ring file; then for each partition when a replica
//	         of it was last moved, 4 bytes, big-endian, minutes since 1970,
//	         0 if never
package builder

import (
	"math"
	"slices"
	"time"

	"ringfort/internal/errs"
	"ringfort/ring"
	"ringfort/ring/internal/topology"
)

// MaxMinPartHours bounds Config.MinPartHours: a year.
const MaxMinPartHours = 366 * 24

// Config is what a builder is created with.
type Config struct {
	// ID is the identity of the rings to be made. It should be random.
	ID ring.UUID
	// Power is the binary logarithm of the number of partitions, 0 to
	// ring.MaxPower. Some 100 to 1000 partitions a device let weights be met to
	// a per cent; every one more costs 4 bytes a replica in each process.
	Power uint
	// Replicas is how many devices each partition has, 1 to ring.MaxReplicas.
	Replicas int
	// MinPartHours is how long a partition stays as it is after one of its
	// replicas was moved. It should be longer than a move takes.
	MinPartHours int
	// Overload is how far beyond its fair share a device may be loaded to keep
	// replicas apart: 0.1 is 10 %. Unlimited puts distance before weights.
	Overload float64
	// Seed makes the placement repeatable.
	Seed uint64
}

// Unlimited is the Overload that never lets weights bring replicas together.
var Unlimited = math.Inf(1)

// DefaultConfig returns a configuration of 2^16 partitions and 3 replicas, one
// hour between moves, and unlimited overload. ID and Seed are left zero.
func DefaultConfig() Config {
	return Config{Power: 16, Replicas: 3, MinPartHours: 1, Overload: Unlimited}
}

// Validate reports what makes c unfit, as Invalid.
func (c *Config) Validate() error {
	const op = "ring builder"
	switch {
	case c.Power > ring.MaxPower:
		return errs.New(op, errs.Invalid, "power %d is more than %d", c.Power, ring.MaxPower)
	case c.Replicas < 1 || c.Replicas > ring.MaxReplicas:
		return errs.New(op, errs.Invalid, "%d replicas: a ring has 1 to %d", c.Replicas, ring.MaxReplicas)
	}
	if err := checkMinPartHours(c.MinPartHours); err != nil {
		return err
	}
	return checkOverload(c.Overload)
}

func checkMinPartHours(h int) error {
	if h < 0 || h > MaxMinPartHours {
		return errs.New("ring builder", errs.Invalid, "%d hours between moves: 0 to %d are possible", h, MaxMinPartHours)
	}
	return nil
}

func checkOverload(o float64) error {
	if !(o >= 0) { // NaN too
		return errs.New("ring builder", errs.Invalid, "overload %v is not 0 or more", o)
	}
	return nil
}

// member is a device and what the builder knows of it beyond the ring.
type member struct {
	ring.Device
	removed bool // being emptied; INVARIANT: then Weight is 0
}

// Builder holds the devices, the table and the times of moves of one ring.
type Builder struct {
	id           ring.UUID
	epoch        ring.Epoch
	power        uint
	replicas     int
	minPartHours int
	overload     float64
	seed         uint64
	nextID       ring.DeviceID
	changed      bool // since the last rebalance

	devices []member // INVARIANT: ascending by id
	// table holds replicas indexes into devices for each partition. It is nil
	// until the first rebalance.
	table []uint16
	// movedAt holds for each partition the minute since 1970 when a replica of
	// it was last moved, 0 for never. It is as long as there are partitions when
	// table is not nil.
	movedAt []uint32
}

// New returns a builder without devices.
func New(c Config) (*Builder, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Builder{
		id: c.ID, power: c.Power, replicas: c.Replicas, minPartHours: c.MinPartHours,
		overload: c.Overload, seed: c.Seed, nextID: 1,
	}, nil
}

// Config returns what the builder works with now.
func (b *Builder) Config() Config {
	return Config{ID: b.id, Power: b.power, Replicas: b.replicas, MinPartHours: b.minPartHours,
		Overload: b.overload, Seed: b.seed}
}

// Epoch returns the epoch of the last rebalance, 0 if there was none.
func (b *Builder) Epoch() ring.Epoch { return b.epoch }

// Pending reports whether devices or settings changed since the last rebalance.
func (b *Builder) Pending() bool { return b.changed }

// Devices returns the devices in the order of their ids, those being emptied
// included.
func (b *Builder) Devices() []ring.Device {
	ds := make([]ring.Device, len(b.devices))
	for i := range b.devices {
		ds[i] = b.devices[i].Device
	}
	return ds
}

// Removed reports whether a device was removed and still holds replicas.
func (b *Builder) Removed(id ring.DeviceID) bool {
	m := b.find(id)
	return m != nil && m.removed
}

func (b *Builder) find(id ring.DeviceID) *member {
	for i := range b.devices {
		if b.devices[i].ID == id {
			return &b.devices[i]
		}
	}
	return nil
}

// Add adds a device and returns its id: the next one, or d.ID if that is not 0,
// for a device that has an id in another ring of the cluster already. An id that
// was given before, or may have been, is refused. The device takes part from the
// next rebalance on. A device with the UUID of another one is
// refused as Exists; a node that would stand in two zones or at two addresses,
// as Invalid.
func (b *Builder) Add(d ring.Device) (ring.DeviceID, error) {
	const op = "add device"
	if d.ID != 0 && d.ID < b.nextID {
		return 0, errs.New(op, errs.Invalid, "id %s was given before: an id is never used again, and the next one is %s", d.ID, b.nextID)
	}
	if len(b.devices) >= ring.MaxDevices {
		return 0, errs.New(op, errs.Invalid, "a ring has at most %d devices", ring.MaxDevices)
	}
	if d.ID == 0 {
		d.ID = b.nextID
	}
	if d.ID == math.MaxUint32 {
		return 0, errs.New(op, errs.Invalid, "all device ids have been used")
	}
	if err := b.admit(&d); err != nil {
		return 0, errs.Wrap(op, errs.Other, err)
	}
	b.nextID = d.ID + 1
	return d.ID, nil
}

// admit checks a new device against the others and appends it. Its id is above
// all others.
func (b *Builder) admit(d *ring.Device) error {
	if err := d.Validate(); err != nil {
		return err
	}
	for i := range b.devices {
		o := &b.devices[i]
		if d.UUID != (ring.UUID{}) && o.UUID == d.UUID {
			return errs.New("device", errs.Exists, "%s already has uuid %s", o.ID, d.UUID)
		}
		if d.Node == "" || o.Node != d.Node {
			continue
		}
		if o.Region != d.Region || o.Zone != d.Zone {
			return errs.New("device", errs.Invalid, "node %q stands in region %q, zone %q (%s): it cannot stand in region %q, zone %q too",
				d.Node, o.Region, o.Zone, o.ID, d.Region, d.Zone)
		}
		if o.Address != d.Address {
			return errs.New("device", errs.Invalid, "node %q listens at %q (%s), not at %q", d.Node, o.Address, o.ID, d.Address)
		}
	}
	b.devices = append(b.devices, member{Device: *d})
	b.changed = true
	return nil
}

// SetWeight changes the weight of a device. Weight 0 empties it, and keeps it in
// the ring.
func (b *Builder) SetWeight(id ring.DeviceID, weight float64) error {
	const op = "set weight"
	m := b.find(id)
	if m == nil {
		return errs.New(op, errs.NotFound, "there is no %s", id)
	}
	if m.removed {
		return errs.New(op, errs.Invalid, "%s was removed; to use the disk again, wipe it and add it as a new device", id)
	}
	if err := ring.CheckWeight(weight); err != nil {
		return errs.Wrap(op, errs.Other, err)
	}
	if m.Weight != weight {
		m.Weight = weight
		b.changed = true
	}
	return nil
}

// Remove takes a device out. The next rebalances empty it, and it leaves the
// ring with the one that takes its last replica. Its id is not used again.
func (b *Builder) Remove(id ring.DeviceID) error {
	const op = "remove device"
	m := b.find(id)
	if m == nil {
		return errs.New(op, errs.NotFound, "there is no %s", id)
	}
	if m.removed {
		return errs.New(op, errs.Invalid, "%s was already removed; it leaves when a rebalance has emptied it", id)
	}
	m.removed, m.Weight = true, 0
	b.changed = true
	return nil
}

// SetOverload changes Config.Overload.
func (b *Builder) SetOverload(o float64) error {
	if err := checkOverload(o); err != nil {
		return err
	}
	b.changed = b.changed || b.overload != o
	b.overload = o
	return nil
}

// SetMinPartHours changes Config.MinPartHours.
func (b *Builder) SetMinPartHours(h int) error {
	if err := checkMinPartHours(h); err != nil {
		return err
	}
	b.minPartHours = h
	return nil
}

// PretendTimePassed forgets when partitions were moved, so that the next
// rebalance may move any of them. Use it when it is certain that no move is
// under way.
func (b *Builder) PretendTimePassed() { clear(b.movedAt) }

// MovedAt returns when a replica of p was last moved; ok is false if that never
// happened or was forgotten.
func (b *Builder) MovedAt(p ring.Partition) (t time.Time, ok bool) {
	if int(p) >= len(b.movedAt) || b.movedAt[p] == 0 {
		return time.Time{}, false
	}
	return time.Unix(int64(b.movedAt[p])*60, 0).UTC(), true
}

// Ring returns the ring of the last rebalance. Before the first one, and after
// changes that no rebalance has taken up, it is refused as Invalid: one epoch is
// one ring.
func (b *Builder) Ring() (*ring.Ring, error) {
	const op = "make ring"
	if b.table == nil {
		return nil, errs.New(op, errs.Invalid, "the ring has not been balanced yet")
	}
	if b.changed {
		return nil, errs.New(op, errs.Invalid, "devices or settings have changed since epoch %d: rebalance first", b.epoch)
	}
	table := make([]ring.DeviceID, len(b.table))
	for i, d := range b.table {
		table[i] = b.devices[d].ID
	}
	return ring.New(ring.Spec{
		ID: b.id, Epoch: b.epoch, Power: b.power, Replicas: b.replicas, Devices: b.Devices(), Table: table,
	})
}

// Validate checks what must always hold. What does not is Corrupt.
func (b *Builder) Validate() error {
	const op = "validate ring builder"
	c := b.Config()
	if err := c.Validate(); err != nil {
		return errs.Wrap(op, errs.Corrupt, err)
	}
	for i := range b.devices {
		m := &b.devices[i]
		if err := m.Device.Validate(); err != nil {
			return errs.Wrap(op, errs.Corrupt, err)
		}
		switch {
		case i > 0 && m.ID <= b.devices[i-1].ID:
			return errs.New(op, errs.Corrupt, "the devices are not in the order of their ids")
		case m.ID >= b.nextID:
			return errs.New(op, errs.Corrupt, "%s has an id that was not given out yet", m.ID)
		case m.removed && m.Weight != 0:
			return errs.New(op, errs.Corrupt, "%s was removed and has a weight", m.ID)
		}
	}
	if b.table == nil {
		return nil
	}
	if len(b.table) != b.replicas<<b.power || len(b.movedAt) != 1<<b.power {
		return errs.New(op, errs.Corrupt, "the table has %d entries and %d times for 2^%d partitions of %d replicas",
			len(b.table), len(b.movedAt), b.power, b.replicas)
	}
	for i, d := range b.table {
		if int(d) >= len(b.devices) {
			return errs.New(op, errs.Corrupt, "partition %d names device number %d of %d", i/b.replicas, d, len(b.devices))
		}
		if slices.Contains(b.table[i-i%b.replicas:i], d) {
			return errs.New(op, errs.Corrupt, "partition %d has two replicas on %s", i/b.replicas, b.devices[d].ID)
		}
	}
	return nil
}

// Clone returns a copy that shares nothing with b.
func (b *Builder) Clone() *Builder {
	c := *b
	c.devices = slices.Clone(b.devices)
	c.table = slices.Clone(b.table)
	c.movedAt = slices.Clone(b.movedAt)
	return &c
}

// tree arranges the devices; its device indexes are those of b.devices.
func (b *Builder) tree() *topology.Tree {
	labels := make([]topology.Label, len(b.devices))
	for i := range b.devices {
		d := &b.devices[i]
		labels[i] = topology.Label{Region: d.Region, Zone: d.Zone, Node: d.Node, ID: uint32(d.ID)}
	}
	return topology.New(labels)
}

// loads returns how many replicas each device holds.
func (b *Builder) loads() []int64 {
	n := make([]int64, len(b.devices))
	for _, d := range b.table {
		n[d]++
	}
	return n
}
