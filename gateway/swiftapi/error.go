package swiftapi

import (
	"errors"
	"fmt"
	"net/http"

	"ringfort/internal/errs"
)

// Error is a refusal in Swift's words: a status and a sentence.
type Error struct {
	Status int
	Text   string // "" means the status's usual text
	Kind   errs.Kind
	Header http.Header // further headers of the answer
	// Body and its type, if they are more than Text.
	Body        []byte
	ContentType string
	Err         error // the cause, if it is worth a line in the log
}

// Error prints status and text.
func (e *Error) Error() string {
	s := fmt.Sprintf("%d %s", e.Status, statusText(e.Status))
	if e.Text != "" {
		s += ": " + e.Text
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap makes the kind visible to errs.KindOf.
func (e *Error) Unwrap() error {
	return &errs.Error{Op: "swiftapi", Kind: e.Kind, What: e.Text, Err: e.Err}
}

// with adds a header to the answer.
func (e *Error) with(name, value string) *Error {
	if e.Header == nil {
		e.Header = http.Header{}
	}
	e.Header.Set(name, value)
	return e
}

// refuse makes an Error; text may have arguments.
func refuse(status int, text string, args ...any) *Error {
	if len(args) > 0 {
		text = fmt.Sprintf(text, args...)
	}
	return &Error{Status: status, Text: text, Kind: reasons[status].kind}
}

// statusDisconnect is Swift's status for a client that went away or sent less
// than it had said. It is mostly for the log.
const statusDisconnect = 499

type reason struct {
	kind  errs.Kind
	title string // where net/http has another or none
	text  string
}

// reasons are what the statuses say when there is nothing more precise.
//
// Read only: it is a table, not state.
var reasons = map[int]reason{
	http.StatusAccepted:                     {errs.Other, "", "The request is accepted for processing."},
	http.StatusNotModified:                  {errs.NotModified, "", ""},
	http.StatusBadRequest:                   {errs.Invalid, "", "The request is malformed."},
	http.StatusUnauthorized:                 {errs.Unauthenticated, "", "This server could not verify that you may do this: log in first."},
	http.StatusForbidden:                    {errs.Denied, "", "Access was denied to this resource."},
	http.StatusNotFound:                     {errs.NotFound, "", "The resource could not be found."},
	http.StatusMethodNotAllowed:             {errs.Invalid, "", "The method is not allowed for this resource."},
	http.StatusNotAcceptable:                {errs.Invalid, "", "The resource is not available in a format that you accept."},
	http.StatusRequestTimeout:               {errs.Incomplete, "", "The client was too slow to send its request."},
	http.StatusConflict:                     {errs.Conflict, "", "The request is in conflict with the state of the resource."},
	http.StatusGone:                         {errs.Gone, "", "This resource is no longer available."},
	http.StatusLengthRequired:               {errs.Invalid, "", "Missing Content-Length header."},
	http.StatusPreconditionFailed:           {errs.Precondition, "", "A precondition for this request was not met."},
	http.StatusRequestEntityTooLarge:        {errs.TooLarge, "", "The body of your request was too large for this server."},
	http.StatusRequestedRangeNotSatisfiable: {errs.BadRange, "", "The range requested is not available."},
	http.StatusUnprocessableEntity:          {errs.BadDigest, "", "The body does not match the ETag that was sent with it."},
	statusDisconnect:                        {errs.Incomplete, "Client Disconnect", "The body ended before its stated length."},
	http.StatusInternalServerError:          {errs.Other, "Internal Error", "The server failed. Its log says more under this request's transaction id."},
	http.StatusNotImplemented:               {errs.NotImplemented, "", "This server does not have what was asked for."},
	http.StatusServiceUnavailable:           {errs.Unavailable, "", "The server is currently unavailable. Please try again later."},
	http.StatusInsufficientStorage:          {errs.Full, "", "There is no room for this write. Delete something, or add disks."},
}

func statusText(status int) string {
	if r := reasons[status]; r.title != "" {
		return r.title
	}
	return http.StatusText(status)
}

// ofKind is the table from kinds to statuses. A kind that is not there is 500. An
// entry with text passes the error's own explanation on.
var ofKind = map[errs.Kind]struct {
	status int
	text   bool
}{
	errs.Invalid:         {http.StatusBadRequest, true},
	errs.NotFound:        {http.StatusNotFound, false},
	errs.NoBucket:        {http.StatusNotFound, false},
	errs.Exists:          {http.StatusConflict, false},
	errs.NotEmpty:        {http.StatusConflict, false},
	errs.Conflict:        {http.StatusConflict, false},
	errs.Precondition:    {http.StatusPreconditionFailed, false},
	errs.NotModified:     {http.StatusNotModified, false},
	errs.Unavailable:     {http.StatusServiceUnavailable, false},
	errs.OutcomeUnknown:  {http.StatusServiceUnavailable, false},
	errs.Full:            {http.StatusInsufficientStorage, false},
	errs.Denied:          {http.StatusForbidden, false},
	errs.Unauthenticated: {http.StatusUnauthorized, false},
	errs.NotImplemented:  {http.StatusNotImplemented, true},
	errs.TooLarge:        {http.StatusRequestEntityTooLarge, false},
	errs.BadDigest:       {http.StatusUnprocessableEntity, false},
	errs.Incomplete:      {statusDisconnect, false},
	errs.Canceled:        {http.StatusServiceUnavailable, false},
	errs.Moved:           {http.StatusServiceUnavailable, false},
	errs.NoUpload:        {http.StatusNotFound, false},
	errs.BadRange:        {http.StatusRequestedRangeNotSatisfiable, false},
	errs.Busy:            {http.StatusServiceUnavailable, false},
	errs.Swept:           {http.StatusServiceUnavailable, false},
	errs.Gone:            {http.StatusGone, false},
}

// toError turns any error into Swift's.
func toError(err error) *Error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	kind := errs.KindOf(err)
	row, ok := ofKind[kind]
	if !ok {
		row.status = http.StatusInternalServerError
	}
	e := &Error{Status: row.status, Kind: kind, Err: err}
	var x *errs.Error
	if row.text && errors.As(err, &x) {
		e.Text = x.What
	}
	switch kind {
	case errs.OutcomeUnknown:
		e.Text = "The outcome of this write is unknown: it may or may not have taken effect."
	case errs.Busy, errs.Unavailable:
		e.with("Retry-After", "1")
	}
	return e
}
