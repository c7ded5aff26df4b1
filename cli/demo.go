package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	client "github.com/warpket/warpket/clients/go"
)

// DemoInfo is what the demo shows at its end.
type DemoInfo struct {
	TokenFile  string
	TemporalUI string
	Data       string // folder of "warpket dev"
	Command    string // how this program is called; "warpket" unless set
	Plain      bool   // no colours, and no line that is drawn again
}

// The demo's function.
var demo = manifest{Name: "bell", Template: "Qiskit", SDKVersion: "0.45.3", Description: "Entangles two qubits and measures them"}

const demoShots = 1024

// Demo does the main job once and shows each step: create a function from a
// template, deploy it, execute it. What an earlier demo left is used again.
func Demo(ctx context.Context, out io.Writer, terminal bool, api, token string, info DemoInfo) error {
	server, err := connect(api, token)
	if err != nil {
		return err
	}
	screen := newScreen(out, info.Plain || !terminal)
	a := &app{out: screen, err: screen, note: screen}
	f, v, err := a.demoFunction(ctx, server)
	if err != nil {
		return err
	}
	d, err := a.demoDeployment(ctx, server, f, v.Version)
	if err != nil {
		return err
	}
	if err := a.demoExecution(ctx, server, f); err != nil {
		return err
	}
	a.demoAddresses(api, f, d, info)
	return nil
}

// demoFunction creates the function, and says where its files are.
func (a *app) demoFunction(ctx context.Context, server *client.ClientWithResponses) (client.Function, client.FunctionVersion, error) {
	r, err := server.ListFunctionsWithResponse(ctx, &client.ListFunctionsParams{Name: &demo.Name})
	if err != nil {
		return client.Function{}, client.FunctionVersion{}, err
	}
	var f client.Function
	if len(r.JSON200.Items) > 0 {
		f = r.JSON200.Items[0]
		a.out.printf("  function %s is there: %s %s", f.FunctionName, f.SDK, f.SDKVersion)
	} else if f, err = a.ensureFunction(ctx, server, demo); err != nil {
		return f, client.FunctionVersion{}, err
	}
	versions, err := server.ListVersionsWithResponse(ctx, f.FunctionID, &client.ListVersionsParams{Limit: new(int64(1))})
	if err != nil {
		return f, client.FunctionVersion{}, err
	}
	if len(versions.JSON200.Items) == 0 {
		return f, client.FunctionVersion{}, noFunction(f.FunctionName)
	}
	v := versions.JSON200.Items[0]
	for _, file := range v.Files {
		a.out.printf("  version %d  %s  %s  %s at %s", v.Version, file.Filename, size(file.Size), file.Status, a.out.paint(quiet, file.Key))
	}
	return f, v, nil
}

// demoDeployment deploys the version, unless it is deployed.
func (a *app) demoDeployment(ctx context.Context, server *client.ClientWithResponses, f client.Function, version int64) (client.Deployment, error) {
	before, err := liveDeployments(ctx, server, f.FunctionID)
	if err != nil {
		return client.Deployment{}, err
	}
	for _, d := range before {
		if d.Version == version && serves(d) {
			a.out.printf("%s version %d is deployed already", a.out.paint(good, "✓"), version)
			return d, nil
		}
	}
	d, err := a.startDeployment(ctx, server, f, version, 1, before)
	if err != nil {
		return d, err
	}
	p := a.out.progress(progressOf(d))
	d, err = awaitDeployment(ctx, server, d, p)
	took := p.end()
	if err != nil {
		return d, err
	}
	if !serves(d) {
		return d, &deploymentError{d}
	}
	a.out.printf("%s deployed version %d: %s, %s", a.out.paint(good, "✓"), version, places(d), duration(took))
	return d, nil
}

// demoExecution executes the function and draws what came out.
func (a *app) demoExecution(ctx context.Context, server *client.ClientWithResponses, f client.Function) error {
	p := a.out.progress(fmt.Sprintf("executing with %d shots", demoShots))
	e, body, err := start(ctx, server, &client.CreateExecutionParams{Prefer: new(firstHold)}, client.CreateExecutionRequest{FunctionID: f.FunctionID, Shots: demoShots})
	if err == nil {
		e, _, err = await(ctx, server, e, body, p)
	}
	took := p.end()
	if err != nil {
		return err
	}
	if e.Status != client.ExecutionStatusSucceeded {
		return &executionError{e}
	}
	a.out.printf("%s executed with %d shots, %s", a.out.paint(good, "✓"), demoShots, duration(took))
	a.out.printf("")
	if c := counts(e.Result); len(c) > 0 {
		a.out.histogram(c)
	} else {
		a.out.printf("  %s", compact(e.Result))
	}
	a.out.printf("")
	a.out.waterfall(e.Timings)
	return nil
}

func compact(result json.RawMessage) string {
	const room = 200
	text := safe(string(result))
	if len(text) > room {
		return strings.ToValidUTF8(text[:room], "") + "…"
	}
	return text
}

// demoAddresses says where everything is, and what to try next.
func (a *app) demoAddresses(api string, f client.Function, d client.Deployment, info DemoInfo) {
	addresses := [][2]string{
		{"API", api},
		{"API docs", api + "/docs"},
		{"Temporal UI", info.TemporalUI},
		{"deployment", d.TemporalURL},
		{"token", info.TokenFile},
	}
	a.out.printf("")
	for _, line := range addresses {
		if line[1] != "" {
			a.out.printf("  %-12s %s", line[0], a.out.paint(busy, line[1]))
		}
	}
	a.out.printf(`
  next, in another terminal:
    %[1]s login --dev %[2]s
    %[1]s run %[3]s --shots 4096
    %[1]s init Qiskit my-function
  or without this program:
    curl -s %[4]s/v1/executions -H "Authorization: Bearer $(sed -n 's/.*"token": "\(.*\)".*/\1/p' %[5]s)" \
      -H 'Content-Type: application/json' -d '{"functionId": "%[6]s"}'
`, cmp.Or(info.Command, "warpket"), info.Data, f.FunctionName, api, info.TokenFile, f.FunctionID)
}
