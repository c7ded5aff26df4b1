// Package api is the HTTP interface of warpket: the native API under /v1, its
// OpenAPI documents and their page. A handler turns a request into calls on
// what it was given and converts the answer; rules live elsewhere.
package api

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/jellydator/ttlcache/v3"
	"golang.org/x/sync/errgroup"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/channel"
	"github.com/warpket/warpket/live"
	"github.com/warpket/warpket/metrics"
	"github.com/warpket/warpket/secrets"
	"github.com/warpket/warpket/sources"
	"github.com/warpket/warpket/storage/blob"
	"github.com/warpket/warpket/storage/postgres"
	"github.com/warpket/warpket/templates"
)

// Workflows start and steer long work.
type Workflows interface {
	StartDeployment(ctx context.Context, d warpket.Deployment) error
	StartRuntime(ctx context.Context, r warpket.Runtime) error
	Scale(ctx context.Context, deployment warpket.ID, slots int, seen time.Time) error
	Detach(ctx context.Context, deployment warpket.ID) error
	DeploymentURL(id warpket.ID) string
	ExecutionURL(id warpket.ID) string
	ScheduleURL(id warpket.ID) string
	Ready(ctx context.Context) error
}

// Fleet begins and ends what runs on nodes.
type Fleet interface {
	Launch(ctx context.Context, e warpket.Execution, held bool) error
	CancelExecution(ctx context.Context, project, id warpket.ID) (warpket.Execution, error)
	// Room reports whether a slot could be placed now, as far as one can tell
	// before. With queue it may be after others.
	Room(ctx context.Context, need warpket.Need, queue bool) error
	FollowLog(ctx context.Context, e warpket.Execution)
	ReleaseAll(ctx context.Context, project warpket.ID, left postgres.Deleted)
	ScheduleChanged(ctx context.Context, id warpket.ID)
	Fence(ctx context.Context, node warpket.ID) (warpket.Node, error)
}

// Images finds out what references of OCI images stand for.
type Images interface {
	// Resolve gives the reference with the digest of the image that it stands
	// for now, on this cluster's platform.
	Resolve(ctx context.Context, reference string, auth warpket.RegistryAuth) (string, error)
}

// Fetcher fetches the files of functions from where others keep them.
type Fetcher interface {
	// Git gives the files at the ref and path of a repository now, and the
	// source with the commit that they are of.
	Git(ctx context.Context, from warpket.Source, auth warpket.RegistryAuth) ([]sources.File, warpket.Source, error)
	// Object gives the files of an object now, and the source with its
	// checksums. Without auth its bucket is one of the operator's.
	Object(ctx context.Context, from warpket.Source, auth *warpket.ObjectAuth) ([]sources.File, warpket.Source, error)
}

// Config is what a Server works with.
type Config struct {
	ServerID  warpket.ID
	Store     *postgres.Store
	Blobs     *blob.Store
	Catalog   *templates.Catalog
	Hub       *live.Hub
	Secrets   *secrets.Vault
	Nodes     *channel.Server
	Authority *channel.Authority
	Workflows Workflows
	Fleet     Fleet
	Images    Images
	Fetcher   Fetcher
	Metrics   *metrics.Metrics // may be nil: then there are none
	Platform  string           // of the runtimes that functions get, "linux/amd64"
	PlainHTTP bool             // callbacks may go to URLs without TLS

	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed

	Wires map[string]Wire // APIs of other systems, by the prefix of their paths

	Now    func() time.Time
	Random func(n int) int // from 0 to n-1, for aliases to choose by; math/rand/v2's unless set
	Log    *slog.Logger
}

