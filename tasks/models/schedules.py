"""Schedules, which start runs at times of the clock, and what they did at each time."""

from datetime import timedelta
from typing import ClassVar, Self

from django.db import models

from accounts.callers import Caller
from tasks.fields import JsonTextField
from tasks.ids import new_id
from tasks.models.choices import STATUS_CHOICES, choices_of
from tasks.rules.firings import CatchUp, Outcome, Overlap, Policy
from tasks.rules.schedules import Timing

IS_DUE = models.Q(next_run_at__isnull=False)
IS_OPEN = models.Q(is_open=True)
IS_QUEUED = models.Q(outcome=Outcome.QUEUED.value)


class ScheduleQuerySet(models.QuerySet["Schedule"]):
    def for_caller(self, caller: Caller) -> Self:
        """Return the caller's own schedules."""
        return self if caller.sees_all else self.filter(user_id=caller.user_id)


class Schedule(models.Model):
    """A tree or flow to run, and the times. Its runs belong to its owner.

    It runs `tasks`, a copy of the stored tree `task_id`, or a `flow`: in this version, or in the one that is the
    newest at the time. `next_slot` is the next time of its timing,
    and `next_run_at` when it is due: later by its jitter, or when runs that were missed have to wait. Both
    are None while it is paused, and at its end. `failures` counts the runs that have failed in a row.
    `last_status` is that of the last run when it has ended, or "failed" if it could not be started.

    With a `schedule_type` it is the schedule of a task itself (`tasks.rules.task_schedules`): it runs the tree `task_id`
    again instead of a copy, and `Task.schedule_id` names it.
    """

    id = models.CharField(primary_key=True, max_length=36, default=new_id)
    user_id = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    tasks = JsonTextField(null=True)
    task_id = models.CharField(max_length=255, null=True)
    flow = models.CharField(max_length=100, null=True)  # the name of one of its owner
    flow_version = models.PositiveIntegerField(null=True)
    inputs = JsonTextField(null=True)
    tags = JsonTextField(null=True)  # of its runs, a list
    schedule_type = models.CharField(max_length=8, null=True)
    cron = models.CharField(max_length=255, null=True)
    every_seconds = models.PositiveIntegerField(null=True)
    at = models.DateTimeField(null=True)
    timezone = models.CharField(max_length=64, default="UTC")
    starts_at = models.DateTimeField(null=True)
    ends_at = models.DateTimeField(null=True)
    max_runs = models.PositiveIntegerField(null=True)
    overlap = models.CharField(max_length=15, choices=choices_of(Overlap), default=Overlap.SKIP.value)
    catch_up = models.CharField(max_length=4, choices=choices_of(CatchUp), default=CatchUp.NONE.value)
    catch_up_window_seconds = models.PositiveIntegerField(default=3600)
    jitter_seconds = models.PositiveIntegerField(default=0)
    is_paused = models.BooleanField(default=False)
    pause_reason = models.TextField(null=True)
    pause_after_failures = models.PositiveIntegerField(null=True)
    next_slot = models.DateTimeField(null=True)
    next_run_at = models.DateTimeField(null=True)
    last_run_at = models.DateTimeField(null=True)
    last_run_id = models.CharField(max_length=36, null=True)
    last_status = models.CharField(max_length=11, null=True)
    run_count = models.PositiveIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    objects = ScheduleQuerySet.as_manager()

    class Meta:
        app_label = "tasks"
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["next_run_at"], name="schedule_due", condition=IS_DUE),
            models.Index(fields=["user_id", "-created_at", "-id"], name="schedule_of_owner"),
            models.Index(fields=["-created_at", "-id"], name="schedule_recent"),
            models.Index(fields=["task_id"], name="schedule_of_task", condition=models.Q(task_id__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.id})"

    @property
    def timing(self) -> Timing:
        return Timing(
            cron=self.cron,
            every_seconds=self.every_seconds,
            at=self.at,
            timezone=self.timezone,
            starts_at=self.starts_at,
            ends_at=self.ends_at,
            jitter_seconds=self.jitter_seconds,
            key=self.id,
        )

    @property
    def policy(self) -> Policy:
        return Policy(catch_up=CatchUp(self.catch_up), window=timedelta(seconds=self.catch_up_window_seconds))

    @property
    def is_finished(self) -> bool:
        """Whether it has started all its runs."""
        return self.max_runs is not None and self.run_count >= self.max_runs


class FiringQuerySet(models.QuerySet["Firing"]):
    def for_caller(self, caller: Caller) -> Self:
        """Return what the caller's own schedules did."""
        return self if caller.sees_all else self.filter(schedule__user_id=caller.user_id)

    def open(self) -> Self:
        """Return those whose run has not ended, as far as was noticed."""
        return self.filter(IS_OPEN)

    def queued(self) -> Self:
        """Return those that wait until the run before them has ended."""
        return self.filter(IS_QUEUED)


class Firing(models.Model):
    """The action of a schedule at one of its times, once for each time.

    `cause`: the clock, `schedules.trigger`, `schedules.backfill`, or the report of another scheduler. `status` is that of the run when it has ended.
    """

    schedule_id: str
    schedule = models.ForeignKey(Schedule, models.CASCADE, related_name="firings", db_constraint=False, db_index=False)
    scheduled_for = models.DateTimeField()
    outcome = models.CharField(max_length=7, choices=choices_of(Outcome))
    cause = models.CharField(max_length=8, default="clock")
    reason = models.TextField(null=True)
    run_id = models.CharField(max_length=36, null=True)
    root_id = models.CharField(max_length=255, null=True)
    status = models.CharField(max_length=11, choices=STATUS_CHOICES, null=True)
    is_open = models.BooleanField(default=False)
    started_at = models.DateTimeField(null=True)

    objects = FiringQuerySet.as_manager()

    class Meta:
        app_label = "tasks"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["schedule", "scheduled_for"], name="one_firing_for_each_time"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["run_id"], name="firing_of_run", condition=models.Q(run_id__isnull=False)),
            models.Index(fields=["schedule"], name="firing_open", condition=IS_OPEN),
            models.Index(fields=["schedule", "scheduled_for"], name="firing_queued", condition=IS_QUEUED),
        ]

    def __str__(self) -> str:
        return f"{self.schedule_id} at {self.scheduled_for:%Y-%m-%d %H:%M:%S}"
