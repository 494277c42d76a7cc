package benchtool

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/signer"

	"ringfort/internal/errs"
)

const (
	readBufferBytes = 256 << 10
	// maxPageBytes bounds what a listing may send.
	maxPageBytes = 64 << 20
	// emptySHA256 is the digest of no bytes.
	emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// target is a server, or several of one cluster, with a client for each.
type target struct {
	name      string // "server" or "null"
	cores     []*minio.Core
	urls      []*url.URL
	transport *http.Transport
	cfg       *Config
	pids      []int
	null      bool
}

// newTarget makes clients for endpoints, with enough connections for the most
// concurrent figure.
func newTarget(cfg *Config, name string, endpoints []string, pids []int) (*target, error) {
	conns := 1
	for _, f := range cfg.Figures {
		conns = max(conns, f.Concurrency)
	}
	t := &target{name: name, cfg: cfg, pids: pids, null: name == nullName}
	for _, e := range endpoints {
		u, err := url.Parse(e)
		if err != nil {
			return nil, errs.Wrap("bench", errs.Invalid, err)
		}
		if t.transport == nil {
			if t.transport, err = newTransport(cfg, u.Scheme == "https", max(conns, setupWorkers)); err != nil {
				return nil, err
			}
		}
		core, err := minio.NewCore(u.Host, &minio.Options{
			Creds:        credentials.NewStaticV4(cfg.AccessKey, cfg.SecretKey, ""),
			Secure:       u.Scheme == "https",
			Region:       cfg.Region,
			Transport:    t.transport,
			BucketLookup: minio.BucketLookupPath,
			MaxRetries:   1, // a failure is to be seen, not repaired
		})
		if err != nil {
			return nil, errs.Wrap("bench", errs.Invalid, err)
		}
		t.urls, t.cores = append(t.urls, u), append(t.cores, core)
	}
	return t, nil
}

func newTransport(cfg *Config, secure bool, conns int) (*http.Transport, error) {
	// With https and http endpoints mixed one transport serves both.
	tr, err := minio.DefaultTransport(secure)
	if err != nil {
		return nil, errs.Wrap("bench", errs.Invalid, err)
	}
	tr.MaxIdleConns, tr.MaxIdleConnsPerHost = 0, conns
	if !cfg.AllowRemote {
		tr.Proxy = nil
	}
	if cfg.Insecure {
		tr.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}
	}
	return tr, nil
}

// worker is one connection's client. Its methods are not for concurrent use.
type worker struct {
	t     *target
	core  *minio.Core
	url   *url.URL
	rng   *rand.Rand
	keys  *keyspace
	fig   Figure
	body  bodyReader
	buf   []byte
	hist  histogram
	ops   int64
	bytes int64
	rows  int64
	errs  errorCount
}

func (t *target) newWorker(i int, f Figure, keys *keyspace, src *source) *worker {
	w := &worker{
		t:    t,
		core: t.cores[i%len(t.cores)],
		url:  t.urls[i%len(t.urls)],
		rng:  rand.New(rand.NewPCG(uint64(i), 0x52696e67)),
		keys: keys,
		fig:  f,
		body: bodyReader{src: src},
	}
	if f.Op == Get || f.Op == Scan {
		w.buf = make([]byte, readBufferBytes)
	}
	return w
}

// outcome is what one successful operation moved.
type outcome struct{ bytes, rows int64 }

// errExhausted says that no key is left to work on: the figure ends there.
var errExhausted = errs.New("bench", errs.NotFound, "no key is left")

// do performs one operation of the worker's figure.
func (w *worker) do(ctx context.Context) (outcome, error) {
	switch w.fig.Op {
	case Put:
		return w.put(ctx, w.keys.nextPut())
	case Get:
		i, ok := w.keys.pick(w.rng)
		if !ok {
			return outcome{}, errExhausted
		}
		return w.get(ctx, i)
	case Head:
		i, ok := w.keys.pick(w.rng)
		if !ok {
			return outcome{}, errExhausted
		}
		info, err := w.core.StatObject(ctx, w.keys.bucket, w.keys.key(i), minio.StatObjectOptions{})
		if err == nil && info.Size != w.keys.size {
			err = errs.New("bench", errs.Corrupt, "HEAD says %d bytes, %d were written", info.Size, w.keys.size)
		}
		return outcome{}, err
	case Delete:
		i, ok := w.keys.nextDelete()
		if !ok {
			return outcome{}, errExhausted
		}
		err := w.core.RemoveObject(ctx, w.keys.bucket, w.keys.key(i), minio.RemoveObjectOptions{})
		if err != nil {
			w.keys.strays.Store(true)
		}
		return outcome{}, err
	case List:
		return w.list()
	case Scan:
		return w.scan(ctx)
	}
	return outcome{}, errs.New("bench", errs.Invalid, "no operation %q", w.fig.Op)
}

func (w *worker) put(ctx context.Context, i int64) (outcome, error) {
	w.body.reset(i, w.keys.size)
	_, err := w.core.PutObject(ctx, w.keys.bucket, w.keys.key(i), &w.body, w.keys.size, "", "",
		minio.PutObjectOptions{ContentType: "application/octet-stream"})
	return outcome{bytes: w.keys.size}, err
}

