package postgres_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// gpus is the inventory of a node with GPUs of a name and memory in GiB.
func gpus(name string, gib int64, ids ...string) warpket.Inventory {
	i := inventory(8, 8, ids...)
	for n := range i.Devices {
		i.Devices[n].Name, i.Devices[n].Memory = name, gib<<30
	}
	return i
}

func TestDevicesAreListedByWhatTheyAreAndWhoHoldsThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	old := w.addNode("old", gpus("A100", 40, "a1", "a2", "a3"))
	cut := gpus("H100", 80, "h1", "h2")
	cut.Devices[0].MIGEnabled = true
	cut.Devices[1].ParentID, cut.Devices[1].MIGProfile, cut.Devices[1].Memory = "h1", "1g.10gb", 10<<30
	cut.Devices = append(cut.Devices, warpket.Device{ID: "simulator", Kind: warpket.QuantumSimulator, Name: "local simulator", Memory: 64 << 30})
	young := w.addNode("young", cut)
	held := w.lease(newSlot(old, v, "a2"))

	yes, no := true, false
	tests := map[string]struct {
		filter postgres.DeviceFilter
		want   []string
	}{
		"all, those of the newest node first": {postgres.DeviceFilter{}, []string{"h1", "h2", "simulator", "a1", "a2", "a3"}},
		"of a kind":                           {postgres.DeviceFilter{Kind: warpket.QuantumSimulator}, []string{"simulator"}},
		"of a node":                           {postgres.DeviceFilter{NodeID: old.ID}, []string{"a1", "a2", "a3"}},
		"of a name":                           {postgres.DeviceFilter{Name: warpket.Condition{Op: warpket.Has, Values: []string{"100"}}, Kind: warpket.NVIDIA}, []string{"h1", "h2", "a1", "a2", "a3"}},
		"with so much memory":                 {postgres.DeviceFilter{Memory: warpket.Condition{Op: warpket.Gte, Values: []string{"68719476736"}}}, []string{"h1", "simulator"}},
		"free: not held, and not cut into slices":   {postgres.DeviceFilter{Free: &yes}, []string{"h2", "simulator", "a1", "a3"}},
		"not free: held, or leased by their slices": {postgres.DeviceFilter{Free: &no}, []string{"h1", "a2"}},
	}
	for name, tt := range tests {
		var got []string
		for cursor := ""; ; {
			page, next, err := w.Devices(t.Context(), tt.filter, postgres.Page{Cursor: cursor, Limit: 2})
			w.must(err)
			for _, d := range page {
				got = append(got, d.ID)
				if (d.ID == "a2") != (d.Holder != nil && d.Holder.ID == held.ID && d.Function == f.Name && d.Holder.ProjectID == w.project) {
					t.Errorf("%s is held by %+v for %s", d.ID, d.Holder, d.Function)
				}
			}
			if cursor = next; next == "" {
				break
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	_, err := w.UpdateNode(t.Context(), young.ID, func(n *warpket.Node) error { n.Cordon(true, now()); return nil })
	w.must(err)
	free, _, err := w.Devices(t.Context(), postgres.DeviceFilter{Free: &yes, NodeID: young.ID}, postgres.Page{Limit: 10})
	if len(free) != 0 || err != nil {
		t.Errorf("a cordoned node has free devices: %+v (%v)", free, err)
	}
	for _, cursor := range []string{"x", "bm9kZQ", "MDE5MmYwMDAtMDAwMC03MDAwLTgwMDAtMDAwMDAwMDAwMDAxLwA"} {
		_, _, err := w.Devices(t.Context(), postgres.DeviceFilter{}, postgres.Page{Cursor: cursor, Limit: 2})
		wantKind(t, err, warpket.Invalid)
	}
	_, _, err = w.Devices(t.Context(), postgres.DeviceFilter{Memory: warpket.Condition{Op: warpket.Eq, Values: []string{"much"}}}, postgres.Page{Limit: 2})
	wantKind(t, err, warpket.Invalid)
}

func TestADeviceWithAFaultGetsNoSlotUntilItIsCleared(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	d := w.addDeployment(f, v)
	has := gpus("A100", 40, "a", "b")
	node := w.addNode("n", has)
	slot := newSlot(node, v, "a")
	slot.DeploymentID = d.ID
	slot = w.lease(slot)
	w.must(w.SlotIsReady(t.Context(), slot.ID, slot.Generation, 0))
	for _, to := range []warpket.DeploymentStatus{warpket.DeploymentPlacing, warpket.DeploymentReady} {
		w.must(w.AdvanceDeployment(t.Context(), d.ID, to, "", now()))
	}
	broken := func(fault string) []warpket.Device {
		list := slices.Clone(has.Devices)
		list[0].Fault = fault
		return list
	}
	fault := func() string {
		t.Helper()
		n, err := w.Node(t.Context(), node.ID)
		w.must(err)
		return n.Inventory.Devices[0].Fault
	}

	w.must(w.NodeHas(t.Context(), node.ID, node.Boot, broken("Xid 79 at noon")))
	if fault() != "Xid 79 at noon" {
		t.Errorf("the fault is %q", fault())
	}
	if s, err := w.SlotByID(t.Context(), slot.ID); err != nil || !s.Leaving {
		t.Errorf("a slot on a broken device does not leave: %+v (%v)", s, err)
	}
	if got, err := w.Deployment(t.Context(), w.project, d.ID); err != nil || got.Status != warpket.DeploymentDegraded || got.Ready != 0 {
		t.Errorf("its deployment is %s with %d ready (%v)", got.Status, got.Ready, err)
	}
	if leaving, err := w.LeavingSlots(t.Context(), node.ID); len(leaving) != 1 || err != nil {
		t.Errorf("%d slots leave (%v)", len(leaving), err)
	}
	w.must(w.ReleaseSlot(t.Context(), slot.ID, slot.Generation))
	_, err := w.LeaseSlot(t.Context(), newSlot(node, v, "a"))
	wantKind(t, err, warpket.Conflict)
	w.lease(newSlot(node, v, "b"))

	// The agent starts anew and has seen nothing.
	_, _, err = w.NodeIsUp(t.Context(), node.ID, newID(), has, nil)
	w.must(err)
	if fault() == "" {
		t.Error("a fault is gone since the agent has started anew")
	}
	w.must(w.ClearFault(t.Context(), node.ID, "a"))
	again := has
	again.Devices = broken("Xid 79 at noon")
	boot := newID()
	_, _, err = w.NodeIsUp(t.Context(), node.ID, boot, again, nil)
	w.must(err)
	if fault() != "" {
		t.Errorf("a fault that was cleared is back: %q", fault())
	}
	w.must(w.NodeHas(t.Context(), node.ID, boot, broken("Xid 79 at one")))
	if fault() != "Xid 79 at one" {
		t.Errorf("the same error once more is %q", fault())
	}
	wantKind(t, w.NodeHas(t.Context(), node.ID, newID(), nil), warpket.Conflict)
	wantKind(t, w.ClearFault(t.Context(), node.ID, "c"), warpket.NotFound)
}

func TestAMachineThatStartsAnewHasNoFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	has := gpus("A100", 40, "a")
	has.Machine, has.Devices[0].Fault = "first", "Xid 79 at noon"
	node := w.addNode("n", has)
	has.Machine, has.Devices[0].Fault = "second", ""
	_, _, err := w.NodeIsUp(t.Context(), node.ID, newID(), has, nil)
	w.must(err)
	n, err := w.Node(t.Context(), node.ID)
	if err != nil || n.Inventory.Devices[0].Fault != "" {
		t.Errorf("the device has the fault %q (%v)", n.Inventory.Devices[0].Fault, err)
	}
}

func TestWhatDevicesDoIsAsTheNodeHasLastSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	node := w.addNode("n", gpus("A100", 40, "a"))
	load := map[string]warpket.Load{"a": {MemoryUsed: 5, MemoryFree: 7, Utilisation: 90, Throttled: []string{"heat"}}}
	w.must(w.RenewNode(t.Context(), node.ID, node.Boot, nil, load))
	w.must(w.RenewNode(t.Context(), node.ID, node.Boot, nil, nil)) // no news
	n, err := w.Node(t.Context(), node.ID)
	w.must(err)
	if diff := cmp.Diff(load, n.Loads); diff != "" {
		t.Error(diff)
	}
	list, _, err := w.Devices(t.Context(), postgres.DeviceFilter{}, postgres.Page{Limit: 10})
	w.must(err)
	if want := load["a"]; len(list) != 1 || !cmp.Equal(&want, list[0].Load) {
		t.Errorf("listed are %+v", list)
	}
}

