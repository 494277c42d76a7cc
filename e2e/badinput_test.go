package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/signer"

	"ringfort/e2e/harness"
)

// What each kind of bad input is answered, the protocols' own suites say
// (gateway/s3api/s3test, gateway/swiftapi/swifttest). Here the whole program gets
// it over its sockets, and what is looked at is what it leaves behind: in the
// listing, on the disks and in memory.

const badBucket = "bad-input"

// badRequest is a request made by hand.
type badRequest struct {
	method, path string
	header       map[string]string
	payload      string // x-amz-content-sha256; UNSIGNED-PAYLOAD if empty
	body         []byte
	// length is what is announced, if that is not the body's.
	length int
	swift  bool
}

// sender sends requests by hand to one node.
type sender struct {
	s     *harness.System
	host  string
	token string // Swift's
	store string // path of Swift's account
}

func newSender(t *testing.T, s *harness.System) *sender {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, s.SwiftAuth(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Auth-User", s.SwiftUser())
	req.Header.Set("X-Auth-Key", s.SecretKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	store, err := url.Parse(resp.Header.Get("X-Storage-Url"))
	if err != nil || store.Path == "" {
		t.Fatalf("login: %s, %v, %v", resp.Status, resp.Header, err)
	}
	return &sender{s: s, host: s.S3Host(t), token: resp.Header.Get("X-Auth-Token"), store: store.Path}
}

// head returns the request as it is signed and the bytes of its head.
func (x *sender) head(r *badRequest) (*http.Request, []byte, error) {
	path := r.path
	if r.swift {
		path = x.store + path
	}
	req, err := http.NewRequest(r.method, "http://"+x.host+path, nil)
	if err != nil {
		return nil, nil, err
	}
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	if r.swift {
		req.Header.Set("X-Auth-Token", x.token)
	} else {
		payload := r.payload
		if payload == "" {
			payload = "UNSIGNED-PAYLOAD"
		}
		req.Header.Set("X-Amz-Content-Sha256", payload)
		req = signer.SignV4(*req, x.s.AccessKey, x.s.SecretKey, "", "us-east-1")
	}
	length := r.length
	if length == 0 {
		length = len(r.body)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", r.method, req.URL.RequestURI(), x.host, length)
	if err := req.Header.Write(&b); err != nil {
		return nil, nil, err
	}
	b.WriteString("\r\n")
	return req, b.Bytes(), nil
}

// send sends a request and returns the status and the body of the answer. Status 0
// is a server that hung up. Behind a body that is shorter than announced it says
// that nothing more will come; else it does not, since to net/http that means that
// the client has gone.
func (x *sender) send(r *badRequest) (int, string, error) {
	req, head, err := x.head(r)
	if err != nil {
		return 0, "", err
	}
	conn, err := net.DialTimeout("tcp", x.host, time.Minute)
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return 0, "", err
	}
	// A server that refuses a request need not read its body: what cannot be
	// written is no matter, what is answered is.
	if _, err := conn.Write(append(head, r.body...)); err == nil && r.length > len(r.body) {
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil && !errors.Is(err, net.ErrClosed) {
			return 0, "", err
		}
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return 0, "", nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, string(body), err
}

// badPuts are PUTs of a body that must leave nothing, with the status and the code
// they get. Status 0 allows the server to hang up.
func badPuts(body []byte) map[string]struct {
	badRequest
	status int
	code   string
} {
	type put = struct {
		badRequest
		status int
		code   string
	}
	sum := md5.Sum([]byte("else"))
	s3 := func(header map[string]string, payload string, b []byte, length int) badRequest {
		return badRequest{method: "PUT", path: "/" + badBucket + "/k", header: header, payload: payload, body: b, length: length}
	}
	half := body[:len(body)/2]
	chunks := map[string]string{"Content-Encoding": "aws-chunked", "X-Amz-Decoded-Content-Length": strconv.Itoa(len(body))}
	trailer := map[string]string{"X-Amz-Trailer": "x-amz-checksum-crc32"}
	for name, value := range chunks {
		trailer[name] = value
	}
	first := func(more string) []byte {
		return append(fmt.Appendf(nil, "%x%s\r\n", len(body), more), body...)
	}
	return map[string]put{
		"wrong MD5":    {s3(map[string]string{"Content-MD5": base64.StdEncoding.EncodeToString(sum[:])}, "", body, 0), 400, "BadDigest"},
		"wrong CRC32":  {s3(map[string]string{"x-amz-checksum-crc32": "AAAAAA=="}, "", body, 0), 400, "BadDigest"},
		"wrong SHA256": {s3(nil, strings.Repeat("0", 64), body, 0), 400, "XAmzContentSHA256Mismatch"},
		"cut short":    {s3(nil, "", half, len(body)), 0, ""},
		"chunks cut short": {s3(trailer, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", first("")[:len(body)/2], 0),
			400, "IncompleteBody"},
		"chunks without an end": {s3(trailer, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", append(first(""), "\r\n"...), 0),
			400, "IncompleteBody"},
		"wrong trailer": {s3(trailer, "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
			append(first(""), "\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"...), 0), 400, "BadDigest"},
		"wrong signature of a chunk": {s3(chunks, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
			append(first(";chunk-signature="+strings.Repeat("0", 64)), "\r\n"...), 0), 403, "SignatureDoesNotMatch"},
		"Swift: wrong ETag": {badRequest{method: "PUT", path: "/" + badBucket + "/k", swift: true, body: body,
			header: map[string]string{"ETag": hex.EncodeToString(sum[:])}}, 422, ""},
		"Swift: cut short": {badRequest{method: "PUT", path: "/" + badBucket + "/k", swift: true, body: half, length: len(body)}, 0, ""},
	}
}

// TestBadBodies: a body that is refused at its end, or ends too early, leaves no
// object, no row, no count and no fragment.
func TestBadBodies(t *testing.T) {
	t.Parallel()
	harness.NeedOwn(t)
	rig.Each(t, harness.Setups(), func(t *testing.T, s *harness.System) {
		x, client := newSender(t, s), core(t, s)
		if err := client.MakeBucket(t.Context(), badBucket, minio.MakeBucketOptions{}); err != nil {
			t.Fatal(err)
		}
		heap := s.Nodes[0].WatchHeap(t)
		// In the record, in the log, and in files of their own.
		for _, size := range []int{10_000, 300_000, 5 << 20} {
			body := make([]byte, size)
			if _, err := io.ReadFull(newPattern(3, int64(size)), body); err != nil {
				t.Fatal(err)
			}
			for name, c := range badPuts(body) {
				status, text, err := x.send(&c.badRequest)
				hungUp := status == 0 && c.status == 0
				right := status == c.status || c.status == 0 && status >= 400
				if err != nil || !hungUp && !right || !strings.Contains(text, c.code) {
					t.Errorf("%s, %d bytes: %d %s, %v; want %d %s", name, size, status, text, err, c.status, c.code)
				}
			}
		}
		leavesNothing(t, s, x, client)
		if peak := heap.Peak(t); peak > heapLimit {
			t.Errorf("the server's heap was %d MiB", peak>>20)
		}
	})
}

// leavesNothing checks that the bucket is as if nothing had been sent.
func leavesNothing(t *testing.T, s *harness.System, x *sender, client *minio.Core) {
	t.Helper()
	for o := range client.Client.ListObjects(t.Context(), badBucket, minio.ListObjectsOptions{Recursive: true}) {
		t.Errorf("listed: %s, %v", o.Key, o.Err)
	}
	if _, err := client.StatObject(t.Context(), badBucket, "k", minio.StatObjectOptions{}); minio.ToErrorResponse(err).Code != "NoSuchKey" {
		t.Errorf("the object answers %v", err)
	}
	status, text, err := x.send(&badRequest{method: "GET", path: "/" + badBucket, swift: true})
	if err != nil || status != http.StatusNoContent {
		t.Errorf("Swift's listing: %d %q, %v", status, text, err)
	}
	// What a client that went away had sent is removed behind its back.
	deadline := time.Now().Add(convergence)
	left := fragmentFiles(t, s)
	for len(left) > 0 && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond)
		left = fragmentFiles(t, s)
	}
	if len(left) > 0 {
		t.Errorf("%d files of fragments are left after %v, as %s", len(left), convergence, left[0])
	}
	if err := client.RemoveBucket(t.Context(), badBucket); err != nil {
		t.Errorf("the bucket is not empty: %v", err)
	}
}

// fragmentFiles returns the files below the directories that hold fragments.
func fragmentFiles(t *testing.T, s *harness.System) (files []string) {
	t.Helper()
	err := filepath.WalkDir(s.Dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone between two looks
		}
		if err == nil && d.Type().IsRegular() && strings.Contains(path, "/fragments/") && d.Name() != "FORMAT" {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

const (
	// maxRequests is how many requests a server works on at a time.
	maxRequests = 1024
	// crowd is how many clients come at once.
	crowd = 10 * maxRequests
	// crowdHeapLimit is what so many requests may take: each some buffers.
	crowdHeapLimit = heapLimit + maxRequests*256<<10
)

// TestCrowd: ten times more connections than the server takes requests, all of
// clients that begin to send and then wait. As many as it takes are waited for,
// the others are told to slow down; and when the first have finished or gone away,
// what was finished is there, what was not is not, and all is as before.
func TestCrowd(t *testing.T) {
	harness.NeedOwn(t)
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if files.Max < crowd+1000 {
		t.Skipf("a process may open %d files here, and %d connections are too many for it", files.Max, crowd)
	}
	s := rig.Start(t, harness.Setup{Name: "4-directories", Nodes: 1, Dirs: 4})
	x, client := newSender(t, s), core(t, s)
	if err := client.MakeBucket(t.Context(), badBucket, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	heap := s.Nodes[0].WatchHeap(t)
	c := &crowdTest{x: x, answers: make(map[string]int), stored: make(map[string]bool), release: make(chan struct{})}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for i := range crowd {
		wg.Go(func() { c.note(c.client(ctx, i)) })
	}
	// The refused ones all have their answer; those that are left are waiting.
	for ctx.Err() == nil && c.count("SlowDown") < crowd-maxRequests {
		time.Sleep(10 * time.Millisecond)
	}
	busy, err := s.Nodes[0].Metric(ctx, "ringfort_requests_under_way")
	if err != nil {
		t.Error(err)
	}
	equal(t, "requests under way", busy, maxRequests)
	waiting := heap.Peak(t)
	heap = s.Nodes[0].WatchHeap(t)
	close(c.release)
	wg.Wait()
	finishing := heap.Peak(t)
	t.Logf("answers: %v; heap at most %d MiB while they wait, %d MiB while they finish", c.answers, waiting>>20, finishing>>20)
	equal(t, "refused", c.answers["SlowDown"], crowd-maxRequests)
	// So many at one moment may be too many for a device, which says so.
	equal(t, "answered", c.answers["200"]+c.answers["gone"]+c.answers["ServiceUnavailable"], maxRequests)
	if c.answers["200"] == 0 || c.answers["gone"] == 0 {
		t.Error("this test shows nothing")
	}
	if peak := max(waiting, finishing); peak > crowdHeapLimit {
		t.Errorf("the server's heap was %d MiB, and may be %d", peak>>20, crowdHeapLimit>>20)
	}
	c.compare(t, client)
}

type crowdTest struct {
	x       *sender
	release chan struct{} // closed when those who wait may go on

	mu      sync.Mutex
	answers map[string]int
	stored  map[string]bool // keys that were acknowledged
}

func (c *crowdTest) note(answer string, key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[answer]++
	if answer == "200" {
		c.stored[key] = true
	}
}

func (c *crowdTest) count(answer string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answers[answer]
}

// client begins to send an object. If it is not refused it waits, and then sends
// the rest or, every second one, goes away.
func (c *crowdTest) client(ctx context.Context, i int) (answer, key string) {
	const size = 100_000
	key = fmt.Sprintf("crowd/%05d", i)
	req, head, err := c.x.head(&badRequest{method: "PUT", path: "/" + badBucket + "/" + key, length: size})
	if err != nil {
		return err.Error(), key
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.x.host)
	if err != nil {
		return err.Error(), key
	}
	defer conn.Close()
	if _, err := conn.Write(append(head, "begin"...)); err != nil {
		return err.Error(), key
	}
	answered := make(chan string, 1)
	go func() { answered <- readAnswer(conn, req) }()
	select {
	case answer = <-answered:
		return answer, key
	case <-c.release:
	case <-ctx.Done():
		return "no answer", key
	}
	if i%2 == 0 {
		conn.Close()
		<-answered
		return "gone", key
	}
	if _, err := conn.Write(make([]byte, size-len("begin"))); err != nil {
		return err.Error(), key
	}
	return <-answered, key
}

// readAnswer returns the code of an answer, or its status if it has none.
func readAnswer(conn net.Conn, req *http.Request) string {
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if _, rest, ok := strings.Cut(string(body), "<Code>"); ok {
		code, _, _ := strings.Cut(rest, "</Code>")
		return code
	}
	if err != nil {
		return err.Error()
	}
	return strconv.Itoa(resp.StatusCode)
}

// compare compares the listing with what was acknowledged.
func (c *crowdTest) compare(t *testing.T, client *minio.Core) {
	t.Helper()
	listed := 0
	for o := range client.Client.ListObjects(t.Context(), badBucket, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		listed++
		if !c.stored[o.Key] || o.Size != 100_000 {
			t.Errorf("%s is listed with %d bytes; acknowledged: %v", o.Key, o.Size, c.stored[o.Key])
		}
	}
	equal(t, "keys listed", listed, len(c.stored))
}
