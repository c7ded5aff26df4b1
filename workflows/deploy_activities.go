package workflows

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/channel"
	"github.com/warpket/warpket/storage/postgres"
)

// Plan is what one round of a deployment has to do.
type Plan struct {
	Prepare []warpket.ID // slots that are leased and not ready
	Release []warpket.ID // slots that are too many, or that have to make room
	Replace []warpket.ID // slots that go when those of Prepare are ready: their function has a later revision, or another draft
	Short   string       // why slots that are wanted could not be placed
}

// Settled is how a round left a deployment.
type Settled struct {
	Status  warpket.DeploymentStatus
	Message string
	Nodes   []string
	Again   bool // slots were given up in this round: another one places them anew
}

// ResolveRuntime returns when the deployment's runtime can be installed, and
// what it is.
func (a *Activities) ResolveRuntime(ctx context.Context, id warpket.ID) (sdk string, err error) {
	ctx, stop := whileRunning(ctx)
	defer stop()
	d, err := a.Store.DeploymentByID(ctx, id)
	if err != nil {
		return "", outcome(err)
	}
	if err := a.Store.Kept(ctx, postgres.Promise{Kind: "deploy", SubjectID: id}); err != nil {
		return "", outcome(err)
	}
	r, err := a.Store.Runtime(ctx, d.RuntimeID)
	sdk = strings.TrimSpace(r.SDK + " " + r.SDKVersion)
	if err != nil {
		return sdk, outcome(err)
	}
	if r.Status != warpket.RuntimeAvailable {
		if err := a.Store.AdvanceDeployment(ctx, id, warpket.DeploymentBuilding, "runtime "+sdk, a.Now()); err != nil {
			return sdk, outcome(err)
		}
		go a.passOn(ctx, d, sdk)
		if err := a.ensureRuntime(ctx, d.RuntimeID); err != nil {
			return sdk, outcome(err)
		}
	}
	_, err = a.ensureBuild(ctx, d.ProjectID, d.SnapshotID, d.RuntimeID, func(text string) {
		if d.Status == warpket.DeploymentReady || d.Status == warpket.DeploymentDegraded {
			return // it serves meanwhile
		}
		if err := a.Store.AdvanceDeployment(ctx, id, warpket.DeploymentBuilding, text, a.Now()); err != nil {
			a.Log.Warn("progress not recorded", "deployment", id, "error", err)
		}
	})
	return sdk, outcome(err)
}

// passOn shows the progress of a runtime's building on a deployment that waits
// for it, until ctx ends.
func (a *Activities) passOn(ctx context.Context, d warpket.Deployment, sdk string) {
	news := a.Hub.Watch(d.RuntimeID)
	defer news.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case <-news.C:
		}
		r, err := a.Store.Runtime(ctx, d.RuntimeID)
		if err == nil && r.Status == warpket.RuntimeBuilding {
			err = a.Store.AdvanceDeployment(ctx, d.ID, warpket.DeploymentBuilding, sdk+": "+r.Message, a.Now())
		}
		if err != nil && ctx.Err() == nil {
			a.Log.Warn("progress not passed on", "deployment", d.ID, "error", err)
		}
	}
}

// Place leases the slots that a deployment lacks and picks those that it has
// too many. A slot of an earlier revision than the function's, or of what the
// draft was before, counts as lacking: it goes when a new one is ready, or makes
// room for it when there is none. Without room Place says why and leaves the rest
// for a later round.
func (a *Activities) Place(ctx context.Context, id warpket.ID) (Plan, error) {
	d, slots, runtime, err := a.deployment(ctx, id)
	if err != nil {
		return Plan{}, outcome(err)
	}
	if runtime.Status != warpket.RuntimeAvailable {
		return Plan{}, nil // the draft has changed since its runtime was resolved: Settle asks for another round
	}
	var plan Plan
	var leaving []warpket.ID // their nodes are drained, or their devices have faults
	held := 0
	for _, slot := range slots {
		switch {
		case slot.Status == warpket.SlotLost: // leased until its node answers, but it serves nobody
		case slot.SnapshotID != d.SnapshotID && slot.Status == warpket.SlotPreparing: // the draft has changed meanwhile
			plan.Release = append(plan.Release, slot.ID)
		case slot.Leaving:
			leaving = append(leaving, slot.ID)
		case slot.Status == warpket.SlotReady && (slot.Revision < d.Revision || slot.SnapshotID != d.SnapshotID):
			plan.Replace = append(plan.Replace, slot.ID)
		case held >= d.Slots:
			plan.Release = append(plan.Release, slot.ID)
		default:
			held++
			if slot.Status == warpket.SlotPreparing {
				plan.Prepare = append(plan.Prepare, slot.ID)
			}
		}
	}
	if held == d.Slots {
		a.served(ctx, id)
		plan.Replace = append(plan.Replace, leaving...) // once those that a round before this one has placed are ready
		return plan, nil
	}
	if err := a.Store.AdvanceDeployment(ctx, id, warpket.DeploymentPlacing, fmt.Sprintf("%d of %d slots are held", held, d.Slots), a.Now()); err != nil {
		return Plan{}, outcome(err)
	}
	placed := len(plan.Prepare)
	if err := a.placeMissing(ctx, d, runtime, held, &plan); err != nil {
		return Plan{}, outcome(err)
	}
	// A slot that leaves serves until one that was placed for it is ready. It
	// goes all the same when there is no room elsewhere.
	placed = min(len(plan.Prepare)-placed, len(leaving))
	plan.Replace, plan.Release = append(plan.Replace, leaving[:placed]...), append(plan.Release, leaving[placed:]...)
	return plan, nil
}

