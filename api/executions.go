package api

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/sync/errgroup"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/live"
	"github.com/warpket/warpket/storage/postgres"
)

// Execution is one run of a version.
type Execution struct {
	ID           string      `json:"id" doc:"ID of the execution, and of its Temporal workflow"`
	FunctionID   string      `json:"functionId" doc:"ID of its function"`
	FunctionName string      `json:"functionName" doc:"Name of its function when it was asked for" example:"bell"`
	Version      int         `json:"version" doc:"Number of the version that it runs; 0 for the draft as it was then" example:"1"`
	Status       string      `json:"status" enum:"queued,running,succeeded,failed,cancelled,timed_out,lost" doc:"All but queued and running are final; lost: it had started and its outcome cannot be known"`
	Lane         string      `json:"lane" enum:"durable,express" doc:"durable: a Temporal workflow drives it; express: the server does, which is faster"`
	Target       string      `json:"target" enum:"cpu,simulator,gpu,compile,sim" doc:"Where it runs"`
	Input        Any         `json:"input,omitempty" doc:"What the handler gets as its event; absent in lists and when larger than 64 KiB"`
	Result       Any         `json:"result,omitempty" doc:"What the handler returned; absent in lists, unless it succeeded, and when larger than 64 KiB"`
	ResultURL    string      `json:"resultUrl,omitempty" doc:"Where the result is to be had when it is larger than 64 KiB"`
	ResultSize   int64       `json:"resultSize" doc:"Bytes of the result"`
	Error        *Failure    `json:"error,omitempty" doc:"Why it did not succeed; absent unless it is final and did not"`
	Shots        int         `json:"shots" doc:"context.shots of the handler" example:"1024"`
	Device       string      `json:"device,omitempty" doc:"ID of the device that it has to run on"`
	Seed         int64       `json:"seed" doc:"Seed of its random numbers: the same seed gives the same result, as far as the SDK allows"`
	Resources    Resources   `json:"resources" doc:"What it may use"`
	Attempt      int         `json:"attempt" doc:"Which attempt this is or was; 0 before the first"`
	Placement    *ExecutedAt `json:"placement,omitempty" doc:"Where it runs or ran; absent while it is queued"`
	Queue        *Queue      `json:"queue,omitempty" doc:"Its place while it is queued; absent in lists"`
	Timings      *Timings    `json:"timings,omitempty" doc:"How long each phase took; absent until it is final"`
	Usage        *Usage      `json:"usage,omitempty" doc:"What it used; absent until it is final, and when that is not known"`
	Isolation    string      `json:"isolation,omitempty" doc:"What kept it apart from other functions, and what that lacked; none: it was a plain process" example:"namespaces"`
	LogSize      int64       `json:"logSize" doc:"Bytes that the handler wrote, kept or not"`
	InputURL     string      `json:"inputUrl,omitempty" doc:"Where the input is to be had when it is larger than 64 KiB"`
	RetryOf      string      `json:"retryOf,omitempty" doc:"ID of the execution that it repeats"`
	Callback     *Callback   `json:"callback,omitempty" doc:"Whom it calls when it is final; absent if nobody"`
	Description  string      `json:"description" doc:"What the caller says of it"`
	Tags         []string    `json:"tags" nullable:"false" doc:"The caller's labels"`
	TemporalURL  string      `json:"temporalUrl,omitempty" doc:"Its page in the Temporal UI; absent for express"`
	CreatedDate  time.Time   `json:"createdDate" doc:"When it was asked for"`
	StartedDate  *time.Time  `json:"startedDate,omitempty" doc:"When it got its slot"`
	FinishedDate *time.Time  `json:"finishedDate,omitempty" doc:"When it became final"`
	CreatedBy    string      `json:"createdBy,omitempty" doc:"ID of the token that asked for it; absent when no token did"`
	Alias        string      `json:"alias,omitempty" doc:"The alias that it was asked for by, which chose the version; absent for a function" example:"bell-prod"`
	Origin       *Origin     `json:"origin,omitempty" doc:"What asked for it; absent when a caller of the API did"`
}

// Origin is what asked for an execution.
type Origin struct {
	Kind string `json:"kind" enum:"webhook,gateway,schedule" doc:"What sort of thing it was"`
	ID   string `json:"id,omitempty" doc:"ID of the webhook or the schedule; absent for the gateway"`
}

// Failure says why an execution did not succeed.
type Failure struct {
	Code      FailureCode `json:"code" doc:"A stable word for the reason"`
	Message   string      `json:"message" doc:"The reason in one line" example:"ValueError: no such gate"`
	Traceback string      `json:"traceback,omitempty" doc:"Where in the handler's code it was raised"`
}

// FailureCode is a stable word for the reason why an execution did not succeed.
type FailureCode string

// Schema lists the codes.
func (FailureCode) Schema(huma.Registry) *huma.Schema {
	all := make([]any, len(warpket.FailureCodes))
	for i, code := range warpket.FailureCodes {
		all[i] = string(code)
	}
	return &huma.Schema{Type: huma.TypeString, Enum: all}
}

