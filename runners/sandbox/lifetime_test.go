package sandbox_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/sandbox"
)

// daemon leaves the session, the group and its parent.
const daemon = `
import os, signal, sys
for _ in range(2):
    if os.fork():
        os.wait() if _ else None
        break
    os.setsid()
else:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("daemon", flush=True)
    signal.pause()
`

func TestADaemonEndsWithItsSandbox(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"when it is closed":        "signal.pause()",
		"when its program ends":    "sys.stdin.read()",
		"when its program crashes": "sys.stdin.read(); os.kill(os.getpid(), signal.SIGSEGV)",
	}
	isolated(t, func(t *testing.T, launcher sandbox.Launcher) {
		for name, end := range tests {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				stdin, more := pipe(t)
				reader, writer := pipe(t)
				spec := script(t, daemon+end)
				spec.Stdin, spec.Stdout = stdin, writer
				box := start(t, launcher, spec)
				_ = writer.Close()
				if _, err := reader.Read(make([]byte, 16)); err != nil {
					t.Fatal(err)
				}
				if strings.HasPrefix(end, "signal") {
					must(t, box.Close())
				}
				_ = more.Close()
				drain(t, reader) // which the daemon holds, too
				<-box.Done()
			})
		}
	})
}

func TestAProgramCanKillWhatIsInItsSandboxOnly(t *testing.T) {
	t.Parallel()
	isolated(t, func(t *testing.T, launcher sandbox.Launcher) {
		other := neighbour(t, launcher)
		cmd := exec.CommandContext(t.Context(), "/bin/cat") // of the agent's user
		stdin, err := cmd.StdinPipe()
		must(t, err)
		must(t, cmd.Start())
		targets := []string{"-1", strconv.Itoa(cmd.Process.Pid), strconv.Itoa(-cmd.Process.Pid)}
		if kindOf(launcher) != "gvisor" { // where the program is process 1 itself
			targets = append(targets, "1")
		}
		_, out, exit := run(t, launcher, script(t, `
import os, signal, sys
pid = os.fork()
if pid == 0:
    signal.pause()
for target in [int(arg) for arg in sys.argv[1:]]:
    try:
        os.kill(target, signal.SIGKILL)
    except OSError as e:
        print(target == -1, e.strerror)
print(os.WTERMSIG(os.waitpid(pid, 0)[1]))`, targets...))
		if want := "False No such process\nFalse No such process\n9\n"; out != want || !exit.OK() {
			t.Errorf("%q, %s", out, exit)
		}
		other.unharmed(t)
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("a process of the machine ended: %v", err)
		}
	})
}

func TestSandboxesHaveUsersOfTheirOwn(t *testing.T) {
	t.Parallel()
	isolated(t, func(t *testing.T, launcher sandbox.Launcher) {
		seen := map[string]int{} // and in which sandbox
		for i := range 5 {
			spec := shell(t, "echo; read end")
			spec.Name = fmt.Sprintf("%s-%d", t.Name(), i)
			stdin, _ := pipe(t)
			reader, writer := pipe(t)
			spec.Stdin, spec.Stdout = stdin, writer
			start(t, launcher, spec)
			if _, err := reader.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			for _, ids := range idsOf(t, stdin) {
				own := launcher.Isolation().UID == "own"
				if other, ok := seen[ids]; own && ok && other != i {
					t.Errorf("two have the IDs %s", ids)
				}
				if first, _, _ := strings.Cut(ids, " "); (first == strconv.Itoa(os.Geteuid())) == own || first == "0" {
					t.Errorf("it has the IDs %s", ids)
				}
				seen[ids] = i
			}
		}
		if own := launcher.Isolation().UID == "own"; len(seen) == 0 || own && len(seen) < 5 {
			t.Errorf("of 5 sandboxes these IDs were found: %v", seen)
		}
	})
}

