package warpket

import (
	"encoding/json"
	"slices"
	"time"
)

// Bounds of executions.
const (
	MaxInline    = 64 << 10 // bytes of an input or result kept in its row; a larger one is an object
	MaxResult    = 64 << 20 // bytes of a result
	MaxInput     = 64 << 20 // bytes of an input
	MaxInlineLog = 8 << 10  // bytes of a log kept in its row; a longer one is an object
	MaxLog       = 1 << 20  // bytes of a log; what comes after is cut, with a mark
	DefaultShots = 1024
)

// Execution is one run of a snapshot.
type Execution struct {
	ID            ID
	ProjectID     ID
	FunctionID    ID
	FunctionName  string
	VersionNumber int
	SnapshotID    ID
	RuntimeID     ID
	Lane          Lane
	Target        Target
	Description   string
	Tags          []string
	Input         Payload
	Shots         int
	Seed          int64
	Resources     Resources
	Revision      int // of the function's configuration when it was accepted: no slot of an earlier one runs it
	Retries       int

	Status     Status
	Attempt    int // 1 for the first; grows only when user code may run again
	NodeID     ID
	NodeName   string
	SlotID     ID
	Generation int64
	Reason     string   // why it ran there
	Devices    []string // that its slot held alone
	Result     Payload
	Error      *Failure
	Log        Payload
	LogSize    int64 // bytes the code wrote, kept or not
	Timings    Timings
	Usage      Usage
	Isolation  string // what kept it apart on its node, see Isolation.String

	CreatedDate  time.Time
	StartedDate  *time.Time
	FinishedDate *time.Time
	CancelAsked  bool
	ServerID     ID     // the server that drives it, or waits for its slot
	CreatedBy    ID     // the token that asked for it; empty when no token did
	Alias        string // that it was asked for by; empty for a function
	Origin       Origin

	RetryOf  ID        // the execution that it repeats; empty for none
	Callback *Callback // nil: nobody wants to be called at its end
}

// Origin is what asked for an execution. The zero Origin is a caller of the API.
type Origin struct {
	Kind OriginKind
	ID   ID // of the webhook or the schedule; empty for the gateway
}

// OriginKind is a sort of things that ask for executions.
type OriginKind string

// The kinds of origins.
const (
	FromWebhook  OriginKind = "webhook"
	FromGateway  OriginKind = "gateway"
	FromSchedule OriginKind = "schedule"
)

// Payload is bytes that are either here or, when large, an object of the project.
type Payload struct {
	Inline []byte
	SHA256 string // set when the bytes are an object
	Size   int64
}

// Timings are how long an execution spent in each phase, each measured by one
// process's monotonic clock.
type Timings struct {
	Queued   time.Duration // from the request to the claim of a slot
	Placed   time.Duration // from the claim until the node had admitted it
	Started  time.Duration // from there until the worker had received it
	Ran      time.Duration // from the worker's receipt to its result
	Recorded time.Duration // from the result at the server until the row was final
	Total    time.Duration // from the request until the row was final
}

// Usage is what an execution used of its node.
type Usage struct {
	CPU        time.Duration // of all its processes
	PeakMemory int64         // bytes; of its worker while it ran, or so far where the node's kernel cannot count anew; 0 if the node cannot tell
	// Of its GPUs, while it ran; zero where there are none or the driver cannot tell.
	GPUMemory  int64   // bytes at the peak of samples, of all its processes
	GPUJoules  float64 // energy, idle power included
	GPUSeconds float64 // time in which they computed, summed, from samples of the driver's counter
}

// Failure says why an execution did not succeed.
type Failure struct {
	Code      FailureCode `json:"code"`
	Message   string      `json:"message"`
	Traceback string      `json:"traceback,omitempty"`
}

// FailureCode is a stable word for a reason.
type FailureCode string

// The reasons why an execution fails.
const (
	ImportFailed       FailureCode = "import_failed"        // the module of the entry could not be imported
	NoEntry            FailureCode = "no_entry"             // the module has no such function
	Raised             FailureCode = "raised"               // the handler raised an exception
	BadArguments       FailureCode = "bad_arguments"        // the input does not fit the handler's parameters
	ResultNotEncodable FailureCode = "result_not_encodable" // the handler returned what has no JSON form
	ResultTooLarge     FailureCode = "result_too_large"     // the result has more than MaxResult bytes
	Exited             FailureCode = "exited"               // the handler ended its process
	Crashed            FailureCode = "crashed"              // a signal ended the process
	OutOfMemory        FailureCode = "out_of_memory"        // it needed more memory than its limit
	TooManyProcesses   FailureCode = "too_many_processes"   // it started more processes than its limit
	DiskFull           FailureCode = "disk_full"            // it wrote more files than its limit
	TimedOutCode       FailureCode = "timed_out"            // ran longer than its timeout
	CancelledCode      FailureCode = "cancelled"            // someone asked for its end
	LostCode           FailureCode = "lost"                 // it started and its outcome cannot be known
	NoRuntime          FailureCode = "runtime_failed"       // its runtime could not be built
	NotPlaced          FailureCode = "no_capacity"          // nothing can hold it
	NotPrepared        FailureCode = "preparation_failed"   // its node could not prepare it
	BuildFailed        FailureCode = "build_failed"         // its files do not compile
	SimulatedDevice    FailureCode = "simulated_device"     // its slot holds devices that are only declared: they run no code
)

