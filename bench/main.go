// Command bench measures what a call of a function costs, beside other ways of
// serving the same function. It runs in the root of the repository, "go run
// ./bench"; README.md tells what it measures and how to read it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// config is what the flags say.
type config struct {
	calls   int
	colds   int
	seconds time.Duration
	quiet   time.Duration
	only    []string
	peers   []string
	json    string
	soak    int
}

func (c config) asks(question string) bool { return slices.Contains(c.only, question) }

var allPeers = []string{"nuclio", "openlambda", "watchdog", "fastapi", "ray", "temporal", "process"}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	c, err := parse(os.Args[1:])
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, time.Hour, errors.New("it took longer than an hour"))
	defer cancel()
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	if c.soak > 0 {
		err = soak(ctx, c.soak, dir)
	} else {
		err = page(ctx, c, dir)
	}
	if err != nil {
		if context.Cause(ctx) != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("%w (data and logs are kept in %s)", err, dir)
	}
	return os.RemoveAll(dir)
}

func parse(args []string) (config, error) {
	var c config
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&c.calls, "n", 300, "calls of a sequential case, which also ends after 8 s")
	flags.IntVar(&c.colds, "cold", 12, "first calls of a case, which also ends after 10 s")
	flags.DurationVar(&c.seconds, "time", 3*time.Second, "how long a concurrent case takes")
	flags.DurationVar(&c.quiet, "quiet", 2*time.Second, "how long to wait for a quiet machine before each case")
	only := flags.String("only", strings.Join(questions, ","), "what is asked")
	peers := flags.String("peers", strings.Join(allPeers, ","), "what runs beside the product; none for nothing")
	flags.StringVar(&c.json, "json", "", "file for one JSON line per case")
	flags.IntVar(&c.soak, "soak", 0, "instead of all that: so many executions, with kills, timeouts and memory bombs among them")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	if c.calls < 1 || c.calls > 100_000 || c.colds < 1 || c.colds > 100 || c.seconds <= 0 || c.seconds > time.Minute || c.soak > 1_000_000 {
		return c, errors.New("--n is 1 to 100000, --cold 1 to 100, --time at most 1m, --soak at most 1000000")
	}
	var err error
	if c.only, err = choose(*only, questions); err == nil && *peers != "none" {
		c.peers, err = choose(*peers, allPeers)
	}
	return c, err
}

// choose reads a list of some of all.
func choose(list string, all []string) (chosen []string, err error) {
	for item := range strings.SplitSeq(list, ",") {
		if !slices.Contains(all, item) {
			return nil, fmt.Errorf("there is no %q, only %s", item, strings.Join(all, ", "))
		}
		chosen = append(chosen, item)
	}
	return chosen, nil
}

// page measures everything and prints it.
func page(ctx context.Context, c config, dir string) error {
	results, err := measureAll(ctx, c, dir)
	if err != nil {
		return err
	}
	if err := report(os.Stdout, results, c.json); err != nil {
		return err
	}
	if slices.ContainsFunc(results, func(r result) bool { return r.Error != "" }) {
		return errors.New("not all cases could be measured")
	}
	return nil
}

// measureAll measures the product first and ends it before the peers that do
// without its Temporal server, so that none has to share the machine.
func measureAll(ctx context.Context, c config, dir string) ([]result, error) {
	say("starting the product")
	product, err := startProduct(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer product.stop()
	if slices.Equal(c.only, []string{lists}) {
		return c.measureLists(ctx, product), context.Cause(ctx)
	}
	warpket, err := deploy(ctx, product)
	if err != nil {
		return nil, err
	}
	made, err := makeEnvironments(ctx, c.peers, warpket.runtime)
	if err != nil {
		return nil, err
	}
	var results []result
	if e, ok := made["plain"]; ok {
		speed, err := readSpeed(ctx, e)
		if err != nil {
			return nil, err
		}
		results = append(results, result{Question: machine, Case: "circuit in a tight loop, 1 thread", P50: speed, At: time.Now().UTC().Truncate(time.Second)})
	}
	if c.asks(memory) {
		say("measuring memory")
		results = append(results, c.measureMemory(ctx, product))
	}
	for _, lane := range []string{express, durable} {
		results = append(results, c.measure(ctx, lane, func() (peer, error) { return warpket.peer(lane), nil })...)
	}
	if c.asks(cold) {
		say("measuring %s", newProject)
		results = append(results, c.measureCold(ctx, warpket.peer(newProject))...)
	}
	if c.asks(logs) {
		say("measuring logs")
		results = append(results, c.measureLogs(ctx, product))
	}
	if slices.Contains(c.peers, "temporal") {
		results = append(results, c.measure(ctx, "temporal", func() (peer, error) { return startTemporal(ctx, made["temporal"], product.temporal, dir) })...)
	}
	if c.asks(lists) { // last, for the database is large from then on
		results = append(results, c.measureLists(ctx, product)...)
	}
	product.stop()
	for _, name := range c.peers {
		e := made[environmentOf(name)]
		switch name {
		case "temporal":
		case "process":
			results = append(results, c.measure(ctx, name, func() (peer, error) { return processPeer(e), nil })...)
		case "ray":
			results = append(results, c.measure(ctx, name, func() (peer, error) { return startRay(ctx, e, dir) })...)
		default:
			results = append(results, c.measure(ctx, name, func() (peer, error) { return serverPeer(name, e, dir), nil })...)
			e.shipped = true
			results = append(results, c.measure(ctx, name+unset, func() (peer, error) { return serverPeer(name, e, dir), nil })...)
		}
	}
	return results, context.Cause(ctx)
}

// makeEnvironments makes what the peers need.
func makeEnvironments(ctx context.Context, peers []string, r runtime) (map[string]environment, error) {
	made := map[string]environment{}
	if len(peers) == 0 {
		return made, nil
	}
	for _, peer := range peers {
		name := environmentOf(peer)
		if _, ok := made[name]; ok {
			continue
		}
		var err error
		if made[name], err = makeEnvironment(ctx, name, r); err != nil {
			return nil, err
		}
	}
	return made, buildFront(ctx)
}

func environmentOf(peer string) string {
	if s, ok := servers[peer]; ok {
		return s.environment
	}
	if peer == "process" {
		return "plain"
	}
	return peer
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
