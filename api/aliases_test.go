package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
	"github.com/warpket/warpket/storage/postgres"
)

// another publishes another version of a function.
func (w *world) another(t *testing.T, function string) {
	t.Helper()
	status, _, body := w.send(t, "POST", "/v1/functions/"+function+"/versions", `{"templateFiles":[{"filename":"handler.py","content":"# `+rand32()+`"}]}`)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
}

func rand32() string { return warpket.Secret()[:32] }

// answers has executions end with what a handler makes of its event.
func (w *world) answers(t *testing.T, handler func(event json.RawMessage) (result string, failure *warpket.Failure)) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.run = func(e warpket.Execution) {
		ctx := context.Background()
		slot := warpket.Slot{ID: warpket.NewID(time.Now()), NodeID: warpket.NewID(time.Now()), Generation: 1}
		e, _, err := w.store.ClaimExecution(ctx, e.ID, slot, "node", warpket.NewID(time.Now()), time.Now())
		if err != nil {
			t.Error(err)
			return
		}
		result, failure := handler(json.RawMessage(e.Input.Inline))
		f := postgres.Finish{ID: e.ID, Attempt: e.Attempt, Status: warpket.Succeeded, Result: warpket.Payload{Inline: []byte(result), Size: int64(len(result))}}
		if failure != nil {
			f.Status, f.Result, f.Error = warpket.FailedWith(failure.Code, "", "").Status, warpket.Payload{}, failure
		}
		if _, err := w.store.FinishExecution(ctx, f, time.Now()); err != nil {
			t.Error(err)
		}
		e.Status, e.Result, e.Error = f.Status, f.Result, f.Error
		w.hub.Finished(e)
	}
}

func TestAnAliasMovesTrafficAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.function(t, "bell")
	w.another(t, f)
	status, header, body := w.send(t, "POST", "/v1/aliases", `{"name":"prod","functionId":"`+f+`","version":1,"description":"what users run"}`)
	a := decode[api.Alias](t, body)
	if status != http.StatusOK || a.Version == nil || *a.Version != 1 || len(a.Versions) != 1 || a.FunctionID != f {
		t.Fatalf("created: %d %s", status, body)
	}
	execute := func() api.Execution {
		t.Helper()
		status, _, body := w.send(t, "POST", "/v1/executions", `{"alias":"prod","sync":false}`)
		if status != http.StatusAccepted {
			t.Fatalf("executed: %d %s", status, body)
		}
		return decode[api.Execution](t, body)
	}
	if e := execute(); e.Version != 1 || e.Alias != "prod" || e.FunctionID != f || e.Origin != nil {
		t.Errorf("it runs %+v", e)
	}
	if status, _, body = w.send(t, "PATCH", "/v1/aliases/prod", `{"version":2}`, "If-Match", header.Get("ETag")); status != http.StatusOK {
		t.Fatalf("changed: %d %s", status, body)
	}
	if a := decode[api.Alias](t, body); a.Description != "what users run" || *a.Version != 2 {
		t.Errorf("changed to %s", body)
	}
	if e := execute(); e.Version != 2 {
		t.Errorf("after the change it runs version %d", e.Version)
	}
	if status, _, body := w.send(t, "PATCH", "/v1/aliases/prod", `{"version":1}`, "If-Match", header.Get("ETag")); status != http.StatusPreconditionFailed {
		t.Errorf("changing what has changed: %d %s", status, body)
	}
	_, _, body = w.send(t, "GET", "/v1/executions?alias=prod", "")
	if l := decode[api.List[api.Execution]](t, body); len(l.Items) != 2 || l.Items[0].Alias != "prod" {
		t.Errorf("listed by the alias: %s", body)
	}
	if status, _, body := w.send(t, "DELETE", "/v1/aliases/prod", ""); status != http.StatusNoContent {
		t.Errorf("deleted: %d %s", status, body)
	}
	if status, _, body := w.send(t, "POST", "/v1/executions", `{"alias":"prod","sync":false}`); status != http.StatusNotFound {
		t.Errorf("executing what is deleted: %d %s", status, body)
	}
}

func TestAnAliasSharesExecutionsByWeight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.function(t, "bell")
	w.another(t, f)
	w.another(t, f)
	status, _, body := w.send(t, "POST", "/v1/aliases", `{"name":"canary","functionId":"`+f+`","versions":[{"version":1,"weight":3},{"version":3,"weight":1},{"version":2,"weight":0}]}`)
	if a := decode[api.Alias](t, body); status != http.StatusOK || a.Version != nil || len(a.Versions) != 3 {
		t.Fatalf("created: %d %s", status, body)
	}
	draw := 0
	w.random = func(n int) int { draw++; return (draw - 1) % n }
	var ran []int
	for range 4 {
		_, _, body := w.send(t, "POST", "/v1/executions", `{"alias":"canary","sync":false}`)
		ran = append(ran, decode[api.Execution](t, body).Version)
	}
	if want := []int{1, 1, 1, 3}; !slices.Equal(ran, want) {
		t.Errorf("these versions ran: %v, want %v", ran, want)
	}
}

