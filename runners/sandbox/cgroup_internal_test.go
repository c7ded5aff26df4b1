package sandbox

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// fake is a folder of plain files that stand for the kernel's.
type fake struct {
	t     *testing.T
	root  string
	files []string // what each cgroup has
	// busy are cgroups with processes: their controllers go to no child.
	busy map[string]bool
}

func (f *fake) mkdir(path string, mode fs.FileMode) error {
	if err := os.Mkdir(path, mode); err != nil {
		return err
	}
	for _, file := range f.files {
		f.put(filepath.Join(path, file), "")
	}
	if parent := filepath.Dir(path); filepath.Base(path) == agentLeaf && f.busy[parent] {
		_ = os.Remove(filepath.Join(parent, "cgroup.subtree_control"))
		f.put(filepath.Join(parent, "cgroup.subtree_control"), "")
	}
	return nil
}

func (f *fake) put(path, content string) {
	f.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

// written are the files that are not empty, by their paths below the root.
func (f *fake) written(below string) map[string]string {
	f.t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(filepath.Join(f.root, below), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if name, _ := filepath.Rel(f.root, path); len(b) > 0 {
			found[name] = string(b)
		}
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return found
}

var unifiedFiles = []string{"cgroup.procs", "cgroup.subtree_control", "cpu.max", "cpu.stat", "memory.max", "memory.swap.max", "memory.oom.group", "memory.peak", "memory.events", "pids.max", "pids.events"}

// newUnified is version 2 with this process in service.
func newUnified(t *testing.T) (*fake, string) {
	t.Helper()
	const service = "/warpket.service"
	f := &fake{t: t, root: t.TempDir(), files: unifiedFiles, busy: map[string]bool{}}
	self := filepath.Join(t.TempDir(), "self")
	f.put(self, "0::"+service+"\n")
	for _, file := range unifiedFiles {
		f.put(filepath.Join(f.root, service, file), "")
	}
	f.put(filepath.Join(f.root, service, "cgroup.controllers"), "cpuset cpu io memory hugetlb pids rdma\n")
	return f, self
}

var someLimits = Limits{CPU: 1500, Memory: 256 << 20, Processes: 64}

func TestVersion2OfCgroupsHoldsALimitOfEachKind(t *testing.T) {
	t.Parallel()
	f, self := newUnified(t)
	c := &cgroups{folders: map[string]string{}, mkdir: f.mkdir}
	if err := c.find(f.root, self, "warpket-x"); err != nil || len(c.missing()) > 0 {
		t.Fatalf("%v, missing %q", err, c.missing())
	}
	g, err := c.make("some/name", someLimits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.remove)
	if err := g.add(4242); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"warpket.service/cgroup.controllers":                     "cpuset cpu io memory hugetlb pids rdma\n",
		"warpket.service/cgroup.subtree_control":                 "+cpu +memory +pids",
		"warpket.service/warpket-x/cgroup.subtree_control":       "+cpu +memory +pids",
		"warpket.service/warpket-x/1-some-name/cpu.max":          "150000 100000",
		"warpket.service/warpket-x/1-some-name/memory.max":       "268435456",
		"warpket.service/warpket-x/1-some-name/memory.swap.max":  "0",
		"warpket.service/warpket-x/1-some-name/memory.oom.group": "0",
		"warpket.service/warpket-x/1-some-name/pids.max":         "64",
		"warpket.service/warpket-x/1-some-name/cgroup.procs":     "4242",
	}
	if diff := cmp.Diff(want, f.written("")); diff != "" {
		t.Error(diff)
	}
}

func TestLimitsThatWereNotAskedForAreNotSet(t *testing.T) {
	t.Parallel()
	f, self := newUnified(t)
	c := &cgroups{folders: map[string]string{}, mkdir: f.mkdir}
	if err := c.find(f.root, self, "warpket-x"); err != nil {
		t.Fatal(err)
	}
	for i, limits := range []Limits{{}, {CPU: 1, Processes: 1}} {
		g, err := c.make([]string{"free", "least"}[i], limits)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(g.remove)
	}
	want := map[string]string{
		"warpket.service/warpket-x/2-least/cpu.max":  "1000 100000",
		"warpket.service/warpket-x/2-least/pids.max": "16",
	}
	got := f.written("warpket.service/warpket-x")
	delete(got, "warpket.service/warpket-x/cgroup.subtree_control")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAnAgentLeavesItsCgroupToItsSandboxes(t *testing.T) {
	t.Parallel()
	f, self := newUnified(t)
	service := filepath.Join(f.root, "warpket.service")
	f.busy[service] = true
	f.put(filepath.Join(service, "cgroup.procs"), "7001\n")
	// A folder cannot be written to, as a cgroup with processes gives nothing to children.
	if err := os.Remove(filepath.Join(service, "cgroup.subtree_control")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(service, "cgroup.subtree_control"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := &cgroups{folders: map[string]string{}, mkdir: f.mkdir}
	if err := c.find(f.root, self, "warpket-x"); err != nil || len(c.missing()) > 0 {
		t.Fatalf("%v, missing %q", err, c.missing())
	}
	got := f.written("warpket.service")
	for path, want := range map[string]string{"cgroup.subtree_control": "+cpu +memory +pids", "warpket-agent/cgroup.procs": "7001"} {
		if got["warpket.service/"+path] != want {
			t.Errorf("%s is %q, not %q", path, got["warpket.service/"+path], want)
		}
	}

	// The next launcher of this process finds it in its leaf.
	f.put(self, "0::/warpket.service/warpket-agent\n")
	next := &cgroups{folders: map[string]string{}, mkdir: f.mkdir}
	if err := next.find(f.root, self, "warpket-y"); err != nil || next.folders["memory"] != filepath.Join(service, "warpket-y") {
		t.Errorf("%v, %q", err, next.folders)
	}
}

func TestCgroupsThatAreNotOursLimitNothing(t *testing.T) {
	t.Parallel()
	tests := map[string]func(f *fake, service string){
		"none are mounted": func(f *fake, _ string) { _ = os.RemoveAll(f.root) },
		"version 2 of a hybrid": func(f *fake, service string) {
			f.put(filepath.Join(service, "cgroup.controllers"), "hugetlb\n")
		},
		"they may not be changed": func(f *fake, _ string) { f.files = nil },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, self := newUnified(t)
			change(f, filepath.Join(f.root, "warpket.service"))
			mkdir := f.mkdir
			if f.files == nil {
				mkdir = func(string, fs.FileMode) error { return unix.EACCES }
			}
			c := &cgroups{folders: map[string]string{}, mkdir: mkdir}
			if err := c.find(f.root, self, "warpket-x"); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"cpu", "memory", "processes"}, c.missing()); diff != "" {
				t.Error(diff)
			}
			g, err := c.make("x", someLimits)
			if err != nil || g.add(1) != nil || g.counters() != (Counters{}) || g.refusals() != (Refusals{}) {
				t.Errorf("%v, %+v", err, g)
			}
			g.remove()
		})
	}
}