// ExecutedAt says where an execution runs.
type ExecutedAt struct {
	Node      string   `json:"node" doc:"Name of the node"`
	SlotID    string   `json:"slotId" doc:"ID of the slot"`
	Devices   []string `json:"devices" nullable:"false" doc:"Devices that it holds alone"`
	Reason    string   `json:"reason" doc:"Why there"`
	Simulated bool     `json:"simulated,omitempty" doc:"Its devices were only declared, for tests and plans: no code has run"`
}

// Timings are how long each phase took, in milliseconds.
type Timings struct {
	QueuedMs   float64 `json:"queuedMs" doc:"From the request until it was sent to its node"`
	PlacedMs   float64 `json:"placedMs" doc:"From there until the node had admitted it, with the way to the node and back"`
	StartedMs  float64 `json:"startedMs" doc:"From there until its worker had received it"`
	RanMs      float64 `json:"ranMs" doc:"From there until its result: the handler's own time"`
	RecordedMs float64 `json:"recordedMs" doc:"From the result's arrival at the server until its record was written"`
	TotalMs    float64 `json:"totalMs" doc:"From the request until its record was written"`
}

// Usage is what an execution used of its node.
type Usage struct {
	CPUSeconds float64 `json:"cpuSeconds" doc:"Time on processors, of all its processes"`
	PeakMemory int64   `json:"peakMemory" doc:"Bytes in use at once at most while it ran; of its worker so far where the kernel cannot count anew (cgroups of version 2 before Linux 6.12); 0 when the node cannot tell"`
	GPUMemory  int64   `json:"gpuMemory,omitempty" doc:"Bytes of its GPUs' memory at the peak, from samples: every 15 ms in its first second, then every 100 ms; absent when none of them saw any, as may be when it had the GPU for less"`
	GPUJoules  float64 `json:"gpuJoules,omitempty" doc:"Energy of its GPUs while it ran, idle power included; absent for slices of a GPU, which share a counter"`
	GPUSeconds float64 `json:"gpuSeconds,omitempty" doc:"Time in which its GPUs computed, summed, from samples of the driver's counter; absent when they did not, and for slices"`
}

// Callback says how far the callback of an execution is.
type Callback struct {
	URL       string     `json:"url" doc:"Where it is sent" example:"https://example.com/done"`
	Secret    string     `json:"secret,omitempty" doc:"Name of the secret that signs it; absent: it is not signed" example:"CALLBACK_KEY"`
	Status    string     `json:"status" enum:"pending,delivered,failed" doc:"pending: the execution is not final, or it is tried again; failed: it is not"`
	Attempts  int        `json:"attempts" doc:"How often it was sent"`
	LastError string     `json:"lastError,omitempty" doc:"What went wrong the last time" example:"the server answered 503"`
	SentDate  *time.Time `json:"sentDate,omitempty" doc:"When it was last sent"`
}

func (s *Server) toExecution(e warpket.Execution) Execution {
	out := Execution{
		ID: string(e.ID), FunctionID: string(e.FunctionID), FunctionName: e.FunctionName, Version: e.VersionNumber, Status: string(e.Status), Lane: string(e.Lane), Target: string(e.Target),
		Input: e.Input.Inline, Result: e.Result.Inline, ResultSize: e.Result.Size, Shots: e.Shots, Device: e.Resources.Device, Seed: e.Seed, Resources: toResources(e.Resources), Attempt: e.Attempt,
		LogSize: e.LogSize, Description: e.Description, Tags: orEmpty(e.Tags), Isolation: e.Isolation,
		CreatedDate: e.CreatedDate, StartedDate: e.StartedDate, FinishedDate: e.FinishedDate, CreatedBy: string(e.CreatedBy),
	}
	if e.Lane == warpket.Durable {
		out.TemporalURL = s.Workflows.ExecutionURL(e.ID)
	}
	if e.Usage != (warpket.Usage{}) && e.Status.Final() {
		out.Usage = &Usage{CPUSeconds: e.Usage.CPU.Seconds(), PeakMemory: e.Usage.PeakMemory, GPUMemory: e.Usage.GPUMemory, GPUJoules: e.Usage.GPUJoules, GPUSeconds: e.Usage.GPUSeconds}
	}
	if e.Result.SHA256 != "" {
		out.ResultURL = "/v1/executions/" + string(e.ID) + "/result"
	}
	if out.Alias = e.Alias; e.Origin.Kind != "" {
		out.Origin = &Origin{string(e.Origin.Kind), string(e.Origin.ID)}
	}
	if e.Input.SHA256 != "" {
		out.InputURL = "/v1/executions/" + string(e.ID) + "/input"
	}
	out.RetryOf = string(e.RetryOf)
	if c := e.Callback; c != nil {
		out.Callback = &Callback{c.URL, c.Secret, string(c.Status), c.Attempts, c.LastError, c.SentDate}
	}
	if e.Error != nil {
		out.Error = &Failure{FailureCode(e.Error.Code), e.Error.Message, e.Error.Traceback}
	}
	if e.NodeName != "" {
		out.Placement = &ExecutedAt{Node: e.NodeName, SlotID: string(e.SlotID), Devices: orEmpty(e.Devices), Reason: e.Reason, Simulated: e.Error != nil && e.Error.Code == warpket.SimulatedDevice}
	}
	if e.Status.Final() {
		t := e.Timings
		out.Timings = &Timings{ms(t.Queued), ms(t.Placed), ms(t.Started), ms(t.Ran), ms(t.Recorded), ms(t.Total)}
	}
	return out
}

