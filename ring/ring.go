// Package ring says which devices keep a partition. It is data and arithmetic
// only: a table, the devices it names, and a file format. It does not decide
// where replicas go (package ring/builder does), moves no data, and knows no
// network and no policy.
//
// Read [Ring] first, then [Device] and [Ring.Handoffs].
//
// A ring divides the hash space of [keyhash] into 2^power partitions, each a
// prefix of the hash. For every partition it lists Replicas different devices in
// order. The order has a meaning: fragment i of an erasure-coded object lies on
// device i of its partition, and the first devices keep the records of the
// partition's keys ([Ring.RecordDevices]). Two rings of the same ID and
// different epochs differ in at most one device of any partition ([Moves]),
// which is what the protocol for changing rings under load can bear.
//
// A Ring is immutable after [New], [Decode] or [Load] and safe for concurrent
// use. [Save] is atomic: after a crash the file holds the old ring or the new.
//
// # File format, version 1
//
// The envelope of package ringfile (magic "RFRTRING", version, length, xxhash64
// of everything before it) around:
//
//	16       id, the same in all epochs of one ring
//	uvarint  epoch
//	1        power, 0 to 24
//	1        replicas, 1 to 16
//	uvarint  number of devices, 1 to 65535
//	         the devices, ascending by id:
//	  4        id, big-endian, not 0
//	  16       uuid
//	  string   region, zone, node, address, meta (uvarint length, then bytes)
//	  8        weight, IEEE 754 double, big-endian
//	rest     table: 2^power rows of replicas entries of 2 bytes, big-endian;
//	         an entry is an index into the devices
//
// A ring has one file: what is read and encoded again gives the same bytes.
//
// The order of [Ring.Handoffs] is not written down but part of the format all the
// same: it is computed from the table, the devices and the arithmetic in
// handoff.go. A hint lies on the handoff that one program computed and is sought
// on the one that another computes, so two programs that read one file have to
// agree on the order, whatever their versions and processors. A test holds samples
// of it; a change of the arithmetic is a new version of the file.
package ring

import (
	"cmp"
	"encoding/hex"
	"math"
	"slices"
	"strconv"
	"unicode"
	"unicode/utf8"

	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/ring/internal/topology"
)

// Limits of a ring.
const (
	MaxPower    = 24
	MaxReplicas = 16
	MaxDevices  = 1<<16 - 1
	// MaxLabelBytes bounds region, zone, node and address.
	MaxLabelBytes = 255
	// MaxMetaBytes bounds a device's meta text.
	MaxMetaBytes = 1024
	// MinWeight and MaxWeight bound a weight that is not 0. Between them the
	// arithmetic of shares stays exact to a fraction of one partition.
	MinWeight = 1e-3
	MaxWeight = 1e12
)

// Partition is one of the 2^power parts of the hash space.
type Partition uint32

// DeviceID names a device for as long as the ring lives. It is never used again
// for another device, or for the same disk emptied: a device that has lost its
// promises must not be mistaken for the one that gave them. 0 is no device.
type DeviceID uint32

// String returns the id in decimal, with a "d" before it.
func (id DeviceID) String() string { return "d" + strconv.FormatUint(uint64(id), 10) }

// Epoch is a ring's version. It rises by one with every published change.
type Epoch uint64

// UUID identifies a disk or a ring by 16 random bytes.
type UUID [16]byte

