"""What keeps pages of the dashboard live: the same events as everywhere, for whoever has a session."""

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from typing import Final

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.loader import render_to_string

from a2a.core.parsing import event_number
from a2a.live import sse
from a2a.live.streaming import held
from accounts.auth import still_in_session
from accounts.callers import Caller
from apflow_db import pools
from tasks.dashboard.listing import PAGE, Row, rows_of_trees
from tasks.dashboard.pages import count_questions, has_owners, page
from tasks.events import Event, following
from tasks.models import Run
from tasks.rules.exceptions import InvalidParams, TaskNotFound
from tasks.rules.strict_json import Json
from tasks.services.queries import get_task, latest_run

#: Results are left out: they may be large, and the page asks for that of the task that somebody looks at.
SHOWN: Final = ("seq", "type", "task_id", "status", "progress", "tree_progress", "message", "error", "timestamp")
REST_SECONDS: Final = 0.5
"""A list that somebody looks at changes no more often: what comes meanwhile is shown together."""


@page()
async def run_events(request: HttpRequest, caller: Caller, run_id: str) -> HttpResponseBase:
    """`GET /ui/events/run/{id}?after=`: the run that a tree's page shows, from there on; resumed by `Last-Event-ID`."""
    after = event_number(request.headers.get("Last-Event-ID") or request.GET.get("after") or "0")
    stream = sse.stream_of(await pools.read(_run, caller=caller, run_id=run_id), after=after)
    if stream.is_over:
        return HttpResponse(status=204)
    return _held(request, caller, sse.frames(stream, render=slim))


@page()
async def next_run(request: HttpRequest, caller: Caller, task_id: str) -> HttpResponseBase:
    """`GET /ui/events/next/{id}?after=`: tells when a run of the tree after that number has begun, and ends."""
    root_id = (await pools.read(get_task, caller=caller, task_id=task_id)).root_id
    after = event_number(request.GET.get("after") or "0")
    return _held(request, caller, sse.replies(_next_run(caller, root_id, after=after)))


@page()
async def list_rows(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    """`GET /ui/events/list?id=…`: the rows of the list that change, as the page shows them; at first those that it names.

    And how many questions wait for an answer.
    """
    root_ids = request.GET.getlist("id")
    if len(root_ids) > PAGE:
        raise InvalidParams([("id", f"at most {PAGE} ids of trees")])
    return _held(request, caller, sse.replies(_list_rows(caller, set(root_ids))))


def _held(request: HttpRequest, caller: Caller, frames: AsyncGenerator[bytes]) -> HttpResponseBase:
    """It counts among the open streams, and ends with the session. Raises LimitReached."""
    return held(frames, caller=caller, who_is_it=partial(pools.auth, still_in_session, request))


def slim(event: Event) -> Json:
    """An event as the page needs it."""
    return {name: event[name] for name in SHOWN}


async def _next_run(caller: Caller, root_id: str, *, after: int) -> AsyncGenerator[Json]:
    async with following(caller) as inbox:
        inbox.wants = lambda event: event["root_task_id"] == root_id
        while True:
            run = await pools.read(latest_run, caller=caller, task_id=root_id)
            if run is not None and run.number > after:
                yield {"run": run.number}
                return
            if not await inbox.next():
                return


async def _list_rows(caller: Caller, root_ids: set[str]) -> AsyncGenerator[Json]:
    told = None
    async with following(caller) as inbox:
        while True:
            for row in await pools.read(rows_of_trees, caller=caller, root_ids=root_ids):
                yield {"id": row.root.id, "html": await asyncio.to_thread(_html, caller, row)}
            questions = await pools.read(count_questions, caller=caller)
            if questions != told:
                yield {"questions": questions}
                told = questions
            await asyncio.sleep(REST_SECONDS)
            root_ids = {event["root_task_id"] for event in await inbox.next()}
            if not root_ids:
                return


def _html(caller: Caller, row: Row) -> str:
    return render_to_string("dashboard/row.html", {"row": row, "caller": caller, "has_owners": has_owners()})


def _run(*, caller: Caller, run_id: str) -> Run:
    run = Run.objects.for_caller(caller).filter(id=run_id).first()
    if run is None:
        raise TaskNotFound(run_id)
    return run
