package chunked

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"hash"
	"io"
	"slices"
	"strings"

	"ringfort/gateway/auth/sigv4"
	"ringfort/internal/errs"
)

const (
	bufBytes = 4 << 10
	// maxSizeDigits keeps a chunk's size, in hex digits, within an int64.
	maxSizeDigits = 15
	// maxEndBytes is how much of CR and LF may follow the body's end.
	maxEndBytes = 8
	// maxEmptyReads of a source are answered with io.ErrNoProgress.
	maxEmptyReads = 100

	signatureBytes = 2 * sha256.Size
	chunkSignature = "chunk-signature="
)

// Decoder is an io.Reader of the data in an aws-chunked body. See the package
// comment for when the data may be relied on. Its errors are *sigv4.Error, with
// CodeIncompleteBody for a body that ends early or holds more or less than
// declared, CodeSignatureDoesNotMatch, CodeInvalidChunkSize, CodeMalformedTrailer,
// and CodeInvalidRequest for other faults of form; or the source's own. An error
// stays.
type Decoder struct {
	src io.Reader
	opt Options
	err error

	signer sigv4.ChunkSigner
	hash   hash.Hash
	sum    [sha256.Size]byte
	given  [signatureBytes]byte // the current chunk's signature, as sent

	chunks   int   // headers read
	size     int64 // of the current chunk
	left     int64 // of the current chunk's data
	received int64 // data in all chunks

	trailers []trailer

	r, w int // the unread part of buf
	buf  [bufBytes]byte
}

type trailer struct{ name, value string }

// NewDecoder reads src with the given options.
func NewDecoder(src io.Reader, o Options) *Decoder {
	d := new(Decoder)
	d.Reset(src, o)
	return d
}

// Reset makes d read another body, keeping what it allocated.
func (d *Decoder) Reset(src io.Reader, o Options) {
	d.src, d.opt, d.err = src, o, nil
	d.chunks, d.size, d.left, d.received, d.r, d.w = 0, 0, 0, 0, 0, 0
	clear(d.trailers)
	d.trailers = d.trailers[:0]
	switch {
	case !o.Payload.Chunked():
		d.err = errs.New("chunked", errs.Invalid, "payload kind %d is not chunked", o.Payload)
	case !o.Payload.SignedChunks():
	case o.Verified == nil:
		d.err = errs.New("chunked", errs.Invalid, "signed chunks without a signing key")
	default:
		d.signer.Reset(o.Verified)
		if d.hash == nil {
			d.hash = sha256.New()
		}
		d.hash.Reset()
	}
}

// Trailer returns the value of a header that followed the body, "" if it did not.
// name is in lower case. Valid once Read has returned io.EOF.
func (d *Decoder) Trailer(name string) string {
	for _, t := range d.trailers {
		if t.name == name {
			return t.value
		}
	}
	return ""
}

// Received returns the number of data bytes read so far.
func (d *Decoder) Received() int64 { return d.received }

// Read implements io.Reader.
func (d *Decoder) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if d.left == 0 {
		if d.err = d.nextChunk(); d.err != nil {
			return 0, d.err
		}
	}
	if int64(len(p)) > d.left {
		p = p[:d.left]
	}
	n, err := d.readData(p)
	if d.opt.Payload.SignedChunks() {
		d.hash.Write(p[:n])
	}
	d.left -= int64(n)
	d.received += int64(n)
	if d.left > 0 || n == 0 {
		d.err = early(err)
		return n, d.err
	}
	// The chunk is complete: whatever err is, the next read will tell again.
	if d.err = d.checkSignature(); d.err != nil {
		return 0, d.err
	}
	if d.received == d.opt.DecodedLength {
		// All data are here. Release the last of them only when the end is right.
		if d.err = d.nextChunk(); d.err != io.EOF {
			return 0, d.err
		}
		return n, io.EOF
	}
	return n, nil
}

// early turns the end of the source, where more was due, into IncompleteBody.
func early(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return incomplete()
	}
	return err
}

// nextChunk reads up to the next chunk's data. After the last chunk it reads the
// rest of the body and returns io.EOF if all is well.
func (d *Decoder) nextChunk() error {
	if d.chunks > 0 { // the line end behind the last chunk's data
		line, err := d.line()
		if err != nil {
			return early(err)
		}
		if len(line) != 0 {
			return malformed("no line end after a chunk's data")
		}
	}
	line, err := d.line()
	if err != nil {
		return early(err)
	}
	size, err := d.header(line)
	if err != nil {
		return err
	}
	d.chunks++
	if size == 0 {
		return d.last()
	}
	if d.chunks > 1 && d.size < d.opt.MinChunkBytes {
		return badChunkSize(d.chunks, d.size)
	}
	if d.opt.DecodedLength >= 0 && size > d.opt.DecodedLength-d.received {
		return tooMuch()
	}
	d.size, d.left = size, size
	return nil
}

// header parses a chunk's first line and keeps its signature.
func (d *Decoder) header(line []byte) (int64, error) {
	digits, ext, _ := bytes.Cut(line, []byte{';'})
	if len(digits) == 0 || len(digits) > maxSizeDigits {
		return 0, malformed("a chunk's size")
	}
	var size int64
	for _, c := range digits {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, malformed("a chunk's size")
		}
		size = size<<4 | int64(c)
	}
	if d.opt.Payload.SignedChunks() {
		sig, ok := bytes.CutPrefix(ext, []byte(chunkSignature))
		if !ok || len(sig) != signatureBytes {
			return 0, malformed("a chunk's signature")
		}
		copy(d.given[:], sig)
	}
	return size, nil
}

