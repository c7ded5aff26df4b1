package api

import (
	"context"
	"sync"

	"github.com/warpket/warpket"
)

// turns bound how much is done at a time that takes much memory. Each project
// has one turn at a time, so that one that is slow keeps no other waiting.
type turns struct {
	all chan struct{}

	mu sync.Mutex
	of map[warpket.ID]*turn
}

type turn struct {
	taken chan struct{}
	users int // who has it, or waits for it
}

func newTurns(most int) *turns {
	return &turns{all: make(chan struct{}, most), of: map[warpket.ID]*turn{}}
}

// take waits for a turn of the project, until done is called.
func (t *turns) take(ctx context.Context, project warpket.ID) (done func(), err error) {
	t.mu.Lock()
	own := t.of[project]
	if own == nil {
		own = &turn{taken: make(chan struct{}, 1)}
		t.of[project] = own
	}
	own.users++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if own.users--; own.users == 0 {
			delete(t.of, project)
		}
	}
	select {
	case own.taken <- struct{}{}:
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
	select {
	case t.all <- struct{}{}:
	case <-ctx.Done():
		<-own.taken
		leave()
		return nil, ctx.Err()
	}
	return func() {
		<-t.all
		<-own.taken
		leave()
	}, nil
}
