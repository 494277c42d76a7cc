package s3api

import (
	"net/http"
	"strconv"
	"strings"

	"ringfort/internal/catalog"
	"ringfort/internal/checksum"
)

// attributeSet is what GetObjectAttributes was asked for.
type attributeSet struct{ etag, checksum, parts, storageClass, size bool }

func (q *request) attributes() (a attributeSet, err error) {
	given := q.r.Header["X-Amz-Object-Attributes"]
	if len(given) == 0 {
		return a, refuse("InvalidRequest", "The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty")
	}
	for _, line := range given {
		for name := range strings.SplitSeq(line, ",") {
			switch strings.TrimSpace(name) {
			case "ETag":
				a.etag = true
			case "Checksum":
				a.checksum = true
			case "ObjectParts":
				a.parts = true
			case "StorageClass":
				a.storageClass = true
			case "ObjectSize":
				a.size = true
			default:
				return a, invalidArgument("x-amz-object-attributes", line, "Invalid attribute name specified.")
			}
		}
	}
	return a, nil
}

func getAttributes(q *request) error {
	c, err := q.container()
	if err != nil {
		return err
	}
	want, err := q.attributes()
	if err != nil {
		return err
	}
	limit, after, err := q.attributePage()
	if err != nil {
		return err
	}
	o, h, err := q.open(c, q.key)
	if err != nil {
		return err
	}
	defer h.Close()
	var parts []catalog.ManifestEntry
	var more bool
	if want.parts && o.PartCount > 0 && limit > 0 {
		if parts, more, err = h.Parts(q.ctx, after, limit); err != nil {
			return err
		}
	}
	b := q.h.buffer()
	defer q.h.release(b)
	x := append((*b)[:0], xmlHeader+"<GetObjectAttributesResponse "+namespace+">"...)
	if want.etag {
		x = appendElement(x, "ETag", o.ETag) // without quotes, only here
	}
	sum := checksumOf(o)
	if want.checksum && !sum.IsZero() {
		x = append(x, "<Checksum>"...)
		x = appendElement(x, checksumElement(sum.Algorithm()), sumText(sum))
		x = appendElement(x, "ChecksumType", sum.Type().String())
		x = append(x, "</Checksum>"...)
	}
	if want.parts && o.PartCount > 0 {
		x = appendObjectParts(x, o, parts, sum.Algorithm(), after, limit, more)
	}
	if want.storageClass {
		x = appendElement(x, "StorageClass", "STANDARD")
	}
	if want.size {
		x = appendNumber(x, "ObjectSize", o.Size)
	}
	x = append(x, "</GetObjectAttributesResponse>"...)
	*b = x
	q.w.Header().Set("Last-Modified", httpTime(o.Modified))
	q.sendXML(http.StatusOK, x)
	return nil
}

// sumText is a checksum without the number of its parts, as S3 prints it here.
func sumText(s checksum.Sum) string {
	text, _, _ := strings.Cut(s.String(), "-")
	return text
}

// attributePage reads which parts were asked for.
func (q *request) attributePage() (limit, after int, err error) {
	limit = maxPage
	if v := q.header("X-Amz-Max-Parts"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			return 0, 0, invalidArgument("x-amz-max-parts", v, "Argument max-parts must be an integer between 0 and 2147483647")
		}
		limit = min(n, maxPage)
	}
	if v := q.header("X-Amz-Part-Number-Marker"); v != "" {
		if after, err = strconv.Atoi(v); err != nil || after < 0 {
			return 0, 0, invalidArgument("x-amz-part-number-marker", v, "Argument part-number-marker must be an integer between 0 and 2147483647")
		}
	}
	return limit, after, nil
}

func appendObjectParts(b []byte, o *catalog.Object, parts []catalog.ManifestEntry, alg checksum.Algorithm, after, limit int, more bool) []byte {
	next := after
	if len(parts) > 0 {
		next = int(parts[len(parts)-1].Number)
	}
	b = append(b, "<ObjectParts>"...)
	b = appendNumber(b, "PartsCount", int64(o.PartCount))
	b = appendNumber(b, "PartNumberMarker", int64(after))
	b = appendNumber(b, "NextPartNumberMarker", int64(next))
	b = appendNumber(b, "MaxParts", int64(limit))
	b = appendBool(b, "IsTruncated", more)
	for i := range parts {
		b = append(b, "<Part>"...)
		b = appendNumber(b, "PartNumber", int64(parts[i].Number))
		b = appendNumber(b, "Size", parts[i].Size)
		if alg != checksum.None && parts[i].Checksum != "" {
			b = appendElement(b, checksumElement(alg), parts[i].Checksum)
		}
		b = append(b, "</Part>"...)
	}
	return append(b, "</ObjectParts>"...)
}
