package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/warpket/warpket"
)

// User IDs for sandboxes. systemd's list of the ranges in use on Linux
// (UIDS-GIDS) has nobody from here on.
const (
	firstUID  = 0x7000_0000
	rangeSize = 1 << 16
	ranges    = 4096
)

// uids hands out ranges of user IDs. A range is held by a locked file, so that
// agents on one machine do not get the same, and one that dies holds none.
type uids struct {
	mu   sync.Mutex
	next int
}

// uidRange is a range of the machine's user IDs, for one sandbox.
type uidRange struct {
	first int
	file  *os.File
}

func (u *uids) take() (*uidRange, error) {
	folder := filepath.Join(lockFolder(), "uids")
	if err := makeOwn(folder); err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for range ranges {
		n := u.next
		u.next = (u.next + 1) % ranges
		f, err := os.OpenFile(filepath.Join(folder, strconv.Itoa(n)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, fmt.Errorf("taking user IDs: %w", err)
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			return &uidRange{firstUID + n*rangeSize, f}, nil
		}
		_ = f.Close()
	}
	return nil, warpket.Errorf(warpket.NoCapacity, "all %d ranges of user IDs for sandboxes are in use on this machine", ranges)
}

func (r *uidRange) free() {
	if r != nil {
		_ = unlock(r.file)
	}
}

// do does something with files as the user who makes sandboxes in this range:
// what is mounted inside takes none from users that are unknown there. It is
// to be short, for it takes a thread.
func (r *uidRange) do(what func() error) error {
	if r == nil {
		return what()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	gid, err := unix.SetfsgidRetGid(r.first + keeperUID)
	if err != nil {
		return err
	}
	uid, err := unix.SetfsuidRetUid(r.first + keeperUID)
	if err != nil {
		return err
	}
	err = what()
	_, uidErr := unix.SetfsuidRetUid(uid)
	_, gidErr := unix.SetfsgidRetGid(gid)
	if uidErr != nil || gidErr != nil {
		panic("this thread cannot be given back its user") // and must do nothing else
	}
	return err
}

// agentsFiles is a mapping of users for what is mounted for writing: what the
// sandbox's program makes is the agent's outside, and what is the agent's is
// the program's inside.
func (r *uidRange) agentsFiles(spawn func(*exec.Cmd) error) (*os.File, error) {
	hold, end, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer closeAll([]*os.File{hold, end})
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: r.first + functionUID, Size: 1}}
	// A mapping comes with a namespace, and that with a process; it ends at once.
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{holdName}, Stdin: hold, SysProcAttr: &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, Pdeathsig: syscall.SIGKILL,
	}}
	if err := spawn(cmd); err != nil {
		return nil, fmt.Errorf("mapping users: %w", err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	return os.Open("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/ns/user")
}

// give makes folders the sandbox's own, and takeBack the agent's again.
func (b *box) give(folders []string) error {
	if len(folders) == 0 {
		return nil
	}
	if b.uids == nil {
		b.owned = folders
		return nil
	}
	if b.mapped = b.canMap(folders); b.mapped != nil {
		return nil
	}
	b.owned = folders
	return b.uids.own(folders)
}

// own makes folders, with what is in them, those of the sandbox's program.
func (r *uidRange) own(folders []string) error {
	uid := r.first + functionUID
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				err = os.Lchown(path, uid, uid)
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("giving %s to the sandbox: %w", folder, err)
		}
	}
	return nil
}

// canMap gives the mapping of users for folders whose file systems all take
// one, else nil.
func (b *box) canMap(folders []string) *os.File {
	mapping, err := b.uids.agentsFiles(b.launcher.spawn)
	if err != nil {
		return nil
	}
	for _, folder := range folders {
		fd, err := openTree(folder, true, false, mapping)
		if err != nil {
			_ = mapping.Close()
			return nil
		}
		_ = unix.Close(fd)
	}
	return mapping
}

// takeBack makes folders, with what a program has left in them, the agent's,
// as far as it can: a program may have left what cannot be walked, such as
// folders nested without end, and that must not keep it from the rest. Folders
// can be entered and removed after it, and no file runs as its owner.
func takeBack(folders []string, chown bool) {
	for _, folder := range folders {
		_ = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry == nil {
				return nil //nolint:nilerr // goes on with what can be walked
			}
			if chown {
				_ = os.Lchown(path, os.Geteuid(), os.Getegid())
			}
			if entry.Type()&fs.ModeSymlink != 0 {
				return nil
			}
			info, err := entry.Info()
			if err != nil {
				return nil //nolint:nilerr // as above
			}
			mode := info.Mode() & (fs.ModePerm | fs.ModeSticky)
			if entry.IsDir() {
				mode |= 0o700
			}
			if mode != info.Mode()&^fs.ModeType {
				_ = os.Chmod(path, mode)
			}
			return nil
		})
	}
}
