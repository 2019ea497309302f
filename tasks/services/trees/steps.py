"""The steps that tasks of a tree have taken, and what of them does not run again (`tasks.rules.steps`)."""

from collections.abc import Sequence

from tasks.models import Task
from tasks.rules.steps import taken_up
from tasks.rules.strict_json import Json


def steps_in(tree: Sequence[Task]) -> dict[str, Json]:
    """Map the ids of the tasks of the tree that take steps to what is stored of them."""
    if not any(task.spawned_by for task in tree):
        return {}
    rows = Task.objects.tree(tree[0].root_id).exclude(steps=None)
    return {task_id: steps or {} for task_id, steps in rows.values_list("id", "steps")}


def decided_in(tree: Sequence[Task]) -> set[str]:
    """Return the ids of the tasks of the tree that do not run again: their end is a result that was taken up."""
    steps = steps_in(tree)
    return taken_up(tree, steps) if steps else set()
