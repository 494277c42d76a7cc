// Package chunked reads and writes aws-chunked bodies: the framing in which S3
// clients send data whose signatures or checksums they compute while sending.
//
// Read first: [Decoder], the server's side, with [Options]; [OptionsOf] makes
// these from a verified request. [Writer] is the client's side, for tests and for
// the bench tool.
//
// It is not for HTTP's own chunked transfer coding, which net/http has removed
// already, and it does not compare checksums: the trailing headers are handed to
// the caller, who hashes the data anyway.
//
// # The format
//
// From the S3 API reference, "Signature Calculations … Multiple Chunks" and
// "… Including Trailing Headers", and from what the SDKs send:
//
//	body    = *chunk last [trailer] [CRLF]
//	chunk   = size [";chunk-signature=" hex64] CRLF data CRLF
//	last    = "0"  [";chunk-signature=" hex64] CRLF
//	trailer = *(name ":" value CRLF) ["x-amz-trailer-signature:" hex64 CRLF] CRLF
//
// size is hexadecimal, the length of data in bytes. Signatures are there when the
// payload kind says that chunks are signed; each covers the one before it, the
// first covers the request's (see sigv4.ChunkSigner). A line may end in LF alone:
// minio-go ends trailers so, and puts an empty line before the trailer signature.
//
// # What a reader may rely on
//
// Data are released as they arrive, into the caller's own buffer, and hashed on
// the way; nothing is buffered but lines. So data of a chunk longer than one Read
// are released before its signature is checked. They count only when Read has
// returned io.EOF, or as many bytes as the request declared: the Read that would
// return the last byte first checks the last chunk, all trailers, and that nothing
// follows, and on any fault returns the fault instead of its bytes. A caller that
// commits nothing before it has the whole body never commits a wrong one.
//
// Memory: a Decoder is 4 KiB and one SHA-256 state, however large the chunks;
// lines longer than that buffer are refused. It allocates nothing per chunk.
// A Decoder belongs to one goroutine, and may be used again with Reset.
package chunked
