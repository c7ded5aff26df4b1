package e2e

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestTheTemporalUITellsTheStoryOfADeployment asks the UI's own server, which
// is what an operator's browser does.
func TestTheTemporalUITellsTheStoryOfADeployment(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	name := unique("story")
	id := c.python(t, name, "def handler(event, context): return 1\n", nil)
	d := as[struct{ ID, TemporalURL string }](t, c.deployment(t, "/v1/functions/"+id+"/versions/2", object{}))
	ui := &client{api: shared.dev.TemporalUI}
	if page := ui.ok(t, "GET", strings.TrimPrefix(d.TemporalURL, shared.dev.TemporalUI), nil); !strings.Contains(page.header.Get("Content-Type"), "text/html") {
		t.Errorf("the page is %s", page.header)
	}
	type payload struct{ Data string }
	type workflow struct {
		ExecutionConfig struct {
			UserMetadata struct{ Summary, Details payload }
		}
		WorkflowExecutionInfo struct {
			SearchAttributes struct{ IndexedFields map[string]payload }
		}
	}
	text := func(p payload) string {
		b, err := base64.StdEncoding.DecodeString(p.Data)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	var w workflow
	until(t, 10*time.Second, "the UI shows that it is ready", func() bool { // the record is ready a moment before
		w = as[workflow](t, ui.ok(t, "GET", "/api/v1/namespaces/warpket-deployments/workflows/"+d.ID, nil))
		return text(w.WorkflowExecutionInfo.SearchAttributes.IndexedFields["Phase"]) == `"ready"`
	})
	if got := text(w.ExecutionConfig.UserMetadata.Summary); !strings.Contains(got, name+" v2") {
		t.Errorf("the summary is %s", got)
	}
	for attribute, want := range map[string]string{"FunctionId": id, "FunctionVersion": "2", "Phase": "ready", "Kind": "deployment", "SdkVersion": "python 3.", "Node": "local"} {
		if got := text(w.WorkflowExecutionInfo.SearchAttributes.IndexedFields[attribute]); !strings.Contains(got, want) {
			t.Errorf("%s is %s, want %s", attribute, got, want)
		}
	}

	// What it does at the moment, and one activity for each phase with a summary.
	query := "/api/v1/namespaces/warpket-deployments/workflows/" + d.ID + "/query/__temporal_workflow_metadata"
	answer := ui.send(t, "POST", query, object{"execution": object{"workflowId": d.ID}, "query": object{"queryType": "__temporal_workflow_metadata"}}, "X-CSRF-TOKEN", "x", "Cookie", "_csrf=x")
	if answer.status == http.StatusOK {
		payloads := as[struct{ QueryResult struct{ Payloads []payload } }](t, answer).QueryResult.Payloads
		var metadata struct{ CurrentDetails string }
		if err := json.Unmarshal([]byte(text(payloads[0])), &metadata); err != nil || !strings.Contains(metadata.CurrentDetails, "**ready**: 1 of 1 slots serve") {
			t.Errorf("the current details are %q, %v", metadata.CurrentDetails, err)
		}
	} else {
		t.Errorf("the UI's query answers %d %s", answer.status, answer.body)
	}
	history := string(ui.ok(t, "GET", "/api/v1/namespaces/warpket-deployments/workflows/"+d.ID+"/history", nil).body)
	for _, phase := range []string{"ResolveRuntime", "Place", "Prepare", "Settle"} {
		if !strings.Contains(history, `"`+phase+`"`) {
			t.Errorf("the history has no activity %s", phase)
		}
	}
	for _, secret := range []string{shared.dev.Token, "X-Amz-Signature", "def handler"} {
		if strings.Contains(history, secret) {
			t.Errorf("the history holds %q", secret)
		}
	}
}
