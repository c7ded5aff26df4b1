package sandbox

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/warpket/warpket"
)

// GVisor runs each program under gVisor, a kernel of its own that runs as an
// ordinary process: what a program asks of the machine's kernel is what gVisor
// asks for it. It takes the runsc program and needs no rights: as an ordinary
// user the limits on cpu and memory do not hold, and the program is root in
// its own eyes, without any of its powers.
//
// Standard streams must not be regular files: gVisor writes to those where it
// thinks their end is.
type GVisor struct {
	runsc   string
	dir     string
	lock    *os.File
	cgroups bool // cpu and memory are held
	starts  chan func()

	mu      sync.Mutex
	running map[string]bool
	number  int
}

// gvisorName is the name under which this program starts itself again to set
// up a sandbox, as gvisorMain does.
const gvisorName = "warpket-gvisor"

const (
	gvisorUID = 1000 // of programs inside
	// As root, each sandbox has a range of the machine's user IDs that nobody
	// else uses. Below them are 2,000 others, so that those of a sandbox that
	// has ended are not soon another's.
	gvisorFirstUID = 0x6000_0000
	gvisorRange    = 1 << 16
	gvisorRanges   = 2000
	gvisorDisk     = 64 << 20 // bytes in /tmp, and in /dev/shm
)

