package api

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/accelerators/placement"
)

// Resources are what a worker may use, and what its slot needs of a node.
type Resources struct {
	CPU     int     `json:"cpu,omitempty" minimum:"10" maximum:"256000" doc:"Thousandths of a core; 1000 unless set" example:"1000"`
	Memory  int64   `json:"memory,omitempty" minimum:"16777216" maximum:"4398046511104" doc:"Bytes; 536870912 (512 MiB) unless set. A simulation with qubits gets at least what it needs" example:"536870912"`
	Timeout float64 `json:"timeout,omitempty" minimum:"0.001" maximum:"86400" doc:"Seconds that one execution may run; 60 unless set" example:"60"`

	GPUs              int    `json:"gpus,omitempty" minimum:"0" maximum:"64" doc:"GPUs, or MIG instances if a profile is named, that a slot holds alone; at least 1 for the target gpu, and none for compile and sim" example:"1"`
	GPUMemory         int64  `json:"gpuMemory,omitempty" minimum:"0" maximum:"4398046511104" doc:"Bytes that each GPU has at least" example:"42949672960"`
	MIGProfile        string `json:"migProfile,omitempty" maxLength:"32" doc:"Profile of MIG instances to hold in place of whole GPUs" example:"1g.10gb"`
	ComputeCapability string `json:"computeCapability,omitempty" maxLength:"8" doc:"Least compute capability of each GPU" example:"8.0"`
	CUDA              string `json:"cuda,omitempty" maxLength:"8" doc:"Least CUDA version that the driver of each GPU must take" example:"13.0"`

	Qubits int    `json:"qubits,omitempty" minimum:"0" maximum:"4096" doc:"Qubits of the simulation, which with its method decide how much memory it needs. One that no node could hold is refused with 422" example:"28"`
	Method string `json:"method,omitempty" enum:"statevector,density_matrix,stabilizer,matrix_product_state" doc:"Method of the simulation; statevector unless set. Bytes for n qubits: statevector 16·2^n, density_matrix 16·4^n, stabilizer (2n+1)²/8, matrix_product_state what bonds up to 1024 take. Only nodes whose simulator has the method get it"`

	Labels    map[string]string `json:"labels,omitempty" doc:"Labels that the node must have; at most 16"`
	Spread    string            `json:"spread,omitempty" enum:"prefer,require" doc:"prefer: slots of one deployment go to different nodes as far as there is room; require: never two to one node; unless set they go where the least is left over"`
	Isolation string            `json:"isolation,omitempty" enum:"none,namespaces,gvisor" doc:"Least isolation of the node"`
	Priority  int               `json:"priority,omitempty" minimum:"-100" maximum:"100" doc:"Higher goes first, and may take the place of lower when what runs there has ended. Beside other projects it counts up to the project's maxPriority"`
}

func (r *Resources) domain() warpket.Resources {
	if r == nil {
		return warpket.Resources{}
	}
	return warpket.Resources{
		CPU: r.CPU, Memory: r.Memory, Timeout: time.Duration(r.Timeout * float64(time.Second)),
		GPUs: r.GPUs, GPUMemory: r.GPUMemory, MIGProfile: r.MIGProfile, ComputeCapability: r.ComputeCapability, CUDA: r.CUDA,
		Qubits: r.Qubits, Method: warpket.Method(r.Method), Labels: r.Labels, Spread: warpket.Spread(r.Spread), Isolation: r.Isolation, Priority: r.Priority,
	}
}

func toResources(r warpket.Resources) Resources {
	return Resources{
		CPU: r.CPU, Memory: r.Memory, Timeout: r.Timeout.Seconds(),
		GPUs: r.GPUs, GPUMemory: r.GPUMemory, MIGProfile: r.MIGProfile, ComputeCapability: r.ComputeCapability, CUDA: r.CUDA,
		Qubits: r.Qubits, Method: string(r.Method), Labels: maps.Clone(r.Labels), Spread: string(r.Spread), Isolation: r.Isolation, Priority: r.Priority,
	}
}

// Candidate is a node that had room for a slot.
type Candidate struct {
	Node    string   `json:"node" doc:"Name of the node"`
	Devices []string `json:"devices" nullable:"false" doc:"Devices that the slot would hold"`
	Cost    float64  `json:"cost" doc:"The least wins"`
	Why     string   `json:"why" doc:"What the cost is made of" example:"12 % is left over, has the runtime"`
}

// Rejection is a reason why nodes had no room for a slot.
type Rejection struct {
	Reason   string   `json:"reason" doc:"The reason" example:"too few free devices"`
	Nodes    int      `json:"nodes" doc:"How many nodes had none for it"`
	Examples []string `json:"examples" nullable:"false" doc:"Some of them, with what they lack" example:"[\"a has 1 of 2 free\"]"`
}

