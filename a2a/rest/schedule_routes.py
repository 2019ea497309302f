"""The REST operations on schedules."""

from collections.abc import Mapping
from typing import Any, Final

from a2a.methods import schedule_responses
from a2a.rest.operation import TREE_ERRORS, Operation, has_one_of
from tasks.rules import exceptions as errors

SCHEDULE_ID: Final = "schedule_id"


def _schedule(name: str, method: str, kind: Any = schedule_responses.Schedule, **more: Any) -> Operation:
    """Return an operation on one schedule."""
    return Operation(
        name=name,
        method=method,
        in_path=SCHEDULE_ID,
        answers={200: kind},
        **{"errors": (errors.ScheduleNotFound,), **more},
    )


WHEN: Final = ("cron", "every_seconds", "at")
SCHEDULES: Final[Mapping[str, Mapping[str, Operation]]] = {
    "schedules/": {
        "get": Operation(name="listSchedules", method="schedules.list", answers={200: schedule_responses.Schedules}),
        "post": Operation(
            name="createSchedule",
            method="schedules.create",
            takes="body",
            rules={"anyOf": has_one_of("tasks", "task_id", "flow"), "oneOf": has_one_of(*WHEN)},
            is_body_required=True,
            answers={201: schedule_responses.Schedule},
            errors=(errors.TaskNotFound, errors.FlowNotFound, errors.LimitReached, *TREE_ERRORS),
        ),
    },
    "schedules/preview/": {
        "post": Operation(
            name="previewSchedule",
            method="schedules.preview",
            takes="body",
            rules={"anyOf": has_one_of("schedule_id", *WHEN)},
            is_body_required=True,
            answers={200: schedule_responses.SchedulePreview},
            errors=(errors.ScheduleNotFound,),
        )
    },
    "schedules/<segment:schedule_id>/": {
        "get": _schedule("getSchedule", "schedules.get"),
        "patch": _schedule(
            "updateSchedule",
            "schedules.update",
            takes="body",
            rules={"minProperties": 1},
            is_body_required=True,
            errors=(errors.ScheduleNotFound, errors.TaskNotFound, errors.FlowNotFound, *TREE_ERRORS),
        ),
        "delete": _schedule("deleteSchedule", "schedules.delete", schedule_responses.ScheduleDeleted),
    },
    "schedules/<segment:schedule_id>/pause/": {"post": _schedule("pauseSchedule", "schedules.pause", takes="body")},
    "schedules/<segment:schedule_id>/resume/": {"post": _schedule("resumeSchedule", "schedules.resume", takes="body")},
    "schedules/<segment:schedule_id>/trigger/": {
        "post": _schedule("triggerSchedule", "schedules.trigger", schedule_responses.ScheduledRun, takes="body")
    },
    "schedules/<segment:schedule_id>/backfill/": {
        "post": _schedule(
            "backfillSchedule",
            "schedules.backfill",
            schedule_responses.ScheduledRuns,
            takes="body",
            is_body_required=True,
            rules={"required": ["since", "until"]},
        )
    },
    "schedules/<segment:schedule_id>/runs/": {
        "get": _schedule("listScheduledRuns", "schedules.runs", schedule_responses.ScheduledRuns)
    },
}
