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
// user the limits on cpu and memory hold only where a cgroup was delegated, and
// the program is root in its own eyes, without any of its powers.
//
// Standard streams must not be regular files: gVisor writes to those where it
// thinks their end is.
type GVisor struct {
	launcher
	runsc  string
	filter *specs.LinuxSeccomp
}

// gvisorName is the name under which this program starts itself again to set
// up a sandbox, as gvisorMain does.
const gvisorName = "warpket-gvisor"

// NewGVisor makes a launcher of programs under runsc, the program at a path.
// No other launcher on this machine has its name. What one of that name has
// left behind is ended. The error says what the machine lacks.
func NewGVisor(ctx context.Context, runsc, name string) (*GVisor, error) {
	path, err := filepath.Abs(runsc)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		return nil, warpket.Because(warpket.Unavailable, err, "gVisor needs its program runsc, which is not at %s", runsc)
	}
	g := &GVisor{runsc: path}
	if g.filter, err = gvisorFilter(); err != nil {
		return nil, err
	}
	if err := g.open(name); err != nil {
		return nil, err
	}
	if err := g.try(ctx); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
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

// Isolation says what holds on this machine. The number of processes is held
// by gVisor's own kernel.
func (g *GVisor) Isolation() warpket.Isolation {
	i := g.isolation("gvisor")
	i.Unenforced = slices.DeleteFunc(i.Unenforced, func(limit string) bool { return limit == processesLimit })
	return i
}

// Start starts the program.
func (g *GVisor) Start(ctx context.Context, spec Spec) (_ Sandbox, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := g.claim(spec.Name); err != nil {
		return nil, err
	}
	b := &gvisorBox{launcher: g, name: spec.Name, done: make(chan struct{}), gone: make(chan struct{})}
	defer func() {
		if err != nil {
			b.free()
			err = fmt.Errorf("starting %s: %w", spec.Name, err)
		}
	}()
	if len(spec.Devices) > 0 {
		return nil, warpket.Errorf(warpket.Unavailable, "the devices %s cannot be given to a program on this node, whose isolation is gvisor", strings.Join(spec.Devices, ", "))
	}
	if g.uids != nil {
		if b.uids, err = g.uids.take(); err != nil {
			return nil, err
		}
	}
	// It gets its share of the processors once it has been started: what starts
	// it would take long with a small one. Processes are gVisor's own.
	if b.cgroup, err = g.cgroups.make(spec.Name, Limits{Memory: spec.Limits.Memory}); err != nil {
		return nil, err
	}
	b.owned = spec.Writable
	if b.uids != nil {
		if err := b.uids.own(spec.Writable); err != nil {
			return nil, err
		}
	}
	if err := b.run(ctx, spec); err != nil {
		return nil, err
	}
	return b, nil
}

// gvisorBox is a sandbox under gVisor.
type gvisorBox struct {
	launcher *GVisor
	name     string
	cgroup   *cgroup
	uids     *uidRange
	owned    []string // writable, and the agent's again at the end
	process  *os.Process
	freed    sync.Once

	done chan struct{} // closed once the program and what it started have ended; exit is set before
	gone chan struct{} // closed once nothing is left
	exit Exit
}

