package sandbox

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/warpket/warpket"
)

// Namespaces runs each program in namespaces, with a user, a root folder and a
// cgroup of its own, behind a filter of system calls and Landlock. It needs no
// rights: as an ordinary user the sandboxes share that user, and the limits
// that take a cgroup hold only where one was delegated.
type Namespaces struct {
	launcher
	filter   []byte
	landlock bool
	reaper   []byte // a program; empty: processes 1 go on as what they are
}

// NewNamespaces makes a launcher whose name no other on this machine has. What
// one of that name has left behind is ended. The error says what the machine
// lacks.
func NewNamespaces(ctx context.Context, name string) (*Namespaces, error) {
	filter, err := newFilter()
	if err != nil {
		return nil, err
	}
	n := &Namespaces{filter: filter, landlock: landlockABI() > 0, reaper: reaper()}
	if err := n.open(name); err != nil {
		return nil, err
	}
	if err := n.try(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// try runs a program, to know before any function does that it can be done.
func (n *Namespaces) try(ctx context.Context) error {
	box, err := n.Start(ctx, Spec{Name: "try", Argv: []string{"/bin/sh", "-c", "exit 7"}})
	if err != nil {
		return fmt.Errorf("trying a sandbox: %w", err)
	}
	exit, err := box.Wait(ctx)
	if err := errors.Join(err, box.Close()); err != nil {
		return fmt.Errorf("trying a sandbox: %w", err)
	}
	if exit.Code != 7 {
		return warpket.Errorf(warpket.Unavailable, "a sandbox does not work on this machine: a shell that should exit with 7 ended with %s", exit)
	}
	return nil
}

// Isolation says what holds on this machine.
func (n *Namespaces) Isolation() warpket.Isolation {
	i := n.isolation("namespaces")
	if !n.landlock {
		i.Unenforced = append(i.Unenforced, landlockLimit)
	}
	return i
}

// Start starts the program.
func (n *Namespaces) Start(ctx context.Context, spec Spec) (Sandbox, error) {
	box, err := n.start(ctx, spec, false)
	if err != nil {
		return nil, err
	}
	return box, nil
}

func (n *Namespaces) start(ctx context.Context, spec Spec, nest bool) (_ *box, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := n.claim(spec.Name); err != nil {
		return nil, err
	}
	b := &box{launcher: n, name: spec.Name, done: make(chan struct{})}
	defer func() {
		if err != nil {
			b.free()
			err = fmt.Errorf("starting %s: %w", spec.Name, err)
		}
	}()
	if n.uids != nil {
		if b.uids, err = n.uids.take(); err != nil {
			return nil, err
		}
	}
	if b.cgroup, err = n.cgroups.make(spec.Name, spec.Limits); err != nil {
		return nil, err
	}
	return b, b.run(ctx, spec, nest)
}

// box is a running sandbox.
type box struct {
	launcher *Namespaces
	name     string
	cgroup   *cgroup
	uids     *uidRange
	owned    []string // writable, and the agent's again at the end
	mapped   *os.File // the mapping of users for what is writable
	process  *os.Process
	listener net.Listener
	freed    sync.Once

	done chan struct{} // closed once all processes have ended; exit is set before
	exit Exit
}

// run starts the process that sets the sandbox up and tells it what to do.
func (b *box) run(ctx context.Context, spec Spec, nest bool) error {
	s, mounts, err := b.describe(spec, nest)
	defer closeAll(mounts)
	if err != nil {
		return err
	}
	tell, teller, err := os.Pipe()
	if err != nil {
		return err
	}
	status, statusEnd, err := os.Pipe()
	if err != nil {
		closeAll([]*os.File{tell, teller})
		return err
	}
	report, reportEnd, err := socketPair()
	if err != nil {
		closeAll([]*os.File{tell, teller, status, statusEnd})
		return err
	}
	defer func() { _ = report.Close() }()
	cmd := b.command(spec, slices.Concat([]*os.File{tell, statusEnd, reportEnd}, mounts, spec.Files))
	err = b.launcher.spawn(cmd)
	closeAll([]*os.File{tell, statusEnd, reportEnd})
	if err != nil {
		closeAll([]*os.File{teller, status})
		return explainStart(err)
	}
	b.process = cmd.Process
	defer context.AfterFunc(ctx, b.kill)()
	// It waits for what to do, so it is in its cgroup before it does anything.
	err = b.cgroup.add(cmd.Process.Pid)
	if err == nil {
		err = json.NewEncoder(teller).Encode(s)
	}
	_ = teller.Close()
	go b.reap(cmd, status)
	if err == nil {
		b.listener, err = awaitReport(report)
	}
	err = errors.Join(ctx.Err(), err)
	if err != nil {
		b.kill()
		<-b.done
	}
	return err
}

// awaitReport waits until a sandbox has been set up, or for why it could not
// be. On the way it gets the socket on which the sandbox's loopback listens.
func awaitReport(report *net.UnixConn) (listener net.Listener, err error) {
	for {
		message, control := make([]byte, 4<<10), make([]byte, unix.CmsgSpace(4))
		n, nControl, _, _, err := report.ReadMsgUnix(message, control)
		if n == 0 || errors.Is(err, io.EOF) {
			return listener, nil
		}
		if err == nil && nControl == 0 {
			err = warpket.Errorf(warpket.Unavailable, "%s", message[:n])
		}
		var fds []*os.File
		if err == nil {
			fds, err = rights(control[:nControl])
		}
		if err == nil && len(fds) == 1 {
			listener, err = net.FileListener(fds[0])
		}
		closeAll(fds)
		if err != nil {
			if listener != nil {
				_ = listener.Close()
			}
			return nil, err
		}
	}
}

func explainStart(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EINVAL) {
		return warpket.Because(warpket.Unavailable, err, "this machine does not let this user make namespaces: see sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns")
	}
	return err
}

// commonDevices are those that every program has.
var commonDevices = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}

