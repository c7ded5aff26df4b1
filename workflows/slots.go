package workflows

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/accelerators/placement"
	"github.com/warpket/warpket/channel"
	"github.com/warpket/warpket/channel/wire"
	"github.com/warpket/warpket/storage/blob"
	"github.com/warpket/warpket/storage/postgres"
)

// urlLife is how long a node may use the URLs that it gets with a call.
const urlLife = 15 * time.Minute

// prepare has the slot's node put a worker into it and lists it as serving,
// with the revision that the slot then has.
func (a *Activities) prepare(ctx context.Context, slot *warpket.Slot, idle time.Duration, say func(string)) (*warpket.Failure, error) {
	var (
		snapshot      warpket.Snapshot
		configuration postgres.Configuration
		environment   map[string]string
		runtime       *wire.Runtime
	)
	reads, reading := errgroup.WithContext(ctx) // side by side: a first call waits for them
	reads.Go(func() (err error) {
		snapshot, err = a.Store.Snapshot(reading, slot.SnapshotID)
		return err
	})
	reads.Go(func() (err error) {
		if configuration, err = a.Store.Configuration(reading, slot.FunctionID); err == nil {
			environment, err = a.environment(reading, configuration)
		}
		return err
	})
	reads.Go(func() (err error) {
		_, runtime, err = a.runtime(reading, slot.RuntimeID)
		return err
	})
	if err := reads.Wait(); err != nil {
		return nil, err
	}
	function := configuration.Function
	resources, err := json.Marshal(slot.Resources)
	if err != nil {
		return nil, err
	}
	in := &wire.Prepare{
		Slot: string(slot.ID), Generation: slot.Generation, Snapshot: string(slot.SnapshotID), Digest: snapshot.Digest,
		Runtime: runtime, Entry: snapshot.Entry, Cpu: int32(slot.Resources.CPU), Memory: slot.Resources.Memory, Devices: slot.Devices, //nolint:gosec // bounded by Resources.Check
		Resources: resources,
		Reuse:     string(function.Settings.Reuse), FunctionId: string(function.ID), FunctionName: function.Name,
		Sdk: runtime.GetSdk(), SdkVersion: runtime.GetSdkVersion(), Idle: int64(idle), Project: string(slot.ProjectID),
		Revision: int32(function.Revision), Environment: environment, Network: string(function.Settings.Network), //nolint:gosec // an integer in the database
	}
	if snapshot.Image != nil {
		var err error
		if in.Image, err = a.image(ctx, function.ProjectID, function.Settings.Credentials, *snapshot.Image); err != nil {
			return nil, err
		}
	}
	if in.Files, err = a.filesOf(ctx, snapshot); err != nil {
		return nil, err
	}
	if err := a.addBuild(ctx, *slot, in, say); err != nil {
		return nil, err
	}
	revision, failure, err := a.Nodes.Prepare(ctx, slot.NodeID, in, say)
	if err != nil {
		return nil, fmt.Errorf("preparing slot %s: %w", slot.ID, err)
	}
	slot.Revision = revision
	return failure, a.Store.SlotIsReady(ctx, slot.ID, slot.Generation, revision)
}

// addBuild adds what was compiled of a snapshot. Only a slot with GPUs gets the
// program; others are for the compiler.
func (a *Activities) addBuild(ctx context.Context, slot warpket.Slot, in *wire.Prepare, say func(string)) (err error) {
	if in.GetRuntime().GetCompiler() == "" {
		return nil
	}
	if len(slot.Devices) == 0 {
		in.Architectures, err = a.architectures(ctx)
		return err
	}
	b, err := a.ensureBuild(ctx, slot.ProjectID, slot.SnapshotID, slot.RuntimeID, say)
	if err != nil {
		return err
	}
	in.Architectures, in.Binary = b.Architectures, &wire.File{Path: "program", Sha256: b.SHA256, Size: b.Size}
	in.Binary.Url, err = a.Blobs.GetURL(ctx, slot.ProjectID, b.SHA256, urlLife)
	return err
}

// image says to a node what to pull, with what the registry asks for: the
// value of the project's secret that credentials names, if any.
func (a *Activities) image(ctx context.Context, project warpket.ID, credentials string, i warpket.Image) (*wire.Image, error) {
	out := &wire.Image{Reference: i.Pinned, Command: i.Command}
	if credentials == "" {
		return out, nil
	}
	sealed, err := a.Store.SealedSecret(ctx, project, credentials)
	if warpket.KindOf(err) == warpket.NotFound {
		return nil, warpket.Errorf(warpket.Invalid, "the project has no secret %s any more, which is the credentials for the image: name another", credentials)
	}
	if err != nil {
		return nil, err
	}
	auth, err := a.Secrets.RegistryAuth(ctx, project, credentials, sealed)
	if err != nil {
		return nil, err
	}
	out.Auth = &wire.RegistryAuth{User: auth.User, Password: auth.Password, Token: auth.Token}
	return out, nil
}