// NewGVisor makes a launcher of programs under runsc, the program at a path.
// The folder is its own. What an agent that was killed has left is removed.
// The error says what the machine lacks.
func NewGVisor(ctx context.Context, runsc, dir string) (*GVisor, error) {
	if _, err := os.Stat(runsc); err != nil {
		return nil, warpket.Because(warpket.Unavailable, err, "gVisor needs its program runsc, which is not at %s", runsc)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("finding the folder of gVisor: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "root"), 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of gVisor: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the folder of gVisor: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, warpket.Because(warpket.Conflict, err, "another agent uses %s: give each one its own folder", dir)
	}
	g := &GVisor{runsc: runsc, dir: dir, lock: lock, cgroups: os.Geteuid() == 0, starts: make(chan func()), running: map[string]bool{}}
	g.sweep()
	go serve(g.starts)
	err = g.try(ctx)
	if err != nil && g.cgroups { // cgroups may be there only to be looked at
		g.cgroups = false
		err = g.try(ctx)
	}
	if err != nil {
		_ = g.Close()
		return nil, err
	}
	return g, nil
}

// Close ends the launcher, whose sandboxes have been closed.
func (g *GVisor) Close() error {
	close(g.starts)
	for _, folder := range g.cgroupFolders("") {
		_ = unix.Rmdir(folder)
	}
	return g.lock.Close()
}

// try runs a program, to know before any function does that it can be done.
func (g *GVisor) try(ctx context.Context) error {
	limits := Limits{CPU: 1000, Memory: 256 << 20}
	box, err := g.Start(ctx, Spec{Name: "try", Argv: []string{"/bin/sh", "-c", "exit 7"}, Limits: limits})
	if err != nil {
		return fmt.Errorf("trying gVisor: %w", err)
	}
	exit, err := box.Wait(ctx)
	if err := errors.Join(err, box.Close()); err != nil {
		return fmt.Errorf("trying gVisor: %w", err)
	}
	if exit.Code != 7 {
		return warpket.Errorf(warpket.Unavailable, "gVisor does not work on this machine: a shell that should exit with 7 ended with %s", exit)
	}
	return nil
}

// Isolation says what holds on this machine. The number of processes is
// gVisor's own to count.
func (g *GVisor) Isolation() warpket.Isolation {
	i := warpket.Isolation{Kind: "gvisor", UID: "shared", Unenforced: []string{}}
	if os.Geteuid() == 0 {
		i.UID = "own"
	}
	if !g.cgroups {
		i.Unenforced = append(i.Unenforced, "cpu", "memory")
	}
	return i
}

// cgroup is the parent of the sandboxes' cgroups: the folder's name tells the
// launchers of a machine apart.
func (g *GVisor) cgroup() string {
	return "/warpket-gvisor-" + strings.ReplaceAll(strings.Trim(g.dir, "/"), "/", "-")
}

// sweep removes the cgroups that a killed agent has left. All else that its
// sandboxes had has ended with them.
func (g *GVisor) sweep() {
	for _, parent := range g.cgroupFolders("") {
		children, _ := filepath.Glob(filepath.Join(parent, "*", ""))
		for _, child := range children {
			_ = unix.Rmdir(child) // files among them stay
		}
	}
}

// cgroupFolders are where a cgroup is: one folder for each hierarchy.
func (g *GVisor) cgroupFolders(name string) []string {
	path := filepath.Join(g.cgroup(), name)
	many, _ := filepath.Glob("/sys/fs/cgroup/*" + path)
	one, _ := filepath.Glob("/sys/fs/cgroup" + path)
	return append(many, one...)
}

// Start starts the program.
func (g *GVisor) Start(ctx context.Context, spec Spec) (_ Sandbox, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if spec.Root != "" {
		return nil, errNoRoot(g)
	}
	if len(spec.Devices) > 0 {
		return nil, warpket.Errorf(warpket.Unavailable, "programs with devices cannot run on this node, whose isolation is gvisor")
	}
	number, ok := g.claim(spec.Name)
	if !ok {
		return nil, warpket.Errorf(warpket.Conflict, "a sandbox named %q is running already", spec.Name)
	}
	b := &gvisorBox{launcher: g, name: spec.Name, id: strconv.Itoa(number), done: make(chan struct{}), gone: make(chan struct{})}
	if os.Geteuid() == 0 {
		b.first = gvisorFirstUID + number%gvisorRanges*gvisorRange
	}
	defer func() {
		if err != nil {
			b.free()
			err = fmt.Errorf("starting %s: %w", spec.Name, err)
		}
	}()
	if err := b.give(spec.Writable); err != nil {
		return nil, err
	}
	if err := b.run(ctx, spec); err != nil {
		return nil, err
	}
	return b, nil
}

func (g *GVisor) claim(name string) (int, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running[name] {
		return 0, false
	}
	g.running[name] = true
	g.number++
	return g.number, true
}

// gvisorBox is a sandbox under gVisor.
type gvisorBox struct {
	launcher *GVisor
	name, id string
	first    int      // of its user IDs; 0 without root
	owned    []string // what is the agent's again at the end
	process  *os.Process
	freed    sync.Once

	done chan struct{} // closed once the program and what it started have ended; exit is set before
	gone chan struct{} // closed once nothing is left
	exit Exit
}

// Descriptors of the process that sets a sandbox up: the program's follow.
const (
	gvisorSetupFD  = 3
	gvisorStatusFD = 4 // gets the program's wait status
	gvisorFailedFD = 5 // gets why it could not be started; ends when it has been
	gvisorFirstFD  = 6
)

// run starts the process that sets the sandbox up and tells it what to do.
func (b *gvisorBox) run(ctx context.Context, spec Spec) error {
	setup := b.setup(spec)
	var ours, theirs [3]*os.File // setup, status, failed
	defer func() {
		for _, f := range append(ours[:], theirs[:]...) {
			_ = f.Close() // what is closed twice, or nil, stays so
		}
	}()
	for i := range ours {
		reader, writer, err := os.Pipe()
		if err != nil {
			return err
		}
		ours[i], theirs[i] = reader, writer
		if i == 0 {
			ours[i], theirs[i] = writer, reader
		}
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = null.Close() }()
	files := append([]*os.File{}, theirs[:]...)
	for _, f := range []*os.File{spec.Stdin, spec.Stdout, spec.Stderr} {
		if f == nil {
			f = null
		}
		files = append(files, f)
	}
	cmd := b.command(append(files, spec.Files...))
	started := make(chan error)
	b.launcher.starts <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return warpket.Because(warpket.Unavailable, err, "this machine does not let this user make namespaces: see sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns")
	}
	b.process = cmd.Process
	for _, f := range theirs {
		_ = f.Close()
	}
	status := ours[1]
	ours[1] = nil
	go b.reap(cmd, status)

	stop := context.AfterFunc(ctx, b.kill)
	err = json.NewEncoder(ours[0]).Encode(setup)
	_ = ours[0].Close()
	if err == nil {
		var reason []byte
		if reason, err = io.ReadAll(ours[2]); len(reason) > 0 {
			err = warpket.Errorf(warpket.Unavailable, "gVisor: %s", strings.TrimSpace(string(reason)))
		}
	}
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		b.kill()
		<-b.gone
	}
	return err
}

