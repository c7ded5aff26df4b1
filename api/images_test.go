package api_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
	"github.com/warpket/warpket/runners/image"
)

// registry stands for registries: what their tags stand for, by reference.
type registry struct {
	tags map[string]string
	auth warpket.RegistryAuth // that it asks for
}

func (r *registry) Resolve(_ context.Context, reference string, auth warpket.RegistryAuth) (string, error) {
	repository, _, ok := strings.Cut(reference, ":")
	switch {
	case !ok:
		return "", warpket.Errorf(warpket.Invalid, "%q is not the reference of an image", reference)
	case auth != r.auth:
		return "", warpket.Errorf(warpket.Denied, "registry.example does not let %s be read: give it a user and password, or a token, that may", reference)
	case r.tags[reference] == "":
		return "", warpket.Errorf(warpket.NotFound, "registry.example has no %s", reference)
	}
	return repository + "@" + r.tags[reference], nil
}

var (
	digest1 = "sha256:" + strings.Repeat("1", 64)
	digest2 = "sha256:" + strings.Repeat("2", 64)
)

const bell = `{"functionName":"bell","source":"image","image":"registry.example/bell:1"}`

func TestAFunctionMayComeAsAnImage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.images.tags["registry.example/bell:1"] = digest1
	status, _, body := w.send(t, "POST", "/v1/functions", bell)
	created := decode[api.CreatedFunction](t, body)
	v := created.FunctionVersion
	if status != http.StatusOK || v.Image != "registry.example/bell:1" || v.ImageDigest != digest1 || v.Digest == "" || len(v.Files)+len(v.Command) > 0 || created.TemplateLanguageTag != "" {
		t.Fatalf("%d %s", status, body)
	}
	path := "/v1/functions/" + created.FunctionID

	w.images.tags["registry.example/bell:1"] = digest2 // the tag has moved
	status, _, body = w.send(t, "POST", path+"/versions", `{"functionId":"`+created.FunctionID+`","image":"registry.example/bell:1","command":["bell","--fast"]}`)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	_, _, body = w.send(t, "GET", path, "")
	details := decode[api.FunctionDetails](t, body)
	if details.Source != "image" || details.ImageDigest != digest2 || details.Version != 2 || len(details.Sources) > 0 {
		t.Errorf("it is %s", body)
	}
	newest, first := details.VersionList[0], details.VersionList[1]
	if first.ImageDigest != digest1 || newest.ImageDigest != digest2 || newest.Digest == first.Digest || strings.Join(newest.Command, " ") != "bell --fast" {
		t.Errorf("its versions are %+v", details.VersionList)
	}
	_, _, body = w.send(t, "GET", "/v1/functions", "")
	if !strings.Contains(body, digest2) || !strings.Contains(body, `"source":"image"`) {
		t.Errorf("listed as %s", body)
	}
	for request, want := range map[string]int{
		"GET /versions/1/lock": 404, "GET /versions/1/archive": 404, "GET /versions/1/files/x": 404, "GET /versions/1": 200, "GET /environment": 200,
		"POST /versions/1/deployments": 202,
	} {
		method, rest, _ := strings.Cut(request, " ")
		if status, _, body := w.send(t, method, path+rest, "{}"); status != want {
			t.Errorf("%s: %d %s", request, status, body)
		}
	}
	if status, _, body := w.send(t, "POST", "/v1/executions", `{"functionId":"`+created.FunctionID+`","sync":false,"target":"gpu"}`); status != http.StatusUnprocessableEntity || !strings.Contains(body, "run on cpu") {
		t.Errorf("on a GPU: %d %s", status, body)
	}
}

