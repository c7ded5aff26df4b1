package e2e

import (
	"archive/zip"
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// draft sets the draft of a function to answer a text.
func (c *client) draft(t *testing.T, function, text string) {
	t.Helper()
	code := fmt.Sprintf("def handler(event, context): return %q\n", text)
	c.ok(t, "PUT", "/v1/functions/"+function+"/draft", object{"templateFiles": []object{{"filename": "handler.py", "content": code}}})
}

func TestADraftRunsFromTheMomentThatItIsSet(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	id := c.python(t, unique("draft"), "def handler(event, context): return 'published'\n", nil)
	path := "/v1/functions/" + id
	c.draft(t, id, "first")
	answers := func(text string, more object) {
		t.Helper()
		if e := c.execute(t, id, more); e.Status != "succeeded" || string(e.Result) != `"`+text+`"` {
			t.Errorf("want %s, got %+v", text, e)
		}
	}
	answers("first", object{"draft": true})
	answers("first", object{"draft": true, "lane": "express"})
	answers("published", nil)

	d := as[deployed](t, c.deployment(t, path+"/draft", nil))
	if d.Status != "ready" {
		t.Fatalf("the deployment is %+v", d)
	}
	answers("first", object{"draft": true})
	before := d.Placement.Slots[0].SlotID
	c.draft(t, id, "second")
	answers("second", object{"draft": true})
	d = as[deployed](t, c.ok(t, "GET", "/v1/deployments/"+d.ID, nil, "Prefer", "wait=60"))
	if d.Status != "ready" || d.Ready != 1 {
		t.Errorf("the deployment is %+v", d)
	}
	until(t, 30*time.Second, "only the new slot is left", func() bool { // the old one goes after the new one is ready
		d = as[deployed](t, c.ok(t, "GET", "/v1/deployments/"+d.ID, nil))
		return len(d.Placement.Slots) == 1 && d.Placement.Slots[0].SlotID != before
	})
	answers("second", object{"draft": true})
	workers := as[struct {
		Items []struct {
			SlotID  string
			Version int
		}
	}](t, c.ok(t, "GET", path+"/workers?draft=true", nil)).Items
	if len(workers) == 0 {
		t.Error("the draft has no workers")
	}

	v := as[version](t, c.ok(t, "POST", path+"/draft/publish", nil))
	if v.Version != 3 {
		t.Errorf("published %+v", v)
	}
	c.draft(t, id, "third")
	answers("second", nil)
	answers("third", object{"draft": true})
	if details := as[struct{ Executions int }](t, c.ok(t, "GET", path, nil)); details.Executions != 8 {
		t.Errorf("%d executions are counted", details.Executions)
	}
	diff := as[struct{ Files []struct{ Diff string } }](t, c.ok(t, "GET", path+"/versions/3/diff/0", nil)).Files
	if len(diff) != 1 || !strings.Contains(diff[0].Diff, `+def handler(event, context): return "third"`) {
		t.Errorf("the differences are %+v", diff)
	}
	archive := c.ok(t, "GET", path+"/versions/3/archive", nil).body
	if z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive))); err != nil || len(z.File) != 1 {
		t.Errorf("the archive is %q (%v)", archive, err)
	}
}

func TestADraftThatDoesNotLoadFailsItsDeployment(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	id := c.python(t, unique("broken"), "def handler(event, context): return 1\n", nil)
	path := "/v1/functions/" + id
	d := as[deployed](t, c.deployment(t, path+"/draft", nil))
	if d.Status != "ready" {
		t.Fatalf("the deployment is %+v", d)
	}
	c.ok(t, "PUT", path+"/draft", object{"templateFiles": []object{{"filename": "handler.py", "content": "def handler(event, context) return 1\n"}}})
	d = as[deployed](t, c.ok(t, "GET", "/v1/deployments/"+d.ID, nil, "Prefer", "wait=60"))
	if d.Status != "failed" || !strings.Contains(d.Message, "does not load") {
		t.Errorf("the deployment is %+v", d)
	}
	if e := c.execute(t, id, object{"draft": true}); e.Error == nil || e.Error.Code != "import_failed" {
		t.Errorf("an execution of it ended %+v", e)
	}
	if e := c.execute(t, id, nil); e.Status != "succeeded" {
		t.Errorf("one of the version ended %+v", e)
	}
}