func TestVersion1OfCgroupsHoldsALimitOfEachKind(t *testing.T) {
	t.Parallel()
	f := &fake{t: t, root: t.TempDir(), files: []string{
		"cgroup.procs", "cpu.cfs_period_us", "cpu.cfs_quota_us", "cpuacct.usage", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control", "pids.max", "pids.events",
	}}
	self := filepath.Join(t.TempDir(), "self")
	// The path of one is not to be seen from a container, and one controller is not there.
	f.put(self, "5:memory:/outside/of/the/container\n4:cpu,cpuacct:/\n3:name=systemd:/x\n2:devices:/x\n0::/\n")
	for _, controller := range []string{"memory", "cpu", "cpuacct", "devices"} {
		if err := os.Mkdir(filepath.Join(f.root, controller), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := &cgroups{folders: map[string]string{}, mkdir: f.mkdir}
	if err := c.find(f.root, self, "warpket-x"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"processes"}, c.missing()); diff != "" {
		t.Error(diff)
	}
	g, err := c.make("a", someLimits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.remove)
	if err := g.add(4242); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"cpu/warpket-x/1-a/cpu.cfs_period_us":              "100000",
		"cpu/warpket-x/1-a/cpu.cfs_quota_us":               "150000",
		"cpu/warpket-x/1-a/cgroup.procs":                   "4242",
		"cpuacct/warpket-x/1-a/cgroup.procs":               "4242",
		"memory/warpket-x/1-a/cgroup.procs":                "4242",
		"memory/warpket-x/1-a/memory.limit_in_bytes":       "268435456",
		"memory/warpket-x/1-a/memory.memsw.limit_in_bytes": "268435456",
	}
	if diff := cmp.Diff(want, f.written("")); diff != "" {
		t.Error(diff)
	}
	f.put(g.file("cpuacct", "cpuacct.usage"), "1500000000\n")
	f.put(g.file("memory", "memory.max_usage_in_bytes"), "134217728\n")
	f.put(g.file("memory", "memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
	if got, want := g.counters(), (Counters{CPU: 1500 * time.Millisecond, PeakMemory: 134217728}); got != want {
		t.Errorf("%+v", got)
	}
	if got, want := g.refusals(), (Refusals{Memory: 3}); got != want {
		t.Errorf("%+v", got)
	}
}

func TestSwapThatIsNotCountedIsToldWhereThereIsSome(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		unified bool
		file    string // of limits on swap; none if empty
		swap    uint64
		want    bool
	}{
		"version 1 counts it":         {false, "memory.memsw.limit_in_bytes", 1 << 30, false},
		"version 1 does not count it": {false, "", 1 << 30, true},
		"version 2 counts it":         {true, "memory.swap.max", 1 << 30, false},
		"version 2 does not count it": {true, "", 1 << 30, true},
		"there is none":               {false, "", 0, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			if test.file != "" {
				if err := os.WriteFile(filepath.Join(folder, test.file), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c := &cgroups{unified: test.unified, folders: map[string]string{"memory": folder}}
			if got := c.lacksSwap(test.swap); got != test.want {
				t.Errorf("swap is not counted: %t", got)
			}
		})
	}
	if none := (&cgroups{}); none.lacksSwap(1 << 30) {
		t.Error("where memory is not limited, so is swap: that is said already")
	}
}

func TestAKernelWithoutLandlockIsNotComplete(t *testing.T) {
	t.Parallel()
	for _, has := range []bool{true, false} {
		n := &Namespaces{launcher: launcher{cgroups: &cgroups{folders: map[string]string{"cpu": "x", "memory": "x", "pids": "x"}}, uids: &uids{}}, landlock: has}
		i := n.Isolation()
		i.Unenforced = slices.DeleteFunc(i.Unenforced, func(what string) bool { return what == swapLimit }) // as the machine is
		if i.Complete() != has || slices.Contains(i.Unenforced, "landlock") == has {
			t.Errorf("with Landlock: %t, it is %s", has, i)
		}
	}
}

func TestWhatTheKernelHasCountedIsUnderstood(t *testing.T) {
	t.Parallel()
	f, self := newUnified(t)
	c := &cgroups{folders: map[string]string{}, mkdir: f.mkdir}
	if err := c.find(f.root, self, "warpket-x"); err != nil {
		t.Fatal(err)
	}
	g, err := c.make("a", someLimits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.remove)
	if g.counters() != (Counters{}) || g.refusals() != (Refusals{}) {
		t.Error("empty files count for something")
	}
	for file, content := range map[string]string{
		"cpu.stat":      "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\nnice_usec 0\ncore_sched.force_idle_usec 0\nnr_periods 10\nnr_throttled 4\nthrottled_usec 300000\nnr_bursts 0\nburst_usec 0\n",
		"memory.peak":   "67108864\n",
		"memory.events": "low 0\nhigh 0\nmax 123\noom 5\noom_kill 2\noom_group_kill 0\n",
		"pids.events":   "max 17\n",
	} {
		f.put(filepath.Join(f.root, "warpket.service/warpket-x/1-a", file), content)
	}
	if got, want := g.counters(), (Counters{CPU: 2500 * time.Millisecond, PeakMemory: 64 << 20}); got != want {
		t.Errorf("%+v", got)
	}
	if got, want := g.refusals(), (Refusals{Memory: 2, Processes: 17}); got != want {
		t.Errorf("%+v", got)
	}
	g.remove()
	if g.counters().PeakMemory != 64<<20 || g.refusals().Processes != 17 {
		t.Error("what was counted is forgotten")
	}
}

func TestThisMachinesCgroupsHoldAllLimits(t *testing.T) {
	t.Parallel()
	var stat unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &stat); err != nil || os.Geteuid() != 0 {
		t.Skip("this takes root and cgroups")
	}
	unified := stat.Type == unix.CGROUP2_SUPER_MAGIC
	if has, _ := os.ReadFile("/sys/fs/cgroup/cgroup.controllers"); unified && !strings.Contains(string(has), "memory") {
		t.Skip("version 2 is here, but not its controllers")
	}
	c, err := findCgroups("/sys/fs/cgroup", "/proc/self/cgroup", fmt.Sprintf("warpket-test-%d-limits", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if len(c.missing()) > 0 || c.unified != unified {
		t.Fatalf("missing are %q, unified is %t", c.missing(), c.unified)
	}
	g, err := c.make("x", someLimits)
	if err != nil {
		t.Fatal(err)
	}
	defer g.remove()
	limits := map[string]string{"memory/memory.limit_in_bytes": "268435456", "cpu/cpu.cfs_quota_us": "150000", "pids/pids.max": "64"}
	if unified {
		limits = map[string]string{"memory/memory.max": "268435456", "memory/memory.swap.max": "0", "cpu/cpu.max": "150000 100000", "pids/pids.max": "64"}
	}
	for _, limit := range slices.Sorted(maps.Keys(limits)) {
		controller, file, _ := strings.Cut(limit, "/")
		if b, err := os.ReadFile(g.file(controller, file)); err != nil || strings.TrimSpace(string(b)) != limits[limit] {
			t.Errorf("%s is %q, %v", file, b, err)
		}
	}
	if g.refusals() != (Refusals{}) {
		t.Errorf("%+v", g.refusals())
	}
}

func TestACgroupThatTheKernelTakesLongOverIsRemovedLater(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("it takes root to make a folder busy")
	}
	folder := filepath.Join(t.TempDir(), "busy")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", folder, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	c := &cgroups{closed: make(chan struct{})}
	c.remove(folder)
	if _, err := os.Stat(folder); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(folder, 0); err != nil {
		t.Fatal(err)
	}
	c.late.Wait()
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}
