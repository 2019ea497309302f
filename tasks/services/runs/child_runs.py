"""Runs that a task of another run waits for (`ParkedForTree`).

The wait is a row before its tree is stored, and the run names the wait (`Run.wait_id`): whichever
process dies, the tree is started once. The transaction that ends the run also ends the wait.
"""

from functools import partial
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from accounts.callers import Caller
from llmkeys import run_secrets
from tasks.models import Question, Run, RunBudget, Task
from tasks.rules.exceptions import InvalidParams, TasksError
from tasks.rules.strict_json import Json
from tasks.services.flows import run_flow
from tasks.services.runs import cancels
from tasks.services.runs.run_inputs import with_inputs
from tasks.services.trees import Execution, execute_task, execute_tree
from tasks.services.trees.model_names import model_names
from tasks.services.waits.questions import OpenQuestion, open_question
from tasks.status import Status, WaitKind

PARENT_ENDED: Final = "Cancelled with task '{task_id}', which ran this tree"


@transaction.atomic
def start(wait_id: str) -> OpenQuestion | None:
    """Start the tree of a wait, unless that was done before, and return the wait as it is then.

    If the tree is refused, the wait ends with the reason. None: the task no longer waits.
    """
    still_open = Question.objects.filter(id=wait_id, closed_at=None, answered_at=None, tree__isnull=False)
    wait = still_open.select_for_update().first()
    if wait is not None:
        try:
            with transaction.atomic():
                parent = Run.objects.get(id=wait.run_id)
                _refuse_if_deep(parent)
                run = _execution(Caller(user_id=parent.user_id), wait.tree or {}, key=parent.context_id).run
                Run.objects.filter(id=run.id).update(wait_id=wait.id)
                if rest := (wait.tree or {}).get("rest"):
                    RunBudget.objects.create(run_id=run.id, state={"rest": rest})
                names = model_names(Task.objects.tree(run.root_id))
                run_secrets.pass_on(from_run_id=parent.id, tree_id=run.root_id, run_id=run.id, model_names=names)
        except TasksError as error:
            refused: Json = {
                "status": Status.FAILED,
                "result": None,
                "error": f"The tree was not started: {error.message}",
                "task_id": None,
                "run_id": None,
            }
            Question.objects.filter(id=wait_id).update(answer=refused, answered_at=Now())
        Question.objects.filter(id=wait_id).update(tree=None)
    return open_question(wait_id)


def _execution(caller: Caller, tree: Json, *, key: str) -> Execution:
    if (flow := tree.get("flow")) is not None:
        more = {"version": tree["version"], "changes": tree.get("changes"), "inputs": tree.get("run_inputs")}
        return run_flow(caller=caller, name=flow, key=key, **more)
    if (copy_of := tree.get("copy_of")) is not None:
        verb = partial(execute_task, task_id=copy_of, copy_execution=True, copy_children=True)
    else:
        verb = partial(execute_tree, tasks=tree["tasks"])
    inputs = tree.get("run_inputs")
    return verb(caller=caller) if inputs is None else with_inputs(verb, inputs, caller=caller)


def _refuse_if_deep(run: Run) -> None:
    """Raise InvalidParams if too many runs, each of a task of the next, stand above a new one."""
    most, above = settings.APFLOW.limits.nested_runs, 1
    while run.wait_id is not None and above <= most:
        run, above = Run.objects.get(id=Question.objects.values("run_id").get(id=run.wait_id)["run_id"]), above + 1
    if above > most:
        raise InvalidParams([("tree", f"is more than {most:,} trees below the first one (limits.nested_runs)")])


def call_off(wait: OpenQuestion, *, force: bool) -> Json | None:
    """Cancel the tree for which the task no longer waits. It ends by itself; call this as often as you like.

    Returns the state of its budget, if it has one.
    """
    run = Run.objects.unfinished().filter(wait_id=wait.id).first()
    if run is None:
        return None
    message = PARENT_ENDED.format(task_id=wait.task_id)
    cancels.ask(caller=Caller(user_id=run.user_id), task_ids=[run.root_id], force=force, message=message)
    return RunBudget.objects.filter(run_id=run.id).values_list("state", flat=True).first()


def child_of(run: Run | None, *, task_id: str) -> Run | None:
    """Return the newest run that the task has waited for in this run of its tree."""
    if run is None:
        return None
    waits = Question.objects.filter(run_id=run.id, task_id=task_id, kind=WaitKind.RUN)
    return Run.objects.filter(wait_id__in=waits.values("id")).order_by("-created_at").first()


def parent_of(run: Run | None) -> Question | None:
    """Return the wait of another run's task for this run, if there is one."""
    return None if run is None or run.wait_id is None else Question.objects.filter(id=run.wait_id).first()
