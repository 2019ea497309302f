"""Start a run for a tool, and follow it until it is over, waits for a person, or has taken too long for one request."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from django.conf import settings

from a2a.core.metrics import note
from a2a.core.process import this_drain
from a2a.live.sse import Event, Stream, events
from a2a.mcp import calls
from a2a.mcp.dialog import Dialog
from a2a.mcp.eras import LEGACY, Exchange
from a2a.mcp.handles import EXTENSION, created
from a2a.mcp.inputs import answer_all, read_state, requests_of, state_of
from a2a.mcp.messages import Beginning, Messages, Notification, Request, Result
from a2a.mcp.sessions import APPS
from a2a.mcp.tools.outcomes import outcome_of
from a2a.models import SessionCall
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.models import Run
from tasks.rules.strict_json import Json
from tasks.rules.words import TOKEN, is_reasoning
from tasks.services.trees import Execution
from tasks.services.waits import questions

ASKED: Final = "waiting for an answer: "
"""The beginning of the event by which a task asks a person."""
SHOWN_SECONDS: Final = 2.0
"""A quick run ends within it, so that its result is that of the call."""
LEFT: Final = "The MCP client left before the run had ended."

Start = Callable[[Exchange, Json], Awaitable[Callable[[], Execution]]]
Started = tuple[Execution, SessionCall | None]


@dataclass(frozen=True, slots=True)
class RunTool:
    """The call of a tool that runs something: `start` returns what stores the run. `with_tree`: the result has all of its tasks.

    `has_app`: a host with apps gets the result after SHOWN_SECONDS, because the app shows nothing before it has the run.
    """

    start: Start
    with_tree: bool = False
    has_app: bool = False

    async def __call__(self, exchange: Exchange, arguments: Json) -> Messages:
        if exchange.request_state is not None:
            # It answers the questions of the run of an earlier call, and waits for it again.
            run_id, with_tree = read_state(exchange)
            answer = partial(answer_all, caller=exchange.caller, run_id=run_id, responses=exchange.input_responses)
            source = followed(exchange, await pools.write(answer), with_tree=with_tree, is_kept=True)
        else:
            verb = await self.start(exchange, arguments)
            start = partial(calls.start, verb, exchange=exchange, with_tree=self.with_tree)
            execution, call = await _commit(start, exchange)
            note(run=execution.run.id)
            if exchange.has_extension(EXTENSION):
                yield Result(value=created(execution.run), kind="task")
                return
            is_shown = self.has_app and exchange.has_extension(APPS)
            source = followed(exchange, execution.run, call=call, with_tree=self.with_tree, is_shown=is_shown)
        async with aclosing(source) as messages:
            async for message in messages:
                yield message


async def followed(
    exchange: Exchange,
    run: Run,
    *,
    with_tree: bool,
    call: SessionCall | None = None,
    seconds: float | None = None,
    is_kept: bool = False,
    is_shown: bool = False,
    after: int | None = None,
) -> Messages:
    """Yield progress and logs of the run, and then its result; after `seconds` (`mcp.wait_seconds`) that it continues.

    A client that resumes the stream of its `call` has all up to the event number `after`. The earlier events are read
    again, without their messages: which questions have been asked follows from them.

    A run that `is_shown` by an app asks its questions there: its client gets the result after SHOWN_SECONDS, with them.

    If a client of 2026-07-28 leaves before it has the id of the run, the run is cancelled, unless it `is_kept`. Up to
    2025-11-25 a client cancels by a notification.
    """
    most = settings.APFLOW.mcp.wait_seconds if seconds is None else seconds
    most = min(most, SHOWN_SECONDS) if is_shown else most
    first, seq = (run.last_seq, run.last_seq) if after is None else (0, after)
    if call is not None and after is None and exchange.version == LEGACY[0]:
        yield Beginning(event_id=calls.event_id(call, seq))
    try:
        with Dialog(exchange, run, is_shown=is_shown) as dialog:
            async with aclosing(_notable(run, after=first, seconds=most, dialog=dialog)) as news:
                progress = _Progress(exchange)
                async for event in news:
                    messages: list[Notification | Request] = progress.of(event)
                    if event["type"] in ("log", TOKEN) and not is_reasoning(event) and exchange.wants_log("info"):
                        log = {"level": "info", "logger": event["task_id"], "data": event["message"]}
                        messages.append(Notification(method="notifications/message", params=log))
                    messages += await dialog.requests() if asks(event) else []
                    if event["seq"] <= seq:
                        continue
                    seq = event["seq"]
                    for message in messages[:-1]:
                        yield message
                    if messages:
                        yield replace(messages[-1], event_id=calls.event_id(call, seq))
        if call is not None and await pools.read(calls.is_cancelled, call):
            return
        result = await _result(exchange, run, with_tree=with_tree, is_shown=is_shown)
    except (asyncio.CancelledError, GeneratorExit):  # the client left
        if exchange.is_modern and not is_kept:
            await call_off(exchange.caller, run)
        raise
    yield replace(result, event_id=calls.event_id(call, seq))


async def _result(exchange: Exchange, run: Run, *, with_tree: bool, is_shown: bool) -> Result:
    """Return the result of the run; while it waits for a person, the questions for a client that can ask its user."""
    if exchange.is_modern and exchange.can_elicit("form") and not is_shown:
        asked = await pools.read(questions.open_questions, exchange.caller, run_ids=[run.id])
        if asked:
            state = state_of(exchange, run, with_tree=with_tree)
            return Result(value={"inputRequests": requests_of(asked), "requestState": state}, kind="input_required")
    return Result(value=await outcome(exchange.caller, run.id, with_tree=with_tree))


async def _commit(start: Callable[[], Started], exchange: Exchange) -> Started:
    """Wait for the run to be stored. If a client of 2026-07-28 leaves meanwhile, the run is cancelled as soon as it is."""
    starting = asyncio.ensure_future(pools.write(start))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        execution, _ = await starting
        if exchange.is_modern:
            await call_off(exchange.caller, execution.run)
        raise


async def outcome(caller: Caller, run_id: str, *, with_tree: bool) -> Json:
    """Return the result of a tool for a run as it is now. Raises RunNotFound or ResponseTooLarge."""
    return await pools.read(partial(outcome_of, caller=caller, run_id=run_id, with_tree=with_tree))


async def call_off(caller: Caller, run: Run) -> None:
    """Cancel a run whose client has left. A process that shuts down leaves it to run: the client did not mean to end it."""
    if this_drain().is_on:
        return
    await pools.write(calls.cancel_run, caller, run, message=LEFT)


async def _notable(run: Run, *, after: int, seconds: float, dialog: Dialog) -> AsyncGenerator[Event]:
    """Yield the events of the run until it ends, the time is over, or a task asks a person whom the client does not ask."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    async with aclosing(events(Stream(run=run, after=after))) as source:
        while (page := await _next(source, dialog, seconds=deadline - loop.time())) is not None:
            for event in page:
                yield event
                if event["type"] == "final" or (asks(event) and not dialog.is_offered):
                    return


