package volume

import (
	"io"
	"os"
	"strings"
	"time"

	pvfs "github.com/cockroachdb/pebble/v2/vfs"

	"ringfort/internal/vfs"
)

// indexFS is the file system that pebble is given. It tells the volume of the
// first failed write or sync. From then on nothing more is changed on the disk,
// since pebble might delete files after a sync that did not happen.
//
// While the volume is open, changes are then refused, slowly, because pebble tries
// a failed flush again at once and for ever; what it could not flush stays in
// memory and can be read. While it is being opened or closed they are swallowed
// instead, because pebble waits for such a flush to succeed. Directory syncs are
// never seen to fail: pebble would panic, on a goroutine of its own. Nor are changes
// of the manifest: pebble takes them for the end of the process, and goes on, if it
// is not, with a list of tables that it has half changed. What it then believes to
// be in the manifest, the next opening replays from the log.
type indexFS struct {
	vfs.FS
	v *Volume
}

// refusalDelay slows down the loop that tries again what was refused.
const refusalDelay = time.Second

// dead reports what to do with a change: nothing special, refuse it with err, or
// swallow it.
func (f indexFS) dead() (err error, swallow bool) {
	err = f.v.failure()
	if err == nil {
		return nil, false
	}
	if !f.v.opened.Load() {
		return nil, true
	}
	select {
	case <-f.v.closing:
		return nil, true
	default:
		return err, false
	}
}

// create runs what makes or opens a file for writing.
func (f indexFS) create(name string, run func() (vfs.File, error)) (vfs.File, error) {
	manifest := f.isManifest(name)
	err, swallow := f.dead()
	if err != nil && manifest {
		err, swallow = nil, true
	}
	if err != nil {
		select {
		case <-time.After(refusalDelay):
		case <-f.v.closing:
			err, swallow = nil, true
		}
	}
	if err != nil {
		return nil, err
	}
	if !swallow {
		file, err := run()
		if f.check(err) == nil {
			return &indexFile{File: file, fs: f, never: manifest}, nil
		}
		if _, swallow = f.dead(); !swallow && !f.hide(manifest, err) {
			return nil, err
		}
	}
	return &indexFile{File: &hole{}, fs: f, never: manifest}, nil
}

// isManifest reports whether a file is a manifest, or says which one counts.
func (f indexFS) isManifest(name string) bool {
	base := f.PathBase(name)
	return strings.HasPrefix(base, "MANIFEST-") || strings.HasPrefix(base, "marker.manifest.")
}

// hide reports whether err is to be kept from pebble, because never says that it
// must not see one there. The volume hears of it, of a full disk too.
func (f indexFS) hide(never bool, err error) bool {
	if !never || err == nil {
		return false
	}
	f.v.fail(err)
	return true
}

// change runs a change.
func (f indexFS) change(run func() error) error {
	err, swallow := f.dead()
	if err != nil || swallow {
		return err
	}
	if err = f.check(run()); err != nil {
		if _, swallow = f.dead(); swallow {
			return nil
		}
	}
	return err
}

// check hears of a change's error.
func (f indexFS) check(err error) error {
	if err != nil && !vfs.IsNotExist(err) && !isNoSpace(err) {
		f.v.fail(err)
	}
	return err
}

// Create implements vfs.FS.
func (f indexFS) Create(name string, c pvfs.DiskWriteCategory) (vfs.File, error) {
	return f.create(name, func() (vfs.File, error) { return f.FS.Create(name, c) })
}

// OpenReadWrite implements vfs.FS.
func (f indexFS) OpenReadWrite(name string, c pvfs.DiskWriteCategory, o ...pvfs.OpenOption) (vfs.File, error) {
	return f.create(name, func() (vfs.File, error) { return f.FS.OpenReadWrite(name, c, o...) })
}

// ReuseForWrite implements vfs.FS.
func (f indexFS) ReuseForWrite(oldname, newname string, c pvfs.DiskWriteCategory) (vfs.File, error) {
	return f.create(newname, func() (vfs.File, error) { return f.FS.ReuseForWrite(oldname, newname, c) })
}

// OpenDir implements vfs.FS.
func (f indexFS) OpenDir(name string) (vfs.File, error) {
	file, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &indexFile{File: file, fs: f, never: true}, nil
}

// Link implements vfs.FS.
func (f indexFS) Link(oldname, newname string) error {
	return f.change(func() error { return f.FS.Link(oldname, newname) })
}

// Remove implements vfs.FS.
func (f indexFS) Remove(name string) error {
	return f.change(func() error { return f.FS.Remove(name) })
}

// RemoveAll implements vfs.FS.
func (f indexFS) RemoveAll(name string) error {
	return f.change(func() error { return f.FS.RemoveAll(name) })
}

// Rename implements vfs.FS.
func (f indexFS) Rename(oldname, newname string) error {
	return f.change(func() error { return f.FS.Rename(oldname, newname) })
}

// List implements vfs.FS. While the volume is being opened it does not fail
// either: pebble would return from Open with a compaction running, which panics
// when it finds what Open has torn down.
func (f indexFS) List(dir string) ([]string, error) {
	names, err := f.FS.List(dir)
	if f.check(err) != nil {
		if _, swallow := f.dead(); swallow {
			return nil, nil
		}
	}
	return names, err
}

// Unwrap implements vfs.FS.
func (f indexFS) Unwrap() vfs.FS { return f.FS }

// indexFile is a file or directory of an indexFS.
type indexFile struct {
	vfs.File
	fs    indexFS
	never bool // a directory or manifest, whose changes are never seen to fail
}

func (f *indexFile) Write(p []byte) (n int, err error) {
	n = len(p) // if it is swallowed
	err = f.fs.change(func() (err error) {
		n, err = f.File.Write(p)
		return err
	})
	if err == nil || f.fs.hide(f.never, err) {
		return len(p), nil
	}
	return n, err
}

func (f *indexFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.fs.change(func() (err error) {
		n, err = f.File.WriteAt(p, off)
		return err
	})
	if err == nil || f.fs.hide(f.never, err) {
		return len(p), nil
	}
	return n, err
}

func (f *indexFile) sync(run func() error) error {
	err := f.fs.change(run)
	if f.fs.hide(f.never, err) {
		return nil
	}
	return err
}

func (f *indexFile) Sync() error     { return f.sync(f.File.Sync) }
func (f *indexFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f *indexFile) SyncTo(n int64) (full bool, err error) {
	err = f.sync(func() (err error) {
		full, err = f.File.SyncTo(n)
		return err
	})
	return full, err
}

// hole is a file that swallows what is written to it.
type hole struct{}

func (*hole) Close() error                           { return nil }
func (*hole) Read([]byte) (int, error)               { return 0, io.EOF }
func (*hole) ReadAt([]byte, int64) (int, error)      { return 0, io.EOF }
func (*hole) Write(p []byte) (int, error)            { return len(p), nil }
func (*hole) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (*hole) Preallocate(_, _ int64) error           { return nil }
func (*hole) Stat() (pvfs.FileInfo, error)           { return nil, os.ErrNotExist }
func (*hole) Sync() error                            { return nil }
func (*hole) SyncTo(int64) (bool, error)             { return false, nil }
func (*hole) SyncData() error                        { return nil }
func (*hole) Prefetch(_ int64, _ int64) error        { return nil }
func (*hole) Fd() uintptr                            { return pvfs.InvalidFd }
