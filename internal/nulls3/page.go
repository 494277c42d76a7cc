package nulls3

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

const (
	xmlHeader = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"
	// pageKeys is the most keys that a page of S3 holds.
	pageKeys = 1000
)

// page is a listing made once. The rows stand one after another in rows, and
// ends tells where each one ends, so that a page of any length is a prefix.
type page struct {
	plain, owned rows
}

type rows struct {
	text string
	ends [pageKeys + 1]int
}

func newPage() *page {
	const owner = `<Owner><ID>null</ID><DisplayName>null</DisplayName></Owner>`
	return &page{plain: newRows(""), owned: newRows(owner)}
}

func newRows(owner string) rows {
	var r rows
	var b strings.Builder
	for i := range pageKeys {
		fmt.Fprintf(&b, `<Contents><Key>%s</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified>`+
			`<ETag>&#34;00000000000000000000000000000000&#34;</ETag><Size>%d</Size>%s`+
			`<StorageClass>STANDARD</StorageClass></Contents>`, rowKey(i), defaultObjectBytes, owner)
		r.ends[i+1] = b.Len()
	}
	r.text = b.String()
	return r
}

// rowKey is the name of row i, of the length that a benchmark's own keys have.
func rowKey(i int) string { return fmt.Sprintf("list/%d/%010d", defaultObjectBytes, i) }

// serve writes a page of at most max-keys rows in the form that q asks for.
func (p *page) serve(w http.ResponseWriter, q url.Values) {
	n := pageKeys
	if s := q.Get("max-keys"); s != "" {
		asked, err := strconv.Atoi(s)
		if err != nil || asked < 0 {
			fail(w, http.StatusBadRequest, "InvalidArgument", "max-keys is not a number")
			return
		}
		n = min(n, asked)
	}
	last := ""
	if n > 0 {
		last = rowKey(n - 1)
	}
	v2 := q.Get("list-type") == "2"
	r := &p.owned
	var extra string
	if v2 {
		if q.Get("fetch-owner") != "true" {
			r = &p.plain
		}
		extra = fmt.Sprintf("<KeyCount>%d</KeyCount><NextContinuationToken>%s</NextContinuationToken>", n, last)
	} else {
		extra = "<Marker></Marker><NextMarker>" + last + "</NextMarker>"
	}
	w.Header().Set("Content-Type", "application/xml")
	fmt.Fprintf(w, xmlHeader+`<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`+
		`<Name>null</Name><Prefix>%s</Prefix><MaxKeys>%d</MaxKeys><IsTruncated>%t</IsTruncated>%s`,
		escape(q.Get("prefix")), n, n > 0, extra)
	io.WriteString(w, r.text[:r.ends[n]])
	io.WriteString(w, "</ListBucketResult>")
}

// escape makes s fit to stand in XML text.
func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}
