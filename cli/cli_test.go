package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// api is a server that answers as it is told and keeps what it was asked.
type api struct {
	*httptest.Server
	mux *http.ServeMux

	mu    sync.Mutex
	asked []string // "METHOD path body"
}

func newAPI(t *testing.T) *api {
	t.Helper()
	s := &api{mux: http.NewServeMux()}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		s.asked = append(s.asked, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+string(body)))
		s.mu.Unlock()
		if r.Header.Get("Authorization") != "Bearer wk_1_2" {
			refuse(w, 401, "unauthenticated", "this token does not hold")
			return
		}
		s.mux.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// on answers a pattern with JSON texts, in turn; the last one stays.
func (s *api) on(pattern string, status int, answers ...string) {
	var mu sync.Mutex
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answers[0])
		if len(answers) > 1 {
			answers = answers[1:]
		}
	})
}

func (s *api) onProblem(pattern string, status int, code, detail string) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) { refuse(w, status, code, detail) })
}

func refuse(w http.ResponseWriter, status int, code, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "code": code, "detail": detail, "errors": []any{}})
}

// requests are what was asked with a method other than GET.
func (s *api) requests() (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.asked {
		if !strings.HasPrefix(r, http.MethodGet) {
			out = append(out, r)
		}
	}
	return out
}

// outcome is what a command did.
type outcome struct {
	code     int
	out, err string
}

// command runs the client as a shell does.
func command(ctx context.Context, env Env, stdin string, args ...string) outcome {
	var out, errs bytes.Buffer
	root := &cobra.Command{Use: "warpket", SilenceUsage: true, SilenceErrors: true}
	AddTo(root, env)
	root.SetArgs(args)
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&out)
	root.SetErr(&errs)
	code := 0
	if err := root.ExecuteContext(ctx); err != nil {
		code = Report(&errs, err)
	}
	return outcome{code, out.String(), errs.String()}
}

func (s *api) command(t *testing.T, args ...string) outcome {
	t.Helper()
	return command(t.Context(), Env{API: s.URL, Token: "wk_1_2", ConfigDir: t.TempDir()}, "", args...)
}

const (
	functionID   = "019b0000-0000-7000-8000-000000000001"
	executionID  = "019b0000-0000-7000-8000-000000000002"
	deploymentID = "019b0000-0000-7000-8000-000000000003"
)

const bell = `{"functionId":"` + functionID + `","functionName":"bell","templateLanguageTag":"Qiskit","description":"","sdk":"qiskit","sdkVersion":"0.45.3","entry":"handler.handler",` +
	`"reuse":"process","retries":0,"resources":{},"createdDate":"2025-01-01T00:00:00Z","updatedDate":"2025-01-01T00:00:00Z"}`

func list(items ...string) string { return `{"items":[` + strings.Join(items, ",") + `]}` }

func execution(status, rest string) string {
	return fmt.Sprintf(`{"id":%q,"functionId":%q,"functionName":"bell","version":1,"status":%q,"lane":"durable","target":"simulator","shots":1024,"seed":9007199254740993,"resources":{},"attempt":1,`+
		`"resultSize":0,"logSize":0,"description":"","tags":[],"createdDate":"2025-01-01T00:00:00Z"%s}`, executionID, functionID, status, rest)
}

func deployment(id string, version int, status, message string) string {
	return fmt.Sprintf(`{"id":%q,"functionId":%q,"functionName":"bell","version":%d,"slots":1,"ready":1,"status":%q,"message":%q,"resources":{},"placement":{"slots":[{"slotId":"s","node":"local","status":"ready","devices":[],"reason":"fits"}]},`+
		`"isolation":"process","temporalUrl":"http://temporal/%s","createdDate":"2025-01-01T00:00:00Z","updatedDate":"2025-01-01T00:00:00Z"}`, id, functionID, version, status, message, id)
}

