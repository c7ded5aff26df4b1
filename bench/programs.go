package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// programs is processor time so far, in clock ticks, by what used it: the
// product's parts, or "peer".
type programs map[string]float64

const tick = 10 // ms: the kernel shows times in hundredths of a second

// programNames are the product's parts, in the order of the page.
var programNames = []string{"server", "node", "workers", "postgres", "temporal", "s3", "peer"}

// readPrograms reads the times of all that this process started.
func readPrograms() programs {
	table := processTable()
	used := programs{}
	for pid, name := range nameAll(table) {
		used[name] += table[pid].used
	}
	return used
}

// nameAll says of each process that we started which part it belongs to: its
// own if it is one, else that of its parent.
func nameAll(table map[int]process) map[int]string {
	names := map[int]string{os.Getpid(): ""}
	for _, pid := range descendants(os.Getpid(), table) { // parents come first
		name := names[table[pid].parent]
		line := commandLine(pid)
		switch {
		case name == "node":
			name = "workers"
		case name == "workers":
		case strings.Contains(line, "warpket server"):
			name = "server"
		case strings.Contains(line, "warpket node"):
			name = "node"
		case strings.Contains(line, "warpket-devstack part "):
			_, part, _ := strings.Cut(line, " part ")
			name, _, _ = strings.Cut(part, " ")
		case strings.Contains(line, "warpket dev "), strings.Contains(line, "warpket-devstack"):
			name = "supervisor"
		case name == "":
			name = "peer"
		}
		names[pid] = name
	}
	delete(names, os.Getpid())
	return names
}

func commandLine(pid int) string {
	text, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	return strings.ReplaceAll(string(text), "\x00", " ")
}

// perCall is what each call used between then and now, in milliseconds.
func (p programs) perCall(now programs, calls int) map[string]float64 {
	each := map[string]float64{}
	for name, used := range now {
		if ms := round((used - p[name]) * tick / float64(max(1, calls))); ms > 0.005 {
			each[name] = ms
		}
	}
	return each
}
