package volume

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
	pvfs "github.com/cockroachdb/pebble/v2/vfs"

	"ringfort/internal/errs"
	"ringfort/internal/vfs"
)

// Volume is an open device. All its methods are safe for concurrent use.
//
// Lock order: lane.commitMu, moveMu, applyMu; lane.mu and segments.mu are taken
// last and alone.
type Volume struct {
	cfg        Config
	id         [16]byte
	generation uint64
	kept       [256]bool
	known      [256]bool // named by the opener
	stored     [256]bool // named by one before it
	lost       [256]bool // emptied by a Rebuild
	lock       io.Closer
	db         *pebble.DB
	ownCache   *pebble.Cache
	segs       *segments
	lanes      [lanes]*lane
	batches    sync.Pool
	keys       sync.Pool // *[]byte, for index keys

	lastSegment atomic.Uint32
	failed      atomic.Pointer[errs.Error]
	space       spaceGuard
	finds       findings
	stats       counters

	moveMu  sync.Mutex // held while moves, or changes of what is being moved, are checked, written and applied
	applyMu sync.Mutex // held while the index changes; guards segment.live and tombs

	bg     background
	iters  iterators
	freeMu sync.Mutex // guards free
	free   [lanes][]string

	opened    atomic.Bool   // Open has succeeded: OnFail is called
	closing   chan struct{} // closed when Close begins
	closeOnce sync.Once
	closeErr  error
}

// Open opens a volume, or makes it if the directory is empty or not there and
// Config.Existing is not set. It replays what the index had not flushed, so that
// everything ever acknowledged is there when it returns, but for what it has reported
// as corrupt.
//
// errs.NotFound: Config.Existing is set and there is no volume. errs.Invalid: there
// is another one than Config.ID, or Config does not suit it. errs.NotImplemented: a
// newer program has written to it. errs.Corrupt: it is damaged beyond what findings
// tell; what can be done is in the text.
func Open(ctx context.Context, cfg Config) (*Volume, error) {
	v, fresh, err := prepare(cfg)
	if err != nil {
		return nil, err
	}
	if err := v.openAll(ctx, fresh); err != nil {
		v.abort()
		return nil, err
	}
	return v, nil
}

func (v *Volume) openAll(ctx context.Context, fresh bool) error {
	if err := v.openIndex("index", !fresh); err != nil {
		if f := v.failure(); f != nil {
			return f
		}
		return err
	}
	if fresh {
		if err := v.writeIdentity(); err != nil {
			return err
		}
	}
	if err := v.recover(ctx); err != nil {
		return err
	}
	v.start()
	if err := v.beginGeneration(ctx); err != nil {
		return err
	}
	v.opened.Store(true)
	return nil
}

// prepare makes the directories, takes the lock and reads the identity. fresh
// says that the volume has yet to be made.
func prepare(cfg Config) (v *Volume, fresh bool, err error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, false, err
	}
	v = &Volume{cfg: cfg, segs: newSegments(cfg.FS, cfg.MaxOpenSegments), closing: make(chan struct{})}
	v.bg.kick = make(chan struct{}, 1) // before the index is open: its flushes kick
	v.batches.New = func() any { return &Batch{done: make(chan result, 1)} }
	v.keys.New = func() any { b := make([]byte, 0, 256); return &b }
	v.kept[ownSpace] = true
	for _, s := range cfg.Spaces {
		v.known[s.ID], v.kept[s.ID] = true, s.Kept
	}
	for l := range Lane(lanes) {
		v.lanes[l] = newLane(v, l)
	}
	if cfg.Existing { // looked for before anything is made in its place
		if _, err := v.readIdentity(); err != nil {
			return nil, false, ioError("volume.Open", err)
		}
	}
	if err := cfg.FS.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, false, ioError("volume.Open", err)
	}
	if v.lock, err = cfg.FS.Lock(v.path("LOCK")); err != nil {
		return nil, false, ioError("volume.Open", err)
	}
	fresh, err = v.readIdentity()
	if err == nil {
		for _, d := range []string{"log", "index"} {
			if err = cfg.FS.MkdirAll(v.path(d), 0o755); err != nil {
				break
			}
		}
	}
	if err != nil {
		v.lock.Close()
		return nil, false, ioError("volume.Open", err)
	}
	if v.cfg.Cache == nil {
		v.ownCache = pebble.NewCache(32 * mib)
		v.cfg.Cache = v.ownCache
	}
	return v, fresh, nil
}

