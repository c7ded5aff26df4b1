package sandbox

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"github.com/landlock-lsm/go-landlock/landlock"
	"golang.org/x/sys/unix"
)

// setupName is the name under which this program starts itself again to set up
// a sandbox from within.
const setupName = "warpket-sandbox"

// holdName is the name under which it starts itself to hold a namespace.
const holdName = "warpket-hold"

// What is beside the program in each sandbox.
const (
	ownFolder  = "/.warpket"
	reaperPath = ownFolder + "/reaper" // process 1
	filterPath = ownFolder + "/filter" // of system calls, for sandboxes made inside
	emptyPath  = ownFolder + "/empty"  // what is in the place of what is hidden
	memoryPath = ownFolder + "/memory" // what /proc/meminfo shows
)

// User IDs inside of a sandbox. None is 0.
const (
	functionUID = 1000
	keeperUID   = 65_533 // who makes sandboxes inside of one
)

// setup is what the process that sets up a sandbox is told.
type setup struct {
	Argv, Env []string
	Dir       string
	Mounts    []mount
	Links     map[string]string
	Files     map[string][]byte
	Disk      int64 // bytes
	UID       int   // of the program
	Limits    []rlimit
	Nest      bool // the program makes sandboxes inside: it keeps its capabilities
	First     int  // of the descriptors for the program
	Extra     int  // how many they are
	Filter    []byte
	Landlock  bool
	Listen    bool // on the loopback, for the agent
}

// mount is a path of the machine that is there inside, too.
type mount struct {
	Path     string // inside
	Source   string // on the machine
	FD       int    // of the mount, if the agent may make one; else 0
	Writable bool
	Device   bool
}

type rlimit struct {
	Resource int
	Value    uint64
}

// Main sets up a sandbox, and does not return, if that is what this process
// was started for. Programs that use Namespaces call it first thing.
func Main() {
	gvisorMain()
	switch {
	case len(os.Args) != 1:
		return
	case os.Args[0] == holdName: // its namespace is all that is wanted of it
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	case os.Args[0] != setupName:
		return
	}
	runtime.LockOSThread()
	// Until it is the reaper, this process has rights and memory that the
	// program, which may be of the same user, must not get at through /proc.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		os.Exit(1)
	}
	_, _ = unix.FcntlInt(failedFD, unix.F_SETFD, unix.FD_CLOEXEC)
	_, _ = unix.Write(failedFD, []byte(setUp().Error()))
	os.Exit(1)
}

// Descriptors of the process that sets up: mounts follow, then the program's own.
const (
	setupFD  = 3
	statusFD = 4 // gets the program's wait status
	failedFD = 5 // a socket: gets why it could not be set up; ends when it has been
	firstFD  = 6
)

// setUp makes the sandbox around this process, starts the program in it, and
// becomes its reaper.
func setUp() error {
	var s setup
	file := os.NewFile(setupFD, "setup")
	if err := json.NewDecoder(file).Decode(&s); err != nil {
		return fmt.Errorf("reading what to set up: %w", err)
	}
	_ = file.Close()
	if err := become(s.UID); err != nil {
		return err
	}
	// Changing the user has undone it.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("asking to end with the agent: %w", err)
	}
	// If it ended before that, nobody holds the other end of its pipes.
	pipes := []unix.PollFd{{Fd: failedFD}}
	if _, err := unix.Poll(pipes, 0); err == nil && pipes[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0 {
		os.Exit(1)
	}
	unix.Umask(0o022) // whatever the agent's is, all inside can see what is made here
	if err := s.root(); err != nil {
		return err
	}
	// What the machine calls the sandbox's cgroup is not for those inside.
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("making a namespace for cgroups: %w", err)
	}
	if err := unix.Sethostname([]byte("warpket")); err != nil {
		return fmt.Errorf("setting the host name: %w", err)
	}
	if err := loopback(); err != nil {
		return err
	}
	if s.Listen {
		if err := listen(); err != nil {
			return err
		}
	}
	for _, l := range s.Limits {
		if l.Resource != unix.RLIMIT_DATA { // under which this process could end
			lower(0, l.Resource, l.Value)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("forbidding new privileges: %w", err)
	}
	if s.Nest {
		return s.startNest()
	}
	if err := s.confine(); err != nil {
		return err
	}
	pid, err := s.start(nil)
	if err != nil {
		return err
	}
	return s.reap(pid)
}

