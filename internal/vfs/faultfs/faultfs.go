// Package faultfs is a file system that breaks on command, for the tests of
// storage engines.
//
// [FS] wraps any file system. It numbers the operations that pass through it and
// lets a test cut the power at one of them, answer EIO or ENOSPC, or hang until
// released. [Mem] is a file system in memory for it to stand on: its Crash tells
// what a power cut leaves, with writes torn between and within sectors and with
// directories as a journal leaves them. Pebble's own crashable MemFS keeps or
// loses whole pages of 4 KiB, takes names in any order, and never loses a removal.
//
// Not for production, and not a model of any one disk: it does the worst that
// a journaling file system on a sector-atomic disk allows, but for bytes that turn bad on their own
// (see Mem.Corrupt).
package faultfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"

	pvfs "github.com/cockroachdb/pebble/v2/vfs"

	"ringfort/internal/vfs"
)

// ErrPowerCut is what every operation answers after the power was cut.
var ErrPowerCut = errors.New("faultfs: the power is cut")

// Kind is a sort of file operation.
type Kind string

// The kinds of operations. Those that change nothing are never counted.
const (
	Create      Kind = "create"
	Link        Kind = "link"
	Open        Kind = "open"
	Remove      Kind = "remove"
	Rename      Kind = "rename"
	Mkdir       Kind = "mkdir"
	Lock        Kind = "lock"
	List        Kind = "list"
	Stat        Kind = "stat"
	Usage       Kind = "usage"
	Read        Kind = "read"
	Write       Kind = "write"
	Preallocate Kind = "preallocate"
	Sync        Kind = "sync"
	SyncDir     Kind = "syncdir"
)

// changes reports whether the kind can change what a power cut leaves.
func (k Kind) changes() bool {
	switch k {
	case Create, Link, Remove, Rename, Mkdir, Write, Sync, SyncDir:
		return true
	}
	return false
}

// Op is one operation.
type Op struct {
	Kind   Kind
	Path   string
	Offset int64
	Len    int
	N      int // counts the operations that change something, from 1; 0 for the others
}

// String formats the operation for goldens: without N.
func (o Op) String() string {
	if o.Kind == Write {
		return fmt.Sprintf("%s %s [%d, %d)", o.Kind, o.Path, o.Offset, o.Offset+int64(o.Len))
	}
	return string(o.Kind) + " " + o.Path
}

// FS wraps a file system with faults. Safe for concurrent use.
type FS struct {
	inner vfs.FS

	mu    sync.Mutex // guards what follows
	n     int
	cutAt int  // 0: never
	after bool // the operation still happens
	cut   bool
	rules []*rule
	hung  int
	trace func(Op)
}

var _ vfs.FS = (*FS)(nil)

type rule struct {
	match func(Op) bool
	err   error
	hang  chan struct{}
}

// Wrap returns inner with no faults yet.
func Wrap(inner vfs.FS) *FS { return &FS{inner: inner} }

// Count returns how many operations have changed something so far.
func (f *FS) Count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// CutAt cuts the power at the n-th operation that changes something, counted from
// the beginning: just before it, or, with after, just after it. The operation
// itself and all later ones answer ErrPowerCut.
func (f *FS) CutAt(n int, after bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cutAt, f.after = n, after
}

// Cut cuts the power now.
func (f *FS) Cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = true
}

// IsCut reports whether the power is cut.
func (f *FS) IsCut() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cut
}

// Fail makes the operations that match answer err, until the returned function is
// called.
func (f *FS) Fail(err error, match func(Op) bool) (undo func()) {
	return f.add(&rule{match: match, err: err})
}

// FailNth is Fail for the n-th operation that matches, from now and counted from 1,
// and for that one alone.
func (f *FS) FailNth(err error, n int, match func(Op) bool) (undo func()) {
	seen := 0 // under f.mu, which is held over match
	return f.add(&rule{err: err, match: func(o Op) bool {
		if !match(o) {
			return false
		}
		seen++
		return seen == n
	}})
}

// Hang makes the operations that match wait until the returned function is called,
// and then happen.
func (f *FS) Hang(match func(Op) bool) (release func()) {
	return f.add(&rule{match: match, hang: make(chan struct{})})
}

// Hanging returns how many operations hang at this moment.
func (f *FS) Hanging() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hung
}

