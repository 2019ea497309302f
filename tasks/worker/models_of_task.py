"""The models of one task: each call is recorded, wherever the task runs, also one that fails or is cancelled.

The words of each call are published as they arrive. Their content is masked and bounded, and not on the loop if that takes long.
"""

import asyncio
import time
from asyncio import CancelledError
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.utils.module_loading import import_string

from aipartnerupflow.executors import ExecutorError, Json, Stopped
from llmkeys.redact import mask
from tasks.executors.llm.client import DIRECT, Models, ignore
from tasks.executors.llm.fallbacks import END, NOT_FIRST, End, Latencies
from tasks.executors.llm.prompt import Completion, Prompt
from tasks.ids import new_id
from tasks.rules.call_content import TEXT_CHARACTERS, stored_content
from tasks.rules.words import ANSWER, REASONING
from tasks.status import Status
from tasks.telemetry import tracing
from tasks.worker.load_run import LoadedTask
from tasks.worker.run_recorder import CALL_ID, Call, RunRecorder
from tasks.worker.secrets_of_run import SecretsOfRun

if TYPE_CHECKING:
    from tasks.worker.call_spans import CallSpan

EVERY_SECONDS: Final = 0.1
MAX_CHARACTERS: Final = 16_384
"""The characters of one event: longer ones would be cut."""
CANCELLED: Final = "The call was cancelled."
BROKEN: Final = "The call ended with an unexpected error. The worker's log may have the details."
FEW: Final = 50
LARGE: Final = 1_000_000
"""The assumed size of what is not only text."""


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


class TracedModels:
    """The models for one task. Use it on the loop of the worker."""

    def __init__(
        self,
        task: LoadedTask,
        *,
        recorder: RunRecorder,
        secrets: SecretsOfRun,
        latencies: Latencies,
        models: Models = DIRECT,
    ) -> None:
        self._models = models
        self._task = task
        self._recorder = recorder
        self._secrets = secrets
        self._latencies = latencies
        self._publishes = self._stores = True
        if task.params.get("checks") is not None:
            from tasks.worker.checks import withholds_content, withholds_words  # noqa: PLC0415  (few tasks have checks)

            self._publishes = not withholds_words(task.params)
            self._stores = not withholds_content(task.params)
        self._span = tracing.here()  # of the task: threads of executors have a context of their own

    async def check(self, prompt: Prompt) -> None:
        await self._models.check(prompt)

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
            started_at=self._recorder.now(),
            status=Status.FAILED,
            agent=prompt.agent,
            crew_task=prompt.crew_task,
            step=prompt.step,
            error=BROKEN,
        )
        began, texts = time.monotonic(), _Start()
        used: Json | None = None
        answer: Completion | None = None
        first: float | None = None

        def counted(usage: Json) -> None:
            nonlocal used
            used = usage
            spent(usage | {CALL_ID: call.id})

        lines = Lines(partial(self._publish, call, ANSWER))
        thoughts = Lines(partial(self._publish, call, REASONING))

        def arrived() -> None:
            nonlocal first
            if first is None and prompt.streams:
                first = time.monotonic() - began

        def listened(text: str) -> None:
            arrived()
            texts.add(text)
            if prompt.streams:
                thoughts.flush()
                lines.add(text)
            heard(text)

        def considered(text: str) -> None:
            arrived()
            lines.flush()
            thoughts.add(text)
            thought(text)

        span = None if self._span is None else self._span_of(prompt, call, self._span)
        try:
            with lines, thoughts:
                answer = await self._models.ask(prompt, spent=counted, heard=listened, thought=considered)
            call = replace(call, status=Status.COMPLETED, error=None, finish_reason=answer.finish_reason)
            return answer
        except ExecutorError as error:
            call = replace(call, error=str(error))
            raise
        except (Stopped, CancelledError):
            end = END.get() or End()
            call = replace(call, status=end.status, error=end.error or CANCELLED)
            raise
        finally:
            took, first_ms = time.monotonic() - began, None if first is None else round(first * 1000)
            if answer is not None or call.error == NOT_FIRST:  # one that was too slow has taken at least so long
                self._latencies.note(prompt, took if first is None else first)
            call = replace(call, usage=used, duration_ms=round(took * 1000), first_token_ms=first_ms)
            if span is not None:
                span.over(answer, call, seconds=took, first_seconds=first)
            await self._record(call, _said(prompt, answer, texts.text), span)

    def _span_of(self, prompt: Prompt, call: Call, around: tracing.Span) -> "CallSpan":
        make: type[CallSpan] = import_string("tasks.worker.call_spans.CallSpan")
        return make(self._task, prompt, call, around=around)

    def _publish(self, call: Call, kind: str, text: str) -> None:
        if self._publishes:
            self._recorder.heard(self._task, call, self._secrets.masker.text(text), kind=kind)

    async def _record(self, call: Call, said: Json, span: "CallSpan | None") -> None:
        content = None
        is_stored = self._stores and settings.APFLOW_LLM.store_content
        is_sent = self._stores and span is not None and settings.APFLOW.telemetry.content
        try:
            if is_stored or is_sent:
                work = partial(stored_content, **said, mask=self._mask)
                content = await self._secrets.in_turn(self._task, work, size=_size_of(said))
        finally:  # also if it is cancelled meanwhile
            error = None if call.error is None else self._secrets.masker.text(call.error)
            self._recorder.called(self._task, replace(call, error=error, content=content if is_stored else None))
            if span is not None:
                span.send(content if is_sent else None)

    def _mask(self, text: str) -> str:
        return mask(self._secrets.masker.text(text))


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


def _said(prompt: Prompt, answer: Completion | None, so_far: str | None) -> Json:
    """Return the content of a call, before it is bounded: the arguments of `stored_content`."""
    if answer is None:
        said: Json = {"answer": so_far, "reasoning": None, "citations": (), "tool_calls": ()}
        return {"messages": prompt.messages, "options": prompt.options, **said}
    return {
        "messages": prompt.messages,
        "options": prompt.options,
        "answer": answer.content,
        "reasoning": answer.reasoning or None,
        "citations": answer.citations,
        "tool_calls": answer.tool_calls,
    }


def _size_of(said: Json) -> int:
    """About how many characters there are to look through."""
    if len(said["messages"]) > FEW or said["tool_calls"] or said["citations"] or said["options"].get("tools"):
        return LARGE
    return len(said["answer"] or "") + len(said["reasoning"] or "") + sum(map(_size_of_message, said["messages"]))


def _size_of_message(message: Any) -> int:
    """Return the size of a message; for one that is only a text its length, which takes no time."""
    is_plain = isinstance(message, dict) and message.keys() <= {"role", "content"}
    return len(message["content"]) if is_plain and isinstance(message.get("content"), str) else LARGE