// placeMissing leases the slots that a deployment lacks, as far as there is room.
func (a *Activities) placeMissing(ctx context.Context, d warpket.Deployment, runtime warpket.Runtime, held int, plan *Plan) error {
	for ; held < d.Slots; held++ {
		slot := warpket.Slot{
			ID: warpket.NewID(a.Now()), DeploymentID: d.ID, ProjectID: d.ProjectID, FunctionID: d.FunctionID, SnapshotID: d.SnapshotID, RuntimeID: d.RuntimeID,
			Status: warpket.SlotPreparing, Resources: d.Resources, CreatedDate: a.Now(),
		}
		slot, _, err := a.lease(ctx, slot, runtime)
		if full(err) && len(plan.Replace) > 0 {
			plan.Release, plan.Replace = append(plan.Release, plan.Replace[0]), plan.Replace[1:]
			plan.Short = "slots of an earlier revision finish what they run"
			continue // in a later round there is its room
		}
		for a.makeRoom(ctx, slot, runtime, err) {
			slot, _, err = a.lease(ctx, slot, runtime)
		}
		if full(err) {
			plan.Short = messageOf(err)
			return nil
		}
		if err != nil {
			return err
		}
		plan.Prepare = append(plan.Prepare, slot.ID)
	}
	a.served(ctx, d.ID)
	return nil
}

func (a *Activities) deployment(ctx context.Context, id warpket.ID) (warpket.Deployment, []warpket.Slot, warpket.Runtime, error) {
	d, err := a.Store.DeploymentByID(ctx, id)
	if err != nil {
		return d, nil, warpket.Runtime{}, err
	}
	slots, err := a.Store.DeploymentSlots(ctx, id)
	if err != nil {
		return d, nil, warpket.Runtime{}, err
	}
	runtime, err := a.Store.FunctionRuntime(ctx, d.FunctionID, d.RuntimeID)
	return d, slots, runtime, err
}

// Prepare has a node prepare one slot of a deployment. A slot whose node is
// lost, or that the node cannot hold now, is given up without an error: Settle
// asks for another round. Code that does not load is an error for good.
func (a *Activities) Prepare(ctx context.Context, id, slotID warpket.ID) error {
	ctx, stop := whileRunning(ctx)
	defer stop()
	slot, err := a.Store.SlotByID(ctx, slotID)
	if warpket.KindOf(err) == warpket.NotFound {
		return nil
	}
	if err != nil {
		return outcome(err)
	}
	node, err := a.Store.Node(ctx, slot.NodeID)
	if err != nil {
		return outcome(err)
	}
	say := heartbeat(ctx)
	failure, err := a.prepare(ctx, &slot, 0, func(text string) {
		say(text)
		if err := a.Store.AdvanceDeployment(ctx, id, warpket.DeploymentPreparing, node.Name+": "+text, a.Now()); err != nil {
			a.Log.Warn("progress not recorded", "deployment", id, "error", err)
		}
	})
	switch {
	case failure != nil && a.outdated(ctx, id, slot):
		return nil // the next round gives it back
	case failure != nil:
		return outcome(warpket.Errorf(warpket.Invalid, "the code does not load (%s): %s", failure.Code, failure.Message))
	case errors.Is(err, channel.ErrNotConnected) || errors.Is(err, channel.ErrBroken):
		if err := a.awaitNode(ctx, slot.NodeID); warpket.KindOf(err) == warpket.NotFound {
			return nil // the node is lost, and the slot marked so
		} else if err != nil {
			return outcome(err)
		}
		return err // the node is back: try again
	case warpket.KindOf(err) == warpket.Conflict: // the slot was given up meanwhile
		_ = a.Nodes.Release(ctx, slot.NodeID, slot.ID, slot.Generation, false) // a node that has it learns so at its next Hello, too
		return nil
	case err != nil:
		return outcome(err)
	}
	a.serve(slot, node.Name)
	return nil
}

