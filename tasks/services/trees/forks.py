"""Fork a tree: run it again from some of its tasks, with other inputs, and keep what was done before them."""

from collections.abc import Mapping, Sequence

from django.db import transaction

from accounts.callers import Caller
from apflow_site.db.beforehand import beforehand
from llmkeys.providers import SentKey
from tasks.models import Task
from tasks.rules.exceptions import InvalidParams
from tasks.rules.specs import LISTED
from tasks.rules.strict_json import Json
from tasks.services.trees import Execution, copies, execute_copy, keep_key
from tasks.services.trees.queries import get_task, refuse_past, tree_of
from tasks.storage import loads


@transaction.atomic
def fork(
    *,
    caller: Caller,
    task_id: str,
    start: Sequence[str],
    inputs: Mapping[str, Json],
    context_id: str | None = None,
    reserved_id: str | None = None,
    llm_key: SentKey | None = None,
) -> Execution:
    """Store a copy of the tree and queue its run, from the tasks `start`, which default to the task and to those with new inputs.

    These, what follows them and what has not completed run; the others keep their results. The
    run has the inputs of the latest run. Raises TaskNotFound, InvalidParams, or what `create_tree` raises.
    """

    def make() -> tuple[Task, copies.Copy]:
        task = get_task(caller=caller, task_id=task_id)
        loads.spend_on(Task.objects.tree(task.root_id), *loads.TASK_COLUMNS)
        tree = tree_of(task, without=["steps", "call"])
        starts = list(dict.fromkeys([*(start or ([task_id] if not inputs else ())), *(() if start else inputs)]))
        extent = copies.full(_known(starts, tree, "from_tasks"), tree)
        _known(list(inputs), tree, "inputs")
        kept = [task_id for task_id in inputs if task_id not in extent.fresh]
        if kept:
            raise InvalidParams(
                [
                    ("inputs", f"'{task_id}' would keep its result: name it in from_tasks, or a task before it")
                    for task_id in kept[:LISTED]
                ]
            )
        root = next(each for each in tree if each.is_root)
        return root, copies.copied(root, tree, extent, inputs=inputs)

    root, copy = beforehand("fork", make, task_id)
    copies.store_copy(root, copy)
    execution = execute_copy(root, copy, context_id=context_id, reserved_id=reserved_id)
    if llm_key is not None:
        keep_key(llm_key, caller=caller, tree=copy.tasks, run=execution.run)
    return execution


def _known(task_ids: Sequence[str], tree: Sequence[Task], place: str) -> Sequence[str]:
    known = {task.id for task in tree}
    problems = [(place, f"'{task_id}' is not a task of this tree") for task_id in task_ids if task_id not in known]
    if problems:
        for task in Task.objects.filter(id__in=task_ids, root_id=tree[0].root_id, part__isnull=False)[:1]:
            refuse_past(task)
        raise InvalidParams(problems[:LISTED])
    return task_ids
