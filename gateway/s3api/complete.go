package s3api

import (
	"encoding/xml"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"ringfort/gateway/ops"
	"ringfort/internal/catalog"
	"ringfort/internal/checksum"
	"ringfort/internal/errs"
)

// completePart is one part as CompleteMultipartUpload lists it.
type completePart struct {
	PartNumber        int
	ETag              string
	ChecksumCRC32     string
	ChecksumCRC32C    string
	ChecksumCRC64NVME string
	ChecksumSHA1      string
	ChecksumSHA256    string
}

// sum returns the checksum given for a part, by algorithm.
func (p *completePart) sum(a checksum.Algorithm) string {
	switch a {
	case checksum.CRC32:
		return p.ChecksumCRC32
	case checksum.CRC32C:
		return p.ChecksumCRC32C
	case checksum.CRC64NVME:
		return p.ChecksumCRC64NVME
	case checksum.SHA1:
		return p.ChecksumSHA1
	case checksum.SHA256:
		return p.ChecksumSHA256
	}
	return ""
}

// completeList stops reading at the limit.
type completeList []completePart

// UnmarshalXML implements xml.Unmarshaler for one Part element.
func (l *completeList) UnmarshalXML(d *xml.Decoder, start xml.StartElement) error {
	if len(*l) == ops.MaxParts {
		return refuse("MalformedXML", "")
	}
	var p completePart
	if err := d.DecodeElement(&p, &start); err != nil {
		return err
	}
	*l = append(*l, p)
	return nil
}

type completeRequest struct {
	Parts completeList `xml:"Part"`
}

// parseComplete reads the list of parts: numbers rising, each with an ETag.
func parseComplete(body []byte) (*completeRequest, error) {
	if len(body) == 0 {
		return nil, refuse("InvalidRequest", "You must specify at least one part")
	}
	in := new(completeRequest)
	if err := decodeXML(body, "CompleteMultipartUpload", in); err != nil {
		return nil, err
	}
	if len(in.Parts) == 0 {
		return nil, refuse("MalformedXML", "")
	}
	last := 0
	for i := range in.Parts {
		p := &in.Parts[i]
		switch {
		case p.PartNumber < 1 || p.PartNumber > ops.MaxParts:
			return nil, invalidArgument("PartNumber", strconv.Itoa(p.PartNumber), "Part number must be an integer between 1 and 10000, inclusive")
		case p.PartNumber <= last:
			return nil, refuse("InvalidPartOrder", "")
		case p.ETag == "":
			return nil, refuse("MalformedXML", "")
		}
		last = p.PartNumber
	}
	return in, nil
}

// choose finds the listed parts among those uploaded, and checks them.
func (in *completeRequest) choose(have []catalog.Part, want uploadChecksum) ([]catalog.Part, error) {
	chosen := make([]catalog.Part, 0, len(in.Parts))
	for i := range in.Parts {
		p := &in.Parts[i]
		at, found := slices.BinarySearchFunc(have, p.PartNumber, func(h catalog.Part, n int) int { return h.Number - n })
		if !found || !strings.EqualFold(trimQuotes(p.ETag), have[at].ETag) {
			return nil, invalidPart(p)
		}
		part := have[at]
		for _, a := range checksum.All() {
			text := p.sum(a)
			switch {
			case text == "":
			case a == want.alg && text != part.Checksum:
				return nil, invalidPart(p)
			case a != want.alg && want.chosen:
				return nil, refuse("BadDigest", "The "+lowerName(a)+" you specified for part "+strconv.Itoa(p.PartNumber)+" did not match what we received.")
			}
		}
		if i < len(in.Parts)-1 && part.Size < ops.MinPartBytes {
			return nil, refuse("EntityTooSmall", "", "ProposedSize", decimal(part.Size), "MinSizeAllowed", decimal(ops.MinPartBytes),
				"PartNumber", strconv.Itoa(p.PartNumber), "ETag", part.ETag)
		}
		chosen = append(chosen, part)
	}
	return chosen, nil
}

func invalidPart(p *completePart) error {
	return refuse("InvalidPart", "", "PartNumber", strconv.Itoa(p.PartNumber), "ETag", trimQuotes(p.ETag))
}

// objectSum computes a finished object's checksum from those of its parts.
func (c uploadChecksum) objectSum(parts []catalog.Part) (checksum.Sum, error) {
	if c.alg == checksum.None {
		return checksum.Sum{}, nil
	}
	list := make([]checksum.Part, len(parts))
	for i := range parts {
		s, err := checksum.ParseSum(c.alg, parts[i].Checksum)
		if err != nil {
			return checksum.Sum{}, errs.Wrap("s3api", errs.Corrupt, err)
		}
		list[i] = checksum.Part{Sum: s, LengthBytes: parts[i].Size}
	}
	return checksum.OfParts(c.alg, c.typ, list)
}

