package s3api

import (
	"net/http"
	"strings"

	"ringfort/internal/catalog"
	"ringfort/internal/checksum"
)

// How an object's checksum is kept in its metadata:
//
//	checksum-algorithm     "CRC32", or "CRC32,COMPOSITE": what listings show
//	checksum-<algorithm>   the value, "base64" or "base64-N"
//
// and an unfinished upload's choice:
//
//	checksum-algorithm     "CRC32"
//	checksum-type          "COMPOSITE" or "FULL_OBJECT"
//	checksum-chosen        "1" if the client named the algorithm
const (
	metaAlgorithm = "checksum-algorithm"
	metaType      = "checksum-type"
	metaChosen    = "checksum-chosen"
	metaSum       = "checksum-"
)

// defaultAlgorithm is what is computed for uploads that name none, as S3 does.
const defaultAlgorithm = checksum.CRC64NVME

// withChecksum returns meta with a checksum in place of any other. text is the
// checksum as s prints it.
func withChecksum(meta catalog.Pairs, s checksum.Sum, text string) catalog.Pairs {
	meta = withoutChecksum(meta)
	if s.IsZero() {
		return meta
	}
	name := s.Algorithm().String()
	if s.Type() == checksum.TypeComposite {
		name += "," + s.Type().String()
	}
	// Both go to where "checksum-" would be: sorted, "algorithm" comes before the
	// name of any.
	at := 0
	for at < len(meta) && meta[at].Name < metaSum {
		at++
	}
	out := make(catalog.Pairs, 0, len(meta)+2)
	out = append(out, meta[:at]...)
	out = append(out, catalog.Pair{Name: metaAlgorithm, Value: name}, catalog.Pair{Name: metaOf(s.Algorithm()), Value: text})
	return append(out, meta[at:]...)
}

// metaOf is where a checksum of an algorithm is kept.
func metaOf(a checksum.Algorithm) string { return lowerHeader(a)[len("x-amz-"):] }

func withoutChecksum(meta catalog.Pairs) catalog.Pairs {
	for i := range meta {
		if strings.HasPrefix(meta[i].Name, metaSum) {
			kept := make(catalog.Pairs, 0, len(meta)+2)
			for _, p := range meta {
				if !strings.HasPrefix(p.Name, metaSum) {
					kept = append(kept, p)
				}
			}
			return kept
		}
	}
	return meta
}

// checksumOf returns an object's checksum, the zero Sum if it has none that we
// know.
func checksumOf(o *catalog.Object) checksum.Sum {
	name, _, _ := strings.Cut(o.Meta.Get(metaAlgorithm), ",")
	a, err := checksum.Parse(name)
	if err != nil {
		return checksum.Sum{}
	}
	s, err := checksum.ParseAny(a, o.Meta.Get(metaOf(a)))
	if err != nil {
		return checksum.Sum{}
	}
	return s
}

// setChecksum puts a checksum into an answer's headers.
func setChecksum(h http.Header, s checksum.Sum, text string) {
	if s.IsZero() {
		return
	}
	both := [...]string{text, s.Type().String()}
	h[s.Algorithm().Header()] = both[0:1:1]
	h[checksum.HeaderType] = both[1:2:2]
}

// lowerName is the algorithm's name in lower case, without an allocation.
func lowerName(a checksum.Algorithm) string { return lowerHeader(a)[len(checksum.HeaderPrefix):] }

// lowerHeader is the algorithm's header in lower case.
func lowerHeader(a checksum.Algorithm) string {
	switch a {
	case checksum.CRC32:
		return "x-amz-checksum-crc32"
	case checksum.CRC32C:
		return "x-amz-checksum-crc32c"
	case checksum.CRC64NVME:
		return "x-amz-checksum-crc64nvme"
	case checksum.SHA1:
		return "x-amz-checksum-sha1"
	case checksum.SHA256:
		return "x-amz-checksum-sha256"
	}
	return strings.ToLower(checksum.HeaderPrefix + a.String())
}

// checksumElement is the algorithm's element in XML: "ChecksumCRC32".
func checksumElement(a checksum.Algorithm) string { return "Checksum" + a.String() }

// appendChecksum appends a checksum's element, nothing for the zero Sum.
func appendChecksum(b []byte, s checksum.Sum) []byte {
	if s.IsZero() {
		return b
	}
	return appendElement(b, checksumElement(s.Algorithm()), s.String())
}
