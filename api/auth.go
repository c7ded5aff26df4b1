package api

import (
	"context"
	"net/http"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/warpket/warpket"
)

// caller is who sends a request, and in which project.
type caller struct {
	role    warpket.Role
	project warpket.ID
	token   warpket.Token
	address string       // where the request comes from
	agent   string       // what the caller's program calls itself
	checked *atomic.Bool // whether the operation has asked what the token reaches; nil when it need not
	err     error        // why there is none
}

type callerKey struct{}

// authenticated finds out who sends a request. Whether that is enough is up to
// the operation.
func (s *Server) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := s.identify(r)
		c.address, c.agent = addressOf(r, s.TrustedProxies), plain(r.UserAgent(), 200)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, c)))
	})
}

func (s *Server) identify(r *http.Request) caller {
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if text == "" {
		return caller{err: warpket.Errorf(warpket.Unauthenticated, "this needs a token: send it as \"Authorization: Bearer wk_...\"")}
	}
	id, secret, err := warpket.ParseToken(strings.TrimSpace(text))
	if err != nil || !strings.EqualFold(scheme, "Bearer") {
		s.Metrics.RefusedToken()
		return caller{err: warpket.ErrBadToken()}
	}
	t, err := s.tokens.get(string(id), func() (warpket.Token, error) { return s.Store.Token(r.Context(), id) })
	switch {
	case warpket.KindOf(err) == warpket.NotFound || err == nil && !t.Holds(secret, s.Now()):
		s.Metrics.RefusedToken()
		return caller{err: warpket.ErrBadToken()}
	case err != nil:
		return caller{err: err}
	}
	s.used(t)
	if t.Role != warpket.Operator {
		return caller{role: t.Acts(), project: t.ProjectID, token: t}
	}
	name := r.Header.Get("X-Project-Id")
	if name == "" {
		name = warpket.DefaultProject
	}
	p, err := s.projects.get(name, func() (warpket.Project, error) { return s.Store.Project(r.Context(), name) })
	return caller{role: t.Role, project: p.ID, token: t, err: err}
}

// usedLife is how long a use of a token stands for later ones: so often is it
// written down, by each server.
const usedLife = time.Minute

// used has it written down that a token was used, without waiting for it.
func (s *Server) used(t warpket.Token) {
	if _, known := s.uses.GetOrSet(string(t.ID), struct{}{}); known {
		return
	}
	now := s.Now()
	if !s.writes.TryGo(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Store.TokenUsed(ctx, t.ID, now); err != nil {
			s.Log.Warn("use of a token not written down; the next one is", "token", t.ID, "error", err)
			s.uses.Delete(string(t.ID))
		}
		return nil
	}) {
		s.uses.Delete(string(t.ID)) // others are being written: the next use is
	}
}

// permit reports whether the caller may do what needs a scope.
func permit(ctx context.Context, scope Scope) error {
	c, _ := ctx.Value(callerKey{}).(caller)
	if c.err != nil {
		return c.err
	}
	if !c.role.Includes(warpket.Role(scope)) {
		return warpket.Errorf(warpket.Denied, "this needs the role %s; the token's is %s", scope, c.role)
	}
	return nil
}

// projectOf is the project that the caller works in.
func projectOf(ctx context.Context) warpket.ID { return callerOf(ctx).project }

func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

// inProject makes a request one of a project itself: what it may do was decided
// by other means than a token.
func inProject(ctx context.Context, project warpket.ID) context.Context {
	return context.WithValue(ctx, callerKey{}, caller{role: warpket.Member, project: project})
}

func stack() string { return string(debug.Stack()) }

// clip shortens text for a message.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}