func (w *worker) get(ctx context.Context, i int64) (outcome, error) {
	body, _, _, err := w.core.GetObject(ctx, w.keys.bucket, w.keys.key(i), minio.GetObjectOptions{})
	if err != nil {
		return outcome{}, err
	}
	defer body.Close()
	verify := w.t.cfg.Verify && !w.t.null
	check := bodyChecker{src: w.body.src, at: w.body.src.offset(i)}
	var total int64
	for {
		n, err := body.Read(w.buf)
		total += int64(n)
		if verify && n > 0 {
			if err := check.check(w.buf[:n]); err != nil {
				return outcome{}, err
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return outcome{}, err
		}
	}
	if total != w.keys.size {
		return outcome{}, errs.New("bench", errs.Corrupt, "GET gave %d bytes, %d were written", total, w.keys.size)
	}
	return outcome{bytes: total}, nil
}

// pageStart picks where a page begins: the key to start after ("" for the first
// page) and the first key expected.
func (w *worker) pageStart() (after, first string) {
	i := w.rng.Int64N(w.fig.ListTotal - listPageKeys + 1)
	if i > 0 {
		after = w.keys.key(i - 1)
	}
	return after, w.keys.key(i)
}

// list takes a page through the client. The client's call has no context; the
// transport's time limit for response headers bounds it.
func (w *worker) list() (outcome, error) {
	after, first := w.pageStart()
	page, err := w.core.ListObjectsV2(w.keys.bucket, w.keys.prefix, after, "", "", listPageKeys)
	if err != nil {
		return outcome{}, err
	}
	if len(page.Contents) != listPageKeys || (!w.t.null && page.Contents[0].Key != first) {
		return outcome{}, errs.New("bench", errs.Corrupt, "a page of %d keys came, %d were due from %s",
			len(page.Contents), listPageKeys, first)
	}
	return outcome{rows: listPageKeys}, nil
}

// scan takes the same page, signed by the same code, and counts its keys.
func (w *worker) scan(ctx context.Context) (outcome, error) {
	after, _ := w.pageStart()
	q := url.Values{
		"list-type": {"2"}, "max-keys": {"1000"}, "prefix": {w.keys.prefix},
		"encoding-type": {"url"}, "fetch-owner": {"true"}, "delimiter": {""},
	}
	if after != "" {
		q.Set("start-after", after)
	}
	u := *w.url
	u.Path, u.RawQuery = "/"+w.keys.bucket+"/", q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return outcome{}, err
	}
	req.Header.Set("X-Amz-Content-Sha256", emptySHA256)
	req = signer.SignV4(*req, w.t.cfg.AccessKey, w.t.cfg.SecretKey, "", w.t.cfg.Region)
	resp, err := w.t.transport.RoundTrip(req)
	if err != nil {
		return outcome{}, err
	}
	defer resp.Body.Close()
	rows, moved, err := w.countKeys(resp.Body)
	if err != nil {
		return outcome{}, err
	}
	if resp.StatusCode != http.StatusOK || rows != listPageKeys {
		return outcome{}, errs.New("bench", errs.Corrupt, "a page of %d keys came with status %d", rows, resp.StatusCode)
	}
	return outcome{rows: rows, bytes: moved}, nil
}

// countKeys reads a listing and counts the keys in it.
func (w *worker) countKeys(r io.Reader) (rows, moved int64, err error) {
	mark := []byte("<Key>")
	kept := 0 // the tail of the last piece, where a mark may have begun
	for {
		n, err := r.Read(w.buf[kept:])
		moved += int64(n)
		piece := w.buf[:kept+n]
		rows += int64(bytes.Count(piece, mark))
		kept = copy(w.buf, piece[max(0, len(piece)-len(mark)+1):])
		if err == io.EOF {
			return rows, moved, nil
		}
		if err != nil {
			return rows, moved, err
		}
		if moved > maxPageBytes {
			return rows, moved, errs.New("bench", errs.TooLarge, "a page is longer than %s", FormatSize(maxPageBytes))
		}
	}
}

// maxErrorTexts bounds how many different failures a report tells.
const maxErrorTexts = 8

// errorCount counts failures by their text.
type errorCount struct {
	total  int64
	byText map[string]int64
}

// add counts err.
func (e *errorCount) add(err error) { e.addText(describe(err), 1) }

func (e *errorCount) addText(text string, n int64) {
	e.total += n
	if e.byText == nil {
		e.byText = make(map[string]int64)
	}
	if _, known := e.byText[text]; !known && len(e.byText) >= maxErrorTexts {
		text = "other failures"
	}
	e.byText[text] += n
}

func (e *errorCount) merge(other *errorCount) {
	for text, n := range other.byText {
		e.addText(text, n)
	}
}

// describe gives err a text that does not differ from one request to the next.
func describe(err error) string {
	if r := minio.ToErrorResponse(err); r.Code != "" && r.StatusCode != 0 {
		return r.Code + " (status " + http.StatusText(r.StatusCode) + "): " + cut(r.Message)
	}
	// The client puts the request's URL in front of a failed connection's error.
	if u, ok := err.(*url.Error); ok {
		return u.Op + ": " + cut(u.Err.Error())
	}
	return cut(err.Error())
}

func cut(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ReplaceAll(s, "\n", " ")
}

// pause waits a little after a failure, so that a server that refuses
// connections is not met with a storm of them.
func pause(ctx context.Context) {
	const wait = 10 * time.Millisecond
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
