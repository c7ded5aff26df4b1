package workflows

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/warpket/warpket"
)

// gpuNode is a node with GPUs that the records know of, without an agent.
func (c *cluster) gpuNode(gpus ...string) warpket.ID {
	c.t.Helper()
	ctx, token, now := c.t.Context(), warpket.NewID(time.Now()), time.Now()
	c.must(c.store.CreateNodeToken(ctx, token, warpket.HashSecret("s"), now, now.Add(time.Hour)))
	id, err := c.store.JoinNode(ctx, token, warpket.HashSecret("s"), warpket.Node{ID: warpket.NewID(now), Name: "gpus", Boot: warpket.NewID(now), CreatedDate: now})
	c.must(err)
	inventory := warpket.Inventory{Platform: "linux/amd64", CPU: 64_000, Memory: 64 << 30, Pythons: []string{"3.11"}}
	for _, id := range gpus {
		inventory.Devices = append(inventory.Devices, warpket.Device{ID: id, Kind: warpket.NVIDIA, Name: "GPU", Memory: 80 << 30})
	}
	_, _, err = c.store.NodeIsUp(ctx, id, warpket.NewID(now), inventory, nil)
	c.must(err)
	c.exec(`update nodes set lease_until = now() + interval '1 hour' where id = $1`, id) // as an agent would
	return id
}

func (c *cluster) slotFor(e warpket.Execution) (warpket.Slot, warpket.Runtime) {
	c.t.Helper()
	r, err := c.store.Runtime(c.t.Context(), e.RuntimeID)
	c.must(err)
	return warpket.Slot{
		ID: warpket.NewID(time.Now()), ProjectID: e.ProjectID, FunctionID: e.FunctionID, SnapshotID: e.SnapshotID, RuntimeID: e.RuntimeID,
		Status: warpket.SlotPreparing, Resources: warpket.Resources{CPU: 1000, Memory: 1 << 30, GPUs: 1, Timeout: time.Minute}, CreatedDate: time.Now(),
	}, r
}

