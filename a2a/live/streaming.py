"""A stream of events as an HTTP response: counted, and ended when its caller loses access."""

from collections.abc import AsyncGenerator

from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse

from a2a.core.exceptions import NotRunYet
from a2a.core.parsing import event_number
from a2a.live import sse, stream_limits
from a2a.live.stream_limits import WhoIsIt
from accounts.callers import Caller
from apflow_db import pools
from tasks.rules.exceptions import InvalidParams
from tasks.services import queries


async def stream_of_task(caller: Caller, task_id: str, last_event_id: str | None) -> sse.Stream:
    """What the client does not have yet of the latest run. Raises InvalidParams, TaskNotFound, NotRunYet or EventsPruned."""
    if "\0" in task_id:
        raise InvalidParams([("task_id", "holds the NUL character")])
    after = event_number(last_event_id) if last_event_id else None
    run = await pools.read(queries.latest_run, caller=caller, task_id=task_id)
    if run is None:
        raise NotRunYet(f"Task '{task_id}' has not run yet. Start it with tasks.execute.", data={"task_id": task_id})
    return await sse.open_stream(run, after=after)


def events_response(stream: sse.Stream, *, caller: Caller, who_is_it: WhoIsIt) -> HttpResponseBase:
    """The events themselves, one a frame. Raises LimitReached."""
    if stream.is_over:
        # By the HTML standard this tells an EventSource, which always comes back, that it need not.
        return HttpResponse(status=204)
    return held(sse.frames(stream, render=lambda event: event), caller=caller, who_is_it=who_is_it)


def held(frames: AsyncGenerator[bytes], *, caller: Caller, who_is_it: WhoIsIt) -> StreamingHttpResponse:
    """A stream counts among those that are open, and ends when its caller loses access. Raises LimitReached."""
    stream_limits.open_streams().refuse_if_full(caller)
    counted = stream_limits.while_authorized(frames, caller=caller, who_is_it=who_is_it)
    return StreamingHttpResponse(counted, headers=sse.HEADERS)
