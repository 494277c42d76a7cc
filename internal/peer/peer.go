// Package peer is how Ringfort's services talk to one another: the messages, and
// the ways to carry them.
//
// Read first: [Node], everything that one node's services answer. A gateway
// holds a Node for every node of the cluster and does not see whether it is its
// own process (a plain value of the services) or another (a [Client], which
// speaks to that node's [Server] over HTTP). One conformance suite, peertest,
// runs over both and over the in-memory fake.
//
// All calls are safe for concurrent use, end when their context does, and are
// bounded: a peer that hangs costs its caller the call's timeout, and a peer with
// too many calls in flight answers errs.Busy at once. Error kinds survive the
// journey. A call that returned an error may or may not have taken effect, unless
// its kind says that it was refused.
package peer

import (
	"context"
	"io"

	"ringfort/internal/blob"
	"ringfort/internal/catalog"
	"ringfort/internal/keyhash"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
	"ringfort/ring"
)

// Service is a kind of register and of listing. The numbers are on the wire.
type Service byte

// The services.
const (
	Objects    Service = 1 // registers of objects and uploads; fragments
	Containers Service = 2 // registers of containers; their rows
	Accounts   Service = 3 // registers of accounts and of the bucket directory; rows of containers
)

// Target addresses one device for one partition, as the caller's ring sees it. A
// device whose node knows a newer ring for the partition answers errs.Moved. One
// whose node has no such policy, or that holds the key under another one, answers
// errs.Invalid: the nodes' configurations differ.
type Target struct {
	Device ring.DeviceID
	// Policy is the index of the storage policy whose ring the caller used; 0 for
	// containers and accounts, which have one ring each. Epoch and Partition are
	// that ring's, and are compared with it alone.
	Policy    uint32
	Epoch     uint64 // of the ring that the caller used; 0: a ring that never changes
	Partition ring.Partition
}

// Registers are the calls of the register protocol.
type Registers interface {
	// Learn returns the newest timestamp that the device has seen for a key. It
	// promises nothing and syncs nothing.
	Learn(ctx context.Context, t Target, s Service, key keyhash.Hash) (register.Known, error)
	// Read returns the device's state of a key; with data, the record's bytes
	// come along if the device has them.
	Read(ctx context.Context, t Target, s Service, key keyhash.Hash, data bool) (register.State, error)
	// ReadLeased is Read on a container's register and notes that the holder may
	// act on the answer for LeaseTime from when it asked.
	ReadLeased(ctx context.Context, t Target, key keyhash.Hash, holder register.Lease) (register.State, error)
	// Write asks the device to accept a record (rule 1). A record without its
	// data is accepted bare. The record is not kept after the call returns.
	Write(ctx context.Context, t Target, s Service, key keyhash.Hash, r *register.Record) (register.Answer, error)
	// Prepare asks for a promise (rule 2). With sweep not zero the device also
	// refuses from now on every record that names that group, unless the record
	// it holds does.
	Prepare(ctx context.Context, t Target, s Service, key keyhash.Hash, ballot, sweep timestamp.T) (register.Answer, error)
	// Settle passes on that records were chosen and their rows delivered. It does
	// not wait, and what is lost is found out again later.
	Settle(t Target, s Service, done []register.Settled)
}

// Listing names a table of rows: of a container, or of an account.
type Listing struct {
	Key         keyhash.Hash        // of the container or account
	Incarnation catalog.Incarnation // of the container; zero for an account
	Table       catalog.Table
	RangeEpoch  uint64 // version of the listing's split that the caller knows
}

// RowQuery asks for one page of current names, in byte order.
type RowQuery struct {
	Listing
	Prefix string
	// Marker and EndMarker bound the names: Marker < name < EndMarker, or the
	// other way round when Reverse; "" is unbounded. Inclusive lets a name equal
	// to Marker in. A Marker that is itself a common prefix of the query stands for
	// all names under it. So the last entry of a page, name or common prefix, is the
	// marker of the next.
	Marker    string
	EndMarker string
	Inclusive bool
	Reverse   bool
	// Delimiter, if not "", rolls up names that contain it after Prefix: such a
	// group is answered as one CommonPrefix entry with the row that proves it. Only
	// the tables whose rows are named as clients name things take one.
	Delimiter string
	Limit     int // rows and common prefixes together; 1 to MaxPage
}

// MaxPage is the most rows that one RowQuery may ask for.
const MaxPage = 10000

// Entry is one line of a page: a row, or a common prefix.
type Entry struct {
	catalog.Row
	// CommonPrefix, if not "", says that this stands for all names that begin
	// with it; Row is then the first live row among them.
	CommonPrefix string
}

// RowPage is an answer to a RowQuery.
type RowPage struct {
	Entries []Entry
	More    bool // names may follow after the last entry
}

