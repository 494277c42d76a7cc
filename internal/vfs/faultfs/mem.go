package faultfs

import (
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	pvfs "github.com/cockroachdb/pebble/v2/vfs"

	"ringfort/internal/vfs"
)

// SectorSize is what a disk writes whole or not at all; a cut between sectors
// leaves any of them old or new.
const SectorSize = 512

// Mem is a file system in memory that knows what has been synced, so that
// [Mem.Crash] can show what a power cut would leave. Safe for concurrent use.
type Mem struct {
	mu     sync.Mutex // guards the whole tree
	root   *node
	locked map[string]bool
	usage  pvfs.DiskUsage
}

var _ vfs.FS = (*Mem)(nil)

// NewMem returns an empty file system whose root is "/".
func NewMem() *Mem {
	root := newDir()
	return &Mem{root: root, locked: make(map[string]bool)}
}

// node is a file or a directory.
type node struct {
	dir bool

	data    []byte // as read
	durable []byte // as it would be after a power cut
	dirty   []span // where the two may differ

	names   map[string]*node // as read
	durably map[string]*node // as it would be after a power cut
	changes []change         // of names since the last sync, in order
}

// change is a name made, moved or removed: what it stands for now, nil for nothing.
type change struct {
	name, name2 string // name2: a move's other name, which stands for nothing now
	to          *node
}

// set makes a name stand for a file; nil removes it.
func (n *node) set(name string, to *node) {
	if to == nil {
		delete(n.names, name)
	} else {
		n.names[name] = to
	}
	n.changes = append(n.changes, change{name: name, to: to})
}

type span struct{ from, to int }

func newDir() *node {
	return &node{dir: true, names: make(map[string]*node), durably: make(map[string]*node)}
}

func (n *node) write(p []byte, off int) {
	if grow := off + len(p) - len(n.data); grow > 0 {
		n.data = append(n.data, make([]byte, grow)...)
	}
	copy(n.data[off:], p)
	if k := len(n.dirty); k > 0 && n.dirty[k-1].to == off {
		n.dirty[k-1].to = off + len(p)
		return
	}
	n.dirty = append(n.dirty, span{off, off + len(p)})
}

func (n *node) sync() {
	if n.dir {
		n.durably = maps.Clone(n.names)
		n.changes = nil
		return
	}
	if grow := len(n.data) - len(n.durable); grow > 0 {
		n.durable = append(n.durable, make([]byte, grow)...)
	}
	for _, s := range n.dirty {
		copy(n.durable[s.from:s.to], n.data[s.from:s.to])
	}
	n.dirty = n.dirty[:0]
}

// Crash returns what a power cut at this moment could leave. With a nil rng it is
// exactly what was synced. Otherwise each sector written since its file's last sync
// is there or not, one of them may be torn at any byte, a file may or may not have
// grown, and of the names made, moved and removed since their directory's last sync
// the first few are as they are now and the others as they were: every journal
// keeps that order, and pebble's manifest relies on it. Open files of the old file
// system do not touch the new.
func (m *Mem) Crash(rng *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := NewMem()
	out.usage = m.usage
	c := crash{rng: rng, seen: make(map[*node]*node)}
	if rng != nil {
		c.percent = []int{0, 20, 50, 80, 100}[rng.IntN(5)]
	}
	out.root = c.node(m.root)
	return out
}

type crash struct {
	rng     *rand.Rand
	percent int // of unsynced changes that survive
	seen    map[*node]*node
}

func (c *crash) keep() bool { return c.rng != nil && c.rng.IntN(100) < c.percent }

func (c *crash) node(n *node) *node {
	if done := c.seen[n]; done != nil {
		return done
	}
	if n.dir {
		return c.directory(n)
	}
	data := slices.Clone(n.durable)
	for _, s := range n.dirty {
		for from := s.from; from < s.to; {
			to := min((from/SectorSize+1)*SectorSize, s.to)
			if c.keep() {
				if c.rng.IntN(20) == 0 {
					to = from + c.rng.IntN(to-from+1) // torn within the sector
				}
				if to > len(data) {
					data = append(data, make([]byte, to-len(data))...)
				}
				copy(data[from:to], n.data[from:to])
			}
			from = min((from/SectorSize+1)*SectorSize, s.to)
		}
	}
	out := &node{data: data, durable: slices.Clone(data)}
	c.seen[n] = out
	return out
}

