package volume

import (
	"log/slog"

	"github.com/cockroachdb/pebble/v2"

	"ringfort/internal/errs"
	"ringfort/internal/vfs"
)

// SpaceID names a key space of a device, from 1 to 254. 0 is the volume's own. Which
// number is whose is in docs/formats.md.
type SpaceID byte

// Space is one key space of a device.
type Space struct {
	ID   SpaceID
	Name string
	// Kept says that the entries of this space never leave the log while they
	// live, so that [Rebuild] can make its index again from the log alone. The
	// entries of other spaces may leave the log once the index has flushed them.
	Kept bool
}

// Lane is one of the two logs of a volume.
type Lane byte

const (
	// Meta holds records, rows, notes and small object bytes.
	Meta Lane = 0
	// Bulk holds packed fragments, up to about a megabyte each. A Bulk batch may
	// only Put and Add; what it put is overwritten by Bulk batches and deleted by
	// Meta batches.
	Bulk Lane = 1

	lanes = 2
)

// String returns the lane's name, which also begins its segments' file names.
func (l Lane) String() string {
	if l == Bulk {
		return "bulk"
	}
	return "meta"
}

// DefaultMemTableBytes is the size of a memory table unless Config says otherwise.
const DefaultMemTableBytes = 8 << 20

// Config says where a volume lies and what it may use. The zero value of every
// field but Dir, FS and Spaces stands for its default.
type Config struct {
	// Dir is the volume's directory. It is made if it is not there; its parent must be.
	Dir string
	// ID is the id that the volume must have, or is to be made with. Zero: any, or a
	// new one.
	ID [16]byte
	// Existing says that the volume must be there: nothing is made in its place.
	Existing bool
	// FS is the file system under log and index.
	FS vfs.FS
	// Spaces are the key spaces in use. A space may be added later, also at an
	// opening that leaves others out; whether it is Kept never changes.
	Spaces []Space

	// Cache is the block cache, shared by all volumes of a process. Memory tables
	// are taken out of it: it needs room for two of each volume, and for blocks
	// besides. Nil: 32 MiB of its own.
	Cache *pebble.Cache
	// MemTableBytes is the size of one of the index's memory tables, of which up
	// to four exist at a time under load. Larger: fewer flushes and less to
	// compact, for more memory. Default 8 MiB.
	MemTableBytes int
	// MaxHeadBytes is the longest head kept in the index; longer ones lie in the
	// log alone and cost a read one pread more. Larger: more index to compact.
	// Default 1 KiB.
	MaxHeadBytes int

	// MetaSegmentBytes and BulkSegmentBytes are the sizes of the log's segments,
	// at most 4 GiB. Larger: fewer files, but more room needed to compact one.
	// Defaults 256 MiB and 1 GiB.
	MetaSegmentBytes int64
	BulkSegmentBytes int64
	// PreallocateBytes is the step in which a new segment claims disk space.
	// Default 16 MiB.
	PreallocateBytes int64
	// DisableZeroAhead leaves out the writing of zeros ahead of small frames in a
	// fresh segment, see ahead.go. It saves up to 1 byte written per byte of log.
	DisableZeroAhead bool
	// MaxBatchBytes bounds one batch. Default 16 MiB, at most a quarter of a segment.
	MaxBatchBytes int64
	// MaxQueueBytes bounds what waits for a lane's writer; beyond it Commit and
	// CommitLazy block. Default 32 MiB.
	MaxQueueBytes int64
	// MaxReplayBytes is how much of each lane's log may be ahead of the flushed
	// index, which bounds how long opening after a crash takes. Default 256 MiB
	// for Meta, four times that for Bulk.
	MaxReplayBytes int64
	// MaxOpenSegments bounds the descriptors kept open for reading sealed
	// segments. Default 128.
	MaxOpenSegments int

	// ReserveBytes of the disk stay free for deletes, compaction and the index:
	// with less than this available, Commit answers errs.Full to batches that are
	// not urgent. Default 1 GiB or a twentieth of the disk, whichever is less.
	ReserveBytes int64

	// CompactDeadRatio is the share of dead bytes, 0 to 1, from which a sealed
	// segment is rewritten. Lower: less space wasted, more bytes written. Default 0.5.
	CompactDeadRatio float64
	// CompactBytesPerSecond bounds what compaction reads and writes. Default 64 MiB.
	CompactBytesPerSecond int64
	// VerifyBytesPerSecond bounds what Verify reads. Default 0: no bound.
	VerifyBytesPerSecond int64
	// DisableCompaction leaves compaction to calls of CompactOnce.
	DisableCompaction bool

	directBytes int64 // see lane.go; tests make it small

	// OnFail is called once, on a goroutine of its own, when the volume has failed
	// for good: after an I/O error on a write or sync.
	OnFail func(error)
	// OnFinding is called for each corruption found. It must not call the volume.
	OnFinding func(Finding)
	// Logger gets the few lines that an operator acts on. Nil: none.
	Logger *slog.Logger
}

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	gib = int64(1) << 30
)