// environment is what a worker finds in its environment variables. Here, and in
// image, secrets are in the clear; the node channel takes them on.
func (a *Activities) environment(ctx context.Context, c postgres.Configuration) (map[string]string, error) {
	f := c.Function
	if f.Settings.Network == warpket.Egress && !c.AllowEgress {
		return nil, warpket.Errorf(warpket.Denied, "the project of function %s may no longer reach the network: ask an operator to allow it, or set the function's network to none", f.Name)
	}
	environment := maps.Clone(c.Variables)
	if len(c.Secrets) == 0 {
		return environment, nil
	}
	key, err := a.Secrets.Key(ctx, f.ProjectID)
	if err != nil {
		return nil, err
	}
	for _, s := range c.Secrets {
		if environment[s.Variable], err = key.Open(s.Secret, s.Ciphertext); err != nil {
			return nil, err
		}
	}
	return environment, nil
}

// wake tells all servers that an execution has changed.
func (a *Activities) wake(ctx context.Context, id warpket.ID) {
	a.Hub.Changed(id)
	if err := a.Store.WakeElsewhere(ctx, id); err != nil {
		a.Log.Warn("other servers not told of an execution; they find out when they look again", "execution", id, "error", err)
	}
}

// serve lists a slot that has just become ready, for the execution that has
// waited longest for one.
func (a *Activities) serve(slot warpket.Slot, node string) {
	a.Nodes.ReadySlot(channel.Ready{ID: slot.ID, NodeID: slot.NodeID, NodeName: node, SnapshotID: slot.SnapshotID, Generation: slot.Generation, Revision: slot.Revision, Resources: slot.Resources, Devices: slot.Devices})
}

// release ends a slot on its node and gives back what it held. A node that
// cannot be asked keeps the slot until it answers, see Fleet.Up.
func (a *Activities) release(ctx context.Context, slot warpket.Slot) error {
	err := a.Nodes.Release(ctx, slot.NodeID, slot.ID, slot.Generation, false)
	if err != nil && warpket.KindOf(err) != warpket.NotFound {
		return fmt.Errorf("releasing slot %s: %w", slot.ID, err)
	}
	return a.Store.ReleaseSlot(ctx, slot.ID, slot.Generation)
}

// provide makes a slot on demand for a snapshot, unless a deployment sees to its
// executions. Calls for the same share the work.
func (a *Activities) provide(ctx context.Context, e warpket.Execution) (made bool, err error) {
	out, err, _ := a.providing.Do(string(warpket.SharedWait(e.SnapshotID, e.Resources)), func() (any, error) {
		slots, err := a.Store.DeployedSlots(ctx, e.SnapshotID)
		if err != nil {
			return false, err
		}
		for _, slot := range slots {
			if slot.Status != warpket.SlotLost && slot.Resources.Cover(e.Resources) {
				return false, nil
			}
		}
		if err := a.ensureRuntime(ctx, e.RuntimeID); err != nil {
			return false, err
		}
		if e.Resources.GPUs > 0 { // before a slot is leased, for that takes a while
			if _, err := a.ensureBuild(ctx, e.ProjectID, e.SnapshotID, e.RuntimeID, func(string) {}); err != nil {
				return false, err
			}
		}
		err = a.provideSlot(ctx, e)
		return err == nil, err
	})
	return out.(bool), err //nolint:forcetypeassert // what the function gave
}

func (a *Activities) provideSlot(ctx context.Context, e warpket.Execution) error {
	runtime, err := a.Store.FunctionRuntime(ctx, e.FunctionID, e.RuntimeID)
	if err != nil {
		return err
	}
	slot := warpket.Slot{
		ID: warpket.NewID(a.Now()), ProjectID: e.ProjectID, FunctionID: e.FunctionID, SnapshotID: e.SnapshotID, RuntimeID: e.RuntimeID,
		Status: warpket.SlotPreparing, Resources: e.Resources, CreatedDate: a.Now(),
	}
	slot, node, err := a.lease(ctx, slot, runtime)
	for a.makeRoom(ctx, slot, runtime, err) {
		slot, node, err = a.lease(ctx, slot, runtime)
	}
	if err != nil {
		return err
	}
	shared := warpket.SharedWait(slot.SnapshotID, slot.Resources)
	if _, recorded := a.awaited.Load(shared); recorded {
		a.served(ctx, shared)
	}
	_, err = a.prepare(ctx, &slot, a.IdleSlot, func(string) {})
	if err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		return errors.Join(err, a.release(undo, slot))
	}
	a.serve(slot, node)
	return nil
}

// full reports whether a slot could not be leased for lack of room: in the
// fleet, or in its project's quota.
func full(err error) bool {
	k := warpket.KindOf(err)
	return k == warpket.NoCapacity || k == warpket.OverQuota
}

// makeRoom gives back a slot on demand that is idle, when that helps against a
// lack of room. It reports whether it did.
func (a *Activities) makeRoom(ctx context.Context, slot warpket.Slot, runtime warpket.Runtime, lack error) bool {
	switch warpket.KindOf(lack) {
	case warpket.NoCapacity:
		return a.evict(ctx, slot, runtime)
	case warpket.OverQuota:
		return a.evictOwn(ctx, slot.ProjectID)
	default:
		return false
	}
}