// executionBody is the largest body of an execution: its input, with room for
// what is around it.
const executionBody = warpket.MaxInput + 1<<20

type createExecutionInput struct {
	HeldInput
	Body CreateExecutionRequest
}

// CreateExecutionRequest asks for an execution.
type CreateExecutionRequest struct {
	FunctionID  string     `json:"functionId,omitempty" maxLength:"64" doc:"ID of the function; needed unless an alias is named"`
	Version     int        `json:"version,omitempty" minimum:"1" maximum:"2147483647" doc:"Number of the version; the newest unless set" example:"1"`
	Alias       string     `json:"alias,omitempty" maxLength:"255" doc:"Name of an alias, in the place of functionId and version: it chooses the version" example:"bell-prod"`
	Input       Any        `json:"input,omitempty" doc:"What the handler gets as its event: any JSON value, an empty object unless set; at most 64 MiB"`
	Sync        *bool      `json:"sync,omitempty" default:"true" doc:"Whether the answer is held until the execution is final; Prefer: wait=SECONDS bounds that"`
	Lane        string     `json:"lane,omitempty" enum:"durable,express" doc:"durable: a Temporal workflow drives it; express: the server does, which is faster; the function's unless set"`
	Target      string     `json:"target,omitempty" enum:"cpu,simulator,gpu,compile,sim" doc:"Where it is to run; unless set, gpu if GPUs are asked for, else the template's first target. It never runs elsewhere"`
	Device      string     `json:"device,omitempty" maxLength:"128" doc:"ID of the device that it has to run on, see GET /v1/devices"`
	Queue       *bool      `json:"queue,omitempty" default:"true" doc:"false answers 503 no_capacity at once when there is no room, and records nothing"`
	Shots       int        `json:"shots,omitempty" minimum:"1" maximum:"100000000" default:"1024" doc:"context.shots of the handler" example:"1024"`
	Seed        *int64     `json:"seed,omitempty" minimum:"0" maximum:"2147483647" doc:"Seed of its random numbers; chosen unless set"`
	Resources   *Resources `json:"resources,omitempty" doc:"What it may use; the function's unless set"`
	Description string     `json:"description,omitempty" maxLength:"4096" doc:"What you say of it"`
	Tags        []string   `json:"tags,omitempty" maxItems:"20" nullable:"false" doc:"Your labels, each at most 64 bytes"`
	Draft       bool       `json:"draft,omitempty" doc:"Run the function's draft instead of a version"`

	CallbackURL    string `json:"callbackUrl,omitempty" maxLength:"2048" doc:"Where to POST the outcome when it is final. What does not answer 2xx is tried again, for four hours" example:"https://example.com/done"`
	CallbackSecret string `json:"callbackSecret,omitempty" maxLength:"64" doc:"Name of one of the project's secrets, which signs the callback as Standard Webhooks do: Webhook-Signature is v1, and the HMAC-SHA256, in base64, of Webhook-Id.Webhook-Timestamp.body" example:"CALLBACK_KEY"`
}

type (
	// ExecutionInput names an execution in a path. It is exported for huma, which reads no
	// other embedded fields.
	ExecutionInput struct {
		ID string `path:"id" maxLength:"64" doc:"ID of the execution"`
	}
	gotExecution    struct{ Body Execution }
	executionOutput struct {
		Status     int
		Location   string `header:"Location" doc:"Where to follow it, while it is not final"`
		RetryAfter string `header:"Retry-After" doc:"Seconds after which it is worth asking again"`
		Body       Execution
	}
)

