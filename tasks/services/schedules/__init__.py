"""Schedules as their owners see them: stored, changed, paused, run by hand, and read.

`tasks.services.schedules.firings` starts their runs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import F

from accounts import audit
from accounts.audit import Action
from accounts.callers import Caller
from apflow_site.db.turns import has_room
from llmkeys import sealed_texts
from tasks.executors.admission import checked
from tasks.executors.input_places import UsesInputs
from tasks.models import Firing, Run, Schedule, ScheduleQuerySet, Task
from tasks.queue import clock, notify
from tasks.rules.exceptions import InvalidParams, LimitReached, ScheduleNotFound
from tasks.rules.files import UPLOAD_VALUES
from tasks.rules.firings import Outcome, Overlap
from tasks.rules.schedules import (
    KINDS,
    TICK,
    Timing,
    check_zone,
    first_slots,
    never_fires,
    problems,
    read_moment,
)
from tasks.rules.stored_results import is_longer
from tasks.rules.tags import checked_tags
from tasks.services import flows
from tasks.services.files.references import SCHEDULE, named_in, refer, release
from tasks.services.schedules import firings
from tasks.services.schedules.firings import Sweep
from tasks.services.secrets.stored_secrets import refuse_unusable
from tasks.services.secrets.write_only import sealed, sealed_definition
from tasks.services.trees import checked_beforehand, owner_of
from tasks.services.trees.further_runs import tasks_of, unknown_inputs
from tasks.services.trees.queries import after_cursor, cursor_of, get_task
from tasks.storage import loads

SUBJECTS: Final = ("tasks", "task_id", "flow")
"""The subjects of schedules: a tree of its own, a stored one, of which each run gets a copy, or a flow."""
MOMENTS: Final = ("at", "starts_at", "ends_at")
TIMING: Final = (*KINDS, "timezone", "starts_at", "ends_at", "jitter_seconds")
LARGE: Final = ("tasks", "inputs")
FIELDS: Final = (
    "name",
    *SUBJECTS,
    "flow_version",
    "inputs",
    "tags",
    *TIMING,
    "max_runs",
    "overlap",
    "catch_up",
    "catch_up_window_seconds",
    "pause_after_failures",
)
"""The fields that callers may set."""
BY_HAND: Final = "Paused by {user}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A schedule with the status of its last run (None: it has had none)."""

    schedule: Schedule
    last_status: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fired:
    """The action of a schedule at a time, with the status of the run (None: there is none)."""

    firing: Firing
    status: str | None


@transaction.atomic
def create_schedule(
    *, caller: Caller, fields: Mapping[str, Any], is_paused: bool = False, user_id: str | None = None
) -> Schedule:
    """Store a schedule. Times are ISO 8601 texts. Administrators may store it for another user: `user_id`.

    Raises InvalidParams, TaskNotFound, LimitReached, or what `tasks.services.trees.create_tree` raises for a tree.
    """
    if user_id not in (None, caller.user_id) and not caller.sees_all:
        raise InvalidParams([("user_id", "names another user: only administrators may schedule for others")])
    now = clock.database_time()
    schedule = Schedule(user_id=user_id or "", created_at=now, updated_at=now, is_paused=is_paused)
    _set(schedule, fields, caller=caller, now=now)
    if is_paused:
        schedule.pause_reason = BY_HAND.format(user=caller.user_id)
    most = settings.APFLOW.limits.schedules
    if not has_room(Schedule.objects.filter(user_id=schedule.user_id), of=schedule.user_id, most=most):
        raise LimitReached(f"This user already has {most:,} schedules (limits.schedules). Delete some.")
    look_ahead(schedule, after=now)
    schedule.save(force_insert=True)
    _refer(schedule)
    _record(Action.SCHEDULE_CREATED, schedule, caller)
    notify.send(notify.SCHEDULES)
    return schedule


