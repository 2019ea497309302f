"""Read-only pages: the list of trees, a tree, a task also as code, the executors, the workers."""

import shlex
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urljoin

import orjson
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse

from accounts.callers import Caller, Role
from aipartnerupflow.growth import HANDLED, NOT_RUN
from apflow_site.db import pools
from tasks.dashboard import boxes
from tasks.dashboard.boxes import Folds, family_of
from tasks.dashboard.files import files_named
from tasks.dashboard.filters import ORDERS, read_filters
from tasks.dashboard.inbox import fields_of_question
from tasks.dashboard.lines import lines_of
from tasks.dashboard.listing import list_trees
from tasks.dashboard.logs import join_words
from tasks.dashboard.looks import looks_of, mark_handled, seen_of
from tasks.dashboard.pages import Context, base_url, has_owners, page, read_page, render_page
from tasks.dashboard.picture import Picture, Wanted, events_of, first_failure, picture_of
from tasks.executors import describe, disabled_executors, executor_ids
from tasks.executors.workflows import STEP
from tasks.models import Task
from tasks.rules.exceptions import InvalidParams
from tasks.rules.tree import WORKFLOW
from tasks.services.history.run_search import views_of
from tasks.services.history.task_detail import RELATIVES_SHOWN, Detail, detail
from tasks.services.secrets.write_only import for_pages
from tasks.services.upkeep.workforce import workforce
from tasks.services.waits.event_waits import hook_url
from tasks.services.waits.named_limits import list_limits, list_pauses
from tasks.services.waits.needed_code import needed_by
from tasks.services.waits.questions import answers_in, open_questions
from tasks.status import Status

MOST_FOLDS: Final = 200
MOST_LINES: Final = 1_000_000
ANSWERS_SHOWN: Final = 20


@page()
async def trees(request: HttpRequest, caller: Caller) -> HttpResponse:
    """`GET /ui/tasks/`: the list of the caller's trees."""
    filters = read_filters(request.GET)
    listing = await pools.read(list_trees, caller=caller, filters=filters)
    first_query = replace(filters, cursor="").query()
    context = {
        "place": "tasks",
        "listing": listing,
        "filters": filters,
        "first_query": first_query,
        "next_query": filters.query(cursor=listing.next_cursor) if listing.next_cursor else "",
        "statuses": list(Status),
        "executors": sorted({*executor_ids(), *disabled_executors()}),
        "orders": ORDERS,
        "view_query": first_query,
        "views": await pools.read(views_of, caller=caller, place="trees"),
    }
    if "HX-Request" not in request.headers:
        return await render_page(request, caller, "dashboard/trees.html", context)
    response = await render_page(request, caller, "dashboard/listing.html", context)
    address = reverse("dashboard:trees")
    response["HX-Push-Url"] = f"{address}?{first_query}" if first_query else address  # without empty fields
    return response


@page()
async def tree(request: HttpRequest, caller: Caller, task_id: str) -> HttpResponse:
    """`GET /ui/tasks/{id}`: the tree of the task, with this task selected.

    The page of the root of a failed run selects the task that failed first, unless the query has `root`.
    """
    failed_id = None
    if "root" not in request.GET:
        failed_id = await pools.read(first_failure, caller=caller, root_id=task_id)
    selected_id = failed_id or task_id
    # The picture first: the stream begins after its events, so it repeats what happens before the panel is read. The
    # events last: they get what the panel leaves of the size of a response.
    picture = await pools.read(picture_of, caller=caller, task_id=task_id, folds=_folds(request, selected_id))
    context = _of_tree(request, picture, selected_id) | await pools.read(_panel, request, caller, selected_id)
    context["run_events"] = await pools.read(events_of, picture)
    return await render_page(request, caller, "dashboard/tree.html", context)


@page()
async def growth(request: HttpRequest, caller: Caller, task_id: str) -> HttpResponse:
    """`GET /ui/growth/{id}`: the data and lines of the tree's page, which it loads again when the tree has grown.

    A large tree is loaded by its lines: `from` is the number of the first, `q` and `status` select some.
    """

    def read() -> HttpResponse:
        picture = picture_of(caller=caller, task_id=task_id, folds=_folds(request, task_id), wanted=_wanted(request))
        lines = lines_of(picture, selected_id=task_id)
        return JsonResponse({"graph": picture.graph, "lines": lines, "span": picture.span_ms})

    return await pools.read(read)


