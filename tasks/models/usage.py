"""The usage of model calls."""

from typing import Self

from django.db import models

from accounts.callers import Caller


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
        managed = False
        db_table = "tasks_used"
        verbose_name_plural = "usage"

    def __str__(self) -> str:
        return f"{self.model} on {self.day}"
