package e2e

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// open lets the code go on that waits at a gate, see waits.
func open(t *testing.T, gate string) {
	t.Helper()
	until(t, 20*time.Second, "the code waits at "+gate, func() bool {
		names, _ := filepath.Glob("/proc/[0-9]*/comm")
		for _, name := range names {
			if b, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(b)) == gate {
				pid, _ := strconv.Atoi(strings.Split(name, "/")[2])
				return syscall.Kill(pid, syscall.SIGUSR1) == nil
			}
		}
		return false
	})
}

// newGate names a gate: what a process is called while it waits there.
func newGate() string { return "gate-" + rand.Text()[:8] }

// until asks again until a condition holds, for what no call waits for: the
// kernel, Qinling's clients, a server that was killed.
func until(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not after %s: %s", within, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestWhateverIsKilledTheOutcomeIsTrue kills each process in turn with SIGKILL
// while a function is deployed and while it is executed. Everything comes back
// and what was interrupted becomes final within a minute.
func TestWhateverIsKilledTheOutcomeIsTrue(t *testing.T) {
	p := start(t, t.TempDir())
	t.Cleanup(func() { p.stop(t) })
	c := p.client(t)
	victims := map[string][]string{
		"the server":         {"warpket server"},
		"the node":           {"warpket node"},
		"the devstack":       {"warpket-devstack --data"},
		"Temporal":           {"part temporal"},
		"the object store":   {"part s3"},
		"Postgres":           {"postgres", "-D"},
		"Postgres' guardian": {"part postgres"},
	}
	for name, words := range victims {
		t.Run("killing "+name, func(t *testing.T) {
			gate := newGate()
			code := "print('loading')\n" + patient
			var id string
			until(t, time.Minute, "a function is created", func() bool {
				body := object{"functionName": unique("killed"), "templateLanguageTag": "Python"}
				a, err := c.try(t.Context(), "POST", "/v1/functions", body)
				if err != nil || a.status != 200 {
					return false
				}
				id = as[function](t, a).FunctionID
				a, err = c.try(t.Context(), "POST", "/v1/functions/"+id+"/versions", object{"templateFiles": []object{{"filename": "handler.py", "content": code}}})
				return err == nil && a.status == 200
			})

			// In the middle of a deploy.
			d := as[struct{ ID string }](t, c.ok(t, "POST", "/v1/functions/"+id+"/versions/2/deployments", object{"slots": 2}))
			kill(t, p.find(t, words...))
			until(t, time.Minute, "the deployment is ready", func() bool {
				a, err := c.try(t.Context(), "GET", "/v1/deployments/"+d.ID, nil)
				return err == nil && a.status == 200 && as[struct{ Status string }](t, a).Status == "ready"
			})

			// In the middle of an execution.
			var e execution
			until(t, time.Minute, "an execution is accepted", func() bool {
				a, err := c.try(t.Context(), "POST", "/v1/executions", object{"functionId": id, "input": object{"gate": gate}, "sync": false})
				if err == nil && a.status == 202 {
					e = as[execution](t, a)
				}
				return e.ID != ""
			})
			until(t, time.Minute, "its code runs", func() bool {
				a, err := c.try(t.Context(), "GET", "/v1/executions/"+e.ID+"/log", nil)
				return err == nil && a.status == 200 && strings.Contains(string(a.body), "one")
			})
			kill(t, p.find(t, words...))
			if name != "the node" { // with which it ends
				open(t, gate)
			}
			until(t, time.Minute, "the execution is final", func() bool {
				a, err := c.try(t.Context(), "GET", "/v1/executions/"+e.ID, nil)
				if err != nil || a.status != 200 {
					return false
				}
				e = as[execution](t, a)
				return e.Status != "queued" && e.Status != "running"
			})
			want := "succeeded"
			if name == "the node" { // its workers die with it
				want = "lost"
			}
			if e.Status != want || e.Attempt != 1 {
				t.Errorf("it ended %+v %+v, want %s", e, e.Error, want)
			}
			until(t, time.Minute, "the function is executed again", func() bool {
				a, err := c.try(t.Context(), "POST", "/v1/executions", object{"functionId": id})
				return err == nil && a.status == 200 && as[execution](t, a).Status == "succeeded"
			})
			until(t, time.Minute, "the function is deleted", func() bool {
				a, err := c.try(t.Context(), "DELETE", "/v1/functions/"+id+"?force=true", nil)
				return err == nil && a.status == 200
			})
		})
	}
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func TestKilledAsAWholeItLeavesNoProcessAndGoesOnWhereItWas(t *testing.T) {
	dir := t.TempDir() + "/data"
	p := start(t, dir)
	c := p.client(t)
	id := c.python(t, "survivor", patient, nil)
	c.ok(t, "POST", "/v1/functions/"+id+"/versions/2/deployments", object{}, "Prefer", "wait=60")
	e := as[execution](t, c.ok(t, "POST", "/v1/executions", object{"functionId": id, "input": object{"gate": newGate()}, "sync": false}))
	until(t, time.Minute, "its code runs", func() bool {
		return strings.Contains(string(c.ok(t, "GET", "/v1/executions/"+e.ID+"/log", nil).body), "one")
	})
	kill(t, p.cmd.Process.Pid)
	p.gone(t)

	p = start(t, dir)
	c = p.client(t)
	if e = c.final(t, e.ID); e.Status != "lost" || e.Error == nil || e.Error.Code != "lost" {
		t.Errorf("what was interrupted ended %+v", e)
	}
	if e := c.execute(t, id, nil); e.Status != "succeeded" {
		t.Errorf("the function ended %+v %+v", e, e.Error)
	}
	p.stop(t)
}

func TestInstancesRunSideBySideAlsoBelowAClosedHome(t *testing.T) {
	home := t.TempDir()
	if err := os.Chmod(home, 0o700); err != nil {
		t.Fatal(err)
	}
	a, b := start(t, home+"/a"), start(t, home+"/b")
	for _, p := range []*product{a, b} {
		info, err := os.Stat(p.dir + "/dev.json")
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("dev.json: %v %v", info, err)
		}
		if got := p.client(t).ok(t, "GET", "/v1/nodes", nil); !strings.Contains(string(got.body), `"up"`) {
			t.Errorf("the nodes are %s", got.body)
		}
	}
	a.stop(t)
	b.stop(t)
}

func TestARetryOutlivesTheServerThatBeganIt(t *testing.T) {
	p := start(t, t.TempDir())
	t.Cleanup(func() { p.stop(t) })
	c := p.client(t)
	code := waits + `
def handler(event, context):
    if context.attempt == 1:
        wait(event)
        raise RuntimeError("not yet")
    return context.attempt
`
	id := c.python(t, "retried", code, object{"retries": 1})
	c.ok(t, "POST", "/v1/functions/"+id+"/versions/2/deployments", object{}, "Prefer", "wait=60")
	gate := newGate()
	e := as[execution](t, c.ok(t, "POST", "/v1/executions", object{"functionId": id, "input": object{"gate": gate}, "sync": false}))
	until(t, time.Minute, "its code runs", func() bool {
		return strings.Contains(string(c.ok(t, "GET", "/v1/executions/"+e.ID+"/log", nil).body), "one")
	})
	kill(t, p.find(t, "warpket server"))
	open(t, gate)
	until(t, time.Minute, "it is final", func() bool {
		a, err := c.try(t.Context(), "GET", "/v1/executions/"+e.ID, nil)
		if err != nil || a.status != 200 {
			return false
		}
		e = as[execution](t, a)
		return e.Status != "queued" && e.Status != "running"
	})
	if e.Status != "succeeded" || e.Attempt != 2 || string(e.Result) != "2" {
		t.Errorf("it ended %+v %+v", e, e.Error)
	}
}

// TestAnOutcomeThatCannotBeStoredYetIsNotRunAgain has a large result while the
// object store is away.
func TestAnOutcomeThatCannotBeStoredYetIsNotRunAgain(t *testing.T) {
	p := start(t, t.TempDir())
	t.Cleanup(func() { p.stop(t) })
	c := p.client(t)
	code := waits + `
def handler(event, context):
    with open("/tmp/runs", "a") as f: f.write("x")
    wait(event)
    with open("/tmp/runs") as f: return f.read() + "-" * 200000
`
	id := c.python(t, "large", code, nil)
	c.ok(t, "POST", "/v1/functions/"+id+"/versions/2/deployments", object{"slots": 1}, "Prefer", "wait=60")
	gate := newGate()
	e := as[execution](t, c.ok(t, "POST", "/v1/executions", object{"functionId": id, "input": object{"gate": gate}, "sync": false}))
	until(t, time.Minute, "its code runs", func() bool {
		return strings.Contains(string(c.ok(t, "GET", "/v1/executions/"+e.ID+"/log", nil).body), "one")
	})
	kill(t, p.find(t, "part s3"))
	open(t, gate)
	if e = c.final(t, e.ID); e.Status != "succeeded" || e.Attempt != 1 {
		t.Errorf("it ended %+v %+v", e, e.Error)
	}
	if result := string(c.ok(t, "GET", "/v1/executions/"+e.ID+"/result", nil).body); !strings.HasPrefix(result, `"x-`) {
		t.Errorf("the code ran more than once: %.20s", result)
	}
}
