"""The schedule of a task itself: set and read as fields of the task, as clients of apflow 0.18 do.

It is a schedule like all others (`tasks.services.schedules`), except that it runs the stored tree itself again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import transaction
from django.db.models import Exists, F, OuterRef

from accounts.callers import LOCAL, Caller
from tasks.models import Firing, Run, Schedule, ScheduleQuerySet, Task
from tasks.queue import clock, notify
from tasks.rules.exceptions import InvalidParams
from tasks.rules.firings import Outcome
from tasks.rules.schedules import read_moment
from tasks.rules.strict_json import Json
from tasks.rules.task_schedules import (
    ENABLED,
    ENDS,
    EXPRESSION,
    MOST,
    STARTS,
    TYPE,
    WRITTEN,
    in_their_names,
    problems,
    says_nothing,
    shown,
    timing_of,
)
from tasks.services import schedules
from tasks.services.schedules.firings import REPORTED, RUNS_ALREADY
from tasks.services.trees import Created, editing, execute_again, held_task
from tasks.services.trees.queries import TaskRow, listed_tasks
from tasks.status import Status

NO_SCHEDULE: Final = "has no schedule: set schedule_type and schedule_expression with tasks.update"
ONLY_ROOTS: Final = "only the root of a tree can have a schedule"
RENAMED: Final = {STARTS: "starts_at", ENDS: "ends_at", MOST: "max_runs"}
"""The fields that a schedule has under other names, if any, and that may be empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignSchedule:
    """The schedule that an imported task had on another server: the fields of the task, and how often it has run."""

    task_id: str
    fields: Json
    run_count: int
    last_run_at: datetime | None


# --- write ---


@transaction.atomic
def import_schedule(foreign: ForeignSchedule, *, dry_run: bool = False) -> None:
    """Give an imported task its schedule. With `dry_run` only check it.

    Raises what `create_schedule` raises, such as InvalidParams for a schedule that is over.
    """
    if wrong := list(problems(foreign.fields)):
        raise InvalidParams(wrong)
    wanted = _Wanted(foreign.fields, None)
    if wanted.is_nothing:
        return
    if dry_run:
        try:
            schedules.preview(caller=LOCAL, fields=wanted.times, count=1)
        except InvalidParams as error:
            raise in_their_names(error) from None
        return
    task = Task.objects.get(id=foreign.task_id)
    _set(task, foreign.fields, caller=Caller(user_id=task.user_id))
    schedule = Schedule.objects.get(id=task.schedule_id)
    schedule.run_count, schedule.last_run_at = foreign.run_count, foreign.last_run_at
    schedules.look_ahead(schedule, after=schedule.created_at)
    schedule.save()


def with_schedule(verb: Callable[..., Created], *, caller: Caller, tasks: object, **arguments: Any) -> Created:
    """Call `create_tree`, and store the schedule that the root's fields describe: both or neither."""
    given, where = _taken_from(tasks)
    if not given:
        return verb(caller=caller, tasks=tasks, **arguments)
    with transaction.atomic():
        created = verb(caller=caller, tasks=_without_schedules(tasks), **arguments)
        _set(created.root, given, caller=caller, where=where)
    return created


@transaction.atomic
def update_task(*, caller: Caller, task_id: str, changes: Json, schedule: Json) -> Task:
    """Change a task, its schedule, or both. The schedule may be changed in every status of the task.

    Raises what `editing.update_task` and `schedules.create_schedule` raise.
    """
    if changes or not schedule:
        task = editing.update_task(caller=caller, task_id=task_id, changes=changes)
    else:
        task = held_task(caller=caller, task_id=task_id)
    if schedule:
        _set(task, schedule, caller=caller)
    attach([task])
    return task


@transaction.atomic
def init_schedule(*, caller: Caller, task_id: str, from_time: str | None = None) -> Task:
    """Compute the next time of a task's schedule again, as the first one after `from_time`."""
    task, schedule = _held(caller, task_id)
    now = clock.database_time()
    after = now if from_time is None else read_moment("from_time", from_time, timezone="UTC")
    schedules.look_ahead(schedule, after=after)
    return _saved(task, schedule, now)


