// Package fragfile keeps fragments of blobs: each in a file of its own, or, in
// the same format without its padding, as a string of bytes for the volume's
// bulk log.
//
// It is not for records, and it does not know what a fragment is a fragment of:
// which blobs should exist, who may delete one and how lost ones are rebuilt is
// decided above. Read [Header] and [Name] first (what a fragment is), then
// [Store] (a directory of them), [Writer] and [Reader]; [Pack] and [OpenPacked]
// are the same for fragments inside the volume.
//
// # Promises
//
// When [Writer.Commit] returns nil, the fragment and its name are on stable
// storage. After a crash at any point before it is not there or, from the rename
// on, there and whole (and what it was to replace is there until then): a file
// stands under its final name only after its bytes have been synced.
// So whatever is wrong with a file under its final name is damage, and not a
// write that was cut short. Remove is not synced: a crash may bring a removed
// fragment back, as something for the sweeper to find again.
//
// Every byte that a Reader returns has been verified. [Store.Verify] notices any
// flipped bit anywhere in a fragment, padding included.
//
// A Store and a Reader may be used by any number of goroutines, a Writer by one.
// A Store runs no goroutine and keeps no file open, so there is nothing to
// close. Two stores must not share a directory; the device's lock sees to that.
//
// # Why a temporary name and a rename
//
// The alternative is to create the file under its final name and let the trailer
// be the commit mark. It saves the rename (measured on ext4, virtio disk: 0.06 ms of
// 0.82 ms for a file of 1 MiB, 0.08 of 2.2 ms for 4 MiB), but then the trailer
// can reach the disk before the data does, unless the file is synced twice: after
// a power cut a write that was never acknowledged looks like rot. And leftovers
// could be found only by opening every file.
//
// Temporary files lie in one directory for each final one, not in a common one:
// XFS places a file's blocks near the directory it is created in, and one
// directory for all would fill one allocation group and queue at its lock.
//
// # A store's directory
//
//	FORMAT        "ringfort fragment store 1\n", written when the rest is there
//	00 … ff       fragments, by the low byte of the xxhash64 of their identity
//	              (owner, blob id, index as in the header)
//	tmp/00 … ff   being written; emptied by Open
//
// A fragment's file is named by owner, blob id and index, in hexadecimal joined
// by "-": nothing in it comes from a user.
//
// # A fragment's bytes, version 1
//
// Numbers are big-endian; every checksum is xxhash64 with seed 0. There are two
// forms. In the paged form (files) header, data, check pages and trailer each
// begin at a multiple of 4096 and are padded to one with zeros, so that
// everything can be written by direct I/O; the trailer stands at the end of its
// page. In the packed form (bulk log) nothing is padded.
//
//	header | data of group 0 | check page 0 | data of group 1 | … | trailer
//
// The data is cut into check blocks of checkSize bytes, the last one shorter, and
// 508 of them make a group, the last one smaller. So writer and reader hold one
// check page at a time, whatever the fragment's length, and a range read finds
// the page it needs by arithmetic. No data, no group. The packed form has one
// group at most.
//
// Header, 96 bytes:
//
//	 0   4  magic "RFFh"
//	 4   2  version, 1
//	 6   1  form: 1 paged, 2 packed
//	 7   1  zero
//	 8  16  owner: the key hash of the object (keyhash.Hash)
//	24  36  blob id (blob.ID)
//	60   1  fragment index
//	61   1  k
//	62   1  m
//	63   1  zero
//	64   4  blockSize of the erasure code's stripes
//	68   4  checkSize: a multiple of 4096, at most 1 MiB
//	72   4  policy
//	76   4  zero
//	80   8  blob size in bytes; all ones if it was not known yet
//	88   8  checksum of bytes 0–87
//
// Check page, 32+8n bytes:
//
//	 0   4  magic "RFFc"
//	 4   4  n, the number of check blocks in the group, 1 to 508
//	 8   8  group number, from 0
//	16   8  tag: checksum of the header's bytes 0–79, so that a page of another
//	        fragment, or of another attempt at this one, is not mistaken for ours
//	24  8n  checksum of each check block's data
//	    8   checksum of all before
//
// Trailer, 136 bytes, the last of the fragment:
//
//	  0  96  the header again, with the blob size known
//	 96   8  data length
//	104   8  number of groups
//	112   8  checksum of all check pages in order, without their padding
//	120   4  commit mark "RFFt"
//	124   4  zero
//	128   8  checksum of bytes 0–127
//
// The length of a fragment follows from its data length, and the data length
// from k, blockSize and the blob size; they must agree. To read a range is one
// open, one stat, one read of the last two pages and one of the data (and one of
// a further check page, beyond 16 MiB). The header at the front is for whoever
// has to find out what a file without its end once was.
package fragfile