func (c *crash) directory(n *node) *node {
	out := newDir()
	c.seen[n] = out
	names := maps.Clone(n.durably)
	if c.rng != nil {
		for _, ch := range n.changes[:c.rng.IntN(len(n.changes)+1)] {
			if ch.name2 != "" {
				delete(names, ch.name2)
			}
			if ch.to == nil {
				delete(names, ch.name)
			} else {
				names[ch.name] = ch.to
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		out.names[name] = c.node(names[name])
	}
	out.durably = maps.Clone(out.names)
	return out
}

// SetUsage sets what GetDiskUsage answers.
func (m *Mem) SetUsage(u pvfs.DiskUsage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.usage = u
}

// Corrupt applies f to the bytes of a file, as rot does: nothing is written or
// synced. It reports whether the file is there.
func (m *Mem) Corrupt(name string, f func(data []byte)) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("corrupt", name)
	if err != nil || n.dir {
		return false
	}
	n.sync()
	f(n.data)
	copy(n.durable, n.data)
	return true
}

func pathError(op, name string, err error) error {
	return &os.PathError{Op: op, Path: name, Err: err}
}

// parent returns the directory that holds name, and its last element. With m.mu held.
func (m *Mem) parent(op, name string) (*node, string, error) {
	elems := strings.FieldsFunc(name, func(r rune) bool { return r == '/' })
	if len(elems) == 0 {
		return nil, "", pathError(op, name, syscall.EINVAL)
	}
	d := m.root
	for _, e := range elems[:len(elems)-1] {
		if d = d.names[e]; d == nil || !d.dir {
			return nil, "", pathError(op, name, syscall.ENOENT)
		}
	}
	return d, elems[len(elems)-1], nil
}

// find returns a file or directory. With m.mu held.
func (m *Mem) find(op, name string) (*node, error) {
	if strings.Trim(name, "/") == "" || name == "." {
		return m.root, nil
	}
	d, last, err := m.parent(op, name)
	if err != nil {
		return nil, err
	}
	if n := d.names[last]; n != nil {
		return n, nil
	}
	return nil, pathError(op, name, syscall.ENOENT)
}

// Create implements vfs.FS.
func (m *Mem) Create(name string, _ pvfs.DiskWriteCategory) (vfs.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, last, err := m.parent("create", name)
	if err != nil {
		return nil, err
	}
	n := &node{}
	d.set(last, n)
	return &memFile{m: m, n: n, name: name, writable: true}, nil
}

// Link implements vfs.FS.
func (m *Mem) Link(oldname, newname string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("link", oldname)
	if err != nil {
		return err
	}
	d, last, err := m.parent("link", newname)
	if err != nil {
		return err
	}
	if d.names[last] != nil {
		return pathError("link", newname, syscall.EEXIST)
	}
	d.set(last, n)
	return nil
}

// Open implements vfs.FS.
func (m *Mem) Open(name string, _ ...pvfs.OpenOption) (vfs.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("open", name)
	if err != nil {
		return nil, err
	}
	return &memFile{m: m, n: n, name: name}, nil
}

// OpenReadWrite implements vfs.FS.
func (m *Mem) OpenReadWrite(name string, _ pvfs.DiskWriteCategory, _ ...pvfs.OpenOption) (vfs.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, last, err := m.parent("open", name)
	if err != nil {
		return nil, err
	}
	n := d.names[last]
	if n == nil {
		n = &node{}
		d.set(last, n)
	}
	return &memFile{m: m, n: n, name: name, writable: true}, nil
}

// OpenDir implements vfs.FS.
func (m *Mem) OpenDir(name string) (vfs.File, error) { return m.Open(name) }

// Remove implements vfs.FS.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, last, err := m.parent("remove", name)
	if err != nil {
		return err
	}
	n := d.names[last]
	if n == nil {
		return pathError("remove", name, syscall.ENOENT)
	}
	if len(n.names) > 0 {
		return pathError("remove", name, syscall.ENOTEMPTY)
	}
	d.set(last, nil)
	return nil
}

// RemoveAll implements vfs.FS.
func (m *Mem) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d, last, err := m.parent("remove", name); err == nil && d.names[last] != nil {
		d.set(last, nil)
	}
	return nil
}

// Rename implements vfs.FS.
func (m *Mem) Rename(oldname, newname string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rename(oldname, newname)
}

func (m *Mem) rename(oldname, newname string) error {
	d, last, err := m.parent("rename", oldname)
	if err != nil {
		return err
	}
	n := d.names[last]
	if n == nil {
		return pathError("rename", oldname, syscall.ENOENT)
	}
	to, newlast, err := m.parent("rename", newname)
	if err != nil {
		return err
	}
	if d == to {
		delete(d.names, last)
		d.names[newlast] = n
		d.changes = append(d.changes, change{name: newlast, name2: last, to: n})
		return nil
	}
	d.set(last, nil)
	to.set(newlast, n)
	return nil
}

