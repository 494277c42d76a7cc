// Package sigv4 verifies, and makes, AWS Signature Version 4 on S3 requests: in
// the Authorization header, in the query (presigned URLs), and for the chunks of
// an aws-chunked body.
//
// Read first: [Verifier], whose Parse says who claims to ask and how and whose
// Verify says whether it is so; [Claim] and [Verified], their results; [Error],
// which carries the exact S3 error code. [Signer] is the client's side: it shares
// all of the canonicalisation, so one test of either proves both. [ChunkSigner]
// computes the chain of chunk signatures; package chunked reads and writes the
// bodies.
//
// It is not for finding secrets, nor for deciding what a requester may do: the
// caller looks up the secret of Claim.AccessKey between Parse and Verify. It does
// not read bodies: Verified says what the body must satisfy. Signature Version 4A
// (ECDSA) is refused as not implemented.
//
// # What is signed
//
// The rules follow AWS's pages "Authenticating Requests (AWS Signature Version 4)"
// of the S3 API reference:
//
//		canonical request = method \n path \n query \n headers \n names \n payload
//		string to sign    = AWS4-HMAC-SHA256 \n time \n scope \n hex(SHA256(canonical request))
//		signature         = hex(HMAC(signing key, string to sign))
//		signing key       = HMAC(HMAC(HMAC(HMAC("AWS4"+secret, date), region), "s3"), "aws4_request")
//
//	  - path: the decoded path, each byte outside A-Z a-z 0-9 - . _ ~ / written as
//	    %XX. It is encoded once and never cleaned: "//" and ".." stay, they are parts
//	    of a key. Clients differ on keys with an encoded slash (%2F) and some sign
//	    the path as they sent it, so on a mismatch the path as sent is tried too;
//	    it decodes to the same key, so nothing is gained by a forger.
//	  - query: names and values decoded, encoded again and sorted; no value is an
//	    empty value; repeats count. X-Amz-Signature is left out.
//	  - headers: those listed as signed, values trimmed, runs of blanks made one,
//	    repeats joined by commas.
//	  - payload: the value of x-amz-content-sha256; in a presigned URL without it,
//	    UNSIGNED-PAYLOAD.
//
// Host and every x-amz-* header must be signed, else the request is refused: an
// unsigned x-amz-copy-source, say, would let anyone who captured a request turn
// it into another.
//
// # What the caller must keep to
//
// The handler must act on the request that was verified: on r.URL as it was at
// Verify, with no cleaning of the path (http.ServeMux cleans; gorilla/mux needs
// SkipClean), and a query parsed as url.Query does. A raw ';' in the query, which
// url.Query drops silently, is refused here for that reason. Bytes of a body may
// be used only after its reader has returned io.EOF.
//
// Everything is safe for concurrent use, except ChunkSigner and HashedBody, which
// belong to one request. Nothing is kept on disk. Memory is bounded: some thousand
// derived keys, and buffers no larger than the requests in flight.
package sigv4
