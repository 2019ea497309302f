"""Methods for schedules."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TypeVar
from zoneinfo import ZoneInfo

from a2a.methods import schedule_params as params
from a2a.methods.results import DataResult
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.models import Firing, Schedule
from tasks.rules.schedules import in_words
from tasks.rules.strict_json import Json
from tasks.services import schedules
from tasks.services.schedules import Fired, Listed
from tasks.services.trees.idempotency import Token, remembered

T = TypeVar("T", Schedule, Firing)


async def create(caller: Caller, given: params.CreateSchedule, *, token: Token | None = None) -> DataResult:
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


def get(caller: Caller, given: params.NamedSchedule) -> DataResult:
    """Return a schedule with its tree."""
    found = schedules.get_schedule(caller=caller, schedule_id=given.schedule_id)
    row = found.schedule
    return DataResult(native=native_schedule(found) | {"tasks": row.tasks, "inputs": row.inputs})


def list_schedules(caller: Caller, given: params.ListSchedules) -> DataResult:
    """List schedules, the newest first."""
    page, cursor = schedules.list_schedules(
        caller=caller,
        user_id=given.user_id,
        is_paused=given.is_paused,
        limit=given.limit,
        cursor=given.cursor or "",
    )
    return DataResult(native={"schedules": [native_schedule(each) for each in page], "next_cursor": cursor})


async def update(caller: Caller, given: params.UpdateSchedule) -> DataResult:
    """Change a schedule. Its next time is computed again if its times change."""
    return await _shown(
        await pools.write(schedules.update_schedule, caller=caller, schedule_id=given.schedule_id, fields=given.fields)
    )


async def delete(caller: Caller, given: params.NamedSchedule) -> DataResult:
    """Delete a schedule. Its trees and runs are kept."""
    await pools.write(schedules.delete_schedule, caller=caller, schedule_id=given.schedule_id)
    return DataResult(native={"schedule_id": given.schedule_id, "deleted": True})


async def pause(caller: Caller, given: params.PauseSchedule) -> DataResult:
    """Start no run of a schedule until it is resumed."""
    return await _shown(
        await pools.write(schedules.pause_schedule, caller=caller, schedule_id=given.schedule_id, reason=given.reason)
    )


async def resume(caller: Caller, given: params.NamedSchedule) -> DataResult:
    """Continue a paused schedule with its next time."""
    return await _shown(await pools.write(schedules.resume_schedule, caller=caller, schedule_id=given.schedule_id))


async def trigger(caller: Caller, given: params.TriggerSchedule, *, token: Token | None = None) -> DataResult:
    """Run a schedule now, as well as at its times."""
    verb = partial(schedules.trigger_schedule, caller=caller, schedule_id=given.schedule_id, overlap=given.overlap)
    firing = await pools.write(partial(_once, verb, caller=caller, token=token, restore=_firing))
    (fired,) = await pools.read(schedules.fired, [firing])
    return DataResult(native=native_firing(fired))


async def backfill(caller: Caller, given: params.BackfillSchedule) -> DataResult:
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


def preview(caller: Caller, given: params.PreviewSchedule) -> DataResult:
    """Return the next times of a schedule, stored or not. Stores nothing."""
    timing, slots = schedules.preview(
        caller=caller, schedule_id=given.schedule_id, fields=given.fields, count=given.count
    )
    zone = ZoneInfo(timing.timezone)
    times = [{"at": slot.isoformat(), "local": slot.astimezone(zone).isoformat()} for slot in slots]
    return DataResult(native={"in_words": in_words(timing), "timezone": timing.timezone, "times": times})


def runs(caller: Caller, given: params.ListFirings) -> DataResult:
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


async def _shown(schedule: Schedule) -> DataResult:
    (listed,) = await pools.read(schedules.with_statuses, [schedule])
    return DataResult(native=native_schedule(listed))


def _once(verb: Callable[[], T], *, caller: Caller, token: Token | None, restore: Callable[[Json], T]) -> T:
    """Call the function, or return the row of the first call by the token."""
    if token is None:
        return verb()
    return remembered(verb, caller=caller, token=token, outcome_of=lambda row: {"made": row.pk}, restore=restore)


def _schedule(caller: Caller, outcome: Json) -> Schedule:
    return schedules.get_schedule(caller=caller, schedule_id=outcome["made"]).schedule


def _firing(outcome: Json) -> Firing:
    made: Firing = Firing.objects.get(pk=outcome["made"])
    return made
