package workflows

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/channel"
	"github.com/warpket/warpket/live"
)

// turnWait is how long an execution whose slots are all busy waits in memory for
// its turn, before it costs Temporal an activity or Postgres a row that waits.
const turnWait = 250 * time.Millisecond

// maxWaiting is how many express executions of one project may wait in a server.
const maxWaiting = 1000

// Launch records an execution and begins it, if its project's quota has room
// for it: with a slot idle the record is its claim. held says that whoever asked
// waits for the end. Launching an ID again does nothing.
func (a *Activities) Launch(ctx context.Context, e warpket.Execution, held bool) error {
	e.ServerID = a.ServerID
	if err := a.admit(ctx, e); err != nil {
		return err
	}
	known, _ := a.Nodes.Serves(e.SnapshotID, e.Revision, e.Resources)
	slot, ok := a.Nodes.Reserve(e.ID, e.SnapshotID, e.Revision, e.Resources)
	waited := func() {}
	if !ok {
		if err := a.mayWait(e); err != nil {
			a.dropped(e)
			return err
		}
	}
	if !ok && e.Lane == warpket.Express {
		var err error
		if waited, err = a.wait(e.ProjectID); err != nil {
			a.dropped(e)
			return err
		}
		if known && held { // nobody knows of it yet, so it need not be recorded to wait a moment
			slot, ok = a.awaitTurn(ctx, e, nil)
		}
	}
	if ok {
		waited()
		a.placed(e)
		now := a.Now()
		e.Status, e.Attempt, e.StartedDate = warpket.Running, 1, &now
		e.SlotID, e.Generation, e.NodeID, e.NodeName, e.Reason = slot.ID, slot.Generation, slot.NodeID, slot.NodeName, whyThere
		e.Devices = slot.Devices
	}
	news := a.Hub.Watch(e.ID) // it may be cancelled from the insert on
	created, err := a.Store.CreateExecution(ctx, e)
	if err != nil {
		a.dropped(e)
	} else {
		a.recorded(e)
	}
	if err != nil || !created {
		news.Close()
		waited()
		if ok {
			a.Nodes.Free(slot.ID, slot.Generation, e.ID)
		}
		return err
	}
	if e.Lane == warpket.Express {
		a.goOn(func(ctx context.Context) {
			defer news.Close()
			a.seeExpress(ctx, e, news, waited)
		})
		return nil
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

const whyThere = "its worker was idle"

// wait counts an express execution that waits, until the function that it gives
// is called.
func (a *Activities) wait(project warpket.ID) (func(), error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting[project] >= maxWaiting {
		return nil, warpket.Errorf(warpket.OverQuota, "%d express executions of this project wait for a slot: try again in a moment, deploy more slots, or use the lane durable", maxWaiting)
	}
	a.waiting[project]++
	return sync.OnceFunc(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.waiting[project]--; a.waiting[project] == 0 {
			delete(a.waiting, project)
		}
	}), nil
}

// awaitTurn waits a moment for a slot. Without one there is news of the
// execution, or the moment is over.
func (a *Activities) awaitTurn(ctx context.Context, e warpket.Execution, news <-chan struct{}) (channel.Ready, bool) {
	turn := a.Nodes.Queue(e.ID, e.SnapshotID, e.Revision, e.Resources)
	defer turn.Close()
	late := time.NewTimer(turnWait)
	defer late.Stop()
	select {
	case slot := <-turn.C:
		return slot, true
	case <-news:
	case <-late.C:
	case <-ctx.Done():
	}
	return channel.Ready{}, false
}

// begin drives a durable execution that has a slot, or waits a moment for one,
// for as long as its workflow's first activity does; from then on another
// activity does.
func (a *Activities) begin(ctx context.Context, e warpket.Execution, news *live.Watch) {
	defer news.Close()
	ctx, cancel := context.WithTimeout(ctx, runWait)
	defer cancel()
	late := time.Now().Add(turnWait)
	for {
		var err error
		switch {
		case e.Status.Final():
			a.over(e)
			return
		case e.Status == warpket.Running:
			e, err = a.drive(ctx, e, e.ServerID == a.ServerID)
		default:
			slot, ok := a.awaitTurn(ctx, e, news.C)
			if ok {
				e, _, err = a.claim(ctx, e.ID, slot)
			} else if e, err = a.Store.ExecutionByID(ctx, e.ID); time.Now().After(late) && e.Status == warpket.Queued {
				return
			}
		}
		if err != nil {
			if !errors.Is(err, context.DeadlineExceeded) {
				a.Log.Warn("execution not driven; its workflow does", "execution", e.ID, "error", err)
			}
			a.freeLater(e)
			return
		}
	}
}

// freeLater frees the slot of an execution, which this server has sent to its
// node, when it is over: another may see it through from here on.
func (a *Activities) freeLater(e warpket.Execution) {
	if e.Status != warpket.Running {
		return
	}
	a.goOn(func(ctx context.Context) {
		defer a.Nodes.Free(e.SlotID, e.Generation, e.ID)
		news := a.Hub.Watch(e.ID)
		defer news.Close()
		if err := a.Store.WatchExecution(ctx, e.ID); err != nil {
			return // the node is the one to admit a call
		}
		for {
			now, err := a.Store.ExecutionByID(ctx, e.ID)
			if err != nil || now.Status != warpket.Running || now.Attempt != e.Attempt {
				return
			}
			select {
			case <-news.C:
			case <-ctx.Done():
				return
			}
		}
	})
}

// seeExpress sees an express execution through to its end, for as long as this
// server lives; then another takes it over.
func (a *Activities) seeExpress(ctx context.Context, e warpket.Execution, news *live.Watch, waited func()) {
	if _, driven := a.express.LoadOrStore(e.ID, true); driven {
		return
	}
	defer a.express.Delete(e.ID)
	defer waited()
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := a.see(ctx, e, news, waited)
		if err == nil || ctx.Err() != nil {
			return
		}
		a.Log.Warn("express execution not driven; trying again", "execution", e.ID, "error", err, "in", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		if now, err := a.reread(ctx, e); err == nil {
			e = now
		}
	}
}

// takeOver goes on with the express executions of servers that are gone, and
// with those of this server whose record it was not sure to have written.
func (a *Activities) takeOver(ctx context.Context) {
	for after := warpket.ID(""); ctx.Err() == nil; {
		taken, err := a.Store.TakeOver(ctx, a.ServerID, after)
		if err != nil {
			a.Log.Warn("express executions not taken over; trying again", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			continue
		}
		if len(taken) == 0 {
			return
		}
		for _, e := range taken {
			after = e.ID
			if _, driven := a.express.Load(e.ID); driven {
				continue
			}
			a.Log.Info("going on with an express execution of a server that is gone", "execution", e.ID, "status", e.Status)
			if e.Status == warpket.Running {
				at := e.CreatedDate
				if e.StartedDate != nil {
					at = *e.StartedDate
				}
				a.sent.Store(attempt{e.ID, e.Attempt}, sending{e.NodeID, at}) // that server may have sent it
			}
			a.goOn(func(ctx context.Context) {
				news := a.Hub.Watch(e.ID)
				defer news.Close()
				a.seeExpress(ctx, e, news, func() {})
			})
		}
	}
}

// goOn runs what outlives a request, but not this server.
func (a *Activities) goOn(run func(context.Context)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.life.Err() == nil {
		a.going.Go(func() { run(a.life) })
	}
}

// leave ends the driving of express executions: another server goes on with
// them.
func (a *Activities) leave() {
	a.mu.Lock()
	a.stop()
	a.mu.Unlock()
	a.going.Wait()
}
