package benchtool

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// reportVersion is raised when a field of [Report] changes its meaning.
const reportVersion = 1

// busyShare is the share of the machine that others may use before a report
// remarks on it.
const busyShare = 0.15

// Report is what a run came to. Its JSON form is for machines to read.
type Report struct {
	Version   int       `json:"version"`
	Started   time.Time `json:"started"`
	Seconds   float64   `json:"seconds"`
	Endpoints []string  `json:"endpoints"`
	Host      Host      `json:"host"`
	Note      string    `json:"note,omitempty"`
	// WarmupSeconds and FigureSeconds are what was asked for.
	WarmupSeconds float64  `json:"warmup_seconds"`
	FigureSeconds float64  `json:"figure_seconds"`
	RatePerSecond float64  `json:"rate_per_second,omitempty"`
	Results       []Result `json:"results"`
}

// Host is the machine that the load came from.
type Host struct {
	OS   string `json:"os"`
	Arch string `json:"arch"`
	CPU  string `json:"cpu,omitempty"`
	CPUs int    `json:"cpus"`
	Go   string `json:"go"`
}

// Result is one figure.
type Result struct {
	Figure
	Name   string       `json:"name"`
	Run    int          `json:"run"`
	Server *Measurement `json:"server"`
	// Null is the same load on the null server, and Share the server's operations
	// per second as a share of the null server's.
	Null  *Measurement `json:"null,omitempty"`
	Share float64      `json:"share_of_null,omitempty"`
	// Overwrote says that a PUT came to the limit of data and went over its keys
	// again.
	Overwrote bool `json:"overwrote,omitempty"`
}

func newReport(cfg *Config, now time.Time) *Report {
	return &Report{
		Version:       reportVersion,
		Started:       now.UTC(),
		Endpoints:     cfg.Endpoints,
		Host:          thisHost(),
		Note:          cfg.Note,
		WarmupSeconds: cfg.Warmup.Seconds(),
		FigureSeconds: cfg.Duration.Seconds(),
		RatePerSecond: cfg.RatePerSecond,
	}
}

func thisHost() Host {
	h := Host{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), Go: runtime.Version()}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				h.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	return h
}

// Failed returns how many operations failed on the server or the null server.
func (r *Report) Failed() int64 {
	var n int64
	for _, res := range r.Results {
		n += res.Server.Errors
		if res.Null != nil {
			n += res.Null.Errors
		}
	}
	return n
}

// WriteJSON writes the report as indented JSON.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteText writes the report as a table for people.
func (r *Report) WriteText(w io.Writer) error {
	fmt.Fprintf(w, "endpoint %s, %d CPUs (%s), %s a figure after %s of warm-up",
		strings.Join(r.Endpoints, " "), r.Host.CPUs, orUnknown(r.Host.CPU),
		seconds(r.FigureSeconds), seconds(r.WarmupSeconds))
	if r.RatePerSecond > 0 {
		fmt.Fprintf(w, ", open loop at %g a second", r.RatePerSecond)
	}
	if r.Note != "" {
		fmt.Fprintf(w, ", %s", r.Note)
	}
	fmt.Fprintln(w)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "figure\tconns\tops/s\tMB/s\tkeys/s\tp50\tp99\tmax\tnull ops/s\tshare\tCPU/op\tCPU s/GiB\twritten/stored\terrors\t")
	width := 0
	for i := range r.Results {
		width = max(width, len(r.Results[i].Name))
	}
	for i := range r.Results {
		r.Results[i].writeRow(tw, width)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	r.writeRemarks(w)
	r.writeMemory(w)
	return nil
}

// writeRow writes one row; names are padded to width, for the table aligns all
// columns to the right.
func (res *Result) writeRow(w io.Writer, width int) {
	m := res.Server
	cells := []string{
		fmt.Sprintf("%-*s", width, res.Name), fmt.Sprint(res.Concurrency), number(m.OpsPerSecond), "-", "-",
		short(m.P50), short(m.P99), short(m.Max), "-", "-", "-", "-", "-", fmt.Sprint(m.Errors),
	}
	if res.carriesBytes() {
		cells[3] = number(m.BytesPerSecond / 1e6)
		if v := m.CPUSecondsPerGiB(); v >= 0 {
			cells[11] = number(v)
		}
	}
	if res.listing() {
		cells[4] = number(m.KeysPerSecond)
	}
	if res.Null != nil {
		cells[8], cells[9] = number(res.Null.OpsPerSecond), fmt.Sprintf("%.3f", res.Share)
	}
	if v := m.CPUSecondsPerOp(); v >= 0 {
		cells[10] = short(time.Duration(v * float64(time.Second)))
	}
	if v := m.WrittenPerByte(); v >= 0 && res.Op == Put {
		cells[12] = fmt.Sprintf("%.2f", v)
	}
	fmt.Fprintln(w, strings.Join(cells, "\t")+"\t")
}