// outdated reports whether a slot holds what its deployment's draft was before.
func (a *Activities) outdated(ctx context.Context, id warpket.ID, slot warpket.Slot) bool {
	d, err := a.Store.DeploymentByID(ctx, id)
	return err == nil && d.SnapshotID != slot.SnapshotID
}

// ReleaseSlot gives one slot back.
func (a *Activities) ReleaseSlot(ctx context.Context, id warpket.ID) error {
	ctx, stop := whileRunning(ctx)
	defer stop()
	slot, err := a.Store.SlotByID(ctx, id)
	if warpket.KindOf(err) == warpket.NotFound {
		return nil
	}
	if err != nil {
		return outcome(err)
	}
	if err := a.releaseOrLeave(ctx, slot); err != nil {
		return outcome(err)
	}
	return outcome(a.Store.TellDeployment(ctx, slot.DeploymentID))
}

// releaseOrLeave releases a slot. That of a lost node stays leased until the
// node answers: then it learns that the slot is no longer its.
func (a *Activities) releaseOrLeave(ctx context.Context, slot warpket.Slot) error {
	for {
		err := a.release(ctx, slot)
		if !errors.Is(err, channel.ErrNotConnected) && !errors.Is(err, channel.ErrBroken) {
			return err
		}
		if err := a.awaitNode(ctx, slot.NodeID); warpket.KindOf(err) == warpket.NotFound {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// Settle says how the deployment stands after a round.
func (a *Activities) Settle(ctx context.Context, id warpket.ID, short string) (Settled, error) {
	d, err := a.Store.DeploymentByID(ctx, id)
	if err != nil {
		return Settled{}, outcome(err)
	}
	s := Settled{Status: warpket.DeploymentReady, Message: fmt.Sprintf("%d of %d slots serve", d.Ready, d.Slots)}
	for _, p := range d.Placement {
		if !slices.Contains(s.Nodes, p.Node) {
			s.Nodes = append(s.Nodes, p.Node)
		}
	}
	switch {
	case d.Ready >= d.Slots:
	case d.Ready > 0:
		s.Status = warpket.DeploymentDegraded
	default:
		s.Status = warpket.DeploymentPlacing
	}
	if d.Ready < d.Slots && short == "" {
		s.Again = true
	}
	if short != "" {
		s.Message += "; " + short
	}
	return s, outcome(a.Store.AdvanceDeployment(ctx, id, s.Status, s.Message, a.Now()))
}

// Scale records how many slots are wanted, unless the deployment has changed since
// it was seen.
func (a *Activities) Scale(ctx context.Context, id warpket.ID, slots int, seen time.Time) error {
	return outcome(a.Store.ScaleDeployment(ctx, id, slots, seen, a.Now()))
}

// Detach gives all slots of a deployment back.
func (a *Activities) Detach(ctx context.Context, id warpket.ID) error {
	return a.end(ctx, id, warpket.DeploymentDetached, "")
}

// Fail gives all slots of a deployment back and records why.
func (a *Activities) Fail(ctx context.Context, id warpket.ID, reason string) error {
	return a.end(ctx, id, warpket.DeploymentFailed, reason)
}

func (a *Activities) end(ctx context.Context, id warpket.ID, status warpket.DeploymentStatus, reason string) error {
	ctx, stop := whileRunning(ctx)
	defer stop()
	a.abandoned(ctx, id)
	err := a.Store.AdvanceDeployment(ctx, id, status, reason, a.Now())
	if err != nil && warpket.KindOf(err) != warpket.NotFound {
		return outcome(err)
	}
	slots, err := a.Store.DeploymentSlots(ctx, id)
	if err != nil {
		return outcome(err)
	}
	for _, slot := range slots {
		if err := a.releaseOrLeave(ctx, slot); err != nil {
			return outcome(err)
		}
	}
	if err := a.Store.AdvanceDeployment(ctx, id, status, reason, a.Now()); warpket.KindOf(err) != warpket.NotFound {
		return outcome(err) // told once more: the slots are gone now
	}
	return nil
}