// describe says what to set up, and gives the mounts that it needs.
func (b *box) describe(spec Spec, nest bool) (setup, []*os.File, error) {
	s := setup{
		Listen: spec.Listen,
		Argv:   spec.Argv, Env: spec.Env, Dir: spec.Dir, Disk: spec.Limits.Disk, UID: functionUID, Nest: nest,
		Links: map[string]string{"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2"},
		Files: map[string][]byte{reaperPath: b.launcher.reaper, memoryPath: memoryInfo(spec.Limits.Memory), emptyPath: nil}, Extra: len(spec.Files), Filter: b.launcher.filter, Landlock: b.launcher.landlock,
	}
	if s.Disk == 0 {
		s.Disk = defaultDisk
	}
	if s.Dir == "" {
		s.Dir = "/"
	}
	if nest {
		s.Files[filterPath] = b.launcher.filter
		if b.launcher.uids != nil {
			s.UID = keeperUID
		}
	}
	s.Limits = b.launcher.limits(spec.Limits, nest)
	system, err := systemFrom(spec.Root, spec.Code)
	if err != nil {
		return s, nil, err
	}
	s.Mounts = append(s.Mounts, system.Mounts...)
	maps.Copy(s.Links, system.Links)
	maps.Copy(s.Files, system.Files)
	for _, path := range spec.ReadOnly {
		s.Mounts = append(s.Mounts, mount{Path: path, Source: path})
	}
	for _, path := range spec.Writable {
		s.Mounts = append(s.Mounts, mount{Path: path, Source: path, Writable: true})
	}
	for _, path := range slices.Concat(commonDevices, spec.Devices) {
		s.Mounts = append(s.Mounts, mount{Path: path, Source: path, Device: true})
	}
	// A folder comes before what is mounted in it.
	slices.SortStableFunc(s.Mounts, func(a, b mount) int { return strings.Compare(a.Path, b.Path) })
	if err := b.give(spec.Writable); err != nil {
		return s, nil, err
	}
	mounts, err := b.uids.openMounts(s.Mounts, b.mapped)
	if b.mapped != nil {
		_ = b.mapped.Close() // the mounts have it
	}
	s.First = firstFD + len(mounts)
	return s, mounts, err
}

