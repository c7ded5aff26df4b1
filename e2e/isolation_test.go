package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestANodeAndItsExecutionsSayWhatKeepsThemApart(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T) *client{"namespaces": theProduct}
	if runsc := os.Getenv("WARPKET_TEST_RUNSC"); runsc != "" || os.Getenv("CI") != "" { // "make test" builds it
		tests["gvisor"] = func(t *testing.T) *client {
			t.Helper()
			p := start(t, t.TempDir(), "WARPKET_ISOLATION=gvisor", "WARPKET_RUNSC="+runsc)
			t.Cleanup(func() { p.stop(t) })
			return p.client(t)
		}
	}
	for kind, product := range tests {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := product(t)
			isKeptApart(t, c, kind)
			if kind == "gvisor" {
				differsUnderGVisor(t, c)
			}
		})
	}
}

func isKeptApart(t *testing.T, c *client, kind string) {
	t.Helper()
	type isolation struct {
		Kind, UID  string
		Unenforced []string
	}
	nodes := as[struct {
		Items []struct{ Isolation isolation }
	}](t, c.ok(t, "GET", "/v1/nodes", nil))
	of := nodes.Items[0].Isolation
	if of.Kind != kind || (of.UID == "own") != (os.Geteuid() == 0) {
		t.Errorf("the node says %+v", of)
	}
	id := c.python(t, unique("apart"), "import os\ndef handler():\n    return [os.getuid() != 0, os.path.exists('/home'), sorted(os.listdir('/proc/self/fd'))[:3]]\n", nil)
	e := as[struct {
		Isolation string
		Usage     struct {
			CPUSeconds float64
			PeakMemory int64
		}
		Result []any
	}](t, c.ok(t, "POST", "/v1/executions", object{"functionId": id}))
	if !strings.HasPrefix(e.Isolation, kind) || (len(of.Unenforced) > 0) != strings.Contains(e.Isolation, "not enforced") {
		t.Errorf("the execution says %q", e.Isolation)
	}
	if e.Usage.CPUSeconds <= 0 || e.Usage.PeakMemory <= 0 {
		t.Errorf("it has used %+v", e.Usage)
	}
	// To an ordinary user's gVisor it is root, without any of its powers.
	if rooted := kind == "gvisor" && os.Geteuid() != 0; e.Result[0] == rooted || e.Result[1] != false {
		t.Errorf("inside it is %v", e.Result)
	}
}

// differsUnderGVisor tries what has no way out of gVisor: an installer, which
// therefore runs in namespaces, and a function with a network, which cannot run.
func differsUnderGVisor(t *testing.T, c *client) {
	t.Helper()
	id := c.requiring(t, "six==1.16.0\n")
	if d, e := c.deploy(t, id, 3, object{}), c.execute(t, id, nil); d.Status != "ready" || string(e.Result) != `"1.16.0"` {
		t.Errorf("with requirements it is %+v and %+v", d, e)
	}
	c.ok(t, "PATCH", "/v1/projects/default", object{"allowEgress": true})
	id = c.python(t, unique("reaching"), "def handler(): return 1\n", object{"network": "egress"})
	const why = "has no network for functions (isolation gvisor"
	if d := c.deploy(t, id, 2, object{}); d.Status != "failed" || !strings.Contains(d.Message, why) {
		t.Errorf("with a network its deployment is %+v", d)
	}
	for _, lane := range []string{"durable", "express"} {
		a := c.send(t, "POST", "/v1/executions", object{"functionId": id, "lane": lane})
		if !strings.Contains(string(a.body), why) {
			t.Errorf("with a network its %s execution is %d %s", lane, a.status, a.body)
		}
	}
}

func TestANodeThatCannotHoldWhatIsRequiredDoesNotStart(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("/tmp", "warpket-e2e-node-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	binary := filepath.Join(dir, "warpket")
	if out, err := exec.CommandContext(ctx, "cp", program(t), binary).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	node := exec.CommandContext(ctx, binary, "node", "--server", "127.0.0.1:1", "--dir", filepath.Join(dir, "node"))
	node.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + dir, "TMPDIR=" + dir, "WARPKET_REQUIRE_ISOLATION=1"}
	if os.Geteuid() == 0 {
		node.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := node.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "cannot hold all of the isolation") || !strings.Contains(string(out), "uid shared") {
		t.Errorf("%v: %s", err, out)
	}
}
