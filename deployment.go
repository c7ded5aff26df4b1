package warpket

import (
	"slices"
	"time"
)

// Deployment is a version on a number of slots, kept there until it is
// detached or deleted.
type Deployment struct {
	ID            ID
	ProjectID     ID
	FunctionID    ID
	FunctionName  string
	VersionNumber int
	SnapshotID    ID
	RuntimeID     ID
	Slots         int    // wanted
	Elastic       bool   // whether executions beyond its slots get slots on demand
	Revision      int    // of its function's configuration
	Ready         int    // slots that are ready now, with that revision, and do not have to leave their node
	Target        Target // for which its slots are; empty for one of an earlier release
	Resources     Resources
	Status        DeploymentStatus
	Message       string // progress, or why it failed
	Placement     []SlotPlace
	Waiting       *Waiting // while it waits for room
	CreatedDate   time.Time
	UpdatedDate   time.Time
}

// SlotPlace says where one slot of a deployment is, and why there.
type SlotPlace struct {
	Slot    ID
	Node    string
	Status  SlotStatus
	Devices []string
	Reason  string
	// Isolation is what keeps its programs apart from others of its node.
	Isolation Isolation
	Decision  *Decision // what else was looked at; nil where that is not known
	Yields    bool      // it ends when what runs in it has ended, for something more urgent
	Simulated bool      // whether any of its devices is declared, not found
}

// DeploymentStatus says how far a deployment is.
type DeploymentStatus string

// The statuses of a deployment.
const (
	DeploymentPending   DeploymentStatus = "pending"   // accepted
	DeploymentBuilding  DeploymentStatus = "building"  // its runtime is being built
	DeploymentPlacing   DeploymentStatus = "placing"   // slots are being found
	DeploymentPreparing DeploymentStatus = "preparing" // nodes install the runtime and load the code
	DeploymentReady     DeploymentStatus = "ready"     // all slots serve
	DeploymentDegraded  DeploymentStatus = "degraded"  // fewer slots serve than are wanted; being repaired
	DeploymentFailed    DeploymentStatus = "failed"    // cannot serve; the message says why
	DeploymentDetached  DeploymentStatus = "detached"  // gave its slots back
)

// Final reports whether a deployment in this status will never serve again.
func (s DeploymentStatus) Final() bool {
	return s == DeploymentFailed || s == DeploymentDetached
}

// Settled reports whether a deployment in this status waits for nothing.
func (s DeploymentStatus) Settled() bool { return s == DeploymentReady || s.Final() }

var afterDeployment = map[DeploymentStatus][]DeploymentStatus{
	DeploymentPending:   {DeploymentBuilding, DeploymentPlacing, DeploymentFailed, DeploymentDetached},
	DeploymentBuilding:  {DeploymentPlacing, DeploymentFailed, DeploymentDetached},
	DeploymentPlacing:   {DeploymentBuilding, DeploymentPreparing, DeploymentReady, DeploymentDegraded, DeploymentFailed, DeploymentDetached},
	DeploymentPreparing: {DeploymentPlacing, DeploymentReady, DeploymentDegraded, DeploymentFailed, DeploymentDetached},
	DeploymentReady:     {DeploymentPlacing, DeploymentDegraded, DeploymentFailed, DeploymentDetached},
	DeploymentDegraded:  {DeploymentPlacing, DeploymentPreparing, DeploymentReady, DeploymentFailed, DeploymentDetached},
	DeploymentFailed:    {DeploymentDetached},
}

// Advance moves the deployment to status to at time now. Advancing to the
// status it already has only changes the message, so a retried activity may
// repeat it.
func (d *Deployment) Advance(to DeploymentStatus, message string, now time.Time) error {
	if d.Status != to && !slices.Contains(afterDeployment[d.Status], to) {
		return Errorf(Conflict, "deployment %s is %s and cannot become %s", d.ID, d.Status, to)
	}
	d.Status, d.Message, d.UpdatedDate = to, message, now
	return nil
}

// MaxSlots bounds the slots of one deployment.
const MaxSlots = 1000

// Slot is a place for one worker of one snapshot on one node: the lease on the
// node's memory, cores and devices. Its generation grows each time it is
// handed out, so that an order for an earlier holder can be told and refused.
type Slot struct {
	ID           ID
	NodeID       ID
	DeploymentID ID // empty for a slot on demand
	ProjectID    ID
	FunctionID   ID
	SnapshotID   ID
	RuntimeID    ID
	Generation   int64
	Status       SlotStatus
	Revision     int // of the function's configuration that its worker has, once it is ready
	Resources    Resources
	Devices      []string
	Reason       string // why it is where it is
	CreatedDate  time.Time
	Decision     *Decision // what else was looked at; nil where that is not known
	Leaving      bool      // its node is being drained, or a device of it has a fault: it moves elsewhere
}

// SlotStatus says what a slot is doing.
type SlotStatus string

// The statuses of a slot.
const (
	SlotPreparing SlotStatus = "preparing" // leased; its worker is not up yet
	SlotReady     SlotStatus = "ready"     // its worker serves
	SlotLost      SlotStatus = "lost"      // its node is silent: still leased, for its programs may still run
)

// Settled reports whether a deployment waits for nothing.
func (d Deployment) Settled() bool {
	return d.Status.Settled() && (d.Status.Final() || d.Ready >= d.Slots)
}
