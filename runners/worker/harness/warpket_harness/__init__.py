"""The inside of a warpket worker: loads a handler once and runs it per call.

It needs Python 3.9 and the standard library only; what it knows about numpy
and the SDKs it finds by name, so that it imports none of them.
"""
