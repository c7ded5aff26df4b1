package runtimes

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// builds are the environments that are being made. Whoever asks for one of
// them joins its build and hears its progress; it is given up when all have left.
type builds struct {
	mu      sync.Mutex
	running map[string]*build
}

type build struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when err is set
	err    error

	mu      sync.Mutex
	last    string
	waiting map[*waiter]bool
}

type waiter struct{ progress func(string) }

// join waits for the build of a name, which it starts if nobody has.
func (b *builds) join(ctx context.Context, name string, progress func(string), work func(context.Context, func(string)) error) error {
	w := &waiter{progress}
	current := b.enter(ctx, name, w, work)
	select {
	case <-current.done:
		return current.err
	case <-ctx.Done():
		b.leave(name, current, w)
		return ctx.Err()
	}
}

func (b *builds) enter(ctx context.Context, name string, w *waiter, work func(context.Context, func(string)) error) *build {
	b.mu.Lock()
	defer b.mu.Unlock()
	if current := b.running[name]; current != nil {
		current.mu.Lock()
		defer current.mu.Unlock()
		current.waiting[w] = true
		if current.last != "" {
			w.progress(current.last)
		}
		return current
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	current := &build{cancel: cancel, done: make(chan struct{}), waiting: map[*waiter]bool{w: true}}
	b.running[name] = current
	go func() {
		defer cancel()
		current.err = work(ctx, current.tell)
		b.mu.Lock()
		if b.running[name] == current {
			delete(b.running, name)
		}
		b.mu.Unlock()
		close(current.done)
	}()
	return current
}

// leave takes a waiter out. The last one stops the build, and whoever comes
// after it starts another.
func (b *builds) leave(name string, current *build, w *waiter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	current.mu.Lock()
	defer current.mu.Unlock()
	delete(current.waiting, w)
	if len(current.waiting) == 0 {
		current.cancel()
		if b.running[name] == current {
			delete(b.running, name)
		}
	}
}

func (c *build) tell(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = line
	for w := range c.waiting {
		w.progress(line)
	}
}

// lockFile takes the lock that keeps agents which share a folder apart. It is
// given up when the agent ends, however it ends. It calls wait if someone else
// holds it.
func lockFile(ctx context.Context, path string, wait func()) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644) //nolint:gosec // agents of any user share it
	if err != nil {
		return nil, err
	}
	unlock = func() { _ = file.Close() }
	if unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		return unlock, nil
	}
	wait()
	locked := make(chan error, 1)
	go func() { locked <- unix.Flock(int(file.Fd()), unix.LOCK_EX) }()
	select {
	case err := <-locked:
		if err != nil {
			unlock()
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		return unlock, nil
	case <-ctx.Done():
		go func() { // the lock is got some time, and is given back at once
			<-locked //nolint:errcheck // there is nobody left to tell
			unlock()
		}()
		return nil, ctx.Err()
	}
}
