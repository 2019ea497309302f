"""Methods for schedules."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeVar
from zoneinfo import ZoneInfo

from msgspec import UNSET, Meta, UnsetType

from a2a.core.parsing import NotWith, Params, Text
from a2a.methods.method import OPERATOR, TREE_ERRORS, VIEWER, Response, Rest, Tool, has_one_of, method
from a2a.methods.params import NewTasks, Tags
from a2a.methods.results import DataResult
from accounts.callers import Caller
from apflow_site.db import pools
from tasks import models
from tasks.models import Firing
from tasks.rules import exceptions as errors
from tasks.rules.firings import CatchUp, Outcome, Overlap
from tasks.rules.schedules import in_words
from tasks.rules.strict_json import Json
from tasks.services import schedules
from tasks.services.schedules import FIELDS, Fired, Listed
from tasks.services.trees.idempotency import Token, remembered
from tasks.status import Status

NO_TASKS: Final = {
    "tasks": "no argument of this tool: run the tree first, and schedule its task_id, or save it as a flow"
}
MOST_SECONDS = 2**31 - 1
YEAR = 366 * 86_400
WallTime = Annotated[str, Meta(min_length=1, max_length=64)]
"""ISO 8601. Without an offset it is a wall-clock time in the zone of the schedule."""
Cron = Annotated[str, Meta(min_length=1, max_length=255)]
Zone = Annotated[str, Meta(min_length=1, max_length=64)]
Every = Annotated[int, Meta(ge=1, le=MOST_SECONDS)]
Count = Annotated[int, Meta(ge=1, le=MOST_SECONDS)]
Window = Annotated[int, Meta(ge=0, le=YEAR)]
Jitter = Annotated[int, Meta(ge=0, le=86_400)]
Reason = Annotated[str, Meta(min_length=1, max_length=10_000)]
ONE_KIND = "choose one of cron, every_seconds and at"
ONE_TIMING = (
    NotWith("every_seconds", "cron", ONE_KIND),
    NotWith("at", "cron", ONE_KIND),
    NotWith("at", "every_seconds", ONE_KIND),
)
ONE_TREE = "choose one of tasks, task_id and flow"
ONE_SUBJECT = (
    NotWith("task_id", "tasks", ONE_TREE),
    NotWith("flow", "tasks", ONE_TREE),
    NotWith("flow", "task_id", ONE_TREE),
)
CLEARED = frozenset({"flow_version", "inputs", "tags", "starts_at", "ends_at", "max_runs", "pause_after_failures"})


class Changing(Params, frozen=True, kw_only=True):
    """The fields of a schedule that a request may set."""

    CONDITIONS = (*ONE_TIMING, *ONE_SUBJECT)
    name: Text | UnsetType = UNSET
    tasks: NewTasks | UnsetType = UNSET
    task_id: Text | UnsetType = UNSET
    flow: Text | UnsetType = UNSET
    flow_version: Count | UnsetType | None = UNSET
    """None: the one that is the newest at each time."""
    inputs: dict[str, Any] | UnsetType | None = UNSET
    """Values for `{{run.inputs.topic}}` in the tree, for each run."""
    tags: Tags | UnsetType | None = UNSET
    """The tags of each run."""
    cron: Cron | UnsetType = UNSET
    every_seconds: Every | UnsetType = UNSET
    at: WallTime | UnsetType = UNSET
    timezone: Zone | UnsetType = UNSET
    starts_at: WallTime | UnsetType | None = UNSET
    ends_at: WallTime | UnsetType | None = UNSET
    max_runs: Count | UnsetType | None = UNSET
    overlap: Overlap | UnsetType = UNSET
    catch_up: CatchUp | UnsetType = UNSET
    catch_up_window_seconds: Window | UnsetType = UNSET
    jitter_seconds: Jitter | UnsetType = UNSET
    pause_after_failures: Count | UnsetType | None = UNSET

    @property
    def fields(self) -> dict[str, Any]:
        """Return the given fields by name."""
        return {name: value for name in FIELDS if (value := getattr(self, name)) is not UNSET}


class CreateSchedule(Changing, frozen=True, kw_only=True):
    """schedules.create"""

    is_paused: bool = False
    user_id: Text | None = None
    """The owner; only administrators may name another user. Default: the owner of the tree, or the caller."""


class UpdateSchedule(Changing, frozen=True, kw_only=True):
    """schedules.update: the fields to change. Null clears those that may be absent."""

    ALIASES = MappingProxyType({"id": "schedule_id"})
    NULLABLE = CLEARED
    HINTS = MappingProxyType({"is_paused": "use schedules.pause or schedules.resume"})
    schedule_id: Text


class NamedSchedule(Params, frozen=True, kw_only=True):
    """schedules.get, schedules.delete, schedules.resume"""

    ALIASES = MappingProxyType({"id": "schedule_id"})
    schedule_id: Text


class PauseSchedule(NamedSchedule, frozen=True, kw_only=True):
    """schedules.pause"""

    reason: Reason | None = None


class ListSchedules(Params, frozen=True, kw_only=True):
    """schedules.list"""

    user_id: Text | None = None
    is_paused: bool | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    cursor: str | None = None


class TriggerSchedule(NamedSchedule, frozen=True, kw_only=True):
    """schedules.trigger"""

    overlap: Overlap | None = None
    """Replaces that of the schedule for this run."""


class BackfillSchedule(NamedSchedule, frozen=True, kw_only=True):
    """schedules.backfill: the times from `since` to `until`, both included."""

    ALIASES = MappingProxyType({"id": "schedule_id", "from": "since", "to": "until"})

    since: WallTime
    until: WallTime
    overlap: Overlap = Overlap.QUEUE


class PreviewSchedule(Params, frozen=True, kw_only=True):
    """schedules.preview: of a stored schedule, or of these fields."""

    CONDITIONS = ONE_TIMING
    ALIASES = MappingProxyType({"id": "schedule_id"})
    schedule_id: Text | None = None
    cron: Cron | None = None
    every_seconds: Every | None = None
    at: WallTime | None = None
    timezone: Zone | None = None
    starts_at: WallTime | None = None
    ends_at: WallTime | None = None
    count: Annotated[int, Meta(ge=1, le=100)] = 5

    @property
    def fields(self) -> dict[str, Any]:
        names = ("cron", "every_seconds", "at", "timezone", "starts_at", "ends_at")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class ListFirings(NamedSchedule, frozen=True, kw_only=True):
    """schedules.runs"""

    before: WallTime | None = None
    """Only times before this one."""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class Schedule(Response, frozen=True, kw_only=True):
    """A schedule. Times are ISO 8601 in UTC. Only `schedules.get` returns `tasks` and `inputs`.

    `in_words` describes its times. `next_run_at` is null while it is paused, and at its end. With a `schedule_type` it is the
    schedule of the task itself, which runs again; otherwise each run gets a copy.
    """

    id: str
    name: str
    user_id: str
    tasks: Any = UNSET
    task_id: str | None
    flow: str | None
    flow_version: int | None
    inputs: Json | UnsetType | None = UNSET
    tags: list[str]
    schedule_type: str | None
    cron: str | None
    every_seconds: int | None
    at: str | None
    timezone: str
    in_words: str
    starts_at: str | None
    ends_at: str | None
    max_runs: int | None
    overlap: Overlap
    catch_up: CatchUp
    catch_up_window_seconds: int
    jitter_seconds: int
    is_paused: bool
    pause_reason: str | None
    pause_after_failures: int | None
    next_run_at: str | None
    last_run_at: str | None
    last_status: Status | None
    run_count: int
    created_at: str
    updated_at: str


class Schedules(Response, frozen=True, kw_only=True):
    """A page of schedules. `next_cursor` is null on the last one."""

    schedules: list[Schedule]
    next_cursor: str | None


class ScheduledRun(Response, frozen=True, kw_only=True):
    """One of the times of a schedule. `reason` is the reason why there is no run.

    `task_id` is the root of the tree that was run, and `status` that of the run.
    """

    scheduled_for: str
    outcome: Outcome
    cause: Literal["clock", "trigger", "backfill", "reported"]
    reason: str | None
    run_id: str | None
    task_id: str | None
    status: Status | None
    started_at: str | None


class ScheduledRuns(Response, frozen=True, kw_only=True):
    """The times of a schedule, with the action at each."""

    runs: list[ScheduledRun]


class ScheduleDeleted(Response, frozen=True, kw_only=True):
    """The deleted schedule. Its trees and runs are kept."""

    schedule_id: str
    deleted: bool


class ScheduledTime(Response, frozen=True, kw_only=True):
    """A time in UTC, and as a clock in the zone of the schedule shows it."""

    at: str
    local: str


class SchedulePreview(Response, frozen=True, kw_only=True):
    """The next times of a schedule, and how people say it."""

    in_words: str
    timezone: str
    times: list[ScheduledTime]


T = TypeVar("T", models.Schedule, Firing)


@method(
    "schedules.create",
    role=OPERATOR,
    answer=Schedule,
    rest=[
        Rest(
            "createSchedule",
            "POST schedules/",
            answers={201: Schedule},
            errors=(errors.TaskNotFound, errors.FlowNotFound, errors.LimitReached, *TREE_ERRORS),
            rules={"anyOf": has_one_of("tasks", "task_id", "flow"), "oneOf": has_one_of("cron", "every_seconds", "at")},
        )
    ],
    tool=Tool(
        "create_schedule",
        "Create a schedule",
        "Start runs at times: of a flow, or of copies of a stored tree (task_id), by cron (with a "
        "timezone), every_seconds or at. Check the times with preview_schedule first.",
        without=NO_TASKS,
    ),
)
async def create(caller: Caller, given: CreateSchedule, *, token: Token | None = None) -> DataResult:
    """Store a schedule, which runs a tree at times."""
    verb = partial(
        schedules.create_schedule,
        caller=caller,
        fields=given.fields,
        is_paused=given.is_paused,
        user_id=given.user_id,
    )
    made = await pools.write(partial(_once, verb, caller=caller, token=token, restore=partial(_schedule, caller)))
    return await _shown(made)


@method(
    "schedules.get",
    role=VIEWER,
    answer=Schedule,
    rest=[Rest("getSchedule", "GET schedules/<schedule_id>/")],
    tool=Tool("get_schedule", "Get a schedule", "Return a schedule with its inputs and what it runs."),
)
def get(caller: Caller, given: NamedSchedule) -> DataResult:
    """Return a schedule with its tree."""
    found = schedules.get_schedule(caller=caller, schedule_id=given.schedule_id)
    row = found.schedule
    return DataResult(native=native_schedule(found) | {"tasks": row.tasks, "inputs": row.inputs})


@method(
    "schedules.list",
    role=VIEWER,
    answer=Schedules,
    rest=[Rest("listSchedules", "GET schedules/")],
    tool=Tool(
        "list_schedules", "List schedules", "List your schedules with their next times and how their last runs went."
    ),
)
def list_schedules(caller: Caller, given: ListSchedules) -> DataResult:
    """List schedules, the newest first."""
    page, cursor = schedules.list_schedules(
        caller=caller,
        user_id=given.user_id,
        is_paused=given.is_paused,
        limit=given.limit,
        cursor=given.cursor or "",
    )
    return DataResult(native={"schedules": [native_schedule(each) for each in page], "next_cursor": cursor})


@method(
    "schedules.update",
    role=OPERATOR,
    answer=Schedule,
    rest=[
        Rest(
            "updateSchedule",
            "PATCH schedules/<schedule_id>/",
            errors=(errors.TaskNotFound, errors.FlowNotFound, *TREE_ERRORS),
            rules={"minProperties": 1},
        )
    ],
    tool=Tool(
        "update_schedule",
        "Change a schedule",
        "Change fields of a schedule, such as its times. What is not given stays as it is.",
        without=NO_TASKS,
    ),
)
async def update(caller: Caller, given: UpdateSchedule) -> DataResult:
    """Change a schedule. Its next time is computed again if its times change."""
    return await _shown(
        await pools.write(schedules.update_schedule, caller=caller, schedule_id=given.schedule_id, fields=given.fields)
    )


@method(
    "schedules.delete",
    role=OPERATOR,
    answer=ScheduleDeleted,
    rest=[Rest("deleteSchedule", "DELETE schedules/<schedule_id>/")],
    tool=Tool(
        "delete_schedule",
        "Delete a schedule",
        "Delete a schedule and its history. Its trees and runs are kept.",
        destroys=True,
        is_idempotent=True,
    ),
)
async def delete(caller: Caller, given: NamedSchedule) -> DataResult:
    """Delete a schedule. Its trees and runs are kept."""
    await pools.write(schedules.delete_schedule, caller=caller, schedule_id=given.schedule_id)
    return DataResult(native={"schedule_id": given.schedule_id, "deleted": True})


@method(
    "schedules.pause",
    role=OPERATOR,
    answer=Schedule,
    rest=[Rest("pauseSchedule", "POST schedules/<schedule_id>/pause/")],
    tool=Tool(
        "pause_schedule", "Pause a schedule", "Start no run of a schedule until resume_schedule.", is_idempotent=True
    ),
)
async def pause(caller: Caller, given: PauseSchedule) -> DataResult:
    """Start no run of a schedule until it is resumed."""
    return await _shown(
        await pools.write(schedules.pause_schedule, caller=caller, schedule_id=given.schedule_id, reason=given.reason)
    )


@method(
    "schedules.resume",
    role=OPERATOR,
    answer=Schedule,
    rest=[Rest("resumeSchedule", "POST schedules/<schedule_id>/resume/")],
    tool=Tool(
        "resume_schedule", "Resume a schedule", "Continue a paused schedule with its next time.", is_idempotent=True
    ),
)
async def resume(caller: Caller, given: NamedSchedule) -> DataResult:
    """Continue a paused schedule with its next time."""
    return await _shown(await pools.write(schedules.resume_schedule, caller=caller, schedule_id=given.schedule_id))


@method(
    "schedules.trigger",
    role=OPERATOR,
    answer=ScheduledRun,
    rest=[Rest("triggerSchedule", "POST schedules/<schedule_id>/trigger/")],
    tool=Tool(
        "trigger_schedule",
        "Run a schedule now",
        "Start a run of a schedule now. Its times stay the same.",
        reaches_out=True,
    ),
)
async def trigger(caller: Caller, given: TriggerSchedule, *, token: Token | None = None) -> DataResult:
    """Run a schedule now, as well as at its times."""
    verb = partial(schedules.trigger_schedule, caller=caller, schedule_id=given.schedule_id, overlap=given.overlap)
    firing = await pools.write(partial(_once, verb, caller=caller, token=token, restore=_firing))
    (fired,) = await pools.read(schedules.fired, [firing])
    return DataResult(native=native_firing(fired))


@method(
    "schedules.backfill",
    role=OPERATOR,
    answer=ScheduledRuns,
    rest=[Rest("backfillSchedule", "POST schedules/<schedule_id>/backfill/", rules={"required": ["since", "until"]})],
    tool=Tool(
        "backfill_schedule",
        "Run past times of a schedule",
        "Run the times from since to until that have had no run, one after the other.",
        reaches_out=True,
    ),
)
async def backfill(caller: Caller, given: BackfillSchedule) -> DataResult:
    """Run past times of a schedule that have had no run."""
    made = await pools.write(
        schedules.backfill_schedule,
        caller=caller,
        schedule_id=given.schedule_id,
        since=given.since,
        until=given.until,
        overlap=given.overlap,
    )
    return DataResult(native={"runs": [native_firing(each) for each in await pools.read(schedules.fired, made)]})


@method(
    "schedules.preview",
    role=VIEWER,
    answer=SchedulePreview,
    rest=[
        Rest(
            "previewSchedule",
            "POST schedules/preview/",
            errors=(errors.ScheduleNotFound,),
            rules={"anyOf": has_one_of("schedule_id", "cron", "every_seconds", "at")},
        )
    ],
    tool=Tool(
        "preview_schedule",
        "Preview a schedule",
        "Return the next times of a schedule, or of cron (with a timezone), every_seconds or at, in words"
        " and as times. Nothing is stored.",
    ),
)
def preview(caller: Caller, given: PreviewSchedule) -> DataResult:
    """Return the next times of a schedule, stored or not. Stores nothing."""
    timing, slots = schedules.preview(
        caller=caller, schedule_id=given.schedule_id, fields=given.fields, count=given.count
    )
    zone = ZoneInfo(timing.timezone)
    times = [{"at": slot.isoformat(), "local": slot.astimezone(zone).isoformat()} for slot in slots]
    return DataResult(native={"in_words": in_words(timing), "timezone": timing.timezone, "times": times})


@method(
    "schedules.runs",
    role=VIEWER,
    answer=ScheduledRuns,
    rest=[Rest("listScheduledRuns", "GET schedules/<schedule_id>/runs/")],
    tool=Tool(
        "list_schedule_runs",
        "List the runs of a schedule",
        "List what a schedule did at its times, the newest first: which runs it started, and why it started none.",
    ),
)
def runs(caller: Caller, given: ListFirings) -> DataResult:
    """Return what a schedule did at its times, the newest first."""
    found = schedules.firings_of(caller=caller, schedule_id=given.schedule_id, before=given.before, limit=given.limit)
    return DataResult(native={"runs": [native_firing(each) for each in found]})


def native_schedule(listed: Listed) -> Json:
    row = listed.schedule
    return {
        "id": row.id,
        "name": row.name,
        "user_id": row.user_id,
        "task_id": row.task_id,
        "flow": row.flow,
        "flow_version": row.flow_version,
        "tags": row.tags or [],
        "schedule_type": row.schedule_type,
        "cron": row.cron,
        "every_seconds": row.every_seconds,
        "at": _time(row.at),
        "timezone": row.timezone,
        "in_words": in_words(row.timing),
        "starts_at": _time(row.starts_at),
        "ends_at": _time(row.ends_at),
        "max_runs": row.max_runs,
        "overlap": row.overlap,
        "catch_up": row.catch_up,
        "catch_up_window_seconds": row.catch_up_window_seconds,
        "jitter_seconds": row.jitter_seconds,
        "is_paused": row.is_paused,
        "pause_reason": row.pause_reason,
        "pause_after_failures": row.pause_after_failures,
        "next_run_at": _time(row.next_run_at),
        "last_run_at": _time(row.last_run_at),
        "last_status": listed.last_status,
        "run_count": row.run_count,
        "created_at": _time(row.created_at),
        "updated_at": _time(row.updated_at),
    }


def native_firing(fired: Fired) -> Json:
    row = fired.firing
    return {
        "scheduled_for": _time(row.scheduled_for),
        "outcome": row.outcome,
        "cause": row.cause,
        "reason": row.reason,
        "run_id": row.run_id,
        "task_id": row.root_id,
        "status": fired.status,
        "started_at": _time(row.started_at),
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


async def _shown(schedule: models.Schedule) -> DataResult:
    (listed,) = await pools.read(schedules.with_statuses, [schedule])
    return DataResult(native=native_schedule(listed))


def _once(verb: Callable[[], T], *, caller: Caller, token: Token | None, restore: Callable[[Json], T]) -> T:
    """Call the function, or return the row of the first call by the token."""
    if token is None:
        return verb()
    return remembered(verb, caller=caller, token=token, outcome_of=lambda row: {"made": row.pk}, restore=restore)


def _schedule(caller: Caller, outcome: Json) -> models.Schedule:
    return schedules.get_schedule(caller=caller, schedule_id=outcome["made"]).schedule


def _firing(outcome: Json) -> Firing:
    made: Firing = Firing.objects.get(pk=outcome["made"])
    return made
