"""Check a request against the rules of this installation: its executors and its limits."""

from collections.abc import Iterator
from itertools import islice

from django.conf import settings

from aipartnerupflow.executors import ExecutorError
from tasks.executors import disabled_executors, executor_ids, get_executor, placement
from tasks.rules.exceptions import InvalidParams
from tasks.rules.specs import LISTED, TaskSpec, TreeLimits, TreeSpec, parse_tree


def checked(tasks: object, *, limits: TreeLimits | None = None) -> TreeSpec:
    """Validate the tasks of a request against this installation.

    Raises InvalidParams, InvalidTree, InvalidParent, InvalidDependency, CircularDependency or
    ExecutorNotFound.
    """
    most = settings.APFLOW.limits
    spec = parse_tree(
        tasks,
        executors=executor_ids(),
        disabled=disabled_executors(),
        limits=limits or TreeLimits(tasks=most.tasks_per_tree, depth=most.tree_depth),
    )
    if problems := list(islice(_problems(spec), LISTED)):
        raise InvalidParams(problems)
    return spec


def _problems(spec: TreeSpec) -> Iterator[tuple[str, str]]:
    """Yield the problems of params: what no pool offers, and what executors refuse."""
    for task in spec.tasks:
        if task.params:
            yield from _misplaced(task)
        try:
            if task.executor_id is not None:
                get_executor(task.executor_id).check_with_inputs(task.params or {}, task.inputs)
        except ExecutorError as error:
            yield f"tasks[{task.position}].params", str(error)


def _misplaced(task: TaskSpec) -> Iterator[tuple[str, str]]:
    params = task.params or {}
    place = f"tasks[{task.position}].params"
    if task.executor_id is None:
        given = [field for field in ("pool", "resources") if params.get(field) is not None]
        yield from ((f"{place}.{field}", "is for tasks with an executor; this one runs no code") for field in given)
        return
    for field, problem in placement.problems(params):
        yield f"{place}.{field}", problem
