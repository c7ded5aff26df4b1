package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/accelerators"
	"github.com/warpket/warpket/node"
	"github.com/warpket/warpket/pypi"
	"github.com/warpket/warpket/runners/runtimes"
	"github.com/warpket/warpket/runners/sandbox"
)

// corePromises is how often a node promises each of its cores: workers share
// them, and most are idle most of the time.
const corePromises = 4

func nodeCommand() *cobra.Command {
	var c config
	return serviceCommand(&cobra.Command{
		Use:   "node",
		Short: "Run a node: the agent of a machine that runs functions",
		Long:  "Runs the agent of this machine. It joins with a one-time token (WARPKET_JOIN_TOKEN, which an operator gets by POST /v1/nodes/tokens), keeps its identity in its folder, and speaks to servers over the node channel only.",
	}, &c, append(c.agent(), c.shared()...), runNode)
}

func runNode(ctx context.Context, c *config, log *slog.Logger) error {
	dir, err := filepath.Abs(c.node.dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the node's folder: %w", err)
	}
	pythons, err := runtimes.Search{Launcher: sandbox.NewPlain(), Environ: os.Environ()}.Pythons(ctx)
	if err != nil {
		return err
	}
	machine, launcher, cache := accelerators.Probe(log), sandbox.NewPlain(), c.cacheDir(dir)
	platform := runtime.GOOS + "/" + runtime.GOARCH
	store, err := runtimes.New(runtimes.Config{
		Dir: filepath.Join(cache, "runtimes"), Index: pypi.New(pypi.Config{URL: c.index, CacheDir: filepath.Join(cache, "index")}), IndexURL: c.index,
		Launcher: launcher, Pythons: pythons, Environ: os.Environ(), Platform: platform,
	})
	if err != nil {
		return err
	}
	name := c.node.name
	if name == "" {
		name = hostName()
	}
	inventory := warpket.Inventory{
		Platform: platform, CPU: machine.CPU * corePromises, Memory: machine.Memory, Isolation: launcher.Isolation(),
		Devices: machine.Devices, Release: release(),
		Notes: append(machine.Notes, "functions are plain processes: they are not kept apart from this machine, and limits of memory and cores are not enforced"),
	}
	for _, p := range pythons {
		inventory.Pythons = append(inventory.Pythons, p.Minor)
	}
	agent := node.New(node.Config{
		Dir: dir, Server: c.node.server, Name: name, JoinToken: c.node.joinToken, Inventory: inventory, Runtimes: store, Launcher: launcher, Log: log,
		Connected: func() {
			if c.watch {
				report(map[string]string{"node": name})
			}
		},
	})
	return agent.Run(ctx)
}

var notInName = regexp.MustCompile(`[^a-z0-9-]+`)

// hostName is the host's name in the form of a node's.
func hostName() string {
	host, _ := os.Hostname()
	name := strings.Trim(notInName.ReplaceAllString(strings.ToLower(host), "-"), "-")
	if warpket.CheckName("node", name) != nil {
		return "node"
	}
	return name
}
