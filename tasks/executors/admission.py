"""Check a request against the rules of this installation: its executors and its limits."""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

from django.conf import settings

from aipartnerupflow.executors import ExecutorError
from tasks.executors import disabled_executors, executor_ids, get_executor, placement
from tasks.rules.exceptions import InvalidParams
from tasks.rules.places import places_in, source_of
from tasks.rules.specs import LISTED, TaskSpec, TreeLimits, TreeSpec, name_of, parse_tree

NO_DEPENDENCY: Final = (
    "'{{{{{path}}}}}' stands for a result of task '{source}', which is no dependency of this task. "
    "Add '{source}' to its dependencies, or write four braces for two that stay."
)


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
    """Yield what no pool offers, what executors refuse, and places that name a task on which theirs does not depend."""
    sources = Counter(map(name_of, spec.tasks))
    for task in spec.tasks:
        if task.params:
            yield from _misplaced(task)
        if task.inputs:
            yield from _without_dependency(task, sources, spec)
        try:
            if task.executor_id is not None:
                get_executor(task.executor_id).check_with_inputs(task.params or {}, task.inputs)
        except ExecutorError as error:
            yield f"tasks[{task.position}].params", str(error)


def _without_dependency(task: TaskSpec, sources: Mapping[str, int], spec: TreeSpec) -> Iterator[tuple[str, str]]:
    verbatim = get_executor(task.executor_id).verbatim if task.executor_id is not None else ()
    found = [
        place
        for name, value in task.inputs.items()
        if name not in verbatim
        for place in places_in(value, f"tasks[{task.position}].inputs.{name}")
    ]
    if not found:
        return
    needed = {item.id for item in task.dependencies}
    known = {name_of(each) for each in spec.tasks if each.id in needed} | task.inputs.keys()
    for place, path in found:
        source = source_of(path)
        if source in sources and source not in known:
            yield place, NO_DEPENDENCY.format(path=path, source=source)
        elif sources.get(source, 0) > 1:
            yield (
                place,
                f"'{source}' is the name of {sources[source]} tasks. Give them ids, and write the id of one of them.",
            )


def _misplaced(task: TaskSpec) -> Iterator[tuple[str, str]]:
    params = task.params or {}
    place = f"tasks[{task.position}].params"
    if task.executor_id is None:
        given = [field for field in ("pool", "resources") if params.get(field) is not None]
        yield from ((f"{place}.{field}", "is for tasks with an executor; this one runs no code") for field in given)
        return
    for field, problem in placement.problems(params):
        yield f"{place}.{field}", problem
