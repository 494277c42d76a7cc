package s3api

import (
	"net/http"
	"strconv"
	"strings"

	"ringfort/gateway/ops"
	"ringfort/internal/catalog"
	"ringfort/internal/checksum"
)

// listParams are what all listings of objects have in common.
type listParams struct {
	prefix, delimiter string
	marker            string // names after it
	limit             int
	urlEncode         bool
}

// listParams reads them; marker is left to the version.
func (q query) listParams() (p listParams, err error) {
	p.prefix, p.delimiter = q.get("prefix"), q.get("delimiter")
	if p.limit, err = q.pageSize("max-keys"); err != nil {
		return p, err
	}
	switch v := q.get("encoding-type"); v {
	case "":
	case "url":
		p.urlEncode = true
	default:
		return p, invalidArgument("encoding-type", v, "Invalid Encoding Method specified in Request")
	}
	return p, nil
}

// pageSize reads a page's limit: any number, but never more than 1,000 lines.
func (q query) pageSize(name string) (int, error) {
	v, ok := q.lookup(name)
	if !ok || v == "" {
		return maxPage, nil
	}
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil {
		return 0, invalidArgument(name, v, "Provided "+name+" not an integer or within integer range")
	}
	if n < 0 {
		return 0, invalidArgument(name, v, "Argument "+name+" must be an integer between 0 and 2147483647")
	}
	return int(min(n, maxPage)), nil
}

// text appends an element whose text is a name, encoded as was asked for.
func (p *listParams) text(b []byte, name, text string) []byte {
	b = append(append(append(b, '<'), name...), '>')
	b = p.name(b, text)
	return append(append(append(b, "</"...), name...), '>')
}

func (p *listParams) name(b []byte, text string) []byte {
	if p.urlEncode {
		return appendURL(b, text)
	}
	return appendText(b, text)
}

// page lists objects and common prefixes, and says exactly whether there are
// more: one more than the limit is asked for.
func (q *request) page(c *catalog.Container, p *listParams) (items []ops.Item, more bool, err error) {
	if p.limit == 0 {
		return nil, false, nil
	}
	marker := p.marker
	for {
		page, err := q.h.store.List(q.ctx, c, &ops.Query{
			Prefix: p.prefix, Delimiter: p.delimiter, Marker: marker, Limit: p.limit + 1 - len(items),
		})
		if err != nil {
			return nil, false, err
		}
		if items == nil {
			items = page.Items
		} else {
			items = append(items, page.Items...)
		}
		if len(items) > p.limit {
			return items[:p.limit], true, nil
		}
		if !page.More || len(page.Items) == 0 {
			return items, false, nil
		}
		marker = items[len(items)-1].Name
	}
}

func listObjectsV1(q *request) error {
	c, err := q.container()
	if err != nil {
		return err
	}
	p, err := q.query.listParams()
	if err != nil {
		return err
	}
	p.marker = q.query.get("marker")
	items, more, err := q.page(c, &p)
	if err != nil {
		return err
	}
	b := q.h.buffer()
	defer q.h.release(b)
	x := q.listHead((*b)[:0], "ListBucketResult", &p)
	x = p.text(x, "Marker", p.marker)
	if more && p.delimiter != "" {
		x = p.text(x, "NextMarker", items[len(items)-1].Name)
	}
	x = appendBool(x, "IsTruncated", more)
	x = p.appendItems(x, items, ownerOf(c.Account))
	x = append(x, "</ListBucketResult>"...)
	*b = x
	q.sendXML(http.StatusOK, x)
	return nil
}

func listObjectsV2(q *request) error {
	c, err := q.container()
	if err != nil {
		return err
	}
	p, err := q.query.listParams()
	if err != nil {
		return err
	}
	startAfter := q.query.get("start-after")
	token, continued := q.query.lookup("continuation-token")
	p.marker = startAfter
	if continued {
		if p.marker, err = decodeToken(token); err != nil {
			return err
		}
	}
	items, more, err := q.page(c, &p)
	if err != nil {
		return err
	}
	b := q.h.buffer()
	defer q.h.release(b)
	x := q.listHead((*b)[:0], "ListBucketResult", &p)
	x = appendNumber(x, "KeyCount", int64(len(items)))
	x = appendBool(x, "IsTruncated", more)
	if continued {
		x = appendElement(x, "ContinuationToken", token)
	}
	if startAfter != "" {
		x = p.text(x, "StartAfter", startAfter)
	}
	if more {
		x = appendElement(x, "NextContinuationToken", encodeToken(items[len(items)-1].Name))
	}
	var who *owner
	if strings.EqualFold(q.query.get("fetch-owner"), "true") {
		who = ownerOf(c.Account)
	}
	x = p.appendItems(x, items, who)
	x = append(x, "</ListBucketResult>"...)
	*b = x
	q.sendXML(http.StatusOK, x)
	return nil
}