// Trace calls fn for every operation that is let through. fn must not use the FS.
func (f *FS) Trace(fn func(Op)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trace = fn
}

func (f *FS) add(r *rule) func() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, r)
	var once sync.Once
	return func() {
		once.Do(func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			for i := range f.rules {
				if f.rules[i] == r {
					f.rules = append(f.rules[:i:i], f.rules[i+1:]...)
					break
				}
			}
			if r.hang != nil {
				close(r.hang)
			}
		})
	}
}

// IsKind matches operations of these kinds on paths that contain part.
func IsKind(part string, kinds ...Kind) func(Op) bool {
	return func(o Op) bool {
		for _, k := range kinds {
			if o.Kind == k && strings.Contains(o.Path, part) {
				return true
			}
		}
		return false
	}
}

// EIO and ENOSPC are the two errors that disks have.
var (
	EIO    error = syscall.EIO
	ENOSPC error = syscall.ENOSPC
)

// do runs an operation with its faults.
func (f *FS) do(o Op, run func() error) error {
	f.mu.Lock()
	if f.cut {
		f.mu.Unlock()
		return ErrPowerCut
	}
	if o.Kind.changes() {
		f.n++
		o.N = f.n
	}
	if f.cutAt > 0 && o.N == f.cutAt {
		f.cut = true
		f.mu.Unlock()
		if f.after {
			_ = run()
		}
		return ErrPowerCut
	}
	for _, r := range f.rules {
		if !r.match(o) {
			continue
		}
		if r.hang != nil {
			f.hung++
		}
		f.mu.Unlock()
		if r.hang != nil {
			<-r.hang
			f.mu.Lock()
			f.hung--
			f.mu.Unlock()
			return run()
		}
		return pathErr(o, r.err)
	}
	if f.trace != nil {
		f.trace(o)
	}
	f.mu.Unlock()
	return run()
}

func pathErr(o Op, err error) error {
	return &os.PathError{Op: string(o.Kind), Path: o.Path, Err: err}
}

func (f *FS) open(k Kind, name string, run func() (vfs.File, error)) (vfs.File, error) {
	var file vfs.File
	err := f.do(Op{Kind: k, Path: name}, func() (err error) {
		file, err = run()
		return err
	})
	if err != nil {
		if file != nil {
			file.Close()
		}
		return nil, err
	}
	return &faultFile{File: file, fs: f, path: name}, nil
}

// Create implements vfs.FS.
func (f *FS) Create(name string, c pvfs.DiskWriteCategory) (vfs.File, error) {
	return f.open(Create, name, func() (vfs.File, error) { return f.inner.Create(name, c) })
}

// Link implements vfs.FS.
func (f *FS) Link(oldname, newname string) error {
	return f.do(Op{Kind: Link, Path: newname}, func() error { return f.inner.Link(oldname, newname) })
}

// Open implements vfs.FS.
func (f *FS) Open(name string, opts ...pvfs.OpenOption) (vfs.File, error) {
	return f.open(Open, name, func() (vfs.File, error) { return f.inner.Open(name, opts...) })
}

// OpenReadWrite implements vfs.FS.
func (f *FS) OpenReadWrite(name string, c pvfs.DiskWriteCategory, opts ...pvfs.OpenOption) (vfs.File, error) {
	return f.open(Create, name, func() (vfs.File, error) { return f.inner.OpenReadWrite(name, c, opts...) })
}

// OpenDir implements vfs.FS.
func (f *FS) OpenDir(name string) (vfs.File, error) {
	file, err := f.open(Open, name, func() (vfs.File, error) { return f.inner.OpenDir(name) })
	if err == nil {
		file.(*faultFile).dir = true
	}
	return file, err
}

// Remove implements vfs.FS.
func (f *FS) Remove(name string) error {
	return f.do(Op{Kind: Remove, Path: name}, func() error { return f.inner.Remove(name) })
}

// RemoveAll implements vfs.FS.
func (f *FS) RemoveAll(name string) error {
	return f.do(Op{Kind: Remove, Path: name}, func() error { return f.inner.RemoveAll(name) })
}

// Rename implements vfs.FS.
func (f *FS) Rename(oldname, newname string) error {
	return f.do(Op{Kind: Rename, Path: newname}, func() error { return f.inner.Rename(oldname, newname) })
}

