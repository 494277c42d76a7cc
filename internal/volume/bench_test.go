package volume

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ringfort/internal/vfs"
)

var (
	benchDir  = flag.String("volume.dir", "", "where benchmarks write, on the disk to be measured; default a temporary directory")
	benchZero = flag.Bool("volume.zeros", true, "let benchmarks write zeros ahead")
	benchKeys = flag.Int("volume.keys", 0, "how many keys BenchmarkMany (default a million) and TestTenMillionKeys put and read")
)

// manyKeys returns -volume.keys, or a default.
func manyKeys(n int) int {
	if *benchKeys > 0 {
		return *benchKeys
	}
	return n
}

// cpuTime returns the process' CPU time so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchPath(b *testing.B) string {
	b.Helper()
	if *benchDir == "" {
		return b.TempDir()
	}
	d, err := os.MkdirTemp(*benchDir, "bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(d) })
	return d
}

func benchVolume(b *testing.B, cfg Config) *Volume {
	b.Helper()
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(benchPath(b), "vol")
	}
	cfg.FS = vfs.Default()
	cfg.DisableZeroAhead = !*benchZero
	cfg.Spaces = []Space{{kept, "kept", true}, {rows, "rows", false}}
	v, err := Open(context.Background(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	return v
}

// drive runs n calls of commit on so many goroutines and returns the time it took
// and the latency that one in a hundred exceeds.
func drive(n, writers int, commit func(writer, i int)) (took, p99 time.Duration) {
	var next atomic.Int64
	lat := make([][]time.Duration, writers)
	var wg sync.WaitGroup
	start := time.Now()
	for w := range writers {
		wg.Go(func() {
			mine := make([]time.Duration, 0, n/writers+16)
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					break
				}
				t := time.Now()
				commit(w, i)
				mine = append(mine, time.Since(t))
			}
			lat[w] = mine
		})
	}
	wg.Wait()
	took = time.Since(start)
	all := slices.Concat(lat...)
	slices.Sort(all)
	return took, all[len(all)*99/100]
}

// bareLog is the limit: a loop that writes what waits at once and syncs it once,
// into a file that has been written before, and does nothing else.
type bareLog struct {
	f     *os.File
	mu    sync.Mutex
	cond  sync.Cond
	queue []bareItem
	done  bool
	wg    sync.WaitGroup
}

type bareItem struct {
	p    []byte
	done chan error
}

const bareSize = 256 << 20

func newBareLog(b *testing.B, dir string) *bareLog {
	b.Helper()
	f, err := os.Create(filepath.Join(dir, "bare"))
	if err != nil {
		b.Fatal(err)
	}
	zero := make([]byte, 4<<20)
	for off := 0; off < bareSize; off += len(zero) {
		if _, err := f.WriteAt(zero, int64(off)); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	l := &bareLog{f: f}
	l.cond.L = &l.mu
	l.wg.Go(l.run)
	return l
}

func (l *bareLog) commit(p []byte, done chan error) error {
	l.mu.Lock()
	l.queue = append(l.queue, bareItem{p, done})
	l.cond.Signal()
	l.mu.Unlock()
	return <-done
}

func (l *bareLog) run() {
	var group []bareItem
	buf := make([]byte, 0, 4<<20)
	off := int64(0)
	for {
		l.mu.Lock()
		if len(l.queue) < len(group) { // as the volume does; it is worth a factor of two
			l.mu.Unlock()
			runtime.Gosched()
			l.mu.Lock()
		}
		for len(l.queue) == 0 && !l.done {
			l.cond.Wait()
		}
		group = append(group[:0], l.queue...)
		l.queue = l.queue[:0]
		l.mu.Unlock()
		if len(group) == 0 {
			return
		}
		buf = buf[:0]
		for _, g := range group {
			buf = append(buf, g.p...)
		}
		if off+int64(len(buf)) > bareSize {
			off = 0
		}
		_, err := l.f.WriteAt(buf, off)
		if err == nil {
			err = syscall.Fdatasync(int(l.f.Fd()))
		}
		off += int64(len(buf))
		for _, g := range group {
			g.done <- err
		}
	}
}

func (l *bareLog) close() {
	l.mu.Lock()
	l.done = true
	l.cond.Broadcast()
	l.mu.Unlock()
	l.wg.Wait()
	l.f.Close()
	os.Remove(l.f.Name())
}

// BenchmarkCommit measures acknowledged commits of one entry under random keys,
// beside the bare loop with the same bytes in the same run. "share" is how much of
// the bare loop's rate the volume reaches.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{300, 4 << 10, 64 << 10} {
		for _, writers := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("size=%d/writers=%d", size, writers), func(b *testing.B) {
				benchCommit(b, size, writers)
			})
		}
	}
}

