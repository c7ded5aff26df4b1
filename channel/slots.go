package channel

import (
	"cmp"
	"slices"
	"sync"

	"github.com/warpket/warpket"
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
	CPU        int
	Memory     int64
}

// pool holds the slots that serve, by snapshot.
type pool struct {
	mu    sync.Mutex
	slots map[warpket.ID][]*pooled
	clock int64
}

type pooled struct {
	Ready
	busy bool  // by a call of this server
	used int64 // grows with each call of this server, over all slots
}

func (p *pool) add(r Ready) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.slots[r.SnapshotID] {
		if s.ID == r.ID {
			if s.Generation < r.Generation {
				s.Ready, s.busy = r, false
			}
			return
		}
	}
	p.slots[r.SnapshotID] = append(p.slots[r.SnapshotID], &pooled{Ready: r})
}

// remove drops the slots that match.
func (p *pool) remove(match func(Ready) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for snapshot, slots := range p.slots {
		kept := slots[:0]
		for _, s := range slots {
			if !match(s.Ready) {
				kept = append(kept, s)
			}
		}
		if p.slots[snapshot] = kept; len(kept) == 0 {
			delete(p.slots, snapshot)
		}
	}
}

// Reserve picks an idle slot that serves a snapshot with that revision of the
// function's configuration or a later one and has the resources, and keeps
// other calls of this server from it until Free. known tells whether there is
// any such slot, busy or not.
func (s *Server) Reserve(snapshot warpket.ID, revision int, need warpket.Resources) (r Ready, known, ok bool) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	var best *pooled
	for _, c := range s.pool.slots[snapshot] {
		if c.Revision < revision || c.CPU < need.CPU || c.Memory < need.Memory {
			continue
		}
		known = true
		if !c.busy && (best == nil || c.used < best.used) {
			best = c
		}
	}
	if best == nil {
		return Ready{}, known, false
	}
	best.busy = true
	s.pool.clock++
	best.used = s.pool.clock
	return best.Ready, true, true
}

// Hold keeps calls of this server from a slot that was claimed for an
// execution without Reserve.
func (s *Server) Hold(slot warpket.ID, generation int64) { s.setBusy(slot, generation, true) }

// Free ends Reserve or Hold.
func (s *Server) Free(slot warpket.ID, generation int64) { s.setBusy(slot, generation, false) }

func (s *Server) setBusy(slot warpket.ID, generation int64, busy bool) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	for _, slots := range s.pool.slots {
		for _, c := range slots {
			if c.ID == slot && c.Generation == generation {
				c.busy = busy
			}
		}
	}
}

// Slot gives a slot that serves, if this server knows it.
func (s *Server) Slot(id warpket.ID) (Ready, bool) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	for _, slots := range s.pool.slots {
		for _, c := range slots {
			if c.ID == id {
				return c.Ready, true
			}
		}
	}
	return Ready{}, false
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
			if !c.busy {
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
