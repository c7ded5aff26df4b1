package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/sandbox"
)

// gvisor makes a launcher with the runsc that WARPKET_TEST_RUNSC names.
func gvisor(t *testing.T) *sandbox.GVisor {
	t.Helper()
	runsc := os.Getenv("WARPKET_TEST_RUNSC")
	if runsc == "" {
		if os.Getenv("CI") != "" {
			t.Fatal(`WARPKET_TEST_RUNSC names no runsc; "make test" builds one`)
		}
		t.Skip(`WARPKET_TEST_RUNSC names no runsc; "make test" builds one`)
	}
	launcher, err := sandbox.NewGVisor(t.Context(), runsc, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = launcher.Close() })
	return launcher
}

// output runs a shell script and returns what it writes.
func output(t *testing.T, launcher sandbox.Launcher, spec sandbox.Spec) string {
	t.Helper()
	reader, writer := pipe(t)
	spec.Stdout, spec.Stderr = writer, writer
	box := start(t, launcher, spec)
	_ = writer.Close()
	out, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := box.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestGVisorTellsHowAProgramEnded(t *testing.T) {
	t.Parallel()
	launcher := gvisor(t)
	for script, want := range map[string]sandbox.Exit{
		"exit 0":             {},
		"exit 3":             {Code: 3},
		"kill -SEGV $$":      {Signal: syscall.SIGSEGV},
		"sleep 60 & exit 4":  {Code: 4}, // and what it leaves behind ends
		"kill -KILL $$":      {Signal: syscall.SIGKILL},
		"exec /bin/sh -c ''": {},
	} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			got, err := start(t, launcher, shell(t, script)).Wait(t.Context())
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%s, %v", diff, err)
			}
		})
	}
}

func TestGVisorGivesAProgramWhatIsListed(t *testing.T) {
	t.Parallel()
	launcher := gvisor(t)
	readable, writable, hidden := t.TempDir(), t.TempDir(), t.TempDir()
	for folder, mode := range map[string]os.FileMode{readable: 0o644, writable: 0o644, hidden: 0o644} {
		if err := os.WriteFile(filepath.Join(folder, "file"), []byte("there"), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(readable, 0o777); err != nil {
		t.Fatal(err)
	}
	spec := shell(t, `
		cat $R/file $W/file; echo
		cat $H/file
		echo new > $R/new
		echo new > $W/file && echo new > $W/other
		echo x > /usr/file; echo x > /file
		echo x > /tmp/file && cat /tmp/file
		echo x > /dev/shm/file && cat /dev/shm/file`)
	spec.Env = append(spec.Env, "R="+readable, "W="+writable, "H="+hidden, "LC_ALL=C")
	spec.ReadOnly, spec.Writable = []string{readable}, []string{writable}
	got := output(t, launcher, spec)
	for _, want := range []string{
		"therethere\n", "cat: " + hidden + "/file: No such file", "cannot create " + readable + "/new: Read-only",
		"cannot create /usr/file: ", "cannot create /file: ", "\nx\nx\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q has not %q", got, want)
		}
	}
	for _, name := range []string{"file", "other"} {
		path := filepath.Join(writable, name)
		content, err := os.ReadFile(path)
		if err != nil || string(content) != "new\n" {
			t.Errorf("%s has %q, %v", name, content, err)
		}
	}
}

func TestAFolderIsTheAgentsAgainOnceGVisorIsDone(t *testing.T) {
	t.Parallel()
	launcher := gvisor(t)
	writable := t.TempDir()
	spec := shell(t, "mkdir $W/a; echo x > $W/a/b; stat -c %u $W")
	spec.Env, spec.Writable = append(spec.Env, "W="+writable), []string{writable}
	spec.Name = "writer"
	reader, writer := pipe(t)
	spec.Stdout = writer
	box := start(t, launcher, spec)
	_ = writer.Close()
	if _, err := io.ReadAll(reader); err != nil {
		t.Fatal(err)
	}
	if err := box.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(writable, "a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; int(owner) != os.Geteuid() {
		t.Errorf("its owner is %d", owner)
	}
}

func TestGVisorPassesFilesOnAndLetsGoOfThem(t *testing.T) {
	t.Parallel()
	launcher := gvisor(t)
	reader, writer := pipe(t)
	extraIn, extraOut := pipe(t)
	goIn, goOut := pipe(t)
	spec := shell(t, `env | grep -v -E '^(PWD|SHLVL|_)='; ulimit -c; ulimit -n; echo to-three >&3; exec 3>&-; read go; ls /proc/self/fd | wc -l`)
	spec.Env = []string{"HOME=/"}
	spec.Stdin, spec.Stdout = goIn, writer
	spec.Files = []*os.File{extraOut}
	spec.Limits.OpenFiles = 64
	box := start(t, launcher, spec)
	_ = writer.Close()
	_ = extraOut.Close()
	// It has closed the file while it runs on, and nobody else holds it.
	if extra, err := io.ReadAll(extraIn); string(extra) != "to-three\n" || err != nil {
		t.Errorf("the extra file got %q, %v", extra, err)
	}
	_ = goOut.Close()
	out, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := box.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("HOME=/\n0\n64\n4\n", string(out)); diff != "" { // standard streams, and the folder that ls reads
		t.Error(diff)
	}
}

