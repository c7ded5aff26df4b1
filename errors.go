package warpket

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what a caller can do about an error. The set is closed: the API
// maps each kind to one status, and workflows decide from it whether to retry.
type Kind string

// The kinds, and what each asks of the caller.
const (
	Malformed       Kind = "malformed"       // send something that can be parsed
	Invalid         Kind = "invalid"         // fix the request
	Unauthenticated Kind = "unauthenticated" // say who you are
	Denied          Kind = "denied"          // ask for access
	NotFound        Kind = "not_found"       // no such thing, or none this caller may see
	Conflict        Kind = "conflict"        // read again, then decide
	Stale           Kind = "stale"           // If-Match no longer holds: read again
	TooLarge        Kind = "too_large"       // send less
	OverQuota       Kind = "over_quota"      // later, or ask for more; a full queue too
	NoCapacity      Kind = "no_capacity"     // nothing free that fits
	Unavailable     Kind = "unavailable"     // try again later
	Internal        Kind = "internal"        // our fault; every other error is this
)

// Error is an error whose message the caller may read. Its cause is for the log.
type Error struct {
	Kind    Kind
	Message string
	Field   string // the part of the request that is wrong, as a path like "templateFiles[2].filename"; may be empty
	Cause   error
	After   time.Duration // when the same call may succeed, if that is known
}

func (e *Error) Error() string {
	if e.Cause == nil {
		return e.Message
	}
	return e.Message + ": " + e.Cause.Error()
}

func (e *Error) Unwrap() error { return e.Cause }

// At says which field of the request the error is about.
func (e *Error) At(format string, args ...any) *Error {
	e.Field = fmt.Sprintf(format, args...)
	return e
}

// Errorf makes an error of a kind. All of its message is for the caller; see
// Because for one with a cause.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// Because makes an error of a kind whose cause only the log shows.
func Because(kind Kind, cause error, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...), Cause: cause}
}

// KindOf gives the kind of an error: that of the outermost Error in its chain,
// else Internal. It is empty for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// Retryable reports whether the same call may succeed later without a change.
func (k Kind) Retryable() bool {
	return k == Unavailable || k == NoCapacity || k == OverQuota || k == Internal
}
