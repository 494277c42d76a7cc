package nulls3

import (
	"bufio"
	"errors"
	"io"
	"strconv"
	"strings"
)

// maxChunkLineBytes bounds a chunk's header line: a length in hex, the 64 digits
// of a signature, and room to spare.
const maxChunkLineBytes = 4096

// chunkedReader unwraps the aws-chunked encoding:
//
//	<length in hex>[;chunk-signature=<hex>]\r\n<bytes>\r\n … 0[;…]\r\n<trailer>\r\n
//
// The signatures are skipped, as is the trailer: nothing is verified here.
type chunkedReader struct {
	in   *bufio.Reader
	left int64 // bytes of the present chunk still to come
	done bool
	mid  bool // a chunk has been read and its closing line break has not
}

func newChunkedReader(r io.Reader) *chunkedReader {
	return &chunkedReader{in: bufio.NewReaderSize(r, maxChunkLineBytes)}
}

// Read returns the next decoded bytes, and io.EOF after the last chunk.
func (c *chunkedReader) Read(p []byte) (int, error) {
	if c.done {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	if c.left == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
		if c.left == 0 {
			c.done = true
			// The trailer, if any, is read so that the connection can be reused.
			if _, err := io.Copy(io.Discard, c.in); err != nil {
				return 0, err
			}
			return 0, io.EOF
		}
	}
	n, err := c.in.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// next reads the header line of a chunk.
func (c *chunkedReader) next() error {
	if c.mid {
		line, err := c.line()
		if err != nil {
			return err
		}
		if line != "" {
			return errors.New("a chunk is longer than its header says")
		}
	}
	line, err := c.line()
	if err != nil {
		return err
	}
	digits, _, _ := strings.Cut(line, ";")
	n, err := strconv.ParseInt(digits, 16, 64)
	if err != nil || n < 0 || n > maxObjectBytes {
		return errors.New("a chunk's length is not a number")
	}
	c.left, c.mid = n, true
	return nil
}

// line reads up to a line break and returns what stands before it.
func (c *chunkedReader) line() (string, error) {
	b, err := c.in.ReadSlice('\n')
	if err == io.EOF {
		return "", io.ErrUnexpectedEOF
	}
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), nil
}