// checkSignature compares the signature of the chunk whose data have been hashed.
func (d *Decoder) checkSignature() error {
	if !d.opt.Payload.SignedChunks() {
		return nil
	}
	d.hash.Sum(d.sum[:0])
	d.hash.Reset()
	if subtle.ConstantTimeCompare(d.signer.Chunk(&d.sum)[:], d.given[:]) != 1 {
		return badSignature()
	}
	return nil
}

// last reads what follows the header of the last, empty chunk.
func (d *Decoder) last() error {
	if err := d.checkSignature(); err != nil {
		return err
	}
	if d.opt.DecodedLength >= 0 && d.received != d.opt.DecodedLength {
		return incomplete()
	}
	if d.opt.Payload.Trailer() {
		if err := d.readTrailers(); err != nil {
			return err
		}
	}
	return d.end()
}

// readTrailers reads the headers behind the last chunk. The source's end, between
// lines, ends them too: net/http reports a body cut short as another error.
func (d *Decoder) readTrailers() error {
	signed := d.opt.Payload.SignedChunks()
	if signed {
		d.hash.Reset()
	}
	for {
		line, err := d.line()
		if err == errLongLine {
			return badTrailer()
		}
		if err != nil && err != io.EOF {
			return early(err)
		}
		if err == io.EOF || len(line) == 0 && (!signed || len(d.trailers) == 0) {
			break
		}
		if len(line) == 0 {
			continue // minio-go's empty line before the signature
		}
		name, value, ok := bytes.Cut(line, []byte{':'})
		if !ok {
			return badTrailer()
		}
		value = bytes.Trim(value, " \t")
		if signed && strings.EqualFold(string(name), trailerSignature) {
			return d.checkTrailers(value)
		}
		if err := d.addTrailer(string(bytes.ToLower(name)), string(value)); err != nil {
			return err
		}
	}
	if signed && len(d.trailers) > 0 {
		return badTrailer() // the signature is missing
	}
	return d.allTrailers()
}

// addTrailer keeps one trailing header, which must have been announced.
func (d *Decoder) addTrailer(name, value string) error {
	if !slices.Contains(d.opt.Trailers, name) || d.has(name) {
		return badTrailer()
	}
	d.trailers = append(d.trailers, trailer{name, value})
	if d.opt.Payload.SignedChunks() {
		io.WriteString(d.hash, name)
		io.WriteString(d.hash, ":")
		io.WriteString(d.hash, value)
		io.WriteString(d.hash, "\n")
	}
	return nil
}

func (d *Decoder) has(name string) bool {
	return slices.ContainsFunc(d.trailers, func(t trailer) bool { return t.name == name })
}

// allTrailers checks that what was announced has come.
func (d *Decoder) allTrailers() error {
	for _, name := range d.opt.Trailers {
		if !d.has(name) {
			return badTrailer()
		}
	}
	return nil
}

// checkTrailers compares the signature of the trailing headers.
func (d *Decoder) checkTrailers(given []byte) error {
	if err := d.allTrailers(); err != nil {
		return err
	}
	d.hash.Sum(d.sum[:0])
	if subtle.ConstantTimeCompare(d.signer.Trailer(&d.sum)[:], given) != 1 {
		return badSignature()
	}
	return nil
}

// end reads the source to its end, so that the connection can be used again, and
// accepts nothing but line ends.
func (d *Decoder) end() error {
	for n := 0; n <= maxEndBytes; n++ {
		if d.r == d.w {
			if err := d.fill(); err == io.EOF {
				return io.EOF
			} else if err != nil {
				return early(err)
			}
		}
		if c := d.buf[d.r]; c != '\r' && c != '\n' {
			break
		}
		d.r++
	}
	return malformed("something follows its end")
}

// readData reads some data into p, past the buffer where that pays.
func (d *Decoder) readData(p []byte) (int, error) {
	if d.r == d.w {
		if len(p) >= bufBytes {
			return d.readSource(p)
		}
		if err := d.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, d.buf[d.r:d.w])
	d.r += n
	return n, nil
}

// fill reads more into the buffer, which must have room. It returns nil only if
// there is more.
func (d *Decoder) fill() error {
	if d.r == d.w {
		d.r, d.w = 0, 0
	}
	n, err := d.readSource(d.buf[d.w:])
	d.w += n
	if n > 0 {
		return nil // an error will come again
	}
	return err
}

// readSource reads at least one byte, or returns an error.
func (d *Decoder) readSource(p []byte) (int, error) {
	for range maxEmptyReads {
		n, err := d.src.Read(p)
		if n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

var errLongLine = malformed("a line is too long")

// line returns the next line without its end, valid until the next read. At the
// source's end it returns io.EOF, or io.ErrUnexpectedEOF within a line.
func (d *Decoder) line() ([]byte, error) {
	for searched := 0; ; {
		if at := bytes.IndexByte(d.buf[d.r+searched:d.w], '\n'); at >= 0 {
			line := d.buf[d.r : d.r+searched+at]
			d.r += len(line) + 1
			return bytes.TrimSuffix(line, []byte{'\r'}), nil
		}
		searched = d.w - d.r
		if searched == bufBytes {
			return nil, errLongLine
		}
		if d.r > 0 {
			d.w = copy(d.buf[:], d.buf[d.r:d.w])
			d.r = 0
		}
		if err := d.fill(); err == io.EOF && searched > 0 {
			return nil, io.ErrUnexpectedEOF
		} else if err != nil {
			return nil, err
		}
	}
}
