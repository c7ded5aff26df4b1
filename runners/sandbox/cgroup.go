package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// What a machine may lack, named as a node reports it: limits that cgroups hold,
// and Landlock.
const (
	landlockLimit  = "landlock"
	swapLimit      = "swap" // with memory
	cpuLimit       = "cpu"
	memoryLimit    = "memory"
	processesLimit = "processes"
)

// cgroups is the part of the machine's cgroups that belongs to one launcher:
// one folder for each controller (version 1), or one for all (version 2). A
// controller that is not there, or not ours to use, is left out.
type cgroups struct {
	unified bool
	folders map[string]string // controller ("memory", "cpu", "cpuacct", "pids") to our folder
	made    atomic.Int64
	mkdir   func(path string, mode fs.FileMode) error // os.Mkdir, at which the kernel makes a cgroup's files
	closing sync.Once
	closed  chan struct{}
	late    sync.WaitGroup // what still removes cgroups
}

// controllers of each limit. cpuacct counts what cpu limits.
var controllers = map[string]string{"cpu": cpuLimit, "memory": memoryLimit, "pids": processesLimit, "cpuacct": ""}

// findCgroups makes our folder below the cgroups of this process. root is
// where cgroups are mounted and self is /proc/self/cgroup.
func findCgroups(root, self, name string) (*cgroups, error) {
	c := &cgroups{folders: map[string]string{}, mkdir: os.Mkdir, closed: make(chan struct{})}
	return c, c.find(root, self, name)
}

func (c *cgroups) find(root, self, name string) error {
	b, err := os.ReadFile(self)
	if err != nil {
		return fmt.Errorf("looking for cgroups: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		if parts[1] == "" { // version 2
			c.addUnified(root, parts[2], name)
			continue
		}
		for controller := range strings.SplitSeq(parts[1], ",") {
			if _, ours := controllers[controller]; !ours {
				continue
			}
			// Of a path that a container does not see, the mount is the root.
			for _, parent := range []string{filepath.Join(root, controller, parts[2]), filepath.Join(root, controller)} {
				folder := filepath.Join(parent, name)
				if c.ensure(folder) {
					c.folders[controller] = folder
					break
				}
			}
		}
	}
	return nil
}

// ensure makes a cgroup unless it is there, and reports whether it is now.
func (c *cgroups) ensure(folder string) bool {
	err := c.mkdir(folder, 0o755)
	return err == nil || errors.Is(err, fs.ErrExist)
}

// addUnified uses version 2 where it has the controllers that we need; in a
// hybrid set-up it has none of them.
func (c *cgroups) addUnified(root, path, name string) {
	// Another launcher of this process may have moved it.
	path = strings.TrimSuffix(path, "/"+agentLeaf)
	for _, parent := range []string{filepath.Join(root, path), root} {
		b, err := os.ReadFile(filepath.Join(parent, "cgroup.controllers"))
		if err != nil {
			continue
		}
		has := strings.Fields(string(b))
		folder := filepath.Join(parent, name)
		if !slices.Contains(has, "memory") || !c.delegate(parent, has) || !c.ensure(folder) {
			continue
		}
		enable(folder, has)
		c.unified = true
		for _, controller := range has {
			if _, ours := controllers[controller]; ours {
				c.folders[controller] = folder
			}
		}
		return
	}
}

const agentLeaf = "warpket-agent"

// delegate lets the children of a cgroup use its controllers. A cgroup that
// does so may hold no processes, so those in it, which are ours, move to a leaf.
func (c *cgroups) delegate(folder string, has []string) bool {
	if enable(folder, has) {
		return true
	}
	leaf := filepath.Join(folder, agentLeaf)
	if !c.ensure(leaf) {
		return false
	}
	b, err := os.ReadFile(filepath.Join(folder, "cgroup.procs"))
	if err != nil {
		return false
	}
	for pid := range strings.FieldsSeq(string(b)) {
		_ = write(filepath.Join(leaf, "cgroup.procs"), pid)
	}
	return enable(folder, has)
}

func enable(folder string, has []string) bool {
	var on []string
	for _, controller := range has {
		if _, ours := controllers[controller]; ours {
			on = append(on, "+"+controller)
		}
	}
	return write(filepath.Join(folder, "cgroup.subtree_control"), strings.Join(on, " ")) == nil
}

// missing are the limits that cannot be held here.
func (c *cgroups) missing() []string {
	var lacks []string
	for _, controller := range []string{"cpu", "memory", "pids"} {
		if c.folders[controller] == "" {
			lacks = append(lacks, controllers[controller])
		}
	}
	return lacks
}

