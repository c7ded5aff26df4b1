package main

import (
	"encoding/json"
	"io"
	"log/slog"
	"sync"
)

// phase is where a part is in its life.
type phase string

const (
	downloading  phase = "downloading"
	initialising phase = "initialising"
	starting     phase = "starting"
	ready        phase = "ready"
	restarting   phase = "restarting"
	stopped      phase = "stopped"
	failed       phase = "failed"
)

// event is one line of the devstack's output: something happened to a part.
type event struct {
	Part   string `json:"part,omitempty"`
	Phase  phase  `json:"phase"`
	Detail string `json:"detail,omitempty"`
}

// readyLine is the line that says that everything runs, and where. It holds
// only the parts that were asked for.
type readyLine struct {
	Ready addresses `json:"ready"`
}

type addresses struct {
	Postgres   string     `json:"postgres,omitempty"`
	S3         *s3Address `json:"s3,omitempty"`
	Temporal   string     `json:"temporal,omitempty"`
	TemporalUI string     `json:"temporalUI,omitempty"`
}

type s3Address struct {
	Endpoint  string `json:"endpoint"`
	AccessKey string `json:"accessKey"`
	SecretKey string `json:"secretKey"`
	Bucket    string `json:"bucket"`
	Region    string `json:"region"`
}

// reporter tells the parent, as JSON lines, and the devstack's log what happens.
type reporter struct {
	mu  sync.Mutex
	out *json.Encoder
	log *slog.Logger
}

func newReporter(out io.Writer, log *slog.Logger) *reporter {
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	return &reporter{out: lines, log: log}
}

func (r *reporter) report(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log.Info(string(e.Phase), "part", e.Part, "detail", e.Detail)
	_ = r.out.Encode(e) // a parent that is gone hears nothing
}

// ready writes the line with the addresses. It holds passwords, so it is not logged.
func (r *reporter) ready(a addresses) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log.Info("all parts are ready")
	_ = r.out.Encode(readyLine{a})
}
