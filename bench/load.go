package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// peer is something that runs the functions.
type peer struct {
	name    string
	measure func(context.Context, load) (outcome, error)
	// cold makes one call of a function whose process is new; nil where there
	// is no such thing.
	cold func(ctx context.Context, function string) (call, error)
	stop func()
}

// load is what a peer is asked for: calls of a function, of which some are
// outstanding at any time, until enough were made or the time is up.
type load struct {
	function    string
	outstanding int
	calls       int
	gap         time.Duration // between two calls of a caller
	time        time.Duration
}

// call is one call as its caller saw it, in milliseconds.
type call struct {
	Total  float64            `json:"totalMs"`
	Result json.RawMessage    `json:"result"`
	Phases map[string]float64 `json:"-"` // the product's word on where the time went
}

// circuit is the time that the circuit itself took, 0 where there is none.
func (c call) circuit() float64 {
	var bell struct{ CircuitMs float64 }
	_ = json.Unmarshal(c.Result, &bell)
	return bell.CircuitMs
}

// outcome is what came of a load.
type outcome struct {
	calls []call
	took  time.Duration
}

// events are the functions, with what they are called with.
var events = map[string]string{
	"bell": `{}`,
	"echo": `{"message":"hello"}`,
}

// functions are the names of events in the order of the page.
var functions = slices.Sorted(maps.Keys(events))

const concurrency = 8

// processesFor is how many processes every peer serves a load with.
func processesFor(l load) int { return min(2, l.outstanding) }

// check says whether a result is what the function should have returned.
func check(function string, got json.RawMessage) error {
	if function == "bell" {
		var bell struct{ Counts map[string]int }
		err := json.Unmarshal(got, &bell)
		if err == nil && bell.Counts["00"]+bell.Counts["11"] == 1024 {
			return nil
		}
		return fmt.Errorf("bell returned %s", got)
	}
	var want, is any
	if json.Unmarshal([]byte(events[function]), &want) != nil || json.Unmarshal(got, &is) != nil || fmt.Sprint(want) != fmt.Sprint(is) {
		return fmt.Errorf("%s returned %s", function, got)
	}
	return nil
}

// drive makes the calls of a load. once makes one call; its total is measured
// here.
func drive(ctx context.Context, l load, once func(context.Context) (call, error)) (outcome, error) {
	var mu sync.Mutex
	var o outcome
	var made atomic.Int64
	started := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for range l.outstanding {
		g.Go(func() error {
			for made.Add(1) <= int64(l.calls) && time.Since(started) < l.time {
				if err := pause(ctx, l.gap); err != nil {
					return err
				}
				began := time.Now()
				c, err := once(ctx)
				if err != nil {
					return err
				}
				c.Total = milliseconds(time.Since(began))
				mu.Lock()
				o.calls = append(o.calls, c)
				mu.Unlock()
			}
			return nil
		})
	}
	err := g.Wait()
	o.took = time.Since(started)
	return o, err
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
