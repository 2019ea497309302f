"""The pages of flows: the list, and one flow with its runs as a grid, its versions and its definition."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.dashboard.pages import Context, page, redirect_with_message, shown
from tasks.executors import disabled_executors, executor_ids
from tasks.models import Flow, FlowVersion, Run, Task
from tasks.rules.flows import Change, Content, changes
from tasks.rules.specs import explicit_executor
from tasks.rules.strict_json import Json
from tasks.services.flows import delete_flow, read_version
from tasks.services.flows.flow_grid import COLUMNS, grid_of
from tasks.services.flows.flow_lists import list_flows, median_cost, median_seconds, runs_of, success_rate
from tasks.services.secrets.write_only import for_pages
from tasks.storage import loads

PAGE: Final = 50
SQUARES: Final = 20
"""Runs of each flow in the list."""
VERSIONS: Final = 10
"""Versions whose changes are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A flow in the list, with its newest runs, oldest first."""

    flow: Flow
    version: FlowVersion
    runs: Sequence[Run]
    rate: float | None
    seconds: float | None
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A version, and what was changed in it. `changes` is None for the oldest one that is shown."""

    version: FlowVersion
    changes: Sequence[Change] | None


@page()
async def overview(request: HttpRequest, caller: Caller) -> HttpResponse:
    """`GET /ui/flows/`: the flows that the caller may see."""
    context = await pools.read(_listed, caller=caller, cursor=request.GET.get("cursor", ""))
    return await shown(request, caller, "dashboard/flows.html", context)


@page()
async def flow(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    """`GET /ui/flows/{name}/`: one flow; `?user=` is its owner, `?version=` the one whose definition is shown."""
    context = await pools.read(_one, caller=caller, name=name, **chosen(request))
    return await shown(request, caller, "dashboard/flow.html", context)


@page("POST", needs=Role.OPERATOR)
async def delete(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    """Delete a flow. Its runs stay."""
    deleted = await pools.write(delete_flow, caller=caller, name=name, user_id=chosen(request)["user_id"])
    message = f"Deleted the flow {deleted.name}. {_counted(deleted.runs_kept, 'run')} kept."
    return redirect_with_message(request, reverse("dashboard:flows"), message)


def chosen(request: HttpRequest) -> dict[str, Any]:
    """Return the owner and the version in the query; None where there is none."""
    version = request.GET.get("version", "")
    is_number = version.isascii() and version.isdecimal() and len(version) < 10
    return {"user_id": request.GET.get("user") or None, "version": int(version) if is_number else None}


def address_of(caller: Caller, found: Flow, view: str = "flow", **query: Any) -> str:
    """Return the address of a page of the flow; with its owner, where that is another user."""
    others = {"user": found.user_id} if found.user_id != caller.user_id else {}
    return reverse(f"dashboard:{view}", args=[found.name], query={**others, **query} or None)


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun} is" if number == 1 else f"{number:,} {noun}s are"


def _listed(*, caller: Caller, cursor: str) -> Context:
    listed, next_cursor = list_flows(caller=caller, limit=PAGE, cursor=cursor or None, runs=SQUARES)
    rows = [
        Row(
            flow=each.flow,
            version=each.version,
            runs=list(reversed(each.runs)),
            rate=success_rate(each.runs),
            seconds=median_seconds(each.runs),
            address=address_of(caller, each.flow),
        )
        for each in listed
    ]
    return {"place": "flows", "rows": rows, "next_cursor": next_cursor, "cursor": cursor}


def _one(*, caller: Caller, name: str, user_id: str | None, version: int | None) -> Context:
    found, shown_version = read_version(caller=caller, name=name, version=version, user_id=user_id)
    runs = list(runs_of(found.id)[:COLUMNS])
    steps = _steps(found)
    return {
        "place": "flows",
        "flow": found,
        "version": shown_version,
        "grid": grid_of(runs, shown_version.definition),
        "rate": success_rate(runs),
        "seconds": median_seconds(runs),
        "cost": median_cost(runs),
        "last_run": runs[0] if runs else None,
        "steps": steps,
        "more_versions": FlowVersion.objects.of(found).count() - len(steps),
        "definition": {
            "name": found.name,
            "description": shown_version.description,
            "inputs_schema": shown_version.inputs_schema,
            "tasks": [masked_task(task) for task in shown_version.definition],
        },
        "run_address": address_of(caller, found, "run_flow", **({} if version is None else {"version": version})),
        "address": address_of(caller, found),
        "delete_address": address_of(caller, found, "delete_flow"),
    }


def _steps(found: Flow) -> list[Step]:
    """Return the newest versions, as many as a response may load, each with what was changed in it."""
    newest = FlowVersion.objects.of(found)[: VERSIONS + 1].values_list("id", loads.size_of("definition"))
    versions = list(FlowVersion.objects.of(found).filter(id__in=loads.spend_on_page(dict(newest), least=1)))
    pairs = zip(versions, [*versions[1:], None], strict=True)
    steps = [
        Step(version=new, changes=None if old is None else changes(_content(old), _content(new))) for new, old in pairs
    ]
    return steps[:VERSIONS]


def _content(version: FlowVersion) -> Content:
    return Content(tasks=version.definition, inputs_schema=version.inputs_schema, description=version.description)


def masked_task(task: Json) -> Json:
    """Return the task of a definition without what pages must not show of its inputs."""
    if not isinstance(task.get("inputs"), dict):
        return task
    explicit = explicit_executor(task)
    is_executor = task["name"] in {*executor_ids(), *disabled_executors()}
    row = Task(executor_id=explicit or (task["name"] if is_executor else None), schemas=task.get("schemas"))
    return task | {"inputs": for_pages(row, task["inputs"])}
