package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/warpket/warpket"
)

// Nest is a sandbox whose program makes sandboxes inside of it: cells. The
// program is ours and runs nobody else's code; it forks itself into each cell,
// so that what it has loaded is there at once.
//
// It is asked over descriptor 3, a socket of packets. A request is a JSON
// object {"uid", "disk", "processes"} with five descriptors: a socket of packets that says
// when the cell is in its cgroup and may go on, and takes what its loopback
// listens on; one for the program's wait status, and three
// for the cell's program. The answer has a pidfd of the cell's process 1, or
// {"error"}.
type Nest struct {
	*box
	socket *net.UnixConn

	mu   sync.Mutex // held by the request that is under way
	made int
}

// CodeFolder is an empty folder in each cell, for WriteCode.
const CodeFolder = "/code"

// Nest starts a program that makes sandboxes inside of its own. The program is
// given first as the first packet, and answers it when it is ready.
func (n *Namespaces) Nest(ctx context.Context, spec Spec, first any) (_ *Nest, answer []byte, err error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, nil, err
	}
	spec.Files = []*os.File{theirs}
	box, err := n.start(ctx, spec, true)
	_ = theirs.Close()
	if err != nil {
		_ = ours.Close()
		return nil, nil, err
	}
	nest := &Nest{box: box, socket: ours}
	defer func() {
		if err != nil {
			_ = nest.Close()
		}
	}()
	answer, _, err = nest.ask(ctx, first, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("starting %s: %w", spec.Name, err)
	}
	return nest, answer, nil
}

func socketPair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("opening a socket: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "nest"), os.NewFile(uintptr(fds[1]), "nest")
	defer func() { _ = ours.Close() }()
	conn, err := net.FileConn(ours)
	if err != nil {
		_ = theirs.Close()
		return nil, nil, fmt.Errorf("opening a socket: %w", err)
	}
	return conn.(*net.UnixConn), theirs, nil //nolint:forcetypeassert // it is one
}

// ask sends a request and waits for its answer. If that does not come, or ctx
// ends before it does, the nest makes no more cells: the answer to one request
// must not be taken for that to the next.
func (n *Nest) ask(ctx context.Context, request any, files []*os.File) (answer []byte, fds []*os.File, err error) {
	stop := context.AfterFunc(ctx, func() { _ = n.socket.Close() })
	defer stop()
	b, err := json.Marshal(request)
	if err != nil {
		return nil, nil, err
	}
	numbers := make([]int, len(files))
	for i, f := range files {
		numbers[i] = int(f.Fd())
	}
	if _, _, err := n.socket.WriteMsgUnix(b, unix.UnixRights(numbers...), nil); err != nil {
		return nil, nil, warpket.Because(warpket.Unavailable, err, "the program that makes sandboxes has ended")
	}
	answer, control := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4*4))
	got, gotControl, _, _, err := n.socket.ReadMsgUnix(answer, control)
	switch {
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case err != nil || got == 0:
		_ = n.socket.Close()
		return nil, nil, warpket.Because(warpket.Unavailable, err, "the program that makes sandboxes has ended")
	}
	answer = answer[:got]
	if fds, err = rights(control[:gotControl]); err != nil {
		return nil, nil, err
	}
	var failure struct{ Error string }
	if err := json.Unmarshal(answer, &failure); err != nil || failure.Error != "" {
		closeAll(fds)
		return nil, nil, warpket.Because(warpket.Unavailable, err, "making a sandbox: %s", failure.Error)
	}
	return answer, fds, nil
}

// rights are the descriptors that came with a packet.
func rights(control []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, fmt.Errorf("reading descriptors: %w", err)
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return nil, fmt.Errorf("reading descriptors: %w", err)
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

// Cell makes a sandbox inside of the nest. Where no cgroup holds its memory, its
// program has to do so itself, and where none holds its processes, cells that
// share their user share the limit. The three files are for its
// program. It may be ended before the nest is, and goes on when the nest is
// retired.
func (n *Nest) Cell(ctx context.Context, name string, limits Limits, files [3]*os.File) (_ *Cell, err error) {
	if err := n.launcher.claim(name); err != nil {
		return nil, err
	}
	c := &Cell{launcher: n.launcher, name: name, as: n.uids, done: make(chan struct{})}
	defer func() {
		if err != nil {
			c.free()
			err = fmt.Errorf("starting %s: %w", name, err)
		}
	}()
	if c.cgroup, err = n.launcher.cgroups.make(name, limits); err != nil {
		return nil, err
	}
	proceed, proceedEnd, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer func() { _ = proceed.Close() }()
	status, statusEnd, err := os.Pipe()
	if err != nil {
		_ = proceedEnd.Close()
		return nil, err
	}
	err = n.request(ctx, c, limits, []*os.File{proceedEnd, statusEnd, files[0], files[1], files[2]})
	closeAll([]*os.File{proceedEnd, statusEnd})
	if err != nil {
		_ = status.Close()
		return nil, err
	}
	go func() {
		c.exit = exitFrom(status)
		close(c.done)
	}()
	if err := c.cgroup.add(c.pid); err != nil {
		_ = c.Close()
		return nil, err
	}
	_, _ = proceed.Write([]byte{1}) // one that has ended needs none
	defer context.AfterFunc(ctx, func() { _ = proceed.SetReadDeadline(time.Now()) })()
	if c.listener, err = awaitReport(proceed); err != nil {
		_ = c.Close()
		return nil, errors.Join(ctx.Err(), err)
	}
	return c, nil
}

// answerTimeout is how long a nest may take to fork itself.
const answerTimeout = 20 * time.Second

func (n *Nest) request(ctx context.Context, c *Cell, limits Limits, files []*os.File) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	uid := functionUID
	if n.uids != nil { // nobody else in the nest has it: there are never that many at a time
		uid = functionUID + 1 + n.made%(keeperUID-functionUID-1)
	}
	n.made++
	disk := limits.Disk
	if disk == 0 {
		disk = defaultDisk
	}
	// Forking takes milliseconds, so whoever asks waits for that whatever
	// becomes of him: the nest is for others, too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
	defer cancel()
	_, fds, err := n.ask(ctx, struct {
		UID       int   `json:"uid"`
		Disk      int64 `json:"disk"`
		Processes int   `json:"processes"` // that its user may have; 0: a cgroup counts them
	}{uid, disk, n.launcher.processes(limits)}, files)
	if err != nil {
		return err
	}
	if len(fds) != 1 {
		closeAll(fds)
		return warpket.Errorf(warpket.Internal, "a cell came with %d descriptors", len(fds))
	}
	c.pidfd = fds[0]
	c.pid, err = pidOf(c.pidfd)
	return err
}

