"""The pool `process`: local processes, one task at a time in each, that can be killed.

Model calls and requests go through the worker, so that no process needs a key (`tasks.pools.line`).
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from signal import Signals
from types import MappingProxyType
from typing import Any, Final

from django.conf import settings

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, Stopped
from tasks.executors.docker.order import INSTALLATION_VARIABLE, installation
from tasks.executors.timeouts import declared_timeout
from tasks.own_process import Forked, environment_of_servers
from tasks.pools.base import Pool
from tasks.pools.fair_semaphore import FairSemaphore, Shares
from tasks.pools.family import CROWDED, TOO_LARGE
from tasks.pools.frames import FORK, KILL, ORDER, Job
from tasks.pools.line import Line, ProcessDied, job_of
from tasks.pools.prints import Prints
from tasks.rules.pools import PROCESS, Resources, resources_of
from tasks.telemetry import metrics

FORKED_NURSERIES: Final[dict[str | None, tuple[Forked, socket.socket]]] = {}
"""Nurseries by their paths that were forked when this process began, with their control: `aipartnerupflow dev` has no time to
start them."""


class NurseryLine:
    """A nursery. Create it on the loop; it starts its process at once. `path` is what the nursery imports first."""

    def __init__(self, path: str | None, *, on_end: Callable[["NurseryLine"], None]) -> None:
        """`on_end` is called after each process that ends."""
        self._loop = asyncio.get_running_loop()
        self._path = path
        self._on_end = on_end
        self._lines: dict[int, Line] = {}
        self._number = 0
        self._process: subprocess.Popen[bytes] | Forked
        self._control: socket.socket
        self.is_kept = path in FORKED_NURSERIES
        """Whether it lives as long as this process."""
        if self.is_kept:
            self._process, self._control = FORKED_NURSERIES.pop(path)
        else:
            self._process, self._control = self._started()
        self._control.setblocking(False)
        self._loop.add_reader(self._control, self._hear)

    def _started(self) -> "tuple[subprocess.Popen[bytes], socket.socket]":
        path = self._path
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tasks.pools.nursery", str(theirs.fileno()), *([path] if path else [])],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={
                    **settings.APFLOW_PROCESS_ENVIRONMENT(environment_of_servers()),
                    # The folders from which this process imports: `-P` keeps Python from putting the working folder first.
                    "PYTHONPATH": os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path),
                    INSTALLATION_VARIABLE: installation(),
                },
            )
        return process, ours

    @property
    def is_closed(self) -> bool:
        return self._control.fileno() < 0

    @property
    def is_empty(self) -> bool:
        return not self._lines

    @property
    def lines(self) -> list[Line]:
        return list(self._lines.values())

    def fork(self) -> Line:
        """Start a process."""
        self._number += 1
        number = self._number
        ours, theirs = socket.socketpair()
        prints = Prints()
        with theirs, suppress(ConnectionError):  # then `_hear` finds the nursery dead
            socket.send_fds(self._control, [ORDER.pack(FORK, number, 0)], [theirs.fileno(), prints.theirs])
        os.close(prints.theirs)
        line = self._lines[number] = Line(ours, path=self._path, prints=prints, kill=lambda: self._kill(number))
        return line

    def close(self) -> None:
        """End the nursery, and with it all of its processes."""
        if self.is_closed:
            return
        self._loop.remove_reader(self._control)
        self._control.close()
        self._process.kill()
        self._process.wait()
        for line in self._lines.values():
            line.exit_code.set_result(-signal.SIGKILL)
        self._lines = {}

    def _kill(self, number: int) -> None:
        if number not in self._lines:
            return
        with suppress(ConnectionError):
            self._control.send(ORDER.pack(KILL, number, 0))

    def _hear(self) -> None:
        try:
            message = self._control.recv(ORDER.size)
        except BlockingIOError:
            return
        except ConnectionError:
            message = b""
        if len(message) < ORDER.size:
            self.close()
            return
        _, number, exit_code = ORDER.unpack(message)
        self._lines.pop(number).exit_code.set_result(exit_code)
        self._on_end(self)


PRELOADED: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(("crewai_executor", "batch_crewai_executor"), "tasks.executors.crewai.kickoff.kickoff"),
        "langgraph_executor": "tasks.executors.langgraph.running.run",
    }
)
"""The modules that a nursery imports for these executors: it takes seconds and hundreds of megabytes, once for all their processes."""


class Processes:
    """Create it on the loop. At most `size` exist at a time if no more than that are taken."""

    def __init__(self, *, size: int, idle_seconds: float, max_tasks: int, max_growth_bytes: int) -> None:
        self._size = size
        self._idle_seconds = idle_seconds
        self._max_tasks = max_tasks
        self._max_growth_bytes = max_growth_bytes
        self._nurseries: dict[str | None, NurseryLine] = {}
        self._idle: dict[Line, asyncio.TimerHandle] = {}
        """The one that was used last is the last."""
        self._taken = 0

    def take(self, executor_id: str) -> Line:
        """Return an idle process, if possible one that has run the executor before, or a new one."""
        path = PRELOADED.get(executor_id)
        line = self._idle_line(path, executor_id) or self._new_line(path)
        self._taken += 1
        line.executor_id = executor_id
        line.tasks += 1
        return line

    def give_back(self, line: Line) -> None:
        self._taken -= 1
        if line.is_fresh and line.tasks < self._max_tasks and line.grown_bytes <= self._max_growth_bytes:
            loop = asyncio.get_running_loop()
            self._idle[line] = loop.call_later(self._idle_seconds, self._end, line)
        else:
            line.close()

    async def close(self) -> None:
        """End all processes and their nurseries."""
        for timer in self._idle.values():
            timer.cancel()
        self._idle = {}
        for nursery in self._nurseries.values():
            lines = nursery.lines
            nursery.close()
            for line in lines:
                await line.closed()

    def _idle_line(self, path: str | None, executor_id: str) -> Line | None:
        for dead in [line for line in self._idle if not line.is_fresh]:
            self._end(dead)
        fitting = [line for line in reversed(self._idle) if line.path == path]
        line = next((line for line in fitting if line.executor_id == executor_id), next(iter(fitting), None))
        if line is not None:
            self._idle.pop(line).cancel()
        return line

    def _new_line(self, path: str | None) -> Line:
        if self._idle and len(self._idle) + self._taken >= self._size:
            self._end(next(iter(self._idle)))
        nursery = self._nurseries.get(path)
        if nursery is None or nursery.is_closed:
            nursery = self._nurseries[path] = NurseryLine(path, on_end=self._ended)
        metrics.process_started()
        return nursery.fork()

    def _end(self, line: Line) -> None:
        """End an idle process."""
        self._idle.pop(line).cancel()
        line.close()

    def _ended(self, nursery: NurseryLine) -> None:
        """Note the end of a process of the nursery. A nursery that has none for long ends, too."""
        if nursery.is_empty:
            asyncio.get_running_loop().call_later(self._idle_seconds, self._end_if_empty, nursery)

    def _end_if_empty(self, nursery: NurseryLine) -> None:
        if nursery.is_empty and not nursery.is_closed and not nursery.is_kept:
            nursery.close()


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
