"""Ray Serve on this machine: python ray_serve.py FOLDER FUNCTION...

POST URL/REPLICAS with {"function": ..., "event": ...} calls a function on 1 or
2 replicas. One line says the URL when all replicas serve; the end of standard
input ends it.
"""

import json
import os
import socket
import sys

import ray
from ray import serve
from starlette.requests import Request

PEERS = os.path.dirname(os.path.abspath(__file__))
FOLDER, FUNCTIONS = sys.argv[1], sys.argv[2:]


@serve.deployment(max_ongoing_requests=16, ray_actor_options={"num_cpus": 0})
class Functions:
    """A replica, which has imported the handlers before it serves."""

    def __init__(self, peers, functions):
        sys.path.insert(0, peers)
        import handlers

        self.handlers = {function: handlers.load(function) for function in functions}

    async def __call__(self, request: Request):
        call = await request.json()
        return self.handlers[call["function"]](call["event"])


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def main():
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=200 << 20,
        _node_ip_address="127.0.0.1",
        _temp_dir=FOLDER,
    )
    try:
        port = free_port()
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        for replicas in (1, 2):
            app = Functions.options(num_replicas=replicas).bind(PEERS, FUNCTIONS)
            serve.run(app, name=f"on{replicas}", route_prefix=f"/{replicas}")
        print(json.dumps({"url": f"http://127.0.0.1:{port}"}), flush=True)
        sys.stdin.read()
    finally:
        ray.shutdown()


main()
