package runtimes

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/egress"
	"github.com/warpket/warpket/runners/sandbox"
)

// program is one run of an installer or a check.
type program struct {
	argv     []string
	env      []string
	dir      string
	readOnly []string
	writable []string
	network  *egress.Proxy // its way to the network, unless it has the machine's; nil for none
	timeout  time.Duration
	progress func(line string) // gets each line that it prints; may be nil
}

// ended is how a program ended, and the last of what it printed.
type ended struct {
	exit     sandbox.Exit
	tail     string
	timedOut bool
}

// Bounds of installers and checks.
const (
	maxMemory    = 4 << 30 // bytes
	maxProcesses = 512     // and threads
	maxDisk      = 1 << 30 // bytes in /tmp; they count as memory, too
)

// run runs a program to its end. An error means that it could not be run, or
// that ctx ended first.
func run(ctx context.Context, launcher sandbox.Launcher, p program) (ended, error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return ended{}, fmt.Errorf("running %s: %w", filepath.Base(p.argv[0]), err)
	}
	defer func() { _ = reader.Close() }()
	box, err := launcher.Start(ctx, sandbox.Spec{
		Name:     "install-" + string(warpket.NewID(time.Now())),
		Argv:     p.argv,
		Env:      p.env,
		Dir:      p.dir,
		Stdout:   writer,
		Stderr:   writer,
		ReadOnly: p.readOnly,
		Writable: p.writable,
		Limits:   sandbox.Limits{Memory: maxMemory, Processes: maxProcesses, Disk: maxDisk},
		Listen:   p.network != nil,
	})
	_ = writer.Close()
	if err != nil {
		return ended{}, fmt.Errorf("running %s: %w", filepath.Base(p.argv[0]), err)
	}
	if p.network != nil {
		serving, stop := context.WithCancel(ctx)
		defer stop()
		go func() { _ = p.network.Serve(serving, box.(sandbox.Listening).Listener()) }() //nolint:forcetypeassert // see Store.network
	}
	tail := make(chan string, 1)
	go func() { tail <- follow(reader, p.progress) }()

	limited, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	exit, err := box.Wait(limited)
	_ = box.Close()
	_ = reader.SetReadDeadline(time.Now().Add(time.Second)) // should anything have left the group
	e := ended{exit: exit, tail: <-tail}
	switch {
	case ctx.Err() != nil:
		return e, ctx.Err()
	case limited.Err() != nil && err != nil:
		e.timedOut = true
		return e, nil
	}
	return e, err
}

const (
	maxTail = 2 << 10
	maxLine = 64 << 10
)

// follow reads to the end and returns the last of it.
func follow(r io.Reader, progress func(string)) string {
	lines := bufio.NewReaderSize(r, maxLine)
	var tail strings.Builder
	for {
		line, err := lines.ReadSlice('\n')
		if text := strings.TrimSpace(string(line)); text != "" {
			if progress != nil {
				progress(text)
			}
			tail.WriteString(text + "\n")
			if tail.Len() > 2*maxLine {
				kept := lastOf(tail.String())
				tail.Reset()
				tail.WriteString(kept)
			}
		}
		if err != nil && err != bufio.ErrBufferFull { //nolint:errorlint // returned as it is
			return lastOf(tail.String())
		}
	}
}

func lastOf(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > maxTail {
		s = strings.ToValidUTF8("..."+s[len(s)-maxTail+3:], "")
	}
	return s
}