// lacksSwap reports whether what a sandbox has in swap, of which the machine has
// so many bytes, is not limited with its memory.
func (c *cgroups) lacksSwap(swap uint64) bool {
	folder, file := c.folders["memory"], "memory.memsw.limit_in_bytes"
	if folder == "" || swap == 0 {
		return false
	}
	if c.unified {
		file = "memory.swap.max"
	}
	_, err := os.Stat(filepath.Join(folder, file))
	return err != nil
}

// sweep ends what an agent before this one has left.
func (c *cgroups) sweep() {
	for _, folder := range c.places() {
		entries, _ := os.ReadDir(folder)
		for _, entry := range entries {
			if entry.IsDir() {
				left := filepath.Join(folder, entry.Name())
				kill(left)
				c.remove(left)
			}
		}
	}
}

// close removes our folders. They go only when they are empty, so it may be
// called more than once.
func (c *cgroups) close() {
	c.closing.Do(func() { close(c.closed) })
	c.late.Wait()
	for _, folder := range c.places() {
		_ = unix.Rmdir(folder)
	}
}

func (c *cgroups) places() []string {
	var places []string
	for _, folder := range c.folders {
		if !slices.Contains(places, folder) {
			places = append(places, folder)
		}
	}
	slices.Sort(places)
	return places
}

// cgroup holds and counts one sandbox. A nil cgroup holds nothing.
type cgroup struct {
	of      *cgroups
	name    string
	folders []string

	// Read for each execution, so they stay open.
	cpu, peak, killed, forks *os.File

	mu      sync.Mutex
	removed bool
	last    Counters // once removed
	refused Refusals
}

// make makes a cgroup with limits.
func (c *cgroups) make(name string, limits Limits) (*cgroup, error) {
	if len(c.folders) == 0 {
		return nil, nil //nolint:nilnil // nil is a cgroup that holds nothing
	}
	g := &cgroup{of: c, name: c.nameOf(name)}
	for _, folder := range c.places() {
		folder = filepath.Join(folder, g.name)
		if err := c.mkdir(folder, 0o755); err != nil {
			g.remove()
			return nil, fmt.Errorf("making a cgroup: %w", err)
		}
		g.folders = append(g.folders, folder)
	}
	if err := g.limit(limits); err != nil {
		g.remove()
		return nil, err
	}
	if c.unified {
		g.cpu, _ = os.Open(g.file("cpu", "cpu.stat"))
		g.peak = openPeak(g.file("memory", "memory.peak"))
		g.killed, _ = os.Open(g.file("memory", "memory.events"))
	} else {
		g.cpu, _ = os.Open(g.file("cpuacct", "cpuacct.usage"))
		g.peak = openPeak(g.file("memory", "memory.max_usage_in_bytes"))
		g.killed, _ = os.Open(g.file("memory", "memory.oom_control"))
	}
	g.forks, _ = os.Open(g.file("pids", "pids.events"))
	return g, nil
}

// nameOf gives a folder's name that tells an operator which sandbox it is. The
// number keeps it apart from those of all others, one not yet removed among
// them, and from the kernel's files.
func (c *cgroups) nameOf(sandbox string) string {
	plain := strings.Map(func(r rune) rune {
		if r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_' || r == '.') {
			return r
		}
		return '-'
	}, sandbox)
	return strconv.FormatInt(c.made.Add(1), 10) + "-" + plain[:min(len(plain), 100)]
}

func (g *cgroup) file(controller, name string) string {
	folder := g.of.folders[controller]
	if folder == "" {
		return ""
	}
	return filepath.Join(folder, g.name, name)
}

// leastProcesses are what setting up takes, which counts too.
const leastProcesses = 16

const leastQuota = 1000 // µs, the kernel's

const period = 100_000 // µs in which a sandbox may use its share of the cores

// limit sets the limits; those that are zero stay as they are.
func (g *cgroup) limit(limits Limits) error {
	if g == nil {
		return nil
	}
	type setting struct{ controller, file, value string }
	var settings []setting
	set := func(controller, file, value string) {
		settings = append(settings, setting{controller, file, value})
	}
	cores, memory := strconv.Itoa(max(limits.CPU*(period/1000), leastQuota)), strconv.FormatInt(limits.Memory, 10)
	switch {
	case g.of.unified:
		if limits.Memory > 0 {
			set("memory", "memory.max", memory)
			set("memory", "memory.oom.group", "0")
		}
		if limits.CPU > 0 {
			set("cpu", "cpu.max", cores+" "+strconv.Itoa(period))
		}
	default:
		if limits.Memory > 0 {
			set("memory", "memory.limit_in_bytes", memory)
		}
		if limits.CPU > 0 {
			set("cpu", "cpu.cfs_period_us", strconv.Itoa(period))
			set("cpu", "cpu.cfs_quota_us", cores)
		}
	}
	if limits.Processes > 0 {
		set("pids", "pids.max", strconv.Itoa(max(limits.Processes, leastProcesses)))
	}
	// Memory with swap may never be less than without: it is raised before and
	// lowered after. It is not there on many machines.
	swap := func() {
		if path := g.file("memory", "memory.memsw.limit_in_bytes"); path != "" && limits.Memory > 0 && !g.of.unified {
			_ = write(path, memory)
		}
	}
	swap()
	defer swap()
	for _, s := range settings {
		if path := g.file(s.controller, s.file); path != "" {
			if err := write(path, s.value); err != nil {
				return fmt.Errorf("setting a limit: %w", err)
			}
		}
	}
	if limits.Memory > 0 && g.of.unified {
		_ = write(g.file("memory", "memory.swap.max"), "0") // as above
	}
	return nil
}

