"""Records each call of a model that a task makes, wherever the task runs: also those that fail or are cancelled.

The words of each call are published as they arrive.
"""

import asyncio
import time
from asyncio import CancelledError
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Final, Protocol

from aipartnerupflow.executors import ExecutorError, Json, Stopped
from tasks.executors.llm.client import MODELS, Models, ignore
from tasks.executors.llm.prompt import Completion, Prompt
from tasks.ids import new_id
from tasks.rules.call_content import TEXT_CHARACTERS
from tasks.rules.words import ANSWER, REASONING
from tasks.status import Status

EVERY_SECONDS: Final = 0.1
MAX_CHARACTERS: Final = 16_384
"""The characters of one event: longer ones would be cut."""


class Lines:
    """A context that buffers words and publishes the rest when it ends. Use it on the event loop."""

    def __init__(self, publish: Callable[[str], None]) -> None:
        self._publish = publish
        self._texts: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def add(self, text: str) -> None:
        self._texts.append(text)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(EVERY_SECONDS, self.flush)

    def flush(self) -> None:
        """Publish at once what has been added."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        text = "".join(self._texts)
        self._texts.clear()
        for start in range(0, len(text), MAX_CHARACTERS):
            self._publish(text[start : start + MAX_CHARACTERS])


CALL_ID: Final = "call_id"
"""The field of a usage report that names the recorded call. Executors report calls of their own without it."""
CANCELLED: Final = "The call was cancelled."
BROKEN: Final = "The call ended with an unexpected error. The worker's log may have the details."


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of a model. `duration_ms` is None for one that an executor made itself."""

    id: str
    model: str
    started_at: datetime
    status: Status
    duration_ms: int | None = None
    agent: str | None = None
    crew_task: str | None = None
    step: int | None = None
    usage: Json | None = None
    finish_reason: str | None = None
    error: str | None = None
    content: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """The content of a call, before it is bounded."""

    messages: Sequence[Any]
    answer: str | None
    reasoning: str | None = None
    citations: Sequence[Any] = ()
    tool_calls: Sequence[Any] = ()


class Trace(Protocol):
    """The record of the calls of one task."""

    def now(self) -> datetime:
        """Return the time, by the clock of the run."""
        ...

    async def content_of(self, said: Said) -> str | None:
        """Return what is stored of it; None if nothing is."""
        ...

    def heard(self, call: Call, text: str, *, kind: str) -> None:
        """Publish words of the answer or of the reasoning. Returns at once."""
        ...

    def called(self, call: Call) -> None:
        """Record the call. Returns at once."""
        ...


class Layer:
    """Models that pass the calls of one task on to others."""

    def __init__(self, models: Models) -> None:
        self.models = models

    async def check(self, prompt: Prompt) -> None:
        await self.models.check(prompt)


class TracedModels(Layer):
    """Models whose calls are recorded."""

    def __init__(self, models: Models, trace: Trace) -> None:
        super().__init__(models)
        self._trace = trace

    async def ask(
        self,
        prompt: Prompt,
        *,
        spent: Callable[[Json], None],
        heard: Callable[[str], None],
        thought: Callable[[str], None] = ignore,
    ) -> Completion:
        call = Call(
            id=new_id(),
            model=prompt.model,
            started_at=self._trace.now(),
            status=Status.FAILED,
            agent=prompt.agent,
            crew_task=prompt.crew_task,
            step=prompt.step,
            error=BROKEN,
        )
        began, texts = time.monotonic(), _Start()
        used: Json | None = None
        answer: Completion | None = None

        def counted(usage: Json) -> None:
            nonlocal used
            used = usage
            spent(usage | {CALL_ID: call.id})

        lines = Lines(partial(self._trace.heard, call, kind=ANSWER))
        thoughts = Lines(partial(self._trace.heard, call, kind=REASONING))

        def listened(text: str) -> None:
            texts.add(text)
            if prompt.streams:
                thoughts.flush()
                lines.add(text)
            heard(text)

        def considered(text: str) -> None:
            lines.flush()
            thoughts.add(text)
            thought(text)

        try:
            with lines, thoughts:
                answer = await self.models.ask(prompt, spent=counted, heard=listened, thought=considered)
            call = replace(call, status=Status.COMPLETED, error=None, finish_reason=answer.finish_reason)
            return answer
        except ExecutorError as error:
            call = replace(call, error=str(error))
            raise
        except (Stopped, CancelledError):
            call = replace(call, status=Status.CANCELLED, error=CANCELLED)
            raise
        finally:
            call = replace(call, usage=used, duration_ms=round((time.monotonic() - began) * 1000))
            await self._record(call, _said(prompt, answer, texts.text))

    async def _record(self, call: Call, said: Said) -> None:
        content = None
        try:
            content = await self._trace.content_of(said)
        finally:  # also if it is cancelled meanwhile
            self._trace.called(replace(call, content=content))


class _Start:
    """The start of an answer that arrives in parts, for a call that has no answer in the end."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._left = TEXT_CHARACTERS

    @property
    def text(self) -> str | None:
        return "".join(self._texts) or None

    def add(self, text: str) -> None:
        if self._left > 0:
            self._texts.append(text[: self._left])
            self._left -= len(text)


def _said(prompt: Prompt, answer: Completion | None, so_far: str | None) -> Said:
    if answer is None:
        return Said(messages=prompt.messages, answer=so_far)
    return Said(
        messages=prompt.messages,
        answer=answer.content,
        reasoning=answer.reasoning or None,
        citations=answer.citations,
        tool_calls=answer.tool_calls,
    )


def bottom(models: Models) -> Models:
    """Return the models below all layers: a job inherits those of the task whose end started it."""
    while isinstance(models, Layer):
        models = models.models
    return models


def trace_models(trace: Trace) -> None:
    """Record the model calls of the task whose job calls this, wherever it runs."""
    MODELS.set(TracedModels(bottom(MODELS.get()), trace))
