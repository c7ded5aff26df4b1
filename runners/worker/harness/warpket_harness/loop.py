"""The control loop: loads a handler, then runs it for each call, one at a time."""

import contextlib
import gc
import json
import os
import random
import resource
import sys
import time

from . import dispatch, encode, failures, frames
from .context import Context
from .simulators import Simulators

CONTROL, RESULTS = 3, 4


def main(simulators=None):
    """Serves the node until it closes the control stream.

    A process that was made ahead of need has simulators, and says that it is
    ready for whatever it will be given.
    """
    for fd in (CONTROL, RESULTS):
        os.set_inheritable(fd, False)
    if simulators is not None:
        frames.write(RESULTS, frames.PARKED, {})
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    sys.stderr.reconfigure(line_buffering=True, errors="backslashreplace")
    worker = None
    pid = os.getpid()
    with open(CONTROL, "rb", buffering=1 << 16, closefd=False) as control:
        while True:
            frame = frames.read(control)
            if frame is None:
                return
            kind, header, body = frame
            if kind == frames.LOAD:
                worker = Worker(header, simulators or Simulators(), simulators is not None)
                answer, result = worker.load()
                kind = frames.LOADED
            else:
                started, used = time.monotonic(), time.process_time_ns()
                answer, result = worker.run(header, body, started)
                answer["call"] = header["call"]
                answer["ran"] = int((time.monotonic() - started) * 1e9)
                answer["cpu"] = time.process_time_ns() - used
                answer["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
                kind = frames.RESULT
            flush()
            if os.getpid() != pid:  # a fork that the handler made came back from it
                os._exit(0)
            frames.write(RESULTS, kind, answer, result)


class Worker:
    """One handler and what is kept between its executions."""

    def __init__(self, load, simulators, is_warm):
        self._load = load
        self._handler = None
        self._simulators = simulators
        self._is_warm = is_warm
        self._runs = 0

    def load(self):
        """Imports the handler, from the function's folder first."""
        try:
            os.chdir(self._load["folder"])
            for name, value in (self._load["env"] or {}).items():
                os.environ.setdefault(name, value)  # what the worker runs with wins
            if self._load["data_limit"]:
                limit_data(self._load["data_limit"])
            self._simulators.limit(self._load["memory"])
            sys.path.insert(0, self._load["folder"])
            failures.folder = self._load["folder"]
            self._handler = dispatch.load(self._load["entry"])
        except BaseException as error:  # noqa: BLE001 - SystemExit too
            return {"failure": failures.of(error, "import_failed")}, b""
        if "qiskit" in sys.modules and not self._is_warm:
            with contextlib.suppress(Exception):  # a handler need not use the simulator
                self._simulators.warm()
        gc.collect()
        gc.freeze()  # what is there now stays: no collection need look at it again
        return {}, b""

    def run(self, header, body, started):
        """Runs the handler once and encodes what it returns."""
        try:
            event = json.loads(body) if body else None
            context = Context(self._load, header, started, self._runs > 0, self._simulators)
            self._runs += 1
            self._seed(context.seed)
            value = self._handler({} if event is None else event, context)
            result = encode.dumps(value)
            if len(result) > self._load["max_result"]:
                raise failures.Failed(
                    "result_too_large",
                    f"the result has {len(result)} bytes as JSON; "
                    f"at most {self._load['max_result']} are allowed",
                )
            return {}, result
        except encode.NotEncodable as error:
            print(error, file=sys.stderr)
            return {"failure": failures.failure("result_not_encodable", str(error))}, b""
        except BaseException as error:  # noqa: BLE001 - SystemExit too
            return {"failure": failures.of(error)}, b""

    def _seed(self, seed):
        random.seed(seed)
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            numpy.random.seed(seed % (1 << 32))
        self._simulators.start(seed)


def limit_data(size):
    """Bounds the memory of this process, where no cgroup does."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY or size < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def flush():
    """Passes on what the user's code has printed."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed or replaced by the user's code
            stream.flush()
