// Command with runs another command with servers for tests: "go run
// ./teststack/with -- go test ./..." starts one devstack for all test
// processes, so that not each of them needs its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/warpket/warpket/teststack"
)

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "with: say what to run: with -- COMMAND [ARGUMENT...]")
		os.Exit(2)
	}
	code, err := run(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "with:", err)
	}
	os.Exit(code)
}

// run runs the command to its end and gives its exit code.
func run(args []string) (code int, err error) {
	// A Ctrl-C reaches the command too; we wait for it and stop the servers.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	stack, err := teststack.Start(ctx)
	if err != nil {
		return 1, err
	}
	defer stack.Stop()
	dir, err := os.MkdirTemp("", "warpket-with-")
	if err != nil {
		return 1, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "stack.json")
	if err := os.WriteFile(path, stack.Addresses, 0o600); err != nil {
		return 1, err
	}

	cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // that is what it is for
	cmd.Env = append(os.Environ(), teststack.Variable+"="+path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(exit.ExitCode(), 1), nil
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}
