package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
)

// ChunkSigner computes the signatures of an aws-chunked body. Each covers the one
// before it, and the first covers the request's, so chunks cannot be dropped,
// repeated or moved. It belongs to one body and allocates nothing per chunk.
//
//	chunk:   AWS4-HMAC-SHA256-PAYLOAD \n time \n scope \n previous \n hex(SHA256("")) \n hex(SHA256(data))
//	trailer: AWS4-HMAC-SHA256-TRAILER \n time \n scope \n previous \n hex(SHA256(lines))
//
// Source: the S3 API reference's pages on chunked uploads, without and with
// trailing headers.
type ChunkSigner struct {
	key  Key
	head []byte // \n time \n scope \n
	prev [2 * sha256.Size]byte
	buf  []byte
	mac  []byte
}

// ChunkSigner starts the chain at the request's signature.
func (v *Verified) ChunkSigner() *ChunkSigner {
	c := new(ChunkSigner)
	c.Reset(v)
	return c
}

// Reset starts another chain, keeping what c allocated.
func (c *ChunkSigner) Reset(v *Verified) {
	c.key, c.prev = v.Key, v.Signature
	b := append(append(c.head[:0], '\n'), v.Timestamp...)
	c.head = append(v.Scope.append(append(b, '\n')), '\n')
}

// Chunk returns the signature of the next chunk, whose data hash to sum. The last
// chunk is one of no data. The result is valid until the next call.
func (c *ChunkSigner) Chunk(sum *[sha256.Size]byte) *[2 * sha256.Size]byte {
	return c.next("AWS4-HMAC-SHA256-PAYLOAD", EmptySHA256+"\n", sum)
}

// Trailer returns the signature of the trailing headers, each written as
// "name:value\n", that hash to sum. The result is valid until the next call.
func (c *ChunkSigner) Trailer(sum *[sha256.Size]byte) *[2 * sha256.Size]byte {
	return c.next("AWS4-HMAC-SHA256-TRAILER", "", sum)
}

func (c *ChunkSigner) next(alg, extra string, sum *[sha256.Size]byte) *[2 * sha256.Size]byte {
	b := append(append(c.buf[:0], alg...), c.head...)
	b = append(append(b, c.prev[:]...), '\n')
	c.buf = hex.AppendEncode(append(b, extra...), sum[:])
	var raw [sha256.Size]byte
	raw, c.mac = hmacSHA256(c.mac, c.key[:], c.buf)
	hex.Encode(c.prev[:], raw[:])
	return &c.prev
}
