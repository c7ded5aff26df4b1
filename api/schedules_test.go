package api_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
	"github.com/warpket/warpket/storage/postgres"
)

// addFunction makes a function with one version behind the API's back.
func (w *world) addFunction(t *testing.T) warpket.Function {
	t.Helper()
	ctx, now := t.Context(), time.Now()
	p, err := w.store.Project(ctx, warpket.DefaultProject)
	if err != nil {
		t.Fatal(err)
	}
	runtime, err := w.store.EnsureRuntime(ctx, warpket.Runtime{ID: warpket.NewID(now), RuntimeKey: warpket.RuntimeKey{SDK: "qiskit", SDKVersion: "1.0.0", Python: "3.11", Platform: "linux/amd64"}, TemplateTag: "Qiskit", CreatedDate: now})
	if err != nil {
		t.Fatal(err)
	}
	f := warpket.Function{
		ID: warpket.NewID(now), ProjectID: p.ID, Name: "bell", TemplateTag: "Qiskit", SDK: "qiskit", SDKVersion: "1.0.0", CreatedDate: now,
		Settings: warpket.Settings{Entry: "handler.handler", Lane: warpket.Durable, Reuse: warpket.ReuseProcess, Network: warpket.NoNetwork, Resources: warpket.DefaultResources},
	}
	v := warpket.Version{
		ID: warpket.NewID(now), ProjectID: p.ID, FunctionID: f.ID, CreatedDate: now,
		Snapshot: warpket.Snapshot{ID: warpket.NewID(now), RuntimeID: runtime.ID, Entry: "handler.handler", Digest: "x", CreatedDate: now},
	}
	if err := w.store.CreateFunction(ctx, f, v); err != nil {
		t.Fatal(err)
	}
	return f
}

