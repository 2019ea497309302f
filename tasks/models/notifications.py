"""Whom to notify when a run fails, or when a task asks a question."""

from typing import ClassVar, Self

from django.db import models

from accounts.callers import Caller
from tasks.ids import new_id


class NotificationQuerySet(models.QuerySet["Notification"]):
    def for_caller(self, caller: Caller) -> Self:
        """Return the caller's own ones."""
        return self if caller.sees_all else self.filter(user_id=caller.user_id)


class Notification(models.Model):
    """Sends a message when a run of its user fails (`on_failure`), when a task of such a run asks a question, and when one asks
    the user (`on_question`): about all runs, or those of one flow.

    `url` is where to send it: `http…` or `mailto:…`. `host` is of the receiver, or of the mail server.
    `sealed` contains, encrypted, what only deliveries may read. `testing_since` is set while a test message is sent.
    """

    id = models.CharField(primary_key=True, max_length=36, default=new_id)
    user_id = models.CharField(max_length=255)
    name = models.CharField(max_length=100)
    flow_id = models.CharField(max_length=36, null=True)
    on_failure = models.BooleanField(default=True, db_default=True)
    on_question = models.BooleanField(default=False, db_default=False)
    url = models.TextField()
    host = models.CharField(max_length=255)
    sealed = models.TextField()
    testing_since = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    objects = NotificationQuerySet.as_manager()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["user_id", "name"], name="notification_of_owner"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["flow_id"], name="notification_of_flow", condition=models.Q(flow_id__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.user_id}"
