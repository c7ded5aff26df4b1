"""Attacks a sandbox from within, and the same machine from outside for comparison.

Each function below tries one thing and returns what came of it: "ok" if it
worked, otherwise the name of the error. Each runs in a process of its own.
The one argument is JSON: what there is to attack, and "only" or "without" some
of the functions. The answer is JSON as well.
"""

import ctypes
import errno
import json
import mmap
import os
import resource
import signal
import socket
import stat
import struct
import sys
import time

SYS_PTRACE, SYS_UNSHARE, SYS_CLONE, SYS_CLONE3 = 101, 272, 56, 435
NEW = {
    "ns": 0x20000,
    "cgroup": 0x2000000,
    "uts": 0x4000000,
    "ipc": 0x8000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
}
AT_FDCWD = -100

libc = ctypes.CDLL(None, use_errno=True)
given = json.loads(sys.argv[1])
attacks = {}


def attack(function):
    attacks[function.__name__] = function
    return function


def call(number, *arguments):
    """Makes a system call: its result, or OSError."""
    libc.syscall.restype = ctypes.c_long
    result = libc.syscall(
        *[ctypes.c_long(number)]
        + [
            a
            if isinstance(a, (bytes, ctypes.Array, ctypes.Structure)) or a is None
            else ctypes.c_long(a)
            for a in arguments
        ]
    )
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def alone():
    """Outside, what would touch the machine's mounts gets mounts of its own."""
    if not given["outside"]:
        return
    if os.geteuid() == 0:
        call(SYS_UNSHARE, NEW["ns"])
    else:
        call(SYS_UNSHARE, NEW["user"] | NEW["ns"])
    if libc.mount(None, b"/", None, 0x4000 | 0x40000, None):  # MS_REC|MS_PRIVATE
        raise OSError(errno.EIO, "making mounts private")


def result(code):
    if code != 0:
        raise OSError(ctypes.get_errno(), "")
    return "ok"


