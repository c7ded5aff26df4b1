package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// unset ends the names of peers that run with Aer's threads as it is shipped;
// all others have one.
const unset = ", threads as shipped"

func shipped(peer string) bool { return strings.HasSuffix(peer, unset) }

// servers are the peers that serve one function over HTTP: the programs that
// do so, and the environment that they need.
var servers = map[string]struct{ program, environment string }{
	"nuclio":     {"front", "plain"},
	"openlambda": {"front", "plain"},
	"watchdog":   {"front", "web"},
	"fastapi":    {"fastapi_app", "web"},
}

// httpServers is a peer that serves each function, on each number of
// processes, by a server of its own, which is started when it is first needed.
type httpServers struct {
	name    string
	e       environment
	dir     string
	started map[string]httpServer
}

type httpServer struct {
	*script
	client httpClient
}

// serverPeer gives such a peer.
func serverPeer(name string, e environment, dir string) peer {
	s := httpServers{name, e, dir, map[string]httpServer{}}
	p := peer{name: name, measure: s.measure, cold: s.coldStart, stop: s.stop}
	if e.shipped {
		p.name += unset
	}
	if name == "openlambda" {
		p.cold = s.coldFork
	}
	return p
}

// start starts a server for a function and waits until it serves.
func (s httpServers) start(ctx context.Context, function string, processes int) (httpServer, error) {
	args := []string{function, strconv.Itoa(processes)}
	name := servers[s.name].program
	cmd := s.e.command(ctx, name, args...)
	if name == "front" {
		cmd = s.e.plain(ctx, front, append([]string{s.name, s.e.python}, args...)...)
	}
	script, err := startScript(cmd, s.dir, s.name)
	if err != nil {
		return httpServer{}, err
	}
	var ready struct{ URL string }
	if err := script.hear(&ready); err != nil {
		script.stop()
		return httpServer{}, err
	}
	return httpServer{script, newClient(ready.URL, nil)}, nil
}

func (s httpServers) server(ctx context.Context, function string, processes int) (httpServer, error) {
	key := function + strconv.Itoa(processes)
	if server, ok := s.started[key]; ok {
		return server, nil
	}
	server, err := s.start(ctx, function, processes)
	if err == nil {
		s.started[key] = server
	}
	return server, err
}

func (s httpServers) stop() {
	for _, server := range s.started {
		server.stop()
	}
}

func (s httpServers) measure(ctx context.Context, l load) (outcome, error) {
	server, err := s.server(context.WithoutCancel(ctx), l.function, processesFor(l)) // it serves the next load too
	if err != nil {
		return outcome{}, err
	}
	return drive(ctx, l, func(ctx context.Context) (call, error) { return server.call(ctx, "/", l.function) })
}

// coldStart measures from the start of a server to its first answer.
func (s httpServers) coldStart(ctx context.Context, function string) (call, error) {
	began := time.Now()
	server, err := s.start(ctx, function, 1)
	if err != nil {
		return call{}, err
	}
	defer server.stop()
	c, err := server.call(ctx, "/", function)
	c.Total = milliseconds(time.Since(began))
	return c, err
}

// coldFork measures a call in a new fork of a server that is up.
func (s httpServers) coldFork(ctx context.Context, function string) (call, error) {
	server, err := s.server(context.WithoutCancel(ctx), function, 1)
	if err != nil {
		return call{}, err
	}
	began := time.Now()
	c, err := server.call(ctx, "/cold", function)
	c.Total = milliseconds(time.Since(began))
	return c, err
}

func (s httpServer) call(ctx context.Context, path, function string) (c call, err error) {
	err = s.client.post(ctx, path, json.RawMessage(events[function]), &c)
	return c, err
}

// processPeer is the peer that starts a Python process for each call.
func processPeer(e environment) peer {
	return peer{name: "process", stop: func() {}, cold: func(ctx context.Context, function string) (c call, err error) {
		began := time.Now()
		out, err := e.command(ctx, "process", function, events[function]).Output()
		took := milliseconds(time.Since(began))
		if failed := new(exec.ExitError); errors.As(err, &failed) {
			return c, fmt.Errorf("process.py: %w: %s", err, failed.Stderr)
		}
		if err == nil {
			err = json.Unmarshal(out, &c)
		}
		c.Total = took
		return c, err
	}}
}

// startRay starts Ray Serve.
func startRay(ctx context.Context, e environment, dir string) (peer, error) {
	s, err := startScript(e.command(ctx, "ray_serve", append([]string{filepath.Join(dir, "ray")}, functions...)...), dir, "ray_serve")
	if err != nil {
		return peer{}, err
	}
	var ready struct{ URL string }
	if err := s.hear(&ready); err != nil {
		s.stop()
		return peer{}, err
	}
	server := newClient(ready.URL, nil)
	return peer{name: "ray", stop: s.stop, measure: func(ctx context.Context, l load) (outcome, error) {
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
		s, err := startScript(e.command(ctx, name, append([]string{address, namespace}, args...)...), dir, name)
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
	return peer{name: "temporal", stop: stop, measure: func(_ context.Context, l load) (outcome, error) {
		var answer struct {
			Calls   []call
			Seconds float64
		}
		err := all[0].ask(object{
			"queue": queue(processesFor(l)), "function": l.function, "event": json.RawMessage(events[l.function]),
			"outstanding": l.outstanding, "calls": l.calls, "seconds": l.time.Seconds(), "gap": l.gap.Seconds(),
		}, &answer)
		return outcome{answer.Calls, time.Duration(answer.Seconds * float64(time.Second))}, err
	}}, nil
}

func queue(processes int) string { return namespace + "-" + strconv.Itoa(processes) }

// readSpeed measures the circuit in a tight loop, in milliseconds at p50: how
// fast the machine is now.
func readSpeed(ctx context.Context, e environment) (float64, error) {
	out, err := e.command(ctx, "loop").Output()
	if err != nil {
		return 0, fmt.Errorf("loop.py: %w", err)
	}
	return strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
}
