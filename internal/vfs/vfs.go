// Package vfs is the file system as the storage engines see it, so that tests
// can put another one in its place.
//
// The interface is Pebble's own ([FS], [File]): our log and fragment files and
// Pebble's tables then stand on one file system, and one injected fault or power
// cut meets them all. The package adds what Pebble does not have: direct I/O,
// aligned buffers, and the faults of package vfs/faultfs.
package vfs

import (
	"errors"
	"io/fs"
	"syscall"
	"unsafe"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS is a file system.
type FS = vfs.FS

// File is an open file or directory.
type File = vfs.File

// Default is the operating system's file system.
func Default() FS { return vfs.Default }

// BlockSize is the alignment, in bytes, of offset, length and memory that direct
// I/O needs on every disk in use today.
const BlockSize = 4096

// SetDirect turns direct I/O on an open file on or off, and reports whether the
// file now is in that mode. Files that are not the operating system's, and file
// systems without direct I/O, answer false for on: the caller goes on with
// buffered I/O, which accepts everything that direct I/O does.
func SetDirect(f File, on bool) bool {
	fd := f.Fd()
	if fd == vfs.InvalidFd {
		return !on
	}
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_GETFL, 0)
	if errno != 0 {
		return false
	}
	want := flags &^ syscall.O_DIRECT
	if on {
		want = flags | syscall.O_DIRECT
	}
	if want == flags {
		return true
	}
	_, _, errno = syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_SETFL, want)
	return errno == 0
}

// AlignedBuffer returns n bytes whose address is a multiple of BlockSize.
func AlignedBuffer(n int) []byte {
	b := make([]byte, n+BlockSize)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (BlockSize - 1))
	return b[skip : skip+n : skip+n]
}

// SyncDir makes the names in a directory durable.
func SyncDir(f FS, dir string) error {
	d, err := f.OpenDir(dir)
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		d.Close()
		return err
	}
	return d.Close()
}

// IsNotExist reports whether err says that a file is not there.
func IsNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