func (s *Server) addExecutions() {
	tags := []string{"Executions"}
	accepted := accepted[Execution](s, "Not final yet: follow Location")
	register(s, Write, huma.Operation{
		OperationID: "create-execution", Method: http.MethodPost, Path: "/v1/executions", Tags: tags, Summary: "Execute a function", DefaultStatus: http.StatusOK,
		Description:  "Runs the handler once. 200 when the execution is final, also when it has failed: its status tells. 202 while it is not.",
		MaxBodyBytes: executionBody, BodyReadTimeout: time.Minute,
		Errors: []int{http.StatusNotFound, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity, http.StatusTooManyRequests}, Responses: accepted,
		Metadata: map[string]any{ownRecord: true},
	}, s.createExecution, byLoading)
	register(s, Read, huma.Operation{
		OperationID: "list-executions", Method: http.MethodGet, Path: "/v1/executions", Tags: tags, Summary: "List executions", Description: "Without inputs and results. With a filter that few fit, a page may hold fewer than limit, even none, while there are more: go on while there is a nextCursor.",
	}, s.listExecutions, byFilter)
	register(s, Read, huma.Operation{
		OperationID: "get-execution", Method: http.MethodGet, Path: "/v1/executions/{id}", Tags: tags, Summary: "Get an execution",
		Description: "With `Prefer: wait=SECONDS` the answer is held until it is final.", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *struct {
		ExecutionInput
		HeldInput
	},
	) (*gotExecution, error) {
		id, err := warpket.ParseID("execution", in.ID)
		if err != nil {
			return nil, err
		}
		held, cancel, asked := hold(ctx, in.Prefer)
		defer cancel()
		out, err := s.followExecution(ctx, held, id, asked)
		if err != nil {
			return nil, err
		}
		return &gotExecution{out.Body}, nil
	}, byLoading)
	register(s, Read, huma.Operation{
		OperationID: "get-execution-result", Method: http.MethodGet, Path: "/v1/executions/{id}/result", Tags: tags, Summary: "Get the result of an execution",
		Description: "The JSON that the handler returned, whatever its size.", Errors: []int{http.StatusNotFound, http.StatusConflict}, Responses: map[string]*huma.Response{"200": {Description: "The result", Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{}}}}},
	}, s.getResult, byLoading)
	register(s, Read, huma.Operation{
		OperationID: "get-execution-input", Method: http.MethodGet, Path: "/v1/executions/{id}/input", Tags: tags, Summary: "Get the input of an execution",
		Description: "The JSON that the handler got, whatever its size.", Errors: []int{http.StatusNotFound}, Responses: map[string]*huma.Response{"200": {Description: "The input", Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{}}}}},
	}, func(ctx context.Context, in *ExecutionInput) (*huma.StreamResponse, error) {
		e, err := s.execution(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		return s.payload(ctx, e, e.Input)
	}, byLoading)
	register(s, Write, huma.Operation{
		OperationID: "retry-execution", Method: http.MethodPost, Path: "/v1/executions/{id}/retry", Tags: tags, Summary: "Execute again", DefaultStatus: http.StatusOK,
		Description: "Makes a new execution of the same code with the same input, seed and settings, and the function's present configuration; retryOf says of which. Only of one that is final.",
		Errors:      []int{http.StatusNotFound, http.StatusConflict}, Responses: accepted,
	}, s.retryExecution, byLoading)
	register(s, Write, huma.Operation{
		OperationID: "delete-execution", Method: http.MethodDelete, Path: "/v1/executions/{id}", Tags: tags, Summary: "Delete an execution", DefaultStatus: http.StatusNoContent,
		Description: "With its input, result and log. Refused while it is not final: cancel it first.", Errors: []int{http.StatusNotFound, http.StatusConflict},
	}, func(ctx context.Context, in *ExecutionInput) (*struct{}, error) {
		e, err := s.execution(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		return nil, s.Store.DeleteExecution(ctx, e.ProjectID, e.ID)
	}, byLoading)
	register(s, Write, huma.Operation{
		OperationID: "cancel-execution", Method: http.MethodPost, Path: "/v1/executions/{id}/cancel", Tags: tags, Summary: "Cancel an execution", DefaultStatus: http.StatusOK,
		Description: "A queued execution is cancelled at once; a running one when its process has ended. Cancelling a final one does nothing.", Errors: []int{http.StatusNotFound}, Responses: accepted,
	}, s.cancelExecution, byLoading)
	s.addStreams()
}

// callee is what an execution runs.
type callee struct {
	function warpket.Function
	version  warpket.Version
	aims     warpket.Aims
	alias    string // that it was named by; may be empty
}

// newest asks for the newest version in the place of a number.
const newest = 0

// callee finds what to run; a warm call finds it in the cache.
func (s *Server) callee(ctx context.Context, function string, version int, draft bool) (callee, error) {
	if draft && version != 0 {
		return callee{}, warpket.Errorf(warpket.Invalid, "version and draft cannot both be given").At("draft")
	}
	id, err := warpket.ParseID("function", function)
	if err != nil {
		return callee{}, err
	}
	if err := mayReach(ctx, id); err != nil {
		return callee{}, err
	}
	project := projectOf(ctx)
	return s.targets.get(fmt.Sprintf("%s %s %d %t", project, id, version, draft), func() (c callee, err error) {
		var reads errgroup.Group // side by side: a first call waits for them
		reads.Go(func() (err error) {
			if draft {
				var d warpket.Draft
				d, err = s.Store.Draft(ctx, project, id)
				c.version = d.Version()
				return err
			}
			c.version, err = s.Store.Version(ctx, project, id, version)
			return err
		})
		c.function, err = s.Store.Function(ctx, project, id)
		if err := cmp.Or(err, reads.Wait()); err != nil {
			return c, err
		}
		c.aims, err = s.aimsOf(ctx, c.function, c.version)
		return c, err
	})
}

