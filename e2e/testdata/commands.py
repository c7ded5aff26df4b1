"""Runs the openstack command line in one process, for it takes seconds to start.

Reads arguments as lists of JSON, a line each, and writes a line for each: the exit
code, and what came out. It says first that it is ready.
"""

import contextlib
import io
import json
import sys

from openstackclient import shell

print("ready", flush=True)
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = shell.main(json.loads(line))
        except SystemExit as end:
            code = end.code
    answer = {"code": code, "out": out.getvalue(), "err": err.getvalue()}
    print(json.dumps(answer), file=sys.__stdout__, flush=True)
