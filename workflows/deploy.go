package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/warpket/warpket"
)

// Names of what a Deploy workflow takes, as the Temporal UI shows them.
const (
	scaleUpdate     = "scale"
	detachUpdate    = "detach"
	reconcileSignal = "reconcile"
)

// DeployInput names a deployment.
type DeployInput struct{ DeploymentID warpket.ID }

// Deploy keeps a deployment true to its record for as long as it lives: it has
// the runtime built, places slots, has nodes prepare them, and does so again
// whenever it is told that something has changed. It ends when the deployment
// is detached or has failed.
func Deploy(ctx workflow.Context, in DeployInput) error {
	d := &deploy{id: in.DeploymentID, changed: true}
	if err := d.handlers(ctx); err != nil {
		return err
	}
	signals := workflow.GetSignalChannel(ctx, reconcileSignal)
	for !d.detached {
		for signals.ReceiveAsync(nil) {
			d.changed = true // however many came, one round answers them all
		}
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() && workflow.AllHandlersFinished(ctx) {
			return workflow.NewContinueAsNewError(ctx, Deploy, in) // begins with a round
		}
		if d.changed {
			d.changed = false
			if err := d.round(ctx); err != nil || d.failed {
				return err
			}
			continue
		}
		waiting := workflow.NewSelector(ctx).AddReceive(signals, func(c workflow.ReceiveChannel, _ bool) {
			c.Receive(ctx, nil)
			d.changed = true
		})
		waiting.AddFuture(d.woken(ctx), func(workflow.Future) {})
		waiting.AddReceive(ctx.Done(), func(workflow.ReceiveChannel, bool) {})
		waiting.Select(ctx)
		if ctx.Err() != nil { // cancelled in the Temporal UI: as good as detached
			detached, _ := workflow.NewDisconnectedContext(ctx)
			return d.detach(detached)
		}
	}
	return workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
}

// deploy is the state of one Deploy workflow; what lasts is in the records.
type deploy struct {
	id       warpket.ID
	changed  bool
	detached bool
	failed   bool
	rounds   workflow.Mutex
	stop     workflow.CancelFunc // ends the round that is under way
	wake     workflow.Settable
}