// FailureCodes are all reasons why an execution fails.
var FailureCodes = []FailureCode{
	ImportFailed, NoEntry, Raised, BadArguments, ResultNotEncodable, ResultTooLarge, Exited, Crashed, OutOfMemory, TooManyProcesses, DiskFull,
	TimedOutCode, CancelledCode, LostCode, NoRuntime, NotPlaced, NotPrepared, BuildFailed, SimulatedDevice,
}

// Status says how far an execution is.
type Status string

// The statuses of an execution. All but the first two are final.
const (
	Queued    Status = "queued"
	Running   Status = "running"
	Succeeded Status = "succeeded"
	Failed    Status = "failed"
	Cancelled Status = "cancelled"
	TimedOut  Status = "timed_out"
	Lost      Status = "lost"
)

// Statuses are all statuses of an execution, in the order in which they come.
var Statuses = []Status{Queued, Running, Succeeded, Failed, Cancelled, TimedOut, Lost}

// StatusesThat are the statuses that fit a condition; nil for the zero one, which
// all do.
func StatusesThat(c Condition) ([]Status, error) {
	if c.Op == "" {
		return nil, nil
	}
	for _, text := range c.Values {
		if !slices.Contains(Statuses, Status(text)) {
			return nil, Errorf(Invalid, "there is no status %.40q: use one of %s", text, words(Statuses)).At("query.status")
		}
	}
	return slices.DeleteFunc(slices.Clone(Statuses), func(s Status) bool { return !c.Holds(string(s)) }), nil
}

// Final reports whether an execution in this status never changes again.
func (s Status) Final() bool { return s != Queued && s != Running }

// after are the legal steps. A running execution may go back to the queue only
// while it is certain that no user code has started (see Requeue) or when it
// has attempts left.
var after = map[Status][]Status{
	Queued:  {Running, Failed, Cancelled},
	Running: {Queued, Succeeded, Failed, Cancelled, TimedOut, Lost},
}

// Advance moves the execution to status to at time now. Advancing to the status
// it already has does nothing, so a retried activity may repeat it.
func (e *Execution) Advance(to Status, now time.Time) error {
	if e.Status == to {
		return nil
	}
	if !slices.Contains(after[e.Status], to) {
		return Errorf(Conflict, "execution %s is %s and cannot become %s", e.ID, e.Status, to)
	}
	e.Status = to
	switch to {
	case Running:
		e.StartedDate = &now
	case Queued:
		e.StartedDate = nil
	default:
		e.FinishedDate = &now
	}
	return nil
}

// Retry makes a new execution like one that is final: of the same snapshot, with
// the same input, seed and settings. Whoever was to be called is called again.
func (e Execution) Retry(id ID, now time.Time) (Execution, error) {
	if !e.Status.Final() {
		return Execution{}, Errorf(Conflict, "execution %s is %s: wait for its end, or cancel it, to execute it again", e.ID, e.Status)
	}
	again := Execution{
		ID: id, ProjectID: e.ProjectID, FunctionID: e.FunctionID, FunctionName: e.FunctionName, VersionNumber: e.VersionNumber, SnapshotID: e.SnapshotID, RuntimeID: e.RuntimeID,
		Lane: e.Lane, Target: e.Target, Description: e.Description, Tags: e.Tags, Input: e.Input, Shots: e.Shots, Seed: e.Seed, Resources: e.Resources, Revision: e.Revision, Retries: e.Retries,
		Status: Queued, CreatedDate: now, RetryOf: e.ID,
	}
	if e.Callback != nil {
		again.Callback = &Callback{URL: e.Callback.URL, Secret: e.Callback.Secret, Status: CallbackPending}
	}
	return again, nil
}

// Waits is where a queued execution stands: with so many of its snapshot before
// it, so many slots that serve these, and what they have taken lately if that
// is known. room is what its snapshot waits for, if it waits for room.
func (e *Execution) Waits(before, slots int, took time.Duration, room *Waiting, now time.Time) *Waiting {
	w := Waiting{Position: before + 1}
	if room != nil {
		w.Position += room.Position - 1
		w.Reason, w.Decision = room.Reason, room.Decision
		if !room.StartDate.IsZero() && (before == 0 || took > 0) { // one slot comes, and those before it use it first
			w.StartDate = room.StartDate.Add(took * time.Duration(before))
		}
	} else if slots > 0 && took > 0 {
		w.StartDate = now.Add(took * time.Duration(before+1) / time.Duration(slots))
	}
	return &w
}

// Outcome is how one attempt of an execution ended on its node.
type Outcome struct {
	Status  Status
	Result  json.RawMessage // JSON; nil unless succeeded
	Failure *Failure        // nil when succeeded
	Started time.Duration   // from the node's admission to the worker's receipt
	Ran     time.Duration   // from the worker's receipt to its result
	Usage   Usage
}

// FailedWith is the outcome of an attempt that did not succeed. Its status follows
// from the code.
func FailedWith(code FailureCode, message, traceback string) Outcome {
	status := Failed
	switch code {
	case TimedOutCode:
		status = TimedOut
	case CancelledCode:
		status = Cancelled
	case LostCode:
		status = Lost
	default:
	}
	return Outcome{Status: status, Failure: &Failure{Code: code, Message: message, Traceback: traceback}}
}
