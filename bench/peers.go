package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// processes is the peer that starts a Python process for each call.
func processes(e environment) peer {
	return peer{stop: func() {}, measure: func(ctx context.Context, l load) (outcome, error) {
		return drive(ctx, l, func(ctx context.Context) (call, error) {
			var c call
			out, err := e.command(ctx, "process", l.function, events[l.function]).Output()
			if failed := new(exec.ExitError); errors.As(err, &failed) {
				return c, fmt.Errorf("process.py: %w: %s", err, failed.Stderr)
			}
			if err != nil {
				return c, err
			}
			err = json.Unmarshal(out, &c)
			return c, err
		})
	}}
}

// startRay starts Ray Serve.
func startRay(ctx context.Context, e environment, dir string) (peer, error) {
	s, err := startScript(ctx, e, dir, "ray_serve", append([]string{filepath.Join(dir, "ray")}, functions...)...)
	if err != nil {
		return peer{}, err
	}
	var ready struct{ URL string }
	if err := s.hear(&ready); err != nil {
		s.stop()
		return peer{}, err
	}
	server := newClient(ready.URL, nil)
	return peer{stop: s.stop, measure: func(ctx context.Context, l load) (outcome, error) {
		path := fmt.Sprintf("/%d", processesFor(l))
		request := object{"function": l.function, "event": json.RawMessage(events[l.function])}
		return drive(ctx, l, func(ctx context.Context) (call, error) {
			var c call
			err := server.post(ctx, path, request, &c)
			return c, err
		})
	}}, nil
}

// namespace is the peer's own in the product's Temporal server.
const namespace = "bench"

// startTemporal starts a Temporal client and its workers: one on the queue
// "bench-1", two on the queue "bench-2".
func startTemporal(ctx context.Context, e environment, address, dir string) (peer, error) {
	var all []*script
	stop := func() {
		for _, s := range all {
			s.stop()
		}
	}
	start := func(name string, args ...string) error {
		s, err := startScript(ctx, e, dir, name, append([]string{address, namespace}, args...)...)
		if err != nil {
			return err
		}
		all = append(all, s)
		return s.hear(&struct{}{})
	}
	err := start("temporal_client") // makes the namespace
	for _, processes := range []int{1, 2, 2} {
		if err == nil {
			err = start("temporal_worker", append([]string{queue(processes)}, functions...)...)
		}
	}
	if err != nil {
		stop()
		return peer{}, err
	}
	return peer{stop: stop, measure: func(_ context.Context, l load) (outcome, error) {
		var answer struct {
			Calls   []call
			Seconds float64
		}
		err := all[0].ask(object{
			"queue": queue(processesFor(l)), "function": l.function, "event": json.RawMessage(events[l.function]),
			"outstanding": l.outstanding, "calls": l.calls, "seconds": l.time.Seconds(),
		}, &answer)
		return outcome{answer.Calls, time.Duration(answer.Seconds * float64(time.Second))}, err
	}}, nil
}

func queue(processes int) string { return namespace + "-" + strconv.Itoa(processes) }
