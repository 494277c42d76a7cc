package volume

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	pvfs "github.com/cockroachdb/pebble/v2/vfs"

	"ringfort/internal/vfs"
)

// segment is one file of the log.
type segment struct {
	id   SegmentID
	lane Lane
	path string
	end  atomic.Int64 // where its frames end; grows while it is the lane's last

	moved   atomic.Bool // compaction has begun to move entries: Refs into it may be stale, for good
	retired bool        // compaction is done with it; guarded by background.compactMu

	// Guarded by Volume.applyMu.
	live    int64 // bytes of entries that the index points at
	tombs   int64 // bytes of deletes that may have to stay
	entries int64 // entries it ever held that must be looked up before it goes

	// Guarded by segments.mu.
	file vfs.File // for reading, nil: not open
	refs int      // readers at this moment
	gone bool     // no readers are let in
	used uint64   // when it was last read, in ticks of segments.tick
}

func segmentName(l Lane, id SegmentID) string { return fmt.Sprintf("%s-%08x.seg", l, uint32(id)) }
func freeName(l Lane, id SegmentID) string {
	return fmt.Sprintf("free-%s-%08x.seg", l, uint32(id))
}

// parseSegmentName reads a file name of the log directory.
func parseSegmentName(name string) (l Lane, id SegmentID, free, ok bool) {
	rest, free := strings.CutPrefix(name, "free-")
	for l := range Lane(lanes) {
		var n uint32
		if _, err := fmt.Sscanf(rest, l.String()+"-%08x.seg", &n); err == nil && n > 0 {
			id := SegmentID(n)
			want := segmentName(l, id)
			return l, id, free, rest == want
		}
	}
	return 0, 0, false, false
}

// segments is the table of a volume's segments and the cache of their
// descriptors. Safe for concurrent use.
type segments struct {
	fs      vfs.FS
	maxOpen int

	table atomic.Pointer[map[SegmentID]*segment] // never changed, but replaced under mu

	mu   sync.Mutex // guards what follows, and the segments' fields that say so; no lock is taken under it
	open int
	tick uint64
}

func newSegments(fs vfs.FS, maxOpen int) *segments {
	t := &segments{fs: fs, maxOpen: maxOpen}
	t.table.Store(&map[SegmentID]*segment{})
	return t
}

// change replaces the table by a changed copy. With t.mu held.
func (t *segments) change(f func(map[SegmentID]*segment)) {
	m := maps.Clone(*t.table.Load())
	f(m)
	t.table.Store(&m)
}

func (t *segments) add(s *segment) {
	t.mu.Lock()
	t.change(func(m map[SegmentID]*segment) { m[s.id] = s })
	t.mu.Unlock()
}

// get returns a segment, or nil if it is gone.
func (t *segments) get(id SegmentID) *segment { return (*t.table.Load())[id] }

// lane returns a segment's lane; ok is false if it is gone.
func (t *segments) lane(id SegmentID) (l Lane, ok bool) {
	if s := t.get(id); s != nil {
		return s.lane, true
	}
	return Meta, false
}

// of returns a lane's segments, oldest first.
func (t *segments) of(l Lane) []*segment {
	var all []*segment
	for _, s := range *t.table.Load() {
		if s.lane == l {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *segment) int { return int(a.id) - int(b.id) })
	return all
}

// anyIn reports whether a segment other than but exists with lo <= id <= hi.
func (t *segments) anyIn(lo, hi, but SegmentID) bool {
	for id := range *t.table.Load() {
		if lo <= id && id <= hi && id != but {
			return true
		}
	}
	return false
}

// acquire opens a segment for reading and holds it until release. ok is false if
// the segment is gone.
func (t *segments) acquire(id SegmentID) (s *segment, ok bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s = t.get(id)
	if s == nil || s.gone {
		return nil, false, nil
	}
	if s.file == nil {
		f, err := t.fs.Open(s.path, pvfs.RandomReadsOption)
		if err != nil {
			return nil, true, ioError("volume.segment", err)
		}
		s.file = f
		t.open++
		t.shrink()
	}
	t.tick++
	s.used = t.tick
	s.refs++
	return s, true, nil
}

func (t *segments) release(s *segment) {
	t.mu.Lock()
	s.refs--
	t.mu.Unlock()
}

// shrink closes the descriptor longest unused while there are too many. With t.mu held.
func (t *segments) shrink() {
	for t.open > t.maxOpen {
		var oldest *segment
		for _, s := range *t.table.Load() {
			if s.file != nil && s.refs == 0 && (oldest == nil || s.used < oldest.used) {
				oldest = s
			}
		}
		if oldest == nil {
			return
		}
		oldest.file.Close()
		oldest.file = nil
		t.open--
	}
}

// end closes a segment to new readers and reports whether none is left.
func (t *segments) end(s *segment) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.gone = true
	if s.refs > 0 {
		return false
	}
	if s.file != nil {
		s.file.Close()
		s.file = nil
		t.open--
	}
	return true
}

// forget takes a segment that has ended out of the table.
func (t *segments) forget(s *segment) {
	t.mu.Lock()
	t.change(func(m map[SegmentID]*segment) { delete(m, s.id) })
	t.mu.Unlock()
}

// closeAll closes all descriptors.
func (t *segments) closeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range *t.table.Load() {
		if s.file != nil {
			s.file.Close()
			s.file = nil
			t.open--
		}
	}
}

// readFull reads len(p) bytes at off.
func readFull(f io.ReaderAt, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
