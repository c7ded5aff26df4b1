package e2e

import (
	"archive/zip"
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/warpket/warpket/runners/image/imagetest"
)

// openstack is OpenStack's own command line with Qinling's client.
type openstack struct {
	in  io.Writer
	out *bufio.Reader
}

// newOpenstack starts it with the settings of a client.
func newOpenstack(t *testing.T, settings ...string) *openstack {
	t.Helper()
	uv := []string{"run", "./tools/uv", "run", "-q", "--no-project", "--with", "python-qinlingclient==5.1.1", "--with", "python-openstackclient==10.5.0", "python"}
	var trouble bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "go", append(uv, "e2e/testdata/commands.py")...)
	cmd.Dir, cmd.Env, cmd.Stderr = "..", append(os.Environ(), settings...), &trouble
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	o := &openstack{in, bufio.NewReader(out)}
	if line, err := o.out.ReadString('\n'); line != "ready\n" {
		_ = cmd.Wait() // all of what it has said is there
		if os.Getenv("CI") != "" {
			t.Fatalf("OpenStack's client does not start: %v\n%s", err, trouble.String())
		}
		t.Skipf("OpenStack's client does not start: %v\n%s", err, trouble.String())
	}
	return o
}

// run runs a command and gives what it wrote.
func (o *openstack) run(t *testing.T, arguments ...string) (text string, ok bool) {
	t.Helper()
	line, err := json.Marshal(arguments)
	if err == nil {
		_, err = o.in.Write(append(line, '\n'))
	}
	if err != nil {
		t.Fatal(err)
	}
	answer, err := o.out.ReadBytes('\n')
	var a struct {
		Code     int
		Out, Err string
	}
	if err == nil {
		err = json.Unmarshal(answer, &a)
	}
	if err != nil {
		t.Fatalf("openstack %s: %v %s", strings.Join(arguments, " "), err, answer)
	}
	if a.Code != 0 {
		return a.Out + a.Err, false
	}
	return a.Out, true
}

// do runs a command that must succeed.
func (o *openstack) do(t *testing.T, command string, more ...string) string {
	t.Helper()
	text, ok := o.run(t, append(strings.Fields(command), more...)...)
	if !ok {
		t.Fatalf("openstack %s %v: %s", command, more, text)
	}
	return text
}

// show runs a command that must answer with one thing.
func (o *openstack) show(t *testing.T, command string, more ...string) object {
	t.Helper()
	var thing object
	if text := o.do(t, command, append(more, "-f", "json")...); json.Unmarshal([]byte(text), &thing) != nil {
		t.Fatalf("openstack %s: %s", command, text)
	}
	return thing
}

// list runs a command that must answer with a list.
func (o *openstack) list(t *testing.T, command string, more ...string) []object {
	t.Helper()
	var things []object
	if text := o.do(t, command, append(more, "-f", "json")...); json.Unmarshal([]byte(text), &things) != nil {
		t.Fatalf("openstack %s: %s", command, text)
	}
	return things
}

// refused runs a command that must fail and say why.
func (o *openstack) refused(t *testing.T, why, command string, more ...string) {
	t.Helper()
	if text, ok := o.run(t, append(strings.Fields(command), more...)...); ok || !strings.Contains(text, why) {
		t.Errorf("openstack %s %v: %s, want %q", command, more, text, why)
	}
}

// awaited lists again and again until there is something that fits.
func (o *openstack) awaited(t *testing.T, command string, fits func(object) bool) (found object) {
	t.Helper()
	until(t, 3*time.Minute, "openstack "+command+" lists it", func() bool {
		for _, thing := range o.list(t, command) {
			if fits(thing) {
				found = thing
			}
		}
		return found != nil
	})
	return found
}

const hello = `
def main(name="World", **kwargs):
    print("Greeting", name)
    return "Hello, " + name


def fails(context, **kwargs):
    raise ValueError("no such gate")


def slow(**kwargs):
    import time
    time.sleep(30)


def hungry(**kwargs):
    return len(bytearray(300 << 20))
`

