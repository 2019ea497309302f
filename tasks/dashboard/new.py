"""Create a task with the form of its executor, or a whole tree as JSON. Validation is the same as in the API."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse

from accounts.callers import Caller, Role
from apflow_site.db import pools
from llmkeys.keys import list_keys
from tasks.dashboard.json_text import format_json
from tasks.dashboard.pages import Context, page, redirect_with_message, render_page
from tasks.dashboard.schema_form import (
    MORE,
    PREFIX,
    fields_of,
    read_inputs,
    read_json,
    read_object,
    takes_more,
    texts_of,
)
from tasks.dashboard.words import path_of
from tasks.executors import describe, executor_ids
from tasks.rules.exceptions import InvalidParams, TasksError
from tasks.rules.schema import FURTHER, mismatch
from tasks.rules.strict_json import Json
from tasks.rules.tree import WORKFLOW
from tasks.services.files import permit_for
from tasks.services.trees import create_tree
from tasks.services.trees.persist import written_down
from tasks.services.trees.queries import get_tree

Texts = Mapping[str, str]
Problems = dict[str, str]

TEMPLATE: Final = "dashboard/new.html"
FIRST: Final = "llm_executor"
DEMO_MODEL: Final = "demo/demo"
"""Needs no key: the form of a user without keys has it."""
PRIORITIES: Final = {0: "Urgent", 1: "High", 2: "Normal", 3: "Low"}
#: Path of a validation error → field of the form that shows it.
PLACES: Final = {"tasks[0].name": "name", "tasks[0].params.timeout_seconds": "timeout_seconds"}
OWN_FIELDS: Final = frozenset({"name", "params", "timeout_seconds", "max_attempts"})
PLACES_BELOW: Final = {"tasks[0].params.retry": "max_attempts", "tasks[0].params": "params"}
EXAMPLE: Final[list[Json]] = [
    {
        "id": "report",
        "name": "Report",
        "schemas": {"method": "aggregate_results_executor"},
        "dependencies": ["cpu", "wait"],
    },
    {
        "id": "cpu",
        "name": "Read CPU usage",
        "parent_id": "report",
        "schemas": {"method": "system_info_executor"},
        "inputs": {"resource": "cpu"},
    },
    {
        "id": "wait",
        "name": "Sleep in three steps",
        "parent_id": "report",
        "schemas": {"method": "sleep_executor"},
        "inputs": {"seconds": 3, "steps": 3},
    },
]


@page("GET", "HEAD", "POST", needs=Role.OPERATOR)
async def new_task(request: HttpRequest, caller: Caller) -> HttpResponse:
    """`/ui/new/`: a single task, with the form of its executor (`?executor=`)."""
    permit = permit_for(caller.user_id, by=caller.user_id)
    if request.method == "POST":
        sent = {name: str(value) for name, value in request.POST.items()}
        own = {name: text for name, text in sent.items() if not name.startswith(PREFIX)}
        given = {name.removeprefix(PREFIX): text for name, text in sent.items() if name.startswith(PREFIX)}
        described = describe(own.get("executor", ""))
        task, problems = read_task(described, own, given)

        def again(problems: Problems) -> Context:
            places = {}
            for path, reason in problems.items():
                below = (field for start, field in PLACES_BELOW.items() if path.startswith(start))
                places[PLACES.get(path) or next(below, path)] = reason
            return _form(described, own, given, places, permit=permit)

        return await _create(request, caller, [task], problems, again)
    described = describe(request.GET.get("executor", FIRST))
    example = described["example"]
    if "model" in example and not await pools.read(list_keys, user_id=caller.user_id):
        example = example | {"model": DEMO_MODEL}
    inputs = texts_of(described["input_schema"], example)
    return await render_page(
        request, caller, TEMPLATE, _form(described, {"name": described["name"]}, inputs, {}, permit=permit)
    )


@page("GET", "HEAD", "POST", needs=Role.OPERATOR)
async def new_tree(request: HttpRequest, caller: Caller) -> HttpResponse:
    """`/ui/new/tree/`: a whole tree as JSON. `?copy=<id>` starts from a stored tree."""
    if request.method == "POST":
        text = request.POST.get("tree", "")
        sent, problems = None, {}
        try:
            sent = read_json(text)
        except ValueError as error:
            problems = {"": str(error)}
        return await _create(request, caller, sent, problems, lambda problems: _editor(text, problems))
    tasks = EXAMPLE
    if copy_of := request.GET.get("copy"):
        stored = await pools.read(get_tree, caller=caller, task_id=copy_of)
        tasks = written_down([task for task in stored if task.spawned_by is None])  # a run adds the others again
    return await render_page(request, caller, TEMPLATE, _editor(format_json(tasks), {}))


async def _create(
    request: HttpRequest, caller: Caller, tasks: Any, problems: Problems, again: Callable[[Problems], Context]
) -> HttpResponse:
    """Create the tree and redirect to it, or show the form again with the problems."""
    runs = request.POST.get("then") != "store"
    if not problems:
        try:
            created = await pools.write(create_tree, caller=caller, tasks=tasks, execute=runs)
        except InvalidParams as error:
            problems = dict(error.problems)
        except TasksError as error:
            problems = {"": error.message}
        else:
            for warning in created.warnings:
                messages.warning(request, warning)
            return redirect_with_message(
                request, path_of(created.root.id), "The run was submitted." if runs else "Saved. Not run yet."
            )
    return await render_page(request, caller, TEMPLATE, again(problems), status=422)


def read_task(described: Json, own: Texts, inputs: Texts) -> tuple[Json, Problems]:
    """Return the submitted task as a create request, and field → problem."""
    schema = described["input_schema"]
    values, wrong = read_inputs(schema, inputs)
    problems = {f"{PREFIX}{name}": reason for name, reason in wrong.items()}
    if not problems:
        problems = misfits(schema, values)
    params = _read(read_object, own, "params", problems) or {}
    if timeout_seconds := _read(read_json, own, "timeout_seconds", problems):
        params["timeout_seconds"] = timeout_seconds
    if max_attempts := _read(read_json, own, "max_attempts", problems):
        params["retry"] = {"max_attempts": max_attempts}
    task = {
        "name": own.get("name", ""),
        "schemas": {"method": described["id"]},
        "inputs": values,
        "params": params or None,
    }
    if (priority := _read(read_json, own, "priority", problems)) is not None:
        task["priority"] = priority
    return task, problems


def misfits(schema: Json, values: Json) -> Problems:
    """Return field → problem for inputs that do not fit the schema. The key "" is for problems of no single field."""
    named = schema.get("properties", {})
    if missing := [name for name in schema.get("required", []) if name in named and name not in values]:
        return {f"{PREFIX}{name}": "This field is required" for name in missing}
    reason = mismatch(schema, values)
    if reason is None:
        return {}
    place = max(
        (name for name in named if reason.startswith((f"{name}:", f"{name}.", f"{name}["))), key=len, default=None
    )
    return {"" if place is None else f"{PREFIX}{place}": reason}


def _read(read: Callable[[str], Any], texts: Texts, name: str, problems: Problems) -> Any:
    """Return the value of a field. None when it is empty or malformed."""
    text = texts.get(name, "").strip()
    try:
        return read(text) if text else None
    except ValueError as error:
        problems[name] = str(error)
        return None


def _form(described: Json, own: Texts, inputs: Texts, problems: Problems, *, permit: str) -> Context:
    schema = described["input_schema"]
    of_inputs = {name.removeprefix(PREFIX): reason for name, reason in problems.items() if name.startswith(PREFIX)}
    fields = fields_of(schema, inputs, of_inputs, permit=permit, may_have_places=True)
    rules = schema.get("properties", {})
    further = [field for field in fields if rules[field.name].get(FURTHER)]
    return {
        "place": "new",
        "executor": described,
        "executors": sorted(executor_ids()),
        "fields": [field for field in fields if field not in further],
        "further": further,  # shown on request
        "further_open": any(field.value or field.problem for field in further),
        "takes_more": takes_more(schema)
        and not (described["id"].startswith(WORKFLOW) and "additionalProperties" not in schema),
        "more": inputs.get(MORE, ""),
        "more_problem": of_inputs.get(MORE, ""),
        "own": own,
        "problems": problems,
        "marked": [name.removeprefix(PREFIX) or "more inputs" for name in problems if _has_field(name)],
        "other_problems": {name: reason for name, reason in problems.items() if not _has_field(name)},
        "priorities": PRIORITIES,
    }


def _editor(text: str, problems: Problems) -> Context:
    return {"place": "new", "tree": text, "problems": problems, "other_problems": problems}


def _has_field(name: str) -> bool:
    """Return whether the form has a field that shows the problem."""
    return name in OWN_FIELDS or name.startswith(PREFIX)
