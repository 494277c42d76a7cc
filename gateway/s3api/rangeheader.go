package s3api

import (
	"strconv"
	"strings"
)

// span is a part of an object's bytes.
type span struct{ off, n int64 }

// parseRange reads a Range header for an object of size bytes. ok is false when
// the header counts as absent: in another unit, malformed, or with several
// ranges, for which S3 sends the whole object. An error is 416.
func parseRange(header string, size int64) (s span, ok bool, err error) {
	first, last, suffix, ok := splitRange(header)
	if !ok {
		return span{}, false, nil
	}
	switch {
	case suffix && last == 0, !suffix && first >= size, size == 0:
		return span{}, true, refuse("InvalidRange", "", "RangeRequested", header, "ActualObjectSize", decimal(size))
	case suffix:
		n := min(last, size)
		return span{size - n, n}, true, nil
	case last < 0 || last >= size:
		last = size - 1
	}
	return span{first, last - first + 1}, true, nil
}

// splitRange reads "bytes=first-last", "bytes=first-" (last is then -1) or
// "bytes=-last" (suffix).
func splitRange(header string) (first, last int64, suffix, ok bool) {
	const unit = "bytes="
	if len(header) < len(unit) || !strings.EqualFold(header[:len(unit)], unit) {
		return 0, 0, false, false
	}
	a, b, found := strings.Cut(strings.TrimSpace(header[len(unit):]), "-")
	if !found {
		return 0, 0, false, false
	}
	a, b = strings.TrimSpace(a), strings.TrimSpace(b)
	if a == "" {
		last, ok = rangeNumber(b)
		return 0, last, true, ok
	}
	if first, ok = rangeNumber(a); !ok {
		return 0, 0, false, false
	}
	if b == "" {
		return first, -1, false, true
	}
	if last, ok = rangeNumber(b); !ok || last < first {
		return 0, 0, false, false
	}
	return first, last, false, true
}

// rangeNumber reads decimal digits. A number beyond int64 is as good as the
// largest one.
func rangeNumber(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 1<<63 - 1, true
	}
	return n, true
}

// parseCopyRange reads x-amz-copy-source-range, which must be bytes=first-last
// and lie within the source.
func parseCopyRange(header string, size int64) (span, error) {
	first, last, suffix, ok := splitRange(header)
	if !ok || suffix || last < 0 {
		return span{}, invalidArgument("x-amz-copy-source-range", header,
			"The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy")
	}
	if last >= size {
		return span{}, invalidArgument("x-amz-copy-source-range", header,
			"Range specified is not valid for source object of size: "+decimal(size))
	}
	return span{first, last - first + 1}, nil
}
