"""The outcome of an attempt at a task, the results of a tree by which conditions and rounds are decided, and the memory for both.

A result is encoded several times on its way into the database. Hundreds of tasks that complete in
the same moment with the result of one dependency would fill the memory with copies of it: `ResultMemory` limits that.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Final

import orjson
from django.conf import settings

from aipartnerupflow.executors import ExecutorError, Json, Spawn, Stopped
from llmkeys.redact import mask_start
from tasks.executors.llm.conversations import Turn
from tasks.rules.files import VALUE_MARK
from tasks.rules.rounds import repeat_of
from tasks.rules.stored_results import is_longer, stored_form, too_long
from tasks.status import Status
from tasks.worker.load_run import LoadedTask, is_live
from tasks.worker.spawning.family import Family

WAITING_BYTES: Final = 16 * 2**20
SMALL_BYTES: Final = 2**14
"""Results up to this size do not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A terminal status with its result or its error. `stored` is the result as JSON text.

    `spawn`: the tasks that are added to the tree before that. `turn`: what the task said in a conversation, stored with its end.
    `cause_id`: the failed task that kept it from running. `raised`: the name and the arguments of the exception of a step that its
    workflow gets.
    """

    status: Status
    result: Any = None
    stored: bytes | None = None
    error: str | None = None
    token_usage: Json | None = None
    may_retry: bool = False
    retry_after_seconds: float | None = None
    spawn: Spawn | None = None
    turn: Turn | None = None
    cause_id: str | None = None
    raised: tuple[str, list[Any]] | None = None


def completed(result: Any, *, max_bytes: int) -> Outcome:
    """Return a completed outcome.

    Raises ExecutorError if the result is not a JSON value or too large to store.
    """
    stored = stored_form(result, max_bytes=max_bytes)
    # Dependents get the stored form, so that they see the same before and after a restart.
    return Outcome(status=Status.COMPLETED, result=orjson.loads(stored), stored=stored)


def failed(
    error: str,
    *,
    may_retry: bool = False,
    retry_after_seconds: float | None = None,
    raised: tuple[str, list[Any]] | None = None,
) -> Outcome:
    return Outcome(
        status=Status.FAILED,
        error=storable(error),
        may_retry=may_retry,
        retry_after_seconds=retry_after_seconds,
        raised=raised,
    )


def skipped(reason: str) -> Outcome:
    return Outcome(status=Status.SKIPPED, error=storable(reason))


def cancelled(error: str, *, stopped: Stopped | None = None, max_bytes: int) -> Outcome:
    """Return a cancelled outcome, with the executor's partial result if it can be stored."""
    if stopped is None:
        return Outcome(status=Status.CANCELLED, error=error)
    try:
        stored = stored_form(stopped.result, max_bytes=max_bytes)
    except ExecutorError:
        stored = None
    return Outcome(status=Status.CANCELLED, stored=stored, error=error, token_usage=stopped.token_usage)


def storable(text: str) -> str:
    """Mask keys in the text; replace NUL and lone surrogates, which some databases refuse."""
    return mask_start(text).replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