// run starts the process that sets the sandbox up and tells it what to do.
func (b *gvisorBox) run(ctx context.Context, spec Spec) error {
	setup, mounts, err := b.setup(spec)
	defer closeAll(mounts)
	if err != nil {
		return err
	}
	var ours, theirs [3]*os.File // setup, status, failed
	defer func() {               // what is closed twice, or nil, stays so
		closeAll(ours[:])
		closeAll(theirs[:])
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
	files := append(theirs[:], mounts...)
	for _, f := range []*os.File{spec.Stdin, spec.Stdout, spec.Stderr} {
		if f == nil {
			f = null
		}
		files = append(files, f)
	}
	cmd := b.command(append(files, spec.Files...))
	if err := b.launcher.spawn(cmd); err != nil {
		return explainStart(err)
	}
	b.process = cmd.Process
	for _, f := range theirs {
		_ = f.Close()
	}
	status := ours[1]
	ours[1] = nil
	go b.reap(cmd, status)

	stop := context.AfterFunc(ctx, b.kill)
	// It waits for what to do, so it is in its cgroup before it does anything.
	if err = b.cgroup.add(cmd.Process.Pid); err == nil {
		err = json.NewEncoder(ours[0]).Encode(setup)
	}
	_ = ours[0].Close()
	if err == nil {
		var reason []byte
		if reason, err = io.ReadAll(ours[2]); len(reason) > 0 {
			err = warpket.Errorf(warpket.Unavailable, "gVisor: %s", strings.TrimSpace(string(reason)))
		}
	}
	if err == nil {
		err = b.cgroup.limit(Limits{CPU: spec.Limits.CPU})
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
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
		Setsid:      true,
	}
	if b.uids != nil {
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: b.uids.first, Size: rangeSize}}
		attr.UidMappings, attr.GidMappings, attr.GidMappingsEnableSetgroups = ids, ids, true
		attr.Credential = &syscall.Credential{} // root of the sandbox's range, and no group besides
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
		b.cgroup.remove()
		takeBack(b.owned, b.uids != nil)
		b.uids.free()
		b.launcher.release(b.name)
	})
}

// Counters reads what it has used, gVisor's own kernel included.
func (b *gvisorBox) Counters() Counters { return b.cgroup.counters() }

// ResetPeak has its peak of memory begin anew.
func (b *gvisorBox) ResetPeak() { b.cgroup.resetPeak() }

// Refusals reads how often memory has run out. Processes are gVisor's own, and
// only its kernel knows of those that it did not start.
func (b *gvisorBox) Refusals() Refusals {
	r := b.cgroup.refusals()
	r.Processes = 0
	return r
}

// gvisorSetup is what the process that sets a sandbox up is told.
type gvisorSetup struct {
	Mounts  []mount
	Folders []string
	Links   map[string]string
	Files   map[string][]byte
	First   int      // of the descriptors for the program
	Extra   int      // how many they are
	Memory  bool     // whether /proc/meminfo is gvisorMemory
	Argv    []string // of runsc
}

// Where things are in the root folder that runsc has.
const (
	gvisorProgram = "/runsc"
	gvisorState   = "/state"
	gvisorBundle  = "/bundle"
	gvisorRootfs  = gvisorBundle + "/rootfs"
	gvisorPid     = "/pid"
	gvisorLog     = "/log"
	gvisorMemory  = "/meminfo"
)

// setup says what to set up. All paths are put into the root folder of the
// program, which it may only read, and which gVisor may cache. Those that it
// may write, or that lie in folders of gVisor's own, are mounts besides.
func (b *gvisorBox) setup(spec Spec) (gvisorSetup, []*os.File, error) {
	s := gvisorSetup{
		Mounts:  []mount{{Source: b.launcher.runsc, Path: gvisorProgram}, {Source: os.DevNull, Path: os.DevNull, Device: true}},
		Folders: []string{gvisorState, "/proc", "/tmp", gvisorRootfs + "/proc", gvisorRootfs + "/dev", gvisorRootfs + "/tmp"},
		Links:   map[string]string{},
		Files:   map[string][]byte{},
		Memory:  spec.Limits.Memory > 0,
	}
	if s.Memory { // from which gVisor takes what its programs see, and how many files there may be in memory
		s.Files[gvisorMemory] = memoryInfo(spec.Limits.Memory)
	}
	system, err := systemFrom(spec.Root, spec.Code)
	if err != nil {
		return s, nil, err
	}
	for _, m := range system.Mounts {
		m.Path = gvisorRootfs + m.Path
		s.Mounts = append(s.Mounts, m)
	}
	for name, to := range system.Links {
		s.Links[gvisorRootfs+name] = to
	}
	for name, content := range system.Files {
		s.Files[gvisorRootfs+name] = content
	}
	if spec.Root == "" {
		s.Folders = append(s.Folders, gvisorRootfs+"/etc") // an image has its own
	}
	private := []string{"/tmp", "/dev", "/proc", "/sys"} // which are gVisor's
	var mounts []specs.Mount
	for i, path := range slices.Concat(spec.Writable, spec.ReadOnly) {
		path = filepath.Clean(path)
		writable, mode := i < len(spec.Writable), "ro"
		if writable {
			mode = "rw"
		}
		source := gvisorRootfs + path
		s.Mounts = append(s.Mounts, mount{Source: path, Path: source, Writable: writable})
		if writable || slices.ContainsFunc(slices.Concat(private, spec.Writable), func(folder string) bool { return gvisorBelow(path, folder) }) {
			mounts = append(mounts, specs.Mount{Destination: path, Type: "bind", Source: source, Options: []string{"rbind", "nosuid", "nodev", mode}})
		}
	}
	slices.SortStableFunc(s.Mounts, func(a, b mount) int { return strings.Compare(a.Path, b.Path) })
	slices.SortStableFunc(mounts, func(a, b specs.Mount) int { return strings.Compare(a.Destination, b.Destination) })

	config, _ := json.Marshal(b.config(spec, mounts)) // nothing in it cannot be marshalled
	s.Files[gvisorBundle+"/config.json"] = config
	s.Argv = []string{
		gvisorProgram, "--root=" + gvisorState, "--platform=systrap", "--network=none", "--overlay2=none", "--directfs=false", "--oci-seccomp", "--ignore-cgroups",
		"--host-uds=" + gvisorSockets(slices.Concat(spec.ReadOnly, spec.Writable)),
		"--rootless=" + strconv.FormatBool(b.uids == nil),
		"run", "--detach", "--bundle=" + gvisorBundle, "--pid-file=" + gvisorPid,
	}
	s.Extra = 3 + len(spec.Files)
	for i := range s.Extra {
		s.Argv = append(s.Argv, fmt.Sprintf("--pass-fd=%d:%d", 3+i, i))
	}
	s.Argv = append(s.Argv, "function")
	opened, err := b.uids.openMounts(s.Mounts, nil)
	s.First = firstFD + len(opened)
	return s, opened, err
}

