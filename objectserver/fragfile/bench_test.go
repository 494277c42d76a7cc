package fragfile

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"ringfort/internal/erasure"
	"ringfort/internal/vfs"
)

// cpuTime returns the processor time that this process has used.
func cpuTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// measured runs f b.N times, each on n bytes, and reports CPU per GiB.
func measured(b *testing.B, n int64, f func(i int) error) {
	b.SetBytes(n)
	b.ResetTimer()
	start := cpuTime()
	for i := range b.N {
		if err := f(i); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	used := (cpuTime() - start).Seconds()
	b.ReportMetric(used/(float64(n)*float64(b.N)/(1<<30)), "cpu-s/GiB")
}

// benchDir is on the disk that FRAGFILE_BENCH_DIR names, or on that of the
// package: a temporary directory may be in memory.
func benchDir(b *testing.B) string {
	b.Helper()
	base := os.Getenv("FRAGFILE_BENCH_DIR")
	if base == "" {
		base = "."
	}
	dir, err := os.MkdirTemp(base, "bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// rawFile writes a file in pieces the way a fragment is written, but with nothing
// around it: the ceiling.
func rawFile(path string, data []byte, n int64, direct bool) error {
	fs := vfs.Default()
	f, err := fs.Create(path, writeCategory)
	if err != nil {
		return err
	}
	defer f.Close()
	if direct {
		vfs.SetDirect(f, true)
	}
	if err := f.Preallocate(0, n); err != nil {
		return err
	}
	for n > 0 {
		m := min(int64(len(data)), n)
		if _, err := f.Write(data[:m]); err != nil {
			return err
		}
		n -= m
	}
	if err := f.SyncData(); err != nil {
		return err
	}
	return vfs.SyncDir(fs, filepath.Dir(path))
}

// BenchmarkWrite writes and removes fragments as an upload does, block by block,
// and in turn with each of them the same bytes to bare files, by direct I/O and
// buffered with fdatasync: what else the disk is doing then meets all of them.
// Times are medians.
func BenchmarkWrite(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	data := vfs.AlignedBuffer(512 << 10)
	copy(data, randomBytes(rng, int64(len(data))))
	for _, size := range []int64{1 << 20, 4 << 20, 64 << 20} {
		b.Run(fmt.Sprintf("%dMiB", size>>20), func(b *testing.B) {
			dir := benchDir(b)
			s, err := Open(context.Background(), vfs.Default(), filepath.Join(dir, "frag"), Default())
			if err != nil {
				b.Fatal(err)
			}
			raw := filepath.Join(dir, "raw")
			ways := []way{
				{name: "fragment", write: func(h Header) error { return writeBlocks(s, h, data, size) }},
				{name: "growing", write: func(h Header) error { h.Size = SizeUnknown; return writeBlocks(s, h, data, size) }},
				{name: "raw-direct", write: func(Header) error { return rawFile(raw, data, size, true) }},
				{name: "raw-buffered", write: func(Header) error { return rawFile(raw, data, size, false) }},
			}
			for range b.N {
				h := newHeader(rng, 1, 1, size)
				for i := range ways {
					if err := ways[i].run(h); err != nil {
						b.Fatal(err)
					}
				}
				os.Remove(raw)
				s.Remove(h.Name)
			}
			for i := range ways {
				ways[i].report(b, size)
			}
			b.ReportMetric(ways[2].median()/ways[0].median(), "x-direct")
			b.ReportMetric(ways[3].median()/ways[0].median(), "x-buffered")
		})
	}
}

// way is one of several ways to do a thing, measured in turn.
type way struct {
	name  string
	write func(Header) error
	times []float64 // seconds
	cpu   time.Duration
}

func (w *way) run(h Header) error {
	start, used := time.Now(), cpuTime()
	err := w.write(h)
	w.times = append(w.times, time.Since(start).Seconds())
	w.cpu += cpuTime() - used
	return err
}

func (w *way) median() float64 {
	slices.Sort(w.times)
	return w.times[len(w.times)/2]
}

func (w *way) report(b *testing.B, size int64) {
	b.ReportMetric(float64(size)/1e6/w.median(), w.name+"-MB/s")
	b.ReportMetric(w.cpu.Seconds()/(float64(size)*float64(len(w.times))/(1<<30)), w.name+"-cpu-s/GiB")
}

func writeBlocks(s *Store, h Header, data []byte, size int64) error {
	w, err := s.Create(context.Background(), h)
	if err != nil {
		return err
	}
	defer w.Abort()
	for n := size; n > 0; {
		m := min(erasure.DefaultBlockSize, n)
		if _, err := w.Write(data[:m]); err != nil {
			return err
		}
		n -= m
	}
	return w.Commit(context.Background(), size)
}

// BenchmarkRead reads ranges of a fragment in the page cache, opened anew for
// each as a GET does, beside the same reads of the bare file.
func BenchmarkRead(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	const size = 64 << 20
	s, err := Open(context.Background(), vfs.Default(), filepath.Join(benchDir(b), "frag"), Default())
	if err != nil {
		b.Fatal(err)
	}
	h := newHeader(rng, 1, 1, size)
	if err := writeBlocks(s, h, make([]byte, erasure.DefaultBlockSize), size); err != nil {
		b.Fatal(err)
	}
	for _, n := range []int64{4 << 10, 128 << 10, 1 << 20} {
		p := vfs.AlignedBuffer(int(n))
		at := func() int64 { return rng.Int64N((size-n)/n) * n }
		b.Run(fmt.Sprintf("%dKiB/raw", n>>10), func(b *testing.B) {
			measured(b, n, func(int) error {
				f, err := s.fs.Open(s.path(h.Name))
				if err != nil {
					return err
				}
				defer f.Close()
				_, err = f.ReadAt(p, pageSize+at())
				return err
			})
		})
		b.Run(fmt.Sprintf("%dKiB/fragment", n>>10), func(b *testing.B) {
			measured(b, n, func(int) error {
				r, err := s.Open(h.Name)
				if err != nil {
					return err
				}
				defer r.Close()
				_, err = r.ReadAt(p, at())
				return err
			})
		})
	}
	b.Run("verify", func(b *testing.B) {
		measured(b, size, func(int) error {
			_, err := s.Verify(context.Background(), h.Name, nil)
			return err
		})
	})
}

// BenchmarkPack makes packed fragments.
func BenchmarkPack(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int64{32 << 10, 100 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", n>>10), func(b *testing.B) {
			h := newHeader(rng, 1, 1, n)
			data := randomBytes(rng, n)
			b.ReportAllocs()
			measured(b, n, func(int) error {
				_, _, err := Pack(h, data)
				return err
			})
		})
	}
}
