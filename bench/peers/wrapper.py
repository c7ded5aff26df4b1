"""A resident process around a function: python wrapper.py FUNCTION SOCKET."""

import sys

import handlers

handler = handlers.load(sys.argv[1])
handlers.serve(handlers.listen(sys.argv[2]), handler)
