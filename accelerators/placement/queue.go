package placement

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/warpket/warpket"
)

// Waiter is what waits for a slot.
type Waiter struct {
	ID      warpket.ID
	Project warpket.ID
	Need    Request
	Rank    int     // its priority beside other projects
	Use     float64 // that its project makes of the fleet, in Resources.Charge
	Weight  float64 // of its project
	Waited  time.Duration
}

const (
	// aging is how long something has to wait for it to count as one priority
	// higher: so nothing waits without end behind what is more urgent.
	aging = time.Minute
	// starving is how long something has to wait for a node to be kept free for
	// it: so nothing large waits without end behind what is small.
	starving = 5 * time.Minute
	// kept is for how many at most.
	kept = 4
)

// WaiterOf is a Waiter as it is recorded.
func WaiterOf(w warpket.Wait) Waiter {
	return Waiter{
		ID: w.SubjectID, Project: w.ProjectID, Need: RequestOf(w.Need), Rank: w.Rank(), Use: w.Use, Weight: w.Weight, Waited: w.Waited,
	}
}

func (w *Waiter) aged() int { return int(w.Waited / aging) }

// Order sorts waiters in the order of their turns. Among those of one project
// the higher priority goes first, and then who has waited longer. Among projects
// the higher rank of the next in each goes first, and then the project that
// uses least for its weight, what was given to those before included.
func Order(waiting []Waiter) []Waiter {
	type project struct {
		id   warpket.ID
		use  float64
		list []*Waiter
	}
	byID := map[warpket.ID]*project{}
	var heads []*project
	for i := range waiting {
		w := &waiting[i]
		p := byID[w.Project]
		if p == nil {
			p = &project{id: w.Project}
			byID[w.Project], heads = p, append(heads, p)
		}
		p.list, p.use = append(p.list, w), w.Use/max(w.Weight, 1e-9)
	}
	for _, p := range heads {
		slices.SortFunc(p.list, func(a, b *Waiter) int {
			return cmp.Or(cmp.Compare(b.Need.Resources.Priority+b.aged(), a.Need.Resources.Priority+a.aged()), cmp.Compare(b.Waited, a.Waited), strings.Compare(string(a.ID), string(b.ID)))
		})
	}
	slices.SortFunc(heads, func(a, b *project) int { return strings.Compare(string(a.id), string(b.id)) })
	out := make([]Waiter, 0, len(waiting))
	for len(heads) > 0 {
		next := slices.MinFunc(heads, func(a, b *project) int {
			x, y := a.list[0], b.list[0]
			return cmp.Or(cmp.Compare(y.Rank+y.aged(), x.Rank+x.aged()), cmp.Compare(a.use, b.use), cmp.Compare(y.Waited, x.Waited))
		})
		w := next.list[0]
		out = append(out, *w)
		next.use += w.Need.Resources.Charge() / max(w.Weight, 1e-9)
		if next.list = next.list[1:]; len(next.list) == 0 {
			heads = slices.DeleteFunc(heads, func(p *project) bool { return p == next })
		}
	}
	return out
}

// Turn places the waiter with an ID, unless the room that there is belongs to
// those whose turn is before. Those that do not fit hold up nobody, but for
// those that starve: the node on which the least would have to end for them is
// kept free. It gives the waiter's place in the order, from 1.
func (f *Fleet) Turn(waiting []Waiter, id warpket.ID) (Decision, int, error) {
	order := Order(waiting)
	i := slices.IndexFunc(order, func(w Waiter) bool { return w.ID == id })
	if i < 0 {
		return Decision{}, 0, warpket.Errorf(warpket.NotFound, "%s does not wait", id)
	}
	room := f
	if i > 0 {
		room = f.Clone()
		room.settle(order[:i])
	}
	d, err := room.Place(order[i].Need)
	if warpket.KindOf(err) == warpket.NoCapacity && i > 0 {
		if _, ok := f.Try(order[i].Need); ok {
			d.Reason = fmt.Sprintf("there is room, which is for those before it: %d wait, and share the fleet by priority, by what their projects use of it, and by how long they have waited", i)
			err = warpket.Errorf(warpket.NoCapacity, "%s", d.Reason)
		}
	}
	return d, i + 1, err
}

