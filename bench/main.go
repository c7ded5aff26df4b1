// Command bench measures what the product adds to a function's own time,
// beside a fresh process and other ways of serving the same function. It runs
// in the root of the repository, "go run ./bench"; README.md tells what it
// measures and how to read it.
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
	seconds float64
	quiet   time.Duration
	peers   []string
	json    string
}

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
	ctx, cancel := context.WithTimeoutCause(ctx, time.Hour, errors.New("the page took longer than an hour"))
	defer cancel()
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	cases, err := page(ctx, c, dir)
	if err != nil {
		if context.Cause(ctx) != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("%w (data and logs are kept in %s)", err, dir)
	}
	if err := report(os.Stdout, cases, c.json); err != nil {
		return err
	}
	if slices.ContainsFunc(cases, func(r result) bool { return r.Error != "" }) {
		return fmt.Errorf("not all cases could be measured (data and logs are kept in %s)", dir)
	}
	return os.RemoveAll(dir)
}

func parse(args []string) (config, error) {
	var c config
	all := []string{"process", "temporal", "ray"}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&c.calls, "n", 300, "calls of a sequential case, which also ends after 20 s")
	flags.Float64Var(&c.seconds, "seconds", 5, "how long a concurrent case takes")
	flags.DurationVar(&c.quiet, "quiet", 5*time.Second, "how long to wait for a quiet machine before each case")
	peers := flags.String("peers", strings.Join(all, ","), "what runs beside the product")
	flags.StringVar(&c.json, "json", "", "file for one JSON line per case")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	if c.calls < 1 || c.calls > 100_000 || c.seconds <= 0 || c.seconds > 60 {
		return c, errors.New("--n is 1 to 100000, --seconds at most 60")
	}
	for peer := range strings.SplitSeq(*peers, ",") {
		if peer != "" && !slices.Contains(all, peer) {
			return c, fmt.Errorf("there is no peer %q, only %s", peer, strings.Join(all, ", "))
		}
		c.peers = append(c.peers, peer)
	}
	return c, nil
}

// page measures everything. The product runs first and ends before the peers
// that do without its Temporal server, so that none has to share the machine.
func page(ctx context.Context, c config, dir string) ([]result, error) {
	say("starting the product")
	product, err := startProduct(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer product.stop()
	warpket, err := deploy(ctx, product)
	if err != nil {
		return nil, err
	}

	environments := map[string]environment{}
	for _, name := range c.peers {
		if environments[name], err = makeEnvironment(ctx, name, warpket.runtime); err != nil {
			return nil, err
		}
	}
	cases := c.measure(ctx, "warpket", func() (peer, error) { return warpket.peer(), nil })
	if slices.Contains(c.peers, "temporal") {
		cases = append(cases, c.measure(ctx, "temporal", func() (peer, error) {
			return startTemporal(ctx, environments["temporal"], product.temporal, dir)
		})...)
	}
	product.stop()
	if slices.Contains(c.peers, "process") {
		cases = append(cases, c.measure(ctx, "process", func() (peer, error) {
			return processes(environments["process"]), nil
		})...)
	}
	if slices.Contains(c.peers, "ray") {
		cases = append(cases, c.measure(ctx, "ray", func() (peer, error) { return startRay(ctx, environments["ray"], dir) })...)
	}
	return cases, context.Cause(ctx)
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
