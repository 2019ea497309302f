"""The tools for schedules: the methods, without trees in their arguments, whose schema is long."""

from collections.abc import Sequence
from typing import Any, Final

from a2a.core.parsing import Params
from a2a.mcp.tools.direct import direct
from a2a.mcp.tools.tool import READS, Hints, Tool
from a2a.methods import schedule_params as params
from a2a.methods import schedule_responses as responses
from a2a.methods import schedules
from accounts.callers import Role

NO_TASKS: Final = {
    "tasks": "no argument of this tool: run the tree first, and schedule its task_id, or save it as a flow"
}
SUBJECT: Final = "of a flow, or of copies of a stored tree (task_id)"
WHEN: Final = "cron (with a timezone), every_seconds or at"


def _tool(
    name: str, title: str, description: str, function: Any, given: type[Params], answer: Any, **more: Any
) -> Tool:
    return direct(name, title, description, function, given=given, answer=answer, **more)


def _reads(name: str, title: str, description: str, function: Any, given: type[Params], answer: Any) -> Tool:
    return _tool(name, title, description, function, given, answer, hints=READS, role=Role.VIEWER)


def schedule_tools() -> Sequence[Tool]:
    """Return the tools, one for each method."""
    return (
        _tool(
            "create_schedule",
            "Create a schedule",
            f"Start runs at times: {SUBJECT}, by {WHEN}. Check the times with preview_schedule first.",
            schedules.create,
            params.CreateSchedule,
            responses.Schedule,
            without=NO_TASKS,
        ),
        _tool(
            "update_schedule",
            "Change a schedule",
            "Change fields of a schedule, such as its times. What is not given stays as it is.",
            schedules.update,
            params.UpdateSchedule,
            responses.Schedule,
            without=NO_TASKS,
        ),
        _tool(
            "delete_schedule",
            "Delete a schedule",
            "Delete a schedule and its history. Its trees and runs are kept.",
            schedules.delete,
            params.NamedSchedule,
            responses.ScheduleDeleted,
            hints=Hints(destroys=True, is_idempotent=True),
        ),
        _tool(
            "pause_schedule",
            "Pause a schedule",
            "Start no run of a schedule until resume_schedule.",
            schedules.pause,
            params.PauseSchedule,
            responses.Schedule,
            hints=Hints(is_idempotent=True),
        ),
        _tool(
            "resume_schedule",
            "Resume a schedule",
            "Continue a paused schedule with its next time.",
            schedules.resume,
            params.NamedSchedule,
            responses.Schedule,
            hints=Hints(is_idempotent=True),
        ),
        _tool(
            "trigger_schedule",
            "Run a schedule now",
            "Start a run of a schedule now, besides its times.",
            schedules.trigger,
            params.TriggerSchedule,
            responses.ScheduledRun,
            hints=Hints(reaches_out=True),
        ),
        _tool(
            "backfill_schedule",
            "Run past times of a schedule",
            "Run the times from since to until that have had no run, one after the other.",
            schedules.backfill,
            params.BackfillSchedule,
            responses.ScheduledRuns,
            hints=Hints(reaches_out=True),
        ),
        _reads(
            "list_schedules",
            "List schedules",
            "List your schedules with their next times and how their last runs went.",
            schedules.list_schedules,
            params.ListSchedules,
            responses.Schedules,
        ),
        _reads(
            "get_schedule",
            "Get a schedule",
            "Return a schedule with its inputs and what it runs.",
            schedules.get,
            params.NamedSchedule,
            responses.Schedule,
        ),
        _reads(
            "preview_schedule",
            "Preview a schedule",
            f"Return the next times of a schedule, or of {WHEN}, in words and as times. Nothing is stored.",
            schedules.preview,
            params.PreviewSchedule,
            responses.SchedulePreview,
        ),
        _reads(
            "list_schedule_runs",
            "List the runs of a schedule",
            "List what a schedule did at its times, the newest first: which runs it started, and why it started none.",
            schedules.runs,
            params.ListFirings,
            responses.ScheduledRuns,
        ),
    )
