package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/egress"
	"github.com/warpket/warpket/runners/runtimes"
)

// CUDAConfig says what a version of CUDA C++ is built from and runs with.
type CUDAConfig struct {
	Runtime       runtimes.Env // the toolkit
	Code          string       // folder with the version's files
	Entry         string       // the file that is compiled, in Code
	Architectures []string     // compute capabilities to compile for, such as "9.0"
	Scratch       string       // folder for what is made meanwhile
	Binary        string       // path of the program, built before; empty in a slot without GPUs
	Devices       []string     // see Config
	DeviceFiles   []string
	DeviceEnv     []string
	Resources     warpket.Resources
	Env           map[string]string // the function's variables
	Egress        *egress.Proxy     // its way to the network; nil for none
}

// CUDA is the worker of a version of CUDA C++. An execution with the target
// compile compiles the files: the compiler's output is its log. One with the
// target gpu is a process of the program, see Program.
type CUDA struct {
	config CUDAConfig
	pool   *Pool

	mu sync.Mutex // held by the call that runs
}

// CUDA makes the worker. It starts nothing.
func (p *Pool) CUDA(config CUDAConfig) *CUDA { return &CUDA{config: config, pool: p} }

// LoadFailure is nil: what can fail has been built before.
func (c *CUDA) LoadFailure() *warpket.Failure { return nil }

// Alive reports that the program can be started again.
func (c *CUDA) Alive() bool { return true }

// Close waits for what runs, whose context has ended before.
func (c *CUDA) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return nil
}

// Run compiles or runs, as the call's target says. It never does one in the
// place of the other.
func (c *CUDA) Run(ctx context.Context, call Call, log io.Writer) warpket.Outcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch call.Target {
	case warpket.Compile:
		built, outcome := c.compile(ctx, call, log)
		if outcome.Status == warpket.Succeeded {
			outcome.Result, _ = json.Marshal(built) // strings and numbers
		}
		return outcome
	case warpket.GPU:
		return c.run(ctx, call, log)
	default:
		return warpket.FailedWith(warpket.NotPrepared, fmt.Sprintf("CUDA C++ runs on the targets gpu and compile, not on %q", call.Target), "")
	}
}

func (c *CUDA) run(ctx context.Context, call Call, log io.Writer) warpket.Outcome {
	if c.config.Binary == "" || len(c.config.Devices) == 0 {
		return warpket.FailedWith(warpket.NotPrepared, "its slot has no GPU", "")
	}
	work, done, err := c.workDir()
	if err != nil {
		return warpket.FailedWith(warpket.NotPrepared, "the program could not be started: "+reason(err), "")
	}
	defer done()
	return c.pool.newProgram(ProgramConfig{
		Argv: []string{c.config.Binary}, Dir: work, ImageEnv: c.config.DeviceEnv, Resources: c.config.Resources, Env: c.config.Env, Egress: c.config.Egress,
		ReadOnly: slices.Concat([]string{filepath.Dir(c.config.Binary), c.config.Code}, c.config.DeviceFiles), Writable: []string{work}, Devices: c.config.Devices,
	}).Run(ctx, call, log)
}

// MaxBinary is how large a program may be, in bytes.
const MaxBinary = 8 << 20

// MaxBuildLog is how much of what a compiler prints is kept, in bytes.
const MaxBuildLog = 256 << 10

// Built is what a compiler has made.
type Built struct {
	Target        warpket.Target `json:"target"`
	Toolkit       string         `json:"toolkit"` // its minor, "13.2"
	Architectures []string       `json:"architectures"`
	Kernels       []Kernel       `json:"kernels"`    // as ptxas tells of them, one for each architecture
	BinarySize    int64          `json:"binarySize"` // bytes

	binary []byte
}

// Kernel is what a kernel uses on an architecture.
type Kernel struct {
	Name         string `json:"name"` // mangled
	Architecture string `json:"architecture"`
	Registers    int    `json:"registers"`    // of each thread
	SharedMemory int    `json:"sharedMemory"` // bytes of each block that are known when it is compiled
	SpillStores  int    `json:"spillStores"`  // bytes
	SpillLoads   int    `json:"spillLoads"`   // bytes
}

// Check reports why nothing can be compiled here.
func (c *CUDA) Check() error {
	_, err := toolkitOf(c.config.Runtime)
	return err
}

// Build compiles the files, for programs that are kept. The log is what the
// compiler has printed, cut. A failure says in its words why they do not compile.
func (c *CUDA) Build(ctx context.Context, timeout time.Duration) (binary, log []byte, failure *warpket.Failure) {
	kept := &head{}
	built, outcome := c.compile(ctx, Call{Target: warpket.Compile, Timeout: timeout}, kept)
	return built.binary, kept.kept, outcome.Failure
}

// head keeps the first of what is written to it.
type head struct{ kept []byte }

func (h *head) Write(b []byte) (int, error) {
	room := MaxBuildLog - len(h.kept)
	h.kept = append(h.kept, b[:min(len(b), max(room, 0))]...)
	return len(b), nil
}

func (c *CUDA) workDir() (dir string, done func(), err error) {
	if err := os.MkdirAll(c.config.Scratch, 0o755); err != nil {
		return "", nil, err
	}
	if dir, err = os.MkdirTemp(c.config.Scratch, "cuda-"); err != nil {
		return "", nil, err
	}
	// Written by the sandbox, whose user is another.
	return dir, func() { _ = os.RemoveAll(dir) }, os.Chmod(dir, 0o777) //nolint:gosec // in a folder of the agent
}

