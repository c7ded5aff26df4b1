package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/accelerators"
	"github.com/warpket/warpket/node"
	"github.com/warpket/warpket/pypi"
	"github.com/warpket/warpket/runners/egress"
	"github.com/warpket/warpket/runners/image"
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
	}, &c, slices.Concat(c.agent(), c.sandbox(), c.shared()), runNode)
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
	launcher, notes, err := c.isolation(ctx, dir)
	if err != nil {
		return err
	}
	if closer, ok := launcher.(io.Closer); ok {
		defer func() { _ = closer.Close() }()
	}
	installer, err := installer(ctx, launcher, dir)
	if err != nil {
		return err
	}
	if closer, ok := installer.(io.Closer); ok {
		defer func() { _ = closer.Close() }()
	}
	machine, cache := accelerators.Probe(log), c.cacheDir(dir)
	defer machine.GPUs.Close()
	if err := c.adapt(&machine, launcher.Isolation().Kind); err != nil {
		return err
	}
	ready := int64(0) // bytes for interpreters that are kept ready
	var images *image.Store
	isolation := launcher.Isolation()
	if isolation.Kind == "namespaces" {
		ready = machine.Memory / 8
	}
	if isolation.Kind != warpket.NoIsolation.Kind {
		if images, err = c.imageStore(filepath.Join(cache, "images")); err != nil {
			return err
		}
	}
	platform := runtime.GOOS + "/" + runtime.GOARCH
	keep, err := c.freeSpace()
	if err != nil {
		return err
	}
	store, err := runtimes.New(runtimes.Config{
		Dir: filepath.Join(cache, "runtimes"), Index: pypi.New(pypi.Config{URL: c.index, CacheDir: filepath.Join(cache, "index")}), IndexURL: c.index,
		Launcher: launcher, Installer: installer, Pythons: pythons, Environ: os.Environ(), Platform: platform, Keep: keep,
	})
	if err != nil {
		return err
	}
	name := c.node.name
	if name == "" {
		name = hostName()
	}
	inventory := warpket.Inventory{
		Platform: platform, CPU: machine.CPU * corePromises, Memory: machine.Memory - ready, Isolation: launcher.Isolation(),
		Devices: machine.Devices, Machine: machine.Boot, Release: release(), Images: images != nil, NoEgress: isolation.Kind == "gvisor", Notes: append(machine.Notes, notes...),
	}
	for _, p := range pythons {
		inventory.Pythons = append(inventory.Pythons, p.Minor)
	}
	network, err := c.network()
	if err != nil {
		return err
	}
	agent := node.New(node.Config{
		Dir: dir, Server: c.node.server, Name: name, JoinToken: c.node.joinToken, Inventory: inventory, Runtimes: store, Launcher: launcher, Images: images, ReadyMemory: ready, Egress: network, Log: log, GPUs: machine.GPUs,
		Speed: func(ctx context.Context) ([]warpket.Speed, error) {
			return accelerators.Speed(ctx, filepath.Join(dir, "speed.json"), machine.Memory)
		},
		Connected: func() {
			if c.watch {
				report(map[string]string{"node": name})
			}
		},
	})
	return agent.Run(ctx)
}

// adapt makes a machine's devices those that the node is to have: not those that
// its isolation cannot hand out, and declared ones where that is asked for.
func (c *config) adapt(machine *accelerators.Machine, isolation string) error {
	own := func(d warpket.Device) bool { return d.Kind == warpket.NVIDIA }
	if isolation == "gvisor" && slices.ContainsFunc(machine.Devices, own) {
		machine.Devices = slices.DeleteFunc(machine.Devices, own)
		machine.Notes = append(machine.Notes, "its GPUs are not used: gVisor, which keeps functions apart here, does not let them through")
	}
	if c.node.simulate == "" {
		return nil
	}
	declared, err := accelerators.ReadSimulated(c.node.simulate)
	if err != nil {
		return err
	}
	machine.Devices = append(slices.DeleteFunc(machine.Devices, own), declared...)
	machine.Notes = append(machine.Notes, fmt.Sprintf("%d of its devices are simulated: no code runs on them, and its own GPUs are not used", len(declared)))
	return nil
}

