package swiftapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
)

// putSegment is one element of a manifest that a client puts.
type putSegment struct {
	container, name string
	etag            string // "" if not given
	size            int64  // -1 if not given
	ranges          []byteRange
	stored          storedSegment // Name or Data; the rest once it is verified
}

// maxPerSegment times as many elements as objects may be in a manifest: those with
// data are small in it, and not in memory.
const maxPerSegment = 10

// maxManifestErrors bounds the list of what is wrong with a manifest.
const maxManifestErrors = 100

// parseManifest reads what a client puts: a list of objects with path, etag,
// size_bytes and range, all but the first optional, or with data in base64. All
// that is wrong is told together.
func parseManifest(body []byte, maxSegments int) ([]putSegment, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil {
		return nil, refuse(http.StatusBadRequest, "Manifest must be valid JSON.")
	} else if t != json.Delim('[') {
		return nil, refuse(http.StatusBadRequest, "Manifest must be a list.")
	}
	var list []putSegment
	var wrong []string
	objects := 0
	for i := 0; d.More(); i++ {
		if i == maxPerSegment*maxSegments {
			return nil, refuse(http.StatusRequestEntityTooLarge, "Number of segments must be <= %d", i)
		}
		var fields map[string]json.RawMessage
		if err := d.Decode(&fields); err != nil {
			if _, ok := err.(*json.UnmarshalTypeError); !ok {
				return nil, refuse(http.StatusBadRequest, "Manifest must be valid JSON.")
			}
			fields = nil
		}
		s, problem := parseSegment(fields)
		if problem != "" && len(wrong) < maxManifestErrors {
			wrong = append(wrong, fmt.Sprintf("Index %d: %s", i, problem))
		}
		if problem == "" && s.stored.Data == nil {
			if objects++; objects > maxSegments {
				return nil, refuse(http.StatusRequestEntityTooLarge, "Number of object-backed segments must be <= %d", maxSegments)
			}
		}
		if len(wrong) == 0 {
			list = append(list, s)
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, refuse(http.StatusBadRequest, "Manifest must be valid JSON.")
	}
	if d.More() {
		return nil, refuse(http.StatusBadRequest, "Manifest must be valid JSON.")
	}
	if len(wrong) > 0 {
		return nil, refuse(http.StatusBadRequest, "%s", strings.Join(wrong, "\n"))
	}
	if objects == 0 {
		return nil, refuse(http.StatusBadRequest, "Inline data segments require at least one object-backed segment.")
	}
	return list, nil
}

// parseSegment reads one element; problem says what is wrong with it.
func parseSegment(fields map[string]json.RawMessage) (s putSegment, problem string) {
	if fields == nil {
		return s, "not a JSON object"
	}
	path, hasPath := fields["path"]
	data, hasData := fields["data"]
	if hasPath == hasData {
		return s, `expected keys to include one of "path" or "data"`
	}
	for name := range fields {
		switch name {
		case "path", "data":
		case "etag", "size_bytes", "range":
			if hasPath {
				continue
			}
			fallthrough
		default:
			return s, fmt.Sprintf("extraneous key %q", name)
		}
	}
	if hasData {
		return parseInline(data)
	}
	var text string
	if json.Unmarshal(path, &text) != nil {
		return s, `"path" must be a string`
	}
	var ok bool
	if s.container, s.name, ok = splitObjectPath(text); !ok {
		return s, "path does not refer to an object. Path must be of the form /container/object."
	}
	s.stored.Name = "/" + s.container + "/" + s.name
	return s, s.parseRest(fields)
}

func parseInline(data json.RawMessage) (s putSegment, problem string) {
	var text string
	if json.Unmarshal(data, &text) != nil {
		return s, "data must be a string of base64"
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return s, "data must be valid base64"
	}
	if len(raw) == 0 {
		return s, "too small; each segment must be at least 1 byte."
	}
	s.stored.Data = raw
	return s, ""
}

// parseRest reads what need not be there; null counts as not there.
func (s *putSegment) parseRest(fields map[string]json.RawMessage) (problem string) {
	var etag *string
	if f, ok := fields["etag"]; ok && json.Unmarshal(f, &etag) != nil {
		return "etag must be a string"
	}
	if etag != nil {
		s.etag = strings.ToLower(strings.Trim(*etag, `"`))
	}
	s.size = -1
	if f, ok := fields["size_bytes"]; ok {
		if s.size, ok = segmentSize(f); !ok {
			return "invalid size_bytes"
		}
		if s.size == 0 {
			return "too small; each segment must be at least 1 byte."
		}
	}
	var rng *string
	if f, ok := fields["range"]; ok && json.Unmarshal(f, &rng) != nil {
		return "range must be a string"
	}
	if rng == nil || *rng == "" {
		return ""
	}
	list, ok := parseRange("bytes=" + *rng)
	switch {
	case !ok:
		return "invalid range"
	case len(list) > 1:
		return "multiple ranges (only one allowed)"
	case s.size >= 0 && len(resolve(list, s.size)) == 0:
		return "unsatisfiable range"
	}
	s.ranges = list
	return ""
}

// segmentSize reads a size, which some clients write as a string; -1 for null.
func segmentSize(raw json.RawMessage) (int64, bool) {
	text := strings.Trim(string(raw), `"`)
	if text == "null" {
		return -1, true
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		f, ferr := strconv.ParseFloat(text, 64)
		if ferr != nil || f != math.Trunc(f) || f < 0 || f > 1<<53 {
			return 0, false
		}
		n = int64(f)
	}
	return n, n >= 0
}

// check compares a segment with the object it names, and enters what that is;
// problem says how they differ.
func (s *putSegment) check(ct *content) (problem string) {
	switch {
	case s.size >= 0 && s.size != ct.size, ct.size < 0:
		return "Size Mismatch"
	case s.etag != "" && s.etag != ct.etag:
		return "Etag Mismatch"
	case ct.size == 0:
		return "Too Small; each segment must be at least 1 byte."
	}
	o := ct.object
	s.stored = storedSegment{
		Name: s.stored.Name, Hash: ct.etag, Bytes: ct.size, ContentType: o.ContentType,
		LastModified: string(appendListTime(nil, o.Modified)), SubSLO: isSLO(o),
	}
	if s.ranges == nil {
		return ""
	}
	spans := resolve(s.ranges, ct.size)
	if len(spans) == 0 {
		return "Unsatisfiable Range"
	}
	if r := spans[0]; r.n != ct.size {
		s.stored.Range = strconv.FormatInt(r.off, 10) + "-" + strconv.FormatInt(r.off+r.n-1, 10)
	}
	return ""
}
