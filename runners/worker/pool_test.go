package worker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/runtimes"
	"github.com/warpket/warpket/runners/sandbox"
	"github.com/warpket/warpket/runners/worker"
)

// The launcher and the pool of all tests of this package.
var (
	launcher    *sandbox.Namespaces
	pool        *worker.Pool
	launchOnce  sync.Once
	launchErr   error
	harnessRoot string
	complaints  atomic.Int64 // of the pool: that a worker was not one of those kept ready, say
)

func TestMain(m *testing.M) {
	sandbox.Main()
	code := m.Run()
	if launcher != nil {
		pool.Close()
		code += leftovers()
		if err := launcher.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code++
		}
		if underGVisor != nil {
			if err := underGVisor.Close(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code++
			}
		}
		_ = os.RemoveAll(harnessRoot)
	}
	if n := complaints.Load(); n > 0 {
		fmt.Fprintf(os.Stderr, "the pool has complained %d times\n", n)
		code++
	}
	os.Exit(code)
}

// leftovers counts what closed workers have left of themselves.
func leftovers() (n int) {
	folders, _ := filepath.Glob("/sys/fs/cgroup/*/warpket-*" + launcherName() + "/*/")
	for _, folder := range folders {
		fmt.Fprintln(os.Stderr, "left behind:", folder)
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, status := range processes {
		if b, err := os.ReadFile(status); err == nil && strings.Contains(string(b), fmt.Sprintf("PPid:\t%d\n", os.Getpid())) {
			fmt.Fprintf(os.Stderr, "left behind: %s\n", strings.SplitN(string(b), "\n", 2)[0])
			n++
		}
	}
	return n + len(folders)
}

func launcherName() string { return fmt.Sprintf("worker-test-%d", os.Getpid()) }

func namespaces(t testing.TB) *sandbox.Namespaces {
	t.Helper()
	launchOnce.Do(func() {
		if harnessRoot, launchErr = os.MkdirTemp("", "harness-"); launchErr != nil {
			return
		}
		var harness string
		if harness, launchErr = worker.WriteHarness(harnessRoot); launchErr != nil {
			return
		}
		if launcher, launchErr = sandbox.NewNamespaces(context.Background(), launcherName()); launchErr != nil {
			return
		}
		pool = worker.NewPool(launcher, harness, 16*worker.ZygoteMemory, slog.New(complaining{slog.NewTextHandler(os.Stderr, nil)}))
	})
	if launchErr != nil {
		t.Fatal(launchErr)
	}
	return launcher
}

type complaining struct{ slog.Handler }

func (c complaining) Handle(ctx context.Context, r slog.Record) error {
	complaints.Add(1)
	return c.Handler.Handle(ctx, r)
}

func TestALimitThatStopsTheCodeIsNamedAndTheWorkerReplaced(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		code, message string
		want          warpket.FailureCode
	}{
		"memory": {
			"def handler():\n    hold = []\n    while True:\n        hold.append(bytearray(1 << 20))",
			"it needed more than its 128 MiB of memory", warpket.OutOfMemory,
		},
		"memory of a child": {
			"import subprocess, sys\ndef handler():\n    subprocess.run([sys.executable, '-c', 'x = []\\nwhile True: x.append(bytearray(1 << 20))'], check=True)",
			"it needed more than its 128 MiB of memory", warpket.OutOfMemory,
		},
		"processes": {
			"import os, time\ndef handler():\n    while True:\n        if os.fork() == 0:\n            time.sleep(600)",
			"it needed more than 256 processes and threads", warpket.TooManyProcesses,
		},
		"threads": {
			"import threading, time\ndef handler():\n    while True:\n        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
			"it needed more than 256 processes and threads", warpket.TooManyProcesses,
		},
		"disk": {
			"import os\ndef handler():\n    with open('/dev/shm/x', 'wb') as f:\n        os.posix_fallocate(f.fileno(), 0, 129 << 20)",
			"it wrote more than 128 MiB of files", warpket.DiskFull,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for way, startWith := range ways() {
				t.Run(way, func(t *testing.T) {
					t.Parallel()
					if i := namespaces(t).Isolation(); slices.Contains(i.Unenforced, "memory") || slices.Contains(i.Unenforced, "processes") {
						t.Skipf("this machine does not hold the limits: %s", i)
					}
					config := configFor(t, test.code)
					config.Resources.Memory = 128 << 20
					test := test
					switch {
					case test.want == warpket.DiskFull:
						config.Resources.Memory = 512 << 20
					case way == "gvisor" && name == "processes": // each of which takes 8 MiB and more
						test.want, test.message = warpket.OutOfMemory, "it needed more than its 128 MiB of memory"
					}
					w := loaded(t, startWith(t, config))
					bystander := startBystander(t, startWith)
					got := w.Run(t.Context(), call(""), nil)
					checkFailure(t, got.Failure, test.want, test.message)
					if w.Alive() {
						t.Error("the worker lives on")
					}
					if got := bystander.Run(t.Context(), call(""), nil); got.Status != warpket.Succeeded {
						t.Errorf("another worker was harmed: %+v", got.Failure)
					}
				})
			}
		})
	}
}

