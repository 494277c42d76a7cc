package node

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"ringfort/gateway/auth/sigv4"
)

// clients speak both protocols to one node.
type clients struct {
	t          *testing.T
	url        string
	token, own string // Swift's: the token and the account's URL
	signer     *sigv4.Signer
}

func newClients(t *testing.T, url string) *clients {
	c := &clients{t: t, url: url, signer: sigv4.NewSigner(sigv4.Credentials{AccessKey: testKey, SecretKey: testSecret}, "us-east-1")}
	_, head := c.send(200, c.request("GET", url+"/auth/v1.0", nil, "X-Auth-User", "main:"+testKey, "X-Auth-Key", testSecret))
	c.token, c.own = head.Get("X-Auth-Token"), head.Get("X-Storage-Url")
	return c
}

// request makes a request; header holds names and values.
func (c *clients) request(method, url string, body []byte, header ...string) *http.Request {
	c.t.Helper()
	r, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

// send sends a request and checks the status.
func (c *clients) send(status int, r *http.Request) ([]byte, http.Header) {
	c.t.Helper()
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if res.StatusCode != status {
		c.t.Fatalf("%s %s: %d, want %d: %.500s", r.Method, r.URL, res.StatusCode, status, b)
	}
	return b, res.Header
}

func (c *clients) swift(status int, method, path string, body []byte, header ...string) ([]byte, http.Header) {
	c.t.Helper()
	return c.send(status, c.request(method, c.own+path, body, append(header, "X-Auth-Token", c.token)...))
}

func (c *clients) s3(status int, method, path string, body []byte, header ...string) ([]byte, http.Header) {
	c.t.Helper()
	r := c.request(method, c.url+path, body, header...)
	sum := sha256.Sum256(body)
	if _, err := c.signer.Sign(r, hex.EncodeToString(sum[:]), time.Now()); err != nil {
		c.t.Fatal(err)
	}
	return c.send(status, r)
}

// What Swift keeps in segments, static or dynamic, S3 reads as a whole, by ranges,
// and copies; and what S3 keeps in parts is a large object to Swift.
func TestLargeObjects(t *testing.T) {
	n := open(t, testConfig(tempDirs(t, 4)...))
	c := newClients(t, serve(t, n))
	c.s3(200, "PUT", "/large", nil)
	c.swift(201, "PUT", "/segments", nil)

	// Segments of every kind of storage: in a record, packed, files.
	rng := rand.New(rand.NewPCG(1, 2))
	var whole []byte
	var list []string
	for i, size := range []int{100, 70_000, 6 << 20, 1, 300_000} {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		c.swift(201, "PUT", fmt.Sprintf("/segments/s/%d", i), b)
		whole = append(whole, b...)
		list = append(list, fmt.Sprintf(`{"path":"segments/s/%d","size_bytes":%d}`, i, size))
	}
	_, head := c.swift(201, "PUT", "/large/static?multipart-manifest=put", []byte("["+strings.Join(list, ",")+"]"), "X-Object-Meta-Colour", "blue", "Content-Type", "a/b")
	etag := `"` + strings.Trim(head.Get("Etag"), `"`) + `-N"`
	c.swift(201, "PUT", "/large/dynamic", nil, "X-Object-Manifest", "segments/s/", "X-Object-Meta-Colour", "blue", "Content-Type", "a/b")

	for _, name := range []string{"static", "dynamic"} {
		t.Run(name, func(t *testing.T) {
			c := *c
			c.t = t
			path := "/large/" + name
			_, head := c.s3(200, "HEAD", path, nil)
			if head.Get("Content-Length") != fmt.Sprint(len(whole)) || head.Get("Etag") != etag ||
				head.Get("X-Amz-Meta-Colour") != "blue" || head.Get("Content-Type") != "a/b" {
				t.Errorf("HEAD: %v", head)
			}
			b, head := c.s3(200, "GET", path, nil, "x-amz-checksum-mode", "ENABLED")
			if !bytes.Equal(b, whole) || head.Get("Etag") != etag {
				t.Errorf("GET: %d bytes of %d, %v", len(b), len(whole), head)
			}
			for range 20 {
				off := rng.IntN(len(whole))
				end := off + rng.IntN(len(whole)-off)
				b, head := c.s3(206, "GET", path, nil, "Range", fmt.Sprintf("bytes=%d-%d", off, end))
				if !bytes.Equal(b, whole[off:end+1]) || head.Get("Content-Range") != fmt.Sprintf("bytes %d-%d/%d", off, end, len(whole)) {
					t.Errorf("bytes %d to %d: %d, %v", off, end, len(b), head)
				}
			}
			c.s3(416, "GET", path, nil, "Range", fmt.Sprintf("bytes=%d-", len(whole)))
			c.s3(304, "GET", path, nil, "If-None-Match", etag)
			b, _ = c.s3(206, "GET", path+"?partNumber=1", nil)
			if !bytes.Equal(b, whole) {
				t.Errorf("part 1 has %d bytes", len(b))
			}
			c.s3(416, "GET", path+"?partNumber=2", nil)

			// A copy is the bytes, and no longer depends on the segments.
			copied := "/large/copy-of-" + name
			c.s3(200, "PUT", copied, nil, "x-amz-copy-source", path)
			sum := md5.Sum(whole)
			b, head = c.s3(200, "GET", copied, nil)
			if !bytes.Equal(b, whole) || head.Get("Etag") != `"`+hex.EncodeToString(sum[:])+`"` || head.Get("X-Amz-Meta-Colour") != "blue" {
				t.Errorf("the copy: %d bytes, %v", len(b), head)
			}
			if _, head = c.swift(200, "HEAD", copied, nil); head.Get("X-Static-Large-Object")+head.Get("X-Object-Manifest") != "" {
				t.Errorf("the copy by Swift: %v", head)
			}
		})
	}

	// Static ones are listed with their full size. A dynamic one's size is in no
	// listing, as with Swift.
	b, _ := c.s3(200, "GET", "/large?list-type=2&prefix=static", nil)
	if want := fmt.Sprintf("<Size>%d</Size>", len(whole)); !strings.Contains(string(b), want) || !strings.Contains(string(b), strings.Trim(etag, `"`)) {
		t.Errorf("listed: %s", b)
	}

	testCopyToParts(c, whole)

	// A segment that changes is found; without segments there is nothing to read.
	c.swift(201, "PUT", "/segments/s/0", []byte("changed"))
	b, _ = c.s3(409, "GET", "/large/static", nil)
	if !strings.Contains(string(b), "<Code>OperationAborted</Code>") {
		t.Errorf("a changed segment: %s", b)
	}
	c.swift(201, "PUT", "/large/dynamic", nil, "X-Object-Manifest", "nowhere/s/")
	c.s3(409, "GET", "/large/dynamic", nil)
	c.s3(409, "HEAD", "/large/dynamic", nil)
}

// testCopyToParts copies large objects part by part, and lets Swift read and delete
// what comes of it.
func testCopyToParts(c *clients, whole []byte) {
	t := c.t
	t.Helper()
	b, _ := c.s3(200, "POST", "/large/parts?uploads", nil)
	_, id, _ := strings.Cut(string(b), "<UploadId>")
	id, _, _ = strings.Cut(id, "<")
	complete := "<CompleteMultipartUpload>"
	for i, part := range []struct{ from, bytes string }{
		{"large/static", ""}, {"large/dynamic", ""}, {"large/static", "bytes=90-110"},
	} {
		header := []string{"x-amz-copy-source", part.from}
		if part.bytes != "" {
			header = append(header, "x-amz-copy-source-range", part.bytes)
		}
		b, _ := c.s3(200, "PUT", fmt.Sprintf("/large/parts?partNumber=%d&uploadId=%s", i+1, id), nil, header...)
		_, etag, _ := strings.Cut(string(b), "<ETag>")
		etag, _, _ = strings.Cut(etag, "<")
		complete += fmt.Sprintf("<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", i+1, etag)
	}
	b, _ = c.s3(200, "POST", "/large/parts?uploadId="+id, []byte(complete+"</CompleteMultipartUpload>"))
	if !bytes.Contains(b, []byte("-3&")) {
		t.Fatalf("completed: %s", b)
	}
	want := append(append(bytes.Clone(whole), whole...), whole[90:111]...)
	b, head := c.swift(200, "GET", "/large/parts", nil)
	if !bytes.Equal(b, want) || head.Get("X-Static-Large-Object") != "True" || !strings.HasSuffix(head.Get("Etag"), `-3"`) {
		t.Errorf("by Swift: %d bytes of %d, %v", len(b), len(want), head)
	}
	b, _ = c.swift(200, "GET", "/large/parts?multipart-manifest=get", nil)
	sum := md5.Sum(whole)
	if bytes.Count(b, []byte(hex.EncodeToString(sum[:]))) != 2 {
		t.Errorf("the list of parts: %s", b)
	}
	c.swift(200, "DELETE", "/large/parts?multipart-manifest=delete", nil)
	c.s3(404, "HEAD", "/large/parts", nil)
	if b, _ = c.s3(200, "GET", "/large/static", nil); !bytes.Equal(b, whole) {
		t.Error("deleting another object took something from this one")
	}
}