// aimsOf is where a version can run.
func (s *Server) aimsOf(ctx context.Context, f warpket.Function, v warpket.Version) (warpket.Aims, error) {
	if v.Snapshot.Image != nil {
		return warpket.AimsOf(v.Snapshot, warpket.Template{}, ""), nil
	}
	template, err := s.Catalog.Template(f.TemplateTag)
	if err != nil || template.Compiler == "" { // only what is compiled asks for its SDK's version
		return warpket.AimsOf(v.Snapshot, template, ""), err
	}
	runtime, err := s.Store.Runtime(ctx, v.Snapshot.RuntimeID)
	return warpket.AimsOf(v.Snapshot, template, runtime.SDKVersion), err
}

// calleeOf finds what an alias has an execution run; a warm call finds it in
// the cache.
func (s *Server) calleeOf(ctx context.Context, alias string) (callee, error) {
	project := projectOf(ctx)
	a, err := s.aliases.get(string(project)+" "+alias, func() (warpket.Alias, error) { return s.Store.Alias(ctx, project, alias) })
	if err != nil {
		return callee{}, err
	}
	if err := mayReachAlias(ctx, a); err != nil {
		return callee{}, err
	}
	version := a.Pick(s.Random)
	c, err := s.callee(ctx, string(a.FunctionID), version, version == warpket.DraftNumber)
	c.alias = a.Name
	return c, err
}

// named finds what a request for an execution names.
func (s *Server) named(ctx context.Context, b CreateExecutionRequest) (callee, error) {
	switch {
	case b.Alias != "" && (b.FunctionID != "" || b.Version != 0 || b.Draft):
		return callee{}, warpket.Errorf(warpket.Invalid, "an alias says itself which function and version run: leave functionId, version and draft out, or leave alias out").At("alias")
	case b.Alias != "":
		return s.calleeOf(ctx, b.Alias)
	case b.FunctionID == "":
		return callee{}, warpket.Errorf(warpket.Invalid, "functionId is missing: give the ID of a function, or name an alias").At("functionId")
	}
	return s.callee(ctx, b.FunctionID, b.Version, b.Draft)
}

func (s *Server) createExecution(ctx context.Context, in *createExecutionInput) (*executionOutput, error) {
	received := time.Now()
	c, err := s.named(ctx, in.Body)
	if err != nil {
		return nil, err
	}
	e, err := s.newExecution(ctx, c, in.Body)
	if err != nil {
		return nil, err
	}
	if err := s.callback(ctx, &e, in.Body); err != nil {
		return nil, err
	}
	held, cancel, asked := hold(ctx, in.Prefer)
	defer cancel()
	e, err = s.execute(ctx, held, order{
		callee: c, execution: e, input: in.Body.Input, received: received,
		queue: in.Body.Queue == nil || *in.Body.Queue, wait: asked || in.Body.Sync == nil || *in.Body.Sync,
	})
	if err != nil {
		return nil, err
	}
	return s.executionAnswer(e), nil
}

// order is an execution to come, whoever asks for it.
type order struct {
	callee
	execution warpket.Execution
	input     Any
	received  time.Time // when it was asked for
	queue     bool      // it may wait for room
	wait      bool      // whoever asked waits for the end
}

// execute begins an execution. With wait it comes back when it is final, or
// when held has ended.
func (s *Server) execute(ctx, held context.Context, o order) (warpket.Execution, error) {
	e := o.execution
	if err := s.room(ctx, e, o.callee, o.queue); err != nil {
		return e, err
	}
	if err := s.storeInput(ctx, &e, o.input); err != nil {
		return e, err
	}
	return s.launch(ctx, held, e, o.received, o.wait)
}

// callback notes whom an execution calls when it is final.
func (s *Server) callback(ctx context.Context, e *warpket.Execution, b CreateExecutionRequest) error {
	if b.CallbackURL == "" {
		if b.CallbackSecret != "" {
			return warpket.Errorf(warpket.Invalid, "a secret for a callback needs a callbackUrl").At("callbackSecret")
		}
		return nil
	}
	if err := warpket.CheckCallbackURL(b.CallbackURL, s.PlainHTTP); err != nil {
		return err
	}
	if b.CallbackSecret != "" {
		if err := mayBind(ctx, "callbackSecret"); err != nil {
			return err
		}
		if _, err := s.Store.Secret(ctx, e.ProjectID, b.CallbackSecret); warpket.KindOf(err) == warpket.NotFound {
			return warpket.Errorf(warpket.Invalid, "this project has no secret %q: create it first", b.CallbackSecret).At("callbackSecret")
		} else if err != nil {
			return err
		}
	}
	e.Callback = &warpket.Callback{URL: b.CallbackURL, Secret: b.CallbackSecret, Status: warpket.CallbackPending}
	return nil
}

