package qinling

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
	"github.com/warpket/warpket/storage/postgres"
)

type executionObject struct {
	ID              string  `json:"id"`
	FunctionAlias   *string `json:"function_alias"`
	FunctionID      string  `json:"function_id"`
	FunctionVersion int     `json:"function_version"`
	Description     *string `json:"description"`
	Input           *string `json:"input" doc:"As it was sent; null in lists when it has more than 4 KiB"`
	Result          *string `json:"result" doc:"JSON with output and duration; null until it has ended, and in lists when it has more than 4 KiB"`
	Status          string  `json:"status" enum:"running,success,failed,error"`
	Sync            bool    `json:"sync"`
	ProjectID       string  `json:"project_id"`
	CreatedAt       string  `json:"created_at"`
	UpdatedAt       *string `json:"updated_at"`
}

// async marks executions for whose end nobody has waited.
const async = "async"

func toExecution(e warpket.Execution) executionObject {
	out := executionObject{
		ID: string(e.ID), FunctionAlias: orNull(e.Alias), FunctionID: string(e.FunctionID), FunctionVersion: e.VersionNumber, Description: orNull(e.Description),
		Input: inputText(e.Input.Inline), Result: result(e), Status: statuses[e.Status], Sync: e.Origin.Kind == "" && !contains(e.Tags, async),
		ProjectID: string(e.ProjectID), CreatedAt: timestamp(e.CreatedDate),
	}
	if e.FinishedDate != nil {
		out.UpdatedAt = new(timestamp(*e.FinishedDate))
	}
	if e.Error != nil && contains(ours, e.Error.Code) {
		out.Status = "error"
	}
	return out
}

// result is what an execution returned, as Qinling tells it, or why it did not.
func result(e warpket.Execution) *string {
	type told struct {
		Duration float64         `json:"duration"`
		Output   json.RawMessage `json:"output"`
	}
	t := told{Duration: float64(e.Timings.Ran.Round(time.Microsecond)) / float64(time.Second)}
	switch {
	case !e.Status.Final():
		return nil
	case e.Status == warpket.Succeeded && e.Result.Inline == nil:
		return nil
	case e.Status == warpket.Succeeded:
		t.Output = e.Result.Inline
	default:
		t.Output, _ = json.Marshal(failure(e)) // a text: cannot fail
	}
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	out.SetEscapeHTML(false)
	if out.Encode(t) != nil {
		return nil
	}
	return new(strings.TrimSuffix(b.String(), "\n"))
}

// failure is the output of an execution that did not succeed.
func failure(e warpket.Execution) string {
	switch {
	case e.Error == nil || contains(ours, e.Error.Code):
		return "Function execution failed."
	case e.Status == warpket.TimedOut:
		return "Function execution timeout."
	case contains(exhausted, e.Error.Code):
		return "Function execution failed because of too much resource consumption"
	case e.Error.Code == warpket.Raised:
		if _, text, ok := strings.Cut(e.Error.Message, ": "); ok { // without the exception's name
			return text
		}
	}
	return e.Error.Message
}

func (w *wire) addExecutions() {
	tags := []string{"Executions"}
	register(w, api.Read, huma.Operation{OperationID: "list-executions", Method: http.MethodGet, Path: "/v1/executions", Tags: tags, Summary: "List executions", Metadata: ofProjects("function_id", "function_version", "status", "description")}, w.listExecutions)
	register(w, api.Write, huma.Operation{
		OperationID: "create-execution", Method: http.MethodPost, Path: "/v1/executions", Tags: tags, Summary: "Execute a function", DefaultStatus: http.StatusCreated,
		MaxBodyBytes: warpket.MaxInput + maxBody, BodyReadTimeout: time.Minute, Metadata: api.OwnRecord(),
	}, w.createExecution)
	register(w, api.Read, huma.Operation{OperationID: "get-execution", Method: http.MethodGet, Path: "/v1/executions/{id}", Tags: tags, Summary: "Show an execution"},
		func(ctx context.Context, in *struct {
			Query
			ByID
		},
		) (*output[executionObject], error) {
			e, ctx, err := w.execution(ctx, in.ByID)
			if err != nil {
				return nil, err
			}
			return w.executionAnswer(ctx, e)
		})
	register(w, api.Read, huma.Operation{OperationID: "get-execution-log", Method: http.MethodGet, Path: "/v1/executions/{id}/log", Tags: tags, Summary: "Show the log of an execution"},
		func(ctx context.Context, in *struct {
			Query
			ByID
		},
		) (*huma.StreamResponse, error) {
			e, ctx, err := w.execution(ctx, in.ByID)
			if err != nil {
				return nil, err
			}
			log, err := w.server.LogOf(ctx, e)
			if err != nil {
				return nil, err
			}
			return stream("text/plain; charset=UTF-8", nil, func(ctx huma.Context) error {
				_, err := ctx.BodyWriter().Write(told(e, log))
				return err
			}), nil
		})
	register(w, api.Write, huma.Operation{OperationID: "delete-execution", Method: http.MethodDelete, Path: "/v1/executions/{id}", Tags: tags, Summary: "Delete an execution"},
		func(ctx context.Context, in *struct {
			Query
			ByID
		},
		) (*struct{}, error) {
			e, _, err := w.execution(ctx, in.ByID)
			if err != nil {
				return nil, err
			}
			return nil, conflicting(w.server.Store.DeleteExecution(ctx, e.ProjectID, e.ID), "")
		})
}

