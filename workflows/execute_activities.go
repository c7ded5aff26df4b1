package workflows

import (
	"context"
	"errors"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/channel"
)

// runWait is how long the first activity of an execution waits for its end.
const runWait = 2 * time.Second

// Run reports whether the execution became final within two seconds. One that
// was launched is being driven already. Another is claimed for an idle slot and
// driven here; with no slot idle it stays queued and Run reports false. Claiming
// is one conditional update, so a second Run of the same attempt finds it
// claimed and leaves it to Attach.
func (a *Activities) Run(ctx context.Context, in ExecuteInput) (done bool, err error) {
	if in.Launched {
		return a.awaitLaunched(ctx, in.ExecutionID)
	}
	need := warpket.Resources{CPU: in.CPU, Memory: in.Memory}
	if in.More {
		e, err := a.Store.ExecutionByID(ctx, in.ExecutionID)
		if err != nil || e.Status.Final() {
			return err == nil, outcome(err)
		}
		need = e.Resources
	}
	slot, ok := a.Nodes.Reserve(in.ExecutionID, in.SnapshotID, in.Revision, need)
	if !ok {
		return false, nil
	}
	e, claimed, err := a.claim(ctx, in.ExecutionID, slot)
	if err != nil || !claimed {
		return e.Status.Final(), outcome(err)
	}
	ctx, cancel := context.WithTimeout(ctx, runWait)
	defer cancel()
	e, err = a.drive(ctx, e, true)
	if err != nil {
		a.freeLater(e)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return false, nil
	}
	if e.Status.Final() {
		a.over(e)
	}
	return e.Status.Final(), outcome(err)
}

// awaitLaunched waits for the end of an execution that this server, or one
// before it, has begun. One that has got no slot in time is not waited for.
func (a *Activities) awaitLaunched(ctx context.Context, id warpket.ID) (final bool, err error) {
	news := a.Hub.Watch(id)
	defer news.Close()
	ctx, cancel := context.WithTimeout(ctx, runWait)
	defer cancel()
	turn := time.NewTimer(turnWait)
	defer turn.Stop()
	for late := false; ; {
		e, err := a.Store.ExecutionByID(ctx, id)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return false, nil
		case err != nil || e.Status.Final():
			return err == nil, outcome(err)
		case late && e.Status == warpket.Queued:
			return false, nil
		}
		select {
		case <-news.C:
			if news.Final() != nil { // never one that is not final, see Hub.Finished
				return true, nil
			}
		case <-turn.C:
			late = true
		case <-ctx.Done():
			return false, nil
		}
	}
}

// Attach sees an execution through to its end: it waits for a slot, or has one
// made, and for the node's outcome.
func (a *Activities) Attach(ctx context.Context, id warpket.ID) error {
	ctx, stop := whileRunning(ctx)
	defer stop()
	news := a.Hub.Watch(id)
	defer news.Close()
	e, err := a.Store.ExecutionByID(ctx, id)
	if err == nil && e.Status == warpket.Queued {
		e, err = a.Store.WaitHere(ctx, id, a.ServerID)
	}
	if err == nil {
		err = a.see(ctx, e, news, func() {})
	}
	if err == nil || warpket.KindOf(err) == warpket.NotFound {
		return nil // also when its record is gone, and with it all reason to go on
	}
	return again{err}
}

// again is an error after which the activity is tried again, whatever its kind:
// an execution that is open is never given up.
type again struct{ cause error }

func (a again) Error() string { return a.cause.Error() }

// Cancel ends an execution for someone who has cancelled its workflow in the
// Temporal UI.
func (a *Activities) Cancel(ctx context.Context, id warpket.ID) error {
	e, err := a.Store.ExecutionByID(ctx, id)
	if err != nil {
		return outcome(err)
	}
	e, err = a.CancelExecution(ctx, e.ProjectID, id)
	if err != nil || e.Status.Final() {
		return outcome(err)
	}
	if e, err = a.drive(ctx, e, false); err == nil && e.Status.Final() {
		a.over(e)
	}
	return outcome(err)
}

// CancelExecution asks for the end of an execution. A queued one is final when
// it returns; a running one becomes so when its node has ended it.
func (a *Activities) CancelExecution(ctx context.Context, project, id warpket.ID) (warpket.Execution, error) {
	o := warpket.FailedWith(warpket.CancelledCode, "it was cancelled before it started", "")
	e, err := a.Store.AskCancel(ctx, project, id, *o.Failure, a.Now())
	if err != nil {
		return e, err
	}
	if e.Status.Final() {
		a.dropped(e)
		a.Hub.Finished(e)
		a.callBack(e)
		a.wake(ctx, id)
		return e, nil
	}
	err = a.Nodes.Cancel(ctx, e.NodeID, id, e.Attempt)
	if errors.Is(err, channel.ErrNotConnected) || errors.Is(err, channel.ErrBroken) || warpket.KindOf(err) == warpket.NotFound {
		return e, nil // its activity asks again when the node is back
	}
	return e, err
}
