package e2e

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
)

// event is one server-sent event.
type event struct{ id, name, data string }

// events follows a stream and gives its events as they come.
func (c *client) events(t *testing.T, path string, header ...string) <-chan event {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", c.api+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Accept", "text/event-stream")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req) //nolint:bodyclose // by the goroutine that reads it
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", path, resp.Status)
	}
	out := make(chan event)
	go func() {
		defer close(out)
		defer func() { _ = resp.Body.Close() }()
		var e event
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 4<<20)
		for lines.Scan() {
			field, value, _ := strings.Cut(lines.Text(), ": ")
			switch field {
			case "id":
				e.id = value
			case "event":
				e.name = value
			case "data":
				e.data = value
			case "":
				select {
				case out <- e:
				case <-t.Context().Done():
					return
				}
				e = event{}
			}
		}
	}()
	return out
}

// waits has a function wait, in which code stays until a test opens its gate. A
// test cannot put a file where a sandbox sees it, but it finds the process by a
// name and sends it a signal.
const waits = `
import ctypes, signal
def wait(event):
    if event.get("gate"):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        ctypes.CDLL(None).prctl(15, event["gate"].encode(), 0, 0, 0) # PR_SET_NAME
    print("one", flush=True)
    if event.get("gate"):
        signal.sigwait([signal.SIGUSR1])
`

const patient = waits + `
def handler(event, context):
    wait(event)
    print("two", flush=True)
    return "through"
`

func TestALogIsReadWhileItIsWrittenAndResumed(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	id := c.python(t, unique("patient"), patient, nil)
	gate := newGate()
	e := as[execution](t, c.ok(t, "POST", "/v1/executions", object{"functionId": id, "input": object{"gate": gate}, "sync": false}))
	log, status := c.events(t, "/v1/executions/"+e.ID+"/log"), c.events(t, "/v1/executions/"+e.ID+"/events")
	first := <-log
	if first.name != "log" || !strings.Contains(first.data, "one") || strings.Contains(first.data, "two") {
		t.Fatalf("the first event is %+v", first)
	}
	if plain := c.ok(t, "GET", "/v1/executions/"+e.ID+"/log", nil); string(plain.body) != "one\n" {
		t.Errorf("the plain log is %q while it runs", plain.body)
	}
	open(t, gate)
	rest := ""
	for ev := range log {
		rest += ev.name + " " + ev.data + ";"
	}
	if !strings.Contains(rest, "two") || strings.Contains(rest, "one") || !strings.HasSuffix(rest, `end {"status":"succeeded"};`) {
		t.Errorf("then came %s", rest)
	}
	var last event
	for ev := range status {
		last = ev
	}
	if !strings.Contains(last.data, `"status":"succeeded"`) {
		t.Errorf("the last event of the execution is %+v", last)
	}
	again := ""
	for ev := range c.events(t, "/v1/executions/"+e.ID+"/log", "Last-Event-ID", first.id) {
		again += ev.data
	}
	if !strings.Contains(again, "two") || strings.Contains(again, "one") {
		t.Errorf("resumed at %s: %s", first.id, again)
	}
}

func TestAnAsyncExecutionIsFollowedByPreferWait(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	id := c.python(t, unique("async"), patient, nil)
	gate := newGate()
	a := c.ok(t, "POST", "/v1/executions", object{"functionId": id, "input": object{"gate": gate}}, "Prefer", "wait=1")
	e := as[execution](t, a)
	if a.status != http.StatusAccepted || a.header.Get("Location") != "/v1/executions/"+e.ID || a.header.Get("Retry-After") == "" {
		t.Fatalf("answered %d %v", a.status, a.header)
	}
	open(t, gate)
	if e := c.final(t, e.ID); string(e.Result) != `"through"` {
		t.Errorf("ended %+v", e)
	}
}

func TestCancelWorksQueuedAndRunning(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	id := c.python(t, unique("cancelled"), patient, nil)
	c.deploy(t, id, 2, object{"slots": 1})
	gate := newGate()
	ask := func() execution {
		return as[execution](t, c.ok(t, "POST", "/v1/executions", object{"functionId": id, "input": object{"gate": gate}, "sync": false}))
	}
	running := ask()
	<-c.events(t, "/v1/executions/"+running.ID+"/log") // it runs
	queued := ask()
	for _, e := range []execution{queued, running} {
		c.ok(t, "POST", "/v1/executions/"+e.ID+"/cancel", nil)
		if e := c.final(t, e.ID); e.Status != "cancelled" || e.Error == nil || e.Error.Code != "cancelled" {
			t.Errorf("ended %+v", e)
		}
	}
	c.ok(t, "POST", "/v1/executions/"+running.ID+"/cancel", nil) // once more does nothing
	if e := c.execute(t, id, nil); e.Status != "succeeded" {
		t.Errorf("the slot does not serve after a cancel: %+v", e)
	}
}

func TestADeploymentScalesAndIsDetached(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	id := c.python(t, unique("scaled"), "def handler(event, context): return 1\n", object{"resources": object{"cpu": 100, "memory": 64 << 20}})
	type deployment struct {
		ID, Status, Message string
		Slots, Ready        int
		Placement           struct{ Slots []object }
	}
	d := as[deployment](t, c.deployment(t, "/v1/functions/"+id+"/versions/2", object{}))
	for _, n := range []int{3, 1, 0, 2} {
		if d = as[deployment](t, c.ok(t, "PATCH", "/v1/deployments/"+d.ID, object{"slots": n}, "Prefer", "wait=60")); d.Ready != n || len(d.Placement.Slots) != n {
			t.Fatalf("scaled to %d: %+v", n, d)
		}
	}
	d = as[deployment](t, c.ok(t, "POST", "/v1/deployments/"+d.ID+"/detach", nil, "Prefer", "wait=60"))
	if d.Status != "detached" || len(d.Placement.Slots) != 0 {
		t.Errorf("detached: %+v", d)
	}
	if a := c.send(t, "PATCH", "/v1/deployments/"+d.ID, object{"slots": 1}); a.status != http.StatusConflict {
		t.Errorf("scaling a detached one answers %d %s", a.status, a.body)
	}
	if a := c.ok(t, "DELETE", "/v1/deployments/"+d.ID, nil); a.status != http.StatusNoContent {
		t.Errorf("deleting it answers %d", a.status)
	}
}

