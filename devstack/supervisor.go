package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// startAttempts is how often a part may fail before it has run at all. Some
// failures pass, as when somebody takes a port in the wrong moment.
const startAttempts = 3

// keeper keeps one part running: it starts it, and starts it again when it
// ends although nobody asked it to.
type keeper struct {
	name   string
	ports  []string
	after  string // the part that must be ready before this one starts
	stopIn time.Duration
	// prepare makes what the part needs before each of its starts, and returns
	// its settings and who it runs as.
	prepare func(context.Context) (settings any, as user, err error)

	stack  *devstack
	ready  chan struct{} // closed when the part is ready for the first time
	ended  chan struct{} // closed when run has returned
	cancel context.CancelFunc
}

// unfixable is an error that starting again cannot mend.
type unfixable struct{ error }

// run returns nil when ctx ends. It returns an error if the part never became ready.
func (k *keeper) run(ctx context.Context) error {
	if k.stack.await(ctx, k.after) != nil {
		return nil //nolint:nilerr // ctx has ended
	}
	wait := time.Duration(0)
	for attempt := 1; ; attempt++ {
		began := time.Now()
		err := k.once(ctx)
		if ctx.Err() != nil {
			k.report(stopped, "")
			return nil //nolint:nilerr // it was asked to stop
		}
		if !k.wasReady() && (attempt == startAttempts || errors.As(err, new(unfixable))) {
			k.report(failed, err.Error())
			return fmt.Errorf("%s did not start: %w\nits log is %s", k.name, err, k.stack.cfg.path("log", logOf(k.name)))
		}
		if time.Since(began) > 30*time.Second {
			wait = 0 // it did run: not the same trouble again
		}
		k.report(restarting, err.Error())
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait = min(max(2*wait, 500*time.Millisecond), 15*time.Second)
	}
}

// once runs the part once, until it ends or ctx does.
func (k *keeper) once(ctx context.Context) error {
	if !k.wasReady() { // later the addresses are known to others and must stay
		replaced, err := k.stack.ports.settle(k.ports...)
		if err != nil {
			return unfixable{err}
		}
		for _, what := range replaced {
			k.report(starting, what)
		}
	}
	settings, as, err := k.prepare(ctx)
	if err != nil {
		return unfixable{err}
	}
	k.report(starting, "")
	c, err := k.stack.spawn(k.name, settings, as)
	if err != nil {
		return err
	}
	reason := ""
	for {
		select {
		case e, more := <-c.events:
			if !more {
				return ending(reason, c.err)
			}
			switch e.Phase {
			case failed: // its last words
				reason = e.Detail
			case ready:
				k.report(ready, e.Detail)
				if !k.wasReady() {
					close(k.ready)
				}
			default:
				k.report(e.Phase, e.Detail)
			}
		case <-ctx.Done():
			c.stop(k.stopIn)
			return ctx.Err()
		}
	}
}

// ending says why a part ended, in its own words if it left any.
func ending(reason string, err error) error {
	switch {
	case reason != "":
		return errors.New(reason)
	case err != nil:
		return fmt.Errorf("it ended (%w)", err)
	default:
		return errors.New("it ended without being asked to")
	}
}

func (k *keeper) wasReady() bool {
	select {
	case <-k.ready:
		return true
	default:
		return false
	}
}

func (k *keeper) report(ph phase, detail string) {
	k.stack.out.report(event{Part: k.name, Phase: ph, Detail: detail})
}
