"""The form that runs a tree again from one task, with other inputs for it."""

from collections.abc import Sequence
from typing import Final

from django.http import HttpRequest, HttpResponse

from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.dashboard.json_text import written
from tasks.dashboard.pages import Context, page, redirect_with_message, shown
from tasks.dashboard.schema_form import read_object
from tasks.dashboard.words import path_of
from tasks.models import Task
from tasks.rules.exceptions import InvalidParams, ResponseTooLarge, TaskNotFound, TasksError
from tasks.rules.strict_json import Json
from tasks.services.history.task_detail import results_of_dependencies
from tasks.services.secrets.write_only import for_pages
from tasks.services.trees.forks import fork
from tasks.services.trees.queries import get_task

TEMPLATE: Final = "dashboard/fork.html"
HIDDEN: Final = "…"
RUN_INPUTS: Final = "{{run.inputs"
"""The beginning of the place of an input of the run."""
STARTED: Final = "A run of a copy was submitted, from this task on. The original is unchanged."


@page("GET", "HEAD", "POST", needs=Role.OPERATOR)
async def edit(request: HttpRequest, caller: Caller, task_id: str) -> HttpResponse:
    """`/ui/fork/{id}`: the inputs of the task, to be corrected; what was done before it is kept."""
    task = await pools.read(get_task, caller=caller, task_id=task_id)
    if request.method != "POST":
        context = _form(task, written(for_pages(task, task.inputs)), ())
        return await shown(request, caller, TEMPLATE, context | await pools.read(_results, task))
    text = request.POST.get("inputs", "")
    try:
        inputs = {task_id: _kept(task, read_object(text))}
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
    return await shown(request, caller, TEMPLATE, context, status=422)


def _kept(task: Task, given: Json) -> Json:
    """Return the inputs as sent; those that are as the page showed them are as stored, for it hides sealed parts.

    Raises ValueError if a changed input still has a hidden part.
    """
    before = for_pages(task, task.inputs)
    kept: Json = {}
    for name, value in given.items():
        is_same = name in task.inputs and value == before.get(name)
        if not is_same and name in task.inputs and before[name] != task.inputs[name] and HIDDEN in written(value):
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
        "has_run_inputs": RUN_INPUTS in written(task.inputs),
    }