func TestTheExitCodeSaysWhatHappened(t *testing.T) {
	t.Parallel()
	refused := func(status int, code string) func(*api) {
		return func(s *api) {
			s.on("GET /v1/functions", 200, list(bell))
			s.onProblem("POST /v1/executions", status, code, "because")
		}
	}
	ended := func(status, rest string) func(*api) {
		return func(s *api) {
			s.on("GET /v1/functions", 200, list(bell))
			s.on("POST /v1/executions", 200, execution(status, rest))
		}
	}
	run := []string{"run", "bell"}
	tests := map[string]struct {
		answers func(*api)
		args    []string
		code    int
		says    string
	}{
		"an execution that succeeds is 0":           {ended("succeeded", `,"result":{"n":9007199254740993}`), run, 0, ""},
		"a fault of the server is 1":                {refused(500, "internal"), run, 1, "warpket: because"},
		"an unknown verb is 2":                      {nil, []string{"rum"}, 2, `there is no verb "rum"; did you mean run?`},
		"an unknown flag is 2":                      {nil, []string{"run", "--wat"}, 2, "try: warpket run --help"},
		"a missing argument is 2":                   {nil, []string{"run"}, 2, "FUNCTION is missing"},
		"an argument too many is 2":                 {nil, []string{"run", "a", "b"}, 2, `"b" is too much`},
		"an input that is no JSON is 2":             {nil, []string{"run", "bell", "--input", "text"}, 2, "not JSON"},
		"no shots at all is 2":                      {nil, []string{"run", "bell", "--shots", "0"}, 2, "--shots is more than 0"},
		"something unknown to list is 2":            {nil, []string{"list", "cats"}, 2, `"cats" cannot be listed`},
		"a filter that does not fit is 2":           {nil, []string{"list", "nodes", "--status", "up"}, 2, "--status is not for nodes"},
		"deleting without an answer is 2":           {ended("succeeded", ""), []string{"delete", "bell"}, 2, "--yes"},
		"a function that is not there is 3":         {func(s *api) { s.on("GET /v1/functions", 200, list()) }, run, 3, `there is no function "bell"`},
		"what the server does not find is 3":        {func(s *api) { s.onProblem("GET /v1/templates/X", 404, "not_found", "no X") }, []string{"templates", "X"}, 3, "warpket: no X"},
		"a folder without a manifest is 3":          {nil, []string{"deploy", "/nowhere"}, 3, "try: warpket init TEMPLATE"},
		"an invalid request is 4":                   {refused(422, "invalid"), run, 4, "because"},
		"a conflict is 4":                           {refused(409, "conflict"), run, 4, "because"},
		"an unknown refusal is 4":                   {refused(418, "teapot"), run, 4, "because"},
		"a name that cannot be one is 4":            {nil, []string{"init", "Qiskit", "--name", "Not A Name"}, 4, "cannot name a function"},
		"a denied request is 5":                     {refused(403, "denied"), run, 5, "because"},
		"a token that does not hold is 5":           {refused(401, "unauthenticated"), run, 5, "try: warpket login"},
		"a server without capacity is 6":            {refused(503, "no_capacity"), run, 6, "because"},
		"a full queue is 6":                         {refused(429, "over_quota"), run, 6, "because"},
		"an execution that fails is 7":              {ended("failed", `,"error":{"code":"raised","message":"ValueError: no such gate","traceback":"File handler.py\n  line 3"}`), run, 7, "the execution failed: ValueError: no such gate\n  code: raised\n  File handler.py\n    line 3\n"},
		"an execution that runs too long is 8":      {ended("timed_out", `,"error":{"code":"timed_out","message":"it ran for longer than 1 s"}`), run, 8, "timed out"},
		"an execution that is cancelled is 9":       {ended("cancelled", ""), run, 9, "was cancelled"},
		"an execution whose outcome is unknown: 10": {ended("lost", ""), run, 10, "was lost"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newAPI(t)
			if test.answers != nil {
				test.answers(s)
			}
			got := s.command(t, test.args...)
			if got.code != test.code {
				t.Errorf("exit code %d, not %d", got.code, test.code)
			}
			if !strings.Contains(got.err, test.says) || test.code == 0 && got.err != "" {
				t.Errorf("stderr: %q, without %q", got.err, test.says)
			}
			if test.code != 0 && got.out != "" {
				t.Errorf("stdout: %q", got.out)
			}
		})
	}
}

