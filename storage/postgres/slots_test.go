package postgres_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
)

func TestASlotComesBackAsItWasLeased(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, v := w.addFunction(w.project, "bell")
	node := w.addNode("n", inventory(4, 4, "gpu-0", "gpu-1", "gpu-2"))
	slot := w.lease(newSlot(node, v, "gpu-0", "gpu-2")) // several devices are one slot's
	got, err := w.SlotByID(t.Context(), slot.ID)
	w.must(err)
	if diff := cmp.Diff(slot, got); diff != "" {
		t.Error(diff)
	}
	node, err = w.Node(t.Context(), node.ID)
	w.must(err)
	if node.CPULeased != 1000 || node.MemoryLeased != 1<<30 || !slices.Equal(node.DevicesLeased, []string{"gpu-0", "gpu-2"}) {
		t.Errorf("the node has leased %+v", node)
	}
	second := w.lease(newSlot(node, v))
	if second.Generation <= slot.Generation {
		t.Errorf("the generations are %d and then %d", slot.Generation, second.Generation)
	}
}

func TestLeasesNeverOvercommit(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		inventory warpket.Inventory
		want      int
	}{
		"cores":  {inventory(7, 1000), 7},
		"memory": {inventory(1000, 5), 5},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			_, v := w.addFunction(w.project, "bell")
			node := w.addNode("n", test.inventory)
			var leased counter
			race(50, func(int) {
				_, err := w.LeaseSlot(t.Context(), newSlot(node, v))
				if err == nil {
					leased.add("leased")
				} else {
					wantKind(t, err, warpket.Conflict)
				}
			})
			if leased.n["leased"] != test.want {
				t.Errorf("%d slots were leased, want %d", leased.n["leased"], test.want)
			}
			if n := w.count(`select count(*) from slots`); n != test.want {
				t.Errorf("there are %d slots", n)
			}
		})
	}
}

func TestNoDeviceHasTwoHolders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, v := w.addFunction(w.project, "bell")
	node := w.addNode("n", inventory(1000, 1000, "a", "b", "c", "d"))
	sets := [][]string{{"a", "b"}, {"b", "c"}, {"c", "d"}, {"d", "a"}, {"a"}, {"b"}, {"c"}, {"d"}}
	var holders counter
	race(50, func(i int) {
		slot, err := w.LeaseSlot(t.Context(), newSlot(node, v, sets[i%len(sets)]...))
		if k := warpket.KindOf(err); err != nil && k != warpket.Conflict && k != warpket.Unavailable { // two may wait for each other: one tries again
			t.Error(err)
		}
		if err == nil {
			for _, d := range slot.Devices {
				holders.add(d)
			}
		}
	})
	for _, d := range []string{"a", "b", "c", "d"} {
		if holders.n[d] > 1 {
			t.Errorf("%s has %d holders", d, holders.n[d])
		}
	}
	if len(holders.n) == 0 {
		t.Error("nobody got any")
	}
	node, err := w.Node(t.Context(), node.ID)
	w.must(err)
	if slots := w.count(`select count(*) from slots`); node.CPULeased != slots*1000 || len(node.DevicesLeased) != len(holders.n) {
		t.Errorf("%d slots, and the node has leased %+v", slots, node)
	}
	_, err = w.LeaseSlot(t.Context(), newSlot(node, v, "no such device"))
	wantKind(t, err, warpket.Conflict)
}

func TestALeaseNeedsAnOpenNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, v := w.addFunction(w.project, "bell")
	node := w.addNode("n", inventory(4, 4))
	_, err := w.UpdateNode(t.Context(), node.ID, func(n *warpket.Node) error { n.Cordon(true, now()); return nil })
	w.must(err)
	_, err = w.LeaseSlot(t.Context(), newSlot(node, v))
	wantKind(t, err, warpket.Conflict)
	_, err = w.UpdateNode(t.Context(), node.ID, func(n *warpket.Node) error { n.Cordon(false, now()); return nil })
	w.must(err)
	w.lease(newSlot(node, v))
	w.exec(`update nodes set lease_until = now() - interval '1 second'`)
	_, err = w.LeaseSlot(t.Context(), newSlot(node, v))
	wantKind(t, err, warpket.Conflict)
}

func TestReleasingGivesBackWhatWasHeld(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, v := w.addFunction(w.project, "bell")
	node := w.addNode("n", inventory(4, 4, "gpu"))
	slot := w.lease(newSlot(node, v, "gpu"))
	w.must(w.ReleaseSlot(t.Context(), slot.ID, slot.Generation+1))
	if _, err := w.SlotByID(t.Context(), slot.ID); err != nil {
		t.Errorf("an order for another generation released it: %v", err)
	}
	race(10, func(int) { // again does nothing
		if err := w.ReleaseSlot(t.Context(), slot.ID, slot.Generation); err != nil {
			t.Error(err)
		}
	})
	_, err := w.SlotByID(t.Context(), slot.ID)
	wantKind(t, err, warpket.NotFound)
	node, err = w.Node(t.Context(), node.ID)
	w.must(err)
	if node.CPULeased != 0 || node.MemoryLeased != 0 || len(node.DevicesLeased) != 0 {
		t.Errorf("the node still has leased %+v", node)
	}
	w.lease(newSlot(node, v, "gpu"))
}

