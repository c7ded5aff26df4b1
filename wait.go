package warpket

import (
	"crypto/sha256"
	"encoding/json"
	"time"
)

// Wait is a deployment, or executions that may share a slot, that waits for room.
type Wait struct {
	SubjectID ID // of the deployment; of executions, see SharedWait
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

// SharedWait is as what executions of a snapshot wait for room that may share a
// slot on demand: those with the same resources, whatever their time limits.
func SharedWait(snapshot ID, r Resources) ID {
	r.Timeout = 0
	resources, _ := json.Marshal(r) // of strings and numbers
	sum := sha256.Sum256(append([]byte(snapshot), resources...))
	return uuid([16]byte(sum[:16]), 8)
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
