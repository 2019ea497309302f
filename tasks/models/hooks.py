"""Inbound hooks: addresses at which other services start flows, send events and answer questions."""

import secrets
from typing import ClassVar, Self

from django.db import models

from accounts.callers import Caller
from tasks.fields import JsonTextField


def new_address() -> str:
    return secrets.token_urlsafe(16)


class HookQuerySet(models.QuerySet["Hook"]):
    def for_caller(self, caller: Caller) -> Self:
        """Return the caller's own hooks: the single home of this authorization."""
        return self.filter(user_id=caller.user_id)


class Hook(models.Model):
    """An address, `/hooks/in/{id}`, and what its deliveries do: start a `flow`, send an `event`, or answer questions.

    `verifier` and `scheme` say how its sender signs (`tasks.rules.signatures`), with one of the named `secrets` of the owner.
    """

    id = models.CharField(primary_key=True, max_length=36, default=new_address)
    user_id = models.CharField(max_length=255)
    name = models.CharField(max_length=100)
    verifier = models.CharField(max_length=8)
    scheme = JsonTextField(null=True)
    secrets = JsonTextField()
    tolerance_seconds = models.PositiveIntegerField(default=300)
    filter = JsonTextField(null=True)
    flow = models.CharField(max_length=100, null=True)  # the name of one of its owner
    inputs = JsonTextField(null=True)
    event = models.CharField(max_length=255, null=True)
    payload = JsonTextField(null=True)
    answers = models.BooleanField(default=False)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    objects = HookQuerySet.as_manager()

    class Meta:
        app_label = "tasks"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["user_id", "name"], name="hook_of_owner"),
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.user_id}"


class HookDelivery(models.Model):
    """A request with a valid signature, and its outcome: stored in the transaction of what it started.

    `digest` is of the signed bytes; None for one that its owner has replayed, which has the same `delivery_id` as the one
    that it repeats (`replay_of`).
    """

    hook_id: str
    hook = models.ForeignKey(Hook, models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False)
    user_id = models.CharField(max_length=255)
    delivery_id = models.CharField(max_length=255)
    digest = models.CharField(max_length=64, null=True)
    headers = JsonTextField()
    body = JsonTextField(null=True)
    outcome = models.CharField(max_length=8)
    reason = models.TextField(null=True)
    run_id = models.CharField(max_length=36, null=True)
    task_id = models.CharField(max_length=255, null=True)
    event_id = models.CharField(max_length=255, null=True)
    replay_of = models.BigIntegerField(null=True)
    received_at = models.DateTimeField()

    class Meta:
        app_label = "tasks"
        verbose_name_plural = "hook deliveries"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["hook", "delivery_id"], condition=models.Q(replay_of=None), name="one_delivery_per_id"
            ),
            models.UniqueConstraint(fields=["hook", "digest"], name="one_delivery_per_digest"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["hook", "-id"], name="delivery_of_hook"),
            models.Index(fields=["hook", "received_at"], name="delivery_rate"),
            models.Index(fields=["user_id", "-id"], name="delivery_of_user"),
        ]

    def __str__(self) -> str:
        return f"{self.delivery_id}: {self.outcome}"
