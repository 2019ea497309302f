"""The app of runs (MCP Apps, revision 2026-01-26): a document that hosts show in their chat, and the tools that it calls.

The document is the same for all callers. The data that it shows comes from tools, within the rights of the host's user.
`clients/mcp-app` has its source.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final

from django.db.models import Count
from msgspec import Meta

from a2a.core.mapping import native_time
from a2a.core.parsing import Params, Text
from a2a.mcp.eras import Exchange
from a2a.mcp.messages import Messages, Result, text, tool_result
from a2a.mcp.tools.outcomes import outcome_of
from a2a.mcp.tools.tool import READS, Tool, short_schema_of
from a2a.methods.files import LinkFile, link_file
from a2a.methods.params import FlowReference, Version
from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.dashboard.boxes import settings_of_boxes
from tasks.dashboard.looks import looks_of, mark_handled
from tasks.events import pages
from tasks.models import Run, Task
from tasks.rules.strict_json import Json
from tasks.services import flows, history
from tasks.services.history.past_trees import past_tree
from tasks.status import Status

URI: Final = "ui://aipartnerupflow/run"
MIME_TYPE: Final = "text/html;profile=mcp-app"
FILE: Final = Path(__file__).parents[1] / "app/app.html"
SHOWN: Final = MappingProxyType({"resourceUri": URI})
FOR_APPS: Final = MappingProxyType({"visibility": ("app",)})
MOST_SHOWN: Final = 500
"""The number of tasks of a tree that the app shows."""
MOST_SECONDS: Final = 45
EVERY_SECONDS: Final = 0.5
"""Changes of this time are shown together."""
ERROR_SHOWN: Final = 500
"""The number of characters of the error that the app shows of a task."""
COLUMNS: Final = (
    *("id", "root_id", "parent_id", "name", "status", "cause_id", "executor_id", "progress"),
    *("error", "started_at", "completed_at"),
)


class ShowRun(Params, frozen=True, kw_only=True):
    """show_run"""

    run_id: Text


class WatchRun(Params, frozen=True, kw_only=True):
    """watch_run"""

    run_id: Text
    after: Annotated[int, Meta(ge=0, le=2**53)] = 0
    """The `seq` that the app has."""
    wait_seconds: Annotated[float, Meta(ge=0, le=MOST_SECONDS)] = 0


class ShowFlow(Params, frozen=True, kw_only=True):
    """show_flow"""

    name: FlowReference
    version: Version | None = None


@cache
def resource() -> Json:
    """Return the document. It loads nothing, so it asks for no domain: the host's policy is the strictest one."""
    meta = {"ui": {"prefersBorder": True}}
    return {"uri": URI, "mimeType": MIME_TYPE, "text": FILE.read_text(), "_meta": meta}


async def show_run(exchange: Exchange, arguments: Json) -> Messages:
    """Return the present state of a run."""
    given = ShowRun.parse(arguments)
    yield Result(value=await pools.read(partial(shown, caller=exchange.caller, run_id=given.run_id)))


async def watch_run(exchange: Exchange, arguments: Json) -> Messages:
    """Return the state of a run once it has events after a number, or after a time."""
    given = WatchRun.parse(arguments)
    run = await pools.read(history.own_run, caller=exchange.caller, run_id=given.run_id)
    if run.finished_at is None and given.wait_seconds:
        await _next_events(run, after=given.after, seconds=given.wait_seconds)
    yield Result(value=await pools.read(partial(shown, caller=exchange.caller, run_id=run.id)))


async def show_flow(exchange: Exchange, arguments: Json) -> Messages:
    """Return a flow of the caller with the schema of its inputs: the app shows it as a form."""
    given = ShowFlow.parse(arguments)
    read = partial(flows.read_version, caller=exchange.caller, name=given.name, version=given.version)
    flow, version = await pools.read(read)
    found = {
        "flow": flow.name,
        "version": version.number,
        "description": version.description,
        "inputs_schema": version.inputs_schema,
    }
    yield Result(value=tool_result(found, text(f"The app shows the form of the flow {flow.name}. Its user runs it.")))