func benchCommit(b *testing.B, size, writers int) {
	dir := benchPath(b)
	n := max(b.N, 1)
	bare := newBareLog(b, dir)
	payload := make([]byte, size)
	done := make([]chan error, writers)
	for w := range done {
		done[w] = make(chan error, 1)
	}
	defer bare.close()
	v := benchVolume(b, Config{Dir: filepath.Join(dir, "vol")})
	head, tail := payload[:min(size, 270)], payload[min(size, 270):]
	before := v.Stats()
	var m0, m1 runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m0)
	var limit, took, p99, cpu time.Duration
	b.ResetTimer()
	const rounds = 20 // by turns, since others use the disk too
	for r := range rounds {
		part := (r+1)*n/rounds - r*n/rounds
		if part == 0 {
			continue
		}
		b.StopTimer()
		t, _ := drive(part, writers, func(w, _ int) {
			if err := bare.commit(payload, done[w]); err != nil {
				b.Error(err)
			}
		})
		limit += t
		c := cpuTime()
		b.StartTimer()
		t, p := drive(part, writers, func(_, i int) {
			var key [32]byte
			binary.BigEndian.PutUint64(key[:], rand.Uint64())
			batch := v.NewBatch(Meta)
			batch.Put(kept, key[:], head, tail, Ref{})
			if err := v.Commit(context.Background(), batch); err != nil {
				b.Error(err)
			}
		})
		took += t
		p99 = max(p99, p)
		cpu += cpuTime() - c
	}
	b.StopTimer()
	runtime.ReadMemStats(&m1)
	s := v.Stats()
	b.ReportMetric(float64(n)/took.Seconds(), "commits/s")
	b.ReportMetric(limit.Seconds()/took.Seconds(), "share")
	b.ReportMetric(float64(p99.Microseconds()), "worst-p99-µs")
	b.ReportMetric(float64(cpu.Nanoseconds())/1e3/float64(n), "cpu-µs/commit")
	b.ReportMetric(float64(m1.Mallocs-m0.Mallocs)/float64(n), "mallocs/commit")
	b.ReportMetric(float64(s.Commits[Meta]-before.Commits[Meta])/float64(s.Groups[Meta]-before.Groups[Meta]), "commits/group")
	b.ReportMetric(float64(s.IndexFlushes-before.IndexFlushes), "flushes")
	b.ReportMetric(s.WrittenPerStored(), "written/stored")
	if err := v.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkBulk measures packed fragments against the same bytes written with
// direct I/O and synced by one goroutine.
func BenchmarkBulk(b *testing.B) {
	for _, size := range []int{100 << 10, 1 << 20} {
		for _, writers := range []int{1, 8} {
			b.Run(fmt.Sprintf("size=%d/writers=%d", size, writers), func(b *testing.B) {
				benchBulk(b, size, writers)
			})
		}
	}
}

