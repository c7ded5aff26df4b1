package sandbox_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/warpket/warpket/runners/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Main()
	if os.Geteuid() == 0 {
		_ = syscall.Setgroups([]int{agentsGroup})
	}
	before := held()
	code := m.Run()
	if left := more(before, held()); len(left) > 0 && code == 0 {
		fmt.Fprintf(os.Stderr, "FAIL: the tests leave behind:\n%s\n", strings.Join(left, "\n"))
		code = 1
	}
	os.Exit(code)
}

const agentsGroup = 65_432 // which no program may be in

// held is what sandboxes take of the machine and this process: open files,
// mounts, processes, cgroups, and the ranges of user IDs, which are open files.
func held() (all []string) {
	files, _ := filepath.Glob("/proc/self/fd/*")
	for _, file := range files {
		target, err := os.Readlink(file)
		if err != nil || strings.HasPrefix(target, "anon_inode:[event") {
			continue // the one used to list them; Go's own, opened when first needed
		}
		all = append(all, "open file "+target)
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for mount := range strings.Lines(string(mounts)) {
		all = append(all, "mount "+strings.TrimSpace(mount))
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, process := range processes {
		b, _ := os.ReadFile(process)
		_, rest, _ := strings.Cut(string(b), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == fmt.Sprint(os.Getpid()) {
			all = append(all, "process "+string(b))
		}
	}
	for _, pattern := range []string{"*/warpket-*test-%d-*", "*/*/warpket-*test-%d-*", "*/*/*/warpket-*test-%d-*", "*/*/*/*/warpket-*test-%d-*"} {
		cgroups, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup", fmt.Sprintf(pattern, os.Getpid())))
		for _, cgroup := range cgroups {
			all = append(all, "cgroup "+cgroup)
		}
	}
	return all
}

// more is what is in the second list and not, or not as often, in the first.
func more(before, after []string) (left []string) {
	before = slices.Clone(before)
	for _, thing := range after {
		if i := slices.Index(before, thing); i >= 0 {
			before = slices.Delete(before, i, i+1)
		} else {
			left = append(left, thing)
		}
	}
	return left
}
