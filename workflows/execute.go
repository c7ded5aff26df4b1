package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/warpket/warpket"
)

// ExecuteInput names an execution. What else it has is what choosing a slot
// needs, so that a warm call reads nothing before it.
type ExecuteInput struct {
	ExecutionID warpket.ID
	SnapshotID  warpket.ID
	CPU         int
	Memory      int64
	Revision    int
	More        bool // it needs more of a slot than cores and memory: its record says what
	Launched    bool // the server that took the request has begun it already
}

// Execute sees one execution through to a final status, whatever becomes of
// the server that took the request. It is usually final within the first local
// activity; what takes longer is attached to by an activity that any server may
// continue.
func Execute(ctx workflow.Context, in ExecuteInput) error {
	var a *Activities
	var done bool
	err := workflow.ExecuteLocalActivity(brief(ctx), a.Run, in).Get(ctx, &done)
	if !temporal.IsCanceledError(err) && (err != nil || !done) {
		err = workflow.ExecuteActivity(attached(ctx, "wait for a slot, the node and the result"), a.Attach, in.ExecutionID).Get(ctx, nil)
	}
	if temporal.IsCanceledError(err) {
		detached, _ := workflow.NewDisconnectedContext(ctx)
		return workflow.ExecuteActivity(short(detached, "cancel"), a.Cancel, in.ExecutionID).Get(detached, nil)
	}
	return err
}

// brief is for what should be over at once. Whatever goes wrong, attached
// continues, so it is not tried again.
func brief(ctx workflow.Context) workflow.Context {
	return workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout: 5 * time.Second,
		RetryPolicy:         &temporal.RetryPolicy{MaximumAttempts: 1},
		Summary:             "claim a slot and run",
	})
}

// attached is for following work that goes on elsewhere. It heartbeats, so a
// server that dies is replaced by another within seconds; attaching twice is
// harmless, so it may be retried for as long as the execution may take.
func attached(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 30 * 24 * time.Hour,
		HeartbeatTimeout:    10 * time.Second,
		WaitForCancellation: true,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: 200 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 10 * time.Second},
		Summary:             summary,
	})
}

// short is for a step that takes one or a few transactions. It is tried until
// it succeeds or its error says that it never will.
func short(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 30 * time.Second,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: 100 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 5 * time.Second},
		Summary:             summary,
	})
}
