package api

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// Act is one entry of the audit.
type Act struct {
	ID          string    `json:"id" doc:"ID of the entry"`
	ProjectID   string    `json:"projectId" doc:"ID of the project in which it was done"`
	TokenID     string    `json:"tokenId" doc:"ID of the token that did it"`
	TokenName   string    `json:"tokenName" doc:"Its name then" example:"notebook"`
	Member      string    `json:"member,omitempty" doc:"Name of the member whom it was issued to; absent for a token of the project" example:"ada"`
	Role        string    `json:"role" enum:"viewer,member,admin,operator" doc:"Its role then"`
	Operation   string    `json:"operation" doc:"ID of the operation, as in the OpenAPI document, or push-version" example:"delete-function"`
	Subject     string    `json:"subject" doc:"What it was done to: the IDs and names in the path, with slashes between; or the ID of what was to be made"`
	Address     string    `json:"address" doc:"Address of the caller" example:"203.0.113.7"`
	UserAgent   string    `json:"userAgent" doc:"What the caller's program calls itself, at most 200 bytes"`
	Outcome     string    `json:"outcome" enum:"succeeded,denied,refused,failed,unknown" doc:"unknown: it is being done, or the server that did it has died, and it may have taken effect"`
	Status      int       `json:"status,omitempty" doc:"HTTP status of the answer; absent while the outcome is unknown" example:"200"`
	CreatedDate time.Time `json:"createdDate" doc:"When it began"`
}

func toAct(a warpket.Act) Act {
	return Act{
		ID: string(a.ID), ProjectID: string(a.ProjectID), TokenID: string(a.TokenID), TokenName: a.TokenName, Member: a.Member, Role: string(a.Role), Operation: a.Operation,
		Subject: a.Subject, Address: a.Address, UserAgent: a.Agent, Outcome: string(postgres.OutcomeOf(a.Status)), Status: a.Status, CreatedDate: a.CreatedDate,
	}
}

func (s *Server) addAudit() {
	register(s, Manage, huma.Operation{
		OperationID: "list-audit", Method: http.MethodGet, Path: "/v1/audit", Tags: []string{"Projects"}, Summary: "List what was done",
		Description: "Every operation that was to change something, also those that were refused; an operator sees those of all projects. What an operator does to a project itself, such as its quotas, is in that project's. An execution that was created is in the list of executions, with the token that did it or the webhook, gateway or schedule, and not here. A push by Git is push-version. " +
			"An entry is written before its operation and completed before the answer ends: what has taken effect is here even if the server died.",
	}, s.listAudit, wholeProject)
}

func (s *Server) listAudit(ctx context.Context, in *struct {
	PageInput
	ProjectID string    `query:"projectId" maxLength:"64" doc:"Only of this project, by ID or name; for an operator, others see their own"`
	TokenID   string    `query:"tokenId" maxLength:"64" doc:"Only what this token did"`
	Member    string    `query:"member" maxLength:"63" doc:"Only what tokens of this member did"`
	Operation string    `query:"operation" maxLength:"64" doc:"Only this operation" example:"delete-function"`
	Subject   string    `query:"subject" maxLength:"300" doc:"Only what was done to this, or to something of it"`
	Outcome   string    `query:"outcome" enum:"succeeded,denied,refused,failed,unknown" doc:"Only what ended so"`
	Since     time.Time `query:"since" doc:"Only what began at this time or later"`
	Until     time.Time `query:"until" doc:"Only what began before this time"`
},
) (*listOutput[Act], error) {
	f := postgres.ActFilter{Member: plain(in.Member, 63), Operation: plain(in.Operation, 64), Subject: plain(in.Subject, 300), Outcome: postgres.Outcome(in.Outcome), Since: in.Since, Until: in.Until}
	c := callerOf(ctx)
	if c.role != warpket.Operator || in.ProjectID != "" {
		id, err := s.projectAsked(ctx, in.ProjectID)
		if err != nil {
			return nil, err
		}
		f.ProjectID = id
	}
	if in.TokenID != "" {
		id, err := warpket.ParseID("token", in.TokenID)
		if err != nil {
			return list[warpket.Act](nil, "", toAct), nil //nolint:nilerr // no such token has done nothing
		}
		f.TokenID = id
	}
	items, next, err := s.Store.Acts(ctx, f, in.page())
	return list(items, next, toAct), err
}

// ownRecord marks operations whose record says who asked for them, so that
// nothing else has to.
const ownRecord = "ownRecord"

