package sigv4

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"time"

	"ringfort/internal/errs"
)

// Config of a Verifier. The zero value accepts any region.
type Config struct {
	// Region that credentials must name; empty accepts any.
	Region string
	// MaxSkew is how far a request's time may be from ours. 0 means 15 minutes,
	// as S3 has it; more lets a captured request be repeated for longer.
	MaxSkew time.Duration
	// CachedKeys bounds the derived keys held, some 300 bytes each. 0 means 1024.
	CachedKeys int
}

// Verifier checks signatures. Make one with NewVerifier; it serves all requests.
type Verifier struct {
	cfg  Config
	keys *keyCache
	pool workPool
}

// NewVerifier returns a Verifier.
func NewVerifier(cfg Config) *Verifier {
	if cfg.MaxSkew <= 0 {
		cfg.MaxSkew = 15 * time.Minute
	}
	if cfg.CachedKeys <= 0 {
		cfg.CachedKeys = 1024
	}
	return &Verifier{cfg: cfg, keys: newKeyCache(cfg.CachedKeys)}
}

// Verified is a request whose signature is right, and what its body must satisfy.
type Verified struct {
	AccessKey string
	Scope     Scope
	// Timestamp is the signing time as it was signed, yyyymmddThhmmssZ.
	Timestamp string
	Payload   Payload
	// ContentSHA256 is what the body must hash to when Payload is PayloadSigned.
	ContentSHA256 [sha256.Size]byte
	// Signature, in hex, is the seed of the chunk signatures; Key signs them.
	Signature [2 * sha256.Size]byte
	Key       Key
}

// Verify checks the times of a claim, and its signature against the secret of
// its access key. r must be the request that c was parsed from. Its error is an
// *Error: CodeRequestTimeTooSkewed, CodeAccessDenied for a URL that has expired,
// CodeInvalidURI, or CodeSignatureDoesNotMatch.
func (v *Verifier) Verify(c *Claim, r *http.Request, secret string, now time.Time) (Verified, error) {
	if err := v.checkTime(c, now); err != nil {
		return Verified{}, err
	}
	id := keyID{c.AccessKey, c.Scope.Date, c.Scope.Region}
	key, known := v.keys.get(id, secret)
	if !known {
		key = deriveKey(secret, c.Scope.Date, c.Scope.Region)
	}
	w := v.pool.get()
	defer v.pool.put(w)
	sig, err := w.check(c, r, &key)
	if err != nil {
		return Verified{}, err
	}
	if !known {
		v.keys.put(id, secret, key)
	}
	return Verified{
		AccessKey: c.AccessKey, Scope: c.Scope, Timestamp: c.timestamp,
		Payload: c.Payload, ContentSHA256: c.ContentSHA256, Signature: sig, Key: key,
	}, nil
}

// check computes the signature and compares it. A path that the client may have
// signed as it sent it is tried both ways: see the package comment.
func (w *work) check(c *Claim, r *http.Request, key *Key) (sig [2 * sha256.Size]byte, err error) {
	w.path = appendPath(w.path[:0], r.URL.Path)
	in := input{
		r: r, presigned: c.Presigned, signed: c.SignedHeaders, payload: c.payloadText,
		timestamp: c.timestamp, scope: c.Scope,
	}
	in.path = w.path
	if sig, err = w.sign(&in, key); err != nil {
		return sig, err
	}
	given := []byte(c.Signature)
	if subtle.ConstantTimeCompare(sig[:], given) == 1 {
		return sig, nil
	}
	mismatch := Mismatch(c.AccessKey, c.Signature, string(w.toSign), string(w.canonical))
	if sent := r.URL.EscapedPath(); sent != string(w.path) {
		in.path = []byte(sent)
		if sig, err = w.sign(&in, key); err != nil {
			return sig, err
		}
		if subtle.ConstantTimeCompare(sig[:], given) == 1 {
			return sig, nil
		}
	}
	return sig, mismatch
}

// checkTime refuses a request signed too long ago or in the future. A presigned
// URL states itself how long it is good, and may be used before its time only by
// as much as clocks may differ.
func (v *Verifier) checkTime(c *Claim, now time.Time) error {
	if !c.Presigned {
		if d := now.Sub(c.Time); d > v.cfg.MaxSkew || d < -v.cfg.MaxSkew {
			return TooSkewed(c.Time, now, v.cfg.MaxSkew)
		}
		return nil
	}
	if c.Time.Sub(now) > v.cfg.MaxSkew {
		return refuse(errs.Denied, CodeAccessDenied, "Request is not yet valid")
	}
	if end := c.Time.Add(c.Expires); now.After(end) {
		return Expired(end, now)
	}
	return nil
}
