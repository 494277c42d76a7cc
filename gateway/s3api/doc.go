// Package s3api is the S3 protocol: it parses requests, checks who asks, calls
// gateway/ops and prints the answers. It keeps nothing: what S3 and Swift store
// cannot drift apart.
//
// Read first: [Handler], which serves everything; [Store], what it calls;
// operation (route.go), the table of all operations; [Error] and the one table
// from errs.Kind to S3's codes (error.go).
//
// It is not for finding users (package auth), nor for rings, disks or quorums.
// Signatures are checked by auth/sigv4 and auth/sigv2, aws-chunked bodies are
// read by package chunked.
//
// # Order of checks
//
// A request is answered without reading its body, so that a client that sent
// "Expect: 100-continue" is refused before it uploads, in this order: the URI and
// the names in it, the signature, the operation and its headers, the bucket and
// its owner; only then does an operation read the body.
//
// # What is not there
//
// Nothing is ignored silently. A request header that asks for what is so anyway
// (x-amz-acl: private, x-amz-storage-class: STANDARD) is accepted; reading a
// bucket's or object's setting that cannot be set answers as S3 does when it is
// not set; every other subresource, and every x-amz-* header that is not known to
// the operation, is 501 NotImplemented.
//
// # Where it differs from S3
//
//   - A name with a NUL byte is refused, 400 InvalidArgument: listings use NUL to
//     separate names from what follows. Everything else that is UTF-8 and up to
//     1024 bytes is a key, "." and ".." and empty path segments included.
//   - x-amz-expected-bucket-owner holds an account's name, or its id of 64 digits
//     as owners are shown in listings.
//   - Parts may leave out the checksum that their upload named: it is computed.
//     Complete may leave them out too.
//   - A Swift large object reads as its content, when the server can; its ETag
//     then ends in "-N". Copying it makes an object of its content.
//   - Copying an object onto itself with new metadata keeps its bytes and parts,
//     and so its ETag.
//
// A Handler is safe for concurrent use. Bodies are streamed; what a request can
// make it hold is bounded: headers by MaxHeaderBytes, XML bodies by the limits in
// body.go, listings by their page.
package s3api
