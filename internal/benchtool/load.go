package benchtool

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Measurement is what one figure came to on one target.
type Measurement struct {
	Ops     int64   `json:"ops"`
	Errors  int64   `json:"errors"`
	Seconds float64 `json:"seconds"`
	// OpsPerSecond counts successful operations; BytesPerSecond is what they
	// moved of objects (listings: of XML, where it is known), KeysPerSecond the
	// rows of listings.
	OpsPerSecond   float64 `json:"ops_per_second"`
	BytesPerSecond float64 `json:"bytes_per_second"`
	KeysPerSecond  float64 `json:"keys_per_second,omitempty"`
	Bytes          int64   `json:"bytes"`
	// Missed is how many operations an open loop owed when its time was up.
	Missed int64 `json:"missed,omitempty"`
	// Latencies in nanoseconds. In an open loop they count from the time an
	// operation was due.
	Mean time.Duration `json:"mean_ns"`
	P50  time.Duration `json:"p50_ns"`
	P90  time.Duration `json:"p90_ns"`
	P99  time.Duration `json:"p99_ns"`
	P999 time.Duration `json:"p999_ns"`
	Max  time.Duration `json:"max_ns"`
	// Processes is what each process of the target used meanwhile, and
	// ClientCPUSeconds what the load generator itself used.
	Processes        []Usage `json:"processes,omitempty"`
	ClientCPUSeconds float64 `json:"client_cpu_seconds"`
	// OtherCPUSeconds is what the rest of the machine used of the processors
	// meanwhile, the kernel's own work for the network included; it is known only
	// when the target's processes are. A figure taken beside much other work says
	// little.
	OtherCPUSeconds float64 `json:"other_cpu_seconds,omitempty"`
	// Failures counts errors by their text.
	Failures map[string]int64 `json:"failures,omitempty"`
}

// CPUSecondsPerOp is the processor time of all the target's processes for one
// operation, or -1 if no process is known.
func (m *Measurement) CPUSecondsPerOp() float64 { return m.perProcess(Usage.cpu, float64(m.Ops)) }

// CPUSecondsPerGiB is the same for a gibibyte of objects.
func (m *Measurement) CPUSecondsPerGiB() float64 {
	return m.perProcess(Usage.cpu, float64(m.Bytes)/(1<<30))
}

// WrittenPerByte is how many bytes went to disks for each byte of objects, or -1.
// What a server puts off to write later is not in it.
func (m *Measurement) WrittenPerByte() float64 {
	return m.perProcess(Usage.written, float64(m.Bytes))
}

func (u Usage) cpu() float64     { return u.CPUSeconds }
func (u Usage) written() float64 { return float64(u.WrittenBytes) }

func (m *Measurement) perProcess(of func(Usage) float64, by float64) float64 {
	if len(m.Processes) == 0 || by == 0 {
		return -1
	}
	var sum float64
	for _, u := range m.Processes {
		v := of(u)
		if v < 0 {
			return -1
		}
		sum += v
	}
	return sum / by
}

// load is one figure under way on one target.
type load struct {
	t        *target
	workers  []*worker
	duration time.Duration
	count    int64
	interval time.Duration // between due times; 0 for a closed loop

	begun    atomic.Int64
	failed   atomic.Int64
	start    time.Time
	deadline time.Time
}

// measure puts figure f on t: the warm-up, then the figure itself.
func (t *target) measure(ctx context.Context, f Figure, keys *keyspace, src *source) (*Measurement, error) {
	// Connections that lay idle while another target was measured may be closed
	// by the server at any moment: fresh ones cost the warm-up, not a figure.
	t.transport.CloseIdleConnections()
	var early errorCount // failures of the warm-up are failures too
	if t.cfg.Warmup > 0 && f.Op != Delete {
		warm := t.newLoad(f, keys, src, t.cfg.Warmup)
		warm.run(ctx)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		early = warm.failures()
	}
	l := t.newLoad(f, keys, src, t.cfg.Duration)
	l.count = t.cfg.Count
	before, err := readUsages(t.pids)
	if err != nil {
		return nil, err
	}
	selfBefore := selfCPUSeconds()
	busyBefore, known := busySeconds()
	l.run(ctx)
	elapsed := time.Since(l.start)
	selfAfter := selfCPUSeconds()
	busyAfter, _ := busySeconds()
	after, err := readUsages(t.pids)
	if err != nil {
		return nil, err
	}
	m := l.result(elapsed, early)
	m.ClientCPUSeconds = selfAfter - selfBefore
	for i := range after {
		m.Processes = append(m.Processes, after[i].since(before[i]))
	}
	if known && len(m.Processes) > 0 {
		m.OtherCPUSeconds = busyAfter - busyBefore - m.ClientCPUSeconds
		for _, u := range m.Processes {
			m.OtherCPUSeconds -= u.CPUSeconds
		}
		m.OtherCPUSeconds = max(m.OtherCPUSeconds, 0)
	}
	return m, nil
}

