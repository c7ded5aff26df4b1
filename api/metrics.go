package api

import (
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// addMetrics serves the metrics to operators: they tell of the whole cluster.
func (s *Server) addMetrics() {
	if s.Metrics == nil {
		return
	}
	handler := s.Metrics.Handler()
	s.mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		if err := permit(r.Context(), Operate); err != nil {
			problemOf(err).write(w)
			return
		}
		handler.ServeHTTP(w, r)
	})
}

// measured counts the requests of an operation.
func (s *Server) measured(operation string) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		began := time.Now()
		next(ctx)
		s.Metrics.Request(operation, statusOr(ctx.Status(), http.StatusOK), time.Since(began))
	}
}

func statusOr(status, otherwise int) int {
	if status == 0 {
		return otherwise
	}
	return status
}
