package api

import (
	"context"
	"errors"
	"testing"

	"github.com/warpket/warpket"
)

func TestAProjectHasOneTurnAtATime(t *testing.T) {
	t.Parallel()
	turns := newTurns(2)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	take := func(project warpket.ID) func() {
		t.Helper()
		done, err := turns.take(t.Context(), project)
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	refused := func(project warpket.ID) {
		t.Helper()
		if _, err := turns.take(over, project); !errors.Is(err, context.Canceled) {
			t.Errorf("%s got a turn: %v", project, err)
		}
	}
	a := take("a")
	refused("a")
	b := take("b")
	refused("c") // there are two
	next := make(chan func())
	go func() { next <- take("a") }()
	a()
	a = <-next
	b()
	take("c")()
	a()
	if len(turns.of) != 0 || len(turns.all) != 0 {
		t.Errorf("left are %v and %d", turns.of, len(turns.all))
	}
}
