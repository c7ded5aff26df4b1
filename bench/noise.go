package main

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// quietShare is the share of processor time, in use by anybody, up to which
// the machine is quiet.
const quietShare = 0.1

// usage is processor time since the machine started, in its clock ticks.
type usage struct {
	at        time.Time
	all, idle float64
	ours      float64 // of this process, all that it started, and their ended children
}

// settle waits until the machine is quiet, our own idle processes included, or
// for as long as it may. It gives the share that others used last.
func settle(ctx context.Context, most time.Duration) float64 {
	for ends := time.Now().Add(most); ; {
		before := readUsage()
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
		}
		now := readUsage()
		if now.busySince(before) <= quietShare || time.Now().After(ends) || ctx.Err() != nil {
			return now.othersSince(before)
		}
	}
}

// busySince is the share of processor time in use by anybody.
func (u usage) busySince(before usage) float64 {
	return 1 - (u.idle-before.idle)/max(1, u.all-before.all)
}

// othersSince is the share of processor time in use by others than us, in
// hundredths: what a case was disturbed by.
func (u usage) othersSince(before usage) float64 {
	ours := (u.ours - before.ours) / max(1, u.all-before.all)
	return math.Round(100*max(0, u.busySince(before)-ours)) / 100
}

// readUsage reads the first line of /proc/stat: cpu, then user, nice, system,
// idle, iowait, irq, softirq, steal; and the times of our processes.
func readUsage() usage {
	u := usage{at: time.Now()}
	stat, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(stat), "\n")
	if fields := strings.Fields(line); len(fields) >= 9 {
		for i, field := range fields[1:9] {
			v := number(field)
			u.all += v
			if i == 3 || i == 4 {
				u.idle += v
			}
		}
	}
	processes := processTable()
	for _, pid := range append(descendants(os.Getpid(), processes), os.Getpid()) {
		u.ours += processes[pid].used
	}
	return u
}

// process is a line of the process table.
type process struct {
	parent  int
	name    string
	used    float64 // clock ticks, with those of the children that it waited for
	started float64 // clock ticks since the machine started
}

// processTable reads /proc/PID/stat of all processes.
func processTable() map[int]process {
	table := map[int]process{}
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// PID (NAME) STATE PARENT ..., and a name may hold anything. The times
		// are the 14th to 17th field, its start the 22nd.
		line := string(text)
		opening, closing := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')')
		fields := strings.Fields(line[closing+1:])
		if len(fields) < 20 {
			continue
		}
		p := process{parent: int(number(fields[1])), name: line[opening+1 : closing], started: number(fields[19])}
		for _, field := range fields[11:15] {
			p.used += number(field)
		}
		table[int(number(filepath.Base(filepath.Dir(file))))] = p
	}
	return table
}

// descendants are the processes that a process started, and those that they
// started.
func descendants(pid int, table map[int]process) []int {
	children := map[int][]int{}
	for child, p := range table {
		children[p.parent] = append(children[p.parent], child)
	}
	found := append([]int{}, children[pid]...)
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i]]...)
	}
	return found
}

// number reads a number that the kernel wrote.
func number(text string) float64 {
	v, _ := strconv.ParseFloat(text, 64)
	return v
}
