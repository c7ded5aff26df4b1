package runtimes

import (
	"cmp"
	"context"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/warpket/warpket/runners/sandbox"
)

// Python is an interpreter of this machine.
type Python struct {
	Path  string // the real one, behind links and shims
	Minor string // "3.11"
}

// Search looks for interpreters.
type Search struct {
	Launcher sandbox.Launcher
	Environ  []string // the agent's environment: its PATH is looked through, and shims need it
	Extra    []string // paths of interpreters to try first
}

const (
	oldestMinor = 9
	newestName  = 14
	// probe prints the path of the interpreter itself and its version, one
	// value a line. A virtual environment's interpreter stands for its base.
	probe = `import os, sys
print(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))
print(sys.version_info[0], sys.version_info[1], sep="\n")
print(sys.implementation.name)`
)

// Pythons are the interpreters of the machine that can run functions: CPython
// 3.9 and newer, one for each minor, newest first. What does not answer (a
// shim without a version behind it) is left out.
func (s Search) Pythons(ctx context.Context) ([]Python, error) {
	candidates := s.candidates()
	found := make([]*Python, len(candidates))
	var all sync.WaitGroup
	limit := make(chan struct{}, 4)
	for i, path := range candidates {
		all.Go(func() {
			limit <- struct{}{}
			found[i] = s.ask(ctx, path)
			<-limit
		})
	}
	all.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var pythons []Python
	for _, p := range found {
		same := func(other Python) bool { return p != nil && other.Minor == p.Minor }
		if p != nil && !slices.ContainsFunc(pythons, same) {
			pythons = append(pythons, *p)
		}
	}
	slices.SortFunc(pythons, func(a, b Python) int { return cmp.Compare(number(b.Minor), number(a.Minor)) })
	return pythons, nil
}

// candidates are paths that may be interpreters, in the order of preference.
func (s Search) candidates() []string {
	paths := slices.Clone(s.Extra)
	var folders []string
	for _, variable := range s.Environ {
		if path, ok := strings.CutPrefix(variable, "PATH="); ok {
			folders = filepath.SplitList(path)
		}
	}
	names := []string{"python3"}
	for n := newestName; n >= oldestMinor; n-- {
		names = append(names, "python3."+strconv.Itoa(n))
	}
	for _, name := range names {
		for _, folder := range folders {
			path, err := exec.LookPath(filepath.Join(folder, name))
			if err == nil && filepath.IsAbs(path) && !slices.Contains(paths, path) {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

func (s Search) ask(ctx context.Context, path string) *Python {
	e, err := run(ctx, s.Launcher, program{
		argv:    []string{path, "-I", "-c", probe},
		env:     s.Environ,
		dir:     "/",
		timeout: 10 * time.Second,
	})
	if err != nil || e.timedOut || !e.exit.OK() {
		return nil
	}
	lines := strings.Split(e.tail, "\n")
	if len(lines) != 4 || lines[1] != "3" || lines[3] != "cpython" {
		return nil
	}
	minor, err := strconv.Atoi(lines[2])
	if err != nil || minor < oldestMinor {
		return nil
	}
	return &Python{Path: lines[0], Minor: "3." + lines[2]}
}

func number(minor string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(minor, "3."))
	return n
}
