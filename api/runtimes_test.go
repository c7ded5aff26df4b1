package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
)

// member gives a token of a project that it makes.
func (w *world) member(t *testing.T, name string) []string {
	t.Helper()
	_, _, body := w.send(t, "POST", "/v1/projects", `{"name":"`+name+`"}`)
	project := decode[struct{ ID string }](t, body).ID
	status, _, body := w.send(t, "POST", "/v1/tokens", `{"projectId":"`+project+`","role":"member","name":"tests"}`)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	return []string{"Authorization", "Bearer " + decode[struct{ Token string }](t, body).Token}
}

// built ends what was started to be built.
func (w *world) built(t *testing.T, status warpket.RuntimeStatus) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.builds {
		if _, err := w.store.SaveRuntime(t.Context(), r.BuildID(), status, "", "", time.Now()); err != nil {
			t.Fatal(err)
		}
		w.hub.Changed(r.BuildID())
	}
	w.builds = nil
}

func (w *world) newRuntime(t *testing.T, body string, header ...string) api.Runtime {
	t.Helper()
	status, _, answer := w.send(t, "POST", "/v1/runtimes", body, header...)
	if status != http.StatusOK && status != http.StatusAccepted {
		t.Fatalf("%s: %d %s", body, status, answer)
	}
	return decode[api.Runtime](t, answer)
}

const labOfImage = `{"name":"lab","image":"registry.example/python:3","command":["python","handler.py"]}`

func TestARuntimeIsBuiltWhenItIsCreated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	status, header, body := w.send(t, "POST", "/v1/runtimes", `{"name":"Python lab","description":"for tests","sdk":"python","sdkVersion":"3.11"}`)
	r := decode[api.Runtime](t, body)
	if status != http.StatusAccepted || header.Get("Location") != "/v1/runtimes/"+r.ID || header.Get("Etag") == "" || r.Name != "Python lab" || r.SDK != "python" || r.Python != "3.11" ||
		r.BuildID == "" || r.Status != "pending" || r.IsPublic || !r.Trusted || r.Revision != 1 {
		t.Fatalf("%d %v %s", status, header, body)
	}
	if len(w.builds) != 1 || string(w.builds[0].BuildID()) != r.BuildID {
		t.Errorf("started: %+v", w.builds)
	}
	done := make(chan string)
	go func() {
		_, _, body := w.send(t, "GET", "/v1/runtimes/"+r.ID, "", "Prefer", "wait=20")
		done <- body
	}()
	w.built(t, warpket.RuntimeAvailable)
	if got := decode[api.Runtime](t, <-done); got.Status != "available" {
		t.Errorf("it is %+v", got)
	}
	if again := w.newRuntime(t, `{"name":"Python lab","sdk":"python"}`); again.ID == r.ID || again.BuildID != r.BuildID || again.Status != "available" || len(w.builds) > 0 {
		t.Errorf("once more it is %+v, started %+v", again, w.builds)
	}
	key := []string{"Idempotency-Key", "one"}
	if a, b := w.newRuntime(t, `{"name":"a","sdk":"python"}`, key...), w.newRuntime(t, `{"name":"a","sdk":"python"}`, key...); a.ID != b.ID {
		t.Errorf("a repeated request makes %s and %s", a.ID, b.ID)
	}
	_, _, body = w.send(t, "GET", "/v1/runtimes?created=true&name=has:lab&status=in:available,failed&isPublic=false&sdk=python", "")
	if list := decode[struct{ Items []api.Runtime }](t, body).Items; len(list) != 2 {
		t.Errorf("listed as %s", body)
	}
	_, _, body = w.send(t, "GET", "/v1/runtimes?created=false", "")
	if list := decode[struct{ Items []api.Runtime }](t, body).Items; len(list) != 1 || list[0].ID != r.BuildID || !list[0].IsPublic || list[0].Name != "" {
		t.Errorf("builds are listed as %s", body)
	}
}

