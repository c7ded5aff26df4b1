package channel

import (
	"cmp"
	"encoding/json"
	"slices"
	"sync"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/channel/wire"
)

// Ready is a slot that serves, as this server knows it: a hint. The node is
// the one to admit a call.
type Ready struct {
	ID         warpket.ID
	NodeID     warpket.ID
	NodeName   string
	SnapshotID warpket.ID
	Generation int64
	Revision   int // of its function's configuration
	Resources  warpket.Resources
	Devices    []string // that it holds alone
}

// fits reports whether it serves what was accepted at a revision of the
// function's configuration, and has the resources.
func (r Ready) fits(revision int, need warpket.Resources) bool {
	return r.Revision >= revision && r.Resources.Cover(need)
}

// slotState is a slot that serves, on the wire.
func slotState(r Ready) *wire.SlotState {
	resources, _ := json.Marshal(r.Resources) // of strings and numbers
	return &wire.SlotState{
		Slot: string(r.ID), Generation: r.Generation, Snapshot: string(r.SnapshotID), Ready: true, Revision: int32(r.Revision), //nolint:gosec // an integer in the database
		Cpu: int32(r.Resources.CPU), Memory: r.Resources.Memory, Resources: resources, Devices: r.Devices, //nolint:gosec // bounded by Resources.Check
	}
}

// readyOf is a slot that serves, as a node or server tells it. One of the
// release before tells of its cores and memory only.
func readyOf(node warpket.ID, name string, slot *wire.SlotState) Ready {
	r := Ready{
		ID: warpket.ID(slot.GetSlot()), NodeID: node, NodeName: name, SnapshotID: warpket.ID(slot.GetSnapshot()),
		Generation: slot.GetGeneration(), Revision: int(slot.GetRevision()), Devices: slot.GetDevices(),
	}
	if json.Unmarshal(slot.GetResources(), &r.Resources) != nil {
		r.Resources = warpket.Resources{}
	}
	r.Resources.CPU, r.Resources.Memory = int(slot.GetCpu()), slot.GetMemory()
	return r
}

// pool holds the slots that serve, and the turns of executions that wait for
// one, by snapshot. A slot that fits a turn is never idle while that waits.
type pool struct {
	mu    sync.Mutex
	slots map[warpket.ID][]*pooled
	turns map[warpket.ID][]*Turn // the oldest execution first
	clock int64
	idled func() // is called when a slot has become idle; nil if nobody wants to know
}

func newPool() pool {
	return pool{slots: map[warpket.ID][]*pooled{}, turns: map[warpket.ID][]*Turn{}}
}

type pooled struct {
	Ready
	holder warpket.ID // the execution of this server that is in it, if any
	used   int64      // grows with each call of this server, over all slots
}

func (p *pool) add(r Ready) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.slots[r.SnapshotID] {
		if s.ID == r.ID {
			if s.Generation < r.Generation {
				s.Ready = r
				p.offer(s)
			}
			return
		}
	}
	s := &pooled{Ready: r}
	p.slots[r.SnapshotID] = append(p.slots[r.SnapshotID], s)
	p.offer(s)
}

// remove drops the slots that match.
func (p *pool) remove(match func(Ready) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for snapshot, slots := range p.slots {
		p.slots[snapshot] = slices.DeleteFunc(slots, func(s *pooled) bool { return match(s.Ready) })
		if len(p.slots[snapshot]) == 0 {
			delete(p.slots, snapshot)
		}
	}
}

func (p *pool) take(s *pooled, execution warpket.ID) {
	s.holder = execution
	p.clock++
	s.used = p.clock
}

// offer gives a slot that is idle to the oldest execution that waits for one
// like it.
func (p *pool) offer(s *pooled) {
	s.holder = ""
	turns := p.turns[s.SnapshotID]
	i := slices.IndexFunc(turns, func(t *Turn) bool { return s.fits(t.revision, t.need) })
	if i < 0 {
		if p.idled != nil {
			p.idled()
		}
		return
	}
	p.take(s, turns[i].id)
	turns[i].c <- s.Ready
	p.leave(turns[i])
}

// leave takes a turn out of the queue, and reports whether it was there.
func (p *pool) leave(t *Turn) bool {
	turns := p.turns[t.snapshot]
	i := slices.Index(turns, t)
	if i < 0 {
		return false
	}
	if p.turns[t.snapshot] = slices.Delete(turns, i, i+1); len(turns) == 1 {
		delete(p.turns, t.snapshot)
	}
	return true
}

