package volume

import "sync/atomic"

// Stats are numbers about a volume since it was opened, and about its present size.
type Stats struct {
	// Commits, Groups and LogBytes count batches, the frames that they shared, and
	// the bytes of those, by lane.
	Commits, Groups [2]int64
	LogBytes        [2]int64
	// UserBytes are keys, heads and tails committed, compaction's own left out.
	UserBytes int64
	// MovedBytes are the log bytes that compaction has written.
	MovedBytes int64
	// ZeroBytes are the zeros written ahead of the log.
	ZeroBytes int64
	// IndexBytes are what the index has flushed and compacted to disk.
	IndexBytes int64
	// IndexFlushes counts the index's flushes.
	IndexFlushes int64
	// Segments and SegmentBytes are the log's present files and what is used of
	// them; LiveBytes what of that is needed. By lane.
	Segments                [2]int
	SegmentBytes, LiveBytes [2]int64
	// IndexSize is the index's present size on disk, and IndexMemory what its
	// memory tables take.
	IndexSize, IndexMemory int64
	// FreeBytes is what the disk last said it has free, 0 if it cannot tell.
	FreeBytes int64
	// Findings counts the corruptions reported since the volume was opened.
	Findings int64
}

// counters are the running ones.
type counters struct {
	commits, groups [lanes]atomic.Int64
	user, moved     atomic.Int64
	zeros           atomic.Int64
}

// WrittenPerStored is how many bytes went to disk for each byte committed.
func (s Stats) WrittenPerStored() float64 {
	if s.UserBytes == 0 {
		return 0
	}
	return float64(s.LogBytes[Meta]+s.LogBytes[Bulk]+s.ZeroBytes+s.IndexBytes) / float64(s.UserBytes)
}

// Stats returns the volume's numbers.
func (v *Volume) Stats() Stats {
	m := v.db.Metrics()
	s := Stats{
		UserBytes: v.stats.user.Load(), MovedBytes: v.stats.moved.Load(), ZeroBytes: v.stats.zeros.Load(),
		IndexFlushes: m.Flush.Count, IndexSize: int64(m.DiskSpaceUsage()), IndexMemory: int64(m.MemTable.Size),
		FreeBytes: v.space.free.Load(),
	}
	for i := range m.Levels {
		s.IndexBytes += int64(m.Levels[i].TableBytesFlushed + m.Levels[i].TableBytesCompacted)
	}
	for l := range Lane(lanes) {
		s.Commits[l], s.Groups[l] = v.stats.commits[l].Load(), v.stats.groups[l].Load()
		s.LogBytes[l] = v.lanes[l].written.Load()
	}
	v.applyMu.Lock()
	for l := range Lane(lanes) {
		for _, seg := range v.segs.of(l) {
			s.Segments[l]++
			s.SegmentBytes[l] += seg.end.Load()
			s.LiveBytes[l] += seg.live
		}
	}
	v.applyMu.Unlock()
	v.finds.mu.Lock()
	s.Findings = v.finds.count
	v.finds.mu.Unlock()
	return s
}