async def link_to_file(exchange: Exchange, arguments: Json) -> Messages:
    """Return a link with which the browser of the host's user may read a file."""
    given = LinkFile.parse(arguments)
    found = await link_file(exchange.caller, given, url=lambda: exchange.url)
    yield Result(value=tool_result(found.native))


async def _next_events(run: Run, *, after: int, seconds: float) -> None:
    """Wait until the run has events after this number, and for those that follow them at once; or until the time is over."""
    async with aclosing(pages(run.id, after=after)) as news:
        coming = asyncio.ensure_future(anext(news, None))
        try:
            await asyncio.wait({coming}, timeout=seconds)
            page = coming.result() if coming.done() else None
        finally:
            coming.cancel()
            await asyncio.wait({coming})
    if page and page[-1]["type"] != "final":
        await asyncio.sleep(EVERY_SECONDS)


def shown(*, caller: Caller, run_id: str) -> Json:
    """Return a run with its first tasks as the app shows them, and for models one sentence.

    Whether it is over is read before its tasks: then these are final, too. `seq` is read before them as well, so that
    no later change is missed. Raises RunNotFound or ResponseTooLarge.
    """
    data: Json = outcome_of(caller=caller, run_id=run_id, with_tree=False)["structuredContent"]
    facts = history.facts_of(caller=caller, run_id=run_id)
    run = facts.run
    tree = Task.objects.tree(run.root_id)
    if data["status"] in (Status.PENDING, Status.IN_PROGRESS) or history.is_latest(run):
        tasks = list(tree.only(*COLUMNS)[:MOST_SHOWN])
        counts = dict(tree.order_by().values_list("status").annotate(Count("id")))
        total, done = sum(counts.values()), sum(n for name, n in counts.items() if Status(name).is_terminal)
    else:
        whole = past_tree(caller=caller, run_id=run.id).tasks
        tasks, total = whole[:MOST_SHOWN], len(whole)
        done = sum(Status(task.status).is_terminal for task in whole)
    mark_handled(tasks, is_live=run.finished_at is None)
    looks = looks_of(tasks, run=run, boxes=settings_of_boxes(run.root_id))
    found = data | {
        "name": facts.name,
        "number": run.number,
        "seq": run.last_seq,
        "total": total,
        "done": done,
        "started_at": native_time(run.started_at),
        "finished_at": native_time(run.finished_at),
        "tasks": [_task(task, look=looks[task.id]) for task in tasks],
    }
    found.pop("tree")
    return tool_result(
        found, text(f"The run {run.id} of {facts.name} is {run.status}: {done:,} of {total:,} tasks are done.")
    )


def _task(task: Task, *, look: str) -> Json:
    return {
        "id": task.id,
        "parent_id": task.parent_id,
        "name": task.name,
        "executor": task.executor_id,
        "status": look,
        "progress": task.progress,
        "error": task.error[:ERROR_SHOWN] if task.error else None,
        "started_at": native_time(task.started_at),
        "completed_at": native_time(task.completed_at),
    }


@cache
def app_tools() -> Sequence[Tool]:
    """Return the tools that show something in the app, and those that only the app calls."""
    reads: Json = {"hints": READS, "role": Role.VIEWER}
    return (
        Tool(
            name="show_run",
            title="Show a run",
            description="Show a run to the user: its tasks live, its questions and its result. Use get_run to read it yourself.",
            input_schema=short_schema_of(ShowRun),
            call=show_run,
            ui=SHOWN,
            **reads,
        ),
        Tool(
            name="show_flow",
            title="Show a flow",
            description="Show the form of a flow to the user, who fills it in and runs it. Use run_flow if you know the inputs.",
            input_schema=short_schema_of(ShowFlow),
            call=show_flow,
            ui=SHOWN,
            **reads,
        ),
        Tool(
            name="watch_run",
            title="Watch a run",
            description="For apps: the state of a run once it has changed.",
            input_schema=short_schema_of(WatchRun),
            call=watch_run,
            ui=FOR_APPS,
            **reads,
        ),
        Tool(
            name="link_file",
            title="Link to a file",
            description="For apps: a link to a file, valid for some minutes.",
            input_schema=short_schema_of(LinkFile),
            call=link_to_file,
            ui=FOR_APPS,
            **reads,
        ),
    )
