"""Buttons of trees and runs: run, restart, cancel, delete, fork, and the same with several runs at once.

Each calls the same service as the API, then redirects.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.dashboard.json_text import format_json
from tasks.dashboard.pages import Context, page, redirect_with_message, render_page
from tasks.dashboard.schema_form import read_object
from tasks.dashboard.words import path_of
from tasks.models import Run, Task
from tasks.rules.exceptions import InvalidParams, ResponseTooLarge, TaskNotFound, TasksError
from tasks.rules.strict_json import Json
from tasks.services import history
from tasks.services.history.task_detail import results_of_dependencies
from tasks.services.runs.cancels import cancel_tasks
from tasks.services.secrets.write_only import for_pages
from tasks.services.trees import Execution, execute_task
from tasks.services.trees.editing import delete_task
from tasks.services.trees.forks import fork
from tasks.services.trees.queries import get_task, latest_run
from tasks.status import Status


@page("POST", needs=Role.OPERATOR)
async def run(request: HttpRequest, caller: Caller, task_id: str) -> HttpResponse:
    """Run the task and its dependencies. For a root: run everything that has not completed."""
    execution = await pools.write(execute_task, caller=caller, task_id=task_id)
    if execution.started:
        message = f"Run {execution.run.number} was submitted."
        return redirect_with_message(request, path_of(task_id), message, tag="start")
    return redirect_with_message(request, path_of(task_id), "The tree is already running.", level=messages.INFO)


@page("POST", needs=Role.OPERATOR)
async def restart(request: HttpRequest, caller: Caller, task_id: str) -> HttpResponse:
    """Run the task and its dependents again in a copy of the tree. Other tasks keep their results."""
    execution = await pools.write(run_copy, caller=caller, task_id=task_id)
    return redirect_with_message(
        request, path_of(execution.task.id), "A run of a copy was submitted. The original is unchanged."
    )


@page("POST", needs=Role.OPERATOR)
async def cancel(request: HttpRequest, caller: Caller, task_id: str) -> HttpResponse:
    """Cancel the task and its descendants."""
    (answer,) = await cancel_tasks(caller, task_ids=[task_id])
    if answer["current_status"] is None:
        raise TaskNotFound(task_id)
    level = messages.SUCCESS if answer["status"] == "cancelled" else messages.WARNING
    return redirect_with_message(request, path_of(task_id), answer["message"], level=level)


@page("POST", needs=Role.OPERATOR)
async def delete(request: HttpRequest, caller: Caller, task_id: str) -> HttpResponse:
    """Delete the tree. If that is refused, show the reason on its page."""
    task = await pools.read(get_task, caller=caller, task_id=task_id)
    try:
        deletion = await pools.write(delete_task, caller=caller, task_id=task_id, force=True)
    except TaskNotFound:
        raise
    except TasksError as error:
        return redirect_with_message(request, path_of(task_id), error.message, level=messages.ERROR)
    many = "1 task" if deletion.deleted_count == 1 else f"{deletion.deleted_count:,} tasks"
    return redirect_with_message(request, reverse("dashboard:trees"), f"Deleted “{task.name}”: {many}.")


def run_again(*, caller: Caller, task_id: str) -> Execution:
    """Run what has not completed in the tree of this root, or a copy of it if all has. Raises TasksError."""
    newest = latest_run(caller=caller, task_id=task_id)
    verb = run_copy if newest is not None and newest.status == Status.COMPLETED else execute_task
    return verb(caller=caller, task_id=task_id)


def run_copy(*, caller: Caller, task_id: str) -> Execution:
    """Run the task and its dependents again in a copy of the tree, with the inputs of the latest run."""
    return fork(caller=caller, task_id=task_id, start=[task_id], inputs={})


FORK_TEMPLATE: Final = "dashboard/fork.html"
HIDDEN: Final = "…"
RUN_INPUTS: Final = "{{run.inputs"
"""The beginning of the place of an input of the run."""
STARTED: Final = "A run of a copy was submitted, from this task on. The original is unchanged."


@page("GET", "HEAD", "POST", needs=Role.OPERATOR)
async def edit_fork(request: HttpRequest, caller: Caller, task_id: str) -> HttpResponse:
    """`/ui/fork/{id}`: the inputs of the task, to be corrected; what was done before it is kept."""
    task = await pools.read(get_task, caller=caller, task_id=task_id)
    if request.method != "POST":
        context = _form(task, format_json(for_pages(task, task.inputs)), ())
        return await render_page(request, caller, FORK_TEMPLATE, context | await pools.read(_results, task))
    text = request.POST.get("inputs", "")
    try:
        inputs = {task_id: _restore_hidden(task, read_object(text))}
        execution = await pools.write(fork, caller=caller, task_id=task_id, start=(), inputs=inputs)
    except ValueError as error:
        problems = [str(error)]
    except TaskNotFound:
        raise
    except InvalidParams as error:
        problems = [f"{field}: {reason}" for field, reason in error.problems]
    except TasksError as error:
        problems = [error.message]
    else:
        return redirect_with_message(request, path_of(execution.ids[task_id]), STARTED)
    context = _form(task, text, problems) | await pools.read(_results, task)
    return await render_page(request, caller, FORK_TEMPLATE, context, status=422)


def _restore_hidden(task: Task, given: Json) -> Json:
    """Return the inputs as sent; those that are as the page showed them are as stored, for it hides sealed parts.

    Raises ValueError if a changed input still has a hidden part.
    """
    before = for_pages(task, task.inputs)
    kept: Json = {}
    for name, value in given.items():
        is_same = name in task.inputs and value == before.get(name)
        if not is_same and name in task.inputs and before[name] != task.inputs[name] and HIDDEN in format_json(value):
            raise ValueError(
                f"'{name}' has a part that is hidden ({HIDDEN}): write it out, or leave the input as it was."
            )
        kept[name] = task.inputs[name] if is_same else value
    return kept


def _results(task: Task) -> Context:
    """Return the values of places in the inputs: the results of the dependencies, unless they are too large to show."""
    try:
        return {"results": results_of_dependencies(task)}
    except ResponseTooLarge:
        return {"results": {}}


def _form(task: Task, text: str, problems: Sequence[str]) -> Context:
    return {
        "place": "tasks",
        "task": task,
        "text": text,
        "problems": problems,
        "has_run_inputs": RUN_INPUTS in format_json(task.inputs),
    }


MOST: Final = 50
"""The number of runs at once: those of a page."""
TEMPLATE: Final = "dashboard/selected.html"
PROBLEMS_SHOWN: Final = 5
Refusals = list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """An action on runs. `does` gets the trees, and returns why some of them refused."""

    name: str
    question: str
    note: str
    done: str
    does: Callable[[Caller, Mapping[str, str]], Awaitable[Refusals]]
    is_dangerous: bool = False


@page("GET", "HEAD", "POST", needs=Role.OPERATOR)
async def selected(request: HttpRequest, caller: Caller) -> HttpResponse:
    """`/ui/runs/selected/?then=&run=`: ask whether to do it with these runs; a POST does it."""
    sent = request.POST if request.method == "POST" else request.GET
    verb, run_ids = VERBS.get(sent.get("then", "")), sent.getlist("run")
    if verb is None or len(run_ids) > MOST:
        raise InvalidParams([("then", f"must be one of {', '.join(VERBS)}"), ("run", f"at most {MOST} runs at once")])
    back = f"{reverse('dashboard:runs')}?{sent.get('back', '')}"
    found = Run.objects.for_caller(caller).filter(id__in=run_ids).order_by("-created_at", "-id")
    rows = await pools.read(lambda: history.with_facts(list(found)))
    if request.method != "POST":
        context = {"place": "runs", "verb": verb, "rows": rows, "then": sent["then"]}
        context |= {"back": back, "query": sent.get("back", ""), "trees": len(_trees(rows))}
        return await render_page(request, caller, TEMPLATE, context)
    trees = _trees(rows)
    refused = await verb.does(caller, trees) if trees else []
    for reason in refused[:PROBLEMS_SHOWN]:
        messages.warning(request, reason)
    if len(refused) > PROBLEMS_SHOWN:
        messages.warning(request, f"{len(refused) - PROBLEMS_SHOWN} more could not.")
    number = len(trees) - len(refused)
    return redirect_with_message(request, back, f"{verb.done}: {number} tree{'' if number == 1 else 's'}.")


def _trees(rows: Sequence[history.RunFacts]) -> dict[str, str]:
    """Return the ids of the trees of the runs, each with its name."""
    return {row.run.root_id: row.name for row in rows}


async def _cancel(caller: Caller, trees: Mapping[str, str]) -> Refusals:
    answers = await cancel_tasks(caller, task_ids=list(trees))
    return [f"{trees[each['task_id']]}: {each['message']}" for each in answers if each["status"] != "cancelled"]


async def _run_again(caller: Caller, trees: Mapping[str, str]) -> Refusals:
    refused = []
    for task_id, name in trees.items():
        try:
            execution = await pools.write(run_again, caller=caller, task_id=task_id)
        except TasksError as error:
            refused.append(f"{name}: {error.message}")
        else:
            refused += [] if execution.started else [f"{name}: it is already running."]
    return refused


async def _delete(caller: Caller, trees: Mapping[str, str]) -> Refusals:
    refused = []
    for task_id, name in trees.items():
        try:
            await pools.write(delete_task, caller=caller, task_id=task_id, force=True)
        except TasksError as error:
            refused.append(f"{name}: {error.message}")
    return refused


VERBS: Final[Mapping[str, Verb]] = {
    "cancel": Verb(
        name="Cancel the runs",
        question="Cancel these runs?",
        note="Tasks that are running stop, and the others do not start. Completed tasks keep their results.",
        done="Cancelled",
        does=_cancel,
        is_dangerous=True,
    ),
    "again": Verb(
        name="Run again",
        question="Run these trees again?",
        note="A tree that failed or was cancelled runs what has not completed. Of one that has completed, a copy runs.",
        done="Started",
        does=_run_again,
    ),
    "delete": Verb(
        name="Delete the trees",
        question="Delete these trees?",
        note="This deletes the trees with all their runs, results and events. It cannot be undone.",
        done="Deleted",
        does=_delete,
        is_dangerous=True,
    ),
}
