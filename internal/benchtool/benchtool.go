// Package benchtool is the load generator behind "ringfort bench". It puts load
// on any S3 endpoint and says what came out: operations and megabytes per second,
// latencies, and, for servers whose process ids it is given, processor time, bytes
// written and memory. In the same run it can put the same load on a server that
// does nothing (package nulls3, in a process of its own), so that each figure can
// be read as a share of what client, kernel and network reach on that machine.
//
// It is not a correctness test, though it counts every failed operation, checks
// the length of what it reads, and with Config.Verify every byte of it.
//
// Read [Config] first, then [Figure] (one row of the table: an operation, a size
// and a number of connections), then [Run], which turns the one into a [Report]
// over the other.
//
// # How a figure is taken
//
// A worker per connection sends one request after another (closed loop), or, when
// Config.RatePerSecond is set, takes the next of a series of evenly spaced due
// times (open loop). An open-loop latency counts from the due time, so that a
// server that stalls is charged for the requests that piled up meanwhile.
//
// The client is minio-go's core client with its own way of signing: over plain
// HTTP every PUT is a stream of signed chunks. It retries nothing: a failed
// request is an error in the report. Bodies are windows into one block of random
// bytes made at the start; latencies go to a histogram that each worker owns; so
// beyond the client's own work an operation costs a key's string and two looks at
// the clock.
//
// # Bounds
//
// A run ends by itself: every figure has a time and may have a count, a request
// that hangs is cut off a grace period after the figure's end, and a figure gives
// up after Config.MaxErrors failures. Memory is a few mebibytes and a histogram
// per connection, whatever the number and size of objects. Nothing but loopback
// addresses is put under load unless Config.AllowRemote is set. What a run wrote
// it deletes, unless Config.Keep is set; a run that is killed leaves its objects
// under the bucket's "bench-…" prefix.
package benchtool

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"time"

	"ringfort/internal/errs"
)

const (
	maxDuration    = time.Hour
	maxConcurrency = 4096
	maxObjectBytes = 5 << 30 // S3's limit for a single PUT
	maxRuns        = 100
	listPageKeys   = 1000 // S3's limit for a page
)

// Config says what to measure and where.
type Config struct {
	// Endpoints are the servers' URLs. Workers are dealt out over them in turn.
	Endpoints []string
	// AccessKey and SecretKey sign the requests; Region is what the signature
	// is for.
	AccessKey, SecretKey, Region string
	// Bucket holds the objects. It is made if it is not there, and then also
	// removed at the end. Listings use buckets of their own, named after it.
	Bucket string
	// Figures are measured in this order.
	Figures []Figure
	// Duration of each figure, not counting Warmup, which comes before it and is
	// not recorded.
	Duration, Warmup time.Duration
	// Grace is how long after its end a figure waits for requests under way.
	Grace time.Duration
	// Count stops a figure after so many operations; 0 leaves it to Duration.
	Count int64
	// RatePerSecond asks for an open loop of so many operations a second over all
	// connections; 0 is a closed loop.
	RatePerSecond float64
	// Keys is how many different keys a PUT writes before it starts to overwrite
	// them, and how many a GET, HEAD or DELETE finds when no PUT went before it.
	// 0 means as many as DataLimitBytes allows for PUT, and for the others at
	// most 10,000.
	Keys int64
	// DataLimitBytes bounds what lies in the bucket at one time: when a PUT has
	// written so much it goes on over its first keys again.
	DataLimitBytes int64
	// Runs repeats everything, for benchstat.
	Runs int
	// Null measures the same load against the null server too.
	Null bool
	// NullCommand is the program and arguments that start a null server, see
	// [ServeNull].
	NullCommand []string
	// PIDs are the server's processes, whose use of processor, disk and memory is
	// reported. They must run on this machine.
	PIDs []int
	// Verify compares every byte read with what was written.
	Verify bool
	// Keep leaves the objects in place. Listing buckets that were kept are used
	// again by a later run.
	Keep bool
	// AllowRemote permits endpoints that are not this machine.
	AllowRemote bool
	// Insecure accepts any TLS certificate.
	Insecure bool
	// MaxErrors ends a figure early when so many operations have failed.
	MaxErrors int64
	// Note is repeated in the report: the state of the caches, the disks.
	Note string
	// Progress is told, in a line of text, what happens; nil is nobody.
	Progress func(line string)
}

// Default returns a configuration that lacks only keys and figures.
func Default() Config {
	return Config{
		Endpoints:      []string{"http://127.0.0.1:9000"},
		Region:         "us-east-1",
		Bucket:         "ringfort-bench",
		Duration:       10 * time.Second,
		Warmup:         2 * time.Second,
		Grace:          30 * time.Second,
		DataLimitBytes: 8 << 30,
		Runs:           1,
		MaxErrors:      100,
	}
}

// Validate reports the first thing that is wrong with c. It resolves the names of
// the endpoints.
func (c *Config) Validate(ctx context.Context) error {
	const op = "bench"
	bad := func(what string, args ...any) error { return errs.New(op, errs.Invalid, what, args...) }
	switch {
	case len(c.Endpoints) == 0:
		return bad("no endpoint is given")
	case c.AccessKey == "" || c.SecretKey == "":
		return bad("no keys are given: set RINGFORT_ACCESS_KEY and RINGFORT_SECRET_KEY")
	case c.Bucket == "":
		return bad("no bucket is given")
	case len(c.Figures) == 0:
		return bad("nothing to measure: give --op or --suite")
	case c.Duration <= 0 || c.Duration > maxDuration || c.Warmup < 0 || c.Warmup > maxDuration:
		return bad("a figure's time must be above 0 and at most %v", maxDuration)
	case c.Grace <= 0 || c.Grace > maxDuration:
		return bad("the grace period must be above 0 and at most %v", maxDuration)
	case c.Count < 0 || c.Keys < 0 || c.RatePerSecond < 0 || c.MaxErrors < 0:
		return bad("a count, number of keys, rate or number of errors is negative")
	case c.RatePerSecond > 1e7:
		return bad("a rate above 10,000,000 a second cannot be kept")
	case c.DataLimitBytes <= 0:
		return bad("the data limit must be above 0")
	case c.Runs < 1 || c.Runs > maxRuns:
		return bad("runs must be between 1 and %d", maxRuns)
	case c.Null && len(c.NullCommand) == 0:
		return bad("no command for the null server is given")
	}
	for _, f := range c.Figures {
		if err := f.validate(); err != nil {
			return err
		}
	}
	for _, e := range c.Endpoints {
		if err := c.validateEndpoint(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) validateEndpoint(ctx context.Context, endpoint string) error {
	const op = "bench"
	u, err := url.Parse(endpoint)
	if err != nil {
		return errs.Wrap(op, errs.Invalid, err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || (u.Path != "" && u.Path != "/") {
		return errs.New(op, errs.Invalid, "endpoint %q is not of the form http://host:port", endpoint)
	}
	if c.AllowRemote {
		return nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return errs.Wrap(op, errs.Invalid, err)
	}
	if !allLoopback(addrs) {
		return errs.New(op, errs.Invalid,
			"%s is not this machine: load goes to others only with --allow-remote", endpoint)
	}
	return nil
}

func allLoopback(addrs []netip.Addr) bool {
	for _, a := range addrs {
		if !a.Unmap().IsLoopback() {
			return false
		}
	}
	return len(addrs) > 0
}

func (c *Config) progress(line string) {
	if c.Progress != nil {
		c.Progress(line)
	}
}
