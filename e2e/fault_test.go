package e2e

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"ringfort/e2e/harness"
)

// TestKillOneOfFour kills a process while a tree is being sent to the others. The
// client must not notice, everything must read back and be listed, and again when
// the process is back.
func TestKillOneOfFour(t *testing.T) {
	t.Parallel()
	harness.NeedOwn(t)
	s := rig.Start(t, harness.Setup{Name: "4-processes", Nodes: 4, Dirs: 1})
	box, run := s3cmd(t, s)
	box.Setenv("PYTHONUNBUFFERED", "1")
	const bucket = "s3://kill-one"
	run("mb", bucket)
	tree := harness.TreeFor(t)
	files := harness.Files(t, tree)

	program := harness.Find(t, "s3cmd")
	sync := box.Start(program, "-c", box.Path(".s3cfg"), "sync", tree+"/", bucket+"/tree/")
	sync.WaitOutput("upload: ", files/4)
	victim := s.Nodes[2] // the client talks to the first
	victim.Kill(t)
	sync.Wait()

	equal(t, "keys listed with three processes", harness.Lines(run("ls", "-r", bucket), bucket), files)
	box.WriteFile("without/keep", "")
	run("sync", "--delete-removed", bucket+"/tree/", box.Path("without")+"/")
	harness.SameTree(t, tree, box.Path("without"))

	victim.Restart(t)
	equal(t, "keys listed with four processes", harness.Lines(run("ls", "-r", bucket), bucket), files)
	box.WriteFile("with/keep", "")
	run("sync", "--delete-removed", bucket+"/tree/", box.Path("with")+"/")
	harness.SameTree(t, tree, box.Path("with"))
}

// TestKillUnderLoad kills a single node again and again at random moments under
// load.
func TestKillUnderLoad(t *testing.T) {
	t.Parallel()
	for _, setup := range []harness.Setup{
		{Name: "1-directory", Nodes: 1, Dirs: 1},
		{Name: "4-directories", Nodes: 1, Dirs: 4},
	} {
		t.Run(setup.Name, func(t *testing.T) {
			t.Parallel()
			crash(t, setup, 4, func(s *harness.System) { s.Nodes[0].Kill(t) })
		})
	}
}

// TestPowerCut does the same and takes the power from the disks too, so that what
// was not synced is lost.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	for _, setup := range []harness.Setup{
		{Name: "1-disk", Nodes: 1, Dirs: 1, Disks: true},
		{Name: "4-disks", Nodes: 1, Dirs: 4, Disks: true},
	} {
		t.Run(setup.Name, func(t *testing.T) {
			t.Parallel()
			crash(t, setup, 3, func(s *harness.System) { s.CutPower(t) })
		})
	}
}

