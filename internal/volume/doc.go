// Package volume is the storage engine of one device: one log and one index for
// everything that the device keeps. A commit is an atomic batch of changes over
// several key spaces; it is durable before it is visible, and visible before it is
// acknowledged.
//
// The package knows nothing of objects, containers, rings or HTTP: it keeps bytes
// under keys. It is not for fragments of many megabytes, which are files of their
// own (objectserver/fragfile).
//
// Read first: [Volume] (Open, Get, Commit), [Batch], [Value] and [Ref].
//
// # How it works
//
// The log is made of segments, files of fixed size, in two lanes: Meta for small
// things, Bulk for packed fragments. Each lane has one writer goroutine. It takes all batches that wait, writes them as one frame
// with one write, makes it durable with one fdatasync, applies it to the index in
// one batch, and then answers all that waited.
//
// The index is a pebble store without a write-ahead log: our log is the log. It
// maps a key to its head (a few hundred bytes that are wanted with every lookup)
// and, if the entry must stay in the log, to where it lies there. The tail of an
// entry, and a head longer than Config.MaxHeadBytes, are in the log alone; reading
// one costs one index lookup and one pread, and verifies its own checksum.
//
// Each batch applied to the index also says how far it has come in its lane's
// log. Pebble flushes whole batches in order, so what survives a crash is an exact
// prefix of each lane, and opening replays each lane from where that ends. Each frame
// says how far the other lane had been applied when it was made, and is replayed
// behind that: a key that was put in Bulk, deleted in Meta and put in Bulk again is
// there afterwards.
//
// Compaction (compact.go) frees segments of which enough is dead: what lives is
// written again at the head of its lane. An entry of a Kept space, and any entry
// with a blob, must stay in the log while it lives; rows and counters leave it once
// the index has flushed them. The bytes that live in each segment are counted with
// every commit, but the counts only say where to look: a segment is freed after the
// index was asked about every entry in it, and once the index has durably flushed
// past the moves and no reader or iterator from before is left.
//
// Goroutines of an open volume: a writer for each lane, one that notes flushes and
// compacts, for moments one that writes zeros ahead of a lane, and pebble's own.
//
// # Promises
//
// On a crash or power cut at any moment: everything acknowledged by Commit is
// there; every other batch is there whole or not at all; counters are exact. A
// frame that cannot be read is told apart as a torn tail (never acknowledged: cut)
// or as corruption (something later, in either lane, says it had been durable: reported as a
// [Finding] that survives restarts, and reading goes on behind it).
//
// An I/O error on a write or sync fails the volume for good: Commit answers
// errs.Unavailable from then on and Config.OnFail is called once; reads go on.
// A sync that hangs holds up no caller longer than its context.
//
// All methods of Volume may be called concurrently. A Batch or Iter belongs to one
// goroutine. Callers must not have two batches that change the same key in flight
// at a time if they care which comes second.
//
// # Directory
//
//	VOLUME                    id and version; written last when a volume is made
//	LOCK                      held while the volume is open
//	log/meta-0000002a.seg     segment 42, in lane Meta; the number counts both lanes
//	log/bulk-0000002b.seg
//	log/free-meta-00000007.seg  a former segment, waiting to be used again
//	index/                    pebble's own
//
// # Segments
//
// All numbers are little-endian unless marked BE. A segment begins with a block of
// 4096 bytes, durable together with the file's name before any frame is written:
//
//	 0  magic "RFS1"     4
//	 4  version 1        1
//	 5  lane             1
//	 6  0                2
//	 8  segment          4
//	12  volume id       16
//	28  first seq        8   of the frame that will be the segment's first
//	36  previous segment 4   of this lane, 0: none
//	40  previous end     4   where that one's frames end
//	44  0               12
//	56  checksum         8   xxhash64 of bytes 0 to 55
//	64  0             4032
//
// Then frames, each beginning at a multiple of 8 (Meta) or 4096 (Bulk):
//
//	 0  magic "RFF1"     4
//	 4  version 1        1
//	 5  lane             1
//	 6  seal             1   1: the segment ends with this frame, which is empty
//	 7  0                1
//	 8  segment          4   stale frames of a recycled file have another
//	12  generation       4   which opening of the volume wrote it
//	16  seq              8   counts the lane's frames from 1, over all segments
//	24  durable          8   seq of the last frame known durable when this was written
//	32  operation bytes  4
//	36  blob bytes       4
//	40  operations       4
//	44  0                4
//	48  other            8   seq of the other lane's last frame applied when this was made
//	56  checksum         8   xxhash64 of the operation bytes
//	64  checksum         8   xxhash64 of bytes 0 to 63, xor the first 8 bytes of the volume id
//	72  operations, one after the other
//	    blobs, one after the other; each is covered by the checksums in its operation
//	    zeros up to the alignment
//
// Operations (uv is an unsigned LEB128 number, as short as it can be; a key or head
// is uv length, bytes):
//
//	Put          1  space(1) flags(1) [first(4)] key head [tail]
//	Move         5  space(1) flags(1) segment(4) offset(4) [first(4)] key head [tail]
//	Delete       2  space(1) flags(1) [first(4) segment(4) offset(4)] key
//	Tomb         6  as Delete
//	DeleteRange  3  space(1) lo hi                    both as keys, lo <= hi; an empty hi is the end of the space
//	Add          4  space(1) key vector               the vector: uv length, then uv n and n zigzag numbers
//
//	flags of Put and Move
//	             1: the head is spilled: instead of it, uv length and checksum(8), and its bytes begin the blob
//	             2: there is a tail: uv length and checksum(8); its bytes end the blob
//	             4: first is there: the oldest segment that may hold a copy of the key; else this segment is
//	flags of Delete and Tomb
//	             1: the space is Kept, and it is said which copies are deleted: those from
//	                segment first on, up to and with the one at (segment, offset)
//	             2: those copies lie in lane Bulk, else in Meta
//
// A frame is applied whole or not at all. Frames are accepted in the order of
// their seq, without gaps, and after the frames of the other lane up to their
// other. A sound header, segment or operation with a version, flag or kind that is
// not listed here is of a newer program: the volume is not opened. A new segment is begun after every opening that was not
// preceded by an orderly Close, so that nothing is ever written behind a torn tail.
package volume
