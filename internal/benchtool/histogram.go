package benchtool

import (
	"math"
	"math/bits"
	"time"
)

// The histogram's buckets grow with the value: subBuckets of them to each power
// of two, so that a value is known to within 1/subBuckets of itself (0.8 %),
// from a nanosecond to about an hour, in 36 KiB. The layout is that of Gil Tene's
// HdrHistogram.
const (
	subBits    = 7
	subBuckets = 1 << subBits
	maxBits    = 42 // 2^42 ns is 73 minutes
	bucketsLen = (maxBits - subBits + 1) * subBuckets
)

// histogram counts durations. It has no lock: each worker has its own, and they
// are merged when the workers have ended.
type histogram struct {
	counts [bucketsLen]uint64
	total  uint64
	sum    time.Duration
	max    time.Duration
}

// bucketOf returns the bucket for a value of v nanoseconds. Values below
// subBuckets have a bucket each; above, a value's top bits choose it.
func bucketOf(v uint64) int {
	if v < subBuckets {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return min((shift+1)*subBuckets+int(v>>shift)-subBuckets, bucketsLen-1)
}

// upperBound returns the largest value that bucketOf puts into bucket b.
func upperBound(b int) uint64 {
	if b < subBuckets {
		return uint64(b)
	}
	shift := b/subBuckets - 1
	return uint64(b%subBuckets+subBuckets+1)<<shift - 1
}

// record counts d; a negative one (a clock that stepped) counts as zero.
func (h *histogram) record(d time.Duration) {
	d = max(d, 0)
	h.counts[bucketOf(uint64(d))]++
	h.total++
	h.sum += d
	h.max = max(h.max, d)
}

// merge adds other's counts to h.
func (h *histogram) merge(other *histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
	h.sum += other.sum
	h.max = max(h.max, other.max)
}

// quantile returns a duration that the share q of all recorded ones does not
// exceed, and 0 if none was recorded.
func (h *histogram) quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	rank := uint64(math.Ceil(q * float64(h.total)))
	rank = min(max(rank, 1), h.total)
	var seen uint64
	for b, n := range h.counts {
		if seen += n; seen >= rank {
			return min(time.Duration(upperBound(b)), h.max)
		}
	}
	return h.max
}

// mean returns the average, and 0 if nothing was recorded.
func (h *histogram) mean() time.Duration {
	if h.total == 0 {
		return 0
	}
	return h.sum / time.Duration(h.total)
}
