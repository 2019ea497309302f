"""Server-sent events: frames, keep-alive comments, resumed streams, and the HTTP responses that carry them."""

import asyncio
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

import orjson
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse

from a2a.core.exceptions import EventsPruned, NotRunYet, ShuttingDown
from a2a.core.metrics import stream_client
from a2a.core.parsing import EventId
from a2a.live import stream_limits
from a2a.live.stream_limits import WhoIsIt
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.events import FEW, pages
from tasks.events.pruning import is_pruned
from tasks.models import Run
from tasks.rules.exceptions import InvalidParams
from tasks.rules.words import as_sent
from tasks.services.trees import queries
from tasks.storage.loads import let_go

KEEP_ALIVE = b": keep-alive\n\n"
KEEP_ALIVE_SECONDS = 15.0
CUT = b": this stream ends before its tree: resume it with Last-Event-ID\n\n"
REPLAYED = b": the tree was executed again: all events of its latest run %s follow\n\n"
HEADERS = MappingProxyType(
    {
        "Content-Type": "text/event-stream",
        "Cache-Control": "no-store, no-transform",
        "X-Accel-Buffering": "no",
    }
)

Event = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """The events of a run after sequence number `after`, which the client has received.

    `is_replayed`: the client has followed an earlier run, so it gets all events of this one. `has_tokens`: it has asked
    for words of models as `token` events.
    """

    run: Run
    after: int
    is_replayed: bool = False
    has_tokens: bool = False

    @property
    def is_over(self) -> bool:
        """Whether the client has received all events of a finished run, including `stream_end`."""
        return self.run.finished_at is not None and self.after > self.run.last_seq


def stream_of(run: Run, *, after: EventId | None) -> Stream:
    """Return the stream of a run after the event `after`.

    If that is an event of an earlier run, or one that the run has not reached, the stream starts at
    the first event.
    """
    newest = run.last_seq if run.finished_at is None else run.last_seq + 1  # `stream_end` follows `final`
    if after is None or after.seq == 0:
        return Stream(run=run, after=0)
    if after.is_of(run) and after.seq <= newest:
        return Stream(run=run, after=after.seq)
    return Stream(run=run, after=0, is_replayed=True)


async def open_stream(run: Run, *, after: EventId | None) -> Stream:
    """`stream_of`, but raises EventsPruned if the next events have been deleted."""
    stream = stream_of(run, after=after)
    await refuse_if_pruned(run, after=stream.after)
    return stream


async def refuse_if_pruned(run: Run, *, after: int) -> None:
    """Raise EventsPruned if the next events of the run have been deleted."""
    if run.finished_at is not None and await pools.read(is_pruned, run, after=after):
        raise EventsPruned(
            "The events of this run have been deleted (events.keep_days). Call tasks.tree for its tasks and results.",
            data={"run_id": run.id, "root_task_id": run.root_id},
        )


async def frames(
    stream: Stream,
    *,
    render: Callable[[Event], Any],
    first: Any = None,
    silence_seconds: float = KEEP_ALIVE_SECONDS,
) -> AsyncGenerator[bytes]:
    """Yield `first` as a frame without an id, then each event with its id, then `stream_end`. Events may come together.

    A keep-alive comment follows every `silence_seconds` without an event. Another comment precedes
    the events of another run than the one that the client has followed, and the last one says that
    the stream was cut, by a shutdown for example.
    """
    if first is not None:
        yield frame(first)
    if stream.is_replayed:
        yield REPLAYED % stream.run.id.encode()
    with stream_client("sse"):
        async with aclosing(paced(_encoded(stream, render), seconds=silence_seconds)) as steps:
            async for part in steps:
                yield KEEP_ALIVE if part is None else part


async def _encoded(stream: Stream, render: Callable[[Event], Any]) -> AsyncGenerator[bytes]:
    def encode(page: Sequence[Event]) -> bytes:
        return b"".join(frame(render(event), event_id=EventId.of(stream.run, event["seq"])) for event in page)

    last: Event = {}
    async with aclosing(events(stream)) as found:
        async for page in found:
            last = page[-1]
            yield encode(page) if len(page) <= FEW else await pools.read(encode, page)
    if last.get("type") != "stream_end":
        yield CUT


