// Command fleet simulates a fleet of GPUs on which slots are placed, by the
// product's own placement and by others, and prints one page. It runs anywhere,
// "go run ./bench/fleet"; bench/README.md tells what it measures.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

// config is what the flags say.
type config struct {
	nodes    int
	hours    float64
	loads    [2]float64
	seed     uint64
	projects int
}

func run() error {
	c := config{loads: [2]float64{0.9, 1.15}}
	flags := flag.NewFlagSet("fleet", flag.ContinueOnError)
	flags.IntVar(&c.nodes, "nodes", 10_000, "nodes, of 8 GPUs each")
	flags.Float64Var(&c.hours, "hours", 1, "how long the fleet is simulated after it was filled")
	flags.Uint64Var(&c.seed, "seed", 1, "the same seed gives the same page, but for times of decisions")
	flags.IntVar(&c.projects, "projects", 20, "projects that share the fleet")
	if err := flags.Parse(os.Args[1:]); err != nil {
		return err
	}
	if c.nodes < 1 || c.nodes > 100_000 || c.hours <= 0 || c.hours > 48 || c.projects < 2 || c.projects > 1000 {
		return errors.New("--nodes is 1 to 100000, --hours at most 48, --projects 2 to 1000")
	}
	runtime.LockOSThread() // whose time is measured
	var pages [2][]result
	for i, load := range c.loads {
		for _, p := range policies {
			start := time.Now()
			made := p.make(c)
			r := simulate(c, load, made)
			r.Policy = p.name
			if product, ok := made.(*product); ok {
				r.Turn50, r.Turn99 = product.turns(c)
			}
			pages[i] = append(pages[i], r)
			fmt.Fprintf(os.Stderr, "load %g, %s: simulated in %.0f s\n", load, p.name, time.Since(start).Seconds())
		}
	}
	return report(os.Stdout, c, pages)
}
