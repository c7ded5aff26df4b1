"""Calls functions as Temporal workflows: python temporal_client.py ADDRESS NAMESPACE.

It makes the namespace and says {} in a line. Then each line that comes in is a
load, and one line answers it with its calls. It ends with its standard input.
"""

import asyncio
import json
import sys
import time
import uuid
from datetime import timedelta

from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode


async def connect(address, namespace):
    """Makes the namespace, and waits until it can be used."""
    client = await Client.connect(address, namespace=namespace)
    request = RegisterNamespaceRequest(namespace=namespace)
    request.workflow_execution_retention_period.FromTimedelta(timedelta(days=1))
    await client.workflow_service.register_namespace(request)
    for _ in range(100):
        try:
            await client.count_workflows()
            return client
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            await asyncio.sleep(0.1)  # its servers read the list of namespaces once a second
    raise RuntimeError(f"the namespace {namespace} cannot be used")


async def measure(client, load):
    """Keeps the wanted number of calls outstanding until enough were made or time is up."""
    calls = []
    left = load["calls"]
    ends = time.monotonic() + load["seconds"]

    async def caller():
        nonlocal left
        while left > 0 and time.monotonic() < ends:
            left -= 1
            await asyncio.sleep(load["gap"])
            started = time.monotonic()
            answer = await client.execute_workflow(
                "Call",
                args=[load["function"], load["event"]],
                id=uuid.uuid4().hex,
                task_queue=load["queue"],
            )
            calls.append({"totalMs": (time.monotonic() - started) * 1000, **answer})

    started = time.monotonic()
    await asyncio.gather(*(caller() for _ in range(load["outstanding"])))
    return {"calls": calls, "seconds": time.monotonic() - started}


async def main(address, namespace):
    client = await connect(address, namespace)
    print("{}", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await measure(client, json.loads(line))), flush=True)


asyncio.run(main(*sys.argv[1:]))
