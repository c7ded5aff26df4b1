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

// see sees an execution through to its end: it waits for a slot, or has one
// made, and for the node's outcome. waited is called when it has a slot.
func (a *Activities) see(ctx context.Context, e warpket.Execution, news *live.Watch, waited func()) (err error) {
	for err == nil {
		switch {
		case e.Status.Final():
			a.over(e)
			return nil
		case e.Status == warpket.Queued:
			e, err = a.awaitSlot(ctx, e, news.C)
		default:
			waited()
			e, err = a.drive(ctx, e, e.ServerID == a.ServerID)
		}
	}
	return err
}

// over tells all who wait for an execution that it is final, and lets its node
// forget it: a server before this one may have died before it did.
func (a *Activities) over(e warpket.Execution) {
	a.sent.Delete(attempt{e.ID, e.Attempt})
	a.dropped(e)
	a.Hub.Finished(e)
	a.callBack(e)
	if e.NodeID != "" {
		a.Nodes.Ack(e.NodeID, e.ID, e.Attempt)
	}
}

// reread gives an execution as it is now. What is known of an express one is
// written again if a crash of Postgres has taken its row.
func (a *Activities) reread(ctx context.Context, e warpket.Execution) (warpket.Execution, error) {
	now, err := a.Store.ExecutionByID(ctx, e.ID)
	if warpket.KindOf(err) == warpket.NotFound && e.Lane == warpket.Express {
		if _, err = a.Store.CreateExecution(ctx, e); err == nil {
			now, err = a.Store.ExecutionByID(ctx, e.ID)
		}
	}
	if err != nil {
		return e, err
	}
	return now, nil
}

// claim takes the execution for a slot that was reserved, and frees the slot
// if it does not get it.
func (a *Activities) claim(ctx context.Context, id warpket.ID, slot channel.Ready) (warpket.Execution, bool, error) {
	e, claimed, err := a.Store.ClaimExecution(ctx, id, warpket.Slot{ID: slot.ID, NodeID: slot.NodeID, Generation: slot.Generation, Devices: slot.Devices, Reason: whyThere}, slot.NodeName, a.ServerID, a.Now())
	if err != nil || !claimed {
		a.Nodes.Free(slot.ID, slot.Generation, id)
	} else {
		a.placed(e)
		a.Hub.Changed(id)
	}
	return e, claimed, err
}

// awaitSlot waits until a queued execution has a slot or something else has
// become of it, and gives it as it is then. While a slot is made for it, another
// may come free.
func (a *Activities) awaitSlot(ctx context.Context, e warpket.Execution, news <-chan struct{}) (warpket.Execution, error) {
	turn := a.Nodes.Queue(e.ID, e.SnapshotID, e.Revision, e.Resources)
	defer turn.Close()
	leave := a.enter(warpket.SharedWait(e.SnapshotID, e.Resources))
	defer leave(ctx)
	capacity := a.Hub.Watch(capacityTopic)
	defer capacity.Close()
	told := ""
	for {
		select {
		case slot := <-turn.C:
			e, _, err := a.claim(ctx, e.ID, slot)
			return e, err
		default:
		}
		type provided struct {
			made bool
			err  error
		}
		result := make(chan provided, 1)
		go func() {
			// Shared with others that wait for the same, so it outlives this wait.
			made, err := a.provide(context.WithoutCancel(ctx), e)
			result <- provided{made, err}
		}()
		var room <-chan struct{} // looked for only while no slot is in the making
		for again := false; !again; {
			select {
			case slot := <-turn.C:
				e, _, err := a.claim(ctx, e.ID, slot)
				return e, err
			case p := <-result:
				if why := messageOf(p.err); full(p.err) && why != told {
					a.Log.Info("execution waits for room", "execution", e.ID, "function", e.FunctionID, "reason", why)
					told = why
				}
				switch over, err := a.unprovided(ctx, e, p.err); {
				case err != nil:
					return e, err
				case over:
					return a.reread(ctx, e)
				}
				again = p.made // for the oldest in the queue; if that is not this one, another is made
				room = capacity.C
			case <-room:
				again = true
			case <-news:
				return a.reread(ctx, e)
			case <-ctx.Done():
				return e, ctx.Err()
			}
		}
	}
}