// capabilities are what setting up takes, inside of the sandbox only.
var capabilities = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SETPCAP}

// startNest starts a program that keeps the capabilities. The reaper does not,
// and outlives it, for as long as there are sandboxes inside.
func (s *setup) startNest() error {
	if _, err := s.start(capabilities); err != nil {
		return err
	}
	if err := s.confine(); err != nil {
		return err
	}
	return s.reap(0)
}

// become changes this process's user and group inside. Without root there is
// but one user, which it is already.
func become(uid int) error {
	if os.Getuid() == uid {
		return nil
	}
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("leaving groups: %w", err)
	}
	if err := syscall.Setresgid(uid, uid, uid); err != nil {
		return fmt.Errorf("changing the group: %w", err)
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return fmt.Errorf("changing the user: %w", err)
	}
	return nil
}

// root makes the file system: nothing but what was listed.
func (s *setup) root() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("leaving the machine's mounts: %w", err)
	}
	// The sources are opened before anything covers them.
	for i := range s.Mounts {
		m := &s.Mounts[i]
		if m.FD != 0 {
			continue
		}
		fd, err := openTree(m.Source, m.Writable, m.Device, nil)
		if err != nil {
			return err
		}
		m.FD = fd
	}
	const at = "/tmp" // any folder that every machine has; only this process sees it covered
	if err := tmpfs(at, 1<<20, 0o755, 0); err != nil {
		return err
	}
	for _, folder := range []string{"/tmp", "/dev", "/dev/shm", "/proc", ownFolder} {
		if err := os.Mkdir(at+folder, 0o755); err != nil {
			return err
		}
	}
	if err := tmpfs(at+"/tmp", s.Disk, 0o1777, 0); err != nil {
		return err
	}
	if err := tmpfs(at+"/dev/shm", s.Disk, 0o1777, unix.MS_NOEXEC); err != nil {
		return err
	}
	if s.Nest {
		if err := os.Mkdir(at+CodeFolder, 0o755); err != nil {
			return err
		}
	}
	// The kernel lets a user mount it only where one is to be seen already.
	if err := unix.Mount("proc", at+"/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "hidepid=2"); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	// From here on no link, of which an image may have any, leads out.
	if err := enter(at); err != nil {
		return err
	}
	for link, target := range s.Links {
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(target, link); err != nil {
			return err
		}
	}
	var shown []mount // of /proc, which is hidden last
	for _, m := range s.Mounts {
		if strings.HasPrefix(m.Path, "/proc/") {
			shown = append(shown, m)
			continue
		}
		if err := m.attach(); err != nil {
			return err
		}
	}
	for path, content := range s.Files {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		mode := os.FileMode(0o444)
		if path == reaperPath {
			mode = 0o111 // what may not be read may not be looked into while it runs, either
		}
		if err := os.WriteFile(path, content, mode); err != nil {
			return err
		}
	}
	err := unix.MountSetattr(-1, "/", 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV})
	if err != nil {
		return fmt.Errorf("closing the root off: %w", err)
	}
	return hideProc(shown) // with files of a root that is closed off
}

// enter makes a folder the root, and leaves the old one for good.
func enter(root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the old root: %w", err)
	}
	return os.Chdir("/")
}

// visible is what is left of /proc besides processes. warpket_harness/confine.py
// has the same list.
var visible = []string{"cpuinfo", "filesystems", "meminfo", "mounts", "net", "self", "thread-self", "version"}

// hideProc leaves the sandbox's own processes of /proc, what was listed, and
// little else: the kernel could leave out everything else itself, but then also
// what some packages cannot be imported without.
func hideProc(shown []mount) error {
	if err := unix.Mount(memoryPath, "/proc/meminfo", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting /proc/meminfo: %w", err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return fmt.Errorf("reading /proc: %w", err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if slices.Contains(visible, name) || name[0] >= '0' && name[0] <= '9' {
			continue
		}
		if entry.IsDir() {
			err = hideFolder("/proc/"+name, shown)
		} else {
			err = unix.Mount(emptyPath, "/proc/"+name, "", unix.MS_BIND, "")
		}
		if err != nil {
			return fmt.Errorf("hiding /proc/%s: %w", name, err)
		}
	}
	for _, m := range shown {
		if filepath.Dir(m.Path) == "/proc" {
			if err := m.attach(); err != nil {
				return err
			}
		}
	}
	return nil
}

