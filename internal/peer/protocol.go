// # The wire, version 1
//
// A node listens on one port with HTTP/1.1. Peers use two ways through it:
//
//   - Messages (registers, rows, status) travel as frames over a few long-lived
//     connections, many calls at once on each. Such a connection begins as an
//     HTTP request that is upgraded, below.
//   - Fragments are ordinary HTTP requests on kept-alive connections, one
//     fragment each, authorized by a session that an upgraded connection opened.
//
// Anything else, and anything not proved to come from a holder of the cluster's
// secret, is answered with 401 and an empty body.
//
// The secret proves who speaks. It neither encrypts nor signs the bytes that
// follow: checksums find accidents, not attackers. Where the network between
// nodes is not the operator's own, it belongs inside a tunnel.
//
// # Opening a connection
//
// MAC(label, parts…) is HMAC-SHA256 under the cluster's key over the label, a 0
// byte, and each part behind its length in 4 bytes. T is the upgrade token
// "ringfort-peer/1", C and S are 32 random bytes of client and server.
//
//	client  GET /ringfort-peer/connect
//	        Connection: Upgrade, Upgrade: T
//	        Ringfort-Hello: hex C, space, hex MAC("client hello", T, C)
//	server  101, Upgrade: T
//	        Ringfort-Hello: hex S, space, hex MAC("server proof", T, C, S)
//	client  the 32 bytes MAC("client proof", T, C, S)
//	server  a welcome frame
//
// Each side proves the secret over the other's nonce, so a recording of an
// earlier handshake, replayed by either side, fails at the proofs; no clock is
// involved, because clocks may be wrong. The hello's own MAC only lets a server
// tell a stranger nothing: replayed, it yields a nonce and a proof that are of no
// use without the secret. Labels keep a proof of one role from serving as the
// other's. A server that does not speak T answers an authentic hello with 426 and
// an Upgrade header listing what it speaks, the newest first.
//
// # Versions
//
// T is the version of everything on this page; what flows after it has none of its
// own. A change needs a new T, one number higher, if a node that speaks the old one
// would take what is sent for something else or could not do without it: a field
// added, left out, widened or moved, in a message, in a frame or in the handshake;
// another meaning of a field; a flag or a value of an enumeration (service, table,
// block kind, error kind) that is sent without being asked for; a version or flag of
// a register's State or of a catalog.Row, since they travel as they are stored.
// testdata/messages.txt has the bytes, and its test fails for each of these.
//
// No new T is needed for a message type, control frame or flag of a request that its
// sender can do without. An old node answers a message that it does not know with
// errs.NotImplemented and has done nothing; the sender falls back.
//
// So that nodes can be upgraded one by one, a program that speaks a new T also speaks
// the one before it, for one release at least: its server takes both, its client
// offers the new one and, told 426, the newest of those listed that it knows, and on
// such a connection says nothing that the old T has not. This program knows one.
//
// What an old node answers to something newer:
//
//	a T that it does not speak         426, and the list of what it speaks
//	a message type                     NotImplemented; the connection goes on
//	a flag of a request                the connection ends: what follows the frame may
//	                                   depend on it
//	a service, table, flag or version  NotImplemented, for the call
//	within a message
//
// and a client that is told something newer fails the call with NotImplemented.
//
// # Frames
//
//	 0  8  xxhash64 of everything after this field
//	 8  4  length of the payload
//	12  4  stream: the call, chosen by the client; an answer repeats it
//	16  1  type: a message or a control frame
//	17  1  flags: 1 answer, 2 the answer is an error, 4 the state of a device is at
//	       the payload's end
//	18  2  zero
//	20  4  ms that the caller will still wait; 0: as long as the server likes
//	24  …  payload
//
// Numbers are big-endian. A bad checksum or an impossible length ends the
// connection, since nothing after it can be trusted to be a frame. Payloads are
// made of the primitives of package wire, in this order. The state of a device is in
// the answer of a device that can tell it, an error's too: uvarint generation, uvarint
// position, and one byte, the length of these two.
//
//	target   uvarint device, uvarint policy, uvarint epoch, uvarint partition
//	key      16 bytes
//	ts       24 bytes, a timestamp.T
//	record   bool with data, if so bytes data; register.State to the end
//	state    as record
//	listing  key, 16 B incarnation, byte table, uvarint range epoch
//	row      catalog.Row with its name
//
//	 1 Learn         target, byte service, key                  -> ts highest, bool exists
//	 2 Read          target, byte service, bool data, key       -> state
//	 3 ReadLeased    target, key, lease                         -> state
//	 4 Write         target, byte service, key, record          -> answer
//	 5 Prepare       target, byte service, key, ts ballot, ts sweep -> answer
//	 6 Settle        n, n × (target, byte service, n, n × (key, ts ballot)); not answered
//	 7 PutRows       target, byte service, listing, n, n rows   -> nothing
//	 8 ListRows      target, byte service, listing, byte flags (1 inclusive, 2 reverse),
//	                 prefix, marker, end marker, delimiter, uvarint limit
//	                                                            -> bool more, n, n × (common prefix, row)
//	 9 GetRows       target, byte service, listing, n, n names  -> n, n × (bool found, row if found);
//	                                                               of the first n names, at least one
//	10 ListingStats  target, byte service, listing              -> uvarint count, uvarint bytes
//	11 DropBlobs     target, key, n, n × 36 B blob.ID           -> nothing
//	12 Revoke        key                                        -> nothing
//	13 Status        nothing                                    -> see appendStatus
//	14 DropGroup     target, key, ts group                      -> nothing
//
//	lease    uvarint holder, string address, uvarint µs
//	answer   byte flags (1 accepted, 2 swept), n, n leases, state
//	error    byte errs.Kind, string text
//
// Control frames have stream 0, but for cancel, which names the call:
//
//	128 welcome  server to client, empty: the proof was good
//	129 ping     either way, empty
//	130 pong     its answer
//	131 cancel   client to server, empty: the caller of this stream has gone away
//
// A page that would pass the frame limit is cut short and says that more follows.
//
// # Fragments
//
//	PUT /ringfort-peer/fragment?q=…   Expect: 100-continue, chunked body
//	GET /ringfort-peer/fragment?q=…
//	Authorization: Ringfort session counter mac
//
// q is base64 (URL alphabet, unpadded) of
//
//	PUT  target, key owner, 36 B blob.ID, uvarint index, byte k, byte m,
//	     uvarint block size, uvarint size+1 (0: not known)
//	GET  target, key owner, 36 B blob.ID, uvarint index, uvarint offset, uvarint n
//
// A session lives as long as the upgraded connection that opened it. Its id (16
// bytes, hex) and key (32 bytes) are MAC("session id", T, C, S) and
// MAC("session key", T, C, S), so neither is ever sent. counter is a decimal
// number that the session has not used; the server keeps a window of the last
// 1024, which makes a recorded request worthless without comparing clocks. mac is
// HMAC-SHA256 under the session key over ("request", method, path with query,
// counter); the answer carries the same over ("answer", counter, status) in
// Ringfort-Proof, so that nobody else can say "committed".
//
// The server opens the fragment before it says 100 Continue, so a device that is
// out of service refuses before any byte is sent. The body of a PUT and of a 200
// to a GET is a sequence of blocks:
//
//	 0  8  xxhash64 of the other 16 bytes and the payload
//	 8  8  offset of the payload in the stream
//	16  4  length of the payload, at most 256 KiB
//	20  1  kind: 0 data, 1 the last data (GET), 2 commit (PUT), 3 error (GET)
//	21  3  zero
//	24  …  payload
//
// A commit's payload is 8 B the blob's size and 4 B the ms that the caller will
// wait; a body that ends without one is an upload given up, and the fragment is
// dropped. An error's payload is an error as above. A refused request, and a
// commit that failed, is answered with status 500 and an error as the body.
package peer

