package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

type healthOutput struct{ Body Health }

// Health says that all is well.
type Health struct {
	Status string `json:"status" enum:"ok" doc:"Always ok: what is not well is a Problem" example:"ok"`
}

func (s *Server) addHealth() {
	register(s, Public, huma.Operation{
		OperationID: "get-health", Method: http.MethodGet, Path: "/healthz", Tags: []string{"Health"}, Summary: "Is the server alive",
		Description: "Answers as long as the process does.",
	}, func(context.Context, *struct{}) (*healthOutput, error) {
		out := &healthOutput{}
		out.Body.Status = "ok"
		return out, nil
	})
	register(s, Public, huma.Operation{
		OperationID: "get-readiness", Method: http.MethodGet, Path: "/readyz", Tags: []string{"Health"}, Summary: "Is the server ready",
		Description: "503 while Postgres, the object store or Temporal does not answer.",
	}, func(ctx context.Context, _ *struct{}) (*healthOutput, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		for _, ready := range []func(context.Context) error{s.Store.Ping, s.Blobs.Ready, s.Workflows.Ready} {
			if err := ready(ctx); err != nil {
				return nil, err
			}
		}
		out := &healthOutput{}
		out.Body.Status = "ok"
		return out, nil
	})
}
