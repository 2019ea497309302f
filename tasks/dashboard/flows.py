"""The pages of flows: the list, one flow with its runs as a grid and its versions, and forms that run and save flows."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.dashboard.actions import run_again
from tasks.dashboard.json_text import format_json
from tasks.dashboard.pages import Context, page, read_page, redirect_with_message, render_page
from tasks.dashboard.schema_form import MORE, PREFIX, fields_of, read_inputs, read_object, texts_of
from tasks.dashboard.words import path_of
from tasks.executors import disabled_executors, executor_ids
from tasks.executors.admission import checked
from tasks.executors.input_places import inputs_used
from tasks.models import Flow, FlowVersion, Run, RunInputs, Task
from tasks.rules.exceptions import FlowNotFound, InvalidParams, TasksError
from tasks.rules.flows import Change, Content, changes, closed_names, version_of
from tasks.rules.specs import explicit_executor
from tasks.rules.strict_json import Json
from tasks.rules.tags import tags_in
from tasks.services.evals import judges, labels
from tasks.services.files import permit_for
from tasks.services.flows import delete_flow, get_flow, get_version, read_version, run_flow, save_flow, tasks_of_tree
from tasks.services.flows.flow_grid import COLUMNS, grid_of
from tasks.services.flows.flow_lists import list_flows, median_cost, median_seconds, runs_of, success_rate
from tasks.services.runs.run_inputs import FIELD, tags_of, with_inputs, with_tags
from tasks.services.secrets.write_only import for_pages
from tasks.services.trees import Execution
from tasks.services.trees.queries import get_task, latest_run
from tasks.services.waits import named_limits
from tasks.status import Status
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
    run_address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A version, and what was changed in it. `changes` is None for the oldest one that is shown."""

    version: FlowVersion
    changes: Sequence[Change] | None


@read_page("dashboard/flows.html")
def overview(request: HttpRequest, caller: Caller) -> Context:
    """`GET /ui/flows/`: the flows that the caller may see."""
    cursor, text = request.GET.get("cursor", ""), request.GET.get("q", "").strip()
    listed, next_cursor = list_flows(caller=caller, text=text, limit=PAGE, cursor=cursor or None, runs=SQUARES)
    rows = [
        Row(
            flow=each.flow,
            version=each.version,
            runs=list(reversed(each.runs)),
            rate=success_rate(each.runs),
            seconds=median_seconds(each.runs),
            address=address_of(caller, each.flow),
            run_address=address_of(caller, each.flow, "run_flow"),
        )
        for each in listed
    ]
    return {"place": "flows", "rows": rows, "next_cursor": next_cursor, "cursor": cursor, "text": text}


@read_page("dashboard/flow.html")
def flow(request: HttpRequest, caller: Caller, name: str) -> Context:
    """`GET /ui/flows/{name}/`: one flow; `?user=` is its owner, `?version=` the one whose definition is shown."""
    version = chosen(request)["version"]
    found, shown_version = read_version(caller=caller, name=name, **chosen(request))
    runs = list(runs_of(found.id)[:COLUMNS])
    steps = _steps(found)
    its_pause = named_limits.pause_of(caller, "flow", found.name, owner=found.user_id)
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
        "experiments_address": address_of(caller, found, "flow_experiments"),
        "delete_address": address_of(caller, found, "delete_flow"),
        "pause": its_pause,
        "paused_by": its_pause and its_pause.paused_by(caller),
        "pause_address": address_of(caller, found, "pause_flow"),
        "resume_address": address_of(caller, found, "resume_flow"),
        "labels": [
            (name, version_of(each), datetime.fromisoformat(each["moves"][0]["at"]), each)
            for name, each in sorted((found.labels or {}).items())
        ],
        "judges": [(each, judges.spent_today(each)) for each in judges.judges_of(found)],
        "label_address": address_of(caller, found, "label_flow"),
    }


