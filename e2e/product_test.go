// Package e2e tries the product as a user has it: the built binaries, started
// by "warpket dev", spoken to over HTTP.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// product is one running "warpket dev".
type product struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has
	dir   string
	dev   devFile
}

// devFile is dev.json.
type devFile struct {
	API        string `json:"api"`
	TemporalUI string `json:"temporalUI"`
	S3         string `json:"s3"`
	Postgres   string `json:"postgres"`
	Token      string `json:"token"`
	PID        int    `json:"pid"`
}

// program is the binary under test, which "make build" has made.
func program(t *testing.T) string {
	t.Helper()
	p, err := filepath.Abs("../bin/warpket")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing: \"make build\" makes it", p)
		}
		t.Skipf("%s is missing: \"make build\" makes it", p)
	}
	return p
}

// start starts a product on a data folder, with more of the environment, and
// waits until it serves.
func start(t *testing.T, dir string, env ...string) *product {
	t.Helper()
	p := &product{dir: dir, cmd: exec.Command(program(t), "dev", "--data", dir, "--listen", "127.0.0.1:0", "--no-demo")}
	p.cmd.Env = append(append(os.Environ(), "WARPKET_ALLOW_REGISTRIES=127.0.0.0/8", "WARPKET_ALLOW_SOURCES=127.0.0.0/8", "WARPKET_ALLOW_CALLBACKS=127.0.0.0/8", "WARPKET_CALLBACK_HTTP=1"), env...) // where those of tests are
	var out bytes.Buffer
	p.cmd.Stderr, p.cmd.Stdout = &out, &out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.ended = make(chan struct{})
	var ending error
	go func() {
		defer close(p.ended)
		ending = p.cmd.Wait()
	}()
	file := filepath.Join(dir, "dev.json")
	deadline := time.After(3 * time.Minute) // the first start downloads Postgres
	for {
		b, err := os.ReadFile(file)
		if err == nil && json.Unmarshal(b, &p.dev) == nil && p.dev.PID == p.cmd.Process.Pid {
			return p
		}
		select {
		case <-p.ended:
			t.Fatalf("it ended before it served: %v\n%s", ending, out.String())
		case <-deadline:
			t.Fatalf("it does not serve:\n%s", out.String())
		case <-time.After(20 * time.Millisecond): // dev.json is how a script learns that it serves
		}
	}
}

// stop ends the product as Ctrl-C does.
func (p *product) stop(t *testing.T) {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	p.gone(t)
}

// gone waits until no process of the product is left.
func (p *product) gone(t *testing.T) {
	t.Helper()
	defer func() {
		if left := p.processes(t); len(left) > 0 {
			t.Errorf("these processes are left: %v", left)
		}
	}()
	until(t, time.Minute, "no process of the product is left", func() bool { return len(p.processes(t)) == 0 })
}

// processes are all that belong to the product: whose command line or working
// folder names its data folder.
func (p *product) processes(t *testing.T) map[int]string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	found := map[int]string{}
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscanf(e.Name(), "%d", &pid); err != nil || pid == os.Getpid() {
			continue
		}
		line, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		text := strings.ReplaceAll(string(line), "\x00", " ")
		environ, _ := os.ReadFile("/proc/" + e.Name() + "/environ")
		cwd, _ := os.Readlink("/proc/" + e.Name() + "/cwd")
		if len(line) > 0 && (strings.Contains(text, p.dir) || strings.HasPrefix(cwd, p.dir) || bytes.Contains(environ, []byte("WARPKET_NODE_DIR="+p.dir)) || len(p.dev.Token) > 0 && bytes.Contains(environ, []byte(p.dev.Token))) {
			found[pid] = text
		}
	}
	return found
}

// find gives the process whose command line holds all the words.
func (p *product) find(t *testing.T, words ...string) (found int) {
	t.Helper()
	until(t, time.Minute, "there is a process with "+strings.Join(words, ", "), func() bool { // it may just be starting again
		for pid, text := range p.processes(t) {
			if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) }) {
				found = pid
			}
		}
		return found != 0
	})
	return found
}

var shared struct {
	sync.Once
	*product
}

// theProduct is one product that the tests of this package share.
func theProduct(t *testing.T) *client {
	t.Helper()
	program(t)
	shared.Do(func() {
		dir, err := os.MkdirTemp("", "warpket-e2e-")
		if err != nil {
			t.Fatal(err)
		}
		shared.product = start(t, dir)
	})
	if shared.product == nil {
		t.Fatal("the product did not start, see the test before")
	}
	return shared.client(t)
}

