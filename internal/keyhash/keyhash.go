// Package keyhash places names on the ring: it turns a name into a 128-bit
// keyed hash whose leading bits are its partition.
//
// The hash is the first 16 bytes of SHA-256 over the cluster's secret, a domain
// byte and the length-prefixed parts of the name. A cryptographic hash, because
// two names with one hash would be one record; keyed, so that nobody outside
// can aim names at one partition. The parts are length-prefixed, so that
// ("ab","c") and ("a","bc") differ.
package keyhash

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// Hash is a place on the ring. Its bytes compare in ring order.
type Hash [16]byte

// String returns 32 hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Prefix returns the leading bits of h as a number: partition p of a ring with
// 2^power partitions holds the hashes with Prefix(power) == p. power is 0 to 32.
func (h Hash) Prefix(power uint) uint32 {
	return uint32(uint64(binary.BigEndian.Uint32(h[:])) >> (32 - power))
}

// Domain keeps the names of different kinds of thing apart.
type Domain byte

// The domains. The numbers are on disk: append, never renumber.
const (
	Account   Domain = 1 // account name
	Container Domain = 2 // account name, container name
	Object    Domain = 3 // incarnation, object name
	Upload    Domain = 4 // hash of the object, upload id
	Global    Domain = 5 // bucket name in the cluster-wide directory
	System    Domain = 6 // cluster-wide system state
)

// Secret is a cluster's hash key. It never changes during a cluster's life.
type Secret [32]byte

// NewSecret draws a secret.
func NewSecret() (s Secret) {
	rand.Read(s[:]) // never fails since Go 1.24
	return s
}

// Of returns the hash of a name made of parts.
func (s *Secret) Of(d Domain, parts ...string) Hash {
	var buf [512]byte
	b := append(buf[:0], s[:]...)
	b = append(b, byte(d))
	for _, p := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	sum := sha256.Sum256(b)
	return Hash(sum[:16])
}