// Server answers HTTP requests.
type Server struct {
	Config
	api      huma.API
	mux      *http.ServeMux
	scopes   map[string]Scope          // by operation ID
	reaches  map[string]Reach          // by operation ID
	guards   map[string]huma.Operation // by the pattern that the mux knows it by
	tokens   *cache[warpket.Token]
	projects *cache[warpket.Project]
	targets  *cache[callee]
	pushes   *turns                  // of reading a push
	fetches  *turns                  // of fetching from elsewhere
	wires    map[string]http.Handler // by prefix
	aliases  *cache[warpket.Alias]
	webhooks *cache[hook]
	rates    *rates
	uses     *ttlcache.Cache[string, struct{}] // tokens whose use was written down a moment ago
	writes   errgroup.Group                    // of these
}

// cacheLife is how old what a warm call relies on may be.
const cacheLife = time.Second

// New makes a Server.
func New(c Config) *Server {
	if c.Random == nil {
		c.Random = rand.IntN
	}
	s := &Server{
		Config: c, mux: http.NewServeMux(), scopes: map[string]Scope{}, reaches: map[string]Reach{}, guards: map[string]huma.Operation{},
		tokens: newCache[warpket.Token](cacheLife), projects: newCache[warpket.Project](cacheLife), targets: newCache[callee](cacheLife),
		pushes: newTurns(maxPushes), fetches: newTurns(maxFetches),
		aliases: newCache[warpket.Alias](cacheLife), webhooks: newCache[hook](cacheLife), rates: newRates(),
	}
	s.uses = ttlcache.New(ttlcache.WithTTL[string, struct{}](usedLife), ttlcache.WithDisableTouchOnHit[string, struct{}](), ttlcache.WithCapacity[string, struct{}](10_000))
	s.writes.SetLimit(4)
	s.api = humago.New(s.mux, humaConfig())
	for _, add := range []func(){s.addTemplates, s.addRuntimes, s.addFunctions, s.addEnvironment, s.addDrafts, s.addVersions, s.addDiff, s.addGit, s.addWorkers, s.addDeployments, s.addExecutions, s.addAliases, s.addWebhooks, s.addSchedules, s.addNodes, s.addDevices, s.addSecrets, s.addProjects, s.addTokens, s.addMembers, s.addQuotas, s.addUsage, s.addAudit, s.addHealth, s.addMetrics, s.addDocuments, s.addDocs} {
		add()
	}
	s.wires = map[string]http.Handler{}
	for prefix, wire := range c.Wires {
		s.wires[prefix] = wire(s)
	}
	return s
}

func humaConfig() huma.Config {
	c := huma.DefaultConfig("warpket", "1.0.0")
	c.Info.Description = "warpket hosts quantum and GPU functions. Create a function from a template at an SDK version, edit its files as immutable versions, deploy a version onto simulators or GPUs, and execute it.\n\n" +
		"Send a token as `Authorization: Bearer wk_…`. Every error is a Problem whose `code` is stable. Send an `Idempotency-Key` with a POST to make it safe to repeat. Lists come in pages: pass `nextCursor` back as `cursor`."
	c.Info.License = &huma.License{Name: "Apache-2.0"}
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", Description: "A token of a project, or an operator's. An operator names a project by X-Project-Id, else it is \"default\"."},
	}
	c.CreateHooks = nil // no $schema in bodies
	c.SchemasPath = ""
	c.OpenAPIPath = "" // ours, see openapi.go
	c.DocsPath = ""    // ours, see docs.go
	c.RejectUnknownQueryParameters = true
	c.Tags = []*huma.Tag{
		{Name: "Templates", Description: "Starters for functions"},
		{Name: "Functions", Description: "Named code with immutable versions"},
		{Name: "Deployments", Description: "Versions kept ready on slots"},
		{Name: "Executions", Description: "Runs of a version"},
		{Name: "Aliases", Description: "Names for versions, by which traffic is moved"},
		{Name: "Webhooks", Description: "URLs that execute a function"},
		{Name: "Schedules", Description: "Executions at times to come"},
		{Name: "Runtimes", Description: "SDKs, locked and ready to run"},
		{Name: "Nodes", Description: "Machines and their devices"},
		{Name: "Secrets", Description: "Values that functions get and nobody reads back"},
		{Name: "Projects", Description: "Tenants, their members and tokens, and what these did"},
		{Name: "Quotas", Description: "What projects may use, and what they have used"},
		{Name: "Health", Description: "Whether the server works"},
	}
	return c
}

