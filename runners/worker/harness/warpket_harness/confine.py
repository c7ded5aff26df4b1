"""What the kernel offers to keep a process apart, for which Python has no names."""

import ctypes
import fcntl
import os
import socket
import stat
import struct

_C = ctypes.CDLL(None, use_errno=True)
_C.syscall.restype = ctypes.c_long

_FILTER, _EMPTY, _MEMORY = "/.warpket/filter", "/.warpket/empty", "/.warpket/memory"

# What is left of /proc besides processes; runners/sandbox/setup.go has the same list.
_VISIBLE = {
    "cpuinfo",
    "filesystems",
    "meminfo",
    "mounts",
    "net",
    "self",
    "thread-self",
    "version",
}

# prctl
_DUMPABLE = 4
_SECCOMP, _CAPBSET_DROP, _NO_NEW_PRIVS, _CAP_AMBIENT = 22, 24, 38, 47
_CAP_AMBIENT_CLEAR_ALL = 4
_SECCOMP_FILTER = 2

# System calls; these have the same numbers on all architectures since 5.x.
_OPEN_TREE, _MOVE_MOUNT = 428, 429
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_CLOSE_ON_EXEC, _RECURSIVE, _CLONE_TREE = 0o2000000, 0x8000, 1

# mount
_READ_ONLY, _NOSUID, _NODEV, _NOEXEC, _BIND = 1, 2, 4, 8, 1 << 12
_PRIVATE = 1 << 18 | 1 << 14

# Landlock's rights to files, in the order of its versions
_READ = 1 << 0 | 1 << 2 | 1 << 3
_V1, _REFER, _TRUNCATE, _IOCTL = (1 << 13) - 1, 1 << 13, 1 << 14, 1 << 15
_FILE = 1 << 1 | 1 << 2 | _TRUNCATE | _IOCTL
_DEVICES = ("null", "zero", "full", "random", "urandom")


class namespaces:
    """Kinds of namespaces, and how to get into them."""

    MOUNT, CGROUP, UTS, IPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
    PID, NET = 0x20000000, 0x40000000

    @staticmethod
    def unshare(kinds):
        """Puts this process into new ones; for PID: its next child."""
        _check(_C.unshare(kinds), "unshare")

    @staticmethod
    def enter(fd, kind):
        """Puts this process into one that is open."""
        _check(_C.setns(fd, kind), "setns")


def open_namespace(kind):
    """This process's own namespace of a kind, such as "pid"."""
    return os.open("/proc/self/ns/" + kind, os.O_RDONLY)


def mount(source, target, kind, options, noexec=False, read_only=False):
    """Mounts a file system that holds no devices and gives no rights."""
    flags = _NOSUID | _NODEV | (_NOEXEC if noexec else 0) | (_READ_ONLY if read_only else 0)
    result = _C.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode())
    _check(result, "mounting " + target)


def mount_proc():
    """Mounts a /proc that shows this cell's processes and little else."""
    mount("proc", "/proc", "proc", "hidepid=2", noexec=True)
    _bind(_MEMORY, "/proc/meminfo")
    with os.scandir("/proc") as entries:
        hidden = [e for e in entries if e.name not in _VISIBLE and not e.name[0].isdigit()]
    for entry in hidden:
        if entry.is_dir(follow_symlinks=False):
            options = "size=0,nr_inodes=1,mode=555"
            mount("tmpfs", entry.path, "tmpfs", options, noexec=True, read_only=True)
        else:
            _bind(_EMPTY, entry.path)


def _bind(source, target):
    result = _C.mount(source.encode(), target.encode(), None, _BIND, None)
    _check(result, "hiding " + target)


def keep_mounts(paths):
    """Takes copies of mounts that something is about to cover."""
    _check(_C.mount(None, b"/", None, _PRIVATE, None), "leaving the outer mounts")
    kept = []
    for path in paths:
        fd = _C.syscall(_OPEN_TREE, -100, path.encode(), _CLONE_TREE | _CLOSE_ON_EXEC | _RECURSIVE)
        _check(fd, "opening " + path)
        kept.append((fd, path, stat.S_ISDIR(os.stat(path).st_mode)))
    return kept


def move_mount(fd, path, is_folder):
    """Attaches a mount that was kept, where it was."""
    if is_folder:
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o444))
    _check(_C.syscall(_MOVE_MOUNT, fd, b"", -100, path.encode(), 4), "mounting " + path)
    os.close(fd)


def set_up_loopback():
    """Brings up the only network interface that there is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        up_and_running = struct.pack("16sh22x", b"lo", 0x41)
        fcntl.ioctl(any_socket, 0x8914, up_and_running)  # SIOCSIFFLAGS


def undumpable():
    """Lets nobody of the same user look into this process."""
    _check(_C.prctl(_DUMPABLE, 0, 0, 0, 0), "closing the process off")


def confine(uid, writable):
    """Gives up every right that a function does not need, for good."""
    if os.getuid() != uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    _check(_C.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "forbidding new privileges")
    _landlock(writable)
    for capability in range(64):
        if _C.prctl(_CAPBSET_DROP, capability, 0, 0, 0):
            break  # the kernel has no more
    _check(_C.prctl(_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "dropping capabilities")
    header = struct.pack("Ii", 0x20080522, 0)
    _check(_C.capset(header, bytes(24)), "dropping capabilities")
    _filter()


def _landlock(writable):
    version = _C.syscall(_LANDLOCK_CREATE, None, 0, 1)
    if version < 1:
        return  # the kernel has none; the node says so
    files = _V1 | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    files |= _IOCTL if version >= 5 else 0
    scoped = 3 if version >= 6 else 0  # abstract sockets and signals stay inside
    attributes = struct.pack("QQQ", files, 0, scoped)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = _C.syscall(_LANDLOCK_CREATE, attributes, size, 0)
    _check(rules, "restricting files")
    _allow(rules, "/", _READ & files)
    for path in writable:
        _allow(rules, path, files & ~_IOCTL)
    for name in _DEVICES:
        _allow(rules, "/dev/" + name, _FILE & files)
    _check(_C.syscall(_LANDLOCK_RESTRICT, rules, 0), "restricting files")
    os.close(rules)


def _allow(rules, path, rights):
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    rule = struct.pack("=Qi", rights, fd)
    _check(_C.syscall(_LANDLOCK_ADD, rules, 1, rule, 0), "restricting " + path)
    os.close(fd)


def _filter():
    with open(_FILTER, "rb") as file:
        program = ctypes.create_string_buffer(file.read())
    count = (len(program) - 1) // 8
    head = struct.pack("HxxxxxxQ", count, ctypes.addressof(program))
    _check(_C.prctl(_SECCOMP, _SECCOMP_FILTER, head, 0, 0), "filtering system calls")


def _check(result, what):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
