// Package ops carries out operations on accounts, containers and objects without
// knowing a protocol: quorums, streaming, erasure coding, multipart uploads,
// conditions. S3 and Swift are thin layers over it, and so cannot drift apart in
// what they store.
//
// Read first: [Service], whose methods are the operations; [Put] and [Handle],
// how bytes go in and out; [Cluster], what it needs to know of rings and nodes.
//
// It is not for authorization: callers have decided that the requester may do
// what they ask. It holds no state that matters beyond a process: a gateway that
// dies loses what had not been acknowledged, and nothing else.
//
// All methods are safe for concurrent use and end when their context does. A
// write that has been handed to the devices is carried through all the same.
package ops

import (
	"context"
	"io"
	"log/slog"
	"time"

	"ringfort/internal/catalog"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/policy"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
	"ringfort/internal/workers"
	"ringfort/ring"
)

// Limits on names and sizes, those of S3.
const (
	MaxNameBytes   = 1024    // of an object's name
	MaxObjectBytes = 5 << 40 // of an object written in parts, were all parts full
	MaxPartBytes   = 5 << 30 // of an object or part written in one piece
	MaxParts       = 10000
	MinPartBytes   = 5 << 20 // of every part but the last
)

// Device is one device of a place.
type Device struct {
	ID   ring.DeviceID
	Node peer.Node
	Near bool // in this process: asked first
}

// Place is where a key belongs: its partition and the devices that hold it, in
// ring order.
type Place struct {
	Policy    uint32 // index of the policy whose ring it is; 0 for containers and accounts
	Partition ring.Partition
	Epoch     uint64
	Devices   []Device
}

// target addresses one of the place's devices.
func (p *Place) target(d *Device) peer.Target {
	return peer.Target{Device: d.ID, Policy: p.Policy, Epoch: p.Epoch, Partition: p.Partition}
}

// only returns the place with one of its devices.
func (p Place) only(d *Device) Place {
	p.Devices = []Device{*d}
	return p
}

// Policy is a storage policy by its name.
type Policy struct {
	Name    string
	Index   uint32 // what fragments, registers and requests carry; never changes
	Spec    policy.Spec
	Default bool
}

// Cluster is what the operations need to know of rings and nodes.
type Cluster interface {
	// Object returns the devices of an object's partition under a policy.
	Object(policy string, key keyhash.Hash) (Place, error)
	// Container and Account return the devices of a listing.
	Container(key keyhash.Hash) Place
	Account(key keyhash.Hash) Place
	// Policies lists the storage policies, the default first.
	Policies() []Policy
	// Gateway returns the node that leases were granted to, to revoke them; nil
	// if it is not known.
	Gateway(address string) peer.Node
}

// Config is what a Service needs. Zero durations and sizes mean the defaults.
type Config struct {
	Cluster Cluster
	Secret  *keyhash.Secret
	Clock   *timestamp.Clock
	Log     *slog.Logger

	// Holder is how this gateway signs its leases on container states.
	Holder register.Lease
	// InlineMax is the largest object whose bytes ride in its record. Default 64
	// KiB; more saves round trips for such objects and costs copies of them.
	InlineMax int
	// BlockSize is the length of an erasure-coding block of new blobs. Default
	// erasure.DefaultBlockSize.
	BlockSize int
	// MemoryBytes bounds the stripes in flight of all requests together, half of it
	// for what is written and half for what is read. Default 32 MiB. Beyond it
	// uploads wait, and downloads go on in small steps.
	MemoryBytes int64
	// HedgeAfter is how long a read waits for a device before it asks another
	// one as well. Default 100 ms.
	HedgeAfter time.Duration
	// Timeout bounds an operation's quorum calls. Default 20 s.
	Timeout time.Duration
	// Workers make calls to devices. Nil: new goroutines do.
	Workers *workers.Pool
}

// Put is an object to be written.
type Put struct {
	Container *catalog.Container
	Name      string
	Body      io.Reader
	Size      int64 // of the body; -1 if it is not known

	ContentType string
	Meta        catalog.Pairs
	ETag        string // stored in place of the MD5, if not ""

	// MD5, if not nil, must be the body's; else errs.BadDigest.
	MD5 []byte
	// Also, if not nil, is written every byte of the body in order.
	Also io.Writer
	// Finish, if not nil, is called when the body has been read and before
	// anything becomes visible. o has its Size and ETag; Finish may change o's
	// Meta and ETag, or refuse.
	Finish func(o *catalog.Object) error
	// Judge, if not nil, makes the write conditional: it is given the current
	// object, nil if there is none, and refuses with an error. It may be called
	// more than once, and only its last verdict counts.
	Judge func(cur *catalog.Object) error
}