// ReuseForWrite implements vfs.FS.
func (m *Mem) ReuseForWrite(oldname, newname string, _ pvfs.DiskWriteCategory) (vfs.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.rename(oldname, newname); err != nil {
		return nil, err
	}
	n, err := m.find("open", newname)
	if err != nil {
		return nil, err
	}
	return &memFile{m: m, n: n, name: newname, writable: true}, nil
}

// MkdirAll implements vfs.FS.
func (m *Mem) MkdirAll(dir string, _ os.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.root
	for e := range strings.FieldsFuncSeq(dir, func(r rune) bool { return r == '/' }) {
		n := d.names[e]
		if n == nil {
			n = newDir()
			d.set(e, n)
		}
		if !n.dir {
			return pathError("mkdir", dir, syscall.ENOTDIR)
		}
		d = n
	}
	return nil
}

// Lock implements vfs.FS. A lock does not survive Crash.
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locked[name] {
		return nil, pathError("lock", name, syscall.EAGAIN)
	}
	d, last, err := m.parent("lock", name)
	if err != nil {
		return nil, err
	}
	d.set(last, &node{})
	m.locked[name] = true
	return &memLock{m: m, name: name}, nil
}

type memLock struct {
	m    *Mem
	name string
}

func (l *memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	delete(l.m.locked, l.name)
	return nil
}

// List implements vfs.FS.
func (m *Mem) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("list", dir)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(n.names)), nil
}

// Stat implements vfs.FS.
func (m *Mem) Stat(name string) (pvfs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("stat", name)
	if err != nil {
		return nil, err
	}
	return &memInfo{name: path.Base(name), size: int64(len(n.data)), dir: n.dir}, nil
}

// PathBase implements vfs.FS.
func (m *Mem) PathBase(p string) string { return path.Base(p) }

// PathJoin implements vfs.FS.
func (m *Mem) PathJoin(elem ...string) string { return path.Join(elem...) }

// PathDir implements vfs.FS.
func (m *Mem) PathDir(p string) string { return path.Dir(p) }

// GetDiskUsage implements vfs.FS.
func (m *Mem) GetDiskUsage(string) (pvfs.DiskUsage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.usage == (pvfs.DiskUsage{}) {
		return m.usage, pvfs.ErrUnsupported
	}
	return m.usage, nil
}

// Unwrap implements vfs.FS.
func (m *Mem) Unwrap() vfs.FS { return nil }

// memFile is an open file or directory of a Mem.
type memFile struct {
	m        *Mem
	n        *node
	name     string
	pos      int
	writable bool
}

func (f *memFile) Close() error { return nil }

func (f *memFile) Read(p []byte) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.pos >= len(f.n.data) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[f.pos:])
	f.pos += n
	return n, nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, int64(f.pos))
	f.pos += n
	return n, err
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if !f.writable || f.n.dir {
		return 0, pathError("write", f.name, syscall.EBADF)
	}
	f.n.write(p, int(off))
	return len(p), nil
}

func (f *memFile) Preallocate(_, _ int64) error    { return nil }
func (f *memFile) Prefetch(_ int64, _ int64) error { return nil }

func (f *memFile) Stat() (pvfs.FileInfo, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return &memInfo{name: path.Base(f.name), size: int64(len(f.n.data)), dir: f.n.dir}, nil
}

func (f *memFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.n.sync()
	return nil
}

func (f *memFile) SyncData() error { return f.Sync() }

// SyncTo promises nothing, as Linux' sync_file_range does not either.
func (f *memFile) SyncTo(int64) (fullSync bool, err error) { return false, nil }

func (f *memFile) Fd() uintptr { return pvfs.InvalidFd }

type memInfo struct {
	name string
	size int64
	dir  bool
}

func (i *memInfo) Name() string            { return i.name }
func (i *memInfo) Size() int64             { return i.size }
func (i *memInfo) ModTime() time.Time      { return time.Time{} }
func (i *memInfo) IsDir() bool             { return i.dir }
func (i *memInfo) Sys() any                { return nil }
func (i *memInfo) DeviceID() pvfs.DeviceID { return pvfs.DeviceID{} }
func (i *memInfo) Mode() os.FileMode {
	if i.dir {
		return os.ModeDir | 0o755
	}
	return 0o644
}
