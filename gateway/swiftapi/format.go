package swiftapi

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"ringfort/gateway/ops"
)

// formatKind is how a listing is printed.
type formatKind int

const (
	plain formatKind = iota
	jsonText
	xmlText
)

// format is a listing's form and what it is called.
type format struct {
	kind        formatKind
	contentType string // with its charset
}

// formats in the order of Swift's preference.
var formats = [...]struct {
	mediaType string
	format
}{
	{"text/plain", format{plain, "text/plain; charset=utf-8"}},
	{"application/json", format{jsonText, "application/json; charset=utf-8"}},
	{"application/xml", format{xmlText, "application/xml; charset=utf-8"}},
	{"text/xml", format{xmlText, "text/xml; charset=utf-8"}},
}

// format chooses a listing's form by the format parameter or the Accept header.
func (q *request) format() (format, error) {
	switch strings.ToLower(q.params["format"]) {
	case "":
	case "json":
		return formats[1].format, nil
	case "xml":
		return formats[2].format, nil
	default:
		return formats[0].format, nil
	}
	if len(q.r.Header["Accept"]) == 0 {
		return formats[0].format, nil
	}
	for _, pattern := range acceptable(strings.Join(q.r.Header["Accept"], ",")) {
		for i := range formats {
			if mediaMatch(pattern, formats[i].mediaType) {
				return formats[i].format, nil
			}
		}
	}
	return format{}, refuse(http.StatusNotAcceptable, "")
}

// acceptable returns the media types of an Accept header, the most wanted first.
func acceptable(header string) []string {
	type choice struct {
		pattern string
		q       float64
	}
	var choices []choice
	for part := range strings.SplitSeq(header, ",") {
		pattern, rest, _ := strings.Cut(part, ";")
		c := choice{strings.ToLower(strings.TrimSpace(pattern)), 1}
		for param := range strings.SplitSeq(rest, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
			if strings.TrimSpace(name) != "q" {
				continue
			}
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil || !(v >= 0 && v <= 1) {
				v = 0
			}
			c.q = v
		}
		if c.pattern != "" && c.q > 0 {
			choices = append(choices, c)
		}
	}
	slices.SortStableFunc(choices, func(a, b choice) int {
		switch {
		case a.q > b.q:
			return -1
		case a.q < b.q:
			return 1
		}
		return 0
	})
	out := make([]string, len(choices))
	for i := range choices {
		out[i] = choices[i].pattern
	}
	return out
}

func mediaMatch(pattern, mediaType string) bool {
	if pattern == "*/*" || pattern == mediaType {
		return true
	}
	major, ok := strings.CutSuffix(pattern, "/*")
	return ok && strings.HasPrefix(mediaType, major+"/")
}

const xmlHeader = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"

// lineBytes is what a line of a listing beside its name takes, about.
const lineBytes = 220

// objects prints a page of a container.
func (f format) objects(container string, items []ops.Item) []byte {
	size := 64
	for i := range items {
		size += len(items[i].Name) + 1
	}
	if f.kind != plain {
		size += len(items) * lineBytes
	}
	b := make([]byte, 0, size)
	switch f.kind {
	case plain:
		for i := range items {
			b = append(append(b, items[i].Name...), '\n')
		}
	case jsonText:
		b = append(b, '[')
		for i := range items {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendObjectJSON(b, &items[i])
		}
		b = append(b, ']')
	case xmlText:
		b = append(b, xmlHeader+`<container name="`...)
		b = append(appendXML(b, container), `">`...)
		for i := range items {
			b = appendObjectXML(b, &items[i])
		}
		b = append(b, "</container>"...)
	}
	return b
}

// shownSize is the size that a listing shows: that of the whole, for a static
// large object.
func shownSize(it *ops.Item) int64 {
	if s, ok := it.Extra.Lookup(metaSLOSize); ok {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return n
		}
	}
	return it.Size
}

func appendObjectJSON(b []byte, it *ops.Item) []byte {
	if it.CommonPrefix {
		b = append(b, `{"subdir":`...)
		return append(appendJSON(b, it.Name), '}')
	}
	b = append(b, `{"bytes":`...)
	b = strconv.AppendInt(b, shownSize(it), 10)
	b = append(b, `,"hash":`...)
	b = appendJSON(b, it.ETag)
	b = append(b, `,"name":`...)
	b = appendJSON(b, it.Name)
	b = append(b, `,"content_type":`...)
	b = appendJSON(b, it.ContentType)
	if etag, ok := it.Extra.Lookup(metaSLOETag); ok {
		b = append(b, `,"slo_etag":`...)
		b = appendJSON(b, `"`+etag+`"`)
	}
	b = append(b, `,"last_modified":"`...)
	b = appendListTime(b, it.Modified)
	return append(b, `"}`...)
}