// hideFolder leaves of a folder what was listed of it.
func hideFolder(path string, shown []mount) error {
	inodes := 1
	shown = slices.DeleteFunc(slices.Clone(shown), func(m mount) bool { return !strings.HasPrefix(m.Path, path+"/") })
	for _, m := range shown {
		inodes += strings.Count(m.Path, "/")
	}
	if err := unix.Mount("tmpfs", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, fmt.Sprintf("size=4096,nr_inodes=%d,mode=755", inodes)); err != nil {
		return err
	}
	for _, m := range shown {
		if err := m.attach(); err != nil {
			return err
		}
	}
	return unix.MountSetattr(-1, path, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

func tmpfs(path string, size int64, mode, flags uintptr) error {
	options := "mode=" + strconv.FormatUint(uint64(mode), 8) + ",size=" + strconv.FormatInt(size, 10) + ",nr_inodes=" + strconv.FormatInt(1000+size>>12, 10)
	if err := unix.Mount("tmpfs", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|flags, options); err != nil {
		return fmt.Errorf("mounting a tmpfs: %w", err)
	}
	return nil
}

// openTree makes a copy of a mount that is attached nowhere yet, with what is
// mounted below it. A remount could not set the flags of those. What is
// writable has the mapping of users, if there is one.
func openTree(path string, writable, device bool, users *os.File) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return 0, fmt.Errorf("opening %s: %w", path, err)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID, Propagation: unix.MS_PRIVATE}
	if !writable && !device {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if !device {
		attr.Attr_set |= unix.MOUNT_ATTR_NODEV
	} else {
		attr.Attr_set |= unix.MOUNT_ATTR_NOEXEC
	}
	if writable && users != nil {
		attr.Attr_set |= unix.MOUNT_ATTR_IDMAP
		attr.Userns_fd = uint64(users.Fd())
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		_ = unix.Close(fd)
		return 0, fmt.Errorf("closing %s off: %w", path, err)
	}
	return fd, nil
}

func (m *mount) attach() error {
	var stat unix.Stat_t
	if err := unix.Fstat(m.FD, &stat); err != nil {
		return fmt.Errorf("looking at %s: %w", m.Source, err)
	}
	path := m.Path
	folder := stat.Mode&unix.S_IFMT == unix.S_IFDIR
	if _, err := os.Lstat(path); err != nil { //nolint:nestif // one of two kinds of mount points
		if !folder {
			path = filepath.Dir(path)
		}
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		if !folder {
			path = m.Path
			if err := os.WriteFile(path, nil, 0o444); err != nil { //nolint:gosec // a mount point
				return err
			}
		}
	}
	if err := unix.MoveMount(m.FD, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mounting %s: %w", m.Path, err)
	}
	return unix.Close(m.FD)
}

// loopback brings up the sandbox's own loopback interface, the only one it has.
func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("bringing up the loopback interface: %w", err)
	}
	return nil
}

// ListenAddress is where a sandbox's own loopback listens for the agent. A
// socket belongs to the network in which it was made, whoever serves it.
const ListenAddress = "127.0.0.1:3128"

// listen makes the socket and gives it to the agent.
func listen() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: 3128, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return fmt.Errorf("listening for the agent: %w", err)
	}
	if err := unix.Listen(fd, 128); err != nil {
		return fmt.Errorf("listening for the agent: %w", err)
	}
	if err := unix.Sendmsg(failedFD, []byte{0}, unix.UnixRights(fd), nil, 0); err != nil {
		return fmt.Errorf("giving a socket to the agent: %w", err)
	}
	return nil
}