// gvisorSockets says whether the program may connect to sockets: it may if one
// is among its paths, or in a folder that is.
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

// config is what runsc reads of its bundle.
func (b *gvisorBox) config(spec Spec, mounts []specs.Mount) *specs.Spec {
	disk := spec.Limits.Disk
	if disk == 0 {
		disk = defaultDisk
	}
	tmpfs := func(path string, more ...string) specs.Mount {
		return specs.Mount{Destination: path, Type: "tmpfs", Source: "tmpfs", Options: append(more, "nosuid", "nodev", "mode=1777", "size="+strconv.FormatInt(disk, 10))}
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
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec"}},
			tmpfs("/dev/shm", "noexec"), tmpfs("/tmp"),
		}, mounts...),
		Linux: &specs.Linux{Seccomp: b.launcher.filter, Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace}}},
	}
	rlimit := func(name string, value uint64) {
		config.Process.Rlimits = append(config.Process.Rlimits, specs.POSIXRlimit{Type: name, Hard: value, Soft: value})
	}
	rlimit("RLIMIT_CORE", coreDump)
	if spec.Limits.OpenFiles > 0 {
		rlimit("RLIMIT_NOFILE", spec.Limits.OpenFiles)
	}
	if spec.Limits.Processes > 0 {
		rlimit("RLIMIT_NPROC", uint64(max(spec.Limits.Processes, leastProcesses)))
	}
	if spec.Limits.Memory > 0 && slices.Contains(b.launcher.cgroups.missing(), memoryLimit) {
		rlimit("RLIMIT_AS", uint64(spec.Limits.Memory)+gvisorAddresses)
	}
	if b.uids != nil {
		config.Process.User = specs.User{UID: functionUID, GID: functionUID}
	}
	return config
}

// gvisorAddresses are what a program takes of addresses, not of memory, where
// no cgroup holds the sandbox: a limit on addresses, of each process, is the
// only one that gVisor's kernel has in its place.
const gvisorAddresses = 1 << 30