// unprovided decides what becomes of an execution for which no slot could be
// made. It reports whether that is its end.
func (a *Activities) unprovided(ctx context.Context, e warpket.Execution, cause error) (over bool, err error) {
	switch warpket.KindOf(cause) {
	case "":
		return false, nil
	case warpket.NoCapacity, warpket.OverQuota:
		return false, nil
	case warpket.Invalid:
		if _, ok := errors.AsType[notCompiled](cause); ok {
			return true, a.refuse(ctx, e, warpket.FailedWith(warpket.BuildFailed, messageOf(cause), ""))
		}
		return true, a.refuse(ctx, e, warpket.FailedWith(warpket.NoRuntime, messageOf(cause), ""))
	case warpket.NotFound:
		return true, a.refuse(ctx, e, warpket.FailedWith(warpket.NotPrepared, "its function, or the code that it was to run, was deleted", ""))
	case warpket.Denied:
		return true, a.refuse(ctx, e, warpket.FailedWith(warpket.NotPrepared, messageOf(cause), ""))
	default:
		return false, cause
	}
}

// refuse makes an execution that never ran final.
func (a *Activities) refuse(ctx context.Context, e warpket.Execution, o warpket.Outcome) error {
	t := warpket.Timings{Queued: time.Since(a.Hub.Begun(e)), Total: time.Since(a.Hub.Begun(e))}
	finished, err := a.Store.FinishExecution(ctx, postgres.Finish{
		ID: e.ID, Lane: e.Lane, Attempt: e.Attempt, Status: o.Status, Error: o.Failure, Callback: e.Callback != nil, Timings: t,
	}, a.Now())
	if finished {
		a.Metrics.Executed(e.Lane, o.Status, t)
	}
	return err
}

