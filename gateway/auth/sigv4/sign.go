package sigv4

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"ringfort/internal/errs"
)

// Credentials of a client.
type Credentials struct {
	AccessKey string
	SecretKey string
	// SessionToken goes with temporary credentials; usually empty.
	SessionToken string
}

// Signer signs requests as a client does. It is safe for concurrent use.
type Signer struct {
	creds  Credentials
	region string
	keys   *keyCache
	pool   workPool
}

// NewSigner returns a Signer for one set of credentials and a region.
func NewSigner(creds Credentials, region string) *Signer {
	return &Signer{creds: creds, region: region, keys: newKeyCache(4)}
}

// Sign signs r with an Authorization header. payload is the hex SHA-256 of the
// body or one of UnsignedPayload, Streaming, StreamingTrailer and
// StreamingUnsignedTrailer; it and the date are set as headers. All headers set
// before are signed, except those that a transport or a proxy may change. The
// result is what a chunked body needs.
func (s *Signer) Sign(r *http.Request, payload string, now time.Time) (Verified, error) {
	kind, sum, err := ParsePayload(payload)
	if err != nil {
		return Verified{}, err
	}
	ts := now.UTC().Format(isoTime)
	r.Header.Set(headerDate, ts)
	r.Header.Set(headerPayload, payload)
	if s.creds.SessionToken != "" {
		r.Header.Set(headerToken, s.creds.SessionToken)
	}
	r.Header.Del("Authorization")
	v := Verified{
		AccessKey: s.creds.AccessKey, Scope: Scope{ts[:8], s.region}, Timestamp: ts,
		Payload: kind, ContentSHA256: sum,
	}
	in := input{r: r, signed: signable(r.Header), payload: payload, timestamp: ts, scope: v.Scope}
	if err := s.sign(&in, &v); err != nil {
		return Verified{}, err
	}
	b := make([]byte, 0, 256)
	b = append(append(b, algorithm+" Credential="...), s.creds.AccessKey...)
	b = v.Scope.append(append(b, '/'))
	b = append(append(b, ", SignedHeaders="...), in.signed...)
	b = append(append(b, ", Signature="...), v.Signature[:]...)
	r.Header.Set("Authorization", string(b))
	return v, nil
}

// Presign signs r in its query, good for expires from now on: whole seconds, one
// second to seven days. Headers set before are signed, and whoever uses the URL
// must send them. The body stays unsigned unless x-amz-content-sha256 is set.
func (s *Signer) Presign(r *http.Request, expires time.Duration, now time.Time) (Verified, error) {
	seconds := int64(expires / time.Second)
	if seconds < 1 || expires > maxExpires {
		return Verified{}, errs.New("sigv4.Presign", errs.Invalid, "expires after %v", expires)
	}
	payload := r.Header.Get(headerPayload)
	if payload == "" {
		payload = UnsignedPayload
	}
	kind, sum, err := ParsePayload(payload)
	if err != nil {
		return Verified{}, err
	}
	ts := now.UTC().Format(isoTime)
	v := Verified{
		AccessKey: s.creds.AccessKey, Scope: Scope{ts[:8], s.region}, Timestamp: ts,
		Payload: kind, ContentSHA256: sum,
	}
	in := input{r: r, presigned: true, signed: signable(r.Header), payload: payload, timestamp: ts, scope: v.Scope}
	b := make([]byte, 0, 512)
	if b = append(b, r.URL.RawQuery...); len(b) > 0 {
		b = append(b, '&')
	}
	b = append(b, paramAlgorithm+"="+algorithm+"&"+paramCredential+"="...)
	b = appendEncoded(b, s.creds.AccessKey+"/"+v.Scope.String())
	b = append(append(b, "&"+paramDate+"="...), ts...)
	b = strconv.AppendInt(append(b, "&"+paramExpires+"="...), seconds, 10)
	if s.creds.SessionToken != "" {
		b = appendEncoded(append(b, "&"+paramToken+"="...), s.creds.SessionToken)
	}
	b = appendEncoded(append(b, "&"+paramSignedHeaders+"="...), in.signed)
	before := r.URL.RawQuery
	r.URL.RawQuery = string(b)
	if err := s.sign(&in, &v); err != nil {
		r.URL.RawQuery = before
		return Verified{}, err
	}
	r.URL.RawQuery += "&" + paramSignature + "=" + string(v.Signature[:])
	return v, nil
}

// sign fills in v's key and signature.
func (s *Signer) sign(in *input, v *Verified) (err error) {
	id := keyID{s.creds.AccessKey, v.Scope.Date, s.region}
	var known bool
	if v.Key, known = s.keys.get(id, s.creds.SecretKey); !known {
		v.Key = deriveKey(s.creds.SecretKey, v.Scope.Date, s.region)
		s.keys.put(id, s.creds.SecretKey, v.Key)
	}
	w := s.pool.get()
	defer s.pool.put(w)
	w.path = appendPath(w.path[:0], in.r.URL.Path)
	in.path = w.path
	v.Signature, err = w.sign(in, &v.Key)
	return err
}

// signable lists the headers to sign: sorted, joined by ';', host among them.
func signable(h http.Header) string {
	names := make([]string, 1, len(h)+1)
	names[0] = "host"
	for name, values := range h {
		switch name {
		case "Authorization", "User-Agent", "Accept-Encoding", "Connection", "Expect",
			"Transfer-Encoding", "Content-Length", "X-Amzn-Trace-Id", "Host":
		default:
			if len(values) > 0 {
				names = append(names, strings.ToLower(name))
			}
		}
	}
	slices.Sort(names)
	return strings.Join(names, ";")
}
