package postgres_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

func (w *world) addDeployment(f warpket.Function, v warpket.Version) warpket.Deployment {
	w.t.Helper()
	d := warpket.Deployment{
		ID: newID(), ProjectID: f.ProjectID, FunctionID: f.ID, VersionNumber: v.Number, SnapshotID: v.Snapshot.ID, RuntimeID: v.Snapshot.RuntimeID,
		Slots: 1, Resources: warpket.DefaultResources, Status: warpket.DeploymentPending, CreatedDate: now(),
	}
	w.must(w.CreateDeployment(w.t.Context(), d))
	return d
}

func TestADeploymentTellsWhereItsSlotsAre(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	d := w.addDeployment(f, v)
	w.must(w.CreateDeployment(t.Context(), d)) // again does nothing
	slot := newSlot(w.addNode("n", inventory(4, 4, "gpu")), v, "gpu")
	slot.DeploymentID = d.ID
	slot = w.lease(slot)
	second := newSlot(warpket.Node{ID: slot.NodeID}, v)
	second.DeploymentID = d.ID
	second = w.lease(second)
	w.must(w.SlotIsReady(t.Context(), slot.ID, slot.Generation, 0))

	got, err := w.Deployment(t.Context(), w.project, d.ID)
	w.must(err)
	d.FunctionName, d.Ready, d.UpdatedDate = "bell", 1, d.CreatedDate
	d.Placement = []warpket.SlotPlace{
		{Slot: slot.ID, Node: "n", Status: warpket.SlotReady, Devices: []string{"gpu"}, Reason: slot.Reason},
		{Slot: second.ID, Node: "n", Status: warpket.SlotPreparing, Devices: []string{}, Reason: second.Reason},
	}
	slices.SortFunc(d.Placement, func(a, b warpket.SlotPlace) int { return cmpID(a.Slot, b.Slot) })
	if diff := cmp.Diff(d, got); diff != "" {
		t.Error(diff)
	}
	list, _, err := w.Deployments(t.Context(), w.project, postgres.DeploymentFilter{FunctionID: f.ID, Status: warpket.DeploymentPending}, postgres.Page{Limit: 5})
	w.must(err)
	if diff := cmp.Diff([]warpket.Deployment{d}, list); diff != "" {
		t.Error(diff)
	}
	if list, _, err := w.Deployments(t.Context(), w.project, postgres.DeploymentFilter{Status: warpket.DeploymentReady}, postgres.Page{Limit: 5}); len(list) != 0 || err != nil {
		t.Errorf("ready are %v (%v)", list, err)
	}
}

func cmpID(a, b warpket.ID) int {
	if a < b {
		return -1
	}
	return 1
}

func TestADeploymentMovesByLegalStepsOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	d := w.addDeployment(f, v)
	wantKind(t, w.AdvanceDeployment(t.Context(), d.ID, warpket.DeploymentReady, "", now()), warpket.Conflict)
	w.must(w.AdvanceDeployment(t.Context(), d.ID, warpket.DeploymentPlacing, "looking", now()))
	w.must(w.ScaleDeployment(t.Context(), d.ID, 3, time.Time{}, now()))
	got, err := w.DeploymentByID(t.Context(), d.ID)
	w.must(err)
	if got.Status != warpket.DeploymentPlacing || got.Message != "looking" || got.Slots != 3 {
		t.Errorf("it is %+v", got)
	}
	for list, want := range map[string][]warpket.ID{"open": {d.ID}, "unsettled": {d.ID}} {
		if got := w.deploymentIDs(list); !slices.Equal(got, want) {
			t.Errorf("%s are %v", list, got)
		}
	}
	seen := got.UpdatedDate
	w.must(w.ScaleDeployment(t.Context(), d.ID, 2, seen, now()))
	wantKind(t, w.ScaleDeployment(t.Context(), d.ID, 1, seen, now()), warpket.Stale)
	w.must(w.ScaleDeployment(t.Context(), d.ID, 2, seen, now())) // as when its activity runs again
	// Of those who race, the final one stays.
	race(10, func(i int) {
		to := []warpket.DeploymentStatus{warpket.DeploymentReady, warpket.DeploymentDetached, warpket.DeploymentDegraded}[i%3]
		if k := warpket.KindOf(w.AdvanceDeployment(t.Context(), d.ID, to, "", now())); k != "" && k != warpket.Conflict {
			t.Errorf("got kind %q", k)
		}
	})
	if got, err := w.DeploymentByID(t.Context(), d.ID); err != nil || got.Status != warpket.DeploymentDetached {
		t.Errorf("it is %s (%v)", got.Status, err)
	}
	wantKind(t, w.ScaleDeployment(t.Context(), d.ID, 4, time.Time{}, now()), warpket.Conflict)
	wantKind(t, w.ScaleDeployment(t.Context(), newID(), 4, time.Time{}, now()), warpket.NotFound)
	if got := append(w.deploymentIDs("open"), w.deploymentIDs("unsettled")...); len(got) != 0 {
		t.Errorf("still listed: %v", got)
	}
}

func (w *world) deploymentIDs(list string) []warpket.ID {
	w.t.Helper()
	get := w.OpenDeployments
	if list == "unsettled" {
		get = w.UnsettledDeployments
	}
	ids, err := get(w.t.Context())
	w.must(err)
	return ids
}

func TestADeploymentThatHoldsSlotsIsNotDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	d := w.addDeployment(f, v)
	node := w.addNode("n", inventory(4, 4, "gpu"))
	slot := newSlot(node, v, "gpu")
	slot.DeploymentID = d.ID
	slot = w.lease(slot)
	wantKind(t, w.DeleteDeployment(t.Context(), w.project, d.ID), warpket.Conflict)
	w.must(w.AdvanceDeployment(t.Context(), d.ID, warpket.DeploymentDetached, "", now()))
	// Its node has not answered yet: the program may still run on the device.
	wantKind(t, w.DeleteDeployment(t.Context(), w.project, d.ID), warpket.Conflict)
	if _, err := w.LeaseSlot(t.Context(), newSlot(node, v, "gpu")); err == nil {
		t.Error("its device was given to another")
	}
	w.must(w.ReleaseSlot(t.Context(), slot.ID, slot.Generation))
	w.must(w.DeleteDeployment(t.Context(), w.project, d.ID))
	wantKind(t, w.DeleteDeployment(t.Context(), w.project, d.ID), warpket.NotFound)
	node, err := w.Node(t.Context(), node.ID)
	w.must(err)
	if node.CPULeased != 0 {
		t.Errorf("%d of the node's cores are still leased", node.CPULeased)
	}
}