@read_page("dashboard/tree_head.html")
def head(request: HttpRequest, caller: Caller, task_id: str) -> Context:
    """`GET /ui/head/{id}`: the head of the tree's page, which the page reloads when the status changes."""
    return _of_tree(request, picture_of(caller=caller, task_id=task_id), task_id)


@read_page("dashboard/panel.html")
def panel(request: HttpRequest, caller: Caller, task_id: str) -> Context:
    """`GET /ui/panel/{id}`: the details of the selected task, beside the tree."""
    return _panel(request, caller, task_id)


@read_page("dashboard/executors.html")
def executors(request: HttpRequest, caller: Caller) -> Context:
    """`GET /ui/executors/`: all executors with their schemas, disabled ones too."""
    ids = sorted({*executor_ids(), *disabled_executors()})
    described = [describe(each) | {"enable_with": disabled_executors().get(each)} for each in ids]
    return {"place": "executors", "executors": described}


def _folds(request: HttpRequest, task_id: str) -> Folds:
    """Return what the query says about boxes: `open` and `shut` are ids of their tasks, and the last one counts."""
    said = {value: name for name, value in parse_qsl(request.META["QUERY_STRING"]) if name in ("open", "shut")}
    latest = list(said.items())[-MOST_FOLDS:]
    opened, closed = (frozenset(each for each, name in latest if name == verb) for verb in ("open", "shut"))
    return Folds(opened=opened, closed=closed, selected_id=task_id)


def _wanted(request: HttpRequest) -> Wanted:
    """Return which lines of a large tree the query asks for. Raises InvalidParams."""
    start = request.GET.get("from")
    if start is not None and not (start.isdecimal() and len(start) <= len(str(MOST_LINES))):
        raise InvalidParams([("from", "must be the number of a line")])
    text, status = request.GET.get("q", "").strip().lower(), request.GET.get("status", "")
    return Wanted(start=None if start is None else int(start), text=text, status=status)


def _of_tree(request: HttpRequest, picture: Picture, task_id: str) -> Context:
    return {
        "place": "tasks",
        "picture": picture,
        "selected_id": task_id,
        "statuses": [*Status, NOT_RUN, HANDLED],
        "code": as_code(
            picture.root.id,
            base_url=base_url(request),
            of_copy=picture.status == Status.COMPLETED,
            with_token=has_owners(),
        ),
    }


def _panel(request: HttpRequest, caller: Caller, task_id: str) -> Context:
    """Load the context of the panel. Raises TaskNotFound."""
    found = detail(caller=caller, task_id=task_id, is_page=True)
    path = hook_url(found.wait) if found.wait else None
    question = next(iter(open_questions(caller, task_id=task_id)), None)
    required = {item["id"]: item["required"] for item in found.task.dependencies}
    tasks = (
        Task.objects.tree(found.task.root_id)
        .filter(id__in=list(required)[:RELATIVES_SHOWN])
        .only("id", "name", "status", "cause_id", "root_id", "parent_id")
    )
    mark_handled([found.task, *tasks, *found.dependants])
    cause_id = found.task.cause_id
    inputs, resolved = found.task.inputs, found.resolved_inputs
    function = inputs.get("function") if found.task.executor_id == STEP else None
    if function is not None:
        inputs = resolved = inputs.get("arguments", {})
    return {
        "detail": found,
        "function": function,
        "version": _version_of(found.task),
        "needs": next((each for each in needed_by(found.run) if each.task_id == task_id), None),
        "look": _look(found),
        "cause": cause_id and Task.objects.filter(id=cause_id).only("id", "name").first(),
        "cached_at": datetime.fromisoformat(taken["at"]) if (taken := found.task.cached_from) else None,
        "inputs": for_pages(found.task, inputs),
        "resolved_inputs": None if resolved is None else for_pages(found.task, resolved),
        "result_files": files_named(caller, found.task.result),
        "input_files": files_named(caller, inputs, resolved),
        "dependencies": [(task, required[task.id]) for task in tasks],
        "dependants": found.dependants,
        "more_dependencies": max(0, len(found.task.dependencies) - RELATIVES_SHOWN),
        "more_dependants": found.dependant_count - len(found.dependants),
        "events": join_words(found.events),
        "family": family_of(found.task),
        "question": question,
        "answers": answers_in(found.task.root_id, task_id=None if found.task.is_root else task_id, limit=ANSWERS_SHOWN),
        "fields": fields_of_question(question, caller.user_id) if question else [],
        "may_answer": question is not None and caller.may(Role.OPERATOR) and question.may_be_answered_by(caller),
        "is_running": found.run is not None and found.run.finished_at is None,
        "hook_url": path and urljoin(base_url(request), path),
    }