// OpenAPI is the description of the API.
func (s *Server) OpenAPI() *huma.OpenAPI { return s.api.OpenAPI() }

// Scope is what a caller needs for an operation.
type Scope string

// The scopes. Each is a role of the token; Public needs none.
const (
	Public   Scope = "public"
	Read           = Scope(warpket.Viewer)
	Write          = Scope(warpket.Member)
	Manage         = Scope(warpket.Admin)
	Operate        = Scope(warpket.Operator)
	maxBody        = 1 << 20
	readTime       = 15 * time.Second
)

// register adds an operation. All go through it: it enforces the scope before
// the request is read, has what changes anything written to the audit, and
// turns every error into a Problem. Without a reach, the operation is refused
// to tokens that are for some functions only.
func register[I, O any](s *Server, scope Scope, op huma.Operation, handler func(context.Context, *I) (*O, error), reach ...Reach) {
	s.scopes[op.OperationID] = scope
	var by Reach
	if len(reach) > 0 {
		by = reach[0]
	}
	s.reaches[op.OperationID] = by
	if scope != Public {
		op.Security = []map[string][]string{{"token": {}}}
		op.Description += "\n\nNeeds the role " + string(scope) + "."
		op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity)
		op.Middlewares = append(op.Middlewares, s.guard(scope, by, op, s.refuse))
	}
	if op.MaxBodyBytes == 0 {
		op.MaxBodyBytes = maxBody
	}
	if op.BodyReadTimeout == 0 {
		op.BodyReadTimeout = readTime
	}
	op.Middlewares = append(huma.Middlewares{s.measured(op.OperationID)}, op.Middlewares...)
	op.Middlewares = append(op.Middlewares, s.noBlanks)
	s.documentErrors(&op)
	s.guards[op.Method+" "+op.Path] = op
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		ctx, forgot := watched(ctx, by)
		out, err := handler(ctx, in)
		if err == nil && forgot() {
			err = fmt.Errorf("%s does not check what a token for some functions reaches", op.OperationID)
		}
		if err == nil {
			return out, nil
		}
		p := problemOf(err)
		if p.Status >= http.StatusInternalServerError && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "request failed", "operation", op.OperationID, "error", err)
		}
		return nil, huma.ErrorWithHeaders(p, p.GetHeaders())
	})
}

// noBlanks refuses a query parameter without a value where that is not one of
// its values: huma takes it for one that was left out.
func (s *Server) noBlanks(ctx huma.Context, next func(huma.Context)) {
	u := ctx.URL()
	query := u.Query()
	for _, p := range ctx.Operation().Parameters {
		if p.In != "query" || p.Schema == nil || p.Schema.Type == huma.TypeArray || p.Schema.Type == huma.TypeString && p.Schema.Format == "" && len(p.Schema.Enum) == 0 {
			continue
		}
		if slices.Contains(query[p.Name], "") {
			s.refuse(ctx, warpket.Errorf(warpket.Invalid, "%s has no value: give it one, or leave it out", p.Name).At("query.%s", p.Name))
			return
		}
	}
	next(ctx)
}

// documentErrors describes the errors of an operation as one response: they all
// look alike, and generated clients stay small.
func (s *Server) documentErrors(op *huma.Operation) {
	statuses := append(op.Errors, http.StatusInternalServerError, http.StatusServiceUnavailable)
	slices.Sort(statuses)
	words := make([]string, 0, len(statuses))
	for _, status := range slices.Compact(statuses) {
		words = append(words, fmt.Sprintf("%d %s", status, codeOf[status]))
	}
	op.Errors = nil
	op.Responses = maps.Clone(op.Responses)
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	op.Responses["default"] = &huma.Response{
		Description: "An error. Status and code are one of: " + strings.Join(words, ", "),
		Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: schemaOf[Problem](s)}},
	}
}

