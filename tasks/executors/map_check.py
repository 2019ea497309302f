"""Check the maps of a request (`tasks.rules.maps`): their templates, and where their items come from."""

from collections import defaultdict
from collections.abc import Mapping

from tasks.rules.exceptions import InvalidDependency, InvalidTree
from tasks.rules.maps import ForEach, for_each_of, source_of, templates_of
from tasks.rules.specs import TaskSpec, TreeSpec, labels_of, name_of


def check_maps(spec: TreeSpec, names: Mapping[str, str]) -> None:
    """`names` are those of the tasks by id. Raises InvalidTree or InvalidDependency."""
    templates = templates_of(spec.tasks)
    if not templates:
        return
    maps = {task.id: task for task in spec.tasks if task.id in templates}
    settings = {map_id: for_each for map_id, task in maps.items() if (for_each := for_each_of(task.params)) is not None}
    around = defaultdict[str, list[str]](list)
    for map_id, template in templates.items():
        if problem := _fault_of(maps[map_id], template):
            raise InvalidTree(f"Task '{names[map_id]}': params.for_each {problem}.")
        for task in template:
            around[task.id].append(map_id)
    for task in spec.tasks:
        labels = {settings[map_id].label for map_id in around[task.id]}
        _check_labels(task, labels, names)
        _check_source(task, labels, names)
        _check_needs(task, around, names)


def item_labels(spec: TreeSpec) -> dict[str, set[str]]:
    """Map the id of each task of a template to the names of its items."""
    found = defaultdict[str, set[str]](set)
    by_id = {task.id: task for task in spec.tasks}
    for map_id, template in templates_of(spec.tasks).items():
        for_each = for_each_of(by_id[map_id].params)
        for task in template:
            found[task.id] |= labels_of_item(for_each)
    return found


def labels_of_item(for_each: ForEach | None) -> set[str]:
    """The names that stand for an item, and for its number."""
    return set() if for_each is None else {for_each.label, f"{for_each.label}_index"}


def _fault_of(task: TaskSpec, template: list[TaskSpec]) -> str | None:
    if task.executor_id is not None:
        return f"is for a task without an executor, whose children are the template; this one has {task.executor_id}"
    return None if template else "needs a template: give the task children, which run once for each item"


def _check_labels(task: TaskSpec, labels: set[str], names: Mapping[str, str]) -> None:
    for label in labels & labels_of(task, names):
        raise InvalidDependency(
            f"Task '{name_of(task)}': '{label}' names both an item of its map and a dependency. "
            "Give the item another name with params.for_each.as."
        )


def _check_source(task: TaskSpec, labels: set[str], names: Mapping[str, str]) -> None:
    source = source_of(task.params)
    if source is not None and source not in labels_of(task, names) | labels:
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
                    f"Task '{name_of(task)}' depends on '{names[need.id]}', which runs once for each item of "
                    f"'{names[map_id]}'. Depend on '{names[map_id]}': its result is the list of their results."
                )
