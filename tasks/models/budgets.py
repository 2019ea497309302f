"""The use of runs with a budget, and of users on a day with limits."""

from typing import ClassVar

from django.db import models

from tasks.fields import JsonTextField


class RunBudget(models.Model):
    """The use of a run with a budget so far (`tasks.rules.budgets.Spent`)."""

    run_id = models.CharField(primary_key=True, max_length=36)
    state = JsonTextField()

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
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["user_id", "day", "measure"], name="allowance_of_user_and_day"),
        ]

    def __str__(self) -> str:
        return f"{self.allowed} {self.measure} for {self.user_id} on {self.day}"
