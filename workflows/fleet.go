package workflows

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/live"
	"github.com/warpket/warpket/storage/postgres"
)

const capacityTopic = live.Capacity

// Fleet keeps the records true to what nodes say, and the workflows told.
type Fleet struct {
	Activities *Activities
	Server     postgres.Server // this one, as nodes reach it
	KeepAudit  time.Duration   // for how long the audit is kept; 0 for ever

	mu      sync.Mutex
	servers []string
	listed  map[warpket.ID]bool               // servers, as of the last look
	peers   map[warpket.ID]context.CancelFunc // connections to other servers
}

// Join spends a one-time token.
func (f *Fleet) Join(ctx context.Context, token warpket.ID, secret, name string) (warpket.ID, error) {
	now := f.Activities.Now()
	return f.Activities.Store.JoinNode(ctx, token, warpket.HashSecret(secret), warpket.Node{ID: warpket.NewID(now), Name: name, Boot: warpket.NewID(now), CreatedDate: now})
}

// Up records a node that has connected, and has the deployments reconciled
// whose slots it no longer has.
func (f *Fleet) Up(ctx context.Context, node, boot warpket.ID, inventory warpket.Inventory, held map[warpket.ID]int64) (string, map[warpket.ID]int64, error) {
	a := f.Activities
	over, deployments, err := a.Store.NodeIsUp(ctx, node, boot, inventory, held)
	if err != nil {
		return "", nil, err
	}
	n, err := a.Store.Node(ctx, node)
	if err != nil {
		return "", nil, err
	}
	mine, err := a.Store.NodeSlots(ctx, node)
	if err != nil {
		return "", nil, err
	}
	end := maps.Clone(held)
	for _, slot := range mine {
		if end[slot.ID] == slot.Generation {
			delete(end, slot.ID)
		}
	}
	for _, slot := range over {
		a.Nodes.GoneSlot(slot.ID, slot.Generation)
	}
	go f.reconcile(context.WithoutCancel(ctx), deployments)
	return n.Name, end, nil
}

// Recorded gives those of a node's executions whose outcome is recorded.
func (f *Fleet) Recorded(ctx context.Context, executions []warpket.ID) ([]warpket.ID, error) {
	return f.Activities.Store.FinalExecutions(ctx, executions)
}

// Renew extends a node's lease, notes what it keeps ready, and records what its
// devices do.
func (f *Fleet) Renew(ctx context.Context, node, boot warpket.ID, kept []warpket.KeptReady, loads map[string]warpket.Load) error {
	return f.Activities.Store.RenewNode(ctx, node, boot, kept, loads)
}

// Devices records that a device of a node has changed. All servers hear of it,
// and see to the slots that it has a fault for, see moveSlots.
func (f *Fleet) Devices(ctx context.Context, node, boot warpket.ID, devices []warpket.Device) error {
	return f.Activities.Store.NodeHas(ctx, node, boot, devices)
}

// SlotGone gives back what a slot held that its node has ended.
func (f *Fleet) SlotGone(ctx context.Context, node, id warpket.ID, generation int64) {
	a := f.Activities
	slot, err := a.Store.SlotByID(ctx, id)
	if err != nil || slot.NodeID != node || slot.Generation != generation {
		return
	}
	if err := a.Store.SlotEnded(ctx, slot); err != nil {
		a.Log.Warn("slot not given back; the sweeper does", "slot", id, "error", err)
		return
	}
	if slot.DeploymentID != "" {
		f.reconcile(ctx, []warpket.ID{slot.DeploymentID})
	}
}

// SlotIdle has those told who wait for room.
func (f *Fleet) SlotIdle() {
	select {
	case f.Activities.idled <- struct{}{}:
	default: // they are about to be
	}
}

// idlePause is how long is waited before those who wait for room are told again
// of slots that are idle: many become so in a moment.
const idlePause = 100 * time.Millisecond

// offerIdle tells those who wait for room whenever slots have become idle.
func (f *Fleet) offerIdle(ctx context.Context) {
	for {
		select {
		case <-f.Activities.idled:
		case <-ctx.Done():
			return
		}
		if err := f.Activities.offerIdle(ctx); err != nil && ctx.Err() == nil {
			f.Activities.Log.Warn("those who wait for room not told of idle slots; tried again", "error", err, "in", idlePause)
			f.SlotIdle()
		}
		select {
		case <-time.After(idlePause):
		case <-ctx.Done():
			return
		}
	}
}

