package e2e

import (
	"net/http"
	"strings"
	"testing"
)

func TestBadInputIsRefusedAndNothingIsHalfMade(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	good := c.python(t, unique("good"), "def handler(event, context): return 1\n", nil)
	other := c.python(t, unique("other"), "def handler(event, context): return 1\n", nil)
	foreign := as[version](t, c.ok(t, "GET", "/v1/functions/"+other+"/versions/2", nil)).Files[0].ID
	taken := as[struct{ FunctionName string }](t, c.ok(t, "GET", "/v1/functions/"+good, nil)).FunctionName
	file := func(fields object) object { return object{"templateFiles": []object{fields}} }
	many := func(names ...string) object {
		var files []object
		for _, n := range names {
			files = append(files, object{"filename": n, "content": "x"})
		}
		return object{"templateFiles": files}
	}
	big := []object{}
	for range 51 {
		big = append(big, object{"filename": unique("f"), "content": strings.Repeat("x", 1<<20)})
	}
	versions, functions := "/v1/functions/"+good+"/versions", "/v1/functions"
	tests := map[string]struct {
		method, path string
		body         any
		status       int
		code, says   string
	}{
		"unknown template":            {"POST", functions, object{"functionName": unique("x"), "templateLanguageTag": "Kiskit"}, 422, "invalid", "Qiskit"},
		"SDK version without release": {"POST", functions, object{"functionName": unique("x"), "templateLanguageTag": "Qiskit", "sdkVersion": "0.45.9"}, 422, "invalid", "0.45.3"},
		"SDK version that is too old": {"POST", functions, object{"functionName": unique("x"), "templateLanguageTag": "Qiskit", "sdkVersion": "0.39.5"}, 422, "invalid", "0.45"},
		"SDK version that is none":    {"POST", functions, object{"functionName": unique("x"), "templateLanguageTag": "Qiskit", "sdkVersion": "latest; rm"}, 422, "invalid", "version"},
		"Python that no node has":     {"POST", functions, object{"functionName": unique("x"), "templateLanguageTag": "Python", "sdkVersion": "3.1"}, 422, "invalid", "3."},
		"taken name":                  {"POST", functions, object{"functionName": taken, "templateLanguageTag": "Python"}, 409, "conflict", taken},
		"name with capitals":          {"POST", functions, object{"functionName": "Bell!", "templateLanguageTag": "Python"}, 422, "invalid", "a-z"},
		"name of one letter":          {"POST", functions, object{"functionName": "b", "templateLanguageTag": "Python"}, 422, "invalid", "2 to 63"},
		"path with ..":                {"POST", versions, file(object{"filename": "../etc/passwd", "content": "x"}), 422, "invalid", ".."},
		"path with .. inside":         {"POST", versions, file(object{"filename": "a/../../b", "content": "x"}), 422, "invalid", ".."},
		"absolute path":               {"POST", versions, file(object{"filename": "/etc/passwd", "content": "x"}), 422, "invalid", "absolute"},
		"path with NUL":               {"POST", versions, file(object{"filename": "a\x00b", "content": "x"}), 422, "invalid", "characters"},
		"duplicate path":              {"POST", versions, many("a.py", "a.py"), 422, "invalid", "twice"},
		"file that is a folder too":   {"POST", versions, many("a", "a/b.py"), 422, "invalid", "folder"},
		"empty version":               {"POST", versions, object{"templateFiles": []object{}}, 422, "invalid", "at least one file"},
		"file over 1 MiB":             {"POST", versions, file(object{"filename": "a.py", "content": strings.Repeat("x", 1<<20+1)}), 413, "too_large", "1 MiB"},
		"version over 50 MiB":         {"POST", versions, object{"templateFiles": big}, 413, "too_large", "50 MiB"},
		"file of another function":    {"POST", versions, file(object{"filename": "a.py", "fileId": foreign}), 422, "invalid", "no file"},
		"file without content":        {"POST", versions, file(object{"filename": "a.py"}), 422, "invalid", "content"},
		"other functionId in body":    {"POST", versions, object{"functionId": other, "templateFiles": []object{{"filename": "a", "content": "b"}}}, 422, "invalid", "functionId"},
		"entry that is none":          {"PATCH", "/v1/functions/" + good, object{"entry": "handler"}, 422, "invalid", "module.function"},
		"memory out of bounds":        {"PATCH", "/v1/functions/" + good, object{"resources": object{"memory": 1}}, 422, "invalid", "memory"},
		"input that is no JSON":       {"POST", "/v1/executions", `{"functionId":"` + good + `","input":{broken}`, 400, "malformed", ""},
		"body that is no object":      {"POST", "/v1/executions", `[]`, 422, "invalid", ""},
		"unknown field":               {"POST", "/v1/executions", object{"functionId": good, "funktion": 1}, 422, "invalid", "unexpected"},
		"version that is not there":   {"POST", "/v1/executions", object{"functionId": good, "version": 99}, 404, "not_found", "99"},
		"function that is not there":  {"POST", "/v1/executions", object{"functionId": "00000000-0000-7000-8000-000000000000"}, 404, "not_found", "function"},
		"function ID that is none":    {"GET", "/v1/functions/x%27--", nil, 404, "not_found", "function"},
		"target that it lacks":        {"POST", "/v1/executions", object{"functionId": good, "target": "compile"}, 422, "invalid", "cpu"},
		"memory that no node has":     {"POST", "/v1/executions", object{"functionId": good, "resources": object{"memory": 1 << 41}}, 422, "invalid", "even when empty"},
		"deploy a missing version":    {"POST", versions + "/99/deployments", object{}, 404, "not_found", "99"},
		"negative slots":              {"POST", versions + "/1/deployments", object{"slots": -1}, 422, "invalid", "slots"},
		"cursor that is none":         {"GET", "/v1/executions?cursor=%00", nil, 422, "invalid", "cursor"},
		"unknown query parameter":     {"GET", "/v1/executions?zzz=1", nil, 422, "invalid", "zzz"},
		"path that is nothing":        {"GET", "/v1/nothing", nil, 404, "not_found", "/docs"},
		"method that is not":          {"PUT", "/v1/executions", object{}, 405, "method_not_allowed", "POST"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := c.send(t, tt.method, tt.path, tt.body)
			p := as[problem](t, a)
			if a.status != tt.status || p.Code != tt.code || p.Status != tt.status {
				t.Fatalf("answered %d %s", a.status, a.body)
			}
			if a.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("the content type is %q", a.header.Get("Content-Type"))
			}
			if !strings.Contains(string(a.body), tt.says) {
				t.Errorf("said %s, without %q", a.body, tt.says)
			}
		})
	}
	t.Cleanup(func() {
		details := as[struct{ VersionList []version }](t, c.sendLate("GET", "/v1/functions/"+good))
		if len(details.VersionList) != 2 {
			t.Errorf("the function has %d versions after bad requests, not 2", len(details.VersionList))
		}
		left := as[struct {
			Items []struct{ FunctionName string }
		}](t, c.sendLate("GET", "/v1/functions?limit=200"))
		for _, f := range left.Items {
			if strings.HasPrefix(f.FunctionName, "x-") {
				t.Errorf("a refused request has left the function %s", f.FunctionName)
			}
		}
	})
}

func TestDeletingAFunctionWhileItRunsIsRefused(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	id := c.python(t, unique("running"), "import time\ndef handler(event, context):\n    time.sleep(600)\n", object{"resources": object{"timeout": 1000}})
	e := c.execute(t, id, object{"sync": false})
	if a := c.send(t, "DELETE", "/v1/functions/"+id, nil); a.status != http.StatusConflict {
		t.Fatalf("answered %d %s", a.status, a.body)
	}
	if a := c.ok(t, "DELETE", "/v1/functions/"+id+"?force=true", nil); as[function](t, a).FunctionID != id {
		t.Errorf("answered %s", a.body)
	}
	if e := c.final(t, e.ID); e.Status != "cancelled" {
		t.Errorf("its execution ended %+v", e)
	}
	if a := c.send(t, "GET", "/v1/functions/"+id, nil); a.status != http.StatusNotFound {
		t.Errorf("the function is still there: %d", a.status)
	}
}
