"""A worker process, but on a thread of this one: the same loop, claims, journal and doorbell, without the queue."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from accounts.callers import LOCAL
from tasks import events
from tasks.models import Run, Task
from tasks.queue import leases
from tasks.rules.pools import PROCESS
from tasks.services import trees
from tasks.worker.worker import Worker
from tests.servers import until

T = TypeVar("T")
Json = dict[str, Any]
PATIENCE_SECONDS = 280.0


class WorkerThread:
    def __init__(self, **options: Any) -> None:
        """`options` are those of `Worker`."""
        self._options = options
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="worker", daemon=True).start()
        self._worker = self._call(self._make())

    def work(self) -> None:
        """What a wake-up does: claim and run until nothing waits that this worker takes."""
        self._call(self._work())

    async def _work(self) -> None:
        """It sleeps at once, so it may do so before it is notified of what a run has started or ended. Then wake it again."""
        await self._worker.work()
        left: set[str] = set()
        while (waiting := await self._worker._writer.call(waiting_ids)) - left:
            left = waiting
            await self._worker.work()

    def drain(self) -> None:
        """Return once the worker drains, and a claim that was under way has ended."""
        self._loop.call_soon_threadsafe(self._worker.drain)
        self._call(self._worker._writer.call(lambda: None))

    def settle(self) -> None:
        """Return once its shares of limits are given back, which it does a second later: another test must not begin before."""
        returning = self._worker._shared.limits._returning
        until(lambda: not returning, seconds=PATIENCE_SECONDS, what="the end of its shares")

    @contextmanager
    def new_processes(self) -> Iterator[None]:
        """For the block: the processes of the pool `process` begin in it, with its environment, and end with it."""
        self._call(self._worker._shared.pools[PROCESS].close())
        try:
            yield
        finally:
            self._call(self._worker._shared.pools[PROCESS].close())

    @contextmanager
    def nothing_is_committed(self) -> Iterator[Callable[[], int]]:
        """For the block: what the worker writes waits. Yields a function that counts it: the changes of one commit are one."""
        may_go_on, stands = threading.Event(), threading.Event()

        def stand() -> None:
            stands.set()
            may_go_on.wait(PATIENCE_SECONDS)

        waiting = self._worker._writer._waiting._by_user
        writing = asyncio.run_coroutine_threadsafe(self._worker._writer.call(stand), self._loop)
        try:
            assert stands.wait(PATIENCE_SECONDS)
            yield lambda: sum(map(len, waiting.values()))
        finally:
            may_go_on.set()
            writing.result(PATIENCE_SECONDS)

    def turn(self, times: int) -> None:
        """Let the event loop of the worker turn so many times."""

        async def turns() -> None:
            for _ in range(times):
                await asyncio.sleep(0)

        self._call(turns())

    async def _make(self) -> Worker:
        # No test waits for a run that does not come.
        return Worker(cluster_id="of the tests", linger_seconds=0, **self._options)

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_SECONDS)


def waiting_ids() -> set[str]:
    return set(leases.waiting().values_list("id", flat=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A run that is over: its row, the tasks of its tree by the id that was sent, and its events."""

    run: Run
    tasks: dict[str, Task]
    events: list[Json]

    def statuses(self) -> dict[str, str]:
        return {name: task.status for name, task in self.tasks.items()}

    def order(self, type_: str = "task_start") -> list[str]:
        """The tasks in the order of such events."""
        names = {task.id: name for name, task in self.tasks.items()}
        return [names[event["task_id"]] for event in self.events if event["type"] == type_]


def run_tree(worker: WorkerThread, tasks: list[Json]) -> Ran:
    """Execute a new tree to its end."""
    execution = trees.execute_tree(caller=LOCAL, tasks=tasks)
    worker.work()
    return result_of(execution.run, ids=execution.ids)


def result_of(run: Run, *, ids: dict[str, str] | None = None) -> Ran:
    run.refresh_from_db()
    tree = {task.id: task for task in Task.objects.tree(run.root_id)}
    names = ids or {task_id: task_id for task_id in tree}
    log = events.read(run_id=run.id, limit=100_000)
    return Ran(run=run, tasks={name: tree[stored] for name, stored in names.items()}, events=log)


def step(name: str, **fields: Any) -> Json:
    """A task that the scripted executor carries out; `inputs` say how."""
    return {"id": name, "name": name, "schemas": {"method": "scripted_executor"}, **fields}


def group(name: str, *children: Json) -> list[Json]:
    """A root that runs no code, and the tasks below it."""
    return [{"id": name, "name": name}, *({"parent_id": name, **child} for child in children)]
