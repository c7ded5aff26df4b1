package e2e

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/warpket/warpket/runners/image/imagetest"
)

func TestAnImageRunsAsAFunction(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	registry := imagetest.New(t, "", "")
	registry.Push(t, "echo:1", imagetest.Image(t, "echo"))
	create := object{"functionName": unique("image"), "source": "image", "image": registry.Host + "/echo:1"}
	id := as[function](t, c.ok(t, "POST", "/v1/functions", create)).FunctionID
	d := c.deploy(t, id, 1, object{})
	if d.Status != "ready" {
		t.Fatalf("it is %+v", d)
	}
	registry.Push(t, "echo:1", imagetest.Image(t, "exit", "3")) // the tag moves

	e := c.execute(t, id, object{"input": object{"a": 1}})
	if e.Status != "succeeded" || string(e.Result) != `{"a":1}` {
		t.Errorf("it ended %+v", e)
	}
	if log := string(c.ok(t, "GET", "/v1/executions/"+e.ID+"/log", nil).body); !strings.Contains(log, "to the log, too") {
		t.Errorf("its log is %q", log)
	}
	express := c.execute(t, id, object{"lane": "express", "input": object{"b": 2}})
	if express.Status != "succeeded" || string(express.Result) != `{"b":2}` {
		t.Errorf("express, it ended %+v", express)
	}

	// A version without a deployment is pulled when it is called.
	c.ok(t, "POST", "/v1/functions/"+id+"/versions", object{"functionId": id, "image": registry.Host + "/echo:1"})
	if e := c.execute(t, id, nil); e.Status != "failed" || e.Version != 2 || e.Error == nil || e.Error.Code != "exited" || !strings.Contains(e.Error.Message, "exit code 3") {
		t.Errorf("version 2 ended %+v", e)
	}
	c.ok(t, "POST", "/v1/functions/"+id+"/versions", object{"functionId": id, "image": registry.Host + "/echo:1", "command": []string{"nonesuch"}})
	if d := c.deploy(t, id, 3, object{}); d.Status != "failed" || !strings.Contains(d.Message, `no program "nonesuch"`) {
		t.Errorf("an image without its program is %+v", d)
	}
	waits := as[function](t, c.ok(t, "POST", "/v1/functions", object{"functionName": unique("image"), "source": "image", "image": registry.Host + "/echo:1", "command": []string{"guest", "wait"}})).FunctionID
	if e := c.execute(t, waits, object{"resources": object{"timeout": 1}}); e.Status != "timed_out" {
		t.Errorf("what takes too long ended %+v", e)
	}
}

func TestAPrivateImageNeedsItsProjectsCredentials(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	canary := unique("canary")
	registry := imagetest.New(t, "user", canary)
	registry.Push(t, "world:1", imagetest.Image(t, "world"))
	create := object{"functionName": unique("private"), "source": "image", "image": registry.Host + "/world:1"}
	if a := c.send(t, "POST", "/v1/functions", create); a.status != 422 || !strings.Contains(string(a.body), "give it a user and password") {
		t.Errorf("without credentials: %d %s", a.status, a.body)
	}
	secret, token := strings.ReplaceAll(unique("REGISTRY"), "-", "_"), strings.ReplaceAll(unique("TOKEN"), "-", "_")
	c.ok(t, "POST", "/v1/secrets", object{"name": secret, "value": `{"username":"user","password":"` + canary + `"}`})
	c.ok(t, "POST", "/v1/secrets", object{"name": token, "value": "of the function"})
	create["credentials"] = secret
	id := as[function](t, c.ok(t, "POST", "/v1/functions", create)).FunctionID
	c.ok(t, "PUT", "/v1/functions/"+id+"/environment", object{"variables": object{"LEVEL": "1"}, "secrets": object{"TOKEN": token}})
	d := c.deploy(t, id, 1, object{})
	if d.Status != "ready" {
		t.Fatalf("it is %+v", d)
	}
	e := c.execute(t, id, object{"shots": 7, "seed": 11})
	for _, want := range []string{`"TOKEN":"of the function"`, `"LEVEL":"1"`, `"WARPKET_SHOTS":"7"`, `"WARPKET_SEED":"11"`, `"WARPKET_EXECUTION_ID":"` + e.ID + `"`} {
		if !strings.Contains(string(e.Result), want) {
			t.Errorf("%s is not in %s (%+v)", want, e.Result, e.Error)
		}
	}

	told := map[string]string{}
	for _, path := range []string{"/v1/functions/" + id, "/v1/functions/" + id + "/versions/1", "/v1/deployments/" + d.ID, "/v1/executions/" + e.ID, "/v1/secrets/" + secret} {
		told[path] = string(c.ok(t, "GET", path, nil).body)
	}
	until(t, 20*time.Second, "Temporal lists the deployment", func() bool {
		told["Temporal"] = c.histories(t, "warpket-deployments")
		return strings.Contains(told["Temporal"], d.ID)
	})
	logs, err := filepath.Glob(filepath.Join(shared.dir, "log", "*"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("the logs are %v (%v)", logs, err)
	}
	for _, file := range logs {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		told[file] = string(b)
	}
	for where, text := range told {
		if strings.Contains(text, canary) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte("user:" + canary))[:20]) {
			t.Errorf("%s tells the password", where)
		}
	}
}
