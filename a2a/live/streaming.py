"""Event streams as HTTP responses. They are counted, and end when the caller loses access."""

import weakref
from collections.abc import AsyncGenerator
from dataclasses import replace
from functools import partial

from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse

from a2a.core.exceptions import NotRunYet
from a2a.core.parsing import EventId
from a2a.live import sse, stream_limits
from a2a.live.stream_limits import WhoIsIt
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.rules.exceptions import InvalidParams
from tasks.rules.words import as_sent
from tasks.services.trees import queries
from tasks.storage.loads import let_go


async def stream_of_task(
    caller: Caller, task_id: str, last_event_id: str | None, *, has_tokens: bool = False
) -> sse.Stream:
    """Return the stream of the latest run, after `last_event_id`.

    Raises InvalidParams, TaskNotFound, NotRunYet or EventsPruned.
    """
    if "\0" in task_id:
        raise InvalidParams([("task_id", "contains a NUL character")])
    after = EventId.parse(last_event_id) if last_event_id else None
    run = await pools.read(queries.latest_run, caller=caller, task_id=task_id)
    if run is None:
        raise NotRunYet(f"Task '{task_id}' has not run yet. Start it with tasks.execute.", data={"task_id": task_id})
    return replace(await sse.open_stream(run, after=after), has_tokens=has_tokens)


def events_response(stream: sse.Stream, *, caller: Caller, who_is_it: WhoIsIt) -> HttpResponseBase:
    """Return a response with the native events, one per frame; 204 if the client has received all. Raises LimitReached."""
    if stream.is_over:
        # An EventSource reconnects after every response but 204 (HTML standard, section 9.2).
        return HttpResponse(status=204)
    render = partial(as_sent, has_tokens=stream.has_tokens)
    return held(sse.frames(stream, render=render), caller=caller, who_is_it=who_is_it)


def held(frames: AsyncGenerator[bytes], *, caller: Caller, who_is_it: WhoIsIt) -> StreamingHttpResponse:
    """Count the response as an open stream from now on, and end it when the caller loses access.

    Raises LimitReached.
    """
    release = stream_limits.open_streams().take_place(caller)
    let_go()
    counted = stream_limits.while_authorized(frames, caller=caller, who_is_it=who_is_it, release=release)
    response = StreamingHttpResponse(counted, headers=sse.HEADERS)
    weakref.finalize(response, release)  # the client may leave before the stream begins
    return response