// ok sends a request that is to succeed.
func (w *world) ok(t *testing.T, want int, method, path, body string, header ...string) (http.Header, string) {
	t.Helper()
	status, h, answer := w.send(t, method, path, body, header...)
	if status != want {
		t.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
	return h, answer
}

func TestTheLifeOfASchedule(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.addFunction(t)
	_, body := w.ok(t, 200, "POST", "/v1/schedules", `{"functionId": "`+string(f.ID)+`", "name": "nightly", "pattern": "0 3 * * SUN", "timeZone": "Europe/Berlin", "count": 3, "input": {"n": 1}}`)
	s := decode[api.Schedule](t, body)
	if s.Status != "running" || s.NextExecutionTime == nil || *s.Count != 3 || s.FunctionName != "bell" || s.Version != 0 || string(s.Input) != `{"n":1}` || s.TemporalURL == "" {
		t.Fatalf("created %s", body)
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	if at := s.NextExecutionTime.In(berlin); at.Weekday() != time.Sunday || at.Hour() != 3 {
		t.Errorf("it fires at %s", at)
	}
	h, _ := w.ok(t, 200, "GET", "/v1/schedules/"+s.ID, "")
	old := h.Get("ETag")
	_, body = w.ok(t, 200, "PATCH", "/v1/schedules/"+s.ID, `{"status": "paused", "count": 0, "name": "weekly"}`, "If-Match", old)
	if s = decode[api.Schedule](t, body); s.Status != "paused" || s.NextExecutionTime != nil || s.Count != nil || s.Name != "weekly" {
		t.Errorf("paused: %s", body)
	}
	if status, _, body := w.send(t, "PATCH", "/v1/schedules/"+s.ID, `{"status": "running"}`, "If-Match", old); status != 412 {
		t.Errorf("as it was: %d %s", status, body)
	}
	first := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	_, body = w.ok(t, 200, "PATCH", "/v1/schedules/"+s.ID, `{"status": "running", "firstExecutionTime": "`+first.Format(time.RFC3339)+`", "version": 1}`)
	if s = decode[api.Schedule](t, body); s.Status != "running" || !s.NextExecutionTime.Equal(first) || s.Version != 1 {
		t.Errorf("resumed: %s", body)
	}
	for query, want := range map[string]int{
		"": 1, "?functionId=" + string(f.ID): 1, "?functionId=nothing": 0, "?status=running": 1, "?status=done": 0, "?name=weekly": 1, "?name=has:eek": 1, "?name=neq:weekly": 0, "?name=in:a,weekly": 1,
	} {
		_, body := w.ok(t, 200, "GET", "/v1/schedules"+query, "")
		if got := decode[api.List[api.Schedule]](t, body); len(got.Items) != want {
			t.Errorf("%q lists %d", query, len(got.Items))
		}
	}
	_, body = w.ok(t, 200, "PATCH", "/v1/schedules/"+s.ID, `{"status": "cancelled"}`)
	if s = decode[api.Schedule](t, body); s.Status != "cancelled" || s.NextExecutionTime != nil {
		t.Errorf("cancelled: %s", body)
	}
	if status, _, body := w.send(t, "PATCH", "/v1/schedules/"+s.ID, `{"status": "running"}`); status != 409 {
		t.Errorf("what is cancelled resumes: %d %s", status, body)
	}
	w.ok(t, 204, "DELETE", "/v1/schedules/"+s.ID, "")
	if status, _, _ := w.send(t, "GET", "/v1/schedules/"+s.ID, ""); status != 404 {
		t.Errorf("what is deleted answers %d", status)
	}
}

func TestSchedulesThatCannotBeAreRefusedWithTheirField(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.addFunction(t)
	tests := map[string]struct {
		fields string
		status int
		says   string
	}{
		"no time":            {``, 422, "pattern"},
		"no pattern":         {`, "pattern": "often"`, 422, "five fields"},
		"each second":        {`, "pattern": "* * * * * *"`, 422, "five fields"},
		"no such day":        {`, "pattern": "0 0 31 2 *"`, 422, "never comes"},
		"no such zone":       {`, "pattern": "@daily", "timeZone": "Mars/Olympus"`, 422, "timeZone"},
		"the server's zone":  {`, "pattern": "@daily", "timeZone": "Local"`, 422, "timeZone"},
		"in the past":        {`, "firstExecutionTime": "2020-01-01T00:00:00Z"`, 422, "firstExecutionTime"},
		"once, twice":        {`, "firstExecutionTime": "2040-01-01T00:00:00Z", "count": 2`, 422, "count"},
		"no count":           {`, "pattern": "@daily", "count": 0`, 422, "count"},
		"no such version":    {`, "pattern": "@daily", "version": 9`, 404, "version"},
		"too large an input": {`, "pattern": "@daily", "input": "` + strings.Repeat("x", 70_000) + `"`, 413, "input"},
		"a NUL":              {`, "pattern": "@daily", "name": "\u0000"`, 422, "name"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, _, body := w.send(t, "POST", "/v1/schedules", `{"functionId": "`+string(f.ID)+`"`+tt.fields+`}`)
			if status != tt.status || !strings.Contains(body, tt.says) {
				t.Errorf("%d %s", status, body)
			}
		})
	}
	if status, _, body := w.send(t, "POST", "/v1/schedules", `{"functionId": "`+string(warpket.NewID(time.Now()))+`", "pattern": "@daily"}`); status != 404 {
		t.Errorf("no such function: %d %s", status, body)
	}
}

// finish has executions end at once with a status.
func (w *world) finish(t *testing.T, status warpket.Status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.run = func(e warpket.Execution) {
		ctx := context.WithoutCancel(t.Context())
		_, err := w.store.FinishExecution(ctx, postgres.Finish{ID: e.ID, Lane: e.Lane, Status: status, Result: warpket.Payload{Inline: []byte(`1`), Size: 1}}, time.Now())
		if err == nil {
			e, err = w.store.ExecutionByID(ctx, e.ID)
		}
		if err != nil {
			t.Error(err)
			return
		}
		w.hub.Finished(e)
	}
}

func TestAnExecutionIsRetriedAndDeletedWhenItIsFinal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.addFunction(t)
	_, body := w.ok(t, 202, "POST", "/v1/executions", `{"functionId": "`+string(f.ID)+`", "input": {"n": 1}, "sync": false, "seed": 5, "tags": ["a"], "description": "first"}`)
	first := decode[api.Execution](t, body)
	for _, try := range [][2]string{{"POST", "/retry"}, {"DELETE", ""}} {
		if status, _, body := w.send(t, try[0], "/v1/executions/"+first.ID+try[1], ""); status != 409 || !strings.Contains(body, "cancel it") {
			t.Errorf("%v of what is not final: %d %s", try, status, body)
		}
	}
	w.ok(t, 200, "POST", "/v1/executions/"+first.ID+"/cancel", "")
	w.finish(t, warpket.Succeeded)
	_, body = w.ok(t, 200, "POST", "/v1/executions/"+first.ID+"/retry", "")
	again := decode[api.Execution](t, body)
	if again.ID == first.ID || again.RetryOf != first.ID || again.Seed != 5 || string(again.Input) != `{"n":1}` || again.Description != "first" || again.Status != "succeeded" {
		t.Errorf("again: %s", body)
	}
	_, body = w.ok(t, 200, "GET", "/v1/executions/"+again.ID+"/input", "")
	if body != `{"n": 1}` {
		t.Errorf("its input is %s", body)
	}
	w.ok(t, 204, "DELETE", "/v1/executions/"+first.ID, "")
	if status, _, _ := w.send(t, "GET", "/v1/executions/"+first.ID, ""); status != 404 {
		t.Errorf("what is deleted answers %d", status)
	}
	if _, err := w.store.DeleteFunction(t.Context(), f.ProjectID, f.ID, true); err != nil {
		t.Fatal(err)
	}
	if status, _, body := w.send(t, "POST", "/v1/executions/"+again.ID+"/retry", ""); status != 409 || !strings.Contains(body, "deleted") {
		t.Errorf("without its function: %d %s", status, body)
	}
}

