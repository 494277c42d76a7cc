package chunked

import (
	"crypto/sha256"
	"io"
	"strconv"

	"ringfort/gateway/auth/sigv4"
	"ringfort/internal/errs"
)

// DefaultChunkBytes is the size of chunks that the SDKs send.
const DefaultChunkBytes = 64 << 10

// Writer frames data as an aws-chunked body: what a client sends. Write the data,
// set the trailers, then Close. Not for concurrent use.
type Writer struct {
	dst      io.Writer
	payload  sigv4.Payload
	signer   *sigv4.ChunkSigner
	chunk    []byte
	out      []byte
	trailers []trailer
	err      error
}

// NewWriter writes to dst in chunks of chunkBytes (0: DefaultChunkBytes). v is
// the result of signing the request, with a payload kind that is chunked.
func NewWriter(dst io.Writer, v *sigv4.Verified, chunkBytes int) *Writer {
	if chunkBytes <= 0 {
		chunkBytes = DefaultChunkBytes
	}
	w := &Writer{dst: dst, payload: v.Payload, chunk: make([]byte, 0, chunkBytes)}
	if !v.Payload.Chunked() {
		w.err = errs.New("chunked", errs.Invalid, "payload kind %d is not chunked", v.Payload)
	}
	if v.Payload.SignedChunks() {
		w.signer = v.ChunkSigner()
	}
	return w
}

// SetTrailer adds a header to follow the data. The request must announce it in
// x-amz-trailer. name is in lower case.
func (w *Writer) SetTrailer(name, value string) {
	w.trailers = append(w.trailers, trailer{name, value})
}

// Write implements io.Writer.
func (w *Writer) Write(p []byte) (int, error) {
	n := 0
	for len(p) > 0 && w.err == nil {
		k := min(len(p), cap(w.chunk)-len(w.chunk))
		w.chunk = append(w.chunk, p[:k]...)
		p, n = p[k:], n+k
		if len(w.chunk) == cap(w.chunk) {
			w.flush()
		}
	}
	return n, w.err
}

// Close writes what is left, the last chunk and the trailers. It does not close
// the destination.
func (w *Writer) Close() error {
	if len(w.chunk) > 0 {
		w.flush()
	}
	if w.err != nil {
		return w.err
	}
	w.out = w.header(w.out[:0])
	if w.payload.Trailer() {
		start := len(w.out)
		var hashed []byte
		for _, t := range w.trailers {
			w.out = append(append(append(append(w.out, t.name...), ':'), t.value...), "\r\n"...)
			hashed = append(append(append(append(hashed, t.name...), ':'), t.value...), '\n')
		}
		if w.signer != nil && len(w.out) > start {
			sum := sha256.Sum256(hashed)
			w.out = append(append(w.out, trailerSignature+":"...), w.signer.Trailer(&sum)[:]...)
			w.out = append(w.out, "\r\n"...)
		}
	}
	w.out = append(w.out, "\r\n"...)
	if _, w.err = w.dst.Write(w.out); w.err != nil {
		return w.err
	}
	w.err = errs.New("chunked", errs.Invalid, "written after Close")
	return nil
}

// header appends the first line of a chunk that holds w.chunk.
func (w *Writer) header(b []byte) []byte {
	b = strconv.AppendInt(b, int64(len(w.chunk)), 16)
	if w.signer != nil {
		sum := sha256.Sum256(w.chunk)
		b = append(append(b, ";"+chunkSignature...), w.signer.Chunk(&sum)[:]...)
	}
	return append(b, "\r\n"...)
}

func (w *Writer) flush() {
	w.out = append(append(w.header(w.out[:0]), w.chunk...), "\r\n"...)
	w.chunk = w.chunk[:0]
	_, w.err = w.dst.Write(w.out)
}

// EncodedLength returns how long the body will be that a Writer makes of length
// bytes: the request's Content-Length. trailers are the names and values that
// will follow, whose values have the same lengths as the real ones.
func EncodedLength(p sigv4.Payload, length int64, chunkBytes int, trailers map[string]string) int64 {
	if chunkBytes <= 0 {
		chunkBytes = DefaultChunkBytes
	}
	line := int64(len("\r\n"))
	if p.SignedChunks() {
		line += int64(len(";" + chunkSignature + sigv4.EmptySHA256))
	}
	full, rest := length/int64(chunkBytes), length%int64(chunkBytes)
	total := full * (hexDigits(int64(chunkBytes)) + line + int64(chunkBytes) + 2)
	if rest > 0 {
		total += hexDigits(rest) + line + rest + 2
	}
	total += 1 + line + 2
	if p.Trailer() {
		for name, value := range trailers {
			total += int64(len(name) + len(value) + len(":\r\n"))
		}
		if p.SignedChunks() && len(trailers) > 0 {
			total += int64(len(trailerSignature + ":\r\n" + sigv4.EmptySHA256))
		}
	}
	return total
}

func hexDigits(n int64) int64 { return int64(len(strconv.FormatInt(n, 16))) }
