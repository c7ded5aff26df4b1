package placement

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
)

func waiter(id, project string, change ...func(*Waiter)) Waiter {
	w := Waiter{ID: warpket.ID(id), Project: warpket.ID(project), Weight: 1, Need: asks(warpket.Resources{GPUs: 1})}
	for _, c := range change {
		c(&w)
	}
	return w
}

func priority(p int) func(*Waiter) { return func(w *Waiter) { w.Need.Resources.Priority = p } }
func rank(r int) func(*Waiter)     { return func(w *Waiter) { w.Rank = r } }
func uses(use, weight float64) func(*Waiter) {
	return func(w *Waiter) { w.Use, w.Weight = use, weight }
}
func waited(d time.Duration) func(*Waiter) { return func(w *Waiter) { w.Waited = d } }

func names(waiters []Waiter) string {
	var out []string
	for _, w := range waiters {
		out = append(out, string(w.ID))
	}
	return strings.Join(out, " ")
}

func TestOrder(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		waiting []Waiter
		want    string
	}{
		"who has waited longer goes first":                 {[]Waiter{waiter("a", "p", waited(1)), waiter("b", "p", waited(2))}, "b a"},
		"a project's own priorities count":                 {[]Waiter{waiter("a", "p", waited(2)), waiter("b", "p", priority(1))}, "b a"},
		"but not beside others, unless it may have a rank": {[]Waiter{waiter("a", "p", waited(2)), waiter("b", "q", priority(50))}, "a b"},
		"then they do":                                      {[]Waiter{waiter("a", "p", waited(2)), waiter("b", "q", priority(50), rank(50))}, "b a"},
		"the project that uses less goes first":             {[]Waiter{waiter("a", "p", uses(10, 1), waited(2)), waiter("b", "q", uses(5, 1))}, "b a"},
		"for its weight":                                    {[]Waiter{waiter("a", "p", uses(10, 4), waited(2)), waiter("b", "q", uses(5, 1))}, "a b"},
		"and what it gets counts at once":                   {[]Waiter{waiter("a", "p", waited(3)), waiter("b", "p", waited(2)), waiter("c", "q", waited(1))}, "a c b"},
		"waiting makes up for priority":                     {[]Waiter{waiter("a", "p", waited(11*time.Minute)), waiter("b", "p", priority(10))}, "a b"},
		"and for rank":                                      {[]Waiter{waiter("a", "p", waited(11*time.Minute)), waiter("b", "q", rank(10))}, "a b"},
		"nothing of use or weight is no reason for a panic": {[]Waiter{waiter("a", "p", uses(0, 0)), waiter("b", "q", uses(0, 0))}, "a b"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := names(Order(tt.waiting)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			slices.Reverse(tt.waiting)
			if got := names(Order(tt.waiting)); got != tt.want {
				t.Errorf("told the other way round, got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestTurn(t *testing.T) {
	t.Parallel()
	one := gpus(machine("one", 16_000, 64*gib), 1, 80*gib)
	two := gpus(machine("two", 16_000, 64*gib), 2, 80*gib)
	busy := change(two, func(n *warpket.Node) { n.DevicesLeased = []string{"two-0"} })
	large := func(w *Waiter) { w.Need.Resources.GPUs = 2 }
	tests := map[string]struct {
		fleet    []warpket.Node
		waiting  []Waiter
		node     string // where "me" goes; "" for nowhere
		position int
		says     string
	}{
		"alone it gets what there is":           {[]warpket.Node{one}, []Waiter{waiter("me", "p")}, "one", 1, ""},
		"the room is for those before it":       {[]warpket.Node{one}, []Waiter{waiter("me", "p"), waiter("a", "q", waited(1))}, "", 2, "which is for those before it: 1 wait"},
		"with room for both it need not wait":   {[]warpket.Node{two}, []Waiter{waiter("me", "p"), waiter("a", "q", waited(1))}, "two", 2, ""},
		"what does not fit holds nobody up":     {[]warpket.Node{busy}, []Waiter{waiter("me", "p"), waiter("a", "q", waited(time.Minute), large)}, "two", 2, ""},
		"but when it starves its node is kept":  {[]warpket.Node{busy}, []Waiter{waiter("me", "p"), waiter("a", "q", waited(time.Hour), large)}, "", 2, "for those before it"},
		"only that node":                        {[]warpket.Node{busy, one}, []Waiter{waiter("me", "p"), waiter("a", "q", waited(time.Hour), large)}, "one", 2, ""},
		"without room it is told what it lacks": {[]warpket.Node{busy}, []Waiter{waiter("me", "p", large), waiter("a", "q", waited(1), large)}, "", 2, "two has 1 of 2 free"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, position, err := New(tt.fleet).Turn(tt.waiting, "me")
			if d.NodeName != tt.node || position != tt.position || (err == nil) != (tt.node != "") || err != nil && warpket.KindOf(err) != warpket.NoCapacity {
				t.Fatalf("placed on %q at %d with %v", d.NodeName, position, err)
			}
			if err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("said %q", err)
			}
		})
	}
}

func TestPreempt(t *testing.T) {
	t.Parallel()
	two := gpus(machine("two", 16_000, 64*gib), 2, 80*gib)
	full := change(two, func(n *warpket.Node) { n.DevicesLeased, n.CPULeased = []string{"two-0", "two-1"}, 2000 })
	other := change(gpus(machine("other", 16_000, 64*gib), 1, 80*gib), func(n *warpket.Node) { n.DevicesLeased = []string{"other-0"} })
	holds := func(slot, node, device, project string, change ...func(*Holder)) Holder {
		h := Holder{Slot: warpket.ID(slot), NodeID: warpket.ID(node), Held: warpket.Resources{CPU: 1000, GPUs: 1}, Devices: []string{device}, Project: warpket.ID(project)}
		for _, c := range change {
			c(&h)
		}
		return h
	}
	lower := func(h *Holder) { h.Held.Priority, h.Rank = -1, -1 }
	onDemand := func(h *Holder) { h.OnDemand = true }
	tests := map[string]struct {
		w       Waiter
		holders []Holder
		want    string
	}{
		"nothing of the same priority":            {waiter("w", "p"), []Holder{holds("a", "two", "two-0", "p"), holds("b", "two", "two-1", "q")}, ""},
		"what is lower in its own project":        {waiter("w", "p", priority(1)), []Holder{holds("a", "two", "two-0", "p"), holds("b", "two", "two-1", "q")}, "a"},
		"its own priority is none beside others":  {waiter("w", "p", priority(100)), []Holder{holds("a", "two", "two-0", "q"), holds("b", "two", "two-1", "q")}, ""},
		"its rank is":                             {waiter("w", "p", priority(100), rank(1)), []Holder{holds("a", "two", "two-0", "q"), holds("b", "two", "two-1", "q")}, "b"},
		"who asks for less than nothing yields":   {waiter("w", "p"), []Holder{holds("a", "two", "two-0", "q", lower), holds("b", "two", "two-1", "q")}, "a"},
		"slots on demand go before deployments'":  {waiter("w", "p", rank(1)), []Holder{holds("a", "two", "two-0", "q"), holds("b", "two", "two-1", "q", lower), holds("c", "other", "other-0", "q", onDemand)}, "c"},
		"the lowest goes":                         {waiter("w", "p", rank(1)), []Holder{holds("a", "two", "two-0", "q", lower), holds("b", "two", "two-1", "q")}, "a"},
		"both where both are needed":              {waiter("w", "p", rank(1), func(w *Waiter) { w.Need.Resources.GPUs = 2 }), []Holder{holds("a", "two", "two-0", "q"), holds("b", "two", "two-1", "q"), holds("c", "other", "other-0", "q")}, "a b"},
		"none where the half would be of no help": {waiter("w", "p", rank(1), func(w *Waiter) { w.Need.Resources.GPUs = 2 }), []Holder{holds("a", "two", "two-0", "q"), holds("c", "other", "other-0", "q")}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fleet := New([]warpket.Node{full, other})
			before := fleet.Clone()
			var got []string
			for _, h := range fleet.Preempt(tt.w, tt.holders) {
				got = append(got, string(h.Slot))
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("got %v, want %q", got, tt.want)
			}
			if diff := cmp.Diff(before.nodes, fleet.nodes, cmp.AllowUnexported(node{}, device{}, simulator{}, state{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWouldNamesTheSlotsWhoseRoomWouldDo(t *testing.T) {
	t.Parallel()
	full := func(n warpket.Node) warpket.Node {
		for _, d := range n.Inventory.Devices {
			n.DevicesLeased = append(n.DevicesLeased, d.ID)
		}
		n.CPULeased = n.Inventory.CPU - 1000
		return n
	}
	large := full(gpus(machine("large", 16_000, 64*gib), 2, 80*gib))
	small := full(gpus(machine("small", 16_000, 64*gib), 1, 24*gib))
	cordoned := change(full(gpus(machine("cordoned", 16_000, 64*gib), 1, 80*gib)), func(n *warpket.Node) { n.Cordoned = true })
	holds := func(slot, node string, cpu int, devices ...string) Holder {
		return Holder{Slot: warpket.ID(slot), NodeID: warpket.ID(node), Held: warpket.Resources{CPU: cpu, GPUs: len(devices)}, Devices: devices}
	}
	slots := []Holder{
		holds("a", "large", 1000, "large-0"), holds("b", "large", 1000, "large-1"), holds("c", "large", 8000), holds("d", "small", 1000, "small-0"),
		holds("e", "cordoned", 1000, "cordoned-0"), holds("f", "gone", 1000, "gone-0"),
	}
	for want, r := range map[string]warpket.Resources{
		"a b d": {GPUs: 1},
		"a b":   {GPUs: 1, GPUMemory: 40 * gib},
		"":      {GPUs: 2},
		"c":     {CPU: 6000},
	} {
		fleet := New([]warpket.Node{large, small, cordoned})
		before := fleet.Clone()
		var got []string
		for _, h := range fleet.Would(asks(r), slots) {
			got = append(got, string(h.Slot))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("for %+v the room of %v would do, not of %q", r, got, want)
		}
		if diff := cmp.Diff(before.nodes, fleet.nodes, cmp.AllowUnexported(node{}, device{}, simulator{}, state{})); diff != "" {
			t.Error(diff)
		}
	}
}

// Fill remembers what requests that are alike would cost where nothing has
// changed; it places as if it did not.
func TestFillPlacesAsOneAfterTheOther(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(7, 8))
	for range 50 {
		var nodes []warpket.Node
		for i := range 2 + random.IntN(10) {
			n := gpus(machine(fmt.Sprint(i), 1000*(4+random.IntN(60)), int64(4+random.IntN(60))*gib), random.IntN(5), int64(1+random.IntN(2))*40*gib, func(d *warpket.Device) { d.Simulated = i%4 == 3 })
			n.Cordoned = random.IntN(8) == 0
			n.Inventory.Isolation.Kind = "namespaces"
			if random.IntN(4) == 0 {
				n.Inventory.Isolation.Unenforced = []string{"memory"}
			}
			nodes = append(nodes, n)
		}
		waiters := make([]Waiter, 60)
		for i := range waiters {
			r := warpket.Resources{CPU: 1000 * (1 + random.IntN(3)), Memory: int64(1+random.IntN(3)) * gib, GPUs: random.IntN(3), Qubits: random.IntN(16) / 15}
			if r.GPUs > 0 {
				r.GPUMemory = int64(random.IntN(2)) * 60 * gib
			}
			waiters[i] = waiter(fmt.Sprint(i), "p", func(w *Waiter) { w.Need = asks(r) })
			waiters[i].Need.Isolated = random.IntN(3) == 0
		}
		fleet := New(nodes)
		plain := fleet.Clone()
		var got, want []string
		for range 2 { // what was remembered the first time is of no use the second
			fleet.Fill(waiters, func(i int, d Decision) { got = append(got, fmt.Sprint(i, d.NodeName, d.Devices)) })
			for i, w := range waiters {
				if d, ok := plain.Try(w.Need); ok {
					plain.Take(d.NodeID, w.Need.Resources, d.Devices)
					want = append(want, fmt.Sprint(i, d.NodeName, d.Devices))
				}
			}
			for _, f := range []*Fleet{fleet, plain} {
				f.Give("1", warpket.Resources{CPU: 2000, Memory: 2 * gib}, nil)
				f.Observe(warpket.Resources{CPU: 30_000, Memory: gib, GPUs: 1})
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	}
}

// However much keeps coming, and however urgent: whatever waits gets its turn.
func TestNobodyStarves(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 6))
	fleet := New([]warpket.Node{gpus(machine("a", 64_000, 512*gib), 4, 80*gib)})
	type running struct {
		d   Decision
		r   warpket.Resources
		end int
	}
	var slots []running
	waiting := []Waiter{waiter("large", "p", func(w *Waiter) { w.Need.Resources.GPUs = 4 })}
	for minute := range 60 {
		slots = slices.DeleteFunc(slots, func(s running) bool {
			if s.end <= minute {
				fleet.Give(s.d.NodeID, s.r, s.d.Devices)
			}
			return s.end <= minute
		})
		for i := range 3 { // more than there is room for, each more urgent
			waiting = append(waiting, waiter(fmt.Sprintf("%d-%d", minute, i), "q", priority(20), rank(20)))
		}
		for i := range waiting {
			waiting[i].Waited += time.Minute
		}
		for _, w := range Order(waiting) {
			d, _, err := fleet.Turn(waiting, w.ID)
			if err != nil {
				continue
			}
			if w.ID == "large" {
				return
			}
			fleet.Take(d.NodeID, w.Need.Resources, d.Devices)
			slots = append(slots, running{d, w.Need.Resources, minute + 1 + random.IntN(5)})
			waiting = slices.DeleteFunc(waiting, func(other Waiter) bool { return other.ID == w.ID })
		}
	}
	t.Error("the large one never got its turn")
}
