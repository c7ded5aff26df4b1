"""A function behind FastAPI and uvicorn: python fastapi_app.py FUNCTION PROCESSES.

Its processes share a socket. One line says the URL when all of them serve; the
end of standard input ends them.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import threading

import uvicorn
from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool

FUNCTION, PROCESSES = sys.argv[1], int(sys.argv[2])


def serve(listener, ready):
    """Serves in this process; ready is called when it does."""
    import handlers

    handler = handlers.load(FUNCTION)

    @contextlib.asynccontextmanager
    async def lifespan(_):
        ready()
        yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/")
    async def call(request: Request):
        return await run_in_threadpool(handler, json.loads(await request.body()))

    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def main():
    """Starts the other processes before anything of the function is loaded."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    reader, writer = os.pipe()
    for _ in range(PROCESSES - 1):
        if os.fork() == 0:
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # ends with its parent
            serve(listener, lambda: os.write(writer, b"1"))
            os._exit(0)

    def ready():
        for _ in range(PROCESSES - 1):
            os.read(reader, 1)
        host, port = listener.getsockname()
        print(json.dumps({"url": f"http://{host}:{port}"}), flush=True)

    def end():
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=end, daemon=True).start()
    serve(listener, ready)


main()
