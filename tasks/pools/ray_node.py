"""The code on the nodes of a Ray cluster: one function, or one executor that talks to its worker."""

import asyncio
import os
import socket

import django

django.setup()

from aipartnerupflow.executors import ExecutorError  # noqa: E402  (needs the apps)
from tasks.executors.python import call_now  # noqa: E402
from tasks.pools import frames  # noqa: E402
from tasks.pools.child import Child  # noqa: E402


def call(job: bytes) -> bytes:
    """Call the plain function of a job, a message without its length, and return the message of its end."""
    given = frames.TO_PROCESS.decode(job)
    assert isinstance(given, frames.Job)  # noqa: S101  (the worker sends nothing else)
    try:
        end: frames.Completed | frames.Failed = frames.completion_of(
            call_now(given.inputs), max_bytes=given.max_result_bytes
        )
    except ExecutorError as error:
        end = frames.failure_of(error)
    return frames.ENCODER.encode(frames.Ended(end=end, grown_bytes=0))


def serve(host: str, port: int, token: bytes) -> None:
    """Execute one job that the worker at this address gives to the holder of the token."""
    line = socket.create_connection((host, port))
    line.sendall(token)
    line.setblocking(False)
    loop = asyncio.new_event_loop()
    child = Child(line)
    loop.run_until_complete(child.serve())
    if child.is_at_work:  # the worker is gone, and what it has left would disturb the next task of this process
        os._exit(1)
