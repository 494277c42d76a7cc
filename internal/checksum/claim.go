package checksum

import (
	"net/http"
	"strings"

	"ringfort/internal/errs"
)

// Claim is what an upload's headers say about its checksum.
type Claim struct {
	// Algorithm is None when the request names none.
	Algorithm Algorithm
	// Sum is the value given in a header; zero when it follows in a trailer, or
	// when the request names an algorithm alone.
	Sum Sum
	// Trailing says that the value follows the body.
	Trailing bool
}

// Claimed reads the checksum headers of an upload (PutObject, UploadPart).
// It refuses, as S3 does: a malformed value, two values, a value and a trailer,
// a named algorithm that is not the one given, and a named algorithm that
// neither a header nor a trailer gives. Algorithms we do not have are
// NotImplemented; everything else is Invalid, with S3's words as the text.
func Claimed(h http.Header) (Claim, error) {
	c, err := claimedValue(h)
	if err != nil {
		return Claim{}, err
	}
	if err := c.trailer(h[HeaderTrailer]); err != nil {
		return Claim{}, err
	}
	name := h.Get(HeaderSDKAlgorithm)
	if name == "" {
		return c, nil
	}
	named, err := Parse(name)
	switch {
	case errs.Is(err, errs.NotImplemented):
		return Claim{}, err
	case err != nil:
		return Claim{}, invalid("Value for x-amz-sdk-checksum-algorithm header is invalid.")
	case c.Algorithm == None:
		return Claim{}, invalid("x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.")
	case named != c.Algorithm:
		return Claim{}, invalid("Value for x-amz-sdk-checksum-algorithm header is invalid.")
	}
	return c, nil
}

// claimedValue finds the one x-amz-checksum-<algorithm> header.
func claimedValue(h http.Header) (Claim, error) {
	var c Claim
	for name, values := range h {
		if len(name) <= len(HeaderPrefix) || name[:len(HeaderPrefix)] != HeaderPrefix || len(values) == 0 {
			continue
		}
		switch name {
		case HeaderAlgorithm, HeaderType, HeaderMode:
			continue
		}
		a := ForHeader(name)
		if a == None {
			// Another algorithm of S3's, or one that does not exist: Parse knows.
			if _, err := Parse(name[len(HeaderPrefix):]); errs.Is(err, errs.NotImplemented) {
				return Claim{}, err
			}
			return Claim{}, invalid("The algorithm type you specified in " + strings.ToLower(name) + " header is invalid.")
		}
		if c.Algorithm != None || len(values) != 1 {
			return Claim{}, invalid("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
		}
		sum, err := ParseSum(a, values[0])
		if err != nil {
			return Claim{}, err
		}
		c.Algorithm, c.Sum = a, sum
	}
	return c, nil
}

// trailer adds what x-amz-trailer announces. Trailers that are no checksums are
// not this package's business.
func (c *Claim) trailer(values []string) error {
	for _, v := range values {
		for name := range strings.SplitSeq(v, ",") {
			name = strings.TrimSpace(name)
			if len(name) <= len(HeaderPrefix) || !strings.EqualFold(name[:len(HeaderPrefix)], HeaderPrefix) {
				continue
			}
			a := ForHeader(name)
			if a == None {
				if _, err := Parse(name[len(HeaderPrefix):]); errs.Is(err, errs.NotImplemented) {
					return err
				}
				return invalid("The value specified in the x-amz-trailer header is not supported")
			}
			if c.Algorithm != None {
				return invalid("Expecting a single x-amz-checksum- header")
			}
			c.Algorithm, c.Trailing = a, true
		}
	}
	return nil
}

// Upload reads the headers of CreateMultipartUpload: algorithm and type. Without
// an algorithm it returns None, and a type alone is Invalid.
func Upload(h http.Header) (Algorithm, Type, error) {
	name, typ := h.Get(HeaderAlgorithm), h.Get(HeaderType)
	if name == "" {
		if typ != "" {
			return None, 0, invalid("The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.")
		}
		return None, 0, nil
	}
	a, err := Parse(name)
	if err != nil {
		return None, 0, err
	}
	t := a.DefaultType()
	if typ != "" {
		if t, err = ParseType(typ); err != nil {
			return None, 0, err
		}
	}
	if !a.Allows(t) {
		return None, 0, invalid("The " + t.String() + " checksum type cannot be used with the " + strings.ToLower(a.String()) + " checksum algorithm.")
	}
	return a, t, nil
}

func invalid(what string) error { return errs.New("checksum", errs.Invalid, what) }
