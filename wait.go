package warpket

import "time"

// Wait is a deployment, or a snapshot with executions, that waits for room.
type Wait struct {
	SubjectID ID // of the deployment or snapshot
	ServerID  ID // that waits for it
	Kind      WaitKind
	ProjectID ID
	Need      Need
	Reason    string    // what it waits for
	Decision  *Decision // what was looked at

	// What the store adds.
	Weight      float64 // of its project
	MaxPriority int     // of its project, beside others
	Use         float64 // that its project makes and has lately made of the fleet, in Resources.Charge
	Since       time.Time
	Waited      time.Duration // by Postgres' clock
}

// WaitKind says what waits.
type WaitKind string

// The kinds of what waits.
const (
	DeploymentWaits WaitKind = "deployment"
	SnapshotWaits   WaitKind = "snapshot"
)

// Need is what a slot needs of a node.
type Need struct {
	Resources Resources `json:"resources"`
	Platform  string    `json:"platform"`
	Python    string    `json:"python,omitempty"`
	Images    bool      `json:"images,omitempty"`
	Isolated  bool      `json:"isolated,omitempty"` // isolation has to be complete, see Isolation
}

// NeedOf is what a slot with these resources needs for a runtime.
func NeedOf(r Resources, runtime Runtime) Need {
	return Need{Resources: r, Platform: runtime.Platform, Python: runtime.Python, Images: runtime.OfImages(), Isolated: !runtime.Trusted}
}

// Rank is the priority that counts beside other projects.
func (w Wait) Rank() int { return min(w.Need.Resources.Priority, w.MaxPriority) }
