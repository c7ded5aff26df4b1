package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// The files that a part inherits besides the standard ones.
const (
	eventsFD = 3 // where it reports to the devstack
	lockFD   = 4 // the lock of the data directory, held for as long as the part lives
)

// part is a running part, seen from inside.
type part struct {
	events   *json.Encoder
	settings []byte
}

func (p *part) report(ph phase, detail string) {
	_ = p.events.Encode(event{Phase: ph, Detail: detail}) // nobody to tell if the devstack is gone
}

// runPart runs one part until it is asked to stop, and returns its exit code.
func runPart(name string) int {
	// Postgres, a child of ours, must not inherit them.
	syscall.CloseOnExec(eventsFD)
	syscall.CloseOnExec(lockFD)
	p := &part{events: json.NewEncoder(os.NewFile(eventsFD, "events"))}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	in := bufio.NewReader(os.Stdin)
	settings, err := in.ReadBytes('\n')
	if err != nil {
		return 1 // the devstack is gone already
	}
	p.settings = settings
	go func() {
		_, _ = io.Copy(io.Discard, in)
		stop()
	}()

	switch name {
	case initdbPart:
		err = with(p, initialisePostgres)(ctx)
	case postgresPart:
		err = with(p, guardPostgres)(ctx)
	case s3Part:
		err = with(p, serveS3)(ctx)
	case temporalPart:
		err = with(p, serveTemporal)(ctx)
	default:
		err = fmt.Errorf("there is no part %q", name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "warpket-devstack:", name+":", err)
		p.report(failed, err.Error())
		return 1
	}
	return 0
}

// with gives a part its settings, which are of its own type.
func with[S any](p *part, run func(context.Context, *part, S) error) func(context.Context) error {
	return func(ctx context.Context) error {
		var s S
		if err := json.Unmarshal(p.settings, &s); err != nil {
			return fmt.Errorf("reading the settings: %w", err)
		}
		return run(ctx, p, s)
	}
}

// endWithin ends the process a while after ctx ends, for servers that may take
// long to stop and lose nothing when they do not.
func endWithin(ctx context.Context, d time.Duration) {
	context.AfterFunc(ctx, func() {
		time.AfterFunc(d, func() { os.Exit(0) })
	})
}