func TestCountersFollowTheSlotsWhateverHappensAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, v := w.addFunction(w.project, "bell")
	node := w.addNode("n", inventory(8, 8, "a", "b"))
	race(12, func(i int) {
		for n := range 10 {
			slot, err := w.LeaseSlot(t.Context(), newSlot(node, v))
			switch {
			case err == nil && (i+n)%3 > 0:
				err = w.ReleaseSlot(t.Context(), slot.ID, slot.Generation)
			case i == 0:
				_, _, err = w.NodeIsUp(t.Context(), node.ID, newID(), inventory(8, 8, "a", "b"), map[warpket.ID]int64{slot.ID: slot.Generation})
			}
			if k := warpket.KindOf(err); err != nil && k != warpket.Conflict {
				t.Error(err)
			}
		}
	})
	if n := w.count(`select count(*) from nodes where cpu_leased <> (select coalesce(sum((resources->>'cpu')::int), 0) from slots) or memory_leased <> (select coalesce(sum((resources->>'memory')::bigint), 0) from slots)`); n != 0 {
		t.Error("the counters of the node are not the sums of its slots")
	}
}

func TestADeclaredSimulatorHasCoresAndMemoryOfItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, v := w.addFunction(w.project, "bell")
	has := inventory(4, 4)
	has.Devices = []warpket.Device{{ID: "big", Kind: warpket.QuantumSimulator, Name: "big", Memory: 1 << 40, Cores: 128, Simulated: true}}
	node := w.addNode("n", has)
	w.lease(newSlot(node, v))
	slot := newSlot(node, v)
	slot.Devices, slot.Resources.CPU, slot.Resources.Memory = []string{"big"}, 64_000, 1<<39
	slot = w.lease(slot)
	leased := func() (int, int64) {
		n, err := w.Node(t.Context(), node.ID)
		w.must(err)
		return n.CPULeased, n.MemoryLeased
	}
	if cpu, memory := leased(); cpu != 1000 || memory != 1<<30 {
		t.Errorf("with both slots the node has leased %d thousandths of a core and %d bytes", cpu, memory)
	}
	w.must(w.ReleaseSlot(t.Context(), slot.ID, slot.Generation))
	if cpu, memory := leased(); cpu != 1000 || memory != 1<<30 {
		t.Errorf("with the other slot it has leased %d thousandths of a core and %d bytes", cpu, memory)
	}
}

func TestASlotIsReadyOnlyForItsGeneration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, v := w.addFunction(w.project, "bell")
	slot := w.lease(newSlot(w.addNode("n", inventory(4, 4)), v))
	wantKind(t, w.SlotIsReady(t.Context(), slot.ID, slot.Generation-1, 0), warpket.Conflict)
	for range 2 {
		w.must(w.SlotIsReady(t.Context(), slot.ID, slot.Generation, 0))
	}
	got, err := w.SlotByID(t.Context(), slot.ID)
	w.must(err)
	if got.Status != warpket.SlotReady {
		t.Errorf("it is %s", got.Status)
	}
	w.must(w.ReleaseSlot(t.Context(), slot.ID, slot.Generation))
	wantKind(t, w.SlotIsReady(t.Context(), slot.ID, slot.Generation, 0), warpket.Conflict)
}

func TestOrphansAreTheSlotsThatNobodyWillRelease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	node := w.addNode("n", inventory(16, 16))
	alive, ended := w.addDeployment(f, v), w.addDeployment(f, v)
	w.must(w.AdvanceDeployment(t.Context(), ended.ID, warpket.DeploymentDetached, "", now()))
	held, left := newSlot(node, v), newSlot(node, v)
	held.DeploymentID, left.DeploymentID = alive.ID, ended.ID
	forgotten := newSlot(node, v)
	forgotten.CreatedDate = now().Add(-2 * time.Hour)
	gone, gv := w.addFunction(w.project, "gone")
	var want []string
	for _, s := range []*warpket.Slot{&held, &left, &forgotten} {
		*s = w.lease(*s)
	}
	fresh, ofGone := w.lease(newSlot(node, v)), w.lease(newSlot(node, gv))
	_, err := w.DeleteFunction(t.Context(), w.project, gone.ID, false)
	w.must(err)
	for _, s := range []warpket.Slot{left, forgotten, ofGone} {
		want = append(want, string(s.ID))
	}
	orphans, err := w.OrphanSlots(t.Context())
	w.must(err)
	var got []string
	for _, s := range orphans {
		got = append(got, string(s.ID))
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("orphans are %v, want %v; not %s or %s", got, want, held.ID, fresh.ID)
	}
	for what, list := range map[string]func() ([]warpket.Slot, error){
		"1 of the deployment": func() ([]warpket.Slot, error) { return w.DeploymentSlots(t.Context(), alive.ID) },
		"2 of deployments":    func() ([]warpket.Slot, error) { return w.DeployedSlots(t.Context(), v.Snapshot.ID) },
		"5 of the node":       func() ([]warpket.Slot, error) { return w.NodeSlots(t.Context(), node.ID) },
	} {
		slots, err := list()
		w.must(err)
		if n := fmt.Sprint(len(slots)); n != what[:1] {
			t.Errorf("%s slots, want %s", n, what)
		}
	}
}
