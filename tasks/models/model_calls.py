"""Calls of language models."""

from typing import ClassVar

from django.db import models

from tasks.fields import JsonTextField
from tasks.models.choices import STATUS_CHOICES


class ModelCall(models.Model):
    """One call of a language model by a task, also one that failed or was cancelled.

    `agent` and `crew_task` name the caller in a crew, and `step` is the step of an agent, from 1. `duration_ms` is null
    for a call that an executor made itself and reported. Numbers of tokens and `cost_nanos`, in billionths of a US
    dollar, are null if they are unknown. `content` has the messages, the answer and the tool calls
    (`tasks.rules.call_content`); null if it is not stored (`llm.store_content`).
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
    prompt_tokens = models.BigIntegerField(null=True)
    completion_tokens = models.BigIntegerField(null=True)
    total_tokens = models.BigIntegerField(null=True)
    cached_tokens = models.BigIntegerField(null=True)
    reasoning_tokens = models.BigIntegerField(null=True)
    cost_nanos = models.BigIntegerField(null=True)
    finish_reason = models.CharField(max_length=64, null=True)
    error = models.TextField(null=True)
    content = JsonTextField(null=True)

    class Meta:
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["run_id", "started_at", "id"], name="call_of_run"),
            models.Index(fields=["run_id", "task_id", "started_at", "id"], name="call_of_task"),
        ]

    def __str__(self) -> str:
        return f"call of {self.model} by {self.task_id}"
