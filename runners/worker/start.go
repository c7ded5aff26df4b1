package worker

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"strconv"

	"github.com/warpket/warpket/runners/sandbox"
)

// start starts the process.
func start(ctx context.Context, config Config) (w *Worker, err error) {
	if config.Scratch != "" {
		if err := os.MkdirAll(config.Scratch, 0o755); err != nil {
			return nil, err
		}
	}
	scratch, err := os.MkdirTemp(config.Scratch, "worker-")
	if err != nil {
		return nil, err
	}
	var pipes pipes
	defer func() {
		pipes.closeTheirs()
		if err != nil {
			pipes.closeOurs()
			_ = os.RemoveAll(scratch)
		}
	}()
	if err := pipes.open(); err != nil {
		return nil, err
	}
	output, err := newOutput(pipes.output, config.LoadLog)
	if err != nil {
		return nil, err
	}
	box, err := config.Launcher.Start(ctx, sandbox.Spec{
		Name: config.Name,
		// Isolated from the user's settings, and writing no bytecode: folders stay as they are.
		Argv:     []string{config.Runtime.Python, "-I", "-B", "-X", "utf8", config.Harness},
		Env:      environment(config, scratch),
		Dir:      config.Code,
		Stdout:   pipes.theirOutput,
		Stderr:   pipes.theirOutput,
		Files:    []*os.File{pipes.theirControl, pipes.theirAnswers},
		ReadOnly: []string{config.Runtime.Dir, config.Harness, config.Code},
		Writable: []string{scratch},
		Limits:   sandbox.Limits{CPU: config.Resources.CPU, Memory: config.Resources.Memory, OpenFiles: 1024},
	})
	if err != nil {
		return nil, err
	}
	go output.follow()
	return &Worker{
		box:     box,
		control: pipes.control,
		answers: pipes.answers,
		reader:  bufio.NewReader(pipes.answers),
		output:  output,
		scratch: scratch,
	}, nil
}

// environment is all that the process sees of variables. The function's own
// come first: ours win.
func environment(config Config, scratch string) []string {
	threads := strconv.Itoa(max(1, config.Resources.CPU/1000))
	env := make([]string, 0, len(config.Env)+12)
	for name, value := range config.Env {
		env = append(env, name+"="+value)
	}
	env = append(env,
		"PATH="+filepath.Dir(config.Runtime.Python)+":/usr/local/bin:/usr/bin:/bin",
		"HOME="+scratch,
		"TMPDIR="+scratch,
		"LANG=C.UTF-8",
		"OMP_NUM_THREADS="+threads,
		"OPENBLAS_NUM_THREADS="+threads,
		"MKL_NUM_THREADS="+threads,
		"RAYON_NUM_THREADS="+threads,
		"QISKIT_PARALLEL=FALSE", // or it forks, which hangs once threads have run
	)
	if config.Runtime.CacheHome != "" {
		env = append(env, "XDG_CACHE_HOME="+config.Runtime.CacheHome)
	}
	return env
}
