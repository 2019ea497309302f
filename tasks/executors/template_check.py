"""Check the maps and loops of a request (`tasks.rules.maps`, `tasks.rules.rounds`): their templates, and what they name."""

from collections import defaultdict
from collections.abc import Mapping

from tasks.rules.exceptions import InvalidDependency, InvalidTree
from tasks.rules.maps import source_of, templates_of
from tasks.rules.places import RUN
from tasks.rules.specs import TaskSpec, TreeSpec, labels_of, name_of
from tasks.rules.values import given_below, given_to_itself


def check_templates(spec: TreeSpec, names: Mapping[str, str]) -> None:
    """`names` are those of the tasks by id. Raises InvalidTree or InvalidDependency."""
    templates = templates_of(spec.tasks)
    around = defaultdict[str, list[str]](list)
    for map_id, template in templates.items():
        for task in template:
            around[task.id].append(map_id)
    values = value_labels(spec)
    for task in spec.tasks:
        if problem := _fault_of(task, templates.get(task.id, [])):
            raise InvalidTree(f"Task '{names[task.id]}': {problem}.")
        labels = values.get(task.id, set())
        _check_labels(task, labels, names)
        _check_source(task, labels, names)
        _check_needs(task, around, names)


def value_labels(spec: TreeSpec) -> dict[str, set[str]]:
    """Map the id of each task of a template, or that repeats, to the names of the values that its places may use."""
    found = defaultdict[str, set[str]](set)
    by_id = {task.id: task for task in spec.tasks}
    for task in spec.tasks:
        if names := given_to_itself(task):
            found[task.id] |= names
    for map_id, template in templates_of(spec.tasks).items():
        for task in template:
            found[task.id] |= given_below(by_id[map_id].params)
    return found


def _fault_of(task: TaskSpec, template: list[TaskSpec]) -> str | None:
    params = task.params or {}
    if "for_each" not in params and "repeat" not in params:
        return None
    if "for_each" in params and "repeat" in params:
        return "params.for_each and params.repeat cannot be on the same task; put one into the template of the other"
    if task.executor_id is None:
        needs = f"params.{'for_each' if 'for_each' in params else 'repeat'} needs a template: give the task children"
        return None if template else needs
    if "for_each" in params:
        return f"params.for_each is for a task without an executor, whose children are the template; this one has {task.executor_id}"
    return "params.repeat and params.spawn cannot be on the same task" if "spawn" in params else None


def _check_labels(task: TaskSpec, labels: set[str], names: Mapping[str, str]) -> None:
    for label in labels & labels_of(task, names):
        raise InvalidDependency(
            f"Task '{name_of(task)}': '{label}' is the name of a dependency, and of a value of its map or loop. "
            'Give one of them another name with "as".'
        )


def _check_source(task: TaskSpec, labels: set[str], names: Mapping[str, str]) -> None:
    source = source_of(task.params)
    if source is not None and source not in {RUN, *labels_of(task, names), *labels}:
        raise InvalidDependency(
            f"Task '{name_of(task)}': params.for_each takes its items from '{source}', which is no dependency of the "
            "task. Add it to the dependencies."
        )


def _check_needs(task: TaskSpec, around: Mapping[str, list[str]], names: Mapping[str, str]) -> None:
    """Refuse a dependency on a part of a template from outside."""
    own = {*around.get(task.id, ())}
    for need in task.dependencies:
        for map_id in around.get(need.id, ()):
            if map_id not in own:
                raise InvalidDependency(
                    f"Task '{name_of(task)}' depends on '{names[need.id]}', which only runs as copies for "
                    f"'{names[map_id]}'. Depend on '{names[map_id]}': its result has theirs."
                )