func TestADrainedNodeHasItsSlotsLeave(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, v := w.addFunction(w.project, "bell")
	node, other := w.addNode("n", inventory(4, 4)), w.addNode("other", inventory(4, 4))
	slot := w.lease(newSlot(node, v))
	w.lease(newSlot(other, v))
	w.must(w.SlotIsReady(t.Context(), slot.ID, slot.Generation, 99))
	n, err := w.UpdateNode(t.Context(), node.ID, func(n *warpket.Node) error { n.Drain(now()); return nil })
	w.must(err)
	if !n.Cordoned || !n.Draining || n.Drained() {
		t.Errorf("the node is %+v", n)
	}
	for name, list := range map[string]func() ([]warpket.Slot, error){
		"leave":     func() ([]warpket.Slot, error) { return w.LeavingSlots(t.Context(), node.ID) },
		"are swept": func() ([]warpket.Slot, error) { return w.OutdatedSlots(t.Context(), "") },
		"leave elsewhere": func() ([]warpket.Slot, error) {
			s, err := w.LeavingSlots(t.Context(), other.ID)
			return append(s, slot), err
		},
	} {
		if got, err := list(); err != nil || len(got) != 1 || got[0].ID != slot.ID {
			t.Errorf("%s: %+v (%v)", name, got, err)
		}
	}
	_, err = w.LeaseSlot(t.Context(), newSlot(node, v))
	wantKind(t, err, warpket.Conflict)
	w.must(w.ReleaseSlot(t.Context(), slot.ID, slot.Generation))
	if n, err = w.Node(t.Context(), node.ID); err != nil || !n.Drained() {
		t.Errorf("an empty node is not drained: %+v (%v)", n, err)
	}
}

func TestAFencedNodeHoldsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	d := w.addDeployment(f, v)
	node := w.addNode("n", inventory(4, 4, "gpu"))
	slot := newSlot(node, v, "gpu")
	slot.DeploymentID = d.ID
	slot = w.lease(slot)
	_, _, err := w.FenceNode(t.Context(), node.ID, now())
	wantKind(t, err, warpket.Conflict) // it answers

	w.exec(`update nodes set lease_until = now() - interval '1 second'`)
	n, deployments, err := w.FenceNode(t.Context(), node.ID, now())
	w.must(err)
	if !n.Fenced || n.Slots != 0 || n.CPULeased != 0 || n.MemoryLeased != 0 || len(n.DevicesLeased) != 0 || !slices.Equal(deployments, []warpket.ID{d.ID}) {
		t.Errorf("the node is %+v, to reconcile %v", n, deployments)
	}
	wantKind(t, w.RenewNode(t.Context(), node.ID, node.Boot, nil, nil), warpket.Conflict)

	// Its agent was alive after all: it has to end what it has.
	over, _, err := w.NodeIsUp(t.Context(), node.ID, node.Boot, inventory(4, 4, "gpu"), map[warpket.ID]int64{slot.ID: slot.Generation})
	w.must(err)
	mine, err := w.NodeSlots(t.Context(), node.ID)
	if len(over) != 0 || len(mine) != 0 || err != nil {
		t.Errorf("it keeps %v of %v (%v)", mine, over, err)
	}
	if n, err = w.Node(t.Context(), node.ID); n.Fenced || !n.Live || err != nil {
		t.Errorf("the node is %+v (%v)", n, err)
	}
}

func TestNodesAreListedByWhatOperatorsSay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b, c := w.addNode("a", inventory(1, 1)), w.addNode("b", inventory(1, 1)), w.addNode("c", inventory(1, 1))
	zone := func(id warpket.ID, value string) {
		_, err := w.UpdateNode(t.Context(), id, func(n *warpket.Node) error { return n.SetLabels(map[string]*string{"zone": &value}, now()) })
		w.must(err)
	}
	zone(a.ID, "x")
	zone(b.ID, "y")
	zone(c.ID, "x")
	_, err := w.UpdateNode(t.Context(), c.ID, func(n *warpket.Node) error { n.Cordon(true, now()); return nil })
	w.must(err)
	w.exec(`update nodes set lease_until = now() - interval '1 second' where id = $1`, b.ID)
	yes, no := true, false
	for name, tt := range map[string]struct {
		filter postgres.NodeFilter
		want   []string
	}{
		"with a label": {postgres.NodeFilter{Labels: map[string]string{"zone": "x"}}, []string{"c", "a"}},
		"live":         {postgres.NodeFilter{Live: &yes}, []string{"c", "a"}},
		"lost":         {postgres.NodeFilter{Live: &no}, []string{"b"}},
		"cordoned":     {postgres.NodeFilter{Cordoned: &yes}, []string{"c"}},
		"not cordoned": {postgres.NodeFilter{Cordoned: &no, Live: &yes}, []string{"a"}},
	} {
		nodes, _, err := w.Nodes(t.Context(), tt.filter, postgres.Page{Limit: 10})
		w.must(err)
		var got []string
		for _, n := range nodes {
			got = append(got, n.Name)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestChangesOfANodeTakeTurns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	node := w.addNode("n", inventory(1, 1))
	race(8, func(i int) {
		value := "v"
		name := string(rune('a' + i))
		if _, err := w.UpdateNode(t.Context(), node.ID, func(n *warpket.Node) error {
			return n.SetLabels(map[string]*string{name: &value}, time.Now())
		}); err != nil {
			t.Error(err)
		}
	})
	n, err := w.Node(t.Context(), node.ID)
	if err != nil || len(n.Labels) != 8 {
		t.Errorf("the labels are %v (%v)", n.Labels, err)
	}
}
