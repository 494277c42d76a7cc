// Package swiftapi is the OpenStack Swift protocol: it parses requests, checks
// who asks, calls gateway/ops and prints the answers. It keeps nothing: what
// Swift and S3 store cannot drift apart.
//
// Read first: [Handler], which serves everything; [Store], what it calls;
// content (content.go), what a GET of an object gives, be it plain or made of
// segments; [Error] and the one table from errs.Kind to a status (error.go).
//
// It is not for finding users (package auth), nor for rings, disks or quorums.
//
// # Order of checks
//
// A request is answered without reading its body, so that a client that sent
// "Expect: 100-continue" is refused before it uploads, in this order: the path,
// the method, the token, the account, the names' lengths, what is not there (see
// below), the operation's headers, the container; only then is a body read.
//
// # Tokens
//
// A token is all that is known of a login; no server remembers it. It is "AUTH_tk"
// and the base64url of, integers big-endian:
//
//	1 B    version, 1
//	1 B    length of the account, and the account
//	1 B    length of the access key, and the access key
//	8 B    expiry, seconds since 1970
//	8 B    fingerprint of the secret: the first bytes of HMAC-SHA256 of it
//	8 B    nonce
//	32 B   HMAC-SHA256 of all of the above
//
// under Config.TokenKey, the two uses of the key told apart by a prefix. Every
// request looks the access key up again: a token ends with its time, with its
// key, when the key is switched off, and when the secret changes.
//
// # What is stored
//
// In catalog.Object.Meta: user metadata X-Object-Meta-Name under "meta-name" (S3's
// x-amz-meta-name), the headers of storedHeaders (meta.go) under their lower-case
// names, X-Object-Manifest under "x-object-manifest". A static large object's body
// is its manifest, a JSON list (see storedSegment); Meta has "slo" = "1", and
// "row-slo-etag" and "row-slo-size", which its listing row shows. Everything else
// in Meta belongs to others and is kept as it is by a POST. Metadata of containers
// and accounts lies under "x-container-meta-name" and "x-account-meta-name".
//
// An object that S3 stored in parts looks like a static large object: its ETag is
// no MD5, and X-Static-Large-Object tells clients so. Its manifest lists the parts,
// under names that nothing can have, so that a client that deletes the segments of
// what it overwrites deletes nothing (parts.go).
//
// A POST moves an object's Modified, which both X-Timestamp and Last-Modified
// (rounded up to a second) are made of.
//
// # What is not there
//
// Nothing is ignored silently. 501 Not Implemented answers what would change who
// may do what, how long or how much is kept, or what is sent: ACLs, quotas, expiry,
// versioning, symlinks, container sync, CORS, static web, temporary URL keys,
// RFC-compliant ETags, archive extraction, part numbers, heartbeats
// and asynchronous deletes (tables in refuse.go). Headers that take such a setting
// away (empty values, X-Remove-…) are accepted: there is none. A temporary URL or a
// form post carries no token, so it is 401 as in a Swift without them. What asks for
// what is so anyway is accepted: symlink=get, versions, X-Newest. OPTIONS
// answers as a Swift without CORS settings does. An account cannot be made or
// deleted by its owner: 403.
//
// # Where it differs from Swift
//
//   - An object's bytes end at 5 GiB (Swift: 5 GiB + 2), S3's limit.
//   - Conditions are weighed in the order of RFC 9110: If-None-Match makes
//     If-Modified-Since void, If-Match makes If-Unmodified-Since void. If-Range is
//     honoured.
//   - A dynamic large object whose segments are static ones reads through them;
//     Swift sends their manifests.
//   - A copy keeps Content-Encoding and the other stored headers, and S3's tags.
//   - Deleting a static large object with its segments leaves the manifest when a
//     segment could not be deleted, so that it can be done again.
//   - A manifest has at most ten times as many elements, data included, as objects.
//   - JSON is UTF-8 and does not escape letters.
//
// A Handler is safe for concurrent use. Bodies are streamed; what a request can
// make it hold is bounded: a manifest by Config.MaxManifestBytes, a listing by a
// page of 10,000 lines.
package swiftapi
