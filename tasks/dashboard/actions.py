"""Form posts of the buttons. Each calls the same service as the API, then redirects to the tree."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.dashboard.pages import page, redirect_with_message
from tasks.dashboard.words import path_of
from tasks.rules.exceptions import TaskNotFound, TasksError
from tasks.services.runs.cancels import cancel_tasks
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
    execution = await pools.write(restarted, caller=caller, task_id=task_id)
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
    verb = restarted if newest is not None and newest.status == Status.COMPLETED else execute_task
    return verb(caller=caller, task_id=task_id)


def restarted(*, caller: Caller, task_id: str) -> Execution:
    """Run the task and its dependents again in a copy of the tree, with the inputs of the latest run."""
    return fork(caller=caller, task_id=task_id, start=[task_id], inputs={})
