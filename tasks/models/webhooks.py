"""Webhooks and what was sent to them."""

from typing import ClassVar, Self

from django.db import models
from django.db.models.functions import Now

from accounts.callers import Caller
from tasks.ids import new_id
from tasks.models.runs import Run


class WebhookQuerySet(models.QuerySet["Webhook"]):
    def open(self) -> Self:
        """Return the webhooks that may still receive events."""
        return self.filter(closed_at=None)

    def due(self) -> Self:
        """Return the webhooks whose next event exists, may be sent now, and is not being delivered."""
        is_free = models.Q(lease_expires_at=None) | models.Q(lease_expires_at__lt=Now())
        return self.open().filter(is_free, next_at__lte=Now(), run__last_seq__gte=models.F("next_seq"))


class Webhook(models.Model):
    """A URL that receives the events of a run in order: next `next_seq`, not before `next_at`.

    `kind` selects the renderer. A worker process delivers while it holds the lease. `sealed`
    contains, encrypted, what only deliveries may read: headers, token, authentication. `attempt`
    counts the failed attempts to deliver the next event; `failures` counts consecutive events that
    could not be delivered at all. Nothing more is sent after `closed_at`: the run is over or, if
    `disabled_at` is set, the receiver is gone or too many deliveries failed.
    """

    id = models.CharField(primary_key=True, max_length=36, default=new_id)
    # No database constraint: its lock on the run and the journal's, taken while the tree is locked,
    # could deadlock.
    run = models.ForeignKey(Run, models.CASCADE, related_name="webhooks", db_constraint=False)
    kind = models.CharField(max_length=16)
    config_id = models.CharField(max_length=255)
    url = models.TextField()
    host = models.CharField(
        max_length=255, db_default=""
    )  # of the url; "" in rows from before deliveries were limited by host
    method = models.CharField(max_length=5, default="POST")
    sealed = models.TextField()
    next_seq = models.PositiveIntegerField(default=1)
    next_at = models.DateTimeField()
    attempt = models.PositiveIntegerField(default=0)
    failures = models.PositiveSmallIntegerField(default=0)
    lease_owner = models.CharField(max_length=255, null=True)
    lease_expires_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    disabled_at = models.DateTimeField(null=True)

    objects = WebhookQuerySet.as_manager()

    class Meta:
        app_label = "tasks"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["run", "config_id"], name="one_webhook_per_config"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["next_at"], name="webhook_due", condition=models.Q(closed_at=None)),
        ]

    def __str__(self) -> str:
        return f"{self.kind} webhook {self.config_id} of {self.run_id}"


class WebhookDelivery(models.Model):
    """The delivery of one event to one webhook, after `attempts` attempts.

    Only the status of the response is stored.
    """

    webhook = models.ForeignKey(Webhook, models.CASCADE, related_name="deliveries")
    seq = models.PositiveIntegerField()
    status = models.CharField(
        max_length=9, choices=[(status, status) for status in ("delivered", "retrying", "failed")]
    )
    attempts = models.PositiveIntegerField()
    status_code = models.PositiveSmallIntegerField(null=True)
    error = models.CharField(max_length=255, null=True)
    updated_at = models.DateTimeField()

    class Meta:
        app_label = "tasks"
        verbose_name_plural = "webhook deliveries"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["webhook", "seq"], name="one_delivery_per_event"),
        ]

    def __str__(self) -> str:
        return f"#{self.seq} to {self.webhook_id}: {self.status}"


class MailCount(models.Model):
    """The number of addresses to which the tasks and notifications of a user have tried to send mails on a day (UTC)."""

    user_id = models.CharField(max_length=255)
    day = models.DateField(db_index=True)
    recipients = models.PositiveBigIntegerField(default=0)

    objects: ClassVar[models.Manager["MailCount"]] = models.Manager()

    class Meta:
        app_label = "tasks"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["user_id", "day"], name="mails_of_user_and_day"),
        ]

    def __str__(self) -> str:
        return f"{self.recipients} of {self.user_id} on {self.day}"


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
    is_slack = models.BooleanField(default=False, db_default=False)  # whether messages have Slack's format
    url = models.TextField()
    host = models.CharField(max_length=255)
    sealed = models.TextField()
    testing_since = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    objects = NotificationQuerySet.as_manager()

    class Meta:
        app_label = "tasks"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["user_id", "name"], name="notification_of_owner"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["flow_id"], name="notification_of_flow", condition=models.Q(flow_id__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.user_id}"