func TestARequestForARuntimeThatCannotBeSaysWhatWould(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.images.tags["registry.example/python:3"] = digest1
	member := w.member(t, "other")
	image, sdk := w.newRuntime(t, labOfImage), w.newRuntime(t, `{"name":"a","sdk":"python"}`)
	w.built(t, warpket.RuntimeAvailable)
	public := w.newRuntime(t, `{"name":"public","sdk":"python","isPublic":true}`)
	tests := map[string]struct {
		method, path, body string
		header             []string
		status             int
		text               string
	}{
		"neither":                    {"POST", "", `{"name":"a"}`, nil, 422, "one of sdk"},
		"both":                       {"POST", "", `{"name":"a","sdk":"python","image":"registry.example/python:3"}`, nil, 422, "one of sdk"},
		"no name":                    {"POST", "", `{"sdk":"python"}`, nil, 422, "name"},
		"a name that is not printed": {"POST", "", `{"name":"a\u0007","sdk":"python"}`, nil, 422, "printable"},
		"an unknown SDK":             {"POST", "", `{"name":"a","sdk":"cobol"}`, nil, 422, "The SDKs are: cuda, "},
		"an unknown version":         {"POST", "", `{"name":"a","sdk":"python","sdkVersion":"2.7"}`, nil, 422, "there is 3.11"},
		"a command for an SDK":       {"POST", "", `{"name":"a","sdk":"python","command":["x"]}`, nil, 422, "made of an image"},
		"a version of an image":      {"POST", "", `{"name":"a","image":"registry.example/python:3","sdkVersion":"3"}`, nil, 422, "leave sdkVersion out"},
		"an unknown image":           {"POST", "", `{"name":"a","image":"registry.example/python:4"}`, nil, 422, "has no registry.example/python:4"},
		"unknown credentials":        {"POST", "", `{"name":"a","image":"registry.example/python:3","credentials":"NONE"}`, nil, 422, "POST /v1/secrets"},
		"an empty program":           {"POST", "", `{"name":"a","image":"registry.example/python:3","command":[""]}`, nil, 422, "leave command out"},
		"a public one of a member":   {"POST", "", `{"name":"a","sdk":"python","isPublic":true}`, member, 403, "only operators"},
		"changing a public one":      {"PATCH", "/" + public.ID, `{"name":"b"}`, member, 403, "only operators"},
		"deleting a public one":      {"DELETE", "/" + public.ID, "", member, 403, "only operators"},
		"changing a build":           {"PATCH", "/" + public.BuildID, `{"name":"b"}`, nil, 403, "is a build"},
		"deleting a build":           {"DELETE", "/" + public.BuildID, "", nil, 403, "is a build"},
		"another's":                  {"GET", "/" + sdk.ID, "", member, 404, ""},
		"changing another's":         {"PATCH", "/" + sdk.ID, `{"name":"b"}`, member, 404, ""},
		"deleting another's":         {"DELETE", "/" + sdk.ID, "", member, 404, ""},
		"the pool of another's":      {"GET", "/" + sdk.ID + "/pool", "", member, 404, ""},
		"an SDK into an image":       {"PATCH", "/" + sdk.ID, `{"image":"registry.example/python:3"}`, nil, 422, "made of an SDK"},
		"an image into an SDK":       {"PATCH", "/" + image.ID, `{"sdkVersion":"3.11"}`, nil, 422, "made of an image"},
		"what was changed since":     {"PATCH", "/" + sdk.ID, `{"name":"b"}`, []string{"If-Match", `"old"`}, 412, "has changed"},
		"an operator of lists":       {"GET", "?sdk=gt:a", "", nil, 422, "these work: eq, neq, in, nin"},
	}
	for name, test := range tests {
		status, _, body := w.send(t, test.method, "/v1/runtimes"+test.path, test.body, test.header...)
		if status != test.status || !strings.Contains(body, test.text) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	for request, text := range map[string]string{
		`"runtimeId":"` + public.BuildID + `"`:                                          "that somebody has created",
		`"runtimeId":"nonesuch"`:                                                        "that somebody has created",
		`"runtimeId":"` + image.ID + `"`:                                                "give the function's files",
		`"runtimeId":"` + sdk.ID + `","sdkVersion":"3.11"`:                              "leave sdkVersion out",
		`"runtimeId":"` + sdk.ID + `","templateLanguageTag":"Qiskit"`:                   "leave templateLanguageTag out",
		`"runtimeId":"` + sdk.ID + `","image":"registry.example/python:3"`:              "made of files",
		`"runtimeId":"` + sdk.ID + `","source":"image"`:                                 "leave runtimeId out",
		`"runtimeId":"` + sdk.ID + `","entry":"handler"`:                                "module.function",
		`"runtimeId":"` + sdk.ID + `","templateFiles":[{"filename":"a.py"}]`:            "has no content",
		`"runtimeId":"` + sdk.ID + `","templateFiles":[{"filename":"/a","content":""}]`: "absolute",
	} {
		status, _, body := w.send(t, "POST", "/v1/functions", `{"functionName":"x1",`+request+`}`)
		if text != "" && (status != http.StatusUnprocessableEntity || !strings.Contains(body, text)) {
			t.Errorf("%s: %d %s", request, status, body)
		}
	}
	if status, _, body := w.send(t, "POST", "/v1/functions", `{"functionName":"x2","runtimeId":"`+sdk.ID+`"}`, member...); status != http.StatusUnprocessableEntity {
		t.Errorf("a function on another's: %d %s", status, body)
	}
	if status, _, body := w.send(t, "POST", "/v1/functions", `{"functionName":"x2","runtimeId":"`+public.ID+`"}`, member...); status != http.StatusOK {
		t.Errorf("a function on a public one: %d %s", status, body)
	}
}

func TestFilesRunInTheImageOfTheirRuntime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.images.tags["registry.example/python:3"] = digest1
	r := w.newRuntime(t, labOfImage)
	if r.Image != "registry.example/python:3" || r.ImageDigest != digest1 || r.SDK != "" || strings.Join(r.Command, " ") != "python handler.py" || r.Status != "pending" {
		t.Errorf("it is %+v", r)
	}
	w.built(t, warpket.RuntimeAvailable)
	files := `"templateFiles":[{"filename":"handler.py","content":"print(1)"}]`
	status, _, body := w.send(t, "POST", "/v1/functions", `{"functionName":"bell","runtimeId":"`+r.ID+`","entry":"any thing",`+files+`}`)
	created := decode[api.CreatedFunction](t, body)
	first := created.FunctionVersion
	if status != http.StatusOK || len(created.TemplateFiles) != 1 || first.ImageDigest != digest1 || first.Entry != "any thing" || strings.Join(first.Command, " ") != "python handler.py" || created.SDK != "" {
		t.Fatalf("%d %s", status, body)
	}
	path := "/v1/functions/" + created.FunctionID

	w.images.tags["registry.example/python:3"] = digest2 // the tag has moved
	if status, _, body = w.send(t, "PATCH", "/v1/runtimes/"+r.ID, `{"image":"registry.example/python:3","command":[]}`); status != http.StatusAccepted || decode[api.Runtime](t, body).Revision != 2 {
		t.Fatalf("%d %s", status, body)
	}
	if status, _, body := w.send(t, "PATCH", "/v1/runtimes/"+r.ID, `{"command":["x"]}`); status != http.StatusConflict {
		t.Errorf("changed while it is built: %d %s", status, body)
	}
	w.built(t, warpket.RuntimeAvailable)
	status, _, body = w.send(t, "POST", path+"/versions", `{"functionId":"`+created.FunctionID+`",`+files+`}`)
	second := decode[api.CreatedVersion](t, body).Data
	if status != http.StatusOK || second.ImageDigest != digest2 || len(second.Command) > 0 || second.Digest == first.Digest || len(second.Files) != 1 {
		t.Errorf("%d %s", status, body)
	}
	_, _, body = w.send(t, "GET", path, "")
	details := decode[api.FunctionDetails](t, body)
	if details.RuntimeID != r.ID || details.Source != "files" || details.Image != "" || details.VersionList[1].ImageDigest != digest1 {
		t.Errorf("it is %s", body)
	}
	for request, want := range map[string]int{`{"entry":"another thing"}`: 200, `{"entry":"a\u0000"}`: 422, `{"credentials":"NONE"}`: 422, `{"description":"x"}`: 200} {
		if status, _, body := w.send(t, "PATCH", path, request); status != want {
			t.Errorf("%s: %d %s", request, status, body)
		}
	}
	if status, _, body := w.send(t, "POST", "/v1/executions", `{"functionId":"`+created.FunctionID+`","sync":false,"target":"gpu"}`); status != http.StatusUnprocessableEntity || !strings.Contains(body, "run on cpu") {
		t.Errorf("on a GPU: %d %s", status, body)
	}
	if status, _, body := w.send(t, "DELETE", "/v1/runtimes/"+r.ID, ""); status != http.StatusConflict || !strings.Contains(body, "bell") {
		t.Errorf("deleted while in use: %d %s", status, body)
	}
	w.send(t, "DELETE", path, "")
	if status, _, body := w.send(t, "DELETE", "/v1/runtimes/"+r.ID, ""); status != http.StatusNoContent {
		t.Errorf("deleted: %d %s", status, body)
	}
}