func TestCodeThatDoesNotLoadFailsItsDeployment(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	id := c.python(t, unique("unloadable"), "import no_such_module\n", nil)
	d := c.deploy(t, id, 2, object{})
	if d.Status != "failed" || !strings.Contains(d.Message, "no_such_module") {
		t.Errorf("deployed %+v", d)
	}
}

func TestAnIdempotencyKeyMakesAPOSTTakeEffectOnce(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	name, key := unique("once"), unique("key")
	body := object{"functionName": name, "templateLanguageTag": "Python"}
	first := c.ok(t, "POST", "/v1/functions", body, "Idempotency-Key", key)
	again := c.ok(t, "POST", "/v1/functions", body, "Idempotency-Key", key)
	if string(first.body) != string(again.body) || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("repeated: %s, then %s", first.body, again.body)
	}
	body["functionName"] = unique("other")
	if a := c.send(t, "POST", "/v1/functions", body, "Idempotency-Key", key); a.status != http.StatusConflict {
		t.Errorf("another body with the same key answers %d %s", a.status, a.body)
	}
	id := as[function](t, first).FunctionID
	run := object{"functionId": id}
	e1 := as[execution](t, c.ok(t, "POST", "/v1/executions", run, "Idempotency-Key", key))
	e2 := as[execution](t, c.ok(t, "POST", "/v1/executions", run, "Idempotency-Key", key))
	if e1.ID != e2.ID || e1.Status != "succeeded" {
		t.Errorf("two executions for one key: %+v and %+v", e1, e2)
	}
}

func TestProjectsAreKeptApartAndRolesHold(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	project := c.project(t, "lab")
	token := func(role string) *client {
		a := c.ok(t, "POST", "/v1/tokens", object{"projectId": project, "role": role, "name": role})
		return &client{c.api, as[struct{ Token string }](t, a).Token}
	}
	viewer, member, admin := token("viewer"), token("member"), token("admin")
	mine := member.python(t, "mine", "def handler(event, context): return 1\n", nil)
	theirs := c.python(t, unique("theirs"), "def handler(event, context): return 1\n", nil)
	e := member.execute(t, mine, nil)
	tests := map[string]struct {
		who          *client
		method, path string
		body         any
		status       int
	}{
		"no token":                          {&client{c.api, ""}, "GET", "/v1/functions", nil, 401},
		"a wrong token":                     {&client{c.api, "wk_" + strings.Repeat("0", 32) + "_" + strings.Repeat("0", 64)}, "GET", "/v1/functions", nil, 401},
		"a viewer reads":                    {viewer, "GET", "/v1/functions/" + mine, nil, 200},
		"a viewer does not create":          {viewer, "POST", "/v1/functions", object{"functionName": "x1", "templateLanguageTag": "Python"}, 403},
		"a viewer does not execute":         {viewer, "POST", "/v1/executions", object{"functionId": mine}, 403},
		"a member does not make tokens":     {member, "POST", "/v1/tokens", object{"role": "member", "name": "x1"}, 403},
		"an admin makes tokens":             {admin, "POST", "/v1/tokens", object{"role": "member", "name": "x1"}, 200},
		"an admin makes none elsewhere":     {admin, "POST", "/v1/tokens", object{"role": "member", "name": "x1", "projectId": "default"}, 404},
		"an admin is no operator":           {admin, "POST", "/v1/projects", object{"name": "x1"}, 403},
		"another project's function":        {member, "GET", "/v1/functions/" + theirs, nil, 404},
		"executing another's function":      {member, "POST", "/v1/executions", object{"functionId": theirs}, 404},
		"deleting another's function":       {member, "DELETE", "/v1/functions/" + theirs, nil, 404},
		"another project's execution":       {c, "GET", "/v1/executions/" + e.ID, nil, 404},
		"another project's log":             {c, "GET", "/v1/executions/" + e.ID + "/log", nil, 404},
		"cancelling another's execution":    {c, "POST", "/v1/executions/" + e.ID + "/cancel", nil, 404},
		"the node channel's tokens":         {member, "POST", "/v1/nodes/tokens", nil, 403},
		"health needs no token":             {&client{c.api, ""}, "GET", "/healthz", nil, 200},
		"readiness needs no token":          {&client{c.api, ""}, "GET", "/readyz", nil, 200},
		"the description needs no token":    {&client{c.api, ""}, "GET", "/openapi.json", nil, 200},
		"the page of it needs no token":     {&client{c.api, ""}, "GET", "/docs", nil, 200},
		"nor does what the page is made of": {&client{c.api, ""}, "GET", "/docs/swagger-ui-bundle.js", nil, 200},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if a := tt.who.send(t, tt.method, tt.path, tt.body); a.status != tt.status {
				t.Errorf("answered %d %.300s", a.status, a.body)
			}
		})
	}
	if a := c.send(t, "GET", "/v1/functions/"+mine, nil, "X-Project-Id", project); a.status != 200 {
		t.Errorf("an operator that names the project is answered %d", a.status)
	}
}