func TestGVisorStopsAProgramWhenTheContextEnds(t *testing.T) {
	t.Parallel()
	box := start(t, gvisor(t), shell(t, "sleep 60"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	exit, err := box.Wait(ctx)
	if !errors.Is(err, context.Canceled) || exit.Signal != syscall.SIGKILL {
		t.Errorf("%s, %v", exit, err)
	}
	<-box.Done()
	if err := box.Close(); err != nil {
		t.Error(err)
	}
}

func TestGVisorEndsAllThatAProgramStarted(t *testing.T) {
	t.Parallel()
	reader, writer := pipe(t)
	spec := shell(t, "setsid sleep 60 & echo started; wait")
	spec.Stdout = writer
	box := start(t, gvisor(t), spec)
	_ = writer.Close()
	if _, err := reader.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	if err := box.Close(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(reader); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestGVisorRefusesANameThatRuns(t *testing.T) {
	t.Parallel()
	launcher := gvisor(t)
	box := start(t, launcher, shell(t, "sleep 60"))
	if _, err := launcher.Start(t.Context(), shell(t, "exit 0")); warpket.KindOf(err) != warpket.Conflict {
		t.Errorf("error %v", err)
	}
	if err := box.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, launcher, shell(t, "exit 0"))
}

func TestGVisorSaysWhatCannotStart(t *testing.T) {
	t.Parallel()
	launcher := gvisor(t)
	for range 2 { // and its name is free again
		_, err := launcher.Start(t.Context(), sandbox.Spec{Name: t.Name(), Argv: []string{"/nonesuch"}})
		if warpket.KindOf(err) != warpket.Unavailable || !strings.Contains(err.Error(), "/nonesuch: no such file") {
			t.Errorf("error %v", err)
		}
	}
	if _, err := launcher.Start(t.Context(), sandbox.Spec{Name: t.Name(), Argv: []string{"/bin/sh"}, ReadOnly: []string{"/nonesuch"}}); err == nil {
		t.Error("a folder that is not there was taken")
	}
}

func TestGVisorHoldsLimits(t *testing.T) {
	t.Parallel()
	launcher := gvisor(t)
	t.Run("processes", func(t *testing.T) {
		t.Parallel()
		spec := shell(t, `i=0; while [ $i -lt 40 ]; do sleep 60 & i=$((i+1)); done; echo all`)
		spec.Limits.Processes = 20
		if got := output(t, launcher, spec); strings.Contains(got, "all") {
			t.Errorf("%q", got)
		}
	})
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		if len(launcher.Isolation().Unenforced) > 0 {
			t.Skipf("this machine holds no limit on %v", launcher.Isolation().Unenforced)
		}
		spec := shell(t, `head -c 1G /dev/zero | tail -c 1G | wc -c`)
		spec.Limits.Memory = 200 << 20
		exit, err := start(t, launcher, spec).Wait(t.Context())
		if err != nil || exit.Signal != syscall.SIGKILL {
			t.Errorf("%s, %v", exit, err)
		}
	})
	t.Run("disk", func(t *testing.T) {
		t.Parallel()
		if got := output(t, launcher, shell(t, `head -c 1G /dev/zero > /tmp/full; wc -c < /tmp/full`)); !strings.Contains(got, "No space left") {
			t.Errorf("%q", got)
		}
	})
}

func TestGVisorKeepsAProgramApart(t *testing.T) {
	t.Parallel()
	launcher := gvisor(t)
	abstract, err := net.Listen("unix", "@warpket-test-"+t.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = abstract.Close() })
	local, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = local.Close() })
	spec := sandbox.Spec{
		Name: t.Name(), Env: []string{"PATH=/usr/bin:/bin", "ABSTRACT=warpket-test-" + t.Name(), "PORT=" + local.Addr().String()},
		Argv: []string{gvisorPython(t), "-I", "-c", gvisorAttacks},
	}
	want := `the host's processes: [1]
its user is not root: True
capabilities: 0000000000000000
an abstract socket of the host: ConnectionRefusedError
a port of the host: OSError
an address of the internet: OSError
a socket of the hypervisor: OSError
mount: -1
unshare and mount: -1
the host's passwords: FileNotFoundError
a host name: warpket
loopback of its own: connected
`
	if os.Geteuid() != 0 {
		want = strings.Replace(want, "root: True", "root: False", 1)
	}
	got := strings.ReplaceAll(output(t, launcher, spec), "ConnectionRefusedError\na port of the host: ConnectionRefusedError", "ConnectionRefusedError\na port of the host: OSError")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