func TestOpenStacksClientWorksUnchanged(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	o := newOpenstack(t, "OS_AUTH_TYPE=admin_token", "OS_ENDPOINT="+c.api+"/qinling", "OS_TOKEN="+c.token)
	name := func(thing object, key string) string { s, _ := thing[key].(string); return s }

	// Runtimes
	o.refused(t, "openstackqinling/python3-runtime", "runtime create openstackqinling/python2-runtime")
	runtime := name(o.show(t, "runtime create openstackqinling/python3-runtime --name", unique("python3")), "id")
	o.awaited(t, "runtime list", func(r object) bool { return r["Id"] == runtime && r["Status"] == "available" })
	if got := o.show(t, "runtime show", runtime); got["id"] != runtime || got["status"] != "available" || got["image"] != "openstackqinling/python3-runtime" {
		t.Errorf("it is %v", got)
	}

	// Functions
	dir := t.TempDir()
	file := filepath.Join(dir, "hello.py")
	write := func(code string) {
		if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(hello)
	called := unique("Hello World")
	f := name(o.show(t, "function create --entry hello.main --runtime", runtime, "--name", called, "--file", file), "id")
	o.refused(t, "cpu resource limitation not within the allowable range: 100 ~ 300(millicpu).", "function create --cpu 400 --runtime", runtime, "--file", file)
	if got := o.show(t, "function show", called); got["id"] != f || got["memory_size"] != 33554432.0 || got["timeout"] != 5.0 {
		t.Errorf("it is %v", got)
	}
	o.do(t, "function download -o", filepath.Join(dir, "hello.zip"), f)
	if z, err := zip.OpenReader(filepath.Join(dir, "hello.zip")); err != nil || z.File[0].Name != "hello.py" {
		t.Errorf("downloaded %v", err)
	}

	packed := name(o.show(t, "function create --entry hello.main --runtime", runtime, "--package", filepath.Join(dir, "hello.zip")), "id")

	// Executions
	execute := func(more ...string) object { return o.show(t, "function execution create", more...) }
	e := execute("--function", f, "--input", `{"name": "foo"}`)
	if e["status"] != "success" || !strings.Contains(name(e, "result"), `"output":"Hello, foo"`) || e["input"] != `{"name": "foo"}` {
		t.Errorf("executed %v", e)
	}
	if e := execute("--function", packed, "--input", `{"name": "package"}`); e["status"] != "success" || !strings.Contains(name(e, "result"), "Hello, package") {
		t.Errorf("the package has run %v", e)
	}
	o.do(t, "function delete", packed)
	id := name(e, "id")
	if log := o.do(t, "function execution log show", id); strings.TrimSpace(log) != "Start execution: "+id+"\nGreeting foo\nFinished execution: "+id {
		t.Errorf("the log is %q", log)
	}
	if e := execute("--function", f, "--input", "Jordan"); !strings.Contains(name(e, "result"), "Hello, Jordan") || e["input"] != "Jordan" {
		t.Errorf("executed %v", e)
	}
	asked := name(execute("--function", f, "--async"), "id")
	o.awaited(t, "function execution list", func(e object) bool { return e["Id"] == asked && e["Status"] == "success" && e["Sync"] == false })
	for _, fail := range []struct{ entry, output string }{
		{"hello.fails", "no such gate"}, {"hello.slow", "Function execution timeout."}, {"hello.hungry", "Function execution failed because of too much resource consumption"},
	} {
		o.show(t, "function update --timeout 2 --entry", fail.entry, f)
		e := execute("--function", f)
		if e["status"] != "failed" || !strings.Contains(name(e, "result"), fail.output) {
			t.Errorf("%s: %v", fail.entry, e)
		}
		if log := o.do(t, "function execution log show", name(e, "id")); fail.entry == "hello.fails" && !strings.Contains(log, "ValueError: no such gate") {
			t.Errorf("the log is %q", log)
		}
	}
	if n := len(o.list(t, "function execution list --filter status=eq:failed --filter", "function_id="+f)); n != 3 {
		t.Errorf("%d have failed", n)
	}
	o.do(t, "function execution delete --execution", id)
	o.refused(t, "Execution not found", "function execution show", id)

	// Versions
	o.show(t, "function update --entry hello.main", f)
	o.show(t, "function version create --description first", f)
	o.refused(t, "Function package not changed since the latest version 1.", "function version create", f)
	write(strings.ReplaceAll(hello, "Hello", "Ahoy"))
	o.show(t, "function update --file", file, f)
	if e := execute("--function", f); !strings.Contains(name(e, "result"), "Ahoy") {
		t.Errorf("of the draft: %v", e)
	}
	if e := execute("--function", f, "--function-version", "1"); !strings.Contains(name(e, "result"), "Hello") || e["function_version"] != 1.0 {
		t.Errorf("of version 1: %v", e)
	}
	o.show(t, "function version create", f)
	if versions := o.list(t, "function version list", f); len(versions) != 2 || o.show(t, "function version show", f, "1")["count"] != 1.0 {
		t.Errorf("the versions are %v", versions)
	}

	// A job, for what comes in the minute until it runs
	j := name(o.show(t, "job create --function", f, "--pattern", "* * * * *", "--count", "1", "--name", "minutely", "--function-input", `{"name": "job"}`), "id")

	// Workers
	workers := func() int { return len(o.list(t, "function worker list", f)) }
	before := workers()
	o.do(t, "function scaleup --count 2", f)
	until(t, 3*time.Minute, "there are two workers more", func() bool { return workers() >= before+2 })
	o.do(t, "function scaledown", f)
	until(t, 3*time.Minute, "one of them is gone", func() bool { return workers() <= before+1 })
	if pool := o.show(t, "runtime pool show", runtime); pool["name"] != runtime {
		t.Errorf("the pool is %v", pool)
	}
	o.do(t, "function version detach", f, "1")
	o.do(t, "function detach", f)

	// Aliases
	alias := unique("Prod_v")
	o.show(t, "function alias create --function", f, "--function-version", "1", alias)
	o.refused(t, "Duplicate entry", "function alias create --function", f, "--function-version", "1", unique("other"))
	o.refused(t, alias, "function version delete", f, "1")
	o.show(t, "function alias update --function-version 2", alias)
	if got := o.show(t, "function alias show", alias); got["name"] != alias || got["function_id"] != f || got["function_version"] != 2.0 {
		t.Errorf("the alias is %v", got)
	}
	if e := execute("--function-alias", alias); e["function_alias"] != alias || e["function_version"] != 2.0 {
		t.Errorf("by its alias: %v", e)
	}
	o.list(t, "function alias list")
	o.do(t, "function version delete", f, "1")

	// Webhooks
	h := o.show(t, "webhook create --function", f, "--function-version", "2")
	hook := strings.TrimPrefix(name(h, "webhook_url"), c.api)
	answer := as[struct {
		ID string `json:"execution_id"`
	}](t, (&client{api: c.api}).ok(t, "POST", hook, object{"name": "hook"}))
	o.awaited(t, "function execution list", func(e object) bool {
		return e["Id"] == answer.ID && e["Status"] == "success" && e["Description"] == "Created by Webhook "+name(h, "id") && strings.Contains(name(e, "Result"), "Ahoy, hook")
	})
	o.show(t, "webhook update --description other", name(h, "id"))
	if got := o.show(t, "webhook show", name(h, "id")); got["description"] != "other" || got["function_id"] != f || got["webhook_url"] != h["webhook_url"] {
		t.Errorf("the webhook is %v", got)
	}
	o.list(t, "webhook list")
	o.do(t, "webhook delete", name(h, "id"))

	// Jobs
	paused := name(o.show(t, "job create --function-alias", alias, "--pattern", "0 0 * * SUN"), "id")
	o.show(t, "job update --status paused", paused)
	if got := o.awaited(t, "job list", func(j object) bool { return j["Id"] == paused }); got["Status"] != "paused" {
		t.Errorf("the job is listed as %v", got)
	}
	o.refused(t, "The function is still associated with running job(s).", "function delete", f)
	o.show(t, "job update --status cancelled", paused)
	o.refused(t, "Can not update a finished job.", "job update --status running", paused)
	fired := o.awaited(t, "function execution list --filter description=has:Job", func(e object) bool { return e["Description"] == "Created by Job "+j && e["Status"] == "success" })
	if !strings.Contains(name(fired, "Result"), "Ahoy, job") || fired["Sync"] != false {
		t.Errorf("the job has run %v", fired)
	}
	if got := o.show(t, "job show", j); got["status"] != "done" || got["count"] != 0.0 {
		t.Errorf("after it the job is %v", got)
	}
	o.do(t, "job delete", j, paused)

	// An image
	registry := imagetest.New(t, "", "")
	registry.Push(t, "world:1", imagetest.Image(t, "world"))
	i := name(o.show(t, "function create --memory-size 134217728 --image", registry.Host+"/world:1"), "id")
	if e := execute("--function", i); e["status"] != "success" || !strings.Contains(name(e, "result"), "WARPKET_EXECUTION_ID") {
		t.Errorf("the image has run %v", e)
	}
	o.do(t, "function delete", i)

	o.do(t, "function alias delete", alias)
	o.do(t, "function delete", f)
	o.do(t, "runtime delete", runtime)
	o.refused(t, "Function not found", "function show", f)
}

func TestOpenStacksClientLogsInWithATokenAsThePassword(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	o := newOpenstack(t, "OS_AUTH_TYPE=password", "OS_AUTH_URL="+c.api+"/qinling/identity/v3", "OS_USERNAME=ada", "OS_PASSWORD="+c.token,
		"OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_NAME=default", "OS_PROJECT_DOMAIN_NAME=Default", "OS_IDENTITY_API_VERSION=3")
	o.list(t, "function list --filter all_projects=true")
}
