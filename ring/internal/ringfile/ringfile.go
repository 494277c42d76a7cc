// Package ringfile is the envelope that ring and builder files share, and the
// way they reach a disk.
//
// It knows nothing of what is inside. A file is
//
//	0       8   magic: says which of the two kinds it is
//	8       2   version of the payload, big-endian
//	10      2   zero
//	12      8   length n of the payload in bytes, big-endian
//	20      n   payload
//	20+n    8   xxhash64 (seed 0) of everything before, big-endian
//
// and nothing after. [Write] replaces a file atomically: after a crash at any
// point the name holds the old file or the new one, whole, and once Write has
// returned it holds the new one. A temporary file that a crash leaves behind is
// overwritten by the next Write. Two Writes to one name at the same time are the
// callers' business to prevent.
package ringfile

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"

	"github.com/cespare/xxhash/v2"

	"ringfort/internal/errs"
	"ringfort/internal/vfs"
)

// Magic tells what kind of file it is.
type Magic [8]byte

const (
	headerSize  = 20
	trailerSize = 8
	// maxSize bounds what Read takes into memory: the largest builder file
	// (2^24 partitions of 16 replicas, and their times) is 9/16 of it.
	maxSize = 1 << 30
)

// Seal puts payload into an envelope.
func Seal(m Magic, version uint16, payload []byte) []byte {
	b := make([]byte, 0, headerSize+len(payload)+trailerSize)
	b = append(b, m[:]...)
	b = binary.BigEndian.AppendUint16(b, version)
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(len(payload)))
	b = append(b, payload...)
	return binary.BigEndian.AppendUint64(b, xxhash.Sum64(b))
}

// Is reports whether b begins as a file of kind m does.
func Is(b []byte, m Magic) bool { return len(b) >= len(m) && Magic(b[:len(m)]) == m }

// Unseal checks the envelope and returns the payload, which aliases b. what
// names the kind of file in errors. A version above maxVersion is refused as
// NotImplemented (written by a newer program), anything else that is wrong as Corrupt.
func Unseal(what string, m Magic, maxVersion uint16, b []byte) (version uint16, payload []byte, err error) {
	op := "read " + what
	if !Is(b, m) {
		return 0, nil, errs.New(op, errs.Corrupt, "not a %s: it does not begin with %q", what, m[:])
	}
	if len(b) < headerSize+trailerSize {
		return 0, nil, errs.New(op, errs.Corrupt, "the file is cut short: %d bytes", len(b))
	}
	version = binary.BigEndian.Uint16(b[8:])
	if version == 0 {
		return 0, nil, errs.New(op, errs.Corrupt, "the file has version 0")
	}
	if version > maxVersion {
		return 0, nil, errs.New(op, errs.NotImplemented, "written by a newer program: the file has version %d; this one reads versions 1 to %d", version, maxVersion)
	}
	if n := binary.BigEndian.Uint64(b[12:]); n != uint64(len(b)-headerSize-trailerSize) {
		return 0, nil, errs.New(op, errs.Corrupt, "the payload should have %d bytes and has %d", n, len(b)-headerSize-trailerSize)
	}
	end := len(b) - trailerSize
	if got, want := xxhash.Sum64(b[:end]), binary.BigEndian.Uint64(b[end:]); got != want {
		return 0, nil, errs.New(op, errs.Corrupt, "checksum is %016x, the file says %016x", got, want)
	}
	if binary.BigEndian.Uint16(b[10:]) != 0 {
		return 0, nil, errs.New(op, errs.Corrupt, "reserved bytes are not zero")
	}
	return version, b[headerSize:end:end], nil
}

// Write makes path hold data, atomically and durably.
func Write(fsys vfs.FS, path string, data []byte) error {
	const op = "write ring file"
	temp := path + ".tmp"
	if err := writeSynced(fsys, temp, data); err != nil {
		fsys.Remove(temp)
		return errs.Wrap(op, errs.Other, err)
	}
	if err := fsys.Rename(temp, path); err != nil {
		fsys.Remove(temp)
		return errs.Wrap(op, errs.Other, err)
	}
	// Without this the rename may be undone by a crash, and with it the epoch
	// that was already announced.
	return errs.Wrap(op, errs.Other, vfs.SyncDir(fsys, fsys.PathDir(path)))
}

func writeSynced(fsys vfs.FS, path string, data []byte) error {
	f, err := fsys.Create(path, "ring")
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// Read returns the bytes of the file at path. A missing file is NotFound and
// one larger than any ring or builder file is TooLarge.
func Read(fsys vfs.FS, path string) ([]byte, error) {
	const op = "read ring file"
	f, err := fsys.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errs.Wrap(op, errs.NotFound, err)
		}
		return nil, errs.Wrap(op, errs.Other, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, errs.Wrap(op, errs.Other, err)
	}
	if len(b) > maxSize {
		return nil, errs.New(op, errs.TooLarge, "%s has more than %d bytes", path, maxSize)
	}
	return b, nil
}