def _version_of(task: Task) -> str | None:
    """Return the version of the code that has called the latest steps of a workflow; None for other tasks."""
    if not (task.executor_id or "").startswith(WORKFLOW):
        return None
    noted = Task.objects.tree(task.root_id).filter(spawned_by=task.id, call__contains='"version":')
    call = noted.order_by("-position").values_list("call", flat=True).first()
    return None if call is None else str(call["version"])


def _look(found: Detail) -> str:
    """Return the status of the task in the panel, as the drawings of its tree show it."""
    if found.task.is_root and found.run:
        return found.run.status
    if found.task.executor_id is not None or not found.task.has_children:
        return found.task.shown_status
    tasks = seen_of(found.task.root_id)
    mark_handled(tasks)
    grown = {*boxes.settings_of_boxes(found.task.root_id), *(task.spawned_by for task in tasks if task.spawned_by)}
    return looks_of(tasks, run=found.run, boxes=grown)[found.task.id]


WAITS: Final = {
    "question": "People's answers",
    "time": "Times",
    "event": "Events",
    "run": "Other trees",
    "limit": "Named limits",
    "call": "Equal calls (cache)",
}


@read_page("dashboard/workers.html", needs=Role.ADMIN)
def workers(request: HttpRequest, caller: Caller) -> Context:
    """`GET /ui/workers/`: the workers, how many runs they have, and what waits."""
    found = workforce()
    parked = [(WAITS.get(kind, kind), count) for kind, count in found.parked.items()]
    workflows = any(worker.process.workflows for worker in found.workers)
    limits = [*list_limits(caller), *list_pauses(caller)]
    return {"place": "workers", "found": found, "parked": parked, "workflows": workflows, "limits": limits}


COPY: Final = {"copy_execution": True, "copy_children": True}


def as_code(task_id: str, *, base_url: str, of_copy: bool, with_token: bool) -> dict[str, str]:
    """Return language → code that executes the task. `base_url` has no trailing slash.

    `of_copy`: run a copy, because the tree has completed. `with_token`: read a token or API key from the environment.
    """
    params = {"task_id": task_id} | (COPY if of_copy else {})
    body = _json({"jsonrpc": "2.0", "id": 1, "method": "tasks.execute", "params": params})
    curl = [
        f"curl {shlex.quote(f'{base_url}/tasks')}",
        *(['-H "Authorization: Bearer $TOKEN"'] if with_token else []),
        "-H 'Content-Type: application/json'",
        f"-d {shlex.quote(body)}",
    ]
    server = f"--url {shlex.quote(base_url)}" + (' --token "$TOKEN"' if with_token else "")
    command = f"aipartnerupflow tasks run {shlex.quote(task_id)} --watch {server}"
    if of_copy:
        copy = f"aipartnerupflow tasks copy {shlex.quote(task_id)} --mode full {server}"
        command = f'copy=$({copy} | jq -r .id)\naipartnerupflow tasks run "$copy" --watch {server}'
    arguments = ", ".join(f"{name}={value if value is True else _json(value)}" for name, value in params.items())
    token = ', token=os.environ["TOKEN"]' if with_token else ""
    header = ", Authorization: `Bearer ${process.env.TOKEN}`" if with_token else ""
    return {
        "curl": " \\\n  ".join(curl),
        "CLI": command,
        "Python": PYTHON.format(
            imports="import os\n\n" if with_token else "", client=_json(base_url) + token, arguments=arguments
        ),
        "JavaScript": JAVASCRIPT.format(url=_json(f"{base_url}/tasks"), token=header, params=_json(params)),
    }


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


PYTHON = """{imports}from aipartnerupflow.client import Client

with Client({client}) as client:
    started = client.execute({arguments})
    for event in client.follow(started["root_task_id"]):
        print(event["type"], event["task_id"], event["progress"])
"""

JAVASCRIPT = """const reply = await fetch({url}, {{
  method: "POST",
  headers: {{"Content-Type": "application/json"{token}}},
  body: JSON.stringify({{
    jsonrpc: "2.0", id: 1, method: "tasks.execute",
    params: {params},
  }}),
}});
console.log((await reply.json()).result);
"""