func TestAnAliasThatCannotBeIsRefusedWithWhatWould(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, other := w.function(t, "bell"), w.function(t, "ghz")
	w.another(t, f)
	w.send(t, "POST", "/v1/aliases", `{"name":"prod","functionId":"`+f+`","version":2}`)
	w.send(t, "POST", "/v1/webhooks", `{"alias":"prod"}`)
	unknown := string(warpket.NewID(time.Now()))
	eleven := strings.Repeat(`{"version":1,"weight":1},`, 10) + `{"version":2,"weight":1}`
	tests := map[string]struct {
		method, path, body string
		want               int
		says               string
	}{
		"a name that is taken":              {"POST", "/v1/aliases", `{"name":"prod","functionId":"` + f + `","version":1}`, 409, "PATCH"},
		"a name that cannot be":             {"POST", "/v1/aliases", `{"name":"Prod!","functionId":"` + f + `","version":1}`, 422, "a-z"},
		"no version":                        {"POST", "/v1/aliases", `{"name":"a1","functionId":"` + f + `"}`, 422, "1 to 10 versions"},
		"both ways":                         {"POST", "/v1/aliases", `{"name":"a1","functionId":"` + f + `","version":1,"versions":[{"version":1,"weight":1}]}`, 422, "not both"},
		"the draft":                         {"POST", "/v1/aliases", `{"name":"a1","functionId":"` + f + `","versions":[{"version":0,"weight":1}]}`, 422, "versions[0].version"},
		"a version that is not":             {"POST", "/v1/aliases", `{"name":"a1","functionId":"` + f + `","version":7}`, 422, "no version 7"},
		"weights of nothing":                {"POST", "/v1/aliases", `{"name":"a1","functionId":"` + f + `","versions":[{"version":1,"weight":0}]}`, 422, "weights are 0"},
		"too many versions":                 {"POST", "/v1/aliases", `{"name":"a1","functionId":"` + f + `","versions":[` + eleven + `]}`, 422, "10"},
		"a function that is not":            {"POST", "/v1/aliases", `{"name":"a1","functionId":"` + unknown + `","version":1}`, 404, "function"},
		"a function that cannot be":         {"POST", "/v1/aliases", `{"name":"a1","functionId":"x","version":1}`, 404, "function"},
		"a NUL":                             {"POST", "/v1/aliases", `{"name":"a1","functionId":"` + f + `","version":1,"description":"\u0000"}`, 422, "NUL"},
		"another function without versions": {"PATCH", "/v1/aliases/prod", `{"functionId":"` + other + `"}`, 422, "say which"},
		"another function's versions":       {"PATCH", "/v1/aliases/prod", `{"functionId":"` + other + `","version":2}`, 422, "no version 2"},
		"changing what is not":              {"PATCH", "/v1/aliases/other", `{"version":1}`, 404, "alias"},
		"getting what is not":               {"GET", "/v1/aliases/other", ``, 404, "alias"},
		"deleting what is not":              {"DELETE", "/v1/aliases/other", ``, 404, "alias"},
		"deleting what a webhook executes":  {"DELETE", "/v1/aliases/prod", ``, 409, "/v1/webhooks?alias=prod"},
		"executing a version of it":         {"POST", "/v1/executions", `{"alias":"prod","version":1}`, 422, "leave functionId, version and draft out"},
		"executing a function by it":        {"POST", "/v1/executions", `{"alias":"prod","functionId":"` + f + `"}`, 422, "leave functionId, version and draft out"},
		"executing nothing":                 {"POST", "/v1/executions", `{}`, 422, "functionId is missing"},
		"executing what is not":             {"POST", "/v1/executions", `{"alias":"other"}`, 404, "alias"},
		"executing what cannot be":          {"POST", "/v1/executions", `{"alias":"\u0000"}`, 422, "NUL"},
		"getting what cannot be":            {"GET", "/v1/aliases/%ff", ``, 422, "UTF-8"},
		"listing what cannot be":            {"GET", "/v1/executions?alias=%00", ``, 422, "NUL"},
		"a webhook for what cannot be":      {"POST", "/v1/webhooks", `{"alias":"\u0000"}`, 422, "NUL"},
		"serving by what cannot be":         {"GET", "/gateway/" + f + "@%00/", ``, 422, "NUL"},
		"listing a version of anything":     {"GET", "/v1/aliases?version=1", ``, 422, "functionId"},
	}
	for name, test := range tests {
		status, _, body := w.send(t, test.method, test.path, test.body)
		if status != test.want || !strings.Contains(body, test.says) {
			t.Errorf("%s: %d %s, want %d and %q", name, status, body, test.want, test.says)
		}
	}
	_, _, body := w.send(t, "GET", fmt.Sprintf("/v1/aliases?functionId=%s&version=2", f), "")
	if l := decode[api.List[api.Alias]](t, body); len(l.Items) != 1 || l.Items[0].Name != "prod" {
		t.Errorf("what stays is %s", body)
	}
}

func TestAViewerReadsAliasesAndChangesNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.function(t, "bell")
	w.send(t, "POST", "/v1/aliases", `{"name":"prod","functionId":"`+f+`","version":1}`)
	viewer := "Bearer " + w.tokenOf(t, "viewer")
	for request, want := range map[[3]string]int{
		{"GET", "/v1/aliases", ""}:      200,
		{"GET", "/v1/aliases/prod", ""}: 200,
		{"POST", "/v1/aliases", `{"name":"other","functionId":"` + f + `","version":1}`}: 403,
		{"PATCH", "/v1/aliases/prod", `{"version":1}`}:                                   403,
		{"DELETE", "/v1/aliases/prod", ""}:                                               403,
		{"GET", "/v1/webhooks", ""}:                                                      403,
		{"POST", "/v1/webhooks", `{"alias":"prod"}`}:                                     403,
	} {
		if status, _, body := w.send(t, request[0], request[1], request[2], "Authorization", viewer); status != want {
			t.Errorf("%v: %d %s, want %d", request, status, body, want)
		}
	}
}