def victim():
    """A child of our own, which sleeps."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    return pid


def target():
    """Inside, process 1; outside a child of our own stands for it."""
    return victim() if given["outside"] else 1


def connect(family, kind, address):
    s = socket.socket(family, kind)
    s.settimeout(20)
    s.connect(address)
    return "ok"


def status(name):
    with open("/proc/self/status") as file:
        for line in file:
            key, value = line.split(":", 1)
            if key == name:
                return value.strip()
    return "absent"


def mounts():
    with open("/proc/self/mountinfo") as file:
        for line in file:
            fields = line.split()
            dash = fields.index("-")
            yield fields[4], set(fields[5].split(",")), fields[dash + 1]


def is_null(path):
    device = os.lstat(path)
    return stat.S_ISCHR(device.st_mode) and device.st_rdev == os.makedev(1, 3)


# Files.


@attack
def read_a_secret():
    with open(given["secret"]) as file:
        file.read()
    return "ok"


@attack
def list_another_tenant():
    os.listdir(given["tenant"])
    return "ok"


@attack
def read_a_private_file_in_a_listed_folder():
    with open(given["sdk"] + "/private") as file:
        file.read()
    return "ok"


@attack
def find_the_machines_files():
    found = [
        p
        for p in (
            "/root",
            "/home",
            "/var",
            "/etc/shadow",
            "/etc/ssh",
            "/etc/ssl/private",
            "/boot",
            "/sys",
            "/run",
            "/dev/pts",
            "/dev/tty",
            "/dev/mem",
        )
        if os.path.lexists(p)
    ]
    return " ".join(found) or "nothing"


@attack
def write_to_a_listed_file():
    open(given["sdk"] + "/open", "a").close()
    return "ok"


@attack
def make_a_file_in_a_listed_folder():
    open(given["sdk"] + "/new", "w").close()
    os.unlink(given["sdk"] + "/new")
    return "ok"


@attack
def change_the_mode_of_a_listed_file():
    os.chmod(given["sdk"] + "/open", 0o666)
    return "ok"


@attack
def link_a_listed_file_into_a_writable_folder():
    os.link(given["sdk"] + "/open", given["scratch"] + "/link")
    os.unlink(given["scratch"] + "/link")
    return "ok"


@attack
def write_beside_the_system():
    open("/new", "w").close()
    return "ok"


@attack
def write_to_the_system():
    open("/usr/new", "w").close()
    return "ok"


@attack
def replace_process_1():
    os.rename("/.warpket/reaper", "/.warpket/other")
    return "ok"


@attack
def remount_a_listed_folder_writable():
    alone()
    path = given["sdk"].encode()
    if given["outside"]:
        result(libc.mount(path, path, None, 0x1000, None))  # MS_BIND
    return result(libc.mount(None, path, None, 0x1000 | 0x20, None))  # MS_BIND|MS_REMOUNT


@attack
def set_the_attributes_of_a_mount():
    alone()
    path = given["sdk"].encode()
    if given["outside"]:
        result(libc.mount(path, path, None, 0x1000, None))
    call(442, AT_FDCWD, path, 0, struct.pack("QQQQ", 0, 1, 0, 0), 32)  # clears MOUNT_ATTR_RDONLY
    return "ok"


@attack
def mount_a_tmpfs():
    alone()
    return result(libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None))


@attack
def mount_proc():
    alone()
    if given["outside"]:
        call(SYS_UNSHARE, NEW["pid"])
        pid = os.fork()
        if pid:
            return "ok" if os.waitpid(pid, 0)[1] == 0 else "EPERM"
        os._exit(libc.mount(b"proc", b"/proc", b"proc", 0, None) != 0)
    return result(libc.mount(b"proc", b"/tmp", b"proc", 0, None))


@attack
def unmount():
    alone()
    if given["outside"]:
        mount_a_tmpfs()
    return result(libc.umount2(b"/tmp", 2))


@attack
def pivot_root():
    alone()
    result(libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None)) if given["outside"] else None
    os.chdir("/tmp")
    call(155, b".", b".")
    return "ok"


@attack
def chroot():
    alone()
    os.chroot("/tmp")
    return "ok"


@attack
def open_tree():
    alone()
    call(428, AT_FDCWD, b"/tmp", 1)  # OPEN_TREE_CLONE
    return "ok"


@attack
def fsopen():
    alone()
    call(430, b"tmpfs", 0)
    return "ok"


@attack
def move_mount():
    alone()
    if given["outside"]:
        mount_a_tmpfs()
    call(429, AT_FDCWD, b"/tmp", AT_FDCWD, b"/dev/shm", 0)
    return "ok"


@attack
def open_by_handle():
    handle = struct.pack("Ii", 128, 0) + bytes(128)
    handle = ctypes.create_string_buffer(handle)
    mount_id = ctypes.create_string_buffer(4)
    call(
        303,
        AT_FDCWD,
        b"/usr",
        ctypes.cast(handle, ctypes.c_void_p).value,
        ctypes.cast(mount_id, ctypes.c_void_p).value,
        0,
    )
    return "ok"


@attack
def make_a_character_device():
    path = given["scratch"] + "/node"
    os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.unlink(path)
    return "ok"


@attack
def make_a_block_device():
    path = given["scratch"] + "/block"
    os.mknod(path, 0o666 | stat.S_IFBLK, os.makedev(7, 0))
    os.unlink(path)
    return "ok"


@attack
def find_devices():
    found = []
    for folder, _, files in os.walk("/dev"):
        for name in files:
            path = os.path.join(folder, name)
            if stat.S_IFMT(os.lstat(path).st_mode) in (stat.S_IFCHR, stat.S_IFBLK):
                found.append(path)
    return " ".join(sorted(found))


@attack
def see_mounts_that_are_too_open():
    wrong = []
    devices = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}
    for path, flags, kind in mounts():
        want = {"nosuid"}
        if path in devices or is_null(path):
            want |= {"noexec"}
        else:
            want |= {"nodev"}
        if path == "/dev/shm" or path == "/proc":
            want |= {"noexec"}
        if not is_null(path) and path not in devices | {
            "/tmp",
            "/dev/shm",
            "/proc",
            given["scratch"],
        }:
            want |= {"ro"}
        if want - flags:
            wrong.append(path + " lacks " + ",".join(sorted(want - flags)))
        if kind in (
            "cgroup",
            "cgroup2",
            "sysfs",
            "debugfs",
            "tracefs",
            "securityfs",
            "bpf",
            "mqueue",
            "devpts",
        ):
            wrong.append(path + " is a " + kind)
    return "; ".join(wrong) or "none"


@attack
def run_code_from_shared_memory():
    with open("/dev/shm/code", "wb") as file:
        file.write(bytes(4096))
    file = os.open("/dev/shm/code", os.O_RDONLY)
    os.unlink("/dev/shm/code")
    mmap.mmap(file, 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
    return "ok"


# The network.


@attack
def reach_the_machines_loopback():
    return connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", given["port"]))


@attack
def reach_the_machines_loopback_by_ipv6():
    return connect(socket.AF_INET6, socket.SOCK_STREAM, ("::1", given["port6"]))


@attack
def route_to_the_internet():
    return connect(
        socket.AF_INET, socket.SOCK_DGRAM, ("198.51.100.1", 9)
    )  # TEST-NET-2; sends nothing


@attack
def route_to_the_internet_by_tcp():
    if given["outside"]:
        return "not tried"
    return connect(socket.AF_INET, socket.SOCK_STREAM, ("198.51.100.1", 80))


@attack
def route_to_the_clouds_metadata():
    return connect(socket.AF_INET, socket.SOCK_DGRAM, ("169.254.169.254", 80))


@attack
def reach_an_abstract_socket():
    return connect(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + given["abstract"])


@attack
def reach_a_socket_by_its_path():
    return connect(socket.AF_UNIX, socket.SOCK_STREAM, given["socket"])


@attack
def use_the_own_loopback():
    server = socket.create_server(("127.0.0.1", 0))
    return connect(socket.AF_INET, socket.SOCK_STREAM, server.getsockname())


@attack
def use_an_own_abstract_socket():
    server = socket.socket(socket.AF_UNIX)
    server.bind("\0own" + str(os.getpid()))
    server.listen()
    return connect(socket.AF_UNIX, socket.SOCK_STREAM, server.getsockname())


def opens(name, family, kind, protocol=0):
    def try_it():
        socket.socket(family, kind, protocol).close()
        return "ok"

    attacks["open_a_socket_for_" + name] = try_it


opens("netlink", 16, socket.SOCK_RAW)
opens("packets", 17, socket.SOCK_RAW, 0x300)
opens("the_kernels_ciphers", 38, socket.SOCK_SEQPACKET)
opens("the_hypervisor", 40, socket.SOCK_STREAM)
opens("bluetooth", 31, socket.SOCK_RAW, 1)
opens("can", 29, socket.SOCK_RAW, 1)
opens("tipc", 30, socket.SOCK_RDM)
opens("xdp", 44, socket.SOCK_RAW)
opens("raw_ip", socket.AF_INET, socket.SOCK_RAW, 1)
opens("raw_ipv6", socket.AF_INET6, socket.SOCK_RAW, 58)


def families(number, *rest):
    found = []
    for family in range(64):
        for high in (0, 1 << 32):
            try:
                call(number, family | high, *rest)
            except OSError as error:
                if error.errno == errno.EPERM:
                    continue
            found.append("%#x" % (family | high))
    return " ".join(found)


@attack
def open_sockets_of_all_families():
    return families(41, socket.SOCK_DGRAM, 0)


@attack
def open_pairs_of_sockets_of_all_families():
    pair = ctypes.create_string_buffer(8)
    return families(53, socket.SOCK_DGRAM, 0, ctypes.addressof(pair))


# Other processes.


@attack
def see_other_processes():
    mine = {os.getpid(), os.getppid()}
    others = [n for n in os.listdir("/proc") if n.isdigit() and int(n) not in mine]
    return "ok" if [n for n in others if n != "1"] else "nothing"


@attack
def signal_a_process_of_the_machine():
    os.kill(given["pid"], 0)
    return "ok"


@attack
def look_at_a_process_of_the_machine():
    with open(f"/proc/{given['pid']}/status") as file:
        file.read()
    return "ok"


def reads(name, path, flags=os.O_RDONLY):
    def try_it():
        os.open(f"/proc/{target()}/{path}", flags)
        return "ok"

    attacks[name] = try_it


reads("read_the_memory_of_process_1", "mem")
reads("write_the_memory_of_process_1", "mem", os.O_RDWR)
reads("read_the_environment_of_process_1", "environ")
reads("read_the_maps_of_process_1", "maps")
reads("open_the_program_of_process_1", "exe")
reads("open_the_root_of_process_1", "root")
reads("open_a_namespace_of_process_1", "ns/mnt")


@attack
def write_to_a_descriptor_of_process_1():
    if not given["outside"]:
        os.open("/proc/1/fd/4", os.O_WRONLY)
        return "ok"
    os.open(f"/proc/{target()}/fd/2", os.O_WRONLY)
    return "ok"


@attack
def attach_to_process_1():
    call(SYS_PTRACE, 0x4206, target(), 0, 0)  # PTRACE_SEIZE
    return "ok"


@attack
def be_traced():
    call(SYS_PTRACE, 0, 0, 0, 0)
    return "ok"


def moves_memory(name, number):
    def try_it():
        here = ctypes.create_string_buffer(8)
        vector = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(here), 8))
        call(number, victim(), ctypes.addressof(vector), 1, ctypes.addressof(vector), 1, 0)
        return "ok"

    attacks[name] = try_it


moves_memory("read_the_memory_of_a_child", 310)
moves_memory("write_the_memory_of_a_child", 311)


@attack
def compare_with_a_child():
    call(312, os.getpid(), victim(), 1, 0, 0)  # KCMP_VM
    return "ok"


@attack
def take_a_descriptor_of_a_child():
    call(438, os.pidfd_open(victim()), 0, 0)
    return "ok"


@attack
def signal_process_1():
    if given["outside"]:
        return "not tried"
    os.kill(1, signal.SIGKILL)
    os.kill(1, signal.SIGTERM)
    return "survived" if os.path.exists("/proc/self") else "ok"


@attack
def share_memory_with_the_machine():
    call(29, given["memory"], 1, 0)  # shmget
    return "ok"


# More of the kernel.


@attack
def join_a_namespace():
    alone()
    call(308, os.open("/proc/self/ns/uts", os.O_RDONLY), 0)
    return "ok"


@attack
def load_a_bpf_map():
    call(
        321, 0, struct.pack("IIIII", 2, 4, 8, 1, 0) + bytes(100), 120
    )  # BPF_MAP_CREATE of an array
    return "ok"


@attack
def watch_performance():
    attributes = bytearray(112)
    struct.pack_into("IIQ", attributes, 0, 1, 112, 0)  # PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK
    struct.pack_into("Q", attributes, 40, 1 << 5 | 1 << 6)  # exclude_kernel, exclude_hv
    call(298, bytes(attributes), 0, -1, -1, 0)
    return "ok"


@attack
def handle_page_faults():
    call(323, 1)  # UFFD_USER_MODE_ONLY
    return "ok"


@attack
def make_an_io_uring():
    parameters = ctypes.create_string_buffer(120)
    call(425, 4, ctypes.addressof(parameters))
    return "ok"


@attack
def find_the_sessions_keys():
    call(250, 0, -3, 1)  # KEYCTL_GET_KEYRING_ID of the session's
    return "ok"


@attack
def add_a_key():
    call(248, b"user", b"warpket-test", b"x", 1, -2)
    return "ok"


@attack
def change_the_clock():
    # The present time, and only from inside.
    if given["outside"]:
        return "not tried"
    time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME))
    return "ok"


@attack
def read_the_kernels_log():
    call(103, 10, 0, 0)  # SYSLOG_ACTION_SIZE_BUFFER
    return "ok"


def unshares(kind):
    def try_it():
        if kind != "user":
            alone()
        call(SYS_UNSHARE, NEW[kind])
        return "ok"

    attacks["unshare_" + kind] = try_it


def clones(kind):
    def try_it():
        if kind != "user":
            alone()
        pid = call(SYS_CLONE, NEW[kind] | signal.SIGCHLD, 0, 0, 0, 0)
        if pid == 0:
            os._exit(0)
        return "ok"

    attacks["clone_" + kind] = try_it


for kind in NEW:
    unshares(kind)
    clones(kind)


@attack
def unshare_time():
    alone()
    call(SYS_UNSHARE, 0x80)
    return "ok"


def clone3(flags):
    arguments = ctypes.create_string_buffer(
        struct.pack("QQQQQQQQ", flags, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    )
    pid = call(SYS_CLONE3, ctypes.addressof(arguments), 64)
    if pid == 0:
        os._exit(0)
    return "ok"


@attack
def clone3_user():
    return clone3(NEW["user"])


@attack
def clone3_plain():
    return clone3(0)


@attack
def call_by_x32():
    call(0x40000000 | 39)
    return "ok"


def call_by_int80(*arguments):
    """Makes a 32-bit system call, whose numbers are others."""
    registers = b"".join(
        bytes([op]) + struct.pack("<I", a)
        for op, a in zip((0xB8, 0xBB, 0xB9, 0xBA), (*arguments, 0, 0, 0), strict=False)
    )
    code = (
        b"\x53" + registers + b"\xcd\x80\x5b\xc3"
    )  # push rbx; mov eax, ebx, ecx, edx; int 0x80; pop rbx; ret
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
    value = function()
    if value < 0:
        raise OSError(-value, "")
    return "ok"


@attack
def call_by_int80_getpid():
    return call_by_int80(20)


@attack
def call_by_int80_unshare_user():
    return call_by_int80(310, NEW["user"])


# Who we are.


@attack
def be_root():
    return "ok" if 0 in os.getresuid() + os.getresgid() else "no"


@attack
def belong_to_groups():
    return " ".join(map(str, sorted(os.getgroups()))) or "none"


@attack
def become_root():
    os.setresuid(0, 0, 0)
    return "ok"


@attack
def become_another_user():
    os.setresuid(1234, 1234, 1234)
    return "ok"


@attack
def join_roots_group():
    os.setgroups([0])
    return "ok"


@attack
def have_capabilities():
    return " ".join(sorted({status(n) for n in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}))


@attack
def raise_a_capability():
    header = struct.pack("Ii", 0x20080522, 0)
    result(libc.capset(header, struct.pack("IIIIII", 1 << 21, 1 << 21, 0, 0, 0, 0)))
    return "ok"


@attack
def gain_privileges():
    return "NoNewPrivs {}, Seccomp {}".format(status("NoNewPrivs"), status("Seccomp"))


@attack
def run_a_setuid_program():
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 1)
        os.execv(given["setuid"], ["id", "-u"])
    os.close(writer)
    uid = os.read(reader, 16).decode().strip()
    os.waitpid(pid, 0)
    return uid


@attack
def run_in_real_time():
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    return "ok"


@attack
def be_nicer_to_oneself():
    os.setpriority(os.PRIO_PROCESS, 0, -5)
    return "ok"


@attack
def raise_a_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard + 1))
    return "ok"


@attack
def dump_core():
    return "{} {}".format(*resource.getrlimit(resource.RLIMIT_CORE))


@attack
def escape_when_memory_runs_out():
    with open("/proc/self/oom_score_adj", "r+") as file:
        value = file.read()
        file.seek(0)
        file.write(value)
    return "ok"


@attack
def name_the_host():
    socket.sethostname("evil") if not given["outside"] else None
    return "ok"


@attack
def learn_the_hosts_name():
    return socket.gethostname()


@attack
def learn_the_environment():
    return " ".join(sorted(os.environ))


@attack
def learn_the_descriptors():
    found = []
    for number in os.listdir("/proc/self/fd"):
        if os.path.exists("/proc/self/fd/" + number) and int(number) != given["answer"]:
            found.append(number)
    return " ".join(sorted(found))


@attack
def learn_the_cgroup():
    with open("/proc/self/cgroup") as file:
        return " ".join(sorted({line.strip().split(":", 2)[2] for line in file}))


@attack
def learn_about_the_machine():
    return " ".join(sorted(n for n in os.listdir("/proc") if not n.isdigit() and _tells(n)))


def _tells(name):
    path = "/proc/" + name
    if os.path.islink(path):
        return False
    try:
        if os.path.isdir(path):
            return bool(os.listdir(path))
        with open(path, "rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


@attack
def write_to_the_code():
    path = "/code/new" if not given["outside"] else given["scratch"] + "/new"
    with open(path, "w"):
        return "ok"


@attack
def learn_the_umask():
    return f"{os.umask(0):03o}"


@attack
def type_into_a_terminal():
    import fcntl
    import termios

    if given["outside"]:
        terminal = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    else:
        terminal = os.open("/dev/tty", os.O_RDWR)
    fcntl.ioctl(terminal, termios.TIOCSTI, b"x")
    return "ok"


def run(function):
    """Runs an attack in a process of its own, which cannot spoil the next."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        given["answer"] = writer
        os.close(reader)
        try:
            answer = function()
        except OSError as error:
            answer = errno.errorcode.get(error.errno, str(error))
        except ValueError as error:
            answer = str(error)
        os.write(writer, answer.encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(writer)
    answer = b""
    while part := os.read(reader, 4096):
        answer += part
    os.close(reader)
    _, ended = os.waitpid(pid, 0)
    if not answer:
        return (
            signal.Signals(os.WTERMSIG(ended)).name
            if os.WIFSIGNALED(ended)
            else f"exit {os.WEXITSTATUS(ended)}"
        )
    return answer.decode()


if __name__ == "__main__":
    wanted = given.get("only") or [name for name in attacks if name not in given.get("without", [])]
    json.dump({name: run(attacks[name]) for name in wanted}, sys.stdout)