// command is the process that sets the sandbox up. It is process 1 of a
// namespace: when it is killed, or the agent is, nothing in there outlives it.
func (b *gvisorBox) command(files []*os.File) *exec.Cmd {
	attr := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true,
	}
	if b.first == 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return &exec.Cmd{Path: "/proc/self/exe", Args: []string{gvisorName}, Env: []string{"GOMAXPROCS=2"}, Dir: "/", ExtraFiles: files, SysProcAttr: attr}
}

// reap waits for the program's end, and then for that of process 1, at which
// nothing is left.
func (b *gvisorBox) reap(cmd *exec.Cmd, status *os.File) {
	defer close(b.gone)
	defer func() { _ = status.Close() }()
	var word [4]byte
	if n, _ := io.ReadFull(status, word[:]); n == len(word) {
		b.exit = gvisorExit(syscall.WaitStatus(binary.NativeEndian.Uint32(word[:])))
		close(b.done) // what was in the sandbox has ended with it; what served it may take a second
		_ = cmd.Wait()
		return
	}
	_ = cmd.Wait() // it was killed, and the sandbox with it
	b.exit = Exit{Signal: syscall.SIGKILL}
	close(b.done)
}

// gvisorExit reads how a program ended from how gVisor did, which tells
// signals as a shell does.
func gvisorExit(status syscall.WaitStatus) Exit {
	const signalled, signals = 128, 64
	switch code := status.ExitStatus(); {
	case status.Signaled():
		return Exit{Signal: status.Signal()}
	case code > signalled && code <= signalled+signals:
		return Exit{Signal: syscall.Signal(code - signalled)}
	default:
		return Exit{Code: code}
	}
}

// Wait returns how the program ended, or stops it when ctx ends first.
func (b *gvisorBox) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-b.done:
		return b.exit, nil
	case <-ctx.Done():
		err := b.Close()
		return b.exit, errors.Join(ctx.Err(), err)
	}
}

// Done is closed when everything in the sandbox has ended.
func (b *gvisorBox) Done() <-chan struct{} { return b.done }

// Close ends everything in the sandbox and frees what it held.
func (b *gvisorBox) Close() error {
	b.kill()
	<-b.gone
	b.free()
	return nil
}

func (b *gvisorBox) kill() { _ = b.process.Kill() }

func (b *gvisorBox) free() {
	b.freed.Do(func() {
		for _, folder := range b.launcher.cgroupFolders(b.id) {
			_ = unix.Rmdir(folder)
		}
		for _, folder := range b.owned {
			_ = gvisorChown(folder, os.Geteuid())
		}
		b.launcher.mu.Lock()
		defer b.launcher.mu.Unlock()
		delete(b.launcher.running, b.name)
	})
}

// give makes folders the sandbox's own, until it is freed.
func (b *gvisorBox) give(folders []string) error {
	if b.first == 0 {
		return nil
	}
	for _, folder := range folders {
		b.owned = append(b.owned, folder)
		if err := gvisorChown(folder, b.first+gvisorUID); err != nil {
			return fmt.Errorf("giving %s to the sandbox: %w", folder, err)
		}
	}
	return nil
}

