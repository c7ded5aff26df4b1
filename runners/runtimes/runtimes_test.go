package runtimes_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/pypi"
	"github.com/warpket/warpket/runners/runtimes"
	"github.com/warpket/warpket/runners/runtimes/runtimestest"
	"github.com/warpket/warpket/runners/sandbox"
)

func TestInterpretersAreFoundBehindShims(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	fake := func(name, path, minor, implementation string) {
		script(t, filepath.Join(folder, name), fmt.Sprintf("printf '%%s\\n' %s 3 %s %s", path, minor, implementation))
	}
	fake("python3", "/real/python3.11", "11", "cpython")
	fake("python3.11", "/other/python3.11", "11", "cpython")
	fake("python3.9", "/real/python3.9", "9", "cpython")
	fake("python3.10", "/real/pypy3.10", "10", "pypy")
	fake("python3.14", "/real/python3.8", "8", "cpython") // a name that lies
	script(t, filepath.Join(folder, "python3.12"), "echo 'python3.12: command not found' >&2; exit 127")
	extra := filepath.Join(t.TempDir(), "my-python")
	script(t, extra, `printf '%s\n' /real/python3.13 3 13 cpython`)

	got, err := runtimes.Search{
		Launcher: sandbox.NewPlain(),
		Environ:  []string{"PATH=" + folder},
		Extra:    []string{extra, "/nonesuch"},
	}.Pythons(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []runtimes.Python{
		{Path: "/real/python3.13", Minor: "3.13"},
		{Path: "/real/python3.11", Minor: "3.11"},
		{Path: "/real/python3.9", Minor: "3.9"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestARuntimeWithoutPackagesNeedsNoInstaller(t *testing.T) {
	t.Parallel()
	store, minor := newStore(t, runtimes.Config{UV: "/nonesuch"})
	lock, err := store.Lock(t.Context(), runtimes.LockSpec{Key: runtimestest.Key("python", minor, minor)}, nil)
	if err != nil || lock != "" {
		t.Fatalf("lock %q, %v", lock, err)
	}
	env, err := store.Install(t.Context(), runtimes.InstallSpec{Key: runtimestest.Key("python", minor, minor), Smoke: "import json"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := python(t, env, "import sys; print(sys.prefix != sys.base_prefix, [p for p in sys.path if 'site-packages' in p])"); got != fmt.Sprintf("True ['%s/lib/python%s/site-packages']", env.Dir, minor) {
		t.Error(got)
	}
}

func TestManyWhoAskGetOneBuild(t *testing.T) {
	t.Parallel()
	count := filepath.Join(t.TempDir(), "count")
	smoke := fmt.Sprintf("open(%q, 'a').write('x')", count)
	// Two stores on one folder are two agents: the file lock keeps them apart.
	dir := runtimestest.Folder(t)
	var all sync.WaitGroup
	for range 2 {
		store, minor := newStore(t, runtimes.Config{Dir: dir})
		for range 5 {
			all.Go(func() {
				if _, err := store.Install(t.Context(), runtimes.InstallSpec{Key: runtimestest.Key("python", minor, minor), Smoke: smoke}, nil); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	if built, err := os.ReadFile(count); err != nil || string(built) != "x" {
		t.Errorf("built %d times, %v", len(built), err)
	}
}

func TestWhatACrashLeftIsNotUsed(t *testing.T) {
	t.Parallel()
	store, minor := newStore(t, runtimes.Config{})
	spec := runtimes.InstallSpec{Key: runtimestest.Key("python", minor, minor), Smoke: "pass"}
	env, err := store.Install(t.Context(), spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	// As if the agent had been killed before the end: no mark, and too much.
	if err := os.Chmod(env.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(env.Dir, "complete")); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(env.Dir, "half")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Install(t.Context(), spec, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was left is still there: %v", err)
	}
}

func TestARuntimeThatDoesNotWorkIsRefused(t *testing.T) {
	t.Parallel()
	store, minor := newStore(t, runtimes.Config{})
	var progress lines
	_, err := store.Install(t.Context(), runtimes.InstallSpec{
		Key: runtimestest.Key("python", minor, minor), Smoke: "raise SystemExit('no lungs')",
	}, progress.add)
	if warpket.KindOf(err) != warpket.Invalid || !strings.Contains(err.Error(), "its smoke run ended with exit code 1: no lungs") {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff(lines{"smoke run of python " + minor}, progress); diff != "" {
		t.Error(diff)
	}
}

func TestABuildEndsWithTheLastWhoWaits(t *testing.T) {
	t.Parallel()
	store, minor := newStore(t, runtimes.Config{})
	ready := filepath.Join(t.TempDir(), "ready")
	spec := runtimes.InstallSpec{
		Key:   runtimestest.Key("python", minor, minor),
		Smoke: fmt.Sprintf("import os, time\nif not os.path.exists(%q): time.sleep(60)", ready),
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := store.Install(ctx, spec, func(string) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if err := os.WriteFile(ready, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Install(t.Context(), spec, nil); err != nil {
		t.Error(err)
	}
}

func TestARuntimeForElsewhereIsRefused(t *testing.T) {
	t.Parallel()
	store, minor := newStore(t, runtimes.Config{})
	elsewhere := runtimestest.Key("python", minor, minor)
	elsewhere.Platform = "plan9/mips"
	for _, k := range []warpket.RuntimeKey{elsewhere, runtimestest.Key("python", "3.99", "3.99")} {
		if _, err := store.Install(t.Context(), runtimes.InstallSpec{Key: k}, nil); warpket.KindOf(err) != warpket.Invalid {
			t.Errorf("%s: %v", k, err)
		}
	}
}

func TestTheInstallerSeesOnlyWhatItNeeds(t *testing.T) {
	t.Parallel()
	uv := filepath.Join(t.TempDir(), "uv")
	script(t, uv, `env | sed 's/=.*//' | sort | tr '\n' ' '; exit 1`)
	store, minor := newStore(t, runtimes.Config{
		UV:       uv,
		IndexURL: "http://index.invalid/simple",
		Environ:  []string{"https_proxy=http://proxy.invalid", "SSL_CERT_FILE=/certs", "SECRET=x", "PYTHONDONTWRITEBYTECODE=1"},
	})
	_, err := store.Lock(t.Context(), runtimes.LockSpec{Key: runtimestest.Key("six", "1.16.0", minor), Packages: map[string]string{"six": "==1.16.0"}}, nil)
	want := "HOME LANG NO_COLOR PATH PWD SSL_CERT_FILE UV_CACHE_DIR UV_DEFAULT_INDEX UV_NO_CONFIG UV_NO_PROGRESS UV_PYTHON_DOWNLOADS https_proxy"
	if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), "_=", ""), want) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestTheInstallersFailureIsExplained(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]warpket.Kind{1: warpket.Invalid, 2: warpket.Unavailable, 101: warpket.Unavailable} {
		dir := runtimestest.Folder(t)
		uv := filepath.Join(t.TempDir(), "uv")
		script(t, uv, fmt.Sprintf("echo 'no solution in %s/tmp' >&2; exit %d", dir, code))
		store, minor := newStore(t, runtimes.Config{Dir: dir, UV: uv})
		_, err := store.Lock(t.Context(), runtimes.LockSpec{Key: runtimestest.Key("six", "1.16.0", minor), Packages: map[string]string{"six": ""}}, nil)
		if warpket.KindOf(err) != want || !strings.HasSuffix(err.Error(), "locking six 1.16.0 failed: no solution in tmp") {
			t.Errorf("exit code %d: %s, %v", code, warpket.KindOf(err), err)
		}
	}
}

func TestARequirementCannotSmuggle(t *testing.T) {
	t.Parallel()
	store, minor := newStore(t, runtimes.Config{UV: "/nonesuch"})
	for _, packages := range []map[string]string{
		{"-r/etc/passwd": ""},
		{"six": "\n--index-url http://evil.invalid"},
		{"six": " @ file:///tmp/x"},
		{"../six": ""},
	} {
		_, err := store.Lock(t.Context(), runtimes.LockSpec{Key: runtimestest.Key("six", "1", minor), Packages: packages}, nil)
		if warpket.KindOf(err) != warpket.Invalid {
			t.Errorf("%v: %v", packages, err)
		}
	}
}

func TestALockIsInstalledAsItIs(t *testing.T) {
	t.Parallel()
	store, pythons := runtimestest.Shared(t)
	minor := pythons[0].Minor
	spec := runtimes.LockSpec{
		Key:      runtimestest.Key("python-dateutil", "2.8.2", minor),
		Packages: map[string]string{"python-dateutil": "==2.8.2"},
		Until:    time.Date(2022, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	var progress lines
	lock, err := store.Lock(t.Context(), spec, progress.add)
	runtimestest.Needs(t, err)
	if !strings.Contains(lock, "six==1.16.0") || !strings.Contains(lock, "--hash=sha256:") {
		t.Errorf("lock:\n%s", lock)
	}
	if !strings.Contains(strings.Join(progress, "\n"), "resolving the packages of python-dateutil 2.8.2\nresolved 2 packages") {
		t.Errorf("progress %q", progress)
	}
	again, err := store.Lock(t.Context(), spec, nil)
	runtimestest.Needs(t, err)
	if diff := cmp.Diff(lock, again); diff != "" {
		t.Errorf("the second lock differs: %s", diff)
	}

	env, err := store.Install(t.Context(), runtimes.InstallSpec{Key: spec.Key, Lock: lock, Smoke: "import dateutil"}, progress.add)
	runtimestest.Needs(t, err)
	if got := python(t, env, "import dateutil, six; print(dateutil.__version__, six.__version__)"); got != "2.8.2 1.16.0" {
		t.Error(got)
	}
	compiled, err := filepath.Glob(filepath.Join(env.Dir, "lib", "*", "site-packages", "__pycache__", "six.*.pyc"))
	if err != nil || len(compiled) != 1 {
		t.Errorf("six is not compiled: %v", err)
	}
	for _, path := range append(compiled, env.Dir, env.CacheHome) {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o222 != 0 {
			t.Errorf("%s can be written: %v", path, err)
		}
	}

	wrong := regexp.MustCompile(`sha256:\w{8}`).ReplaceAllString(lock, "sha256:00000000")
	if _, err = store.Install(t.Context(), runtimes.InstallSpec{Key: spec.Key, Lock: wrong}, nil); err == nil || !strings.Contains(err.Error(), "Hash mismatch") {
		t.Errorf("a lock with wrong hashes: %v", err)
	}
}

func TestProjectsShareNothingOfWhatTheirRequirementsBring(t *testing.T) {
	t.Parallel()
	cache := runtimestest.Cache(t)
	dir := runtimestest.Folder(t)
	store, pythons := runtimestest.Store(t, runtimes.Config{
		Dir: dir, Index: pypi.New(pypi.Config{CacheDir: filepath.Join(cache, "index")}), Environ: os.Environ(),
	})
	key := runtimestest.Key("python", pythons[0].Minor, pythons[0].Minor)
	key.Requirements = "0123"
	seen := map[string]warpket.ID{} // files by what they are on the disk
	for _, project := range []warpket.ID{"0192f000-0000-7000-8000-000000000001", "0192f000-0000-7000-8000-000000000002"} {
		lock, err := store.Lock(t.Context(), runtimes.LockSpec{Key: key, Project: project, Requirements: []string{"six==1.16.0"}}, nil)
		runtimestest.Needs(t, err)
		env, err := store.Install(t.Context(), runtimes.InstallSpec{Key: key, Project: project, Lock: lock, Smoke: "import six"}, nil)
		runtimestest.Needs(t, err)
		if got := python(t, env, "import six; print(six.__version__)"); got != "1.16.0" {
			t.Error(got)
		}
		own := filepath.Join(dir, "projects", string(project))
		if !strings.HasPrefix(env.Dir, own) {
			t.Errorf("it is in %s", env.Dir)
		}
		err = filepath.WalkDir(own, func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			inode := fmt.Sprint(info.Sys().(*syscall.Stat_t).Ino)
			if other, ok := seen[inode]; ok && other != project {
				t.Errorf("%s is shared with project %s", path, other)
			}
			seen[inode] = project
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "uv-cache")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a cache that both could use: %v", err)
	}
	_, err := store.Install(t.Context(), runtimes.InstallSpec{Key: key, Project: "../x"}, nil)
	if warpket.KindOf(err) == "" {
		t.Error("a project leads out of the folder")
	}
}

func TestARequirementThatCannotBeMetIsExplained(t *testing.T) {
	t.Parallel()
	store, pythons := runtimestest.Shared(t)
	spec := runtimes.LockSpec{
		Key: runtimestest.Key("python", pythons[0].Minor, pythons[0].Minor), Project: "0192f000-0000-7000-8000-000000000001",
		Requirements: []string{"six==1.17.0"}, Until: time.Date(2022, 1, 1, 0, 0, 0, 0, time.UTC), // it came in 2024
	}
	_, err := store.Lock(t.Context(), spec, nil)
	if warpket.KindOf(err) == warpket.Unavailable {
		runtimestest.Needs(t, err)
	}
	if warpket.KindOf(err) != warpket.Invalid || !strings.Contains(err.Error(), "six==1.17.0") || !strings.Contains(err.Error(), "after 2022-01-01") {
		t.Errorf("got %v", err)
	}
	spec.Requirements = []string{"--index-url http://evil.invalid"}
	if _, err = store.Lock(t.Context(), spec, nil); warpket.KindOf(err) != warpket.Invalid {
		t.Errorf("an option: %v", err)
	}
}

// newStore makes a store with what config leaves open filled.
func newStore(t *testing.T, config runtimes.Config) (store *runtimes.Store, minor string) {
	t.Helper()
	store, pythons := runtimestest.Store(t, config)
	return store, pythons[0].Minor
}

func python(t *testing.T, env runtimes.Env, program string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), env.Python, "-I", "-c", program).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func script(t *testing.T, path, body string) {
	t.Helper()
	syscall.ForkLock.RLock() // a fork that holds the file open keeps it from being executed
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

type lines []string

func (l *lines) add(line string) { *l = append(*l, line) }
