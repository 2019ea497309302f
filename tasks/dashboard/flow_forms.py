"""Forms of flows: run one with inputs, run a stored tree with inputs, and save a tree as a flow."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.dashboard.actions import run_again
from tasks.dashboard.flows import address_of, chosen
from tasks.dashboard.json_text import written
from tasks.dashboard.pages import Context, page, redirect_with_message, shown
from tasks.dashboard.schema_form import MORE, PREFIX, fields_of, read_inputs, read_object, texts_of
from tasks.dashboard.words import path_of
from tasks.executors.admission import checked
from tasks.executors.input_places import inputs_used
from tasks.models import Flow, FlowVersion, RunInputs
from tasks.rules.exceptions import InvalidParams, TasksError
from tasks.rules.flows import closed_names
from tasks.rules.strict_json import Json
from tasks.rules.tags import tags_in
from tasks.services.flows import get_version, run_flow, save_flow, tasks_of_tree
from tasks.services.runs.run_inputs import with_inputs
from tasks.services.runs.run_tags import tags_of, with_tags
from tasks.services.trees import Execution
from tasks.services.trees.queries import get_task, latest_run
from tasks.status import Status

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
        texts = texts_of(schema, {name: rule["default"] for name, rule in _with_default(schema).items()})
        return await shown(request, caller, RUN_TEMPLATE, _of_flow(caller, flow, version, texts, {}))
    texts, tags = _sent(request), tags_in(request.POST.get("tags", ""))
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
    return await shown(request, caller, RUN_TEMPLATE, form, status=422)


@page("GET", "HEAD", "POST", needs=Role.OPERATOR)
async def run_tree(request: HttpRequest, caller: Caller, task_id: str) -> HttpResponse:
    """`/ui/run-with/{id}`: run a stored tree with inputs; a completed one as a copy."""
    context = await pools.read(_of_tree, caller=caller, task_id=task_id)
    if request.method != "POST":
        return await shown(request, caller, RUN_TEMPLATE, context)
    texts, tags = _sent(request), tags_in(request.POST.get("tags", ""))
    try:
        inputs = read_object(texts.get(MORE, ""))
        execution = await pools.write(
            partial(with_tags, _run_tree, tags, caller=caller, task_id=task_id, inputs=inputs)
        )
    except ValueError as error:
        problems = {f"inputs.{MORE}": str(error)}
    except InvalidParams as error:
        problems = dict(error.problems)
    except TasksError as error:
        problems = {"": error.message}
    else:
        for warning in execution.warnings:
            messages.warning(request, warning)
        return redirect_with_message(request, path_of(execution.task.id), f"Run {execution.run.number} was submitted.")
    again = context | _form({}, texts, problems) | {"tags": " ".join(tags)}
    return await shown(request, caller, RUN_TEMPLATE, again, status=422)


@page("GET", "HEAD", "POST", needs=Role.OPERATOR)
async def save(request: HttpRequest, caller: Caller, task_id: str) -> HttpResponse:
    """`/ui/save-flow/{id}`: save the tree of a task as a flow."""
    if request.method != "POST":
        return await shown(request, caller, SAVE_TEMPLATE, await pools.read(_to_save, caller=caller, task_id=task_id))
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
    return await shown(request, caller, SAVE_TEMPLATE, context, status=422)


def _run_tree(*, caller: Caller, task_id: str, inputs: Json) -> Execution:
    """Run the tree, or a copy of it if there is nothing left to run in it. The form shows all inputs, so it replaces them."""
    task = get_task(caller=caller, task_id=task_id)
    return with_inputs(run_again, inputs, replace_inputs=True, caller=caller, task_id=task.root_id)


def _with_default(schema: Json) -> dict[str, Json]:
    rules = schema.get("properties", {})
    return {name: rule for name, rule in rules.items() if isinstance(rule, dict) and "default" in rule}


def _sent(request: HttpRequest) -> dict[str, str]:
    fields = {name: str(value) for name, value in request.POST.items()}
    return {name.removeprefix(PREFIX): text for name, text in fields.items() if name.startswith(PREFIX)}


def _of_flow(caller: Caller, flow: Flow, version: FlowVersion, texts: Mapping[str, str], problems: Problems) -> Context:
    schema = version.inputs_schema or {}
    form = _form(schema, texts, problems) | {"takes_more": closed_names(version.inputs_schema) is None}
    return form | {
        "title": f"Run {flow.name}",
        "about": version.description,
        "version": version,
        "back": address_of(caller, flow),
        "address": address_of(caller, flow, "run_flow", version=version.number),
    }


def _form(schema: Json, texts: Mapping[str, str], problems: Problems) -> Context:
    of_inputs = {path.removeprefix("inputs."): why for path, why in problems.items() if path.startswith("inputs.")}
    named = schema.get("properties", {})
    return {
        "place": "flows",
        "fields": fields_of(schema, texts, of_inputs),
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
    inputs = dict.fromkeys(_used(caller, task_id), "") | (last or {})
    root = get_task(caller=caller, task_id=task.root_id)
    texts = {MORE: written(inputs) if inputs else ""}
    is_copy = newest is not None and newest.status == Status.COMPLETED
    about = "It has completed, so a copy of it runs." if is_copy else ""
    return _form({}, texts, {}) | {
        "place": "tasks",
        "tags": " ".join(tags_of([newest.id]).get(newest.id, ())) if newest else "",
        "title": f"Run {root.name} with inputs",
        "about": about if inputs else f"No task of this tree uses an input of the run yet. {about}".strip(),
        "takes_more": True,
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
    own = {"name": name, "description": "", "inputs_schema": written(schema) if used else "", "is_tool": is_tool}
    return {"place": "flows", "task_id": task_id, "own": own, "problems": {}}
