"""Start the runs of schedules at their times, each once.

One transaction locks schedules that are due, starts their runs, stores what was done at each time, and moves
the schedules to their next time. So a process that dies in between has done nothing, and any number of
processes may sweep at once. Users take turns: many schedules of one delay no other's. Times are by the
database's clock.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import Exists, F, OuterRef, Window
from django.db.models.functions import RowNumber

from accounts import audit, users
from accounts.callers import Caller
from apflow_site.db.pipelines import pipelined
from tasks.models import Firing, Run, Schedule
from tasks.queue import clock
from tasks.rules.exceptions import TasksError
from tasks.rules.firings import Outcome, Overlap, Plan, plan, what_to_do
from tasks.services.flows import run_flow
from tasks.services.runs import cancels
from tasks.services.runs.run_inputs import with_inputs, with_tags
from tasks.services.schedules import due_schedules
from tasks.services.trees import NEW, Execution, execute_again, execute_task, execute_tree
from tasks.status import Status
from tasks.storage.bulk import batched
from tasks.telemetry import metrics

logger = logging.getLogger(__name__)

PICKED: Final = 200
"""The number of due schedules that one look finds."""
BATCH: Final = 50
"""The number of due schedules that one transaction fires."""
MOST_SECONDS: Final = 0.3
"""The time after which it ends early: large trees take long, and SQLite has one writer at a time."""
CLOCK_TOLERANCE: Final = timedelta(seconds=5)
"""The time by which clocks may be corrected."""
WAIT: Final = timedelta(seconds=5)
"""The time after which a schedule looks again whether missed runs that had to wait can start."""
ALL_STARTED: Final = "All runs of the schedule have started (max_runs)."
CLOCK, TRIGGER, BACKFILL = "clock", "trigger", "backfill"
REPORTED: Final = "reported"
"""The cause of a run that another scheduler has made (`tasks.services.schedules.task_schedules`)."""
RUNS_ALREADY: Final = "The task was running already."
BROKEN: Final = "The tree could not be started. The log of the server has the reason."
STATE: Final = (
    "next_slot",
    "next_run_at",
    "last_run_at",
    "last_run_id",
    "last_status",
    "run_count",
    "failures",
    "is_paused",
    "pause_reason",
)
"""The fields that firing changes."""
SAVE: Final = f"UPDATE tasks_schedule SET {', '.join(f'{name} = %s' for name in STATE)} WHERE id = %s"  # noqa: S608  (constants of this module)
"""Raw SQL, because the ORM takes as long for the update of a schedule as everything else for its run."""


def fire_due() -> int:
    """Fire some of the schedules that are due. Returns how many; 0 if none is, or others fire them."""
    now = clock.database_time()
    if not due_schedules.is_any_due(now):
        return 0
    # The first schedule of each user, then the second of each, and so on.
    order = ("next_run_at", "id")
    turn = Window(RowNumber(), partition_by=F("user_id"), order_by=order)
    due = Schedule.objects.filter(next_run_at__lte=now).annotate(turn=turn)
    ids = list(due.order_by("turn", *order).values_list("id", flat=True)[:PICKED])
    for some in batched(ids, BATCH):
        if fired := _fired(some, due_by=now):
            return fired
    return 0


def _fired(ids: Sequence[str], *, due_by: datetime) -> int:
    """Fire these schedules together or, if one of them cannot start its run, each by itself: that takes longer."""
    try:
        return _with_locked(ids, Sweep.fire_together, due_by=due_by)
    except (OperationalError, InterfaceError):
        raise
    except Exception:  # of any of them; the second time, `_start` says of which one
        logger.debug("Schedules are fired one by one", exc_info=True, extra={"event": "schedules.apart"})
        return _with_locked(ids, Sweep.fire, due_by=due_by)


def look_again() -> int:
    """Correct schedules that have run in the future: the database's clock was set ahead, and back. Returns how many.

    Times that have been run are not run again.
    """
    now = clock.database_time()
    ahead = Schedule.objects.filter(last_run_at__gt=now + CLOCK_TOLERANCE, next_slot__isnull=False)
    return _with_locked(list(ahead.values_list("id", flat=True)[:PICKED]), Sweep.turn_back)


def start_queued() -> int:
    """Start runs that waited for an earlier one. Returns how many schedules were handled."""
    if not due_schedules.is_any_queued():
        return 0
    is_running = Run.objects.unfinished().filter(id=OuterRef("run_id"))
    unfinished = Firing.objects.open().filter(Exists(is_running), schedule_id=OuterRef("schedule_id"))
    waiting = Firing.objects.queued().exclude(Exists(unfinished))
    ids = list(waiting.values_list("schedule_id", flat=True).distinct()[:BATCH])
    return _with_locked(ids, Sweep.start_waiting) if ids else 0


def note_ended() -> int:
    """Notice which runs of schedules have ended, some at a time. Returns how many schedules had one."""
    is_running = Run.objects.unfinished().filter(id=OuterRef("run_id"))
    ended = Firing.objects.open().exclude(Exists(is_running))
    ids = list(ended.values_list("schedule_id", flat=True).distinct()[:PICKED])
    return _with_locked(ids, lambda sweep: None) if ids else 0


@transaction.atomic
def _with_locked(ids: Sequence[str], what: "Callable[[Sweep], object]", *, due_by: datetime | None = None) -> int:
    """Do something with those of the schedules that no other process has locked, if they are due by then.

    Returns with how many it was done.
    """
    locked = Schedule.objects.select_for_update(skip_locked=True).filter(id__in=ids)
    if due_by is not None:  # another process may have fired them just now
        locked = locked.filter(next_run_at__lte=due_by)
    schedules = sorted(locked, key=lambda schedule: ids.index(schedule.id))
    if schedules:
        sweep = Sweep.of(schedules)
        what(sweep)
        sweep.save()
        return len(schedules) - sweep.left
    return 0


@dataclass(slots=True, kw_only=True)
class Sweep:
    """Schedules that this transaction has locked, and what it does with them.

    `running` has the runs that have not ended, by schedule, and `queued` what waits for them. `left` counts the schedules
    for which there was no time.
    """

    now: datetime
    schedules: Sequence[Schedule]
    running: dict[str, list[Firing]]
    queued: dict[str, list[Firing]]
    new: list[Firing] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    lateness: list[float] = field(default_factory=list)
    left: int = 0
    is_together: bool = False
    """Whether a run that cannot start undoes all of it."""
    began_at: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, schedules: Sequence[Schedule]) -> "Sweep":
        """Note first which of their runs have ended."""
        ids = [schedule.id for schedule in schedules]
        sweep = cls(now=clock.database_time(), schedules=schedules, running=defaultdict(list), queued=defaultdict(list))
        for firing in Firing.objects.queued().filter(schedule_id__in=ids).order_by("scheduled_for"):
            sweep.queued[firing.schedule_id].append(firing)
        open_firings = list(Firing.objects.open().filter(schedule_id__in=ids).order_by("id"))
        if open_firings:
            sweep._note_ends(open_firings)
        return sweep

    def fire_together(self) -> None:
        """Do what is due, and send it to the database at once. Raises what the start of a run raises."""
        self.is_together = True
        with pipelined():
            self.fire()

    def fire(self) -> None:
        """Do what is due."""
        disabled = users.disabled_among({schedule.user_id for schedule in self.schedules})
        due = [each for each in self.schedules if each.next_run_at is not None and each.next_run_at <= self.now]
        plans: list[tuple[Schedule, Plan]] = []
        for schedule in due:
            if schedule.user_id in disabled:
                self.pause(schedule, f"Its owner '{schedule.user_id}' is disabled.")
            elif (found := self._plan(schedule)) is not None:
                plans.append((schedule, found))
        # The database's clock may have been set back: what was done before at these times.
        slots = {slot for _, found in plans for slot in (*(missed.slot for missed in found.missed), *found.due)}
        done = Firing.objects.filter(schedule_id__in=[each.id for each, _ in plans], scheduled_for__in=slots)
        known = {(firing.schedule_id, firing.scheduled_for): firing for firing in done}
        for number, (schedule, found) in enumerate(plans):
            if number and self._is_long:
                self.left = len(plans) - number  # they are due still
                return
            self._carry_out(schedule, found, known)

    def _plan(self, schedule: Schedule) -> Plan | None:
        """Decide what is due. None: nothing is."""
        if schedule.next_slot is None or schedule.is_finished:
            schedule.next_slot = schedule.next_run_at = None
            return None
        most: int = settings.APFLOW.limits.catch_up_runs
        if Overlap(schedule.overlap) in (Overlap.ALLOW, Overlap.QUEUE):
            most = max(0, most - len(self.running[schedule.id]) - len(self.queued[schedule.id]))
        try:
            return plan(schedule.timing, schedule.policy, next_slot=schedule.next_slot, now=self.now, most=most)
        except Exception:
            logger.exception(
                "The times of schedule %s are unknown",
                schedule.id,
                extra={"event": "schedule.broken", "schedule": schedule.id},
            )
            self.pause(schedule, "Its times could not be computed. The log of the server has the reason.")
            return None

    def _carry_out(self, schedule: Schedule, found: Plan, known: Mapping[tuple[str, datetime], Firing]) -> None:
        for missed in found.missed:
            if (schedule.id, missed.slot) not in known:
                skipped = Firing(
                    schedule=schedule, scheduled_for=missed.slot, outcome=Outcome.SKIPPED, reason=missed.reason
                )
                self.new.append(skipped)
                self.outcomes.append(Outcome.SKIPPED)
        following = found.following
        for slot in found.due:
            if self._is_long and slot != found.due[0]:
                following = slot
                break
            earlier = known.get((schedule.id, slot))
            is_over = schedule.is_paused or schedule.is_finished
            if not is_over and (earlier is None or earlier.outcome == Outcome.SKIPPED):
                self.act(schedule, slot, cause=CLOCK, again=earlier)
        self._move(schedule, following)

    @property
    def _is_long(self) -> bool:
        """Whether the transaction has taken so long that others should have their turn."""
        return time.monotonic() - self.began_at > MOST_SECONDS

    def turn_back(self) -> None:
        """Continue from now, although the next time is later."""
        for schedule in self.schedules:
            schedule.last_run_at = self.now
            self._move(schedule, schedule.timing.next_slot(self.now))

    def start_waiting(self) -> None:
        """Start the first run that waits, of schedules without one under way."""
        for schedule in self.schedules:
            while (waiting := self.queued[schedule.id]) and not self.running[schedule.id]:
                if schedule.is_finished:
                    skip_queued(schedule, self.queued.pop(schedule.id), reason=ALL_STARTED)
                else:
                    self._start(schedule, waiting.pop(0))

    def act(
        self,
        schedule: Schedule,
        slot: datetime,
        *,
        cause: str,
        overlap: Overlap | None = None,
        again: Firing | None = None,
    ) -> Firing:
        """Start a run, or let it wait, or skip it. `again`: what was done at that time before, without a run."""
        overlap = overlap or Overlap(schedule.overlap)
        running, queued = self.running[schedule.id], self.queued[schedule.id]
        firing = again or Firing(schedule=schedule, scheduled_for=slot)
        most = settings.APFLOW.limits.catch_up_runs
        outcome, reason = what_to_do(overlap, is_running=bool(running), queued=len(queued), most_queued=most)
        if schedule.is_finished:
            outcome, reason = Outcome.SKIPPED, ALL_STARTED
        firing.outcome, firing.reason, firing.cause = outcome, reason, cause
        if outcome is Outcome.QUEUED:
            queued.append(firing)
        if outcome is Outcome.STARTED:
            if overlap is Overlap.CANCEL_PREVIOUS and running:
                roots = [earlier.root_id for earlier in running if earlier.root_id is not None]
                message = f"Cancelled: schedule '{schedule.name}' started its next run"
                cancels.ask(caller=Caller(user_id=schedule.user_id), task_ids=roots, force=False, message=message)
            self._start(schedule, firing)
            return firing
        self.outcomes.append(outcome)
        if again is None:
            self.new.append(firing)
        else:
            again.save()
        return firing

    def save(self) -> None:
        """Store what was done."""
        Firing.objects.bulk_create([firing for firing in self.new if firing.pk is None])
        states = [[getattr(schedule, name) for name in (*STATE, "id")] for schedule in self.schedules]
        as_orm = connection.ops.adapt_datetimefield_value  # SQLite compares the texts of times
        rows = [[as_orm(value) if isinstance(value, datetime) else value for value in state] for state in states]
        with connection.cursor() as cursor:
            cursor.executemany(SAVE, rows)
        most = settings.APFLOW.retention.firings
        often = (firing.schedule_id for firing in self.new if firing.pk is not None and firing.pk % 32 == 0)
        for schedule_id in set(often):  # now and then, delete the oldest firings
            firings = Firing.objects.filter(schedule_id=schedule_id)
            limit = firings.order_by("-scheduled_for").values_list("scheduled_for", flat=True)[most : most + 1].first()
            if limit is not None:
                firings.filter(scheduled_for__lte=limit, is_open=False).exclude(outcome=Outcome.QUEUED).delete()
        transaction.on_commit(lambda: metrics.fired(self.outcomes, self.lateness))

    # --- the steps ---

    def _move(self, schedule: Schedule, following: datetime | None) -> None:
        """Set when the schedule is next due."""
        if schedule.is_paused or schedule.is_finished or following is None:
            schedule.next_slot = schedule.next_run_at = None
            return
        waits = following == schedule.next_slot  # no room for missed runs
        schedule.next_slot = following
        schedule.next_run_at = self.now + WAIT if waits else schedule.timing.due_at(following)

    def _start(self, schedule: Schedule, firing: Firing) -> None:
        """Start the run of a firing; a tree that is refused is a firing that failed."""
        firing.started_at = self.now + timedelta(seconds=time.monotonic() - self.began_at)
        try:
            with nullcontext() if self.is_together else transaction.atomic():
                if schedule.tags is None:
                    execution = _untagged(schedule)
                else:
                    execution = with_tags(_untagged, schedule.tags, schedule=schedule)
        except (OperationalError, InterfaceError):
            raise  # all of it is done again
        except Exception as error:
            if self.is_together:
                raise
            if isinstance(error, TasksError):
                self._failed(schedule, firing, error.message)
            else:
                logger.error(
                    "Schedule %s could not start its tree",
                    schedule.id,
                    exc_info=error,
                    extra={"event": "schedule.broken", "schedule": schedule.id},
                )
                self._failed(schedule, firing, BROKEN)
        else:
            self._started(schedule, firing, execution)
        schedule.last_run_at = firing.started_at
        self.outcomes.append(firing.outcome)
        if firing.pk is None:
            self.new.append(firing)
        else:
            firing.save()

    def _started(self, schedule: Schedule, firing: Firing, execution: Execution) -> None:
        if not execution.started:
            firing.outcome, firing.reason = Outcome.SKIPPED, RUNS_ALREADY
            return
        run = execution.run
        firing.outcome, firing.reason, firing.is_open = Outcome.STARTED, None, True
        firing.run_id, firing.root_id = run.id, run.root_id
        schedule.run_count += 1
        schedule.last_run_id, schedule.last_status = run.id, None
        self.running[schedule.id].append(firing)
        if firing.cause == CLOCK and firing.started_at is not None:
            due_at = schedule.timing.due_at(firing.scheduled_for)
            self.lateness.append(max(0.0, (firing.started_at - due_at).total_seconds()))

    def _failed(self, schedule: Schedule, firing: Firing, reason: str) -> None:
        firing.outcome, firing.reason = Outcome.FAILED, reason
        schedule.last_run_id, schedule.last_status = None, Status.FAILED
        self._count_failure(schedule)

    def _count_failure(self, schedule: Schedule) -> None:
        schedule.failures += 1
        most = schedule.pause_after_failures
        if most is not None and schedule.failures >= most and not schedule.is_paused:
            self.pause(schedule, f"{schedule.failures:,} runs in a row failed (pause_after_failures).")

    def pause(self, schedule: Schedule, reason: str) -> None:
        """Stop the schedule by itself, and say why."""
        schedule.is_paused, schedule.pause_reason = True, reason
        schedule.next_slot = schedule.next_run_at = None
        skip_queued(schedule, self.queued.pop(schedule.id, []), reason=f"The schedule was paused: {reason}")
        audit.record(
            audit.Action.SCHEDULE_PAUSED,
            actor="",
            address="",
            target=schedule.id,
            owner=schedule.user_id,
            name=schedule.name,
            reason=reason,
        )
        logger.warning(
            "Paused schedule %s: %s", schedule.id, reason, extra={"event": "schedule.paused", "schedule": schedule.id}
        )

    def _note_ends(self, firings: Iterable[Firing]) -> None:
        """Note the status of the runs that have ended. One that is gone has ended, too."""
        firings = list(firings)
        runs = {run.id: run for run in Run.objects.filter(id__in=[firing.run_id for firing in firings])}
        schedules = {schedule.id: schedule for schedule in self.schedules}
        for firing in firings:
            run = runs.get(str(firing.run_id))
            if run is not None and run.finished_at is None:
                self.running[firing.schedule_id].append(firing)
                continue
            schedule = schedules[firing.schedule_id]
            firing.is_open, firing.status = False, None if run is None else run.status
            firing.save(update_fields=["is_open", "status"])
            if schedule.last_run_id == firing.run_id:
                schedule.last_status = firing.status
            if firing.status == Status.FAILED:
                self._count_failure(schedule)
            elif firing.status == Status.COMPLETED:
                schedule.failures = 0


def skip_queued(schedule: Schedule, queued: Iterable[Firing], *, reason: str) -> None:
    """Skip the runs that wait."""
    ids = [firing.pk for firing in queued if firing.pk is not None]
    for firing in queued:
        firing.outcome, firing.reason = Outcome.SKIPPED, reason
    Firing.objects.queued().filter(schedule_id=schedule.id, id__in=ids).update(outcome=Outcome.SKIPPED, reason=reason)


def _untagged(schedule: Schedule) -> Execution:
    caller = Caller(user_id=schedule.user_id)
    if schedule.flow is not None:
        return run_flow(caller=caller, name=schedule.flow, version=schedule.flow_version, inputs=schedule.inputs)
    verb: Callable[..., Execution] = partial(execute_tree, tasks=schedule.tasks, id_conflict=NEW)
    if schedule.task_id is not None:
        verb = partial(execute_task, task_id=schedule.task_id, copy_execution=True, copy_children=True)
        if schedule.schedule_type is not None:
            verb = partial(execute_again, task_id=schedule.task_id)
    if schedule.inputs is None:
        return verb(caller=caller)
    return with_inputs(verb, schedule.inputs, replace_inputs=True, caller=caller)
