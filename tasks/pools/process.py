"""The pool `process`: local processes, one task at a time in each, that can be killed.

Model calls and requests go through the worker, so that no process needs a key (`tasks.pools.calls`).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from signal import Signals
from typing import Any, Final

from django.conf import settings

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, Stopped
from tasks.executors.timeouts import declared_timeout
from tasks.pools.base import Pool
from tasks.pools.fair_semaphore import FairSemaphore, Shares
from tasks.pools.family import CROWDED, TOO_LARGE
from tasks.pools.frames import Job
from tasks.pools.jobs import job_of
from tasks.pools.line import ProcessDied
from tasks.pools.processes import Processes
from tasks.rules.pools import PROCESS, Resources, resources_of
from tasks.telemetry import metrics

MIB: Final = 2**20
STARTS: Final = 3
"""The number of processes that are tried, when each dies before it can begin."""


class ProcessPool(Pool):
    """Create it on the loop of the worker."""

    def __init__(self) -> None:
        config = settings.APFLOW.pools.process
        self._memory_mb = config.memory_mb
        self._places = FairSemaphore(config.size, share=Shares(config.size).of)
        self._cpus = FairSemaphore(config.cpus)
        self._gate = FairSemaphore(1)
        self._processes = Processes(
            size=config.size,
            idle_seconds=config.idle_seconds,
            max_tasks=config.max_tasks,
            max_growth_bytes=config.recycle_mb * MIB,
        )
        metrics.pool(PROCESS, config.size)

    @asynccontextmanager
    async def place(self, *, user_id: str, priority: int, resources: Resources) -> AsyncIterator[None]:
        async with AsyncExitStack() as held:
            if resources.cpus:
                # One task at a time gathers its processors, so that two never wait for each other's.
                async with self._gate.turn(user_id, priority):
                    for _ in range(resources.cpus):
                        await held.enter_async_context(self._cpus.turn(user_id, priority))
            await held.enter_async_context(self._places.turn(user_id, priority))
            with metrics.one_in_pool(PROCESS):
                yield

    async def close(self) -> None:
        await self._processes.close()

    async def execute(self, executor: Executor, inputs: Json, context: Context) -> Any:
        memory_mb = resources_of(context.params).memory_mb or self._memory_mb
        job = job_of(executor, inputs, context, memory_bytes=memory_mb * MIB)
        seconds = declared_timeout(executor.input_schema, inputs)
        try:
            async with asyncio.timeout(seconds) as deadline:
                return await self._execute(job, context, memory_mb)
        except (TimeoutError, Stopped):
            if not deadline.expired():
                raise
            raise ExecutorError(
                f"{executor.name}: not done within {seconds:g} s (timeout_seconds), in which its process has to start, too."
            ) from None

    async def _execute(self, job: Job, context: Context, memory_mb: int) -> Any:
        tries = 0
        while True:
            tries += 1
            line = self._processes.take(job.executor_id)
            try:
                return await line.work(job, context)
            except ProcessDied as death:
                metrics.process_died()
                if death.is_begun:
                    raise ExecutorError(_obituary(death.exit_code, memory_mb, job.max_processes)) from None
                if tries == STARTS:
                    raise ExecutorError(
                        "No process for the task could be started; the worker's log may say why."
                    ) from None
            finally:
                self._processes.give_back(line)


def _obituary(exit_code: int, memory_mb: int, most: int) -> str:
    """Say how the process of a task died."""
    if exit_code == CROWDED:
        return f"The task was stopped: it had more than {most} processes besides its own (pools.process.processes)."
    if exit_code == TOO_LARGE:
        return (
            f"The task was stopped: with the processes that it had started it took more than {memory_mb} MB "
            "(params.resources.memory_mb, pools.process.memory_mb)."
        )
    if exit_code >= 0:
        return (
            f"The task ended its process with exit code {exit_code}. Raise an exception, or return a result, instead."
        )
    return (
        f"The process of the task was killed by {Signals(-exit_code).name}: it crashed, or the machine had no memory left. "
        f"Its limit was {memory_mb} MB (params.resources.memory_mb, pools.process.memory_mb)."
    )