async def replies(
    values: AsyncGenerator[Event] | AsyncGenerator[bytes] | AsyncGenerator[list[bytes]],
    *,
    silence_seconds: float = KEEP_ALIVE_SECONDS,
) -> AsyncGenerator[bytes]:
    """Yield each value as a frame without an id, or frames as they are, and keep-alive comments.

    If the server shuts down before the last value, another comment says so.
    """
    with stream_client("sse"):
        async with aclosing(paced(values, seconds=silence_seconds)) as steps:
            try:
                async for value in steps:
                    match value:
                        case None:
                            yield KEEP_ALIVE
                        case bytes():
                            yield value
                        case list():
                            yield b"".join(value)
                        case _:
                            yield frame(value)
            except ShuttingDown as error:
                yield f": {error.message}\n\n".encode()


def frame(value: Any, *, event_id: EventId | str | None = None) -> bytes:
    """Encode one frame.

    Without an `event:` line, so that `onmessage` in browsers receives all events.
    """
    head = b"" if event_id is None else f"id: {event_id}\n".encode()
    return head + b"data: " + orjson.dumps(value) + b"\n\n"


async def events(stream: Stream) -> AsyncGenerator[list[Event]]:
    """Yield the events that the client has not received, then `stream_end`, in pages."""
    # The last event of a finished run is read even if the client has it: `stream_end` is a copy of
    # it.
    is_finished = stream.run.finished_at is not None
    after = min(stream.after, max(stream.run.last_seq - 1, 0)) if is_finished else stream.after
    async with aclosing(pages(stream.run.id, after=after)) as logged:
        async for page in logged:
            last = page[-1]
            ends = [last | {"type": "stream_end", "seq": last["seq"] + 1}] if last["type"] == "final" else []
            if new := [event for event in [*page, *ends] if event["seq"] > stream.after]:
                yield new


async def paced(source: AsyncGenerator[T], *, seconds: float) -> AsyncGenerator[T | None]:
    """Yield the events, and None after every `seconds` without one."""
    waiting = asyncio.ensure_future(_next(source))
    try:
        while True:
            done, _ = await asyncio.wait({waiting}, timeout=seconds)
            if not done:
                yield None
                continue
            event = waiting.result()
            if event is None:
                return
            waiting = asyncio.ensure_future(_next(source))
            yield event
    finally:
        waiting.cancel()
        await asyncio.wait({waiting})
        await source.aclose()


async def _next(source: AsyncIterator[T]) -> T | None:
    return await anext(source, None)


async def stream_of_task(
    caller: Caller, task_id: str, last_event_id: str | None, *, has_tokens: bool = False
) -> Stream:
    """Return the stream of the latest run, after `last_event_id`.

    Raises InvalidParams, TaskNotFound, NotRunYet or EventsPruned.
    """
    if "\0" in task_id:
        raise InvalidParams([("task_id", "contains a NUL character")])
    after = EventId.parse(last_event_id) if last_event_id else None
    run = await pools.read(queries.latest_run, caller=caller, task_id=task_id)
    if run is None:
        raise NotRunYet(f"Task '{task_id}' has not run yet. Start it with tasks.execute.", data={"task_id": task_id})
    return replace(await open_stream(run, after=after), has_tokens=has_tokens)


def events_response(stream: Stream, *, caller: Caller, who_is_it: WhoIsIt) -> HttpResponseBase:
    """Return a response with the native events, one per frame; 204 if the client has received all. Raises LimitReached."""
    if stream.is_over:
        # An EventSource reconnects after every response but 204 (HTML standard, section 9.2).
        return HttpResponse(status=204)
    render = partial(as_sent, has_tokens=stream.has_tokens)
    return held(frames(stream, render=render), caller=caller, who_is_it=who_is_it)


def held(body: AsyncGenerator[bytes], *, caller: Caller, who_is_it: WhoIsIt) -> StreamingHttpResponse:
    """Count the response as an open stream from now on, and end it when the caller loses access.

    Raises LimitReached.
    """
    release = stream_limits.open_streams().take_place(caller)
    let_go()
    counted = stream_limits.while_authorized(body, caller=caller, who_is_it=who_is_it, release=release)
    response = StreamingHttpResponse(counted, headers=HEADERS)
    weakref.finalize(response, release)  # the client may leave before the stream begins
    return response
