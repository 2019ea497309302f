"""Methods for tasks with a schedule of their own, under the names that apflow 0.18 gave them."""

import asyncio
from contextlib import suppress
from typing import Final

from a2a.core.mapping import native_task
from a2a.methods import scheduled_params as params
from a2a.methods.execute import end_of
from a2a.methods.results import DataResult, TaskListResult, TaskResult
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.models import Run, Task
from tasks.rules.strict_json import Json
from tasks.services.schedules import task_schedules
from tasks.services.trees import queries
from tasks.status import Status

WAIT_SECONDS: Final = 30.0
"""The seconds that `tasks.webhook.trigger` waits for the end of a run; then it replies that the run continues."""


def list_scheduled(caller: Caller, given: params.ListScheduled) -> TaskListResult:
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


def list_due(caller: Caller, given: params.ListDue) -> TaskListResult:
    """List the tasks that should have started by now. The server starts them itself, so there are rarely any."""
    return _listed(
        task_schedules.list_due(caller=caller, before=given.before, user_id=given.user_id, limit=given.limit)
    )


async def init(caller: Caller, given: params.InitSchedule) -> TaskResult:
    """Compute the next time of a task again."""
    task = await pools.write(
        task_schedules.init_schedule, caller=caller, task_id=given.task_id, from_time=given.from_time
    )
    return TaskResult(native=native_task(task), task=task)


async def complete(caller: Caller, given: params.CompleteRun) -> TaskResult:
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


def export_ical(caller: Caller, given: params.ExportICal) -> DataResult:
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


async def trigger(caller: Caller, given: params.Trigger) -> DataResult:
    """Run a task now. With `async_execution: false` the reply has its result, if it ends soon."""
    run, reason = await pools.write(task_schedules.trigger, caller=caller, task_id=given.task_id)
    if run is None:
        return DataResult(native={"success": False, "error": reason, "task_id": given.task_id})
    if not given.async_execution:
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT_SECONDS):
                await end_of(run)
                return DataResult(native=await _ended(caller, run, given.task_id))
    message = "The task runs in the background. Follow its events, or call tasks.tree."
    return DataResult(native={"success": True, "status": "triggered", "task_id": given.task_id, "message": message})


async def _ended(caller: Caller, run: Run, task_id: str) -> Json:
    ended = await pools.read(queries.run_now, run)
    task = await pools.read(queries.get_task, caller=caller, task_id=task_id)
    shown = native_task(task)
    return {
        "success": ended.status == Status.COMPLETED,
        "status": ended.status,
        "task_id": task_id,
        "result": shown["result"],
        "error": shown["error"],
    }


def _listed(tasks: list[Task]) -> TaskListResult:
    return TaskListResult(native=[native_task(task) for task in tasks], tasks=tasks)