// claimedWhole reads what the request says of the whole object's checksum: a
// value, which Complete's own body does not have, and a type.
func (q *request) claimedWhole(want uploadChecksum) (text string, err error) {
	if t := q.header(checksum.HeaderType); t != "" {
		typ, err := checksum.ParseType(t)
		if err != nil {
			return "", checksumError(err)
		}
		if typ != want.typ {
			return "", refuse("InvalidRequest", "The upload was created using the "+want.typ.String()+" checksum mode. The complete request must use the same checksum mode.")
		}
	}
	for _, a := range checksum.All() {
		v := q.header(a.Header())
		if v == "" {
			continue
		}
		if a != want.alg && want.chosen {
			return "", refuse("InvalidRequest", "The upload was created using a "+lowerName(want.alg)+" checksum. The complete request must use the same checksum type.")
		}
		if _, err := checksum.ParseAny(a, v); err != nil {
			return "", checksumError(err)
		}
		if a == want.alg {
			text = v
		}
	}
	return text, nil
}

func completeUpload(q *request) error {
	u, err := q.upload()
	if err != nil {
		return err
	}
	judge, err := q.writeJudge()
	if err != nil {
		return err
	}
	want := checksumOfUpload(u)
	claim, err := q.claimedWhole(want)
	if err != nil {
		return err
	}
	// What the checksum headers hold is the object's: the body has none.
	for _, a := range checksum.All() {
		q.r.Header.Del(a.Header())
	}
	body, err := q.readBody(maxCompleteBytes, false)
	if err != nil {
		return err
	}
	in, err := parseComplete(body)
	if err != nil {
		return err
	}
	o, err := q.h.store.CompleteUpload(q.ctx, &ops.Complete{
		Upload: u,
		Choose: func(have []catalog.Part) ([]catalog.Part, error) { return in.choose(have, want) },
		Finish: func(o *catalog.Object, parts []catalog.Part) error {
			return q.finishComplete(o, parts, want, claim)
		},
		Judge: judge,
	})
	if err != nil {
		return err
	}
	sum := checksumOf(o)
	if u.Done {
		sum = q.sumOfDone(u, o)
	}
	q.sendCompleted(o, sum)
	return nil
}

// finishComplete enters the checksum into the object and compares what the
// request says of it.
func (q *request) finishComplete(o *catalog.Object, parts []catalog.Part, want uploadChecksum, claim string) error {
	sum, err := want.objectSum(parts)
	if err != nil {
		return err
	}
	if claim != "" && claim != sum.String() && claim != sumText(sum) {
		return refuse("BadDigest", "The "+lowerName(want.alg)+" you specified did not match the calculated checksum.")
	}
	if v := q.header("X-Amz-Mp-Object-Size"); v != "" && v != decimal(o.Size) {
		return refuse("InvalidRequest", "The provided 'x-amz-mp-object-size' header value "+v+" does not match what was computed: "+decimal(o.Size))
	}
	o.Meta = withChecksum(o.Meta, sum, sum.String())
	return nil
}

// sumOfDone finds the checksum for the answer to a repeated Complete: that of the
// object, if it still is what the upload made.
func (q *request) sumOfDone(u *ops.Upload, o *catalog.Object) checksum.Sum {
	cur, err := q.h.store.Head(q.ctx, u.Container, u.Name)
	if err != nil || cur.ETag != o.ETag {
		return checksum.Sum{}
	}
	return checksumOf(cur)
}

func (q *request) sendCompleted(o *catalog.Object, sum checksum.Sum) {
	x := []byte(xmlHeader + "<CompleteMultipartUploadResult " + namespace + ">")
	x = appendElement(x, "Location", q.location())
	x = appendElement(x, "Bucket", q.bucket)
	x = appendElement(x, "Key", q.key)
	x = appendElement(x, "ETag", quoteETag(o.ETag))
	x = appendChecksum(x, sum)
	if !sum.IsZero() {
		x = appendElement(x, "ChecksumType", sum.Type().String())
	}
	q.sendXML(http.StatusOK, append(x, "</CompleteMultipartUploadResult>"...))
}

// location is the object's URL as the client sees it.
func (q *request) location() string {
	scheme := "http"
	if q.r.TLS != nil {
		scheme = "https"
	}
	path := "/" + q.bucket + "/"
	if q.hosted {
		path = "/"
	}
	return string(appendURL([]byte(scheme+"://"+q.r.Host+path), q.key))
}