// After is the fleet with the room taken that waiters get in their turn.
func (f *Fleet) After(waits []warpket.Wait) *Fleet {
	waiters := make([]Waiter, len(waits))
	for i, w := range waits {
		waiters[i] = WaiterOf(w)
	}
	room := f.Clone()
	room.settle(Order(waiters))
	return room
}

// settle takes the room that waiters get in their turn.
func (f *Fleet) settle(order []Waiter) { f.Fill(order, func(int, Decision) {}) }

// Fill places waiters in their turn, and says for each that it has placed which
// and where. The nodes that it keeps free for those that starve are closed
// until Open.
func (f *Fleet) Fill(order []Waiter, placed func(i int, d Decision)) {
	for _, g := range f.alike {
		g.verdicts = nil // of another time
	}
	var shapes []*query
	var failed []*query // as room only shrinks here, what asks for more of the same devices fails too
	for i := range order {
		w := &order[i]
		var q *query
		if f.declared > 0 { // else nothing is simulated, and what is hopeless need not be looked at
			q = f.query(w.Need)
		}
		hopeless := slices.ContainsFunc(failed, func(other *query) bool {
			return (q != nil && q.simulated) == other.simulated && w.Need.includes(other.Request)
		})
		if hopeless && (w.Waited < starving || len(f.kept) >= kept) {
			continue
		}
		if q == nil {
			q = f.query(w.Need)
		}
		if !hopeless {
			if q.shape = shapeOf(q, shapes); q.shape > len(shapes) {
				shapes = append(shapes, q)
			}
			if d, ok := f.try(q); ok {
				f.Take(d.NodeID, w.Need.Resources, d.Devices)
				placed(i, d)
				continue
			}
			if len(failed) < maxFailed {
				failed = append(failed, q)
			}
		}
		if w.Waited >= starving && len(f.kept) < kept {
			f.keep(q)
		}
	}
}

// maxShapes is how many shapes of requests are told apart.
const maxShapes = 64

// shapeOf is the number of a request's shape among others: that of one which asks
// for the same, or the next. It is 0 for what cannot be compared.
func shapeOf(q *query, shapes []*query) int {
	if q.pinned != "" || len(q.Warm)+len(q.Peers) > 0 || !q.includes(q.Request) {
		return 0
	}
	for i, other := range shapes {
		if q.simulated == other.simulated && q.includes(other.Request) && other.includes(q.Request) {
			return i + 1
		}
	}
	if len(shapes) == maxShapes {
		return 0
	}
	return len(shapes) + 1
}

// maxFailed is how many requests are remembered for not to be tried again.
const maxFailed = 16

// Open opens the nodes that Fill has kept free.
func (f *Fleet) Open() {
	for _, i := range f.kept {
		f.close(i, false)
	}
	f.kept = nil
}

// includes reports whether r asks for all that other asks for.
func (r Request) includes(other Request) bool {
	return r.Platform == other.Platform && r.Python == other.Python && (r.Images || !other.Images) && (r.Isolated || !other.Isolated) && (r.Resources.Network == warpket.Egress || other.Resources.Network != warpket.Egress) && other.Resources.Spread == warpket.Packed && other.Resources.Qubits == 0 && r.Resources.Cover(other.Resources)
}

