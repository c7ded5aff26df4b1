package warpket

import (
	"strings"
	"time"
)

// Node is a machine that has slots, and its agent.
type Node struct {
	ID            ID
	Name          string
	Boot          ID // of the agent's process: a new one holds none of the old one's workers
	Inventory     Inventory
	Cordoned      bool
	CPULeased     int       // thousandths of a core that slots hold
	MemoryLeased  int64     // bytes that slots hold
	DevicesLeased []string  // IDs of devices that a slot holds alone
	LeaseUntil    time.Time // by Postgres' clock; silent after it
	Live          bool      // whether the lease held when the row was read
	CreatedDate   time.Time
	Labels        map[string]string // set by an operator
}

// Inventory is what a node has.
type Inventory struct {
	Platform  string    `json:"platform"` // "linux/amd64"
	CPU       int       `json:"cpu"`      // thousandths of a core that slots may share
	Memory    int64     `json:"memory"`   // bytes that slots may share
	Pythons   []string  `json:"pythons"`  // minors, such as "3.11"
	Isolation Isolation `json:"isolation"`
	Devices   []Device  `json:"devices"`
	Notes     []string  `json:"notes"` // what the node cannot do, in words for its operator
	Release   string    `json:"release"`
	Images    bool      `json:"images"` // whether it can run functions that come as an image
}

// Isolation is what keeps the code of a node apart from its machine and from
// other code.
type Isolation struct {
	Kind       string   `json:"kind"`       // "none", "namespaces" or "gvisor"
	UID        string   `json:"uid"`        // "own": each sandbox has a user ID of its own; "shared": all have the agent's
	Unenforced []string `json:"unenforced"` // limits that this machine cannot hold: of "cpu", "memory", "processes"
}

// NoIsolation is that of plain processes.
var NoIsolation = Isolation{Kind: "none", UID: "shared", Unenforced: []string{"cpu", "memory", "processes"}}

// Complete reports whether everything that the kind promises holds.
func (i Isolation) Complete() bool {
	return i.Kind != NoIsolation.Kind && i.UID == "own" && len(i.Unenforced) == 0
}

// String is the isolation in a line: "namespaces", or
// "namespaces (uid shared; not enforced: memory, cpu)".
func (i Isolation) String() string {
	if i.Kind == NoIsolation.Kind || i.Complete() {
		return i.Kind
	}
	var lacks []string
	if i.UID != "own" {
		lacks = append(lacks, "uid "+i.UID)
	}
	if len(i.Unenforced) > 0 {
		lacks = append(lacks, "not enforced: "+strings.Join(i.Unenforced, ", "))
	}
	return i.Kind + " (" + strings.Join(lacks, "; ") + ")"
}

// Device is what a slot may need: a GPU, a slice of one, or a simulator.
type Device struct {
	ID                string     `json:"id"` // unique on its node; an NVIDIA UUID for a GPU or a slice
	Kind              DeviceKind `json:"kind"`
	Name              string     `json:"name"`
	Memory            int64      `json:"memory"`                      // bytes
	ComputeCapability string     `json:"computeCapability,omitempty"` // "9.0"; GPUs only
	DriverVersion     string     `json:"driverVersion,omitempty"`     // GPUs only
	CUDAVersion       string     `json:"cudaVersion,omitempty"`       // highest that the driver takes, "13.0"; GPUs only
	Methods           []string   `json:"methods,omitempty"`           // simulators only
	Cores             int        `json:"cores,omitempty"`             // simulators only
	MIGProfile        string     `json:"migProfile,omitempty"`        // "1g.10gb"; slices of a GPU only
	ParentID          string     `json:"parentId,omitempty"`          // of the GPU that a slice is of
	MIGEnabled        bool       `json:"migEnabled,omitempty"`        // the GPU is cut into slices: these are leased, it is not
	Fault             string     `json:"fault,omitempty"`             // why it gets no slot, such as an Xid error; empty when sound
	FaultDate         time.Time  `json:"faultDate,omitzero"`          // when the node saw the fault, by its clock
	Simulated         bool       `json:"simulated,omitempty"`         // declared, not found: it runs no code
	Speed             []Speed    `json:"speed,omitempty"`             // simulators, by rising qubits; empty until it is measured
}

// Speed is how fast a simulator was when it was measured.
type Speed struct {
	Qubits         int     `json:"qubits"`
	GatesPerSecond float64 `json:"gatesPerSecond"`
}

// Leasable reports whether a slot may hold the device.
func (d Device) Leasable() bool { return d.Fault == "" && !d.MIGEnabled }

// DeviceKind is what sort of device it is.
type DeviceKind string

// The kinds of devices.
const (
	NVIDIA           DeviceKind = "gpu"
	QuantumSimulator DeviceKind = "simulator"
)

// Lease is how long a node may be silent before it counts as lost.
const Lease = 10 * time.Second

// AdmissionGrace is how long a node that hears no server goes on admitting
// work. It is shorter than Lease, so that a node stops before it is given up.
const AdmissionGrace = 8 * time.Second
