package ops

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ringfort/internal/erasure"
	"ringfort/internal/peer"
	"ringfort/internal/peer/peertest"
	"ringfort/internal/policy"
)

// hollow is a node that keeps records and rows, and no fragments: it takes all
// bytes and gives back zeros.
type hollow struct{ peer.Node }

func (hollow) CreateFragment(context.Context, peer.Target, *peer.FragmentHeader) (peer.FragmentWriter, error) {
	return hollowWriter{}, nil
}

type hollowWriter struct{}

func (hollowWriter) Write(p []byte) (int, error)         { return len(p), nil }
func (hollowWriter) Commit(context.Context, int64) error { return nil }
func (hollowWriter) Abort()                              {}

func (hollow) OpenFragment(_ context.Context, _ peer.Target, _ peer.FragmentName, _, n int64) (io.ReadCloser, error) {
	return io.NopCloser(io.LimitReader(zeros{}, n)), nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A gigabyte goes through in a few megabytes, up and down.
func TestMemory(t *testing.T) {
	size := int64(1 << 30)
	if testing.Short() || raceEnabled {
		size = 64 << 20
	}
	c := newCluster(t, policy.EC(4, 2), 0, func(testing.TB) peer.Node { return hollow{peertest.NewFake()} })
	s := c.gateway(func(cfg *Config) { cfg.BlockSize, cfg.MemoryBytes = erasure.DefaultBlockSize, 64<<20 })
	co := s.mustContainer(t, "c")
	stop := make(chan struct{})
	var highest uint64
	var sampling sync.WaitGroup
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	floor := m.HeapAlloc
	sampling.Go(func() {
		for tick := time.NewTicker(10 * time.Millisecond); ; {
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				highest = max(highest, m.HeapAlloc)
			}
		}
	})
	o, err := s.Put(t.Context(), &Put{Container: co, Name: "o", Body: io.LimitReader(zeros{}, size), Size: size})
	if err != nil || o.Size != size {
		t.Fatal(o, err)
	}
	h, err := s.Open(t.Context(), co, "o")
	if err != nil {
		t.Fatal(err)
	}
	r, err := h.Range(t.Context(), 0, size)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, r); err != nil || n != size {
		t.Fatal(n, err)
	}
	r.Close()
	close(stop)
	sampling.Wait()
	if used := int64(highest) - int64(floor); used > 32<<20 {
		t.Errorf("%d MiB of heap for an object of %d MiB", used>>20, size>>20)
	}
}

// Copies read and write in the same memory. However many there are at a time, and
// however little memory, none waits for another without end.
func TestManyCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := policy.EC(4, 2)
		c := newCluster(t, spec, 0, fake)
		s := c.gateway(func(cfg *Config) { cfg.MemoryBytes = 512 << 10 })
		co := s.mustContainer(t, "c")
		body := random(1, 30*spec.K*testBlock+5)
		mustPut(t, s, co, "from", body)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				h, err := s.Open(ctx, co, "from")
				if err != nil {
					t.Error(err)
					return
				}
				r, err := h.Range(ctx, 0, h.Object.Size)
				if err != nil {
					t.Error(err)
					return
				}
				defer r.Close()
				if _, err := s.Put(ctx, &Put{Container: co, Name: fmt.Sprint(i), Body: r, Size: h.Object.Size}); err != nil {
					t.Errorf("copy %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		for i := range 50 {
			wantBytes(t, s, co, fmt.Sprint(i), body)
		}
		time.Sleep(2 * commitTime)
	})
}

// Readers that stand still do not keep others from reading and writing.
func TestSlowReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := policy.EC(4, 2)
		c := newCluster(t, spec, 0, fake)
		s := c.gateway(func(cfg *Config) { cfg.MemoryBytes = 512 << 10 })
		co := s.mustContainer(t, "c")
		body := random(1, 30*spec.K*testBlock+5)
		mustPut(t, s, co, "o", body)
		var open []io.Closer
		for range 100 {
			h, err := s.Open(t.Context(), co, "o")
			if err != nil {
				t.Fatal(err)
			}
			r, err := h.Range(t.Context(), 0, h.Object.Size)
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, r)
		}
		synctest.Wait() // they have read ahead as far as they get
		begun := time.Now()
		mustPut(t, s, co, "p", body)
		wantBytes(t, s, co, "p", body)
		c.nodes[2].set(down, nil) // a degraded read needs more memory
		wantBytes(t, s, co, "p", body)
		if d := time.Since(begun); d > time.Second {
			t.Errorf("took %v", d)
		}
		for _, r := range open {
			r.Close()
		}
		synctest.Wait()
		time.Sleep(2 * commitTime)
		synctest.Wait()
		if lent := s.lent(); lent != 0 {
			t.Errorf("%d bytes of the pool are still lent", lent)
		}
	})
}
