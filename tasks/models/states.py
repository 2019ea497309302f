"""The state that a task keeps while it runs, so that another worker can continue it."""

from typing import ClassVar

from django.db import models

from tasks.fields import JsonTextField


class ConversationTurn(models.Model):
    """The part of one task of a user in a conversation, with the answer of the model.

    `said` is a list of messages `{"role", "content"}` with texts, the answer last, which have so many `characters`. It is deleted
    with the run of its task.
    """

    user_id = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    run_id = models.CharField(max_length=36)
    task_id = models.CharField(max_length=255)
    said = JsonTextField()
    characters = models.PositiveBigIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[models.Manager["ConversationTurn"]] = models.Manager()

    class Meta:
        app_label = "tasks"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["run_id", "task_id"], name="turn_of_task"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["user_id", "name", "-id"], name="turns_of_conversation"),
        ]

    def __str__(self) -> str:
        return f"turn of {self.task_id}"


class TaskState(models.Model):
    """One part of the state that a task keeps until it ends, such as the checkpoints of its graph.

    `key` is at most 64 characters, and `value` is what the executor stored under it. Only the task's own
    executor reads it.
    """

    run_id = models.CharField(max_length=36)
    task_id = models.CharField(max_length=255)
    key = models.CharField(max_length=64)
    value = models.BinaryField()

    objects: ClassVar[models.Manager["TaskState"]] = models.Manager()

    class Meta:
        app_label = "tasks"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["run_id", "task_id", "key"], name="state_of_task"),
        ]

    def __str__(self) -> str:
        return f"state of {self.task_id}"