func appendObjectXML(b []byte, it *ops.Item) []byte {
	if it.CommonPrefix {
		b = append(appendXML(append(b, `<subdir name="`...), it.Name), `"><name>`...)
		return append(appendXML(b, it.Name), `</name></subdir>`...)
	}
	b = append(appendXML(append(b, "<object><name>"...), it.Name), "</name><hash>"...)
	b = append(appendXML(b, it.ETag), "</hash><bytes>"...)
	b = append(strconv.AppendInt(b, shownSize(it), 10), "</bytes><content_type>"...)
	b = append(appendXML(b, it.ContentType), "</content_type><last_modified>"...)
	return append(appendListTime(b, it.Modified), "</last_modified></object>"...)
}

// containers prints a page of an account.
func (f format) containers(account string, list []ops.ContainerInfo) []byte {
	var b []byte
	switch f.kind {
	case plain:
		for i := range list {
			b = append(append(b, list[i].Name...), '\n')
		}
	case jsonText:
		b = append(b, '[')
		for i := range list {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendContainerJSON(b, &list[i])
		}
		b = append(b, ']')
	case xmlText:
		b = append(b, xmlHeader+`<account name="`...)
		b = append(appendXML(b, account), `">`+"\n"...)
		for i := range list {
			b = append(appendContainerXML(b, &list[i]), '\n')
		}
		b = append(b, "</account>"...)
	}
	return b
}

func appendContainerJSON(b []byte, c *ops.ContainerInfo) []byte {
	if c.Prefix {
		b = append(b, `{"subdir":`...)
		return append(appendJSON(b, c.Name), '}')
	}
	b = append(b, `{"name":`...)
	b = appendJSON(b, c.Name)
	b = append(b, `,"count":`...)
	b = strconv.AppendInt(b, c.Count, 10)
	b = append(b, `,"bytes":`...)
	b = strconv.AppendInt(b, c.Bytes, 10)
	b = append(b, `,"last_modified":"`...)
	b = appendListTime(b, c.Created.UnixMicro())
	b = append(b, `","storage_policy":`...)
	return append(appendJSON(b, c.Policy), '}')
}

func appendContainerXML(b []byte, c *ops.ContainerInfo) []byte {
	if c.Prefix {
		return append(appendXML(append(b, `<subdir name="`...), c.Name), `" />`...)
	}
	b = append(appendXML(append(b, "<container><name>"...), c.Name), "</name><count>"...)
	b = append(strconv.AppendInt(b, c.Count, 10), "</count><bytes>"...)
	b = append(strconv.AppendInt(b, c.Bytes, 10), "</bytes><last_modified>"...)
	b = append(appendListTime(b, c.Created.UnixMicro()), "</last_modified><storage_policy>"...)
	return append(appendXML(b, c.Policy), "</storage_policy></container>"...)
}

const hexDigits = "0123456789abcdef"

// appendJSON appends a string in quotes.
func appendJSON(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' && c != 0x7f {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			start = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			b = append(append(b, s[start:i]...), "\ufffd"...)
			i++
			start = i
			continue
		}
		i += n
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// appendXML appends text, or the value of an attribute. Characters that XML does
// not have become references all the same: a reader that can name them again is
// better off than with another name.
func appendXML(b []byte, s string) []byte {
	if !utf8.ValidString(s) { // a content type that came in over another protocol
		s = strings.ToValidUTF8(s, "\ufffd")
	}
	start := 0
	for i := 0; i < len(s); i++ {
		var esc string
		switch c := s[i]; {
		case c == '&':
			esc = "&amp;"
		case c == '<':
			esc = "&lt;"
		case c == '>':
			esc = "&gt;"
		case c == '"':
			esc = "&quot;"
		case c < ' ':
			esc = "&#" + strconv.Itoa(int(c)) + ";"
		default:
			continue
		}
		b = append(append(b, s[start:i]...), esc...)
		start = i + 1
	}
	return append(b, s[start:]...)
}

// appendListTime appends a time in µs since 1970 as listings have it: to the 10 µs
// that X-Timestamp shows, without a zone.
func appendListTime(b []byte, micros int64) []byte {
	b = time.UnixMicro(micros-micros%10).UTC().AppendFormat(b, "2006-01-02T15:04:05.000000")
	return b
}

// timestampOf prints a time in µs since 1970 as X-Timestamp has it: seconds with
// ten digits and five more behind the point.
func timestampOf(micros int64) string {
	micros = max(micros, 0)
	b := make([]byte, 0, 16)
	sec := strconv.FormatInt(micros/1e6, 10)
	for range 10 - len(sec) {
		b = append(b, '0')
	}
	b = append(append(b, sec...), '.')
	frac := strconv.FormatInt(micros%1e6/10+1e5, 10) // a 1 and five digits
	return string(append(b, frac[1:]...))
}

// wholeSeconds is a time in µs since 1970 rounded up to seconds, as Swift does for
// Last-Modified, so that nothing is younger than it says.
func wholeSeconds(micros int64) int64 {
	micros -= micros % 10
	return (micros + 1e6 - 1) / 1e6
}

// lastModified prints it.
func lastModified(micros int64) string {
	return time.Unix(wholeSeconds(micros), 0).UTC().Format(http.TimeFormat)
}
