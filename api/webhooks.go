package api

import (
	"cmp"
	"context"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jellydator/ttlcache/v3"
	"golang.org/x/time/rate"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// Webhook is a URL that executes a function.
type Webhook struct {
	ID            string    `json:"id" doc:"ID of the webhook"`
	URL           string    `json:"url" doc:"Where to POST to, without a token, as a path on this server" example:"/v1/webhooks/01981d3c-8f5a-7d1e-9a40-3c8c5f1d2b6a/invoke"`
	Description   string    `json:"description" doc:"What it is for"`
	FunctionID    string    `json:"functionId,omitempty" doc:"ID of the function that it executes; absent when it executes an alias"`
	Version       *int      `json:"version,omitempty" doc:"Number of the version that it executes, 0 for the draft; absent for the newest, and when it executes an alias" example:"3"`
	Alias         string    `json:"alias,omitempty" doc:"Name of the alias that it executes; absent when it executes a function" example:"bell-prod"`
	Signature     string    `json:"signature" enum:"none,warpket,github" doc:"How requests have to be signed"`
	RatePerMinute int       `json:"ratePerMinute" doc:"Requests that each server lets through in a minute" example:"60"`
	Sync          bool      `json:"sync" doc:"Whether whoever invokes it waits for the result and gets it"`
	CreatedDate   time.Time `json:"createdDate" doc:"When it was created"`
	UpdatedDate   time.Time `json:"updatedDate" doc:"When it last changed"`
}

func toWebhook(w warpket.Webhook) Webhook {
	return Webhook{
		ID: string(w.ID), URL: "/v1/webhooks/" + string(w.ID) + "/invoke", Description: w.Description, FunctionID: string(w.FunctionID), Version: w.Version, Alias: w.Alias,
		Signature: cmp.Or(string(w.Signature), unsigned), RatePerMinute: w.RatePerMinute, Sync: w.Sync, CreatedDate: w.CreatedDate, UpdatedDate: w.UpdatedDate,
	}
}

// unsigned is what no signature is called on the wire.
const unsigned = "none"

// WebhookSettings are what can be set on a webhook, on creation or later. They
// are exported for huma, which reads no other embedded fields.
type WebhookSettings struct {
	FunctionID    string  `json:"functionId,omitempty" maxLength:"64" doc:"ID of the function that it executes" example:"01981d3c-8f5a-7d1e-9a40-3c8c5f1d2b6a"`
	Version       int     `json:"version,omitempty" minimum:"1" maximum:"2147483647" doc:"Number of the version that it executes; the newest at the time unless set" example:"3"`
	Alias         string  `json:"alias,omitempty" maxLength:"255" doc:"Name of the alias that it executes, in the place of functionId and version" example:"bell-prod"`
	Description   *string `json:"description,omitempty" maxLength:"4096" doc:"What it is for" example:"Pushes to the lab's repository"`
	Signature     string  `json:"signature,omitempty" enum:"none,warpket,github" doc:"How requests have to be signed: none, which is the default; warpket, by X-Warpket-Signature: t=SECONDS,v1=HMAC, where HMAC is the HMAC-SHA256, in hexadecimal, of the seconds since 1970, a dot and the body, made at most 5 minutes ago; github, by X-Hub-Signature-256 as GitHub does, which does not expire. A signed webhook takes no query, for that is not signed"`
	Secret        string  `json:"secret,omitempty" maxLength:"256" doc:"What the signature is made with; 16 to 256 bytes. It is kept encrypted and never answered"`
	RatePerMinute int     `json:"ratePerMinute,omitempty" minimum:"1" maximum:"6000" doc:"Requests that each server lets through in a minute, also all at once; 60 unless set" example:"60"`
	Sync          *bool   `json:"sync,omitempty" doc:"Whether whoever invokes it waits for the result and gets it; false unless set"`
}

// apply sets what is set. A target replaces the one before as a whole.
func (c WebhookSettings) apply(w *warpket.Webhook, sealed []byte) error {
	if c.FunctionID != "" || c.Alias != "" || c.Version != 0 {
		if c.FunctionID == "" && c.Alias == "" { // another version of the same function
			c.FunctionID = string(w.FunctionID)
		}
		w.FunctionID, w.Alias, w.Version = "", c.Alias, nil
		if c.Version != 0 {
			w.Version = &c.Version
		}
		if c.FunctionID != "" {
			id, err := warpket.ParseID("function", c.FunctionID)
			if err != nil {
				return err
			}
			w.FunctionID = id
		}
	}
	if c.Description != nil {
		w.Description = *c.Description
	}
	if c.Signature != "" {
		w.Signature = warpket.Signature(c.Signature)
	}
	if sealed != nil {
		w.Sealed = sealed
	}
	if c.Signature == unsigned {
		w.Signature, w.Sealed = warpket.Unsigned, sealed // which is refused if there is one
	}
	if c.RatePerMinute != 0 {
		w.RatePerMinute = c.RatePerMinute
	}
	if c.Sync != nil {
		w.Sync = *c.Sync
	}
	return w.Check()
}

// Invocation is what whoever invokes a webhook is told.
type Invocation struct {
	ExecutionID string      `json:"executionId" doc:"ID of the execution"`
	Status      string      `json:"status" enum:"queued,running,succeeded,failed,cancelled,timed_out,lost" doc:"How far it is; queued unless the webhook is sync"`
	Result      Any         `json:"result,omitempty" doc:"What the handler returned; absent unless the webhook is sync and it succeeded, and when larger than 16 MiB"`
	Error       FailureCode `json:"error,omitempty" doc:"Why it did not succeed, as the code of the execution's error; absent unless the webhook is sync" example:"raised"`
}

type (
	// WebhookInput names a webhook in a path. It is exported for huma, which
	// reads no other embedded fields.
	WebhookInput struct {
		ID string `path:"id" maxLength:"64" doc:"ID of the webhook"`
	}
	webhookOutput struct {
		ETag string `header:"ETag" doc:"What If-Match takes"`
		Body Webhook
	}
	invokeInput struct {
		WebhookInput
		HeldInput
		RawBody []byte
		request invocationRequest
	}
	invocationOutput struct {
		Status int
		Body   Invocation
	}
)

// invocationRequest is what huma has no fields for.
type invocationRequest struct {
	header http.Header
	query  string
}

// Resolve takes what huma has no fields for.
func (in *invokeInput) Resolve(ctx huma.Context) []error {
	in.request.header = http.Header{}
	ctx.EachHeader(func(name, value string) { in.request.header.Add(name, value) })
	u := ctx.URL()
	in.request.query = u.RawQuery
	return nil
}

func webhookAnswer(w warpket.Webhook) *webhookOutput {
	return &webhookOutput{etag(w.UpdatedDate), toWebhook(w)}
}

func (s *Server) addWebhooks() {
	tags := []string{"Webhooks"}
	register(s, Write, huma.Operation{
		OperationID: "list-webhooks", Method: http.MethodGet, Path: "/v1/webhooks", Tags: tags, Summary: "List webhooks",
	}, func(ctx context.Context, in *struct {
		PageInput
		FunctionID string `query:"functionId" maxLength:"64" doc:"Only those that execute this function; not those that do so by an alias"`
		Alias      string `query:"alias" maxLength:"255" doc:"Only those that execute this alias"`
	},
	) (*listOutput[Webhook], error) {
		filter := postgres.WebhookFilter{Alias: in.Alias, Functions: reachable(ctx)}
		if in.FunctionID != "" {
			id, err := warpket.ParseID("function", in.FunctionID)
			if err != nil {
				return list[warpket.Webhook](nil, "", toWebhook), nil //nolint:nilerr // no such function has no webhooks
			}
			filter.FunctionID = id
		}
		items, next, err := s.Store.Webhooks(ctx, projectOf(ctx), filter, in.page())
		return list(items, next, toWebhook), err
	}, byFilter)
	register(s, Write, huma.Operation{
		OperationID: "create-webhook", Method: http.MethodPost, Path: "/v1/webhooks", Tags: tags, Summary: "Create a webhook", DefaultStatus: http.StatusOK,
		Description: "A URL that executes a function, or what an alias stands for, without a token. Whoever knows the URL may invoke it, and whoever sees the project's executions can learn it: give it a signature to keep others out.",
		Errors:      []int{http.StatusNotFound}, Metadata: map[string]any{confidential: true},
	}, s.createWebhook, byLoading)
	register(s, Write, huma.Operation{
		OperationID: "get-webhook", Method: http.MethodGet, Path: "/v1/webhooks/{id}", Tags: tags, Summary: "Get a webhook", Description: "Without its secret.", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *WebhookInput) (*webhookOutput, error) {
		id, err := warpket.ParseID("webhook", in.ID)
		if err != nil {
			return nil, err
		}
		w, err := s.Store.Webhook(ctx, projectOf(ctx), id)
		if err != nil {
			return nil, err
		}
		return webhookAnswer(w), mayReachWebhook(ctx, w)
	}, byLoading)
	register(s, Write, huma.Operation{
		OperationID: "update-webhook", Method: http.MethodPatch, Path: "/v1/webhooks/{id}", Tags: tags, Summary: "Change a webhook",
		Description: "Changes what is set and leaves the rest. What it executes is replaced as a whole. A request that is sent after the answer meets what holds now, on the same server; on others from a second later.",
		Errors:      []int{http.StatusNotFound, http.StatusPreconditionFailed},
	}, s.updateWebhook, byLoading)
	register(s, Write, huma.Operation{
		OperationID: "delete-webhook", Method: http.MethodDelete, Path: "/v1/webhooks/{id}", Tags: tags, Summary: "Delete a webhook", DefaultStatus: http.StatusNoContent, Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *WebhookInput) (*struct{}, error) {
		id, err := warpket.ParseID("webhook", in.ID)
		if err != nil {
			return nil, err
		}
		return nil, s.RemoveWebhook(ctx, id)
	}, byLoading)
	anything := &huma.RequestBody{Description: "Anything, also nothing", Content: map[string]*huma.MediaType{}}
	for _, t := range []string{"application/json", formType, "text/plain", "application/octet-stream"} {
		anything.Content[t] = &huma.MediaType{Schema: &huma.Schema{}}
	}
	register(s, Public, huma.Operation{
		OperationID: "invoke-webhook", Method: http.MethodPost, Path: "/v1/webhooks/{id}/invoke", Tags: tags, Summary: "Invoke a webhook", DefaultStatus: http.StatusAccepted,
		Description: "Takes any body and any query, and no token. The handler gets the event `{method, query, headers, body}`: `query` has the list of values of each name; `headers` those of Content-Type, User-Agent and of the senders' own (X-GitHub-…, X-GitLab-…, X-Gitea-…, CE-…, Webhook-…), their names in lower case; `body` is the JSON value, or the list of values of each name of a form, or the text, or null; what is neither comes as `bodyBase64`. " +
			"202 with the ID of the execution; 200 with its result when the webhook is sync; the wait for it has at most 5 minutes, or as many seconds as `Prefer: wait=SECONDS` says.",
		Errors: []int{http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity, http.StatusTooManyRequests},
		Responses: map[string]*huma.Response{"200": {
			Description: "It is final; only when the webhook is sync", Content: map[string]*huma.MediaType{"application/json": {Schema: schemaOf[Invocation](s)}},
		}},
		RequestBody: anything, SkipValidateParams: true, SkipValidateBody: true, // both are the caller's own
	}, s.invokeWebhook)
	anything.Required = false // which huma has set
}

func mayReachWebhook(ctx context.Context, w warpket.Webhook) error {
	return mayReachThe(ctx, "webhook", w.ID, w.Executes)
}

// sealWebhook checks and encrypts what requests to a webhook are signed with.
func (s *Server) sealWebhook(ctx context.Context, id warpket.ID, secret string) ([]byte, error) {
	if secret == "" {
		return nil, nil
	}
	if err := mayBind(ctx, "secret"); err != nil {
		return nil, err
	}
	if err := warpket.CheckWebhookSecret(secret); err != nil {
		return nil, err
	}
	return s.Secrets.Seal(ctx, projectOf(ctx), webhookPlace(id), secret)
}

// webhookPlace is the name that a webhook's secret is bound to. No secret of
// the project can have it.
func webhookPlace(id warpket.ID) string { return "webhook/" + string(id) }

func (s *Server) createWebhook(ctx context.Context, in *struct{ Body WebhookSettings }) (*webhookOutput, error) {
	now := s.Now()
	w := warpket.Webhook{ID: s.newID(ctx), ProjectID: projectOf(ctx), RatePerMinute: warpket.DefaultRatePerMinute, CreatedDate: now, UpdatedDate: now}
	sealed, err := s.sealWebhook(ctx, w.ID, in.Body.Secret)
	if err != nil {
		return nil, err
	}
	if err := in.Body.apply(&w, sealed); err != nil {
		return nil, err
	}
	if err := s.AddWebhook(ctx, w); err != nil {
		return nil, err
	}
	return webhookAnswer(w), nil
}

func (s *Server) updateWebhook(ctx context.Context, in *struct {
	WebhookInput
	MatchInput
	Body WebhookSettings
},
) (*webhookOutput, error) {
	id, err := warpket.ParseID("webhook", in.ID)
	if err != nil {
		return nil, err
	}
	sealed, err := s.sealWebhook(ctx, id, in.Body.Secret)
	if err != nil {
		return nil, err
	}
	if in.Body.Alias != "" {
		if err := s.mayAim(ctx, "", in.Body.Alias); err != nil {
			return nil, err
		}
	}
	w, err := s.ChangeWebhook(ctx, id, func(w *warpket.Webhook) error {
		if err := in.check("webhook", w.UpdatedDate); err != nil {
			return err
		}
		return in.Body.apply(w, sealed)
	})
	if err != nil {
		return nil, err
	}
	return webhookAnswer(w), nil
}

// AddWebhook adds a webhook, if it can be one.
func (s *Server) AddWebhook(ctx context.Context, w warpket.Webhook) error {
	if err := w.Check(); err != nil {
		return err
	}
	if err := s.mayAim(ctx, w.FunctionID, w.Alias); err != nil {
		return err
	}
	return s.Store.CreateWebhook(ctx, w)
}

// ChangeWebhook has change alter a webhook.
func (s *Server) ChangeWebhook(ctx context.Context, id warpket.ID, change func(*warpket.Webhook) error) (warpket.Webhook, error) {
	defer s.webhooks.drop()
	return s.Store.UpdateWebhook(ctx, projectOf(ctx), id, s.Now(), func(w *warpket.Webhook) error {
		if err := mayReachWebhook(ctx, *w); err != nil {
			return err
		}
		if err := change(w); err != nil {
			return err
		}
		if w.FunctionID != "" {
			if err := mayReach(ctx, w.FunctionID); err != nil {
				return err
			}
		}
		return w.Check()
	})
}

// RemoveWebhook deletes a webhook.
func (s *Server) RemoveWebhook(ctx context.Context, id warpket.ID) error {
	defer s.webhooks.drop()
	return s.Store.DeleteWebhook(ctx, projectOf(ctx), id, func(w warpket.Webhook) error { return mayReachWebhook(ctx, w) })
}

// hook is a webhook, ready to be invoked.
type hook struct {
	warpket.Webhook
	secret string
}

// hook finds a webhook; one that was invoked a moment ago is in the cache.
func (s *Server) hook(ctx context.Context, text string) (hook, error) {
	id, err := warpket.ParseID("webhook", text)
	if err != nil {
		return hook{}, err
	}
	return s.webhooks.get(string(id), func() (h hook, err error) {
		if h.Webhook, err = s.Store.WebhookByID(ctx, id); err != nil || h.Sealed == nil {
			return h, err
		}
		key, err := s.Secrets.Key(ctx, h.ProjectID)
		if err != nil {
			return h, err
		}
		h.secret, err = key.Open(webhookPlace(id), h.Sealed)
		return h, err
	})
}

// Invoke has a webhook execute what it is for, on behalf of whoever knows it and
// signs as it asks. header, query and body are the request's, and event makes of
// it what the handler gets. It waits if the webhook is sync, at most as the
// request prefers.
func (s *Server) Invoke(ctx context.Context, id string, header http.Header, query string, body []byte, event func() (Any, error)) (e warpket.Execution, sync bool, err error) {
	received := time.Now()
	h, err := s.hook(ctx, id)
	if err != nil {
		return e, false, err
	}
	if h.Signature != warpket.Unsigned {
		if err := h.Signature.Verify(h.secret, header.Get(h.Signature.Header()), body, s.Now()); err != nil {
			return e, false, err
		}
		if query != "" {
			return e, false, warpket.Errorf(warpket.Invalid, "this webhook is signed, and a query is not: put it into the body")
		}
	}
	if err := s.rates.take(h.Webhook, s.Now()); err != nil {
		return e, false, err
	}
	input, err := event()
	if err != nil {
		return e, false, err
	}
	ctx = inProject(ctx, h.ProjectID)
	c, err := s.hooked(ctx, h.Webhook)
	if err != nil {
		return e, false, err
	}
	if e, err = s.newExecution(ctx, c, CreateExecutionRequest{Description: "Created by Webhook " + string(h.ID)}); err != nil {
		return e, false, err
	}
	e.Origin = warpket.Origin{Kind: warpket.FromWebhook, ID: h.ID}
	held, cancel := context.WithTimeout(ctx, publicWait)
	defer cancel()
	held, shorter, _ := hold(held, header.Get("Prefer"))
	defer shorter()
	e, err = s.execute(ctx, held, order{callee: c, execution: e, input: input, received: received, queue: true, wait: h.Sync})
	return e, h.Sync, err
}

func (s *Server) invokeWebhook(ctx context.Context, in *invokeInput) (*invocationOutput, error) {
	if len(in.Prefer) > maxPrefer { // huma checks nothing here
		return nil, warpket.Errorf(warpket.Invalid, "Prefer has at most %d bytes", maxPrefer).At("header.Prefer")
	}
	e, sync, err := s.Invoke(ctx, in.ID, in.request.header, in.request.query, in.RawBody, in.event)
	if err != nil {
		return nil, err
	}
	out := &invocationOutput{http.StatusAccepted, Invocation{ExecutionID: string(e.ID), Status: string(warpket.Queued)}}
	if !sync {
		return out, nil
	}
	if out.Body.Status = string(e.Status); !e.Status.Final() {
		return out, nil
	}
	if out.Status = http.StatusOK; e.Error != nil {
		out.Body.Error = FailureCode(e.Error.Code)
	}
	if e.Status == warpket.Succeeded && e.Result.Size <= maxPublicResult {
		out.Body.Result, err = s.result(ctx, e)
	}
	return out, err
}

// hooked finds what a webhook executes.
func (s *Server) hooked(ctx context.Context, w warpket.Webhook) (callee, error) {
	switch {
	case w.Alias != "":
		return s.calleeOf(ctx, w.Alias)
	case w.Version != nil:
		return s.callee(ctx, string(w.FunctionID), *w.Version, *w.Version == warpket.DraftNumber)
	}
	return s.callee(ctx, string(w.FunctionID), newest, false)
}

// webhookEvent is what the handler gets from a webhook.
type webhookEvent struct {
	Method     string              `json:"method"`
	Query      map[string][]string `json:"query"`
	Headers    map[string]string   `json:"headers"`
	Body       any                 `json:"body"`
	BodyBase64 []byte              `json:"bodyBase64,omitempty"`
}

const formType = "application/x-www-form-urlencoded"

// event makes the handler's event of a request.
func (in *invokeInput) event() (Any, error) {
	query, err := url.ParseQuery(in.request.query)
	if err != nil {
		return nil, warpket.Because(warpket.Malformed, err, "the query cannot be read: it is to be name=value&..., with %%XX for what is special")
	}
	e := webhookEvent{Method: http.MethodPost, Query: query, Headers: eventHeaders(in.request.header, senders)}
	kind, _, err := mime.ParseMediaType(in.request.header.Get("Content-Type"))
	if err != nil {
		kind = ""
	}
	switch {
	case len(in.RawBody) == 0:
	case kind == "application/json" || strings.HasSuffix(kind, "+json"):
		if !json.Valid(in.RawBody) {
			return nil, warpket.Errorf(warpket.Malformed, "the body is not the JSON that its Content-Type %s says", kind)
		}
		e.Body = json.RawMessage(in.RawBody)
	case kind == formType:
		form, err := url.ParseQuery(string(in.RawBody))
		if err != nil {
			return nil, warpket.Because(warpket.Malformed, err, "the body is not the form that its Content-Type %s says", kind)
		}
		e.Body = form
	case utf8.Valid(in.RawBody):
		e.Body = string(in.RawBody)
	default:
		e.BodyBase64 = in.RawBody
	}
	return json.Marshal(e)
}

// senders reports whether the handler of a webhook gets a header: what those
// who send say of what they send, but no credentials. What proxies and this
// server add or ask for stays here.
func senders(name string) bool {
	if name == "content-type" || name == "user-agent" {
		return true
	}
	return name != "x-gitlab-token" && slices.ContainsFunc([]string{"x-github-", "x-gitlab-", "x-gitea-", "ce-", "webhook-"}, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// eventHeaders are those headers that an event has, by their names in lower
// case; several of one name are joined as HTTP does.
func eventHeaders(h http.Header, has func(name string) bool) map[string]string {
	out := map[string]string{}
	for name, values := range h {
		if name = strings.ToLower(name); has(name) {
			out[name] = strings.Join(values, ", ")
		}
	}
	return out
}

// rates are the token buckets of webhooks in this server. One whose rate is
// changed gets another.
type rates struct {
	buckets *ttlcache.Cache[rated, *rate.Limiter]
}

type rated struct {
	webhook   warpket.ID
	perMinute int
}

// newRates forgets a bucket that nobody has used for a minute: it is full again.
func newRates() *rates {
	return &rates{ttlcache.New(ttlcache.WithTTL[rated, *rate.Limiter](time.Minute), ttlcache.WithCapacity[rated, *rate.Limiter](100_000))}
}

// take refuses a request that is more than the webhook lets through.
func (r *rates) take(w warpket.Webhook, now time.Time) error {
	limit := rate.Limit(float64(w.RatePerMinute) / time.Minute.Seconds())
	item, _ := r.buckets.GetOrSet(rated{w.ID, w.RatePerMinute}, rate.NewLimiter(limit, w.RatePerMinute))
	bucket := item.Value()
	if bucket.AllowN(now, 1) {
		return nil
	}
	err := warpket.Errorf(warpket.OverQuota, "this webhook lets %d requests through in a minute: try again later, or ask its owner for more", w.RatePerMinute)
	err.After = time.Duration((1 - bucket.TokensAt(now)) / float64(limit) * float64(time.Second))
	return err
}