func TestTwoServersRaceForTheLastDevice(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	servers := []*testServer{c.server(), c.server()}
	c.gpuNode("GPU-a", "GPU-b")
	var mu sync.Mutex
	var slots []warpket.Slot
	var wg sync.WaitGroup
	for i := range 6 {
		slot, runtime := c.slotFor(c.executionOf("f" + string('0'+rune(i))))
		s := servers[i%2]
		leave := s.enter(warpket.SharedWait(slot.SnapshotID, slot.Resources))
		defer leave(t.Context())
		wg.Go(func() {
			got, _, err := s.lease(t.Context(), slot, runtime)
			mu.Lock()
			defer mu.Unlock()
			switch warpket.KindOf(err) {
			case "":
				slots = append(slots, got)
			case warpket.NoCapacity:
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(slots) != 2 || slices.Equal(slots[0].Devices, slots[1].Devices) {
		t.Errorf("two devices were leased as %+v", slots)
	}
	waits, err := c.store.Waits(t.Context())
	c.must(err)
	if len(waits) != 4 || waits[0].Decision == nil {
		t.Errorf("the others do not wait: %+v", waits)
	}
}

func TestRoomIsForWhoIsNext(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s, other := c.server(), c.server()
	c.gpuNode("GPU-a")
	held, runtime := c.slotFor(c.executionOf("held"))
	held, _, err := s.lease(t.Context(), held, runtime)
	c.must(err)
	first, _ := c.slotFor(c.executionOf("first"))
	second, _ := c.slotFor(c.executionOf("second"))
	for _, slot := range []warpket.Slot{first, second} {
		leave := s.enter(warpket.SharedWait(slot.SnapshotID, slot.Resources))
		defer leave(t.Context())
		if _, _, err := s.lease(t.Context(), slot, runtime); warpket.KindOf(err) != warpket.NoCapacity {
			t.Fatalf("there was room: %v", err)
		}
	}
	news, ours := other.Hub.Watch(capacityTopic), s.Hub.Watch(capacityTopic)
	defer news.Close()
	defer ours.Close()
	c.must(c.store.ReleaseSlot(t.Context(), held.ID, held.Generation))
	<-news.C
	<-ours.C
	late, _ := c.slotFor(c.executionOf("late"))
	leave := other.enter(warpket.SharedWait(late.SnapshotID, late.Resources))
	defer leave(t.Context())
	for name, try := range map[*testServer]warpket.Slot{other: late, s: second} {
		if _, _, err := name.lease(t.Context(), try, runtime); warpket.KindOf(err) != warpket.NoCapacity {
			t.Errorf("it got the room of the first: %v", err)
		}
	}
	if err := other.Room(t.Context(), warpket.NeedOf(late.Resources, runtime), false); warpket.KindOf(err) != warpket.NoCapacity {
		t.Errorf("who does not want to wait is told that there is room: %v", err)
	}
	c.must(other.Room(t.Context(), warpket.NeedOf(late.Resources, runtime), true))
	got, _, err := s.lease(t.Context(), first, runtime)
	c.must(err)
	if !slices.Equal(got.Devices, []string{"GPU-a"}) {
		t.Errorf("it holds %v", got.Devices)
	}
}

func TestASlotYieldsWhenWhatRunsInItHasEnded(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := c.server()
	handler, begun, gate := gated()
	c.node(s, handler)
	low := c.executionOf("low")
	low.Resources.Priority = -1
	c.must(s.Launch(t.Context(), low, false))
	<-begun
	urgent := c.executionOf("urgent")
	c.must(s.Launch(t.Context(), urgent, false))
	news := s.Hub.Watch(urgent.ID)
	defer news.Close()
	var yielding []warpket.Slot
	for len(yielding) == 0 {
		var err error
		yielding, err = c.store.Yielding(t.Context(), warpket.SharedWait(urgent.SnapshotID, urgent.Resources))
		c.must(err)
	}
	e, err := c.store.ExecutionByID(t.Context(), low.ID)
	c.must(err)
	if e.Status != warpket.Running || e.SlotID != yielding[0].ID {
		t.Errorf("it is %s in %s, and %s yields", e.Status, e.SlotID, yielding[0].ID)
	}
	close(gate)
	for id, want := range map[warpket.ID]int{low.ID: 1, urgent.ID: 1} {
		if e := s.final(id); e.Status != warpket.Succeeded || e.Attempt != want {
			t.Errorf("it ended %s in attempt %d", e.Status, e.Attempt)
		}
	}
}

// One server has the call, the other what waits: the end of the call is news
// for it, though the slot is not what it waits for.
func TestWhatWaitsGetsTheRoomOfASlotThatBecomesIdle(t *testing.T) {
	t.Parallel()
	for name, sameServer := range map[string]bool{"in one server": true, "in two servers": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			handler, begun, gate := gated()
			near, far, _, first := between(t, handler)
			if sameServer {
				far = near
			}
			c := near.cluster
			c.must(near.Launch(t.Context(), first, false))
			<-begun
			second := c.executionOf("second")
			c.must(far.Launch(t.Context(), second, false))
			for recorded := (*warpket.Wait)(nil); recorded == nil; {
				var err error
				recorded, err = c.store.WaitOf(t.Context(), warpket.SharedWait(second.SnapshotID, second.Resources))
				c.must(err)
			}
			close(gate)
			for _, e := range []warpket.Execution{near.final(first.ID), far.final(second.ID)} {
				if e.Status != warpket.Succeeded || e.Attempt != 1 {
					t.Errorf("it ended %s in attempt %d", e.Status, e.Attempt)
				}
			}
		})
	}
}

func TestWithoutNewsOfRoomNobodyAsksForIt(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := c.server()
	handler, begun, gate := gated()
	c.node(s, handler)
	first, second := c.executionOf("first"), c.executionOf("second")
	c.must(s.Launch(t.Context(), first, false))
	<-begun
	c.must(s.Launch(t.Context(), second, false))
	conn, err := pgx.Connect(t.Context(), c.url)
	c.must(err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	asked, records := 0, map[string]bool{} // each attempt to get room writes it anew
	for len(records) == 0 || asked < 1000 {
		var record string
		c.must(conn.QueryRow(t.Context(), `select coalesce(max(xmin::text), '') from waits`).Scan(&record))
		if record != "" {
			records[record] = true
			asked++
		}
	}
	if len(records) > 3 {
		t.Errorf("while nothing changed, room was asked for at least %d times", len(records))
	}
	close(gate)
	s.final(second.ID)
}

func TestWhatNeedsAGPUWaitsBesideWhatDoesNot(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := c.server()
	c.node(s, succeed)
	gpu := c.executionOf("both")
	plain := next(gpu)
	gpu.Resources.GPUs = 1
	recorded := func() (w *warpket.Wait) {
		var err error
		w, err = c.store.WaitOf(t.Context(), warpket.SharedWait(gpu.SnapshotID, gpu.Resources))
		c.must(err)
		return w
	}
	c.must(s.Launch(t.Context(), gpu, false))
	for recorded() == nil {
	}
	c.must(s.Launch(t.Context(), plain, false))
	if e := s.final(plain.ID); e.Status != warpket.Succeeded {
		t.Errorf("what needs none ended %+v", e)
	}
	if w := recorded(); w == nil || w.Need.Resources.GPUs != 1 {
		t.Errorf("what needs one waits as %+v", w)
	}
}

// A node has room for one slot, which a deployment is to have: only executions of
// an elastic one may take it first.
func TestExecutionsBeyondAnElasticDeploymentGetSlotsOnDemand(t *testing.T) {
	t.Parallel()
	for _, elastic := range []bool{true, false} {
		c := newCluster(t)
		s := c.server()
		n := c.node(s, succeed)
		e := c.execution()
		d := warpket.Deployment{ID: warpket.NewID(time.Now()), ProjectID: c.project, FunctionID: e.FunctionID, VersionNumber: 1, Slots: 1, Elastic: elastic, Resources: e.Resources, Status: warpket.DeploymentPending, CreatedDate: time.Now()}
		c.must(c.store.CreateDeployment(t.Context(), d))
		slot, _ := c.slotFor(e)
		slot.DeploymentID, slot.NodeID, slot.Resources = d.ID, n.id.NodeID, e.Resources
		slot.Resources.CPU, slot.Resources.Memory = 1, 1 // the node is there for another, too
		slot, err := c.store.LeaseSlot(t.Context(), slot)
		c.must(err)
		c.exec(`update slots set resources = jsonb_set(jsonb_set(resources, '{cpu}', '1000'), '{memory}', '1073741824') where id = $1`, slot.ID)
		c.exec(`update nodes set cpu_leased = 0, memory_leased = 0`)
		if made, err := s.provide(t.Context(), e); made != elastic || err != nil {
			t.Errorf("elastic: %v, made: %v, %v", elastic, made, err)
		}
	}
}

func TestTheRoomOfAnIdleSlotCounts(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := c.server()
	c.node(s, succeed)
	e := c.execution()
	r, err := c.store.Runtime(t.Context(), e.RuntimeID)
	c.must(err)
	c.must(s.Launch(t.Context(), e, false))
	s.final(e.ID)
	for _, queue := range []bool{true, false} {
		c.must(s.Room(t.Context(), warpket.NeedOf(e.Resources, r), queue))
	}
	if known, idle := s.Nodes.Serves(e.SnapshotID, 0, e.Resources); !known || !idle {
		t.Errorf("its slot is known: %v, and idle: %v", known, idle)
	}
}

func TestAServerHearsOfChangedNodes(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := c.server()
	id := c.gpuNode("GPU-a")
	slot, runtime := c.slotFor(c.execution())
	need := warpket.NeedOf(slot.Resources, runtime)
	c.must(s.Room(t.Context(), need, true))
	for _, cordoned := range []bool{true, false} {
		news := s.Hub.Watch(id)
		_, err := c.store.UpdateNode(t.Context(), id, func(n *warpket.Node) error { n.Cordon(cordoned, time.Now()); return nil })
		c.must(err)
		<-news.C
		news.Close()
		err = s.Room(t.Context(), need, true)
		if (warpket.KindOf(err) == warpket.NoCapacity) != cordoned {
			t.Errorf("cordoned: %v, but the answer is %v", cordoned, err)
		}
	}
}
