// Package auth is who is asking: identities, and how a protocol layer finds them.
//
// Read [Identity] and [Identities] first. The packages below it check what a
// request claims: sigv4 and sigv2 for S3's signatures. Where identities are kept
// is not this package's business; a gateway is handed an Identities.
//
// There are no policies yet: an identity may do everything in its own account and
// nothing in any other.
//
// Everything here is a plain value or an interface that is safe for concurrent
// use. Nothing is written anywhere.
package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	"ringfort/internal/errs"
)

// Identity is a user as one of its access keys shows it.
type Identity struct {
	// Account owns what the identity creates, and is all that it may see.
	Account string
	// User is the name within the account.
	User string
	// AccessKey is the public half of the key, Secret the other.
	AccessKey string
	Secret    string
	// Root is the identity that the server was started with.
	Root bool
	// Enabled is false for keys that were switched off: they are known and refused.
	Enabled bool
}

// Identities finds identities.
type Identities interface {
	// Lookup returns the identity of an access key. A key that does not exist is
	// errs.Unauthenticated (see Unknown); any other error means that it could not
	// be found out. A disabled key is returned as it is. It is called for every
	// request and must be quick.
	Lookup(ctx context.Context, accessKey string) (Identity, error)
}

// Unknown is the error for an access key that does not exist.
func Unknown(accessKey string) error {
	return errs.New("auth.Lookup", errs.Unauthenticated, "access key %q does not exist", accessKey)
}

// Static is a fixed set of identities by access key.
type Static map[string]Identity

// Lookup implements Identities.
func (s Static) Lookup(_ context.Context, accessKey string) (Identity, error) {
	id, ok := s[accessKey]
	if !ok {
		return Identity{}, Unknown(accessKey)
	}
	return id, nil
}

// CanonicalID returns the id under which S3 shows an account as an owner: 64
// hexadecimal digits that never change.
func CanonicalID(account string) string {
	sum := sha256.Sum256([]byte(account))
	return hex.EncodeToString(sum[:])
}
