package s3api

import (
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	xmlHeader = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"
	namespace = `xmlns="http://s3.amazonaws.com/doc/2006-03-01/"`
	// isoMillis is how times stand in XML. Milliseconds are always zero, as S3
	// prints them, so that a listing and Last-Modified agree.
	isoMillis = "2006-01-02T15:04:05.000Z"
)

// xmlType is shared by all answers: nobody may change it.
var xmlType = []string{"application/xml"}

// sendXML sends a whole answer.
func (q *request) sendXML(status int, body []byte) {
	head := q.w.Header()
	head["Content-Type"] = xmlType
	head["Content-Length"] = []string{strconv.Itoa(len(body))}
	q.begin(status)
	n, _ := q.w.Write(body) // a client that went away needs no answer
	q.bytesOut += int64(n)
}

// send sends an answer without a body.
func (q *request) send(status int) {
	if status == http.StatusOK {
		q.w.Header()["Content-Length"] = zeroLength
	}
	q.begin(status)
}

// begin sends the answer's head, with deadlines. That for writing is set anew by
// every answer: net/http leaves the last one on the connection. That for reading
// is for what net/http drains of a body that was not wanted.
func (q *request) begin(status int) {
	if idle := q.h.cfg.IdleTimeout; idle > 0 {
		control, end := http.NewResponseController(q.w), time.Now().Add(idle)
		// Not every ResponseWriter can: then the listener's own limits hold.
		_ = control.SetWriteDeadline(end)
		if q.r.ContentLength != 0 && !q.bodyRead {
			_ = control.SetReadDeadline(end)
		}
	}
	q.status = status
	q.w.WriteHeader(status)
}

var zeroLength = []string{"0"}

// plain marks the bytes that stand for themselves in XML text.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 0x7f; c++ {
		t[c] = true
	}
	for _, c := range `&<>"'` {
		t[c] = false
	}
	return t
}()

// appendText appends s as XML text. Characters that XML 1.0 does not have are
// written as numeric references, as S3 writes them: a strict parser refuses those,
// which is what encoding-type=url is for.
func appendText(b []byte, s string) []byte {
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError && r != 0xfffe && r != 0xffff {
				i += n
				continue
			}
			b = append(b, s[start:i]...)
			if r == utf8.RuneError {
				b = append(b, "\uFFFD"...)
			} else {
				b = appendReference(b, uint64(r))
			}
			i += n
			start = i
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '&':
			b = append(b, "&amp;"...)
		case '<':
			b = append(b, "&lt;"...)
		case '>':
			b = append(b, "&gt;"...)
		case '"':
			b = append(b, "&quot;"...)
		case '\'':
			b = append(b, "&#39;"...)
		default:
			b = appendReference(b, uint64(c))
		}
		i++
		start = i
	}
	return append(b, s[start:]...)
}

// legible replaces characters that XML 1.0 does not have.
func legible(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff {
			return utf8.RuneError
		}
		return r
	}, s)
}

func appendReference(b []byte, r uint64) []byte {
	b = append(b, "&#x"...)
	b = strconv.AppendUint(b, r, 16)
	return append(b, ';')
}

// appendElement appends <name>text</name>.
func appendElement(b []byte, name, text string) []byte {
	b = append(append(append(b, '<'), name...), '>')
	b = appendText(b, text)
	return append(append(append(b, "</"...), name...), '>')
}

func appendNumber(b []byte, name string, n int64) []byte {
	b = append(append(append(b, '<'), name...), '>')
	b = strconv.AppendInt(b, n, 10)
	return append(append(append(b, "</"...), name...), '>')
}

func appendBool(b []byte, name string, v bool) []byte {
	return appendElement(b, name, strconv.FormatBool(v))
}

// urlSafe marks the bytes that encoding-type=url leaves alone.
var urlSafe = func() (t [256]bool) {
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for _, c := range "-._~/" {
		t[c] = true
	}
	return t
}()

// appendURL appends s percent-encoded, but for its slashes. A space is %20, which
// form decoders and path decoders both read.
func appendURL(b []byte, s string) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		c := s[i]
		if urlSafe[c] {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}

// appendMicros appends a time in µs since 1970 as it stands in XML. It is written
// out by hand because it is most of the cost of a listing's line otherwise.
func appendMicros(b []byte, micros int64) []byte {
	t := time.UnixMicro(micros).UTC()
	y, mo, d := t.Date()
	if y < 0 || y > 9999 {
		return t.AppendFormat(b, isoMillis)
	}
	h, mi, s := t.Clock()
	return append(b,
		byte('0'+y/1000), byte('0'+y/100%10), byte('0'+y/10%10), byte('0'+y%10), '-',
		byte('0'+int(mo)/10), byte('0'+int(mo)%10), '-', byte('0'+d/10), byte('0'+d%10), 'T',
		byte('0'+h/10), byte('0'+h%10), ':', byte('0'+mi/10), byte('0'+mi%10), ':',
		byte('0'+s/10), byte('0'+s%10), '.', '0', '0', '0', 'Z')
}

func appendTime(b []byte, name string, micros int64) []byte {
	b = append(append(append(b, '<'), name...), '>')
	b = appendMicros(b, micros)
	return append(append(append(b, "</"...), name...), '>')
}

// appendOwner appends an owner or initiator.
func appendOwner(b []byte, name string, o *owner) []byte {
	b = append(append(append(b, '<'), name...), '>')
	b = appendElement(b, "ID", o.id)
	b = appendElement(b, "DisplayName", o.name)
	return append(append(append(b, "</"...), name...), '>')
}

type owner struct{ id, name string }
