package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// report prints one page: a table for each load, and the targets.
func report(out io.Writer, c config, pages [2][]result) error {
	gpus, cores := demand()
	fmt.Fprintf(out, "%d nodes with %d GPUs, %d projects, %g h after the fleet was filled, seed %d\n", c.nodes, c.nodes*nodeGPUs, c.projects, c.hours, c.seed)
	fmt.Fprintf(out, "at a load of 1: %.1f tasks a second, all GPUs and %.0f %% of all cores asked for\n", float64(c.nodes*nodeGPUs)/gpus, 100*cores/gpus*nodeGPUs*1000/nodeCPU)
	for i, results := range pages {
		fmt.Fprintf(out, "\nload %g\n", c.loads[i])
		t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "policy\tdecisions/s\tp50\tp99\tin use\tstranded\tJain\twait mean\tp99\tmax\t8 GPUs p99\t> 30 min\tstarvation\tplaced\twaiting")
		for _, r := range results {
			fmt.Fprintf(t, "%s\t%.0f\t%.3f ms\t%.3f ms\t%.2f %%\t%.1f %%\t%.4f\t%s\t%s\t%s\t%s\t%d\t%s\t%d\t%d\n", r.Policy, r.PerSecond, ms(r.P50), ms(r.P99), 100*r.Utilisation, 100*r.Stranded, r.Jain,
				seconds(r.WaitMean), seconds(r.WaitP99), seconds(r.WaitMax), seconds(r.LargeP99), r.Starved, map[bool]string{true: "none", false: "some"}[r.Starved == 0], r.Placed, r.Waiting)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	fmt.Fprintln(out, "\ntargets")
	var slowest, turn time.Duration
	for _, results := range pages {
		slowest, turn = max(slowest, results[0].P99), max(turn, results[0].Turn99)
	}
	best := pages[1][1]
	for _, r := range pages[1][2:] {
		if r.Utilisation > best.Utilisation {
			best = r
		}
	}
	line := func(met bool, format string, args ...any) {
		fmt.Fprintf(out, "%s  %s\n", map[bool]string{true: "met   ", false: "missed"}[met], fmt.Sprintf(format, args...))
	}
	line(slowest <= 5*time.Millisecond, "p99 of a decision at most 5 ms: %.3f ms", ms(slowest))
	line(turn <= 5*time.Millisecond, "p99 of a decision while %d wait at most 5 ms: %.3f ms (p50 with room for them %.3f ms, without %.3f ms)", most, ms(turn), ms(pages[0][0].Turn50), ms(pages[1][0].Turn50))
	own := pages[1][0].Utilisation
	line(own >= best.Utilisation, "GPUs in use under overload at least those of the best other, %s: %.3f %% and %.3f %%, %+.3f points", best.Policy, 100*own, 100*best.Utilisation, 100*(own-best.Utilisation))
	for i, results := range pages {
		r := results[0]
		line(r.Starved == 0, "at a load of %g nothing waits for longer than half an hour: %d of %d do, the longest %s", c.loads[i], r.Starved, r.Placed+r.Waiting, seconds(r.WaitMax))
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func seconds(d time.Duration) string { return fmt.Sprintf("%.0f s", d.Seconds()) }
