package volume

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"ringfort/internal/vfs"
)

// longWriters is how many goroutines commit at a time, longHead how long the heads
// are that they put under keys of 32 bytes.
const (
	longWriters = 64
	longHead    = 118
)

// longChild tells a process that this test has started what it is to do.
const longChild = "RINGFORT_LONG_CHILD"

// longFigures are what a process tells of its work.
type longFigures struct {
	CommitsPerSecond float64
	FirstMicros      float64 // CPU time per commit, of the first tenth
	LastMicros       float64 // and of the last
	OpenSeconds      float64
	GetMicros        float64
	PeakHeapMiB      float64
	ResidentMiB      float64
	IndexBytes       int64
	WrittenPerStored float64
}

// TestTenMillionKeys puts ten million random keys (-volume.keys: so many) in a
// process of its own, kills it while it goes on putting, opens what is left, and
// works on with it in a third of the index's size of memory. It takes many minutes
// and several GB of disk:
//
//	RINGFORT_LONG=1 go test -timeout 2h -v -run TestTenMillionKeys ./internal/volume -volume.dir /a/disk
func TestTenMillionKeys(t *testing.T) {
	if what := os.Getenv(longChild); what != "" {
		longWork(t, what)
		return
	}
	if os.Getenv("RINGFORT_LONG") != "1" {
		t.Skip("takes many minutes; RINGFORT_LONG=1 runs it")
	}
	dir, err := os.MkdirTemp(*benchDir, "long")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	keys := manyKeys(10_000_000)

	fill := longRun(t, dir, "fill", keys, 0)
	t.Logf("filled with %d keys: %+v", keys, fill)
	opened := longRun(t, dir, "open", keys, 0)
	t.Logf("opened after kill -9: %+v", opened)
	limit := max(fill.IndexBytes/3, 192<<20) // less would not hold the memory tables of a small index
	tight := longRun(t, dir, "work", keys, limit)
	t.Logf("in %d MiB, the index being %d MiB: %+v", limit>>20, fill.IndexBytes>>20, tight)

	if fill.LastMicros > 4*fill.FirstMicros {
		t.Errorf("CPU per commit grew from %.1f to %.1f µs", fill.FirstMicros, fill.LastMicros)
	}
	for name, f := range map[string]*longFigures{"filling": fill, "open": opened, "with little memory": tight} {
		if f.PeakHeapMiB > 1024 || f.ResidentMiB > 1024 {
			t.Errorf("%s: the heap had up to %.0f MiB, the process %.0f", name, f.PeakHeapMiB, f.ResidentMiB)
		}
		if f.OpenSeconds > 60 {
			t.Errorf("%s: opening took %.0f s", name, f.OpenSeconds)
		}
	}
}

// longRun does a part of the test in a process of its own. The one that fills is
// killed once it has told its figures, while it goes on.
func longRun(t *testing.T, dir, what string, keys int, limit int64) *longFigures {
	t.Helper()
	args := []string{"-test.run=^TestTenMillionKeys$", "-test.timeout=0", "-volume.keys=" + strconv.Itoa(keys)}
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), longChild+"="+what, "RINGFORT_LONG_DIR="+dir)
	if limit > 0 {
		confine(t, cmd, limit)
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var f *longFigures
	lines := bufio.NewScanner(out)
	for f == nil && lines.Scan() {
		if b, ok := bytes.CutPrefix(lines.Bytes(), []byte("figures ")); ok {
			f = new(longFigures)
			if err := json.Unmarshal(b, f); err != nil {
				t.Fatal(err)
			}
		} else {
			t.Log(lines.Text())
		}
	}
	if what == "fill" {
		time.Sleep(300 * time.Millisecond)
		cmd.Process.Kill()
	}
	io.Copy(io.Discard, out)
	if err := cmd.Wait(); f == nil || err != nil && what != "fill" {
		t.Fatalf("%s: %v", what, err)
	}
	return f
}