func TestALargeInputIsToBeHadByItsURL(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.addFunction(t)
	large := `"` + strings.Repeat("x", 100_000) + `"`
	_, body := w.ok(t, 202, "POST", "/v1/executions", `{"functionId": "`+string(f.ID)+`", "sync": false, "input": `+large+`}`)
	e := decode[api.Execution](t, body)
	if _, got := w.ok(t, 200, "GET", e.InputURL, ""); got != large {
		t.Errorf("it has %d bytes", len(got))
	}
}

func TestExecutionsAreListedByWhatTheyAre(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.addFunction(t)
	for _, more := range []string{`"lane": "express", "description": "nightly: a"`, `"tags": ["b", "c"], "description": "b"`} {
		w.ok(t, 202, "POST", "/v1/executions", `{"functionId": "`+string(f.ID)+`", "sync": false, `+more+`}`)
	}
	for query, want := range map[string]int{
		"": 2, "lane=express": 1, "target=gpu": 0, "tags=b": 1, "tags=b,c": 1, "tags=b,d": 0, "description=b": 1, "description=nightly:%20a": 1, "description=has:night": 1, "description=neq:b": 1,
		"description=in:b,c": 1, "createdDate=gt:2026-01-01T00:00:00Z": 2, "createdDate=lt:2026-01-01T00:00:00Z": 0, "retryOf=" + string(f.ID): 0, "retryOf=nothing": 0, "status=queued": 2,
		"version=1": 2, "functionId=" + string(f.ID) + "&version=2": 0, "version=gte:1": 2, "version=neq:1": 0, "version=in:1,2": 2, "version=lt:1": 0, "version=0": 0,
		"status=in:queued,running": 2, "status=nin:queued,running": 0, "status=neq:succeeded": 2, "status=neq:queued": 0, "status=in:queued,succeeded&lane=express": 1, "status=nin:queued,running,succeeded,failed,cancelled,timed_out,lost": 0,
		"functionId=eq:" + string(f.ID): 2, "functionId=in:" + string(f.ID) + "," + string(warpket.NewID(time.Now())): 2, "functionId=in:nothing," + strings.ToUpper(string(f.ID)): 2, "functionId=in:a,b": 0, "functionId=nothing": 0,
	} {
		_, body := w.ok(t, 200, "GET", "/v1/executions?"+query, "")
		if got := decode[api.List[api.Execution]](t, body); len(got.Items) != want {
			t.Errorf("%q lists %d", query, len(got.Items))
		}
	}
	for _, query := range []string{"description=gt:b", "createdDate=has:2026", "createdDate=yesterday", "createdDate=gt:", "description=has:%00", "tags=%00", "status=done", "status=in:queued,", "status=gt:queued", "version=first", "version=-1", "version=gt:", "functionId=neq:" + string(f.ID)} {
		if status, _, body := w.send(t, "GET", "/v1/executions?"+query, ""); status != 422 {
			t.Errorf("%q: %d %s", query, status, body)
		}
	}
}

