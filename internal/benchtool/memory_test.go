package benchtool

import (
	"bufio"
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// memoryS3 is an S3 server in a map, enough for the benchmark to be tested on.
type memoryS3 struct {
	mu      sync.Mutex
	buckets map[string]map[string][]byte
	// refuse makes the n-th object request and every n-th after it fail.
	refuse, seen int
	// rot flips a bit in everything read.
	rot bool
}

func newMemoryS3() *memoryS3 { return &memoryS3{buckets: make(map[string]map[string][]byte)} }

func (m *memoryS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	body, err := readBody(r)
	if err != nil || !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=key/") {
		memoryError(w, 400, "BadRequest")
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if key == "" {
		m.bucket(w, r, bucket, body)
		return
	}
	if m.seen++; m.refuse > 0 && m.seen%m.refuse == 0 {
		memoryError(w, 503, "SlowDown")
		return
	}
	objects := m.buckets[bucket]
	data, there := objects[key]
	switch {
	case objects == nil:
		memoryError(w, 404, "NoSuchBucket")
	case r.Method == http.MethodPut:
		objects[key] = body
		sum := md5.Sum(body)
		w.Header().Set("ETag", hex.EncodeToString(sum[:]))
	case r.Method == http.MethodDelete:
		delete(objects, key)
		w.WriteHeader(204)
	case !there:
		memoryError(w, 404, "NoSuchKey")
	default:
		if m.rot && len(data) > 0 {
			data = slices.Clone(data)
			data[len(data)/2] ^= 1
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.Header().Set("Last-Modified", "Fri, 02 Jan 2026 03:04:05 GMT")
		w.Header().Set("ETag", `"x"`)
		if r.Method == http.MethodGet {
			w.Write(data)
		}
	}
}

func (m *memoryS3) bucket(w http.ResponseWriter, r *http.Request, bucket string, body []byte) {
	objects := m.buckets[bucket]
	switch {
	case r.Method == http.MethodPut:
		m.buckets[bucket] = make(map[string][]byte)
	case objects == nil:
		memoryError(w, 404, "NoSuchBucket")
	case r.Method == http.MethodDelete && len(objects) > 0:
		memoryError(w, 409, "BucketNotEmpty")
	case r.Method == http.MethodDelete:
		delete(m.buckets, bucket)
		w.WriteHeader(204)
	case r.Method == http.MethodPost:
		var list struct{ Object []struct{ Key string } }
		if err := xml.Unmarshal(body, &list); err != nil {
			memoryError(w, 400, "MalformedXML")
			return
		}
		for _, o := range list.Object {
			delete(objects, o.Key)
		}
		io.WriteString(w, "<DeleteResult></DeleteResult>")
	case r.Method == http.MethodGet:
		q := r.URL.Query()
		var names []string
		for k := range objects {
			if strings.HasPrefix(k, q.Get("prefix")) && k > q.Get("start-after") {
				names = append(names, k)
			}
		}
		slices.Sort(names)
		names = names[:min(len(names), 1000)]
		io.WriteString(w, "<ListBucketResult>")
		for _, k := range names {
			fmt.Fprintf(w, "<Contents><Key>%s</Key><Size>%d</Size></Contents>", k, len(objects[k]))
		}
		io.WriteString(w, "</ListBucketResult>")
	}
}

func memoryError(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, code)
}

// readBody reads a request's body and unwraps aws-chunked.
func readBody(r *http.Request) ([]byte, error) {
	if !strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		return io.ReadAll(r.Body)
	}
	in := bufio.NewReader(r.Body)
	var body []byte
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		digits, _, _ := strings.Cut(strings.TrimSpace(line), ";")
		n, err := strconv.ParseInt(digits, 16, 32)
		if err != nil || n == 0 {
			return body, err
		}
		piece := make([]byte, n+2)
		if _, err := io.ReadFull(in, piece); err != nil {
			return nil, err
		}
		body = append(body, piece[:n]...)
	}
}