// crash runs a set-up under load and crashes it, so many rounds in the short form
// and 50 in the long one. After each start everything that was acknowledged is
// listed and reads back with the right MD5, and nothing acknowledged as deleted is
// there.
func crash(t *testing.T, setup harness.Setup, rounds int, how func(s *harness.System)) {
	t.Helper()
	harness.NeedOwn(t)
	if harness.Long() {
		rounds = 50
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	s := rig.Start(t, setup)
	l := newLedger(t, s, seed)
	for round := range rounds {
		l.loadUntil(t, func() { how(s) })
		s.Nodes[0].Restart(t)
		l.verify(t)
		if t.Failed() {
			t.Fatalf("seed %d, round %d", seed, round)
		}
	}
	t.Logf("%d crashes, %d operations acknowledged, 0 lost", rounds, l.acknowledged)
}

const (
	faultBucket  = "kill-under-load"
	faultWriters = 8
	// faultKeys is the number of keys of each writer: few enough that they are
	// overwritten and deleted often.
	faultKeys = 40
	// convergence is how long a listing may take to tell what became of an
	// operation that got no answer.
	convergence = 30 * time.Second
)

// fate is what is known of a key: the digest that was acknowledged last, or "" for
// a key that is not there.
type fate struct {
	md5 string
	// maybe holds what operations without an answer, begun after that, would have
	// made of it. One of them may take effect at any time until a later operation
	// is acknowledged: that is still one order of operations that explains all
	// answers.
	maybe []string
}

// ledger writes down what a server has acknowledged.
type ledger struct {
	client *minio.Core
	rng    *rand.Rand

	mu           sync.Mutex
	keys         map[string]fate
	acknowledged int
}

func newLedger(t *testing.T, s *harness.System, seed uint64) *ledger {
	t.Helper()
	u, err := url.Parse(s.S3())
	if err != nil {
		t.Fatal(err)
	}
	client, err := minio.NewCore(u.Host, &minio.Options{
		Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""), Region: "us-east-1", MaxRetries: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.MakeBucket(t.Context(), faultBucket, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	return &ledger{client: client, rng: rand.New(rand.NewPCG(seed, 1)), keys: make(map[string]fate)}
}

// loadUntil lets the writers work for a random while, and then for as long as it
// takes until crash has happened.
func (l *ledger) loadUntil(t *testing.T, crash func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for i := range faultWriters {
		rng := rand.New(rand.NewPCG(l.rng.Uint64(), uint64(i)))
		wg.Go(func() { l.write(ctx, i, rng) })
	}
	wait := time.NewTimer(time.Duration(50+l.rng.IntN(1500)) * time.Millisecond)
	<-wait.C
	crash()
	wg.Wait() // each ends at its first failure
}

// write puts and deletes until an operation fails. A key belongs to one writer, so
// its operations have an order.
func (l *ledger) write(ctx context.Context, writer int, rng *rand.Rand) {
	for {
		key := fmt.Sprintf("w%d/%03d", writer, rng.IntN(faultKeys))
		want := ""
		var err error
		if rng.IntN(6) == 0 {
			err = l.client.RemoveObject(ctx, faultBucket, key, minio.RemoveObjectOptions{})
		} else {
			body := randomBody(rng)
			sum := md5.Sum(body)
			want = hex.EncodeToString(sum[:])
			_, err = l.client.PutObject(ctx, faultBucket, key, bytes.NewReader(body), int64(len(body)), "", "", minio.PutObjectOptions{})
		}
		l.mu.Lock()
		f := l.keys[key]
		if err == nil {
			l.acknowledged++
			f = fate{md5: want}
		} else {
			f.maybe = append(f.maybe, want)
		}
		l.keys[key] = f
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// randomBody has a size from each of the ways that bytes are kept: none, in the
// record, in the log, and now and then in a file of its own.
func randomBody(rng *rand.Rand) []byte {
	sizes := [...]int{0, 1, 4096, 60_000, 70_000, 300_000}
	size := sizes[rng.IntN(len(sizes))]
	if rng.IntN(20) == 0 {
		size = 3 << 20
	}
	body := make([]byte, size)
	for i := 0; i < len(body); i += 509 {
		body[i] = byte(rng.Uint32())
	}
	return body
}

// verify compares the server with the ledger. What was acknowledged must be listed
// at once. An operation that got no answer may have happened or not, or may yet
// happen, as long as no later one has been acknowledged; but the listing must come
// to say what a read says.
func (l *ledger) verify(t *testing.T) {
	t.Helper()
	listed := l.list(t)
	open := make(map[string]string) // keys that the listing has yet to agree on
	for key, f := range l.keys {
		got := l.digest(t, key)
		if got != f.md5 && !slices.Contains(f.maybe, got) {
			t.Errorf("%s: reads back as %q, acknowledged was %q, possible %q", key, got, f.md5, f.maybe)
		}
		switch {
		case listed[key] == got:
		case len(f.maybe) == 0:
			t.Errorf("%s: listed as %q, acknowledged as %q", key, listed[key], f.md5)
		default:
			open[key] = got
		}
	}
	for key := range listed {
		if _, known := l.keys[key]; !known {
			t.Errorf("%s: listed, and never written", key)
		}
	}
	deadline := time.Now().Add(convergence)
	for len(open) > 0 && time.Now().Before(deadline) {
		listed := l.list(t)
		maps.DeleteFunc(open, func(key, _ string) bool { return listed[key] == l.digest(t, key) })
	}
	for key, digest := range open {
		t.Errorf("%s: reads back as %q, and the listing does not say so after %v", key, digest, convergence)
	}
}

// list returns the digests of all keys listed.
func (l *ledger) list(t *testing.T) map[string]string {
	t.Helper()
	listed := make(map[string]string)
	for o := range l.client.Client.ListObjects(t.Context(), faultBucket, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		listed[o.Key] = o.ETag
	}
	return listed
}

// digest reads an object; "" is one that is not there.
func (l *ledger) digest(t *testing.T, key string) string {
	t.Helper()
	body, info, _, err := l.client.GetObject(t.Context(), faultBucket, key, minio.GetObjectOptions{})
	if minio.ToErrorResponse(err).Code == "NoSuchKey" {
		return ""
	}
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	defer body.Close()
	sum := md5.New()
	if _, err := io.Copy(sum, body); err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	got := hex.EncodeToString(sum.Sum(nil))
	if info.ETag != got {
		t.Errorf("%s: its ETag is %s, its MD5 %s", key, info.ETag, got)
	}
	return got
}