// told is the log as Qinling writes it: between its start and its end, with the
// traceback of what was raised.
func told(e warpket.Execution, log []byte) []byte {
	var b bytes.Buffer
	line := func(text []byte) {
		b.Write(text)
		if len(text) > 0 && text[len(text)-1] != '\n' {
			b.WriteByte('\n')
		}
	}
	line([]byte("Start execution: " + string(e.ID)))
	line(log)
	if e.Error != nil && e.Error.Traceback != "" && !bytes.Contains(log, []byte(strings.TrimSpace(e.Error.Traceback))) {
		line([]byte(e.Error.Traceback))
	}
	if e.Status.Final() {
		line([]byte("Finished execution: " + string(e.ID)))
	}
	return b.Bytes()
}

// execution finds an execution, and has an operator work in its project.
func (w *wire) execution(ctx context.Context, in ByID) (e warpket.Execution, _ context.Context, err error) {
	id, err := in.parse()
	if err != nil {
		return e, ctx, err
	}
	caller := api.CallerOf(ctx)
	if caller.Role == warpket.Operator {
		if e, err = w.server.Store.ExecutionByID(ctx, id); err == nil {
			ctx, err = api.In(ctx, e.ProjectID)
		}
	} else {
		e, err = w.server.Store.Execution(ctx, caller.Project, id)
	}
	return e, ctx, notFound(err, "Execution", "id=%s", id)
}

// executionAnswer is an execution with its input and result, or with where they
// are natively when they are large.
func (w *wire) executionAnswer(ctx context.Context, e warpket.Execution) (_ *output[executionObject], err error) {
	if e.Input.Size <= maxPayload {
		if e.Input.Inline, err = w.server.Payload(ctx, e, e.Input); err != nil {
			return nil, err
		}
	} else {
		e.Input.Inline = inputOf(fmt.Sprintf("The input has %d bytes: see /v1/executions/%s/input", e.Input.Size, e.ID), true)
	}
	switch {
	case e.Status != warpket.Succeeded:
	case e.Result.Size <= maxPayload:
		if e.Result.Inline, err = w.server.Payload(ctx, e, e.Result); err != nil {
			return nil, err
		}
	default:
		e.Result.Inline, _ = json.Marshal(fmt.Sprintf("The result has %d bytes: see /v1/executions/%s/result", e.Result.Size, e.ID)) // a text: cannot fail
	}
	return &output[executionObject]{toExecution(e)}, nil
}

func (w *wire) listExecutions(ctx context.Context, in *struct{ Query }) (*output[struct {
	Executions []executionObject `json:"executions"`
}], error,
) {
	projects, err := w.projects(ctx, &in.Query)
	if err != nil {
		return nil, err
	}
	conditions := map[string]warpket.Condition{}
	for _, name := range []string{"function_id", "function_version", "status", "description"} {
		if conditions[name], err = in.condition(name); err != nil {
			return nil, err
		}
	}
	filter, possible := executionFilter(conditions)
	if !possible {
		projects = nil
	}
	found, err := list(ctx, projects, func(e warpket.Execution) warpket.ID { return e.ID }, func(e warpket.Execution) bool {
		return conditions["function_id"].Holds(string(e.FunctionID)) && conditions["function_version"].Holds(strconv.Itoa(e.VersionNumber)) &&
			conditions["status"].Holds(toExecution(e).Status) && conditions["description"].Holds(e.Description)
	}, func(ctx context.Context, project warpket.ID, page postgres.Page) ([]warpket.Execution, string, error) {
		return w.server.Store.Executions(ctx, project, filter, page)
	})
	out := &output[struct {
		Executions []executionObject `json:"executions"`
	}]{}
	out.Body.Executions = []executionObject{}
	for _, e := range found {
		out.Body.Executions = append(out.Body.Executions, toExecution(e))
	}
	return out, err
}

