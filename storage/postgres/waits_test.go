package postgres_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/accelerators/placement"
	"github.com/warpket/warpket/storage/postgres"
)

// listed is a server that is listed.
func (w *world) listed() warpket.ID {
	w.t.Helper()
	id := newID()
	_, err := w.RenewServer(w.t.Context(), postgres.Server{ID: id, Channel: "c", Peer: "p"})
	w.must(err)
	return id
}

func newWait(subject, server, project warpket.ID, r warpket.Resources) warpket.Wait {
	return warpket.Wait{SubjectID: subject, ServerID: server, Kind: warpket.SnapshotWaits, ProjectID: project, Need: warpket.Need{Resources: r, Platform: "linux/amd64"}, Reason: "room"}
}

func (w *world) waits() []warpket.Wait {
	w.t.Helper()
	waits, err := w.Waits(w.t.Context())
	w.must(err)
	return waits
}

func TestWhatWaitsIsRecordedOnceSinceItBegan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two, gone := w.listed(), w.listed(), newID()
	subject, other := newID(), newID()
	need := warpket.Resources{CPU: 1000, GPUs: 2, Labels: map[string]string{"zone": "a"}}
	wait := newWait(subject, one, w.project, need)
	wait.Decision = &warpket.Decision{Nodes: 3, Hints: []string{"with 1 of them"}}
	w.must(w.Wait(t.Context(), wait))
	first := w.waits()
	wait.Reason = "more room"
	w.must(w.Wait(t.Context(), wait))
	w.must(w.Wait(t.Context(), newWait(subject, two, w.project, need)))
	w.must(w.Wait(t.Context(), newWait(other, gone, w.project, need)))
	got := w.waits()
	if len(got) != 1 || got[0].Reason != "more room" || !got[0].Since.Equal(first[0].Since) || got[0].Weight != 1 {
		t.Fatalf("what waits is %+v", got)
	}
	if diff := cmp.Diff(need, got[0].Need.Resources); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(wait.Decision, got[0].Decision); diff != "" {
		t.Error(diff)
	}
	for subject, want := range map[warpket.ID]bool{subject: false, other: true} {
		contended, err := w.Contended(t.Context(), subject)
		w.must(err)
		if contended != want {
			t.Errorf("something else waits beside it: %v", contended)
		}
	}
	w.must(w.EndWait(t.Context(), subject, one, false))
	if got := w.waits(); len(got) != 1 || got[0].ServerID != two {
		t.Errorf("while another server waits for it there is %+v", got)
	}
	w.must(w.Wait(t.Context(), wait))
	w.must(w.EndWait(t.Context(), subject, two, true))
	if got := w.waits(); len(got) != 0 {
		t.Errorf("served, it still waits: %+v", got)
	}
	w.exec(`update waits set since = now() - interval '2 minutes'`)
	w.must(w.SweepWaits(t.Context()))
	if n := w.count(`select count(*) from waits`); n != 0 {
		t.Errorf("a server that is gone left %d", n)
	}
}

func TestAProjectIsChargedForWhatItHasAndLessForWhatItHad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, v := w.addFunction(w.project, "bell")
	node := w.addNode("n", inventory(64, 64, "a", "b"))
	server := w.listed()
	w.must(w.Wait(t.Context(), newWait(newID(), server, w.project, warpket.Resources{CPU: 1})))
	use := func() float64 {
		t.Helper()
		return w.waits()[0].Use
	}
	near := func(what string, want float64) {
		t.Helper()
		if got := use(); math.Abs(got-want) > 0.1 {
			t.Errorf("%s: the use is %g, want %g", what, got, want)
		}
	}
	near("nothing", 0)
	slot := newSlot(node, v, "a")
	slot.Resources = warpket.Resources{CPU: 4000, Memory: gib, GPUs: 1}
	slot = w.lease(slot)
	near("just leased", 20)
	w.exec(`update slots set created_date = now() - interval '1 hour'`)
	near("held for an hour", 20+10)
	w.must(w.ReleaseSlot(t.Context(), slot.ID, slot.Generation))
	near("just given back", 10)
	w.exec(`update project_use set updated_date = now() - interval '2 hours'`)
	near("two hours later", 2.5)
	again := newSlot(node, v, "a")
	again.Resources = slot.Resources
	again = w.lease(again)
	w.exec(`update slots set created_date = now() - interval '1 hour'`)
	w.must(w.ReleaseSlot(t.Context(), again.ID, again.Generation))
	near("and again", 12.5)
}

const gib = int64(1) << 30

