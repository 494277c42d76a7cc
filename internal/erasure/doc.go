// Package erasure cuts a blob into k data and m parity fragments, any k of which
// give it back. It is arithmetic and memory only: it opens no file, sends no
// message and starts no goroutine. Who reads and writes the fragments, and in
// what order, is the business of the gateway's operations.
//
// Read [Layout] first (where each byte lies), then [Code] (how blocks are made
// and made again), then [Pool] (the memory they live in).
//
// # Stripes
//
// A blob of Size bytes is cut into stripes of k blocks of BlockSize bytes each.
// The last stripe shrinks: its rest r < k·BlockSize bytes are cut into blocks of
// ceil(r/k) bytes. Data block j of a stripe holds the stripe's bytes from
// j·blockLen on; what a last block lacks (k-1 bytes at most over the whole blob)
// is zeros, and stored. Fragment i is block i of every stripe, one after
// another, so all k+m fragments have the same length:
//
//	ceil-free part   full·BlockSize            full = Size / (k·BlockSize)
//	last stripe      ceil(rest/k)              rest = Size % (k·BlockSize)
//
//	blob       | 0 ............ k·B | k·B ........ 2k·B | rest |
//	fragment 0 | block 0 of stripe 0 | block 0 of stripe 1 | ceil(rest/k) |
//	fragment 1 | block 1 of stripe 0 | block 1 of stripe 1 | ceil(rest/k) |
//	fragment k | parity of stripe 0  | parity of stripe 1  | ceil(rest/k) |
//
// Only the last stripe depends on Size, so a blob of unknown length is written
// as it comes: full stripes until the input ends, then what is left.
//
// The code works byte by byte: byte x of a missing fragment follows from byte x
// of any k others, whatever stripe x is in. So a degraded range read fetches of
// k others exactly the range that it lacks, and repair rebuilds a whole fragment
// in chunks of any length without knowing of stripes.
//
// k = 1 is replication: every fragment is the blob, nothing is computed, and the
// blocks of a stripe share one buffer.
//
// The matrix is the one that reedsolomon.New builds without options (systematic,
// from a Vandermonde matrix over GF(2^8) with polynomial 0x11d). It is part of
// the disk format: TestGolden holds a sample.
//
// # Concurrency
//
// A Layout is a value. A Code and a Pool may be used by any number of
// goroutines.
package erasure