// openMounts opens what only the agent may open. An ordinary user may make
// mounts only inside, and there sees the same files.
func (r *uidRange) openMounts(mounts []mount, mapped *os.File) ([]*os.File, error) {
	if r == nil {
		return nil, nil
	}
	var files []*os.File
	for i := range mounts {
		m := &mounts[i]
		fd, err := openTree(m.Source, m.Writable, m.Device, mapped)
		if err != nil {
			return files, err
		}
		m.FD = firstFD + len(files)
		files = append(files, os.NewFile(uintptr(fd), m.Source))
	}
	return files, nil
}

// memoryInfo is a /proc/meminfo of a machine that has as much memory as the
// sandbox may use.
func memoryInfo(limit int64) []byte {
	if limit == 0 {
		limit = 1 << 40
	}
	total := limit >> 10
	return fmt.Appendf(nil, "MemTotal: %d kB\nMemFree: %d kB\nMemAvailable: %d kB\nBuffers: 0 kB\nCached: 0 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n", total, total, total)
}

const defaultDisk = 64 << 20

// limits are those that each process has. Where no cgroup holds the sandbox
// they stand in for it, and a program can get around them: that on memory is
// of each process, and those started within its first moment have none. What
// makes cells is not held so, for they would have its limits.
func (n *Namespaces) limits(limits Limits, nest bool) []rlimit {
	list := []rlimit{{unix.RLIMIT_CORE, coreDump}, {unix.RLIMIT_MEMLOCK, 64 << 10}}
	if limits.OpenFiles > 0 {
		list = append(list, rlimit{unix.RLIMIT_NOFILE, limits.OpenFiles})
	}
	if nest {
		return list
	}
	if limits.Memory > 0 && slices.Contains(n.cgroups.missing(), memoryLimit) {
		list = append(list, rlimit{unix.RLIMIT_DATA, uint64(limits.Memory)})
	}
	if most := n.processes(limits); most > 0 {
		list = append(list, rlimit{unix.RLIMIT_NPROC, uint64(most)})
	}
	return list
}

// processes is how many a user may have inside where no cgroup counts them; 0
// for no limit.
func (n *Namespaces) processes(limits Limits) int {
	if limits.Processes == 0 || !slices.Contains(n.cgroups.missing(), processesLimit) {
		return 0
	}
	return max(limits.Processes, leastProcesses)
}

// shared are the parts of the machine's /etc that programs need to run at all.
var shared = []string{
	"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime",
	"/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/ssl/cert.pem", "/etc/pki/ca-trust", "/etc/pki/tls/certs", "/etc/pki/tls/cert.pem", "/etc/pki/tls/openssl.cnf", "/etc/ca-certificates", "/etc/protocols", "/etc/services", "/etc/mime.types", "/etc/python3", "/etc/python3.11", "/etc/crypto-policies",
}

// system is what belongs to the system, as it is seen inside.
type system struct {
	Mounts []mount
	Links  map[string]string // symbolic links and where they lead
	Files  map[string][]byte // that no machine has
}

// systemFrom is the system of the machine, or that of an image, in which code,
// if there is any, takes the place of a folder.
func systemFrom(root, code string) (system, error) {
	s := system{Links: map[string]string{}}
	names := []string{"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"}
	if root != "" {
		var err error
		if names, err = systemOf(root, code); err != nil {
			return s, err
		}
		if code != "" {
			s.Mounts = append(s.Mounts, mount{Path: CodeFolder, Source: code})
		}
	}
	for _, name := range names {
		source := filepath.Join("/", root, name)
		info, err := os.Lstat(source)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return s, fmt.Errorf("looking at %s: %w", source, err)
		case info.Mode().Type() == fs.ModeSymlink:
			if s.Links["/"+name], err = os.Readlink(source); err != nil {
				return s, fmt.Errorf("reading a link: %w", err)
			}
		default:
			s.Mounts = append(s.Mounts, mount{Path: "/" + name, Source: source})
		}
	}
	if root != "" {
		return s, nil
	}
	for _, path := range shared {
		if _, err := os.Stat(path); err == nil {
			s.Mounts = append(s.Mounts, mount{Path: path, Source: path})
		}
	}
	s.Files = etc
	return s, nil
}

