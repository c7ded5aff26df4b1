package api

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
)

// Wire makes the handler of another system's API. Its requests come without the
// wire's prefix. What it does, it does by the methods of this file and by the
// store's, so that ownership, state, quota and safety are decided by one code.
type Wire func(*Server) http.Handler

// wired hands requests below the prefix of a wire to it.
func (s *Server) wired(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for prefix, wire := range s.wires {
			if rest, ok := strings.CutPrefix(r.URL.Path, prefix); ok && (rest == "" || rest[0] == '/') {
				http.StripPrefix(prefix, wire).ServeHTTP(w, r)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// Caller is who sends a request, and in which project.
type Caller struct {
	Role    warpket.Role
	Project warpket.ID
	Err     error // why there is none
}

// CallerOf gives the caller of a request that came through Authenticated.
func CallerOf(ctx context.Context) Caller {
	c := callerOf(ctx)
	return Caller{Role: c.role, Project: c.project, Err: c.err}
}

// In has the caller work in a project. Only an operator works in another than
// the request's.
func In(ctx context.Context, project warpket.ID) (context.Context, error) {
	c := callerOf(ctx)
	if c.project == project {
		return ctx, nil
	}
	if c.role != warpket.Operator {
		return ctx, warpket.Errorf(warpket.Denied, "only operators may do this in another project")
	}
	c.project = project
	return context.WithValue(ctx, callerKey{}, c), nil
}

// Authenticated finds out who sends a request by the token that it holds, as
// tokenOf finds it. What that is enough for is up to Guard.
func (s *Server) Authenticated(tokenOf func(*http.Request) string, next http.Handler) http.Handler {
	authenticated := s.authenticated(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.Clone(r.Context())
		r.Header.Del("Authorization")
		if token := tokenOf(r); token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		authenticated.ServeHTTP(w, r)
	})
}

// Identify finds out who a token is, and in which project an operator's works if
// it names one.
func (s *Server) Identify(ctx context.Context, token, project string) Caller {
	r := (&http.Request{Header: http.Header{}}).WithContext(ctx)
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("X-Project-Id", project)
	c := s.identify(r)
	return Caller{Role: c.role, Project: c.project, Err: c.err}
}

// Guard is what an operation of a wire has in front of it: it lets through who
// has the scope, has what changes anything written to the audit, and counts
// requests. Others are answered by refuse. Wires know nothing of tokens that are
// for some functions only, so these are refused.
func (s *Server) Guard(scope Scope, op huma.Operation, refuse func(huma.Context, error)) huma.Middlewares {
	if scope == Public {
		return huma.Middlewares{s.measured(op.OperationID)}
	}
	return huma.Middlewares{s.measured(op.OperationID), s.guard(scope, wholeProject, op, refuse)}
}

// OwnRecord marks operations whose record says who asked for it: executions.
// The audit leaves them out.
func OwnRecord() map[string]any { return map[string]any{ownRecord: true} }

// NewID is the ID for what a request creates, by which the audit tells of it.
func (s *Server) NewID(ctx context.Context) warpket.ID { return s.newID(ctx) }

// AddRuntime creates a runtime, and has it built.
func (s *Server) AddRuntime(ctx context.Context, b CreateRuntimeRequest) (warpket.Runtime, error) {
	out, err := s.createRuntime(ctx, &struct {
		HeldInput
		Body CreateRuntimeRequest
	}{Body: b})
	if err != nil {
		return warpket.Runtime{}, err
	}
	return s.Store.ProjectRuntime(ctx, projectOf(ctx), warpket.ID(out.Body.ID))
}

// ChangeRuntime changes what b sets of a runtime.
func (s *Server) ChangeRuntime(ctx context.Context, id warpket.ID, b UpdateRuntimeRequest) (warpket.Runtime, error) {
	_, err := s.updateRuntime(ctx, &struct {
		RuntimeInput
		MatchInput
		HeldInput
		Body UpdateRuntimeRequest
	}{RuntimeInput: RuntimeInput{string(id)}, Body: b})
	if err != nil {
		return warpket.Runtime{}, err
	}
	return s.Store.ProjectRuntime(ctx, projectOf(ctx), id)
}

// AddDraft creates a function that has a draft and no version.
func (s *Server) AddDraft(ctx context.Context, b CreateFunctionRequest) (warpket.Function, error) {
	f, v, err := s.newFunction(ctx, b)
	if err != nil {
		return f, err
	}
	if err := s.Store.CreateFunctionWithDraft(ctx, f, v.Snapshot); err != nil {
		return f, err
	}
	return s.Store.Function(ctx, f.ProjectID, f.ID)
}

// ChangeFunction has change alter a function, then sets what settings set.
func (s *Server) ChangeFunction(ctx context.Context, id warpket.ID, settings FunctionSettings, change func(*warpket.Function) error) error {
	_, err := s.changeFunction(ctx, string(id), MatchInput{}, settings, change)
	return err
}

// SetDraft makes the code that b brings the function's draft. check may refuse
// to change what is the draft at that moment; next is what it is to be.
func (s *Server) SetDraft(ctx context.Context, f warpket.Function, b CreateVersionRequest, check func(draft, next warpket.Snapshot) error) error {
	v, err := s.newVersion(ctx, f, b)
	if err != nil {
		return err
	}
	defer s.targets.drop()
	_, err = s.Store.SetDraft(ctx, v.Snapshot, s.Now(), func(d warpket.Draft) error { return check(d.Snapshot, v.Snapshot) })
	return err
}

// PublishDraft makes a function's draft its next version, unless check refuses
// what is the draft at that moment.
func (s *Server) PublishDraft(ctx context.Context, f warpket.Function, description string, check func(warpket.Draft) error) (warpket.Version, error) {
	if err := warpket.CheckDescription(description); err != nil {
		return warpket.Version{}, err
	}
	defer s.targets.drop()
	return s.Store.PublishDraft(ctx, warpket.Version{ID: s.newID(ctx), ProjectID: f.ProjectID, FunctionID: f.ID, Description: description, CreatedDate: s.Now()}, check)
}

// RemoveVersion deletes a version to which nothing refers.
func (s *Server) RemoveVersion(ctx context.Context, f warpket.Function, number int) error {
	defer s.targets.drop()
	return s.Store.DeleteVersion(ctx, f.ProjectID, f.ID, number, s.Now(), func(warpket.Version) error { return nil })
}

// RemoveFunction deletes a function with all that it has, and ends what runs.
func (s *Server) RemoveFunction(ctx context.Context, id warpket.ID) error {
	_, err := s.deleteFunction(ctx, &struct {
		FunctionInput
		Force bool `query:"force" doc:"Cancel what is queued or running"`
	}{FunctionInput{string(id)}, true})
	return err
}

// Archive writes the files of a snapshot as a zip.
func (s *Server) Archive(ctx context.Context, w io.Writer, n warpket.Snapshot) error {
	return s.Blobs.Zip(ctx, w, n.ProjectID, n.Files, n.CreatedDate)
}

// Deploy keeps a version, or the draft as one, ready on slots. Executions beyond
// them get slots on demand.
func (s *Server) Deploy(ctx context.Context, f warpket.Function, v warpket.Version, slots int) error {
	_, err := s.deploy(ctx, f, v, &CreateDeploymentRequest{Slots: &slots, elastic: true}, "")
	return err
}

// Detach has a deployment give its slots back, without waiting for it.
func (s *Server) Detach(ctx context.Context, id warpket.ID) error {
	_, err := s.detachDeployment(ctx, &struct {
		DeploymentInput
		HeldInput
	}{DeploymentInput: DeploymentInput{string(id)}})
	return err
}

// Execute asks for an execution, and with wait comes back when it is final.
func (s *Server) Execute(ctx context.Context, b CreateExecutionRequest, wait bool) (warpket.Execution, error) {
	received := time.Now()
	c, err := s.named(ctx, b)
	if err != nil {
		return warpket.Execution{}, err
	}
	e, err := s.newExecution(ctx, c, b)
	if err != nil {
		return e, err
	}
	return s.execute(ctx, ctx, order{callee: c, execution: e, input: b.Input, received: received, queue: true, wait: wait})
}

// Payload gives the bytes of an input or a result, whole.
func (s *Server) Payload(ctx context.Context, e warpket.Execution, p warpket.Payload) ([]byte, error) {
	if p.SHA256 == "" {
		return p.Inline, nil
	}
	return s.Blobs.Get(ctx, e.ProjectID, p.SHA256)
}

// LogOf gives what is kept of the log of an execution, or is there of it.
func (s *Server) LogOf(ctx context.Context, e warpket.Execution) ([]byte, error) {
	return s.logOf(ctx, e.ProjectID, e.ID, true)
}
