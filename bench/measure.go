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
	measure func(context.Context, load) (outcome, error)
	stop    func()
}

// load is what a peer is asked for: calls of a function, of which some are
// outstanding at any time, until enough were made or the time is up.
type load struct {
	function    string
	outstanding int
	calls       int
	time        time.Duration
}

// call is one call as its caller saw it, in milliseconds.
type call struct {
	Total  float64            `json:"totalMs"`
	Ran    float64            `json:"ranMs"` // the handler's own time
	Result json.RawMessage    `json:"result"`
	Phases map[string]float64 `json:"-"` // the product's word on where the time went
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

const (
	concurrency    = 8
	sequentialTime = 20 * time.Second
	caseTime       = 2 * time.Minute // nothing that works takes as long
)

// measure starts a peer, measures its cases and ends it. What does not work is
// in the results.
func (c config) measure(ctx context.Context, name string, start func() (peer, error)) []result {
	if ctx.Err() != nil {
		return nil
	}
	say("measuring %s", name)
	loads := c.loads()
	cases := make([]result, len(loads))
	p, err := start()
	if err == nil {
		defer p.stop()
	}
	for i, l := range loads {
		cases[i] = result{Peer: name, Function: l.function, Outstanding: l.outstanding}
		if err == nil {
			cases[i].NoiseBefore = settle(ctx, c.quiet)
			err = cases[i].measure(ctx, p, l)
		}
		if err != nil {
			cases[i].Error = err.Error()
		}
	}
	return cases
}

// loads are the cases of each peer.
func (c config) loads() []load {
	var loads []load
	for _, function := range functions {
		loads = append(loads,
			load{function: function, outstanding: 1, calls: c.calls, time: sequentialTime},
			load{function: function, outstanding: concurrency, calls: 1 << 30, time: time.Duration(c.seconds * float64(time.Second))},
		)
	}
	return loads
}

// measure measures a case of a peer that has been warmed for it.
func (r *result) measure(ctx context.Context, p peer, l load) error {
	ctx, cancel := context.WithTimeoutCause(ctx, caseTime, fmt.Errorf("the case took longer than %s", caseTime))
	defer cancel()
	warming := l
	warming.calls, warming.time = 20*l.outstanding, 2*time.Second
	if _, err := p.measure(ctx, warming); err != nil {
		return fmt.Errorf("warming: %w", err)
	}
	before := readUsage()
	o, err := p.measure(ctx, l)
	if err != nil {
		return err
	}
	r.NoiseDuring = readUsage().othersSince(before)
	for _, call := range o.calls {
		if err := check(l.function, call.Result); err != nil {
			return err
		}
	}
	r.fill(o)
	return nil
}

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

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
