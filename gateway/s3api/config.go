package s3api

import (
	"log/slog"
	"time"

	"ringfort/gateway/auth"
)

// Config is what a Handler needs. Store and Identities are required.
type Config struct {
	Store      Store
	Identities auth.Identities
	// Large reads Swift's large objects. Without it they are 501 over S3.
	Large Large
	// Log takes failures that are the server's own. Default: nothing is logged.
	Log *slog.Logger
	// Domains are host names under which "bucket.domain" addresses a bucket. None
	// by default: then only path-style requests work.
	Domains []string
	// Region that requests must be signed for, and that buckets are in. By
	// default any region is accepted and buckets say us-east-1.
	Region string
	// HostID names this server in x-amz-id-2 and in errors. Default "ringfort".
	HostID string
	// MaxSkew is how far a request's time may be off. Default 15 minutes.
	MaxSkew time.Duration
	// MaxHeaderBytes bounds a request's headers and query together. Default 16
	// KiB; user metadata of 2 KiB and a signature take less than 4.
	MaxHeaderBytes int
	// IdleTimeout ends a request whose client neither sends nor takes a byte for
	// as long. Default 60 s; 0 means the default, negative means never.
	IdleTimeout time.Duration
	// DeleteConcurrency is how many objects one DeleteObjects deletes at a time.
	// Default 16.
	DeleteConcurrency int
	// Now is the wall clock, for signatures and conditions. Default time.Now.
	Now func() time.Time
	// Observe, if not nil, is called once for every request after its answer.
	Observe func(*Event)
}

// Event describes a request that was answered.
type Event struct {
	RequestID string
	Operation string // as S3 names it: "PutObject"; "" if it was never known
	Account   string
	Bucket    string
	Key       string
	Status    int
	Code      string // of the error, "" if none
	Err       error  // what went wrong, nil if nothing did
	BytesIn   int64  // of the body, as it came, in chunks if it was
	BytesOut  int64  // of the answer's body
	Duration  time.Duration
}

const (
	defaultRegion = "us-east-1"
	// maxPage is the most lines of a page of keys, parts or uploads.
	maxPage = 1000
)

func (c *Config) fill() {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.HostID == "" {
		c.HostID = "ringfort"
	}
	if c.MaxHeaderBytes <= 0 {
		c.MaxHeaderBytes = 16 << 10
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = time.Minute
	}
	if c.DeleteConcurrency <= 0 {
		c.DeleteConcurrency = 16
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}
