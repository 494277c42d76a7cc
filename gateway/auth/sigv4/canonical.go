package sigv4

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const (
	algorithm = "AWS4-HMAC-SHA256"
	isoTime   = "20060102T150405Z"

	// maxQueryPairs bounds the work and memory that one URL can cause.
	maxQueryPairs = 1000
	// keepBytes is the largest buffer that goes back to the pool.
	keepBytes = 64 << 10
)

// Scope is where a signature is valid: a day (yyyymmdd) and a region; the service
// is always s3.
type Scope struct{ Date, Region string }

func (s Scope) append(b []byte) []byte {
	b = append(append(b, s.Date...), '/')
	b = append(append(b, s.Region...), '/')
	return append(b, service+"/"+scopeEnd...)
}

// String returns the scope as it stands in a credential.
func (s Scope) String() string { return string(s.append(nil)) }

// input is all that a signature covers, from the server's or the client's side.
type input struct {
	r         *http.Request
	path      []byte // encoded
	presigned bool
	signed    string // header names, lower case, sorted, joined by ';'
	payload   string
	timestamp string
	scope     Scope
}

// work is the memory that one signature needs. It is pooled.
type work struct {
	canonical []byte
	toSign    []byte
	path      []byte
	query     []byte
	pairs     []pair
	mac       []byte
}

type workPool struct{ pool sync.Pool }

func (p *workPool) get() *work {
	if w, ok := p.pool.Get().(*work); ok {
		return w
	}
	return new(work)
}

func (p *workPool) put(w *work) {
	if cap(w.canonical)+cap(w.toSign)+cap(w.path)+cap(w.query)+cap(w.mac) <= keepBytes {
		p.pool.Put(w)
	}
}

// sign computes the signature of in. Afterwards w holds the canonical request and
// the string to sign.
func (w *work) sign(in *input, key *Key) (sig [2 * sha256.Size]byte, err error) {
	if err := w.canonicalize(in); err != nil {
		return sig, err
	}
	hash := sha256.Sum256(w.canonical)
	b := append(w.toSign[:0], algorithm+"\n"...)
	b = append(append(b, in.timestamp...), '\n')
	b = append(in.scope.append(b), '\n')
	w.toSign = hex.AppendEncode(b, hash[:])
	var raw [sha256.Size]byte
	raw, w.mac = hmacSHA256(w.mac, key[:], w.toSign)
	hex.Encode(sig[:], raw[:])
	return sig, nil
}

// canonicalize writes the canonical request to w.canonical.
func (w *work) canonicalize(in *input) error {
	if err := w.sortQuery(in.r.URL.RawQuery, in.presigned); err != nil {
		return err
	}
	b := append(append(w.canonical[:0], in.r.Method...), '\n')
	b = append(append(b, in.path...), '\n')
	for i, p := range w.pairs {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(b, w.query[p.start:p.end]...)
	}
	b = append(b, '\n')
	for name := range strings.SplitSeq(in.signed, ";") {
		b = append(append(b, name...), ':')
		b = append(appendHeader(b, in.r, name), '\n')
	}
	b = append(append(append(b, '\n'), in.signed...), '\n')
	w.canonical = append(b, in.payload...)
	return nil
}

// pair is one "name=value" in work.query.
type pair struct{ start, equals, end int }

// sortQuery fills w.query and w.pairs with the query in canonical form. In a
// presigned URL the signature itself is left out.
func (w *work) sortQuery(raw string, presigned bool) error {
	w.query, w.pairs = w.query[:0], w.pairs[:0]
	for raw != "" {
		var part string
		part, raw, _ = strings.Cut(raw, "&")
		if part == "" {
			continue
		}
		if len(w.pairs) == maxQueryPairs {
			return badQuery("too many parameters")
		}
		name, value, _ := strings.Cut(part, "=")
		if strings.IndexByte(part, ';') >= 0 && name != paramSignedHeaders {
			return badQuery("a semicolon must be encoded as %3B")
		}
		p, ok1, ok2 := pair{start: len(w.query)}, false, false
		w.query, ok1 = appendRecoded(w.query, name)
		p.equals = len(w.query)
		w.query = append(w.query, '=')
		w.query, ok2 = appendRecoded(w.query, value)
		p.end = len(w.query)
		if !ok1 || !ok2 {
			return badQuery("invalid escape in the query")
		}
		if presigned && string(w.query[p.start:p.equals]) == paramSignature {
			w.query = w.query[:p.start]
			continue
		}
		w.pairs = append(w.pairs, p)
	}
	if len(w.pairs) > 1 {
		q := w.query
		slices.SortFunc(w.pairs, func(a, b pair) int {
			if c := bytes.Compare(q[a.start:a.equals], q[b.start:b.equals]); c != 0 {
				return c
			}
			return bytes.Compare(q[a.equals:a.end], q[b.equals:b.end])
		})
	}
	return nil
}

