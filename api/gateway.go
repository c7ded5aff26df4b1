package api

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	"github.com/warpket/warpket"
)

// gatewayPath is where functions serve HTTP: /gateway/{functionId}/... runs the
// newest version, /gateway/{functionId}@{alias}/... what an alias of that
// function stands for.
const gatewayPath = "/gateway/"

// Bounds of what goes through the gateway.
const (
	maxGatewayBody    = 6 << 20  // bytes of a request's body
	maxGatewayHeader  = 32 << 10 // bytes of the headers that it sets
	maxGatewayHeaders = 100
)

// Bounds of what those get who may have no token.
const (
	maxPublicResult = 16 << 20 // bytes of a result
	publicWait      = 5 * time.Minute
)

// orGateway answers for functions, and passes everything else on. Paths are as
// they were sent: none is cleaned on the way to a function.
func (s *Server) orGateway(next http.Handler) http.Handler {
	gateway := s.authenticated(http.HandlerFunc(s.gateway))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, gatewayPath) && len(r.URL.Path) > len(gatewayPath) {
			gateway.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// gateway serves one HTTP request by a function.
func (s *Server) gateway(w http.ResponseWriter, r *http.Request) {
	answer, err := s.serveByFunction(w, r)
	if err == nil {
		answer.write(w)
		return
	}
	p, ok := errors.AsType[*Problem](err)
	if !ok {
		p = problemOf(err)
	}
	if p.Status == http.StatusInternalServerError && r.Context().Err() == nil {
		s.Log.ErrorContext(r.Context(), "request failed", "operation", "gateway", "error", err)
	}
	p.write(w)
}

func (s *Server) serveByFunction(w http.ResponseWriter, r *http.Request) (*gatewayAnswer, error) {
	received := time.Now()
	name, rawPath, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), gatewayPath), "/")
	name, err := url.PathUnescape(name)
	if err != nil {
		return nil, warpket.Because(warpket.Malformed, err, "the path cannot be read")
	}
	id, alias, aliased := strings.Cut(name, "@")
	f, err := s.served(r.Context(), id)
	if err != nil {
		return nil, err
	}
	body, err := readBody(w, r, maxGatewayBody, time.Minute)
	if err != nil {
		return nil, err
	}
	event, err := gatewayEvent(r, "/"+rawPath, body, f.Settings.Gateway == warpket.GatewayPublic)
	if err != nil {
		return nil, err
	}
	ctx := r.Context()
	if f.Settings.Gateway == warpket.GatewayPublic {
		ctx = inProject(ctx, f.ProjectID) // whoever calls
	}
	c, err := s.callee(ctx, id, newest, false)
	if aliased {
		c, err = s.calleeOf(ctx, alias)
		if warpket.KindOf(err) == warpket.NotFound || err == nil && c.function.ID != f.ID { // which of both is nobody's business
			err = warpket.Errorf(warpket.NotFound, "the function has no alias %q", clip(alias, 64))
		}
	}
	if err != nil {
		return nil, err
	}
	e, err := s.newExecution(ctx, c, CreateExecutionRequest{Lane: string(cmp.Or(c.function.Settings.Lane, warpket.Express)), Description: clip(r.Method+" "+r.URL.EscapedPath(), 200)})
	if err != nil {
		return nil, err
	}
	e.Origin = warpket.Origin{Kind: warpket.FromGateway}
	held, cancel := context.WithTimeout(ctx, publicWait)
	defer cancel()
	if e, err = s.execute(ctx, held, order{callee: c, execution: e, input: event, received: received, queue: true, wait: true}); err != nil {
		return nil, err
	}
	if err := gatewayFailure(e); err != nil {
		return nil, err
	}
	if e.Result.Size > maxPublicResult {
		return nil, unsendable(e.ID, fmt.Sprintf("it has %d bytes; at most %d are passed on", e.Result.Size, maxPublicResult))
	}
	result, err := s.result(ctx, e)
	if err != nil {
		return nil, err
	}
	return newGatewayAnswer(e.ID, result)
}

// served gives the function that serves whoever sends a request. To those who
// have no token a function that is not public looks like none.
func (s *Server) served(ctx context.Context, text string) (warpket.Function, error) {
	f, err := s.front(ctx, text)
	if err != nil && warpket.KindOf(err) != warpket.NotFound {
		return f, err
	}
	if err == nil && f.Settings.Gateway == warpket.GatewayPublic {
		return f, nil
	}
	if err := permit(ctx, Write); err != nil {
		return f, err
	}
	switch {
	case err != nil || f.ProjectID != projectOf(ctx) || mayReach(ctx, f.ID) != nil:
		return f, warpket.Errorf(warpket.NotFound, "there is no function %q", clip(text, 64))
	case f.Settings.Gateway == warpket.GatewayOff:
		return f, warpket.Errorf(warpket.NotFound, "function %s does not serve HTTP: its gateway is off", f.ID)
	}
	return f, nil
}