// writeRemarks tells what the table has no column for.
func (r *Report) writeRemarks(w io.Writer) {
	for _, res := range r.Results {
		for text, n := range res.Server.Failures {
			fmt.Fprintf(w, "%s: %d × %s\n", res.Name, n, text)
		}
		if res.Null != nil {
			for text, n := range res.Null.Failures {
				fmt.Fprintf(w, "%s, null server: %d × %s\n", res.Name, n, text)
			}
		}
		for name, m := range map[string]*Measurement{"": res.Server, ", null server": res.Null} {
			if m == nil {
				continue
			}
			if others := m.OtherCPUSeconds / m.Seconds; others > busyShare*float64(r.Host.CPUs) {
				fmt.Fprintf(w, "%s%s: other processes used %s of %d CPUs meanwhile\n",
					res.Name, name, number(others), r.Host.CPUs)
			}
		}
		if res.Overwrote {
			fmt.Fprintf(w, "%s: reached the limit of data and went on over its first keys\n", res.Name)
		}
		if res.Server.Missed > 0 {
			fmt.Fprintf(w, "%s: %d operations were due and did not begin in time\n", res.Name, res.Server.Missed)
		}
	}
}

// writeMemory tells what memory the server's processes hold at the end.
func (r *Report) writeMemory(w io.Writer) {
	if len(r.Results) == 0 {
		return
	}
	for _, u := range r.Results[len(r.Results)-1].Server.Processes {
		fmt.Fprintf(w, "process %d: %s MiB resident at the end, %s MiB at its peak\n", u.PID,
			number(float64(u.ResidentBytes)/(1<<20)), number(float64(u.PeakResidentBytes)/(1<<20)))
	}
}

// WriteBench writes the report in the Go benchmark format, for benchstat. The null
// server's figures stand beside the server's under their own value of "target".
func (r *Report) WriteBench(w io.Writer) error {
	fmt.Fprintf(w, "goos: %s\ngoarch: %s\npkg: ringfort/bench\n", r.Host.OS, r.Host.Arch)
	if r.Host.CPU != "" {
		fmt.Fprintf(w, "cpu: %s\n", r.Host.CPU)
	}
	for _, unit := range []string{"ops/s", "MB/s", "keys/s", "share"} {
		fmt.Fprintf(w, "Unit %s better=higher\n", unit)
	}
	for _, t := range []string{"server", nullName} {
		said := false
		for i := range r.Results {
			res := &r.Results[i]
			m := res.Server
			if t == nullName {
				m = res.Null
			}
			if m == nil || m.Ops == 0 {
				continue
			}
			if !said {
				fmt.Fprintf(w, "target: %s\n", t)
				said = true
			}
			if _, err := fmt.Fprintln(w, res.benchLine(m, r.Host.CPUs)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (res *Result) benchLine(m *Measurement, cpus int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Benchmark%s-%d %d", res.benchName(), cpus, m.Ops)
	add := func(v float64, unit string) { fmt.Fprintf(&b, " %.6g %s", v, unit) }
	add(m.Seconds*1e9/float64(m.Ops), "ns/op")
	add(m.OpsPerSecond, "ops/s")
	if res.carriesBytes() {
		add(m.BytesPerSecond/1e6, "MB/s")
	}
	if res.listing() {
		add(m.KeysPerSecond, "keys/s")
	}
	add(float64(m.P50), "p50-ns")
	add(float64(m.P99), "p99-ns")
	if m == res.Server && res.Share > 0 {
		add(res.Share, "share")
	}
	if v := m.CPUSecondsPerOp(); v >= 0 {
		add(v*1e9, "cpu-ns/op")
	}
	if v := m.CPUSecondsPerGiB(); v >= 0 && res.carriesBytes() {
		add(v, "cpu-s/GiB")
	}
	if v := m.WrittenPerByte(); v >= 0 && res.Op == Put {
		add(v, "written-B/stored-B")
	}
	add(m.ClientCPUSeconds*1e9/float64(m.Ops), "client-cpu-ns/op")
	var resident float64
	for _, u := range m.Processes {
		resident += float64(u.ResidentBytes)
	}
	if resident > 0 {
		add(resident, "resident-B")
	}
	return b.String()
}

// number writes v with about three digits that mean something.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// short writes d with three digits.
func short(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}

func seconds(s float64) string { return time.Duration(s * float64(time.Second)).String() }

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
