// Package container is the container service of one device: the registers of
// containers, the rows of their objects, uploads and parts, and the leases under
// which gateways act on what the registers say.
//
// It is not for quorums or for the meaning of a container's metadata (the
// gateway's), nor for how rows are kept (package listing, which it shares with
// package account).
//
// Read first: [Server]; listing.Service, of which it is made.
//
// # Which rows are taken
//
// A device takes a row only if the container's register on this very device says
// Live with the row's incarnation. It answers otherwise:
//
//   - errs.NoBucket: the register says another incarnation, or another state than
//     Live. This is one device's word. It may have been away.
//   - errs.Unavailable: the device has no record of the container, or an older
//     split of its listing than the caller. It was away when the container was
//     made, or is being refilled.
//   - errs.Moved: the caller's split of the listing is an old one. The answer is the
//     kind alone: it does not say where the row belongs. The container's register
//     is the root that does: a caller reads it from a quorum, and asks again with
//     the RangeEpoch that it finds there. Nothing is stored. Today every listing is
//     in one piece and its RangeEpoch is 0, so no server answers so; a gateway that
//     is answered so by a newer one takes it for one device's failure, and is short
//     of a quorum (503) until it is as new.
//
// A gateway that is short of W devices for a row because of the first two reads
// the container's register from a quorum. If what was chosen is not Live with that
// incarnation any more, the container is gone. If it is, the gateway writes that
// record back at its own ballot, as rule 8 does, to the devices that answered so,
// and sends them the row again. Thereby a device that was away when a container
// was made, or made anew, or deleted in vain, counts again as soon as a row
// comes to it.
//
// This is sound. A row that is acknowledged was taken by W devices, each of which
// held the Live record. A container is deleted only after W devices have first
// accepted Deleting and have then each reported no live row. The two sets share a
// device. It took the row while it held Live, hence before it accepted Deleting,
// hence (a register and its rows never change at the same time) the row stood when
// it was asked. Writing a Live record back cannot undo Deleting: its ballot is
// older, so a device that holds Deleting refuses it.
//
// # Leases
//
// [Server.ReadLeased] notes that a gateway may act on the answer for [LeaseTime]
// from when it asked. The note is made under the key's lock together with the
// read, so that an accepted Write, whose answer lists the leases that still run,
// misses none that was granted on the state before it. Leases are kept in memory
// alone: for LeaseTime after its start, and whenever it had no room to note one, a
// device reports a lease of the unknown holder 0 on every container.
//
// # Reaping
//
// The rows of a deleted container stay behind under its incarnation, which no
// later container shares. [Server.Run] removes them, by ranges, once the register
// on this device says, and knows it chosen, that the incarnation has ended. What
// there is to reap is found in the rows themselves, so no crash loses it.
//
// # Crash and concurrency
//
// As listing.Service: all calls are safe for concurrent use, and what is answered
// is on stable storage, but for leases and for what Settle passes on.
package container
