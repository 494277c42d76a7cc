package peer

import (
	"encoding/binary"
	"slices"

	"ringfort/internal/blob"
	"ringfort/internal/keyhash"
	"ringfort/internal/timestamp"
	"ringfort/internal/wire"
	"ringfort/ring"
)

type dropRequest struct {
	target Target
	owner  keyhash.Hash
	ids    []blob.ID
}

func (m *dropRequest) appendTo(b []byte) []byte {
	b = append(appendTarget(b, m.target), m.owner[:]...)
	b = binary.AppendUvarint(b, uint64(len(m.ids)))
	for _, id := range m.ids {
		b = id.AppendTo(b)
	}
	return b
}

func readDropRequest(r *wire.Reader) dropRequest {
	m := dropRequest{target: readTarget(r), owner: readKey(r)}
	m.ids = make([]blob.ID, readCount(r, blob.IDSize))
	for i := range m.ids {
		m.ids[i] = readBlobID(r)
	}
	return m
}

type dropGroupRequest struct {
	target Target
	owner  keyhash.Hash
	group  timestamp.T
}

func (m *dropGroupRequest) appendTo(b []byte) []byte {
	return m.group.AppendTo(append(appendTarget(b, m.target), m.owner[:]...))
}

func readDropGroupRequest(r *wire.Reader) dropGroupRequest {
	return dropGroupRequest{readTarget(r), readKey(r), r.Timestamp()}
}

// appendStatus writes a NodeStatus: string name, string version, uvarint
// started, uvarint micros, n × (string ring, uvarint epoch) by name, n × device.
// A device is uvarint id, 16 B uuid, strings path, state, problem, uvarints total
// bytes, free bytes, uploads.
func appendStatus(b []byte, s *NodeStatus) []byte {
	b = wire.AppendString(b, s.Name)
	b = wire.AppendString(b, s.Version)
	b = appendCount(b, s.Started)
	b = appendCount(b, s.Micros)
	names := make([]string, 0, len(s.Epochs))
	for name := range s.Epochs {
		names = append(names, name)
	}
	slices.Sort(names)
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, name := range names {
		b = wire.AppendString(b, name)
		b = binary.AppendUvarint(b, s.Epochs[name])
	}
	b = binary.AppendUvarint(b, uint64(len(s.Devices)))
	for i := range s.Devices {
		b = appendDevice(b, &s.Devices[i])
	}
	return b
}

func appendDevice(b []byte, d *DeviceStatus) []byte {
	b = binary.AppendUvarint(b, uint64(d.Device))
	b = append(b, d.UUID[:]...)
	b = wire.AppendString(b, d.Path)
	b = wire.AppendString(b, d.State)
	b = wire.AppendString(b, d.Problem)
	b = binary.AppendUvarint(b, d.TotalBytes)
	b = binary.AppendUvarint(b, d.FreeBytes)
	return appendCount(b, d.Uploads)
}

// minDeviceSize is the length of the shortest encoded device.
const minDeviceSize = 1 + 16 + 3 + 3

func readStatus(r *wire.Reader) *NodeStatus {
	s := &NodeStatus{Name: r.String(), Version: r.String(), Started: r.Int64(), Micros: r.Int64()}
	if n := readCount(r, 2); n > 0 {
		s.Epochs = make(map[string]uint64, n)
		for last := ""; n > 0; n-- {
			name := r.String()
			if len(s.Epochs) > 0 && name <= last {
				r.Fail("rings are not in order")
			}
			s.Epochs[name], last = r.Uvarint(), name
		}
	}
	if n := readCount(r, minDeviceSize); n > 0 {
		s.Devices = make([]DeviceStatus, n)
	}
	for i := range s.Devices {
		s.Devices[i] = readDevice(r)
	}
	return s
}

func readDevice(r *wire.Reader) DeviceStatus {
	d := DeviceStatus{Device: ring.DeviceID(readUint32(r))}
	copy(d.UUID[:], r.Fixed(len(d.UUID)))
	d.Path, d.State, d.Problem = r.String(), r.String(), r.String()
	d.TotalBytes, d.FreeBytes = r.Uvarint(), r.Uvarint()
	d.Uploads = r.Int64()
	return d
}
