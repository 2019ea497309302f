"""Large results in the worker: they are stored as files, and come back where a task needs them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson
from django.conf import settings

from aipartnerupflow.executors import ExecutorError, Json
from aipartnerupflow.executors.files import Files
from apflow_site.db import pools
from tasks.queue.leases import Claim
from tasks.rules.exceptions import StoreUnavailable, TasksError
from tasks.rules.files import MARK, VALUE, with_values
from tasks.rules.maps import source_of
from tasks.rules.references import dependency_results
from tasks.services.files.moved import whole
from tasks.services.files.references import named_in, note_results
from tasks.worker.load_run import LoadedTask
from tasks.worker.outcomes import Outcome, failed
from tasks.worker.task_files import TaskFiles

if TYPE_CHECKING:
    from tasks.worker.run_parts import RunParts

NAME = "result.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """The results of a task's dependencies and the values of its run, with the large values in them.

    `read` are these, by the ids of their files.
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
    values = run.values if run.has_large_inputs else {}
    source = source_of(task.params) or ""
    is_list = source in results
    needed: Any = results[source] if is_list else [results, task.inputs, values]
    try:
        _, read = await whole(
            needed, owner=task.user_id, most_bytes=settings.APFLOW.limits.value_bytes, is_deep=not is_list
        )
        run.brought[task.id] = Brought(
            results=with_values(results, read), values=with_values(values, read) or run.values, read=read
        )
    except TasksError as error:
        raise ExecutorError(error.message, permanent=not isinstance(error, StoreUnavailable)) from None


async def moved(outcome: Outcome, task: LoadedTask, claim: Claim) -> Outcome:
    """Store the result as a file, and return the outcome with the reference; a failure if that is not possible."""
    text = outcome.stored or b""
    files = TaskFiles(task.user_id, root_id=claim.root_id)
    try:
        file = await Files(files.call).save(NAME, text, media_type="application/json")
        if MARK in text:  # those that were moved before are in no row any more
            await pools.write(note_results, {claim.run_id: named_in(outcome.result)})
    except ExecutorError as error:
        return failed(f"The result has {len(text):,} bytes, and could not be stored as a file: {error}")
    finally:
        await files.close()
    reference: Any = file | {VALUE: True}
    return replace(outcome, result=reference, stored=orjson.dumps(reference))
