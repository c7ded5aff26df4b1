package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRunAsksForWhatTheFlagsSay(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "in.json")
	if err := os.WriteFile(file, []byte(`{"a":12345678901234567890}`), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		args []string
		want string
	}{
		"nothing":               {nil, `{"functionId":"F"}`},
		"all":                   {[]string{"--input", `"x"`, "--version", "2", "--shots", "10", "--seed", "7", "--target", "gpu", "--timeout", "1.5"}, `{"functionId":"F","input":"x","resources":{"timeout":1.5},"seed":7,"shots":10,"target":"gpu","version":2}`},
		"a seed of zero":        {[]string{"--seed", "0"}, `{"functionId":"F","seed":0}`},
		"an input from a file":  {[]string{"--input", "@" + file}, `{"functionId":"F","input":{"a":12345678901234567890}}`},
		"an input from stdin":   {[]string{"--input", "-"}, `{"functionId":"F","input":[1]}`},
		"without waiting":       {[]string{"--async"}, `{"functionId":"F","sync":false}`},
		"the function by an ID": {[]string{"by ID"}, `{"functionId":"F"}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newAPI(t)
			s.on("GET /v1/functions", 200, list(bell))
			s.on("GET /v1/functions/{id}", 200, bell)
			s.on("POST /v1/executions", 200, execution("succeeded", `,"result":1`))
			args := append([]string{"run", "bell"}, test.args...)
			if name == "the function by an ID" {
				args = []string{"run", functionID}
			}
			if got := command(t.Context(), Env{API: s.URL, Token: "wk_1_2"}, "[1]", args...); got.code != 0 {
				t.Fatalf("got %+v", got)
			}
			want := []string{"POST /v1/executions " + strings.ReplaceAll(test.want, `"F"`, `"`+functionID+`"`)}
			if diff := cmp.Diff(want, s.requests()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRunWaitsUntilTheExecutionIsFinal(t *testing.T) {
	t.Parallel()
	s := newAPI(t)
	s.on("GET /v1/functions", 200, list(bell))
	s.on("POST /v1/executions", 202, execution("queued", ""))
	s.on("GET /v1/executions/{id}", 200, execution("running", ""), execution("succeeded", `,"result":{"ok":true}`))
	if got := s.command(t, "run", "bell"); got != (outcome{0, "{\"ok\":true}\n", ""}) {
		t.Errorf("got %+v", got)
	}
}

func TestRunAsyncPrintsTheID(t *testing.T) {
	t.Parallel()
	s := newAPI(t)
	s.on("GET /v1/functions", 200, list(bell))
	s.on("POST /v1/executions", 202, execution("queued", ""))
	got := s.command(t, "run", "bell", "--async")
	if got.out != executionID+"\n" || !strings.Contains(got.err, "warpket logs "+executionID+" -f") {
		t.Errorf("got %+v", got)
	}
}

func TestALargeResultIsFetched(t *testing.T) {
	t.Parallel()
	s := newAPI(t)
	s.on("GET /v1/functions", 200, list(bell))
	s.on("POST /v1/executions", 200, execution("succeeded", `,"resultUrl":"/v1/executions/`+executionID+`/result"`))
	s.on("GET /v1/executions/{id}/result", 200, `[1,2,3]`)
	if got := s.command(t, "run", "bell"); got.out != "[1,2,3]\n" {
		t.Errorf("got %+v", got)
	}
}

func TestAnInterruptCancelsTheExecution(t *testing.T) {
	t.Parallel()
	s := newAPI(t)
	ctx, interrupt := context.WithCancel(t.Context())
	s.on("GET /v1/functions", 200, list(bell))
	s.on("POST /v1/executions", 202, execution("running", ""))
	s.mux.HandleFunc("GET /v1/executions/{id}", func(_ http.ResponseWriter, r *http.Request) {
		interrupt()
		<-r.Context().Done() // held until the client goes
	})
	s.on("POST /v1/executions/{id}/cancel", 200, execution("cancelled", `,"error":{"code":"cancelled","message":"it was cancelled while it ran"}`))
	got := command(ctx, Env{API: s.URL, Token: "wk_1_2"}, "", "run", "bell")
	if got.code != exitCancelled || got.out != "" || !strings.Contains(got.err, "cancelling "+executionID) || !strings.Contains(got.err, "was cancelled") {
		t.Errorf("got %+v", got)
	}
	if asked := s.requests(); len(asked) != 2 || asked[1] != "POST /v1/executions/"+executionID+"/cancel" {
		t.Errorf("asked %q", asked)
	}
}

func TestFollowShowsTheLogBesideTheResult(t *testing.T) {
	t.Parallel()
	s := newAPI(t)
	logged := make(chan struct{})
	s.on("GET /v1/functions", 200, list(bell))
	s.on("POST /v1/executions", 202, execution("running", ""))
	s.mux.HandleFunc("GET /v1/executions/{id}", func(w http.ResponseWriter, _ *http.Request) {
		<-logged
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, execution("succeeded", `,"result":1`))
	})
	s.mux.HandleFunc("GET /v1/executions/{id}/log", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") != "text/event-stream" {
			t.Errorf("Accept: %q", r.Header.Get("Accept"))
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for _, part := range []string{"id: 6\nevent: lo", "g\ndata: {\"text\":\"one\\nt\"}\n", "\nid: 9\nevent: log\ndata: {\"text\":\"wo\\n\"}\n\n", "event: end\ndata: {\"status\":\"succeeded\"}\n\n"} {
			_, _ = io.WriteString(w, part)
			w.(http.Flusher).Flush()
		}
		close(logged)
	})
	if got := s.command(t, "run", "bell", "--follow"); got != (outcome{0, "1\n", "one\ntwo\n"}) {
		t.Errorf("got %+v", got)
	}
}

func TestALogThatBreaksOffIsTakenUpWhereItWas(t *testing.T) {
	t.Parallel()
	s := newAPI(t)
	s.on("GET /v1/functions", 200, list(bell))
	s.on("GET /v1/executions", 200, list(execution("running", "")))
	s.mux.HandleFunc("GET /v1/executions/{id}/log", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		switch r.Header.Get("Last-Event-ID") {
		case "":
			_, _ = fmt.Fprint(w, "id: 3\nevent: log\ndata: {\"text\":\"one\"}\n\nid: 6\nevent: log\ndata: {\"te")
		case "3":
			_, _ = fmt.Fprint(w, "id: 6\nevent: log\ndata: {\"text\":\"two\"}\n\nevent: end\ndata: {\"status\":\"failed\"}\n\n")
		}
	})
	if got := s.command(t, "logs", "bell", "-f"); got != (outcome{0, "onetwo", ""}) {
		t.Errorf("got %+v", got)
	}
	if got := s.command(t, "logs", executionID, "-f", "--json"); got.out != "{\"text\":\"one\"}\n{\"text\":\"two\"}\n{\"status\":\"failed\"}\n" {
		t.Errorf("got %+v", got)
	}
}

func TestALogThatDoesNotGetOnIsGivenUp(t *testing.T) {
	t.Parallel()
	s := newAPI(t)
	s.mux.HandleFunc("GET /v1/executions/{id}/log", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) })
	if got := s.command(t, "logs", executionID, "-f"); got.code != exitUnavailable || !strings.Contains(got.err, "broke off") {
		t.Errorf("got %+v", got)
	}
}