// pidOf gives the number that a process has for us.
func pidOf(pidfd *os.File) (int, error) {
	b, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(int(pidfd.Fd())))
	if err != nil {
		return 0, fmt.Errorf("finding a process: %w", err)
	}
	if pid := field(bytes.ReplaceAll(b, []byte("Pid:"), []byte("Pid ")), "Pid"); pid > 0 {
		return int(pid), nil
	}
	return 0, warpket.Errorf(warpket.Unavailable, "a sandbox ended while it was made")
}

// Retire ends the program that makes cells. The cells go on; when the last has
// ended, the nest is gone.
func (n *Nest) Retire() {
	_ = n.socket.Close()
	go func() {
		<-n.done
		n.free()
	}()
}

// Close ends the nest with everything inside.
func (n *Nest) Close() error {
	_ = n.socket.Close()
	return n.box.Close()
}

// Cell is a sandbox inside of a nest.
type Cell struct {
	launcher *Namespaces
	name     string
	cgroup   *cgroup
	pidfd    *os.File
	pid      int // of process 1; valid while pidfd is open
	as       *uidRange
	listener net.Listener
	closing  sync.Mutex
	freed    bool

	done chan struct{} // closed once all processes have ended; exit is set before
	exit Exit
}

// WriteCode puts the files of a folder into CodeFolder, before any code of its
// owner runs: so nobody can have put a link in the way.
func (c *Cell) WriteCode(folder string) error {
	to, err := os.OpenRoot("/proc/" + strconv.Itoa(c.pid) + "/root" + CodeFolder)
	if err != nil {
		return fmt.Errorf("copying code: %w", err)
	}
	defer func() { _ = to.Close() }()
	// The process is still there, so its number was not another's.
	if err := unix.PidfdSendSignal(int(c.pidfd.Fd()), 0, nil, 0); err != nil {
		return fmt.Errorf("copying code: %w", err)
	}
	files, err := readTree(folder)
	if err == nil {
		err = c.as.do(func() error { return writeTree(to, files) })
	}
	if err != nil {
		return fmt.Errorf("copying code: %w", err)
	}
	return nil
}

// node is a folder or a file of code.
type node struct {
	name    string
	folder  bool
	content []byte
}

func readTree(folder string) (nodes []node, err error) {
	from := os.DirFS(folder)
	err = fs.WalkDir(from, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		n := node{name: name, folder: d.IsDir()}
		if !n.folder {
			n.content, err = fs.ReadFile(from, name)
		}
		nodes = append(nodes, n)
		return err
	})
	return nodes, err
}

func writeTree(to *os.Root, nodes []node) error {
	for _, n := range nodes {
		var err error
		if n.folder {
			err = to.Mkdir(n.name, 0o755)
		} else {
			err = to.WriteFile(n.name, n.content, 0o444)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Limit changes the limits of a cell. Those that are zero stay.
func (c *Cell) Limit(limits Limits) error { return c.cgroup.limit(limits) }

// Wait returns how the program ended, or stops it when ctx ends first.
func (c *Cell) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-c.done:
		return c.exit, nil
	case <-ctx.Done():
		err := c.Close()
		return c.exit, errors.Join(ctx.Err(), err)
	}
}

// Done is closed when everything in the cell has ended.
func (c *Cell) Done() <-chan struct{} { return c.done }

// Close ends everything in the cell and frees what it held.
func (c *Cell) Close() error {
	_ = unix.PidfdSendSignal(int(c.pidfd.Fd()), unix.SIGKILL, nil, 0) // one that has ended needs none
	<-c.done
	c.free()
	return nil
}

// Counters reads what the cell has used.
func (c *Cell) Counters() Counters { return c.cgroup.counters() }

// ResetPeak has the cell's peak of memory begin anew.
func (c *Cell) ResetPeak() { c.cgroup.resetPeak() }

// Refusals reads how often a limit has stopped the cell.
func (c *Cell) Refusals() Refusals { return c.cgroup.refusals() }

// Listener listens on the cell's own loopback, at ListenAddress.
func (c *Cell) Listener() net.Listener { return c.listener }

func (c *Cell) free() {
	c.closing.Lock()
	defer c.closing.Unlock()
	if c.freed {
		return
	}
	c.freed = true
	if c.listener != nil {
		_ = c.listener.Close()
	}
	c.cgroup.remove()
	if c.pidfd != nil {
		_ = c.pidfd.Close()
	}
	c.launcher.release(c.name)
}
