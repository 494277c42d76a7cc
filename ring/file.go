package ring

import (
	"encoding/binary"
	"math"

	"ringfort/internal/errs"
	"ringfort/internal/vfs"
	"ringfort/internal/wire"
	"ringfort/ring/internal/ringfile"
)

// FileVersion is the version of the files that Encode writes.
const FileVersion = 1

var magic = ringfile.Magic{'R', 'F', 'R', 'T', 'R', 'I', 'N', 'G'}

// IsFile reports whether b begins as a ring file does.
func IsFile(b []byte) bool { return ringfile.Is(b, magic) }

// Encode returns the ring as the bytes of a ring file.
func (r *Ring) Encode() []byte {
	b := make([]byte, 0, 64+128*len(r.devices)+2*len(r.table))
	b = append(b, r.id[:]...)
	b = binary.AppendUvarint(b, uint64(r.epoch))
	b = append(b, byte(r.power), byte(r.replicas))
	b = binary.AppendUvarint(b, uint64(len(r.devices)))
	for i := range r.devices {
		b = AppendDevice(b, &r.devices[i])
	}
	for _, id := range r.table {
		b = binary.BigEndian.AppendUint16(b, uint16(r.index[id]))
	}
	return ringfile.Seal(magic, FileVersion, b)
}

// minDeviceSize is the length of a device whose texts are empty.
const minDeviceSize = 4 + 16 + 5 + 8

// AppendDevice appends a device in the form that ring and builder files share.
func AppendDevice(b []byte, d *Device) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(d.ID))
	b = append(b, d.UUID[:]...)
	for _, s := range []string{d.Region, d.Zone, d.Node, d.Address, d.Meta} {
		b = wire.AppendString(b, s)
	}
	return binary.BigEndian.AppendUint64(b, math.Float64bits(d.Weight))
}

// DecodeDevice reads what AppendDevice wrote. The caller asks r for its error
// and validates the device.
func DecodeDevice(r *wire.Reader) (d Device) {
	d.ID = DeviceID(r.Uint32())
	copy(d.UUID[:], r.Fixed(len(d.UUID)))
	d.Region, d.Zone, d.Node = r.String(), r.String(), r.String()
	d.Address, d.Meta = r.String(), r.String()
	d.Weight = math.Float64frombits(r.Uint64())
	return d
}

// Decode reads the bytes of a ring file. Damage is Corrupt, a file of a later
// version NotImplemented. It allocates a small multiple of len(b) at most.
func Decode(b []byte) (*Ring, error) {
	const op = "read ring"
	_, payload, err := ringfile.Unseal("ring file", magic, FileVersion, b)
	if err != nil {
		return nil, err
	}
	var s Spec
	in := wire.NewReader(payload)
	copy(s.ID[:], in.Fixed(len(s.ID)))
	s.Epoch = Epoch(in.Uvarint())
	s.Power, s.Replicas = uint(in.Byte()), int(in.Byte())
	n := in.Count(minDeviceSize)
	if in.Err() != nil {
		return nil, errs.Wrap(op, errs.Corrupt, in.Err())
	}
	if err := checkShape(s.Power, s.Replicas, n); err != nil {
		return nil, errs.Wrap(op, errs.Corrupt, err)
	}
	s.Devices = make([]Device, n)
	for i := range s.Devices {
		s.Devices[i] = DecodeDevice(&in)
		if i > 0 && s.Devices[i].ID <= s.Devices[i-1].ID {
			return nil, errs.New(op, errs.Corrupt, "the devices are not in the order of their ids")
		}
	}
	if in.Err() != nil {
		return nil, errs.Wrap(op, errs.Corrupt, in.Err())
	}
	rows := in.Rest()
	if len(rows) != 2*s.Replicas<<s.Power {
		return nil, errs.New(op, errs.Corrupt, "the table has %d bytes and should have %d", len(rows), 2*s.Replicas<<s.Power)
	}
	s.Table = make([]DeviceID, len(rows)/2)
	for i := range s.Table {
		d := int(binary.BigEndian.Uint16(rows[2*i:]))
		if d >= n {
			return nil, errs.New(op, errs.Corrupt, "partition %d names device number %d of %d", i/s.Replicas, d, n)
		}
		s.Table[i] = s.Devices[d].ID
	}
	r, err := New(s)
	return r, errs.Wrap(op, errs.Corrupt, err)
}

// Save writes the ring to path, atomically and durably.
func Save(fs vfs.FS, path string, r *Ring) error { return ringfile.Write(fs, path, r.Encode()) }

// Load reads the ring at path. A missing file is NotFound, a damaged one Corrupt.
func Load(fs vfs.FS, path string) (*Ring, error) {
	b, err := ringfile.Read(fs, path)
	if err != nil {
		return nil, err
	}
	r, err := Decode(b)
	return r, errs.Wrap(path, errs.Other, err)
}
