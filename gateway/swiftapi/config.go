package swiftapi

import (
	"context"
	"log/slog"
	"time"

	"ringfort/gateway/auth"
	"ringfort/gateway/ops"
	"ringfort/internal/errs"
)

// Config is what a Handler needs. Store, Identities and TokenKey are required.
type Config struct {
	Store Store
	// Identities finds users by access key. If it is a Users too, they can log in
	// by name.
	Identities auth.Identities
	// TokenKey signs tokens: at least 32 random bytes, the same on all gateways.
	// A new one ends all tokens.
	TokenKey []byte
	// TokenLife is how long a token is good. Default 24 hours.
	TokenLife time.Duration
	// StorageURL is what storage URLs begin with, as "https://store.example:443".
	// By default they repeat the scheme and host of the login.
	StorageURL string
	// Log takes failures that are the server's own. Default: nothing is logged.
	Log *slog.Logger
	// Version is what /info says of the server. Default "ringfort".
	Version string
	// MaxManifestBytes bounds the body of a static large object's manifest, and
	// twice as much the stored form, which a GET holds in memory. Default 8 MiB.
	MaxManifestBytes int64
	// MaxSegments bounds the objects a manifest may name. Default 1000.
	MaxSegments int
	// SegmentConcurrency is how many segments of a manifest are looked at, or
	// deleted, at a time. Default 16.
	SegmentConcurrency int
	// IdleTimeout ends a request whose client neither sends nor takes a byte for
	// as long. Default 60 s; negative means never.
	IdleTimeout time.Duration
	// Now is the wall clock, for tokens and conditions. Default time.Now.
	Now func() time.Time
	// Observe, if not nil, is called once for every request after its answer.
	Observe func(*Event)
}

// Users is an optional ability of Identities: to find a user by name. A name that
// does not exist is errs.Unauthenticated.
type Users interface {
	LookupUser(ctx context.Context, account, user string) (auth.Identity, error)
}

// Event describes a request that was answered.
type Event struct {
	RequestID string
	Operation string // "GET object", "PUT container", "GET token"; "" if it was never known
	Account   string
	Container string
	Object    string
	Status    int
	Err       error // what went wrong, nil if nothing did
	BytesOut  int64 // of the body
	Duration  time.Duration
}

// Swift's limits, as /info states them.
const (
	maxAccountNameBytes   = 256
	maxContainerNameBytes = 256
	maxMetaNameBytes      = 128
	maxMetaValueBytes     = 256
	maxMetaCount          = 90
	maxMetaBytes          = 4096
	maxHeaderBytes        = 8192
	maxListing            = 10000 // peer.MaxPage is no smaller
	maxNesting            = 10    // of static large objects
	maxObjectBytes        = ops.MaxPartBytes
)

// minTokenKeyBytes is the shortest key that New takes.
const minTokenKeyBytes = 32

func (c *Config) fill() error {
	const op = "swiftapi.New"
	switch {
	case c.Store == nil:
		return errs.New(op, errs.Invalid, "there is no Store")
	case c.Identities == nil:
		return errs.New(op, errs.Invalid, "there are no Identities")
	case len(c.TokenKey) < minTokenKeyBytes:
		return errs.New(op, errs.Invalid, "the token key has %d bytes, fewer than %d", len(c.TokenKey), minTokenKeyBytes)
	}
	if c.TokenLife <= 0 {
		c.TokenLife = 24 * time.Hour
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Version == "" {
		c.Version = "ringfort"
	}
	if c.MaxManifestBytes <= 0 {
		c.MaxManifestBytes = 8 << 20
	}
	if c.MaxSegments <= 0 {
		c.MaxSegments = 1000
	}
	if c.SegmentConcurrency <= 0 {
		c.SegmentConcurrency = 16
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = time.Minute
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}
