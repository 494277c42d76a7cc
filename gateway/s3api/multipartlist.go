package s3api

import (
	"net/http"
	"strconv"

	"ringfort/gateway/ops"
)

func listParts(q *request) error {
	limit, err := q.query.pageSize("max-parts")
	if err != nil {
		return err
	}
	after := 0
	if v := q.query.get("part-number-marker"); v != "" {
		if after, err = strconv.Atoi(v); err != nil || after < 0 {
			return invalidArgument("part-number-marker", v, "Argument part-number-marker must be an integer between 0 and 2147483647")
		}
	}
	u, err := q.openUpload()
	if err != nil {
		return err
	}
	p := listParams{urlEncode: q.query.get("encoding-type") == "url"}
	want := checksumOfUpload(u)
	b := q.h.buffer()
	defer q.h.release(b)
	x := append((*b)[:0], xmlHeader+"<ListPartsResult "+namespace+">"...)
	x = appendElement(x, "Bucket", q.bucket)
	x = p.text(x, "Key", q.key)
	x = appendElement(x, "UploadId", u.ID)
	x = appendOwner(x, "Initiator", ownerOf(u.Container.Account))
	x = appendOwner(x, "Owner", ownerOf(u.Container.Account))
	x = append(x, "<StorageClass>STANDARD</StorageClass>"...)
	if want.chosen {
		x = appendElement(x, "ChecksumAlgorithm", want.alg.String())
		x = appendElement(x, "ChecksumType", want.typ.String())
	}
	x = appendNumber(x, "PartNumberMarker", int64(after))
	x = appendNumber(x, "MaxParts", int64(limit))
	x, err = q.appendParts(x, u, after, limit)
	if err != nil {
		return err
	}
	x = append(x, "</ListPartsResult>"...)
	*b = x
	q.sendXML(http.StatusOK, x)
	return nil
}

// appendParts appends a page of parts with its marker.
func (q *request) appendParts(b []byte, u *ops.Upload, after, limit int) ([]byte, error) {
	if limit == 0 {
		return appendBool(b, "IsTruncated", false), nil
	}
	parts, more, err := q.h.store.ListParts(q.ctx, u, after, limit+1)
	if err != nil {
		return b, err
	}
	if len(parts) > limit {
		parts, more = parts[:limit], true
	}
	want := checksumOfUpload(u)
	if len(parts) > 0 {
		after = parts[len(parts)-1].Number
	}
	b = appendNumber(b, "NextPartNumberMarker", int64(after))
	b = appendBool(b, "IsTruncated", more)
	for i := range parts {
		b = append(b, "<Part>"...)
		b = appendNumber(b, "PartNumber", int64(parts[i].Number))
		b = appendTime(b, "LastModified", parts[i].Modified)
		b = appendElement(b, "ETag", quoteETag(parts[i].ETag))
		b = appendNumber(b, "Size", parts[i].Size)
		if parts[i].Checksum != "" {
			b = appendElement(b, checksumElement(want.alg), parts[i].Checksum)
		}
		b = append(b, "</Part>"...)
	}
	return b, nil
}

func listUploads(q *request) error {
	c, err := q.container()
	if err != nil {
		return err
	}
	p := listParams{prefix: q.query.get("prefix"), delimiter: q.query.get("delimiter"), marker: q.query.get("key-marker")}
	if p.limit, err = q.query.pageSize("max-uploads"); err != nil {
		return err
	}
	switch v := q.query.get("encoding-type"); v {
	case "":
	case "url":
		p.urlEncode = true
	default:
		return invalidArgument("encoding-type", v, "Invalid Encoding Method specified in Request")
	}
	idMarker := q.query.get("upload-id-marker")
	if p.marker == "" {
		idMarker = "" // S3 ignores it
	}
	page := &ops.UploadPage{}
	if p.limit > 0 {
		page, err = q.h.store.ListUploads(q.ctx, c, &ops.UploadQuery{
			Prefix: p.prefix, Delimiter: p.delimiter, NameMarker: p.marker, IDMarker: idMarker, Limit: p.limit,
		})
		if err != nil {
			return err
		}
	}
	b := q.h.buffer()
	defer q.h.release(b)
	x := append((*b)[:0], xmlHeader+"<ListMultipartUploadsResult "+namespace+">"...)
	x = appendElement(x, "Bucket", q.bucket)
	x = p.text(x, "KeyMarker", p.marker)
	x = appendElement(x, "UploadIdMarker", idMarker)
	if page.More {
		last := &page.Uploads[len(page.Uploads)-1]
		x = p.text(x, "NextKeyMarker", last.Name)
		x = appendElement(x, "NextUploadIdMarker", last.ID)
	}
	x = p.text(x, "Prefix", p.prefix)
	if p.delimiter != "" {
		x = p.text(x, "Delimiter", p.delimiter)
	}
	x = appendNumber(x, "MaxUploads", int64(p.limit))
	if p.urlEncode {
		x = append(x, "<EncodingType>url</EncodingType>"...)
	}
	x = appendBool(x, "IsTruncated", page.More)
	x = p.appendUploads(x, page.Uploads, ownerOf(c.Account))
	x = append(x, "</ListMultipartUploadsResult>"...)
	*b = x
	q.sendXML(http.StatusOK, x)
	return nil
}

func (p *listParams) appendUploads(b []byte, uploads []ops.Upload, who *owner) []byte {
	for i := range uploads {
		u := &uploads[i]
		if u.ID == "" {
			continue
		}
		b = append(b, "<Upload>"...)
		b = p.text(b, "Key", u.Name)
		b = appendElement(b, "UploadId", u.ID)
		b = appendOwner(b, "Initiator", who)
		b = appendOwner(b, "Owner", who)
		b = append(b, "<StorageClass>STANDARD</StorageClass>"...)
		b = appendTime(b, "Initiated", u.Initiated.UnixMicro())
		if want := checksumOfUpload(u); want.chosen {
			b = appendElement(b, "ChecksumAlgorithm", want.alg.String())
			b = appendElement(b, "ChecksumType", want.typ.String())
		}
		b = append(b, "</Upload>"...)
	}
	for i := range uploads {
		if uploads[i].ID == "" {
			b = append(b, "<CommonPrefixes>"...)
			b = p.text(b, "Prefix", uploads[i].Name)
			b = append(b, "</CommonPrefixes>"...)
		}
	}
	return b
}
