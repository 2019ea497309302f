"""Rounds: `params.repeat` runs a task, or the children of a group, again until a condition about the result is true. Pure.

`{"until": condition, "max": 20, "delay_seconds": 0, "first": value, "on_max": "fail" or "complete"}`; all but `until`
are optional. The conditions are those of `params.when`, without `task`: they are about the result of the latest round.

And the names of the values that maps and loops give to the places of what they run: items and their numbers, results
and rounds.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tasks.rules import conditions
from tasks.rules.maps import MappedTask, for_each_of
from tasks.rules.strict_json import Json

LAST: Final = "last"
"""The name of the result of the round before."""
ROUND: Final = "round"
"""The name of the number of the round, from 1."""
LABELS: Final = frozenset({LAST, ROUND})
MOST_ROUNDS: Final = 10_000
MOST_SECONDS: Final = 86_400 * 30
FIELDS: Final = ("until", "max", "delay_seconds", "first", "on_max")

Problem = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """The settings of a loop. `first` is what the first round has in place of a result."""

    until: Json
    most: int
    delay_seconds: float
    first: Any
    completes_at_most: bool


def repeat_of(params: Mapping[str, Any] | None) -> Repeat | None:
    """Read `params.repeat`, which has been checked; None if there is none."""
    given = (params or {}).get("repeat")
    if given is None:
        return None
    return Repeat(
        until=conditions.about(given["until"], LAST),
        most=int(given.get("max", 20)),
        delay_seconds=given.get("delay_seconds", 0),
        first=given.get("first"),
        completes_at_most=given.get("on_max") == "complete",
    )


def is_enough(repeat: Repeat, result: Any) -> bool:
    """Return whether the result of a round ends the loop. Raises TooMuchToCompare."""
    return conditions.holds(repeat.until, {LAST: result})


def described(repeat: Repeat) -> str:
    """Return the condition in words."""
    return conditions.described(repeat.until).replace(f"'{LAST}'", "the result")


def problems(value: object, path: str) -> Iterator[Problem]:
    """Yield what is wrong with the shape of `params.repeat`."""
    if not isinstance(value, dict):
        yield path, "must be an object with 'until'"
        return
    for field in sorted(value.keys() - set(FIELDS)):
        yield f"{path}.{field[:255]}", f"is not known; a loop has {', '.join(FIELDS)}"
    if "until" not in value:
        yield (
            f"{path}.until",
            'is required: a condition about the result, such as {"path": "/done", "op": "eq", "value": true}',
        )
    elif not isinstance(until := value["until"], dict):
        yield f"{path}.until", "must be an object: a condition"
    else:
        for field in conditions.naming_tasks(until, f"{path}.until"):
            yield field, "is not known here: the condition is about the result of the task itself"
        yield from conditions.problems(conditions.about(until, LAST), f"{path}.until")
    if not _is_number(value.get("max", 1), 1, MOST_ROUNDS) or value.get("max", 1) % 1:
        yield f"{path}.max", f"must be an integer from 1 to {MOST_ROUNDS:,}"
    if not _is_number(value.get("delay_seconds", 0), 0, MOST_SECONDS):
        yield f"{path}.delay_seconds", f"must be a number from 0 to {MOST_SECONDS:,}"
    if value.get("on_max", "fail") not in ("fail", "complete"):
        yield f"{path}.on_max", "must be 'fail' or 'complete'"


def _is_number(value: object, low: int, high: int) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


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
