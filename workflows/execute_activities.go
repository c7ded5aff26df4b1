package workflows

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/channel"
	"github.com/warpket/warpket/channel/wire"
	"github.com/warpket/warpket/live"
	"github.com/warpket/warpket/storage/postgres"
)

// runWait is how long the first activity of an execution waits for its end.
const runWait = 2 * time.Second

// turnWait is how long an execution whose slots are all busy waits in memory for
// its turn, before it costs Temporal an activity.
const turnWait = 250 * time.Millisecond

// Launch records an execution and begins it: with a slot idle the record is its
// claim, and the node is asked to run it while Temporal starts its workflow. The
// workflow is what survives this server; it is promised in the same transaction.
// Launching an ID again does nothing.
func (a *Activities) Launch(ctx context.Context, e warpket.Execution) error {
	slot, known, claimed := a.Nodes.Reserve(e.SnapshotID, e.Revision, e.Resources)
	if claimed {
		now := a.Now()
		e.Status, e.Attempt, e.StartedDate = warpket.Running, 1, &now
		e.SlotID, e.Generation, e.NodeID, e.NodeName, e.Reason = slot.ID, slot.Generation, slot.NodeID, slot.NodeName, "its worker was idle"
	}
	e.ServerID = a.ServerID
	news := a.Hub.Watch(e.ID) // whoever frees a slot may give it to this execution from the insert on
	created, err := a.Store.CreateExecution(ctx, e)
	if err != nil || !created {
		news.Close()
		if claimed {
			a.Nodes.Free(slot.ID, slot.Generation)
		}
		return err
	}
	ctx = context.WithoutCancel(ctx) // the request may go; the execution does not
	if known {
		go a.begin(ctx, e, news)
	} else {
		news.Close()
	}
	select {
	case a.starts <- struct{}{}:
	case <-time.After(time.Second):
		a.Log.Warn("Temporal is slow; the sweeper starts the workflow", "execution", e.ID)
		return nil
	}
	go func() {
		defer func() { <-a.starts }()
		if err := a.Client.startExecution(ctx, e, known); err != nil {
			a.Log.Warn("workflow not started; the sweeper does", "execution", e.ID, "error", err)
		}
	}()
	return nil
}

// begin drives an execution that has a slot, or waits a moment for one, for as
// long as its workflow's first activity does; from then on another activity
// does.
func (a *Activities) begin(ctx context.Context, e warpket.Execution, news *live.Watch) {
	defer news.Close()
	ctx, cancel := context.WithTimeout(ctx, runWait)
	defer cancel()
	turn := time.NewTimer(turnWait)
	defer turn.Stop()
	for !e.Status.Final() {
		var done bool
		var err error
		if e.Status == warpket.Running {
			done, err = a.drive(ctx, e, e.ServerID == a.ServerID)
		} else if slot, _, ok := a.Nodes.Reserve(e.SnapshotID, e.Revision, e.Resources); ok {
			_, _, err = a.claim(ctx, e.ID, slot)
		} else {
			select {
			case <-news.C:
			case <-turn.C:
				return
			}
		}
		if err == nil && !done {
			e, err = a.Store.ExecutionByID(ctx, e.ID)
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			a.Log.Warn("execution not driven; its workflow does", "execution", e.ID, "error", err)
		}
		if err != nil || done {
			return
		}
	}
}

