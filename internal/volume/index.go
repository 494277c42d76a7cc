package volume

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"

	"ringfort/internal/errs"
)

// ownSpace is the volume's own key space in the index. Below it lie:
//
//	'p' lane(1)          position: segment(4) offset(4) seq(8), the frames applied
//	's' segment(4, BE)   lane(1) live(8) tombs(8) entries(8) end(4) of a segment
//	'f' number(8, BE)    a Finding
//	'g'                  generation(8), as an entry that is Kept
//	'd'                  the spaces, likewise: see spaces.go
//	'l' space(1)         nothing: Rebuild could not fill the space
//	'c'                  generation(8) of the last clean close, lanes(1) that can be written on
const ownSpace SpaceID = 0

func positionKey(l Lane) []byte { return []byte{byte(ownSpace), 'p', byte(l)} }

func segmentKey(id SegmentID) []byte {
	return binary.BigEndian.AppendUint32([]byte{byte(ownSpace), 's'}, uint32(id))
}

func findingKey(n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{byte(ownSpace), 'f'}, n)
}

var (
	generationKey = []byte{'g'}
	cleanKey      = []byte{byte(ownSpace), 'c'}
)

// indexKey appends the index's key of an entry.
func indexKey(dst []byte, space SpaceID, key []byte) []byte {
	return append(append(dst, byte(space)), key...)
}

// position is how far a lane's log has been applied to the index.
type position struct {
	segment SegmentID
	offset  uint32 // behind the last frame applied
	seq     uint64 // of that frame
}

func (p position) encode() []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(p.segment))
	b = binary.LittleEndian.AppendUint32(b, p.offset)
	return binary.LittleEndian.AppendUint64(b, p.seq)
}

func decodePosition(b []byte) (position, error) {
	if len(b) != 16 {
		return position{}, errs.New("volume.index", errs.Corrupt, "a position of %d bytes", len(b))
	}
	return position{
		segment: SegmentID(binary.LittleEndian.Uint32(b)),
		offset:  binary.LittleEndian.Uint32(b[4:]),
		seq:     binary.LittleEndian.Uint64(b[8:]),
	}, nil
}

// An index value is one tag byte, what the tag says, and the head:
//
//	located    segment(4) offset(4) length(4)
//	first      segment(4)                      of the oldest copy, if not the same
//	spilled    uvarint length, checksum(8)     of the head, which then lies in the log
//	tail       uvarint length, checksum(8)
//
// A vector of counters has the tag alone and then uvarint n and n zigzag varints.
// The two other bits of a tag are a newer program's.
const (
	tagLocated  = 1 << 0
	tagFirst    = 1 << 1
	tagSpilled  = 1 << 2
	tagTail     = 1 << 3
	tagValue    = 1 << 6
	tagCounters = 1 << 7

	tagsKnown = tagLocated | tagFirst | tagSpilled | tagTail | tagValue | tagCounters
)

// indexEntry is an index value taken apart.
type indexEntry struct {
	ref      Ref
	head     []byte // aliases the value; nil if spilled
	spilled  bool
	headLen  uint32
	headSum  uint64
	tailLen  uint32
	tailSum  uint64
	counters bool // head is then the encoded vector
}

// appendIndexValue appends the value of a Put or Move at ref; a zero ref leaves
// the location out.
func appendIndexValue(dst []byte, o *logOp, ref Ref) []byte {
	le := binary.LittleEndian
	at := len(dst)
	dst = append(dst, tagValue)
	if !ref.IsZero() {
		dst[at] |= tagLocated
		dst = le.AppendUint32(dst, uint32(ref.Segment))
		dst = le.AppendUint32(dst, ref.Offset)
		dst = le.AppendUint32(dst, ref.Length)
		if ref.first != ref.Segment {
			dst[at] |= tagFirst
			dst = le.AppendUint32(dst, uint32(ref.first))
		}
	}
	if o.flags&flagSpilled != 0 {
		dst[at] |= tagSpilled
		dst = binary.AppendUvarint(dst, uint64(o.headLen))
		dst = le.AppendUint64(dst, o.headSum)
	}
	if o.flags&flagTail != 0 {
		dst[at] |= tagTail
		dst = binary.AppendUvarint(dst, uint64(o.tailLen))
		dst = le.AppendUint64(dst, o.tailSum)
	}
	if o.flags&flagSpilled == 0 {
		dst = append(dst, o.head...)
	}
	return dst
}

// maxIndexValue is how much longer than its head an index value may be.
const maxIndexOverhead = 1 + 16 + 2*(5+8)

// decodeIndexValue takes an index value apart.
func decodeIndexValue(b []byte) (e indexEntry, err error) {
	if len(b) == 0 || b[0]&(tagValue|tagCounters) == 0 {
		return e, errs.New("volume.index", errs.Corrupt, "an index value without a tag")
	}
	tag := b[0]
	if tag&^tagsKnown != 0 {
		return e, newer("an index value with tag %#x", tag)
	}
	if tag&tagCounters != 0 {
		if tag != tagCounters {
			return e, errs.New("volume.index", errs.Corrupt, "an index value with tag %#x", tag)
		}
		e.counters, e.head = true, b[1:]
		return e, nil
	}
	r := opReader{b: b, pos: 1}
	if tag&tagLocated != 0 {
		e.ref = Ref{Segment: SegmentID(r.u32()), Offset: r.u32(), Length: r.u32()}
		e.ref.first = e.ref.Segment
		if tag&tagFirst != 0 {
			e.ref.first = SegmentID(r.u32())
		}
	}
	if tag&tagSpilled != 0 {
		e.spilled = true
		e.headLen, e.headSum = r.length(), r.u64()
	}
	if tag&tagTail != 0 {
		e.tailLen, e.tailSum = r.length(), r.u64()
	}
	if r.err || tag&(tagSpilled|tagTail|tagFirst) != 0 && e.ref.IsZero() || tag&tagLocated != 0 && e.ref.IsZero() {
		return indexEntry{}, errs.New("volume.index", errs.Corrupt, "an index value cut short")
	}
	if !e.spilled {
		e.head = b[r.pos:]
		e.headLen = uint32(len(e.head))
	}
	return e, nil
}

