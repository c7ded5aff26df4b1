package main

import (
	"context"
	"fmt"
	"time"
)

// The questions that the page answers, in its order.
const (
	warm       = "warm"
	cold       = "cold"
	throughput = "throughput"
	memory     = "memory"
	logs       = "logs"
	lists      = "lists"
	machine    = "machine" // how fast it is now: asked by itself
)

var questions = []string{warm, cold, throughput, memory, logs, lists}

const (
	sequentialTime = 8 * time.Second
	coldTime       = 10 * time.Second
	caseTime       = 2 * time.Minute // nothing that works takes as long
	gap            = 60 * time.Millisecond
	coldGap        = 300 * time.Millisecond // enough to have a child parked again
)

// measureCase is one case that a peer is measured in.
type measureCase struct {
	question, title string
	load            load
}

// cases are those of every peer, less those of questions that nobody asked.
func (c config) cases(peer string) []measureCase {
	var all []measureCase
	for _, function := range functions {
		if function != "bell" && shipped(peer) {
			continue // without Aer the number of threads makes no difference
		}
		if c.asks(warm) {
			all = append(all,
				measureCase{warm, function + ", every 60 ms", load{function: function, outstanding: 1, calls: min(c.calls, 60), gap: gap, time: sequentialTime}},
				measureCase{warm, function + ", back to back", load{function: function, outstanding: 1, calls: c.calls, time: sequentialTime}})
		}
		if c.asks(throughput) {
			all = append(all, measureCase{throughput, function + ", 8 at once", load{function: function, outstanding: concurrency, calls: 1 << 30, time: c.seconds}})
		}
	}
	return all
}

// measure starts a peer, measures its cases and ends it. What does not work is
// in the results.
func (c config) measure(ctx context.Context, name string, start func() (peer, error)) []result {
	if ctx.Err() != nil {
		return nil
	}
	say("measuring %s", name)
	var results []result
	p, err := start()
	if err == nil {
		defer p.stop()
	}
	for _, m := range c.cases(name) {
		if err == nil && p.measure == nil {
			break // it has first calls only
		}
		r := result{Question: m.question, Case: m.title, Peer: name}
		if err == nil {
			r.NoiseBefore = settle(ctx, c.quiet)
			err = r.measure(ctx, p, m.load)
		}
		results = append(results, r.failed(err))
	}
	if c.asks(cold) && err == nil && p.cold != nil {
		results = append(results, c.measureCold(ctx, p)...)
	}
	return results
}

// measure measures a case of a peer that has been warmed for it.
func (r *result) measure(ctx context.Context, p peer, l load) error {
	ctx, cancel := context.WithTimeoutCause(ctx, caseTime, fmt.Errorf("the case took longer than %s", caseTime))
	defer cancel()
	warming := l
	warming.calls, warming.time, warming.gap = 20*l.outstanding, time.Second, 0
	if _, err := p.measure(ctx, warming); err != nil {
		return fmt.Errorf("warming: %w", err)
	}
	before, programs := readUsage(), readPrograms()
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
	if l.outstanding > 1 { // a call at a time is too little for the kernel's clock ticks
		r.CPU = programs.perCall(readPrograms(), len(o.calls))
	}
	r.fill(o)
	return nil
}

// measureCold measures first calls of a peer, one after another.
func (c config) measureCold(ctx context.Context, p peer) []result {
	var results []result
	for _, function := range functions {
		if function != "bell" && shipped(p.name) {
			continue // as above
		}
		r := result{Question: cold, Case: function, Peer: p.name, NoiseBefore: settle(ctx, c.quiet)}
		err := r.fillCold(ctx, c.colds, function, p.cold)
		results = append(results, r.failed(err))
	}
	return results
}

// fillCold makes first calls, each of which measures itself.
func (r *result) fillCold(ctx context.Context, calls int, function string, once func(context.Context, string) (call, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, caseTime, fmt.Errorf("the case took longer than %s", caseTime))
	defer cancel()
	before := readUsage()
	var o outcome
	for range calls {
		if time.Since(before.at) > coldTime && len(o.calls) >= 3 {
			break
		}
		if err := pause(ctx, coldGap); err != nil {
			return err
		}
		answer, err := once(ctx, function)
		if err != nil {
			return err
		}
		if err := check(function, answer.Result); err != nil {
			return err
		}
		o.calls = append(o.calls, answer)
	}
	o.took = time.Since(before.at)
	r.NoiseDuring = readUsage().othersSince(before)
	r.fill(o)
	r.PerSecond = 0 // there are pauses
	return nil
}
