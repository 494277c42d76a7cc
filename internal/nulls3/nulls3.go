// Package nulls3 is a server that speaks just enough S3 to be measured against:
// the ceiling of what client, kernel and network reach on a machine when the
// server behind them does nothing.
//
// What it does is what no S3 server can leave out: it reads a body and takes its
// MD5, because an ETag is due, and it sends back as many bytes as it was asked
// for. What it does not do: it checks no signature, keeps no object, touches no
// disk. A benchmark divides a real server's figures by this server's, so it is
// plain net/http, and anything clever here would only move the yardstick.
//
// Read [New] first; [Handler] is all there is.
//
// # What it answers
//
//	PUT    /bucket/key   the ETag of the body (an aws-chunked body is unwrapped)
//	GET    /bucket/key   as many bytes as the key's name says, see [SizeOf]
//	HEAD   /bucket/key   the same without the bytes
//	DELETE /bucket/key   204
//	GET    /bucket       a canned page of at most 1,000 keys, version 1 or 2
//	POST   /bucket?delete  an empty list of errors
//	PUT, HEAD, DELETE /bucket   success
//
// Everything else is 501 NotImplemented. Every key exists and every page is
// followed by another one.
//
// A Handler holds no state that requests change and may serve any number of
// them at once. Its memory is one body of a mebibyte, one page, and a buffer for
// each request under way.
package nulls3

import (
	"crypto/md5"
	"encoding/hex"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// bodyChunkBytes is the length of the piece of memory that every GET is
	// served from, over and over.
	bodyChunkBytes = 1 << 20
	// copyBufferBytes is the size of a PUT's read buffer, the one that io.Copy
	// would take.
	copyBufferBytes = 32 << 10
	// maxObjectBytes is the largest object of a single PUT in S3.
	maxObjectBytes = 5 << 30
	// defaultObjectBytes is the size of a key whose name does not say.
	defaultObjectBytes = 4096
)

// Handler answers S3 requests out of nothing. Make one with [New].
type Handler struct {
	body    []byte // what objects are made of
	page    *page
	buffers sync.Pool // *[]byte of copyBufferBytes
	started string    // Last-Modified of everything
}

// New makes a Handler.
func New() *Handler {
	h := &Handler{
		body:    make([]byte, bodyChunkBytes),
		page:    newPage(),
		started: time.Now().UTC().Format(http.TimeFormat),
	}
	// A cheap pattern that does not compress to nothing.
	x := uint32(2463534242)
	for i := range h.body {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		h.body[i] = byte(x)
	}
	h.buffers.New = func() any { b := make([]byte, copyBufferBytes); return &b }
	return h
}

// SizeOf returns the length of the object key: the number that is the last
// element but one of its name, so that "run7/4096/000012" is 4,096 bytes long. A
// key without one has 4,096 bytes too.
func SizeOf(key string) int64 {
	parts := strings.Split(key, "/")
	if len(parts) < 2 {
		return defaultObjectBytes
	}
	n, err := strconv.ParseInt(parts[len(parts)-2], 10, 64)
	if err != nil || n < 0 || n > maxObjectBytes {
		return defaultObjectBytes
	}
	return n
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "null")
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case bucket == "":
		notImplemented(w, r)
	case key == "":
		h.serveBucket(w, r)
	default:
		h.serveObject(w, r, key)
	}
}

func (h *Handler) serveBucket(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	switch {
	case r.Method == http.MethodGet && q.Has("location"):
		writeXML(w, `<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></LocationConstraint>`)
	case r.Method == http.MethodGet:
		h.page.serve(w, q)
	case r.Method == http.MethodPost && q.Has("delete"):
		if _, err := h.drain(r); err != nil {
			fail(w, http.StatusBadRequest, "IncompleteBody", err.Error())
			return
		}
		writeXML(w, `<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></DeleteResult>`)
	case r.Method == http.MethodPut, r.Method == http.MethodHead:
		w.WriteHeader(http.StatusOK)
	case r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	default:
		notImplemented(w, r)
	}
}

func (h *Handler) serveObject(w http.ResponseWriter, r *http.Request, key string) {
	switch r.Method {
	case http.MethodPut:
		etag, err := h.drain(r)
		if err != nil {
			fail(w, http.StatusBadRequest, "IncompleteBody", err.Error())
			return
		}
		w.Header().Set("ETag", etag)
		w.WriteHeader(http.StatusOK)
	case http.MethodGet, http.MethodHead:
		n := SizeOf(key)
		head := w.Header()
		head.Set("Content-Length", strconv.FormatInt(n, 10))
		head.Set("Content-Type", "application/octet-stream")
		head.Set("ETag", `"00000000000000000000000000000000"`)
		head.Set("Last-Modified", h.started)
		head.Set("Accept-Ranges", "bytes")
		if r.Method == http.MethodHead {
			return
		}
		for n > 0 {
			piece := h.body[:min(n, int64(len(h.body)))]
			if _, err := w.Write(piece); err != nil {
				return // the client went away; there is nobody to tell
			}
			n -= int64(len(piece))
		}
	case http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	default:
		notImplemented(w, r)
	}
}

// drain reads the body to its end and returns its ETag.
func (h *Handler) drain(r *http.Request) (string, error) {
	var body io.Reader = r.Body
	if strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		body = newChunkedReader(r.Body)
	}
	buf := h.buffers.Get().(*[]byte)
	defer h.buffers.Put(buf)
	sum := md5.New()
	for {
		n, err := body.Read(*buf)
		sum.Write((*buf)[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", err
		}
	}
	return `"` + hex.EncodeToString(sum.Sum(nil)) + `"`, nil
}

func notImplemented(w http.ResponseWriter, r *http.Request) {
	fail(w, http.StatusNotImplemented, "NotImplemented", "the null server has no "+r.Method+" here")
}

func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	io.WriteString(w, xmlHeader+"<Error><Code>"+code+"</Code><Message>"+escape(message)+"</Message></Error>")
}

func writeXML(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "application/xml")
	io.WriteString(w, xmlHeader+body)
}
