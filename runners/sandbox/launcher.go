package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/warpket/warpket"
)

// launcher is what launchers that keep programs apart have in common.
type launcher struct {
	cgroups *cgroups
	uids    *uids // nil unless root
	lock    *os.File
	starts  chan func()

	closing sync.RWMutex // held by those who start something
	closed  bool

	mu      sync.Mutex
	running map[string]bool
}

// open takes a name, and makes ready to start processes. What another launcher
// of that name has left is ended.
func (l *launcher) open(name string) (err error) {
	if name == "" || strings.ContainsAny(name, "/\x00") {
		return warpket.Errorf(warpket.Invalid, "an agent's name cannot be %q, since folders are named after it", name)
	}
	if l.lock, err = lockName(name); err != nil {
		return err
	}
	l.starts, l.running = make(chan func()), map[string]bool{}
	if l.cgroups, err = findCgroups("/sys/fs/cgroup", "/proc/self/cgroup", "warpket-"+name); err != nil {
		return errors.Join(err, unlock(l.lock))
	}
	l.cgroups.sweep()
	if os.Geteuid() == 0 {
		l.uids = &uids{}
	}
	go serve(l.starts)
	return nil
}

// Close ends the launcher, whose sandboxes have been closed. It may be called
// more than once; what is started after it is refused.
func (l *launcher) Close() error {
	l.closing.Lock()
	defer l.closing.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	close(l.starts)
	l.cgroups.close()
	return unlock(l.lock)
}

var errClosed = warpket.Errorf(warpket.Unavailable, "the launcher of sandboxes has been closed")

func (l *launcher) ended() bool {
	l.closing.RLock()
	defer l.closing.RUnlock()
	return l.closed
}

// spawn starts a process from the launcher's thread.
func (l *launcher) spawn(cmd *exec.Cmd) error {
	l.closing.RLock()
	defer l.closing.RUnlock()
	if l.closed {
		return errClosed
	}
	started := make(chan error)
	l.starts <- func() { started <- cmd.Start() }
	return <-started
}

// claim takes a name, which is refused if a sandbox of that name is running.
func (l *launcher) claim(name string) error {
	if l.ended() {
		return errClosed
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running[name] {
		return warpket.Errorf(warpket.Conflict, "a sandbox named %q is running already", name)
	}
	l.running[name] = true
	return nil
}

func (l *launcher) release(name string) {
	l.mu.Lock()
	delete(l.running, name)
	last := len(l.running) == 0
	l.mu.Unlock()
	if last && l.ended() {
		l.cgroups.close()
	}
}

// isolation says what holds of what every launcher does.
func (l *launcher) isolation(kind string) warpket.Isolation {
	i := warpket.Isolation{Kind: kind, UID: "shared", Unenforced: l.cgroups.missing()}
	if l.cgroups.lacksSwap(swapOf()) {
		i.Unenforced = append(i.Unenforced, swapLimit)
	}
	if l.uids != nil {
		i.UID = "own"
	}
	return i
}

// swapOf is how many bytes of swap the machine has.
func swapOf() uint64 {
	var info unix.Sysinfo_t
	_ = unix.Sysinfo(&info) // it cannot fail
	return uint64(info.Totalswap) * uint64(info.Unit)
}

// lockName takes a name until this process ends.
func lockName(name string) (*os.File, error) {
	folder := lockFolder()
	if err := makeOwn(folder); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(folder, "launcher-"+name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("taking the name %s: %w", name, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, warpket.Errorf(warpket.Conflict, "an agent that uses the name %s runs already", name)
	}
	return f, nil
}

// unlock lets go of a lock at once. A process that is just being started has
// the file open, too.
func unlock(f *os.File) error {
	return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
}

// lockFolder holds files that are locked by agents of this machine and user.
func lockFolder() string {
	if os.Geteuid() == 0 {
		return "/run/warpket"
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("warpket-%d", os.Geteuid()))
}

// makeOwn makes a folder that only this user can change. One that somebody
// else has made where all may is not taken for it.
func makeOwn(folder string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("making %s: %w", folder, err)
	}
	var stat unix.Stat_t
	if err := unix.Lstat(folder, &stat); err != nil {
		return fmt.Errorf("looking at %s: %w", folder, err)
	}
	if int(stat.Uid) != os.Geteuid() || stat.Mode&unix.S_IFMT != unix.S_IFDIR || stat.Mode&0o022 != 0 {
		return warpket.Errorf(warpket.Unavailable, "%s must be a folder that only the agent's user can change; it is somebody else's or open to others: remove it", folder)
	}
	return nil
}
