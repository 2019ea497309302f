"""The outcome of an attempt at a task, and the results of a tree by which conditions and rounds are decided."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import orjson

from aipartnerupflow.executors import ExecutorError, Json, Spawn, Stopped
from llmkeys.redact import mask_start
from tasks.executors.llm.conversations import Turn
from tasks.rules.rounds import repeat_of
from tasks.rules.stored_results import stored_form
from tasks.status import Status
from tasks.worker.load_run import LoadedTask
from tasks.worker.spawning.family import Family


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A terminal status with its result or its error. `stored` is the result as JSON text.

    `spawn`: the tasks that are added to the tree before that. `turn`: what the task said in a conversation, stored with its end.
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


def completed(result: Any, *, max_bytes: int) -> Outcome:
    """Return a completed outcome.

    Raises ExecutorError if the result is not a JSON value or too large to store.
    """
    stored = stored_form(result, max_bytes=max_bytes)
    # Dependents get the stored form, so that they see the same before and after a restart.
    return Outcome(status=Status.COMPLETED, result=orjson.loads(stored), stored=stored)


def failed(error: str, *, may_retry: bool = False, retry_after_seconds: float | None = None) -> Outcome:
    return Outcome(
        status=Status.FAILED, error=storable(error), may_retry=may_retry, retry_after_seconds=retry_after_seconds
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
        waiting = [task for task in tasks if task.id in scope and not Status(task.status).is_terminal]
        self._needs = {task.id: _needs_of(task, family) for task in waiting}
        self._parts = {task.id: _parts_of(task, family) for task in waiting}
        everything = chain(self._needs.values(), self._parts.values())
        self._needed = Counter(need for needs in everything for need in needs)
        completed = [task for task in tasks if task.status == Status.COMPLETED]
        self._bytes = sum(task.result_bytes for task in completed)
        self._results = {task.id: task.result for task in completed if self._is_needed(task.id)}
        for task in completed:
            task.result = None  # so that it is freed when it is dropped here

    def __getitem__(self, task_id: str) -> Any:
        return self._results[task_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)

    def admitted(self, outcome: Outcome) -> Outcome:
        """Return the outcome, or a failure if its result would exceed the limit of the run."""
        size = len(outcome.stored or b"")
        if self._bytes + size > self._max_bytes:
            if outcome.status is Status.CANCELLED:
                return replace(outcome, stored=None)  # a partial result
            return failed(
                f"The results of this run would have {self._bytes + size} bytes together, more than the "
                f"{self._max_bytes} that limits.run_bytes allows. Store large results elsewhere and return references, "
                "or raise the limit."
            )
        self._bytes += size
        return outcome

    def settle(self, task: LoadedTask, outcome: Outcome) -> None:
        """Keep the task's result if it is needed, and drop those that only this task needed."""
        if outcome.status is Status.COMPLETED and self._is_needed(task.id):
            self._results[task.id] = outcome.result
        self._release(self._needs.pop(task.id, ()))
        self._release(self._parts.pop(task.id, ()))

    def grow(self, spawner: LoadedTask, tasks: Sequence[LoadedTask]) -> None:
        """Keep what new tasks need, and what their spawner needs of them: of a loop or of steps, only the latest."""
        parts = [task.id for task in tasks]
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
