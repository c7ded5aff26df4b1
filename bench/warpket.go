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
	"sync/atomic"
	"time"
)

// The product's lanes, as peers.
const (
	express    = "warpket express"
	durable    = "warpket durable"
	newProject = "warpket express, new project"
)

// lanes are what the API calls them.
var lanes = map[string]string{express: "express", durable: "durable", newProject: "express"}

// templates are those that the functions are made from.
var templates = map[string]object{
	"bell": {"templateLanguageTag": "Qiskit", "sdkVersion": "2.6.2"},
	"echo": {"templateLanguageTag": "Python"},
}

// phases are the parts of a call, in order. The product tells all but the
// last, which is the rest of the time that the caller waited: HTTP.
var phases = []string{"queued", "placed", "started", "ran", "recorded", "rest"}

// project is a project of the product, spoken to with one of its tokens.
type project struct {
	server httpClient
}

type deployment struct {
	ID, Status, Message string
	Ready               int
}

type execution struct {
	ID, Status string
	Result     json.RawMessage
	Error      *struct{ Code, Message string }
	Timings    struct{ QueuedMs, PlacedMs, StartedMs, RanMs, RecordedMs float64 }
}

// as speaks to the product with a token.
func (p *product) as(token string) project {
	return project{newClient(p.api, http.Header{"Authorization": {"Bearer " + token}, "Prefer": {"wait=60"}})}
}

var named atomic.Int64

// unique gives a name that nothing else has.
func unique(prefix string) string { return fmt.Sprintf("%s-%d", prefix, named.Add(1)) }

// newProject makes a project.
func (p *product) newProject(ctx context.Context) (project, error) {
	operator := p.as(p.token)
	var made struct{ ID string }
	if err := operator.server.post(ctx, "/v1/projects", object{"name": unique("bench")}, &made); err != nil {
		return project{}, err
	}
	var token struct{ Token string }
	err := operator.server.post(ctx, "/v1/tokens", object{"projectId": made.ID, "role": "member", "name": "bench"}, &token)
	return p.as(token.Token), err
}

// function is a function of a project, with one version.
type function struct {
	id      string
	version int
}

// create makes a function of those in bench/functions.
func (p project) create(ctx context.Context, name string) (function, error) {
	code, err := os.ReadFile(filepath.Join("bench", "functions", name, "handler.py"))
	if err != nil {
		return function{}, err
	}
	return p.createWith(ctx, unique(name), string(code), templates[name])
}

func (p project) createWith(ctx context.Context, name, code string, settings object) (function, error) {
	body := object{"functionName": name}
	maps.Copy(body, settings)
	var made struct{ FunctionID string }
	if err := p.server.post(ctx, "/v1/functions", body, &made); err != nil {
		return function{}, err
	}
	var v struct{ Data struct{ Version int } }
	files := object{"templateFiles": []object{{"filename": "handler.py", "content": code}}}
	err := p.server.post(ctx, "/v1/functions/"+made.FunctionID+"/versions", files, &v)
	return function{made.FunctionID, v.Data.Version}, err
}

// remove deletes a function with all that it holds.
func (p project) remove(ctx context.Context, f function) error {
	return p.server.send(ctx, http.MethodDelete, "/v1/functions/"+f.id+"?force=true", nil, &struct{}{})
}

// request is the body that executes a function.
func (f function) request(name, lane string) json.RawMessage {
	body, _ := json.Marshal(object{"functionId": f.id, "lane": lane, "input": json.RawMessage(events[name])})
	return body
}

// execute executes a function, which has to succeed, and waits for its end.
func (p project) execute(ctx context.Context, request json.RawMessage) (call, error) {
	var e execution
	if err := p.server.post(ctx, "/v1/executions", request, &e); err != nil {
		return call{}, err
	}
	if e.Status != "succeeded" {
		return call{}, fmt.Errorf("an execution %s: %+v", e.Status, e.Error)
	}
	t := e.Timings
	return call{Result: e.Result, Phases: map[string]float64{
		"queued": t.QueuedMs, "placed": t.PlacedMs, "started": t.StartedMs, "ran": t.RanMs, "recorded": t.RecordedMs,
	}}, nil
}

// timed executes a function and measures that.
func (p project) timed(ctx context.Context, request json.RawMessage) (call, error) {
	began := time.Now()
	c, err := p.execute(ctx, request)
	c.Total = milliseconds(time.Since(began))
	return c, err
}

// warpket is the product with both functions deployed in a project.
type warpket struct {
	product     *product
	project     project
	functions   map[string]function
	deployments map[string]string
	runtime     runtime // that of bell
}

// deploy creates the functions in the product and deploys them on one slot
// each, which makes their runtimes.
func deploy(ctx context.Context, p *product) (*warpket, error) {
	w := &warpket{product: p, functions: map[string]function{}, deployments: map[string]string{}}
	var err error
	if w.project, err = p.newProject(ctx); err != nil {
		return nil, err
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
	f, err := w.project.create(ctx, name)
	if err != nil {
		return err
	}
	var d deployment
	path := fmt.Sprintf("/v1/functions/%s/versions/%d/deployments", f.id, f.version)
	if err := w.project.server.post(ctx, path, object{"slots": 1}, &d); err != nil {
		return err
	}
	w.functions[name], w.deployments[name] = f, d.ID
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
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
		if err := w.project.server.get(ctx, "/v1/deployments/"+d.ID, &d); err != nil {
			return err
		}
	}
	return nil
}

func (w *warpket) readRuntime(ctx context.Context) error {
	var list struct{ Items []struct{ ID, SDK string } }
	if err := w.project.server.get(ctx, "/v1/runtimes", &list); err != nil {
		return err
	}
	for _, item := range list.Items {
		if item.SDK == "qiskit" {
			return w.project.server.get(ctx, "/v1/runtimes/"+item.ID, &w.runtime)
		}
	}
	return errors.New("there is none")
}

// peer measures a lane: one slot serves a single caller, two serve many.
func (w *warpket) peer(name string) peer {
	return peer{name: name, stop: func() {}, measure: func(ctx context.Context, l load) (outcome, error) {
		slots := processesFor(l)
		var d deployment
		if err := w.project.server.send(ctx, http.MethodPatch, "/v1/deployments/"+w.deployments[l.function], object{"slots": slots}, &d); err != nil {
			return outcome{}, fmt.Errorf("scaling: %w", err)
		}
		if err := w.await(ctx, d, slots); err != nil {
			return outcome{}, fmt.Errorf("scaling: %w", err)
		}
		request := w.functions[l.function].request(l.function, lanes[name])
		return drive(ctx, l, func(ctx context.Context) (call, error) { return w.project.execute(ctx, request) })
	}, cold: w.coldCall(name)}
}

// coldCall makes the first call of a function that has just been created, in
// the project that has others, or in one that is as new. Afterwards the
// function is deleted, so that none has to wait for a slot of another.
func (w *warpket) coldCall(name string) func(context.Context, string) (call, error) {
	return func(ctx context.Context, kind string) (call, error) {
		p, rest := w.project, coldGap
		if name == newProject {
			var err error
			if p, err = w.product.newProject(ctx); err != nil {
				return call{}, err
			}
			rest = 2 * time.Second // a spare is made in one
		}
		f, err := p.create(ctx, kind)
		if err != nil {
			return call{}, err
		}
		if err := pause(ctx, rest); err != nil {
			return call{}, err
		}
		settle(ctx, time.Second)
		c, err := p.timed(ctx, f.request(kind, lanes[name]))
		return c, errors.Join(err, p.remove(ctx, f))
	}
}
