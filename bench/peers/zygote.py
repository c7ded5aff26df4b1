"""Forks itself for each instance of a function: python zygote.py FUNCTION.

It imports the packages, not the function, and says so. Each line that comes
in is a socket on which a new fork is to serve; its process ID answers. It ends
with its standard input.
"""

import os
import signal
import sys

import handlers

if sys.argv[1] == "bell":
    import qiskit  # noqa: F401 - for the forks
    import qiskit_aer  # noqa: F401

signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
print("ready", flush=True)
for line in sys.stdin:
    server = handlers.listen(line.strip())
    pid = os.fork()
    if pid == 0:
        handlers.serve(server, handlers.load(sys.argv[1]))
        os._exit(0)
    server.close()
    print(pid, flush=True)
