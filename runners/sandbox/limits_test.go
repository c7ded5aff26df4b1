package sandbox_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/warpket/warpket/runners/sandbox"
)

const mebibyte = 1 << 20

// enforced says whether a launcher holds a limit on this machine by a cgroup.
func enforced(launcher sandbox.Launcher, limit string) bool {
	return !slices.Contains(launcher.Isolation().Unenforced, limit)
}

func TestAProgramCannotStartMoreProcessesThanItMay(t *testing.T) {
	t.Parallel()
	bombs := map[string]string{
		"of processes": `
import os, signal
n = 0
try:
    while True:
        if os.fork() == 0:
            signal.pause()
        n += 1
except BlockingIOError:
    print(n)`,
		"of threads": `
import _thread
lock = _thread.allocate_lock()
lock.acquire()
n = 0
try:
    while True:
        _thread.start_new_thread(lock.acquire, ())
        n += 1
except RuntimeError:
    print(n, flush=True)
import os
os._exit(0)`,
	}
	isolated(t, func(t *testing.T, launcher sandbox.Launcher) {
		for name, bomb := range bombs {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				other := neighbour(t, launcher)
				spec := script(t, bomb)
				spec.Limits.Processes = 40
				box, out, exit := run(t, launcher, spec)
				var n int
				if _, err := fmt.Sscan(out, &n); err != nil || n < 10 || n > 40 || !exit.OK() {
					t.Errorf("%q, %s", out, exit)
				}
				// gVisor's kernel holds the limit and tells nobody.
				if enforced(launcher, "processes") && box.Refusals().Processes == 0 && kindOf(launcher) != "gvisor" {
					t.Error("nobody has counted it")
				}
				other.unharmed(t)
			})
		}
	})
}

func TestAProgramCannotUseMoreMemoryThanItMay(t *testing.T) {
	t.Parallel()
	isolated(t, func(t *testing.T, launcher sandbox.Launcher) {
		bombs := map[string]string{"of its own": "x = []\nwhile True: x.append(bytearray(1 << 20))"}
		if enforced(launcher, "memory") { // otherwise each of these has only the limits of its size
			bombs["in files"] = "with open('/tmp/x', 'wb') as f:\n  while True: f.write(bytes(1 << 20))"
			bombs["in shared memory"] = "with open('/dev/shm/x', 'wb') as f:\n  while True: f.write(bytes(1 << 20))"
			bombs["of its children"] = "import os\nfor _ in range(4): os.fork()\nx = bytearray(os.urandom(1 << 20)) * 30\nimport signal; signal.pause()"
		}
		for name, bomb := range bombs {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				other := neighbour(t, launcher)
				spec := script(t, bomb)
				spec.Limits.Memory, spec.Limits.Disk = 64*mebibyte, 1024*mebibyte
				spec.Stdout = null(t)
				box := start(t, launcher, spec)
				if !enforced(launcher, "memory") {
					if exit, err := box.Wait(t.Context()); err != nil || exit.OK() {
						t.Errorf("%s, %v", exit, err)
					}
					return
				}
				until(t, box, func() bool { return box.Refusals().Memory > 0 })
				if peak := box.Counters().PeakMemory; peak < 32*mebibyte || peak > 65*mebibyte { // what dies may take a little more
					t.Errorf("it has used %d bytes", peak)
				}
				other.unharmed(t)
				must(t, box.Close())
				if box.Refusals().Memory == 0 || box.Counters().PeakMemory == 0 {
					t.Error("what was counted is forgotten")
				}
			})
		}
	})
}

func TestAProgramCannotFillWhatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	fill := `
import os, sys
n = 0
try:
    with open(sys.argv[1] + "/fill", "wb", buffering=0) as f:
        while True: n += f.write(bytes(1 << 16))
except OSError as e:
    print(os.strerror(e.errno), n)
os.unlink(sys.argv[1] + "/fill")
n = 0
try:
    while True:
        os.close(os.open(sys.argv[1] + "/%d" % n, os.O_CREAT | os.O_WRONLY))
        n += 1
except OSError as e:
    print(os.strerror(e.errno), n)`
	isolated(t, func(t *testing.T, launcher sandbox.Launcher) {
		for _, folder := range []string{"/tmp", "/dev/shm"} {
			t.Run(folder, func(t *testing.T) {
				t.Parallel()
				spec := script(t, fill, folder)
				spec.Limits.Disk = 4 * mebibyte
				most := 4096
				if kindOf(launcher) == "gvisor" { // where the memory says how many: one for each two pages
					spec.Limits.Memory = 128 * mebibyte
					most = 128 * mebibyte / 8192
				}
				_, out, _ := run(t, launcher, spec)
				var bytes, files int
				if _, err := fmt.Sscanf(out, "No space left on device %d\nNo space left on device %d\n", &bytes, &files); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				if bytes > 4*mebibyte || files > most {
					t.Errorf("%d bytes, %d files", bytes, files)
				}
			})
		}
	})
}

