package api_test

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
)

// files are the templateFiles of a request, from names and contents.
func files(t *testing.T, pairs ...string) string {
	t.Helper()
	var list []map[string]string
	for i := 0; i+1 < len(pairs); i += 2 {
		list = append(list, map[string]string{"filename": pairs[i], "content": pairs[i+1]})
	}
	b, err := json.Marshal(map[string]any{"templateFiles": list})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// ask sends a request that has to be answered with a status.
func ask[T any](t *testing.T, w *world, want int, method, path, body string, header ...string) (T, http.Header) {
	t.Helper()
	status, head, answer := w.send(t, method, path, body, header...)
	if status != want {
		t.Fatalf("%s %s: %d %s, want %d", method, path, status, answer, want)
	}
	if want == http.StatusNoContent {
		var none T
		return none, head
	}
	return decode[T](t, answer), head
}

const main = "def handler(event, context):\n    return 1\n"

func TestADraftIsEditedExecutedAndPublished(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := "/v1/functions/" + w.function(t, "bell")
	d, head := ask[api.Draft](t, w, 200, "GET", path+"/draft", "")
	if d.Changed || d.NewestVersion != 1 || len(d.Sources) == 0 {
		t.Errorf("of a new function it is %+v", d)
	}
	stale := head.Get("ETag")
	taken := d.Sources[0].FileID

	body := `{"templateFiles":[{"filename":"kept.py","fileId":"` + taken + `"},{"filename":"handler.py","content":"def handler(): pass"}]}`
	d, head = ask[api.Draft](t, w, 200, "PUT", path+"/draft", body, "If-Match", stale)
	if !d.Changed || len(d.Sources) != 2 || d.Sources[0].Filename != "kept.py" || d.Sources[0].Content == "" || head.Get("ETag") == stale {
		t.Errorf("set, it is %+v with %s", d, head.Get("ETag"))
	}
	// A file of a draft that was never published can be taken over, too.
	body = `{"templateFiles":[{"filename":"handler.py","fileId":"` + d.Sources[1].FileID + `"}]}`
	problem, _ := ask[api.Problem](t, w, 412, "PUT", path+"/draft", body, "If-Match", stale)
	if problem.Code != "stale" {
		t.Errorf("the code is %s", problem.Code)
	}
	d, _ = ask[api.Draft](t, w, 200, "PUT", path+"/draft", body, "If-Match", head.Get("ETag"))
	if len(d.Sources) != 1 || d.Sources[0].Content != "def handler(): pass" {
		t.Errorf("taken over, it is %+v", d)
	}

	e, _ := ask[api.Execution](t, w, 202, "POST", "/v1/executions", `{"functionId":"`+d.FunctionID+`","draft":true,"sync":false}`)
	if e.Version != 0 {
		t.Errorf("the execution runs version %d", e.Version)
	}
	if stored, err := w.store.ExecutionByID(t.Context(), warpket.ID(e.ID)); err != nil || string(stored.RuntimeID) != d.RuntimeID {
		t.Errorf("it is %+v (%v)", stored, err)
	} else if n, err := w.store.Snapshot(t.Context(), stored.SnapshotID); err != nil || n.Digest != d.Digest {
		t.Errorf("it runs %+v (%v)", n, err)
	}
	ask[api.Problem](t, w, 422, "POST", "/v1/executions", `{"functionId":"`+d.FunctionID+`","draft":true,"version":1}`)
	if d, _ = ask[api.Draft](t, w, 200, "GET", path+"/draft", ""); d.Executions != 1 {
		t.Errorf("%d executions are counted", d.Executions)
	}

	v, _ := ask[api.FunctionVersion](t, w, 200, "POST", path+"/draft/publish", `{"description":"less"}`)
	if v.Version != 2 || v.Description != "less" || v.Digest != d.Digest {
		t.Errorf("published %+v", v)
	}
	if problem, _ = ask[api.Problem](t, w, 409, "POST", path+"/draft/publish", `{"onlyIfChanged":true}`); !strings.Contains(problem.Detail, "since version 2") {
		t.Errorf("refused with %q", problem.Detail)
	}
	ask[api.Problem](t, w, 412, "POST", path+"/draft/publish", "", "If-Match", stale)
	if v, _ = ask[api.FunctionVersion](t, w, 200, "POST", path+"/draft/publish", ""); v.Version != 3 {
		t.Errorf("published %+v", v)
	}
	details, _ := ask[api.FunctionDetails](t, w, 200, "GET", path, "")
	if details.Version != 3 || details.Executions != 1 {
		t.Errorf("the function is %+v", details)
	}
}

func TestADraftIsDeployedAsVersion0(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.function(t, "bell")
	ask[api.Draft](t, w, 200, "PUT", "/v1/functions/"+id+"/draft", files(t, "handler.py", main))
	d, head := ask[api.Deployment](t, w, 202, "POST", "/v1/functions/"+id+"/draft/deployments", `{"slots":2}`)
	if d.Version != 0 || d.Slots != 2 || head.Get("Location") != "/v1/deployments/"+d.ID || len(w.deployments) != 1 {
		t.Errorf("deployed %+v", d)
	}
	if draft, _ := ask[api.Draft](t, w, 200, "GET", "/v1/functions/"+id+"/draft", ""); !draft.InDeployed {
		t.Error("it is not deployed")
	}
	v, _ := ask[api.Deployment](t, w, 202, "POST", "/v1/functions/"+id+"/versions/1/deployments", "")
	for query, want := range map[string]string{"draft=true": d.ID, "version=1": v.ID} {
		if l, _ := ask[api.List[api.Deployment]](t, w, 200, "GET", "/v1/deployments?functionId="+id+"&"+query, ""); len(l.Items) != 1 || l.Items[0].ID != want {
			t.Errorf("%s lists %+v", query, l)
		}
	}
}

func TestADraftThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := "/v1/functions/" + w.function(t, "bell") + "/draft"
	for name, body := range map[string]string{
		"no files":              `{"templateFiles":[]}`,
		"nothing":               `{}`,
		"a path that leaves":    files(t, "../x.py", "x"),
		"a file of nobody":      `{"templateFiles":[{"filename":"x.py","fileId":"0192f000-0000-7000-8000-000000000001"}]}`,
		"an image":              `{"image":"registry.example/x:1"}`,
		"what is not an object": `[]`,
	} {
		if status, _, answer := w.send(t, "PUT", path, body); status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
	for _, p := range []string{"/v1/functions/0192f000-0000-7000-8000-000000000001/draft", "/v1/functions/x/draft"} {
		ask[api.Problem](t, w, 404, "GET", p, "")
		ask[api.Problem](t, w, 404, "PUT", p, files(t, "handler.py", main))
	}
	if d, _ := ask[api.Draft](t, w, 200, "GET", path, ""); d.Changed {
		t.Errorf("it has changed: %+v", d)
	}
}

func TestPutSetsAllThatPatchLeaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := "/v1/functions/" + w.function(t, "bell")
	changed, head := ask[api.Function](t, w, 200, "PATCH", path, `{"label":"Bell, zwei Qubits","description":"two","retries":3,"lane":"express","entry":"handler.other","resources":{"memory":134217728,"timeout":5}}`)
	if changed.Label != "Bell, zwei Qubits" || changed.Retries != 3 || changed.Resources.Timeout != 5 || changed.Resources.CPU != 1000 {
		t.Errorf("changed, it is %+v", changed)
	}
	seen := head.Get("ETag")
	if _, head := ask[api.FunctionDetails](t, w, 200, "GET", path, ""); head.Get("ETag") != seen {
		t.Errorf("GET answers %s, PATCH %s", head.Get("ETag"), seen)
	}
	for _, match := range []string{"", "*", `"x", `} {
		if match != "*" {
			match += seen
		}
		set, head := ask[api.Function](t, w, 200, "PUT", path, `{"functionName":"bell-2","resources":{"cpu":500}}`, "If-Match", match)
		if set.FunctionName != "bell-2" || set.Label != "" || set.Description != "" || set.Retries != 0 || set.Lane != "durable" || set.Entry != "handler.handler" || !cmp.Equal(set.Resources, api.Resources{CPU: 500, Memory: 512 << 20, Timeout: 60}) {
			t.Errorf("set, it is %+v", set)
		}
		ask[api.Problem](t, w, 412, "PATCH", path, `{"retries":1}`, "If-Match", seen)
		ask[api.Problem](t, w, 412, "PUT", path, `{"functionName":"bell-3"}`, "If-Match", seen)
		seen = head.Get("ETag")
	}
	for _, body := range []string{`{}`, `{"functionName":"No"}`, `{"functionName":"bell","label":"` + strings.Repeat("x", 256) + `"}`, `{"functionName":"bell","label":"a\u0000"}`, `{"functionName":"bell","entry":"nowhere"}`, `{"functionName":"bell","resources":{"cpu":1}}`} {
		ask[api.Problem](t, w, 422, "PUT", path, body)
	}
	w.function(t, "taken")
	ask[api.Problem](t, w, 409, "PUT", path, `{"functionName":"taken"}`)
}