@transaction.atomic
def update_schedule(*, caller: Caller, schedule_id: str, fields: Mapping[str, Any]) -> Schedule:
    """Change some fields of a schedule. Runs that are under way are left alone.

    Raises what `create_schedule` raises, or ScheduleNotFound.
    """
    schedule = _held(caller, schedule_id)
    now = clock.database_time()
    if not fields:
        raise InvalidParams([("params", f"no changes: send at least one of {', '.join(FIELDS)}")])
    _set(schedule, fields, caller=caller, now=now)
    if not fields.keys().isdisjoint({*TIMING, "max_runs"}):
        look_ahead(schedule, after=now)
    schedule.updated_at = now
    schedule.save()
    _refer(schedule)
    _record(Action.SCHEDULE_UPDATED, schedule, caller, fields=", ".join(sorted(fields)))
    notify.send(notify.SCHEDULES)
    return schedule


def get_schedule(*, caller: Caller, schedule_id: str) -> Listed:
    """Return a schedule with its tree. Raises ScheduleNotFound or ResponseTooLarge."""
    found = Schedule.objects.for_caller(caller).filter(id=schedule_id)
    loads.spend_on(found, *LARGE)
    return with_statuses([_only(found, schedule_id)])[0]


def list_schedules(
    *, caller: Caller, user_id: str | None = None, is_paused: bool | None = None, limit: int = 100, cursor: str = ""
) -> tuple[list[Listed], str | None]:
    """Return a page of the caller's schedules without their trees, the newest first, and the cursor of the next page."""
    found = Schedule.objects.for_caller(caller).defer(*LARGE)
    if user_id is not None:
        found = found.filter(user_id=user_id)
    if is_paused is not None:
        found = found.filter(is_paused=is_paused)
    if cursor:
        found = found.filter(after_cursor(cursor, descending=True))
    rows = list(found.order_by("-created_at", "-id")[: limit + 1])
    return with_statuses(rows[:limit]), cursor_of(rows[limit - 1]) if len(rows) > limit else None


def next_schedules(*, caller: Caller, limit: int, start: int = 0) -> tuple[list[Listed], bool]:
    """Return some of the caller's schedules without their trees, by the time of their next run, and whether there are more.

    Schedules without a next run come last: paused ones, then the others.
    """
    found = Schedule.objects.for_caller(caller).defer(*LARGE)
    ordered = found.order_by(F("next_run_at").asc(nulls_last=True), "-is_paused", "name", "id")
    rows = list(ordered[start : start + limit + 1])
    return with_statuses(rows[:limit]), len(rows) > limit


@transaction.atomic
def delete_schedule(*, caller: Caller, schedule_id: str) -> None:
    """Delete a schedule and what is known of its times. Its trees and runs are kept. Raises ScheduleNotFound."""
    schedule = _held(caller, schedule_id)
    Schedule.objects.filter(id=schedule.id).delete()
    release([f"{SCHEDULE}{schedule.id}"])
    _record(Action.SCHEDULE_DELETED, schedule, caller)
    if schedule.schedule_type is not None:
        Task.objects.filter(id=schedule.task_id).update(schedule_id=None)


@transaction.atomic
def pause_schedule(*, caller: Caller, schedule_id: str, reason: str | None = None) -> Schedule:
    """Start no run until it is resumed; those that wait for an earlier one are skipped. Raises ScheduleNotFound."""
    schedule = _held(caller, schedule_id)
    schedule.is_paused, schedule.pause_reason = True, reason or BY_HAND.format(user=caller.user_id)
    schedule.next_slot = schedule.next_run_at = None
    schedule.updated_at = clock.database_time()
    firings.skip_queued(
        schedule, Firing.objects.queued().filter(schedule_id=schedule.id), reason="The schedule was paused."
    )
    schedule.save()
    _record(Action.SCHEDULE_PAUSED, schedule, caller)
    return schedule


