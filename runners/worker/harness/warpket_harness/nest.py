"""Makes workers inside of a sandbox, each in one of its own.

This process imports the SDK and forks itself ahead of need. It never runs
code of a user, holds no secret, and serves one project. runners/sandbox/nest.go
is the other end.
"""

import contextlib
import gc
import importlib
import json
import os
import random
import resource
import signal
import socket
import sys

from . import loop
from .confine import (
    confine,
    keep_mounts,
    mount,
    mount_proc,
    move_mount,
    namespaces,
    open_namespace,
    set_up_loopback,
    undumpable,
)
from .simulators import Simulators

_SOCKET = 3
_REAPER = "/.warpket/reaper"
_CODE = "/code"
_CODE_SIZE = 16 << 20
_LISTEN = ("127.0.0.1", 3128)  # for the node, the only way out
_MAX_FILES = 4096


def main():
    """Serves the node until it closes the socket."""
    with socket.socket(fileno=_SOCKET) as node:
        first = json.loads(node.recv(1 << 16))
        simulators = _load(first)
        threads = len(os.listdir("/proc/self/task"))
        node.send(json.dumps({"threads": threads, "memory": _resident()}).encode())
        own = open_namespace("pid")
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them here
        while True:
            packet, fds, _, _ = socket.recv_fds(node, 1 << 16, 16)
            if not packet:
                return
            request = json.loads(packet)
            try:
                pidfd = _make(request, fds, node, own, first["below_tmp"], simulators)
            except OSError as error:
                node.send(json.dumps({"error": str(error)}).encode())
            else:
                socket.send_fds(node, [b"{}"], [pidfd])
                os.close(pidfd)
            for fd in fds:
                os.close(fd)


def _load(first):
    """Imports what the SDK needs, and makes what costs most."""
    for name in first["modules"]:
        # A module that is not there, or does not like to be imported on its
        # own, is imported by whoever needs it.
        with contextlib.suppress(BaseException):
            importlib.import_module(name)
    simulators = Simulators()
    if "qiskit_aer" in sys.modules:
        with contextlib.suppress(Exception):
            simulators.prepare()
    gc.collect()
    gc.freeze()  # or the first collection of each child would copy every page
    return simulators


def _resident():
    """How many bytes of memory this process has, those that others share included."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _make(request, fds, node, own, below_tmp, simulators):
    """Forks process 1 of a new cell and gives a pidfd of it."""
    namespaces.unshare(namespaces.PID)
    try:
        pid = os.fork()
    finally:
        # Also in the child, for whom it does nothing.
        if os.getpid() != 1:
            namespaces.enter(own, namespaces.PID)
    if pid == 0:
        status = 1
        try:
            node.close()
            _cell(request, fds, below_tmp, simulators)
            status = 0
        except BaseException as error:  # noqa: BLE001 - whatever it is, it must not go on as its parent
            for output in (2, fds[4]):  # whichever is open here
                with contextlib.suppress(OSError):
                    os.write(output, f"making a sandbox: {error!r}\n".encode())
        finally:
            os._exit(status)
    return os.pidfd_open(pid)


def _cell(request, fds, below_tmp, simulators):
    """Sets up the cell around this process, forks the worker, and becomes its reaper."""
    proceed, status, control, answers, output = fds
    node = socket.socket(fileno=proceed)
    if not node.recv(1):
        return  # the node has given it up
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    namespaces.unshare(
        namespaces.MOUNT | namespaces.NET | namespaces.IPC | namespaces.UTS | namespaces.CGROUP
    )
    kept = keep_mounts(below_tmp)
    size = f"size={request['disk']},nr_inodes={1000 + (request['disk'] >> 12)}"
    mount("tmpfs", "/tmp", "tmpfs", f"mode=1777,{size}")
    mount("tmpfs", "/dev/shm", "tmpfs", f"mode=1777,{size}", noexec=True)
    mount("tmpfs", _CODE, "tmpfs", f"mode=755,size={_CODE_SIZE}")
    mount_proc()
    for fd, path, is_folder in kept:
        move_mount(fd, path, is_folder)
    set_up_loopback()
    with socket.create_server(_LISTEN) as listener:
        socket.send_fds(node, [b"\0"], [listener.fileno()])
    node.close()
    worker = os.fork()
    if worker == 0:
        _worker(request, control, answers, output, simulators)
    reader, writer = os.pipe()
    os.write(writer, worker.to_bytes(4, sys.byteorder))
    # Descriptors above these are this process's own, so none is in the way.
    reader, status = (os.dup2(fd, 50 + n) for n, fd in enumerate((reader, status)))
    os.dup2(reader, 3, inheritable=True)
    os.dup2(status, 4, inheritable=True)
    os.closerange(5, _MAX_FILES)
    for fd in range(3):
        os.close(fd)
    confine(request["uid"], writable=())
    if os.path.getsize(_REAPER):
        os.execve(_REAPER, ["reaper"], {})
    _reap(worker)


def _reap(worker):
    """Is the reaper, where none is written for the machine: see reaper_amd64.go."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # which process 1 does not get
    undumpable()
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.wait()
            if pid == worker:
                os.write(4, status.to_bytes(4, sys.byteorder))
                return


def _worker(request, control, answers, output, simulators):
    """Gives up all rights, warms up, and serves calls."""
    os.setsid()
    null = os.open("/dev/null", os.O_RDONLY)
    moved = [os.dup2(fd, 50 + n) for n, fd in enumerate((null, output, output, control, answers))]
    for n, fd in enumerate(moved):
        os.dup2(fd, n, inheritable=n < 3)
    os.closerange(5, _MAX_FILES)
    # The old ones believe to be what their descriptors were before.
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    if request["processes"]:
        resource.setrlimit(resource.RLIMIT_NPROC, (request["processes"],) * 2)
    confine(request["uid"], writable=("/tmp", "/dev/shm"))
    _reseed()
    if "qiskit_aer" in sys.modules:
        with contextlib.suppress(Exception):  # who needs the simulator will see
            simulators.warm()
    loop.main(simulators)
    os._exit(0)


def _reseed():
    """Makes this process's random numbers its own: a fork has its parent's."""
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()
