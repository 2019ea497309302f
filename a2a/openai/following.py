"""Follow a response: its events as they come, the response when it has ended, and the response as it is now."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from a2a.agui import log
from a2a.agui.endpoint import fault_of
from a2a.agui.state import Tree
from a2a.agui.translation import Translator
from a2a.core.exceptions import ShuttingDown
from a2a.openai.output import ENDS, STATUSES, Output, resource
from a2a.openai.parts import Part, asks_caller, usage_of
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.events.log import read_page
from tasks.models import Run
from tasks.rules.strict_json import Json
from tasks.status import Status

WAIT_SECONDS: Final = 3600.0
"""The longest wait for a response that is not streamed. It continues after that, and can be read."""


@dataclass(slots=True, kw_only=True)
class Following:
    """A response that is read from its first event. Each object is read once."""

    caller: Caller
    part: Part
    last: Json | None = None
    """The response, once its last event has been read."""
    _translator: Translator = field(init=False)
    _output: Output = field(init=False)

    def __post_init__(self) -> None:
        self._translator = Translator(tree=Tree(run=self.part.run), always_answers=True)
        self._output = Output(pending_calls=self._translator.pending_calls)

    async def events(self) -> AsyncGenerator[list[Json]]:
        """Yield the events of the wire, some of them together. Raises ShuttingDown if this process stops before the last."""
        begun = resource(self.part, status="in_progress", output=[])
        yield [self._output.event("created", response=begun), self._output.event("in_progress", response=begun)]
        render = self._output.of
        async with aclosing(log.follow(self._translator, after=self.part.after, render=render)) as found:
            async for made, event in found:
                if made:
                    yield made
                if (status := self._ends_with(event)) is not None:
                    yield [*self._close(event), await pools.read(self._end, event, status)]
                    return
        raise ShuttingDown

    async def ended(self) -> Json:
        """Wait for the end, and return the response; as it is now after WAIT_SECONDS, or if this process stops."""
        with suppress(TimeoutError, ShuttingDown):
            async with asyncio.timeout(WAIT_SECONDS), aclosing(self.events()) as found:
                async for _ in found:
                    pass
        if self.last is not None:
            return self.last
        return await pools.read(Following(caller=self.caller, part=self.part).now)

    def now(self) -> Json:
        """Read the response as it is now."""
        after, is_all = self.part.after, False
        while not is_all:
            page, is_all = read_page(run_id=self.part.run.id, after=after)
            while page:
                found, count = log.translate(page, self._translator)
                self._output.of(found)
                event, page = page[count - 1], page[count:]
                after = event["seq"]
                if (status := self._ends_with(event)) is not None:
                    self._close(event)
                    return self._end(event, status)["response"]  # type: ignore[no-any-return]
        run = Run.objects.filter(id=self.part.run.id).first() or self.part.run
        # The last event is written with the end of the run: it may have ended since it was read.
        status = STATUSES[Status.IN_PROGRESS if run.finished_at is not None else Status(run.status)]
        return resource(self.part, status=status, output=self._output.items, usage=usage_of(run.id))

    def _ends_with(self, event: Json) -> str | None:
        """Return the status of a response that ends with this event; None if it continues."""
        if event["type"] == "final":
            return STATUSES[Status(event["status"])]
        return "completed" if asks_caller(event, self.caller, self.part.run) else None

    def _close(self, event: Json) -> list[Json]:
        """Return the events that come before the last one."""
        if event["type"] == "final":
            return []
        question_id = event["result"]["question_id"]
        closed = self._output.of([*self._translator.close(interrupt_ids=[question_id])])
        return [*closed, *self._output.ask(event)]

    def _end(self, event: Json, status: str) -> Json:
        """Return the last event, with the whole response."""
        error = None
        if status == "failed":
            error = fault_of(self.part.run.id) or event["error"] or event["message"]
        self.last = resource(
            self.part,
            status=status,
            output=self._output.items,
            usage=usage_of(self.part.run.id),
            error=error,
            completed_at=int(datetime.fromisoformat(event["timestamp"]).timestamp()) if status == "completed" else None,
        )
        type_ = ENDS[status].removeprefix("response.")
        return self._output.event(type_, response=self.last)
