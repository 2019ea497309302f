"""Rows about the installation as a whole: requests that were already answered, processes, facts."""

from typing import ClassVar

from django.db import models

from tasks.fields import JsonTextField


class SavedView(models.Model):
    """The filters of a list, as its URL has them, under a name of its user. `place` is the list."""

    user_id = models.CharField(max_length=255)
    place = models.CharField(max_length=16)
    name = models.CharField(max_length=100)
    query = models.TextField()

    class Meta:
        app_label = "tasks"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["user_id", "place", "name"], name="saved_view_of_user"),
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.user_id}"


class LastVisit(models.Model):
    """The time up to which a user has seen what happened (`tasks.services.upkeep.home`)."""

    user_id = models.CharField(primary_key=True, max_length=255)
    at = models.DateTimeField()

    class Meta:
        app_label = "tasks"

    def __str__(self) -> str:
        return f"{self.user_id} at {self.at:%Y-%m-%d %H:%M}"


class IdempotencyKey(models.Model):
    """A request that its client may repeat: `outcome` is its result, `response` the reply, if any."""

    user_id = models.CharField(max_length=255)
    key = models.CharField(max_length=255)
    request_hash = models.CharField(max_length=64)
    outcome = JsonTextField(null=True)
    response = JsonTextField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        app_label = "tasks"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["user_id", "key"], name="one_request_per_key"),
        ]
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["created_at"], name="key_age")]

    def __str__(self) -> str:
        return f"{self.key} of {self.user_id}"


class WorkerProcess(models.Model):
    """A live worker process. It updates `beat_at` every few seconds, busy or idle.

    `places` is how many trees it can run at a time; 0 while it drains. `supervisor` is the process
    that records how it ends, named as in `tasks.queue.leases`; empty without any. `workflows` maps the ids of the workflows whose
    code it has to the versions of that.
    """

    id = models.CharField(primary_key=True, max_length=255)
    cluster_id = models.CharField(max_length=255)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    places = models.PositiveIntegerField(db_default=0, default=0)
    supervisor = models.CharField(max_length=255, db_default="", default="")
    workflows = JsonTextField(null=True)
    started_at = models.DateTimeField()
    beat_at = models.DateTimeField()

    class Meta:
        app_label = "tasks"
        verbose_name_plural = "worker processes"
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["cluster_id", "beat_at"], name="worker_alive")]

    def __str__(self) -> str:
        return self.id


class InstallationFact(models.Model):
    """A fact that all machines of the installation share, such as the fingerprint of a secret."""

    name = models.CharField(primary_key=True, max_length=64)
    value = JsonTextField()
    updated_at = models.DateTimeField()

    class Meta:
        app_label = "tasks"

    def __str__(self) -> str:
        return self.name