// appendCounters appends the encoding of a vector.
func appendCounters(dst []byte, v []int64) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(v)))
	for _, n := range v {
		dst = binary.AppendVarint(dst, n)
	}
	return dst
}

// addCounters adds an encoded vector to sum, which grows as needed. It reports
// whether the encoding was sound; what came before a bad byte is added.
func addCounters(sum []int64, b []byte) ([]int64, bool) {
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)-k) {
		return sum, false
	}
	b = b[k:]
	for i := 0; i < int(n); i++ {
		d, k := binary.Varint(b)
		if k <= 0 {
			return sum, false
		}
		b = b[k:]
		if i == len(sum) {
			sum = append(sum, 0)
		}
		sum[i] += d
	}
	return sum, len(b) == 0
}

// counterMerger adds vectors of counters. A base that is no vector counts as
// nothing: a merge must never fail, since pebble would try the same compaction
// for ever.
func counterMerger() *pebble.Merger {
	return &pebble.Merger{
		Name: "ringfort.counters.v1",
		Merge: func(_, value []byte) (pebble.ValueMerger, error) {
			m := &counterMerge{}
			m.add(value)
			return m, nil
		},
	}
}

type counterMerge struct{ sum []int64 }

func (m *counterMerge) add(value []byte) {
	if len(value) > 0 && value[0] == tagCounters {
		m.sum, _ = addCounters(m.sum, value[1:])
	}
}

func (m *counterMerge) MergeNewer(value []byte) error { m.add(value); return nil }
func (m *counterMerge) MergeOlder(value []byte) error { m.add(value); return nil }
func (m *counterMerge) Finish(bool) ([]byte, io.Closer, error) {
	return appendCounters([]byte{tagCounters}, m.sum), nil, nil
}

// indexLogger passes pebble's complaints on. Pebble calls Fatalf for what it
// cannot go on from, such as a failed write of its manifest; for us that is the
// end of this volume and not of the process.
type indexLogger struct{ v *Volume }

func (l indexLogger) Infof(string, ...any) {}
func (l indexLogger) Errorf(format string, args ...any) {
	l.v.cfg.Logger.Error("index: "+fmt.Sprintf(format, args...), "volume", l.v.cfg.Dir)
}
func (l indexLogger) Fatalf(format string, args ...any) {
	l.v.fail(errs.New("volume.index", errs.Unavailable, format, args...))
}

// openIndex opens pebble in a directory of the volume.
func (v *Volume) openIndex(dir string, mustExist bool) error {
	opts := &pebble.Options{
		FS:                          indexFS{FS: v.cfg.FS, v: v},
		Cache:                       v.cfg.Cache,
		Comparer:                    pebble.DefaultComparer,
		DisableWAL:                  true,
		ErrorIfNotExists:            mustExist,
		FormatMajorVersion:          pebble.FormatValueSeparation, // named: a newer library must not raise it unasked
		Logger:                      indexLogger{v},
		MemTableSize:                uint64(v.cfg.MemTableBytes),
		MemTableStopWritesThreshold: 4,
		// As much as eight flushes is compacted at a time into a level of about that
		// size: compacting smaller lots rewrites the level more often.
		L0CompactionThreshold: 8,
		L0StopWritesThreshold: 24,
		LBaseMaxBytes:         16 << 20,
		MaxOpenFiles:          256,
		Merger:                counterMerger(),
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { v.indexError(err) },
			DataCorruption: func(i pebble.DataCorruptionInfo) {
				v.report(Finding{Kind: IndexCorrupt, Path: i.Path, What: fmt.Sprint(i.Details)})
			},
			FlushEnd: func(pebble.FlushInfo) { v.kickBackground() },
		},
	}
	// Most lookups are for keys that are not there, and read one random block of
	// the last level, whose filters Pebble does not use: blocks are small and not
	// compressed (there is little to gain on hashes, and a quarter of a lookup's
	// time to lose), and index blocks large, so that there is one level of them.
	for i := range opts.Levels {
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		opts.Levels[i].FilterType = sstable.TableFilter
		opts.Levels[i].BlockSize = 4 << 10
		opts.Levels[i].IndexBlockSize = 128 << 10
		opts.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	}
	db, err := pebble.Open(v.path(dir), opts)
	if errors.Is(err, pebble.ErrDBDoesNotExist) {
		return errs.New("volume.Open", errs.Corrupt, "%s: the index is missing; rebuild it from the log", v.cfg.Dir)
	}
	if err != nil {
		return ioError("volume.Open", err)
	}
	v.db = db
	return v.failure()
}

// lookup reads one index entry into an own copy. found is false if it is absent.
func lookup(r pebble.Reader, key []byte) (val []byte, found bool, err error) {
	p, closer, err := r.Get(key)
	if err == pebble.ErrNotFound {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, errs.Wrap("volume.index", indexKind(err), err)
	}
	val = append([]byte(nil), p...)
	return val, true, closer.Close()
}

// indexKind is the kind of an error that pebble returned.
func indexKind(err error) errs.Kind {
	if pebble.IsCorruptionError(err) {
		return errs.Corrupt
	}
	return errs.Unavailable
}
