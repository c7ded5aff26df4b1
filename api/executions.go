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

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/live"
	"github.com/warpket/warpket/storage/postgres"
)

// Execution is one run of a version.
type Execution struct {
	ID           string      `json:"id" doc:"ID of the execution, and of its Temporal workflow"`
	FunctionID   string      `json:"functionId" doc:"ID of its function"`
	FunctionName string      `json:"functionName" doc:"Name of its function when it was asked for" example:"bell"`
	Version      int         `json:"version" doc:"Number of the version that it runs" example:"1"`
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
	Description  string      `json:"description" doc:"What the caller says of it"`
	Tags         []string    `json:"tags" nullable:"false" doc:"The caller's labels"`
	TemporalURL  string      `json:"temporalUrl,omitempty" doc:"Its page in the Temporal UI; absent for express"`
	CreatedDate  time.Time   `json:"createdDate" doc:"When it was asked for"`
	StartedDate  *time.Time  `json:"startedDate,omitempty" doc:"When it got its slot"`
	FinishedDate *time.Time  `json:"finishedDate,omitempty" doc:"When it became final"`
}

// Failure says why an execution did not succeed.
type Failure struct {
	Code      string `json:"code" enum:"import_failed,no_entry,raised,bad_arguments,result_not_encodable,result_too_large,exited,crashed,timed_out,cancelled,lost,runtime_failed,no_capacity,preparation_failed" doc:"A stable word for the reason"`
	Message   string `json:"message" doc:"The reason in one line" example:"ValueError: no such gate"`
	Traceback string `json:"traceback,omitempty" doc:"Where in the handler's code it was raised"`
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
	PeakMemory int64   `json:"peakMemory" doc:"Bytes; of its worker so far when it is kept between executions; 0 when the node cannot tell"`
	GPUMemory  int64   `json:"gpuMemory,omitempty" doc:"Bytes of its GPUs' memory at the peak, from samples; absent when it used none"`
	GPUJoules  float64 `json:"gpuJoules,omitempty" doc:"Energy of its GPUs while it ran, idle power included; absent for slices of a GPU, which share a counter"`
	GPUSeconds float64 `json:"gpuSeconds,omitempty" doc:"Time in which its GPUs computed, summed, from samples of the driver's counter; absent when they did not, and for slices"`
}

func (s *Server) toExecution(e warpket.Execution) Execution {
	out := Execution{
		ID: string(e.ID), FunctionID: string(e.FunctionID), FunctionName: e.FunctionName, Version: e.VersionNumber, Status: string(e.Status), Lane: string(e.Lane), Target: string(e.Target),
		Input: e.Input.Inline, Result: e.Result.Inline, ResultSize: e.Result.Size, Shots: e.Shots, Device: e.Resources.Device, Seed: e.Seed, Resources: toResources(e.Resources), Attempt: e.Attempt,
		LogSize: e.LogSize, Description: e.Description, Tags: orEmpty(e.Tags), Isolation: e.Isolation,
		CreatedDate: e.CreatedDate, StartedDate: e.StartedDate, FinishedDate: e.FinishedDate,
	}
	if e.Lane == warpket.Durable {
		out.TemporalURL = s.Workflows.ExecutionURL(e.ID)
	}
	if e.Usage != (warpket.Usage{}) {
		out.Usage = &Usage{CPUSeconds: e.Usage.CPU.Seconds(), PeakMemory: e.Usage.PeakMemory, GPUMemory: e.Usage.GPUMemory, GPUJoules: e.Usage.GPUJoules, GPUSeconds: e.Usage.GPUSeconds}
	}
	if e.Result.SHA256 != "" {
		out.ResultURL = "/v1/executions/" + string(e.ID) + "/result"
	}
	if e.Error != nil {
		out.Error = &Failure{string(e.Error.Code), e.Error.Message, e.Error.Traceback}
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
	FunctionID  string     `json:"functionId" minLength:"1" maxLength:"64" doc:"ID of the function"`
	Version     int        `json:"version,omitempty" minimum:"1" doc:"Number of the version; the newest unless set" example:"1"`
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
		Errors: []int{http.StatusNotFound, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity}, Responses: accepted,
	}, s.createExecution)
	register(s, Read, huma.Operation{
		OperationID: "list-executions", Method: http.MethodGet, Path: "/v1/executions", Tags: tags, Summary: "List executions", Description: "Without inputs and results.",
	}, s.listExecutions)
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
	})
	register(s, Read, huma.Operation{
		OperationID: "get-execution-result", Method: http.MethodGet, Path: "/v1/executions/{id}/result", Tags: tags, Summary: "Get the result of an execution",
		Description: "The JSON that the handler returned, whatever its size.", Errors: []int{http.StatusNotFound, http.StatusConflict}, Responses: map[string]*huma.Response{"200": {Description: "The result", Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{}}}}},
	}, s.getResult)
	register(s, Write, huma.Operation{
		OperationID: "cancel-execution", Method: http.MethodPost, Path: "/v1/executions/{id}/cancel", Tags: tags, Summary: "Cancel an execution", DefaultStatus: http.StatusOK,
		Description: "A queued execution is cancelled at once; a running one when its process has ended. Cancelling a final one does nothing.", Errors: []int{http.StatusNotFound}, Responses: accepted,
	}, s.cancelExecution)
	s.addStreams()
}

