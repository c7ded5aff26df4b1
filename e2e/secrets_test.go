package e2e

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// hashed answers the hash of its token, so that nothing of the token itself is
// in a result. With a gate it answers once that is open.
const hashed = waits + `
import hashlib, os
def handler(event, context):
    token = os.environ["TOKEN"]
    wait(event)
    return hashlib.sha256(token.encode()).hexdigest()[:8]
`

func hash(t *testing.T, c *client, token string) string {
	t.Helper()
	id := c.python(t, unique("hash"), "import hashlib\ndef handler(event, context): return hashlib.sha256(event['token'].encode()).hexdigest()[:8]\n", nil)
	return string(c.execute(t, id, object{"input": object{"token": token}}).Result)
}

// deployed is a deployment with its slots.
type deployed struct {
	ID, Status, Message string
	Ready               int
	Placement           struct {
		Slots []struct{ SlotID, Status string }
	}
}

// deploy deploys a version until the test ends.
func (c *client) deploy(t *testing.T, function string, version int, more object) deployed {
	t.Helper()
	return as[deployed](t, c.deployment(t, fmt.Sprintf("/v1/functions/%s/versions/%d", function, version), more))
}

// withToken makes a function whose variable TOKEN is a secret.
func (c *client) withToken(t *testing.T, value string, settings object) (function, secret string) {
	t.Helper()
	function = c.python(t, unique("token"), hashed, settings)
	secret = strings.ReplaceAll(unique("TOKEN"), "-", "_")
	c.ok(t, "POST", "/v1/secrets", object{"name": secret, "value": value})
	c.ok(t, "PUT", "/v1/functions/"+function+"/environment", object{"variables": object{"LEVEL": "1"}, "secrets": object{"TOKEN": secret}})
	return function, secret
}

func TestARotatedSecretHoldsForAllThatIsAskedForAfterIt(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	for _, deploy := range []bool{false, true} {
		id, secret := c.withToken(t, "value-0", nil)
		if deploy {
			c.deploy(t, id, 2, object{"slots": 2})
		}
		for _, value := range []string{"value-0", "value-1", "value-2"} {
			c.ok(t, "PATCH", "/v1/secrets/"+secret, object{"value": value})
			want := hash(t, c, value)
			for range 3 {
				if e := c.execute(t, id, nil); string(e.Result) != want {
					t.Errorf("after %s was set (deployed: %v) it has %s, want %s: %+v", value, deploy, e.Result, want, e)
				}
			}
		}
	}
}

func TestWhatRunsKeepsItsSlotWhileTheOthersAreReplaced(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	id, secret := c.withToken(t, "before", nil)
	d := c.deploy(t, id, 2, object{})
	gate := newGate()
	running := as[execution](t, c.ok(t, "POST", "/v1/executions", object{"functionId": id, "sync": false, "input": object{"gate": gate}}))
	until(t, 20*time.Second, "it runs", func() bool {
		return as[execution](t, c.ok(t, "GET", "/v1/executions/"+running.ID, nil)).Status == "running"
	})
	c.ok(t, "PATCH", "/v1/secrets/"+secret, object{"value": "after"})
	if e, want := c.execute(t, id, nil), hash(t, c, "after"); string(e.Result) != want {
		t.Errorf("meanwhile it has %s, want %s", e.Result, want)
	}
	open(t, gate)
	if e, want := c.final(t, running.ID), hash(t, c, "before"); e.Status != "succeeded" || string(e.Result) != want {
		t.Errorf("what ran ended %+v, want %s", e, want)
	}
	before := d.Placement.Slots[0].SlotID
	d = as[deployed](t, c.ok(t, "GET", "/v1/deployments/"+d.ID, nil, "Prefer", "wait=60"))
	if len(d.Placement.Slots) != 1 || d.Placement.Slots[0].SlotID == before {
		t.Errorf("afterwards it has %+v", d)
	}
}

// It takes most of the node, so it runs before those that run side by side.
func TestWithoutRoomForANewSlotTheOldOneMakesRoom(t *testing.T) {
	c := theProduct(t)
	nodes := as[struct{ Items []struct{ Memory int64 } }](t, c.ok(t, "GET", "/v1/nodes", nil)).Items
	id, secret := c.withToken(t, "before", object{"resources": object{"memory": nodes[0].Memory / 10 * 6}})
	d := c.deploy(t, id, 2, object{})
	if d.Status != "ready" {
		t.Fatalf("it is %+v", d)
	}
	c.ok(t, "PATCH", "/v1/secrets/"+secret, object{"value": "after"})
	if e, want := c.execute(t, id, nil), hash(t, c, "after"); string(e.Result) != want {
		t.Errorf("it has %s, want %s: %+v", e.Result, want, e)
	}
}