@page("POST", needs=Role.OPERATOR)
async def delete(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    """Delete a flow. Its runs stay."""
    deleted = await pools.write(delete_flow, caller=caller, name=name, user_id=chosen(request)["user_id"])
    kept = "1 run is" if deleted.runs_kept == 1 else f"{deleted.runs_kept:,} runs are"
    message = f"Deleted the flow {deleted.name}. {kept} kept."
    return redirect_with_message(request, reverse("dashboard:flows"), message)


@page("POST", needs=Role.OPERATOR)
async def pause(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    """Let no task of a flow start until it is resumed."""
    found = await pools.read(get_flow, caller=caller, name=name, user_id=chosen(request)["user_id"])
    await pools.write(named_limits.pause, caller, "flow", found.name, owner=found.user_id)
    message = f"Paused the flow {found.name}. Tasks at work continue, and the others wait."
    return redirect_with_message(request, address_of(caller, found), message)


@page("POST", needs=Role.OPERATOR)
async def resume(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    """Let the tasks of a paused flow start, in their order."""
    found = await pools.read(get_flow, caller=caller, name=name, user_id=chosen(request)["user_id"])
    await pools.write(named_limits.resume, caller, "flow", found.name, owner=found.user_id)
    return redirect_with_message(request, address_of(caller, found), f"Resumed the flow {found.name}.")


@page("POST", needs=Role.OPERATOR)
async def label(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    """Set a label of a flow, undo its newest move, or remove it, as the pressed button says."""
    sent = {field: str(request.POST.get(field, "")).strip() for field in ("label", "version", "shares", "reason")}
    given: Json = {
        "name": name,
        "user_id": chosen(request)["user_id"],
        "label": sent["label"],
        "reason": sent["reason"],
    }
    level, message = messages.SUCCESS, f"Changed the label {given['label'][:100]}."
    try:
        if not 1 <= len(sent["reason"]) <= 500:
            raise InvalidParams([("reason", "must have 1 to 500 characters")])
        if (act := request.POST.get("do")) == "undo":
            await pools.write(labels.undo_label, caller=caller, **given)
        elif act == "remove":
            await pools.write(labels.remove_label, caller=caller, **given)
        else:
            given |= {"version": _number(sent["version"]), "shares": _shares(sent["shares"])}
            await pools.write(labels.set_label, caller=caller, **given)
    except (InvalidParams, FlowNotFound) as error:
        level, message = messages.ERROR, error.message
    found = await pools.read(get_flow, caller=caller, name=name, user_id=given["user_id"])
    return redirect_with_message(request, f"{address_of(caller, found)}#labels", message, level=level)


def _number(text: str) -> int | None:
    """Return a version; None if the field is empty. Raises InvalidParams."""
    if text and not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise InvalidParams([("version", "must be a whole number")])
    return int(text) if text else None


def _shares(text: str) -> dict[str, float] | None:
    """Return the percentages in a text such as `candidate=10, canary=5`; None if it is empty. 0 ends a share. Raises InvalidParams."""
    found = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        taker, _, percent = part.partition("=")
        try:
            found[taker.strip()] = float(percent)
        except ValueError:
            raise InvalidParams([("shares", f"'{part[:100]}' must be LABEL=PERCENT, as in candidate=10")]) from None
    return {taker: percent for taker, percent in found.items() if percent} if found else None


def chosen(request: HttpRequest) -> dict[str, Any]:
    """Return the owner and the version in the query; None where there is none."""
    version = request.GET.get("version", "")
    is_number = version.isascii() and version.isdecimal() and len(version) < 10
    return {"user_id": request.GET.get("user") or None, "version": int(version) if is_number else None}


def address_of(caller: Caller, found: Flow, view: str = "flow", **query: Any) -> str:
    """Return the address of a page of the flow; with its owner, where that is another user."""
    others = {"user": found.user_id} if found.user_id != caller.user_id else {}
    return reverse(f"dashboard:{view}", args=[found.name], query={**others, **query} or None)


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


RUN_TEMPLATE: Final = "dashboard/flow_run.html"
SAVE_TEMPLATE: Final = "dashboard/flow_save.html"
NOT_OF_NAMES: Final = re.compile("[^A-Za-z0-9_.-]+")
Problems = Mapping[str, str]


@page("GET", "HEAD", "POST", needs=Role.OPERATOR)
async def run(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    """`/ui/flows/{name}/run/`: a form made of the schema; `?version=` is the one that runs."""
    flow, version = await pools.read(get_version, caller=caller, name=name, **chosen(request))
    schema = version.inputs_schema or {}
    if request.method != "POST":
        rules = schema.get("properties", {})
        defaults = {
            field: rule["default"] for field, rule in rules.items() if isinstance(rule, dict) and "default" in rule
        }
        texts = texts_of(schema, defaults)
        return await render_page(request, caller, RUN_TEMPLATE, _of_flow(caller, flow, version, texts, {}))
    texts, tags = _texts_in(request), tags_in(request.POST.get("tags", ""))
    inputs, wrong = read_inputs(schema, texts)
    problems = {f"inputs.{name}": reason for name, reason in wrong.items()}
    if not problems:
        try:
            of_flow = {"name": name, "version": version.number, "inputs": inputs, "user_id": flow.user_id}
            execution = await pools.write(partial(with_tags, run_flow, tags, caller=caller, **of_flow))
        except InvalidParams as error:
            problems = dict(error.problems)
        except TasksError as error:
            problems = {"": error.message}
        else:
            message = f"A run of {flow.name}, version {version.number}, was submitted."
            return redirect_with_message(request, path_of(execution.task.id), message)
    form = _of_flow(caller, flow, version, texts, problems) | {"tags": " ".join(tags)}
    return await render_page(request, caller, RUN_TEMPLATE, form, status=422)


@page("GET", "HEAD", "POST", needs=Role.OPERATOR)
async def run_tree(request: HttpRequest, caller: Caller, task_id: str) -> HttpResponse:
    """`/ui/run-with/{id}`: run a stored tree with inputs; a completed one as a copy. The form of a tree of a flow is made of its schema."""
    context = await pools.read(_of_tree, caller=caller, task_id=task_id)
    if request.method != "POST":
        return await render_page(request, caller, RUN_TEMPLATE, context)
    texts, tags = _texts_in(request), tags_in(request.POST.get("tags", ""))
    inputs, wrong = read_inputs(context["schema"], texts)
    problems = {f"inputs.{name}": reason for name, reason in wrong.items()}
    if not problems:
        try:
            verb = partial(with_tags, _run_tree, tags)
            execution = await pools.write(partial(verb, caller=caller, task_id=task_id, inputs=inputs))
        except InvalidParams as error:
            problems = {re.sub(rf"^{FIELD}\b", "inputs", where): why for where, why in error.problems}
        except TasksError as error:
            problems = {"": error.message}
        else:
            for warning in execution.warnings:
                messages.warning(request, warning)
            message = f"Run {execution.run.number} was submitted."
            return redirect_with_message(request, path_of(execution.task.id), message)
    again = context | _form(context["schema"], texts, problems, permit=context["permit"]) | {"tags": " ".join(tags)}
    return await render_page(request, caller, RUN_TEMPLATE, again, status=422)


@page("GET", "HEAD", "POST", needs=Role.OPERATOR)
async def save(request: HttpRequest, caller: Caller, task_id: str) -> HttpResponse:
    """`/ui/save-flow/{id}`: save the tree of a task as a flow."""
    if request.method != "POST":
        return await render_page(
            request, caller, SAVE_TEMPLATE, await pools.read(_to_save, caller=caller, task_id=task_id)
        )
    own = {name: request.POST.get(name, "") for name in ("name", "description", "inputs_schema")}
    is_tool = "is_tool" in request.POST
    try:
        schema = read_object(own["inputs_schema"]) if own["inputs_schema"].strip() else None
        saved = await pools.write(
            save_flow,
            caller=caller,
            name=own["name"].strip(),
            task_id=task_id,
            inputs_schema=schema,
            description=own["description"].strip(),
            is_tool=is_tool,
        )
    except ValueError as error:
        problems = {"inputs_schema": str(error)}
    except InvalidParams as error:
        problems = dict(error.problems)
    except TasksError as error:
        problems = {"": error.message}
    else:
        for warning in saved.warnings:
            messages.warning(request, warning)
        done = "Saved" if saved.is_new else "Nothing was saved: this is"
        message = f"{done} version {saved.version.number} of {saved.flow.name}."
        return redirect_with_message(request, address_of(caller, saved.flow), message)
    context = {"place": "flows", "task_id": task_id, "own": own | {"is_tool": is_tool}, "problems": problems}
    return await render_page(request, caller, SAVE_TEMPLATE, context, status=422)


def _run_tree(*, caller: Caller, task_id: str, inputs: Json) -> Execution:
    """Run the tree, or a copy of it if there is nothing left to run in it. The form shows all inputs, so it replaces them."""
    task = get_task(caller=caller, task_id=task_id)
    return with_inputs(run_again, inputs, replace_inputs=True, caller=caller, task_id=task.root_id)


def _texts_in(request: HttpRequest) -> dict[str, str]:
    fields = {name: str(value) for name, value in request.POST.items()}
    return {name.removeprefix(PREFIX): text for name, text in fields.items() if name.startswith(PREFIX)}


def _of_flow(caller: Caller, flow: Flow, version: FlowVersion, texts: Mapping[str, str], problems: Problems) -> Context:
    schema = version.inputs_schema or {}
    form = _form(schema, texts, problems, permit=permit_for(flow.user_id, by=caller.user_id))
    form |= {"takes_more": closed_names(version.inputs_schema) is None}
    return form | {
        "title": f"Run {flow.name}",
        "about": version.description,
        "version": version,
        "back": address_of(caller, flow),
        "address": address_of(caller, flow, "run_flow", version=version.number),
    }


def _form(schema: Json, texts: Mapping[str, str], problems: Problems, *, permit: str) -> Context:
    of_inputs = {path.removeprefix("inputs."): why for path, why in problems.items() if path.startswith("inputs.")}
    named = schema.get("properties", {})
    return {
        "place": "flows",
        "fields": fields_of(schema, texts, of_inputs, permit=permit),
        "more": texts.get(MORE, ""),
        "more_problem": of_inputs.get(MORE, ""),
        "tags_problem": next((why for path, why in problems.items() if path.startswith("tags")), ""),
        "other_problems": {
            path: why
            for path, why in problems.items()
            if not path.startswith("tags")
            and ((name := path.removeprefix("inputs.")) == path or (name not in named and name != MORE))
        },
    }


def _of_tree(*, caller: Caller, task_id: str) -> Context:
    """Raise TaskNotFound."""
    task = get_task(caller=caller, task_id=task_id)
    newest = latest_run(caller=caller, task_id=task.root_id)
    last = RunInputs.objects.filter(run_id=newest.id).values_list("inputs", flat=True).first() if newest else None
    of_flow: FlowVersion | None = None
    if newest is not None and newest.flow_id is not None and newest.flow_version is not None:
        of_flow = FlowVersion.objects.filter(flow_id=newest.flow_id, number=newest.flow_version).first()
    schema = (of_flow and of_flow.inputs_schema) or {}
    inputs = dict.fromkeys([] if schema else _used(caller, task_id), "") | (last or {})
    root = get_task(caller=caller, task_id=task.root_id)
    texts = texts_of(schema, inputs)
    is_copy = newest is not None and newest.status == Status.COMPLETED
    about = "It has completed, so a copy of it runs." if is_copy else ""
    permit = permit_for(task.user_id, by=caller.user_id)
    return _form(schema, texts, {}, permit=permit) | {
        "schema": schema,
        "permit": permit,
        "place": "tasks",
        "tags": " ".join(tags_of([newest.id]).get(newest.id, ())) if newest else "",
        "title": f"Run {root.name} with inputs",
        "about": about if inputs or schema else f"No task of this tree uses an input of the run yet. {about}".strip(),
        "takes_more": closed_names(schema or None) is None,
        "back": path_of(task_id),
        "address": reverse("dashboard:run_tree", args=[task_id]),
    }


def _used(caller: Caller, task_id: str) -> list[str]:
    """Return the inputs of the run that the tree uses; none for a tree that cannot be run any more."""
    try:
        spec = checked(tasks_of_tree(caller=caller, task_id=task_id))
    except InvalidParams:
        return []
    return list(dict.fromkeys(name for _, name in inputs_used(spec)))


def _to_save(*, caller: Caller, task_id: str) -> Context:
    """Raise TaskNotFound."""
    task = get_task(caller=caller, task_id=task_id)
    root = get_task(caller=caller, task_id=task.root_id)
    used = _used(caller, task_id)
    schema: dict[str, Any] = {"type": "object", "properties": {name: {} for name in used}, "required": used}
    name = NOT_OF_NAMES.sub("-", root.name).strip("-._")[:100].lower()
    is_tool = Flow.objects.filter(user_id=caller.user_id, name=name, is_tool=True).exists()
    own = {"name": name, "description": "", "inputs_schema": format_json(schema) if used else "", "is_tool": is_tool}
    return {"place": "flows", "task_id": task_id, "own": own, "problems": {}}
