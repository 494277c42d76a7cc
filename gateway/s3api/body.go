package s3api

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"time"

	"ringfort/gateway/auth/sigv4"
	"ringfort/gateway/ops"
	"ringfort/gateway/s3api/chunked"
	"ringfort/internal/checksum"
	"ringfort/internal/errs"
)

// Limits on XML bodies in bytes: what S3's own limits on their contents can come
// to.
const (
	maxConfigBytes   = 64 << 10
	maxTaggingBytes  = 256 << 10 // 50 tags, escaped
	maxDeleteBytes   = 8 << 20   // 1,000 keys of 1,024 bytes, escaped
	maxCompleteBytes = 4 << 20   // 10,000 parts with checksums
)

// entity is a request's body as its signature and headers describe it. Its Read
// returns io.EOF only when the body is complete and what covers it was right.
type entity struct {
	q       *request
	src     io.Reader
	decoder *chunked.Decoder // of src, if it is in chunks
	size    int64
	md5     []byte
	err     error     // the first error but io.EOF
	armed   time.Time // when the read deadline was last moved

	claim checksum.Claim
}

// newEntity prepares to read the body of an upload of at most max bytes; nothing
// is read yet. Its errors are about headers.
func (q *request) newEntity(max int64) (*entity, error) {
	b := &entity{q: q, src: q.r.Body, size: q.r.ContentLength}
	var err error
	if b.md5, err = contentMD5(q.r.Header); err != nil {
		return nil, err
	}
	if b.claim, err = claimed(q.r.Header); err != nil {
		return nil, err
	}
	raw := &rawBody{b: b, src: q.r.Body}
	b.src = raw
	kind := sigv4.PayloadUnsigned
	if q.signed.v4 != nil {
		kind = q.signed.v4.Payload
	}
	switch {
	case kind.Chunked():
		opt, err := chunked.OptionsOf(q.r, q.signed.v4)
		if err != nil {
			return nil, err
		}
		b.size = opt.DecodedLength
		b.decoder = q.h.decoders.Get().(*chunked.Decoder)
		b.decoder.Reset(raw, opt)
		b.src = b.decoder
	case b.size < 0:
		return nil, refuse("MissingContentLength", "")
	case kind == sigv4.PayloadSigned:
		b.src = sigv4.NewHashedBody(raw, q.signed.v4.ContentSHA256, b.size)
	}
	if b.claim.Trailing && (b.decoder == nil || !kind.Trailer()) {
		return nil, refuse("InvalidRequest", "The x-amz-trailer header needs a payload with a trailer")
	}
	if b.size > max {
		return nil, refuse("EntityTooLarge", "", "ProposedSize", decimal(b.size), "MaxSizeAllowed", decimal(max))
	}
	return b, nil
}

// claimed is checksum.Claimed with S3's code for what is wrong.
func claimed(h http.Header) (checksum.Claim, error) {
	c, err := checksum.Claimed(h)
	if err != nil {
		return c, checksumError(err)
	}
	return c, nil
}

// checksumError turns an error of package checksum into S3's.
func checksumError(err error) error {
	var x *errs.Error
	if !errors.As(err, &x) {
		return err
	}
	switch x.Kind {
	case errs.Invalid:
		return refuse("InvalidRequest", x.What)
	case errs.NotImplemented:
		return notImplemented("x-amz-checksum-algorithm")
	case errs.BadDigest:
		return refuse("BadDigest", x.What)
	}
	return err
}

func contentMD5(h http.Header) ([]byte, error) {
	v, ok := h["Content-Md5"]
	if !ok || len(v) == 0 {
		return nil, nil
	}
	sum, err := base64.StdEncoding.DecodeString(v[0])
	if err != nil || len(sum) != md5.Size {
		return nil, refuse("InvalidDigest", "", "Content-MD5", v[0])
	}
	return sum, nil
}

// Read implements io.Reader.
func (b *entity) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.src.Read(p)
	switch {
	case err == nil:
	case err != io.EOF:
		b.err = err
	case !b.q.bodyRead:
		b.q.bodyRead = true
		if b.q.h.cfg.IdleTimeout > 0 {
			// A deadline left behind would cancel the request's context while the
			// store is still at work.
			_ = http.NewResponseController(b.q.w).SetReadDeadline(time.Time{})
		}
	}
	return n, err
}

// release keeps what can be used again. Only after a success, as for hashing.
func (b *entity) release() {
	if b.decoder != nil {
		b.decoder.Reset(nil, chunked.Options{}) // lets go of the request
		b.q.h.decoders.Put(b.decoder)
		b.decoder = nil
	}
}

// sum returns the checksum that the client gave for the body; the zero Sum if it
// gave none. It is complete once Read has returned io.EOF.
func (b *entity) sum() (checksum.Sum, error) {
	if !b.claim.Trailing {
		return b.claim.Sum, nil
	}
	// The decoder keeps names in lower case.
	name := lowerHeader(b.claim.Algorithm)
	s, err := checksum.ParseSum(b.claim.Algorithm, b.decoder.Trailer(name))
	if err != nil {
		return s, checksumError(err)
	}
	return s, nil
}