@transaction.atomic
def note_run(*, caller: Caller, task_id: str, success: bool, error: str | None, continues: bool) -> Task:
    """Note a run that another scheduler has made of the task; with `continues`, move to the next time."""
    task, schedule = _held(caller, task_id)
    now = clock.database_time()
    status = Status.COMPLETED if success else Status.FAILED
    Firing.objects.create(
        schedule=schedule,
        scheduled_for=now,
        started_at=now,
        outcome=Outcome.STARTED,
        cause=REPORTED,
        reason=error,
        root_id=task.id,
        status=status,
    )
    schedule.run_count += 1
    schedule.last_run_at, schedule.last_run_id, schedule.last_status = now, None, status
    if continues or schedule.is_finished:
        schedules.look_ahead(schedule, after=now)
    return _saved(task, schedule, now)


@transaction.atomic
def trigger(*, caller: Caller, task_id: str) -> tuple[Run | None, str]:
    """Run a task again now, by its schedule if it has one. Returns the run, or None and why there is none."""
    task = held_task(caller=caller, task_id=task_id)
    if task.schedule_id is None:
        execution = execute_again(caller=caller, task_id=task_id)
        return (execution.run, "") if execution.started else (None, RUNS_ALREADY)
    firing = schedules.trigger_schedule(caller=caller, schedule_id=task.schedule_id)
    run = Run.objects.filter(id=firing.run_id).first() if firing.run_id else None
    return run, firing.reason or ""


def _saved(task: Task, schedule: Schedule, now: datetime) -> Task:
    schedule.updated_at = now
    schedule.save()
    notify.send(notify.SCHEDULES)
    attach([task])
    return task


def _held(caller: Caller, task_id: str) -> tuple[Task, Schedule]:
    task = held_task(caller=caller, task_id=task_id)
    schedule = Schedule.objects.select_for_update().filter(id=task.schedule_id).first() if task.schedule_id else None
    if schedule is None:
        raise InvalidParams([("task_id", NO_SCHEDULE)])
    return task, schedule


def _taken_from(tasks: object) -> tuple[Json, str]:
    """Return the fields of the schedule that the root has, and where they are.

    Raises InvalidParams for values of another kind, or if another task has such fields.
    """
    found: Json = {}
    place = ""
    for index, task in enumerate(tasks if isinstance(tasks, list) else [tasks]):
        if not isinstance(task, dict) or task.keys().isdisjoint(WRITTEN):
            continue
        given = {name: value for name in WRITTEN if not says_nothing(value := task.get(name))}
        where = f"tasks[{index}]."
        if given and task.get("parent_id") is not None:
            raise InvalidParams([(where + next(iter(given)), ONLY_ROOTS)])
        if wrong := list(problems(given, where=where)):
            raise InvalidParams(wrong)
        if given:
            found, place = given, where
    return found, place


def _without_schedules(tasks: object) -> object:
    if isinstance(tasks, list):
        return [_without_schedules(task) for task in tasks]
    return {name: value for name, value in tasks.items() if name not in WRITTEN} if isinstance(tasks, dict) else tasks


def _set(task: Task, given: Json, *, caller: Caller, where: str = "") -> None:
    """Create, change or delete the schedule of a task that is locked. Fields that are empty clear."""
    if not task.is_root:
        raise InvalidParams([(where + next(iter(given)), ONLY_ROOTS)])
    before = Schedule.objects.filter(id=task.schedule_id).first() if task.schedule_id else None
    try:
        made = _changed(task, before, _Wanted(given, before), caller=caller)
    except InvalidParams as error:
        raise in_their_names(error, where=where) from None
    task.schedule_id = made.id if made else None
    Task.objects.filter(id=task.id).update(schedule_id=task.schedule_id)