func benchBulk(b *testing.B, size, writers int) {
	dir := benchPath(b)
	f, err := vfs.Default().Create(filepath.Join(dir, "bare"), pebbleWrite)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	vfs.SetDirect(f, true)
	chunk := vfs.AlignedBuffer(4 << 20)
	start := time.Now()
	total := int64(0)
	for total < int64(b.N)*int64(size) {
		n := min(int64(len(chunk)), alignUp(int64(size)*int64(writers), 4096))
		if _, err := f.WriteAt(chunk[:n], total%(4<<30)); err != nil {
			b.Fatal(err)
		}
		if err := f.SyncData(); err != nil {
			b.Fatal(err)
		}
		total += n
	}
	limit := float64(total) / time.Since(start).Seconds()
	v := benchVolume(b, Config{Dir: filepath.Join(dir, "vol"), DisableCompaction: true})
	payload := make([]byte, size)
	for i := range payload {
		payload[i] = byte(rand.Uint32())
	}
	b.SetBytes(int64(size))
	cpu := cpuTime()
	b.ResetTimer()
	took, p99 := drive(b.N, writers, func(_, i int) {
		batch := v.NewBatch(Bulk)
		batch.Put(kept, binary.BigEndian.AppendUint64(nil, uint64(i)), payload[:100], payload, Ref{})
		if err := v.Commit(context.Background(), batch); err != nil {
			b.Error(err)
		}
	})
	b.StopTimer()
	cpu = cpuTime() - cpu
	b.ReportMetric(float64(b.N)*float64(size)/took.Seconds()/limit, "share")
	b.ReportMetric(float64(p99.Microseconds()), "p99-µs")
	b.ReportMetric(cpu.Seconds()/(float64(b.N)*float64(size)/float64(gib)), "cpu-s/GiB")
	if err := v.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkMany puts -volume.keys random keys of 150 B with 64 writers, reads some
// back, and reopens the volume as after a kill. Run it once: -benchtime 1x.
func BenchmarkMany(b *testing.B) {
	dir, keys := benchPath(b), manyKeys(1_000_000)
	for range b.N {
		cfg := Config{Dir: filepath.Join(dir, "vol")}
		v := benchVolume(b, cfg)
		cpu := cpuTime()
		key := func(i int) []byte {
			var k [32]byte
			binary.BigEndian.PutUint64(k[:], uint64(i)*0x9E3779B97F4A7C15)
			return k[:]
		}
		head := make([]byte, 118)
		took, p99 := drive(keys, 64, func(_, i int) {
			batch := v.NewBatch(Meta)
			batch.Put(kept, key(i), head, nil, Ref{})
			if err := v.Commit(context.Background(), batch); err != nil {
				b.Error(err)
			}
		})
		cpu = cpuTime() - cpu
		s := v.Stats()
		b.ReportMetric(float64(keys)/took.Seconds(), "commits/s")
		b.ReportMetric(float64(cpu.Nanoseconds())/1e3/float64(keys), "cpu-µs/commit")
		b.ReportMetric(float64(p99.Microseconds()), "p99-µs")
		b.ReportMetric(float64(s.IndexFlushes), "flushes")
		b.ReportMetric(s.WrittenPerStored(), "written/stored")
		b.ReportMetric(float64(s.IndexSize)/float64(keys), "index-B/key")

		const reads = 200_000
		t := time.Now()
		for range reads {
			if _, err := v.Get(kept, key(rand.IntN(keys))); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(time.Since(t).Nanoseconds())/1e3/reads, "µs/get")
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "heap-MiB")
		b.ReportMetric(float64(residentBytes())/(1<<20), "resident-MiB")

		// As after a kill: what is in the page cache stays, the index is not flushed.
		copied := filepath.Join(dir, "killed")
		if err := os.CopyFS(copied, os.DirFS(cfg.Dir)); err != nil {
			b.Fatal(err)
		}
		t = time.Now()
		v2 := benchVolume(b, Config{Dir: copied})
		b.ReportMetric(time.Since(t).Seconds(), "reopen-s")
		for range 1000 {
			if _, err := v2.Get(kept, key(rand.IntN(keys))); err != nil {
				b.Fatal(err)
			}
		}
		if err := v2.Close(); err != nil {
			b.Fatal(err)
		}
		if err := v.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// residentBytes is what the process holds of memory, 0 if /proc does not say.
func residentBytes() int64 {
	var size, resident int64
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		return 0
	}
	return resident * int64(os.Getpagesize())
}
