package benchtool

import (
	"fmt"
	"strconv"
	"strings"

	"ringfort/internal/errs"
)

// Op is what a worker does over and over.
type Op string

// The operations.
const (
	Put    Op = "PUT"
	Get    Op = "GET"
	Head   Op = "HEAD"
	Delete Op = "DELETE"
	// List asks for a page of 1,000 keys at a random place through the client,
	// which parses the XML.
	List Op = "LIST"
	// Scan asks for the same page and only counts its keys: what the server can
	// do when the client is not in the way.
	Scan Op = "SCAN"
)

// ParseOp reads an operation's name in upper or lower case.
func ParseOp(s string) (Op, error) {
	switch op := Op(strings.ToUpper(s)); op {
	case Put, Get, Head, Delete, List, Scan:
		return op, nil
	}
	return "", errs.New("bench", errs.Invalid, "no operation %q: there are put, get, head, delete, list and scan", s)
}

// Figure is one row of a report.
type Figure struct {
	Op Op `json:"op"`
	// SizeBytes is the length of each object.
	SizeBytes int64 `json:"size_bytes"`
	// Concurrency is the number of connections, each with one request under way.
	Concurrency int `json:"concurrency"`
	// ListTotal is how many keys the bucket holds that a listing is a page of.
	ListTotal int64 `json:"list_total,omitempty"`
}

// listing reports whether f measures listings.
func (f Figure) listing() bool { return f.Op == List || f.Op == Scan }

// carriesBytes reports whether an operation of f moves SizeBytes.
func (f Figure) carriesBytes() bool { return f.Op == Put || f.Op == Get }

// String names the figure as in the table: "PUT 4KiB", "LIST 1000/10000".
func (f Figure) String() string {
	if f.listing() {
		return fmt.Sprintf("%s %d/%d", f.Op, listPageKeys, f.ListTotal)
	}
	return string(f.Op) + " " + FormatSize(f.SizeBytes)
}

// benchName names the figure as the Go benchmark format wants it.
func (f Figure) benchName() string {
	if f.listing() {
		return fmt.Sprintf("%s/page=%d/of=%d/conns=%d", f.Op, listPageKeys, f.ListTotal, f.Concurrency)
	}
	return fmt.Sprintf("%s/size=%s/conns=%d", f.Op, FormatSize(f.SizeBytes), f.Concurrency)
}

func (f Figure) validate() error {
	bad := func(what string, args ...any) error {
		return errs.New("bench", errs.Invalid, "%s: %s", f.String(), fmt.Sprintf(what, args...))
	}
	switch {
	case f.Concurrency < 1 || f.Concurrency > maxConcurrency:
		return bad("between 1 and %d connections are possible", maxConcurrency)
	case f.SizeBytes < 0 || f.SizeBytes > maxObjectBytes:
		return bad("an object's size is between 0 and %s", FormatSize(maxObjectBytes))
	case f.listing() && f.ListTotal < listPageKeys:
		return bad("a page needs at least %d keys to be taken from", listPageKeys)
	}
	return nil
}

// Suite returns the figures of a named table. "node" is the full table for one
// node, "cluster" the shorter one for several processes, "quick" the node's
// without the million keys.
func Suite(name string) ([]Figure, error) {
	const kib4, mib1, mib64 = 4 << 10, 1 << 20, 64 << 20
	small := []Figure{{Put, kib4, 32, 0}, {Get, kib4, 32, 0}, {Head, kib4, 32, 0}, {Delete, kib4, 32, 0}}
	large := []Figure{{Put, mib1, 16, 0}, {Get, mib1, 16, 0}, {Put, mib64, 4, 0}, {Get, mib64, 4, 0}}
	list10k := []Figure{{List, 0, 8, 10_000}, {Scan, 0, 8, 10_000}}
	list1m := []Figure{{List, 0, 8, 1_000_000}, {Scan, 0, 8, 1_000_000}}
	var all []Figure
	switch name {
	case "node":
		all = append(append(append(append(all, small...), large...), list10k...), list1m...)
	case "quick":
		all = append(append(append(all, small...), large...), list10k...)
	case "cluster":
		all = []Figure{{Put, kib4, 32, 0}, {Get, kib4, 32, 0}, {Put, mib1, 16, 0}, {Get, mib1, 16, 0}}
	default:
		return nil, errs.New("bench", errs.Invalid, "no suite %q: there are node, cluster and quick", name)
	}
	return all, nil
}

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9},
	{"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"B", 1}, {"", 1},
}

// ParseSize reads a number of bytes such as "4096", "4KiB", "4k" or "1MB".
func ParseSize(s string) (int64, error) {
	for _, u := range sizeUnits {
		if len(s) < len(u.suffix) || !strings.EqualFold(s[len(s)-len(u.suffix):], u.suffix) {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(s[:len(s)-len(u.suffix)]), 10, 64)
		if err != nil || n < 0 || n > (1<<62)/u.bytes {
			break
		}
		return n * u.bytes, nil
	}
	return 0, errs.New("bench", errs.Invalid, "%q is not a size such as 4096, 4KiB or 64MiB", s)
}

// FormatSize writes n in the largest unit that divides it.
func FormatSize(n int64) string {
	for _, u := range []struct {
		suffix string
		bytes  int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.bytes && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.suffix
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}
