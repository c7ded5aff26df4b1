package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// schemathesis is what the API is tried with, from PyPI.
const schemathesis = "schemathesis==4.32.5"

// A tool is fetched once; without a network, where it never was, its test has
// nothing to run. In CI it has to be there.
func needs(t *testing.T, tool string, err error, output []byte) {
	t.Helper()
	if err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing: %v\n%s", tool, err, output)
	}
	t.Skipf("%s is missing, and could not be fetched: %v\n%s", tool, err, output)
}

// uv is a command of the uv that this repository has.
func uv(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", append([]string{"run", "../tools/uv"}, args...)...)
	cmd.Env = append(os.Environ(), "NO_COLOR=1")
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

func TestTheAPIIsAsItsDocumentSays(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	out, err := uv(t.Context(), "tool", "run", "-q", "--from", schemathesis, "schemathesis", "--version").CombinedOutput()
	needs(t, "schemathesis", err, out)

	project := c.project(t, "document")
	token := as[struct{ Token string }](t, c.ok(t, "POST", "/v1/tokens", object{"projectId": project, "role": "admin", "name": "schemathesis"})).Token
	// What is made up may ask for hundreds of slots.
	c.ok(t, "PUT", "/v1/projects/"+project+"/quotas", object{"functions": 30, "slots": 2})
	config := schemathesisConfig(t, &client{c.api, token}, project)
	tryAll(t, c.api, token, "examples,coverage,fuzzing", config)
	config.things = "" // what they have made is theirs to delete
	tryAll(t, c.api, token, "fuzzing,stateful", config)
}

// What operators do changes what everybody has, so it is tried on a product of
// its own. To drain and to fence would end its only node.
func TestWhatOperatorsDoIsAsTheDocumentSays(t *testing.T) {
	p := start(t, t.TempDir())
	t.Cleanup(func() { p.stop(t) })
	c := p.client(t)
	out, err := uv(t.Context(), "tool", "run", "-q", "--from", schemathesis, "schemathesis", "--version").CombinedOutput()
	needs(t, "schemathesis", err, out)
	config := configs{common: commonConfig(t)}
	config.add("/v1/projects/", fmt.Sprintf(`"path.id" = %q`, c.project(t, "operated")))
	config.add("/v1/nodes/", fmt.Sprintf(`"path.id" = %q, "path.deviceId" = "simulator"`, p.nodes(t)["local"].ID))
	tryAll(t, c.api, c.token, "examples,coverage,fuzzing", config, "list-projects", "create-project", "get-project", "update-project", "get-default-quotas", "set-default-quotas",
		"get-project-quotas", "set-project-quotas", "get-node", "update-node", "cordon-node", "uncordon-node", "create-node-token", "clear-device-fault")
}

// tryAll tries the operations, all unless some are named, with all checks.
func tryAll(t *testing.T, api, token, phases string, config configs, operations ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 8*time.Minute, errors.New("it takes too long"))
	defer cancel()
	file := filepath.Join(t.TempDir(), "schemathesis.toml")
	if err := os.WriteFile(file, []byte(config.common+config.things), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{
		"tool", "run", "-q", "--from", schemathesis, "schemathesis", "--config-file", file,
		"run", "../api/openapi.yaml", "--url", api, "--header", "Authorization: Bearer " + token, "--checks", "all", "--phases", phases,
		"--generation-deterministic", "--max-examples", "8", "--workers", "1", "--continue-on-failure", "--no-shrink",
		"--request-timeout", "60", "--max-response-time", "45", // Prefer: wait=30 holds an answer
		"--no-color",
	}
	for _, o := range operations {
		args = append(args, "--include-operation-id", o)
	}
	cmd := uv(ctx, args...)
	cmd.Env = append(cmd.Env, "WARPKET_THINGS="+config.things) // for hooks.py: whether there are any
	out, err := cmd.CombinedOutput()
	text := strings.ReplaceAll(string(out), token, "TOKEN")
	if err != nil {
		t.Errorf("%v %v\n%s", err, context.Cause(ctx), text)
	}
	for line := range strings.SplitSeq(text, "\n") {
		if strings.Contains(line, " generated, ") {
			t.Logf("%s: %s", phases, strings.TrimSpace(line))
		}
	}
}

// configs are parts of schemathesis.toml.
type configs struct {
	common string
	things string // that there are, so that operations are tried on what exists
}

// schemathesisConfig makes what operations are tried on, and says what is left
// out.
func schemathesisConfig(t *testing.T, c *client, project string) configs {
	t.Helper()
	id := func(path string, body object) string {
		return as[struct{ ID string }](t, c.ok(t, "POST", path, body)).ID
	}
	f := c.python(t, "tried", "def handler(event, context):\n    print('a line')\n    return event\n", nil)
	e := c.execute(t, f, object{"input": object{"n": 1}}).ID
	deployment := id("/v1/functions/"+f+"/versions/2/deployments", object{"slots": 1})
	c.ok(t, "POST", "/v1/aliases", object{"name": "tried", "functionId": f, "version": 2})
	hook := id("/v1/webhooks", object{"functionId": f})
	schedule := id("/v1/schedules", object{"functionId": f, "name": "tried", "pattern": "0 0 1 1 *"})
	c.ok(t, "POST", "/v1/secrets", object{"name": "TRIED", "value": "x"})
	c.ok(t, "POST", "/v1/projects/"+project+"/members", object{"name": "ada", "role": "viewer"})
	runtime := id("/v1/runtimes", object{"sdk": "python", "sdkVersion": c.pythonVersion(t), "name": "tried"})
	token := id("/v1/tokens", object{"role": "viewer", "name": "tried"})

	config := configs{common: commonConfig(t)}
	for _, p := range []struct{ path, parameters string }{
		{"/v1/functions/", fmt.Sprintf(`"path.functionId" = %q`, f)},
		{"/v1/executions/", fmt.Sprintf(`"path.id" = %q`, e)},
		{"/v1/deployments/", fmt.Sprintf(`"path.id" = %q`, deployment)},
		{"/v1/aliases/", `"path.name" = "tried"`},
		{"/v1/webhooks/", fmt.Sprintf(`"path.id" = %q`, hook)},
		{"/v1/schedules/", fmt.Sprintf(`"path.id" = %q`, schedule)},
		{"/v1/secrets/", `"path.name" = "TRIED"`},
		{"/v1/projects/", fmt.Sprintf(`"path.id" = %q, "path.name" = "ada"`, project)},
		{"/v1/runtimes/", fmt.Sprintf(`"path.id" = %q`, runtime)},
		{"/v1/tokens/", fmt.Sprintf(`"path.id" = %q`, token)},
	} {
		config.add(p.path, p.parameters)
	}
	return config
}

// add says what there is at a path.
func (c *configs) add(path, parameters string) {
	// What is deleted is made up, for the others need what there is.
	c.things += fmt.Sprintf("\n[[operations]]\ninclude-path-regex = %q\nexclude-method = \"DELETE\"\nparameters = { %s }\n", "^"+path, parameters)
}

// commonConfig says what holds for all operations.
func commonConfig(t *testing.T) string {
	t.Helper()
	hooks, err := filepath.Abs("testdata/schemathesis/hooks.py")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("hooks = %q\n", hooks) + `
cache = { enabled = false }

[checks.positive_data_acceptance]
# 422 is for what no schema says: fields that exclude each other, times gone by,
# names of what is not there. 412 is for an If-Match that somebody made up.
expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "412", "422", "429"]

[[operations]] # they end the project and the token that all is tried with
include-operation-id = ["delete-project", "delete-token"]
enabled = false
`
}
