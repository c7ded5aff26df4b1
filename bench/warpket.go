package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// templates are those that the functions are made from.
var templates = map[string]object{
	"bell": {"templateLanguageTag": "Qiskit", "sdkVersion": "2.6.2"},
	"echo": {"templateLanguageTag": "Python"},
}

// phases are the parts of a call, in order. The product tells all but the
// last, which is the rest of the time that the caller waited: HTTP.
var phases = []string{"queued", "placed", "started", "ran", "recorded", "rest"}

// warpket is the product with both functions deployed.
type warpket struct {
	server      httpClient
	functions   map[string]string // IDs by name
	deployments map[string]string
	runtime     runtime // that of bell
}

type deployment struct {
	ID, Status, Message string
	Ready               int
}

type execution struct {
	Status  string
	Result  json.RawMessage
	Error   *struct{ Message string }
	Timings struct{ QueuedMs, PlacedMs, StartedMs, RanMs, RecordedMs float64 }
}

// deploy creates the functions in the product and deploys them on one slot
// each, which makes their runtimes.
func deploy(ctx context.Context, p *product) (*warpket, error) {
	w := &warpket{
		server:    newClient(p.api, http.Header{"Authorization": {"Bearer " + p.token}, "Prefer": {"wait=60"}}),
		functions: map[string]string{}, deployments: map[string]string{},
	}
	for _, name := range functions {
		say("deploying %s", name)
		if err := w.deploy(ctx, name); err != nil {
			return nil, fmt.Errorf("deploying %s: %w", name, err)
		}
	}
	if err := w.readRuntime(ctx); err != nil {
		return nil, fmt.Errorf("reading the runtime of bell: %w", err)
	}
	return w, nil
}

func (w *warpket) deploy(ctx context.Context, name string) error {
	code, err := os.ReadFile(filepath.Join("bench", "functions", name, "handler.py"))
	if err != nil {
		return err
	}
	settings := object{"functionName": name}
	maps.Copy(settings, templates[name])
	var f struct{ FunctionID string }
	if err := w.server.post(ctx, "/v1/functions", settings, &f); err != nil {
		return err
	}
	versions := "/v1/functions/" + f.FunctionID + "/versions"
	var v struct{ Data struct{ Version int } }
	files := object{"templateFiles": []object{{"filename": "handler.py", "content": string(code)}}}
	if err := w.server.post(ctx, versions, files, &v); err != nil {
		return err
	}
	var d deployment
	if err := w.server.post(ctx, fmt.Sprintf("%s/%d/deployments", versions, v.Data.Version), object{"slots": 1}, &d); err != nil {
		return err
	}
	w.functions[name], w.deployments[name] = f.FunctionID, d.ID
	return w.await(ctx, d, 1)
}

// await waits until a deployment serves on so many slots.
func (w *warpket) await(ctx context.Context, d deployment, slots int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Minute, errors.New("it is not ready after ten minutes"))
	defer cancel()
	for d.Status != "ready" || d.Ready != slots {
		if d.Status == "failed" {
			return fmt.Errorf("the deployment failed: %s", d.Message)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
		if err := w.server.get(ctx, "/v1/deployments/"+d.ID, &d); err != nil {
			return err
		}
	}
	return nil
}

func (w *warpket) readRuntime(ctx context.Context) error {
	var list struct{ Items []struct{ ID, SDK string } }
	if err := w.server.get(ctx, "/v1/runtimes", &list); err != nil {
		return err
	}
	for _, item := range list.Items {
		if item.SDK == "qiskit" {
			return w.server.get(ctx, "/v1/runtimes/"+item.ID, &w.runtime)
		}
	}
	return errors.New("there is none")
}

// peer measures the product: one slot serves a single caller, two serve many.
func (w *warpket) peer() peer {
	return peer{stop: func() {}, measure: func(ctx context.Context, l load) (outcome, error) {
		slots := processesFor(l)
		var d deployment
		if err := w.server.send(ctx, http.MethodPatch, "/v1/deployments/"+w.deployments[l.function], object{"slots": slots}, &d); err != nil {
			return outcome{}, fmt.Errorf("scaling: %w", err)
		}
		if err := w.await(ctx, d, slots); err != nil {
			return outcome{}, fmt.Errorf("scaling: %w", err)
		}
		request, err := json.Marshal(object{"functionId": w.functions[l.function], "input": json.RawMessage(events[l.function])})
		if err != nil {
			return outcome{}, err
		}
		return drive(ctx, l, func(ctx context.Context) (call, error) { return w.execute(ctx, request) })
	}}
}

// processesFor is how many processes every peer serves a load with.
func processesFor(l load) int {
	if l.outstanding == 1 {
		return 1
	}
	return 2
}

// execute executes a function and waits for its end.
func (w *warpket) execute(ctx context.Context, request json.RawMessage) (call, error) {
	var e execution
	if err := w.server.post(ctx, "/v1/executions", request, &e); err != nil {
		return call{}, err
	}
	if e.Status != "succeeded" {
		message := ""
		if e.Error != nil {
			message = e.Error.Message
		}
		return call{}, fmt.Errorf("an execution %s: %s", e.Status, message)
	}
	t := e.Timings
	return call{Ran: t.RanMs, Result: e.Result, Phases: map[string]float64{
		"queued": t.QueuedMs, "placed": t.PlacedMs, "started": t.StartedMs, "ran": t.RanMs, "recorded": t.RecordedMs,
	}}, nil
}
