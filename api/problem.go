package api

import (
	"encoding/json"
	"errors"
	"maps"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
)

// Problem is how every error looks (RFC 9457).
type Problem struct {
	Type   string        `json:"type" doc:"Always about:blank: the code says what the error is" example:"about:blank"`
	Title  string        `json:"title" doc:"The status in words" example:"Unprocessable Entity"`
	Status int           `json:"status" doc:"The HTTP status" example:"422"`
	Code   Code          `json:"code" doc:"A stable word for the kind of error, for programs"`
	Detail string        `json:"detail" doc:"What is wrong, and what would work, for people" example:"0.45.9 is not a release of qiskit; nearest: 0.45.3"`
	Errors []ProblemPart `json:"errors" nullable:"false" doc:"The parts of the request that are wrong; may be empty"`

	after time.Duration // when the same call may succeed, if that is known
}

// ProblemPart is one part of a request that is wrong.
type ProblemPart struct {
	Location string `json:"location" doc:"Which part, as a path" example:"body.templateFiles[0].filename"`
	Message  string `json:"message" doc:"What is wrong with it"`
}

// Code is a stable word for a kind of error.
type Code string

// Schema lists the codes.
func (Code) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: codes}
}

// codes are all codes: the kinds of the domain, and what only HTTP knows.
var codes = []any{
	string(warpket.Malformed), string(warpket.Invalid), string(warpket.Unauthenticated), string(warpket.Denied), string(warpket.NotFound),
	"method_not_allowed", string(warpket.Conflict), string(warpket.Stale), string(warpket.TooLarge), "unsupported_media_type", "not_acceptable",
	string(warpket.OverQuota), string(warpket.NoCapacity), string(warpket.Unavailable), string(warpket.Internal),
}

// statusOf maps each kind of error to its status.
var statusOf = map[warpket.Kind]int{
	warpket.Malformed:       http.StatusBadRequest,
	warpket.Invalid:         http.StatusUnprocessableEntity,
	warpket.Unauthenticated: http.StatusUnauthorized,
	warpket.Denied:          http.StatusForbidden,
	warpket.NotFound:        http.StatusNotFound,
	warpket.Conflict:        http.StatusConflict,
	warpket.Stale:           http.StatusPreconditionFailed,
	warpket.TooLarge:        http.StatusRequestEntityTooLarge,
	warpket.OverQuota:       http.StatusTooManyRequests,
	warpket.NoCapacity:      http.StatusServiceUnavailable,
	warpket.Unavailable:     http.StatusServiceUnavailable,
	warpket.Internal:        http.StatusInternalServerError,
}

// codeOf is the code of an error that HTTP or huma found.
var codeOf = map[int]Code{
	http.StatusBadRequest:            Code(warpket.Malformed),
	http.StatusUnauthorized:          Code(warpket.Unauthenticated),
	http.StatusForbidden:             Code(warpket.Denied),
	http.StatusNotFound:              Code(warpket.NotFound),
	http.StatusMethodNotAllowed:      "method_not_allowed",
	http.StatusNotAcceptable:         "not_acceptable",
	http.StatusConflict:              Code(warpket.Conflict),
	http.StatusPreconditionFailed:    Code(warpket.Stale),
	http.StatusRequestEntityTooLarge: Code(warpket.TooLarge),
	http.StatusUnsupportedMediaType:  "unsupported_media_type",
	http.StatusUnprocessableEntity:   Code(warpket.Invalid),
	http.StatusTooManyRequests:       Code(warpket.OverQuota),
	http.StatusInternalServerError:   Code(warpket.Internal),
	http.StatusServiceUnavailable:    Code(warpket.Unavailable),
}

func newProblem(status int, code Code, detail string) *Problem {
	if code == "" {
		code = Code(warpket.Internal)
	}
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: detail, Errors: []ProblemPart{}}
}

// problemOf converts an error of the domain. An internal one is not shown: it
// is in the server's log.
func problemOf(err error) *Problem {
	k := warpket.KindOf(err)
	e, ok := errors.AsType[*warpket.Error](err)
	if !ok || k == warpket.Internal || statusOf[k] == 0 {
		return newProblem(http.StatusInternalServerError, Code(warpket.Internal), "something went wrong on our side; it has been logged, and trying again may help")
	}
	p := newProblem(statusOf[k], Code(k), e.Message)
	p.after = e.After
	if e.Field != "" {
		p.Errors = append(p.Errors, ProblemPart{Location: e.Field, Message: e.Message})
	}
	return p
}

func (p *Problem) Error() string { return p.Detail }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders adds what a client needs to do next.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	switch p.Status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="warpket"`)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h.Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(p.after.Seconds())))))
	}
	return h
}

// write answers with the problem outside of huma.
func (p *Problem) write(w http.ResponseWriter) {
	maps.Copy(w.Header(), p.GetHeaders())
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Del("Content-Length")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client may have gone
}

// huma makes its own errors through this variable, which is the only way to
// have them in our shape.
func init() {
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
		p := newProblem(status, codeOf[status], message)
		for _, err := range errs {
			var d huma.ErrorDetailer
			if errors.As(err, &d) {
				detail := d.ErrorDetail() // without the value: it may be long, or secret
				p.Errors = append(p.Errors, ProblemPart{Location: detail.Location, Message: detail.Message})
			} else if err != nil && status < http.StatusInternalServerError {
				p.Errors = append(p.Errors, ProblemPart{Message: err.Error()})
			}
		}
		if len(p.Errors) > 0 && status == http.StatusUnprocessableEntity {
			p.Detail = p.Errors[0].Location + ": " + p.Errors[0].Message
		}
		return p
	}
}
