"""The usage of model calls."""

from typing import ClassVar, Self

from django.db import models

from accounts.callers import Caller
from tasks.fields import JsonTextField
from tasks.models.choices import STATUS_CHOICES


class ModelCall(models.Model):
    """One call of a language model by a task, also one that failed or was cancelled.

    `agent` and `crew_task` name the caller in a crew, and `step` is the step of an agent, from 1. `duration_ms` is null
    for a call that an executor made itself and reported, and `first_token_ms` for an answer that was not streamed. Numbers of tokens and `cost_nanos`, in billionths of a US
    dollar, are null if they are unknown. `content` has the messages, the answer and the tool calls
    (`tasks.rules.call_content`); null if it is not stored (`llm.store_content`). `feedback` is what people think of the
    call, `{thumb, score, note, by, at}`, or null.
    """

    id = models.CharField(primary_key=True, max_length=36)
    run_id = models.CharField(max_length=36)
    root_id = models.CharField(max_length=255)
    task_id = models.CharField(max_length=255)
    user_id = models.CharField(max_length=255)
    executor_id = models.CharField(max_length=255)
    attempt = models.PositiveIntegerField()
    step = models.PositiveIntegerField(null=True)
    agent = models.CharField(max_length=255, null=True)
    crew_task = models.CharField(max_length=255, null=True)
    model = models.CharField(max_length=255)
    status = models.CharField(max_length=11, choices=STATUS_CHOICES)
    started_at = models.DateTimeField()
    duration_ms = models.PositiveBigIntegerField(null=True)
    first_token_ms = models.PositiveBigIntegerField(null=True)
    prompt_tokens = models.BigIntegerField(null=True)
    completion_tokens = models.BigIntegerField(null=True)
    total_tokens = models.BigIntegerField(null=True)
    cached_tokens = models.BigIntegerField(null=True)
    reasoning_tokens = models.BigIntegerField(null=True)
    cost_nanos = models.BigIntegerField(null=True)
    finish_reason = models.CharField(max_length=64, null=True)
    error = models.TextField(null=True)
    content = JsonTextField(null=True)
    feedback = JsonTextField(null=True)

    class Meta:
        app_label = "tasks"
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["run_id", "started_at", "id"], name="call_of_run"),
            models.Index(fields=["run_id", "task_id", "started_at", "id"], name="call_of_task"),
        ]

    def __str__(self) -> str:
        return f"call of {self.model} by {self.task_id}"


class RunBudget(models.Model):
    """The use of a run with a budget so far (`tasks.rules.budgets.Spent`)."""

    run_id = models.CharField(primary_key=True, max_length=36)
    state = JsonTextField()

    class Meta:
        app_label = "tasks"

    def __str__(self) -> str:
        return f"budget of run {self.run_id}"


class DayCount(models.Model):
    """The use of the runs of a user on a day (UTC) in one worker process, if a limit counts it."""

    user_id = models.CharField(max_length=255)
    day = models.DateField(db_index=True)
    process = models.CharField(max_length=255)
    tasks = models.BigIntegerField()
    seconds = models.FloatField()

    class Meta:
        app_label = "tasks"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["user_id", "day", "process"], name="day_of_user_and_process"),
        ]

    def __str__(self) -> str:
        return f"{self.tasks} tasks of {self.user_id} on {self.day}"


class DayAllowance(models.Model):
    """The limit that an administrator has set for a user and one day (UTC), instead of that of the settings."""

    user_id = models.CharField(max_length=255)
    day = models.DateField(db_index=True)
    measure = models.CharField(max_length=16)
    allowed = models.FloatField()

    class Meta:
        app_label = "tasks"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["user_id", "day", "measure"], name="allowance_of_user_and_day"),
        ]

    def __str__(self) -> str:
        return f"{self.allowed} {self.measure} for {self.user_id} on {self.day}"


class UsageQuerySet(models.QuerySet["Usage"]):
    def for_caller(self, caller: Caller) -> Self:
        """Return what the caller's own tasks used."""
        return self if caller.sees_all else self.filter(user_id=caller.user_id)


class Usage(models.Model):
    """The usage of model calls on a day (UTC), in a view (`tasks.storage.usage`).

    The sum over the rows of a user, day, model, executor and flow is exact. `cost_nanos` is in billionths of
    a US dollar; `unpriced` counts the calls whose cost is unknown. `model` may be empty, and `flow` is for
    runs of no flow.
    """

    id = models.TextField(primary_key=True)
    user_id = models.CharField(max_length=255)
    day = models.DateField()
    model = models.CharField(max_length=255)
    executor_id = models.CharField(max_length=255)
    flow = models.CharField(max_length=255)
    calls = models.BigIntegerField()
    prompt_tokens = models.BigIntegerField()
    completion_tokens = models.BigIntegerField()
    total_tokens = models.BigIntegerField()
    cost_nanos = models.BigIntegerField()
    unpriced = models.BigIntegerField()

    objects = UsageQuerySet.as_manager()

    class Meta:
        app_label = "tasks"
        managed = False
        db_table = "tasks_used"
        verbose_name_plural = "usage"

    def __str__(self) -> str:
        return f"{self.model} on {self.day}"