func TestACallbackIsCheckedWhenItIsAskedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.addFunction(t)
	w.ok(t, 200, "POST", "/v1/secrets", `{"name": "KEY", "value": "canary"}`)
	for name, tt := range map[string]struct {
		fields string
		status int
	}{
		"signed":           {`"callbackUrl": "https://example.com/done", "callbackSecret": "KEY"`, 202},
		"unsigned":         {`"callbackUrl": "https://example.com/done"`, 202},
		"no such secret":   {`"callbackUrl": "https://example.com/done", "callbackSecret": "NONE"`, 422},
		"a secret alone":   {`"callbackSecret": "KEY"`, 422},
		"http":             {`"callbackUrl": "http://example.com/done"`, 422},
		"a password in it": {`"callbackUrl": "https://a:b@example.com/"`, 422},
	} {
		status, _, body := w.send(t, "POST", "/v1/executions", `{"functionId": "`+string(f.ID)+`", "sync": false, `+tt.fields+`}`)
		if status != tt.status || strings.Contains(body, "canary") {
			t.Errorf("%s: %d %s", name, status, body)
		}
		if status == 202 {
			if c := decode[api.Execution](t, body).Callback; c == nil || c.URL != "https://example.com/done" || c.Status != "pending" {
				t.Errorf("%s: %s", name, body)
			}
		}
	}
}

func TestAReaderOfEventsWhoConnectsAnewGetsWhatHasChangedSince(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.addFunction(t)
	_, body := w.ok(t, 202, "POST", "/v1/executions", `{"functionId": "`+string(f.ID)+`", "sync": false}`)
	e := decode[api.Execution](t, body)
	w.ok(t, 200, "POST", "/v1/executions/"+e.ID+"/cancel", "")
	events := func(last string) (ids []string) {
		_, body := w.ok(t, 200, "GET", "/v1/executions/"+e.ID+"/events", "", "Last-Event-ID", last)
		lines := bufio.NewScanner(strings.NewReader(body))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
				ids = append(ids, id)
			}
		}
		return ids
	}
	if got := events("0-queued"); len(got) != 1 || got[0] != "0-cancelled" {
		t.Errorf("after queued came %v", got)
	}
	if got := events("0-cancelled"); len(got) != 0 {
		t.Errorf("after the last came %v", got)
	}
}

func TestAScheduleMayNameAnAliasOrTheDraft(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.addFunction(t)
	id := string(f.ID)
	w.ok(t, 200, "POST", "/v1/aliases", `{"name":"prod","functionId":"`+id+`","version":1}`)
	_, body := w.ok(t, 200, "POST", "/v1/schedules", `{"alias":"prod","pattern":"@daily"}`)
	s := decode[api.Schedule](t, body)
	if s.Alias != "prod" || s.FunctionID != id || s.FunctionName != "bell" || s.Version != 0 {
		t.Fatalf("created %s", body)
	}
	path := "/v1/schedules/" + s.ID
	for name, bad := range map[string]struct {
		status             int
		method, path, body string
	}{
		"neither":                  {422, "POST", "/v1/schedules", `{"pattern":"@daily"}`},
		"both":                     {422, "POST", "/v1/schedules", `{"functionId":"` + id + `","alias":"prod","pattern":"@daily"}`},
		"an alias with a version":  {422, "POST", "/v1/schedules", `{"alias":"prod","version":1,"pattern":"@daily"}`},
		"an alias with the draft":  {422, "PATCH", path, `{"alias":"prod","draft":true}`},
		"the draft with a version": {422, "POST", "/v1/schedules", `{"functionId":"` + id + `","draft":true,"version":1,"pattern":"@daily"}`},
		"no such alias":            {404, "POST", "/v1/schedules", `{"alias":"none","pattern":"@daily"}`},
		"the alias of a schedule":  {409, "DELETE", "/v1/aliases/prod", ""},
	} {
		if status, _, answer := w.send(t, bad.method, bad.path, bad.body); status != bad.status {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
	_, body = w.ok(t, 200, "GET", "/v1/schedules?alias=prod", "")
	if l := decode[api.List[api.Schedule]](t, body).Items; len(l) != 1 || l[0].ID != s.ID {
		t.Errorf("listed %s", body)
	}
	_, body = w.ok(t, 200, "PATCH", path, `{"draft":true}`)
	if s = decode[api.Schedule](t, body); s.Alias != "" || !s.Draft || s.FunctionID != id {
		t.Errorf("for the draft it is %s", body)
	}
	w.ok(t, 204, "DELETE", "/v1/aliases/prod", "")
	_, body = w.ok(t, 200, "PATCH", path, `{"version":1}`)
	if s = decode[api.Schedule](t, body); s.Draft || s.Version != 1 {
		t.Errorf("for a version it is %s", body)
	}
	_, body = w.ok(t, 200, "PATCH", path, `{"version":0}`)
	if s = decode[api.Schedule](t, body); s.Version != 0 {
		t.Errorf("for the newest it is %s", body)
	}
}