// keep closes to others the node that would fit were it empty and on which the
// least would have to end.
func (f *Fleet) keep(q *query) {
	best, least := -1, 0.0
	f.each(q, func(n *node, alike []int32) {
		if !n.live || n.cordoned || n.lacks(q, true) != none {
			return
		}
		missing := 0.0
		if !q.elsewhere() {
			missing = max(0, float64(q.need.CPU-n.cpuFree)/float64(max(q.need.CPU, 1))) + max(0, float64(q.need.Memory-n.memoryFree)/float64(max(q.need.Memory, 1)))
		}
		if q.devices > 0 {
			missing += float64(max(0, q.devices-n.devicesFor(q, false)))
		}
		if i := int(alike[0]); best < 0 || missing < least || missing == least && i < best {
			best, least = i, missing
		}
	})
	if best >= 0 {
		f.close(best, true)
		f.kept = append(f.kept, best)
	}
}

func (f *Fleet) close(i int, cordoned bool) {
	f.changeAt(i, func(n *node) { n.cordoned = cordoned })
}

// Holder is a slot that could make room for something more urgent.
type Holder struct {
	Slot     warpket.ID
	NodeID   warpket.ID
	Held     warpket.Resources
	Devices  []string
	Project  warpket.ID
	Rank     int  // its priority beside other projects
	OnDemand bool // of no deployment
}

// Preempt picks the slots that have to end for a waiter to fit, all on one node:
// of its own project with a lower priority, or of others with a lower rank. It
// takes as few slots of deployments as it can, then as few slots, and of these
// the lowest and youngest. It gives none if that would not help.
func (f *Fleet) Preempt(w Waiter, holders []Holder) []Holder {
	if _, ok := f.Try(w.Need); ok {
		return nil // it waits for its turn
	}
	q := f.query(w.Need)
	byNode := map[warpket.ID][]Holder{}
	for _, h := range holders {
		if h.Project == w.Project && h.Held.Priority < q.need.Priority || h.Project != w.Project && h.Rank < w.Rank {
			byNode[h.NodeID] = append(byNode[h.NodeID], h)
		}
	}
	var best []Holder
	for i := range f.nodes {
		n := *f.nodes[i] // a copy
		lower := byNode[n.id]
		if len(lower) == 0 || !n.live || n.cordoned || n.lacks(q, true) != none {
			continue
		}
		if victims := n.victims(q, lower); victims != nil && (best == nil || cheaper(victims, best)) {
			best = victims
		}
	}
	return best
}

// Would gives those of some slots whose room, each by itself, would do for a
// request if they were given back.
func (f *Fleet) Would(r Request, slots []Holder) (would []Holder) {
	q := f.query(r)
	for _, h := range slots {
		i, ok := f.index[h.NodeID]
		if !ok {
			continue
		}
		n := *f.nodes[i] // a copy
		if n.give(h.Held, h.Devices); n.misfit(q) == none {
			would = append(would, h)
		}
	}
	return would
}

// victims ends slots on the copy of a node until the request fits, and then
// leaves those that need not have ended.
func (n *node) victims(q *query, lower []Holder) []Holder {
	var victims []Holder
	slices.SortFunc(lower, func(a, b Holder) int {
		if a.OnDemand != b.OnDemand {
			if a.OnDemand {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.Rank, b.Rank), cmp.Compare(a.Held.Priority, b.Held.Priority), strings.Compare(string(b.Slot), string(a.Slot)))
	})
	for _, h := range lower {
		if n.lacks(q, false) == none {
			break
		}
		n.give(h.Held, h.Devices)
		victims = append(victims, h)
	}
	if n.lacks(q, false) != none {
		return nil
	}
	var needed []Holder
	for _, h := range slices.Backward(victims) {
		n.take(h.Held, h.Devices)
		if n.lacks(q, false) != none {
			n.give(h.Held, h.Devices)
			needed = append(needed, h)
		}
	}
	return needed
}

func cheaper(a, b []Holder) bool {
	deployed := func(list []Holder) (n int) {
		for _, h := range list {
			if !h.OnDemand {
				n++
			}
		}
		return n
	}
	return cmp.Or(cmp.Compare(deployed(a), deployed(b)), cmp.Compare(len(a), len(b))) < 0
}
