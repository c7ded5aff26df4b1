"""Failures as the node records them: a code, a message, a traceback."""

import _thread
import errno
import os
import sys
import traceback

_HARNESS = os.path.dirname(os.path.abspath(__file__)) + os.sep
folder = os.getcwd()  # of the function's files
_MAX_MESSAGE = 4 << 10
_MAX_TRACEBACK = 32 << 10


class Failed(Exception):
    """A failure that has its code already."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def failure(code, message, text=""):
    """A failure with its bounds kept."""
    return {
        "code": code,
        "message": _cut(message, _MAX_MESSAGE),
        "traceback": _cut(text, _MAX_TRACEBACK),
    }


def of(error, code="raised"):
    """The failure that an exception is, printed to the log as Python would."""
    if isinstance(error, Failed):
        print(error, file=sys.stderr)
        return failure(error.code, str(error))
    if isinstance(error, SystemExit):
        return failure("exited", _exit_message(error))
    if isinstance(error, MemoryError):
        code = "out_of_memory"
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        code = "disk_full"
    elif type(error) in (BlockingIOError, RuntimeError) and _no_more_threads():
        code = "too_many_processes"
    text = describe(error)
    print(text, end="", file=sys.stderr)
    return failure(code, one_line(error), text)


def _no_more_threads():
    """Whether nothing more can be started now: what the error says is no proof."""
    try:
        _thread.start_new_thread(int, ())
    except RuntimeError:
        return True
    return False


def one_line(error):
    """An exception as "ValueError: message"."""
    name = type(error).__name__
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - a __str__ that raises is no reason to fail here
        return name
    return name + ": " + message if message else name


def describe(error):
    """The traceback of an exception without the frames that are not the user's."""
    report = traceback.TracebackException.from_exception(error)
    _prune(report)
    return _relative("".join(report.format()))


def _prune(report):
    report.stack[:] = [
        frame
        for frame in report.stack
        if not frame.filename.startswith((_HARNESS, "<frozen importlib"))
    ]
    nested = [report.__cause__, report.__context__, *(getattr(report, "exceptions", None) or ())]
    for inner in nested:
        if inner is not None:
            _prune(inner)


def _relative(text):
    """Names files from the function's folder or the environment's packages."""
    packages = [p for p in sys.path if p.endswith("site-packages")]
    for path in [folder, *packages]:
        text = text.replace('File "' + path + os.sep, 'File "')
    return text


def _exit_message(error):
    if error.code is None:
        return "the code called sys.exit(0)"
    if isinstance(error.code, int):
        return f"the code called sys.exit({error.code})"
    print(error.code, file=sys.stderr)
    return f"the code called sys.exit: {error.code}"


def _cut(text, limit):
    if len(text) <= limit:
        return text
    return text[: limit // 4] + "\n[...]\n" + text[-(limit - limit // 4) :]