// Upload lets a node store bytes for an execution that it runs, and no other.
func (f *Fleet) Upload(ctx context.Context, node, execution warpket.ID, sha256 string, size int64) (string, map[string]string, error) {
	e, err := f.Activities.Store.ExecutionByID(ctx, execution)
	if err != nil {
		return "", nil, err
	}
	if e.NodeID != node || e.Status.Final() || size > warpket.MaxResult {
		return "", nil, warpket.Errorf(warpket.Denied, "this node does not run execution %s", execution)
	}
	u, err := f.Activities.upload(ctx, e, sha256, size)
	return u.URL, u.Header, err
}

// Log passes on what a running execution has written, if this server has sent
// that attempt to that node, or follows its log.
func (f *Fleet) Log(node, execution warpket.ID, number int, offset int64, data []byte) {
	a := f.Activities
	sent, _ := a.sent.Load(attempt{execution, number})
	follows, _ := a.followed.Load(attempt{execution, number})
	s, _ := sent.(sending)
	if f, ok := follows.(*followedLog); s.node == node || ok && f.node == node {
		a.Hub.Append(execution, live.Place{Attempt: number, Offset: offset}, data)
	}
}

// followedLog is the log of an attempt that comes here, though another server
// drives it.
type followedLog struct {
	node warpket.ID
	over chan struct{} // closed when it does not any more
}

// FollowLog has the log of an execution that another server drives come here,
// too. It comes until the attempt ends, for a node goes on sending until then, so
// all who follow it here share it; FollowLog returns then, or when ctx ends.
func (f *Fleet) FollowLog(ctx context.Context, e warpket.Execution) {
	a := f.Activities
	if e.Status != warpket.Running || e.ServerID == a.ServerID {
		return
	}
	mine := &followedLog{e.NodeID, make(chan struct{})}
	there, _ := a.followed.LoadOrStore(attempt{e.ID, e.Attempt}, mine)
	shared, _ := there.(*followedLog)
	if shared == mine {
		a.goOn(func(ctx context.Context) { a.follow(ctx, e, mine) })
	}
	select {
	case <-shared.over:
	case <-ctx.Done():
	}
}

func (a *Activities) follow(ctx context.Context, e warpket.Execution, f *followedLog) {
	defer close(f.over)
	defer a.followed.Delete(attempt{e.ID, e.Attempt})
	news := a.Hub.Watch(e.ID) // by which what has come is kept
	defer news.Close()
	if err := a.Nodes.Attach(ctx, e.NodeID, e.ID, e.Attempt); err != nil && ctx.Err() == nil {
		a.Log.Info("log of an execution elsewhere not followed; it is to be had at its end", "execution", e.ID, "cause", err)
	}
}

// Servers are the addresses that nodes connect to.
func (f *Fleet) Servers() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.servers
}

func (f *Fleet) reconcile(ctx context.Context, deployments []warpket.ID) {
	for _, id := range deployments {
		if err := f.Activities.Client.Reconcile(ctx, id); err != nil {
			f.Activities.Log.Warn("deployment not told of its slots", "deployment", id, "error", err)
		}
	}
}

// ReleaseAll ends what a deleted function has left on nodes and in workflows.
// What cannot be ended now, the sweeper ends.
func (f *Fleet) ReleaseAll(ctx context.Context, project warpket.ID, left postgres.Deleted) {
	a := f.Activities
	var g errgroup.Group
	g.SetLimit(atATime)
	for _, id := range left.Executions {
		g.Go(func() error {
			if _, err := a.CancelExecution(ctx, project, id); err != nil {
				a.Log.Warn("execution of a deleted function not cancelled", "execution", id, "error", err)
			}
			return nil
		})
	}
	_ = g.Wait() // what went wrong is logged
	for _, slot := range left.Slots {
		g.Go(func() error {
			if err := a.release(ctx, slot); err != nil {
				a.Log.Warn("slot of a deleted function not released; the sweeper does", "slot", slot.ID, "error", err)
			}
			return nil
		})
	}
	_ = g.Wait()
	f.reconcile(ctx, left.Deployments)
}

