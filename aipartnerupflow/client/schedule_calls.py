"""The methods for schedules as values."""

from typing import Any, Literal, TypedDict, Unpack

from .calls import Call, given, headers_of
from .types import (
    Json,
    Schedule,
    ScheduleDeleted,
    ScheduledRun,
    ScheduledRuns,
    SchedulePreview,
    Schedules,
)

Overlap = Literal["skip", "queue", "cancel_previous", "allow"]


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
    catch_up: Literal["none", "last", "all"]
    catch_up_window_seconds: int
    jitter_seconds: int
    pause_after_failures: int | None


def create_schedule(
    *,
    is_paused: bool = False,
    user_id: str | None = None,
    idempotency_key: str | None = None,
    **fields: Unpack[ScheduleFields],
) -> Call[Schedule]:
    """Store a schedule: `tasks`, `task_id` or `flow`, and `cron`, `every_seconds` or `at`.

    Administrators may store it for another user, whose flow it is then: `user_id`.
    """
    params = {**fields, **({"is_paused": True} if is_paused else {}), **given(user_id=user_id)}
    return Call("schedules.create", params, headers=headers_of(idempotency_key, None))


def schedule(schedule_id: str) -> Call[Schedule]:
    """Return a schedule, with its tree."""
    return Call("schedules.get", {"schedule_id": schedule_id})


def schedules(
    *, user_id: str | None = None, is_paused: bool | None = None, limit: int | None = None, cursor: str | None = None
) -> Call[Schedules]:
    """Return a page of schedules, the newest first."""
    return Call("schedules.list", given(user_id=user_id, is_paused=is_paused, limit=limit, cursor=cursor))


def update_schedule(schedule_id: str, **fields: Unpack[ScheduleFields]) -> Call[Schedule]:
    """Change a schedule."""
    return Call("schedules.update", {"schedule_id": schedule_id, **fields})


def delete_schedule(schedule_id: str) -> Call[ScheduleDeleted]:
    """Delete a schedule. Its trees and runs are kept."""
    return Call("schedules.delete", {"schedule_id": schedule_id})


def pause_schedule(schedule_id: str, *, reason: str | None = None) -> Call[Schedule]:
    """Start no run of a schedule until it is resumed."""
    return Call("schedules.pause", given(schedule_id=schedule_id, reason=reason))


def resume_schedule(schedule_id: str) -> Call[Schedule]:
    """Continue a paused schedule with its next time."""
    return Call("schedules.resume", {"schedule_id": schedule_id})


def trigger_schedule(
    schedule_id: str, *, overlap: Overlap | None = None, idempotency_key: str | None = None
) -> Call[ScheduledRun]:
    """Run a schedule now, as well as at its times."""
    params = given(schedule_id=schedule_id, overlap=overlap)
    return Call("schedules.trigger", params, headers=headers_of(idempotency_key, None))


def backfill_schedule(
    schedule_id: str, *, since: str, until: str, overlap: Overlap | None = None
) -> Call[ScheduledRuns]:
    """Run past times of a schedule that have had no run, one after the other unless `overlap` says otherwise."""
    return Call("schedules.backfill", given(schedule_id=schedule_id, since=since, until=until, overlap=overlap))


def preview_schedule(
    schedule_id: str | None = None, *, count: int | None = None, **timing: Any
) -> Call[SchedulePreview]:
    """Return the next times of a schedule, or of `cron`, `every_seconds` or `at` with a `timezone`. Stores nothing."""
    return Call("schedules.preview", given(schedule_id=schedule_id, count=count, **timing))


def schedule_runs(schedule_id: str, *, before: str | None = None, limit: int | None = None) -> Call[ScheduledRuns]:
    """List the times of a schedule with the action at each, the newest first."""
    return Call("schedules.runs", given(schedule_id=schedule_id, before=before, limit=limit))