func TestMain(m *testing.M) {
	code := m.Run()
	if p := shared.product; p != nil {
		_ = p.cmd.Process.Signal(syscall.SIGINT)
		select {
		case <-p.ended:
		case <-time.After(30 * time.Second):
			fmt.Fprintln(os.Stderr, "the product does not end")
			code = 1
		}
		if code == 0 {
			_ = os.RemoveAll(p.dir)
		} else {
			fmt.Fprintln(os.Stderr, "the product's data and logs are kept in", p.dir)
		}
	}
	os.Exit(code)
}

// client speaks to a product.
type client struct {
	api, token string
}

func (p *product) client(*testing.T) *client { return &client{p.dev.API, p.dev.Token} }

// answer is what a request was answered.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// as decodes the answer.
func as[T any](t *testing.T, a answer) (v T) {
	t.Helper()
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("%d %s is no JSON: %v", a.status, a.body, err)
	}
	return v
}

// send sends a request; body is a string as it is, or anything as JSON.
func (c *client) send(t *testing.T, method, path string, body any, header ...string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // what is held for ever is found out
	defer cancel()
	a, err := c.try(ctx, method, path, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (c *client) try(ctx context.Context, method, path string, body any, header ...string) (answer, error) {
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	default:
		j, err := json.Marshal(b)
		if err != nil {
			return answer{}, err
		}
		r = bytes.NewReader(j)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.api+path, r)
	if err != nil {
		return answer{}, err
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if r != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, b}, err
}

// ok sends a request that must succeed.
func (c *client) ok(t *testing.T, method, path string, body any, header ...string) answer {
	t.Helper()
	a := c.send(t, method, path, body, header...)
	if a.status >= 300 {
		t.Fatalf("%s %s: %d %s", method, path, a.status, a.body)
	}
	return a
}

type object = map[string]any

type problem struct {
	Status int
	Code   string
	Detail string
	Errors []struct{ Location, Message string }
}

type function struct {
	FunctionID      string
	FunctionVersion version
	TemplateFiles   []source
}

type source struct{ Filename, Language, Content, FileID string }

type version struct {
	ID      string
	Version int
	Files   []struct {
		ID, Key, Filename, Status string
		Size                      int64
	}
}

type execution struct {
	ID, Status, Target, ResultURL, TemporalURL string
	Version, Attempt                           int
	Result                                     json.RawMessage
	Error                                      *struct{ Code, Message, Traceback string }
	LogSize                                    int64
	Timings                                    *struct{ QueuedMs, RanMs, TotalMs float64 }
}

// pythonVersion is an SDK version that the plain Python template takes here.
func (c *client) pythonVersion(t *testing.T) string {
	t.Helper()
	return as[struct{ SDKVersions []string }](t, c.ok(t, "GET", "/v1/templates/Python", nil)).SDKVersions[0]
}

// python makes a plain Python function with the given handler.py.
func (c *client) python(t *testing.T, name, code string, settings object) string {
	t.Helper()
	body := object{"functionName": name, "templateLanguageTag": "Python", "sdkVersion": c.pythonVersion(t)}
	maps.Copy(body, settings)
	id := as[function](t, c.ok(t, "POST", "/v1/functions", body)).FunctionID
	c.ok(t, "POST", "/v1/functions/"+id+"/versions", object{"templateFiles": []object{{"filename": "handler.py", "content": code}}})
	return id
}

// execute runs a function and waits for its end.
func (c *client) execute(t *testing.T, function string, more object) execution {
	t.Helper()
	body := object{"functionId": function}
	maps.Copy(body, more)
	return as[execution](t, c.ok(t, "POST", "/v1/executions", body))
}

// project makes a project that lives until the test ends.
func (c *client) project(t *testing.T, name string) string {
	t.Helper()
	id := as[struct{ ID string }](t, c.ok(t, "POST", "/v1/projects", object{"name": unique(name)})).ID
	t.Cleanup(func() { c.sendLate("DELETE", "/v1/projects/"+id+"?force=true") })
	return id
}

// deployment deploys the version, or the draft, of a path until the test ends:
// others need the room.
func (c *client) deployment(t *testing.T, path string, more any) answer {
	t.Helper()
	a := c.ok(t, "POST", path+"/deployments", more, "Prefer", "wait=300")
	id := as[struct{ ID string }](t, a).ID
	t.Cleanup(func() { c.sendLate("POST", "/v1/deployments/"+id+"/detach") })
	return a
}

// final waits for the end of an execution.
func (c *client) final(t *testing.T, id string) execution {
	t.Helper()
	return as[execution](t, c.ok(t, "GET", "/v1/executions/"+id, nil, "Prefer", "wait=120"))
}

func unique(prefix string) string { return fmt.Sprintf("%s-%d", prefix, time.Now().UnixNano()) }

// sendLate sends a request after the test's own context has ended.
func (c *client) sendLate(method, path string) answer {
	a, err := c.try(context.Background(), method, path, nil)
	if err != nil {
		return answer{body: []byte("{}")}
	}
	return a
}
