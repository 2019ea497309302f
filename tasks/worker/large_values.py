"""Large results in the worker: they are stored as files, and come back where a task needs them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson
from django.conf import settings

from aipartnerupflow.executors import ExecutorError, Json
from aipartnerupflow.executors.files import Files
from apflow_site.db import pools
from tasks.executors.input_places import names_that_may_be_used
from tasks.rules.exceptions import StoreUnavailable, TasksError
from tasks.rules.files import MARK, VALUE, with_values
from tasks.rules.maps import source_of
from tasks.rules.places import RUN
from tasks.rules.references import dependency_results
from tasks.services.files.moved import whole
from tasks.services.files.references import named_in, note_results
from tasks.worker.load_run import LoadedTask
from tasks.worker.outcomes import Outcome, failed
from tasks.worker.task_files import TaskFiles

if TYPE_CHECKING:
    from tasks.worker.run_parts import RunParts

NAME: Final = "result.json"
PATIENCE_SECONDS: Final = 120.0
"""The time for which a task waits for a store that does not answer, before it begins or with its result: no work is repeated for that."""
LONGEST_PAUSE_SECONDS: Final = 15.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """The results of a task's dependencies and the values of its run, with the large values in them.

    `read` are these, and those of the latest round or step, by the ids of their files.
    """

    results: Json
    values: Json
    read: Mapping[str, Any]

    def in_inputs(self, filled: Json) -> Json:
        """Return the filled inputs with the large values that they refer to. No place in these is filled."""
        inputs: Json = with_values(filled, self.read)
        return inputs


async def bring(task: LoadedTask, run: "RunParts") -> None:
    """Read the large values that the task needs. A map needs only its list: each copy of its template reads its own item.

    Raises ExecutorError if they are too large together, or cannot be read.
    """
    results = dependency_results(task.dependencies, run.results)
    values = _used(task, run.values[RUN]["inputs"]) if run.has_large_inputs else {}
    source = source_of(task.params) or ""
    is_list = source in results
    parts = [run.results[part] for part in run.parts_read_by(task) if part in run.results]
    needed: Any = results[source] if is_list else [results, task.inputs, values, parts]
    try:
        most = settings.APFLOW.limits.value_bytes
        _, read = await _patiently(
            lambda: whole(needed, owner=task.user_id, most_bytes=most, is_deep=not is_list), task, run
        )
        run.brought[task.id] = Brought(
            results=with_values(results, read),
            values=with_values(run.values, read) if values else run.values,
            read=read,
        )
    except TasksError as error:
        raise ExecutorError(error.message) from None


def _used(task: LoadedTask, inputs: Json) -> Json:
    """Return the inputs of the run that the task may use."""
    used = names_that_may_be_used([(task.executor_id, task.inputs, task.params)])
    return inputs if used is None else {name: value for name, value in inputs.items() if name in used}


async def moved(outcome: Outcome, task: LoadedTask, run: "RunParts") -> Outcome:
    """Store the result as a file, and return the outcome with the reference; a failure if that is not possible."""
    text, claim = outcome.stored or b"", run.claim
    files = TaskFiles(task.user_id, root_id=claim.root_id)
    try:
        save = partial(Files(files.do).save, NAME, text, media_type="application/json")
        file = await _patiently(save, task, run)
        if MARK in text:  # those that were moved before are in no row any more
            await pools.write(note_results, {claim.run_id: named_in(outcome.result)})
    except TasksError as error:
        return failed(f"The result has {len(text):,} bytes, and could not be stored as a file: {error.message}")
    finally:
        await files.close()
    reference: Any = file | {VALUE: True}
    return replace(outcome, result=reference, stored=orjson.dumps(reference))


async def _patiently(call: Callable[[], Awaitable[T]], task: LoadedTask, run: "RunParts") -> T:
    """Call it until the store answers. Raises StoreUnavailable after PATIENCE_SECONDS, and what `call` raises."""
    patience, pause = monotonic() + PATIENCE_SECONDS, 1.0
    while True:
        try:
            return await call()
        except StoreUnavailable as error:
            if monotonic() + pause > patience:
                raise
            run.recorder.logged(task, f"{error.message} The task waits for it, and tries again in {pause:g} s.")
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
