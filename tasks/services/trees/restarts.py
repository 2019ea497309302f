"""Run a stored tree again from its start, in place of what it was: every task, also those that have completed."""

from datetime import UTC, datetime

from django.db import transaction
from django.db.models import Exists, OuterRef

from accounts.callers import Caller
from tasks.models import Run, Task
from tasks.services.trees import RESET, Execution, execute_task, held_task


@transaction.atomic
def execute_again(*, caller: Caller, task_id: str) -> Execution:
    """Queue a run of the whole tree of a task. Tasks that others have added to it are deleted: they are added again.

    While the tree is running nothing changes; then `started` is False. Raises TaskNotFound.
    """
    task = held_task(caller=caller, task_id=task_id)
    if not Run.objects.unfinished().filter(root_id=task.root_id).exists():
        _start_over(task.root_id)
    return execute_task(caller=caller, task_id=task.root_id)


def _start_over(root_id: str) -> None:
    tree = Task.objects.filter(root_id=root_id)
    if tree.filter(spawned_by__isnull=False).delete()[0]:
        below = Task.objects.filter(root_id=root_id, parent_id=OuterRef("id"))
        tree.filter(~Exists(below), has_children=True).update(has_children=False)
    tree.update(**RESET, steps=None, updated_at=datetime.now(UTC))