// Run reports whether the execution became final within two seconds. One that
// was launched is being driven already. Another is claimed for an idle slot and
// driven here; with no slot idle it stays queued and Run reports false. Claiming
// is one conditional update, so a second Run of the same attempt finds it
// claimed and leaves it to Attach.
func (a *Activities) Run(ctx context.Context, in ExecuteInput) (done bool, err error) {
	if in.Launched {
		return a.awaitLaunched(ctx, in.ExecutionID)
	}
	slot, _, ok := a.Nodes.Reserve(in.SnapshotID, in.Revision, warpket.Resources{CPU: in.CPU, Memory: in.Memory})
	if !ok {
		return false, nil
	}
	e, claimed, err := a.claim(ctx, in.ExecutionID, slot)
	if err != nil || !claimed {
		return e.Status.Final(), outcome(err)
	}
	ctx, cancel := context.WithTimeout(ctx, runWait)
	defer cancel()
	done, err = a.drive(ctx, e, true)
	if errors.Is(err, context.DeadlineExceeded) {
		return false, nil
	}
	return done, outcome(err)
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

// claim takes the execution for a slot that was reserved, and frees the slot
// if it does not get it.
func (a *Activities) claim(ctx context.Context, id warpket.ID, slot channel.Ready) (warpket.Execution, bool, error) {
	e, claimed, err := a.Store.ClaimExecution(ctx, id, warpket.Slot{ID: slot.ID, NodeID: slot.NodeID, Generation: slot.Generation, Reason: "its worker was idle"}, slot.NodeName, a.ServerID, a.Now())
	if err != nil || !claimed {
		a.Nodes.Free(slot.ID, slot.Generation)
	} else {
		a.Hub.Changed(id)
	}
	return e, claimed, err
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
	for ; ; e, err = a.Store.ExecutionByID(ctx, id) {
		switch {
		case warpket.KindOf(err) == warpket.NotFound:
			return nil // its record is gone, and with it all reason to go on
		case err != nil:
		case e.Status.Final():
			a.sent.Delete(attempt{e.ID, e.Attempt})
			a.Hub.Finished(e)
			if e.NodeID != "" {
				a.Nodes.Ack(e.NodeID, e.ID, e.Attempt) // a server before this one may have died before it did
			}
			return nil
		case e.Status == warpket.Queued:
			err = a.awaitSlot(ctx, e, news.C)
		default:
			_, err = a.drive(ctx, e, e.ServerID == a.ServerID)
		}
		if err != nil {
			return again{err}
		}
	}
}

// again is an error after which the activity is tried again, whatever its kind:
// an execution that is open is never given up.
type again struct{ cause error }

func (a again) Error() string { return a.cause.Error() }

// awaitSlot returns when a queued execution may have been claimed or become
// final. While a slot is made for it, another may come free.
func (a *Activities) awaitSlot(ctx context.Context, e warpket.Execution, news <-chan struct{}) error {
	capacity := a.Hub.Watch(capacityTopic)
	defer capacity.Close()
	for {
		if slot, _, ok := a.Nodes.Reserve(e.SnapshotID, e.Revision, e.Resources); ok {
			_, _, err := a.claim(ctx, e.ID, slot)
			return err
		}
		type provided struct {
			made bool
			err  error
		}
		result := make(chan provided, 1)
		go func() {
			// Shared with others that wait for the same snapshot, so it outlives this wait.
			made, err := a.provide(context.WithoutCancel(ctx), e)
			result <- provided{made, err}
		}()
		var p provided
		select {
		case <-news:
			return nil
		case p = <-result:
		case <-ctx.Done():
			return ctx.Err()
		}
		switch warpket.KindOf(p.err) {
		case "":
			if p.made { // for the execution that has waited longest; if that is not this one, another is made
				select {
				case <-news:
					return nil
				default:
					continue
				}
			}
		case warpket.NoCapacity:
			a.Log.Info("execution waits for room", "execution", e.ID, "function", e.FunctionID, "reason", messageOf(p.err))
		case warpket.Invalid:
			return a.refuse(ctx, e, warpket.FailedWith(warpket.NoRuntime, messageOf(p.err), ""))
		case warpket.NotFound:
			return a.refuse(ctx, e, warpket.FailedWith(warpket.NotPrepared, "its function was deleted", ""))
		case warpket.Denied:
			return a.refuse(ctx, e, warpket.FailedWith(warpket.NotPrepared, messageOf(p.err), ""))
		default:
			return p.err
		}
		select {
		case <-news:
			return nil
		case <-capacity.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// refuse makes an execution that never ran final.
func (a *Activities) refuse(ctx context.Context, e warpket.Execution, o warpket.Outcome) error {
	_, _, err := a.Store.FinishExecution(ctx, postgres.Finish{
		ID: e.ID, Attempt: e.Attempt, Status: o.Status, Error: o.Failure,
		Timings: warpket.Timings{Queued: time.Since(a.Hub.Begun(e)), Total: time.Since(a.Hub.Begun(e))},
	}, a.Now())
	return err
}

// drive has the node run a claimed execution and records the outcome. fresh
// says that the attempt was claimed for this process. If it also is the first
// here to send it, a refusal proves that it has not started, and it is queued
// again. It reports whether the execution became final.
func (a *Activities) drive(ctx context.Context, e warpket.Execution, fresh bool) (bool, error) {
	a.Nodes.Hold(e.SlotID, e.Generation)
	run := &wire.Run{Execution: string(e.ID), Attempt: int32(e.Attempt), Slot: string(e.SlotID), Generation: e.Generation, //nolint:gosec // small
		Timeout: int64(e.Resources.Timeout), Shots: int32(e.Shots), Seed: e.Seed, Target: string(e.Target)} //nolint:gosec // bounded by the API
	if err := a.inputOf(ctx, e, run); err != nil {
		return false, err
	}
	if e.CancelAsked { // a node that has it ends it; one that gets it below does not start it
		_ = a.Nodes.Cancel(ctx, e.NodeID, e.ID, e.Attempt) // what is wrong with the node, Run finds too
	}
	this := attempt{e.ID, e.Attempt}
	_, again := a.sent.LoadOrStore(this, e.NodeID)
	fresh = fresh && !again
	claimed := time.Now()
	out, err := a.Nodes.Run(ctx, e.NodeID, run)
	_, refused := errors.AsType[channel.Refused](err)
	switch k := warpket.KindOf(err); {
	case err == nil:
		return a.finish(ctx, e, out, claimed)
	case fresh && (refused || errors.Is(err, channel.ErrNotConnected)):
		// It has not started.
		if k == warpket.NotFound {
			a.Nodes.GoneSlot(e.SlotID, e.Generation)
		}
		a.Nodes.Free(e.SlotID, e.Generation)
		a.sent.Delete(this)
		o := warpket.FailedWith(warpket.CancelledCode, "it was cancelled before it started", "")
		err := a.Store.UnclaimExecution(ctx, e.ID, e.Attempt, e.Generation, *o.Failure)
		a.Hub.Changed(e.ID)
		return false, errors.Join(err, pause(ctx))
	case refused && k == warpket.NotFound:
		return a.lost(ctx, e, "its node has come back without it")
	case refused: // the node is busy with another, or cannot get the input: ours has not started yet
		return false, pause(ctx)
	case errors.Is(err, channel.ErrNotConnected), errors.Is(err, channel.ErrBroken):
		if err := a.awaitNode(ctx, e.NodeID); warpket.KindOf(err) == warpket.NotFound {
			return a.lost(ctx, e, "its node has fallen silent")
		} else if err != nil {
			return false, err
		}
		return false, nil // the node is back: ask again
	}
	return false, fmt.Errorf("running execution %s: %w", e.ID, err)
}

// refusedPause is how long is waited after a node has refused, so that servers
// and nodes do not ask each other without end.
const refusedPause = 50 * time.Millisecond

func pause(ctx context.Context) error {
	select {
	case <-time.After(refusedPause):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitNode returns when a node is connected again. When its lease has run out
// instead, the error is NotFound.
func (a *Activities) awaitNode(ctx context.Context, node warpket.ID) error {
	news := a.Hub.Watch(node)
	defer news.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := warpket.Errorf(warpket.NotFound, "node %s is silent", node)
	check := func() error {
		gone, _, err := a.Store.SilentNode(ctx, node)
		if err == nil && gone {
			return silent
		}
		return err
	}
	if _, up := a.Nodes.Boot(node); up {
		return nil
	}
	if err := check(); err != nil {
		return err
	}
	go func() {
		late := time.NewTicker(warpket.Lease) // news can be missed while this server listens anew
		defer late.Stop()
		for {
			select {
			case <-news.C:
			case <-late.C:
			case <-ctx.Done():
				return
			}
			if err := check(); err != nil {
				cancel(err)
				return
			}
		}
	}()
	if err := a.Nodes.Connected(ctx, node); err != nil {
		return context.Cause(ctx)
	}
	return nil
}

// finish records an outcome and gives the slot to whoever waits for it. It
// reports whether the execution is final by it, and not to be tried again.
func (a *Activities) finish(ctx context.Context, e warpket.Execution, out *wire.Outcome, claimed time.Time) (final bool, err error) {
	arrived := time.Now()
	// What the node has done is to be recorded whatever becomes of this call.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	begun := a.Hub.Begun(e)
	f := postgres.Finish{
		ID: e.ID, Attempt: e.Attempt, Status: warpket.Status(out.GetStatus()), Error: channel.FailureOf(out),
		Result: payload(out.GetResult()), Log: payload(out.GetLog()), LogSize: out.GetLogSize(), NodeName: e.NodeName,
	}
	f.Again = e.Attempt <= e.Retries && !e.CancelAsked && (f.Status == warpket.Failed || f.Status == warpket.TimedOut)
	held := time.Duration(out.GetHeld())
	f.Timings = warpket.Timings{
		Queued:   max(0, claimed.Sub(begun)),
		Placed:   max(0, arrived.Sub(claimed)-held) + time.Duration(out.GetAdmitted()),
		Started:  time.Duration(out.GetStarted()),
		Ran:      time.Duration(out.GetRan()),
		Recorded: time.Since(arrived),
		Total:    time.Since(begun),
	}
	slot, ok := a.Nodes.Slot(e.SlotID)
	if ok && slot.Generation == e.Generation {
		f.FreeSlot = warpket.Slot{
			ID: slot.ID, NodeID: slot.NodeID, SnapshotID: slot.SnapshotID, Generation: slot.Generation, Revision: slot.Revision, Reason: "its worker had become free",
			Resources: warpket.Resources{CPU: slot.CPU, Memory: slot.Memory},
		}
	}
	return a.record(ctx, e, f)
}

// lost records that an execution had started and that its outcome cannot be
// known. It reports whether the execution is final by it.
func (a *Activities) lost(ctx context.Context, e warpket.Execution, why string) (final bool, err error) {
	begun := a.Hub.Begun(e)
	o := warpket.FailedWith(warpket.LostCode, "it may have run, but its outcome is lost: "+why, "")
	f := postgres.Finish{ID: e.ID, Attempt: e.Attempt, Status: o.Status, Error: o.Failure, Timings: warpket.Timings{Total: time.Since(begun)}}
	f.Again = e.Attempt <= e.Retries && !e.CancelAsked
	return a.record(ctx, e, f)
}

func (a *Activities) record(ctx context.Context, e warpket.Execution, f postgres.Finish) (final bool, err error) {
	now := a.Now()
	finished, next, err := a.Store.FinishExecution(ctx, f, now)
	if err != nil {
		return false, err
	}
	if next != nil {
		a.wake(ctx, next.ID, next.ServerID)
	}
	if next == nil || next.ServerID != a.ServerID { // else it stays held, for that one
		a.Nodes.Free(e.SlotID, e.Generation)
	}
	a.Nodes.Ack(e.NodeID, e.ID, e.Attempt)
	a.sent.Delete(attempt{e.ID, e.Attempt})
	if finished {
		e.Status, e.Result, e.Error, e.Log, e.LogSize, e.Timings, e.FinishedDate = f.Status, f.Result, f.Error, f.Log, f.LogSize, f.Timings, &now
		a.Hub.Finished(e)
	} else if f.Again {
		a.Hub.ResetLog(e.ID)
	}
	return finished || !f.Again, nil
}

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
	_, err = a.drive(ctx, e, false)
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
		a.Hub.Finished(e)
		if e.ServerID != "" {
			a.wake(ctx, id, e.ServerID)
		}
		return e, nil
	}
	err = a.Nodes.Cancel(ctx, e.NodeID, id, e.Attempt)
	if errors.Is(err, channel.ErrNotConnected) || errors.Is(err, channel.ErrBroken) || warpket.KindOf(err) == warpket.NotFound {
		return e, nil // its activity asks again when the node is back
	}
	return e, err
}

func payload(p *wire.Payload) warpket.Payload {
	return warpket.Payload{Inline: p.GetInline(), SHA256: p.GetSha256(), Size: p.GetSize()}
}