// confine gives a process so much memory: page cache and all in a control group of
// its own, if this machine lets us make one, else its address space, which must be
// larger, and the Go heap.
func confine(t *testing.T, cmd *exec.Cmd, limit int64) {
	t.Helper()
	cmd.Env = append(cmd.Env, "GOMEMLIMIT="+strconv.FormatInt(limit*3/4, 10))
	for root, file := range map[string]string{"/sys/fs/cgroup/memory": "memory.limit_in_bytes", "/sys/fs/cgroup": "memory.max"} {
		group := filepath.Join(root, fmt.Sprintf("ringfort-test-%d", os.Getpid()))
		if os.Mkdir(group, 0o755) != nil {
			continue
		}
		t.Cleanup(func() { os.Remove(group) })
		f, err := os.OpenFile(filepath.Join(group, file), os.O_WRONLY, 0) // the kernel makes it, if it has such groups here
		if err != nil {
			continue
		}
		_, err = f.WriteString(strconv.FormatInt(limit, 10))
		f.Close()
		if err != nil {
			continue
		}
		t.Logf("limited by %s", filepath.Join(group, file))
		shell(cmd, `echo $$ > "$0" && exec "$@"`, filepath.Join(group, "cgroup.procs"))
		return
	}
	t.Log("limited by GOMEMLIMIT and ulimit -v: there is no control group to be had, so the page cache is not")
	shell(cmd, `ulimit -v "$0" && exec "$@"`, strconv.FormatInt((limit+(1<<30))>>10, 10))
}

// shell has a command started by a shell, after something else.
func shell(cmd *exec.Cmd, script, zero string) {
	cmd.Args = append([]string{"sh", "-c", script, zero, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
}

// longWork is what the processes do.
func longWork(t *testing.T, what string) {
	keys := manyKeys(0)
	var f longFigures
	stop := watchHeap(&f)
	at := time.Now()
	v, err := Open(context.Background(), Config{
		Dir: filepath.Join(os.Getenv("RINGFORT_LONG_DIR"), "vol"), FS: vfs.Default(), Spaces: []Space{{kept, "kept", true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.OpenSeconds = time.Since(at).Seconds()
	put := func(from, n int) (cpu time.Duration) {
		before := cpuTime()
		took, _ := drive(n, longWriters, func(_, i int) { longPut(t, v, from+i) })
		f.CommitsPerSecond = float64(n) / took.Seconds()
		return cpuTime() - before
	}
	micros := func(cpu time.Duration, n int) float64 { return float64(cpu.Nanoseconds()) / 1e3 / float64(n) }
	tenth := max(keys/10, 1)
	switch what {
	case "fill":
		f.FirstMicros = micros(put(0, tenth), tenth)
		put(tenth, keys-2*tenth)
		f.LastMicros = micros(put(keys-tenth, tenth), tenth)
	case "work":
		f.FirstMicros = micros(put(2*keys, tenth), tenth)
		f.LastMicros = f.FirstMicros
	}
	const reads = 100_000
	at = time.Now()
	for range reads {
		if _, err := v.Get(kept, longKey(rand.IntN(keys))); err != nil {
			t.Fatal(err)
		}
	}
	f.GetMicros = float64(time.Since(at).Nanoseconds()) / 1e3 / reads
	s := v.Stats()
	f.IndexBytes = s.IndexSize
	if what != "open" {
		f.WrittenPerStored = s.WrittenPerStored()
	}
	stop()
	f.ResidentMiB = float64(residentBytes()) / (1 << 20)
	b, err := json.Marshal(&f)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("figures %s\n", b)
	if what == "fill" {
		for at := 3 * keys; !t.Failed(); at += 10_000 { // until it is killed
			put(at, 10_000)
		}
	}
	if len(v.Findings()) > 0 {
		t.Fatal(v.Findings())
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}

// longKey returns key i: spread as hashes are, and the same again.
func longKey(i int) []byte {
	var k [32]byte
	binary.BigEndian.PutUint64(k[:], uint64(i)*0x9E3779B97F4A7C15)
	return k[:]
}

var longValue = make([]byte, longHead)

func longPut(t *testing.T, v *Volume, i int) {
	b := v.NewBatch(Meta)
	b.Put(kept, longKey(i), longValue, nil, Ref{})
	if err := v.Commit(context.Background(), b); err != nil {
		t.Error(err)
	}
}

// watchHeap notes the highest size of the heap until stop is called.
func watchHeap(f *longFigures) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			f.PeakHeapMiB = max(f.PeakHeapMiB, float64(m.HeapInuse)/(1<<20))
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	})
	return func() { close(done); wg.Wait() }
}