@transaction.atomic
def resume_schedule(*, caller: Caller, schedule_id: str) -> Schedule:
    """Continue with the next time. Times that were missed meanwhile are not run. Raises ScheduleNotFound."""
    schedule = _held(caller, schedule_id)
    if schedule.is_paused:
        now = clock.database_time()
        schedule.is_paused, schedule.pause_reason, schedule.failures = False, None, 0
        schedule.updated_at = now
        look_ahead(schedule, after=now)
        schedule.save()
        _record(Action.SCHEDULE_RESUMED, schedule, caller)
        notify.send(notify.SCHEDULES)
    return schedule


@transaction.atomic
def trigger_schedule(*, caller: Caller, schedule_id: str, overlap: str | None = None) -> Firing:
    """Run the schedule now, also while it is paused, but not after its last run (`max_runs`).

    `overlap` replaces that of the schedule. Raises ScheduleNotFound.
    """
    schedule = _held(caller, schedule_id)
    sweep = Sweep.of([schedule])
    slot = sweep.now
    while Firing.objects.filter(schedule_id=schedule.id, scheduled_for=slot).exists():
        slot += TICK
    firing = sweep.act(schedule, slot, cause=firings.TRIGGER, overlap=Overlap(overlap) if overlap else None)
    if schedule.is_finished:
        look_ahead(schedule, after=sweep.now)
    sweep.save()
    notify.send(notify.SCHEDULES)
    return firing


@transaction.atomic
def backfill_schedule(
    *, caller: Caller, schedule_id: str, since: str, until: str, overlap: str = Overlap.QUEUE
) -> list[Firing]:
    """Run the times from `since` to `until`, both included, that have had no run, the oldest first.

    By default one after the other. Raises ScheduleNotFound, or InvalidParams if the times are too many or not over.
    """
    schedule = _held(caller, schedule_id)
    sweep = Sweep.of([schedule])
    slots = _slots_between(schedule, since, until, now=sweep.now)
    known = {
        firing.scheduled_for: firing
        for firing in Firing.objects.filter(schedule_id=schedule.id, scheduled_for__in=slots)
    }
    done = [
        sweep.act(schedule, slot, cause=firings.BACKFILL, overlap=Overlap(overlap), again=known.get(slot))
        for slot in slots
        if slot not in known or known[slot].outcome in (Outcome.SKIPPED, Outcome.FAILED)
    ]
    if schedule.is_finished:
        look_ahead(schedule, after=sweep.now)
    sweep.save()
    notify.send(notify.SCHEDULES)
    return done


def preview(
    *, caller: Caller, schedule_id: str | None = None, fields: Mapping[str, Any], count: int
) -> tuple[Timing, list[datetime]]:
    """Return the next times of a schedule, or of one that has these fields instead. Stores nothing.

    Raises ScheduleNotFound or InvalidParams.
    """
    now = clock.database_time()
    schedule = Schedule(created_at=now)
    if schedule_id is not None:
        schedule = _only(Schedule.objects.for_caller(caller).defer(*LARGE).filter(id=schedule_id), schedule_id)
    _set_timing(schedule, fields, now=now, may_be_over=schedule_id is not None and not fields)
    return schedule.timing, first_slots(schedule.timing, after=now, count=count)


def firings_of(*, caller: Caller, schedule_id: str, before: str | None = None, limit: int = 100) -> list[Fired]:
    """Return what the schedule did at its times, the newest first; `before` is an ISO 8601 time.

    Raises ScheduleNotFound or InvalidParams.
    """
    schedule = _only(Schedule.objects.for_caller(caller).only("id", "timezone").filter(id=schedule_id), schedule_id)
    found = Firing.objects.filter(schedule_id=schedule.id)
    if before is not None:
        found = found.filter(scheduled_for__lt=read_moment("before", before, timezone=schedule.timezone))
    return fired(found.order_by("-scheduled_for")[:limit])


def fired(rows: Iterable[Firing]) -> list[Fired]:
    """Add the statuses of the runs."""
    rows = list(rows)
    statuses = _statuses_of_runs(row.run_id for row in rows)
    return [Fired(firing=row, status=statuses.get(str(row.run_id), row.status)) for row in rows]


