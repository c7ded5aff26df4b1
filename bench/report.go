package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"text/tabwriter"
)

// target is the overhead that a warm sequential Bell call may have, in
// milliseconds at p50.
const target = 15

// report prints the page, and writes the cases to a file if one is named.
func report(out io.Writer, cases []result, file string) error {
	compare(cases)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "case\tpeer\tcalls\tp50\tp99\thandler p50\toverhead p50\toverhead p99\tper second\t× process\t× warpket\tnoise before\tduring\t")
	for _, r := range cases {
		fmt.Fprintf(t, "%s\t%s\t", title(r), r.Peer)
		if r.Error != "" {
			fmt.Fprintln(t, "failed, see below\t")
			continue
		}
		fmt.Fprintf(t, "%d\t%.1f\t%.1f\t%.2f\t%.1f\t%.1f\t%.1f\t%s\t%s\t%.2f\t%.2f\t\n", r.Calls, r.P50, r.P99, r.Handler,
			r.OverheadP50, r.OverheadP99, r.PerSecond, ratio(r.ToProcess), ratio(r.ToWarpket), r.NoiseBefore, r.NoiseDuring)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	for _, r := range cases {
		switch {
		case r.Error != "":
			fmt.Fprintf(out, "%s, %s: %s\n", title(r), r.Peer, r.Error)
		case r.Phases != nil:
			fmt.Fprintf(out, "%s, %s, p50 of each phase:", title(r), r.Peer)
			for _, name := range phases {
				fmt.Fprintf(out, " %s %.2f", name, r.Phases[name])
			}
			fmt.Fprintln(out)
		}
	}
	fmt.Fprintln(out, verdict(cases))
	if file == "" {
		return nil
	}
	return writeLines(file, cases)
}

func title(r result) string {
	if r.Outstanding == 1 {
		return r.Function + ", sequential"
	}
	return fmt.Sprintf("%s, %d at once", r.Function, r.Outstanding)
}

func ratio(v float64) string {
	if v == 0 {
		return "-"
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// verdict says whether the product met its target.
func verdict(cases []result) string {
	for _, r := range cases {
		if r.Peer == "warpket" && r.Function == "bell" && r.Outstanding == 1 && r.Error == "" {
			word := "met"
			if r.OverheadP50 > target {
				word = "missed"
			}
			said := fmt.Sprintf("target, overhead of bell, sequential, at most %d ms at p50: %s with %.1f ms", target, word, r.OverheadP50)
			if max(r.NoiseBefore, r.NoiseDuring) > quietShare {
				said += ", on a machine that was not quiet"
			}
			return said
		}
	}
	return "target: not measured"
}

// writeLines writes the cases as JSON, one on each line.
func writeLines(file string, cases []result) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(f)
	for _, r := range cases {
		if err := encoder.Encode(r); err != nil {
			_ = f.Close()
			return err
		}
	}
	return f.Close()
}
