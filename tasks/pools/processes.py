"""The processes of a pool: started when they are needed, used again, and ended when they are idle, used up or stained."""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tasks.pools.line import Line
from tasks.pools.nurseries import NurseryLine
from tasks.telemetry import metrics

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
        if nursery.is_empty and not nursery.is_closed:
            nursery.close()