// front finds a function by its ID alone, whosever it is. It is kept with what
// calls find, so that a change here is seen at once.
func (s *Server) front(ctx context.Context, text string) (warpket.Function, error) {
	id, err := warpket.ParseID("function", text)
	if err != nil {
		return warpket.Function{}, err
	}
	c, err := s.targets.get("gateway "+string(id), func() (callee, error) {
		f, err := s.Store.FunctionByID(ctx, id)
		return callee{function: f}, err
	})
	return c.function, err
}

// httpEvent is what the handler gets from the gateway.
type httpEvent struct {
	Method        string              `json:"method"`
	Path          string              `json:"path"`
	RawPath       string              `json:"rawPath"`
	Query         map[string][]string `json:"query"`
	Headers       map[string]string   `json:"headers"`
	Body          *string             `json:"body"`
	BodyBase64    []byte              `json:"bodyBase64,omitempty"`
	RemoteAddress string              `json:"remoteAddress"`
}

func gatewayEvent(r *http.Request, rawPath string, body []byte, public bool) (Any, error) {
	path, err := url.PathUnescape(rawPath)
	if err != nil {
		return nil, warpket.Because(warpket.Malformed, err, "the path cannot be read")
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, warpket.Because(warpket.Malformed, err, "the query cannot be read: it is to be name=value&..., with %%XX for what is special")
	}
	e := httpEvent{Method: r.Method, Path: path, RawPath: rawPath, Query: query, RemoteAddress: callerOf(r.Context()).address}
	own := public && !strings.Contains(r.Header.Get("Authorization"), "wk_") // it is for the function, and no token of ours
	e.Headers = eventHeaders(r.Header, func(name string) bool {
		return name == "authorization" && own || !slices.Contains(keptFromFunctions, name) && !slices.ContainsFunc(proxyPrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
	})
	e.Headers["host"] = r.Host
	switch {
	case len(body) == 0:
	case utf8.Valid(body):
		text := string(body)
		e.Body = &text
	default:
		e.BodyBase64 = body
	}
	return json.Marshal(e)
}

// Headers of a request that no function gets: credentials for this server and
// others on its host, what is between two hops, and what proxies say.
var (
	keptFromFunctions = []string{
		"authorization", "cookie", "x-project-id",
		"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect",
		"forwarded", "via", "x-real-ip",
	}
	proxyPrefixes = []string{"proxy-", "x-forwarded-", "x-auth-request-", "x-amzn-", "cf-"}
)

// gatewayFailure is the answer when there is no result. It tells no more than
// which execution has the reason: the caller may be anybody.
func gatewayFailure(e warpket.Execution) error {
	switch {
	case !e.Status.Final():
		return newProblem(http.StatusGatewayTimeout, gatewayTimeout, fmt.Sprintf("the function has not answered within %g minutes; its execution %s goes on", publicWait.Minutes(), e.ID))
	case e.Status == warpket.Succeeded:
		return nil
	case e.Status == warpket.TimedOut:
		return newProblem(http.StatusGatewayTimeout, gatewayTimeout, fmt.Sprintf("the function took longer than its timeout of %g seconds; see its execution %s", e.Resources.Timeout.Seconds(), e.ID))
	case e.Status == warpket.Cancelled || e.Error != nil && slices.Contains([]warpket.FailureCode{warpket.NoRuntime, warpket.NotPlaced, warpket.NotPrepared}, e.Error.Code):
		return newProblem(http.StatusServiceUnavailable, Code(warpket.Unavailable), fmt.Sprintf("the function could not run; its execution %s says why", e.ID))
	}
	return newProblem(http.StatusBadGateway, badGateway, fmt.Sprintf("the function failed; its execution %s says why", e.ID))
}

// gatewayAnswer is what a function answers a request with.
type gatewayAnswer struct {
	execution warpket.ID
	status    int
	header    http.Header
	body      []byte
}

// unsendable is the answer when a result cannot be one.
func unsendable(execution warpket.ID, reason string) *Problem {
	return newProblem(http.StatusBadGateway, badGateway, fmt.Sprintf("the function's answer, the result of execution %s, cannot be sent: %s", execution, reason))
}

// newGatewayAnswer reads the answer from a result. One with a statusCode is an
// answer as a whole; any other is the body of one.
func newGatewayAnswer(execution warpket.ID, result []byte) (*gatewayAnswer, error) {
	a := &gatewayAnswer{execution: execution, status: http.StatusOK, header: http.Header{}}
	wrong := func(format string, args ...any) (*gatewayAnswer, error) {
		return nil, unsendable(execution, fmt.Sprintf(format, args...))
	}
	var fields map[string]json.RawMessage
	if _ = json.Unmarshal(result, &fields); fields["statusCode"] == nil { // also what is no object
		a.body = result
		a.header.Set("Content-Type", "application/json")
		return a, nil
	}
	if err := json.Unmarshal(fields["statusCode"], &a.status); err != nil || a.status < 200 || a.status > 599 {
		return wrong("statusCode is to be a number from 200 to 599, not %.20s", fields["statusCode"])
	}
	if err := a.setHeaders(fields["headers"]); err != nil {
		return wrong("%s", err.Error())
	}
	kind := ""
	switch text, encoded := "", ""; {
	case fields["bodyBase64"] != nil && fields["body"] != nil && string(fields["body"]) != "null":
		return wrong("give body or bodyBase64, not both")
	case fields["bodyBase64"] != nil:
		err := json.Unmarshal(fields["bodyBase64"], &encoded)
		if err == nil {
			a.body, err = base64.StdEncoding.DecodeString(encoded)
		}
		if err != nil {
			return wrong("bodyBase64 is to be a string in base64")
		}
		kind = "application/octet-stream"
	case fields["body"] == nil || string(fields["body"]) == "null":
	case json.Unmarshal(fields["body"], &text) == nil:
		a.body, kind = []byte(text), "text/plain; charset=utf-8"
	default:
		a.body, kind = fields["body"], "application/json"
	}
	if a.header.Get("Content-Type") == "" && kind != "" {
		a.header.Set("Content-Type", kind)
	}
	if len(a.body) > 0 && (a.status == http.StatusNoContent || a.status == http.StatusNotModified) {
		return wrong("an answer %d has no body", a.status)
	}
	return a, nil
}

// setHeaders takes the headers that a function sets: each a string, a number,
// or a list of strings. What would reach beyond this one answer is left out.
func (a *gatewayAnswer) setHeaders(b json.RawMessage) error {
	if b == nil || string(b) == "null" {
		return nil
	}
	var fields map[string]any
	if json.Unmarshal(b, &fields) != nil {
		return errors.New("headers is to be an object of names and values")
	}
	size, count := 0, 0
	for name, field := range fields {
		var values []any
		switch v := field.(type) {
		case []any:
			values = v
		default:
			values = []any{v}
		}
		for _, v := range values {
			var text string
			switch v := v.(type) {
			case string:
				text = v
			case float64:
				text = strconv.FormatFloat(v, 'f', -1, 64)
			default:
				return fmt.Errorf("the header %.80q is to be a string, a number or a list of strings", name)
			}
			if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(text) {
				return fmt.Errorf("the header %.80q has a character that no header has", name)
			}
			if size, count = size+len(name)+len(text), count+1; size > maxGatewayHeader || count > maxGatewayHeaders {
				return fmt.Errorf("there are more than %d headers, or more than %d bytes of them", maxGatewayHeaders, maxGatewayHeader)
			}
			if !slices.Contains(keptFromCallers, textproto.CanonicalMIMEHeaderKey(name)) {
				a.header.Add(name, text)
			}
		}
	}
	return nil
}

// keptFromCallers are headers that no function sets: those between two hops,
// those that are this server's to say, those that a browser applies to all of
// this server's functions, for they are one origin to it, and those by which
// proxies are steered.
var keptFromCallers = []string{
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"Content-Length", "Date", "Server", "X-Content-Type-Options", "Warpket-Execution-Id",
	"Set-Cookie", "Set-Cookie2", "Www-Authenticate", "Clear-Site-Data", "Strict-Transport-Security", "Public-Key-Pins", "Expect-Ct", "Alt-Svc",
	"Service-Worker-Allowed", "Nel", "Report-To", "Reporting-Endpoints", "Accept-Ch", "Critical-Ch", "Origin-Agent-Cluster", "Set-Login", "Use-As-Dictionary",
	"X-Accel-Redirect", "X-Accel-Buffering", "X-Accel-Charset", "X-Accel-Expires", "X-Accel-Limit-Rate", "X-Sendfile", "X-Lighttpd-Send-File", "X-Reproxy-Url",
}

// isolated makes each page that a function serves an origin of its own, which
// has no storage and cannot read other answers of this server. What a function
// says itself can only add to it.
const isolated = "sandbox allow-downloads allow-forms allow-modals allow-popups allow-scripts"

func (a *gatewayAnswer) write(w http.ResponseWriter) {
	h := w.Header()
	maps.Copy(h, a.header)
	h.Add("Content-Security-Policy", isolated)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Warpket-Execution-Id", string(a.execution))
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	if a.status != http.StatusNoContent && a.status != http.StatusNotModified {
		h.Set("Content-Length", strconv.Itoa(len(a.body)))
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) //nolint:gosec // a page is the function's own, and isolated; the client may have gone
}
