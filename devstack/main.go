// Command warpket-devstack runs the servers that warpket needs on one machine,
// for development: Postgres, an S3 server (versitygw), Temporal and its UI.
//
// Each of them, a part, is a child process running this same binary, so that
// one can die, and come back, alone. A part reads its settings from its
// standard input and stops when that pipe closes, so no part outlives the
// devstack, however that ends. It needs Linux.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "part" {
		os.Exit(runPart(os.Args[2]))
	}
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the devstack from its arguments to its exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	// Postgres may run as another user, who must be able to read its binaries.
	syscall.Umask(0o022)
	cfg, err := parseOptions(args, os.Getenv, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "warpket-devstack:", err)
		return 1
	}

	// Whoever read the events may leave first.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer stop()
	if cfg.watch {
		go func() {
			_, _ = io.Copy(io.Discard, stdin)
			stop()
		}()
	}

	if err := runDevstack(ctx, cfg, stdout); err != nil {
		fmt.Fprintln(stderr, "warpket-devstack:", err)
		return 1
	}
	return 0
}
