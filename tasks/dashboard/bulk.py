"""Several runs at once: the question before, and then what was chosen for them: cancel, run again, or delete."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.dashboard.actions import run_again
from tasks.dashboard.pages import page, redirect_with_message, shown
from tasks.models import Run
from tasks.rules.exceptions import InvalidParams, TasksError
from tasks.services import history
from tasks.services.runs.cancels import cancel_tasks
from tasks.services.trees.editing import delete_task

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
    rows = await pools.read(_rows, caller=caller, run_ids=run_ids)
    if request.method != "POST":
        context = {"place": "runs", "verb": verb, "rows": rows, "then": sent["then"]}
        context |= {"back": back, "query": sent.get("back", ""), "trees": len(_trees(rows))}
        return await shown(request, caller, TEMPLATE, context)
    trees = _trees(rows)
    refused = await verb.does(caller, trees) if trees else []
    for reason in refused[:PROBLEMS_SHOWN]:
        messages.warning(request, reason)
    if len(refused) > PROBLEMS_SHOWN:
        messages.warning(request, f"{len(refused) - PROBLEMS_SHOWN} more could not.")
    number = len(trees) - len(refused)
    return redirect_with_message(request, back, f"{verb.done}: {number} tree{'' if number == 1 else 's'}.")


def _rows(*, caller: Caller, run_ids: Sequence[str]) -> list[history.RunFacts]:
    """Return the runs that the caller may see and that still exist."""
    return history.with_facts(
        list(Run.objects.for_caller(caller).filter(id__in=run_ids).order_by("-created_at", "-id"))
    )


def _trees(rows: Sequence[history.RunFacts]) -> dict[str, str]:
    """Return the ids of the trees of the runs, each with its name."""
    return {row.run.root_id: row.name for row in rows}


async def _cancel(caller: Caller, trees: Mapping[str, str]) -> Refusals:
    answers = await cancel_tasks(caller, task_ids=list(trees))
    return [f"{trees[each['task_id']]}: {each['message']}" for each in answers if each["status"] != "cancelled"]


async def _again(caller: Caller, trees: Mapping[str, str]) -> Refusals:
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
        does=_again,
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