// Run keeps this server listed, watches over nodes' leases, passes on what
// other servers say, and sweeps up after processes that died, until ctx ends.
func (f *Fleet) Run(ctx context.Context) error {
	defer f.Activities.leave()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { f.listen(ctx) })
	wg.Go(func() { f.offerIdle(ctx) })
	every := func(interval time.Duration, what string, do func(context.Context) error) {
		wg.Go(func() { repeat(ctx, f.Activities.Log, interval, what, do) })
	}
	every(warpket.Lease/3, "keeping this server listed", f.keepListed)
	every(warpket.Lease/5, "watching nodes", f.watchNodes)
	every(5*time.Second, "keeping promises", f.keepPromises)
	every(30*time.Second, "releasing orphaned slots", f.releaseOrphans)
	every(30*time.Second, "ending outdated slots", f.endOutdated)
	every(15*time.Second, "counting executions", f.countExecutions)
	every(warpket.CatchUp, "firing overdue schedules", f.Activities.fireOverdue)
	every(usageInterval, "counting usage", f.countUsage)
	every(purgeInterval, "taking deleted projects apart", f.purgeProjects)
	every(30*time.Second, "ending slots that yield", f.endYielding)
	every(time.Hour, "housekeeping", f.housekeep)
	return f.resume(ctx)
}

// repeat does something at once and then again and again.
func repeat(ctx context.Context, log *slog.Logger, interval time.Duration, what string, do func(context.Context) error) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			log.Warn(what+" failed; tried again", "error", err, "in", interval)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// listen passes on what any server has committed.
func (f *Fleet) listen(ctx context.Context) {
	a := f.Activities
	freed := once(func() {
		a.Hub.Changed(capacityTopic)
		ids, err := a.Store.UnsettledDeployments(ctx)
		if err == nil {
			f.reconcile(ctx, ids)
		}
	})
	purge := once(func() {
		if err := f.purgeProjects(ctx); err != nil {
			a.Log.Warn("deleted project not taken apart; the sweeper does", "error", err)
		}
	})
	for ctx.Err() == nil {
		err := a.Store.Listen(ctx, func() { a.places.listening(true); a.Hub.AllChanged(); freed() }, func(topic postgres.Topic, id warpket.ID) {
			switch topic {
			case postgres.CapacityFreed:
				if id != postgres.NoNode {
					a.places.changed(id)
				}
				freed()
				return
			case postgres.FunctionRevised:
				go f.revised(ctx, id)
				return
			case postgres.ProjectDeleted:
				purge()
				return
			case postgres.NodeChanged:
				a.places.changed(id)
				go f.moveSlots(ctx, id)
			default:
			}
			a.Hub.Changed(id)
		})
		a.places.listening(false)
		if ctx.Err() == nil {
			a.Log.Warn("not hearing from other servers; listening again", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(500 * time.Millisecond):
			}
		}
	}
}

// revised has the slots of a function replaced whose configuration has
// changed. Every server does so: a node may be connected to one of them only.
func (f *Fleet) revised(ctx context.Context, function warpket.ID) {
	a := f.Activities
	ids, err := a.Store.FunctionDeployments(ctx, function)
	if err != nil {
		a.Log.Warn("deployments not told of their function's configuration; they are when capacity is freed", "function", function, "error", err)
	}
	f.reconcile(ctx, ids)
	slots, err := a.Store.OutdatedSlots(ctx, function)
	if err != nil {
		a.Log.Warn("slots of an earlier revision not ended; the sweeper does", "function", function, "error", err)
	}
	f.releaseWhenIdle(ctx, slots)
}

// moveSlots has slots given back that have to leave a node: it is drained, or a
// device of theirs has a fault. Deployments get others elsewhere first, if there
// is room. Every server does so: the node may be connected to one of them only.
func (f *Fleet) moveSlots(ctx context.Context, node warpket.ID) {
	slots, err := f.Activities.Store.LeavingSlots(ctx, node)
	if err != nil {
		f.Activities.Log.Warn("slots that have to leave not ended; the sweeper does", "node", node, "error", err)
		return
	}
	var onDemand []warpket.Slot
	var deployments []warpket.ID
	for _, slot := range slots {
		switch {
		case slot.DeploymentID == "":
			onDemand = append(onDemand, slot)
		case !slices.Contains(deployments, slot.DeploymentID):
			deployments = append(deployments, slot.DeploymentID)
		}
	}
	f.reconcile(ctx, deployments)
	f.releaseWhenIdle(ctx, onDemand)
}

// releaseWhenIdle has slots end when what runs in them has ended, which may take
// hours.
func (f *Fleet) releaseWhenIdle(ctx context.Context, slots []warpket.Slot) {
	for _, slot := range slots {
		go func() {
			if err := f.Activities.release(ctx, slot); err != nil {
				f.Activities.Log.Debug("slot not ended from here", "slot", slot.ID, "error", err)
			}
		}()
	}
}

