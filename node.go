package warpket

import (
	"maps"
	"regexp"
	"slices"
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
	Draining      bool              // cordoned, and what it has is given back
	Fenced        bool              // an operator has said that the machine is off; until its agent answers again
	Slots         int               // that it holds
	Loads         map[string]Load   // of devices, by ID, as the node has last said
	UpdatedDate   time.Time         // when an operator last changed it
}

// Drained reports whether the node was to be emptied, and is.
func (n Node) Drained() bool { return n.Draining && n.Slots == 0 }

// Simulated reports whether any device of the node is declared, not found.
func (n Node) Simulated() bool {
	return slices.ContainsFunc(n.Inventory.Devices, func(d Device) bool { return d.Simulated })
}

// Cordon says whether new slots may be placed on the node. One that may get them
// is not drained any more.
func (n *Node) Cordon(cordoned bool, now time.Time) {
	n.Cordoned, n.Draining, n.UpdatedDate = cordoned, n.Draining && cordoned, now
}

// Drain has the node emptied: it gets no new slots, and those that it has go when
// what runs in them has ended.
func (n *Node) Drain(now time.Time) {
	n.Cordoned, n.Draining, n.UpdatedDate = true, true, now
}

// Fence says that the machine of a silent node is off: nothing runs there.
func (n *Node) Fence(now time.Time) error {
	if n.Live {
		return Errorf(Conflict, "node %s answers, so its machine is not off: drain it instead (POST /v1/nodes/%s/drain)", n.Name, n.ID)
	}
	n.Fenced, n.UpdatedDate = true, now
	return nil
}

// SetLabels changes labels: a nil value removes one, the others stay.
func (n *Node) SetLabels(changes map[string]*string, now time.Time) error {
	labels := maps.Clone(n.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	for name, value := range changes {
		if value == nil {
			delete(labels, name)
			continue
		}
		if !labelName.MatchString(name) {
			return Errorf(Invalid, "%q cannot be the name of a label: up to 63 letters, digits and . _ - /, the first and the last a letter or digit", name).At("body.labels")
		}
		if !labelValue.MatchString(*value) {
			return Errorf(Invalid, "%q cannot be the value of label %s: up to 63 letters, digits and . _ -", *value, name).At("body.labels")
		}
		labels[name] = *value
	}
	if len(labels) > MaxLabels {
		return Errorf(Invalid, "a node has at most %d labels, not %d", MaxLabels, len(labels)).At("body.labels")
	}
	n.Labels, n.UpdatedDate = labels, now
	return nil
}

// MaxLabels bounds the labels of a node.
const MaxLabels = 64

var (
	labelName  = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9._/-]{0,61}[a-zA-Z0-9])?$`)
	labelValue = regexp.MustCompile(`^[a-zA-Z0-9._-]{0,63}$`)
)

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
	Images    bool      `json:"images"`             // whether it can run functions that come as an image
	NoEgress  bool      `json:"noEgress,omitempty"` // whether it has no network for functions
	Machine   string    `json:"machine,omitempty"`  // names the time since the machine has started
}

// Isolation is what keeps the code of a node apart from its machine and from
// other code.
type Isolation struct {
	Kind       string   `json:"kind"`       // "none", "namespaces" or "gvisor"
	UID        string   `json:"uid"`        // "own": each sandbox has a user ID of its own; "shared": all have the agent's
	Unenforced []string `json:"unenforced"` // what this machine cannot hold: limits of "cpu", "memory", "processes", of "swap" with memory, or the rules of "landlock"
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

// Lease is how long a node may be silent before it counts as lost.
const Lease = 10 * time.Second

// AdmissionGrace is how long a node that hears no server goes on admitting
// work. It is shorter than Lease, so that a node stops before it is given up.
const AdmissionGrace = 8 * time.Second