var payloadData = regexp.MustCompile(`"data":\s*"([A-Za-z0-9+/=]+)"`)

// histories gives all that Temporal keeps of a namespace's workflows, with
// their payloads as they were before they were encoded.
func (c *client) histories(t *testing.T, namespace string) string {
	t.Helper()
	ui := &client{api: shared.dev.TemporalUI}
	list := as[struct {
		Executions []struct{ Execution struct{ WorkflowID string } }
	}](t, ui.ok(t, "GET", "/api/v1/namespaces/"+namespace+"/workflows?pageSize=200", nil))
	var all strings.Builder
	for _, e := range list.Executions {
		a := ui.ok(t, "GET", "/api/v1/namespaces/"+namespace+"/workflows/"+url.PathEscape(e.Execution.WorkflowID)+"/history?maximumPageSize=1000", nil)
		all.Write(a.body)
		for _, m := range payloadData.FindAllSubmatch(a.body, -1) {
			if b, err := base64.StdEncoding.DecodeString(string(m[1])); err == nil {
				all.Write(b)
			}
		}
	}
	return all.String()
}

func TestASecretIsInNoHistoryLogOrAnswer(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	canary := unique("canary") // a value that nothing else has
	id, secret := c.withToken(t, canary+"-1", nil)
	d := c.deploy(t, id, 2, object{})
	c.ok(t, "PATCH", "/v1/secrets/"+secret, object{"value": canary + "-2"})
	e := c.execute(t, id, nil)
	if e.Status != "succeeded" || d.Status != "ready" {
		t.Fatalf("%+v, %+v", d, e)
	}
	onDemand, _ := c.withToken(t, canary+"-3", nil)
	c.execute(t, onDemand, nil)

	told := map[string]string{}
	for _, path := range []string{
		"/v1/secrets", "/v1/secrets/" + secret, "/v1/functions/" + id, "/v1/functions/" + id + "/environment", "/v1/functions/" + id + "/versions/2",
		"/v1/deployments/" + d.ID, "/v1/executions/" + e.ID, "/v1/executions/" + e.ID + "/log", "/v1/executions?functionId=" + id, "/v1/nodes",
	} {
		told[path] = string(c.ok(t, "GET", path, nil).body)
	}
	for _, namespace := range []string{"warpket-deployments", "warpket-executions"} {
		until(t, 20*time.Second, "Temporal lists what has run in "+namespace, func() bool {
			want := d.ID
			if namespace == "warpket-executions" {
				want = e.ID
			}
			told[namespace] = c.histories(t, namespace)
			return strings.Contains(told[namespace], want)
		})
	}
	logs, err := filepath.Glob(filepath.Join(shared.dir, "log", "*"))
	if err != nil || !slices.ContainsFunc(logs, func(f string) bool { return strings.Contains(f, "server") }) {
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
		if strings.Contains(text, canary) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(canary))[:20]) {
			t.Errorf("%s tells the secret", where)
		}
	}
}

func TestAFunctionThatMayNoLongerReachTheNetworkSaysSo(t *testing.T) {
	t.Parallel()
	operator := theProduct(t)
	project := operator.project(t, "reaching")
	token := as[struct{ Token string }](t, operator.ok(t, "POST", "/v1/tokens", object{"projectId": project, "role": "member", "name": "e2e"})).Token
	c := &client{operator.api, token}
	operator.ok(t, "PATCH", "/v1/projects/"+project, object{"allowEgress": true})
	id := c.python(t, "reaching", "def handler(event, context): return 1\n", object{"network": "egress"})
	d := c.deploy(t, id, 2, object{})
	if e := c.execute(t, id, nil); d.Status != "ready" || e.Status != "succeeded" {
		t.Fatalf("while it may: %+v, %+v", d, e)
	}
	operator.ok(t, "PATCH", "/v1/projects/"+project, object{"allowEgress": false})
	d = as[deployed](t, c.ok(t, "GET", "/v1/deployments/"+d.ID, nil, "Prefer", "wait=60"))
	if d.Status != "failed" || !strings.Contains(d.Message, "network") {
		t.Errorf("its deployment is %+v", d)
	}
	if e := c.execute(t, id, nil); e.Status != "failed" || e.Error.Code != "preparation_failed" || !strings.Contains(e.Error.Message, "network") {
		t.Errorf("its execution is %+v", e)
	}
	c.ok(t, "PATCH", "/v1/functions/"+id, object{"network": "none"})
	if e := c.execute(t, id, nil); e.Status != "succeeded" {
		t.Errorf("without the network it is %+v", e)
	}
}