// evictOwn gives back a slot on demand of a project that is idle. It reports
// whether there was one.
func (a *Activities) evictOwn(ctx context.Context, project warpket.ID) bool {
	idle, err := a.idle(ctx)
	if err != nil {
		a.Log.Warn("no room made in a quota", "project", project, "error", err)
	}
	return slices.ContainsFunc(idle, func(slot warpket.Slot) bool { return slot.ProjectID == project && a.giveBack(ctx, slot) })
}

// idle gives the slots on demand that are idle, those that have been so longest
// first.
func (a *Activities) idle(ctx context.Context) ([]warpket.Slot, error) {
	generations := map[warpket.ID]int64{}
	var ids []warpket.ID
	for _, r := range a.Nodes.Idle() {
		generations[r.ID] = r.Generation
		ids = append(ids, r.ID)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	slots, err := a.Store.OnDemandSlots(ctx, ids)
	return slices.DeleteFunc(slots, func(s warpket.Slot) bool { return s.Generation != generations[s.ID] }), err
}

// giveBack gives back a slot if nothing runs in it. It reports whether it did.
func (a *Activities) giveBack(ctx context.Context, slot warpket.Slot) bool {
	if a.Nodes.Release(ctx, slot.NodeID, slot.ID, slot.Generation, true) != nil || a.Store.ReleaseSlot(ctx, slot.ID, slot.Generation) != nil {
		return false
	}
	a.places.changed(slot.NodeID)
	return true
}

// without is the fleet as it were if some slots were given back.
func without(fleet *placement.Fleet, slots []warpket.Slot) *placement.Fleet {
	fleet = fleet.Clone()
	for _, slot := range slots {
		fleet.Give(slot.NodeID, slot.Resources, slot.Devices)
	}
	return fleet
}

// offerIdle tells those who lack a slot of slots on demand that are idle, if the
// room of these would do for any of them.
func (a *Activities) offerIdle(ctx context.Context) error {
	if awaited, err := a.Store.Awaited(ctx, nil); err != nil || !awaited {
		return err
	}
	idle, err := a.idle(ctx)
	if err != nil || len(idle) == 0 {
		return err
	}
	waits, err := a.Store.Waits(ctx)
	if err != nil {
		return err
	}
	var room bool
	err = a.places.use(ctx, func(fleet *placement.Fleet) error {
		fleet = without(fleet, idle)
		room = slices.ContainsFunc(waits, func(w warpket.Wait) bool {
			_, fits := fleet.Try(placement.RequestOf(w.Need))
			return fits
		})
		return nil
	})
	if err == nil && !room { // in a quota, perhaps
		projects := make([]warpket.ID, len(idle))
		for i, slot := range idle {
			projects[i] = slot.ProjectID
		}
		room, err = a.Store.Awaited(ctx, projects)
	}
	if err != nil || !room {
		return err
	}
	return a.Store.TellOfRoom(ctx)
}

// evict gives back a slot on demand that is idle, the one that has been so
// longest, on a node where giving back such slots makes room for a slot. It
// reports whether there was one. If not, less urgent slots are to yield.
func (a *Activities) evict(ctx context.Context, need warpket.Slot, runtime warpket.Runtime) bool {
	idle, err := a.idle(ctx)
	var d placement.Decision
	var room bool
	if err == nil && len(idle) > 0 {
		err = a.places.use(ctx, func(fleet *placement.Fleet) error {
			d, room = without(fleet, idle).Try(placement.RequestOf(warpket.NeedOf(need.Resources, runtime)))
			return nil
		})
	}
	for _, slot := range idle {
		if room && slot.NodeID == d.NodeID && a.giveBack(ctx, slot) {
			return true
		}
	}
	if err == nil {
		err = a.preempt(ctx, need, runtime)
	}
	if err != nil && warpket.KindOf(err) != warpket.Conflict {
		a.Log.Warn("no room made for a slot; it waits for room", "slot", need.ID, "error", err)
	}
	return false
}

// inputOf puts an execution's input into a call: here, or as a URL when large.
func (a *Activities) inputOf(ctx context.Context, e warpket.Execution, run *wire.Run) (err error) {
	if e.Input.SHA256 == "" {
		run.Input = e.Input.Inline
		return nil
	}
	run.InputSha256 = e.Input.SHA256
	run.InputUrl, err = a.Blobs.GetURL(ctx, e.ProjectID, e.Input.SHA256, urlLife)
	return err
}

// upload gives a node the right to store bytes for an execution that it runs.
func (a *Activities) upload(ctx context.Context, e warpket.Execution, sha256 string, size int64) (blob.Upload, error) {
	if err := a.touch(ctx, e.ProjectID, sha256, size); err != nil {
		return blob.Upload{}, err
	}
	return a.Blobs.PutURL(ctx, e.ProjectID, sha256, size, urlLife)
}
