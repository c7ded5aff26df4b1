// Package qinling is the API of OpenStack's function engine, Qinling, on a
// warpket server: its shapes, messages and narrower rules. Its own client, the
// openstack command line, works with it unchanged. All that is decided is decided
// by package api and the store.
package qinling

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
)

// Prefix is where the wire is mounted: the base URL of its clients, to which they
// add /v1.
const Prefix = "/qinling"

// Config says what may differ between servers.
type Config struct {
	// NotUsed is the token that callers have who send "notused", as the openstack
	// command line does without authentication. Empty: they are refused.
	NotUsed string
}

// New makes the wire.
func New(c Config) api.Wire {
	return func(s *api.Server) http.Handler {
		w := &wire{Config: c, server: s, mux: http.NewServeMux()}
		w.api = humago.New(w.mux, humaConfig())
		for _, add := range []func(){w.addRoot, w.addRuntimes, w.addFunctions, w.addVersions, w.addWorkers, w.addAliases, w.addExecutions, w.addWebhooks, w.addJobs, w.addIdentity} {
			add()
		}
		return w.handler()
	}
}

type wire struct {
	Config
	server *api.Server
	mux    *http.ServeMux
	api    huma.API
}

func humaConfig() huma.Config {
	c := huma.DefaultConfig("Qinling on warpket", "1.0")
	c.CreateHooks = nil // no $schema in bodies
	c.SchemasPath, c.DocsPath, c.OpenAPIPath = "", "", "/v1/openapi"
	c.Servers = []*huma.Server{{URL: Prefix}}
	c.Transformers = append(c.Transformers, func(_ huma.Context, _ string, v any) (any, error) {
		if p, ok := v.(*api.Problem); ok { // huma's own errors
			return newFault(p.Status, p.Detail), nil
		}
		return v, nil
	})
	return c
}

// handler is the wire: its token, unknown paths and the shape of errors around
// the operations.
func (w *wire) handler() http.Handler {
	inner := w.server.Authenticated(w.tokenOf, w.mux)
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		defer func() {
			if cause := recover(); cause != nil {
				if cause == http.ErrAbortHandler { //nolint:errorlint // a sentinel, compared as net/http does
					panic(cause)
				}
				w.server.Log.ErrorContext(r.Context(), "handler panicked", "method", r.Method, "path", r.URL.Path, "cause", cause, "stack", string(debug.Stack()))
				newFault(http.StatusInternalServerError, "Internal Server Error").write(rw)
			}
		}()
		if path := strings.TrimRight(r.URL.Path, "/"); path != r.URL.Path && path != "" && path != "/v1" {
			r = r.Clone(r.Context())
			r.URL.Path, r.URL.RawPath = path, ""
		}
		if r.URL.Path == "" {
			r = r.Clone(r.Context())
			r.URL.Path = "/"
		}
		if h, pattern := w.mux.Handler(r); pattern == "" {
			probe := &head{header: http.Header{}}
			h.ServeHTTP(probe, r)
			status := http.StatusNotFound
			if probe.status == http.StatusMethodNotAllowed {
				status = probe.status
				rw.Header().Set("Allow", probe.header.Get("Allow"))
			}
			newFault(status, http.StatusText(status)).write(rw)
			return
		}
		inner.ServeHTTP(plainJSON{rw}, r)
	})
}

// tokenOf is the token of a request. After a colon it may name the project that
// an operator works in.
func (w *wire) tokenOf(r *http.Request) string {
	token, project, named := strings.Cut(r.Header.Get("X-Auth-Token"), ":")
	if named {
		r.Header.Set("X-Project-Id", project)
	}
	if token == "notused" {
		return w.NotUsed
	}
	return token
}

// plainJSON has errors of huma itself come as the JSON that clients read.
type plainJSON struct{ http.ResponseWriter }