func TestALabelIsNotUnique(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"one", "two"} {
		ask[api.CreatedFunction](t, w, 200, "POST", "/v1/functions", `{"functionName":"`+name+`","templateLanguageTag":"Python","label":"Same Label"}`)
	}
	if l, _ := ask[api.List[api.Function]](t, w, 200, "GET", "/v1/functions?label=Same+Label", ""); len(l.Items) != 2 || l.Items[0].Label != "Same Label" {
		t.Errorf("listed %+v", l)
	}
}

func TestFunctionsAreListedByConditions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.function(t, "bell")
	w.function(t, "ghz")
	names := func(query string) string {
		t.Helper()
		l, _ := ask[api.List[api.Function]](t, w, 200, "GET", "/v1/functions?"+query, "")
		var names []string
		for _, f := range l.Items {
			names = append(names, f.FunctionName)
		}
		return strings.Join(names, " ")
	}
	hourAgo := url.QueryEscape(time.Now().Add(-time.Hour).Format(time.RFC3339))
	for query, want := range map[string]string{
		"name=bell": "bell", "name=in:bell,ghz": "ghz bell", "name=has:h": "ghz", "templateLanguageTag=Python": "ghz bell", "sdk=eq:cirq": "", "templateLanguageTag=Python&name=ghz": "ghz",
		"createdDate=gt:" + hourAgo: "ghz bell", "createdDate=lte:" + hourAgo: "", "updatedDate=gte:" + hourAgo: "ghz bell",
	} {
		if got := names(query); got != want {
			t.Errorf("%s lists %q, want %q", query, got, want)
		}
	}
	for _, query := range []string{"name=gt:a", "sdk=has:q", "createdDate=2026-01-01T00:00:00Z", "createdDate=gte:yesterday", "updatedDate=has:2", "name=%00", "labels=x"} {
		problem, _ := ask[api.Problem](t, w, 422, "GET", "/v1/functions?"+query, "")
		if problem.Detail == "" && len(problem.Errors) == 0 {
			t.Errorf("%s is refused without a word: %+v", query, problem)
		}
	}
}

func TestAVersionIsDescribedAndDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.function(t, "bell")
	path := "/v1/functions/" + id + "/versions/1"
	_, head := ask[api.FunctionVersion](t, w, 200, "GET", path, "")
	v, after := ask[api.FunctionVersion](t, w, 200, "PATCH", path, `{"description":"the first"}`, "If-Match", head.Get("ETag"))
	if v.Description != "the first" || v.Version != 1 || after.Get("ETag") == head.Get("ETag") {
		t.Errorf("described, it is %+v", v)
	}
	ask[api.Problem](t, w, 412, "PATCH", path, `{"description":"x"}`, "If-Match", head.Get("ETag"))
	ask[api.Problem](t, w, 422, "PATCH", path, `{"description":"\u0000"}`)
	ask[api.Problem](t, w, 409, "DELETE", path, "") // all the code that there is
	w.publish(t, id, "")
	d, _ := ask[api.Deployment](t, w, 202, "POST", path+"/deployments", "")
	if problem, _ := ask[api.Problem](t, w, 409, "DELETE", path, ""); !strings.Contains(problem.Detail, "deployments "+d.ID) {
		t.Errorf("refused with %q", problem.Detail)
	}
	if err := w.store.AdvanceDeployment(t.Context(), warpket.ID(d.ID), warpket.DeploymentDetached, "", time.Now()); err != nil {
		t.Fatal(err)
	}
	ask[api.Problem](t, w, 412, "DELETE", path, "", "If-Match", head.Get("ETag"))
	ask[struct{}](t, w, 204, "DELETE", path, "", "If-Match", after.Get("ETag"))
	ask[api.Problem](t, w, 404, "GET", path, "")
	ask[api.Problem](t, w, 404, "POST", "/v1/executions", `{"functionId":"`+id+`","version":1}`)
	w.publish(t, id, "six")
	if l, _ := ask[api.List[api.FunctionVersion]](t, w, 200, "GET", "/v1/functions/"+id+"/versions", ""); len(l.Items) != 2 || l.Items[0].Version != 3 {
		t.Errorf("the versions are %+v", l)
	}
}