// TestAProgramGetsItsShareOfTheProcessorsOnly asks the cgroup, not the clock.
func TestAProgramGetsItsShareOfTheProcessorsOnly(t *testing.T) {
	t.Parallel()
	isolated(t, func(t *testing.T, launcher sandbox.Launcher) {
		if !enforced(launcher, "cpu") {
			return
		}
		spec := script(t, "while True: pass")
		spec.Limits.CPU = 100
		box := start(t, launcher, spec)
		// since waits until it has been made to wait so often, and tells of how many
		// periods that was, and what it has used.
		since := func(times int) (periods int, used time.Duration) {
			until(t, box, func() bool {
				throttled := 0
				for line := range strings.Lines(cgroupFile(t, launcher, "cpu", "cpu.stat")) {
					_, _ = fmt.Sscanf(line, "nr_periods %d", &periods)
					_, _ = fmt.Sscanf(line, "nr_throttled %d", &throttled)
				}
				return throttled >= times
			})
			return periods, box.Counters().CPU
		}
		before, spent := since(1) // with what starting has cost
		periods, used := since(6)
		periods, used = periods-before, used-spent
		// Each processor may have taken a slice that it has not used.
		if most := time.Duration(periods+1)*10*time.Millisecond + time.Duration(runtime.NumCPU())*5*time.Millisecond; used < 20*time.Millisecond || used > most {
			t.Errorf("in %d periods it has used %s; %s are its share", periods, used, most)
		}
	})
}

func TestLimitsAreLoweredForEachProcess(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, launcher sandbox.Launcher) {
		spec := shell(t, "read go; ulimit -n; ulimit -Hn; ulimit -c; ulimit -Hc")
		spec.Limits.OpenFiles = 20
		stdin, begin := pipe(t)
		reader, writer := pipe(t)
		spec.Stdin, spec.Stdout = stdin, writer
		start(t, launcher, spec)
		_, _ = begin.Close(), writer.Close() // limits hold now that it has been started
		if out := drain(t, reader); out != "20\n20\n0\n0\n" {
			t.Errorf("%q", out)
		}
	})
}

func TestAProgramThatWritesWithoutEndIsEndedByClose(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, launcher sandbox.Launcher) {
		reader, writer := pipe(t)
		spec := shell(t, "while :; do echo yes; done & while :; do echo yes; done")
		spec.Stdout = writer
		box := start(t, launcher, spec)
		_ = writer.Close()
		if _, err := reader.Read(make([]byte, 4096)); err != nil {
			t.Fatal(err)
		}
		must(t, box.Close())
		drain(t, reader)
	})
}

// script is a program in Python.
func script(t *testing.T, source string, args ...string) sandbox.Spec {
	t.Helper()
	return sandbox.Spec{Name: t.Name(), Argv: append([]string{python, "-I", "-B", "-c", source}, args...), Dir: "/"}
}

// run runs a program to its end and gives what it has written.
func run(t *testing.T, launcher sandbox.Launcher, spec sandbox.Spec) (sandbox.Sandbox, string, sandbox.Exit) {
	t.Helper()
	reader, writer := pipe(t)
	spec.Stdout, spec.Stderr = writer, writer
	box := start(t, launcher, spec)
	_ = writer.Close()
	out := drain(t, reader)
	exit, err := box.Wait(t.Context())
	must(t, err)
	return box, out, exit
}

// until waits for what the kernel tells nobody about.
func until(t *testing.T, box sandbox.Sandbox, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-box.Done():
			if !done() {
				t.Fatal("it ended, and nothing was counted")
			}
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// bystander is a sandbox that an attack in another must not harm.
type bystander struct {
	box       sandbox.Sandbox
	say, hear *os.File
}

func neighbour(t *testing.T, launcher sandbox.Launcher) bystander {
	t.Helper()
	in, say := pipe(t)
	hear, out := pipe(t)
	spec := sandbox.Spec{Name: t.Name() + "-neighbour", Argv: []string{"/bin/cat"}, Dir: "/", Stdin: in, Stdout: out, Limits: sandbox.Limits{Memory: 64 * mebibyte, Processes: 8}}
	b := bystander{start(t, launcher, spec), say, hear}
	_, _ = in.Close(), out.Close()
	return b
}

func (b bystander) unharmed(t *testing.T) {
	t.Helper()
	answer := make([]byte, 2)
	if _, err := b.say.WriteString("x\n"); err != nil {
		t.Error(err)
	}
	if n, err := b.hear.Read(answer); err != nil || string(answer[:n]) != "x\n" {
		t.Errorf("its neighbour answers %q, %v", answer[:n], err)
	}
	if r := b.box.Refusals(); r != (sandbox.Refusals{}) {
		t.Errorf("its neighbour was stopped: %+v", r)
	}
}

// cgroupFile reads a file of the one sandbox that a launcher has in this test.
func cgroupFile(t *testing.T, launcher sandbox.Launcher, controller, file string) string {
	t.Helper()
	for _, folder := range cgroupFolders(t) {
		if ofGVisor := strings.Contains(folder, "/warpket-gvisor-"); ofGVisor != (kindOf(launcher) == "gvisor") {
			continue
		}
		if b, err := os.ReadFile(filepath.Join(folder, file)); err == nil && (strings.Contains(folder, "/"+controller+"/") || !strings.Contains(folder, "/memory/")) {
			return string(b)
		}
	}
	t.Fatalf("there is no %s", file)
	return ""
}

// cgroupFolders are those of the sandboxes of this test.
func cgroupFolders(t *testing.T) (folders []string) {
	t.Helper()
	name := launcherName(t)
	must(t, filepath.WalkDir("/sys/fs/cgroup", func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return nil //nolint:nilerr // others make and remove theirs meanwhile
		}
		if parent := filepath.Dir(path); strings.HasSuffix(parent, "/warpket-"+name) || strings.HasSuffix(parent, "-"+name) {
			folders = append(folders, path)
		}
		return nil
	}))
	return folders
}

func null(t *testing.T) *os.File {
	t.Helper()
	f, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func drain(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	must(t, err)
	return string(b)
}
