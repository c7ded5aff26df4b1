package postgres_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

func TestANodeTokenIsSpentOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	token, hash := newID(), warpket.HashSecret("secret")
	w.must(w.CreateNodeToken(t.Context(), token, hash, now(), now().Add(time.Hour)))
	_, err := w.JoinNode(t.Context(), token, warpket.HashSecret("another"), warpket.Node{ID: newID(), Name: "n", Boot: newID(), CreatedDate: now()})
	wantKind(t, err, warpket.Unauthenticated)
	var joined counter
	race(10, func(int) {
		_, err := w.JoinNode(t.Context(), token, hash, warpket.Node{ID: newID(), Name: "n", Boot: newID(), CreatedDate: now()})
		if err == nil {
			joined.add("joined")
		} else {
			wantKind(t, err, warpket.Unauthenticated)
		}
	})
	if joined.n["joined"] != 1 {
		t.Errorf("%d nodes joined", joined.n["joined"])
	}

	late := newID()
	w.must(w.CreateNodeToken(t.Context(), late, hash, now().Add(-2*time.Hour), now().Add(-time.Hour)))
	_, err = w.JoinNode(t.Context(), late, hash, warpket.Node{ID: newID(), Name: "m", Boot: newID(), CreatedDate: now()})
	wantKind(t, err, warpket.Unauthenticated)
}

func TestAMachineThatJoinsAnewKeepsItsID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.addNode("n", inventory(4, 4, "gpu"))
	second := w.addNode("n", inventory(8, 8))
	if first.ID != second.ID || first.Boot == second.Boot {
		t.Errorf("it was %+v and is %+v", first, second)
	}
	if n := w.count(`select count(*) from devices`); n != 0 {
		t.Errorf("%d devices are left of a machine that has none", n)
	}
	fleet, err := w.Fleet(t.Context())
	w.must(err)
	if len(fleet) != 1 || !fleet[0].Live || fleet[0].Inventory.CPU != 8000 {
		t.Errorf("the fleet is %+v", fleet)
	}
	pythons, err := w.Pythons(t.Context())
	w.must(err)
	if !slices.Equal(pythons, []string{"3.11"}) {
		t.Errorf("it has %v", pythons)
	}
	_, _, err = w.NodeIsUp(t.Context(), newID(), newID(), inventory(1, 1), nil)
	wantKind(t, err, warpket.NotFound)
}

func TestANodeThatIsUpKeepsWhatItHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	d := w.addDeployment(f, v)
	node := w.addNode("n", inventory(8, 8, "a", "b", "c"))
	kept, over, old := newSlot(node, v, "a"), newSlot(node, v, "b"), newSlot(node, v)
	over.DeploymentID = d.ID
	kept, over, old = w.lease(kept), w.lease(over), w.lease(old)

	// A device that is gone stays while its slot is held.
	gotOver, deployments, err := w.NodeIsUp(t.Context(), node.ID, newID(), inventory(8, 8, "b"), map[warpket.ID]int64{kept.ID: kept.Generation, old.ID: old.Generation - 1})
	w.must(err)
	var ids []warpket.ID
	for _, s := range gotOver {
		ids = append(ids, s.ID)
	}
	slices.Sort(ids)
	want := []warpket.ID{over.ID, old.ID}
	slices.Sort(want)
	if !slices.Equal(ids, want) || !slices.Equal(deployments, []warpket.ID{d.ID}) {
		t.Errorf("over are %v, want %v; to reconcile %v", ids, want, deployments)
	}
	slots, err := w.NodeSlots(t.Context(), node.ID)
	w.must(err)
	if diff := cmp.Diff([]warpket.Slot{kept}, slots); diff != "" {
		t.Error(diff)
	}
	node, err = w.Node(t.Context(), node.ID)
	w.must(err)
	if node.CPULeased != 1000 || node.MemoryLeased != 1<<30 || !slices.Equal(node.DevicesLeased, []string{"a"}) {
		t.Errorf("the node has leased %+v", node)
	}
	if n := w.count(`select count(*) from devices`); n != 2 { // a is held, b is there
		t.Errorf("there are %d devices", n)
	}
}