// abort releases what a failed Open holds.
func (v *Volume) abort() {
	close(v.closing)
	v.stop()
	if v.db != nil {
		v.db.Close()
	}
	v.releaseAll()
}

func (v *Volume) releaseAll() {
	for _, l := range v.lanes {
		if l.file != nil {
			l.file.Close()
			l.file = nil
		}
	}
	v.segs.closeAll()
	if v.ownCache != nil {
		v.ownCache.Unref()
	}
	v.lock.Close()
}

// frameKey is the volume's part of its frames' header checksums.
func (v *Volume) frameKey() uint64 { return binary.LittleEndian.Uint64(v.id[:8]) }

func (v *Volume) path(elem ...string) string {
	return v.cfg.FS.PathJoin(append([]string{v.cfg.Dir}, elem...)...)
}

// The VOLUME file: magic "RFVOLUME"(8) version(4) 0(4) id(16) checksum(8), xxhash64 of
// what is before it. It is replaced by a later version's in one piece, and that one's
// first 40 bytes are made the same way.
const (
	identityMagic   = "RFVOLUME"
	identityVersion = 1
	identitySize    = 40
)

// readIdentity reads the VOLUME file. fresh says that there is none, and no log either.
func (v *Volume) readIdentity() (fresh bool, err error) {
	f, err := v.cfg.FS.Open(v.path("VOLUME"))
	if vfs.IsNotExist(err) {
		names, err := v.cfg.FS.List(v.path("log"))
		if err == nil {
			for _, n := range names {
				if _, _, free, ok := parseSegmentName(n); ok && !free {
					return false, errs.New("volume.Open", errs.Corrupt, "%s: there is a log but no VOLUME file", v.cfg.Dir)
				}
			}
		}
		if v.cfg.Existing {
			return false, errs.New("volume.Open", errs.NotFound, "%s: there is no volume", v.cfg.Dir)
		}
		if v.id = v.cfg.ID; v.id == [16]byte{} {
			_, err = rand.Read(v.id[:])
			return true, err
		}
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	b := make([]byte, identitySize)
	if err := readFull(f, b, 0); err != nil {
		return false, errs.Wrap("volume.Open", errs.Corrupt, err)
	}
	if string(b[:8]) != identityMagic || binary.LittleEndian.Uint64(b[32:]) != xxhash.Sum64(b[:32]) {
		return false, errs.New("volume.Open", errs.Corrupt, "%s: the VOLUME file is damaged", v.cfg.Dir)
	}
	if n, zero := binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:]); n != identityVersion || zero != 0 {
		return false, newer("%s: a volume of version %d", v.cfg.Dir, n)
	}
	copy(v.id[:], b[16:32])
	if v.cfg.ID != [16]byte{} && v.cfg.ID != v.id {
		return false, errs.New("volume.Open", errs.Invalid, "%s holds volume %x and not %x", v.cfg.Dir, v.id, v.cfg.ID)
	}
	return false, nil
}

// encodeIdentity returns the bytes of the VOLUME file.
func encodeIdentity(id [16]byte) []byte {
	b := make([]byte, identitySize)
	copy(b, identityMagic)
	binary.LittleEndian.PutUint32(b[8:], identityVersion)
	copy(b[16:], id[:])
	binary.LittleEndian.PutUint64(b[32:], xxhash.Sum64(b[:32]))
	return b
}

