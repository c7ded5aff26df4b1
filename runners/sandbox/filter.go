package sandbox

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	moby "github.com/moby/profiles/seccomp"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// withheld are calls of Docker's list that functions do not get: they look
// into other processes, or reach what only the machine's owner needs.
var withheld = []string{
	"ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd", "process_madvise", "process_mrelease",
	"name_to_handle_at", "open_tree", "adjtimex", "clock_adjtime", "personality", "vmsplice",
	// These are let through with conditions below.
	"clone", "clone3", "socket", "socketpair",
}

const newNamespace = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP

// newFilter gives the filter of system calls as the kernel takes it: what
// Docker's default profile allows a container without capabilities, less the
// calls withheld. Everything else answers EPERM.
func newFilter() ([]byte, error) {
	this, err := arch.GetInfo("")
	if err != nil {
		return nil, fmt.Errorf("making the filter of system calls: %w", err)
	}
	allowed := map[string]bool{}
	for _, rule := range moby.DefaultProfile().Syscalls {
		conditional := len(rule.Args) > 0 || rule.Includes != nil && (len(rule.Includes.Caps) > 0 || len(rule.Includes.Arches) > 0 && !slices.Contains(rule.Includes.Arches, runtime.GOARCH))
		if conditional || rule.Action != "SCMP_ACT_ALLOW" {
			continue
		}
		for _, name := range rule.Names {
			_, known := this.SyscallNames[name]
			allowed[name] = known && !slices.Contains(withheld, name)
		}
	}
	var names []string
	for name, ok := range allowed {
		if ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	when := func(name string, conditions ...seccomp.Condition) seccomp.NameWithConditions {
		return seccomp.NameWithConditions{Name: name, Conditions: conditions}
	}
	is := func(value uint64) seccomp.Condition {
		return seccomp.Condition{Argument: 0, Operation: seccomp.Equal, Value: value}
	}
	policy := seccomp.Policy{
		DefaultAction: seccomp.ActionErrno,
		Syscalls: []seccomp.SyscallGroup{
			// Its flags are in memory, where a filter cannot look. C libraries go on with clone.
			{Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS), Names: []string{"clone3"}},
			{Action: seccomp.ActionAllow, NamesWithCondtions: []seccomp.NameWithConditions{
				when("clone", seccomp.Condition{Argument: 0, Operation: seccomp.BitsNotSet, Value: newNamespace}),
				when("socket", is(unix.AF_UNIX)), when("socket", is(unix.AF_INET)), when("socket", is(unix.AF_INET6)),
				when("socketpair", is(unix.AF_UNIX)),
			}},
			{Action: seccomp.ActionAllow, Names: names},
		},
	}
	instructions, err := policy.Assemble()
	if err != nil {
		return nil, fmt.Errorf("making the filter of system calls: %w", err)
	}
	raw, err := bpf.Assemble(instructions)
	if err != nil {
		return nil, fmt.Errorf("making the filter of system calls: %w", err)
	}
	var program []byte // of struct sock_filter
	for _, r := range raw {
		program = binary.NativeEndian.AppendUint16(program, r.Op)
		program = append(program, r.Jt, r.Jf)
		program = binary.NativeEndian.AppendUint32(program, r.K)
	}
	return program, nil
}
