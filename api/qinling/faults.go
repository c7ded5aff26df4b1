package qinling

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"maps"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
)

// fault is how every error but a 401 looks: clients read faultstring only.
type fault struct {
	Code   string  `json:"faultcode" doc:"Client or Server"`
	Text   string  `json:"faultstring" doc:"What is wrong"`
	Debug  *string `json:"debuginfo" doc:"Always null"`
	status int
	after  time.Duration
}

func newFault(status int, text string) *fault {
	f := &fault{Code: "Client", Text: text, status: status}
	if status >= http.StatusInternalServerError {
		f.Code = "Server"
	}
	return f
}

func (f *fault) Error() string { return f.Text }

// GetStatus implements huma.StatusError.
func (f *fault) GetStatus() int { return f.status }

func (f *fault) headers() http.Header {
	h := http.Header{}
	if f.status == http.StatusTooManyRequests || f.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(f.after.Seconds())))))
	}
	return h
}

// write answers with the fault outside of huma.
func (f *fault) write(w http.ResponseWriter) {
	maps.Copy(w.Header(), f.headers())
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.status)
	_ = json.NewEncoder(w).Encode(f) // the client may have gone
}

// invalid is a request that has to be fixed.
func invalid(format string, args ...any) *fault {
	return newFault(http.StatusBadRequest, fmt.Sprintf(format, args...))
}

// forbidden is what is not allowed as things stand.
func forbidden(format string, args ...any) *fault {
	return newFault(http.StatusForbidden, fmt.Sprintf(format, args...))
}

// statusOf maps each kind of error to its status here.
var statusOf = map[warpket.Kind]int{
	warpket.Malformed:       http.StatusBadRequest,
	warpket.Invalid:         http.StatusBadRequest,
	warpket.Unauthenticated: http.StatusUnauthorized,
	warpket.Denied:          http.StatusForbidden,
	warpket.NotFound:        http.StatusNotFound,
	warpket.Conflict:        http.StatusConflict,
	warpket.Stale:           http.StatusConflict,
	warpket.TooLarge:        http.StatusRequestEntityTooLarge,
	warpket.OverQuota:       http.StatusTooManyRequests,
	warpket.NoCapacity:      http.StatusServiceUnavailable,
	warpket.Unavailable:     http.StatusServiceUnavailable,
}

// faultOf converts an error of the domain. An internal one is not shown.
func faultOf(err error) *fault {
	if f, ok := errors.AsType[*fault](err); ok {
		return f
	}
	e, ok := errors.AsType[*warpket.Error](err)
	status := statusOf[warpket.KindOf(err)]
	if !ok || status == 0 {
		return newFault(http.StatusInternalServerError, "Internal Server Error")
	}
	f := newFault(status, e.Message)
	f.after = e.After
	return f
}

// notFound is the fault of what there is not, or none that the caller may see;
// other errors stay what they are.
func notFound(err error, model, format string, args ...any) error {
	if warpket.KindOf(err) != warpket.NotFound {
		return err
	}
	return newFault(http.StatusNotFound, model+" not found ["+fmt.Sprintf(format, args...)+"]")
}

// conflicting makes a conflict what Qinling forbids, in these words if there are
// any.
func conflicting(err error, words string) error {
	if warpket.KindOf(err) != warpket.Conflict {
		return err
	}
	if words == "" {
		words = faultOf(err).Text
	}
	return newFault(http.StatusForbidden, words)
}

const notAllowed = "Operation not allowed"

// refuse answers from a middleware.
func refuse(ctx huma.Context, err error) {
	f := faultOf(err)
	switch f.status {
	case http.StatusUnauthorized:
		text := "The request you have made requires authentication."
		ctx.SetHeader("Server-Error-Message", text)
		ctx.SetHeader("WWW-Authenticate", `Keystone uri="`+baseURL(ctx)+identityPath+`"`)
		ctx.SetHeader("Content-Type", "text/html; charset=UTF-8")
		ctx.SetStatus(f.status)
		_, _ = fmt.Fprintf(ctx.BodyWriter(), "<html>\n <head>\n  <title>401 Unauthorized</title>\n </head>\n <body>\n  <h1>401 Unauthorized</h1>\n  %s<br /><br />\n </body>\n</html>\n", html.EscapeString(text))
		return
	case http.StatusForbidden:
		f = newFault(f.status, notAllowed)
	}
	for name, values := range f.headers() {
		ctx.SetHeader(name, values[0])
	}
	ctx.SetHeader("Content-Type", "application/json")
	ctx.SetStatus(f.status)
	_ = json.NewEncoder(ctx.BodyWriter()).Encode(f) // the client may have gone
}
