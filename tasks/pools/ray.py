"""The pool `ray`: an existing Ray cluster, for those who need more processors than a machine has, or GPUs.

A plain function is a remote function of Ray. Any other executor runs in a process of Ray that connects to
its worker, and talks to it as the processes of the pool `process` do: keys of users stay in the worker.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from django.conf import settings

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json
from tasks.executors.python import Python, is_plain
from tasks.pools import frames
from tasks.pools.base import Pool
from tasks.pools.fair_semaphore import FairSemaphore, Shares
from tasks.pools.jobs import job_of
from tasks.pools.line import Line, ProcessDied, outcome
from tasks.pools.ray_cluster import Cluster, connected
from tasks.rules.pools import RAY, Resources, resources_of
from tasks.telemetry import metrics


class RayPool(Pool):
    """Create it on the loop of the worker. It connects when a task first needs it."""

    def __init__(self) -> None:
        self._config = settings.APFLOW.pools.ray
        self._places = FairSemaphore(self._config.size, share=Shares(self._config.size).of)
        self._connecting: asyncio.Task[Cluster] | None = None
        if self._config.address is not None:
            metrics.pool(RAY, self._config.size)

    @asynccontextmanager
    async def place(self, *, user_id: str, priority: int, resources: Resources) -> AsyncIterator[None]:
        async with self._places.turn(user_id, priority):
            with metrics.one_in_pool(RAY):
                yield

    async def execute(self, executor: Executor, inputs: Json, context: Context) -> Any:
        cluster = await self._cluster()
        job = job_of(executor, inputs, context, memory_bytes=0)
        try:
            if isinstance(executor, Python) and is_plain(inputs):
                await context.begin()
                return await _call(cluster, job, resources_of(context.params))
            return await _serve(cluster, job, context)
        except cluster.ray.exceptions.RayError as error:
            raise ExecutorError(f"Ray could not run the task to its end: {_first_line(error)}") from error

    async def close(self) -> None:
        if self._connecting is not None:
            await (await self._connecting).close()

    async def _cluster(self) -> Cluster:
        """Return the connection, which all tasks share; the first one makes it. Raises ExecutorError."""
        if self._config.address is None:  # the configuration has changed since the tree was stored
            raise ExecutorError("There is no Ray cluster here (pools.ray.address).", permanent=True)
        if self._connecting is None or (self._connecting.done() and self._connecting.exception()):
            self._connecting = asyncio.create_task(connected(self._config.address, settings.APFLOW_RAY_ENVIRONMENT))
        return await asyncio.shield(self._connecting)


async def _call(cluster: Cluster, job: frames.Job, resources: Resources) -> Any:
    reference = cluster.call(frames.ENCODER.encode(job), resources)
    end = _future(reference)
    try:
        answer = _answered(await asyncio.shield(end))
    except asyncio.CancelledError:
        cluster.cancel(reference)
        raise
    ended = frames.TO_WORKER.decode(answer)
    assert isinstance(ended, frames.Ended)  # noqa: S101  (a node says nothing else)
    return outcome(ended)


async def _serve(cluster: Cluster, job: frames.Job, context: Context) -> Any:
    errand = cluster.serve(resources_of(context.params))
    end = _future(errand.end)
    line: Line | None = None
    try:
        await asyncio.wait([end, errand.arrival], return_when=asyncio.FIRST_COMPLETED)
        if not errand.arrival.done():
            _answered(end.result())
            raise ExecutorError("The Ray node ended the task before it began.")
        line = Line(errand.arrival.result(), path=None, kill=lambda: cluster.cancel(errand.end))
        end.add_done_callback(line.lost_process)
        return await line.work(job, context)
    except ProcessDied:
        end.result()
        raise ExecutorError("The Ray node lost its connection to the worker.") from None
    finally:
        errand.arrival.cancel()
        if line is not None:
            line.close()
        else:
            cluster.cancel(errand.end)


def _future(reference: Any) -> "asyncio.Future[Any]":
    """Return a future for what the node returns or raises, which need not be awaited."""
    end = asyncio.wrap_future(reference.future())
    end.add_done_callback(lambda done: done.cancelled() or done.exception())
    return end


def _answered(answer: Any) -> Any:
    """Return the answer of a node. Raises ExecutorError if it is the reason why the node cannot work for us."""
    if isinstance(answer, str):
        raise ExecutorError(f"A Ray node cannot run the task: {answer}.", permanent=True)
    return answer


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