// idsOf gives the user and group IDs on the machine of those who hold a file
// that a sandbox was given. What starts sandboxes may hold it for a moment, too.
func idsOf(t *testing.T, file *os.File) (ids []string) {
	t.Helper()
	folders, err := filepath.Glob("/proc/[0-9]*")
	must(t, err)
	ours, err := os.Readlink("/proc/self/exe")
	must(t, err)
	pipe, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
	must(t, err)
	for _, folder := range folders {
		program, _ := os.Readlink(folder + "/exe")
		if program == ours || !holds(folder, pipe) {
			continue
		}
		status, err := os.ReadFile(folder + "/status")
		if err != nil {
			continue // it has ended
		}
		var id string
		for line := range strings.Lines(string(status)) {
			if strings.HasPrefix(line, "Uid:") || strings.HasPrefix(line, "Gid:") {
				id += strings.Join(strings.Fields(line)[1:], " ") + " "
			}
		}
		ids = append(ids, id)
	}
	return ids
}

func holds(process, file string) bool {
	files, _ := filepath.Glob(process + "/fd/*")
	return slices.ContainsFunc(files, func(f string) bool {
		target, err := os.Readlink(f)
		return err == nil && target == file
	})
}

// TestSandboxesEndWithTheirAgent runs this test binary as an agent that has
// inherited an open file, and kills it.
func TestSandboxesEndWithTheirAgent(t *testing.T) {
	t.Parallel()
	for kind := range launchers(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			name := fmt.Sprintf("test-%d-killed-%s", os.Getpid(), kind)
			inherited := null(t)
			reader, writer := pipe(t)
			agent := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAgent$")
			agent.Env = append(os.Environ(), "WARPKET_TEST_AGENT="+kind, "WARPKET_TEST_NAME="+name)
			agent.Stdout, agent.Stderr = writer, os.Stderr
			control, _ := pipe(t) // at whose end a cell's program would end by itself
			agent.ExtraFiles = []*os.File{inherited, control}
			if kind == "namespaces" {
				agent.Env = append(agent.Env, "WARPKET_TEST_HARNESS="+copyOfHarness(t))
			}
			must(t, agent.Start())
			_ = writer.Close()
			line := make([]byte, 64)
			n, err := reader.Read(line)
			must(t, err)
			if got := string(line[:n]); got != "0 1 2 3\n" { // with the folder that is listed
				t.Errorf("the program has the files %q", got)
			}
			must(t, agent.Process.Kill())
			_ = agent.Wait()
			drain(t, reader) // the program holds the pipe too: it ends when both have ended

			if kind == "plain" {
				return
			}
			left, _ := filepath.Glob("/sys/fs/cgroup/pids/warpket-" + name + "/*/cgroup.procs")
			if want := map[string]int{"namespaces": 3, "gvisor": 1}[kind]; os.Geteuid() == 0 && len(left) != want {
				if _, err := os.Stat("/sys/fs/cgroup/pids"); err == nil {
					t.Errorf("%d cgroups are left, not %d, to be swept", len(left), want)
				}
			}
			next := launcherOf(t, kind, name)
			for _, folder := range left {
				if _, err := os.Stat(folder); err == nil {
					t.Errorf("%s is left", folder)
				}
			}
			must(t, next.(io.Closer).Close())
		})
	}
}

func launcherOf(t *testing.T, kind, name string) (launcher sandbox.Launcher) {
	t.Helper()
	var err error
	switch kind {
	case "plain":
		launcher = sandbox.NewPlain()
	case "namespaces":
		launcher, err = sandbox.NewNamespaces(t.Context(), name)
	case "gvisor":
		launcher, err = sandbox.NewGVisor(t.Context(), os.Getenv(runsc), name)
	}
	must(t, err)
	return launcher
}

// TestAgent is no test but the agent of the one above.
func TestAgent(t *testing.T) {
	t.Parallel()
	kind, name := os.Getenv("WARPKET_TEST_AGENT"), os.Getenv("WARPKET_TEST_NAME")
	if kind == "" {
		t.Skip("only run by another test")
	}
	if err := unix.Fstat(3, &unix.Stat_t{}); err != nil {
		t.Fatalf("the agent has not inherited a file: %v", err)
	}
	launcher := launcherOf(t, kind, name)
	if program := os.Getenv("WARPKET_TEST_HARNESS"); program != "" {
		nest := nestOf(t, launcher.(*sandbox.Namespaces), program)
		_, err := nest.Cell(t.Context(), "cell", sandbox.Limits{}, [3]*os.File{os.NewFile(4, "control"), null(t), os.Stdout})
		must(t, err)
	}
	spec := shell(t, "echo $(ls /proc/self/fd); exec sleep 60")
	spec.Name, spec.Stdout = "left", os.Stdout
	box := start(t, launcher, spec)
	<-box.Done()
}

