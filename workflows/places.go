package workflows

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/accelerators/placement"
	"github.com/warpket/warpket/storage/postgres"
)

// places is the fleet in memory, kept current from news: a node that something
// is told of, or that was placed on, is read again before the next placement.
// It may be behind by what other servers have leased a moment ago; then the
// commit fails, and its caller places again.
type places struct {
	store *postgres.Store

	mu    sync.Mutex
	fleet *placement.Fleet

	news    sync.Mutex
	hears   bool // of changes; else all is read each time
	stale   map[warpket.ID]bool
	unknown bool // all is stale
}

func newPlaces(store *postgres.Store) *places {
	return &places{store: store, stale: map[warpket.ID]bool{}}
}

// listening says whether news come here. When they begin to, all is stale.
func (p *places) listening(hears bool) {
	p.news.Lock()
	defer p.news.Unlock()
	p.hears, p.unknown = hears, true
}

// changed says that a node has changed; an empty ID that any may have.
func (p *places) changed(node warpket.ID) {
	p.news.Lock()
	defer p.news.Unlock()
	if node == "" {
		p.unknown = true
	} else {
		p.stale[node] = true
	}
}

// use calls a function with the fleet as it is now. It must not keep it.
func (p *places) use(ctx context.Context, do func(*placement.Fleet) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.refresh(ctx); err != nil {
		return err
	}
	return do(p.fleet)
}

// refresh reads what is stale. The caller holds mu.
func (p *places) refresh(ctx context.Context) error {
	p.news.Lock()
	all := p.unknown || !p.hears || p.fleet == nil
	ids := slices.Collect(maps.Keys(p.stale))
	p.stale, p.unknown = map[warpket.ID]bool{}, false
	p.news.Unlock()
	var nodes []warpket.Node
	var err error
	switch {
	case all:
		nodes, err = p.store.Fleet(ctx)
	case len(ids) > 0:
		nodes, err = p.store.FleetPart(ctx, ids)
	}
	if err != nil {
		p.news.Lock()
		defer p.news.Unlock()
		p.unknown = p.unknown || all
		for _, id := range ids {
			p.stale[id] = true
		}
		return err
	}
	if all {
		p.fleet = p.fleet.Renew(nodes)
	}
	for i := range nodes {
		if n := &nodes[i]; !all {
			p.fleet.Set(*n)
		}
		if n := &nodes[i]; !n.Live && time.Since(n.LeaseUntil) < time.Minute {
			p.changed(n.ID) // it may renew its lease yet, of which there is no news
		}
	}
	return nil
}

// place finds a place for a slot and counts it as taken until the node is read
// again.
func (p *places) place(ctx context.Context, r placement.Request, turn func(*placement.Fleet) (placement.Decision, error)) (d placement.Decision, err error) {
	err = p.use(ctx, func(fleet *placement.Fleet) error {
		var err error
		if d, err = turn(fleet); err == nil {
			fleet.Observe(r.Resources)
			fleet.Take(d.NodeID, r.Resources, d.Devices)
		}
		return err
	})
	return d, err
}

// Room reports whether a slot could be placed now, in the room of idle slots on
// demand if need be, and what stands against it. It promises nothing. With queue what waits for room does not count, else it goes
// first.
func (a *Activities) Room(ctx context.Context, need warpket.Need, queue bool) error {
	var before []warpket.Wait
	if !queue {
		var err error
		if before, err = a.Store.Waits(ctx); err != nil {
			return err
		}
	}
	idle, err := a.idle(ctx)
	if err != nil {
		return err
	}
	return a.places.use(ctx, func(fleet *placement.Fleet) error {
		if len(idle) > 0 {
			fleet = without(fleet, idle)
		}
		if len(before) > 0 {
			fleet = fleet.After(before)
		}
		_, err := fleet.Place(placement.RequestOf(need))
		return err
	})
}
