"""The results of the methods for schedules, as types."""

from typing import Any, Literal

from msgspec import UNSET, UnsetType

from a2a.methods.response import Response
from tasks.rules.firings import CatchUp, Outcome, Overlap
from tasks.rules.strict_json import Json
from tasks.status import Status

ScheduleType = Literal["once", "interval", "cron", "daily", "weekly", "monthly"]


class TaskSchedule(Response, frozen=True, kw_only=True):
    """The schedule of a root that has one of its own. Other tasks lack the fields."""

    schedule_type: ScheduleType | UnsetType = UNSET
    schedule_expression: str | UnsetType = UNSET
    schedule_enabled: bool | UnsetType = UNSET
    schedule_start_at: str | UnsetType | None = UNSET
    schedule_end_at: str | UnsetType | None = UNSET
    next_run_at: str | UnsetType | None = UNSET
    last_run_at: str | UnsetType | None = UNSET
    max_runs: int | UnsetType | None = UNSET
    run_count: int | UnsetType = UNSET


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
