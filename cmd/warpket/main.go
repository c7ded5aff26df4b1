// Command warpket is the server, the node agent, the all-in-one development
// mode and the command line client, in one binary. This package wires them;
// it is the only place that names implementations.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/warpket/warpket/cli"
	"github.com/warpket/warpket/runners/sandbox"
)

func main() {
	sandbox.Main()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx))
}

func run(ctx context.Context) int {
	root := &cobra.Command{
		Use:           "warpket",
		Short:         "Host and run quantum and GPU functions",
		Long:          "warpket hosts quantum and GPU functions: pick a template and an SDK version, edit files as immutable versions, deploy and execute.\n\nStart with \"warpket dev\", which needs nothing else.",
		Version:       release(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddGroup(&cobra.Group{ID: "run", Title: "Run warpket:"})
	for _, c := range []*cobra.Command{devCommand(), serverCommand(), nodeCommand(), openapiCommand()} {
		c.GroupID = "run"
		root.AddCommand(c)
	}
	cli.AddTo(root, surroundings())
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[cli.ExitCode](err); ok {
		return int(code)
	}
	return cli.Report(os.Stderr, err)
}

// surroundings are what the client takes from the environment.
func surroundings() cli.Env {
	dir, err := os.UserConfigDir()
	if err != nil {
		dir = "" // no home: WARPKET_API and WARPKET_TOKEN have to do
	}
	return cli.Env{
		API: os.Getenv("WARPKET_API"), Token: os.Getenv("WARPKET_TOKEN"), ConfigDir: dir,
		Plain: os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb",
	}
}

// version is set by the Makefile.
var version string

// release is what this binary was built from.
func release() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "development"
	}
	return info.Main.Version
}

// mistakes joins what is wrong with a configuration into one error that shows
// all of it.
func mistakes(list []error) error {
	if len(list) == 0 {
		return nil
	}
	return fmt.Errorf("the configuration cannot be used:\n%w", errors.Join(list...))
}