func (p plainJSON) WriteHeader(status int) {
	if p.Header().Get("Content-Type") == "application/problem+json" {
		p.Header().Set("Content-Type", "application/json")
	}
	p.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (p plainJSON) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// head is a ResponseWriter that keeps the head of an answer only.
type head struct {
	header http.Header
	status int
}

func (h *head) Header() http.Header         { return h.header }
func (h *head) WriteHeader(status int)      { h.status = status }
func (h *head) Write(b []byte) (int, error) { return len(b), nil }

// Query is what every operation gets. It is exported for huma, which reads no
// other embedded fields.
type Query struct {
	query url.Values
	kind  string // Content-Type
	base  string // URL of the wire, as the client knows it
	head  http.Header
	raw   string
}

// Resolve takes what huma has no fields for.
func (q *Query) Resolve(ctx huma.Context) []error {
	u := ctx.URL()
	q.raw = u.RawQuery
	q.query = u.Query()
	q.kind = ctx.Header("Content-Type")
	q.head = http.Header{}
	ctx.EachHeader(func(name, value string) { q.head.Add(name, value) })
	q.base = baseURL(ctx)
	return nil
}

func baseURL(ctx huma.Context) string {
	scheme := "http"
	if ctx.TLS() != nil || ctx.Header("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	return scheme + "://" + ctx.Host() + Prefix
}

// only refuses arguments that an operation does not know.
func (q *Query) only(known ...string) error {
	for name := range q.query {
		if !contains(known, name) {
			return invalid("Unknown argument: %q", name)
		}
	}
	return nil
}

// Sent is what operations get that take a body. It is exported for huma, which
// reads no other embedded fields.
type Sent struct {
	Query
	RawBody []byte
}

func (*Sent) sent() {}

// ByID names a thing in a path. It is exported for huma, which reads no other
// embedded fields.
type ByID struct {
	ID string `path:"id" doc:"ID"`
}

// parse reads an ID where Qinling answers 400 to what is none.
func (in ByID) parse() (warpket.ID, error) {
	id, err := warpket.ParseID("thing", in.ID)
	if err != nil {
		return "", invalid("Invalid input for field/attribute id. Value: '%.80s'. Value should be UUID format", in.ID)
	}
	return id, nil
}

type (
	output[T any] struct{ Body T }
	nothing       struct {
		Location string `header:"Location"`
	}
)

func (w *wire) addRoot() {
	type link struct {
		Href   string `json:"href"`
		Target string `json:"target"`
		Rel    string `json:"rel"`
	}
	type apiVersion struct {
		ID     string `json:"id"`
		Status string `json:"status"`
		Links  []link `json:"links"`
	}
	type apiVersions struct {
		Versions []apiVersion `json:"versions"`
	}
	type uri struct {
		URI string `json:"uri"`
	}
	register(w, api.Public, huma.Operation{OperationID: "get-versions", Method: http.MethodGet, Path: "/{$}", Summary: "Show the versions of the API"},
		func(_ context.Context, in *struct{ Query }) (*output[apiVersions], error) {
			return &output[apiVersions]{apiVersions{[]apiVersion{{"v1.0", "CURRENT", []link{{in.base + "/v1", "v1", "self"}}}}}}, nil
		})
	register(w, api.Public, huma.Operation{OperationID: "get-version-root", Method: http.MethodGet, Path: "/v1/{$}", Summary: "Show where the API is"},
		func(_ context.Context, in *struct{ Query }) (*output[uri], error) {
			return &output[uri]{uri{in.base + "/v1"}}, nil
		})
	w.mux.Handle("GET /v1", http.RedirectHandler(Prefix+"/v1/", http.StatusFound))
}

// stream answers with bytes.
func stream(contentType string, header map[string]string, write func(huma.Context) error) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		ctx.SetHeader("Content-Type", contentType)
		for name, value := range header {
			ctx.SetHeader(name, value)
		}
		if write(ctx) != nil {
			panic(http.ErrAbortHandler) // the head is out: a reader sees the answer break off
		}
	}}
}

// asJSON answers with a JSON value where another request is answered with bytes.
func asJSON(v any) (*huma.StreamResponse, error) {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(v); err != nil {
		return nil, err
	}
	return stream("application/json", nil, func(ctx huma.Context) error {
		_, err := ctx.BodyWriter().Write(b.Bytes())
		return err
	}), nil
}

// timestamp is a time as Qinling writes it.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// updated is null until a thing has changed.
func updated(createdDate, updatedDate time.Time) *string {
	if !updatedDate.After(createdDate) {
		return nil
	}
	return new(timestamp(updatedDate))
}

// orNull writes no text as null.
func orNull[T ~string](s T) *string {
	if s == "" {
		return nil
	}
	return new(string(s))
}