// executionFilter is as much of the conditions as the store narrows by: what else
// there is has to be looked at. possible is false when nothing can fit.
func executionFilter(conditions map[string]warpket.Condition) (_ postgres.ExecutionFilter, possible bool) {
	filter := postgres.ExecutionFilter{Small: true}
	if c := conditions["status"]; c.Op != "" {
		filter.Statuses = nativeStatuses(c.Holds)
	}
	if c := conditions["function_id"]; c.Op == warpket.Eq || c.Op == warpket.In {
		for _, text := range c.Values {
			if id, err := warpket.ParseID("function", text); err == nil {
				filter.Functions = append(filter.Functions, id)
			}
		}
		switch len(filter.Functions) {
		case 0:
			return filter, false
		case 1:
			filter.FunctionID, filter.Functions = filter.Functions[0], nil
		}
	}
	if c := conditions["function_version"]; !slices.ContainsFunc(c.Values, func(text string) bool { _, err := strconv.ParseUint(text, 10, 31); return err != nil }) && c.Op != warpket.Has {
		filter.Version = c
	}
	if c := conditions["description"]; contains([]warpket.Op{warpket.Eq, warpket.Neq, warpket.In, warpket.Nin, warpket.Has}, c.Op) { // the others depend on the alphabet
		filter.Description = c
	}
	return filter, filter.Statuses == nil || len(filter.Statuses) > 0
}

// target is which function's code is to be executed, and when an alias tells, its
// name.
type target struct {
	function warpket.Function
	version  int
	alias    string
}

// target reads what a body names: an alias, or a version of a function.
func (w *wire) target(ctx context.Context, said fields) (t target, err error) {
	var function string
	if err := said.texts(map[string]*string{"function_id": &function, "function_alias": &t.alias}); err != nil {
		return t, err
	}
	if t.version, _, err = said.version(); err != nil {
		return t, err
	}
	if t.alias != "" {
		a, err := w.server.Store.Alias(ctx, api.CallerOf(ctx).Project, t.alias)
		if err != nil {
			return t, noAlias(err, t.alias)
		}
		t.function, err = w.own(ctx, string(a.FunctionID))
		return t, err
	}
	if function == "" {
		return t, invalid("Either function_alias or function_id must be provided.")
	}
	if t.function, err = w.own(ctx, function); err != nil || t.version == warpket.DraftNumber {
		return t, err
	}
	_, err = w.server.Store.Version(ctx, t.function.ProjectID, t.function.ID, t.version)
	return t, notFound(err, "FunctionVersion", "function_id=%s, version_number=%d", t.function.ID, t.version)
}

func (w *wire) createExecution(ctx context.Context, in *Sent) (*output[executionObject], error) {
	said, err := in.object("execution", "function_id", "function_version", "function_alias", "input", "sync", "description")
	if err != nil {
		return nil, err
	}
	t, err := w.target(ctx, said)
	if err != nil {
		return nil, err
	}
	var input, description string
	if err := said.texts(map[string]*string{"input": &input, "description": &description}); err != nil {
		return nil, err
	}
	sync, err := said.flag("sync", true)
	if err != nil {
		return nil, err
	}
	if t.function.RuntimeID != "" {
		r, err := w.server.Store.Runtime(ctx, t.function.RuntimeID)
		if err != nil {
			return nil, err
		}
		if r.Status != warpket.RuntimeAvailable {
			return nil, newFault(http.StatusConflict, "Runtime "+string(r.ID)+" is not available.")
		}
	}
	b := api.CreateExecutionRequest{Description: description, Input: inputOf(input, said.has("input")), Alias: t.alias}
	if t.alias == "" {
		b.FunctionID, b.Version, b.Draft = string(t.function.ID), t.version, t.version == warpket.DraftNumber
	}
	if !sync {
		b.Tags = []string{async}
	}
	e, err := w.server.Execute(ctx, b, sync)
	if err != nil {
		return nil, err
	}
	return w.executionAnswer(ctx, e)
}
