package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/sandbox"
)

// launchers are all implementations: each passes the same tests.
func launchers(t *testing.T) map[string]sandbox.Launcher {
	t.Helper()
	namespaces, err := sandbox.NewNamespaces(t.Context(), launcherName(t))
	if err != nil {
		t.Fatal(err)
	}
	plain := sandbox.NewPlain()
	t.Cleanup(func() {
		leavesNothing(t, plain)
		leavesNothing(t, namespaces)
		must(t, namespaces.Close())
		if left := cgroupFolders(t); len(left) > 0 {
			t.Errorf("cgroups are left: %q", left)
		}
	})
	all := map[string]sandbox.Launcher{"plain": plain, "namespaces": namespaces}
	if hasGVisor() {
		all["gvisor"] = gvisor(t)
	}
	return all
}

// runsc is the variable that names gVisor's program.
const runsc = "WARPKET_TEST_RUNSC"

func hasGVisor() bool { return os.Getenv(runsc) != "" || os.Getenv("CI") != "" }

// gvisor makes a launcher with gVisor's program. "make test" builds that.
func gvisor(t *testing.T) *sandbox.GVisor {
	t.Helper()
	launcher, err := sandbox.NewGVisor(t.Context(), os.Getenv(runsc), "gvisor-"+launcherName(t))
	must(t, err)
	t.Cleanup(func() {
		leavesNothing(t, launcher)
		must(t, launcher.Close())
	})
	return launcher
}

// leavesNothing checks that all sandboxes of a test have given back what they
// held. TestMain looks at what only the process as a whole can be asked for.
func leavesNothing(t *testing.T, launcher interface{ Running() []string }) {
	t.Helper()
	if left := launcher.Running(); len(left) > 0 {
		t.Errorf("sandboxes are left: %q", left)
	}
}

// launcherName is of a test, and of this process, since others may run the
// same tests on this machine at the same time.
func launcherName(t *testing.T) string {
	t.Helper()
	test, _, _ := strings.Cut(t.Name(), "/")
	return fmt.Sprintf("test-%d-%s", os.Getpid(), test)
}

func each(t *testing.T, test func(t *testing.T, launcher sandbox.Launcher)) {
	t.Helper()
	for name, launcher := range launchers(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, launcher)
		})
	}
}

func TestAProgramsEndIsTold(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		script, text string
		want         sandbox.Exit
	}{
		"success":      {"exit 0", "exit code 0", sandbox.Exit{}},
		"an exit code": {"exit 3", "exit code 3", sandbox.Exit{Code: 3}},
		"a signal":     {"kill -SEGV $$", "SIGSEGV", sandbox.Exit{Signal: syscall.SIGSEGV}},
	}
	each(t, func(t *testing.T, launcher sandbox.Launcher) {
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				box := start(t, launcher, shell(t, test.script))
				got, err := box.Wait(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.want, got); diff != "" || got.String() != test.text {
					t.Errorf("%s: %s", got, diff)
				}
			})
		}
	})
}

func TestAProgramSeesOnlyWhatItWasGiven(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, launcher sandbox.Launcher) {
		reader, writer := pipe(t)
		extraIn, extraOut := pipe(t)
		goIn, goOut := pipe(t)
		spec := shell(t, `read go; env | grep -v -E '^(PWD|SHLVL|_|go)='; ulimit -c; ulimit -n; echo to-three >&3; ls /proc/self/fd | wc -l`)
		spec.Env = []string{"A=1"}
		spec.Stdin, spec.Stdout = goIn, writer
		spec.Files = []*os.File{extraOut}
		spec.Limits.OpenFiles = 64
		box := start(t, launcher, spec)
		_ = writer.Close()
		_ = extraOut.Close()
		_ = goOut.Close() // limits hold now that it has been started
		out, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := box.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		// Standard streams, the extra file, and the folder that ls reads.
		want := "A=1\n0\n64\n5\n"
		if kindOf(launcher) == "gvisor" { // which gives a HOME to each program that has none
			want = "HOME=/tmp\n" + want
		}
		if diff := cmp.Diff(want, string(out)); diff != "" {
			t.Error(diff)
		}
		if extra, _ := io.ReadAll(extraIn); string(extra) != "to-three\n" {
			t.Errorf("the extra file got %q", extra)
		}
	})
}

func TestAFileThatAProgramClosesIsClosed(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, launcher sandbox.Launcher) {
		reader, writer := pipe(t)
		stdin, _ := pipe(t)
		spec := shell(t, "echo there >&3; exec 3>&-; read end")
		spec.Stdin, spec.Files = stdin, []*os.File{writer}
		start(t, launcher, spec)
		_ = writer.Close()
		// It runs on, and nobody else holds the file.
		if got, err := io.ReadAll(reader); string(got) != "there\n" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func TestWaitStopsTheProgramWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, launcher sandbox.Launcher) {
		box := start(t, launcher, shell(t, "sleep 60"))
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		exit, err := box.Wait(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || exit.Signal != syscall.SIGKILL {
			t.Errorf("%s, %v", exit, err)
		}
		<-box.Done()
	})
}

func TestCloseEndsAllThatTheProgramStarted(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, launcher sandbox.Launcher) {
		reader, writer := pipe(t)
		spec := shell(t, "sleep 60 & echo started; wait")
		spec.Stdout = writer
		box := start(t, launcher, spec)
		_ = writer.Close()
		if _, err := reader.Read(make([]byte, 8)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := box.Close(); err != nil {
				t.Fatal(err)
			}
		}
		// The pipe ends when nobody holds its other end.
		if rest, err := io.ReadAll(reader); err != nil || len(rest) > 0 {
			t.Errorf("%q, %v", rest, err)
		}
	})
}

func TestWhatAProgramLeavesBehindEndsWithIt(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, launcher sandbox.Launcher) {
		reader, writer := pipe(t)
		spec := shell(t, "sleep 60 & exit 0")
		spec.Stdout = writer
		start(t, launcher, spec)
		_ = writer.Close()
		if _, err := io.ReadAll(reader); err != nil {
			t.Error(err)
		}
	})
}

func TestANameThatRunsIsRefused(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, launcher sandbox.Launcher) {
		box := start(t, launcher, shell(t, "sleep 60"))
		_, err := launcher.Start(t.Context(), shell(t, "exit 0"))
		if warpket.KindOf(err) != warpket.Conflict {
			t.Errorf("error %v", err)
		}
		if err := box.Close(); err != nil {
			t.Fatal(err)
		}
		start(t, launcher, shell(t, "exit 0"))
	})
}

func TestAProgramThatCannotStartIsAnError(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, launcher sandbox.Launcher) {
		for range 2 { // and its name is free again
			if _, err := launcher.Start(t.Context(), sandbox.Spec{Name: t.Name(), Argv: []string{"/nonesuch"}}); err == nil {
				t.Error("no error")
			}
		}
	})
}

func kindOf(launcher sandbox.Launcher) string { return launcher.Isolation().Kind }

func shell(t *testing.T, script string) sandbox.Spec {
	t.Helper()
	return sandbox.Spec{Name: t.Name(), Argv: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}, Dir: "/"}
}

func start(t *testing.T, launcher sandbox.Launcher, spec sandbox.Spec) sandbox.Sandbox {
	t.Helper()
	box, err := launcher.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = box.Close() })
	return box
}

func pipe(t *testing.T) (reader, writer *os.File) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = reader.Close()
		_ = writer.Close()
	})
	return reader, writer
}
