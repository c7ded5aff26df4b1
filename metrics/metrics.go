// Package metrics counts what a server does, for Prometheus. It tells nothing
// of single projects or callers.
package metrics

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/warpket/warpket"
)

// Metrics are those of one server. A nil one counts nothing.
type Metrics struct {
	registry   *prometheus.Registry
	requests   *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	logins     prometheus.Counter
	executions *prometheus.CounterVec
	phases     *prometheus.HistogramVec
}

// buckets are from a tenth of a millisecond to some minutes.
var buckets = prometheus.ExponentialBuckets(0.0001, 3, 14)

// Level is a number that is read when it is asked for.
type Level struct {
	Name  string // of the metric, without the prefix
	Label string // its value, such as a status
	Value float64
}

// New makes Metrics. levels reads numbers as they are now; of all servers, or of
// this one.
func New(levels func(context.Context) ([]Level, error)) *Metrics {
	m := &Metrics{
		registry:   prometheus.NewRegistry(),
		requests:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "warpket_requests_total", Help: "Requests that this server answered, by operation and status."}, []string{"operation", "status"}),
		seconds:    prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "warpket_request_seconds", Help: "How long they took, those that were held included.", Buckets: buckets}, []string{"operation"}),
		logins:     prometheus.NewCounter(prometheus.CounterOpts{Name: "warpket_refused_tokens_total", Help: "Requests with a token that does not hold."}),
		executions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "warpket_executions_total", Help: "Executions whose end this server recorded, by lane and status."}, []string{"lane", "status"}),
		phases:     prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "warpket_execution_phase_seconds", Help: "How long each phase of them took.", Buckets: buckets}, []string{"lane", "phase"}),
	}
	m.registry.MustRegister(m.requests, m.seconds, m.logins, m.executions, m.phases, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), levelsOf(levels))
	return m
}

// Request counts a request that was answered.
func (m *Metrics) Request(operation string, status int, took time.Duration) {
	if m == nil {
		return
	}
	m.requests.WithLabelValues(operation, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(operation).Observe(took.Seconds())
}

// RefusedToken counts a token that does not hold.
func (m *Metrics) RefusedToken() {
	if m != nil {
		m.logins.Inc()
	}
}

// Executed counts an execution whose end was recorded.
func (m *Metrics) Executed(lane warpket.Lane, status warpket.Status, t warpket.Timings) {
	if m == nil {
		return
	}
	m.executions.WithLabelValues(string(lane), string(status)).Inc()
	for _, p := range []struct {
		name string
		took time.Duration
	}{{"queued", t.Queued}, {"placed", t.Placed}, {"started", t.Started}, {"ran", t.Ran}, {"recorded", t.Recorded}, {"total", t.Total}} {
		m.phases.WithLabelValues(string(lane), p.name).Observe(p.took.Seconds())
	}
}

// Handler answers with all metrics in Prometheus' text form.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// readTime bounds how long a scrape waits for levels.
const readTime = 5 * time.Second

// levelsOf collects levels.
type levelsOf func(context.Context) ([]Level, error)

// Describe implements prometheus.Collector: what there is depends on what is read.
func (levelsOf) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (read levelsOf) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), readTime)
	defer cancel()
	levels, err := read(ctx)
	if err != nil {
		out <- prometheus.NewInvalidMetric(prometheus.NewDesc("warpket_levels", "What there is now.", nil, nil), err)
		return
	}
	for _, l := range levels {
		desc := prometheus.NewDesc("warpket_"+l.Name, "What there is now, by status.", []string{"status"}, nil)
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, l.Value, l.Label)
	}
}
