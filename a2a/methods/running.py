"""Methods for running trees, on all machines."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from a2a.core.mapping import native_standing, native_task
from a2a.core.parsing import Params, Text, texts
from a2a.methods.method import OPERATOR, VIEWER, Response, Rest, method
from a2a.methods.params import Named
from a2a.methods.responses import Task, TokenUsage
from a2a.methods.results import AnswersResult, DataResult, TaskListResult
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.rules import exceptions as errors
from tasks.rules.strict_json import Json
from tasks.services.runs.cancels import cancel_tasks
from tasks.services.trees import queries
from tasks.status import TERMINAL, Status


class Cancel(Named, frozen=True, kw_only=True):
    """tasks.cancel"""

    force: bool = False
    error_message: Annotated[str, Meta(min_length=1, max_length=10_000)] | None = None


class RunningStatus(Named, frozen=True, kw_only=True):
    """tasks.running.status"""


class RunningList(Params, frozen=True, kw_only=True):
    """tasks.running.list"""

    user_id: Text | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class CountRunning(Params, frozen=True, kw_only=True):
    """tasks.running.count"""

    user_id: Text | None = None


class Cancellation(Response, frozen=True, kw_only=True):
    """The result of cancelling one task."""

    task_id: str
    status: Literal["cancelled", "failed"]
    message: str
    current_status: Status | None
    result: Any = UNSET
    token_usage: TokenUsage | UnsetType = UNSET


class Standing(Response, frozen=True, kw_only=True):
    """The status of a task; a root reports its latest run."""

    task_id: str
    context_id: str | None
    status: Literal["pending", "in_progress", "completed", "failed", "cancelled", "skipped", "not_found"]
    progress: float
    error: str | None
    not_run: bool | UnsetType = UNSET
    cause_id: str | UnsetType = UNSET
    is_running: bool
    started_at: str | None
    updated_at: str | None


class RunningCount(Response, frozen=True, kw_only=True):
    """The number of trees that are running or waiting for a worker."""

    count: int


def _cancelled(native: Sequence[Json]) -> tuple[int, Json]:
    """200 if the task is cancelled, 202 if its worker has yet to stop it.

    Raises TaskNotFound or StatusConflict.
    """
    answer = native[0]
    if answer["status"] == "cancelled":
        return 200, answer
    if answer["current_status"] is None:
        raise errors.TaskNotFound(answer["task_id"])
    if answer["current_status"] in TERMINAL:
        data = {"task_id": answer["task_id"], "status": answer["current_status"]}
        raise errors.StatusConflict(f"Task '{answer['task_id']}' cannot be cancelled. {answer['message']}", data=data)
    return 202, answer


@method("tasks.running.list", role=VIEWER, answer=list[Task])
def list_running(caller: Caller, given: RunningList) -> TaskListResult:
    """Return the roots of trees that are running or waiting for a worker."""
    roots = queries.running_list(caller=caller, user_id=given.user_id, limit=given.limit)
    return TaskListResult(native=[native_task(task) for task in roots], tasks=roots)


@method("tasks.running.status", role=VIEWER, answer=list[Standing])
def status(caller: Caller, given: RunningStatus) -> AnswersResult:
    """Return the status of each task, in request order. A root reports its latest run."""
    standings = queries.running_status(caller=caller, task_ids=_ids(caller, given))
    return AnswersResult(native=[native_standing(standing) for standing in standings])


@method("tasks.running.count", role=VIEWER, answer=RunningCount)
def count(caller: Caller, given: CountRunning) -> DataResult:
    """Return the number of trees that are running or waiting for a worker."""
    return DataResult(native={"count": queries.running_count(caller=caller, user_id=given.user_id)})


@method(
    "tasks.cancel",
    "tasks.running.cancel",
    role=OPERATOR,
    answer=list[Cancellation],
    rest=[
        Rest(
            "cancelTask",
            "POST tasks/<task_id>/cancel/",
            answers={200: Cancellation, 202: Cancellation},
            answered=_cancelled,
            errors=(errors.StatusConflict,),
            without=frozenset({"context_ids", "task_ids"}),
        )
    ],
)
async def cancel(caller: Caller, given: Cancel) -> AnswersResult:
    """Cancel tasks and their descendants."""
    task_ids = await pools.read(_ids, caller, given)
    answers = await cancel_tasks(caller, task_ids=task_ids, force=given.force, error_message=given.error_message)
    return AnswersResult(native=answers)


def _ids(caller: Caller, given: Named) -> list[str]:
    """Return the distinct ids of the named tasks, and of the roots of the named contexts."""
    contexts = texts(given.context_ids)
    roots = queries.roots_of_contexts(caller=caller, context_ids=contexts) if contexts else []
    return list(dict.fromkeys([*given.ids, *roots]))
