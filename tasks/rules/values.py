"""The names of the values that maps and loops give to the places of what they run: items and their numbers, results and rounds. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from tasks.rules.maps import MappedTask, for_each_of
from tasks.rules.rounds import LABELS, repeat_of


def given_below(params: Mapping[str, Any] | None) -> frozenset[str]:
    """Return the names that a map or a group that repeats gives to its template; none for any other task."""
    if (for_each := for_each_of(params)) is not None:
        return frozenset({for_each.label, f"{for_each.label}_index"})
    return LABELS if repeat_of(params) is not None else frozenset()


def given_to_itself(task: MappedTask) -> frozenset[str]:
    """Return the names that a task with an executor has for its own rounds."""
    repeats = task.executor_id is not None and repeat_of(task.params) is not None
    return LABELS if repeats else frozenset()


def given_inside(template: Iterable[MappedTask]) -> dict[str, frozenset[str]]:
    """Map the id of each task of a template to the names that maps and loops inside the template give to it.

    They hide the same names of the values of the whole template.
    """
    by_id = {task.id: task for task in template}
    found = {}
    for task in by_id.values():
        names, above = given_to_itself(task), by_id.get(task.parent_id or "")
        while above is not None:
            names |= given_below(above.params) if above.executor_id is None else frozenset()
            above = by_id.get(above.parent_id or "")
        found[task.id] = names
    return found
