// Package errs is the one error type that crosses Ringfort's package and
// process borders.
//
// An Error says which operation failed (Op), what sort of failure it is (Kind),
// a sentence for a person (What) and the cause (Err). Callers decide by kind,
// with [KindOf] or [Is], and never by reading text. The kind is one byte on the
// wire, so a failure on one node is still the same failure on another: a plain
// HTTP 404 could not tell a missing bucket from a missing key.
//
// The package is not for protocol codes: the S3 and Swift front ends each own
// one table from Kind to their status, code and body.
package errs

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Kind is the sort of a failure. The numbers are part of the peer protocol:
// append, never renumber.
type Kind uint8

const (
	// Other is any failure that no kind below describes.
	Other Kind = 0
	// Invalid is input that can never be accepted as it is.
	Invalid Kind = 1
	// NotFound is a key, version, upload or file that is not there.
	NotFound Kind = 2
	// NoBucket is a container that is not there.
	NoBucket Kind = 3
	// Exists is a thing that was to be new and is there already.
	Exists Kind = 4
	// NotEmpty is a container that still holds objects.
	NotEmpty Kind = 5
	// Conflict is a ballot refused because something newer is held or promised.
	Conflict Kind = 6
	// Precondition is a condition of the caller's that does not hold.
	Precondition Kind = 7
	// NotModified is a conditional read whose object has not changed.
	NotModified Kind = 8
	// Unavailable is a quorum or a device that does not answer; trying later may help.
	Unavailable Kind = 9
	// OutcomeUnknown is a write that may or may not have taken effect.
	OutcomeUnknown Kind = 10
	// Corrupt is stored data that fails its checksum or its structure.
	Corrupt Kind = 11
	// Full is a device or cluster without room for the write.
	Full Kind = 12
	// Denied is a known requester without the right to do this.
	Denied Kind = 13
	// Unauthenticated is a requester who could not be identified.
	Unauthenticated Kind = 14
	// NotImplemented is a feature that this version does not have.
	NotImplemented Kind = 15
	// TooLarge is a body, name or list beyond a stated limit.
	TooLarge Kind = 16
	// BadDigest is a body that does not match the digest its sender gave.
	BadDigest Kind = 17
	// Incomplete is a body that ended before its stated length.
	Incomplete Kind = 18
	// Canceled is work given up because its caller went away or its time ran out.
	Canceled Kind = 19
	// Moved is a request with an old epoch: the receiver knows a newer ring.
	Moved Kind = 20
	// NoUpload is a multipart upload that is not there.
	NoUpload Kind = 21
	// BadRange is a byte range that does not overlap the object.
	BadRange Kind = 22
	// Busy is a bounded pool or queue with no place left.
	Busy Kind = 23
	// Swept is a write that names fragments which have been swept away.
	Swept Kind = 24
	// Gone is an account or container that was deleted and is being reaped.
	Gone Kind = 25
)

var kindNames = [...]string{
	"error", "invalid", "not found", "no such container", "already exists", "not empty",
	"conflict", "precondition failed", "not modified", "unavailable", "outcome unknown",
	"corrupt", "no space", "denied", "unauthenticated", "not implemented", "too large",
	"bad digest", "incomplete body", "canceled", "moved", "no such upload",
	"range not satisfiable", "busy", "swept", "gone",
}

// Known reports whether this program has a name for k. One that it has not comes
// from a newer program.
func (k Kind) Known() bool { return int(k) < len(kindNames) }

// String returns the kind in words.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Error is a failure with its operation, kind, explanation and cause. Any field
// may be empty.
type Error struct {
	Op   string
	Kind Kind
	What string
	Err  error
}

// Error prints "op: kind: what: cause", leaving out what is empty.
func (e *Error) Error() string {
	var parts []string
	if e.Op != "" {
		parts = append(parts, e.Op)
	}
	if e.Kind != Other || (e.What == "" && e.Err == nil) {
		parts = append(parts, e.Kind.String())
	}
	if e.What != "" {
		parts = append(parts, e.What)
	}
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New makes an Error of kind k; what is formatted with args.
func New(op string, k Kind, what string, args ...any) error {
	if len(args) > 0 {
		what = fmt.Sprintf(what, args...)
	}
	return &Error{Op: op, Kind: k, What: what}
}

// Wrap adds an operation and a kind to err. It returns nil if err is nil. With
// kind Other the kind of err shows through.
func Wrap(op string, k Kind, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Kind: k, Err: err}
}

// KindOf returns the outermost kind in err's chain that is not Other. A context's
// end counts as Canceled.
func KindOf(err error) Kind {
	for e := err; e != nil; {
		x, ok := e.(*Error) // mostly: and costs nothing, where As allocates
		if !ok && !errors.As(e, &x) {
			break
		}
		if x.Kind != Other {
			return x.Kind
		}
		e = x.Err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return Canceled
	}
	return Other
}

// Is reports whether err is of kind k.
func Is(err error, k Kind) bool { return err != nil && KindOf(err) == k }