// explain prefers what went wrong with the body over what the store made of it.
func (b *entity) explain(err error) error {
	if err == nil {
		return nil
	}
	if b.err != nil {
		return b.err
	}
	if errs.Is(err, errs.BadDigest) && b.md5 != nil {
		var own *Error
		if !errors.As(err, &own) {
			return refuse("BadDigest", "", "ExpectedDigest", base64.StdEncoding.EncodeToString(b.md5))
		}
	}
	return err
}

// rearm is how often, at most, the read deadline is moved.
const rearm = 5 * time.Second

// rawBody is the body as it comes from the connection, with a deadline that moves
// while bytes arrive.
type rawBody struct {
	b   *entity
	src io.Reader
}

func (r *rawBody) Read(p []byte) (int, error) {
	idle := r.b.q.h.cfg.IdleTimeout
	if idle > 0 {
		if now := time.Now(); now.Sub(r.b.armed) > min(rearm, idle/2) {
			r.b.armed = now
			// Not every ResponseWriter can: then the listener's own limits hold.
			_ = http.NewResponseController(r.b.q.w).SetReadDeadline(now.Add(idle))
		}
	}
	n, err := r.src.Read(p)
	r.b.q.bytesIn += int64(n)
	switch {
	case err == nil, err == io.EOF:
	case isTimeout(err):
		r.b.q.w.Header().Set("Connection", "close") // what is left of the body will not be read
		err = refuse("RequestTimeout", "")
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = refuse("IncompleteBody", "")
	default: // the connection broke: nobody will read the answer
		e := refuse("IncompleteBody", "")
		e.Err = err
		err = e
	}
	return n, err
}

// hashing computes an upload's checksum while its body passes.
type hashing struct {
	set checksum.Set
	alg checksum.Algorithm // what is stored
}

// newHashing computes alg and, where the client gave another, that one too. A Set
// is a few hundred bytes with hash states behind it, and so is kept.
func (q *request) newHashing(alg, other checksum.Algorithm) *hashing {
	h := q.h.hashings.Get().(*hashing)
	h.alg = alg
	if other == alg || other == checksum.None {
		h.set.Reset(alg)
	} else {
		h.set.Reset(alg, other)
	}
	return h
}

// release keeps h for another request. Only after a success: a store that failed
// may have left somebody behind who still writes to it.
func (h *hashing) release(q *request) { q.h.hashings.Put(h) }

// verify compares what was computed with what the client gave, and returns the
// checksum to store.
func (h *hashing) verify(b *entity) (checksum.Sum, error) {
	given, err := b.sum()
	if err != nil {
		return checksum.Sum{}, err
	}
	if !given.IsZero() && !given.Equal(h.set.Sum(given.Algorithm())) {
		return checksum.Sum{}, checksumError(checksum.Mismatch(given.Algorithm()))
	}
	return h.set.Sum(h.alg), nil
}

// readBody reads a whole small body and checks its signature and digests. need
// says that there must be a digest.
func (q *request) readBody(max int64, need bool) ([]byte, error) {
	b, err := q.newEntity(ops.MaxPartBytes)
	if err != nil {
		return nil, err
	}
	if b.size > max {
		return nil, refuse("MaxMessageLengthExceeded", "", "MaxMessageLengthBytes", decimal(max))
	}
	if need && b.md5 == nil && b.claim.Algorithm == checksum.None {
		return nil, refuse("InvalidRequest", "Missing required header for this request: Content-MD5")
	}
	// Grows with what arrives: a header alone must not make us hold its number.
	var buf bytes.Buffer
	if b.size < 64<<10 {
		buf.Grow(int(b.size) + bytes.MinRead)
	}
	if _, err := buf.ReadFrom(io.LimitReader(b, max+1)); err != nil {
		return nil, b.explain(err)
	}
	if int64(buf.Len()) > max {
		return nil, refuse("MaxMessageLengthExceeded", "", "MaxMessageLengthBytes", decimal(max))
	}
	if b.md5 != nil && md5.Sum(buf.Bytes()) != [md5.Size]byte(b.md5) {
		return nil, refuse("BadDigest", "")
	}
	given, err := b.sum()
	if err != nil {
		return nil, err
	}
	if !given.IsZero() && !given.Equal(checksum.Of(given.Algorithm(), buf.Bytes())) {
		return nil, checksumError(checksum.Mismatch(given.Algorithm()))
	}
	return buf.Bytes(), nil
}

// decodeXML reads a document whose root element is name. Namespaces are not
// looked at: clients differ.
func decodeXML(body []byte, name string, into any) error {
	d := xml.NewDecoder(bytes.NewReader(body))
	d.Strict = true
	for {
		t, err := d.Token()
		if err != nil {
			return refuse("MalformedXML", "")
		}
		start, ok := t.(xml.StartElement)
		if !ok {
			continue
		}
		if start.Name.Local != name {
			return refuse("MalformedXML", "")
		}
		if err := d.DecodeElement(into, &start); err != nil {
			var e *Error
			if errors.As(err, &e) {
				return e
			}
			return refuse("MalformedXML", "")
		}
		break
	}
	for {
		switch t, err := d.Token(); {
		case err == io.EOF:
			return nil
		case err != nil:
			return refuse("MalformedXML", "")
		default:
			if _, ok := t.(xml.StartElement); ok {
				return refuse("MalformedXML", "")
			}
		}
	}
}
