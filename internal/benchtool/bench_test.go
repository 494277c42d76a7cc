package benchtool

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"ringfort/internal/errs"
)

// TestMain lets the test binary be the null server that a run starts.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == nullCommandName {
		if err := New().Execute(); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func testConfig(t *testing.T, s *memoryS3, figures ...Figure) Config {
	t.Helper()
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	cfg := Default()
	cfg.Endpoints = []string{srv.URL, srv.URL}
	cfg.AccessKey, cfg.SecretKey = "key", "secretsecret"
	cfg.Figures = figures
	cfg.Duration, cfg.Warmup = 100*time.Millisecond, 10*time.Millisecond
	cfg.Verify = true
	return cfg
}

// TestRun takes every kind of figure and finds nothing left behind.
func TestRun(t *testing.T) {
	s := newMemoryS3()
	cfg := testConfig(t, s,
		Figure{Put, 4096, 4, 0}, Figure{Get, 4096, 4, 0}, Figure{Head, 4096, 2, 0}, Figure{Delete, 4096, 2, 0},
		Figure{Put, 1 << 20, 2, 0}, Figure{Get, 1 << 20, 2, 0}, Figure{Get, 5 << 20, 2, 0},
		Figure{List, 0, 2, 1500}, Figure{Scan, 0, 2, 1500})
	cfg.Runs = 2
	cfg.Keys = 50
	cfg.Null = true
	cfg.PIDs = []int{os.Getpid()}
	cfg.NullCommand = []string{os.Args[0], nullCommandName}
	report, err := Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Results) != 2*len(cfg.Figures) || report.Failed() != 0 {
		var text bytes.Buffer
		report.WriteText(&text)
		t.Fatalf("%d results, %d failures\n%s", len(report.Results), report.Failed(), &text)
	}
	for _, res := range report.Results {
		m := res.Server
		if m.Ops == 0 || m.OpsPerSecond <= 0 || m.P50 <= 0 || m.P50 > m.P99 || m.P99 > m.Max {
			t.Errorf("%s: %+v", res.Name, m)
		}
		if res.Null == nil || res.Null.Ops == 0 || res.Share <= 0 {
			t.Errorf("%s: no figure of the null server: %+v", res.Name, res.Null)
		}
		if len(m.Processes) != 1 || m.Processes[0].ResidentBytes == 0 {
			t.Errorf("%s: processes %+v", res.Name, m.Processes)
		}
		if res.carriesBytes() && m.Bytes != m.Ops*res.SizeBytes {
			t.Errorf("%s: %d bytes in %d operations", res.Name, m.Bytes, m.Ops)
		}
		if res.listing() && m.KeysPerSecond <= 0 {
			t.Errorf("%s: no keys", res.Name)
		}
		if res.Op == Put && !res.Overwrote && m.Ops > cfg.Keys {
			t.Errorf("%s: %d PUTs of %d keys and nothing overwritten", res.Name, m.Ops, cfg.Keys)
		}
	}
	if len(s.buckets) != 0 {
		t.Errorf("left behind: %d buckets", len(s.buckets))
	}
	checkForms(t, report)
}

// checkForms writes a report in every form.
func checkForms(t *testing.T, report *Report) {
	t.Helper()
	var text, asJSON, bench bytes.Buffer
	if err := report.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if err := report.WriteJSON(&asJSON); err != nil {
		t.Fatal(err)
	}
	if err := report.WriteBench(&bench); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s\n%s", &text, &bench)
	var back Report
	if err := json.Unmarshal(asJSON.Bytes(), &back); err != nil || len(back.Results) != len(report.Results) {
		t.Errorf("JSON does not read back: %v", err)
	}
	for _, want := range []string{"PUT 4KiB", "LIST 1000/1500", "resident"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the table lacks %q", want)
		}
	}
	for _, want := range []string{"BenchmarkPUT/size=4KiB/conns=4-", "target: null\n", " p99-ns", "Unit ops/s better=higher"} {
		if !strings.Contains(bench.String(), want) {
			t.Errorf("the benchmark lines lack %q", want)
		}
	}
}

// TestFailures: each failed operation is counted, and a figure that only fails
// ends early.
func TestFailures(t *testing.T) {
	s := newMemoryS3()
	s.refuse = 3
	cfg := testConfig(t, s, Figure{Put, 100, 2, 0})
	cfg.MaxErrors = 5
	cfg.Duration = time.Minute
	began := time.Now()
	report, err := Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	m := report.Results[0].Server
	if report.Failed() < 5 || m.Ops == 0 || time.Since(began) > 30*time.Second {
		t.Errorf("%d operations, %d failures in %v", m.Ops, m.Errors, time.Since(began))
	}
	if len(m.Failures) != 1 {
		t.Errorf("failures: %v", m.Failures)
	}
}

