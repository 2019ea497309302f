"""Check a request against the rules of this installation: its executors and its limits."""

from collections.abc import Iterator
from itertools import islice

from django.conf import settings

from aipartnerupflow.executors import ExecutorError
from tasks.executors import disabled_executors, executor_ids, get_executor
from tasks.rules.exceptions import InvalidParams
from tasks.rules.specs import LISTED, TreeLimits, TreeSpec, parse_tree


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
    """Yield the problems that executors find in the params of their tasks."""
    for task in spec.tasks:
        try:
            if task.executor_id is not None:
                get_executor(task.executor_id).check(task.params or {})
        except ExecutorError as error:
            yield f"tasks[{task.position}].params", str(error)