func TestAFunctionGetsWhatItsRuntimeIsMadeOf(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRuntime(t, `{"name":"lab","sdk":"python"}`)
	w.built(t, warpket.RuntimeAvailable)
	_, _, body := w.send(t, "POST", "/v1/functions", `{"functionName":"starter","runtimeId":"`+r.ID+`"}`)
	created := decode[api.CreatedFunction](t, body)
	if created.TemplateLanguageTag != "Python" || created.SDKVersion != "3.11" || len(created.TemplateFiles) == 0 || created.FunctionVersion.RuntimeID != r.BuildID || created.FunctionVersion.Image != "" {
		t.Errorf("it is %s", body)
	}
	own := `"templateFiles":[{"filename":"main.py","content":"def run(event): pass"},{"filename":"requirements.txt","content":"dateutils"}],"entry":"main.run"`
	_, _, body = w.send(t, "POST", "/v1/functions", `{"functionName":"own","runtimeId":"`+r.ID+`",`+own+`}`)
	if got := decode[api.CreatedFunction](t, body); len(got.TemplateFiles) != 2 || got.FunctionVersion.Entry != "main.run" || got.FunctionVersion.Requirements == "" {
		t.Errorf("it is %s", body)
	}
	_, _, body = w.send(t, "POST", "/v1/functions", `{"functionName":"tagged","templateLanguageTag":"Python",`+own+`}`)
	if got := decode[api.CreatedFunction](t, body); len(got.TemplateFiles) != 2 || got.TemplateFiles[0].Filename != "main.py" {
		t.Errorf("without a runtime it is %s", body)
	}
	_, _, body = w.send(t, "GET", "/v1/runtimes/"+r.ID+"/pool", "")
	if got := decode[api.RuntimePool](t, body); got.Name != r.ID || got.Capacity != (api.PoolCapacity{}) {
		t.Errorf("its pool is %s", body)
	}
}

