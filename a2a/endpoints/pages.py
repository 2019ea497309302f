"""Event streams and files for the pages of the dashboard, authenticated by the session."""

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from typing import Final

import orjson
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.template.loader import render_to_string

from a2a.core.parsing import EventId, event_number
from a2a.live import sse
from a2a.live.sse import held
from a2a.methods.evals import native_case
from a2a.methods.runs import native_export
from accounts.auth import still_in_session
from accounts.callers import Caller
from aipartnerupflow.cases import as_csv, columns_of, flat
from apflow_site.db import pools
from tasks.dashboard.json_text import file_name
from tasks.dashboard.listing import PAGE, rows_of_trees
from tasks.dashboard.pages import count_questions, has_owners, page
from tasks.events import Event, following
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json
from tasks.rules.words import TOKEN, is_reasoning, words_of
from tasks.services.evals import results
from tasks.services.history import past_trees
from tasks.services.trees.queries import latest_run, root_of, run_of

#: Without results, which may be large: the page loads that of the selected task.
SHOWN: Final = ("seq", "type", "task_id", "status", "progress", "tree_progress", "message", "error", "timestamp")
REST_SECONDS: Final = 0.5
"""The least interval between updates of a list; changes in between are sent together."""


@page()
async def run_events(request: HttpRequest, caller: Caller, run_id: str) -> HttpResponseBase:
    """`GET /ui/events/run/{id}?after=`: events of a run after a sequence number.

    `Last-Event-ID` overrides `after`.
    """
    after = event_number(request.headers.get("Last-Event-ID") or request.GET.get("after") or "0")
    stream = sse.stream_of(
        await pools.read(run_of, caller=caller, run_id=run_id), after=EventId(seq=after, run_id=run_id)
    )
    if stream.is_over:
        return HttpResponse(status=204)
    return _held(request, caller, sse.frames(stream, render=slim))


@page()
async def next_run(request: HttpRequest, caller: Caller, task_id: str) -> HttpResponseBase:
    """`GET /ui/events/next/{id}?after=`: one message when a later run of the tree begins.

    `after` is the number of a run; the message is `{"run": number}`.
    """
    root_id = await pools.read(root_of, caller=caller, task_id=task_id)
    after = event_number(request.GET.get("after") or "0")

    async def later_run() -> AsyncGenerator[Json]:
        async with following(caller) as inbox:
            inbox.wants = lambda event: event["root_task_id"] == root_id
            while True:
                run = await pools.read(latest_run, caller=caller, task_id=root_id)
                if run is not None and run.number > after:
                    yield {"run": run.number}
                    return
                if not await inbox.next():
                    return

    return _held(request, caller, sse.replies(later_run()))


@page()
async def list_rows(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    """`GET /ui/events/list?id=…`: the HTML of rows that change, first that of the given roots.

    Also sends the number of open questions when it changes.
    """
    given = request.GET.getlist("id")
    if len(given) > PAGE:
        raise InvalidParams([("id", f"at most {PAGE} ids of trees")])

    def render(root_ids: set[str]) -> list[Json]:
        context = {"caller": caller, "has_owners": has_owners()}
        rows = rows_of_trees(caller=caller, root_ids=root_ids)
        return [
            {"id": row.root.id, "html": render_to_string("dashboard/row.html", context | {"row": row})} for row in rows
        ]

    async def changes() -> AsyncGenerator[Json]:
        sent, root_ids = None, set(given)
        async with following(caller) as inbox:
            while True:
                for row in await pools.read(render, root_ids):
                    yield row
                questions = await pools.read(count_questions, caller=caller)
                if questions != sent:
                    yield {"questions": questions}
                    sent = questions
                await asyncio.sleep(REST_SECONDS)
                root_ids = {event["root_task_id"] for event in await inbox.next()}
                if not root_ids:
                    return

    return _held(request, caller, sse.replies(changes()))


@page()
async def run_changes(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    """`GET /ui/events/runs`: a message at once, and when runs that the caller may see have started or ended."""

    async def changes() -> AsyncGenerator[Json]:
        async with following(caller) as inbox:
            inbox.wants = lambda event: bool(event["seq"] == 1 or event["type"] == "final")
            yield {"runs": 0}  # the page may have missed some before it listened
            while events := await inbox.next():
                yield {"runs": len(events)}
                await asyncio.sleep(REST_SECONDS)

    return _held(request, caller, sse.replies(changes()))


def _held(request: HttpRequest, caller: Caller, frames: AsyncGenerator[bytes]) -> HttpResponseBase:
    """Return a streaming response that counts as an open stream and ends with the session.

    Raises LimitReached.
    """
    return held(frames, caller=caller, who_is_it=partial(pools.auth, still_in_session, request))


def slim(event: Event) -> Json:
    """Return the fields of an event that the page needs; of words, also what they belong to, the agent and whether it is reasoning."""
    shown = {name: event[name] for name in SHOWN}
    if event.get("not_run"):
        shown["not_run"] = True
    if event["type"] != TOKEN:
        return shown
    return shown | {
        "call_id": words_of(event),
        "agent": event["result"]["agent"],
        "is_reasoning": is_reasoning(event),
    }


@page()
async def run_file(request: HttpRequest, caller: Caller, run_id: str) -> HttpResponse:
    """`GET /ui/runs/{id}/download/`: the whole run as a JSON file."""

    def export() -> bytes:
        run = past_trees.for_file(caller=caller, run_id=run_id)
        return orjson.dumps(native_export(run), option=orjson.OPT_INDENT_2)

    response = HttpResponse(await pools.read(export), content_type="application/json")
    response["Content-Disposition"] = f'attachment; filename="{file_name(run_id, "run", "json")}"'
    return response


@page()
async def experiment_file(request: HttpRequest, caller: Caller, experiment_id: str) -> HttpResponseBase:
    """`GET /ui/experiments/{id}/download/`: a line for each run of all cases, as CSV. It streams."""
    read = partial(results.exported, caller=caller, experiment_id=experiment_id)
    experiment, inputs, pages = await pools.read(read)
    columns = columns_of(inputs, [each["name"] for each in experiment.evaluators])

    def next_part(has_header: bool) -> str | None:
        cases = next(pages, None)
        return (
            None
            if cases is None
            else as_csv(flat(native_case(each, experiment.names) for each in cases), columns, has_header=has_header)
        )

    async def parts() -> AsyncGenerator[str]:
        has_header = True
        while (part := await pools.read(next_part, has_header)) is not None:
            yield part
            has_header = False

    response = StreamingHttpResponse(parts(), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{file_name(experiment_id, "experiment", "csv")}"'
    return response
