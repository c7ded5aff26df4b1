// Package runtimestest makes real runtimes for tests, and keeps them from one
// run of the tests to the next.
package runtimestest

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/pypi"
	"github.com/warpket/warpket/runners/runtimes"
	"github.com/warpket/warpket/runners/sandbox"
)

// Platform is that of the machine that runs the tests.
const Platform = runtime.GOOS + "/" + runtime.GOARCH

// Store makes a store in an own folder, with what config leaves open filled,
// and tells the interpreters that it has, newest first.
func Store(t testing.TB, config runtimes.Config) (*runtimes.Store, []runtimes.Python) {
	t.Helper()
	config.Launcher, config.Installer = sandbox.NewPlain(), sandbox.NewPlain()
	config.Platform = Platform
	if config.Dir == "" {
		config.Dir = Folder(t)
	}
	pythons, err := runtimes.Search{Launcher: config.Launcher, Environ: os.Environ()}.Pythons(t.Context())
	if err != nil || len(pythons) == 0 {
		t.Fatalf("this machine has no Python 3.9 or newer: %v", err)
	}
	config.Pythons = pythons
	store, err := runtimes.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return store, pythons
}

// Folder is a folder for a store that goes with the test: what is in it is made
// writable first, for an ordinary user cannot remove what it may not change.
func Folder(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				return os.Chmod(path, 0o700)
			}
			return err
		})
	})
	return dir
}

// Shared makes a store in the folder that is kept, with the package index.
func Shared(t testing.TB) (*runtimes.Store, []runtimes.Python) {
	t.Helper()
	cache := Cache(t)
	return Store(t, runtimes.Config{
		Dir:     filepath.Join(cache, "runtimes"),
		Index:   pypi.New(pypi.Config{CacheDir: filepath.Join(cache, "index")}),
		Environ: os.Environ(),
	})
}

// Key is a runtime for this machine.
func Key(sdk, version, minor string) warpket.RuntimeKey {
	return warpket.RuntimeKey{SDK: sdk, SDKVersion: version, Python: minor, Platform: Platform}
}

// Cache is the folder that is kept: WARPKET_TEST_CACHE, or one of the user's.
func Cache(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("WARPKET_TEST_CACHE")
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(user, "warpket-test")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Needs fails the test for an error, but skips it on a laptop without network.
func Needs(t testing.TB, err error) {
	t.Helper()
	if warpket.KindOf(err) == warpket.Unavailable && os.Getenv("CI") == "" {
		t.Skip("the package index is needed: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}
