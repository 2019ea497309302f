"""The types of schedules: what is sent and what is returned."""

from typing import Any, Literal, NotRequired, TypedDict

from .types import Json

Overlap = Literal["skip", "queue", "cancel_previous", "allow"]
CatchUp = Literal["none", "last", "all"]


class ScheduleFields(TypedDict, total=False):
    """The fields of a schedule that may be set. None clears a field that may be absent."""

    name: str
    tasks: Any
    task_id: str
    flow: str
    flow_version: int | None
    inputs: Json | None
    tags: list[str] | None
    cron: str
    every_seconds: int
    at: str
    timezone: str
    starts_at: str | None
    ends_at: str | None
    max_runs: int | None
    overlap: Overlap
    catch_up: CatchUp
    catch_up_window_seconds: int
    jitter_seconds: int
    pause_after_failures: int | None


class Schedule(TypedDict):
    """A schedule. Only `client.schedule` returns `tasks` and `inputs`."""

    id: str
    name: str
    user_id: str
    tasks: NotRequired[Any]
    task_id: str | None
    flow: str | None
    flow_version: int | None
    inputs: NotRequired[Json | None]
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
    last_status: str | None
    run_count: int
    created_at: str
    updated_at: str


class Schedules(TypedDict):
    """A page of schedules. `next_cursor` is None on the last one."""

    schedules: list[Schedule]
    next_cursor: str | None


class ScheduledRun(TypedDict):
    """One of the times of a schedule. `reason` is the reason why there is no run."""

    scheduled_for: str
    outcome: Literal["started", "queued", "skipped", "failed"]
    cause: Literal["clock", "trigger", "backfill", "reported"]
    reason: str | None
    run_id: str | None
    task_id: str | None
    status: str | None
    started_at: str | None


class ScheduledRuns(TypedDict):
    """The times of a schedule, with the action at each."""

    runs: list[ScheduledRun]


class ScheduleDeleted(TypedDict):
    """The deleted schedule."""

    schedule_id: str
    deleted: bool


class ScheduledTime(TypedDict):
    """A time in UTC, and as a clock in the zone of the schedule shows it."""

    at: str
    local: str


class SchedulePreview(TypedDict):
    """The next times of a schedule."""

    in_words: str
    timezone: str
    times: list[ScheduledTime]
