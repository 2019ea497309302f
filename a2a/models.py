"""The tables of A2A messages and of sessions of MCP, in addition to those of the domain."""

from typing import ClassVar

from django.db import models

from tasks.fields import JsonTextField
from tasks.models import Run


class Message(models.Model):
    """A message of a run, from the client or the server, as sent.

    Ids are in the order of the conversation.
    """

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="messages", db_index=False, db_constraint=False)
    body = JsonTextField()
    created_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["run", "id"], name="message_of_run")]

    def __str__(self) -> str:
        return f"message {self.pk} of {self.run_id}"


class WatchedResource(models.Model):
    """A resource that the session of a client of MCP watches. No foreign key: it may outlive its run."""

    session = models.CharField(max_length=32)
    user_id = models.CharField(max_length=255, db_index=True)
    run_id = models.CharField(max_length=255)
    uri = models.CharField(max_length=400)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["session", "uri"], name="watched_resource_of_session"),
        ]

    def __str__(self) -> str:
        return f"{self.uri} in session {self.session}"


class SessionCall(models.Model):
    """A call of a tool in a session of a client of MCP that starts or follows a run.

    `request` is the id of the client's request as JSON. `run_id` is null if the call was cancelled before its run was
    stored. `starts_run`: to cancel the call is to cancel the run. No foreign key: the row may outlive its run.
    """

    session = models.CharField(max_length=32)
    request = models.CharField(max_length=255)
    run_id = models.CharField(max_length=36, null=True)
    starts_run = models.BooleanField(default=True)
    with_tree = models.BooleanField(default=False)
    progress_token = JsonTextField(null=True)
    is_cancelled = models.BooleanField(default=False)
    created_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["session", "request"], name="call_of_session"),
        ]

    def __str__(self) -> str:
        return f"call {self.request} in session {self.session}"


class EndedSession(models.Model):
    """A session of a client of MCP that its client has ended; deleted after it would expire."""

    session = models.CharField(primary_key=True, max_length=32)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.session