func TestTwoVersionsAreCompared(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := "/v1/functions/" + w.function(t, "bell")
	publish := func(body string) {
		t.Helper()
		ask[api.CreatedVersion](t, w, 200, "POST", path+"/versions", body)
	}
	binary := base64.StdEncoding.EncodeToString([]byte{0, 1, 2, 0xff})
	other := base64.StdEncoding.EncodeToString([]byte{0, 1, 3, 0xff})
	publish(`{"templateFiles":[{"filename":"handler.py","content":"a\nb\nc\n"},{"filename":"old.py","content":"moved\n"},{"filename":"gone.txt","content":"gone"},{"filename":"x.bin","contentBase64":"` + binary + `"},{"filename":"same.py","content":"same"}]}`)
	publish(`{"templateFiles":[{"filename":"handler.py","content":"a\nB\nc\n"},{"filename":"lib/new.py","content":"moved\n"},{"filename":"x.bin","contentBase64":"` + other + `"},{"filename":"same.py","content":"same"},{"filename":"ünï code.txt","content":"new\n"}]}`)
	d, _ := ask[api.VersionDiff](t, w, 200, "GET", path+"/versions/2/diff/3", "")
	want := []api.FileDiff{
		{Filename: "gone.txt", Status: "removed", OldSize: 4, Diff: "--- a/gone.txt\n+++ /dev/null\n@@ -1,1 +1,0 @@\n-gone\n\\ No newline at end of file\n"},
		{Filename: "handler.py", Status: "modified", OldSize: 6, NewSize: 6, Diff: "--- a/handler.py\n+++ b/handler.py\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n"},
		{Filename: "lib/new.py", From: "old.py", Status: "renamed", OldSize: 6, NewSize: 6},
		{Filename: "x.bin", Status: "modified", Binary: true, OldSize: 4, NewSize: 4},
		{Filename: "ünï code.txt", Status: "added", NewSize: 4, Diff: "--- /dev/null\n+++ b/ünï code.txt\n@@ -1,0 +1,1 @@\n+new\n"},
	}
	if diff := cmp.Diff(want, d.Files); diff != "" {
		t.Error(diff)
	}
	if d.From != 2 || d.To != 3 || d.Same || len(d.Changes) != 0 {
		t.Errorf("compared, they are %+v", d)
	}
	if d, _ := ask[api.VersionDiff](t, w, 200, "GET", path+"/versions/2/diff/2", ""); !d.Same || len(d.Files) != 0 {
		t.Errorf("with itself: %+v", d)
	}
	ask[api.Function](t, w, 200, "PATCH", path, `{"entry":"handler.other"}`)
	ask[api.Draft](t, w, 200, "PUT", path+"/draft", files(t, "handler.py", "a\nB\nc\n", "requirements.txt", "six\n"))
	d, _ = ask[api.VersionDiff](t, w, 200, "GET", path+"/versions/3/diff/0", "")
	var changes []string
	for _, c := range d.Changes {
		changes = append(changes, c.Name)
	}
	if strings.Join(changes, " ") != "entry runtimeId requirements" {
		t.Errorf("with the draft: %+v", d)
	}
	ask[api.Problem](t, w, 404, "GET", path+"/versions/1/diff/9", "")
	ask[api.Problem](t, w, 422, "GET", path+"/versions/1/diff/-1", "")
}

func TestAComparisonIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := "/v1/functions/" + w.function(t, "bell")
	var lines, a, b strings.Builder
	for i := range 40_000 {
		fmt.Fprintf(&lines, "%d\n", i)
	}
	for i := range 20_000 { // nothing that matches, but a line in between
		fmt.Fprintf(&a, "a line of the first %d\n\n", i)
		fmt.Fprintf(&b, "another of the second %d\n\n", i*7)
	}
	ask[api.CreatedVersion](t, w, 200, "POST", path+"/versions", files(t, "handler.py", main, "lines.txt", lines.String(), "long.txt", a.String(), "short.txt", a.String()[:200_000]))
	ask[api.CreatedVersion](t, w, 200, "POST", path+"/versions", files(t, "handler.py", main, "lines.txt", lines.String()+lines.String(), "long.txt", b.String(), "short.txt", b.String()[:200_000]))
	d, _ := ask[api.VersionDiff](t, w, 200, "GET", path+"/versions/2/diff/3", "")
	if len(d.Files) != 3 {
		t.Fatalf("%d files differ", len(d.Files))
	}
	for i, large := range []bool{true, true, false} {
		if f := d.Files[i]; f.TooLarge != large || (f.Diff == "") != large {
			t.Errorf("%s: too large %v, %d bytes of differences", f.Filename, f.TooLarge, len(f.Diff))
		}
	}
}

func TestAnArchiveHoldsTheFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := "/v1/functions/" + w.function(t, "bell")
	ask[api.CreatedVersion](t, w, 200, "POST", path+"/versions", files(t, "handler.py", main, "lib/ünï \"code\".py", "x", "empty", ""))
	ask[api.Draft](t, w, 200, "PUT", path+"/draft", files(t, "handler.py", "draft"))
	for from, want := range map[string]struct {
		name  string
		files map[string]string
	}{
		"/versions/2/archive": {"bell-v2.zip", map[string]string{"handler.py": main, "lib/ünï \"code\".py": "x", "empty": ""}},
		"/draft/archive":      {"bell-draft.zip", map[string]string{"handler.py": "draft"}},
	} {
		status, head, body := w.send(t, "GET", path+from, "")
		if status != http.StatusOK || head.Get("Content-Type") != "application/zip" || head.Get("Content-Disposition") != "attachment; filename*=UTF-8''"+want.name {
			t.Errorf("%s: %d %v", from, status, head)
		}
		z, err := zip.NewReader(bytes.NewReader([]byte(body)), int64(len(body)))
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, f := range z.File {
			r, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			got[f.Name] = string(b)
		}
		if diff := cmp.Diff(want.files, got); diff != "" {
			t.Errorf("%s: %s", from, diff)
		}
	}
	ask[api.Problem](t, w, 404, "GET", path+"/versions/9/archive", "")
}

func TestAnImageHasADraftAndNoArchive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.images.tags["registry.example/bell:1"] = digest1
	w.images.tags["registry.example/bell:2"] = digest2
	f, _ := ask[api.CreatedFunction](t, w, 200, "POST", "/v1/functions", `{"functionName":"bell","source":"image","image":"registry.example/bell:1"}`)
	path := "/v1/functions/" + f.FunctionID
	d, _ := ask[api.Draft](t, w, 200, "PUT", path+"/draft", `{"image":"registry.example/bell:2","command":["run"]}`)
	if d.Image != "registry.example/bell:2" || len(d.Command) != 1 || !d.Changed || len(d.Sources) != 0 {
		t.Errorf("the draft is %+v", d)
	}
	c, _ := ask[api.VersionDiff](t, w, 200, "GET", path+"/versions/1/diff/0", "")
	if len(c.Changes) != 2 || c.Changes[0].Name != "image" || c.Changes[1].To != "run" {
		t.Errorf("compared: %+v", c)
	}
	ask[api.Problem](t, w, 404, "GET", path+"/draft/archive", "")
	set, _ := ask[api.Function](t, w, 200, "PUT", path, `{"functionName":"bell"}`)
	if set.Source != "image" || set.Entry != "" {
		t.Errorf("set, it is %+v", set)
	}
}

func TestTheWorkersOfAFunctionAreListed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.function(t, "bell")
	w.lease(t, id, warpket.Slot{ID: warpket.NewID(time.Now()), Status: warpket.SlotPreparing, Resources: warpket.DefaultResources, Reason: "it has room", CreatedDate: time.Now()})
	for query, want := range map[string]int{"": 1, "?version=1": 1, "?version=2": 0, "?draft=true": 0} {
		l, _ := ask[api.List[api.Worker]](t, w, 200, "GET", "/v1/functions/"+id+"/workers"+query, "")
		if len(l.Items) != want {
			t.Fatalf("%q lists %+v", query, l)
		}
		if want == 1 && (l.Items[0].Node != "node" || l.Items[0].Version != 1 || l.Items[0].Status != "preparing" || l.Items[0].DeploymentID != "") {
			t.Errorf("the worker is %+v", l.Items[0])
		}
	}
}

func TestAnotherProjectSeesNoDraft(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := "/v1/functions/" + w.function(t, "bell")
	other, _ := ask[api.Project](t, w, 200, "POST", "/v1/projects", `{"name":"two"}`)
	for _, request := range [][3]string{
		{"GET", "/draft", ""},
		{"PUT", "/draft", files(t, "handler.py", main)},
		{"POST", "/draft/publish", ""},
		{"POST", "/draft/deployments", ""},
		{"GET", "/draft/archive", ""},
		{"GET", "/workers", ""},
		{"GET", "/versions/1/archive", ""},
		{"GET", "/versions/1/diff/0", ""},
		{"PATCH", "/versions/1", `{"description":"x"}`},
		{"DELETE", "/versions/1", ""},
		{"PUT", "", `{"functionName":"x-x"}`},
	} {
		ask[api.Problem](t, w, 404, request[0], path+request[1], request[2], "X-Project-Id", other.ID)
	}
}
