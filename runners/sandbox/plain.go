package sandbox

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/warpket/warpket"
)

// Plain runs a program as a child process in a process group of its own. It
// keeps programs from living on, not from looking around: the program runs as
// the agent's user, sees the machine's files, processes and network, and of
// the limits only that on open files holds. A process that leaves the group
// (setsid) is not found again, and when the agent is killed outright only the
// program itself is sure to end, not what it has started. It is for trusted
// code and for development.
type Plain struct {
	once   sync.Once
	starts chan func()

	mu      sync.Mutex
	running map[string]*process
}

// NewPlain makes a launcher of plain processes.
func NewPlain() *Plain {
	return &Plain{starts: make(chan func()), running: map[string]*process{}}
}

// Isolation says that there is none.
func (*Plain) Isolation() warpket.Isolation { return warpket.NoIsolation }

// Start starts the program. Paths and most limits of the spec are not
// enforced; see Plain. Those that are hold once Start has returned.
func (p *Plain) Start(ctx context.Context, spec Spec) (Sandbox, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if spec.Root != "" {
		return nil, errNoRoot(p)
	}
	p.once.Do(func() { go serve(p.starts) })

	proc := &process{done: make(chan struct{})}
	if err := p.claim(spec.Name, proc); err != nil {
		return nil, err
	}
	cmd := command(spec)
	started := make(chan error)
	p.starts <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		p.release(spec.Name)
		return nil, fmt.Errorf("starting %s: %w", spec.Name, err)
	}
	proc.pid = cmd.Process.Pid
	lower(proc.pid, unix.RLIMIT_CORE, coreDump)
	if spec.Limits.OpenFiles > 0 {
		lower(proc.pid, unix.RLIMIT_NOFILE, spec.Limits.OpenFiles)
	}
	go func() {
		proc.reap(cmd)
		p.release(spec.Name)
		close(proc.done)
	}()
	return proc, nil
}

func (p *Plain) claim(name string, proc *process) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running[name] != nil {
		return warpket.Errorf(warpket.Conflict, "a sandbox named %q is running already", name)
	}
	p.running[name] = proc
	return nil
}

func (p *Plain) release(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.running, name)
}

// serve starts processes from one thread that never ends. The kernel kills a
// process when the thread that started it ends (Pdeathsig), and Go ends
// threads as it likes: so from this one, that is when the agent ends, however
// it does.
func serve(starts <-chan func()) {
	runtime.LockOSThread()
	// Files that whoever started the agent left open in it are not for programs.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	for start := range starts {
		start()
	}
}

func command(spec Spec) *exec.Cmd {
	cmd := &exec.Cmd{
		Path:       spec.Argv[0],
		Args:       spec.Argv,
		Env:        spec.Env,
		Dir:        spec.Dir,
		ExtraFiles: spec.Files,
		SysProcAttr: &syscall.SysProcAttr{
			Setpgid:   true,
			Pdeathsig: syscall.SIGKILL,
		},
	}
	if cmd.Env == nil {
		cmd.Env = []string{} // nil would pass on the agent's
	}
	// A nil *os.File in an interface is not nil, so each is set on its own.
	if spec.Stdin != nil {
		cmd.Stdin = spec.Stdin
	}
	if spec.Stdout != nil {
		cmd.Stdout = spec.Stdout
	}
	if spec.Stderr != nil {
		cmd.Stderr = spec.Stderr
	}
	return cmd
}

// coreDump is the limit at which the kernel writes no core dump, nor gives one
// to a program of the machine (core_pattern) to read as root. At 0 it does.
const coreDump = 1

// lower lowers a limit of a process, and never raises its hard limit. A
// process that has ended meanwhile needs none.
func lower(pid, resource int, value uint64) {
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, resource, nil, &limit); err != nil {
		return
	}
	limit.Max = min(limit.Max, value)
	limit.Cur = min(limit.Cur, value)
	if resource == unix.RLIMIT_CORE {
		limit.Cur = limit.Max
	}
	_ = unix.Prlimit(pid, resource, &limit, nil)
}

// process is a program that Plain has started.
type process struct {
	pid  int
	done chan struct{} // closed once it has been reaped; exit and err are set before
	exit Exit
	err  error

	mu     sync.Mutex
	reaped bool // the number of the group may belong to someone else
}

// reap waits for the program to end and ends what it leaves behind. The group
// is killed while the dead leader still holds its number, so that no other
// process can have got it.
func (p *process) reap(cmd *exec.Cmd) {
	for {
		err := unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = unix.Kill(-p.pid, unix.SIGKILL)
	p.exit, p.err = exitOf(cmd.Wait(), cmd.ProcessState)
	p.reaped = true
}

func exitOf(err error, state *os.ProcessState) (Exit, error) {
	if state == nil {
		return Exit{}, fmt.Errorf("waiting for a program: %w", err)
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return Exit{Signal: status.Signal()}, nil
	}
	return Exit{Code: state.ExitCode()}, nil
}

// Counters are not kept for plain processes.
func (*process) Counters() Counters { return Counters{} }

// ResetPeak does nothing: there is no such counter.
func (*process) ResetPeak() {}

// Refusals are not counted for plain processes.
func (*process) Refusals() Refusals { return Refusals{} }

// Wait returns how the program ended, or stops it when ctx ends first.
func (p *process) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-p.done:
		return p.exit, p.err
	case <-ctx.Done():
		_ = p.Close()
		return p.exit, ctx.Err()
	}
}

// Done is closed when the program has ended.
func (p *process) Done() <-chan struct{} { return p.done }

// Close kills the program's group and reaps it.
func (p *process) Close() error {
	p.mu.Lock()
	if !p.reaped {
		_ = unix.Kill(-p.pid, unix.SIGKILL)
	}
	p.mu.Unlock()
	<-p.done
	return nil
}
