// Command uv runs the uv that warpket's nodes run, for tools that come from
// the Python package index: "go run ./tools/uv tool run ruff@0.15.0 check".
// It is fetched the first time, into the user's cache.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/warpket/warpket/pypi"
	"github.com/warpket/warpket/runners/runtimes"
)

func main() {
	err := run(os.Args[1:])
	fmt.Fprintln(os.Stderr, "uv:", err)
	os.Exit(1)
}

// run becomes uv; it returns only if that fails.
func run(args []string) error {
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	dir := filepath.Join(cache, "warpket", "uv")
	store, err := runtimes.New(runtimes.Config{Dir: dir, Index: pypi.New(pypi.Config{CacheDir: filepath.Join(dir, "index")})})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	uv, err := store.UV(ctx, func(line string) { fmt.Fprintln(os.Stderr, line) })
	if err != nil {
		return err
	}
	env := append(os.Environ(), "UV_PYTHON_DOWNLOADS=never", "UV_NO_PROGRESS=1")
	return syscall.Exec(uv, append([]string{"uv"}, args...), env) //nolint:gosec // the program that was asked for
}
