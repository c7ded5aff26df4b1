package metrics_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/metrics"
)

func scrape(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	return w.Body.String()
}

func TestMetricsTellWhatWasCounted(t *testing.T) {
	t.Parallel()
	m := metrics.New(func(context.Context) ([]metrics.Level, error) {
		return []metrics.Level{{Name: "slots", Label: "ready", Value: 3}, {Name: "nodes", Label: "up", Value: 1}}, nil
	})
	m.Request("get-function", 200, time.Millisecond)
	m.RefusedToken()
	m.Executed(warpket.Express, warpket.Succeeded, warpket.Timings{Ran: time.Second})
	text := scrape(t, m)
	for _, want := range []string{
		`warpket_requests_total{operation="get-function",status="200"} 1`, `warpket_request_seconds_count{operation="get-function"} 1`, `warpket_refused_tokens_total 1`,
		`warpket_executions_total{lane="express",status="succeeded"} 1`, `warpket_execution_phase_seconds_sum{lane="express",phase="ran"} 1`,
		`warpket_slots{status="ready"} 3`, `warpket_nodes{status="up"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}
}

func TestMetricsWithoutADatabaseTellTheRest(t *testing.T) {
	t.Parallel()
	m := metrics.New(func(context.Context) ([]metrics.Level, error) { return nil, errors.New("it is away") })
	m.RefusedToken()
	if text := scrape(t, m); !strings.Contains(text, "warpket_refused_tokens_total 1\n") || strings.Contains(text, "away") {
		t.Errorf("it tells %s", text)
	}
}

func TestNoMetricsCountNothing(t *testing.T) {
	t.Parallel()
	var m *metrics.Metrics
	m.Request("get-function", 200, time.Millisecond)
	m.RefusedToken()
	m.Executed(warpket.Express, warpket.Succeeded, warpket.Timings{})
}
