package harness

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Metric returns what the node's /metrics says of a name without labels.
func (n *Node) Metric(ctx context.Context, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.Admin+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	// Plain, and not compressed as the default client asks for it: the compressor
	// takes more of the server's heap than many a request.
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return findMetric(resp.Body, name)
}

func findMetric(r io.Reader, name string) (float64, error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	return 0, fmt.Errorf("no metric %s", name)
}

const (
	// heapMetric counts the spans that hold an object: what lives, what is garbage
	// and not swept yet, and the room that is lost between them.
	heapMetric = "go_memstats_heap_inuse_bytes"
	// heapInterval is short beside the time in which a heap could grow by what
	// matters and be collected again.
	heapInterval = 100 * time.Millisecond
)

// HeapWatch notes the largest heap of a node.
type HeapWatch struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	// What follows belongs to the goroutine until it has ended.
	peak  float64
	looks int
	err   error
}

// WatchHeap looks at the node's heap again and again until [HeapWatch.Peak] or the
// end of the test.
func (n *Node) WatchHeap(t testing.TB) *HeapWatch {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &HeapWatch{cancel: cancel}
	w.wg.Go(func() {
		tick := time.NewTicker(heapInterval)
		defer tick.Stop()
		for ctx.Err() == nil {
			v, err := n.Metric(ctx, heapMetric)
			if err == nil {
				w.peak, w.looks = max(w.peak, v), w.looks+1
			} else if ctx.Err() == nil {
				w.err = err // told only if it never worked: a busy node may be late
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	})
	t.Cleanup(func() { cancel(); w.wg.Wait() })
	return w
}

// Peak ends the watch and returns the largest heap seen, in bytes.
func (w *HeapWatch) Peak(t testing.TB) int64 {
	t.Helper()
	w.cancel()
	w.wg.Wait()
	if w.looks == 0 {
		t.Fatalf("the node's heap was never seen: %v", w.err)
	}
	return int64(w.peak)
}