// Turn is an execution's place in the queue for a slot.
type Turn struct {
	// C receives the slot when it is this execution's turn. It is kept from
	// other calls of this server until Free.
	C        <-chan Ready
	c        chan Ready
	pool     *pool
	id       warpket.ID
	snapshot warpket.ID
	revision int
	need     warpket.Resources
}

// Queue asks for a slot that serves a snapshot and has the resources. Whoever
// frees one gives it to the execution of the highest priority in the queue, and
// of these to the oldest, by ID, whatever its lane and since when it is there. Close the turn.
func (s *Server) Queue(execution, snapshot warpket.ID, revision int, need warpket.Resources) *Turn {
	t := &Turn{c: make(chan Ready, 1), pool: &s.pool, id: execution, snapshot: snapshot, revision: revision, need: need}
	t.C = t.c
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	if best := s.pool.idle(snapshot, revision, need); best != nil {
		s.pool.take(best, execution)
		t.c <- best.Ready
		return t
	}
	turns := s.pool.turns[snapshot]
	i, _ := slices.BinarySearchFunc(turns, t, func(a, b *Turn) int {
		return cmp.Or(cmp.Compare(b.need.Priority, a.need.Priority), cmp.Compare(a.id, b.id))
	})
	s.pool.turns[snapshot] = slices.Insert(turns, i, t)
	return t
}

// Close leaves the queue. A slot that has come and was not received goes to the
// next.
func (t *Turn) Close() {
	t.pool.mu.Lock()
	defer t.pool.mu.Unlock()
	if t.pool.leave(t) {
		return
	}
	select {
	case r := <-t.c:
		t.pool.free(r.ID, r.Generation, t.id)
	default:
	}
}

// idle is the slot that has been idle longest of those that fit.
func (p *pool) idle(snapshot warpket.ID, revision int, need warpket.Resources) (best *pooled) {
	for _, s := range p.slots[snapshot] {
		if s.holder == "" && s.fits(revision, need) && (best == nil || s.used < best.used) {
			best = s
		}
	}
	return best
}

func (p *pool) find(slot warpket.ID, generation int64) *pooled {
	for _, slots := range p.slots {
		for _, s := range slots {
			if s.ID == slot && s.Generation == generation {
				return s
			}
		}
	}
	return nil
}

func (p *pool) free(slot warpket.ID, generation int64, execution warpket.ID) {
	if s := p.find(slot, generation); s != nil && s.holder == execution {
		p.offer(s)
	}
}

// Reserve takes an idle slot as Queue does, and does not wait for one.
func (s *Server) Reserve(execution, snapshot warpket.ID, revision int, need warpket.Resources) (Ready, bool) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	best := s.pool.idle(snapshot, revision, need)
	if best == nil {
		return Ready{}, false
	}
	s.pool.take(best, execution)
	return best.Ready, true
}

// Serves tells whether there is a slot that serves a snapshot and has the
// resources, and whether one is idle.
func (s *Server) Serves(snapshot warpket.ID, revision int, need warpket.Resources) (known, idle bool) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	known = slices.ContainsFunc(s.pool.slots[snapshot], func(s *pooled) bool { return s.fits(revision, need) })
	return known, s.pool.idle(snapshot, revision, need) != nil
}

// Hold keeps calls of this server from a slot that was claimed for an
// execution elsewhere, or before this server started.
func (s *Server) Hold(slot warpket.ID, generation int64, execution warpket.ID) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	if c := s.pool.find(slot, generation); c != nil {
		c.holder = execution
	}
}

// Free ends what Reserve, a Turn or Hold began, and gives the slot to the next.
// It does nothing when another execution has the slot by now.
func (s *Server) Free(slot warpket.ID, generation int64, execution warpket.ID) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.pool.free(slot, generation, execution)
}

// ReadySlot lists a slot as serving.
func (s *Server) ReadySlot(r Ready) { s.pool.add(r) }

// GoneSlot takes a slot off the list of those that serve.
func (s *Server) GoneSlot(id warpket.ID, generation int64) {
	s.pool.remove(func(r Ready) bool { return r.ID == id && r.Generation <= generation })
}

// Idle gives the slots that no call of this server is in, the least recently
// used first.
func (s *Server) Idle() []Ready {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	var idle []*pooled
	for _, slots := range s.pool.slots {
		for _, c := range slots {
			if c.holder == "" {
				idle = append(idle, c)
			}
		}
	}
	slices.SortFunc(idle, func(a, b *pooled) int { return cmp.Compare(a.used, b.used) })
	out := make([]Ready, len(idle))
	for i, c := range idle {
		out[i] = c.Ready
	}
	return out
}