// ReuseForWrite implements vfs.FS.
func (f *FS) ReuseForWrite(oldname, newname string, c pvfs.DiskWriteCategory) (vfs.File, error) {
	return f.open(Rename, newname, func() (vfs.File, error) { return f.inner.ReuseForWrite(oldname, newname, c) })
}

// MkdirAll implements vfs.FS.
func (f *FS) MkdirAll(dir string, perm os.FileMode) error {
	return f.do(Op{Kind: Mkdir, Path: dir}, func() error { return f.inner.MkdirAll(dir, perm) })
}

// Lock implements vfs.FS.
func (f *FS) Lock(name string) (io.Closer, error) {
	var c io.Closer
	err := f.do(Op{Kind: Lock, Path: name}, func() (err error) {
		c, err = f.inner.Lock(name)
		return err
	})
	return c, err
}

// List implements vfs.FS.
func (f *FS) List(dir string) ([]string, error) {
	var names []string
	err := f.do(Op{Kind: List, Path: dir}, func() (err error) {
		names, err = f.inner.List(dir)
		return err
	})
	return names, err
}

// Stat implements vfs.FS.
func (f *FS) Stat(name string) (pvfs.FileInfo, error) {
	var info pvfs.FileInfo
	err := f.do(Op{Kind: Stat, Path: name}, func() (err error) {
		info, err = f.inner.Stat(name)
		return err
	})
	return info, err
}

// PathBase implements vfs.FS.
func (f *FS) PathBase(p string) string { return f.inner.PathBase(p) }

// PathJoin implements vfs.FS.
func (f *FS) PathJoin(elem ...string) string { return f.inner.PathJoin(elem...) }

// PathDir implements vfs.FS.
func (f *FS) PathDir(p string) string { return f.inner.PathDir(p) }

// GetDiskUsage implements vfs.FS.
func (f *FS) GetDiskUsage(p string) (pvfs.DiskUsage, error) {
	var u pvfs.DiskUsage
	err := f.do(Op{Kind: Usage, Path: p}, func() (err error) {
		u, err = f.inner.GetDiskUsage(p)
		return err
	})
	return u, err
}

// Unwrap implements vfs.FS.
func (f *FS) Unwrap() vfs.FS { return f.inner }

// faultFile is an open file of an FS.
type faultFile struct {
	vfs.File
	fs   *FS
	path string
	dir  bool
	pos  int64 // for the offsets in Op
}

func (f *faultFile) Read(p []byte) (n int, err error) {
	err = f.fs.do(Op{Kind: Read, Path: f.path, Len: len(p)}, func() (err error) {
		n, err = f.File.Read(p)
		return err
	})
	return n, err
}

func (f *faultFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.fs.do(Op{Kind: Read, Path: f.path, Offset: off, Len: len(p)}, func() (err error) {
		n, err = f.File.ReadAt(p, off)
		return err
	})
	return n, err
}

func (f *faultFile) Write(p []byte) (n int, err error) {
	err = f.fs.do(Op{Kind: Write, Path: f.path, Offset: f.pos, Len: len(p)}, func() (err error) {
		n, err = f.File.Write(p)
		return err
	})
	f.pos += int64(n)
	return n, err
}

func (f *faultFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.fs.do(Op{Kind: Write, Path: f.path, Offset: off, Len: len(p)}, func() (err error) {
		n, err = f.File.WriteAt(p, off)
		return err
	})
	return n, err
}

func (f *faultFile) Preallocate(off, n int64) error {
	return f.fs.do(Op{Kind: Preallocate, Path: f.path, Offset: off, Len: int(n)}, func() error {
		return f.File.Preallocate(off, n)
	})
}

func (f *faultFile) sync(run func() error) error {
	k := Sync
	if f.dir {
		k = SyncDir
	}
	return f.fs.do(Op{Kind: k, Path: f.path}, run)
}

func (f *faultFile) Sync() error     { return f.sync(f.File.Sync) }
func (f *faultFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f *faultFile) SyncTo(n int64) (full bool, err error) {
	err = f.sync(func() (err error) {
		full, err = f.File.SyncTo(n)
		return err
	})
	return full, err
}

// Fd hides the descriptor, so that nothing passes the faults by.
func (f *faultFile) Fd() uintptr { return pvfs.InvalidFd }
