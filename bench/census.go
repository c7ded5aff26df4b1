package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// census is how many there are of what a node could leave behind.
type census map[string]int

func (c census) String() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(c)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, c[name]))
	}
	return strings.Join(parts, ", ")
}

// moreThan says of what there is more.
func (c census) moreThan(before census) error {
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if c[name] > before[name] {
			return fmt.Errorf("there are %d %s, and were %d", c[name], name, before[name])
		}
	}
	return nil
}

// patience is how long a node may take to put things away.
const patience = time.Minute

// census counts once the node is at rest: when there is no more than before or,
// if that is not known, when nothing has changed for a while.
func (p *product) census(ctx context.Context, before census) census {
	const rest = 5 * time.Second
	last, changed := p.count(), time.Now()
	for ends := time.Now().Add(patience); time.Now().Before(ends); {
		if before != nil && last.moreThan(before) == nil || before == nil && time.Since(changed) > rest {
			break
		}
		if pause(ctx, 250*time.Millisecond) != nil {
			break
		}
		if now := p.count(); !maps.Equal(now, last) {
			last, changed = now, time.Now()
		}
	}
	return last
}

// count counts what there is of the node's now.
func (p *product) count() census {
	c := census{}
	table := processTable()
	for pid, name := range nameAll(table) {
		switch name {
		case "node":
			c["descriptors of the node"] = descriptors(pid)
			c["mounts"] = bytes.Count(readProc(pid, "mountinfo"), []byte("\n"))
		case "workers":
			c["processes of workers"]++
		case "server":
			c["descriptors of the server"] = descriptors(pid)
		}
	}
	c["cgroups"] = p.cgroups()
	c["files of slots"] = len(glob(filepath.Join(p.data, "node", "slots", "*")))
	return c
}

// cgroups counts those that the node has made.
func (p *product) cgroups() (count int) {
	sum := sha256.Sum256([]byte(filepath.Join(p.data, "node")))
	ours := "warpket-" + hex.EncodeToString(sum[:])[:12]
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(path, ours+"/") {
			count++
		}
		return nil // what has just gone is not counted
	})
	return count
}

// descriptors counts those of a process, less TCP connections: programs keep
// these for the next request.
func descriptors(pid int) (count int) {
	tcp := map[string]bool{}
	for line := range strings.Lines(string(readProc(pid, "net/tcp")) + string(readProc(pid, "net/tcp6"))) {
		if fields := strings.Fields(line); len(fields) > 9 {
			tcp["socket:["+fields[9]+"]"] = true
		}
	}
	for _, fd := range glob(filepath.Join("/proc", strconv.Itoa(pid), "fd", "*")) {
		if to, err := os.Readlink(fd); err == nil && !tcp[to] {
			count++
		}
	}
	return count
}

func readProc(pid int, name string) []byte {
	text, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), name))
	return text
}

func glob(pattern string) []string {
	found, _ := filepath.Glob(pattern)
	return found
}

// killWorkers kills a process every now and then, of those whose code says
// that they may be.
func killWorkers(ctx context.Context) {
	for pause(ctx, 100*time.Millisecond) == nil {
		var victims []int
		for pid, name := range nameAll(processTable()) {
			code, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "root", "code", "handler.py"))
			if name == "workers" && err == nil && bytes.HasPrefix(code, []byte(killable)) {
				victims = append(victims, pid)
			}
		}
		if len(victims) > 0 {
			_ = syscall.Kill(victims[rand.IntN(len(victims))], syscall.SIGKILL) //nolint:gosec // nothing depends on it
		}
	}
}
