package benchtool

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"

	"ringfort/internal/errs"
)

const (
	// setupWorkers write and delete what figures need besides what they measure.
	setupWorkers = 16
	// defaultKeys is how many objects are written for a GET, HEAD or DELETE that
	// no PUT went before.
	defaultKeys = 10_000
	// listedBytes is the size of the objects in a listing's bucket.
	listedBytes = 16
	// cleanupTimeout bounds the deleting after an interrupted run.
	cleanupTimeout = 2 * time.Minute
	// progressEvery is how many objects are written between two lines of progress.
	progressEvery = 100_000
)

// run is a benchmark under way.
type run struct {
	cfg    *Config
	name   string // the prefix of this run's keys
	src    *source
	server *target
	null   *target
	spaces map[int64]*keyspace // of objects, by size
	lists  map[int64]*keyspace // of listings, by their number of keys
	made   []string            // buckets this run made
}

// Run measures everything that cfg asks for. It returns what it has got together
// with an error when it could not finish; failed operations alone are no error
// here, see [Report.Failed]. On return the objects are deleted, unless cfg.Keep
// is set, and the null server has ended.
func Run(ctx context.Context, cfg Config) (report *Report, err error) {
	if err := cfg.Validate(ctx); err != nil {
		return nil, err
	}
	now := time.Now()
	r := &run{
		cfg:    &cfg,
		name:   "bench-" + strconv.FormatInt(now.UnixNano(), 36),
		src:    newSource(uint64(now.UnixNano())),
		spaces: make(map[int64]*keyspace),
		lists:  make(map[int64]*keyspace),
	}
	if r.server, err = newTarget(&cfg, "server", cfg.Endpoints, cfg.PIDs); err != nil {
		return nil, err
	}
	defer r.server.transport.CloseIdleConnections()
	if cfg.Null {
		p, err := startNull(cfg.NullCommand)
		if err != nil {
			return nil, err
		}
		defer p.stop()
		if r.null, err = newTarget(&cfg, nullName, []string{p.url}, []int{p.cmd.Process.Pid}); err != nil {
			return nil, err
		}
		defer r.null.transport.CloseIdleConnections()
	}
	report = newReport(&cfg, now)
	defer func() {
		if cleanErr := r.cleanup(ctx); err == nil {
			err = cleanErr
		}
	}()
	if err := r.makeBucket(ctx, cfg.Bucket); err != nil {
		return report, err
	}
	for n := range cfg.Runs {
		for i, f := range cfg.Figures {
			res, err := r.figure(ctx, f)
			if err != nil {
				return report, err
			}
			res.Run = n + 1
			report.Results = append(report.Results, *res)
			if !r.usedLater(f, cfg.Figures[i+1:]) {
				if err := r.discard(ctx, f); err != nil {
					return report, err
				}
			}
		}
	}
	report.Seconds = time.Since(now).Seconds()
	return report, nil
}

// figure measures f on the null server and on the server, one right after the
// other, so that both see the machine in the same mood.
func (r *run) figure(ctx context.Context, f Figure) (*Result, error) {
	keys, err := r.prepare(ctx, f)
	if err != nil {
		return nil, err
	}
	res := &Result{Figure: f, Name: f.String()}
	if r.null != nil {
		r.cfg.progress(f.String() + ": null server")
		if res.Null, err = r.null.measure(ctx, f, keys.mirror(), r.src); err != nil {
			return nil, err
		}
	}
	r.cfg.progress(f.String() + ": server")
	puts := keys.puts.Load()
	if res.Server, err = r.server.measure(ctx, f, keys, r.src); err != nil {
		return nil, err
	}
	res.Overwrote = f.Op == Put && max(puts, keys.limit) < keys.puts.Load()
	if res.Null != nil && res.Null.OpsPerSecond > 0 {
		res.Share = res.Server.OpsPerSecond / res.Null.OpsPerSecond
	}
	return res, nil
}