// handlers takes updates. They take turns with rounds.
func (d *deploy) handlers(ctx workflow.Context) error {
	var a *Activities
	d.rounds = workflow.NewMutex(ctx)
	err := workflow.SetUpdateHandlerWithOptions(ctx, scaleUpdate, func(ctx workflow.Context, slots int, seen time.Time) error {
		if err := workflow.ExecuteActivity(short(ctx, fmt.Sprintf("record that %d slots are wanted", slots)), a.Scale, d.id, slots, seen).Get(ctx, nil); err != nil {
			return err
		}
		d.changed = true
		d.nudge()
		return nil
	}, workflow.UpdateHandlerOptions{
		Description: "Set the number of slots.",
		Validator: func(slots int, _ time.Time) error {
			if slots < 0 || slots > warpket.MaxSlots {
				return temporal.NewApplicationError(fmt.Sprintf("slots is from 0 to %d, not %d", warpket.MaxSlots, slots), string(warpket.Invalid))
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	return workflow.SetUpdateHandlerWithOptions(ctx, detachUpdate, func(ctx workflow.Context) error {
		if d.stop != nil {
			d.stop()
		}
		if err := d.rounds.Lock(ctx); err != nil {
			return err
		}
		defer d.rounds.Unlock()
		return d.detach(ctx)
	}, workflow.UpdateHandlerOptions{Description: "Give all slots back and end; the record stays."})
}

// woken is a future that nudge makes ready.
func (d *deploy) woken(ctx workflow.Context) workflow.Future {
	var f workflow.Future
	f, d.wake = workflow.NewFuture(ctx)
	return f
}

func (d *deploy) nudge() {
	if d.wake != nil {
		d.wake.Set(nil, nil)
		d.wake = nil
	}
}

func (d *deploy) detach(ctx workflow.Context) error {
	var a *Activities
	if d.detached || d.failed {
		return nil
	}
	d.show(ctx, warpket.DeploymentDetached, "giving the slots back")
	if err := workflow.ExecuteActivity(following(ctx, "give all slots back"), a.Detach, d.id).Get(ctx, nil); err != nil {
		return err
	}
	d.show(ctx, warpket.DeploymentDetached, "gave its slots back")
	d.detached = true
	d.nudge()
	return nil
}

// round makes the slots what the record wants: the story of a deployment.
func (d *deploy) round(ctx workflow.Context) error {
	if err := d.rounds.Lock(ctx); err != nil {
		return err
	}
	defer d.rounds.Unlock()
	if d.detached {
		return nil
	}
	ctx, d.stop = workflow.WithCancel(ctx)
	defer func() { d.stop(); d.stop = nil }()
	var a *Activities
	d.show(ctx, warpket.DeploymentBuilding, "the runtime")
	var sdk string
	if err := workflow.ExecuteActivity(building(ctx, "have the runtime built"), a.ResolveRuntime, d.id).Get(ctx, &sdk); err != nil {
		if kindOf(err) == warpket.NotFound {
			d.show(ctx, warpket.DeploymentDetached, "its function was deleted")
			d.detached = true
			return nil
		}
		return d.fail(ctx, err)
	}
	d.show(ctx, warpket.DeploymentPlacing, "slots on nodes")
	var plan Plan
	if err := workflow.ExecuteActivity(short(ctx, "place slots"), a.Place, d.id).Get(ctx, &plan); err != nil {
		return d.fail(ctx, err)
	}
	d.show(ctx, warpket.DeploymentPreparing, fmt.Sprintf("%d slots", len(plan.Prepare)))
	var work []workflow.Future
	for _, slot := range plan.Prepare {
		work = append(work, workflow.ExecuteActivity(following(ctx, "prepare slot "+string(slot)), a.Prepare, d.id, slot))
	}
	for _, slot := range plan.Release {
		// Not waited for: a slot finishes what it runs, which may take hours.
		// A round after this one finds what is left.
		detached, _ := workflow.NewDisconnectedContext(ctx)
		workflow.ExecuteActivity(following(detached, "release slot "+string(slot)), a.ReleaseSlot, slot)
	}
	var broken error
	for _, f := range work {
		if err := f.Get(ctx, nil); err != nil {
			broken = err
		}
	}
	if broken != nil {
		return d.fail(ctx, broken)
	}
	for _, slot := range plan.Replace {
		detached, _ := workflow.NewDisconnectedContext(ctx)
		workflow.ExecuteActivity(following(detached, "release slot "+string(slot)+" of an earlier revision"), a.ReleaseSlot, slot)
	}
	var settled Settled
	if err := workflow.ExecuteActivity(short(ctx, "settle"), a.Settle, d.id, plan.Short).Get(ctx, &settled); err != nil {
		return d.fail(ctx, err)
	}
	d.show(ctx, settled.Status, settled.Message, sdkVersion.ValueSet(sdk), nodeNames.ValueSet(settled.Nodes))
	if settled.Again {
		d.changed = true
		return workflow.Sleep(ctx, roundPause)
	}
	return nil
}

// roundPause is how long is waited before a round that has given up slots is
// followed by another.
const roundPause = time.Second

// following is for work on a node that takes as long as it takes. A node that
// is lost meanwhile ends it.
func following(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 30 * time.Minute,
		HeartbeatTimeout:    10 * time.Second,
		WaitForCancellation: true,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: 200 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 5 * time.Second},
		Summary:             summary,
	})
}

// fail ends a deployment that can never serve, unless it only was cancelled.
func (d *deploy) fail(ctx workflow.Context, cause error) error {
	var a *Activities
	detached, _ := workflow.NewDisconnectedContext(ctx)
	if temporal.IsCanceledError(cause) {
		return d.detach(detached)
	}
	reason := messageOf(cause)
	d.failed = true
	if err := workflow.ExecuteActivity(following(detached, "give all slots back; the deployment has failed"), a.Fail, d.id, reason).Get(detached, nil); err != nil {
		return err
	}
	d.show(ctx, warpket.DeploymentFailed, reason)
	return temporal.NewNonRetryableApplicationError(reason, string(warpket.DeploymentFailed), nil)
}

// show is what people see in the Temporal UI.
func (d *deploy) show(ctx workflow.Context, status warpket.DeploymentStatus, message string, more ...temporal.SearchAttributeUpdate) {
	details := "**" + string(status) + "**"
	if message != "" {
		details += ": " + message
	}
	workflow.SetCurrentDetails(ctx, details)
	_ = workflow.UpsertTypedSearchAttributes(ctx, append(more, phase.ValueSet(string(status)))...) // the page is right without it
}
