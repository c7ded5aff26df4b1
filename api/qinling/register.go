package qinling

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket/api"
)

// Bounds of requests.
const (
	maxBody     = 1 << 20
	readTime    = 15 * time.Second
	packageBody = 52 << 20 // a zip of 51 MiB, with what is around it
)

// takes is the Metadata of an operation that takes these arguments in its query.
func takes(names ...string) map[string]any { return map[string]any{"arguments": names} }

// ofProjects is that of a list whose projects an operator may choose.
func ofProjects(more ...string) map[string]any {
	return takes(append(more, "all_projects", "project_id")...)
}

// register adds an operation. All go through it: it enforces the scope, has those
// that read refuse arguments that they do not know, and turns every error into a
// fault.
func register[I, O any](w *wire, scope api.Scope, op huma.Operation, handler func(context.Context, *I) (*O, error)) {
	op.OperationID = "qinling-" + op.OperationID // as the audit tells them
	op.Middlewares = append(op.Middlewares, w.server.Guard(scope, op, refuse)...)
	op.SkipValidateParams, op.SkipValidateBody = true, true // the messages are Qinling's own
	if op.MaxBodyBytes == 0 {
		op.MaxBodyBytes = maxBody
	}
	if op.BodyReadTimeout == 0 {
		op.BodyReadTimeout = readTime
	}
	if op.DefaultStatus == 0 && op.Method != http.MethodDelete {
		op.DefaultStatus = http.StatusOK
	}
	if _, ok := any(new(I)).(interface{ sent() }); ok && op.RequestBody == nil {
		op.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{}}}}
	}
	known, _ := op.Metadata["arguments"].([]string)
	strict := op.Method == http.MethodGet && strings.HasPrefix(op.Path, "/v1/") && scope != api.Public
	huma.Register(w.api, op, func(ctx context.Context, in *I) (out *O, err error) {
		if q, ok := any(in).(interface{ only(known ...string) error }); ok && strict {
			err = q.only(known...)
		}
		if err == nil {
			out, err = handler(ctx, in)
		}
		if err == nil {
			return out, nil
		}
		f := faultOf(err)
		if f.status >= http.StatusInternalServerError && ctx.Err() == nil {
			w.server.Log.ErrorContext(ctx, "request failed", "operation", op.OperationID, "error", err)
		}
		return nil, huma.ErrorWithHeaders(f, f.headers())
	})
	if op.RequestBody != nil {
		op.RequestBody.Required = false // what is missing has a message of its own
	}
}
