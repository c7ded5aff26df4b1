"""What the peers share: the handlers."""

import importlib.util
import json
import os
import socket

FUNCTIONS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "functions")


def load(function):
    """Gives a function's handler, as what answers an event."""
    path = os.path.join(FUNCTIONS, function, "handler.py")
    spec = importlib.util.spec_from_file_location(function, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda event: {"result": module.handler(event, None)}


def listen(path):
    """Gives the unix socket on which events come."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    return server


def serve(server, handler):
    """Answers each line that comes with a line, until the other end is closed."""
    connection, _ = server.accept()
    with connection.makefile("rwb", buffering=0) as lines:
        for line in iter(lines.readline, b""):
            lines.write(json.dumps(handler(json.loads(line))).encode() + b"\n")