func TestARequestForAnImageThatCannotBeSaysWhatWould(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.images.tags["registry.example/bell:1"] = digest1
	w.send(t, "POST", "/v1/functions", bell)
	_, _, body := w.send(t, "GET", "/v1/functions?name=bell", "")
	id := decode[struct{ Items []api.Function }](t, body).Items[0].FunctionID
	files := w.function(t, "files")
	tests := map[string]struct{ path, body, text string }{
		"no reference":            {"", `{"functionName":"x1","source":"image"}`, "registry.example/name:tag"},
		"no tag of the registry":  {"", `{"functionName":"x1","source":"image","image":"registry.example/bell:2"}`, "has no registry.example/bell:2"},
		"a template":              {"", `{"functionName":"x1","source":"image","image":"registry.example/bell:1","templateLanguageTag":"Qiskit"}`, "leave templateLanguageTag out"},
		"an SDK version":          {"", `{"functionName":"x1","source":"image","image":"registry.example/bell:1","sdkVersion":"1"}`, "leave sdkVersion out"},
		"an entry":                {"", `{"functionName":"x1","source":"image","image":"registry.example/bell:1","entry":"a.b"}`, "give a command"},
		"an empty command":        {"", `{"functionName":"x1","source":"image","image":"registry.example/bell:1","command":[""]}`, "leave command out"},
		"a NUL":                   {"", `{"functionName":"x1","source":"image","image":"registry.example/bell:1","command":["a\u0000"]}`, "NUL"},
		"unknown credentials":     {"", `{"functionName":"x1","source":"image","image":"registry.example/bell:1","credentials":"NONE"}`, "POST /v1/secrets"},
		"another source":          {"", `{"functionName":"x1","source":"svn"}`, "expected value to be one of"},
		"neither":                 {"", `{"functionName":"x1"}`, `\"source\": \"image\"`},
		"an image for files":      {"", `{"functionName":"x1","templateLanguageTag":"Qiskit","image":"registry.example/bell:1"}`, `\"source\": \"image\"`},
		"files of an image":       {"/" + id + "/versions", `{"templateFiles":[{"filename":"a.py","content":""}]}`, "instead of files"},
		"a version without image": {"/" + id + "/versions", `{}`, "image is missing"},
		"an image of files":       {"/" + files + "/versions", `{"image":"registry.example/bell:1"}`, `\"source\": \"image\"`},
		"files without any":       {"/" + files + "/versions", `{}`, "at least one file"},
	}
	for name, test := range tests {
		status, _, body := w.send(t, "POST", "/v1/functions"+test.path, test.body)
		if status != http.StatusUnprocessableEntity || !strings.Contains(body, test.text) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if status, _, body := w.send(t, "PATCH", "/v1/functions/"+id, `{"entry":"a.b"}`); status != http.StatusUnprocessableEntity {
		t.Errorf("an entry, later: %d %s", status, body)
	}
	if status, _, body := w.send(t, "PATCH", "/v1/functions/"+files, `{"credentials":"X"}`); status != http.StatusUnprocessableEntity {
		t.Errorf("credentials for files: %d %s", status, body)
	}
}

func TestRegistriesOfTheServersNetworksAreRefused(t *testing.T) {
	t.Parallel()
	registries, err := image.NewRegistries(image.Config{Platform: "linux/amd64"})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorldOf(t, registries)
	for _, host := range []string{"127.0.0.1:5000", "localhost:5000", "[::1]:5000", "10.0.0.1", "169.254.169.254"} {
		status, _, body := w.send(t, "POST", "/v1/functions", `{"functionName":"x1","source":"image","image":"`+host+`/bell:1"}`)
		if status != http.StatusUnprocessableEntity || !strings.Contains(body, "is not a public address") {
			t.Errorf("%s: %d %s", host, status, body)
		}
	}
	status, _, body := w.send(t, "POST", "/v1/functions", `{"functionName":"x1","source":"image","image":"not a reference"}`)
	if status != http.StatusUnprocessableEntity || !strings.Contains(body, "registry.example/name:tag") {
		t.Errorf("%d %s", status, body)
	}
}

func TestThePasswordOfARegistryIsForTheRegistryOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const canary = "canary-4711"
	w.images.tags["registry.example/bell:1"] = digest1
	w.images.auth = warpket.RegistryAuth{User: "user", Password: canary}
	named := `{"functionName":"bell","source":"image","image":"registry.example/bell:1","credentials":"REGISTRY"}`
	requests := []struct {
		method, path, body string
		want               int
	}{
		{"POST", "/v1/functions", bell, 422},
		{"POST", "/v1/secrets", `{"name":"REGISTRY","value":"` + canary + `"}`, 200},
		{"POST", "/v1/functions", named, 422}, // not in the form of credentials
		{"PATCH", "/v1/secrets/REGISTRY", `{"value":"{\"username\":\"user\",\"password\":\"x` + canary + `\"}"}`, 200},
		{"POST", "/v1/functions", named, 422},
		{"PATCH", "/v1/secrets/REGISTRY", `{"value":"{\"username\":\"user\",\"password\":\"` + canary + `\"}"}`, 200},
		{"POST", "/v1/functions", named, 200},
		{"GET", "/v1/functions", "", 200},
		{"GET", "/v1/secrets/REGISTRY", "", 200},
		{"DELETE", "/v1/secrets/REGISTRY", "", 409},
	}
	for _, r := range requests {
		status, header, body := w.send(t, r.method, r.path, r.body)
		if status != r.want {
			t.Errorf("%s %s %s: %d %s, want %d", r.method, r.path, r.body, status, body, r.want)
		}
		if strings.Contains(body, canary) {
			t.Errorf("%s %s answers the password: %v %s", r.method, r.path, header, body)
		}
		if strings.HasPrefix(r.path, "/v1/secrets/REGISTRY") && r.method == "GET" && !strings.Contains(body, `"usedBy":["bell"]`) {
			t.Errorf("it is used by: %s", body)
		}
	}
	_, _, body := w.send(t, "GET", "/v1/functions", "")
	f := decode[struct{ Items []api.Function }](t, body).Items[0]
	if f.Credentials != "REGISTRY" {
		t.Errorf("it is %s", body)
	}
	if status, _, body := w.send(t, "PATCH", "/v1/functions/"+f.FunctionID, `{"credentials":""}`); status != http.StatusOK {
		t.Errorf("none any more: %d %s", status, body)
	}
	if status, _, body := w.send(t, "DELETE", "/v1/secrets/REGISTRY", ""); status != http.StatusNoContent {
		t.Errorf("deleting it: %d %s", status, body)
	}
}
