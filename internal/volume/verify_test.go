package volume

import (
	"context"
	"fmt"
	"testing"
	"time"

	"ringfort/internal/vfs/faultfs"
)

// Frames that come while Verify reads their segment are not taken for damage,
// although they were not in the file when it was opened.
func TestVerifyGrowingSegment(t *testing.T) {
	for _, lane := range []Lane{Meta, Bulk} {
		t.Run(lane.String(), func(t *testing.T) {
			v, fs, _, _ := faulty(t, func(c *Config) { c.DisableCompaction, c.DisableZeroAhead = true, true })
			mustPut(t, v, lane, "before", "head", make([]byte, 3000))
			release := fs.Hang(faultfs.IsKind(v.lanes[lane].seg.path, faultfs.Read))
			done := make(chan error)
			var found []Finding
			go func() {
				done <- v.Verify(context.Background(), func(f Finding) { found = append(found, f) })
			}()
			for fs.Hanging() == 0 {
				time.Sleep(time.Millisecond)
			}
			for i := range 10 {
				mustPut(t, v, lane, fmt.Sprintf("meanwhile%d", i), "head", make([]byte, 3000))
			}
			release()
			if err := <-done; err != nil || len(found) > 0 {
				t.Fatal(err, found)
			}
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Nor is what a recycled file held before, while compaction and commits go on.
func TestVerifyBesideWrites(t *testing.T) {
	v, _, _, _ := faulty(t, nil)
	stop, done := make(chan struct{}), make(chan error)
	var found []Finding
	go func() {
		for {
			err := v.Verify(context.Background(), func(f Finding) { found = append(found, f) })
			select {
			case <-stop:
				done <- err
				return
			default:
			}
			if err != nil {
				<-stop
				done <- err
				return
			}
		}
	}()
	for range 10 {
		for _, lane := range []Lane{Meta, Bulk} {
			vals := fill(t, v, lane, 100, 4000)
			for i := range vals {
				remove(t, v, lane, i, vals[i])
			}
		}
		compactAll(t, v)
	}
	close(stop)
	if err := <-done; err != nil || len(found) > 0 {
		t.Fatal(err, found)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}