// retryExecution makes an execution like one that is final.
func (s *Server) retryExecution(ctx context.Context, in *struct {
	ExecutionInput
	HeldInput
},
) (*executionOutput, error) {
	received := time.Now()
	before, err := s.execution(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	f, err := s.Store.Function(ctx, before.ProjectID, before.FunctionID)
	if warpket.KindOf(err) == warpket.NotFound {
		return nil, warpket.Errorf(warpket.Conflict, "the function of execution %s was deleted, and its code with it", before.ID)
	} else if err != nil {
		return nil, err
	}
	if _, err := s.Store.Snapshot(ctx, before.SnapshotID); warpket.KindOf(err) == warpket.NotFound {
		return nil, warpket.Errorf(warpket.Conflict, "the code of execution %s was deleted", before.ID)
	} else if err != nil {
		return nil, err
	}
	e, err := before.Retry(s.newID(ctx), s.Now())
	if err != nil {
		return nil, err
	}
	e.FunctionName, e.Revision, e.CreatedBy = f.Name, f.Revision, callerOf(ctx).token.ID
	if e.Input.SHA256 != "" {
		if err := s.Store.TouchObjects(ctx, []postgres.Object{{ProjectID: e.ProjectID, SHA256: e.Input.SHA256, Size: e.Input.Size}}, s.Now()); err != nil {
			return nil, err
		}
	}
	held, cancel, _ := hold(ctx, in.Prefer)
	defer cancel()
	if e, err = s.launch(ctx, held, e, received, true); err != nil {
		return nil, err
	}
	return s.executionAnswer(e), nil
}

// launch begins an execution. With wait it comes back when it is final, or when
// held has ended.
func (s *Server) launch(ctx, held context.Context, e warpket.Execution, received time.Time, wait bool) (warpket.Execution, error) {
	news := s.Hub.Watch(e.ID) // before it can become final
	defer news.Close()
	s.Hub.Begin(e.ID, received)
	if err := s.Fleet.Launch(ctx, e, wait); err != nil {
		s.Hub.Forget(e.ID)
		return e, err
	}
	if !wait {
		return e, nil
	}
	for held.Err() == nil { // most calls: it becomes final in this server
		select {
		case <-news.C:
			if final := news.Final(); final != nil {
				return *final, nil
			}
			continue
		case <-time.After(elsewhere):
		case <-held.Done():
		}
		break
	}
	return s.await(ctx, held, e.ID, true)
}

// newExecution checks a request and makes an execution of it.
func (s *Server) newExecution(ctx context.Context, c callee, b CreateExecutionRequest) (warpket.Execution, error) {
	explicit := b.Resources.domain()
	explicit.Device = b.Device
	target, resources, err := c.aims.Take(warpket.Target(b.Target), explicit, c.function.Settings.Resources)
	if err != nil {
		return warpket.Execution{}, err
	}
	for i, tag := range b.Tags {
		if len(tag) > 64 || strings.ContainsRune(tag, 0) {
			return warpket.Execution{}, warpket.Errorf(warpket.Invalid, "a tag has at most 64 bytes").At("tags[%d]", i)
		}
	}
	if err := warpket.CheckDescription(b.Description); err != nil {
		return warpket.Execution{}, err
	}
	seed := rand.Int64N(1 << 31) //nolint:gosec // for simulations, not for secrets
	if b.Seed != nil {
		seed = *b.Seed
	}
	return warpket.Execution{
		ID: s.newID(ctx), ProjectID: c.function.ProjectID, FunctionID: c.function.ID, FunctionName: c.function.Name, VersionNumber: c.version.Number,
		SnapshotID: c.version.Snapshot.ID, RuntimeID: c.version.Snapshot.RuntimeID, Lane: cmp.Or(warpket.Lane(b.Lane), c.function.Settings.Lane, warpket.Durable), Target: target,
		Description: b.Description, Tags: orEmpty(b.Tags), Shots: cmp.Or(b.Shots, warpket.DefaultShots), Seed: seed, Resources: resources,
		Revision: c.function.Revision, Retries: c.function.Settings.Retries, Status: warpket.Queued, CreatedDate: s.Now(), Alias: c.alias, CreatedBy: callerOf(ctx).token.ID,
	}, nil
}

// room refuses what no node could ever hold, and what would have to wait when
// the caller does not want to. With a slot that serves it reads nothing.
func (s *Server) room(ctx context.Context, e warpket.Execution, c callee, queue bool) error {
	if known, idle := s.Nodes.Serves(e.SnapshotID, e.Revision, e.Resources); idle || known && queue {
		return nil
	}
	runtime, err := s.Store.FunctionRuntime(ctx, c.function.ID, c.version.Snapshot.RuntimeID)
	if err != nil {
		return err
	}
	err = s.Fleet.Room(ctx, warpket.NeedOf(e.Resources, runtime), queue)
	if warpket.KindOf(err) == warpket.NoCapacity && queue {
		return nil
	}
	return err
}

// storeInput keeps the input with the execution, or as an object when large.
func (s *Server) storeInput(ctx context.Context, e *warpket.Execution, input Any) error {
	input = given(input)
	e.Input.Size = int64(len(input))
	switch {
	case len(input) <= warpket.MaxInline:
		e.Input.Inline = input
		return nil
	case len(input) > warpket.MaxInput:
		return warpket.Errorf(warpket.TooLarge, "the input has %d bytes; at most %d are taken", len(input), warpket.MaxInput).At("input")
	}
	e.Input.SHA256 = warpket.SHA256(input)
	if err := s.Store.TouchObjects(ctx, []postgres.Object{{ProjectID: e.ProjectID, SHA256: e.Input.SHA256, Size: e.Input.Size}}, s.Now()); err != nil {
		return err
	}
	_, err := s.Blobs.Put(ctx, e.ProjectID, input)
	return err
}

// elsewhere is how long a wait relies on this server's own news. After it, all
// servers are told when the execution is final, for another may drive it.
const elsewhere = time.Second

// followExecution answers with an execution, held until it is final if wait.
func (s *Server) followExecution(ctx, held context.Context, id warpket.ID, wait bool) (*executionOutput, error) {
	e, err := s.await(ctx, held, id, wait)
	if err != nil {
		return nil, err
	}
	out := s.executionAnswer(e)
	out.Body.Queue, err = s.queueOf(ctx, e)
	return out, err
}

// await gives an execution, if wait when it is final or held has ended.
func (s *Server) await(ctx, held context.Context, id warpket.ID, wait bool) (warpket.Execution, error) {
	news := s.Hub.Watch(id)
	defer news.Close()
	later := time.NewTimer(elsewhere)
	defer later.Stop()
	for {
		e, err := s.Store.Execution(ctx, projectOf(ctx), id)
		if err == nil {
			err = mayReachThe(ctx, "execution", id, e.FunctionID)
		}
		if err != nil || !wait || e.Status.Final() || held.Err() != nil {
			return e, err
		}
		select {
		case <-news.C:
		case <-later.C:
			if err := s.Store.WatchExecution(ctx, id); err != nil { // and look again: it may be final since
				return e, err
			}
		case <-held.Done():
		}
	}
}

func (s *Server) executionAnswer(e warpket.Execution) *executionOutput {
	out := &executionOutput{Status: http.StatusOK, Body: s.toExecution(e)}
	if !e.Status.Final() {
		out.Status, out.Location, out.RetryAfter = http.StatusAccepted, "/v1/executions/"+string(e.ID), "1"
	}
	return out
}

func (s *Server) listExecutions(ctx context.Context, in *struct {
	PageInput
	FunctionID  string    `query:"functionId" maxLength:"4000" doc:"Only those of this function, or in: and several" example:"01987a5e-8f4c-7cc0-a6c1-0d5c1ad5c001"`
	Version     string    `query:"version" maxLength:"1000" doc:"Only those of the version with this number, 0 for drafts, or eq:, neq:, gt:, gte:, lt:, lte:, in: and a number" example:"gte:2"`
	Status      string    `query:"status" maxLength:"200" doc:"Only those with this status: queued, running, succeeded, failed, cancelled, timed_out or lost; or eq:, neq:, in:, nin: and such" example:"in:failed,timed_out,lost"`
	Lane        string    `query:"lane" enum:"durable,express" doc:"Only those in this lane"`
	Target      string    `query:"target" enum:"cpu,simulator,gpu,compile,sim" doc:"Only those that run there"`
	Alias       string    `query:"alias" maxLength:"255" doc:"Only those that were asked for by the alias of this name"`
	RetryOf     string    `query:"retryOf" maxLength:"64" doc:"Only those that repeat this execution"`
	Tags        []string  `query:"tags" maxItems:"20" nullable:"false" doc:"Only those with all of these labels, separated by commas"`
	Description string    `query:"description" maxLength:"5000" doc:"Only those described so, or eq:, neq:, in:, has: and a text" example:"has:nightly"`
	CreatedDate string    `query:"createdDate" maxLength:"100" doc:"Only those created then, or gt:, gte:, lt:, lte:, eq:, neq: and a time" example:"gte:2026-01-31T12:00:00Z"`
	Since       time.Time `query:"since" doc:"Only those created at this time or later"`
	Until       time.Time `query:"until" doc:"Only those created before this time"`
},
) (*listOutput[Execution], error) {
	filter := postgres.ExecutionFilter{
		Functions: reachable(ctx), Alias: in.Alias, Lane: warpket.Lane(in.Lane), Target: warpket.Target(in.Target), Since: in.Since, Until: in.Until,
	}
	var functions, status warpket.Condition
	err := conditions(
		asked{&functions, "functionId", in.FunctionID, []warpket.Op{warpket.Eq, warpket.In}},
		asked{&filter.Version, "version", in.Version, append(dateOps, warpket.In)},
		asked{&status, "status", in.Status, []warpket.Op{warpket.Eq, warpket.Neq, warpket.In, warpket.Nin}},
		asked{&filter.Description, "description", in.Description, textOps},
		asked{&filter.CreatedDate, "createdDate", in.CreatedDate, dateOps},
	)
	if err != nil {
		return nil, err
	}
	if filter.Statuses, err = warpket.StatusesThat(status); err != nil {
		return nil, err
	}
	for _, tag := range in.Tags {
		if strings.ContainsRune(tag, 0) {
			return nil, warpket.Errorf(warpket.Invalid, "a tag has no NUL characters").At("query.tags")
		}
	}
	filter.Tags = in.Tags
	if in.RetryOf != "" {
		if filter.RetryOf, err = warpket.ParseID("execution", in.RetryOf); err != nil {
			return list[warpket.Execution](nil, "", s.toExecution), nil //nolint:nilerr // what does not exist was not repeated
		}
	}
	if functions.Op != "" {
		var some []warpket.ID
		for _, text := range functions.Values {
			if id, err := warpket.ParseID("function", text); err == nil && (filter.Functions == nil || slices.Contains(filter.Functions, id)) { // what does not exist has no executions
				some = append(some, id)
			}
		}
		switch len(some) {
		case 0:
			return list[warpket.Execution](nil, "", s.toExecution), nil
		case 1:
			filter.FunctionID = some[0]
		default:
			filter.Functions = some
		}
	}
	items, next, err := s.Store.Executions(ctx, projectOf(ctx), filter, in.page())
	return list(items, next, s.toExecution), err
}

func (s *Server) execution(ctx context.Context, id string) (warpket.Execution, error) {
	parsed, err := warpket.ParseID("execution", id)
	if err != nil {
		return warpket.Execution{}, err
	}
	e, err := s.Store.Execution(ctx, projectOf(ctx), parsed)
	if err != nil {
		return e, err
	}
	return e, mayReachThe(ctx, "execution", parsed, e.FunctionID)
}

func (s *Server) getResult(ctx context.Context, in *ExecutionInput) (*huma.StreamResponse, error) {
	e, err := s.execution(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if e.Status != warpket.Succeeded {
		return nil, warpket.Errorf(warpket.Conflict, "execution %s is %s: it has no result", e.ID, e.Status)
	}
	return s.payload(ctx, e, e.Result)
}

// payload answers with the bytes of an input or result.
func (s *Server) payload(ctx context.Context, e warpket.Execution, p warpket.Payload) (*huma.StreamResponse, error) {
	if p.SHA256 == "" {
		return stream("application/json", func(w io.Writer) error {
			_, err := w.Write(p.Inline)
			return err
		}), nil
	}
	r, err := s.Blobs.Open(ctx, e.ProjectID, p.SHA256)
	if err != nil {
		return nil, err
	}
	return stream("application/json", func(w io.Writer) error {
		defer func() { _ = r.Close() }()
		_, err := io.Copy(w, r)
		return err
	}), nil
}

// result is what a handler returned, whole.
func (s *Server) result(ctx context.Context, e warpket.Execution) (Any, error) {
	if e.Result.SHA256 == "" {
		return e.Result.Inline, nil
	}
	return s.Blobs.Get(ctx, e.ProjectID, e.Result.SHA256)
}

// stream answers with bytes that are written as they come.
func stream(contentType string, write func(io.Writer) error) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		ctx.SetHeader("Content-Type", contentType)
		if write(ctx.BodyWriter()) != nil {
			panic(http.ErrAbortHandler) // the head is out: a reader sees the answer break off
		}
	}}
}