// RowState is what a device knows of one name.
type RowState struct {
	Found bool // a row or a tombstone is held
	Row   catalog.Row
}

// ListingStats are a listing's totals on one device.
type ListingStats struct {
	Count int64
	Bytes int64
}

// Rows are the calls on listings. Any of them may be answered with errs.Moved, whose
// kind is all that it says: the caller's RangeEpoch is not that of the listing any
// more, which has been split over partitions. The container's register says into
// what; nothing was stored or told.
type Rows interface {
	// PutRows stores rows, at most MaxPage, each if it is newer than what is held.
	// A container whose register on this device does not say Live with this
	// incarnation is answered with errs.NoBucket, one that this device has no
	// record of with errs.Unavailable: both are one device's word, and nothing is
	// stored.
	PutRows(ctx context.Context, t Target, s Service, l Listing, rows []catalog.Row) error
	// ListRows returns a page of current names. It may be shorter than asked for,
	// though never empty, where More says that names follow.
	ListRows(ctx context.Context, t Target, s Service, q *RowQuery) (*RowPage, error)
	// GetRows returns what is known of each name, tombstones included, in their
	// order. At most MaxPage names are asked for. It may tell of fewer, the first of
	// them and at least one, where rows are long: the rest is asked for again.
	GetRows(ctx context.Context, t Target, s Service, l Listing, names []string) ([]RowState, error)
	// ListingStats returns a listing's totals.
	ListingStats(ctx context.Context, t Target, s Service, l Listing) (ListingStats, error)
}

// FragmentHeader says whose a fragment is and how its blob is cut.
type FragmentHeader struct {
	Owner  keyhash.Hash // key of the object
	ID     blob.ID
	Index  int // 0 to K+M-1
	Coding catalog.Coding
	Size   int64 // of the blob; -1 if not known when writing begins
}

// FragmentName is a fragment's identity.
type FragmentName struct {
	Owner keyhash.Hash
	ID    blob.ID
	Index int
}

// FragmentWriter takes one fragment's bytes. One goroutine uses it.
type FragmentWriter interface {
	// Write appends blocks in order. p may be used again after it returns.
	Write(p []byte) (int, error)
	// Commit makes the fragment durable and visible; size is the blob's. The
	// writer is closed whatever it answers.
	Commit(ctx context.Context, size int64) error
	// Abort drops what was written. After Commit it does nothing.
	Abort()
}

// FragmentReader gives one fragment's bytes.
type FragmentReader interface {
	io.ReadCloser
	// Left returns how many bytes are still to be read, if all goes well.
	Left() int64
}

// Fragments are the calls on fragments of large objects.
type Fragments interface {
	// CreateFragment begins a fragment, which keeps the target's policy. It counts only after Commit. When ctx ends
	// the fragment is given up, so it must last until Commit.
	CreateFragment(ctx context.Context, t Target, h *FragmentHeader) (FragmentWriter, error)
	// OpenFragment returns n bytes of a fragment's data from off, verified block
	// by block. The reader fails with errs.Corrupt where a block is bad. n is cut
	// at the fragment's end. errs.NotFound if the device has no such fragment. The
	// reading ends when ctx does.
	OpenFragment(ctx context.Context, t Target, f FragmentName, off, n int64) (io.ReadCloser, error)
	// DropBlobs gives up blobs of one owner whose writer knows that no record
	// names them or ever will (a failed upload). Absent ones are no error.
	DropBlobs(ctx context.Context, t Target, owner keyhash.Hash, ids []blob.ID) error
	// DropGroup is DropBlobs for all blobs of a group.
	DropGroup(ctx context.Context, t Target, owner keyhash.Hash, group timestamp.T) error
}

// DeviceStatus describes one device.
type DeviceStatus struct {
	Device     ring.DeviceID
	UUID       [16]byte
	Path       string
	State      string // "in service", "out of service", "refilling"
	Problem    string // why, in words, if not in service
	TotalBytes uint64
	FreeBytes  uint64
	Uploads    int64 // rows of unfinished multipart uploads
}

// NodeStatus describes a node.
type NodeStatus struct {
	Name    string
	Version string
	Started int64 // µs since 1970
	Micros  int64 // the node's clock now, µs since 1970
	Epochs  map[string]uint64
	Devices []DeviceStatus
}

// Node is everything that one node answers to its peers.
type Node interface {
	Registers
	Rows
	Fragments
	// Revoke asks a gateway to forget what it holds of a container under a lease;
	// when it returns nil the gateway no longer acts on it.
	Revoke(ctx context.Context, key keyhash.Hash) error
	// Status describes the node.
	Status(ctx context.Context) (*NodeStatus, error)
}