class _Wanted:
    """The schedule as it shall be: from the request, else from the stored fields."""

    def __init__(self, given: Mapping[str, Any], before: Schedule | None) -> None:
        kind, expression = ("", "") if before is None else shown(before.timing, str(before.schedule_type))
        self.kind: str = given.get(TYPE, kind) or ""
        self.expression: str = given.get(EXPRESSION, expression) or ""
        self.enabled: bool = bool(given.get(ENABLED, before is not None and not before.is_paused))
        self.says_more = any(not says_nothing(given[name]) for name in given.keys() - {TYPE, EXPRESSION})
        self.fields: Json = {theirs: given[name] or None for name, theirs in RENAMED.items() if name in given}
        self.has_new_times = TYPE in given or EXPRESSION in given
        if self.has_new_times and self.kind and self.expression:
            self.fields |= {"timezone": "UTC", **timing_of(self.kind, self.expression)}

    @property
    def times(self) -> Json:
        """The fields that say when it runs."""
        return {name: value for name, value in self.fields.items() if name != RENAMED[MOST]}

    @property
    def is_nothing(self) -> bool:
        """Whether there shall be no schedule. Raises InvalidParams if half of it is there."""
        if not (self.kind or self.expression or self.says_more):
            return True
        for name, value in ((TYPE, self.kind), (EXPRESSION, self.expression)):
            if not value:
                raise InvalidParams([(name, f"is required: a schedule has {TYPE} and {EXPRESSION}")])
        return False


def _changed(task: Task, before: Schedule | None, wanted: _Wanted, *, caller: Caller) -> Schedule | None:
    if wanted.is_nothing:
        if before is not None:
            schedules.delete_schedule(caller=caller, schedule_id=before.id)
        return None
    if before is None:
        fields = {"task_id": task.id, "name": task.name} | wanted.fields
        schedule = schedules.create_schedule(caller=caller, fields=fields, is_paused=not wanted.enabled)
    else:
        schedule = before
        if wanted.enabled == schedule.is_paused:
            change = schedules.resume_schedule if wanted.enabled else schedules.pause_schedule
            schedule = change(caller=caller, schedule_id=schedule.id)
        if wanted.fields:
            schedule = schedules.update_schedule(caller=caller, schedule_id=schedule.id, fields=wanted.fields)
    schedule.schedule_type = wanted.kind
    schedule.save(update_fields=["schedule_type"])
    return schedule


# --- read ---


def attach(tasks: Sequence[Task]) -> None:
    """Give each of the tasks that have one its schedule, as `schedule`."""
    found = schedules_of(tasks)
    for task in tasks:
        if task.id in found:
            vars(task)["schedule"] = found[task.id]


def schedules_of(tasks: Sequence[Task | TaskRow]) -> dict[str, Schedule]:
    """Return the schedules of those of the tasks that have one, by task. Without any, the database is not asked."""
    with_one = {task.schedule_id: task.id for task in tasks if task.schedule_id}
    if not with_one:
        return {}
    found = Schedule.objects.defer(*schedules.LARGE).filter(id__in=list(with_one))
    return {with_one[schedule.id]: schedule for schedule in found}


def list_scheduled(
    *,
    caller: Caller,
    enabled_only: bool = True,
    user_id: str | None = None,
    schedule_type: str | None = None,
    status: str | None = None,
    limit: int = 100,
    offset: int = 0,
) -> list[Task]:
    """Return the tasks with a schedule of their own: those that run next come first."""
    found = _of_tasks(caller, user_id)
    if enabled_only:
        found = found.filter(next_run_at__isnull=False)
    if schedule_type is not None:
        found = found.filter(schedule_type=schedule_type)
    if status is not None:
        found = found.filter(Exists(Task.objects.filter(id=OuterRef("task_id"), status=status)))
    return _tasks_of(found.order_by(F("next_run_at").asc(nulls_last=True), "id")[offset : offset + limit])


def list_due(*, caller: Caller, before: str | None = None, user_id: str | None = None, limit: int = 100) -> list[Task]:
    """Return the tasks that should have started and do not run, the longest due first."""
    moment = clock.database_time() if before is None else read_moment("before", before, timezone="UTC")
    is_running = Run.objects.unfinished().filter(root_id=OuterRef("task_id"))
    due = _of_tasks(caller, user_id).filter(next_run_at__lte=moment).exclude(Exists(is_running))
    return _tasks_of(due.order_by("next_run_at", "id")[:limit])


def _of_tasks(caller: Caller, user_id: str | None) -> ScheduleQuerySet:
    found = Schedule.objects.for_caller(caller).filter(schedule_type__isnull=False)
    return found if user_id is None else found.filter(user_id=user_id)


def _tasks_of(found: ScheduleQuerySet) -> list[Task]:
    tasks = listed_tasks([str(task_id) for task_id in found.values_list("task_id", flat=True)])
    attach(tasks)
    return tasks