// Fence releases what a silent node holds, on an operator's word.
func (f *Fleet) Fence(ctx context.Context, node warpket.ID) (warpket.Node, error) {
	n, deployments, err := f.Activities.Store.FenceNode(ctx, node, f.Activities.Now())
	if err != nil {
		return n, err
	}
	f.Activities.Log.Warn("node is fenced: an operator says that its machine is off", "node", n.Name, "id", node)
	f.reconcile(ctx, deployments)
	return n, nil
}

// endOutdated ends idle slots on demand of earlier revisions.
func (f *Fleet) endOutdated(ctx context.Context) error {
	a := f.Activities
	slots, err := a.Store.OutdatedSlots(ctx, "")
	if err != nil {
		return err
	}
	for _, slot := range slots {
		if a.Nodes.Release(ctx, slot.NodeID, slot.ID, slot.Generation, true) != nil {
			continue // it is busy, or another server's
		}
		if err := a.Store.ReleaseSlot(ctx, slot.ID, slot.Generation); err != nil {
			return err
		}
	}
	return nil
}

// countExecutions adds the executions of a while ago to the counts of their
// functions.
func (f *Fleet) countExecutions(ctx context.Context) error {
	for more := true; more; {
		var err error
		if more, err = f.Activities.Store.CountExecutions(ctx); err != nil {
			return err
		}
	}
	return nil
}

// endYielding goes on ending slots that yield to something more urgent, when the
// server that had begun to is gone or could not; and forgets what such servers
// have waited for.
func (f *Fleet) endYielding(ctx context.Context) error {
	if err := f.Activities.Store.SweepWaits(ctx); err != nil {
		return err
	}
	slots, err := f.Activities.Store.Yielding(ctx, "")
	for _, slot := range slots {
		if _, up := f.Activities.Nodes.Boot(slot.NodeID); up {
			f.Activities.endYielding(slot)
		}
	}
	return err
}

func (f *Fleet) keepListed(ctx context.Context) error {
	list, err := f.Activities.Store.RenewServer(ctx, f.Server)
	if err != nil {
		return err
	}
	servers, listed := make([]string, len(list)), map[warpket.ID]bool{}
	for i, s := range list {
		servers[i], listed[s.ID] = s.Channel, true
	}
	f.mu.Lock()
	gone := f.listed == nil
	for id := range f.listed {
		gone = gone || !listed[id]
	}
	f.servers, f.listed = servers, listed
	f.mu.Unlock()
	f.keepPeers(list) //nolint:contextcheck // a connection outlives the look at the list
	if gone {
		f.Activities.takeOverSoon()
	}
	return nil
}

// keepPeers keeps a connection to each other server: for calls to nodes that are
// not connected here.
func (f *Fleet) keepPeers(list []postgres.Server) {
	a := f.Activities
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.peers == nil {
		f.peers = map[warpket.ID]context.CancelFunc{}
	}
	for _, s := range list {
		if f.peers[s.ID] != nil || s.ID == f.Server.ID || s.Peer == "" {
			continue
		}
		ctx, cancel := context.WithCancel(a.life)
		f.peers[s.ID] = cancel
		a.goOn(func(context.Context) { a.Nodes.KeepPeer(ctx, s.Peer) })
	}
	for id, cancel := range f.peers {
		if !f.listed[id] {
			cancel()
			delete(f.peers, id)
		}
	}
}

func (f *Fleet) watchNodes(ctx context.Context) error {
	nodes, deployments, err := f.Activities.Store.LoseSilentNodes(ctx)
	for _, id := range nodes {
		f.Activities.Log.Warn("node is lost: its lease has run out", "node", id)
	}
	f.reconcile(ctx, deployments)
	return err
}

// keepPromises starts workflows that a server promised and did not start.
func (f *Fleet) keepPromises(ctx context.Context) error {
	promises, err := f.Activities.Store.Overdue(ctx)
	if err != nil {
		return err
	}
	var never error // one that cannot be kept does not hold up the others
	for _, p := range promises {
		if err := f.keep(ctx, p); warpket.KindOf(err).Retryable() {
			return err
		} else if err != nil {
			never = errors.Join(never, err)
		}
	}
	return never
}

func (f *Fleet) keep(ctx context.Context, p postgres.Promise) error {
	a := f.Activities
	var err error
	switch p.Kind {
	case "deploy":
		err = f.startDeployment(ctx, p.SubjectID)
	case "build":
		err = f.startRuntime(ctx, p.SubjectID)
	case "schedule":
		return a.mirrorSchedule(ctx, p.SubjectID)
	case "callback":
		if err = a.startCallback(ctx, p.SubjectID); err == nil {
			return a.Store.PutOff(ctx, p) // kept when it is delivered
		}
	default:
		err = f.startExecution(ctx, p.SubjectID)
	}
	if err != nil && warpket.KindOf(err) != warpket.NotFound {
		return err
	}
	return a.Store.Kept(ctx, p)
}