// String returns 8-4-4-4-12 hexadecimal digits.
func (u UUID) String() string {
	s := hex.EncodeToString(u[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// MarshalText writes what String returns.
func (u UUID) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText reads what ParseUUID reads.
func (u *UUID) UnmarshalText(b []byte) (err error) {
	*u, err = ParseUUID(string(b))
	return err
}

// ParseUUID reads the form that String writes; the dashes may be left out.
func ParseUUID(s string) (u UUID, err error) {
	bare := s
	if len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' {
		bare = s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	}
	b, err := hex.DecodeString(bare)
	if err != nil || len(b) != len(u) {
		return UUID{}, errs.New("parse uuid", errs.Invalid, "%q is not a uuid", s)
	}
	return UUID(b), nil
}

// Device is one disk: where it stands and how much it takes.
type Device struct {
	ID      DeviceID `json:"id"`
	UUID    UUID     `json:"uuid"`    // written on the disk, so that a swapped disk is noticed
	Region  string   `json:"region"`  // outermost failure domain; may be empty
	Zone    string   `json:"zone"`    // failure domain within the region; may be empty
	Node    string   `json:"node"`    // name of the process that serves it
	Address string   `json:"address"` // host:port of the node's peer listener
	Weight  float64  `json:"weight"`  // share of the partitions, relative to the others; 0 takes none
	Meta    string   `json:"meta,omitempty"`
}

// Validate reports what makes d unfit for a ring, as Invalid.
func (d *Device) Validate() error {
	const op = "device"
	if d.ID == 0 {
		return errs.New(op, errs.Invalid, "id 0 means no device: ids begin at 1")
	}
	for _, f := range []struct {
		name, value string
		max         int
	}{
		{"region", d.Region, MaxLabelBytes}, {"zone", d.Zone, MaxLabelBytes}, {"node", d.Node, MaxLabelBytes},
		{"address", d.Address, MaxLabelBytes}, {"meta", d.Meta, MaxMetaBytes},
	} {
		if len(f.value) > f.max {
			return errs.New(op, errs.Invalid, "%s has %s of %d bytes, more than %d", d.ID, f.name, len(f.value), f.max)
		}
		if !printable(f.value) {
			return errs.New(op, errs.Invalid, "%s has %s %q, which is not printable text", d.ID, f.name, f.value)
		}
	}
	return errs.Wrap(d.ID.String(), errs.Other, CheckWeight(d.Weight))
}

func printable(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return utf8.ValidString(s)
}

// CheckWeight reports a weight that no device may have, as Invalid.
func CheckWeight(w float64) error {
	if w == 0 || (w >= MinWeight && w <= MaxWeight) {
		return nil
	}
	return errs.New("weight", errs.Invalid, "%v is neither 0 nor between %v and %v", w, MinWeight, float64(MaxWeight))
}

// Spec is what a ring is made of.
type Spec struct {
	ID       UUID
	Epoch    Epoch
	Power    uint
	Replicas int
	Devices  []Device   // in any order
	Table    []DeviceID // Replicas devices of partition 0, then of partition 1, ...
}

// Ring is a table from partitions to devices.
type Ring struct {
	id       UUID
	epoch    Epoch
	power    uint
	replicas int
	devices  []Device // ascending by id
	table    []DeviceID
	index    map[DeviceID]int32 // into devices

	tree     *topology.Tree
	tierHash []uint64 // a name for each tier that outlives changes of the ring
	tierQuot []uint64 // each tier's share of the weight, in 1/2^32 of the whole
	tierLive []int32  // devices with a weight below each tier
}

// New makes a ring and checks all of it; what is wrong is Invalid. It keeps
// s.Table, which must not be changed afterwards.
func New(s Spec) (*Ring, error) {
	const op = "make ring"
	r := &Ring{
		id: s.ID, epoch: s.Epoch, power: s.Power, replicas: s.Replicas,
		devices: slices.Clone(s.Devices), table: s.Table,
		index: make(map[DeviceID]int32, len(s.Devices)),
	}
	slices.SortFunc(r.devices, func(a, b Device) int { return cmp.Compare(a.ID, b.ID) })
	if err := checkShape(s.Power, s.Replicas, len(s.Devices)); err != nil {
		return nil, errs.Wrap(op, errs.Other, err)
	}
	for i := range r.devices {
		d := &r.devices[i]
		if err := d.Validate(); err != nil {
			return nil, errs.Wrap(op, errs.Other, err)
		}
		if _, twice := r.index[d.ID]; twice {
			return nil, errs.New(op, errs.Invalid, "%s is there twice", d.ID)
		}
		r.index[d.ID] = int32(i)
	}
	if want := s.Replicas << s.Power; len(s.Table) != want {
		return nil, errs.New(op, errs.Invalid, "the table has %d entries and should have %d", len(s.Table), want)
	}
	if err := r.checkRows(); err != nil {
		return nil, errs.Wrap(op, errs.Other, err)
	}
	r.plantTree()
	return r, nil
}

func checkShape(power uint, replicas, devices int) error {
	const op = "ring"
	switch {
	case power > MaxPower:
		return errs.New(op, errs.Invalid, "power %d is more than %d", power, MaxPower)
	case replicas < 1 || replicas > MaxReplicas:
		return errs.New(op, errs.Invalid, "%d replicas: a ring has 1 to %d", replicas, MaxReplicas)
	case devices < replicas:
		return errs.New(op, errs.Invalid, "%d devices cannot hold %d replicas: each replica needs a device of its own", devices, replicas)
	case devices > MaxDevices:
		return errs.New(op, errs.Invalid, "%d devices are more than %d", devices, MaxDevices)
	}
	return nil
}

func (r *Ring) checkRows() error {
	var last DeviceID // consecutive entries are often equal when there is one replica
	for i, id := range r.table {
		if id != last {
			if _, ok := r.index[id]; !ok {
				return errs.New("ring", errs.Invalid, "partition %d names %s, which is not in the ring", i/r.replicas, id)
			}
			last = id
		}
		row := r.table[i-i%r.replicas : i]
		if slices.Contains(row, id) {
			return errs.New("ring", errs.Invalid, "partition %d has two replicas on %s", i/r.replicas, id)
		}
	}
	return nil
}

// plantTree prepares what Handoffs needs.
func (r *Ring) plantTree() {
	labels := make([]topology.Label, len(r.devices))
	for i := range r.devices {
		d := &r.devices[i]
		labels[i] = topology.Label{Region: d.Region, Zone: d.Zone, Node: d.Node, ID: uint32(d.ID)}
	}
	r.tree = topology.New(labels)
	weight := topology.SumUp(r.tree, func(d int32) float64 { return r.devices[d].Weight })
	r.tierQuot = make([]uint64, len(weight))
	for i, w := range weight {
		if weight[0] > 0 {
			r.tierQuot[i] = max(1, uint64(math.Round(w/weight[0]*(1<<32))))
		}
	}
	live := topology.SumUp(r.tree, func(d int32) int {
		if r.devices[d].Weight > 0 {
			return 1
		}
		return 0
	})
	r.tierLive = make([]int32, len(live))
	for i, n := range live {
		r.tierLive[i] = int32(n)
	}
	r.tierHash = make([]uint64, len(weight))
	for i := range r.tree.Tiers {
		r.tierHash[i] = r.hashTier(&r.tree.Tiers[i])
	}
}

// ID returns the ring's identity, the same in all its epochs.
func (r *Ring) ID() UUID { return r.id }

// Epoch returns the ring's version.
func (r *Ring) Epoch() Epoch { return r.epoch }

// Power returns the binary logarithm of the number of partitions.
func (r *Ring) Power() uint { return r.power }

// Replicas returns how many devices each partition has.
func (r *Ring) Replicas() int { return r.replicas }

// Partitions returns the number of partitions.
func (r *Ring) Partitions() int { return 1 << r.power }

// PartitionOf returns the partition that holds h.
func (r *Ring) PartitionOf(h keyhash.Hash) Partition { return Partition(h.Prefix(r.power)) }

// Primaries returns the devices of p in order. The slice is part of the ring: do
// not change it. p must be below Partitions.
func (r *Ring) Primaries(p Partition) []DeviceID {
	i := int(p) * r.replicas
	return r.table[i : i+r.replicas : i+r.replicas]
}

// RecordDevices returns the devices that keep the records of p's keys: the first
// n primaries, or all if there are fewer. The slice is part of the ring.
func (r *Ring) RecordDevices(p Partition, n int) []DeviceID {
	n = min(n, r.replicas)
	return r.Primaries(p)[:n:n]
}

// Position returns the place of a device among p's primaries, from 0, or -1.
func (r *Ring) Position(p Partition, id DeviceID) int { return slices.Index(r.Primaries(p), id) }

// Device returns the device with that id.
func (r *Ring) Device(id DeviceID) (Device, bool) {
	i, ok := r.index[id]
	if !ok {
		return Device{}, false
	}
	return r.devices[i], true
}

// Devices returns all devices, ascending by id, in a new slice.
func (r *Ring) Devices() []Device { return slices.Clone(r.devices) }