// Query asks for a page of a container's objects.
type Query struct {
	Prefix    string
	Delimiter string
	Marker    string // names after it (before it, if Reverse)
	EndMarker string // names before it (after it, if Reverse)
	Inclusive bool   // a name equal to Marker counts as well
	Reverse   bool
	Limit     int // 1 to peer.MaxPage
}

// Item is one line of a page: an object or a common prefix.
type Item struct {
	Name         string
	CommonPrefix bool // Name is a common prefix, and the rest is empty
	catalog.RowValue
}

// Page is an answer to a Query.
type Page struct {
	Items []Item
	More  bool // more may follow; go on with Marker = the last item's Name
}

// ContainerInfo is a container as its account lists it.
type ContainerInfo struct {
	Name    string // or a common prefix
	Prefix  bool
	Created time.Time
	Policy  string

	Incarnation catalog.Incarnation
	// Count and Bytes are filled in by WithStats.
	Count int64
	Bytes int64
}

// Stats are totals.
type Stats struct {
	Containers int64 // of an account only
	Objects    int64
	Bytes      int64
	Policies   map[string]Stats // of an account only, by policy
}

// Upload is an unfinished multipart upload.
type Upload struct {
	Container   *catalog.Container
	Name        string
	ID          string
	Initiated   time.Time
	ContentType string
	Meta        catalog.Pairs // what the object will have; "checksum-algorithm" and "checksum-type" of the parts
	Done        bool          // completed: only CompleteUpload is of use, and answers as it did
}

// PutPart is a part to be written.
type PutPart struct {
	Upload *Upload
	Number int // 1 to MaxParts
	Body   io.Reader
	Size   int64 // -1 if it is not known
	MD5    []byte
	Also   io.Writer
	// Finish is called when the body has been read; p has its Size and ETag.
	Finish func(p *catalog.Part) error
}

// Complete makes an object of an upload.
type Complete struct {
	Upload *Upload
	// Choose is given the parts that were uploaded, in order of number, and
	// returns those of the object, in order, or refuses. Like Finish it is called
	// more than once, and only the last answer counts.
	Choose func(have []catalog.Part) ([]catalog.Part, error)
	// Finish may change the object before it is written: o has Size, the
	// multipart ETag and the upload's Meta.
	Finish func(o *catalog.Object, parts []catalog.Part) error
	Judge  func(cur *catalog.Object) error
}

// API is the list of what the protocol layers call; Service is its only
// implementation, and each layer declares the part that it uses as an interface
// of its own.
//
//	CreateContainer(ctx, *catalog.Container) (*catalog.Container, created bool, error)
//	Container(ctx, account, name) (*catalog.Container, error)              leased
//	Resolve(ctx, account, bucket) (*catalog.Container, error)              own account, then directory
//	UpdateContainer(ctx, account, name, change) (*catalog.Container, error)
//	DeleteContainer(ctx, account, name) error
//	ContainerStats(ctx, *catalog.Container) (Stats, error)
//	ListContainers(ctx, account, *Query) ([]ContainerInfo, more bool, error); WithStats(ctx, account, list) fills in totals
//	Account(ctx, name) (*catalog.Account, error)
//	UpdateAccount(ctx, name, change) (*catalog.Account, error)
//	AccountStats(ctx, name) (Stats, error)
//
//	Put(ctx, *Put) (*catalog.Object, error)
//	Head(ctx, *catalog.Container, name) (*catalog.Object, error)
//	Open(ctx, *catalog.Container, name) (*Handle, error)
//	Modify(ctx, *catalog.Container, name, change) (*catalog.Object, error)
//	Delete(ctx, *catalog.Container, name, judge) (*catalog.Object, error)
//	List(ctx, *catalog.Container, *Query) (*Page, error)
//
//	CreateUpload(ctx, *Upload) error                                      fills in ID
//	Upload(ctx, *catalog.Container, name, id) (*Upload, error)
//	PutPart(ctx, *PutPart) (*catalog.Part, error)
//	ListParts(ctx, *Upload, afterNumber, limit int) ([]catalog.Part, more bool, error)
//	ListUploads(ctx, *catalog.Container, *UploadQuery) (*UploadPage, error)
//	CompleteUpload(ctx, *Complete) (*catalog.Object, error)
//	AbortUpload(ctx, *Upload) error
type API = Service

// UploadQuery asks for a page of unfinished uploads, ordered by name and id.
type UploadQuery struct {
	Prefix, Delimiter string
	NameMarker        string
	IDMarker          string // with NameMarker: uploads of that name after this id
	Limit             int
}

// UploadPage is an answer to an UploadQuery. An item of Uploads with an empty ID
// is a common prefix.
type UploadPage struct {
	Uploads []Upload
	More    bool
}

// Reader is a part of an object's bytes being read.
type Reader = io.ReadCloser

// contexts that outlive a request are made here and nowhere else.
func detached(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), d)
}
