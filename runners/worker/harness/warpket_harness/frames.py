"""Frames of the control stream.

A frame is a payload's length (4 bytes, big-endian), a kind (1 byte) and the
payload: a header's length (4 bytes), the header (a JSON object) and a body of
bytes. runners/worker/frames.go is the other end.
"""

import json
import os
import struct

LOAD, RUN = b"L", b"R"
PARKED, LOADED, RESULT = b"p", b"l", b"r"

_PREFIX = struct.Struct(">IcI")


def read(stream):
    """Reads one frame: kind, header and body. None at the end of the stream."""
    prefix = stream.read(_PREFIX.size)
    if len(prefix) < _PREFIX.size:
        return None
    length, kind, header_length = _PREFIX.unpack(prefix)
    payload = stream.read(length - 4)
    if len(payload) < length - 4:
        return None
    return kind, json.loads(payload[:header_length]), payload[header_length:]


def write(fd, kind, header, body=b""):
    """Writes one frame."""
    head = json.dumps(header, separators=(",", ":")).encode()
    data = _PREFIX.pack(4 + len(head) + len(body), kind, len(head)) + head + body
    sent = os.write(fd, data)
    if sent < len(data):
        rest = memoryview(data)[sent:]
        while rest:
            rest = rest[os.write(fd, rest) :]
