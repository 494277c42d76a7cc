package register

import (
	"ringfort/internal/keyhash"
	"ringfort/internal/timestamp"
)

// Answer is what a device says to a write or a prepare. A refusal is an Answer
// with Accepted false, not an error: the state tells why (rule 1).
type Answer struct {
	Accepted bool
	Swept    bool  // refused because the record names a swept group
	State    State // after the call; without the record's data
	// Leases says, for a container's register, which gateways may still act on
	// what it said before.
	Leases []Lease
}

// Lease is a gateway's right to act on a container's state until it runs out or
// the gateway has confirmed that it forgot it.
type Lease struct {
	Holder  uint64 // the gateway process; 0: some unknown one, asked before a restart
	Address string // of the holder's peer listener
	Micros  int64  // how long it still runs, µs
}

// Known is a device's answer to Learn (rule 4a).
type Known struct {
	Highest timestamp.T // newest ballot, promise or floor that the device has for the key
	Exists  bool        // the device holds a record that is not a tombstone
}

// Settled tells a device that a record of a key was chosen and its row
// delivered, so that its note can go.
type Settled struct {
	Key    keyhash.Hash
	Ballot timestamp.T
}
