package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stopServersOn stops what still runs of a Postgres on a data directory, as
// when the process that guarded it was killed.
func stopServersOn(data string) error {
	running, err := processesOf(data)
	if err != nil {
		return err
	}
	leader, err := postmasterPID(data)
	if err != nil {
		return err
	}
	if !slices.Contains(running, leader) {
		if alive(leader) {
			// Some other process has the pid by now, which Postgres would take for a server.
			if err := os.Remove(filepath.Join(data, "postmaster.pid")); err != nil {
				return err
			}
		}
		leader = 0
	}
	if leader != 0 {
		_ = syscall.Kill(leader, syscall.SIGINT)
		if waitGone(leader, cleanStop) {
			running = nil // it ended its processes first
		}
	}
	for _, pid := range running {
		_ = syscall.Kill(pid, syscall.SIGQUIT)
	}
	for _, pid := range running {
		if !waitGone(pid, 3*time.Second) {
			return fmt.Errorf("a Postgres (pid %d) that an earlier devstack started still runs on %s and does not stop: end it, then start again", pid, data)
		}
	}
	return nil
}

// processesOf returns the Postgres processes of a data directory. All of them,
// and no other server, work in that directory.
func processesOf(data string) ([]int, error) {
	dir, err := os.Stat(data)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		name, err := os.ReadFile(filepath.Join("/proc", e.Name(), "comm"))
		if err != nil || strings.TrimSpace(string(name)) != "postgres" {
			continue // a shell may stand in the directory too
		}
		cwd, err := os.Stat(filepath.Join("/proc", e.Name(), "cwd"))
		if err == nil && os.SameFile(dir, cwd) {
			found = append(found, pid)
		}
	}
	return found, nil
}

// postmasterPID is the pid that the last server on a data directory wrote
// down, or 0 if it stopped cleanly.
func postmasterPID(data string) (int, error) {
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, _ := strconv.Atoi(line)
	return pid, nil
}

// waitGone waits until a process that is not our child has ended, and says
// whether it did in time.
func waitGone(pid int, within time.Duration) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return !alive(pid)
	}
	defer unix.Close(fd)
	deadline := time.Now().Add(within)
	for {
		left := time.Until(deadline).Milliseconds()
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(max(left, 0))) //nolint:gosec // a descriptor
		if n > 0 {
			return true
		}
		if !errors.Is(err, unix.EINTR) || left <= 0 {
			return false
		}
	}
}
