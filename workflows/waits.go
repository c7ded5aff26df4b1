package workflows

import (
	"context"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/accelerators/placement"
)

// lease places a slot and takes what it needs. When somebody takes the same
// place first, it places again. While others wait for room it takes its turn
// among them. Without room the slot's subject waits from then on, until
// served or abandoned is called for it.
func (a *Activities) lease(ctx context.Context, slot warpket.Slot, runtime warpket.Runtime) (warpket.Slot, string, error) {
	wait := a.waitOf(slot, runtime)
	request := placement.RequestOf(wait.Need)
	_, waited := a.awaited.Load(wait.SubjectID)
	for {
		var err error
		if request.Warm, request.Peers, err = a.Store.Neighbours(ctx, slot.RuntimeID, slot.DeploymentID); err != nil {
			return slot, "", err
		}
		d, err := a.turn(ctx, wait, request)
		if k := warpket.KindOf(err); k == warpket.NoCapacity {
			wait.Reason, wait.Decision = messageOf(err), &d.Why
			if err := a.await(ctx, wait); err != nil {
				return slot, "", err
			}
		}
		if err != nil {
			return slot, "", err
		}
		slot.NodeID, slot.Devices, slot.Reason, slot.Decision = d.NodeID, d.Devices, d.Reason, &d.Why
		leased, err := a.Store.LeaseSlot(ctx, slot)
		a.places.changed(d.NodeID)
		if warpket.KindOf(err) == warpket.Conflict {
			continue // the fleet has changed: every turn means that somebody else won
		}
		if warpket.KindOf(err) == warpket.OverQuota { // there is room, and others may have it
			a.endWait(ctx, wait.SubjectID, !waited)
		}
		return leased, d.NodeName, err
	}
}

// waitOf is what a slot is recorded as while it waits for room: as its
// deployment, or as the executions that share it on demand.
func (a *Activities) waitOf(slot warpket.Slot, runtime warpket.Runtime) warpket.Wait {
	w := warpket.Wait{SubjectID: slot.DeploymentID, ServerID: a.ServerID, Kind: warpket.DeploymentWaits, ProjectID: slot.ProjectID, Need: warpket.NeedOf(slot.Resources, runtime)}
	if slot.DeploymentID == "" {
		w.SubjectID, w.Kind = warpket.SharedWait(slot.SnapshotID, slot.Resources), warpket.SnapshotWaits
	}
	return w
}

// turn places a request in its turn. It is counted as taken in memory.
func (a *Activities) turn(ctx context.Context, wait warpket.Wait, request placement.Request) (placement.Decision, error) {
	contended, err := a.Store.Contended(ctx, wait.SubjectID)
	if err != nil {
		return placement.Decision{}, err
	}
	if !contended {
		return a.places.place(ctx, request, func(f *placement.Fleet) (placement.Decision, error) { return f.Place(request) })
	}
	waiters, err := a.waiters(ctx, wait, request)
	if err != nil {
		return placement.Decision{}, err
	}
	return a.places.place(ctx, request, func(f *placement.Fleet) (placement.Decision, error) {
		d, _, err := f.Turn(waiters, wait.SubjectID)
		return d, err
	})
}

// waiters are all that wait for room, and the one that is given, which is
// recorded, among them.
func (a *Activities) waiters(ctx context.Context, wait warpket.Wait, request placement.Request) ([]placement.Waiter, error) {
	recorded, err := a.Store.WaitOf(ctx, wait.SubjectID)
	if err == nil && recorded == nil {
		wait.Reason = "its turn"
		if err = a.await(ctx, wait); err != nil {
			return nil, err
		}
		recorded, err = a.Store.WaitOf(ctx, wait.SubjectID)
	}
	if err != nil {
		return nil, err
	}
	if recorded == nil { // this server is not listed: it has the last turn
		recorded = &wait
	}
	own := placement.WaiterOf(*recorded)
	own.Need = request
	waits, err := a.Store.Waits(ctx)
	all := []placement.Waiter{own}
	for _, w := range waits {
		if w.SubjectID != wait.SubjectID {
			all = append(all, placement.WaiterOf(w))
		}
	}
	return all, err
}

// await records that something waits for room.
func (a *Activities) await(ctx context.Context, wait warpket.Wait) error {
	a.awaited.Store(wait.SubjectID, true)
	if err := a.Store.Wait(ctx, wait); err != nil {
		return err
	}
	a.mu.Lock()
	wanted := wait.Kind == warpket.DeploymentWaits || a.wanting[wait.SubjectID] > 0
	a.mu.Unlock()
	if !wanted { // all executions that it was for have left meanwhile
		a.abandoned(ctx, wait.SubjectID)
	}
	return nil
}

