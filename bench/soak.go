package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// misdeed is something that a function does, and the ending that is then true.
type misdeed struct {
	name   string
	weight int // of a hundred executions or so
	input  object
	status string
	code   string // of its error, "" for none
	brief  bool   // it may take soakTimeout only
	killed bool   // somebody outside may have killed its worker: then it has crashed
	cancel bool   // the caller cancels it
}

// killable begins the code of the function whose workers are killed.
const killable = "# Its workers may be killed.\n"

// soaked is a function that does as it is told.
const soaked = `
import os, signal, subprocess, time

def handler(event, context):
    do = event["do"]
    if do == "raise":
        raise ValueError("as asked for")
    if do == "exit":
        os._exit(3)
    if do == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if do == "forever":
        while True:
            time.sleep(1)
    if do == "bomb":
        held = []
        while True:
            held.append(bytearray(8 << 20))
    if do == "daemon":
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(3600)
            os._exit(0)
        os.wait()
    if do == "talk":
        print("x" * 20000)
    if do == "work":
        time.sleep(0.02)
    return event["n"]
`

// soakTimeout is in seconds.
const soakTimeout = 0.5

var misdeeds = []misdeed{
	{name: "nothing", weight: 70, input: object{"do": ""}, status: "succeeded"},
	{name: "talks", weight: 4, input: object{"do": "talk"}, status: "succeeded"},
	{name: "works while workers are killed", weight: 10, input: object{"do": "work"}, status: "succeeded", killed: true},
	{name: "leaves a daemon", weight: 2, input: object{"do": "daemon"}, status: "succeeded"},
	{name: "raises", weight: 4, input: object{"do": "raise"}, status: "failed", code: "raised"},
	{name: "exits", weight: 2, input: object{"do": "exit"}, status: "failed", code: "exited"},
	{name: "crashes", weight: 2, input: object{"do": "crash"}, status: "failed", code: "crashed"},
	{name: "runs for ever", weight: 2, input: object{"do": "forever"}, brief: true, status: "timed_out", code: "timed_out"},
	{name: "fills its memory", weight: 2, input: object{"do": "bomb"}, status: "failed", code: "out_of_memory"},
	{name: "is cancelled", weight: 2, input: object{"do": "forever"}, status: "cancelled", code: "cancelled", cancel: true},
}

// rehearsal is what is executed before the machine is counted, so that what is
// made once has been made.
const rehearsal = 100

// soak makes n executions of a fresh product's node, with misdeeds among them,
// in both lanes. Each has to end as it should, and nothing may be left.
func soak(ctx context.Context, n int, dir string) error {
	p, err := startProduct(ctx, dir)
	if err != nil {
		return err
	}
	defer p.stop()
	project, err := p.newProject(ctx) // one, for its zygote stays
	if err != nil {
		return err
	}
	say("rehearsing with %d executions", rehearsal)
	if _, err := soakOnce(ctx, project, rehearsal); err != nil {
		return fmt.Errorf("rehearsing: %w", err)
	}
	before := p.census(ctx, nil)
	say("executing %d, from %s", n, before)
	began := time.Now()
	ended, err := soakOnce(ctx, project, n)
	if err != nil {
		return err
	}
	took := time.Since(began)
	after := p.census(ctx, before)
	for _, m := range misdeeds {
		fmt.Printf("%6d  %s\n", ended[m.name], m.name)
	}
	fmt.Printf("%d executions in %s, all in their true final state, %d of them killed from outside\n", n, took.Round(time.Second), ended["killed"])
	fmt.Printf("before: %s\nafter:  %s\n", before, after)
	return after.moreThan(before)
}

// soakOnce makes n executions of functions that it creates and deletes, and
// says how many of which there were.
func soakOnce(ctx context.Context, project project, n int) (map[string]int, error) {
	small := object{"templateLanguageTag": "Python", "resources": object{"memory": 128 << 20}}
	of := map[bool][]function{} // by whether their workers are killed
	for i := range 4 {
		code := soaked
		if i == 0 {
			code = killable + soaked
		}
		f, err := project.createWith(ctx, unique("soaked"), code, small)
		if err != nil {
			return nil, err
		}
		of[i == 0] = append(of[i == 0], f)
	}
	s := soaking{project: project, functions: of, ended: map[string]int{}}
	killing, stop := context.WithCancel(ctx)
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		killWorkers(killing)
	}()
	var made atomic.Int64
	g, inner := errgroup.WithContext(ctx)
	for range concurrency {
		g.Go(func() error {
			for i := made.Add(1); i <= int64(n); i = made.Add(1) {
				if err := s.execute(inner, int(i)); err != nil {
					return err
				}
				if i%1000 == 0 {
					say("%d", i)
				}
			}
			return nil
		})
	}
	err := g.Wait()
	stop()
	<-killed
	for _, f := range slices.Concat(of[true], of[false]) {
		err = errors.Join(err, project.remove(ctx, f))
	}
	return s.ended, err
}

type soaking struct {
	project   project
	functions map[bool][]function

	mu    sync.Mutex
	ended map[string]int
}

// execute makes one execution and compares its end with what is true.
func (s *soaking) execute(ctx context.Context, n int) error {
	m := pick(rand.IntN(100))                                         //nolint:gosec // nothing depends on it
	f := s.functions[m.killed][rand.IntN(len(s.functions[m.killed]))] //nolint:gosec // as above
	lane := []string{"express", "durable"}[n%2]
	body := object{"functionId": f.id, "lane": lane, "input": object{"do": m.input["do"], "n": n}, "sync": !m.cancel}
	if m.brief {
		body["resources"] = object{"timeout": soakTimeout}
	}
	var e execution
	server := s.project.server
	if m.cancel {
		server = server.without("Prefer") // it is not awaited
	}
	if err := server.post(ctx, "/v1/executions", body, &e); err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	if m.cancel {
		if err := pause(ctx, time.Duration(rand.IntN(100))*time.Millisecond); err != nil { //nolint:gosec // as above
			return err
		}
		if err := s.project.server.post(ctx, "/v1/executions/"+e.ID+"/cancel", nil, &e); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		if err := s.project.server.get(ctx, "/v1/executions/"+e.ID, &e); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	code, killed := "", false
	if e.Error != nil {
		code = e.Error.Code
	}
	switch {
	case e.Status == m.status && code == m.code && (m.status != "succeeded" || string(e.Result) == fmt.Sprint(n)):
	case m.killed && e.Status == "failed" && code == "crashed":
		killed = true
	default:
		return fmt.Errorf("execution %s, which %s, ended %s %+v with %s", e.ID, m.name, e.Status, e.Error, e.Result)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended[m.name]++
	if killed {
		s.ended["killed"]++
	}
	return nil
}

// pick gives a misdeed, each as often as it weighs.
func pick(at int) misdeed {
	for _, m := range misdeeds {
		if at -= m.weight; at < 0 {
			return m
		}
	}
	return misdeeds[0]
}