func gvisorChown(path string, uid int) error {
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

// gvisorSetup is what the process that sets a sandbox up is told.
type gvisorSetup struct {
	Dir     string // where its root folder may be mounted
	Mounts  []gvisorMount
	Folders []string
	Links   map[string]string
	Files   map[string][]byte
	Argv    []string // of runsc
}

// gvisorMount is a path of the machine at a path of the new root folder.
type gvisorMount struct {
	Source, Target string
	Writable       bool
}

// Where things are in the root folder that runsc has.
const (
	gvisorProgram = "/runsc"
	gvisorState   = "/state"
	gvisorBundle  = "/bundle"
	gvisorRootfs  = gvisorBundle + "/rootfs"
	gvisorPid     = "/pid"
	gvisorLog     = "/log"
)

// setup says what to set up. All paths are put into the root folder of the
// program, which it may only read, and which gVisor may cache. Those that it
// may write, or that lie in folders of gVisor's own, are mounts besides.
func (b *gvisorBox) setup(spec Spec) gvisorSetup {
	s := gvisorSetup{
		Dir:     filepath.Join(b.launcher.dir, "root"),
		Mounts:  []gvisorMount{{b.launcher.runsc, gvisorProgram, false}, {"/dev/null", "/dev/null", true}},
		Folders: []string{gvisorState, "/proc", "/tmp", gvisorRootfs + "/proc", gvisorRootfs + "/dev", gvisorRootfs + "/tmp", gvisorRootfs + "/etc"},
		Links:   map[string]string{},
		Files: map[string][]byte{
			gvisorRootfs + "/etc/passwd":        []byte("root:x:0:0:::\nfunction:x:1000:1000::/tmp:/bin/sh\nnobody:x:65534:65534:::\n"),
			gvisorRootfs + "/etc/group":         []byte("root:x:0:\nfunction:x:1000:\nnogroup:x:65534:\n"),
			gvisorRootfs + "/etc/hosts":         []byte("127.0.0.1 localhost warpket\n::1 localhost\n"),
			gvisorRootfs + "/etc/nsswitch.conf": []byte("passwd: files\ngroup: files\nhosts: files\n"),
		},
	}
	if b.launcher.cgroups {
		s.Mounts = append(s.Mounts, gvisorMount{"/sys/fs/cgroup", "/sys/fs/cgroup", true})
	}
	s.system()
	private := []string{"/tmp", "/dev", "/proc", "/sys"} // which are gVisor's
	var mounts []specs.Mount
	for i, path := range slices.Concat(spec.Writable, spec.ReadOnly) {
		path = filepath.Clean(path)
		writable, mode := i < len(spec.Writable), "ro"
		if writable {
			mode = "rw"
		}
		source := gvisorRootfs + path
		s.Mounts = append(s.Mounts, gvisorMount{path, source, writable})
		if writable || slices.ContainsFunc(slices.Concat(private, spec.Writable), func(folder string) bool { return gvisorBelow(path, folder) }) {
			mounts = append(mounts, specs.Mount{Destination: path, Type: "bind", Source: source, Options: []string{"rbind", "nosuid", "nodev", mode}})
		}
	}
	slices.SortStableFunc(s.Mounts, func(a, b gvisorMount) int { return strings.Compare(a.Target, b.Target) })
	slices.SortStableFunc(mounts, func(a, b specs.Mount) int { return strings.Compare(a.Destination, b.Destination) })

	config, _ := json.Marshal(b.config(spec, mounts)) // nothing in it cannot be marshalled
	s.Files[gvisorBundle+"/config.json"] = config
	s.Argv = []string{
		gvisorProgram, "--root=" + gvisorState, "--platform=systrap", "--network=none", "--overlay2=none", "--directfs=false",
		"--host-uds=" + gvisorSockets(slices.Concat(spec.ReadOnly, spec.Writable)),
		"--rootless=" + strconv.FormatBool(b.first == 0), "--ignore-cgroups=" + strconv.FormatBool(!b.launcher.cgroups),
		"run", "--detach", "--bundle=" + gvisorBundle, "--pid-file=" + gvisorPid,
	}
	for i := range 3 + len(spec.Files) {
		s.Argv = append(s.Argv, fmt.Sprintf("--pass-fd=%d:%d", 3+i, i))
	}
	s.Argv = append(s.Argv, b.id)
	return s
}

// gvisorSockets says whether the program may connect to sockets: it may if one
// is among its paths, or in a folder that is, as that of the egress proxy.
func gvisorSockets(paths []string) string {
	socket := func(entry fs.DirEntry) bool { return entry.Type() == fs.ModeSocket }
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		entries, _ := os.ReadDir(path) // none in what is no folder
		if socket(fs.FileInfoToDirEntry(info)) || slices.ContainsFunc(entries, socket) {
			return "open"
		}
	}
	return "none"
}

func gvisorBelow(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

// system adds the machine's programs and libraries, and of /etc what programs
// need to run at all.
func (s *gvisorSetup) system() {
	for _, path := range []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"} {
		info, err := os.Lstat(path)
		if err != nil {
			continue
		}
		if target, err := os.Readlink(path); err == nil {
			s.Links[gvisorRootfs+path] = target
		} else if info.IsDir() {
			s.Mounts = append(s.Mounts, gvisorMount{path, gvisorRootfs + path, false})
		}
	}
	for _, path := range []string{
		"/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime", "/etc/ssl", "/etc/pki", "/etc/ca-certificates",
		"/etc/protocols", "/etc/services", "/etc/mime.types", "/etc/crypto-policies",
	} {
		if _, err := os.Stat(path); err == nil {
			s.Mounts = append(s.Mounts, gvisorMount{path, gvisorRootfs + path, false})
		}
	}
}

