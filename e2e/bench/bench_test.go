// Package bench takes the figures of docs/benchmarks.md: "ringfort bench" against
// four directories of one process, and against four processes. It runs with "make
// bench" only, never with the other tests.
package bench

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"ringfort/e2e/harness"
)

// TestBench is skipped unless RINGFORT_BENCH says how long a figure takes. The
// reports go to the directory RINGFORT_BENCH_OUT, data to TMPDIR.
func TestBench(t *testing.T) {
	duration, out := os.Getenv("RINGFORT_BENCH"), os.Getenv("RINGFORT_BENCH_OUT")
	if duration == "" {
		t.Skip("runs with make bench")
	}
	if out == "" {
		out = t.TempDir()
	}
	h, err := harness.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, c := range []struct {
		suite string
		setup harness.Setup
	}{
		{"node", harness.Setup{Name: "4-directories", Nodes: 1, Dirs: 4}},
		{"cluster", harness.Setup{Name: "4-processes", Nodes: 4, Dirs: 1}},
	} {
		t.Run(c.setup.Name, func(t *testing.T) {
			s := h.Start(t, c.setup)
			box := harness.NewSandbox(t)
			box.Setenv("RINGFORT_ACCESS_KEY", s.AccessKey)
			box.Setenv("RINGFORT_SECRET_KEY", s.SecretKey)
			args := []string{
				"bench", "--suite=" + c.suite, "--duration", duration, "--quiet",
				"--note", "page cache warm",
				"--json", filepath.Join(out, c.setup.Name+".json"),
				"--benchfmt", filepath.Join(out, c.setup.Name+".txt"),
			}
			for _, n := range s.Nodes {
				args = append(args, "--endpoint", n.Endpoints.S3, "--pid", strconv.Itoa(n.PID()))
			}
			t.Logf("\n%s", box.RunLong(h.Binary(t), args...))
		})
	}
}