// add moves a process into the cgroup. In version 1 that can take 15 ms.
func (g *cgroup) add(pid int) error {
	if g == nil {
		return nil
	}
	for _, folder := range g.folders {
		if err := write(filepath.Join(folder, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
			return fmt.Errorf("moving a process into its cgroup: %w", err)
		}
	}
	return nil
}

// counters reads what the cgroup has counted.
func (g *cgroup) counters() Counters {
	if g == nil {
		return Counters{}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.removed {
		return g.last
	}
	return g.count()
}

func (g *cgroup) count() Counters {
	var c Counters
	if g.of.unified {
		c.CPU = time.Duration(field(read(g.cpu), "usage_usec")) * time.Microsecond
	} else {
		c.CPU = time.Duration(number(read(g.cpu)))
	}
	c.PeakMemory = number(read(g.peak))
	return c
}

// openPeak opens a counter of memory to be set back, which Linux before 6.12
// lets nobody do in version 2. There it is set back for those who have it open.
func openPeak(path string) *os.File {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		f, _ = os.Open(path)
	}
	return f
}

// resetPeak sets the counter of memory back to what is used now.
func (g *cgroup) resetPeak() {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.peak != nil && !g.removed {
		_, _ = unix.Pwrite(int(g.peak.Fd()), []byte("0"), 0) // one that cannot be set back goes on
	}
}

// refusals reads how often a limit has stopped something.
func (g *cgroup) refusals() (r Refusals) {
	if g == nil {
		return r
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.removed {
		return g.refused
	}
	return g.refuse()
}

func (g *cgroup) refuse() Refusals {
	return Refusals{Memory: field(read(g.killed), "oom_kill"), Processes: field(read(g.forks), "max")}
}

// remove removes the cgroup, whose processes have ended. What it has counted
// can still be read.
func (g *cgroup) remove() {
	if g == nil {
		return
	}
	g.mu.Lock()
	g.last, g.refused, g.removed = g.count(), g.refuse(), true
	g.mu.Unlock()
	for _, f := range []*os.File{g.cpu, g.peak, g.killed, g.forks} {
		if f != nil {
			_ = f.Close()
		}
	}
	for _, folder := range g.folders {
		g.of.remove(folder)
	}
}

// kill ends every process of a cgroup.
func kill(folder string) {
	if write(filepath.Join(folder, "cgroup.kill"), "1") == nil {
		return
	}
	b, _ := os.ReadFile(filepath.Join(folder, "cgroup.procs"))
	for text := range strings.FieldsSeq(string(b)) {
		if pid, err := strconv.Atoi(text); err == nil && pid > 0 {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// remove removes a cgroup whose processes have ended. The kernel takes a
// moment to see that, and tells nobody when it has; what it takes longer over,
// as on a machine that has no memory left, is removed behind the caller's back.
func (c *cgroups) remove(folder string) {
	for wait := time.Millisecond; wait < 50*time.Millisecond; wait *= 2 {
		if tryRemove(folder) {
			return
		}
		time.Sleep(wait)
	}
	c.late.Go(func() {
		for wait := 100 * time.Millisecond; !tryRemove(folder); wait = min(2*wait, 10*time.Second) {
			select {
			case <-time.After(wait):
			case <-c.closed:
				_ = tryRemove(folder) // the next start removes it
				return
			}
		}
	})
}

// tryRemove removes a cgroup unless the kernel says that it is busy.
func tryRemove(folder string) bool { return !errors.Is(unix.Rmdir(folder), unix.EBUSY) }

func write(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// read reads a small file that is open from its beginning.
func read(f *os.File) []byte {
	if f == nil {
		return nil
	}
	b := make([]byte, 512)
	n, err := unix.Pread(int(f.Fd()), b, 0)
	if err != nil {
		return nil
	}
	return b[:n]
}

func number(b []byte) int64 {
	n, _ := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)
	return n
}

// field gives the number beside a name, in lines of both.
func field(b []byte, name string) int64 {
	for line := range bytes.Lines(b) {
		if parts := bytes.Fields(line); len(parts) == 2 && string(parts[0]) == name {
			return number(parts[1])
		}
	}
	return 0
}