const gvisorAttacks = `
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def tried(what, do):
    try:
        print(what + ":", do(), flush=True)
    except OSError as e:
        print(what + ":", type(e).__name__, flush=True)
def connect(family, address):
    s = socket.socket(family, socket.SOCK_STREAM)
    s.settimeout(10)
    s.connect(address)
    return "connected"
host, port = os.environ["PORT"].rsplit(":", 1)
tried("the host's processes", lambda: [int(p) for p in os.listdir("/proc") if p.isdigit()])
tried("its user is not root", lambda: os.getuid() != 0)
tried("capabilities", lambda: [l.split()[1] for l in open("/proc/self/status") if l.startswith("CapEff")][0])
tried("an abstract socket of the host", lambda: connect(socket.AF_UNIX, "\0" + os.environ["ABSTRACT"]))
tried("a port of the host", lambda: connect(socket.AF_INET, (host, int(port))))
tried("an address of the internet", lambda: connect(socket.AF_INET, ("1.1.1.1", 80)))
tried("a socket of the hypervisor", lambda: connect(40, (2, 1)))
tried("mount", lambda: libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None))
tried("unshare and mount", lambda: libc.unshare(0x20020000) or libc.mount(b"tmpfs", b"/usr", b"tmpfs", 0, None) or "mounted")
tried("the host's passwords", lambda: open("/etc/shadow").read())
tried("a host name", lambda: os.uname().nodename)
own = socket.create_server(("127.0.0.1", 0))
tried("loopback of its own", lambda: connect(socket.AF_INET, own.getsockname()))
`

// python is an interpreter that lies in the system's folders.
func gvisorPython(t *testing.T) string {
	t.Helper()
	path := "/usr/bin/python3"
	if _, err := os.Stat(path); err != nil {
		t.Skip("this machine has no Python of its own")
	}
	return path
}

func TestAProgramUnderGVisorReachesASocketThatItWasGiven(t *testing.T) {
	t.Parallel()
	launcher := gvisor(t)
	folder := t.TempDir()
	socket := filepath.Join(folder, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.Copy(c, c)
	}()
	spec := sandbox.Spec{
		Name: t.Name(), ReadOnly: []string{folder}, Env: []string{"S=" + socket},
		Argv: []string{gvisorPython(t), "-I", "-c", `
import os, socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
s.connect(os.environ["S"])
s.sendall(b"hello")
s.shutdown(socket.SHUT_WR)
print(s.recv(100))`},
	}
	if got := output(t, launcher, spec); got != "b'hello'\n" {
		t.Errorf("%q", got)
	}
}

// TestProgramsUnderGVisorEndWithTheAgent runs this test binary as an agent and kills it.
func TestProgramsUnderGVisorEndWithTheAgent(t *testing.T) {
	t.Parallel()
	gvisor(t) // or there is nothing to do
	dir := t.TempDir()
	reader, writer := pipe(t)
	agent := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAgentOfGVisor$")
	agent.Env = append(os.Environ(), "WARPKET_TEST_AGENT="+dir)
	agent.Stdout = writer
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	_ = writer.Close()
	line := make([]byte, 64)
	if n, err := reader.Read(line); err != nil || !bytes.HasPrefix(line[:n], []byte("started")) {
		t.Fatalf("%q, %v", line[:n], err)
	}
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	// All that holds the pipe has to end.
	if _, err := io.ReadAll(reader); err != nil {
		t.Error(err)
	}
	// The next agent finds nothing in its way.
	launcher, err := sandbox.NewGVisor(t.Context(), os.Getenv("WARPKET_TEST_RUNSC"), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = launcher.Close() })
	if left, err := os.ReadDir(filepath.Join(dir, "root")); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// TestAgentOfGVisor is no test but the agent of the one above.
func TestAgentOfGVisor(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("WARPKET_TEST_AGENT")
	if !filepath.IsAbs(dir) {
		t.Skip("only run by another test")
	}
	launcher, err := sandbox.NewGVisor(t.Context(), os.Getenv("WARPKET_TEST_RUNSC"), dir)
	if err != nil {
		t.Fatal(err)
	}
	spec := shell(t, "echo started; exec sleep 60")
	spec.Stdout = os.Stdout
	box := start(t, launcher, spec)
	<-box.Done()
}

func TestGVisorWithoutItsProgramIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := sandbox.NewGVisor(t.Context(), filepath.Join(t.TempDir(), "runsc"), t.TempDir()); warpket.KindOf(err) != warpket.Unavailable {
		t.Errorf("error %v", err)
	}
	program := filepath.Join(t.TempDir(), "runsc")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho systrap is not for this machine >&2; exit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := sandbox.NewGVisor(ctx, program, t.TempDir()); err == nil {
		t.Error("it was taken")
	}
}
