package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	idleFunctions = 6 // of one project; with those of a new one they fit the node's slots
	mb            = 1 << 20
	idleSpace     = 4 << 30
)

// measureMemory measures what functions of bell hold that have run once and
// are idle: in a project of their own, before anything else runs.
func (c config) measureMemory(ctx context.Context, p *product) result {
	r := result{Question: memory, Case: "bell, idle", Peer: express, NoiseBefore: settle(ctx, c.quiet), At: time.Now().UTC().Truncate(time.Second)}
	return r.failed(r.weigh(ctx, p))
}

// weigh runs the functions of one project, then one of another, and compares
// what the node's processes hold.
func (r *result) weigh(ctx context.Context, p *product) error {
	first, err := p.newProject(ctx)
	if err != nil {
		return err
	}
	var all []function
	run := func(p project) (nodeMemory, error) {
		f, err := p.create(ctx, "bell")
		if err != nil {
			return nodeMemory{}, err
		}
		all = append(all, f)
		if _, err := p.execute(ctx, f.request("bell", "express")); err != nil {
			return nodeMemory{}, err
		}
		if err := pause(ctx, 2*time.Second); err != nil { // a child is parked, and a spare made
			return nodeMemory{}, err
		}
		settle(ctx, 2*time.Second)
		return readNodeMemory(), nil
	}
	var held []nodeMemory
	for range idleFunctions {
		m, err := run(first)
		if err != nil {
			return err
		}
		held = append(held, m)
	}
	other, err := p.newProject(ctx)
	if err != nil {
		return err
	}
	last, err := run(other)
	if err != nil {
		return err
	}
	one, many := held[0], held[len(held)-1]
	if len(many.cells) < idleFunctions {
		return fmt.Errorf("%d functions are in %d cells", idleFunctions, len(many.cells))
	}
	// The cell that was made last is the parked child.
	further := many.cells[1:idleFunctions]
	perFunction := (many.shared - one.shared) / float64(idleFunctions-1)
	perProject := last.shared - many.shared
	r.Calls = len(all)
	r.Memory = map[string]float64{
		"function":              percentile(further, 50),
		"function, greatest":    slices.Max(further),
		"function, dirty":       percentile(many.dirty[1:idleFunctions], 50),
		"function, PSS":         round(perFunction),
		"project":               round(perProject),
		"node and spare":        round(one.shared - perProject),
		"functions in 4 GiB":    math.Floor((idleSpace/mb - one.shared) / perFunction),
		"projects in 4 GiB":     math.Floor((idleSpace/mb - (one.shared - perProject)) / perProject),
		"slots leased in 4 GiB": idleSpace / (512 * mb),
	}
	for _, f := range all[:idleFunctions] {
		if err := first.remove(ctx, f); err != nil {
			return err
		}
	}
	return other.remove(ctx, all[idleFunctions])
}

// nodeMemory is what the node and all that it started hold, in MB.
type nodeMemory struct {
	shared float64   // all of it, a page that several have counted in parts
	cells  []float64 // what is private to each cell of the zygote that has most, in the order that they were made
	dirty  []float64 // that of it which the cell has written
}

// readNodeMemory reads the memory of the node's processes. A cell is what a
// zygote has started: zygotes are two below the node, for process 1 of their
// sandbox is between.
func readNodeMemory() nodeMemory {
	table := processTable()
	var m nodeMemory
	made := map[int][]int{} // cells by zygote
	depth := map[int]int{}
	for _, pid := range descendants(os.Getpid(), table) {
		if above := depth[table[pid].parent]; above > 0 {
			depth[pid] = above + 1
		} else if strings.Contains(commandLine(pid), "warpket node") {
			depth[pid] = 1
		}
		if depth[pid] > 0 {
			m.shared += readMemory(pid, "Pss:")
		}
		if depth[pid] == 4 {
			zygote := table[pid].parent
			made[zygote] = append(made[zygote], pid)
		}
	}
	var cells []int
	for _, of := range made {
		if len(of) > len(cells) {
			cells = of
		}
	}
	slices.SortFunc(cells, func(a, b int) int { return int(table[a].started - table[b].started) })
	for _, cell := range cells {
		private, dirty := 0.0, 0.0
		for _, pid := range append(descendants(cell, table), cell) {
			private += readMemory(pid, "Private_")
			dirty += readMemory(pid, "Private_Dirty")
		}
		m.cells, m.dirty = append(m.cells, round(private)), append(m.dirty, round(dirty))
	}
	return m
}

// readMemory sums the lines of a process's smaps_rollup that begin so, in MB.
func readMemory(pid int, prefix string) (sum float64) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
	if err != nil {
		return 0 // it has ended
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) == 3 && strings.HasPrefix(fields[0], prefix) {
			sum += number(fields[1]) / 1024
		}
	}
	return sum
}