// callee is what an execution runs.
type callee struct {
	function warpket.Function
	version  warpket.Version
	targets  []warpket.Target // the first unless an execution says otherwise
}

// callee finds what to run; a warm call finds it in the cache.
func (s *Server) callee(ctx context.Context, function string, version int) (callee, error) {
	id, err := warpket.ParseID("function", function)
	if err != nil {
		return callee{}, err
	}
	project := projectOf(ctx)
	return s.targets.get(fmt.Sprintf("%s %s %d", project, id, version), func() (c callee, err error) {
		if c.function, err = s.Store.Function(ctx, project, id); err != nil {
			return c, err
		}
		if c.version, err = s.Store.Version(ctx, project, id, version); err != nil {
			return c, err
		}
		c.targets, err = s.targetsOf(c.function, c.version)
		return c, err
	})
}

// targetsOf is where a version can run.
func (s *Server) targetsOf(f warpket.Function, v warpket.Version) ([]warpket.Target, error) {
	if v.Snapshot.Image != nil {
		return []warpket.Target{warpket.CPU}, nil
	}
	template, err := s.Catalog.Template(f.TemplateTag)
	return template.Targets, err
}

func (s *Server) createExecution(ctx context.Context, in *createExecutionInput) (*executionOutput, error) {
	received := time.Now()
	c, err := s.callee(ctx, in.Body.FunctionID, in.Body.Version)
	if err != nil {
		return nil, err
	}
	e, err := s.newExecution(ctx, c, in)
	if err != nil {
		return nil, err
	}
	if err := s.room(ctx, e, c, in.Body.Queue == nil || *in.Body.Queue); err != nil {
		return nil, err
	}
	if err := s.storeInput(ctx, &e, in.Body.Input); err != nil {
		return nil, err
	}
	news := s.Hub.Watch(e.ID) // before it can become final
	defer news.Close()
	s.Hub.Begin(e.ID, received)
	held, cancel, asked := hold(ctx, in.Prefer)
	defer cancel()
	wait := asked || in.Body.Sync == nil || *in.Body.Sync
	if err := s.Fleet.Launch(ctx, e, wait); err != nil {
		s.Hub.Forget(e.ID)
		return nil, err
	}
	if !wait {
		return s.executionAnswer(e), nil
	}
	for held.Err() == nil { // most calls: it becomes final in this server
		select {
		case <-news.C:
			if final := news.Final(); final != nil {
				return s.executionAnswer(*final), nil
			}
			continue
		case <-time.After(elsewhere):
		case <-held.Done():
		}
		break
	}
	return s.followExecution(ctx, held, e.ID, true)
}

// newExecution checks a request and makes an execution of it.
func (s *Server) newExecution(ctx context.Context, c callee, in *createExecutionInput) (warpket.Execution, error) {
	b := in.Body
	explicit := b.Resources.domain()
	explicit.Device = b.Device
	resources := explicit.Or(c.function.Settings.Resources)
	target := resources.Target(c.targets)
	if b.Target != "" {
		if target = warpket.Target(b.Target); !slices.Contains(c.targets, target) {
			return warpket.Execution{}, warpket.Errorf(warpket.Invalid, "functions of %s run on %s, not on %q", cmp.Or(c.function.TemplateTag, "an image"), text(c.targets), b.Target).At("target")
		}
	}
	resources, err := resources.For(target, explicit)
	if err != nil {
		return warpket.Execution{}, err
	}
	for i, tag := range b.Tags {
		if len(tag) > 64 || strings.ContainsRune(tag, 0) {
			return warpket.Execution{}, warpket.Errorf(warpket.Invalid, "a tag has at most 64 bytes").At("tags[%d]", i)
		}
	}
	if strings.ContainsRune(b.Description, 0) {
		return warpket.Execution{}, warpket.Errorf(warpket.Invalid, "a description has no NUL characters").At("description")
	}
	seed := rand.Int64N(1 << 31) //nolint:gosec // for simulations, not for secrets
	if b.Seed != nil {
		seed = *b.Seed
	}
	return warpket.Execution{
		ID: s.newID(ctx), ProjectID: c.function.ProjectID, FunctionID: c.function.ID, FunctionName: c.function.Name, VersionNumber: c.version.Number,
		SnapshotID: c.version.Snapshot.ID, RuntimeID: c.version.Snapshot.RuntimeID, Lane: cmp.Or(warpket.Lane(b.Lane), c.function.Settings.Lane, warpket.Durable), Target: target,
		Description: b.Description, Tags: orEmpty(b.Tags), Shots: cmp.Or(b.Shots, warpket.DefaultShots), Seed: seed, Resources: resources,
		Revision: c.function.Revision, Retries: c.function.Settings.Retries, Status: warpket.Queued, CreatedDate: s.Now(),
	}, nil
}