// drive has the node run a claimed execution and records the outcome. fresh
// says that the attempt was claimed for this process. If it also is the first
// here to send it, a refusal proves that it has not started, and it is queued
// again. It gives the execution as it is then; when that is final, tell (over).
func (a *Activities) drive(ctx context.Context, e warpket.Execution, fresh bool) (warpket.Execution, error) {
	a.Nodes.Hold(e.SlotID, e.Generation, e.ID)
	run := &wire.Run{Execution: string(e.ID), Attempt: int32(e.Attempt), Slot: string(e.SlotID), Generation: e.Generation, //nolint:gosec // small
		Timeout: int64(e.Resources.Timeout), Shots: int32(e.Shots), Seed: e.Seed, Target: string(e.Target)} //nolint:gosec // bounded by the API
	if err := a.inputOf(ctx, e, run); err != nil {
		return e, err
	}
	if e.CancelAsked { // a node that has it ends it; one that gets it below does not start it
		_ = a.Nodes.Cancel(ctx, e.NodeID, e.ID, e.Attempt) // what is wrong with the node, Run finds too
	}
	this := attempt{e.ID, e.Attempt}
	first, again := a.sent.LoadOrStore(this, sending{e.NodeID, time.Now()})
	claimed := first.(sending).at //nolint:forcetypeassert // nothing else is in there
	if !fresh && !again && e.StartedDate != nil {
		claimed = *e.StartedDate // another process has sent it, or was about to
	}
	fresh = fresh && !again
	out, err := a.Nodes.Run(ctx, e.NodeID, run)
	_, refused := errors.AsType[channel.Refused](err)
	switch k := warpket.KindOf(err); {
	case err == nil:
		return a.finish(ctx, e, out, claimed, fresh)
	case fresh && (refused || errors.Is(err, channel.ErrNotConnected)):
		// It has not started.
		if k == warpket.NotFound {
			a.Nodes.GoneSlot(e.SlotID, e.Generation)
		}
		a.sent.Delete(this)
		o := warpket.FailedWith(warpket.CancelledCode, "it was cancelled before it started", "")
		err := a.Store.UnclaimExecution(ctx, e.ID, e.Attempt, e.Generation, *o.Failure)
		a.Nodes.Free(e.SlotID, e.Generation, e.ID)
		a.Hub.Changed(e.ID)
		if err := errors.Join(err, pause(ctx)); err != nil {
			return e, err
		}
	case refused && k == warpket.NotFound:
		return a.lost(ctx, e, "its node has come back without it")
	case refused: // the node is busy with another, or cannot get the input: ours has not started yet
		if err := pause(ctx); err != nil {
			return e, err
		}
	case errors.Is(err, channel.ErrNotConnected), errors.Is(err, channel.ErrBroken):
		if err := a.awaitNode(ctx, e.NodeID); warpket.KindOf(err) == warpket.NotFound {
			return a.lost(ctx, e, "its node has fallen silent")
		} else if err != nil {
			return e, err
		} // else the node is back: ask again
	default:
		return e, fmt.Errorf("running execution %s: %w", e.ID, err)
	}
	return a.reread(ctx, e)
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

// finish records an outcome, and gives the execution as it is then: final, or
// queued for another attempt. claimed is when it was first sent to its node, and
// first whether that call has brought the outcome.
func (a *Activities) finish(ctx context.Context, e warpket.Execution, out *wire.Outcome, claimed time.Time, first bool) (warpket.Execution, error) {
	arrived := time.Now()
	a.Nodes.Free(e.SlotID, e.Generation, e.ID)
	// What the node has done is to be recorded whatever becomes of this call.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	begun := a.Hub.Begun(e)
	f := postgres.Finish{
		Status: warpket.Status(out.GetStatus()), Error: channel.FailureOf(out),
		Result: payload(out.GetResult()), Log: payload(out.GetLog()), LogSize: out.GetLogSize(),
		Usage: warpket.Usage{CPU: time.Duration(out.GetCpu()), PeakMemory: out.GetPeakMemory(), GPUMemory: out.GetGpuMemory(), GPUJoules: out.GetGpuJoules(), GPUSeconds: out.GetGpuSeconds()}, Isolation: out.GetIsolation(),
	}
	f.Again = e.Attempt <= e.Retries && !e.CancelAsked && (f.Status == warpket.Failed || f.Status == warpket.TimedOut)
	started, ran, placed := time.Duration(out.GetStarted()), time.Duration(out.GetRan()), arrived.Sub(claimed)
	if first {
		placed -= time.Duration(out.GetHeld()) - time.Duration(out.GetAdmitted())
	} else { // the node has held only the last call
		placed -= started + ran
	}
	f.Timings = warpket.Timings{
		Queued:   max(0, claimed.Sub(begun)),
		Placed:   max(0, placed),
		Started:  started,
		Ran:      ran,
		Recorded: time.Since(arrived),
		Total:    time.Since(begun),
	}
	return a.record(ctx, e, f)
}

// lost records that an execution had started and that its outcome cannot be
// known.
func (a *Activities) lost(ctx context.Context, e warpket.Execution, why string) (warpket.Execution, error) {
	begun := a.Hub.Begun(e)
	o := warpket.FailedWith(warpket.LostCode, "it may have run, but its outcome is lost: "+why, "")
	f := postgres.Finish{Status: o.Status, Error: o.Failure, Timings: warpket.Timings{Total: time.Since(begun)}}
	f.Again = e.Attempt <= e.Retries && !e.CancelAsked
	a.Nodes.Free(e.SlotID, e.Generation, e.ID)
	return a.record(ctx, e, f)
}

func (a *Activities) record(ctx context.Context, e warpket.Execution, f postgres.Finish) (warpket.Execution, error) {
	now := a.Now()
	f.ID, f.Lane, f.Attempt, f.Callback = e.ID, e.Lane, e.Attempt, e.Callback != nil
	finished, err := a.Store.FinishExecution(ctx, f, now)
	if err == nil && !finished && e.Lane == warpket.Express {
		// A crash of Postgres may have taken its row: write it again.
		var created bool
		if created, err = a.Store.CreateExecution(ctx, e); created {
			finished, err = a.Store.FinishExecution(ctx, f, now)
		}
	}
	if err != nil {
		return e, err
	}
	if finished {
		a.Metrics.Executed(e.Lane, f.Status, f.Timings)
		e.Status, e.Result, e.Error, e.Log, e.LogSize, e.Timings, e.Usage, e.Isolation, e.FinishedDate = f.Status, f.Result, f.Error, f.Log, f.LogSize, f.Timings, f.Usage, f.Isolation, &now
		return e, nil
	}
	a.Nodes.Ack(e.NodeID, e.ID, e.Attempt)
	a.sent.Delete(attempt{e.ID, e.Attempt})
	return a.reread(ctx, e)
}

func payload(p *wire.Payload) warpket.Payload {
	return warpket.Payload{Inline: p.GetInline(), SHA256: p.GetSha256(), Size: p.GetSize()}
}