func (c *CUDA) compile(ctx context.Context, call Call, log io.Writer) (built Built, _ warpket.Outcome) {
	toolkit, err := toolkitOf(c.config.Runtime)
	if err != nil {
		return built, warpket.FailedWith(warpket.NotPrepared, reason(err), "")
	}
	work, done, err := c.workDir()
	if err != nil {
		return built, warpket.FailedWith(warpket.NotPrepared, "the compiler could not be started: "+reason(err), "")
	}
	defer done()
	said, out := &head{}, filepath.Join(work, "program")
	call.Input = nil // it is not the compiler's
	outcome := c.pool.newProgram(ProgramConfig{
		Argv: toolkit.argv(c.config, out), Dir: c.config.Code, ImageEnv: []string{"PATH=" + filepath.Join(toolkit.home, "bin") + ":/usr/local/bin:/usr/bin:/bin"}, Resources: c.config.Resources,
		ReadOnly: append(c.config.Runtime.ReadOnly(), c.config.Code), Writable: []string{work},
	}).Run(ctx, call, io.MultiWriter(log, said))
	if f := outcome.Failure; f != nil {
		if f.Code == warpket.Exited {
			f.Code, f.Message = warpket.BuildFailed, firstError(string(said.kept), f.Message)
		}
		return built, outcome
	}
	if built.binary, err = readBinary(out); err != nil {
		return built, warpket.FailedWith(warpket.BuildFailed, reason(err), "")
	}
	built.Target, built.Toolkit, built.Architectures = warpket.Compile, c.config.Runtime.Key.SDKVersion, c.config.Architectures
	built.Kernels, built.BinarySize = kernels(string(said.kept)), int64(len(built.binary))
	return built, outcome
}

// readBinary reads what a compiler has left in a folder that it could write.
func readBinary(path string) ([]byte, error) {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	info, err := root.Lstat(filepath.Base(path))
	if err != nil || !info.Mode().IsRegular() {
		return nil, warpket.Errorf(warpket.Invalid, "the compiler has made no program")
	}
	if info.Size() > MaxBinary {
		return nil, warpket.Errorf(warpket.Invalid, "the program has %d bytes; at most %d are allowed: compile less into it", info.Size(), MaxBinary)
	}
	file, err := root.Open(filepath.Base(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return io.ReadAll(io.LimitReader(file, MaxBinary))
}

// toolkit is a CUDA toolkit made of wheels.
type toolkit struct{ home string }

func toolkitOf(env runtimes.Env) (toolkit, error) {
	found, _ := filepath.Glob(filepath.Join(env.Dir, "lib", "python*", "site-packages", "nvidia", "cu*", "bin", "nvcc"))
	if len(found) == 0 {
		return toolkit{}, warpket.Errorf(warpket.Invalid, "the runtime %s %s has no nvcc", env.Key.SDK, env.Key.SDKVersion)
	}
	if _, err := exec.LookPath("g++"); err != nil {
		return toolkit{}, warpket.Errorf(warpket.Invalid, "this node has no C++ compiler, which nvcc needs for the host's part of the code: install g++ there")
	}
	return toolkit{filepath.Dir(filepath.Dir(found[0]))}, nil
}

// argv compiles one file for each of the architectures, and as PTX of the
// newest, which drivers compile for GPUs that came later.
func (t toolkit) argv(c CUDAConfig, out string) []string {
	argv := []string{
		filepath.Join(t.home, "bin", "nvcc"), "-std=c++17", "-O3", "-lineinfo", "-Xptxas", "-v", "-Xlinker", "-s",
		"-I", ".", "-I", filepath.Join(t.home, "include"), "-L" + filepath.Join(t.home, "lib"),
	}
	var newest string
	for _, a := range c.Architectures {
		n := strings.ReplaceAll(a, ".", "")
		argv = append(argv, "-gencode", "arch=compute_"+n+",code=sm_"+n)
		newest = n
	}
	return append(argv, "-gencode", "arch=compute_"+newest+",code=compute_"+newest, "-o", out, c.Entry) // of the folder in which it starts
}

var (
	errorLine  = regexp.MustCompile(`(?m)^.*(?:error|fatal)\s*(?:#\S+)?:.*$`)
	ptxasEntry = regexp.MustCompile(`Compiling entry function '([^']+)' for 'sm_(\d+)(\d)[a-z]?'`)
	ptxasSpill = regexp.MustCompile(`(\d+) bytes spill stores, (\d+) bytes spill loads`)
	ptxasUsed  = regexp.MustCompile(`Used (\d+) registers`)
	ptxasShare = regexp.MustCompile(`(\d+) bytes smem`)
)

// firstError is the first error that a compiler has printed.
func firstError(log, otherwise string) string {
	line := strings.TrimSpace(errorLine.FindString(log))
	if line == "" {
		return otherwise
	}
	return strings.ToValidUTF8(line[:min(len(line), 1000)], "\ufffd")
}

// kernels reads what ptxas -v has printed. What it does not understand it
// leaves out.
func kernels(log string) []Kernel {
	list := []Kernel{}
	number := func(text string) int { n, _ := strconv.Atoi(text); return n }
	for line := range strings.Lines(log) {
		if m := ptxasEntry.FindStringSubmatch(line); m != nil {
			list = append(list, Kernel{Name: m[1], Architecture: m[2] + "." + m[3]})
			continue
		}
		if len(list) == 0 {
			continue
		}
		k := &list[len(list)-1]
		if m := ptxasSpill.FindStringSubmatch(line); m != nil {
			k.SpillStores, k.SpillLoads = number(m[1]), number(m[2])
		}
		if m := ptxasUsed.FindStringSubmatch(line); m != nil {
			k.Registers = number(m[1])
		}
		if m := ptxasShare.FindStringSubmatch(line); m != nil {
			k.SharedMemory = number(m[1])
		}
	}
	return list
}