func (t *target) newLoad(f Figure, keys *keyspace, src *source, d time.Duration) *load {
	l := &load{t: t, duration: d}
	if t.cfg.RatePerSecond > 0 {
		l.interval = time.Duration(float64(time.Second) / t.cfg.RatePerSecond)
	}
	for i := range f.Concurrency {
		l.workers = append(l.workers, t.newWorker(i, f, keys, src))
	}
	return l
}

// run lets the workers work and waits for them. When ctx ends, and a grace period
// after the deadline, requests under way are cut off.
func (l *load) run(ctx context.Context) {
	l.start = time.Now()
	l.deadline = l.start.Add(l.duration)
	ctx, cancel := context.WithDeadline(ctx, l.deadline.Add(l.t.cfg.Grace))
	defer cancel()
	var wg sync.WaitGroup
	for _, w := range l.workers {
		wg.Go(func() {
			if l.interval > 0 {
				l.openLoop(ctx, w)
			} else {
				l.closedLoop(ctx, w)
			}
		})
	}
	wg.Wait()
}

// next gives out the number of the next operation, from 0 up, and reports whether
// there is to be one.
func (l *load) next(ctx context.Context, now time.Time) (int64, bool) {
	if now.After(l.deadline) || ctx.Err() != nil {
		return 0, false
	}
	if l.t.cfg.MaxErrors > 0 && l.failed.Load() >= l.t.cfg.MaxErrors {
		return 0, false
	}
	n := l.begun.Add(1) - 1
	return n, n < l.count || l.count == 0
}

// closedLoop sends the next request when the last one is answered.
func (l *load) closedLoop(ctx context.Context, w *worker) {
	now := time.Now()
	for {
		if _, ok := l.next(ctx, now); !ok {
			return
		}
		began := now
		out, err := w.do(ctx)
		now = time.Now()
		if !l.note(w, out, err, now.Sub(began)) {
			return
		}
		if err != nil {
			pause(ctx)
			now = time.Now()
		}
	}
}

// openLoop sends requests when they are due, however the earlier ones fare, as
// long as a connection is free; one that waits for a connection is late, and its
// latency says so.
func (l *load) openLoop(ctx context.Context, w *worker) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		n, ok := l.next(ctx, time.Now())
		due := l.start.Add(time.Duration(n) * l.interval)
		if !ok || due.After(l.deadline) {
			return
		}
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
		}
		out, err := w.do(ctx)
		if !l.note(w, out, err, time.Since(due)) {
			return
		}
	}
}

// note counts an operation's outcome, and reports whether the worker goes on.
func (l *load) note(w *worker, out outcome, err error, took time.Duration) bool {
	if err == errExhausted {
		return false
	}
	if err != nil {
		l.failed.Add(1)
		w.errs.add(err)
		return true
	}
	w.ops++
	w.bytes += out.bytes
	w.rows += out.rows
	w.hist.record(took)
	return true
}

// failures merges the workers' failures.
func (l *load) failures() errorCount {
	var all errorCount
	for _, w := range l.workers {
		all.merge(&w.errs)
	}
	return all
}

// result merges what the workers counted, and the failures of the warm-up.
func (l *load) result(elapsed time.Duration, early errorCount) *Measurement {
	var h histogram
	failures := l.failures()
	failures.merge(&early)
	m := &Measurement{Seconds: elapsed.Seconds()}
	var rows int64
	for _, w := range l.workers {
		h.merge(&w.hist)
		m.Ops += w.ops
		m.Bytes += w.bytes
		rows += w.rows
	}
	m.Errors, m.Failures = failures.total, failures.byText
	m.OpsPerSecond = float64(m.Ops) / m.Seconds
	m.BytesPerSecond = float64(m.Bytes) / m.Seconds
	m.KeysPerSecond = float64(rows) / m.Seconds
	m.Mean, m.Max = h.mean(), h.max
	m.P50, m.P90, m.P99, m.P999 = h.quantile(0.5), h.quantile(0.9), h.quantile(0.99), h.quantile(0.999)
	if l.interval > 0 && l.count == 0 {
		owed := int64(l.duration/l.interval) + 1
		m.Missed = max(owed-m.Ops-m.Errors, 0)
	}
	return m
}

// selfCPUSeconds is this process's own processor time, 0 where it is not known.
func selfCPUSeconds() float64 {
	u, err := readUsage(os.Getpid())
	if err != nil {
		return 0
	}
	return u.CPUSeconds
}
