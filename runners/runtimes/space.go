package runtimes

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/warpket/warpket"
)

// Beside the folder of an environment lies {folder}.lock. It is held alone by
// who makes or removes the environment, and shared by agents that use it; its
// time is that of the last use.

// hold is a shared lock on an environment, which an agent keeps once it has used
// it: it may have interpreters of it in store.
type hold struct {
	lock  *os.File
	users int
}

// use gives an environment if it is complete, and keeps it there until it is
// released.
func (s *Store) use(key warpket.RuntimeKey, dir string) (Env, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.held[dir]
	if h == nil && complete(dir) {
		if lock := tryLock(dir, unix.LOCK_SH); lock != nil {
			h = &hold{lock: lock}
		}
	}
	if h == nil {
		return Env{}, false
	}
	if !complete(dir) { // it was removed before the lock was got
		delete(s.held, dir)
		_ = h.lock.Close()
		return Env{}, false
	}
	s.held[dir] = h
	h.users++
	touch(dir)
	env := envAt(key, dir)
	env.release = sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		h.users--
		touch(dir)
	})
	return env, true
}

// tryLock takes a lock unless others have it; nil then.
func tryLock(dir string, how int) *os.File {
	file, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDONLY, 0o644) //nolint:gosec // agents of any user share it
	if err != nil {
		return nil
	}
	if unix.Flock(int(file.Fd()), how|unix.LOCK_NB) != nil {
		_ = file.Close()
		return nil
	}
	return file
}

// touch notes that an environment is used. Another user's file keeps its time.
func touch(dir string) {
	now := time.Now()
	_ = os.Chtimes(dir+".lock", now, now)
}

// BeforeRemoval has f called with the folder of an environment that nobody uses
// before it is removed: f ends what is kept of it in store.
func (s *Store) BeforeRemoval(f func(dir string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.letGo = f
}

// makeRoom removes what nobody uses when the disk is short: first what was
// downloaded, then environments, those first that nobody has used for longest.
// What cannot be removed stays: what is then installed may still have room.
func (s *Store) makeRoom(ctx context.Context, progress func(string)) {
	short := func() bool {
		free, err := s.config.Free(s.config.Dir)
		return err == nil && free < s.config.Keep && ctx.Err() == nil
	}
	if !short() {
		return
	}
	progress("making room on the disk")
	roots, _ := filepath.Glob(filepath.Join(s.config.Dir, "projects", "*")) // the patterns are good ones
	var dirs []string
	used := map[string]time.Time{}
	for _, root := range append(roots, s.config.Dir) {
		if s.cleanCache(ctx, root, progress) != nil {
			progress("downloaded packages could not be removed")
		}
		markers, _ := filepath.Glob(filepath.Join(root, "envs", "*", marker))
		for _, m := range markers {
			dir := filepath.Dir(m)
			dirs = append(dirs, dir)
			if info, err := os.Stat(dir + ".lock"); err == nil {
				used[dir] = info.ModTime()
			}
		}
	}
	slices.SortFunc(dirs, func(a, b string) int { return cmp.Or(used[a].Compare(used[b]), cmp.Compare(a, b)) })
	for _, dir := range dirs {
		if !short() {
			return
		}
		if s.remove(dir) != nil {
			progress("a runtime that nobody uses could not be removed")
		}
	}
}

// cleanCache removes what was downloaded for a root. Environments share files
// with it, which their removal alone would not free.
func (s *Store) cleanCache(ctx context.Context, root string, progress func(string)) error {
	if _, err := os.Stat(filepath.Join(root, "uv-cache")); err != nil {
		return nil // nothing was downloaded
	}
	uv, err := s.UV(ctx, progress)
	if err != nil {
		return err
	}
	work, err := workDir(root)
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	return s.runUV(ctx, "removing downloaded packages", []string{uv, "cache", "clean"}, nil, root, work, progress)
}

// remove removes an environment unless somebody uses it.
func (s *Store) remove(dir string) error {
	s.mu.Lock()
	h, letGo := s.held[dir], s.letGo
	if h != nil && h.users > 0 {
		s.mu.Unlock()
		return nil
	}
	delete(s.held, dir)
	s.mu.Unlock()
	if h != nil {
		if letGo != nil {
			letGo(dir)
		}
		_ = h.lock.Close()
	}
	lock := tryLock(dir, unix.LOCK_EX)
	if lock == nil {
		return nil // another agent uses it, or this one again
	}
	defer func() { _ = lock.Close() }()
	// Without its mark it is not used, even if the agent is killed in the middle.
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a folder about to go
		return fmt.Errorf("removing an environment: %w", err)
	}
	if err := os.Remove(filepath.Join(dir, marker)); err != nil {
		return fmt.Errorf("removing an environment: %w", err)
	}
	if err := removeTree(dir); err != nil {
		return fmt.Errorf("removing an environment: %w", err)
	}
	return nil
}

// freeOn is how many bytes of the disk of a folder are free.
func freeOn(dir string) (int64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, fmt.Errorf("asking for free space: %w", err)
	}
	return int64(stat.Bavail) * stat.Bsize, nil //nolint:gosec // no disk is that large
}