// config is what runsc reads of its bundle.
func (b *gvisorBox) config(spec Spec, mounts []specs.Mount) *specs.Spec {
	tmpfs := func(path string) specs.Mount {
		return specs.Mount{Destination: path, Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "mode=1777", fmt.Sprintf("size=%d", gvisorDisk)}}
	}
	dir := spec.Dir
	if dir == "" {
		dir = "/"
	}
	config := &specs.Spec{
		Version:  "1.0.0",
		Hostname: "warpket",
		Root:     &specs.Root{Path: gvisorRootfs, Readonly: true},
		Process:  &specs.Process{Args: spec.Argv, Env: spec.Env, Cwd: dir, NoNewPrivileges: true, Capabilities: &specs.LinuxCapabilities{}},
		Mounts: append([]specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid"}},
			tmpfs("/dev/shm"), tmpfs("/tmp"),
		}, mounts...),
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace}}},
	}
	rlimit := func(name string, value uint64) {
		config.Process.Rlimits = append(config.Process.Rlimits, specs.POSIXRlimit{Type: name, Hard: value, Soft: value})
	}
	rlimit("RLIMIT_CORE", 0)
	if spec.Limits.OpenFiles > 0 {
		rlimit("RLIMIT_NOFILE", spec.Limits.OpenFiles)
	}
	if spec.Limits.Processes > 0 {
		rlimit("RLIMIT_NPROC", uint64(spec.Limits.Processes))
	}
	if b.first > 0 {
		ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: uint32(b.first), Size: gvisorRange}} //nolint:gosec // below 2^31
		config.Linux.Namespaces = append(config.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		config.Linux.UIDMappings, config.Linux.GIDMappings = ids, ids
		config.Process.User = specs.User{UID: gvisorUID, GID: gvisorUID}
	}
	if b.launcher.cgroups {
		config.Linux.CgroupsPath = filepath.Join(b.launcher.cgroup(), b.id)
		config.Linux.Resources = gvisorResources(spec.Limits)
	}
	return config
}

func gvisorResources(limits Limits) *specs.LinuxResources {
	r := &specs.LinuxResources{}
	if limits.Memory > 0 {
		r.Memory = &specs.LinuxMemory{Limit: &limits.Memory}
	}
	if limits.CPU > 0 {
		quota, period := int64(limits.CPU)*100, uint64(100_000)
		r.CPU = &specs.LinuxCPU{Quota: &quota, Period: &period}
	}
	return r
}

