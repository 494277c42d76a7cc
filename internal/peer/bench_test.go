package peer_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"ringfort/internal/blob"
	"ringfort/internal/catalog"
	"ringfort/internal/catalog/catalogtest"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/peer/peertest"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
)

// nothing is a node that does nothing, so that what is measured is the way to it.
type nothing struct{ *peertest.Fake }

func (nothing) Write(_ context.Context, _ peer.Target, _ peer.Service, _ keyhash.Hash, r *register.Record) (register.Answer, error) {
	return register.Answer{Accepted: true, State: register.State{Record: r.WithoutData(), Held: true}}, nil
}

func (nothing) Read(context.Context, peer.Target, peer.Service, keyhash.Hash, bool) (register.State, error) {
	return register.State{Record: benchRecord, Held: true}, nil
}

type nullWriter struct{}

func (nullWriter) Write(p []byte) (int, error)         { return len(p), nil }
func (nullWriter) Commit(context.Context, int64) error { return nil }
func (nullWriter) Abort()                              {}

func (nothing) CreateFragment(context.Context, peer.Target, *peer.FragmentHeader) (peer.FragmentWriter, error) {
	return nullWriter{}, nil
}

func (nothing) OpenFragment(_ context.Context, _ peer.Target, _ peer.FragmentName, _, n int64) (io.ReadCloser, error) {
	return io.NopCloser(io.LimitReader(zeros{}, n)), nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

var benchRecord = func() *register.Record {
	ts := timestamp.T{Micros: 1, Writer: 2}
	data := bytes.Repeat([]byte("d"), 4096)
	o := catalog.Object{ContainerAccount: "main", Container: "photos", Name: "2026/11/a-typical-object-name.jpg", ETag: "d41d8cd98f00b204e9800998ecf8427e"}
	return &register.Record{
		Ballot: ts, TS: ts, Op: ts, Root: ts, Mod: ts, Value: catalogtest.Bytes(&o),
		Data: data, DataLen: len(data), DataSum: xxhash.Sum64(data),
	}
}()

// cpuTime is what this process, both sides of every benchmark, has used.
func cpuTime() time.Duration {
	var ru syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// inFlight runs op b.N times, n at a time, and reports CPU time for each.
func inFlight(b *testing.B, n int, op func() error) {
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	var wg sync.WaitGroup
	next := make(chan int, n)
	for range n {
		wg.Go(func() {
			for k := range next {
				for range k {
					if err := op(); err != nil {
						b.Error(err)
						return
					}
				}
			}
		})
	}
	for left := b.N; left > 0; {
		k := min(left, 16)
		left -= k
		next <- k
	}
	close(next)
	wg.Wait()
	b.ReportMetric(float64(cpuTime()-before)/float64(b.N)/1e3, "cpu-µs/op")
}

// BenchmarkWrite4K is one record write of 4 KiB: through a Client and a Server,
// and, to compare, the same bytes as the body of a plain net/http POST.
func BenchmarkWrite4K(b *testing.B) {
	for _, n := range []int{1, 8, 32, 128} {
		b.Run(fmt.Sprintf("frames/%d", n), func(b *testing.B) {
			c := serve(b, nothing{peertest.NewFake()}, peer.ServerConfig{}, peer.ClientConfig{}).client
			ctx, key := b.Context(), keyhash.Hash{1}
			inFlight(b, n, func() error {
				_, err := c.Write(ctx, peer.Target{Device: 1}, peer.Objects, key, benchRecord)
				return err
			})
		})
		b.Run(fmt.Sprintf("post/%d", n), func(b *testing.B) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				buf := make([]byte, 8<<10)
				io.ReadFull(r.Body, buf)
				w.Write(buf[:200])
			}))
			defer s.Close()
			body := make([]byte, 4300)
			c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
			inFlight(b, n, func() error {
				resp, err := c.Post(s.URL, "application/octet-stream", bytes.NewReader(body))
				if err != nil {
					return err
				}
				io.Copy(io.Discard, resp.Body)
				return resp.Body.Close()
			})
		})
	}
}

func BenchmarkRead4K(b *testing.B) {
	for _, n := range []int{1, 32} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := serve(b, nothing{peertest.NewFake()}, peer.ServerConfig{}, peer.ClientConfig{}).client
			ctx, key := b.Context(), keyhash.Hash{1}
			inFlight(b, n, func() error {
				_, err := c.Read(ctx, peer.Target{Device: 1}, peer.Objects, key, true)
				return err
			})
		})
	}
}

func BenchmarkLearn(b *testing.B) {
	for _, n := range []int{1, 32} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := serve(b, nothing{peertest.NewFake()}, peer.ServerConfig{}, peer.ClientConfig{}).client
			ctx, key := b.Context(), keyhash.Hash{1}
			inFlight(b, n, func() error {
				_, err := c.Learn(ctx, peer.Target{Device: 1}, peer.Objects, key)
				return err
			})
		})
	}
}

func BenchmarkFragment(b *testing.B) {
	for _, size := range []int64{128 << 10, 512 << 10, 32 << 20} {
		c := serve(b, nothing{peertest.NewFake()}, peer.ServerConfig{}, peer.ClientConfig{}).client
		data := make([]byte, min(size, 1<<20))
		h := &peer.FragmentHeader{ID: blob.ID{Attempt: 1}, Size: size}
		b.Run(fmt.Sprintf("put/%dK", size>>10), func(b *testing.B) {
			b.SetBytes(size)
			inFlight(b, 4, func() error {
				w, err := c.CreateFragment(b.Context(), peer.Target{Device: 1}, h)
				if err != nil {
					return err
				}
				for left := size; left > 0; left -= int64(len(data)) {
					if _, err := w.Write(data); err != nil {
						return err
					}
				}
				return w.Commit(b.Context(), size)
			})
		})
		bufs := sync.Pool{New: func() any { return new([256 << 10]byte) }}
		b.Run(fmt.Sprintf("get/%dK", size>>10), func(b *testing.B) {
			b.SetBytes(size)
			inFlight(b, 4, func() error {
				r, err := c.OpenFragment(b.Context(), peer.Target{Device: 1}, peer.FragmentName{}, 0, size)
				if err != nil {
					return err
				}
				defer r.Close()
				buf := bufs.Get().(*[256 << 10]byte)
				defer bufs.Put(buf)
				n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, buf[:])
				if err == nil && n != size {
					err = io.ErrShortBuffer
				}
				return err
			})
		})
	}
}