import (
	"encoding/binary"
	"time"

	"github.com/cespare/xxhash/v2"

	"ringfort/internal/errs"
)

const (
	// PathPrefix is where a Server expects to be mounted; all its paths begin so.
	PathPrefix = "/ringfort-peer/"

	connectPath  = PathPrefix + "connect"
	fragmentPath = PathPrefix + "fragment"
	upgradeToken = "ringfort-peer/1"

	helloHeader = "Ringfort-Hello"
	proofHeader = "Ringfort-Proof"
	authScheme  = "Ringfort"
)

// messageType is what a frame says.
type messageType byte

const (
	msgLearn        messageType = 1
	msgRead         messageType = 2
	msgReadLeased   messageType = 3
	msgWrite        messageType = 4
	msgPrepare      messageType = 5
	msgSettle       messageType = 6
	msgPutRows      messageType = 7
	msgListRows     messageType = 8
	msgGetRows      messageType = 9
	msgListingStats messageType = 10
	msgDropBlobs    messageType = 11
	msgRevoke       messageType = 12
	msgStatus       messageType = 13
	msgDropGroup    messageType = 14

	msgWelcome messageType = 128
	msgPing    messageType = 129
	msgPong    messageType = 130
	msgCancel  messageType = 131
)

const (
	flagAnswer = 1 << iota
	flagError
	flagDevice

	flagsKnown = flagDevice<<1 - 1
)