// gvisorMain sets up a sandbox, and does not return, if that is what this
// process was started for. Programs that use GVisor call it first thing.
func gvisorMain() {
	if len(os.Args) != 1 || os.Args[0] != gvisorName {
		return
	}
	runtime.LockOSThread()
	_ = unix.CloseRange(gvisorSetupFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	_, _ = os.NewFile(gvisorFailedFD, "failed").WriteString(gvisorSetUp().Error())
	os.Exit(1)
}

// gvisorSetUp makes a root folder for runsc with what the sandbox may touch,
// starts it, and waits for its end.
func gvisorSetUp() error {
	var s gvisorSetup
	if err := json.NewDecoder(os.NewFile(gvisorSetupFD, "setup")).Decode(&s); err != nil {
		return fmt.Errorf("reading what to set up: %w", err)
	}
	if err := s.root(); err != nil {
		return err
	}
	pid, err := s.start()
	if err != nil {
		return err
	}
	// From here on only runsc holds the program's files: what it closes is closed.
	for fd := gvisorFailedFD; fd < gvisorFirstFD+s.files(); fd++ {
		_ = unix.Close(fd)
	}
	for {
		var status unix.WaitStatus
		ended, err := unix.Wait4(-1, &status, 0, nil)
		if ended == pid {
			_, _ = os.NewFile(gvisorStatusFD, "status").Write(binary.NativeEndian.AppendUint32(nil, uint32(status)))
		}
		if ended == pid || err != nil && !errors.Is(err, unix.EINTR) {
			os.Exit(0)
		}
	}
}

// files is how many descriptors the program gets.
func (s *gvisorSetup) files() int {
	n := 0
	for _, arg := range s.Argv {
		if strings.HasPrefix(arg, "--pass-fd=") {
			n++
		}
	}
	return n
}

// start starts runsc, which starts the program, and returns the number of the
// process that is its sandbox.
func (s *gvisorSetup) start() (int, error) {
	log, err := os.OpenFile(gvisorLog, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return 0, fmt.Errorf("making a log: %w", err)
	}
	cmd := &exec.Cmd{Path: s.Argv[0], Args: s.Argv, Env: []string{}, Dir: "/", Stdout: log, Stderr: log}
	for i := range s.files() {
		cmd.ExtraFiles = append(cmd.ExtraFiles, os.NewFile(uintptr(gvisorFirstFD+i), "file"))
	}
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(gvisorLog)
		return 0, fmt.Errorf("%w: %s", err, said[max(0, len(said)-2000):])
	}
	text, err := os.ReadFile(gvisorPid)
	if err != nil {
		return 0, fmt.Errorf("finding the sandbox: %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// root makes a folder with what runsc may see the root folder of this process.
// It is in memory and goes with the process.
func (s *gvisorSetup) root() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	// Sources are opened before anything may hide them.
	trees := make([]int, len(s.Mounts))
	for i, m := range s.Mounts {
		var err error
		if trees[i], err = gvisorTree(m); err != nil {
			return fmt.Errorf("mounting %s: %w", m.Source, err)
		}
	}
	if err := unix.Mount("tmpfs", s.Dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=16m"); err != nil {
		return fmt.Errorf("mounting a root folder: %w", err)
	}
	for _, folder := range s.Folders {
		if err := os.MkdirAll(s.Dir+folder, 0o755); err != nil {
			return err
		}
	}
	for name, target := range s.Links {
		if err := os.Symlink(target, s.Dir+name); err != nil {
			return err
		}
	}
	for name, content := range s.Files {
		if err := os.WriteFile(s.Dir+name, content, 0o644); err != nil { //nolint:gosec // the program reads them as another user
			return err
		}
	}
	for i, m := range s.Mounts {
		if err := gvisorAttach(trees[i], m.Source, s.Dir+m.Target); err != nil {
			return fmt.Errorf("mounting %s: %w", m.Source, err)
		}
	}
	if err := unix.Mount("proc", s.Dir+"/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if err := os.Chdir(s.Dir); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("changing the root folder: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the old root folder: %w", err)
	}
	return os.Chdir("/")
}

// gvisorTree copies the mount of a path and what is mounted below it.
func gvisorTree(m gvisorMount) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, m.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil || m.Writable {
		return fd, err
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	return fd, unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr)
}

// gvisorAttach puts a copied mount at a path, which is made unless it is there.
func gvisorAttach(tree int, source, target string) error {
	info, err := os.Stat(fmt.Sprintf("/proc/self/fd/%d", tree))
	if err != nil {
		return fmt.Errorf("looking at %s: %w", source, err)
	}
	if _, err := os.Lstat(target); errors.Is(err, fs.ErrNotExist) {
		folder := target
		if !info.IsDir() {
			folder = filepath.Dir(target)
		}
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		if !info.IsDir() {
			if err := os.WriteFile(target, nil, 0o644); err != nil { //nolint:gosec // it is covered at once
				return err
			}
		}
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return err
	}
	return unix.Close(tree)
}

// Counters are not kept: what gVisor's own kernel uses cannot be told from
// what the program does.
func (*gvisorBox) Counters() Counters { return Counters{} }

// Refusals reads how often memory has run out. Processes are gVisor's own, and
// only its kernel knows of those that it did not start.
func (b *gvisorBox) Refusals() (r Refusals) {
	for _, folder := range b.launcher.cgroupFolders(b.id) {
		for _, name := range []string{"memory.oom_control", "memory.events"} {
			if content, err := os.ReadFile(filepath.Join(folder, name)); err == nil {
				r.Memory += field(content, "oom_kill")
			}
		}
	}
	return r
}