// writeIdentity makes the VOLUME file: the volume exists from then on.
func (v *Volume) writeIdentity() error {
	b := encodeIdentity(v.id)
	fs := v.cfg.FS
	tmp := v.path("VOLUME.new")
	f, err := fs.Create(tmp, pvfs.WriteCategoryUnspecified)
	if err != nil {
		return ioError("volume.Open", err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err2 := f.Close(); err == nil {
		err = err2
	}
	// The directories first: VOLUME promises that they are there.
	if err == nil {
		err = vfs.SyncDir(fs, v.cfg.Dir)
	}
	if err == nil {
		err = vfs.SyncDir(fs, fs.PathDir(v.cfg.Dir))
	}
	if err == nil {
		err = fs.Rename(tmp, v.path("VOLUME"))
	}
	if err == nil {
		err = vfs.SyncDir(fs, v.cfg.Dir)
	}
	return ioError("volume.Open", err)
}

// start begins the volume's goroutines: a writer for each lane, and the
// background one of background.go.
func (v *Volume) start() {
	for _, l := range v.lanes {
		v.bg.wg.Go(l.run)
	}
	v.startBackground()
}

// stop ends the goroutines; what is queued is written first.
func (v *Volume) stop() {
	v.stopBackground()
	for _, l := range v.lanes {
		l.mu.Lock()
		l.closed = true
		l.cond.Broadcast()
		l.mu.Unlock()
	}
	v.bg.wg.Wait()
}

// beginGeneration counts this opening, durably, and with it notes the spaces that
// are new.
func (v *Volume) beginGeneration(ctx context.Context) error {
	b := v.NewBatch(Meta)
	b.own, b.urgent = true, true
	old, _, err := v.entry(ownSpace, generationKey)
	if err != nil {
		return err
	}
	b.Put(ownSpace, generationKey, binary.LittleEndian.AppendUint64(nil, v.generation), nil, old.ref)
	spaces := v.encodeSpaces()
	if old, _, err = v.entry(ownSpace, spacesKey); err != nil {
		return err
	}
	if !bytes.Equal(old.head, spaces) {
		b.Put(ownSpace, spacesKey, spaces, nil, old.ref)
	}
	return v.Commit(ctx, b)
}

// Identity returns the volume's id, how often it has been opened, and how many
// frames it has made durable in all. Both numbers only ever grow; a device that
// comes back with less than its peers remember has lost something.
func (v *Volume) Identity() (id [16]byte, generation, durable uint64) {
	for _, l := range v.lanes {
		durable += l.durable.Load()
	}
	return v.id, v.generation, durable
}

// Close writes what is queued, flushes the index and closes. It may be called
// more than once. No other call may be running or follow, and iterators must have
// been closed.
func (v *Volume) Close() error {
	v.closeOnce.Do(func() {
		close(v.closing)
		v.stop()
		err := v.failure()
		if err == nil {
			err = v.markClean()
		}
		if err2 := v.closeIndex(); err == nil {
			err = err2
		}
		v.releaseAll()
		v.closeErr = err
	})
	return v.closeErr
}

// markClean flushes the index with a mark that nothing is to be replayed.
func (v *Volume) markClean() error {
	mark := binary.LittleEndian.AppendUint64(nil, v.generation)
	mark = append(mark, 0)
	for l, lane := range v.lanes {
		if lane.seg != nil {
			mark[8] |= 1 << l
		}
	}
	if err := v.db.Set(cleanKey, mark, pebble.NoSync); err != nil {
		return ioError("volume.Close", err)
	}
	if err := v.db.Flush(); err != nil {
		return ioError("volume.Close", err)
	}
	return v.failure()
}

func (v *Volume) closeIndex() error {
	return ioError("volume.Close", v.db.Close())
}

// fail records that the volume has failed for good, if err is the first to say so,
// and returns the error that commits now answer.
//
// A write or sync that failed is never tried again: the kernel may have dropped
// the dirty pages, so that a second fsync would succeed without them.
func (v *Volume) fail(err error) error {
	e := &errs.Error{Op: "volume", Kind: errs.Unavailable, What: "the device has failed", Err: err}
	if v.failed.CompareAndSwap(nil, e) {
		v.cfg.Logger.Error("device failed", "volume", v.cfg.Dir, "err", err)
		if v.cfg.OnFail != nil && v.opened.Load() {
			go v.cfg.OnFail(e)
		}
		go func() { // not here: the caller may hold any lock
			for _, l := range v.lanes {
				l.failAll(e)
			}
		}()
	}
	return v.failed.Load()
}

// failure returns why the volume has failed, or nil.
func (v *Volume) failure() error {
	if e := v.failed.Load(); e != nil {
		return e
	}
	return nil
}

// indexError hears of pebble's failed flushes and compactions. Pebble would try
// again; we do not trust a device after an I/O error.
func (v *Volume) indexError(err error) {
	if !isNoSpace(err) && !pebble.IsCorruptionError(err) {
		v.fail(err)
	}
}

// Commit makes the batch's changes durable, then visible to readers, and then
// returns. After errs.Full nothing was changed; so too after errs.Canceled. After
// errs.OutcomeUnknown (ctx ended while the disk was writing) and errs.Unavailable
// (the device failed) the batch may be found whole or not at all.
func (v *Volume) Commit(ctx context.Context, b *Batch) error {
	if err := v.admit(b); err != nil || len(b.list) == 0 {
		b.release()
		return err
	}
	l, done := v.lanes[b.lane], b.done // of a batch that is left behind nothing may be read
	if err := l.enqueue(ctx, b); err != nil {
		b.release()
		return err
	}
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		if err, gone := l.abandon(ctx, b); gone {
			return err
		}
		r = <-done
	}
	if !r.left {
		b.release()
	}
	return r.err
}

// CommitLazy lets the batch join the next group and does not wait for it; it
// blocks only while the queue is full. A crash may lose it, but never half of it,
// and never while something that the same goroutine has committed later stays. Key
// and values are the caller's again when it returns.
func (v *Volume) CommitLazy(b *Batch) {
	if v.admit(b) != nil || len(b.list) == 0 {
		b.release()
		return
	}
	b.lazy = true
	for i := range b.list {
		b.list[i].spill = slices.Clone(b.list[i].spill)
		b.list[i].tail = slices.Clone(b.list[i].tail)
	}
	if v.lanes[b.lane].enqueue(context.Background(), b) != nil {
		b.release()
	}
}

// admit checks a batch before it may queue.
func (v *Volume) admit(b *Batch) error {
	if b.err != nil {
		return b.err
	}
	if n := b.Bytes(); n > v.cfg.MaxBatchBytes && !b.own {
		return errs.New("volume.Commit", errs.TooLarge, "a batch of %d bytes, at most %d", n, v.cfg.MaxBatchBytes)
	}
	if err := v.failure(); err != nil {
		return err
	}
	if !b.urgent && !b.frees && v.space.full(v) {
		return errs.New("volume.Commit", errs.Full, "the disk is within its reserve")
	}
	return nil
}

// spaceGuard remembers whether the disk is full, asking it at most ten times a second.
type spaceGuard struct {
	reserve atomic.Int64
	asked   atomic.Int64 // Unix nanoseconds
	is      atomic.Bool
	free    atomic.Int64
}

const askSpaceEvery = int64(100 * time.Millisecond)

func (g *spaceGuard) full(v *Volume) bool {
	now := time.Now().UnixNano()
	if last := g.asked.Load(); now-last >= askSpaceEvery && g.asked.CompareAndSwap(last, now) {
		g.ask(v)
	}
	return g.is.Load()
}

func (g *spaceGuard) ask(v *Volume) {
	u, err := v.cfg.FS.GetDiskUsage(v.cfg.Dir)
	if err != nil {
		return // not every file system can tell
	}
	reserve := v.cfg.ReserveBytes
	if reserve == 0 {
		reserve = min(gib, int64(u.TotalBytes/20))
	}
	g.reserve.Store(reserve)
	g.free.Store(int64(u.AvailBytes))
	g.is.Store(int64(u.AvailBytes) < reserve)
}

// Value is an entry as Get found it.
type Value struct {
	// Head is the entry's head; it is the caller's to keep.
	Head []byte
	// Ref is where the entry lies in the log, to be given as old to the batch that
	// replaces or deletes it. Zero if the log need not keep it.
	Ref Ref
	// TailLen is the length of its tail in bytes.
	TailLen int

	space   SpaceID
	key     []byte
	tailAt  uint32 // from Ref.Offset
	tailSum uint64
}

// withKey calls f with the index key of an entry.
func (v *Volume) withKey(space SpaceID, key []byte, f func(k []byte) error) error {
	buf := v.keys.Get().(*[]byte)
	k := indexKey((*buf)[:0], space, key)
	err := f(k)
	*buf = k
	v.keys.Put(buf)
	return err
}

// entry looks an index entry up; its head is an own copy.
func (v *Volume) entry(space SpaceID, key []byte) (e indexEntry, found bool, err error) {
	err = v.withKey(space, key, func(k []byte) error {
		var val []byte
		if val, found, err = lookup(v.db, k); err == nil && found {
			e, err = decodeIndexValue(val)
		}
		return err
	})
	return e, found && err == nil, err
}

// Get returns an entry. errs.NotFound: there is none. errs.Corrupt: its bytes in
// the log have rotted. Vectors of counters are for Counters to read.
func (v *Volume) Get(space SpaceID, key []byte) (Value, error) {
	for {
		e, found, err := v.entry(space, key)
		if err != nil {
			return Value{}, err
		}
		if !found {
			return Value{}, errs.New("volume.Get", errs.NotFound, "")
		}
		val, moved, err := v.value(space, key, &e)
		if !moved {
			return val, err
		}
	}
}

// value makes the Value of an index entry, whose head it takes over. moved says
// that the entry's segment is gone, so that it must be looked up again.
func (v *Volume) value(space SpaceID, key []byte, e *indexEntry) (val Value, moved bool, err error) {
	val = Value{Head: e.head, Ref: e.ref, TailLen: int(e.tailLen), space: space, tailSum: e.tailSum}
	if e.tailLen > 0 {
		val.key = slices.Clone(key)
	}
	if e.spilled {
		val.tailAt = e.headLen
		val.Head = make([]byte, e.headLen)
		moved, err = v.readBlob(e.ref, 0, val.Head)
		if err == nil && !moved && xxhash.Sum64(val.Head) != e.headSum {
			err = v.corrupt(e.ref, "checksum of a head")
		}
	}
	return val, moved, err
}

// Has reports whether there is an entry.
func (v *Volume) Has(space SpaceID, key []byte) (bool, error) {
	found := false
	err := v.withKey(space, key, func(k []byte) error {
		_, closer, err := v.db.Get(k)
		if err == pebble.ErrNotFound {
			return nil
		}
		if err != nil {
			return errs.Wrap("volume.Has", indexKind(err), err)
		}
		found = true
		return closer.Close()
	})
	return found, err
}

// Counters returns the vector of counters at key, nil if there is none.
func (v *Volume) Counters(space SpaceID, key []byte) ([]int64, error) {
	e, found, err := v.entry(space, key)
	if err != nil || !found || !e.counters {
		return nil, err
	}
	sum, ok := addCounters(nil, e.head)
	if !ok {
		return nil, errs.New("volume.Counters", errs.Corrupt, "a vector of counters")
	}
	return sum, nil
}

// ReadTail appends the bytes [off, off+n) of a value's tail to dst and returns it.
// A read of the whole tail verifies its checksum (errs.Corrupt); a part cannot be.
// The value may be any that Get or an iterator has returned, also if compaction
// has since moved it. errs.NotFound: it was replaced or deleted since, and its
// bytes have been reclaimed.
func (v *Volume) ReadTail(val Value, off, n int, dst []byte) ([]byte, error) {
	if off < 0 || n < 0 || off > val.TailLen || n > val.TailLen-off {
		return dst, errs.New("volume.ReadTail", errs.BadRange, "[%d, %d) of %d bytes", off, off+n, val.TailLen)
	}
	if n == 0 {
		return dst, nil
	}
	at := len(dst)
	dst = slices.Grow(dst, n)[:at+n]
	for {
		moved, err := v.readBlob(val.Ref, int64(val.tailAt)+int64(off), dst[at:])
		if err != nil {
			return dst[:at], err
		}
		if !moved {
			break
		}
		e, found, err := v.entry(val.space, val.key)
		if err != nil {
			return dst[:at], err
		}
		if !found || e.tailSum != val.tailSum || int(e.tailLen) != val.TailLen || e.ref.same(val.Ref) {
			return dst[:at], errs.New("volume.ReadTail", errs.NotFound, "the entry has been replaced")
		}
		val.Ref, val.tailAt = e.ref, 0
		if e.spilled {
			val.tailAt = e.headLen
		}
	}
	if n == val.TailLen && xxhash.Sum64(dst[at:]) != val.tailSum {
		return dst[:at], v.corrupt(val.Ref, "checksum of a tail")
	}
	return dst, nil
}

// readBlob fills p from off bytes into an entry's blob. gone says that its
// segment is no more.
func (v *Volume) readBlob(r Ref, off int64, p []byte) (gone bool, err error) {
	s, ok, err := v.segs.acquire(r.Segment)
	if err != nil || !ok {
		return !ok, err
	}
	err = readFull(s.file, p, int64(r.Offset)+off)
	v.segs.release(s)
	if err == io.ErrUnexpectedEOF {
		return false, v.corrupt(r, "the segment ends before the entry")
	}
	return false, ioError("volume.read", err)
}

// corrupt reports damage found at an entry and returns the error for its reader.
func (v *Volume) corrupt(r Ref, what string) error {
	v.report(Finding{Kind: EntryCorrupt, Segment: r.Segment, From: int64(r.Offset), To: int64(r.Offset) + int64(r.Length), What: what})
	return errs.New("volume.read", errs.Corrupt, "%s at %v", what, r)
}