func startBystander(t *testing.T, startWith func(testing.TB, worker.Config) *worker.Worker) *worker.Worker {
	t.Helper()
	config := configFor(t, "def handler():\n    return 1")
	config.Name += "-bystander"
	return loaded(t, startWith(t, config))
}

func TestAParkedChildTakesMoreMemoryThanItWasMadeWith(t *testing.T) {
	t.Parallel()
	config := configFor(t, "def handler():\n    return len(bytearray(800 << 20))")
	config.Resources.Memory = 1 << 30
	got := loaded(t, startParked(t, config)).Run(t.Context(), call(""), nil)
	if got.Status != warpket.Succeeded {
		t.Errorf("%+v", got.Failure)
	}
}

func TestWhatAnExecutionUsesIsCounted(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, how way) {
		w := how.start(t, "import time\ndef handler(mb, cpu):\n    hold = b'x' * (mb << 20)\n    end = time.process_time() + cpu\n    while time.process_time() < end:\n        pass")
		got := w.Run(t.Context(), call(`{"mb": 50, "cpu": 0.2}`), nil)
		if got.Status != warpket.Succeeded {
			t.Fatalf("%+v", got.Failure)
		}
		least := 0.2
		if how.name == "gvisor" { // whose clock of a process runs on while the machine has it wait
			least = 0.01
		}
		if u := got.Usage; u.CPU.Seconds() < least || u.PeakMemory < 50<<20 {
			t.Errorf("used %s and %d bytes", u.CPU, u.PeakMemory)
		}
		if again := w.Run(t.Context(), call(`{"mb": 0, "cpu": 0}`), nil); again.Usage.CPU.Seconds() > 0.2 {
			t.Errorf("the second is counted with the first: %s", again.Usage.CPU)
		} else if how.name != "gvisor" && how.name != "plain" && peaksAreReset() && again.Usage.PeakMemory > got.Usage.PeakMemory-(40<<20) {
			t.Errorf("the second has a peak of %d bytes, the first of %d", again.Usage.PeakMemory, got.Usage.PeakMemory)
		}
	})
}

// peaksAreReset reports whether the kernel can count the peak of memory anew.
func peaksAreReset() bool {
	var name unix.Utsname
	var major, minor int
	_ = unix.Uname(&name)
	_, _ = fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor)
	_, err := os.Stat("/sys/fs/cgroup/memory")
	return !slices.Contains(launcher.Isolation().Unenforced, "memory") && (err == nil || major > 6 || major == 6 && minor >= 12)
}

// siblings tells what processes of one parent would share.
const siblings = `
import ctypes, os, random, sys
def handler():
    return {"hash": str(hash("abc")), "address": id(object), "random": random.SystemRandom().random(), "pids": [p for p in os.listdir("/proc") if p.isdigit()], "uid": os.getuid()}
`

func TestProjectsDoNotDescendFromOneProcess(t *testing.T) {
	t.Parallel()
	namespaces(t)
	facts := func(project warpket.ID) (f struct {
		Hash    string
		Address int64
		PIDs    []string
		UID     int
	},
	) {
		config := configFor(t, siblings)
		config.Project, config.Resources.CPU = project, 1000
		w, err := pool.Start(t.Context(), config)
		loaded(t, closed(t, w, err))
		got := w.Run(t.Context(), call(""), nil)
		if err := json.Unmarshal(got.Result, &f); err != nil {
			t.Fatalf("%+v", got.Failure)
		}
		return f
	}
	a, sister, b := facts("a"), facts("a"), facts("b")
	if a.Hash != sister.Hash || a.Address != sister.Address {
		t.Error("two workers of one project do not come from one process: this test shows nothing")
	}
	if a.Hash == b.Hash || a.Address == b.Address {
		t.Error("workers of two projects share secrets of their process")
	}
	if len(a.PIDs) > 2 || !slices.Contains(a.PIDs, "2") {
		t.Errorf("a worker sees processes besides its reaper and itself: %v", a.PIDs)
	}
	if a.UID == 0 || a.UID == sister.UID && launcher.Isolation().UID == "own" {
		t.Errorf("users %d and %d", a.UID, sister.UID)
	}
}

