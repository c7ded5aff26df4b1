package warpket

import (
	"net/url"
	"strings"
	"time"
)

// Callback is where news of an execution's end is to be sent, and how far that
// is. It is kept with the execution as JSON.
type Callback struct {
	URL       string         `json:"url"`
	Secret    string         `json:"secret,omitempty"` // name of the project's secret that signs it; empty: it is not signed
	Status    CallbackStatus `json:"status"`
	Attempts  int            `json:"attempts"`
	LastError string         `json:"lastError,omitempty"` // of the last attempt; empty if it succeeded
	SentDate  *time.Time     `json:"sentDate,omitempty"`  // of the last attempt
}

// CallbackStatus says how far a callback is.
type CallbackStatus string

// The statuses of a callback.
const (
	CallbackPending   CallbackStatus = "pending" // the execution is not final yet, or its delivery is tried again
	CallbackDelivered CallbackStatus = "delivered"
	CallbackFailed    CallbackStatus = "failed" // no attempt succeeded
)

// CheckCallbackURL reports what is wrong with the URL of a callback. Whether
// its host may be asked is decided when it is dialled. http says whether the
// operator allows URLs without TLS.
func CheckCallbackURL(text string, http bool) error {
	u, err := url.Parse(text)
	bad := func(why string) error {
		return Errorf(Invalid, "the callback URL %s", why).At("callbackUrl")
	}
	switch {
	case err != nil || u.Opaque != "" || u.Hostname() == "" || strings.ContainsAny(text, "\x00\r\n"):
		return bad("is not an absolute URL such as https://example.com/done")
	case u.Scheme == "http" && !http:
		return bad("is to begin with https://: this cluster's operator does not allow http")
	case u.Scheme != "https" && u.Scheme != "http":
		return bad("is to begin with https://")
	case u.User != nil:
		return bad("may not hold a user or password: sign the callback with callbackSecret")
	case u.Fragment != "":
		return bad("may not have a fragment")
	}
	return nil
}

// Attempted records an attempt to deliver it; problem is empty if it succeeded.
func (c *Callback) Attempted(problem string, now time.Time) {
	c.Attempts, c.LastError, c.SentDate = c.Attempts+1, problem, &now
	if problem == "" {
		c.Status = CallbackDelivered
	}
}