func TestASlotYieldsOnceToWhatMayTakeIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.addProject("other")
	_, err := w.UpdateProject(t.Context(), "other", time.Now(), func(p *warpket.Project) error { p.MaxPriority = 5; return nil })
	w.must(err)
	_, v := w.addFunction(w.project, "bell")
	_, theirs := w.addFunction(other, "bell")
	node := w.addNode("n", inventory(64, 64))
	lease := func(v warpket.Version, priority int) warpket.ID {
		slot := newSlot(node, v)
		slot.Resources.Priority = priority
		return w.lease(slot).ID
	}
	low, same, lowTheirs, highTheirs := lease(v, -3), lease(v, 3), lease(theirs, -1), lease(theirs, 50)
	takes := func(priority, rank int) (ids []warpket.ID) {
		t.Helper()
		holders, err := w.SlotHolders(t.Context(), w.project, priority, rank)
		w.must(err)
		for _, h := range holders {
			ids = append(ids, h.Slot.ID)
		}
		slices.Sort(ids)
		return ids
	}
	for name, test := range map[string]struct {
		priority, rank int
		want           []warpket.ID
	}{
		"nothing is lower":                       {-100, -100, nil},
		"own slots by priority":                  {3, -100, []warpket.ID{low}},
		"others' by rank":                        {-100, 0, []warpket.ID{lowTheirs}},
		"whose priority counts up to their most": {4, 6, []warpket.ID{low, same, lowTheirs, highTheirs}},
	} {
		if diff := cmp.Diff(test.want, takes(test.priority, test.rank)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	var yielded counter
	race(10, func(int) {
		err := w.Yield(t.Context(), []warpket.ID{low, lowTheirs}, newID())
		if err == nil {
			yielded.add("yielded")
		} else {
			wantKind(t, err, warpket.Conflict)
		}
	})
	if yielded.n["yielded"] != 1 {
		t.Errorf("they yielded %d times", yielded.n["yielded"])
	}
	if diff := cmp.Diff([]warpket.ID{same, highTheirs}, takes(4, 6)); diff != "" {
		t.Error(diff)
	}
	slots, err := w.Yielding(t.Context(), "")
	w.must(err)
	if len(slots) != 2 || !slots[0].Leaving {
		t.Errorf("what yields is %+v", slots)
	}
}

// Two servers, each with a view of the fleet that it keeps itself, race for
// the devices of a node, end slots and start anew.
func TestTwoServersThatRaceForDevicesNeverShareOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, v := w.addFunction(w.project, "bell")
	node := w.addNode("n", inventory(1000, 1000, "a", "b", "c", "d", "e"))
	second, err := postgres.Open(t.Context(), w.url)
	w.must(err)
	t.Cleanup(second.Close)
	stores := []*postgres.Store{w.Store, second}
	race(8, func(i int) {
		store := stores[i%2]
		for n := range 12 {
			nodes, err := store.Fleet(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			fleet := placement.New(nodes)
			request := placement.Request{Resources: warpket.Resources{CPU: 1000, Memory: 1 << 30, GPUs: 1 + (i+n)%3}}
			d, err := fleet.Place(request)
			if err != nil {
				wantKind(t, err, warpket.NoCapacity)
				continue
			}
			slot := newSlot(node, v, d.Devices...)
			slot.Resources, slot.Reason, slot.Decision = request.Resources, d.Reason, &d.Why
			slot, err = store.LeaseSlot(t.Context(), slot)
			if k := warpket.KindOf(err); err != nil && k != warpket.Conflict && k != warpket.Unavailable {
				t.Error(err)
			}
			if err != nil {
				continue
			}
			held, err := store.SlotByID(t.Context(), slot.ID)
			if err != nil || !slices.Equal(held.Devices, d.Devices) {
				t.Errorf("it holds %v, not %v: %v", held.Devices, d.Devices, err)
			}
			if n%3 > 0 {
				if err := store.ReleaseSlot(t.Context(), slot.ID, slot.Generation); err != nil {
					t.Error(err)
				}
			}
		}
	})
	sum := w.count(`select coalesce(sum((resources->>'gpus')::int), 0) from slots`)
	if held := w.count(`select count(*) from devices where slot_id is not null`); held != sum || held > 5 {
		t.Errorf("%d devices are held by slots that were given %d", held, sum)
	}
}

func TestADeploymentTellsWhyItsSlotsAreWhereTheyAre(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	d := w.addDeployment(f, v)
	slot := newSlot(w.addNode("n", inventory(4, 4)), v)
	slot.DeploymentID = d.ID
	slot.Decision = &warpket.Decision{
		Nodes: 2, Fits: 1, Candidates: []warpket.Candidate{{Node: "n", Devices: []string{}, Cost: 0.5, Why: "50 % is left over"}},
		Rejected: []warpket.Rejection{{Reason: "silent", Nodes: 1, Examples: []string{"m is silent"}}}, Hints: []string{},
	}
	w.lease(slot)
	d, err := w.Deployment(t.Context(), w.project, d.ID)
	w.must(err)
	if diff := cmp.Diff(slot.Decision, d.Placement[0].Decision); diff != "" {
		t.Error(diff)
	}
	near, peers, err := w.Neighbours(t.Context(), w.runtime.ID, d.ID)
	w.must(err)
	if near[slot.NodeID] || peers[slot.NodeID] != 1 { // it is not ready yet
		t.Errorf("warm are %v, and the deployment has %v", near, peers)
	}
}

func TestAnExecutionsPlaceInTheQueue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, v := w.addFunction(w.project, "bell")
	slot := w.lease(newSlot(w.addNode("n", inventory(16, 16, "gpu")), v, "gpu"))
	for range 5 {
		e := w.claim(w.addExecution(f, v), slot)
		if !slices.Equal(e.Devices, []string{"gpu"}) {
			t.Errorf("it has the devices %v", e.Devices)
		}
		_, err := w.FinishExecution(t.Context(), postgres.Finish{ID: e.ID, Lane: e.Lane, Attempt: 1, Status: warpket.Succeeded, Timings: warpket.Timings{Ran: 4 * time.Second}}, now())
		w.must(err)
	}
	w.must(w.SlotIsReady(t.Context(), slot.ID, slot.Generation, 0))
	first, urgent, last := newExecution(f, v), newExecution(f, v), newExecution(f, v)
	urgent.Resources.Priority = 1
	for _, e := range []*warpket.Execution{&first, &urgent, &last} {
		e.ID = newID()
		_, err := w.CreateExecution(t.Context(), *e)
		w.must(err)
	}
	for e, want := range map[*warpket.Execution]int{&first: 1, &urgent: 0, &last: 2} {
		before, slots, ran, err := w.Turns(t.Context(), *e)
		w.must(err)
		if before != want || slots != 1 || ran != 4*time.Second {
			t.Errorf("%d are before it, want %d; %d slots, %s a run", before, want, slots, ran)
		}
	}
}
