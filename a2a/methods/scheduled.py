"""Methods for tasks with a schedule of their own, under the names that apflow 0.18 gave them."""

import asyncio
from contextlib import suppress
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, UnsetType

from a2a.core.mapping import native_task
from a2a.core.parsing import Params, Text
from a2a.methods.method import OPERATOR, VIEWER, Response, method
from a2a.methods.params import MOST_NAMED
from a2a.methods.responses import ScheduleType, Task
from a2a.methods.results import DataResult, TaskListResult, TaskResult
from a2a.methods.schedules import Reason, WallTime
from accounts.callers import Caller
from apflow_site.db import pools
from tasks import models
from tasks.events import end_of
from tasks.rules.strict_json import Json
from tasks.services.schedules import task_schedules
from tasks.services.trees import queries
from tasks.status import Status

WAIT_SECONDS: Final = 30.0
"""The seconds that `tasks.webhook.trigger` waits for the end of a run; then it replies that the run continues."""
Limit = Annotated[int, Meta(ge=1, le=MOST_NAMED)]
Address = Annotated[str, Meta(max_length=2_000, pattern="^https?://")]


class ListScheduled(Params, frozen=True, kw_only=True):
    """tasks.scheduled.list"""

    enabled_only: bool = True
    user_id: Text | None = None
    schedule_type: ScheduleType | None = None
    status: Status | None = None
    limit: Limit = 100
    offset: Annotated[int, Meta(ge=0, le=1_000_000)] = 0


class ListDue(Params, frozen=True, kw_only=True):
    """tasks.scheduled.due: by default up to now."""

    before: WallTime | None = None
    user_id: Text | None = None
    limit: Limit = 100


class InitSchedule(Params, frozen=True, kw_only=True):
    """tasks.scheduled.init: the next time after `from_time`, which is now by default."""

    ALIASES = MappingProxyType({"id": "task_id"})
    task_id: Text
    from_time: WallTime | None = None


class CompleteRun(Params, frozen=True, kw_only=True):
    """tasks.scheduled.complete: `error` is why the run failed. The result of a task is only set by its own run."""

    ALIASES = MappingProxyType({"id": "task_id"})
    task_id: Text
    success: bool = True
    error: Reason | None = None
    calculate_next_run: bool = True
    result: None = None


class ExportICal(Params, frozen=True, kw_only=True):
    """tasks.scheduled.export-ical: with `base_url` each event has the address of its task's page."""

    user_id: Text | None = None
    schedule_type: ScheduleType | None = None
    enabled_only: bool = True
    limit: Limit = 100
    calendar_name: Annotated[str, Meta(min_length=1, max_length=255)] = "APFlow Tasks"
    base_url: Address | None = None


class Trigger(Params, frozen=True, kw_only=True):
    """tasks.webhook.trigger: `signature` and `timestamp` are not needed, since the caller is known."""

    ALIASES = MappingProxyType({"id": "task_id"})
    task_id: Text
    signature: str | None = None
    timestamp: str | None = None
    async_execution: bool = True


class Calendar(Response, frozen=True, kw_only=True):
    """A calendar in the iCalendar format (RFC 5545), with an event for each task."""

    ical_content: str
    task_count: int


class Triggered(Response, frozen=True, kw_only=True):
    """Whether a task was run. `result` and `error` are there if the reply waited for the end of the run."""

    success: bool
    task_id: str
    status: Literal["triggered", "completed", "failed", "cancelled"] | UnsetType = UNSET
    message: str | UnsetType = UNSET
    result: Any = UNSET
    error: str | UnsetType | None = UNSET


@method("tasks.scheduled.list", role=VIEWER, answer=list[Task])
def list_scheduled(caller: Caller, given: ListScheduled) -> TaskListResult:
    """List the tasks that run again at times. The next one to run comes first."""
    tasks = task_schedules.list_scheduled(
        caller=caller,
        enabled_only=given.enabled_only,
        user_id=given.user_id,
        schedule_type=given.schedule_type,
        status=given.status,
        limit=given.limit,
        offset=given.offset,
    )
    return _listed(tasks)


@method("tasks.scheduled.due", role=VIEWER, answer=list[Task])
def list_due(caller: Caller, given: ListDue) -> TaskListResult:
    """List the tasks that should have started by now. The server starts them itself, so there are rarely any."""
    return _listed(
        task_schedules.list_due(caller=caller, before=given.before, user_id=given.user_id, limit=given.limit)
    )


@method("tasks.scheduled.init", role=OPERATOR, answer=Task)
async def init(caller: Caller, given: InitSchedule) -> TaskResult:
    """Compute the next time of a task again."""
    task = await pools.write(
        task_schedules.init_schedule, caller=caller, task_id=given.task_id, from_time=given.from_time
    )
    return TaskResult(native=native_task(task), task=task)


@method("tasks.scheduled.complete", role=OPERATOR, answer=Task)
async def complete(caller: Caller, given: CompleteRun) -> TaskResult:
    """Note a run that another scheduler has made, and compute the next time."""
    task = await pools.write(
        task_schedules.note_run,
        caller=caller,
        task_id=given.task_id,
        success=given.success,
        error=given.error,
        continues=given.calculate_next_run,
    )
    return TaskResult(native=native_task(task), task=task)


@method("tasks.scheduled.export-ical", role=VIEWER, answer=Calendar)
def export_ical(caller: Caller, given: ExportICal) -> DataResult:
    """Return the times of the tasks as a calendar in the iCalendar format."""
    from tasks.rules.calendars import Entry, calendar_of  # noqa: PLC0415  its library takes 0.1 s, and is rarely needed

    tasks = task_schedules.list_scheduled(
        caller=caller,
        enabled_only=given.enabled_only,
        user_id=given.user_id,
        schedule_type=given.schedule_type,
        limit=given.limit,
    )
    entries = [
        Entry(
            task_id=task.id,
            name=task.name,
            kind=schedule.schedule_type,
            timing=schedule.timing,
            next_run_at=schedule.next_run_at,
        )
        for task in tasks
        if (schedule := vars(task)["schedule"]).next_run_at is not None
    ]
    text = calendar_of(entries, name=given.calendar_name, base_url=given.base_url)
    return DataResult(native={"ical_content": text, "task_count": len(entries)})


@method("tasks.webhook.trigger", role=OPERATOR, answer=Triggered)
async def trigger(caller: Caller, given: Trigger) -> DataResult:
    """Run a task now. With `async_execution: false` the reply has its result, if it ends soon."""
    run, reason = await pools.write(task_schedules.trigger, caller=caller, task_id=given.task_id)
    if run is None:
        return DataResult(native={"success": False, "error": reason, "task_id": given.task_id})
    if not given.async_execution:
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT_SECONDS):
                if (status := await end_of(run)) is not None:
                    return DataResult(native=await _ended(caller, status, given.task_id))
    message = "The task runs in the background. Follow its events, or call tasks.tree."
    return DataResult(native={"success": True, "status": "triggered", "task_id": given.task_id, "message": message})


async def _ended(caller: Caller, status: str, task_id: str) -> Json:
    task = await pools.read(queries.get_task, caller=caller, task_id=task_id)
    shown = native_task(task)
    return {
        "success": status == Status.COMPLETED,
        "status": status,
        "task_id": task_id,
        "result": shown["result"],
        "error": shown["error"],
    }


def _listed(tasks: list[models.Task]) -> TaskListResult:
    return TaskListResult(native=[native_task(task) for task in tasks], tasks=tasks)
