package swiftapi

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"

	"ringfort/internal/errs"
)

const (
	tokenPrefix  = "AUTH_tk"
	tokenVersion = 1
	// maxNameInToken is what a length byte can say.
	maxNameInToken = 255
	// tokenFixedBytes is a token without its two names.
	tokenFixedBytes = 3 + 8 + fingerprintBytes + 8 + sha256.Size
	// maxTokenBytes bounds what is decoded of a header.
	maxTokenBytes    = tokenFixedBytes + 2*maxNameInToken
	fingerprintBytes = 8
)

// claim is what a token says.
type claim struct {
	account   string
	accessKey string
	expires   int64 // seconds since 1970
	secret    [fingerprintBytes]byte
}

// tokens makes and reads tokens; their form is in the package comment.
type tokens struct{ key []byte }

// mac is HMAC-SHA256 under the key, for one of its uses.
func (t tokens) mac(use byte, data []byte) []byte {
	m := hmac.New(sha256.New, t.key)
	m.Write([]byte{use})
	m.Write(data)
	return m.Sum(nil)
}

const (
	useToken  = 't'
	useSecret = 's'
)

// fingerprint tells whether a secret is still the one that was logged in with.
func (t tokens) fingerprint(secret string) (f [fingerprintBytes]byte) {
	copy(f[:], t.mac(useSecret, []byte(secret)))
	return f
}

// make returns a token for a login.
func (t tokens) make(account, accessKey, secret string, expires time.Time) (string, error) {
	if len(account) > maxNameInToken || len(accessKey) > maxNameInToken {
		return "", errs.New("swiftapi.token", errs.TooLarge, "an account or access key of more than %d bytes", maxNameInToken)
	}
	b := make([]byte, 0, tokenFixedBytes+len(account)+len(accessKey))
	b = append(b, tokenVersion, byte(len(account)))
	b = append(b, account...)
	b = append(b, byte(len(accessKey)))
	b = append(b, accessKey...)
	b = binary.BigEndian.AppendUint64(b, uint64(expires.Unix()))
	f := t.fingerprint(secret)
	b = append(b, f[:]...)
	var nonce [8]byte
	rand.Read(nonce[:])
	b = append(b, nonce[:]...)
	b = append(b, t.mac(useToken, b)...)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b), nil
}

// read returns what a token says, if this key signed it.
func (t tokens) read(text string) (c claim, ok bool) {
	text, ok = strings.CutPrefix(text, tokenPrefix)
	if !ok || len(text) > base64.RawURLEncoding.EncodedLen(maxTokenBytes) {
		return c, false
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) < tokenFixedBytes || b[0] != tokenVersion {
		return c, false
	}
	body, mac := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if !hmac.Equal(mac, t.mac(useToken, body)) {
		return c, false
	}
	rest := body[1:]
	for _, name := range []*string{&c.account, &c.accessKey} {
		if len(rest) == 0 || len(rest) < 1+int(rest[0]) {
			return c, false
		}
		n := 1 + int(rest[0])
		*name, rest = string(rest[1:n]), rest[n:]
	}
	if len(rest) != 8+fingerprintBytes+8 {
		return c, false
	}
	c.expires = int64(binary.BigEndian.Uint64(rest))
	copy(c.secret[:], rest[8:])
	return c, true
}
