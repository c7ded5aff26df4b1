"""One call as a fresh process: python process.py FUNCTION EVENT."""

import json
import sys

import handlers

print(json.dumps(handlers.load(sys.argv[1])(json.loads(sys.argv[2]))))