class Results(Mapping[str, Any]):
    """The result of each completed task, by its id, until no task of the run needs it any more.

    `max_bytes` limits all results of the run together: what tasks pass on can double with each
    level of a tree. `kept` are the ids whose results are needed at the end of the run.
    """

    def __init__(
        self, tasks: Iterable[LoadedTask], *, scope: Collection[str], family: Family, kept: str, max_bytes: int
    ) -> None:
        tasks = list(tasks)
        self._kept = kept
        self._max_bytes = max_bytes
        self._inline_bytes: int = settings.APFLOW.limits.inline_bytes
        waiting = [task for task in tasks if task.id in scope and not Status(task.status).is_terminal]
        self._needs = {task.id: _needs_of(task, family) for task in waiting}
        self._parts = {task.id: _parts_of(task, family) for task in waiting}
        everything = chain(self._needs.values(), self._parts.values())
        self._needed = Counter(need for needs in everything for need in needs)
        completed = [task for task in tasks if task.status == Status.COMPLETED]
        self._bytes = sum(task.result_bytes for task in completed)
        self._results = {task.id: task.result for task in completed if self._is_needed(task.id)}
        self.moved = {task.id for task in completed if task.returns_moved}
        """The tasks whose results have, or are, large values that are stored as files."""
        for task in completed:
            task.result = None  # so that it is freed when it is dropped here

    def __getitem__(self, task_id: str) -> Any:
        return self._results[task_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)

    def is_large(self, outcome: Outcome) -> bool:
        """Return whether the result is to be stored as a file: it is large, or the run has no room for it."""
        size = len(outcome.stored or b"")
        return size > self._inline_bytes or (size > SMALL_BYTES and self._bytes + size > self._max_bytes)

    def admitted(self, outcome: Outcome) -> Outcome:
        """Return the outcome, or a failure if its result would exceed the limit of the run."""
        size = len(outcome.stored or b"")
        if self._bytes + size > self._max_bytes:
            if outcome.status is Status.CANCELLED:
                return replace(outcome, stored=None)  # a partial result
            return failed(
                f"The results of this run would have {self._bytes + size} bytes together, more than the "
                f"{self._max_bytes} that limits.run_bytes allows. Save large results with context.files and return "
                "the files, or raise the limit."
            )
        self._bytes += size
        return outcome

    def settle(self, task: LoadedTask, outcome: Outcome) -> None:
        """Keep the task's result if it is needed, and drop those that only this task needed."""
        if outcome.status is Status.COMPLETED and self._is_needed(task.id):
            self._results[task.id] = outcome.result
            if VALUE_MARK in (outcome.stored or b""):
                self.moved.add(task.id)
        self._release(self._needs.pop(task.id, ()))
        self._release(self._parts.pop(task.id, ()))

    def grow(self, spawner: LoadedTask, tasks: Sequence[LoadedTask]) -> None:
        """Keep what new tasks need, and what their spawner needs of them: of a loop or of steps, only the latest."""
        parts = [] if is_live(spawner) else [task.id for task in tasks]  # the code of a workflow has them
        self._needed.update(parts)
        for task in tasks:
            self._needs[task.id] = [need["id"] for need in task.dependencies]
            self._parts[task.id] = []
            self._needed.update(self._needs[task.id])
        if repeat_of(spawner.params) is not None or spawner.step is not None:
            self._release(self._parts[spawner.id])
            self._parts[spawner.id] = []
        self._parts[spawner.id] += parts

    def _release(self, needs: Iterable[str]) -> None:
        """Drop the results that are no longer needed."""
        for need in needs:
            self._needed[need] -= 1
            if not self._is_needed(need):
                self._results.pop(need, None)

    def _is_needed(self, task_id: str) -> bool:
        return task_id == self._kept or self._needed[task_id] > 0


def _needs_of(task: LoadedTask, family: Family) -> list[str]:
    """Return the ids of the tasks whose results this one needs, itself or for the copies of its template."""
    return [need["id"] for each in (task, *family.template_of(task.id)) for need in each.dependencies]


def _parts_of(task: LoadedTask, family: Family) -> list[str]:
    """Return the ids of the tasks that this one has added and whose results it needs."""
    is_loop = repeat_of(task.params) is not None
    parts = family.latest_round(task.id) if is_loop else family.spawned_by(task.id)
    return [each.id for each in parts]


class ResultMemory:
    """A semaphore in bytes; first come, first served. A result larger than all of it goes alone."""

    def __init__(self, size: int = WAITING_BYTES) -> None:
        self._size = self._free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """While it is entered, `completed_in_turn` reserves bytes; at its end they are free again."""
        held = _Held(self)
        token = _HELD.set(held)
        try:
            yield
        finally:
            _HELD.reset(token)
            self._give(held.size)

    def has_room(self, size: int) -> bool:
        return not self._waiting and self._free >= min(size, self._size)

    async def take(self, size: int) -> int:
        """Wait for room. Returns how much was taken."""
        size = min(size, self._size)
        if self.has_room(size):
            self._free -= size
            return size
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give(size)
            raise
        return size

    def _give(self, size: int) -> None:
        self._free += size
        while self._waiting and (self._waiting[0][1].done() or self._free >= self._waiting[0][0]):
            size, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= size
                turn.set_result(None)


class _Held:
    """The bytes that one task has reserved."""

    def __init__(self, memory: ResultMemory) -> None:
        self.memory = memory
        self.size = 0


_HELD: Final[ContextVar[_Held | None]] = ContextVar("held result memory", default=None)


async def completed_in_turn(result: Any, *, max_bytes: int, is_composed: bool) -> Outcome:
    """Return the completed outcome when there is room for its result until it is committed.

    `is_composed`: the result may contain those of several dependencies. Raises ExecutorError as
    `completed` does.
    """
    if is_composed and is_longer(result, than=max_bytes):
        raise too_long("The result is longer", max_bytes)
    outcome = completed(result, max_bytes=max_bytes)
    size = len(outcome.stored or b"")
    held = _HELD.get()
    if held is None or size <= SMALL_BYTES:
        return outcome
    if not held.memory.has_room(size):
        del outcome  # the wait is for the memory that it uses
        held.size += await held.memory.take(size)
        return completed(result, max_bytes=max_bytes)
    held.size += await held.memory.take(size)
    return outcome