func TestAServerThatDoesNotAnswerIsNamed(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	got := command(t.Context(), Env{API: s.URL, Token: "wk_1_2"}, "", "list")
	if want := "warpket: nothing answers at " + s.URL + "\n  is it running? start it with: warpket dev\n"; got.code != 6 || got.err != want {
		t.Errorf("got %d %q", got.code, got.err)
	}
}

func TestWithoutATokenNothingIsAsked(t *testing.T) {
	t.Parallel()
	s := newAPI(t)
	got := command(t.Context(), Env{API: s.URL, ConfigDir: t.TempDir()}, "", "list")
	if got.code != 5 || !strings.Contains(got.err, "no token for "+s.URL) || !strings.Contains(got.err, "try: warpket login") {
		t.Errorf("got %d %q", got.code, got.err)
	}
	if len(s.asked) > 0 {
		t.Errorf("asked %q", s.asked)
	}
}

func TestHelpNamesAllExitCodes(t *testing.T) {
	t.Parallel()
	got := command(t.Context(), Env{}, "", "help", "exit-codes")
	for code := range exitLost + 1 {
		if !strings.Contains(got.out, fmt.Sprintf("\n  %2d  ", code)) {
			t.Errorf("%d is not there:\n%s", code, got.out)
		}
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	t.Run("it stores what holds, for its owner only", func(t *testing.T) {
		t.Parallel()
		s, dir := newAPI(t), t.TempDir()
		s.on("GET /v1/functions", 200, list())
		got := command(t.Context(), Env{ConfigDir: dir}, "wk_1_2\n", "login", "--api", s.URL, "--token", "-")
		if got.code != 0 {
			t.Fatalf("got %+v", got)
		}
		file := filepath.Join(dir, "warpket", "config.json")
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v", info.Mode())
		}
		if got := command(t.Context(), Env{ConfigDir: dir}, "", "list"); got.code != 0 {
			t.Errorf("after the login: %+v", got)
		}
	})
	t.Run("a token that does not hold is not stored", func(t *testing.T) {
		t.Parallel()
		s, dir := newAPI(t), t.TempDir()
		got := command(t.Context(), Env{ConfigDir: dir, API: s.URL}, "wk_9_9", "login")
		if _, err := os.Stat(filepath.Join(dir, "warpket")); got.code != 5 || err == nil {
			t.Errorf("got %+v, %v", got, err)
		}
	})
	t.Run("a token is not taken from the command line", func(t *testing.T) {
		t.Parallel()
		got := command(t.Context(), Env{ConfigDir: t.TempDir()}, "", "login", "--token", "wk_1_2")
		if got.code != 2 || strings.Contains(got.err, "wk_1_2") {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("it reads what a running dev tells", func(t *testing.T) {
		t.Parallel()
		s, dir := newAPI(t), t.TempDir()
		s.on("GET /v1/functions", 200, list())
		if err := os.WriteFile(filepath.Join(dir, "dev.json"), []byte(`{"api":"`+s.URL+`","token":"wk_1_2","pid":1}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := command(t.Context(), Env{ConfigDir: dir}, "", "login", "--dev", dir); got.code != 0 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("a stored token is not sent to another server", func(t *testing.T) {
		t.Parallel()
		s, dir := newAPI(t), t.TempDir()
		if err := writeSecret(filepath.Join(dir, "warpket", "config.json"), []byte(`{"api":"http://127.0.0.1:1","token":"wk_1_2"}`)); err != nil {
			t.Fatal(err)
		}
		if got := command(t.Context(), Env{ConfigDir: dir, API: s.URL}, "", "list"); got.code != 5 || len(s.asked) > 0 {
			t.Errorf("got %+v, asked %q", got, s.asked)
		}
	})
}

func TestJSONIsAllThatIsPrinted(t *testing.T) {
	t.Parallel()
	s := newAPI(t)
	s.on("GET /v1/functions", 200, list(bell))
	s.on("POST /v1/executions", 200, execution("succeeded", `,"result":{"counts":{"00":9007199254740993}}`))
	s.on("DELETE /v1/functions/{id}", 200, `{"functionId":"`+functionID+`"}`)
	tests := map[string]struct {
		args []string
		want string
	}{
		"of a list":          {[]string{"list", "--json"}, list(bell)},
		"of an execution":    {[]string{"run", "bell", "--json"}, execution("succeeded", `,"result":{"counts":{"00":9007199254740993}}`)},
		"of a deletion":      {[]string{"delete", "bell", "--yes", "--json"}, `{"functionId":"` + functionID + `"}`},
		"without it: result": {[]string{"run", "bell"}, `{"counts":{"00":9007199254740993}}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := s.command(t, test.args...)
			if got.out != test.want+"\n" || got.err != "" || got.code != 0 {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestErrorsInJSONAreProblems(t *testing.T) {
	t.Parallel()
	s := newAPI(t)
	s.onProblem("GET /v1/functions", 403, "denied", "this needs the role viewer")
	for name, args := range map[string][]string{"denied": {"list", "--json"}, "invalid": {"list", "cats", "--json"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := s.command(t, args...)
			var p struct{ Code, Detail string }
			if err := json.Unmarshal([]byte(got.err), &p); err != nil || p.Code != name || p.Detail == "" || got.out != "" {
				t.Errorf("got %+v: %v", got, err)
			}
		})
	}
}

func TestListsReadAsManyPagesAsNeeded(t *testing.T) {
	t.Parallel()
	s := newAPI(t)
	s.mux.HandleFunc("GET /v1/functions", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("cursor") == "" {
			_, _ = io.WriteString(w, `{"items":[`+bell+`],"nextCursor":"two"}`)
			return
		}
		_, _ = io.WriteString(w, `{"items":[`+bell+`],"nextCursor":"three"}`)
	})
	got := s.command(t, "list", "--limit", "2")
	if lines := strings.Split(strings.TrimSpace(got.out), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[0], "NAME  TEMPLATE  SDK") || !strings.HasPrefix(lines[1], "bell  Qiskit    qiskit 0.45.3") {
		t.Errorf("got:\n%s", got.out)
	}
	if !strings.Contains(got.err, "there are more") {
		t.Errorf("stderr: %q", got.err)
	}
	want := []string{"GET /v1/functions?limit=2", "GET /v1/functions?cursor=two&limit=1"}
	if diff := cmp.Diff(want, s.asked); diff != "" {
		t.Error(diff)
	}
}

func TestNamesAreCompletedFromTheServer(t *testing.T) {
	t.Parallel()
	s := newAPI(t)
	s.on("GET /v1/functions", 200, list(bell))
	got := s.command(t, "__complete", "run", "")
	if !strings.HasPrefix(got.out, "bell\tqiskit 0.45.3\n") {
		t.Errorf("got %q", got.out)
	}
}

func TestAliasesAreListedWithTheShareOfEachVersion(t *testing.T) {
	t.Parallel()
	s := newAPI(t)
	s.on("GET /v1/aliases", 200, list(`{"name":"canary","functionId":"f","versions":[{"version":3,"weight":3},{"version":4,"weight":1}]}`, `{"name":"prod","functionId":"f","versions":[{"version":3,"weight":7}]}`))
	got := s.command(t, "list", "aliases")
	lines := strings.Split(strings.TrimSpace(got.out), "\n")
	if len(lines) != 3 || !strings.Contains(lines[1], "3 (75%), 4 (25%)") || strings.Contains(lines[2], "%") {
		t.Errorf("got:\n%s", got.out)
	}
}
