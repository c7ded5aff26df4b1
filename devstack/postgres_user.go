package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// nobody is the user that Postgres runs as when we are root.
const nobody = 65534

// user is who a child runs as. The zero value is whoever runs the devstack.
type user struct {
	uid, gid uint32
	other    bool      // another user than ours
	caps     []uintptr // what that user needs beyond its own rights
	renamed  bool      // our own user, seen as nobody from inside
}

// start starts a command as the user.
func (u user) start(cmd *exec.Cmd) error {
	if u.renamed {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: nobody, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: nobody, HostID: os.Getegid(), Size: 1}}
	}
	if !u.other {
		return cmd.Start()
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: u.uid, Gid: u.gid, Groups: []uint32{}}
	cmd.SysProcAttr.AmbientCaps = u.caps
	started := make(chan error)
	go func() {
		// What is set here is set for this thread and passed to the command; the
		// thread ends with this goroutine.
		runtime.LockOSThread()
		// Root's capabilities last until the command is executed, which itself
		// may be out of the user's reach, and access(2), which Postgres asks
		// about its own programs, counts those that are left then.
		if err := unix.Prctl(unix.PR_SET_SECUREBITS, secureNoSetuidFixup, 0, 0, 0); err != nil && len(u.caps) > 0 {
			started <- err
			return
		}
		started <- cmd.Start()
	}()
	return <-started
}

// secureNoSetuidFixup is SECBIT_NO_SETUID_FIXUP of capabilities(7).
const secureNoSetuidFixup = 1 << 2

// postgresUser says who Postgres runs as. It refuses to be root, so for root
// it is whoever owns the data, or nobody. That user may be unable to reach
// data and binaries, as below root's home: then it gets the right to search
// directories, which opens nothing for writing, or if we lack that one the
// right to pass all checks on files.
func postgresUser(data, binaries string) (user, error) {
	if os.Geteuid() != 0 {
		return user{}, nil
	}
	as := user{uid: nobody, gid: nobody, other: true}
	if info, err := os.Stat(data); err == nil {
		if owner := info.Sys().(*syscall.Stat_t); owner.Uid != 0 { //nolint:forcetypeassert // what Linux says
			as.uid, as.gid = owner.Uid, owner.Gid
		}
	}
	if as.reaches(filepath.Dir(data)) && as.reaches(binaries) {
		return as, nil
	}
	for _, right := range []int{unix.CAP_DAC_READ_SEARCH, unix.CAP_DAC_OVERRIDE} {
		if permitted(right) {
			as.caps = []uintptr{uintptr(right)}
			return as, nil
		}
	}
	return user{}, fmt.Errorf("postgres refuses to run as root, and user %d, as whom it would run, cannot reach %s and %s: "+
		"choose --data and --cache in directories that all users may enter, or run warpket as an ordinary user", as.uid, data, binaries)
}

// named is the user with a name: initdb and Temporal refuse one that has none,
// as in containers that run as any number. Such a user is mapped to nobody, who
// has one.
func (u user) named() user {
	if !u.other {
		_, err := osuser.LookupId(strconv.Itoa(os.Geteuid()))
		u.renamed = err != nil
	}
	return u
}

// reaches says whether the user may enter a directory and all above it. It
// looks at the rights of all others only, which is true of nobody and careful
// for anyone else.
func (u user) reaches(dir string) bool {
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

// own gives a directory and what is in it to the user, if it is not theirs
// already: a copy that root restored is root's.
func (u user) own(dir string) error {
	if !u.other {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Sys().(*syscall.Stat_t).Uid == u.uid { //nolint:forcetypeassert // what Linux says
		return nil
	}
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		return os.Lchown(path, int(u.uid), int(u.gid))
	})
	if err != nil {
		return err
	}
	// The directory itself comes last: its owner says that all is done.
	return os.Lchown(dir, int(u.uid), int(u.gid))
}

// permitted says whether we hold a capability and may hand it on.
func permitted(right int) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var held [2]unix.CapUserData
	if unix.Capget(&header, &held[0]) != nil {
		return false
	}
	return held[right/32].Permitted&(1<<(right%32)) != 0
}

// startError explains why a child of the user could not be started, where that
// is known from experience.
func (u user) startError(part string, err error) error {
	help := ""
	switch denied := errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSPC); {
	case denied && u.renamed:
		help = fmt.Sprintf(": user %d has no name, which initdb and Temporal insist on, and this system does not allow the user namespace that would give it one; "+
			"add a line for it to /etc/passwd", os.Geteuid())
	case denied && u.other:
		help = fmt.Sprintf(": Postgres refuses to run as root, and this system does not let root change to user %d; "+
			"run warpket as an ordinary user", u.uid)
	}
	return fmt.Errorf("starting %s: %w%s", part, err, help)
}