func (f *Fleet) startDeployment(ctx context.Context, id warpket.ID) error {
	d, err := f.Activities.Store.DeploymentByID(ctx, id)
	if err != nil || d.Status.Final() {
		return err
	}
	return f.Activities.Client.StartDeployment(ctx, d)
}

func (f *Fleet) startRuntime(ctx context.Context, id warpket.ID) error {
	r, err := f.Activities.Store.Runtime(ctx, id)
	if err != nil || r.Status.Settled() {
		return err
	}
	return f.Activities.Client.StartRuntime(ctx, r)
}

func (f *Fleet) startExecution(ctx context.Context, id warpket.ID) error {
	e, err := f.Activities.Store.ExecutionByID(ctx, id)
	if err != nil || e.Status.Final() {
		return err
	}
	return f.Activities.Client.startExecution(ctx, e, false)
}

// resume makes sure, now and then, that all open work has a workflow, also when
// Temporal was wiped.
func (f *Fleet) resume(ctx context.Context) error {
	for ctx.Err() == nil {
		wait := 5 * time.Minute
		if err := f.resumeAll(ctx); err != nil {
			wait = 2 * time.Second
			f.Activities.Log.Warn("open work not resumed; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

func (f *Fleet) resumeAll(ctx context.Context) error {
	f.Activities.takeOverSoon()
	deployments, err := f.Activities.Store.OpenDeployments(ctx)
	if err != nil {
		return err
	}
	for _, id := range deployments {
		if err := f.startDeployment(ctx, id); err != nil && warpket.KindOf(err) != warpket.NotFound {
			return err
		}
	}
	awaited, err := f.Activities.Store.AwaitedRuntimes(ctx)
	if err != nil {
		return err
	}
	for _, id := range awaited {
		if err := f.startRuntime(ctx, id); err != nil && warpket.KindOf(err) != warpket.NotFound {
			return err
		}
	}
	if err := f.Activities.resumeSchedules(ctx); err != nil {
		return err
	}
	for after := warpket.ID(""); ; {
		open, err := f.Activities.Store.OpenExecutions(ctx, after)
		if err != nil || len(open) == 0 {
			return err
		}
		for _, id := range open {
			if err := f.startExecution(ctx, id); err != nil {
				return err
			}
			after = id
		}
	}
}

// releaseOrphans ends slots that a process which died was to end.
func (f *Fleet) releaseOrphans(ctx context.Context) error {
	slots, err := f.Activities.Store.OrphanSlots(ctx)
	if err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(atATime)
	for _, slot := range slots {
		if _, up := f.Activities.Nodes.Boot(slot.NodeID); !up {
			continue // Up releases it when the node comes
		}
		g.Go(func() error { // one whose code still runs holds up no other, and not the next round
			ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
			defer cancel()
			return f.Activities.release(ctx, slot)
		})
	}
	return g.Wait()
}

// atATime is how many things are ended side by side.
const atATime = 16

// housekeep makes next month's partitions and drops what is no longer needed.
func (f *Fleet) housekeep(ctx context.Context) error {
	a := f.Activities
	if err := a.Store.ExtendPartitions(ctx); err != nil {
		return err
	}
	if err := a.Store.ForgetRequests(ctx); err != nil {
		return err
	}
	for n := -1; n != 0; {
		var err error
		if n, err = a.Store.SweepSnapshots(ctx, a.Now().Add(-24*time.Hour)); err != nil {
			return err
		}
	}
	if a.Retention > 0 {
		if err := a.Store.DropExecutions(ctx, a.Now().Add(-a.Retention)); err != nil {
			a.Log.Warn("executions beyond their retention not dropped; tried again", "error", err, "in", time.Hour)
		}
	}
	if err := f.forgetActs(ctx); err != nil {
		return err
	}
	for {
		n, err := a.Store.SweepObjects(ctx, a.Now().Add(-24*time.Hour), func(ctx context.Context, o postgres.Object) error {
			return a.Blobs.Remove(ctx, o.ProjectID, o.SHA256)
		})
		if err != nil || n == 0 {
			return err
		}
		a.Log.Info("swept unreferenced objects", "objects", n)
	}
}

func (a *Activities) touch(ctx context.Context, project warpket.ID, sha256 string, size int64) error {
	return a.Store.TouchOutcome(ctx, postgres.Object{ProjectID: project, SHA256: sha256, Size: size}, a.Now())
}
