// Package sandbox starts programs with nothing but what they were given. It is
// the seam between those who run programs (package runtimes, package worker)
// and the ways of keeping a program apart from the machine.
package sandbox

import (
	"context"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/warpket/warpket"
)

// Launcher starts sandboxes on this machine.
type Launcher interface {
	// Start starts the program and returns as soon as it is running. The
	// sandbox outlives ctx: whoever started it closes it. A name that is
	// already running is refused, since its files belong to its first caller.
	Start(ctx context.Context, spec Spec) (Sandbox, error)
	// Isolation says what keeps its programs apart, for the operator and the
	// execution's record.
	Isolation() warpket.Isolation
}

// Sandbox is one running program.
type Sandbox interface {
	// Wait returns how the program ended, or stops the program when ctx ends first.
	Wait(ctx context.Context) (Exit, error)
	// Done is closed when the program and all that it started have ended.
	Done() <-chan struct{}
	// Close ends the program and frees all that it held. Only then may its
	// devices go to someone else. It may be called more than once.
	Close() error
	// Counters tell what it has used so far, as far as the machine counts.
	Counters() Counters
	// ResetPeak has PeakMemory begin anew at what is used now, where the kernel
	// can do that: cgroups of version 1, or Linux 6.12.
	ResetPeak()
	// Refusals tell how often a limit has stopped it so far.
	Refusals() Refusals
}

// Listening is a sandbox whose own loopback can listen for the agent: its only
// way out.
type Listening interface {
	// Listener listens at ListenAddress inside. It is nil unless asked for, and
	// closed with the sandbox.
	Listener() net.Listener
}

// Counters are what a sandbox has used; zero where the machine does not count.
type Counters struct {
	CPU        time.Duration // of all its processes
	PeakMemory int64         // bytes
}

// Refusals are how often a limit has stopped a sandbox.
type Refusals struct {
	Memory    int64 // processes that the kernel killed since memory ran out
	Processes int64 // processes and threads that could not be started; gVisor's kernel tells nobody
}

// Spec lists everything the program may touch; what is not listed is not there.
type Spec struct {
	Name     string   // unique among the programs that run
	Argv     []string // Argv[0] is the path of the program
	Env      []string // all of its environment, as NAME=value
	Dir      string   // its working directory
	Stdin    *os.File // nil: empty
	Stdout   *os.File // nil: dropped
	Stderr   *os.File // nil: dropped
	Files    []*os.File
	Root     string   // folder with its system; the machine's /usr and what belongs to it if empty; not for Plain
	Code     string   // folder that it may read at CodeFolder; with Root only
	ReadOnly []string // paths that it may read, with what is below them; also files of /proc that are hidden otherwise
	Writable []string // paths that it may also write
	Devices  []string // paths of devices
	Limits   Limits
	Listen   bool // whether its loopback is to listen for the agent, see Listening
}

func errNoRoot(l Launcher) error {
	return warpket.Errorf(warpket.Unavailable, "programs of an image cannot run on this node, whose isolation is %s: they need namespaces or gvisor", l.Isolation().Kind)
}

// Limits are what the program may use; zero means no limit.
type Limits struct {
	CPU       int    // thousandths of a core
	Memory    int64  // bytes
	Processes int    // and threads; at least 16
	OpenFiles uint64 // of each process
	Disk      int64  // bytes in /tmp, and in /dev/shm; both count as memory too
}

// Exit says how a program ended.
type Exit struct {
	Code   int            // its exit code; meaningless if a signal ended it
	Signal syscall.Signal // zero unless a signal ended it
}

// OK reports whether the program ended as one that succeeded.
func (e Exit) OK() bool { return e == Exit{} }

func (e Exit) String() string {
	if e.Signal != 0 {
		if name := unix.SignalName(e.Signal); name != "" {
			return name
		}
		return fmt.Sprintf("signal %d", int(e.Signal))
	}
	return fmt.Sprintf("exit code %d", e.Code)
}
