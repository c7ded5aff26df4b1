package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"

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
		_ = r.file.Close()
	}
}

// give makes folders the sandbox's own, and takeBack the agent's again.
func (b *box) give(folders []string) error {
	uid := b.uids.first + functionUID
	for _, folder := range folders {
		b.owned = append(b.owned, folder)
		if err := chown(folder, uid); err != nil {
			return fmt.Errorf("giving %s to the sandbox: %w", folder, err)
		}
	}
	return nil
}

func (b *box) takeBack() {
	for _, folder := range b.owned {
		_ = chown(folder, os.Geteuid())
	}
}

func chown(path string, uid int) error {
	return filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = os.Lchown(path, uid, uid)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}
