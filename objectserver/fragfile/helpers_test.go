package fragfile

import (
	"context"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"ringfort/internal/blob"
	"ringfort/internal/erasure"
	"ringfort/internal/timestamp"
	"ringfort/internal/vfs"
)

// newHeader returns the header of a fragment of a k+m blob of size bytes.
func newHeader(rng *rand.Rand, k, m uint8, size int64) Header {
	h := Header{K: k, M: m, BlockSize: erasure.DefaultBlockSize, Policy: 7, Size: size}
	for i := range h.Owner {
		h.Owner[i] = byte(rng.Uint32())
	}
	h.Blob = blob.ID{
		Group:   timestamp.T{Micros: rng.Uint64(), Logical: rng.Uint32(), Seq: rng.Uint32(), Writer: rng.Uint64()},
		Part:    rng.Uint32N(10000),
		Attempt: rng.Uint64(),
	}
	h.Index = erasure.Index(rng.IntN(int(k + m)))
	return h
}

func randomBytes(rng *rand.Rand, n int64) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func openStore(t testing.TB, fs vfs.FS, dir string) *Store {
	t.Helper()
	s, err := Open(context.Background(), fs, dir, smallConfig())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// smallConfig has a buffer that is small enough to be flushed often.
func smallConfig() Config {
	c := Default()
	c.BufferBytes = 4 * pageSize
	return c
}

// put writes a fragment in pieces of random lengths.
func put(s *Store, h Header, data []byte, rng *rand.Rand) error {
	size := h.Size
	if size != SizeUnknown && rng.IntN(2) == 0 {
		h.Size = SizeUnknown // the size comes with Commit
	}
	w, err := s.Create(context.Background(), h)
	if err != nil {
		return err
	}
	defer w.Abort()
	for len(data) > 0 {
		n := min(len(data), 1+rng.IntN(100_000))
		if _, err := w.Write(data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return w.Commit(context.Background(), size)
}

// hookFS tells a test of every operation that changes the file system, before it
// happens; an error of the hook is the operation's.
type hookFS struct {
	vfs.FS
	mu   sync.Mutex
	hook func(op, path string) error
}

func (h *hookFS) call(op, path string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hook == nil {
		return nil
	}
	return h.hook(op, path)
}

func (h *hookFS) Create(name string, c pebblevfs.DiskWriteCategory) (vfs.File, error) {
	if err := h.call("create", name); err != nil {
		return nil, err
	}
	f, err := h.FS.Create(name, c)
	if err != nil {
		return nil, err
	}
	return &hookFile{File: f, h: h, name: name}, nil
}

func (h *hookFS) Open(name string, opts ...pebblevfs.OpenOption) (vfs.File, error) {
	f, err := h.FS.Open(name, opts...)
	if err != nil {
		return nil, err
	}
	return &hookFile{File: f, h: h, name: name}, nil
}

func (h *hookFS) OpenDir(name string) (vfs.File, error) {
	f, err := h.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &hookFile{File: f, h: h, name: name}, nil
}

func (h *hookFS) Remove(name string) error {
	if err := h.call("remove", name); err != nil {
		return err
	}
	return h.FS.Remove(name)
}

func (h *hookFS) Rename(a, b string) error {
	if err := h.call("rename", a); err != nil {
		return err
	}
	return h.FS.Rename(a, b)
}

func (h *hookFS) MkdirAll(name string, perm os.FileMode) error {
	if err := h.call("mkdir", name); err != nil {
		return err
	}
	return h.FS.MkdirAll(name, perm)
}

type hookFile struct {
	vfs.File
	h    *hookFS
	name string
}

func (f *hookFile) Write(p []byte) (int, error) {
	if err := f.h.call("write", f.name); err != nil {
		// A failing disk may have taken a part.
		n, _ := f.File.Write(append([]byte(nil), p[:len(p)/2]...))
		return n, err
	}
	return f.File.Write(p)
}

func (f *hookFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.h.call("read", f.name); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *hookFile) Preallocate(off, n int64) error {
	if err := f.h.call("preallocate", f.name); err != nil {
		return err
	}
	return f.File.Preallocate(off, n)
}

func (f *hookFile) Sync() error {
	if err := f.h.call("sync", f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *hookFile) SyncData() error {
	if err := f.h.call("syncdata", f.name); err != nil {
		return err
	}
	return f.File.SyncData()
}

func (f *hookFile) Close() error {
	if err := f.h.call("close", f.name); err != nil {
		f.File.Close()
		return err
	}
	return f.File.Close()
}
