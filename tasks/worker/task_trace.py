"""The record of the model calls of one task: their content masked and bounded, and not on the loop if that takes long."""

from dataclasses import fields, replace
from datetime import datetime
from functools import partial
from typing import Any, Final

from django.conf import settings

from llmkeys.redact import mask
from tasks.rules.call_content import stored_content
from tasks.worker.load_run import LoadedTask
from tasks.worker.run_recorder import RunRecorder
from tasks.worker.secrets_of_run import SecretsOfRun
from tasks.worker.traced_models import Call, Said

FEW: Final = 50
LARGE: Final = 1_000_000
"""The assumed size of what is not only text."""


class TaskTrace:
    """The trace of one task. Use it on the loop of the worker."""

    def __init__(self, task: LoadedTask, *, recorder: RunRecorder, secrets: SecretsOfRun) -> None:
        self._task = task
        self._recorder = recorder
        self._secrets = secrets

    def now(self) -> datetime:
        return self._recorder.now()

    async def content_of(self, said: Said) -> str | None:
        if not settings.APFLOW_LLM.store_content:
            return None
        parts = {field.name: getattr(said, field.name) for field in fields(said)}
        work = partial(stored_content, **parts, mask=self._mask)
        return await self._secrets.in_turn(self._task, work, size=_size_of(said))

    def heard(self, call: Call, text: str, *, kind: str) -> None:
        self._recorder.heard(self._task, call, self._secrets.masker.text(text), kind=kind)

    def called(self, call: Call) -> None:
        error = None if call.error is None else self._secrets.masker.text(call.error)
        self._recorder.called(self._task, replace(call, error=error))

    def _mask(self, text: str) -> str:
        return mask(self._secrets.masker.text(text))


def _size_of(said: Said) -> int:
    """About how many characters there are to look through."""
    if len(said.messages) > FEW or said.tool_calls or said.citations:
        return LARGE
    return len(said.answer or "") + len(said.reasoning or "") + sum(map(_size_of_message, said.messages))


def _size_of_message(message: Any) -> int:
    """Return the size of a message; for one that is only a text its length, which takes no time."""
    is_plain = isinstance(message, dict) and message.keys() <= {"role", "content"}
    return len(message["content"]) if is_plain and isinstance(message.get("content"), str) else LARGE