const frameHeaderSize = 24

// maxFrameBytes bounds every configured limit, so that a length always fits its field.
const maxFrameBytes = 1 << 30

// frameHeader is the head of a frame, but for its checksum.
type frameHeader struct {
	length int
	stream uint32
	kind   messageType
	flags  byte
	left   time.Duration // 0: unbounded
}

// maxLeft is the longest time that a frame can carry.
const maxLeft = time.Duration(1<<32-1) * time.Millisecond

// sealFrame fills in the header of b, whose payload is from frameHeaderSize on.
func sealFrame(b []byte, stream uint32, kind messageType, flags byte, left time.Duration) {
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-frameHeaderSize))
	binary.BigEndian.PutUint32(b[12:], stream)
	b[16], b[17], b[18], b[19] = byte(kind), flags, 0, 0
	binary.BigEndian.PutUint32(b[20:], millis(left))
	binary.BigEndian.PutUint64(b, xxhash.Sum64(b[8:]))
}

// millis rounds up, so that a deadline on the wire is never before the caller's.
func millis(d time.Duration) uint32 {
	if d <= 0 {
		return 0
	}
	d = min(d, maxLeft)
	return uint32((d + time.Millisecond - 1) / time.Millisecond)
}

// parseFrameHeader reads a header from at least frameHeaderSize bytes.
func parseFrameHeader(b []byte, maxPayload int) (h frameHeader, err error) {
	n := binary.BigEndian.Uint32(b[8:])
	if uint64(n) > uint64(maxPayload) {
		return h, errs.New("peer", errs.Corrupt, "frame of %d bytes, the limit is %d", n, maxPayload)
	}
	if b[18] != 0 || b[19] != 0 {
		return h, errs.New("peer", errs.Corrupt, "reserved bytes of a frame are not zero")
	}
	return frameHeader{
		length: int(n),
		stream: binary.BigEndian.Uint32(b[12:]),
		kind:   messageType(b[16]),
		flags:  b[17],
		left:   time.Duration(binary.BigEndian.Uint32(b[20:])) * time.Millisecond,
	}, nil
}

// checkFrame verifies the checksum of a whole frame.
func checkFrame(b []byte) error {
	if xxhash.Sum64(b[8:]) != binary.BigEndian.Uint64(b) {
		return errs.New("peer", errs.Corrupt, "checksum of a frame does not match")
	}
	return nil
}