// prepare sees to it that the keys that f needs are there.
func (r *run) prepare(ctx context.Context, f Figure) (*keyspace, error) {
	if f.listing() {
		return r.prepareListing(ctx, f.ListTotal)
	}
	keys := r.spaces[f.SizeBytes]
	if keys == nil {
		limit := r.cfg.DataLimitBytes / max(f.SizeBytes, 1)
		if r.cfg.Keys > 0 {
			limit = min(limit, r.cfg.Keys)
		}
		keys = newKeyspace(r.cfg.Bucket, r.name, f.SizeBytes, limit)
		r.spaces[f.SizeBytes] = keys
	}
	if f.Op == Put {
		// After a DELETE the numbering starts afresh: going on would lose track of
		// which keys are there once the numbers wrap around.
		if keys.gone.Load() > 0 && !r.cfg.Keep {
			return keys, r.deleteAll(ctx, keys)
		}
		return keys, nil
	}
	if keys.left() == 0 {
		keys.forget()
		n := min(keys.limit, defaultKeys)
		if r.cfg.Keys > 0 {
			n = min(keys.limit, r.cfg.Keys)
		}
		r.cfg.progress(fmt.Sprintf("%s: writing %d objects", f, n))
		if err := r.fill(ctx, keys, n); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// completeMark is the key that says that a listing bucket has been filled. It
// stands outside the prefix that is listed.
func completeMark(total int64) string { return "complete-" + strconv.FormatInt(total, 10) }

// prepareListing fills a bucket with total keys, unless an earlier run left it.
func (r *run) prepareListing(ctx context.Context, total int64) (*keyspace, error) {
	if keys := r.lists[total]; keys != nil {
		return keys, nil
	}
	bucket := fmt.Sprintf("%s-list-%d", r.cfg.Bucket, total)
	keys := newKeyspace(bucket, "list", listedBytes, total)
	core := r.server.cores[0]
	if err := r.makeBucket(ctx, bucket); err != nil {
		return nil, err
	}
	if _, err := core.StatObject(ctx, bucket, completeMark(total), minio.StatObjectOptions{}); err == nil {
		r.cfg.progress(fmt.Sprintf("listing: bucket %s is full already", bucket))
		keys.puts.Store(total)
		r.lists[total] = keys
		return keys, nil
	}
	r.cfg.progress(fmt.Sprintf("listing: writing %d keys to %s", total, bucket))
	r.lists[total] = keys // from here on there is something to clean up
	if err := r.fill(ctx, keys, total); err != nil {
		return nil, err
	}
	_, err := core.PutObject(ctx, bucket, completeMark(total), strings.NewReader(""), 0, "", "", minio.PutObjectOptions{})
	if err != nil {
		return nil, errs.Wrap("bench: "+bucket, errs.Other, err)
	}
	return keys, nil
}

// fill writes the keys up to number n. The first failure ends it.
func (r *run) fill(ctx context.Context, keys *keyspace, n int64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f := Figure{Op: Put, SizeBytes: keys.size, Concurrency: setupWorkers}
	var wg sync.WaitGroup
	for i := range setupWorkers {
		w := r.server.newWorker(i, f, keys, r.src)
		wg.Go(func() {
			for ctx.Err() == nil {
				i := keys.puts.Add(1) - 1
				if i >= n {
					keys.puts.Add(-1)
					return
				}
				if _, err := w.put(ctx, i); err != nil {
					cancel(errs.Wrap("bench: writing objects", errs.Other, err))
				}
				if (i+1)%progressEvery == 0 {
					r.cfg.progress(fmt.Sprintf("  %d of %d", i+1, n))
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// makeBucket makes a bucket if it is not there, and remembers that it did.
func (r *run) makeBucket(ctx context.Context, bucket string) error {
	core := r.server.cores[0]
	there, err := core.BucketExists(ctx, bucket)
	if err == nil && !there {
		err = core.MakeBucket(ctx, bucket, minio.MakeBucketOptions{Region: r.cfg.Region})
		if err == nil {
			r.made = append(r.made, bucket)
		}
	}
	return errs.Wrap("bench: bucket "+bucket, errs.Other, err)
}

// usedLater reports whether one of the figures to come works on f's objects. So
// the small objects are gone from the disks before the large ones come.
func (r *run) usedLater(f Figure, rest []Figure) bool {
	for _, g := range rest {
		if f.listing() && g.listing() && f.ListTotal == g.ListTotal {
			return true
		}
		if !f.listing() && !g.listing() && f.SizeBytes == g.SizeBytes {
			return true
		}
	}
	return false
}

// discard deletes f's objects. Those of listings stay to the end of the last run:
// they are dear to make.
func (r *run) discard(ctx context.Context, f Figure) error {
	if f.listing() || r.cfg.Keep {
		return nil
	}
	return r.deleteAll(ctx, r.spaces[f.SizeBytes])
}

// cleanup deletes what is left. It does so too when ctx has been cancelled, within
// a time limit.
func (r *run) cleanup(ctx context.Context) error {
	if r.cfg.Keep {
		return nil
	}
	if ctx.Err() != nil {
		r.cfg.progress("interrupted: deleting what was written")
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
	}
	for _, keys := range r.spaces {
		if err := r.deleteAll(ctx, keys); err != nil {
			return err
		}
	}
	core := r.server.cores[0]
	for total, keys := range r.lists {
		if err := core.RemoveObject(ctx, keys.bucket, completeMark(total), minio.RemoveObjectOptions{}); err != nil {
			return errs.Wrap("bench: cleaning up", errs.Other, err)
		}
		if err := r.deleteAll(ctx, keys); err != nil {
			return err
		}
	}
	for _, bucket := range r.made {
		if err := core.RemoveBucket(ctx, bucket); err != nil {
			return errs.Wrap("bench: removing bucket "+bucket, errs.Other, err)
		}
	}
	return nil
}

// deleteAll deletes all of keys, by the thousand.
func (r *run) deleteAll(ctx context.Context, keys *keyspace) error {
	if keys == nil {
		return nil
	}
	low, high := keys.gone.Load(), keys.written()
	if keys.strays.Load() {
		low = 0
	}
	if low >= high {
		keys.forget()
		return nil
	}
	r.cfg.progress(fmt.Sprintf("deleting %d objects", high-low))
	const batch = 1000
	next := atomic.Int64{}
	next.Store(low)
	var wg sync.WaitGroup
	failures := make([]error, setupWorkers)
	for i := range setupWorkers {
		core := r.server.cores[i%len(r.server.cores)]
		wg.Go(func() {
			for {
				from := next.Add(batch) - batch
				if from >= high || failures[i] != nil {
					return
				}
				failures[i] = removeBatch(ctx, core, keys, from, min(from+batch, high))
			}
		})
	}
	wg.Wait()
	for _, err := range failures {
		if err != nil {
			return errs.Wrap("bench: deleting objects", errs.Other, err)
		}
	}
	keys.forget()
	return nil
}

// removeBatch deletes the keys from number low up to, not including, high.
func removeBatch(ctx context.Context, core *minio.Core, keys *keyspace, low, high int64) error {
	objects := make(chan minio.ObjectInfo, high-low)
	for i := low; i < high; i++ {
		objects <- minio.ObjectInfo{Key: keys.key(i)}
	}
	close(objects)
	var first error
	for e := range core.RemoveObjects(ctx, keys.bucket, objects, minio.RemoveObjectsOptions{}) {
		if first == nil {
			first = e.Err
		}
	}
	return first
}
