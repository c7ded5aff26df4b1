"""A Temporal worker: python temporal_worker.py ADDRESS NAMESPACE QUEUE FUNCTION...

It imports the handlers before it takes work, says so in one line, and ends
with its standard input.
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import handlers
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

THREADS = 8  # as many as calls are outstanding
HANDLERS = {}


@activity.defn
def run(function: str, event: dict) -> dict:
    """Runs a handler."""
    return HANDLERS[function](event)


@workflow.defn
class Call:
    """A durable call: one activity."""

    @workflow.run
    async def run(self, function: str, event: dict) -> dict:
        return await workflow.execute_activity(
            run, args=[function, event], start_to_close_timeout=timedelta(minutes=1)
        )


async def main(address, namespace, queue, *functions):
    for function in functions:
        HANDLERS[function] = handlers.load(function)
    client = await Client.connect(address, namespace=namespace)
    with ThreadPoolExecutor(THREADS) as threads:
        async with Worker(
            client,
            task_queue=queue,
            workflows=[Call],
            activities=[run],
            activity_executor=threads,
            max_concurrent_activities=THREADS,
            workflow_runner=UnsandboxedWorkflowRunner(),
        ):
            print("{}", flush=True)
            await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