func (s *Server) cancelExecution(ctx context.Context, in *struct {
	ExecutionInput
	HeldInput
},
) (*executionOutput, error) {
	e, err := s.execution(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if _, err := s.Fleet.CancelExecution(ctx, e.ProjectID, e.ID); err != nil {
		return nil, err
	}
	held, cancel, asked := hold(ctx, in.Prefer)
	defer cancel()
	return s.followExecution(ctx, held, e.ID, asked)
}

// logOf is all that is kept of an execution's log. While it runs that is what has
// come here; with ask, a node is asked that sends it to another server.
func (s *Server) logOf(ctx context.Context, project, id warpket.ID, ask bool) ([]byte, error) {
	news := s.Hub.Watch(id)
	defer news.Close()
	e, err := s.Store.Execution(ctx, project, id)
	if err != nil {
		return nil, err
	}
	if !e.Status.Final() && ask {
		s.gather(ctx, e)
		if e, err = s.Store.Execution(ctx, project, id); err != nil { // it may be final since
			return nil, err
		}
	}
	if e.Status.Final() {
		return s.finalLog(ctx, e)
	}
	_, data, _, _ := s.Hub.Log(id).Read(live.Place{})
	return data, nil
}

// What is waited for of a log that a node has to send: a pause in which nothing
// comes, and no longer than that altogether, for it may go on for ever.
const (
	logPause = 250 * time.Millisecond
	logWait  = 2 * time.Second
)

// gather returns when what is there of a log has come here, or at once if this
// server drives the execution. The caller holds a watch.
func (s *Server) gather(ctx context.Context, e warpket.Execution) {
	ctx, cancel := context.WithTimeout(ctx, logWait)
	defer cancel()
	over := make(chan struct{})
	go func() {
		defer close(over)
		s.Fleet.FollowLog(ctx, e)
	}()
	for {
		_, _, _, more := s.Hub.Log(e.ID).Read(live.Place{})
		select {
		case <-more:
		case <-over:
			return
		case <-time.After(logPause):
			return
		}
	}
}

func (s *Server) finalLog(ctx context.Context, e warpket.Execution) ([]byte, error) {
	if e.Log.SHA256 == "" {
		return e.Log.Inline, nil
	}
	return s.Blobs.Get(ctx, e.ProjectID, e.Log.SHA256)
}