func TestARuntimeIsChangedByWhoHasSeenIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRuntime(t, `{"name":"lab","sdk":"python"}`)
	w.built(t, warpket.RuntimeFailed)
	_, header, _ := w.send(t, "GET", "/v1/runtimes/"+r.ID, "")
	status, changed, body := w.send(t, "PATCH", "/v1/runtimes/"+r.ID, `{"name":"other","description":"x"}`, "If-Match", header.Get("Etag"))
	if got := decode[api.Runtime](t, body); status != http.StatusAccepted || got.Name != "other" || got.Description != "x" || got.Status != "pending" || changed.Get("Etag") == header.Get("Etag") {
		t.Errorf("%d %s", status, body)
	}
	if len(w.builds) != 1 {
		t.Errorf("what had failed is built anew: %+v", w.builds)
	}
	if status, _, body = w.send(t, "PATCH", "/v1/runtimes/"+r.ID, `{"name":"third"}`, "If-Match", header.Get("Etag")); status != http.StatusPreconditionFailed {
		t.Errorf("once more: %d %s", status, body)
	}
}

func TestAnUntrustedRuntimeRunsWhereIsolationIsComplete(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRuntime(t, `{"name":"lab","sdk":"python","trusted":false}`)
	_, _, body := w.send(t, "POST", "/v1/functions", `{"functionName":"careful","runtimeId":"`+r.ID+`"}`)
	id := decode[api.CreatedFunction](t, body).FunctionID
	status, _, body := w.send(t, "POST", "/v1/executions", `{"functionId":"`+id+`","sync":false}`)
	if status != http.StatusUnprocessableEntity || !strings.Contains(body, "isolation is complete") {
		t.Errorf("%d %s", status, body)
	}
}
