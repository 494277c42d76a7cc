package builder

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"math"

	"ringfort/internal/errs"
	"ringfort/internal/vfs"
	"ringfort/internal/wire"
	"ringfort/ring"
	"ringfort/ring/internal/ringfile"
)

// FileVersion is the version of the files that Encode writes.
const FileVersion = 1

var magic = ringfile.Magic{'R', 'F', 'R', 'T', 'B', 'L', 'D', 'R'}

// Encode returns the builder as the bytes of a builder file.
func (b *Builder) Encode() []byte {
	buf := make([]byte, 0, 96+128*len(b.devices)+2*len(b.table)+4*len(b.movedAt))
	buf = append(buf, b.id[:]...)
	buf = binary.AppendUvarint(buf, uint64(b.epoch))
	buf = append(buf, byte(b.power), byte(b.replicas))
	buf = binary.AppendUvarint(buf, uint64(b.minPartHours))
	buf = binary.BigEndian.AppendUint64(buf, math.Float64bits(b.overload))
	buf = binary.BigEndian.AppendUint64(buf, b.seed)
	buf = binary.BigEndian.AppendUint32(buf, uint32(b.nextID))
	buf = wire.AppendBool(buf, b.changed)
	buf = binary.AppendUvarint(buf, uint64(len(b.devices)))
	for i := range b.devices {
		buf = ring.AppendDevice(buf, &b.devices[i].Device)
		buf = wire.AppendBool(buf, b.devices[i].removed)
	}
	buf = wire.AppendBool(buf, b.table != nil)
	for _, d := range b.table {
		buf = binary.BigEndian.AppendUint16(buf, d)
	}
	for _, t := range b.movedAt {
		buf = binary.BigEndian.AppendUint32(buf, t)
	}
	return ringfile.Seal(magic, FileVersion, buf)
}

// Decode reads the bytes of a builder file and checks all of it. Damage is
// Corrupt, a file of a later version NotImplemented, a ring file Invalid. It
// allocates a small multiple of len(data) at most.
func Decode(data []byte) (*Builder, error) {
	const op = "read ring builder"
	if ring.IsFile(data) {
		return nil, errs.New(op, errs.Invalid, "this is a ring file, made for servers; its builder file is needed")
	}
	_, payload, err := ringfile.Unseal("ring builder file", magic, FileVersion, data)
	if err != nil {
		return nil, err
	}
	b := &Builder{}
	in := wire.NewReader(payload)
	copy(b.id[:], in.Fixed(len(b.id)))
	b.epoch = ring.Epoch(in.Uvarint())
	b.power, b.replicas = uint(in.Byte()), int(in.Byte())
	b.minPartHours = int(in.UvarintMax(math.MaxInt32))
	b.overload = math.Float64frombits(in.Uint64())
	b.seed = in.Uint64()
	b.nextID = ring.DeviceID(in.Uint32())
	b.changed = in.Bool()
	n := in.Count(4 + 16 + 5 + 8 + 1)
	if n > ring.MaxDevices {
		return nil, errs.New(op, errs.Corrupt, "%d devices are more than %d", n, ring.MaxDevices)
	}
	b.devices = make([]member, n)
	for i := range b.devices {
		b.devices[i] = member{Device: ring.DecodeDevice(&in), removed: in.Bool()}
	}
	hasTable := in.Bool()
	if in.Err() != nil {
		return nil, errs.Wrap(op, errs.Corrupt, in.Err())
	}
	if c := b.Config(); c.Validate() != nil {
		return nil, errs.Wrap(op, errs.Corrupt, c.Validate())
	}
	if err := b.decodeTable(in.Rest(), hasTable); err != nil {
		return nil, err
	}
	if err := b.Validate(); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *Builder) decodeTable(rest []byte, there bool) error {
	entries, parts := 0, 0
	if there {
		entries, parts = b.replicas<<b.power, 1<<b.power
	}
	if len(rest) != 2*entries+4*parts {
		return errs.New("read ring builder", errs.Corrupt, "the table has %d bytes and should have %d", len(rest), 2*entries+4*parts)
	}
	if !there {
		return nil
	}
	b.table = make([]uint16, entries)
	for i := range b.table {
		b.table[i] = binary.BigEndian.Uint16(rest[2*i:])
	}
	rest = rest[2*entries:]
	b.movedAt = make([]uint32, parts)
	for i := range b.movedAt {
		b.movedAt[i] = binary.BigEndian.Uint32(rest[4*i:])
	}
	return nil
}

// Save checks the builder and writes it to path, atomically and durably.
func Save(fsys vfs.FS, path string, b *Builder) error {
	if err := b.Validate(); err != nil {
		return err
	}
	return ringfile.Write(fsys, path, b.Encode())
}

// Load reads the builder at path. A missing file is NotFound, a damaged one
// Corrupt.
func Load(fsys vfs.FS, path string) (*Builder, error) {
	data, err := ringfile.Read(fsys, path)
	if err != nil {
		return nil, err
	}
	b, err := Decode(data)
	if err != nil {
		return nil, errs.Wrap(path, errs.Other, err)
	}
	return b, nil
}

// Lock keeps other programs from changing the builder at path until the closer
// is closed; it leaves an empty file beside it. It does not wait: a builder that
// is locked is Busy. A directory that is not there is NotFound, and one that must
// not be written to Denied.
func Lock(fsys vfs.FS, path string) (io.Closer, error) {
	l, err := fsys.Lock(path + ".lock")
	if err == nil {
		return l, nil
	}
	kind := errs.Busy
	switch {
	case errors.Is(err, fs.ErrNotExist):
		kind = errs.NotFound
	case errors.Is(err, fs.ErrPermission):
		kind = errs.Denied
	}
	return nil, errs.Wrap("lock "+path, kind, err)
}