// recorded does what an operation is to do; if that may change anything, what is
// about to be done is written down first, and how it was answered afterwards.
// What cannot be written down is not done.
func (s *Server) recorded(ctx huma.Context, op huma.Operation, refuse func(huma.Context, error), do func(huma.Context)) {
	if op.Method == http.MethodGet || op.Method == http.MethodHead || op.Metadata[ownRecord] != nil {
		do(ctx)
		return
	}
	subject := subjectOf(op.Path, ctx.Param)
	if subject == "" {
		id := s.newID(ctx.Context())
		ctx = huma.WithValue(ctx, subjectKey{}, id)
		subject = string(id)
	}
	end, err := s.begin(ctx.Context(), s.actedIn(ctx, op), op.OperationID, subject)
	if err != nil {
		refuse(ctx, err)
		return
	}
	status := http.StatusInternalServerError // unless it comes to an answer
	defer func() { end(status) }()
	do(ctx)
	status = statusOr(ctx.Status(), http.StatusOK)
}

// actedIn is the project in whose audit an operation is: the caller's, or the
// one that an operator names in the path, for its admins want to know.
func (s *Server) actedIn(ctx huma.Context, op huma.Operation) warpket.ID {
	c := callerOf(ctx.Context())
	if c.role == warpket.Operator && strings.HasPrefix(op.Path, "/v1/projects/{id}") {
		if p, err := s.Store.Project(ctx.Context(), ctx.Param("id")); err == nil {
			return p.ID
		}
	}
	return c.project
}

// begin writes down what is about to be done in a project; without that it must
// not be. end writes down how it was answered.
func (s *Server) begin(ctx context.Context, project warpket.ID, operation, subject string) (end func(status int), err error) {
	act := s.act(ctx, operation, subject)
	act.ProjectID = project
	if err := s.Store.BeginAct(ctx, act); err != nil {
		s.Log.ErrorContext(ctx, "audit not written, so nothing was done", "operation", operation, "error", err)
		return nil, warpket.Because(warpket.Unavailable, err, "what was asked for could not be written down, so it was not done; try again in a moment")
	}
	return func(status int) {
		if err := s.Store.EndAct(context.WithoutCancel(ctx), act.ID, status); err != nil {
			s.Log.ErrorContext(ctx, "outcome not written to the audit; it is unknown there", "act", act.ID, "status", status, "error", err)
		}
	}, nil
}

// denied writes down what was refused before it came to its operation.
func (s *Server) denied(ctx context.Context, operation, subject string, cause error) {
	if warpket.KindOf(cause) != warpket.Denied {
		return
	}
	act := s.act(ctx, operation, subject)
	act.Status = http.StatusForbidden
	if err := s.Store.BeginAct(ctx, act); err != nil {
		s.Log.ErrorContext(ctx, "denied attempt not written to the audit", "operation", operation, "error", err)
	}
}

func (s *Server) act(ctx context.Context, operation, subject string) warpket.Act {
	c := callerOf(ctx)
	now := s.Now()
	return warpket.Act{
		ID: warpket.NewID(now), ProjectID: c.project, TokenID: c.token.ID, TokenName: c.token.Name, Member: c.token.Member, Role: c.role,
		Operation: operation, Subject: subject, Address: c.address, Agent: c.agent, CreatedDate: now,
	}
}

var placeholder = regexp.MustCompile(`\{(\w+)(?:\.\.\.)?\}`)

// subjectOf names what a path is about: the values of its parameters.
func subjectOf(path string, param func(string) string) string {
	var parts []string
	for _, m := range placeholder.FindAllStringSubmatch(path, -1) {
		parts = append(parts, param(m[1]))
	}
	return plain(strings.Join(parts, "/"), 300)
}

// pathParam reads the parameters of a path that the mux has not parsed yet.
func pathParam(pattern, path string) func(string) string {
	return func(name string) string {
		for i, segment := range strings.Split(pattern, "/") {
			if parts := strings.Split(path, "/"); segment == "{"+name+"}" && i < len(parts) {
				return parts[i]
			}
		}
		return ""
	}
}

// plain makes text of strangers fit to be kept: valid, short and without
// control characters.
func plain(text string, n int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	return strings.ToValidUTF8(text[:min(len(text), n)], "")
}

// addressOf is where a request comes from: what the last proxy that is trusted
// says, or who has connected.
func addressOf(r *http.Request, trusted []netip.Prefix) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	address, err := netip.ParseAddr(host)
	if err != nil {
		return plain(host, 100)
	}
	address = address.Unmap()
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && within(trusted, address); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break // nobody vouches for what is left of it
		}
		address = hop.Unmap()
	}
	return address.WithZone("").String()
}

func within(networks []netip.Prefix, address netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(address) {
			return true
		}
	}
	return false
}