// room refuses what no node could ever hold, and what would have to wait when
// the caller does not want to. With a slot that serves it reads nothing.
func (s *Server) room(ctx context.Context, e warpket.Execution, c callee, queue bool) error {
	if known, idle := s.Nodes.Serves(e.SnapshotID, e.Revision, e.Resources); idle || known && queue {
		return nil
	}
	runtime, err := s.Store.Runtime(ctx, c.version.Snapshot.RuntimeID)
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
	if len(input) == 0 {
		input = Any("{}")
	}
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
	news := s.Hub.Watch(id)
	defer news.Close()
	later := time.NewTimer(elsewhere)
	defer later.Stop()
	for {
		e, err := s.Store.Execution(ctx, projectOf(ctx), id)
		if err != nil {
			return nil, err
		}
		if !wait || e.Status.Final() || held.Err() != nil {
			out := s.executionAnswer(e)
			out.Body.Queue, err = s.queueOf(ctx, e)
			return out, err
		}
		select {
		case <-news.C:
		case <-later.C:
			if err := s.Store.WatchExecution(ctx, id); err != nil { // and look again: it may be final since
				return nil, err
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
	FunctionID string    `query:"functionId" maxLength:"64" doc:"Only those of this function"`
	Version    int       `query:"version" minimum:"1" doc:"Only those of the version with this number"`
	Status     string    `query:"status" enum:"queued,running,succeeded,failed,cancelled,timed_out,lost" doc:"Only those with this status"`
	Since      time.Time `query:"since" doc:"Only those created at this time or later"`
	Until      time.Time `query:"until" doc:"Only those created before this time"`
},
) (*listOutput[Execution], error) {
	filter := postgres.ExecutionFilter{Version: in.Version, Status: warpket.Status(in.Status), Since: in.Since, Until: in.Until}
	if in.FunctionID != "" {
		id, err := warpket.ParseID("function", in.FunctionID)
		if err != nil {
			return list[warpket.Execution](nil, "", s.toExecution), nil //nolint:nilerr // no such function has no executions
		}
		filter.FunctionID = id
	}
	items, next, err := s.Store.Executions(ctx, projectOf(ctx), filter, in.page())
	return list(items, next, s.toExecution), err
}

func (s *Server) execution(ctx context.Context, id string) (warpket.Execution, error) {
	parsed, err := warpket.ParseID("execution", id)
	if err != nil {
		return warpket.Execution{}, err
	}
	return s.Store.Execution(ctx, projectOf(ctx), parsed)
}

func (s *Server) getResult(ctx context.Context, in *ExecutionInput) (*huma.StreamResponse, error) {
	e, err := s.execution(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if e.Status != warpket.Succeeded {
		return nil, warpket.Errorf(warpket.Conflict, "execution %s is %s: it has no result", e.ID, e.Status)
	}
	if e.Result.SHA256 == "" {
		return stream("application/json", func(w io.Writer) error {
			_, err := w.Write(e.Result.Inline)
			return err
		}), nil
	}
	r, err := s.Blobs.Open(ctx, e.ProjectID, e.Result.SHA256)
	if err != nil {
		return nil, err
	}
	return stream("application/json", func(w io.Writer) error {
		defer func() { _ = r.Close() }()
		_, err := io.Copy(w, r)
		return err
	}), nil
}

// stream answers with bytes that are written as they come.
func stream(contentType string, write func(io.Writer) error) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		ctx.SetHeader("Content-Type", contentType)
		_ = write(ctx.BodyWriter()) // the head is out: a reader sees the answer break off
	}}
}

func (s *Server) cancelExecution(ctx context.Context, in *struct {
	ExecutionInput
	HeldInput
},
) (*executionOutput, error) {
	id, err := warpket.ParseID("execution", in.ID)
	if err != nil {
		return nil, err
	}
	if _, err := s.Fleet.CancelExecution(ctx, projectOf(ctx), id); err != nil {
		return nil, err
	}
	held, cancel, asked := hold(ctx, in.Prefer)
	defer cancel()
	return s.followExecution(ctx, held, id, asked)
}

// logOf is all that is kept of an execution's log.
func (s *Server) logOf(ctx context.Context, project, id warpket.ID) ([]byte, error) {
	e, err := s.Store.Execution(ctx, project, id)
	if err != nil {
		return nil, err
	}
	if !e.Status.Final() {
		news := s.Hub.Watch(id)
		defer news.Close()
		_, data, _, _ := s.Hub.Log(id).Read(live.Place{})
		return data, nil
	}
	return s.finalLog(ctx, e)
}

func (s *Server) finalLog(ctx context.Context, e warpket.Execution) ([]byte, error) {
	if e.Log.SHA256 == "" {
		return e.Log.Inline, nil
	}
	return s.Blobs.Get(ctx, e.ProjectID, e.Log.SHA256)
}