// imageStore keeps this machine's images.
func (c *config) imageStore(dir string) (*image.Store, error) {
	config, err := c.registries()
	if err != nil {
		return nil, err
	}
	config.Dir = dir
	if config.Limits.Store, err = c.imageSpace(); err != nil {
		return nil, err
	}
	return image.New(config)
}

// isolation gives what keeps functions apart, with what the operator should
// know about it. A machine that cannot keep them apart runs them as plain
// processes, and says so, unless isolation is required.
func (c *config) isolation(ctx context.Context, dir string) (launcher sandbox.Launcher, notes []string, err error) {
	name := launcherName(dir)
	switch c.node.isolation {
	case "none":
		launcher = sandbox.NewPlain()
		notes = []string{"functions are plain processes, as was asked for: they are not kept apart from this machine, and limits of memory and cores are not enforced"}
	case "namespaces":
		launcher, err = sandbox.NewNamespaces(ctx, name)
		if err != nil && warpket.KindOf(err) != warpket.Conflict && c.node.require == "" {
			launcher = sandbox.NewPlain()
			notes = []string{"functions are plain processes: they are not kept apart from this machine, and limits of memory and cores are not enforced: " + err.Error()}
			err = nil
		}
	case "gvisor":
		var runsc string
		if runsc, err = exec.LookPath(c.node.runsc); err != nil {
			return nil, nil, fmt.Errorf("gVisor's program was not found: %w; install runsc, or say where it is by --runsc or WARPKET_RUNSC", err)
		}
		launcher, err = sandbox.NewGVisor(ctx, runsc, name)
		notes = []string{"functions with the network egress are not run: gVisor, which keeps functions apart here, gives them none"}
	default:
		err = fmt.Errorf("isolation is namespaces, gvisor or none, not %q: set --isolation or WARPKET_ISOLATION", c.node.isolation)
	}
	if err != nil {
		return nil, nil, err
	}
	i := launcher.Isolation()
	if c.node.require != "" && !i.Complete() {
		return nil, nil, fmt.Errorf("this machine cannot hold all of the isolation that WARPKET_REQUIRE_ISOLATION asks for: %s; that takes root, the cgroup controllers cpu, memory and pids, a kernel with Landlock, and no swap unless cgroups count it", i)
	}
	if i.Kind != warpket.NoIsolation.Kind && !i.Complete() {
		notes = append(notes, "what keeps functions apart is not complete: "+i.String()+"; all of it takes root, the cgroup controllers cpu, memory and pids, a kernel with Landlock, and no swap unless cgroups count it")
	}
	return launcher, notes, nil
}

// network is what functions with a network may reach.
func (c *config) network() (egress.Config, error) {
	out := egress.Config{Policy: egress.Policy{Public: c.egress.hosts == "", Hosts: listed(c.egress.hosts)}, Upstream: runtimes.Upstream(os.Environ())}
	for _, text := range listed(c.egress.ports) {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return out, fmt.Errorf("a port is a number up to 65535, not %q: set --egress-ports or WARPKET_EGRESS_PORTS", text)
		}
		out.Policy.Ports = append(out.Policy.Ports, uint16(port))
	}
	var err error
	if out.Guard.Allow, err = networks(c.egress.networks, "--egress-networks or WARPKET_EGRESS_NETWORKS"); err != nil {
		return out, err
	}
	_, err = egress.New(out) // says what of it cannot be
	return out, err
}

func listed(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

// installer gives what keeps installers apart, which need a way to the package
// index: as functions are, or beside gVisor, which has none, in namespaces.
func installer(ctx context.Context, launcher sandbox.Launcher, dir string) (sandbox.Launcher, error) {
	if _, ok := launcher.(*sandbox.GVisor); !ok {
		return launcher, nil
	}
	namespaces, err := sandbox.NewNamespaces(ctx, launcherName(dir)+"-installers")
	if err != nil {
		return nil, fmt.Errorf("installers of packages run in namespaces, for gVisor gives them no way to the package index: %w", err)
	}
	return namespaces, nil
}

// launcherName is that of the launcher of the node in a folder.
func launcherName(dir string) string { return warpket.SHA256([]byte(dir))[:12] }

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