// schemaOf refers to the schema of a type.
func schemaOf[T any](s *Server) *huma.Schema {
	return s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, "")
}

// accepted documents the answer to what is not finished yet.
func accepted[T any](s *Server, description string) map[string]*huma.Response {
	header := func(doc string) *huma.Param {
		return &huma.Param{Description: doc, Schema: &huma.Schema{Type: huma.TypeString}}
	}
	return map[string]*huma.Response{"202": {
		Description: description,
		Headers:     map[string]*huma.Param{"Location": header("Where to follow it"), "Retry-After": header("Seconds after which it is worth asking again")},
		Content:     map[string]*huma.MediaType{"application/json": {Schema: schemaOf[T](s)}},
	}}
}

// refuse answers from a middleware.
func (s *Server) refuse(ctx huma.Context, err error) {
	p := problemOf(err)
	for name, values := range p.GetHeaders() {
		for _, v := range values {
			ctx.SetHeader(name, v)
		}
	}
	ctx.SetHeader("Content-Type", "application/problem+json")
	ctx.SetStatus(p.Status)
	_ = s.api.Marshal(ctx.BodyWriter(), "application/json", p) // the client may have gone
}

// Handler is the whole server: authentication, idempotency, unknown paths and
// panics around the operations.
func (s *Server) Handler() http.Handler {
	return s.recovered(s.wired(s.orGateway(s.known(withGitToken(s.authenticated(s.formed(s.repeatable(s.mux))))))))
}

// recovered answers for a handler that panics.
func (s *Server) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if cause := recover(); cause != nil {
				if cause == http.ErrAbortHandler { //nolint:errorlint // a sentinel, compared as net/http does
					panic(cause)
				}
				s.Log.ErrorContext(r.Context(), "handler panicked", "method", r.Method, "path", r.URL.Path, "cause", cause, "stack", stack())
				problemOf(nil).write(w)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// known answers for paths and methods that no operation has.
func (s *Server) known(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, pattern := s.mux.Handler(r)
		if pattern != "" {
			next.ServeHTTP(w, r)
			return
		}
		probe := &header{header: http.Header{}}
		h.ServeHTTP(probe, r)
		switch {
		case probe.status == http.StatusMethodNotAllowed:
			s.notAllowed(w, r, probe.header.Get("Allow"))
		case probe.status >= 300 && probe.status < 400:
			h.ServeHTTP(w, r)
		default:
			newProblem(http.StatusNotFound, Code(warpket.NotFound), "there is nothing at "+clip(r.URL.Path, 200)+"; /docs lists what there is").write(w)
		}
	})
}

// notAllowed answers for a method that a path lacks. Of those that the mux knows
// the ones count that are meant for this path: /v1/nodes/{id} has a GET, and
// /v1/nodes/tokens has none.
func (s *Server) notAllowed(w http.ResponseWriter, r *http.Request, allow string) {
	var own, all []string
	for method := range strings.SplitSeq(allow, ", ") {
		probe := r.Clone(r.Context())
		probe.Method = method
		_, pattern := s.mux.Handler(probe)
		if strings.HasSuffix(pattern, " "+r.URL.Path) {
			own = append(own, method)
		}
		all = append(all, method)
	}
	if len(own) > 0 {
		all = own
	}
	allow = strings.Join(all, ", ")
	w.Header().Set("Allow", allow)
	newProblem(http.StatusMethodNotAllowed, "method_not_allowed", r.Method+" is not possible here; these are: "+allow).write(w)
}

// header is a ResponseWriter that keeps the head of an answer only.
type header struct {
	header http.Header
	status int
}

func (h *header) Header() http.Header         { return h.header }
func (h *header) WriteHeader(status int)      { h.status = status }
func (h *header) Write(b []byte) (int, error) { return len(b), nil }