// systemOf names what a folder has of a system. The rest is the sandbox's own,
// or that of the code, if there is any.
func systemOf(root, code string) (names []string, err error) {
	taken := []string{"proc", "dev", "sys", "tmp", "run", strings.TrimPrefix(ownFolder, "/")}
	if code != "" {
		taken = append(taken, strings.TrimPrefix(CodeFolder, "/"))
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("reading the folder of a system: %w", err)
	}
	for _, entry := range entries {
		if !slices.Contains(taken, entry.Name()) {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// etc are files in place of the machine's.
var etc = map[string][]byte{
	"/etc/passwd":        []byte("root:x:0:0::/tmp:/bin/sh\nfunction:x:1000:1000::/tmp:/bin/sh\nnobody:x:65534:65534:::\n"),
	"/etc/group":         []byte("root:x:0:\nfunction:x:1000:\nnogroup:x:65534:\n"),
	"/etc/hosts":         []byte("127.0.0.1 localhost warpket\n::1 localhost\n"),
	"/etc/nsswitch.conf": []byte("passwd: files\ngroup: files\nhosts: files\n"),
}

func (b *box) command(spec Spec, files []*os.File) *exec.Cmd {
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{setupName}, Dir: "/", ExtraFiles: files,
		Env: []string{"GOMAXPROCS=2", "GOGC=off"},
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
			Pdeathsig:  syscall.SIGKILL, AmbientCaps: capabilities,
		},
	}
	if b.uids != nil {
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: b.uids.first, Size: rangeSize}}
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings, cmd.SysProcAttr.GidMappingsEnableSetgroups = ids, ids, true
	} else {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: functionUID, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: functionUID, HostID: os.Getegid(), Size: 1}}
	}
	// A nil *os.File in an interface is not nil, so each is set on its own.
	if spec.Stdin != nil {
		cmd.Stdin = spec.Stdin
	}
	if spec.Stdout != nil {
		cmd.Stdout = spec.Stdout
	}
	if spec.Stderr != nil {
		cmd.Stderr = spec.Stderr
	}
	return cmd
}

// reap waits until process 1 has ended, at which all others have.
func (b *box) reap(cmd *exec.Cmd, status *os.File) {
	_ = cmd.Wait() // how process 1 ended says nothing of the program
	b.exit = exitFrom(status)
	close(b.done)
}

// exitFrom reads how a program ended from what its reaper has written. A
// reaper that was killed has written nothing, and its program was killed with it.
func exitFrom(status *os.File) Exit {
	defer func() { _ = status.Close() }()
	var b [4]byte
	if n, _ := status.Read(b[:]); n < len(b) {
		return Exit{Signal: syscall.SIGKILL}
	}
	s := syscall.WaitStatus(binary.NativeEndian.Uint32(b[:]))
	if s.Signaled() {
		return Exit{Signal: s.Signal()}
	}
	return Exit{Code: s.ExitStatus()}
}

// Wait returns how the program ended, or stops it when ctx ends first.
func (b *box) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-b.done:
		return b.exit, nil
	case <-ctx.Done():
		err := b.Close()
		return b.exit, errors.Join(ctx.Err(), err)
	}
}

// Done is closed when everything in the sandbox has ended.
func (b *box) Done() <-chan struct{} { return b.done }

// Close ends everything in the sandbox and frees what it held.
func (b *box) Close() error {
	b.kill()
	<-b.done
	b.free()
	return nil
}

// kill ends process 1, and the kernel all others.
func (b *box) kill() { _ = b.process.Kill() }

// Counters reads what it has used.
func (b *box) Counters() Counters { return b.cgroup.counters() }

// ResetPeak has its peak of memory begin anew.
func (b *box) ResetPeak() { b.cgroup.resetPeak() }

// Refusals reads how often a limit has stopped it.
func (b *box) Refusals() Refusals { return b.cgroup.refusals() }

// Listener listens on the sandbox's own loopback, at ListenAddress.
func (b *box) Listener() net.Listener { return b.listener }

func (b *box) free() {
	b.freed.Do(func() {
		if b.listener != nil {
			_ = b.listener.Close()
		}
		b.cgroup.remove()
		takeBack(b.owned, b.uids != nil)
		b.uids.free()
		b.launcher.release(b.name)
	})
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// landlockABI is the version of Landlock that the kernel has; 0 for none.
func landlockABI() int {
	const version = 1 // LANDLOCK_CREATE_RULESET_VERSION
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, version)
	if errno != 0 {
		return 0
	}
	return int(abi)
}
