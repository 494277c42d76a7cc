package erasure

import (
	"crypto/md5"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"ringfort/internal/vfs"
)

// rate returns the bytes per second of one core that f handles, n bytes a call.
func rate(n int, f func()) float64 {
	f()
	start, calls := time.Now(), 0
	for time.Since(start) < 50*time.Millisecond {
		f()
		calls++
	}
	return float64(n) * float64(calls) / time.Since(start).Seconds()
}

// report adds to a benchmark its speed as a share of copying the same bytes and
// of MD5 over them, both on one core in the same run.
func report(b *testing.B, bufs [][]byte, n int) {
	own := float64(n) * float64(b.N) / b.Elapsed().Seconds()
	to := vfs.AlignedBuffer(n)
	i := 0
	next := func() []byte { i++; return bufs[i%len(bufs)][:n] }
	b.ReportMetric(own/rate(n, func() { copy(to, next()) }), "x-memcpy")
	b.ReportMetric(own/rate(n, func() { md5.Sum(next()) }), "x-md5")
}

// working returns enough stripe buffers that they do not all stay in the cache,
// as in a server that has just received them.
func working(size int) [][]byte {
	bufs := make([][]byte, max(2, (32<<20)/size))
	for i := range bufs {
		bufs[i] = vfs.AlignedBuffer(size)
		fill(rand.New(rand.NewPCG(1, uint64(i))), bufs[i])
	}
	return bufs
}

func BenchmarkEncode(b *testing.B) {
	for _, km := range [][2]int{{2, 2}, {4, 2}, {8, 4}} {
		for _, block := range []int{16 << 10, 64 << 10, 128 << 10, 256 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%d+%d/block=%dKiB", km[0], km[1], block>>10), func(b *testing.B) {
				c, _ := NewCode(km[0], km[1])
				n := km[0] * block
				bufs := working(c.BufferSize(n))
				var blocks [][]byte
				b.SetBytes(int64(n))
				b.ReportAllocs()
				b.ResetTimer()
				for i := range b.N {
					blocks, _ = c.Encode(blocks[:0], bufs[i%len(bufs)], n)
				}
				b.StopTimer()
				report(b, bufs, n)
			})
		}
	}
}

// BenchmarkReconstruct rebuilds the first lost data blocks from what is left;
// its bytes are those of the whole stripe's data.
func BenchmarkReconstruct(b *testing.B) {
	for _, x := range []struct{ k, m, lost int }{{2, 2, 1}, {4, 2, 1}, {4, 2, 2}, {8, 4, 1}, {8, 4, 4}} {
		b.Run(fmt.Sprintf("%d+%d/lost=%d", x.k, x.m, x.lost), func(b *testing.B) {
			c, _ := NewCode(x.k, x.m)
			n := x.k * DefaultBlockSize
			bufs := working(c.BufferSize(n))
			var want []Index
			for i := range x.lost {
				want = append(want, Index(i))
			}
			var blocks [][]byte
			b.SetBytes(int64(n))
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				blocks = blocks[:0]
				for j := range x.k + x.m {
					blocks = append(blocks, bufs[i%len(bufs)][j*DefaultBlockSize:(j+1)*DefaultBlockSize])
				}
				for _, j := range want {
					blocks[j] = blocks[j][:0]
				}
				if err := c.Reconstruct(blocks, want...); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			report(b, bufs, n)
		})
	}
}
