package swiftapi

import (
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"ringfort/internal/catalog"
)

// Names in catalog.Object.Meta. metaUser and the headers are shared with S3.
const (
	metaUser     = "meta-" // before the name of user metadata
	metaManifest = "x-object-manifest"
	metaTagging  = "s3-tagging"
	metaSLO      = "slo"
	metaSLOETag  = "row-slo-etag"
	metaSLOSize  = "row-slo-size"
)

const objectMetaPrefix = "X-Object-Meta-"

// storedHeaders are the headers that are kept with an object and given back as
// they are, with their names in its Meta.
var storedHeaders = [...]struct{ header, meta string }{
	{"Cache-Control", "cache-control"},
	{"Content-Disposition", "content-disposition"},
	{"Content-Encoding", "content-encoding"},
	{"Content-Language", "content-language"},
	{"Expires", "expires"},
	{"X-Robots-Tag", "x-robots-tag"},
	{"X-Object-Manifest", metaManifest},
}

// ofRequest reports whether a POST replaces the entry of that name in an object's
// Meta; what else is there is not the client's.
func ofRequest(name string) bool {
	if strings.HasPrefix(name, metaUser) {
		return true
	}
	for i := range storedHeaders {
		if storedHeaders[i].meta == name {
			return true
		}
	}
	return false
}

// objectMeta reads the metadata that a request gives an object, sorted.
func (q *request) objectMeta() (catalog.Pairs, error) {
	user, err := userMeta(q.r.Header, objectMetaPrefix, metaUser)
	if err != nil {
		return nil, err
	}
	if err := checkTotals(user, metaUser); err != nil {
		return nil, err
	}
	meta := user
	for i := range storedHeaders {
		v := strings.Join(q.r.Header[storedHeaders[i].header], ",")
		if v == "" {
			continue
		}
		if storedHeaders[i].meta == metaManifest {
			if _, _, ok := parseManifestHeader(v); !ok {
				return nil, refuse(http.StatusBadRequest, "X-Object-Manifest must be in the format container/prefix")
			}
		}
		meta = append(meta, catalog.Pair{Name: storedHeaders[i].meta, Value: v})
	}
	sortPairs(meta)
	return meta, nil
}

func sortPairs(p catalog.Pairs) {
	slices.SortFunc(p, func(a, b catalog.Pair) int { return strings.Compare(a.Name, b.Name) })
}

// userMeta collects the headers that begin with prefix, as they are to be stored:
// the rest of the name in lower case behind stored.
func userMeta(h http.Header, prefix, stored string) (catalog.Pairs, error) {
	var meta catalog.Pairs
	for name, values := range h {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		short, value := strings.ToLower(name[len(prefix):]), strings.Join(values, ",")
		switch {
		case short == "":
			return nil, refuse(http.StatusBadRequest, "Metadata name cannot be empty")
		case len(short) > maxMetaNameBytes:
			return nil, refuse(http.StatusBadRequest, "Metadata name too long: %s%s", prefix, short)
		case len(value) > maxMetaValueBytes:
			return nil, refuse(http.StatusBadRequest, "Metadata value longer than %d: %s%s", maxMetaValueBytes, prefix, short)
		case !utf8.ValidString(short) || !utf8.ValidString(value):
			return nil, refuse(http.StatusBadRequest, "Metadata must be valid UTF-8")
		}
		meta = append(meta, catalog.Pair{Name: stored + short, Value: value})
	}
	return meta, nil
}

// checkTotals refuses metadata that is too much together; only entries behind
// prefix count.
func checkTotals(meta catalog.Pairs, prefix string) error {
	count, size := 0, 0
	for _, p := range meta {
		if short, ok := strings.CutPrefix(p.Name, prefix); ok {
			count++
			size += len(short) + len(p.Value)
		}
	}
	switch {
	case count > maxMetaCount:
		return refuse(http.StatusBadRequest, "Too many metadata items; max %d", maxMetaCount)
	case size > maxMetaBytes:
		return refuse(http.StatusBadRequest, "Total metadata too large; max %d", maxMetaBytes)
	}
	return nil
}

// change is what a request does to the metadata of an account or container: those
// with an empty value are to go.
type change struct {
	prefix string // of the names, as they are stored
	set    catalog.Pairs
}

// metaChange reads X-<Kind>-Meta-… and X-Remove-<Kind>-Meta-….
func metaChange(h http.Header, kind string) (change, error) {
	c := change{prefix: "x-" + strings.ToLower(kind) + "-meta-"}
	set, err := userMeta(h, "X-"+kind+"-Meta-", c.prefix)
	if err != nil {
		return c, err
	}
	c.set = set
	remove := "X-Remove-" + kind + "-Meta-"
	for name := range h {
		if short, ok := strings.CutPrefix(name, remove); ok {
			full := c.prefix + strings.ToLower(short)
			if !slices.ContainsFunc(c.set, func(p catalog.Pair) bool { return p.Name == full }) {
				c.set = append(c.set, catalog.Pair{Name: full})
			}
		}
	}
	sortPairs(c.set)
	return c, nil
}

// apply returns meta with the change made, or refuses what would be too much.
func (c *change) apply(meta catalog.Pairs) (catalog.Pairs, error) {
	for _, p := range c.set {
		if p.Value == "" {
			meta = meta.Without(p.Name)
		} else {
			meta = meta.With(p.Name, p.Value)
		}
	}
	return meta, checkTotals(meta, c.prefix)
}

// setMeta puts stored metadata into the answer: names behind from, with to before
// them.
func (q *request) setMeta(meta catalog.Pairs, from, to string) {
	for _, p := range meta {
		if short, ok := strings.CutPrefix(p.Name, from); ok {
			q.set(to+titleCase(short), p.Value)
		}
	}
}

// titleCase makes capitals of the letters that follow anything but a letter, as
// Swift prints names of metadata.
func titleCase(s string) string {
	b := []byte(s)
	word := false
	for i, c := range b {
		lower := 'a' <= c && c <= 'z'
		if lower && !word {
			b[i] = c - 'a' + 'A'
		}
		word = lower || 'A' <= c && c <= 'Z' || c >= 0x80
	}
	return string(b)
}