// confine gives up every right that a program does not need, for good. It does
// so for this thread, from which the program is started.
func (s *setup) confine() error {
	if s.Landlock {
		writable := []string{"/tmp", "/dev/shm"}
		var devices []string
		for _, m := range s.Mounts {
			switch {
			case m.Device:
				devices = append(devices, m.Path)
			case m.Writable:
				writable = append(writable, m.Path)
			}
		}
		rules := landlock.V6
		rules.HandledAccessNet = 0 // the network inside is the sandbox's own
		folders := landlock.RWDirs(writable...)
		if landlockABI() > 1 { // the first version would have all rules dropped for this
			folders = folders.WithRefer()
		}
		files := landlock.RWFiles()
		if len(devices) > len(commonDevices) { // whose driver gives its threads names, in /proc, or does not start
			files = landlock.RWFiles("/proc")
		}
		if err := rules.BestEffort().Restrict(landlock.RODirs("/"), folders, files, landlock.RWFiles(devices...).WithIoctlDev()); err != nil {
			return fmt.Errorf("restricting files: %w", err)
		}
	}
	if err := dropCapabilities(); err != nil {
		return err
	}
	return loadFilter(s.Filter)
}

func dropCapabilities() error {
	for c := range uintptr(64) {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err != nil {
			break
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return fmt.Errorf("dropping a capability for good: %w", err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("dropping ambient capabilities: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("dropping capabilities: %w", err)
	}
	return nil
}

// loadFilter puts a filter of system calls on this thread and what it starts.
func loadFilter(program []byte) error {
	filter := unix.SockFprog{Len: uint16(len(program) / 8), Filter: (*unix.SockFilter)(unsafe.Pointer(unsafe.SliceData(program)))} //nolint:gosec // at most 4096 instructions, checked by the kernel
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&filter)))               //nolint:gosec // how the kernel takes it
	if errno != 0 {
		return fmt.Errorf("filtering system calls: %w", errno)
	}
	return nil
}

// start starts the program and becomes its reaper.
func (s *setup) start(keeps []uintptr) (pid int, err error) {
	files := []uintptr{0, 1, 2}
	for i := range s.Extra {
		files = append(files, uintptr(s.First+i))
	}
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	if err := unix.Access(s.Dir, unix.X_OK); err != nil {
		return 0, fmt.Errorf("entering %s: %w", s.Dir, err)
	}
	pid, err = syscall.ForkExec(s.Argv[0], s.Argv, &syscall.ProcAttr{
		Dir: s.Dir, Env: s.Env, Files: files, Sys: &syscall.SysProcAttr{Setsid: true, AmbientCaps: keeps},
	})
	if err != nil {
		return 0, fmt.Errorf("starting %s: %w", s.Argv[0], err)
	}
	for _, l := range s.Limits {
		if l.Resource == unix.RLIMIT_DATA {
			lower(pid, l.Resource, l.Value)
		}
	}
	return pid, nil
}

// reap becomes the reaper. For program 0 it waits until nothing is left.
func (s *setup) reap(pid int) error {
	if len(s.Files[reaperPath]) > 0 {
		var ends [2]int
		if err := unix.Pipe2(ends[:], 0); err != nil {
			return fmt.Errorf("opening a pipe: %w", err)
		}
		if _, err := unix.Write(ends[1], binary.NativeEndian.AppendUint32(nil, uint32(pid))); err != nil { //nolint:gosec // a process's
			return fmt.Errorf("naming the program: %w", err)
		}
		if err := unix.Dup3(ends[0], setupFD, 0); err != nil && ends[0] != setupFD {
			return fmt.Errorf("naming the program: %w", err)
		}
		if _, err := unix.FcntlInt(statusFD, unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("keeping the way back: %w", err)
		}
		_ = unix.CloseRange(0, 2, 0) // whoever reads the program's output waits for its end only
		return fmt.Errorf("becoming the reaper: %w", unix.Exec(reaperPath, []string{"reaper"}, nil))
	}
	// As above, but for what Go may need itself. The agent waits for the last to be closed.
	_ = unix.CloseRange(0, 2, 0)
	for fd := s.First; fd < s.First+s.Extra; fd++ {
		_ = unix.Close(fd)
	}
	_ = unix.Close(failedFD)
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.ECHILD):
			os.Exit(0)
		case got == pid:
			_, _ = unix.Write(statusFD, binary.NativeEndian.AppendUint32(nil, uint32(status)))
			os.Exit(0)
		}
	}
}
