package runtimes_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/warpket/warpket/runners/runtimes"
	"github.com/warpket/warpket/runners/runtimes/runtimestest"
)

// small is a store on a disk that has room for two environments.
func small(t *testing.T, dir string) (store *runtimes.Store, install func(smoke string) runtimes.Env) {
	t.Helper()
	store, minor := newStore(t, runtimes.Config{Dir: dir, Keep: 1, Free: func(dir string) (int64, error) {
		found, err := filepath.Glob(filepath.Join(dir, "envs", "*", "complete"))
		return int64(2 - len(found)), err
	}})
	return store, func(smoke string) runtimes.Env {
		t.Helper()
		env, err := store.Install(t.Context(), runtimes.InstallSpec{Key: runtimestest.Key("python", minor, minor), Smoke: smoke}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return env
	}
}

func there(env runtimes.Env) bool {
	_, err := os.Stat(env.Python)
	return err == nil
}

func TestWhatNobodyHasUsedForLongestGoesWhenTheDiskIsShort(t *testing.T) {
	t.Parallel()
	store, install := small(t, runtimestest.Folder(t))
	var gone []string
	store.BeforeRemoval(func(dir string) { gone = append(gone, dir) })
	first, second := install("a = 1"), install("b = 1")
	second.Release()
	first.Release() // used last
	third := install("c = 1")
	if !there(first) || there(second) || !there(third) || len(gone) != 1 || gone[0] != second.Dir {
		t.Errorf("there are %v %v %v, gone %v", there(first), there(second), there(third), gone)
	}
	again := install("b = 1") // the first goes for it
	if there(first) || !there(again) || again.Dir != second.Dir || !there(third) {
		t.Errorf("there are %v %v %v", there(first), there(again), there(third))
	}
}

func TestWhatIsUsedStaysHoweverShortTheDiskIs(t *testing.T) {
	t.Parallel()
	dir := runtimestest.Folder(t)
	_, install := small(t, dir)
	_, elsewhere := small(t, dir) // another agent on the same folder
	mine, theirs := install("a = 1"), elsewhere("b = 1")
	third := install("c = 1")
	if !there(mine) || !there(theirs) || !there(third) {
		t.Errorf("there are %v %v %v", there(mine), there(theirs), there(third))
	}
	install("a = 1").Release() // it is used twice, and released once
	theirs.Release()           // the other agent may still have interpreters of it in store
	install("d = 1")
	if !there(mine) || !there(theirs) {
		t.Errorf("there are %v %v", there(mine), there(theirs))
	}
	mine.Release()
	mine.Release() // which counts once
	install("e = 1")
	if there(mine) || !there(third) {
		t.Errorf("there are %v %v", there(mine), there(third))
	}
}

func TestDownloadsGoBeforeEnvironments(t *testing.T) {
	t.Parallel()
	uv, dir := filepath.Join(t.TempDir(), "uv"), runtimestest.Folder(t)
	if err := os.WriteFile(uv, []byte("#!/bin/sh\n[ \"$1 $2\" = 'cache clean' ] && rm -r \"$UV_CACHE_DIR\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	store, minor := newStore(t, runtimes.Config{Dir: dir, UV: uv, Keep: 1, Free: func(dir string) (int64, error) {
		found, err := filepath.Glob(filepath.Join(dir, "envs", "*", "complete"))
		downloads, _ := filepath.Glob(filepath.Join(dir, "uv-cache"))
		return int64(2 - len(found) - len(downloads)), err
	}})
	install := func(smoke string) runtimes.Env {
		env, err := store.Install(t.Context(), runtimes.InstallSpec{Key: runtimestest.Key("python", minor, minor), Smoke: smoke}, nil)
		if err != nil {
			t.Fatal(err)
		}
		env.Release()
		return env
	}
	first := install("a = 1")
	if err := os.Mkdir(filepath.Join(dir, "uv-cache"), 0o755); err != nil {
		t.Fatal(err)
	}
	if second := install("b = 1"); !there(first) || !there(second) {
		t.Errorf("there are %v %v", there(first), there(second))
	}
	if _, err := os.Stat(filepath.Join(dir, "uv-cache")); !os.IsNotExist(err) {
		t.Errorf("what was downloaded is still there: %v", err)
	}
}