func TestASilentNodeLosesItsSlotsButNotTheirLeases(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	d := w.addDeployment(f, v)
	silent, well := w.addNode("silent", inventory(4, 4, "gpu")), w.addNode("well", inventory(4, 4))
	slot := newSlot(silent, v, "gpu")
	slot.DeploymentID = d.ID
	slot = w.lease(slot)
	other := w.lease(newSlot(well, v))
	w.must(w.SlotIsReady(t.Context(), slot.ID, slot.Generation, 0))
	if nodes, _, err := w.LoseSilentNodes(t.Context()); len(nodes) != 0 || err != nil {
		t.Fatalf("lost %v (%v)", nodes, err)
	}

	w.exec(`update nodes set lease_until = now() - interval '1 second' where id = $1`, silent.ID)
	if gone, boot, err := w.SilentNode(t.Context(), silent.ID); !gone || boot != silent.Boot || err != nil {
		t.Errorf("silent %v, boot %s (%v)", gone, boot, err)
	}
	var lost counter
	race(4, func(int) {
		nodes, deployments, err := w.LoseSilentNodes(t.Context())
		if err != nil {
			t.Error(err)
		}
		if len(nodes) == 1 && nodes[0] == silent.ID && slices.Equal(deployments, []warpket.ID{d.ID}) {
			lost.add("lost")
		} else if len(nodes)+len(deployments) > 0 {
			t.Errorf("lost %v of %v", nodes, deployments)
		}
	})
	if lost.n["lost"] != 1 {
		t.Errorf("it was lost %d times", lost.n["lost"])
	}
	node, err := w.Node(t.Context(), silent.ID)
	w.must(err)
	if node.Live || node.CPULeased != 1000 || !slices.Equal(node.DevicesLeased, []string{"gpu"}) {
		t.Errorf("the node is %+v", node)
	}
	for id, want := range map[warpket.ID]warpket.SlotStatus{slot.ID: warpket.SlotLost, other.ID: warpket.SlotPreparing} {
		s, err := w.SlotByID(t.Context(), id)
		w.must(err)
		if s.Status != want {
			t.Errorf("slot %s is %s, want %s", id, s.Status, want)
		}
	}
	wantKind(t, w.SlotIsReady(t.Context(), slot.ID, slot.Generation, 0), warpket.Conflict)
	wantKind(t, w.RenewNode(t.Context(), silent.ID, silent.Boot, nil, nil), warpket.Conflict)

	// It comes back with its programs running.
	boot := newID()
	over, deployments, err := w.NodeIsUp(t.Context(), silent.ID, boot, inventory(4, 4, "gpu"), map[warpket.ID]int64{slot.ID: slot.Generation})
	w.must(err)
	if len(over) != 0 || !slices.Equal(deployments, []warpket.ID{d.ID}) {
		t.Errorf("over are %v, to reconcile %v", over, deployments)
	}
	if s, err := w.SlotByID(t.Context(), slot.ID); err != nil || s.Status != warpket.SlotPreparing { // its deployment makes sure that it serves
		t.Errorf("the slot is %s (%v)", s.Status, err)
	}
	w.must(w.RenewNode(t.Context(), silent.ID, boot, nil, nil))
	wantKind(t, w.RenewNode(t.Context(), silent.ID, silent.Boot, nil, nil), warpket.Conflict)
}

func TestALostNodeThatComesBackWithoutItsSlotsReleasesThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, v := w.addFunction(w.project, "bell")
	node := w.addNode("n", inventory(4, 4, "gpu"))
	w.lease(newSlot(node, v, "gpu"))
	w.exec(`update nodes set lease_until = now() - interval '1 second'`)
	_, _, err := w.LoseSilentNodes(t.Context())
	w.must(err)
	over, _, err := w.NodeIsUp(t.Context(), node.ID, newID(), inventory(4, 4, "gpu"), nil)
	w.must(err)
	if len(over) != 1 {
		t.Errorf("over are %v", over)
	}
	w.lease(newSlot(node, v, "gpu"))
}

func TestServersListThemselves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := postgres.Server{ID: newID(), Channel: "a:1", Peer: "a:2"}, postgres.Server{ID: newID(), Channel: "b:1"}
	race(8, func(i int) {
		if _, err := w.RenewServer(t.Context(), []postgres.Server{a, b}[i%2]); err != nil {
			t.Error(err)
		}
	})
	list, err := w.RenewServer(t.Context(), a)
	w.must(err)
	if len(list) != 2 {
		t.Errorf("listed are %v", list)
	}
	w.must(w.DropServer(t.Context(), b.ID))
	list, err = w.RenewServer(t.Context(), a)
	w.must(err)
	if diff := cmp.Diff([]postgres.Server{a}, list); diff != "" {
		t.Error(diff)
	}
}

func TestAllServersHaveOneAuthority(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var seen counter
	race(8, func(int) {
		certificate, key, err := w.Authority(t.Context(), func() ([]byte, []byte, error) {
			s := warpket.Secret()
			return []byte(s), []byte("key of " + s), nil
		})
		if err != nil || string(key) != "key of "+string(certificate) {
			t.Errorf("got %q, %q (%v)", certificate, key, err)
		}
		seen.add(string(certificate))
	})
	if len(seen.n) != 1 {
		t.Errorf("they have %d authorities", len(seen.n))
	}
}