// gvisorMain sets up a sandbox, and does not return, if that is what this
// process was started for. Programs that use GVisor call it first thing.
func gvisorMain() {
	if len(os.Args) != 1 || os.Args[0] != gvisorName {
		return
	}
	runtime.LockOSThread()
	_ = unix.CloseRange(setupFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	_, _ = os.NewFile(failedFD, "failed").WriteString(gvisorSetUp().Error())
	os.Exit(1)
}

// gvisorSetUp makes a root folder for runsc with what the sandbox may touch,
// starts it, and waits for its end.
func gvisorSetUp() error {
	var s gvisorSetup
	if err := json.NewDecoder(os.NewFile(setupFD, "setup")).Decode(&s); err != nil {
		return fmt.Errorf("reading what to set up: %w", err)
	}
	unix.Umask(0o022) // whatever the agent's is, all inside can see what is made here
	if err := s.root(); err != nil {
		return err
	}
	pid, err := s.start()
	if err != nil {
		return err
	}
	// From here on only runsc holds the program's files: what it closes is closed.
	_ = unix.CloseRange(failedFD, uint(s.First+s.Extra), 0)
	for {
		var status unix.WaitStatus
		ended, err := unix.Wait4(-1, &status, 0, nil)
		if ended == pid {
			_, _ = os.NewFile(statusFD, "status").Write(binary.NativeEndian.AppendUint32(nil, uint32(status)))
		}
		if ended == pid || err != nil && !errors.Is(err, unix.EINTR) {
			os.Exit(0)
		}
	}
}

// start starts runsc, which starts the program, and returns the number of the
// process that is its sandbox.
func (s *gvisorSetup) start() (int, error) {
	log, err := os.OpenFile(gvisorLog, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return 0, fmt.Errorf("making a log: %w", err)
	}
	cmd := &exec.Cmd{Path: s.Argv[0], Args: s.Argv, Env: []string{}, Dir: "/", Stdout: log, Stderr: log}
	for i := range s.Extra {
		cmd.ExtraFiles = append(cmd.ExtraFiles, os.NewFile(uintptr(s.First+i), "file"))
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
	for i := range s.Mounts {
		m := &s.Mounts[i]
		if m.FD != 0 {
			continue
		}
		var err error
		if m.FD, err = openTree(m.Source, m.Writable, m.Device, nil); err != nil {
			return err
		}
	}
	const at = "/tmp" // any folder that every machine has; only this process sees it covered
	if err := tmpfs(at, 16<<20, 0o755, 0); err != nil {
		return err
	}
	for _, folder := range s.Folders {
		if err := os.MkdirAll(at+folder, 0o755); err != nil {
			return err
		}
	}
	// The kernel lets a user mount it only where one is to be seen already.
	if err := unix.Mount("proc", at+"/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	// From here on no link, of which an image may have any, leads out.
	if err := enter(at); err != nil {
		return err
	}
	for name, target := range s.Links {
		if err := os.Symlink(target, name); err != nil {
			return err
		}
	}
	for name, content := range s.Files {
		if err := os.WriteFile(name, content, 0o644); err != nil { //nolint:gosec // the program reads them as another user
			return err
		}
	}
	for _, m := range s.Mounts {
		if err := gvisorAttach(m); err != nil {
			return fmt.Errorf("mounting %s: %w", m.Source, err)
		}
	}
	if s.Memory {
		if err := unix.Mount(gvisorMemory, "/proc/meminfo", "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mounting /proc/meminfo: %w", err)
		}
	}
	return nil
}

// gvisorAttach puts a copied mount at a path, which is made unless it is there.
// A link on the way that leads out of the program's root folder is an error.
func gvisorAttach(m mount) error {
	var stat unix.Stat_t
	if err := unix.Fstat(m.FD, &stat); err != nil {
		return fmt.Errorf("looking at it: %w", err)
	}
	top := "/"
	if gvisorBelow(m.Path, gvisorRootfs) {
		top = gvisorRootfs
	}
	root, err := os.OpenRoot(top)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	name := strings.TrimPrefix(strings.TrimPrefix(m.Path, top), "/")
	if _, err := root.Stat(name); errors.Is(err, fs.ErrNotExist) {
		folder, file := name, ""
		if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
			folder, file = filepath.Dir(name), name
		}
		if err := root.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		if file != "" {
			if err := root.WriteFile(file, nil, 0o644); err != nil { // it is covered at once
				return err
			}
		}
	}
	point, err := root.OpenFile(name, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer func() { _ = point.Close() }()
	if err := unix.MoveMount(m.FD, "", int(point.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return err
	}
	return unix.Close(m.FD)
}
