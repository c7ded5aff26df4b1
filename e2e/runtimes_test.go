package e2e

import (
	"strings"
	"testing"

	"github.com/warpket/warpket/runners/image/imagetest"
)

type runtime struct {
	ID, Status, Message, BuildID, ImageDigest string
	Revision                                  int
}

type pool struct {
	Name     string
	Capacity struct{ Available, Total int }
}

func TestFilesRunOnARuntimeThatWasCreatedOfAnImage(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	registry := imagetest.New(t, "", "")
	registry.Push(t, "reader:1", imagetest.Image(t, "read", "handler.py"))
	r := as[runtime](t, c.ok(t, "POST", "/v1/runtimes", object{"name": "reader", "image": registry.Host + "/reader:1"}, "Prefer", "wait=120"))
	if r.Status != "available" || r.ImageDigest == "" {
		t.Fatalf("it is %+v", r)
	}
	files := func(content string) []object { return []object{{"filename": "handler.py", "content": content}} }
	id := as[function](t, c.ok(t, "POST", "/v1/functions", object{"functionName": unique("read"), "runtimeId": r.ID, "entry": "any", "templateFiles": files("first")})).FunctionID
	if d := c.deploy(t, id, 1, object{}); d.Status != "ready" {
		t.Fatalf("it is %+v", d)
	}
	if e := c.execute(t, id, nil); string(e.Result) != `"first"` {
		t.Errorf("it ended %+v", e)
	}
	if got := as[pool](t, c.ok(t, "GET", "/v1/runtimes/"+r.ID+"/pool", nil)); got.Name != r.ID || got.Capacity.Total != 1 || got.Capacity.Available != 1 {
		t.Errorf("its pool is %+v", got)
	}

	// Another image is that of the next version.
	registry.Push(t, "reader:2", imagetest.Image(t, "world"))
	if r = as[runtime](t, c.ok(t, "PATCH", "/v1/runtimes/"+r.ID, object{"image": registry.Host + "/reader:2"}, "Prefer", "wait=120")); r.Status != "available" || r.Revision != 2 {
		t.Fatalf("it is %+v", r)
	}
	c.ok(t, "POST", "/v1/functions/"+id+"/versions", object{"templateFiles": files("second")})
	e := c.execute(t, id, nil)
	for _, want := range []string{`"WARPKET_CODE":"/code"`, `"WARPKET_ENTRY":"any"`, `"dir":"/code"`} {
		if e.Version != 2 || !strings.Contains(string(e.Result), want) {
			t.Errorf("%s is not in %s (%+v)", want, e.Result, e)
		}
	}
	if e := c.execute(t, id, object{"version": 1}); string(e.Result) != `"first"` {
		t.Errorf("version 1 ended %+v", e)
	}
	if a := c.send(t, "DELETE", "/v1/runtimes/"+r.ID, nil); a.status != 409 {
		t.Errorf("it is deleted while in use: %d %s", a.status, a.body)
	}
}

func TestARuntimeOfAnSDKIsReadyBeforeItsFunctions(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	r := as[runtime](t, c.ok(t, "POST", "/v1/runtimes", object{"name": "plain", "sdk": "python", "sdkVersion": c.pythonVersion(t)}, "Prefer", "wait=120"))
	if r.Status != "available" || r.BuildID == "" {
		t.Fatalf("it is %+v", r)
	}
	id := as[function](t, c.ok(t, "POST", "/v1/functions", object{
		"functionName": unique("plain"), "runtimeId": r.ID, "entry": "main.run", "templateFiles": []object{{"filename": "main.py", "content": "def run(a, b): return a + b\n"}},
	})).FunctionID
	if e := c.execute(t, id, object{"input": object{"a": 1, "b": 2}}); string(e.Result) != "3" {
		t.Errorf("it ended %+v", e)
	}
	if got := as[pool](t, c.ok(t, "GET", "/v1/runtimes/"+r.ID+"/pool", nil)); got.Capacity.Total < 1 || got.Capacity.Available < 1 {
		t.Errorf("its pool is %+v", got)
	}
	c.ok(t, "DELETE", "/v1/functions/"+id, nil)
	c.ok(t, "DELETE", "/v1/runtimes/"+r.ID, nil)
	if a := c.send(t, "GET", "/v1/runtimes/"+r.ID, nil); a.status != 404 {
		t.Errorf("it is still there: %d %s", a.status, a.body)
	}
}
