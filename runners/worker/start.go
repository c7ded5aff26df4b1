package worker

import (
	"bufio"
	"context"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/egress"
	"github.com/warpket/warpket/runners/runtimes"
	"github.com/warpket/warpket/runners/sandbox"
)

// Bounds of each worker besides its resources.
const (
	MaxProcesses = 256       // and threads
	MaxDisk      = 128 << 20 // bytes in /tmp, and in /dev/shm; they count as memory, too
	maxFiles     = 1024      // open at a time
)

func limitsOf(r warpket.Resources) sandbox.Limits {
	return sandbox.Limits{CPU: r.CPU, Memory: r.Memory, Processes: MaxProcesses, OpenFiles: maxFiles, Disk: MaxDisk}
}

// start starts a process of its own for a worker.
func start(ctx context.Context, config Config) (w *Worker, err error) {
	w = &Worker{folder: config.Code}
	home := "/tmp"
	var writable []string
	if config.Launcher.Isolation().Kind == warpket.NoIsolation.Kind { // it would be the machine's
		if home, err = scratchIn(config.Scratch); err != nil {
			return nil, err
		}
		w.scratch, writable = home, []string{home}
	}
	err = w.open(config.LoadLog, func(p *pipes) (sandbox.Sandbox, error) {
		return config.Launcher.Start(ctx, sandbox.Spec{
			Name:     config.Name,
			Argv:     argv(config.Runtime, config.Harness),
			Env:      environment(config.Runtime, config.Resources, home, config.DeviceEnv),
			Dir:      config.Code,
			Stdout:   p.theirOutput,
			Stderr:   p.theirOutput,
			Files:    []*os.File{p.theirControl, p.theirAnswers},
			ReadOnly: slices.Concat(config.Runtime.ReadOnly(), []string{config.Harness, config.Code}, config.DeviceFiles),
			Devices:  config.Devices,
			Writable: writable,
			Limits:   limitsOf(config.Resources),
			Listen:   config.Egress != nil,
		})
	})
	if err != nil && w.scratch != "" {
		_ = os.RemoveAll(w.scratch)
	}
	return w, err
}

func scratchIn(folder string) (string, error) {
	if folder != "" {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return "", err
		}
	}
	return os.MkdirTemp(folder, "worker-")
}

// open opens the pipes to the worker's process, which run starts.
func (w *Worker) open(log io.Writer, run func(*pipes) (sandbox.Sandbox, error)) (err error) {
	var pipes pipes
	defer func() {
		pipes.closeTheirs()
		if err != nil {
			pipes.closeOurs()
		}
	}()
	if err := pipes.open(); err != nil {
		return err
	}
	output, err := newOutput(pipes.output, log)
	if err != nil {
		return err
	}
	if w.box, err = run(&pipes); err != nil {
		return err
	}
	go output.follow()
	w.control, w.answers, w.reader, w.output = pipes.control, pipes.answers, bufio.NewReader(pipes.answers), output
	return nil
}

// argv isolates the interpreter from the user's settings, and has it write no
// bytecode: folders stay as they are.
func argv(env runtimes.Env, harness string, more ...string) []string {
	return append([]string{env.Python, "-I", "-B", "-X", "utf8", harness}, more...)
}

// threads say to numerical libraries how many to start.
func threads(r warpket.Resources) []string {
	n := strconv.Itoa(threadsOf(r))
	return []string{"OMP_NUM_THREADS=" + n, "OPENBLAS_NUM_THREADS=" + n, "MKL_NUM_THREADS=" + n, "RAYON_NUM_THREADS=" + n}
}

// environment is what the process is started with. The function's own variables
// come with its code. Without devices it is told that there is no GPU, which a
// plain process could see.
func environment(env runtimes.Env, r warpket.Resources, home string, devices []string) []string {
	if len(devices) == 0 {
		devices = []string{"CUDA_VISIBLE_DEVICES="}
	}
	variables := append(threads(r),
		"PATH="+filepath.Dir(env.Python)+":/usr/local/bin:/usr/bin:/bin",
		"HOME="+home,
		"TMPDIR="+home,
		"USER=function",
		"LANG=C.UTF-8",
		"QISKIT_PARALLEL=FALSE", // or it forks, which hangs once threads have run
	)
	if env.CacheHome != "" {
		variables = append(variables, "XDG_CACHE_HOME="+env.CacheHome)
	}
	return append(variables, devices...)
}

// connect serves the way of a sandbox to the network, if it has one, until end
// is called. A plain process needs none: it has the machine's.
func connect(box sandbox.Sandbox, launcher sandbox.Launcher, proxy *egress.Proxy) (end context.CancelFunc, err error) {
	kind := launcher.Isolation().Kind
	if proxy == nil || kind == warpket.NoIsolation.Kind {
		return func() {}, nil
	}
	listening, ok := box.(sandbox.Listening)
	if !ok || listening.Listener() == nil {
		// The node says so in its inventory. Who is sent here all the same, as by an
		// older server, is not to try again for ever.
		return func() {}, warpket.Errorf(warpket.Invalid, "functions with a network cannot run on this node, whose isolation is %s", kind)
	}
	ctx, end := context.WithCancel(context.Background())
	go func() { _ = proxy.Serve(ctx, listening.Listener()) }()
	return end, nil
}

// variables are the function's, and those by which programs find the proxy.
func variables(config Config) map[string]string {
	if config.Egress == nil || config.Launcher.Isolation().Kind == warpket.NoIsolation.Kind {
		return config.Env
	}
	all := map[string]string{}
	maps.Copy(all, config.Env)
	addProxy(all)
	return all
}

// addProxy adds the variables by which programs find the proxy.
func addProxy(all map[string]string) {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		all[name] = "http://" + sandbox.ListenAddress
	}
	all["NO_PROXY"], all["no_proxy"] = "localhost,127.0.0.1", "localhost,127.0.0.1"
}

func threadsOf(r warpket.Resources) int { return max(1, r.CPU/1000) }
