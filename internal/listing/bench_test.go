package listing_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	pvfs "github.com/cockroachdb/pebble/v2/vfs"

	"ringfort/internal/catalog"
	"ringfort/internal/catalog/catalogtest"
	"ringfort/internal/listing"
	"ringfort/internal/listing/merge"
	"ringfort/internal/peer"
	"ringfort/internal/timestamp"
	"ringfort/internal/vfs"
	"ringfort/internal/volume"
)

var benchSpaces = listing.Spaces{Current: 18, Versions: 19, Tombstones: 20, Counters: 21}

func benchStore(b *testing.B, fs vfs.FS, dir string) *listing.Store {
	v, err := volume.Open(context.Background(), volume.Config{
		Dir: dir, FS: fs,
		Spaces: []volume.Space{{ID: 18, Name: "rows"}, {ID: 19, Name: "versions"}, {ID: 20, Name: "tombstones"}, {ID: 21, Name: "counters"}},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { v.Close() })
	return listing.NewStore(v, benchSpaces)
}

// benchRow is a row as a PUT of a small object makes it.
func benchRow(name string, n int) catalog.Row {
	t := timestamp.T{Micros: uint64(n + 1), Seq: uint32(n), Writer: 7}
	v := catalog.RowValue{Size: 4096, ETag: "0123456789abcdef0123456789abcdef", ContentType: "application/octet-stream", Modified: 1_700_000_000_000_000}
	return catalog.Row{Name: name, Ballot: t, TS: t, Bytes: 4096, Value: catalogtest.Bytes(&v)}
}

// BenchmarkPut stores one row a call: of a new name, and of a known one.
func BenchmarkPut(b *testing.B) {
	for _, writers := range []int{1, 64} {
		for _, kind := range []string{"new", "known"} {
			b.Run(fmt.Sprintf("%s/writers=%d", kind, writers), func(b *testing.B) { benchPut(b, writers, kind == "known") })
		}
	}
}

func benchPut(b *testing.B, writers int, known bool) {
	s := benchStore(b, vfs.Default(), b.TempDir())
	l := peer.Listing{Table: catalog.Objects, Incarnation: catalog.Incarnation{1}}
	var next atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu()
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			rows := make([]catalog.Row, 1)
			for {
				n := int(next.Add(1))
				if n > b.N {
					return
				}
				name := n
				if known {
					name = n % 1000
				}
				// Names in no order, as the hashes of records are.
				rows[0] = benchRow(fmt.Sprintf("%016x", uint64(name)*0x9e3779b97f4a7c15), n)
				if err := s.Put(context.Background(), &l, rows); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64((cpu()-before).Nanoseconds())/1000/float64(b.N), "cpu-µs/op")
}

// cpu returns the processor time that the process has used, flushes and
// compactions of the index included.
func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// fill stores n rows in 100 directories.
func fill(b *testing.B, s *listing.Store, l *peer.Listing, n int) {
	rows := make([]catalog.Row, 0, 1000)
	for i := range n {
		rows = append(rows, benchRow(fmt.Sprintf("photos/%02d/%08d.jpg", i*100/n, i), i))
		if len(rows) == cap(rows) || i == n-1 {
			if err := s.Put(context.Background(), l, rows); err != nil {
				b.Fatal(err)
			}
			rows = rows[:0]
		}
	}
}

type onDevice struct{ s *listing.Store }

func (d onDevice) ListRows(ctx context.Context, q *peer.RowQuery) (*peer.RowPage, error) {
	return d.s.List(ctx, q)
}
func (d onDevice) GetRows(ctx context.Context, l *peer.Listing, names []string) ([]peer.RowState, error) {
	return d.s.Get(ctx, l, names)
}

// BenchmarkList reads a listing of 200,000 names to its end in pages of 1,000: one
// device alone, and two devices merged. In /dirs, each page is one of common
// prefixes with 2,000 names behind each.
func BenchmarkList(b *testing.B) {
	const n = 200_000
	l := peer.Listing{Table: catalog.Objects, Incarnation: catalog.Incarnation{1}}
	x, y := benchStore(b, pvfs.NewMem(), "/x"), benchStore(b, pvfs.NewMem(), "/y")
	fill(b, x, &l, n)
	fill(b, y, &l, n)
	for _, devices := range [][]merge.Device{{onDevice{x}}, {onDevice{x}, onDevice{y}}} {
		for _, reverse := range []bool{false, true} {
			b.Run(fmt.Sprintf("devices=%d/reverse=%v", len(devices), reverse), func(b *testing.B) {
				b.ReportAllocs()
				start, rows := time.Now(), 0
				q := peer.RowQuery{Listing: l, Limit: 1000, Reverse: reverse}
				for b.Loop() {
					p, err := merge.List(context.Background(), &q, devices)
					if err != nil {
						b.Fatal(err)
					}
					rows += len(p.Entries)
					q.Marker = ""
					if p.More {
						q.Marker = p.Entries[len(p.Entries)-1].Name
					}
				}
				b.ReportMetric(float64(rows)/time.Since(start).Seconds(), "rows/s")
			})
		}
	}
	b.Run("dirs", func(b *testing.B) {
		for b.Loop() {
			p, err := x.List(context.Background(), &peer.RowQuery{Listing: l, Limit: 1000, Prefix: "photos/", Delimiter: "/"})
			if err != nil || len(p.Entries) != 100 {
				b.Fatal(len(p.Entries), err)
			}
		}
		b.ReportMetric(100*float64(b.N)/b.Elapsed().Seconds(), "prefixes/s")
	})
}
