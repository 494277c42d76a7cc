package swiftapi

import (
	"strconv"
	"strings"
)

// span is n bytes from off.
type span struct{ off, n int64 }

// byteRange is one member of a Range header as it was written.
type byteRange struct {
	first, last int64 // last is -1 if it is not there
	suffix      bool  // last is a count of final bytes
}

// Limits against requests that make a server send much for little, those of
// Swift (RFC 9110, section 17.15).
const (
	maxRanges       = 50
	maxOverlaps     = 2
	maxOutOfOrder   = 7   // that many ranges may be out of order
	maxRangesParsed = 500 // of what one header may list; beyond it, it cannot be read
)

// parseRange reads a Range header. One that cannot be read, and so is void, is
// !ok; Swift counts a range that ends before it begins among those.
func parseRange(header string) (list []byteRange, ok bool) {
	header = strings.ReplaceAll(header, " ", "")
	if len(header) < 6 || !strings.EqualFold(header[:6], "bytes=") {
		return nil, false
	}
	for part := range strings.SplitSeq(header[6:], ",") {
		first, last, dash := strings.Cut(part, "-")
		r := byteRange{last: -1, suffix: first == ""}
		if !dash || first == "" && last == "" || len(list) == maxRangesParsed {
			return nil, false
		}
		if first != "" {
			if r.first, ok = position(first); !ok {
				return nil, false
			}
		}
		if last != "" {
			if r.last, ok = position(last); !ok {
				return nil, false
			}
			if !r.suffix && r.last < r.first {
				return nil, false
			}
		}
		list = append(list, r)
	}
	return list, true
}

// position reads digits; a number beyond all sizes is the greatest there is.
func position(s string) (int64, bool) {
	if strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 1<<63 - 1, true
	}
	return n, true
}

// resolve returns what of size bytes is asked for: nothing means that no member
// can be satisfied, or that there are too many.
func resolve(list []byteRange, size int64) []span {
	var spans []span
	for _, r := range list {
		switch {
		case r.suffix:
			if n := min(r.last, size); r.last > 0 {
				spans = append(spans, span{size - n, n})
			}
		case r.first >= size:
		case r.last < 0 || r.last >= size:
			spans = append(spans, span{r.first, size - r.first})
		default:
			spans = append(spans, span{r.first, r.last - r.first + 1})
		}
	}
	if excessive(spans) {
		return nil
	}
	return spans
}

// excessive reports whether ranges are more than an honest client asks for.
func excessive(spans []span) bool {
	if len(spans) > maxRanges {
		return true
	}
	overlaps, ordered := 0, true
	for i, a := range spans {
		if i > 0 && spans[i-1].off > a.off {
			ordered = false
		}
		for _, b := range spans[i+1:] {
			if a.off < b.off+b.n && b.off < a.off+a.n {
				overlaps++
			}
		}
	}
	return overlaps > maxOverlaps || !ordered && len(spans) > maxOutOfOrder
}

// contentRange prints a span of a whole, whose size is -1 if it is not known.
func (s span) contentRange(size int64) string {
	whole := "*"
	if size >= 0 {
		whole = strconv.FormatInt(size, 10)
	}
	return "bytes " + strconv.FormatInt(s.off, 10) + "-" + strconv.FormatInt(s.off+s.n-1, 10) + "/" + whole
}
