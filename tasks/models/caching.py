"""The cache of results (`tasks.rules.caching`), and the calls under way whose results equal tasks wait for."""

from typing import ClassVar, Self

from django.db import models

from accounts.callers import Caller
from tasks.fields import JsonTextField


class CachedResultQuerySet(models.QuerySet["CachedResult"]):
    def for_caller(self, caller: Caller) -> Self:
        """Return the results that the caller's own tasks have stored."""
        return self if caller.sees_all else self.filter(user_id=caller.user_id)


class CachedResult(models.Model):
    """The result of a task for equal ones, of its owner alone unless `is_shared`. It goes with the tree of the task."""

    key = models.CharField(primary_key=True, max_length=64)
    user_id = models.CharField(max_length=255)
    is_shared = models.BooleanField()
    executor_id = models.CharField(max_length=255)
    task_id = models.CharField(max_length=255)
    run_id = models.CharField(max_length=36)
    root_id = models.CharField(max_length=255)
    stored_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    size = models.PositiveIntegerField()  # of the result in bytes
    result = JsonTextField(null=True)

    objects = CachedResultQuerySet.as_manager()

    class Meta:
        app_label = "tasks"
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["user_id", "-stored_at", "size"], name="cached_of_user"),
            models.Index(fields=["expires_at"], name="cached_until"),
            models.Index(fields=["root_id"], name="cached_of_tree"),
        ]

    def __str__(self) -> str:
        return f"result of {self.task_id}"


class CallInFlight(models.Model):
    """The task that makes a call, while equal ones wait for its result: until its attempt ends, or its run is over."""

    key = models.CharField(primary_key=True, max_length=64)
    run_id = models.CharField(max_length=36)
    task_id = models.CharField(max_length=255)

    class Meta:
        app_label = "tasks"
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["run_id", "task_id"], name="call_in_flight")]

    def __str__(self) -> str:
        return f"call of {self.task_id}"