def with_statuses(rows: Sequence[Schedule]) -> list[Listed]:
    """Add the statuses of the last runs."""
    statuses = _statuses_of_runs(row.last_run_id for row in rows)
    return [Listed(schedule=row, last_status=statuses.get(str(row.last_run_id), row.last_status)) for row in rows]


def _statuses_of_runs(run_ids: Iterable[str | None]) -> dict[str, str]:
    ids = [run_id for run_id in run_ids if run_id is not None]
    return dict(Run.objects.filter(id__in=ids).values_list("id", "status")) if ids else {}


def look_ahead(schedule: Schedule, *, after: datetime) -> None:
    """Set the next time, unless the schedule is paused or has had all its runs."""
    ends = schedule.is_paused or schedule.is_finished
    schedule.next_slot = None if ends else schedule.timing.next_slot(after)
    schedule.next_run_at = schedule.next_slot and schedule.timing.due_at(schedule.next_slot)


# --- the steps of the verbs ---


def _record(action: Action, schedule: Schedule, caller: Caller, **details: str) -> None:
    audit.record(
        action, actor=caller.user_id, target=schedule.id, owner=schedule.user_id, name=schedule.name, **details
    )


def _only(found: ScheduleQuerySet, schedule_id: str) -> Schedule:
    schedule = found.first()
    if schedule is None:
        raise ScheduleNotFound(schedule_id)
    return schedule


def _held(caller: Caller, schedule_id: str) -> Schedule:
    """Return a schedule that no other transaction can fire or change. Raises ScheduleNotFound."""
    return _only(Schedule.objects.for_caller(caller).select_for_update().filter(id=schedule_id), schedule_id)


def _refer(schedule: Schedule) -> None:
    """Refer to the files that the tasks and inputs of a schedule name. Raises InvalidParams."""
    refer(f"{SCHEDULE}{schedule.id}", named_in(schedule.tasks, schedule.inputs), owner=schedule.user_id)


def _set(schedule: Schedule, fields: Mapping[str, Any], *, caller: Caller, now: datetime) -> None:
    """Set and validate fields. One of a group, such as `cron`, replaces the others of it."""
    for name in fields.keys() - {*TIMING, *SUBJECTS, "flow_version"}:
        setattr(schedule, name, fields[name])
    schedule.tags = checked_tags(schedule.tags) if schedule.tags else None
    if schedule._state.adding or not fields.keys().isdisjoint(SUBJECTS):
        _set_subject(schedule, fields, caller=caller)
    elif not fields.keys().isdisjoint({"flow_version", "inputs"}):
        _set_flow(schedule, fields.get("flow_version", schedule.flow_version))
    if schedule.inputs and not fields.keys().isdisjoint({*SUBJECTS, "inputs"}):
        _refuse_unused_inputs(schedule, caller=caller)
    if not schedule.next_slot or not fields.keys().isdisjoint(TIMING):
        is_new = schedule._state.adding
        _set_timing(schedule, fields, now=now, may_be_over=not is_new and fields.keys().isdisjoint(TIMING))
    most = settings.APFLOW.limits.result_bytes
    if schedule.inputs is not None and is_longer(schedule.inputs, than=most):
        reason = f"have more than the {most:,} bytes that limits.result_bytes allows. {UPLOAD_VALUES}"
        raise InvalidParams([("inputs", reason)])