// TestVerify: a flipped bit is found, and only when it is looked for.
func TestVerify(t *testing.T) {
	for _, verify := range []bool{true, false} {
		s := newMemoryS3()
		s.rot = true
		cfg := testConfig(t, s, Figure{Get, 300_000, 2, 0})
		cfg.Verify, cfg.Keys, cfg.Count = verify, 3, 10
		report, err := Run(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if (report.Failed() > 0) != verify {
			t.Errorf("verify %t: %d failures", verify, report.Failed())
		}
	}
}

// TestCount: a count ends a figure to the operation.
func TestCount(t *testing.T) {
	cfg := testConfig(t, newMemoryS3(), Figure{Put, 10, 7, 0})
	cfg.Count, cfg.Duration = 100, time.Minute
	report, err := Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got := report.Results[0].Server.Ops; got != 100 {
		t.Errorf("%d operations, want 100", got)
	}
}

// TestOpenLoop: operations begin when they are due, no faster.
func TestOpenLoop(t *testing.T) {
	cfg := testConfig(t, newMemoryS3(), Figure{Put, 10, 4, 0})
	cfg.RatePerSecond, cfg.Duration = 100, 300*time.Millisecond
	report, err := Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	m := report.Results[0].Server
	if m.Ops+m.Missed != 31 {
		t.Errorf("%d operations and %d missed, want 31 together", m.Ops, m.Missed)
	}
}

// TestInterrupt: a cancelled run still cleans up.
func TestInterrupt(t *testing.T) {
	s := newMemoryS3()
	cfg := testConfig(t, s, Figure{Put, 10, 4, 0})
	cfg.Duration = time.Minute
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cfg.Progress = func(line string) {
		if strings.HasSuffix(line, ": server") {
			time.AfterFunc(50*time.Millisecond, cancel)
		}
	}
	_, err := Run(ctx, cfg)
	if !errs.Is(err, errs.Canceled) {
		t.Errorf("a cancelled run returns %v", err)
	}
	if len(s.buckets) != 0 {
		t.Errorf("left behind: %d buckets", len(s.buckets))
	}
}

// TestKeep: a kept listing bucket is used again.
func TestKeep(t *testing.T) {
	s := newMemoryS3()
	cfg := testConfig(t, s, Figure{List, 0, 1, 1000})
	cfg.Keep, cfg.Count = true, 3
	for range 2 {
		if _, err := Run(context.Background(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	// A mark, a thousand keys, and three or so requests each.
	if s.seen > 1010 {
		t.Errorf("%d object requests: the bucket was filled twice", s.seen)
	}
}

func TestValidate(t *testing.T) {
	good := Default()
	good.AccessKey, good.SecretKey = "a", "b"
	good.Figures = []Figure{{Put, 1, 1, 0}}
	for _, c := range []struct {
		name   string
		change func(*Config)
		ok     bool
	}{
		{"as it is", func(*Config) {}, true},
		{"localhost", func(c *Config) { c.Endpoints = []string{"http://localhost:1"} }, true},
		{"IPv6", func(c *Config) { c.Endpoints = []string{"https://[::1]:1"} }, true},
		{"another machine", func(c *Config) { c.Endpoints = []string{"http://192.0.2.1:9000"} }, false},
		{"one of two", func(c *Config) { c.Endpoints = append(c.Endpoints, "http://192.0.2.1:9000") }, false},
		{"allowed", func(c *Config) { c.Endpoints, c.AllowRemote = []string{"http://192.0.2.1:9000"}, true }, true},
		{"any address", func(c *Config) { c.Endpoints = []string{"http://0.0.0.0:9000"} }, false},
		{"no scheme", func(c *Config) { c.Endpoints = []string{"127.0.0.1:9000"} }, false},
		{"a path", func(c *Config) { c.Endpoints = []string{"http://127.0.0.1:9000/x"} }, false},
		{"no keys", func(c *Config) { c.SecretKey = "" }, false},
		{"no figure", func(c *Config) { c.Figures = nil }, false},
		{"no connection", func(c *Config) { c.Figures = []Figure{{Put, 1, 0, 0}} }, false},
		{"huge object", func(c *Config) { c.Figures = []Figure{{Put, 6 << 30, 1, 0}} }, false},
		{"short list", func(c *Config) { c.Figures = []Figure{{List, 0, 1, 10}} }, false},
		{"no end", func(c *Config) { c.Duration = 48 * time.Hour }, false},
		{"null without a command", func(c *Config) { c.Null = true }, false},
		{"no grace", func(c *Config) { c.Grace = 0 }, false},
		{"negative count", func(c *Config) { c.Count = -1 }, false},
		{"no runs", func(c *Config) { c.Runs = 0 }, false},
	} {
		cfg := good
		cfg.Endpoints = append([]string(nil), good.Endpoints...)
		c.change(&cfg)
		if err := cfg.Validate(context.Background()); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