// listVersions answers for a bucket that was never versioned: every object is its
// own only version, "null".
func listVersions(q *request) error {
	c, err := q.container()
	if err != nil {
		return err
	}
	p, err := q.query.listParams()
	if err != nil {
		return err
	}
	p.marker = q.query.get("key-marker")
	if v := q.query.get("version-id-marker"); v != "" && (p.marker == "" || v != "null") {
		return invalidArgument("version-id-marker", v, "A version-id marker cannot be specified without a key marker.")
	}
	items, more, err := q.page(c, &p)
	if err != nil {
		return err
	}
	b := q.h.buffer()
	defer q.h.release(b)
	x := q.listHead((*b)[:0], "ListVersionsResult", &p)
	x = p.text(x, "KeyMarker", p.marker)
	x = appendElement(x, "VersionIdMarker", q.query.get("version-id-marker"))
	if more {
		last := &items[len(items)-1]
		x = p.text(x, "NextKeyMarker", last.Name)
		if !last.CommonPrefix {
			x = appendElement(x, "NextVersionIdMarker", "null")
		}
	}
	x = appendBool(x, "IsTruncated", more)
	who := ownerOf(c.Account)
	for i := range items {
		if it := &items[i]; !it.CommonPrefix {
			largeRow(it)
			x = append(x, "<Version>"...)
			x = p.text(x, "Key", it.Name)
			x = append(x, "<VersionId>null</VersionId><IsLatest>true</IsLatest>"...)
			x = appendRow(x, it, who)
			x = append(x, "</Version>"...)
		}
	}
	x = p.appendPrefixes(x, items)
	x = append(x, "</ListVersionsResult>"...)
	*b = x
	q.sendXML(http.StatusOK, x)
	return nil
}

// listHead appends what all listings of objects begin with.
func (q *request) listHead(b []byte, root string, p *listParams) []byte {
	b = append(append(append(append(append(b, xmlHeader+"<"...), root...), ' '), namespace...), '>')
	b = appendElement(b, "Name", q.bucket)
	b = p.text(b, "Prefix", p.prefix)
	if p.delimiter != "" {
		b = p.text(b, "Delimiter", p.delimiter)
	}
	b = appendNumber(b, "MaxKeys", int64(p.limit))
	if p.urlEncode {
		b = append(b, "<EncodingType>url</EncodingType>"...)
	}
	return b
}

// appendItems appends the lines of a page: objects, then common prefixes. who is
// nil when owners were not asked for.
func (p *listParams) appendItems(b []byte, items []ops.Item, who *owner) []byte {
	prefixes := false
	for i := range items {
		it := &items[i]
		if it.CommonPrefix {
			prefixes = true
			continue
		}
		if len(it.Extra) > 0 {
			largeRow(it)
		}
		b = append(b, "<Contents><Key>"...)
		b = p.name(b, it.Name)
		b = append(b, "</Key>"...)
		b = appendRow(b, it, who)
		b = append(b, "</Contents>"...)
	}
	if prefixes {
		b = p.appendPrefixes(b, items)
	}
	return b
}

func (p *listParams) appendPrefixes(b []byte, items []ops.Item) []byte {
	for i := range items {
		if items[i].CommonPrefix {
			b = append(b, "<CommonPrefixes><Prefix>"...)
			b = p.name(b, items[i].Name)
			b = append(b, "</Prefix></CommonPrefixes>"...)
		}
	}
	return b
}

// appendRow appends what a listing says of an object beside its name.
func appendRow(b []byte, it *ops.Item, who *owner) []byte {
	b = append(b, "<LastModified>"...)
	b = appendMicros(b, it.Modified)
	b = append(b, "</LastModified><ETag>&quot;"...)
	b = appendText(b, it.ETag)
	b = append(b, "&quot;</ETag>"...)
	if it.Checksum != "" {
		name, typ, _ := strings.Cut(it.Checksum, ",")
		b = appendElement(b, "ChecksumAlgorithm", name)
		if typ == "" {
			typ = checksum.TypeFullObject.String()
		}
		b = appendElement(b, "ChecksumType", typ)
	}
	b = append(b, "<Size>"...)
	b = strconv.AppendInt(b, it.Size, 10)
	b = append(b, "</Size>"...)
	if who != nil {
		b = appendOwner(b, "Owner", who)
	}
	return append(b, "<StorageClass>STANDARD</StorageClass>"...)
}