async def _next(source: AsyncGenerator[list[Event]], dialog: Dialog, *, seconds: float) -> list[Event] | None:
    """Return the next events; None after the time, or once the client's user has declined to answer."""
    coming = asyncio.ensure_future(anext(source, None))
    either: set[asyncio.Future[Any]] = {coming, dialog.ended}
    try:
        await asyncio.wait(either, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
        return coming.result() if coming.done() else None
    finally:
        coming.cancel()
        await asyncio.wait({coming})


def asks(event: Event) -> bool:
    """Return whether a task asks a person by this event."""
    return bool(event["type"] == "log" and (event["message"] or "").startswith(ASKED))


class _Progress:
    """The progress of a run, for a client that wants it. It only ever increases."""

    def __init__(self, exchange: Exchange) -> None:
        self._token = exchange.progress_token
        self._last = -1.0

    def of(self, event: Event) -> list[Notification | Request]:
        """Return the notification of an event; none if there has been no progress."""
        reached = event["tree_progress"]
        if self._token is None or reached <= self._last or event["type"] == "final":
            return []
        self._last = reached
        params: dict[str, Any] = {"progressToken": self._token, "progress": reached, "total": 1.0}
        params |= {"message": event["message"]} if event["message"] else {}
        return [Notification(method="notifications/progress", params=params)]