func TestWorkersOutliveTheirZygoteAndItsProjectGetsAnother(t *testing.T) {
	t.Parallel()
	small := worker.NewPool(namespaces(t), harnessOf(t), worker.ZygoteMemory, slog.New(slog.DiscardHandler)) // room for one
	t.Cleanup(small.Close)                                                                                   // after the workers
	one := func(project warpket.ID) *worker.Worker {
		config := configFor(t, "def handler():\n    return 1")
		config.Project, config.Resources.CPU = project, 1000
		w, err := small.Start(t.Context(), config)
		return loaded(t, closed(t, w, err))
	}
	first := one("a")
	second := one("b") // whose zygote takes the place of the first one's
	third := one("a")
	for _, w := range []*worker.Worker{first, second, third} {
		if got := w.Run(t.Context(), call(""), nil); got.Status != warpket.Succeeded {
			t.Errorf("%+v", got.Failure)
		}
	}
}

func TestThePoolSaysWhatItKeepsReady(t *testing.T) {
	t.Parallel()
	p := worker.NewPool(namespaces(t), harnessOf(t), 4*worker.ZygoteMemory, slog.New(slog.DiscardHandler))
	t.Cleanup(p.Close)
	if kept := p.Kept(); len(kept) > 0 {
		t.Errorf("at first it keeps %+v", kept)
	}
	config := configFor(t, "def handler():\n    return 1")
	config.Project, config.Resources.CPU = "a", 1000
	w, err := p.Start(t.Context(), config)
	loaded(t, closed(t, w, err))
	p.Settle()
	got := map[warpket.ID]int{}
	for _, k := range p.Kept() {
		if k.Runtime != config.Runtime.Key.String() || k.Workers == 0 {
			t.Errorf("it keeps %+v", k)
		}
		got[k.Project] += k.Workers
	}
	if got["a"] != 1 || got[""] > 1 || len(got) > 2 { // a spare only if the machine has the memory
		t.Errorf("it keeps %v", got)
	}
	p.Forget(config.Runtime.Dir)
	if kept := p.Kept(); len(kept) > 0 {
		t.Errorf("what was forgotten is kept: %+v", kept)
	}
	if got := w.Run(t.Context(), call(""), nil); got.Status != warpket.Succeeded {
		t.Errorf("the worker that came from it ends %+v", got.Failure)
	}
}

func TestNothingIsKeptReadyOnAMachineWithoutMemory(t *testing.T) {
	t.Parallel()
	p := worker.NewPool(namespaces(t), harnessOf(t), 4*worker.ZygoteMemory, slog.New(slog.DiscardHandler))
	t.Cleanup(p.Close)
	p.Starve()
	config := configFor(t, "def handler():\n    return 1")
	config.Project, config.Resources.CPU = "a", 1000
	w, err := p.Start(t.Context(), config)
	if got := loaded(t, closed(t, w, err)).Run(t.Context(), call(""), nil); got.Status != warpket.Succeeded {
		t.Errorf("%+v", got.Failure)
	}
	p.Settle()
	if kept := p.Kept(); len(kept) > 0 {
		t.Errorf("it keeps %+v", kept)
	}
	// Its zygote stays, counted as what it has: that of plain Python is small.
	if got := p.Bytes(config.Runtime.Dir); len(got) != 1 || got[0] < 5<<20 || got[0] > 50<<20 {
		t.Errorf("its zygotes are counted as %v bytes", got)
	}
}

func TestASDKThatStartsThreadsIsNotForked(t *testing.T) {
	t.Parallel()
	p := worker.NewPool(namespaces(t), harnessOf(t), worker.ZygoteMemory, slog.New(slog.DiscardHandler))
	t.Cleanup(p.Close)
	// An environment whose smoke run has imported a module that starts a thread.
	config := configFor(t, "import os\ndef handler():\n    return os.getcwd()")
	env, folder := config.Runtime, t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "warpket-modules"), []byte("antigravity_thread"), 0o644); err != nil {
		t.Fatal(err)
	}
	packages := filepath.Join(folder, "lib", "python"+config.SDKVersion, "site-packages")
	if err := os.MkdirAll(packages, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		filepath.Join(packages, "antigravity_thread.py"): "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
		filepath.Join(folder, "pyvenv.cfg"):              "home = " + filepath.Dir(realPath(t, env.Python)) + "\n",
	} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(folder, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(realPath(t, env.Python), filepath.Join(folder, "bin", "python")); err != nil {
		t.Fatal(err)
	}
	config.Runtime = runtimes.Env{Dir: folder, Python: filepath.Join(folder, "bin", "python"), CacheHome: folder}
	config.Resources.CPU = 1000
	for range 2 {
		w, err := p.Start(t.Context(), config)
		got := loaded(t, closed(t, w, err)).Run(t.Context(), call(""), nil)
		// A parked child would have its code elsewhere.
		if string(got.Result) != strconv.Quote(config.Code) {
			t.Errorf("%s %+v", got.Result, got.Failure)
		}
	}
}

func realPath(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func harnessOf(t *testing.T) string {
	t.Helper()
	return configFor(t, "").Harness
}