// unreserved are the bytes that S3's encoding leaves alone.
func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

const upperHex = "0123456789ABCDEF"

func appendByte(b []byte, c byte) []byte {
	if unreserved(c) {
		return append(b, c)
	}
	return append(b, '%', upperHex[c>>4], upperHex[c&15])
}

// appendEncoded appends s encoded, slashes too.
func appendEncoded(b []byte, s string) []byte {
	for i := range len(s) {
		b = appendByte(b, s[i])
	}
	return b
}

// EncodePath returns a decoded path as S3's clients encode and sign it.
func EncodePath(path string) string { return string(appendPath(nil, path)) }

// appendPath appends a decoded path encoded, but for its slashes.
func appendPath(b []byte, path string) []byte {
	if path == "" {
		return append(b, '/')
	}
	for i := range len(path) {
		if path[i] == '/' {
			b = append(b, '/')
		} else {
			b = appendByte(b, path[i])
		}
	}
	return b
}

// appendRecoded appends a query component, decoded as a form ('+' is a space) and
// encoded again. ok is false for a broken escape.
func appendRecoded(b []byte, s string) (_ []byte, ok bool) {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch c {
		case '+':
			c = ' '
		case '%':
			if i+2 >= len(s) {
				return b, false
			}
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi > 15 || lo > 15 {
				return b, false
			}
			c = hi<<4 | lo
			i += 2
		}
		b = appendByte(b, c)
	}
	return b, true
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

// appendHeader appends the canonical value of one signed header, which may be
// absent: then a client that signed it as empty is right, and all others wrong.
func appendHeader(b []byte, r *http.Request, name string) []byte {
	switch name {
	case "host":
		if r.Host == "" {
			return appendTrimmed(b, r.URL.Host)
		}
		return appendTrimmed(b, r.Host)
	case "content-length":
		// net/http may have taken it, and the three below, out of the headers.
		if r.Header["Content-Length"] == nil && r.ContentLength >= 0 {
			return strconv.AppendInt(b, r.ContentLength, 10)
		}
	case "transfer-encoding":
		if r.Header["Transfer-Encoding"] == nil {
			return appendValues(b, r.TransferEncoding)
		}
	case "expect":
		// HTTP/2 servers remove it; there is only one value that they accept.
		if r.Header["Expect"] == nil {
			return append(b, "100-continue"...)
		}
	}
	var key [64]byte
	return appendValues(b, r.Header[string(appendHeaderKey(key[:0], name))])
}

// appendHeaderKey appends a lower-case header name in the spelling of
// http.Header's keys.
func appendHeaderKey(b []byte, name string) []byte {
	upper := true
	for i := range len(name) {
		c := name[i]
		if upper && 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		upper = c == '-'
		b = append(b, c)
	}
	return b
}

func appendValues(b []byte, values []string) []byte {
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendTrimmed(b, v)
	}
	return b
}

// appendTrimmed appends v without blanks at its ends and with every run of blanks
// inside made one space, as the SDKs do.
func appendTrimmed(b []byte, v string) []byte {
	start, blank := len(b), false
	for i := range len(v) {
		if c := v[i]; c == ' ' || c == '\t' {
			blank = true
			continue
		}
		if blank && len(b) > start {
			b = append(b, ' ')
		}
		blank = false
		b = append(b, v[i])
	}
	return b
}