// withDefaults returns the configuration with every default filled in.
func (c Config) withDefaults() Config {
	def := func(p *int64, v int64) {
		if *p == 0 {
			*p = v
		}
	}
	if c.MemTableBytes == 0 {
		c.MemTableBytes = DefaultMemTableBytes
	}
	if c.MaxHeadBytes == 0 {
		c.MaxHeadBytes = int(kib)
	}
	def(&c.MetaSegmentBytes, 256*mib)
	def(&c.BulkSegmentBytes, gib)
	def(&c.PreallocateBytes, 16*mib)
	def(&c.MaxBatchBytes, min(16*mib, c.MetaSegmentBytes/4, c.BulkSegmentBytes/4))
	def(&c.MaxQueueBytes, 32*mib)
	def(&c.directBytes, directBytes)
	def(&c.MaxReplayBytes, 256*mib)
	if c.MaxOpenSegments == 0 {
		c.MaxOpenSegments = 128
	}
	if c.CompactDeadRatio == 0 {
		c.CompactDeadRatio = 0.5
	}
	def(&c.CompactBytesPerSecond, 64*mib)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// validate reports what is wrong with a configuration that has its defaults.
func (c *Config) validate() error {
	bad := func(what string, args ...any) error {
		return errs.New("volume.Config", errs.Invalid, what, args...)
	}
	if c.Dir == "" || c.FS == nil {
		return bad("Dir and FS are needed")
	}
	var seen [256]bool
	for _, s := range c.Spaces {
		if s.ID == ownSpace || s.ID == 255 || seen[s.ID] {
			return bad("space %d (%s) is reserved or named twice", s.ID, s.Name)
		}
		seen[s.ID] = true
	}
	for _, n := range []int64{c.MetaSegmentBytes, c.BulkSegmentBytes} {
		if n < 16*kib || n > 4*gib-mib || n%vfs.BlockSize != 0 {
			return bad("a segment of %d bytes: want 16 KiB to 4 GiB in steps of 4 KiB", n)
		}
		if c.MaxBatchBytes > n/4 {
			return bad("MaxBatchBytes %d exceeds a quarter of a segment", c.MaxBatchBytes)
		}
	}
	if c.MemTableBytes < 64<<10 || c.MaxHeadBytes < 0 || c.MaxBatchBytes < 4096 || c.ReserveBytes < 0 ||
		c.CompactDeadRatio < 0 || c.CompactDeadRatio > 1 || c.MaxQueueBytes < 0 || c.MaxOpenSegments < 1 {
		return bad("a size is negative or too small")
	}
	return nil
}

func (c *Config) segmentBytes(l Lane) int64 {
	if l == Bulk {
		return c.BulkSegmentBytes
	}
	return c.MetaSegmentBytes
}

// replayBytes is the lane's bound on log not yet flushed into the index.
func (c *Config) replayBytes(l Lane) int64 {
	if l == Bulk {
		return 4 * c.MaxReplayBytes
	}
	return c.MaxReplayBytes
}
