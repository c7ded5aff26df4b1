package main

import (
	"fmt"
	"io"
)

// target is a bound on a figure of the page.
type target struct {
	says                 string
	question, title, who string
	figure               func(result) float64
	bound                float64
	least                bool // the figure has to be at least the bound
	timeless             bool // a faster machine does not change it
}

// speedThen is the circuit in a tight loop, with one thread, on the machine
// that the targets are for, in milliseconds.
const speedThen = 0.76

func p50(r result) float64       { return r.P50 }
func p99(r result) float64       { return r.P99 }
func perSecond(r result) float64 { return r.PerSecond }
func phase(name string) func(result) float64 {
	return func(r result) float64 { return r.Phases[name] }
}

func held(name string) func(result) float64 {
	return func(r result) float64 { return r.Memory[name] }
}

// targets are the bounds for Qiskit 2.6.2 on a machine of two cores, sandboxed
// and with a durable record of every call.
var targets = []target{
	{"a warm bell, express, ms at p50", warm, "bell, back to back", express, p50, 2.5, false, false},
	{"its worker beyond the circuit, ms at p50", warm, "bell, back to back", express, phase("worker"), 1, false, false},
	{"a warm bell, durable, ms at p50", warm, "bell, back to back", durable, p50, 12, false, false},
	{"a first bell, express, up to its result at the node, ms at p50", cold, "bell", express, phase("node"), 10, false, false},
	{"a first bell, express, ms at p50", cold, "bell", express, p50, 20, false, false},
	{"a first bell, durable, ms at p50", cold, "bell", durable, p50, 40, false, false},
	{"a first bell of a project, on a spare, ms at p50", cold, "bell", newProject, p50, 45, false, false},
	{"bell, express, 8 outstanding, per second", throughput, "bell, 8 at once", express, perSecond, 800, true, false},
	{"echo, express, 8 outstanding, per second", throughput, "echo, 8 at once", express, perSecond, 2000, true, false},
	{"bell, durable, 8 outstanding, per second", throughput, "bell, 8 at once", durable, perSecond, 120, true, false},
	{"a line of a log at its reader, ms at p99", logs, "a line every 30 ms", express, p99, 200, false, true},
	{"a page of functions with its slowest filter, over HTTP, ms at p50", lists, slowestFunctions, overHTTP, p50, 20, false, false},
	{"a page of executions with its slowest filter, over HTTP, ms at p50", lists, slowestExecutions, overHTTP, p50, 20, false, false},
	{"each further idle function, private MB", memory, "bell, idle", express, held("function"), 7, false, true},
	{"each project and runtime, MB", memory, "bell, idle", express, held("project"), 110, false, true},
}

// met reports whether a figure keeps the bound on a machine that takes slower
// times as long as the one that the targets are for.
func (t target) met(figure, slower float64) bool {
	if t.least {
		return figure >= t.here(slower)
	}
	return figure <= t.here(slower)
}

// here is the bound on such a machine.
func (t target) here(slower float64) float64 {
	switch {
	case t.timeless:
		return t.bound
	case t.least:
		return t.bound / slower
	default:
		return t.bound * slower
	}
}

// writeTargets says of each target that was measured whether it was met, and
// where the time goes if not. A machine whose speed was measured and is less
// has a bound of its own beside the one that was set.
func writeTargets(out io.Writer, results []result) {
	slower := 1.0
	for _, r := range results {
		if r.Question == machine {
			slower = max(1, r.P50/speedThen)
		}
	}
	for _, t := range targets {
		r := find(results, t.question, t.title, t.who)
		if r == nil || r.Error != "" {
			continue
		}
		v, sign := t.figure(*r), "at most"
		if t.least {
			sign = "at least"
		}
		word := map[bool]string{true: "met", false: "MISSED"}[t.met(v, 1)]
		fmt.Fprintf(out, "%-6s %s, %s %g: %.2f", word, t.says, sign, t.bound, v)
		if word == "MISSED" && t.here(slower) != t.bound {
			fmt.Fprintf(out, "; at this machine's speed %s %.3g: %s", sign, t.here(slower), map[bool]string{true: "met", false: "missed"}[t.met(v, slower)])
		}
		if max(r.NoiseBefore, r.NoiseDuring) > quietShare {
			fmt.Fprintf(out, " (noise %.2f %.2f)", r.NoiseBefore, r.NoiseDuring)
		}
		fmt.Fprintln(out)
		if word == "MISSED" && r.Phases != nil {
			fmt.Fprintf(out, "       where it goes:%s\n", phaseLine(*r))
		}
		if word == "MISSED" && len(r.CPU) > 0 {
			fmt.Fprintf(out, "       CPU ms per call: %s\n", cpuLine(*r))
		}
	}
}