func TestANameIsTakenByOneAgentAtATime(t *testing.T) {
	t.Parallel()
	eachOpener(t, func(t *testing.T, open opener) {
		name := fmt.Sprintf("test-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-"))
		first, err := open(name)
		must(t, err)
		if _, err := open(name); warpket.KindOf(err) != warpket.Conflict {
			t.Errorf("a second one: %v", err)
		}
		must(t, first.Close())
		must(t, first.Close())
		if _, err := first.Start(t.Context(), shell(t, "exit 0")); warpket.KindOf(err) != warpket.Unavailable {
			t.Errorf("started by one that was closed: %v", err)
		}
		again, err := open(name)
		must(t, err)
		must(t, again.Close())
		for _, name := range []string{"", "a/b", "../x", "a\x00"} {
			if _, err := open(name); warpket.KindOf(err) != warpket.Invalid {
				t.Errorf("%q: %v", name, err)
			}
		}
	})
}

// isolating is a launcher that keeps programs apart.
type isolating interface {
	sandbox.Launcher
	io.Closer
}

type opener func(name string) (isolating, error)

// eachOpener runs a test with the ways to make a launcher that keeps programs apart.
func eachOpener(t *testing.T, test func(t *testing.T, open opener)) {
	t.Helper()
	openers := map[string]opener{"namespaces": func(name string) (isolating, error) { return sandbox.NewNamespaces(t.Context(), name) }}
	if hasGVisor() {
		openers["gvisor"] = func(name string) (isolating, error) { return sandbox.NewGVisor(t.Context(), os.Getenv(runsc), name) }
	}
	for kind, open := range openers {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(t, open)
		})
	}
}

func TestALauncherCanBeClosedWhileItStartsSandboxes(t *testing.T) {
	t.Parallel()
	eachOpener(t, closesWhileItStarts)
}

func closesWhileItStarts(t *testing.T, open opener) {
	t.Helper()
	launcher, err := open(fmt.Sprintf("test-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-")))
	must(t, err)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := 0; ; j++ {
				spec := shell(t, "exit 0")
				spec.Name = fmt.Sprintf("%d-%d", i, j)
				box, err := launcher.Start(t.Context(), spec)
				if err != nil {
					return
				}
				if i == 0 && j == 3 {
					must(t, launcher.Close())
				}
				_ = box.Close()
			}
		})
	}
	group.Wait()
}

func TestManySandboxesRunAtOnceAndTheirNamesMayBeOdd(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, launcher sandbox.Launcher) {
		names := []string{"", ".", "..", "a/b", "a-b", "../../x", "cgroup.procs", "tasks", "a\nb", "a b%", "ü", strings.Repeat("x", 300)}
		for i := range 50 - len(names) {
			names = append(names, strconv.Itoa(i))
		}
		var group sync.WaitGroup
		for _, name := range names {
			group.Go(func() {
				reader, writer := pipe(t)
				spec := sandbox.Spec{Name: name, Argv: []string{"/bin/cat"}, Dir: "/", Stdout: writer, Limits: sandbox.Limits{Memory: 64 * mebibyte, Processes: 20}}
				stdin, say := pipe(t)
				spec.Stdin = stdin
				box, err := launcher.Start(t.Context(), spec)
				if err != nil {
					t.Errorf("%q: %v", name, err)
					return
				}
				_, _ = stdin.Close(), writer.Close()
				_, _ = say.WriteString("x")
				if _, err := reader.Read(make([]byte, 1)); err != nil {
					t.Errorf("%q: %v", name, err)
				}
				_ = say.Close()
				if exit, err := box.Wait(t.Context()); err != nil || !exit.OK() {
					t.Errorf("%q: %s, %v", name, exit, err)
				}
				must(t, box.Close())
			})
		}
		group.Wait()
	})
}
