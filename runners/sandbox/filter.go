package sandbox

import (
	"encoding/binary"
	"fmt"
	"maps"
	"runtime"
	"slices"

	"github.com/elastic/go-seccomp-bpf/arch"
	moby "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
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
	"chmod", "fchmod", "fchmodat", "fchmodat2", "open", "openat", "openat2", "creat", "mknod", "mknodat",
}

// setID are the modes by which a file lends its owner's rights. What is
// mounted for writing may belong to the agent outside.
const setID = unix.S_ISUID | unix.S_ISGID

const newNamespace = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP

// newFilter gives the filter of system calls as the kernel takes it: what
// Docker's default profile allows a container without capabilities, less the
// calls withheld. Everything else answers EPERM.
func newFilter() ([]byte, error) {
	this, err := arch.GetInfo("")
	if err != nil {
		return nil, fmt.Errorf("making the filter of system calls: %w", err)
	}
	raw, err := bpf.Assemble(filter(this, allowedCalls(this)))
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

// allowedCalls are those that are let through whatever their arguments are.
func allowedCalls(this *arch.Info) []string {
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
	return names
}

// families are those of sockets that a program may open; of pairs, the first.
var families = []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6}

// modeAt is where calls have the mode of a file.
var modeAt = map[string]uint32{"chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2, "creat": 1, "mknod": 1, "mknodat": 2}

// openAt is where calls have flags by which they may make a file, whose mode follows.
var openAt = map[string]uint32{"open": 1, "openat": 2}

// makesFile are the flags by which a file is made.
const makesFile = unix.O_CREAT | unix.O_TMPFILE&^unix.O_DIRECTORY

// Where a filter finds what it decides on (struct seccomp_data). Arguments are
// 64 bits wide, and their order is that of every machine we run on.
const (
	callAt     = 0
	archAt     = 4
	argumentAt = 16 // the first one; its upper half follows
)

const (
	allow      = unix.SECCOMP_RET_ALLOW
	notAllowed = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	notThere   = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	wide       = 4 // bytes that a filter loads at a time
)

// filter decides about a call with the calls named, which are allowed, and
// with those that are allowed on conditions. Whatever loads something else
// than the call's number goes on to an answer, so that no argument is ever
// taken for a number.
func filter(this *arch.Info, names []string) []bpf.Instruction {
	number := func(name string) uint32 { return uint32(this.SyscallNames[name]) } //nolint:gosec // a small number
	answer := func(with uint32) bpf.Instruction { return bpf.RetConstant{Val: with} }
	load := func(at uint32) bpf.Instruction { return bpf.LoadAbsolute{Off: at, Size: wide} }

	program := []bpf.Instruction{
		load(archAt),
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(this.ID), SkipTrue: 1},
		answer(notAllowed),
		load(callAt),
		// Calls that are newer than we know have an older way, which this answer
		// asks for. The x32 calls, the same under other numbers, are up there too.
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: uint32(slices.Max(slices.Collect(maps.Values(this.SyscallNames)))), SkipFalse: 1}, //nolint:gosec // a small number
		answer(notThere),
	}
	on := func(name string, decision ...bpf.Instruction) {
		if _, known := this.SyscallNames[name]; !known {
			return
		}
		program = append(program, bpf.JumpIf{Cond: bpf.JumpEqual, Val: number(name), SkipFalse: uint8(len(decision))}) //nolint:gosec // few
		program = append(program, decision...)
	}
	for _, name := range names {
		on(name, answer(allow))
	}
	// Their flags are in memory, where a filter cannot look. Programs go on with the older calls.
	on("clone3", answer(notThere))
	on("openat2", answer(notThere))
	on("clone", load(argumentAt),
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: newNamespace, SkipFalse: 1}, answer(notAllowed), answer(allow))
	family := func(families ...uint32) []bpf.Instruction {
		decision := []bpf.Instruction{load(argumentAt + wide), bpf.JumpIf{Cond: bpf.JumpEqual, SkipTrue: 1}, answer(notAllowed), load(argumentAt)}
		for _, f := range families {
			decision = append(decision, bpf.JumpIf{Cond: bpf.JumpEqual, Val: f, SkipFalse: 1}, answer(allow))
		}
		return append(decision, answer(notAllowed))
	}
	on("socket", family(families...)...)
	on("socketpair", family(families[0])...)
	mode := func(argument uint32) []bpf.Instruction {
		return []bpf.Instruction{
			load(argumentAt + 2*wide*argument), bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: setID, SkipFalse: 1}, answer(notAllowed), answer(allow),
		}
	}
	for name, argument := range modeAt {
		on(name, mode(argument)...)
	}
	for name, flags := range openAt {
		// Where no file is made, the mode is whatever was in the register.
		on(name, append([]bpf.Instruction{
			load(argumentAt + 2*wide*flags), bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: makesFile, SkipTrue: 1}, answer(allow),
		}, mode(flags+1)...)...)
	}
	return append(program, answer(notAllowed))
}

// gvisorFilter is the same filter as gVisor's kernel takes it. That one answers
// EPERM only, on which programs do not go on with an older call: so it allows
// clone3, whose flags reach only that kernel's own namespaces, and withholds
// openat2, which programs of today do without.
func gvisorFilter() (*specs.LinuxSeccomp, error) {
	this, err := arch.GetInfo("")
	if err != nil {
		return nil, fmt.Errorf("making the filter of system calls: %w", err)
	}
	s := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
	on := func(names []string, conditions ...specs.LinuxSeccompArg) {
		s.Syscalls = append(s.Syscalls, specs.LinuxSyscall{Names: names, Action: specs.ActAllow, Args: conditions})
	}
	without := func(argument uint32, bits uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: uint(argument), Op: specs.OpMaskedEqual, Value: bits}
	}
	on(append(allowedCalls(this), "clone3"))
	on([]string{"clone"}, without(0, newNamespace))
	for i, f := range families {
		one := specs.LinuxSeccompArg{Op: specs.OpEqualTo, Value: uint64(f)}
		on([]string{"socket"}, one)
		if i == 0 {
			on([]string{"socketpair"}, one)
		}
	}
	for name, argument := range modeAt {
		on([]string{name}, without(argument, setID))
	}
	for name, flags := range openAt {
		on([]string{name}, without(flags, makesFile))
		on([]string{name}, without(flags+1, setID))
	}
	return s, nil
}