// served ends the wait of a deployment or snapshot that has its slots.
func (a *Activities) served(ctx context.Context, subject warpket.ID) { a.endWait(ctx, subject, true) }

// abandoned ends a wait that has come to nothing: others get their turn.
func (a *Activities) abandoned(ctx context.Context, subject warpket.ID) {
	a.endWait(ctx, subject, false)
}

func (a *Activities) endWait(ctx context.Context, subject warpket.ID, served bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	a.awaited.Delete(subject)
	if err := a.Store.EndWait(ctx, subject, a.ServerID, served); err != nil {
		a.Log.Warn("something is still recorded as waiting for room; it is until this server ends or it waits again", "subject", subject, "error", err)
	}
}

// enter counts an execution that waits for a slot on demand; when the last of
// those that share a wait leaves, that is over here.
func (a *Activities) enter(shared warpket.ID) (leave func(context.Context)) {
	a.mu.Lock()
	a.wanting[shared]++
	a.mu.Unlock()
	return func(ctx context.Context) {
		a.mu.Lock()
		a.wanting[shared]--
		last := a.wanting[shared] == 0
		if last {
			delete(a.wanting, shared)
		}
		a.mu.Unlock()
		if _, recorded := a.awaited.Load(shared); last && recorded {
			a.abandoned(ctx, shared)
		}
	}
}

// preempt has slots of less urgent work end, for a slot that found no room. Each
// ends when what runs in it has ended, and the news of that room reach all who
// wait: this one, being the more urgent, is before those who lost it.
func (a *Activities) preempt(ctx context.Context, slot warpket.Slot, runtime warpket.Runtime) error {
	wait := a.waitOf(slot, runtime)
	under, err := a.Store.Yielding(ctx, wait.SubjectID)
	if err != nil || len(under) > 0 {
		return err // their room is on its way
	}
	recorded, err := a.Store.WaitOf(ctx, wait.SubjectID)
	if err != nil || recorded == nil {
		return err
	}
	own := placement.WaiterOf(*recorded)
	candidates, err := a.Store.SlotHolders(ctx, own.Project, own.Need.Resources.Priority, own.Rank)
	if err != nil || len(candidates) == 0 {
		return err
	}
	holders := make([]placement.Holder, len(candidates))
	slots := map[warpket.ID]warpket.Slot{}
	for i, c := range candidates {
		slots[c.Slot.ID] = c.Slot
		holders[i] = placement.Holder{
			Slot: c.Slot.ID, NodeID: c.Slot.NodeID, Held: c.Slot.Resources, Devices: c.Slot.Devices, Project: c.Slot.ProjectID,
			Rank: min(c.Slot.Resources.Priority, c.MaxPriority), OnDemand: c.Slot.DeploymentID == "",
		}
	}
	var victims []placement.Holder
	err = a.places.use(ctx, func(f *placement.Fleet) error {
		victims = f.Preempt(own, holders)
		return nil
	})
	if err != nil || len(victims) == 0 {
		return err
	}
	ids := make([]warpket.ID, len(victims))
	for i, v := range victims {
		ids[i] = v.Slot
	}
	if err := a.Store.Yield(ctx, ids, wait.SubjectID); err != nil {
		return err
	}
	for _, id := range ids {
		a.Log.Info("slot yields to something more urgent", "slot", id, "to", wait.SubjectID)
		a.endYielding(slots[id])
	}
	return nil
}

// endYielding ends a slot when what runs in it has ended, which may take hours.
func (a *Activities) endYielding(slot warpket.Slot) {
	if _, under := a.yielding.LoadOrStore(slot.ID, true); under {
		return
	}
	a.goOn(func(ctx context.Context) {
		defer a.yielding.Delete(slot.ID)
		err := a.Nodes.Release(ctx, slot.NodeID, slot.ID, slot.Generation, false)
		if err != nil && warpket.KindOf(err) != warpket.NotFound {
			if ctx.Err() == nil {
				a.Log.Warn("slot that yields not ended from here; it is tried again", "slot", slot.ID, "error", err)
			}
			return
		}
		if err := a.Store.SlotEnded(ctx, slot); err != nil {
			a.Log.Warn("slot that yields not given back; it is tried again", "slot", slot.ID, "error", err)
			return
		}
		if slot.DeploymentID != "" {
			if err := a.Client.Reconcile(ctx, slot.DeploymentID); err != nil {
				a.Log.Warn("deployment not told of its slots", "deployment", slot.DeploymentID, "error", err)
			}
		}
	})
}
