package builder

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"ringfort/ring"
)

// BenchmarkRebalance times the first placement, adding one device, and adding a
// third more devices.
func BenchmarkRebalance(b *testing.B) {
	for _, c := range []struct {
		power    uint
		replicas int
	}{{18, 3}, {20, 12}} {
		name := fmt.Sprintf("2^%dx%dx1000", c.power, c.replicas)
		r := rand.New(rand.NewPCG(1, 1))
		ds := cluster(r, 2, 5, 10, 10, 1000, 16000) // 1000 devices
		base := newBuilder(b, Config{Power: c.power, Replicas: c.replicas, MinPartHours: 1, Overload: Unlimited}, ds)
		b.Run(name+"/first", func(b *testing.B) {
			for b.Loop() {
				mustRebalance(b, base.Clone())
			}
		})
		mustRebalance(b, base)
		b.Run(name+"/add-1", func(b *testing.B) {
			for b.Loop() {
				next := base.Clone()
				addCopies(b, next, ds[:1])
				mustRebalance(b, next)
			}
		})
		b.Run(name+"/remove-1", func(b *testing.B) {
			for b.Loop() {
				next := base.Clone()
				if err := next.Remove(17); err != nil {
					b.Fatal(err)
				}
				mustRebalance(b, next)
			}
		})
		b.Run(name+"/add-300", func(b *testing.B) {
			for b.Loop() {
				next := base.Clone()
				addCopies(b, next, ds[:300])
				mustRebalance(b, next)
			}
		})
	}
}

func addCopies(b *testing.B, to *Builder, ds []ring.Device) {
	for _, d := range ds {
		d.Node += "b"
		d.Address = d.Node + ":7000"
		if _, err := to.Add(d); err != nil {
			b.Fatal(err)
		}
	}
}

func mustRebalance(b *testing.B, x *Builder) {
	res, err := x.Rebalance(start.Add(time.Hour))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(res.Moved), "moved")
	b.ReportMetric(float64(res.Leftover), "leftover")
}
