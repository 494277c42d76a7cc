package sigv4

import (
	"crypto/sha256"
	"crypto/subtle"
	"strings"
	"sync"
)

// Key is a derived signing key: it signs for one access key, day and region.
type Key [sha256.Size]byte

const (
	hmacBlock = 64 // SHA-256's block
	service   = "s3"
	scopeEnd  = "aws4_request"
)

// hmacSHA256 is RFC 2104's HMAC with SHA-256. It uses and returns buf, so that a
// caller that keeps it pays no allocation; crypto/hmac makes four. A test
// compares the two. buf must not overlap key or msg.
func hmacSHA256(buf, key, msg []byte) (sum [sha256.Size]byte, grown []byte) {
	var long [sha256.Size]byte
	if len(key) > hmacBlock {
		long = sha256.Sum256(key)
		key = long[:]
	}
	var pad [hmacBlock]byte
	copy(pad[:], key)
	for i := range pad {
		pad[i] ^= 0x36
	}
	buf = append(append(buf[:0], pad[:]...), msg...)
	inner := sha256.Sum256(buf)
	for i := range pad {
		pad[i] ^= 0x36 ^ 0x5c
	}
	var outer [hmacBlock + sha256.Size]byte
	copy(outer[:], pad[:])
	copy(outer[hmacBlock:], inner[:])
	return sha256.Sum256(outer[:]), buf
}

// deriveKey computes the signing key of a secret for a day and region.
func deriveKey(secret, date, region string) Key {
	var buf []byte
	k, buf := hmacSHA256(buf, []byte("AWS4"+secret), []byte(date))
	k, buf = hmacSHA256(buf, k[:], []byte(region))
	k, buf = hmacSHA256(buf, k[:], []byte(service))
	k, _ = hmacSHA256(buf, k[:], []byte(scopeEnd))
	return Key(k)
}

type keyID struct{ accessKey, date, region string }

type keyEntry struct {
	secret string
	key    Key
}

// keyCache remembers derived keys: deriving takes four HMACs, a request with a
// known key needs one. Two generations bound it: when the young one is full it
// becomes the old one, and what was in the old one and not asked for is forgotten.
// Only keys that have verified a signature get in, so a flood of made-up regions
// displaces nothing.
type keyCache struct {
	half int

	mu         sync.RWMutex // guards the maps
	young, old map[keyID]keyEntry
}

func newKeyCache(entries int) *keyCache {
	return &keyCache{half: max(entries/2, 1), young: map[keyID]keyEntry{}}
}

// get returns the key if it is known for exactly this secret: after a change of
// the secret the old key must not be found.
func (c *keyCache) get(id keyID, secret string) (Key, bool) {
	c.mu.RLock()
	e, ok := c.young[id]
	aged := false
	if !ok {
		e, aged = c.old[id]
	}
	c.mu.RUnlock()
	if (!ok && !aged) || subtle.ConstantTimeCompare([]byte(e.secret), []byte(secret)) != 1 {
		return Key{}, false
	}
	if aged {
		c.put(id, secret, e.key)
	}
	return e.key, true
}

func (c *keyCache) put(id keyID, secret string, key Key) {
	// The strings are parts of a request's headers: keep copies, not the headers.
	id = keyID{strings.Clone(id.accessKey), strings.Clone(id.date), strings.Clone(id.region)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.young[id]; !ok && len(c.young) >= c.half {
		c.old, c.young = c.young, make(map[keyID]keyEntry, c.half)
	}
	c.young[id] = keyEntry{strings.Clone(secret), key}
}