// Queue is a place among what waits.
type Queue struct {
	Position           int         `json:"position" doc:"1 is next. It is by priority, by what projects use of the fleet for their weight, and by how long each has waited, so it may grow too" example:"1"`
	Reason             string      `json:"reason,omitempty" doc:"What it waits for, and what would make it fit; absent when it waits for its turn in a slot"`
	Rejected           []Rejection `json:"rejected,omitempty" doc:"Why nodes had no room for it"`
	Hints              []string    `json:"hints,omitempty" doc:"What would make it fit"`
	EstimatedStartDate *time.Time  `json:"estimatedStartDate,omitempty" doc:"A guess at when it starts, made anew with each answer. What waits for its turn in a slot: when those before it have ended, if each takes as long as the function's latest runs have on the mean (five at least). What waits for room: the position times the mean time for which those slots on demand have been held by now whose room would do for it, divided by their number, for such slots go on, on the mean, for as long as they have been held. Then come the function's own executions before it, in one slot. Absent where nothing tells: where only slots of deployments hold such room, or too few runs are known"`
}

func toQueue(w *warpket.Waiting) *Queue {
	if w == nil {
		return nil
	}
	out := &Queue{Position: w.Position, Reason: w.Reason}
	if w.Decision != nil {
		out.Rejected, out.Hints = toRejections(w.Decision.Rejected), w.Decision.Hints
	}
	if !w.StartDate.IsZero() {
		out.EstimatedStartDate = &w.StartDate
	}
	return out
}

func toRejections(list []warpket.Rejection) []Rejection {
	out := make([]Rejection, len(list))
	for i, r := range list {
		out[i] = Rejection{Reason: r.Reason, Nodes: r.Nodes, Examples: orEmpty(r.Examples)}
	}
	return out
}

func toCandidates(list []warpket.Candidate) []Candidate {
	out := make([]Candidate, len(list))
	for i, c := range list {
		out[i] = Candidate{Node: c.Node, Devices: orEmpty(c.Devices), Cost: c.Cost, Why: c.Why}
	}
	return out
}

// waitingOf is the place of what waits for room; nil if it does not.
func (s *Server) waitingOf(ctx context.Context, subject warpket.ID) (*warpket.Waiting, error) {
	waits, err := s.Store.Waits(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(waits, func(w warpket.Wait) bool { return w.SubjectID == subject })
	if i < 0 {
		return nil, nil //nolint:nilnil // it does not wait
	}
	waiters := make([]placement.Waiter, len(waits))
	for j, w := range waits {
		waiters[j] = placement.WaiterOf(w)
	}
	position := slices.IndexFunc(placement.Order(waiters), func(w placement.Waiter) bool { return w.ID == subject }) + 1
	w := &warpket.Waiting{Position: position, Reason: waits[i].Reason, Decision: waits[i].Decision}
	return w, s.expect(ctx, w, waits[i].Need)
}

// expect estimates when what waits for room gets it.
func (s *Server) expect(ctx context.Context, w *warpket.Waiting, need warpket.Need) error {
	slots, err := s.Store.HeldOnDemand(ctx)
	if err != nil || len(slots) == 0 {
		return err
	}
	holders, since := make([]placement.Holder, len(slots)), make(map[warpket.ID]time.Time, len(slots))
	var nodes []warpket.ID
	for i, slot := range slots {
		holders[i] = placement.Holder{Slot: slot.ID, NodeID: slot.NodeID, Held: slot.Resources, Devices: slot.Devices}
		since[slot.ID] = slot.CreatedDate
		nodes = append(nodes, slot.NodeID)
	}
	fleet, err := s.Store.FleetPart(ctx, nodes)
	if err != nil {
		return err
	}
	now := s.Now()
	var held []time.Duration
	for _, h := range placement.New(fleet).Would(placement.RequestOf(need), holders) {
		held = append(held, now.Sub(since[h.Slot]))
	}
	w.Expect(held, now)
	return nil
}

// queueOf is the place of a queued execution: behind those of its version that
// are before it, and, while its version has no slot, behind what waits for room
// before that.
func (s *Server) queueOf(ctx context.Context, e warpket.Execution) (*Queue, error) {
	if e.Status != warpket.Queued {
		return nil, nil //nolint:nilnil // it does not wait
	}
	before, slots, ran, err := s.Store.Turns(ctx, e)
	if err != nil {
		return nil, err
	}
	waiting, err := s.waitingOf(ctx, warpket.SharedWait(e.SnapshotID, e.Resources))
	if err != nil {
		return nil, err
	}
	return toQueue(e.Waits(before, slots, ran, waiting, s.Now())), nil
}
