package api

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
)

// Reach says how an operation comes by the functions that it is about, for
// tokens that are for some functions only. An operation that does not say is
// refused to them.
type Reach string

// The reaches. Give one as the last argument of register.
const (
	// The function is functionId in the path. It is checked before the operation.
	byPath Reach = "path"
	// The operation finds out, and calls mayReach before it shows or changes anything.
	byLoading Reach = "loading"
	// It is a list, which the operation narrows by reachable.
	byFilter Reach = "filter"
	// It shows what is no function's and no secret of the project.
	noFunction Reach = "none"
	// It is about the whole project, or more: not for such tokens.
	wholeProject Reach = "project"
)

// Reach gives the reach of an operation; it is empty for one that has not said.
func (s *Server) Reach(operationID string) Reach { return s.reaches[operationID] }

// admits refuses an operation to a token for some functions that it does not
// name. What comes by a function in another way checks it itself.
func (c caller) admits(reach Reach, function string) error {
	if c.token.Functions == nil {
		return nil
	}
	switch reach {
	case byPath:
		return c.mayReach(warpket.ID(strings.ToLower(function)))
	case byLoading, byFilter, noFunction:
		return nil
	case wholeProject:
	}
	return warpket.Errorf(warpket.Denied, "this token is for some functions only; this needs one that is for the whole project")
}

// mayReach refuses a function that the token is not for, as if there were none.
func (c caller) mayReach(function warpket.ID) error {
	if c.checked != nil {
		c.checked.Store(true)
	}
	if c.token.Reaches(function) {
		return nil
	}
	return warpket.Errorf(warpket.NotFound, "there is no function %q that this token is for", clip(string(function), 80))
}

// mayReach refuses a function that the caller's token is not for.
func mayReach(ctx context.Context, function warpket.ID) error {
	return callerOf(ctx).mayReach(function)
}

// mayReachThe refuses something of a function that the caller's token is not
// for, with the words for what is not there at all.
func mayReachThe[ID ~string](ctx context.Context, what string, id ID, function warpket.ID) error {
	if mayReach(ctx, function) != nil {
		return warpket.Errorf(warpket.NotFound, "there is no %s %q", what, id)
	}
	return nil
}

// reachable are the functions that a list is narrowed to; nil for all.
func reachable(ctx context.Context) []warpket.ID {
	c := callerOf(ctx)
	if c.checked != nil {
		c.checked.Store(true)
	}
	return slices.Clone(c.token.Functions)
}

// mayBind refuses what would hand a secret of the project to code that the
// holder of a token for some functions writes.
func mayBind(ctx context.Context, field string) error {
	if callerOf(ctx).token.Functions == nil {
		return nil
	}
	return warpket.Errorf(warpket.Denied, "this token is for some functions only, and cannot give them secrets of the project").At("%s", field)
}

// watched notes whether an operation checks what it reaches; forgot reports
// that it should have and did not.
func watched(ctx context.Context, reach Reach) (_ context.Context, forgot func() bool) {
	c := callerOf(ctx)
	if c.token.Functions == nil || reach != byLoading && reach != byFilter {
		return ctx, func() bool { return false }
	}
	c.checked = &atomic.Bool{}
	return context.WithValue(ctx, callerKey{}, c), func() bool { return !c.checked.Load() }
}

// guard lets through who may use an operation, and writes down what changes
// anything. Others are answered by refuse.
func (s *Server) guard(scope Scope, reach Reach, op huma.Operation, refuse func(huma.Context, error)) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		c := callerOf(ctx.Context())
		if c.err != nil {
			refuse(ctx, c.err)
			return
		}
		s.recorded(ctx, op, refuse, func(ctx huma.Context) {
			err := permit(ctx.Context(), scope)
			if err == nil {
				err = c.admits(reach, ctx.Param("functionId"))
			}
			if err != nil {
				refuse(ctx, err)
				return
			}
			next(ctx)
		})
	}
}
