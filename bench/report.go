package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// titles are the headings of the page.
var titles = map[string]string{
	warm:       "A warm call, one caller",
	cold:       "The first call of a function that has never run",
	throughput: "As many calls as possible, 8 outstanding",
	memory:     "What idle functions hold, in MB",
	lists:      "A page of 50 from 100,000 functions and 1,000,000 executions",
	logs:       "How long after a line was printed a reader of the log has it",
}

// report prints the page, and writes the cases to a file if one is named.
func report(out io.Writer, results []result, file string) error {
	compare(results)
	for _, question := range questions {
		var of []result
		for _, r := range results {
			if r.Question == question {
				of = append(of, r)
			}
		}
		if len(of) == 0 {
			continue
		}
		fmt.Fprintf(out, "\n%s\n\n", titles[question])
		if question == memory {
			writeMemory(out, of[0])
			continue
		}
		if err := writeTable(out, question, of); err != nil {
			return err
		}
	}
	for _, r := range results {
		if r.Error != "" {
			fmt.Fprintf(out, "failed: %s, %s, %s: %s\n", r.Question, r.Case, r.Peer, r.Error)
		}
	}
	fmt.Fprintln(out)
	for _, r := range results {
		if r.Question == machine {
			fmt.Fprintf(out, "%s: %.2f ms at p50; it was %.2f where the targets were set\n", r.Case, r.P50, speedThen)
		}
	}
	writeTargets(out, results)
	if file == "" {
		return nil
	}
	return writeLines(file, results)
}

// writeTable writes the cases of a question, each with its peers.
func writeTable(out io.Writer, question string, results []result) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	per := "p50\tp99"
	if question == throughput {
		per = "per second\tp50\tp99"
	}
	than := "express"
	if question == lists {
		than = "select"
	}
	fmt.Fprintf(t, "case\tpeer\tcalls\t%s\t× "+than+"\tcircuit\tnoise\t%s\n", per, map[bool]string{true: "CPU ms per call"}[question == throughput])
	var cases []string
	for _, r := range results {
		if !slices.Contains(cases, r.Case) {
			cases = append(cases, r.Case)
		}
	}
	for _, title := range cases {
		for _, r := range results {
			if r.Case != title {
				continue
			}
			fmt.Fprintf(t, "%s\t%s\t", r.Case, r.Peer)
			if r.Error != "" {
				fmt.Fprintln(t, "failed, see below\t\t\t\t\t\t")
				continue
			}
			fmt.Fprintf(t, "%d\t", r.Calls)
			if question == throughput {
				fmt.Fprintf(t, "%.0f\t", r.PerSecond)
			}
			fmt.Fprintf(t, "%.2f\t%.2f\t%s\t%.2f\t%.2f %.2f\t%s\n", r.P50, r.P99, ratio(r.ToExpress), r.Circuit, r.NoiseBefore, r.NoiseDuring, cpuLine(r))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	for _, r := range results {
		if r.Phases != nil {
			fmt.Fprintf(out, "%s, %s, p50 of each phase:%s\n", r.Case, r.Peer, phaseLine(r))
		}
	}
	return nil
}

func phaseLine(r result) string {
	var line strings.Builder
	for _, name := range phases {
		fmt.Fprintf(&line, " %s %.2f", name, r.Phases[name])
	}
	return line.String()
}

// cpuLine is the processor time of a call, and what used it.
func cpuLine(r result) string {
	if len(r.CPU) == 0 {
		return ""
	}
	line := fmt.Sprintf("%.2f", r.total())
	if len(r.CPU) == 1 {
		return line
	}
	for _, name := range programNames {
		if v, ok := r.CPU[name]; ok {
			line += fmt.Sprintf(" %s %.2f", name, v)
		}
	}
	return line
}

func ratio(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3g", v)
}

func writeMemory(out io.Writer, r result) {
	if r.Memory == nil {
		return
	}
	m := r.Memory
	fmt.Fprintf(out, "each further function of a project, private: %.1f at p50, of which %.1f written, %.1f the greatest; by PSS %.1f\n", m["function"], m["function, dirty"], m["function, greatest"], m["function, PSS"])
	fmt.Fprintf(out, "a project and runtime with one function: %.1f by PSS; the node itself with a spare: %.1f\n", m["project"], m["node and spare"])
	fmt.Fprintf(out, "4 GiB hold %.0f functions of one project, or %.0f projects with one function; slots promise at most %.0f, of 512 MiB each\n",
		m["functions in 4 GiB"], m["projects in 4 GiB"], m["slots leased in 4 GiB"])
}

// writeLines writes the cases as JSON, one on each line.
func writeLines(file string, results []result) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(f)
	for _, r := range results {
		if err := encoder.Encode(r); err != nil {
			_ = f.Close()
			return err
		}
	}
	return f.Close()
}
