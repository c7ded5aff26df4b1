package qinling_test

import (
	"archive/zip"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api/qinling"
	"github.com/warpket/warpket/storage/postgres"
)

var moment = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`)

func keys(o object) []string {
	var out []string
	for k := range o {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func TestWhatIsOpenAndWhatAsksForAToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	none := []string{"X-Auth-Token", ""}
	v := w.ok(t, 200, "GET", "/", nil, none...)
	if diff := cmp.Diff(object{"versions": []any{object{"id": "v1.0", "status": "CURRENT", "links": []any{object{"href": w.url + "/v1", "target": "v1", "rel": "self"}}}}}, v); diff != "" {
		t.Error(diff)
	}
	if got := w.ok(t, 200, "GET", "/v1/", nil, none...); got["uri"] != w.url+"/v1" {
		t.Errorf("the root is %v", got)
	}
	if a := w.send(t, "GET", "/v1", nil, none...); a.status != 302 || !strings.HasSuffix(a.header.Get("Location"), "/qinling/v1/") {
		t.Errorf("/v1 is answered %d %s", a.status, a.header.Get("Location"))
	}
	for _, token := range []string{"", "nonsense", "wk_" + strings.Repeat("0", 32) + "_" + strings.Repeat("0", 64)} {
		a := w.send(t, "GET", "/v1/functions", nil, "X-Auth-Token", token)
		if a.status != 401 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") || a.header.Get("Server-Error-Message") == "" {
			t.Errorf("%q is answered %d %s %q", token, a.status, a.header.Get("Content-Type"), a.body)
		}
	}
	if got := w.ok(t, 200, "GET", "/v1/functions", nil, "X-Auth-Token", "notused"); len(items(t, got, "functions")) != 0 {
		t.Errorf("there are functions: %v", got)
	}
	if got := w.ok(t, 200, "GET", "/v1/openapi.json", nil, none...); got["openapi"] == nil {
		t.Error("it has no description")
	}
	w.refused(t, 405, "Method Not Allowed", "PATCH", "/v1/functions", object{})
	w.refused(t, 404, "Not Found", "GET", "/v1/nothing", nil)
}

func TestWhatReadsRefusesArgumentsThatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	runtime := w.runtime(t)
	f := w.function(t, runtime, "f", "def main(**kwargs): return 1\n")
	w.ok(t, 201, "POST", "/v1/functions/"+f+"/versions", object{})
	w.ok(t, 201, "POST", "/v1/aliases", object{"name": "prod", "function_id": f})
	made := func(path string, body object) string {
		id, _ := w.ok(t, 201, "POST", path, body)["id"].(string)
		return path + "/" + id
	}
	execution := made("/v1/executions", object{"function_id": f})
	for _, path := range []string{
		"/v1/runtimes", "/v1/runtimes/" + runtime, "/v1/runtimes/" + runtime + "/pool", "/v1/functions", "/v1/functions/" + f, "/v1/functions/" + f + "/workers", "/v1/functions/" + f + "/versions", "/v1/functions/" + f + "/versions/1",
		"/v1/executions", execution, execution + "/log", "/v1/aliases", "/v1/aliases/prod", "/v1/webhooks", made("/v1/webhooks", object{"function_id": f}), "/v1/jobs", made("/v1/jobs", object{"function_id": f, "pattern": "0 0 1 1 *"}),
	} {
		if a := w.send(t, "GET", path, nil); a.status != 200 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
		w.refused(t, 400, `Unknown argument: "zzz"`, "GET", path+"?zzz=1", nil)
	}
	for _, path := range []string{"/v1/functions/" + f + "?download=true", "/v1/functions/" + f + "/versions/1?download=true", "/v1/functions/" + f + "/workers?function_version=0", "/v1/jobs?all_projects=true", "/v1/aliases?project_id=neq:x"} {
		if a := w.send(t, "GET", path, nil); a.status != 200 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
}

func TestSomeThingsAreTheirOwnersOnlyEvenForAnAdmin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	owner := []string{"X-Auth-Token", w.other}
	f := w.function(t, w.runtime(t), "f", "def main(**kwargs): return 1\n", owner...)
	versions := "/v1/functions/" + f + "/versions"
	w.refused(t, 404, "Function not found", "POST", versions, object{})
	w.ok(t, 201, "POST", versions, object{}, owner...)
	w.refused(t, 404, "Function not found", "DELETE", versions+"/1", nil)
	w.refused(t, 404, "Function not found", "POST", "/v1/webhooks", object{"function_id": f})
	id, _ := w.ok(t, 201, "POST", "/v1/webhooks", object{"function_id": f}, owner...)["id"].(string)
	w.refused(t, 404, "Webhook not found", "PUT", "/v1/webhooks/"+id, object{"description": "mine"})
	w.refused(t, 403, "Function can only be deleted by its owner.", "DELETE", "/v1/functions/"+f, nil)
	for _, path := range []string{"/v1/functions/" + f, versions, versions + "/1", "/v1/webhooks/" + id} { // it may look
		w.ok(t, 200, "GET", path, nil)
	}
	if h := w.ok(t, 200, "PUT", "/v1/webhooks/"+id, object{"description": "mine"}, owner...); h["description"] != "mine" {
		t.Errorf("its owner has made it %v", h)
	}
	w.ok(t, 204, "DELETE", "/v1/webhooks/"+id, nil, owner...)
	w.ok(t, 204, "DELETE", versions+"/1", nil, owner...)
	w.ok(t, 204, "DELETE", "/v1/functions/"+f, nil, owner...)
}

func TestTheLifeOfARuntime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.refused(t, 403, "Operation not allowed", "POST", "/v1/runtimes", object{"image": "a:1"}, "X-Auth-Token", w.other)
	w.refused(t, 400, "image", "POST", "/v1/runtimes", object{"name": "x"})
	w.refused(t, 400, "Unknown attribute for argument runtime: nodes", "POST", "/v1/runtimes", object{"image": "a:1", "nodes": 1})
	w.refused(t, 400, "openstackqinling/python3-runtime", "POST", "/v1/runtimes", object{"image": "openstackqinling/nodejs-runtime"})
	w.refused(t, 400, "There are: openstackqinling/python3-runtime, warpket/", "POST", "/v1/runtimes", object{"image": "openstackqinling/python2-runtime:1"})
	w.refused(t, 400, "Invalid JSON", "POST", "/v1/runtimes", `{"image"`)
	r := w.ok(t, 201, "POST", "/v1/runtimes", object{"name": "python3", "image": "openstackqinling/python3-runtime", "description": nil})
	id, _ := r["id"].(string)
	want := []string{"created_at", "description", "id", "image", "is_public", "name", "project_id", "status", "trusted", "updated_at"}
	if diff := cmp.Diff(want, keys(r)); diff != "" {
		t.Error(diff)
	}
	if created, _ := r["created_at"].(string); !moment.MatchString(created) || r["is_public"] != true || r["trusted"] != true || r["updated_at"] != nil || r["image"] != "openstackqinling/python3-runtime" || r["description"] != nil {
		t.Errorf("created %v", r)
	}
	if got := w.ok(t, 200, "GET", "/v1/runtimes/"+id, nil, "X-Auth-Token", w.other); got["status"] != "available" {
		t.Errorf("another project sees %v", got)
	}
	if got := w.ok(t, 200, "PUT", "/v1/runtimes/"+id, object{"name": "py", "description": "new"}); got["name"] != "py" || got["description"] != "new" || got["updated_at"] == nil {
		t.Errorf("updated %v", got)
	}
	w.refused(t, 400, "is made of", "PUT", "/v1/runtimes/"+id, object{"image": "registry.example/base:1"})
	image := w.ok(t, 201, "POST", "/v1/runtimes", object{"image": "registry.example/base:1", "is_public": false})
	if got := w.ok(t, 200, "PUT", "/v1/runtimes/"+image["id"].(string), object{"image": "registry.example/base:2"}); got["image"] != "registry.example/base:2" {
		t.Errorf("of another image it is %v", got)
	}
	w.refused(t, 404, "Runtime not found [id=", "GET", "/v1/runtimes/"+image["id"].(string), nil, "X-Auth-Token", w.other)
	w.refused(t, 400, "UUID", "GET", "/v1/runtimes/nothing", nil)
	if n := len(items(t, w.ok(t, 200, "GET", "/v1/runtimes", nil), "runtimes")); n != 2 {
		t.Errorf("%d are listed", n)
	}
	if n := len(items(t, w.ok(t, 200, "GET", "/v1/runtimes", nil, "X-Auth-Token", w.other), "runtimes")); n != 1 {
		t.Errorf("another project sees %d", n)
	}
	if got := w.ok(t, 200, "GET", "/v1/runtimes/"+id+"/pool", nil); got["name"] != id || cmp.Diff(object{"total": 0.0, "available": 0.0}, got["capacity"]) != "" {
		t.Errorf("the pool is %v", got)
	}
	w.function(t, id, "uses", "def main(**kwargs): pass\n")
	w.refused(t, 403, "Runtime "+id+" is still in use.", "DELETE", "/v1/runtimes/"+id, nil)
	w.ok(t, 204, "DELETE", "/v1/runtimes/"+image["id"].(string), nil)
}

func TestAFunctionIsRefusedInQinlingsWords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.runtime(t)
	file, sum := zipped(t, "main.py", "x = 1\n")
	for _, c := range []struct {
		message string
		file    []byte
		values  map[string]string
	}{
		{"Required param is missing. Required: {'code'}", file, map[string]string{}},
		{"Invalid code source specified", file, map[string]string{"code": `{"source": "tape"}`}},
		{`"runtime_id" must be specified.`, file, map[string]string{"code": `{"source": "package"}`}},
		{"Package is not a valid ZIP package.", []byte("no zip"), map[string]string{"code": `{"source": "package"}`, "runtime_id": r}},
		{"Package md5 mismatch.", file, map[string]string{"code": `{"source": "package", "md5sum": "` + strings.Repeat("0", 32) + `"}`, "runtime_id": r}},
		{"cpu resource limitation not within the allowable range: 100 ~ 300(millicpu).", file, map[string]string{"code": `{"source": "package"}`, "runtime_id": r, "cpu": "301"}},
		{"memory resource limitation", file, map[string]string{"code": `{"source": "package"}`, "runtime_id": r, "memory": "1"}},
		{"Invalid timeout resource specified. An integer is required.", file, map[string]string{"code": `{"source": "package"}`, "runtime_id": r, "timeout": "soon"}},
		{"Both container and object", nil, map[string]string{"code": `{"source": "swift", "swift": {"container": "a"}}`, "runtime_id": r}},
		{"Docker image must be provided", nil, map[string]string{"code": `{"source": "image"}`}},
	} {
		body, kind := form(t, c.file, c.values)
		w.refused(t, 400, c.message, "POST", "/v1/functions", body, "Content-Type", kind)
	}
	body, kind := form(t, file, map[string]string{"code": `{"source": "package", "md5sum": "` + sum + `"}`, "runtime_id": "01981d3c-8f5a-7d1e-9a40-3c8c5f1d2b6a"})
	w.refused(t, 404, "Runtime not found [id=", "POST", "/v1/functions", body, "Content-Type", kind)
}

func TestTheLifeOfAFunction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.runtime(t)
	file, sum := zipped(t, "hello.py", "def main(**kwargs): return 1\n")
	body, kind := form(t, file, map[string]string{"name": "Hello World!", "runtime_id": r, "code": `{"source": "package"}`, "entry": "hello.main", "memory": "67108864", "unknown": "ignored"})
	f := w.ok(t, 201, "POST", "/v1/functions", body, "Content-Type", kind)
	id, _ := f["id"].(string)
	delete(f, "created_at")
	delete(f, "project_id")
	want := object{
		"id": id, "name": "Hello World!", "description": nil, "count": 0.0, "code": object{"source": "package", "md5sum": sum}, "runtime_id": r, "entry": "hello.main",
		"cpu": 100.0, "memory_size": 67108864.0, "timeout": 5.0, "latest_version": 0.0, "updated_at": nil,
	}
	if diff := cmp.Diff(want, f); diff != "" {
		t.Error(diff)
	}
	again := w.function(t, r, "Hello World!", "def main(**kwargs): return 2\n") // names need not be unique
	listed := items(t, w.ok(t, 200, "GET", "/v1/functions/", nil), "functions")
	if code, ok := listed[1]["code"].(string); len(listed) != 2 || listed[0]["id"] != again || !ok || !json.Valid([]byte(code)) || listed[0]["entry"] != "main.main" {
		t.Errorf("listed %v", listed)
	}

	download := w.send(t, "GET", "/v1/functions/"+id+"?download=true", nil)
	z, err := zip.NewReader(strings.NewReader(download.body), int64(len(download.body)))
	if err != nil || download.header.Get("Content-Type") != "application/zip" || download.header.Get("Content-Disposition") != `attachment; filename="`+id+`"` || len(z.File) != 1 || z.File[0].Name != "hello.py" {
		t.Errorf("downloaded %d %v: %v", download.status, download.header, err)
	}

	put := "/v1/functions/" + id
	if got := w.ok(t, 200, "PUT", put, object{"name": "renamed", "description": "d", "cpu": 200, "memory_size": nil, "timeout": 15, "entry": "hello.other"}); got["name"] != "renamed" || got["cpu"] != 200.0 || got["timeout"] != 15.0 || got["entry"] != "hello.other" || got["memory_size"] != 67108864.0 || got["updated_at"] == nil {
		t.Errorf("updated %v", got)
	}
	body, kind = form(t, file, map[string]string{"source": "package"})
	w.refused(t, 400, "The function code checksum is not changed.", "PUT", put, body, "Content-Type", kind)
	file, sum = zipped(t, "hello.py", "def main(**kwargs): return 3\n")
	body, kind = form(t, file, map[string]string{"source": "package", "entry": "hello.main"})
	if got := w.ok(t, 200, "PUT", put, body, "Content-Type", kind); cmp.Diff(object{"source": "package", "md5sum": sum}, got["code"]) != "" || got["entry"] != "hello.main" {
		t.Errorf("with other code it is %v", got)
	}
	w.refused(t, 400, "The function code type can not be changed.", "PUT", put, object{"code": object{"source": "image", "image": "a:1"}})
	w.refused(t, 400, "not of the form module.function", "PUT", put, object{"entry": "nonsense"})

	w.refused(t, 404, "Function not found [id="+id+"]", "GET", put, nil, "X-Auth-Token", w.other)
	w.refused(t, 404, "Function not found [id=x]", "GET", "/v1/functions/x", nil)
	theirs := w.function(t, r, "theirs", "def main(**kwargs): return 2\n", "X-Auth-Token", w.other)
	w.ok(t, 200, "GET", "/v1/functions/"+theirs, nil)
	w.refused(t, 403, "Function can only be deleted by its owner.", "DELETE", "/v1/functions/"+theirs, nil)
	for query, want := range map[string]int{"": 2, "?all_projects=true": 3, "?project_id=neq:x": 3} {
		if n := len(items(t, w.ok(t, 200, "GET", "/v1/functions"+query, nil), "functions")); n != want {
			t.Errorf("%q lists %d", query, n)
		}
	}
	w.refused(t, 403, "Operation not allowed", "GET", "/v1/functions?all_projects=true", nil, "X-Auth-Token", w.other)
	if n := len(items(t, w.ok(t, 200, "GET", "/v1/functions?project_id=neq:x", nil, "X-Auth-Token", w.other), "functions")); n != 1 {
		t.Errorf("another project sees %d", n)
	}
	w.ok(t, 204, "DELETE", put, nil)
	w.refused(t, 404, "Function not found", "DELETE", put, nil)
}

func TestFunctionsMayComeFromSwiftOrAsAnImage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.runtime(t)
	s := w.ok(t, 201, "POST", "/v1/functions", url.Values{"runtime_id": {r}, "code": {`{"source": "swift", "swift": {"container": "functions", "object": "hello.py"}}`}, "entry": {"hello.main"}}.Encode(), "Content-Type", "application/x-www-form-urlencoded")
	if diff := cmp.Diff(object{"source": "swift", "swift": object{"container": "functions", "object": "hello.py"}}, s["code"]); diff != "" || s["name"] == nil {
		t.Error(diff, s)
	}
	if got := w.ok(t, 200, "PUT", "/v1/functions/"+s["id"].(string), object{"code": object{"source": "swift", "swift": object{"object": "other.py"}}}); cmp.Diff(object{"container": "functions", "object": "other.py"}, got["code"].(object)["swift"]) != "" {
		t.Errorf("updated %v", got)
	}
	w.refused(t, 403, "Function versioning only allowed for package type function.", "POST", "/v1/functions/"+s["id"].(string)+"/versions", object{})

	i := w.ok(t, 201, "POST", "/v1/functions", object{"code": object{"source": "image", "image": "registry.example/bell:1"}, "name": "bell"})
	if i["entry"] != nil || i["runtime_id"] != nil || cmp.Diff(object{"source": "image", "image": "registry.example/bell:1"}, i["code"]) != "" {
		t.Errorf("an image is %v", i)
	}
	id := "/v1/functions/" + i["id"].(string)
	w.refused(t, 405, "", "GET", id+"?download=true", nil)
	w.refused(t, 400, "The image type function code can not be changed.", "PUT", id, object{"code": `{"source": "image", "image": "registry.example/bell:2"}`})
	if got := w.ok(t, 200, "PUT", id, object{"name": "other", "timeout": "20"}); got["name"] != "other" || got["timeout"] != 20.0 {
		t.Errorf("updated %v", got)
	}
}

func TestTheLifeOfVersionsAndAliases(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.function(t, w.runtime(t), "f", "def main(**kwargs): return 1\n")
	versions := "/v1/functions/" + f + "/versions"
	w.refused(t, 400, "Invalid JSON", "POST", versions, nil)
	v := w.ok(t, 201, "POST", versions, object{"description": "first"})
	if diff := cmp.Diff([]string{"count", "created_at", "description", "function_id", "id", "project_id", "updated_at", "version_number"}, keys(v)); diff != "" || v["version_number"] != 1.0 || v["description"] != "first" {
		t.Error(diff, v)
	}
	w.refused(t, 403, "Function package not changed since the latest version 1.", "POST", versions, object{})
	change := func(content string) {
		file, _ := zipped(t, "main.py", content)
		body, kind := form(t, file, nil)
		w.ok(t, 200, "PUT", "/v1/functions/"+f, body, "Content-Type", kind)
	}
	change("def main(**kwargs): return 2\n")
	w.ok(t, 201, "POST", versions, object{})
	w.ok(t, 204, "DELETE", versions+"/2", nil)
	w.refused(t, 404, "FunctionVersion not found [function_id="+f+", version_number=2]", "GET", versions+"/2", nil)
	if v := w.ok(t, 201, "POST", versions, object{}); v["version_number"] != 3.0 {
		t.Errorf("a number is used again: %v", v)
	}
	if n := len(items(t, w.ok(t, 200, "GET", versions, nil), "function_versions")); n != 2 {
		t.Errorf("%d are listed", n)
	}
	w.refused(t, 404, "Function not found", "POST", versions, object{}, "X-Auth-Token", w.other)

	a := w.ok(t, 201, "POST", "/v1/aliases", object{"name": "prod", "function_id": f, "function_version": 1, "description": "d"})
	if diff := cmp.Diff([]string{"created_at", "description", "function_id", "function_version", "name", "project_id", "updated_at"}, keys(a)); diff != "" || a["function_version"] != 1.0 {
		t.Error(diff, a)
	}
	w.refused(t, 400, "Duplicate entry for function_aliases: [", "POST", "/v1/aliases", object{"name": "prod", "function_id": f, "function_version": 3})
	w.refused(t, 400, "Duplicate entry for function_aliases: [", "POST", "/v1/aliases", object{"name": "again", "function_id": f, "function_version": 1})
	w.ok(t, 201, "POST", "/v1/aliases", object{"name": "draft", "function_id": f})
	w.refused(t, 400, "Duplicate entry", "PUT", "/v1/aliases/draft", object{"function_version": 1})
	if got := w.ok(t, 200, "PUT", "/v1/aliases/prod", object{"function_id": nil, "function_version": 3, "description": nil}); got["function_version"] != 3.0 || got["description"] != "d" {
		t.Errorf("updated %v", got)
	}
	w.refused(t, 403, "prod", "DELETE", versions+"/3", nil)
	w.refused(t, 403, "The function is still associated with function alias(es).", "DELETE", "/v1/functions/"+f, nil)
	w.refused(t, 404, "FunctionAlias not found [name=none]", "GET", "/v1/aliases/none", nil)
	if n := len(items(t, w.ok(t, 200, "GET", "/v1/aliases", nil), "function_aliases")); n != 2 {
		t.Errorf("%d are listed", n)
	}
	e := w.ok(t, 201, "POST", "/v1/executions", object{"function_alias": "prod", "function_id": nil, "function_version": nil, "input": nil})
	if e["function_alias"] != "prod" || e["function_version"] != 3.0 {
		t.Errorf("executed %v", e)
	}
	w.ok(t, 204, "DELETE", "/v1/aliases/prod", nil)

	for _, name := range []string{"Prod", "v_1", "a", "two words", "100%?", "größer", strings.Repeat("x", 255)} {
		w.ok(t, 201, "POST", "/v1/aliases", object{"name": name, "function_id": f, "function_version": 3})
		path := "/v1/aliases/" + url.PathEscape(name)
		if got := w.ok(t, 200, "GET", path, nil); got["name"] != name {
			t.Errorf("%q is shown as %v", name, got)
		}
		native := strings.TrimSuffix(w.url, qinling.Prefix)
		if got := w.ok(t, 200, "GET", native+path, nil, "Authorization", "Bearer "+w.token); got["name"] != name {
			t.Errorf("%q is natively %v", name, got)
		}
		if got := w.ok(t, 200, "GET", native+"/v1/aliases", nil, "Authorization", "Bearer "+w.token); len(got["items"].([]any)) != 2 {
			t.Errorf("with %q there are natively %v", name, got)
		}
		if e := w.ok(t, 201, "POST", "/v1/executions", object{"function_alias": name}); e["function_alias"] != name {
			t.Errorf("executed %v", e)
		}
		w.ok(t, 204, "DELETE", path, nil)
	}
	for _, name := range []string{"a/b", "..", "a\nb", strings.Repeat("x", 256)} {
		w.refused(t, 400, "Invalid alias name", "POST", "/v1/aliases", object{"name": name, "function_id": f, "function_version": 3})
	}
	for i := range 8 {
		change(strings.Repeat("#\n", i+1))
		w.ok(t, 201, "POST", versions, object{})
	}
	change("x = 1\n")
	w.refused(t, 403, "Can not exceed maximum number(10) of versions", "POST", versions, object{})
}

func TestTheLifeOfAnExecution(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.function(t, w.runtime(t), "f", "def main(**kwargs): return 1\n")
	sent := `{"name":  "foo"}`
	e := w.ok(t, 201, "POST", "/v1/executions", object{"function_id": f, "input": sent, "function_version": 0, "description": "Hello", "function_alias": nil})
	id, _ := e["id"].(string)
	if diff := cmp.Diff([]string{"created_at", "description", "function_alias", "function_id", "function_version", "id", "input", "project_id", "result", "status", "sync", "updated_at"}, keys(e)); diff != "" {
		t.Error(diff)
	}
	if e["status"] != "success" || e["input"] != sent || e["sync"] != true || e["result"] != `{"duration":0.044,"output":"Hello, <b>"}` || e["function_alias"] != nil {
		t.Errorf("executed %v", e)
	}
	if got := w.ok(t, 200, "GET", "/v1/executions/"+id, nil); cmp.Diff(e, got) != "" {
		t.Error(cmp.Diff(e, got))
	}
	log := w.send(t, "GET", "/v1/executions/"+id+"/log", nil)
	if want := "Start execution: " + id + "\nprinted\nFinished execution: " + id + "\n"; log.body != want || !strings.HasPrefix(log.header.Get("Content-Type"), "text/plain") {
		t.Errorf("the log is %q", log.body)
	}
	for _, c := range []struct{ sent, kept any }{{nil, nil}, {"Jordan", "Jordan"}, {"[1, 2]", "[1, 2]"}, {`"quoted"`, `"quoted"`}, {"{}", "{}"}} {
		if got := w.ok(t, 201, "POST", "/v1/executions", object{"function_id": f, "input": c.sent}); got["input"] != c.kept {
			t.Errorf("%v is kept as %v", c.sent, got["input"])
		}
	}
	w.refused(t, 400, "input", "POST", "/v1/executions", object{"function_id": f, "input": object{"a": 1}})
	w.refused(t, 400, "Either function_alias or function_id must be provided.", "POST", "/v1/executions", object{})
	w.refused(t, 404, "FunctionVersion not found", "POST", "/v1/executions", object{"function_id": f, "function_version": 9})
	w.refused(t, 400, "Unknown attribute for argument execution: shots", "POST", "/v1/executions", object{"function_id": f, "shots": 1})

	for _, c := range []struct {
		finish         postgres.Finish
		status, output string
	}{
		{postgres.Finish{Status: warpket.Failed, Error: &warpket.Failure{Code: warpket.Raised, Message: "ValueError: no such gate", Traceback: "Traceback: here"}}, "failed", "no such gate"},
		{postgres.Finish{Status: warpket.TimedOut, Error: &warpket.Failure{Code: warpket.TimedOutCode, Message: "m"}}, "failed", "Function execution timeout."},
		{postgres.Finish{Status: warpket.Failed, Error: &warpket.Failure{Code: warpket.OutOfMemory, Message: "m"}}, "failed", "Function execution failed because of too much resource consumption"},
		{postgres.Finish{Status: warpket.Failed, Error: &warpket.Failure{Code: warpket.NotPlaced, Message: "m"}}, "error", "Function execution failed."},
	} {
		w.mu.Lock()
		w.finish = func(warpket.Execution) *postgres.Finish { f := c.finish; return &f }
		w.mu.Unlock()
		e := w.ok(t, 201, "POST", "/v1/executions", object{"function_id": f})
		if result, _ := e["result"].(string); e["status"] != c.status || !strings.Contains(result, `"output":"`+c.output+`"`) {
			t.Errorf("%s: %v", c.finish.Error.Code, e)
		}
		if log := w.send(t, "GET", "/v1/executions/"+e["id"].(string)+"/log", nil).body; !strings.Contains(log, c.finish.Error.Traceback) {
			t.Errorf("the log is %q", log)
		}
	}

	w.mu.Lock()
	w.finish = nil
	w.mu.Unlock()
	open := w.ok(t, 201, "POST", "/v1/executions", object{"function_id": f, "sync": false, "description": "open"})
	if open["status"] != "running" || open["result"] != nil || open["sync"] != false {
		t.Errorf("it is %v", open)
	}
	w.refused(t, 403, "cancel it first", "DELETE", "/v1/executions/"+open["id"].(string), nil)
	for query, want := range map[string]int{
		"": 11, "?status=running": 1, "?status=success": 6, "?status=in:failed,error": 4, "?status=neq:success": 5, "?description=has:ell": 1, "?description=open": 1, "?function_id=" + f: 11,
		"?function_id=neq:" + f: 0, "?function_id=nothing": 0, "?function_version=0": 11, "?function_version=gte:1": 0, "?all_projects=true": 11,
	} {
		if n := len(items(t, w.ok(t, 200, "GET", "/v1/executions"+query, nil), "executions")); n != want {
			t.Errorf("%q lists %d", query, n)
		}
	}
	if listed := items(t, w.ok(t, 200, "GET", "/v1/executions?description=Hello", nil), "executions"); listed[0]["input"] != sent || listed[0]["result"] != e["result"] {
		t.Errorf("listed %v", listed)
	}
	w.refused(t, 404, "Execution not found", "GET", "/v1/executions/"+id, nil, "X-Auth-Token", w.other)
	w.refused(t, 400, "UUID", "GET", "/v1/executions/x", nil)
	w.ok(t, 204, "DELETE", "/v1/executions/"+id, nil)
	if got := w.ok(t, 200, "GET", "/v1/functions/"+f, nil); got["count"].(float64) < 10 {
		t.Errorf("counted %v", got["count"])
	}
}

func TestAListFindsWhatIsRareAmongMoreThanItLooksAt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.function(t, w.runtime(t), "f", "def main(**kwargs): return 1\n")
	finish := func(status warpket.Status, code warpket.FailureCode) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.finish = func(warpket.Execution) *postgres.Finish {
			return &postgres.Finish{Status: status, Error: &warpket.Failure{Code: code, Message: "m"}}
		}
	}
	for status, code := range map[warpket.Status]warpket.FailureCode{warpket.Failed: warpket.Raised, warpket.TimedOut: warpket.TimedOutCode, warpket.Lost: warpket.LostCode} {
		finish(status, code)
		w.ok(t, 201, "POST", "/v1/executions", object{"function_id": f})
	}
	finish(warpket.Failed, warpket.NotPlaced)
	w.ok(t, 201, "POST", "/v1/executions", object{"function_id": f})
	w.mu.Lock()
	w.finish = func(warpket.Execution) *postgres.Finish { return &postgres.Finish{Status: warpket.Succeeded} }
	w.mu.Unlock()
	last, _ := w.ok(t, 201, "POST", "/v1/executions", object{"function_id": f})["id"].(string)
	w.repeat(t, last, 23_000)
	for query, want := range map[string]int{
		"status=failed": 2, "status=error": 2, "status=in:failed,error": 4, "status=neq:success": 4, "status=running": 0, "status=nin:running,success,failed,error": 0,
		"status=success": 1000, "status=eq:success": 1000, "status=has:cc": 1000, "status=gt:failed&function_id=in:" + f: 1000,
	} {
		if n := len(items(t, w.ok(t, 200, "GET", "/v1/executions?"+query, nil), "executions")); n != want {
			t.Errorf("%q lists %d", query, n)
		}
	}
	for _, query := range []string{"description=nothing", "function_version=7", "status=success&description=nothing"} {
		w.refused(t, 400, "narrow the list", "GET", "/v1/executions?"+query, nil)
	}
}

func TestTheLifeOfAWebhook(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.function(t, w.runtime(t), "f", "def main(**kwargs): return 1\n")
	w.ok(t, 201, "POST", "/v1/aliases", object{"name": "prod", "function_id": f})
	h := w.ok(t, 201, "POST", "/v1/webhooks", object{"function_id": f, "function_version": 0, "function_alias": nil, "description": "d"})
	id, _ := h["id"].(string)
	if diff := cmp.Diff([]string{"created_at", "description", "function_alias", "function_id", "function_version", "id", "project_id", "updated_at", "webhook_url"}, keys(h)); diff != "" || h["webhook_url"] != w.url+"/v1/webhooks/"+id+"/invoke" {
		t.Error(diff, h)
	}
	for _, c := range []struct{ kind, body, input string }{
		{"application/json", `{"a": 1}`, `{"a": 1}`}, {"application/x-www-form-urlencoded", "a=1", `{"a":"1"}`}, {"", "", ""},
	} {
		a := w.send(t, "POST", "/v1/webhooks/"+id+"/invoke", c.body, "X-Auth-Token", "", "Content-Type", c.kind)
		var out struct {
			ID string `json:"execution_id"`
		}
		if err := json.Unmarshal([]byte(a.body), &out); err != nil || a.status != 202 || !strings.HasSuffix(a.header.Get("Location"), "/v1/executions/"+out.ID) {
			t.Fatalf("invoked: %d %s", a.status, a.body)
		}
		e := w.ok(t, 200, "GET", "/v1/executions/"+out.ID, nil)
		if input, _ := e["input"].(string); e["description"] != "Created by Webhook "+id || e["sync"] != false || input != c.input {
			t.Errorf("executed %v", e)
		}
	}
	if got := w.ok(t, 200, "PUT", "/v1/webhooks/"+id, object{"function_alias": "prod"}); got["function_alias"] != "prod" || got["function_id"] != nil || got["function_version"] != nil || got["description"] != "d" {
		t.Errorf("updated %v", got)
	}
	w.refused(t, 404, "Webhook not found", "PUT", "/v1/webhooks/"+id, object{"description": "x"}, "X-Auth-Token", w.other)
	w.refused(t, 404, "Webhook not found", "POST", "/v1/webhooks/01981d3c-8f5a-7d1e-9a40-3c8c5f1d2b6a/invoke", nil)
	w.refused(t, 403, "prod", "DELETE", "/v1/aliases/prod", nil)
	w.ok(t, 200, "PUT", "/v1/webhooks/"+id, object{"function_id": f, "function_version": 0})
	w.ok(t, 204, "DELETE", "/v1/aliases/prod", nil)
	w.refused(t, 403, "The function is still associated with webhook(s).", "DELETE", "/v1/functions/"+f, nil)
	if n := len(items(t, w.ok(t, 200, "GET", "/v1/webhooks", nil), "webhooks")); n != 1 {
		t.Errorf("%d are listed", n)
	}
	w.ok(t, 204, "DELETE", "/v1/webhooks/"+id, nil)
}

func TestTheLifeOfAJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.function(t, w.runtime(t), "f", "def main(**kwargs): return 1\n")
	soon := time.Now().UTC().Add(time.Hour).Format("2006-01-02T15:04:05")
	w.refused(t, 400, "Execution time must be at least 1 minute in the future.", "POST", "/v1/jobs", object{"function_id": f, "first_execution_time": "2020-01-01 10:00:00"})
	w.refused(t, 400, "pattern must be provided if count is greater than 1.", "POST", "/v1/jobs", object{"function_id": f, "first_execution_time": soon, "count": 2})
	w.refused(t, 400, "pattern", "POST", "/v1/jobs", object{"function_id": f, "pattern": "every day"})
	w.refused(t, 400, "must be provided", "POST", "/v1/jobs", object{"function_id": f})
	j := w.ok(t, 201, "POST", "/v1/jobs", object{
		"function_id": f, "function_version": 0, "function_alias": nil, "name": "weekly", "pattern": "0 0 * * SUN", "count": 5, "function_input": `{"name": "Foo"}`, "first_execution_time": nil,
	})
	id, _ := j["id"].(string)
	want := []string{"count", "created_at", "first_execution_time", "function_alias", "function_id", "function_input", "function_version", "id", "name", "next_execution_time", "pattern", "project_id", "status", "updated_at"}
	if diff := cmp.Diff(want, keys(j)); diff != "" {
		t.Error(diff)
	}
	if next, _ := j["next_execution_time"].(string); !moment.MatchString(next) || j["status"] != "running" || j["count"] != 5.0 || j["function_input"] != `{"name": "Foo"}` || j["function_version"] != 0.0 {
		t.Errorf("created %v", j)
	}
	once := w.ok(t, 201, "POST", "/v1/jobs", object{"function_id": f, "first_execution_time": soon})
	if once["count"] != 1.0 || once["pattern"] != nil || once["first_execution_time"] != soon+"Z" {
		t.Errorf("created %v", once)
	}
	w.refused(t, 400, "Can not change job type.", "PUT", "/v1/jobs/"+once["id"].(string), object{"pattern": "* * * * *"})
	if got := w.ok(t, 200, "PUT", "/v1/jobs/"+id, object{"status": "paused"}); got["status"] != "paused" {
		t.Errorf("paused %v", got)
	}
	if got := w.ok(t, 200, "PUT", "/v1/jobs/"+id, object{"status": "running", "next_execution_time": soon, "name": "other"}); got["status"] != "running" || got["next_execution_time"] != soon+"Z" || got["name"] != "other" {
		t.Errorf("resumed %v", got)
	}
	w.refused(t, 403, "The function is still associated with running job(s).", "PUT", "/v1/functions/"+f, object{"name": "x"})
	w.refused(t, 403, "The function is still associated with running job(s).", "DELETE", "/v1/functions/"+f, nil)
	if got := w.ok(t, 200, "PUT", "/v1/jobs/"+id, object{"status": "canceled"}); got["status"] != "cancelled" {
		t.Errorf("cancelled %v", got)
	}
	w.refused(t, 400, "Can not update a finished job.", "PUT", "/v1/jobs/"+id, object{"status": "running"})
	w.refused(t, 404, "Job not found", "GET", "/v1/jobs/"+id, nil, "X-Auth-Token", w.other)
	if n := len(items(t, w.ok(t, 200, "GET", "/v1/jobs", nil), "jobs")); n != 2 {
		t.Errorf("%d are listed", n)
	}
	w.ok(t, 204, "DELETE", "/v1/jobs/"+id, nil)
}

func TestAWorkerIsUpToThreeSlots(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.function(t, w.runtime(t), "f", "def main(**kwargs): return 1\n")
	at := "/v1/functions/" + f
	for _, path := range []string{"/scale_up", "/scale_down", "/detach", "/versions/1/scale_up", "/versions/1/detach"} {
		w.refused(t, 403, "Operation not allowed", "POST", at+path, object{}, "X-Auth-Token", w.other)
	}
	w.refused(t, 403, "Operation not allowed", "GET", at+"/workers", nil, "X-Auth-Token", w.other)
	w.refused(t, 400, "positive integer", "POST", at+"/scale_up", object{"count": 0})
	a := w.send(t, "POST", at+"/scale_up", object{"count": 2})
	if a.status != 202 || a.body != "" || a.header.Get("Location") == "" || len(w.deployed) != 1 || w.deployed[0].Slots != 6 || !w.deployed[0].Elastic || w.deployed[0].VersionNumber != 0 {
		t.Fatalf("scaled up: %d %q, %v", a.status, a.body, w.deployed)
	}
	w.ok(t, 202, "POST", at+"/scale_up", nil)
	w.ok(t, 202, "POST", at+"/scale_down", object{"count": 9})
	w.ok(t, 202, "POST", at+"/scale_down", object{"count": 1})
	if diff := cmp.Diff([]int{9, 3}, w.scaled); diff != "" {
		t.Error(diff)
	}
	if n := len(items(t, w.ok(t, 200, "GET", at+"/workers?function_version=0", nil), "workers")); n != 0 {
		t.Errorf("%d workers without a node", n)
	}
	w.ok(t, 202, "POST", at+"/detach", nil)
	if len(w.detached) != 1 {
		t.Errorf("detached %v", w.detached)
	}
}

func TestAPasswordClientLogsInWithItsToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	log := func(password, project string) answer {
		return w.send(t, "POST", "/identity/v3/auth/tokens", object{"auth": object{
			"identity": object{"methods": []string{"password"}, "password": object{"user": object{"name": "me", "domain": object{"id": "default"}, "password": password}}},
			"scope":    object{"project": object{"name": project, "domain": object{"id": "default"}}},
		}}, "X-Auth-Token", "")
	}
	a := log(w.token, "other")
	token := a.header.Get("X-Subject-Token")
	if a.status != 201 || token != w.token+":other" || !strings.Contains(a.body, `"type":"function-engine"`) || !strings.Contains(a.body, w.url) {
		t.Fatalf("logged in: %d %q %s", a.status, token, a.body)
	}
	f := w.function(t, w.runtime(t), "theirs", "def main(**kwargs): pass\n", "X-Auth-Token", token)
	if got := w.ok(t, 200, "GET", "/v1/functions/"+f, nil, "X-Auth-Token", w.other); got["name"] != "theirs" {
		t.Errorf("it is %v", got)
	}
	w.ok(t, 200, "GET", "/identity/v3/auth/tokens", nil, "X-Auth-Token", token, "X-Subject-Token", token)
	for _, c := range [][2]string{{"wrong", "other"}, {w.other, "default"}, {w.token, "none"}} {
		if a := log(c[0], c[1]); a.status != 401 {
			t.Errorf("%s in %s: %d %s", c[0][:5], c[1], a.status, a.body)
		}
	}
	w.ok(t, 200, "GET", "/identity", nil, "X-Auth-Token", "")
	w.ok(t, 200, "GET", "/identity/v3/", nil, "X-Auth-Token", "")
}

func TestWhatIsDoneHereIsInTheAudit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.function(t, w.runtime(t), "f", "def main(**kwargs): pass\n")
	w.ok(t, 204, "DELETE", "/v1/functions/"+f, nil)
	acts, _, err := w.store.Acts(t.Context(), postgres.ActFilter{Operation: "qinling-delete-function"}, postgres.Page{Limit: 10})
	if err != nil || len(acts) != 1 || acts[0].Subject != f || acts[0].Status != 204 {
		t.Errorf("the audit has %v %v", acts, err)
	}
	f = w.function(t, w.runtime(t), "f", "def main(**kwargs): pass\n")
	h := w.ok(t, 201, "POST", "/v1/webhooks", object{"function_id": f})
	acts, _, err = w.store.Acts(t.Context(), postgres.ActFilter{Operation: "qinling-create-webhook"}, postgres.Page{Limit: 10})
	if err != nil || len(acts) != 1 || acts[0].Subject != h["id"] {
		t.Errorf("the audit has %v %v", acts, err)
	}
}
