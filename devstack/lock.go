package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// remainsLeave is how long the parts of a devstack that was killed may take to
// stop before the next one gives up waiting for them.
const remainsLeave = 10 * time.Second

// lockDir takes the lock of a data directory and writes our pid into it. The
// parts inherit the open file, so the lock is free only when all of them are
// gone: a devstack that follows a killed one waits for what that left behind.
func lockDir(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	if err := f.Truncate(0); err != nil {
		return nil, err
	}
	_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return f, err
}

func flock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return err
	}
	if holder := pidIn(f); alive(holder) {
		return fmt.Errorf("another devstack (pid %d) runs on this data directory; stop it first, or give another --data", holder)
	}
	free := make(chan error, 1)
	go func() { free <- unix.Flock(int(f.Fd()), unix.LOCK_EX) }()
	select {
	case err := <-free:
		return err
	case <-time.After(remainsLeave):
		return fmt.Errorf("what a devstack that ended (pid %d) left behind still runs on this data directory; %q names the file it holds",
			pidIn(f), "fuser "+f.Name())
	}
}

func pidIn(f *os.File) int {
	text, _ := io.ReadAll(io.NewSectionReader(f, 0, 32))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}

// alive says whether a process exists, ours or not, and still runs: one that
// has ended stays visible until its parent takes notice.
func alive(pid int) bool {
	if pid <= 0 || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	// The state follows the name, which is in brackets and may hold any.
	_, state, _ := strings.Cut(string(stat[max(0, bytes.LastIndexByte(stat, ')')):]), " ")
	return !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}