def _set_subject(schedule: Schedule, fields: Mapping[str, Any], *, caller: Caller) -> None:
    """Set what the schedule runs, the owner of the runs, and the name. Raises what `create_tree` raises."""
    given = [name for name in SUBJECTS if fields.get(name) is not None]
    if len(given) != 1:
        raise InvalidParams([("tasks", f"send one of {', '.join(SUBJECTS)}")])
    for name in SUBJECTS:
        setattr(schedule, name, fields.get(name))
    if schedule.flow is not None:
        schedule.user_id = schedule.user_id or caller.user_id
    _set_flow(schedule, fields.get("flow_version"))
    if schedule.task_id is not None:
        task = get_task(caller=caller, task_id=schedule.task_id)
        owner, name = task.user_id, task.name
    elif schedule.flow is not None:
        owner, name = schedule.user_id, schedule.flow
    else:
        spec = checked_beforehand(schedule.tasks)
        names_owner = caller.sees_all and spec.tasks[0].user_id
        owner = schedule.user_id if schedule.user_id and not names_owner else owner_of(caller, spec)
        refuse_unusable(spec, owner=owner)
        schedule.tasks = sealed_definition(schedule.tasks, owner=owner)
        name = next(task.name for task in spec.tasks if task.id == spec.root_id)
    if schedule.user_id not in ("", owner):
        raise InvalidParams([(given[0], "is of another user than the schedule")])
    schedule.user_id = owner
    schedule.name = schedule.name or name


def _set_flow(schedule: Schedule, version: int | None) -> None:
    """Check that the owner's flow takes the inputs. Raises FlowNotFound or InvalidParams."""
    if schedule.flow is None:
        if version is not None:
            raise InvalidParams([("flow_version", "only with flow")])
        schedule.flow_version = None
        return
    schedule.flow_version = version
    _, found = flows.get_version(caller=Caller(user_id=schedule.user_id), name=schedule.flow, version=version)
    given = sealed_texts.opened_where_possible(schedule.inputs or {}, owner=schedule.user_id)
    flows.checked_inputs(found, given, owner=schedule.user_id)
    if schedule.inputs is not None:
        schedule.inputs = sealed(given, found.inputs_schema, owner=schedule.user_id)


def _refuse_unused_inputs(schedule: Schedule, *, caller: Caller) -> None:
    """Raise InvalidParams for inputs that no task of the scheduled tree uses. A flow has checked them itself."""
    tasks: Iterable[UsesInputs] = ()
    if schedule.task_id is not None:
        tasks = tasks_of(get_task(caller=caller, task_id=schedule.task_id).root_id)
    elif schedule.flow is None:
        tasks = ((task.executor_id, task.inputs, task.params) for task in checked(schedule.tasks).tasks)
    if schedule.flow is None and (problems := unknown_inputs(tasks, schedule.inputs or {})):
        raise InvalidParams(problems)


def _set_timing(schedule: Schedule, fields: Mapping[str, Any], *, now: datetime, may_be_over: bool) -> None:
    given = [name for name in KINDS if fields.get(name) is not None]
    if given:
        for name in KINDS:
            setattr(schedule, name, None)
    for name in fields.keys() & {*TIMING} - {*MOMENTS}:
        setattr(schedule, name, fields[name])
    check_zone(schedule.timezone)
    for name in MOMENTS:
        if name in fields:
            text = fields[name]
            moment = None if text is None else read_moment(name, text, timezone=schedule.timezone)
            setattr(schedule, name, moment)
    if schedule.every_seconds is not None and schedule.starts_at is None:
        schedule.starts_at = now.replace(microsecond=0)
    found = problems(schedule.timing)
    if not found and not may_be_over and (problem := never_fires(schedule.timing, after=now)):
        found = [problem]
    if found:
        raise InvalidParams(found)


def _slots_between(schedule: Schedule, since: str, until: str, *, now: datetime) -> list[datetime]:
    """Raise InvalidParams."""
    first = read_moment("since", since, timezone=schedule.timezone)
    last = read_moment("until", until, timezone=schedule.timezone)
    most = settings.APFLOW.limits.catch_up_runs
    if last < first:
        raise InvalidParams([("until", "must not be before since")])
    if last > now:
        raise InvalidParams([("until", "is not over yet: only past times can be made up for")])
    slots = [slot for slot in islice(schedule.timing.slots(first - TICK), most + 1) if slot <= last]
    if len(slots) > most:
        raise InvalidParams(
            [("until", f"there are more than {most:,} times (limits.catch_up_runs): choose fewer at once")]
        )
    return slots
