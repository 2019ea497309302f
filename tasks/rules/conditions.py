"""Conditions: `params.when` decides by results of dependencies whether a task runs. Pure.

A condition is `{"task": id, "path": "/score", "op": "ge", "value": 0.5}`, or `{"all": […]}`,
`{"any": […]}` or `{"not": …}` of conditions; all of none are true, and any of none is not. `path` is a JSON Pointer (RFC 6901) into the result of
the task; "" is the whole result. A dependency without a result has no value at any path.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from operator import ge, gt, le, lt
from typing import Any, Final

from tasks.rules.strict_json import Json

DEEPEST: Final = 10
"""The number of conditions that may be inside each other."""
MOST: Final = 100
"""The number of conditions that a task may have."""
ABSENT: Final = object()
ALWAYS: Final[Json] = {"all": []}
NEVER: Final[Json] = {"any": []}
EMPTY: Final[tuple[Any, ...]] = (None, "", [], {})

MOST_COMPARED: Final = 100_000
"""The number of values of lists and objects that the conditions of a task may look through together."""
CHARACTERS: Final = 1_000
"""The characters of a text that cost as much as one value to look through."""
TOO_MUCH: Final = (
    f"params.when looks through more than {MOST_COMPARED:,} values. Let transform_executor pick what it needs to know."
)

Test = Callable[[Any, Any], bool]
Problem = tuple[str, str]


class TooMuchToCompare(Exception):
    """A condition would look through too many values."""

    def __init__(self) -> None:
        super().__init__(TOO_MUCH)


def holds(condition: Json, results: Mapping[str, Any]) -> bool:
    """Return whether the condition is true of the results, which are by the ids of the tasks. Raises TooMuchToCompare."""
    return _Judge(results).holds(condition)


class _Judge:
    """Evaluates the conditions of one task."""

    def __init__(self, results: Mapping[str, Any]) -> None:
        self._results = results
        self._compared = 0

    def holds(self, condition: Json) -> bool:
        if "all" in condition:
            return all(map(self.holds, condition["all"]))
        if "any" in condition:
            return any(map(self.holds, condition["any"]))
        if "not" in condition:
            return not self.holds(condition["not"])
        found = value_at(condition.get("path", ""), self._results.get(condition["task"], ABSENT))
        value = condition.get("value")
        self._count(condition["op"], found, value)
        return OPERATORS[condition["op"]](found, value)

    def _count(self, operator: str, found: Any, value: Any) -> None:
        """Count the values that are looked through: those of a list, and each time those inside the other operand."""
        if operator == "contains" and isinstance(found, str):
            self._compared += len(found) // CHARACTERS
        times = len(found) if operator == "contains" and isinstance(found, list) else 1
        waiting = [value]
        while waiting:
            self._compared += times
            if self._compared > MOST_COMPARED:
                raise TooMuchToCompare
            each = waiting.pop()
            if isinstance(each, list | dict):
                waiting += each.values() if isinstance(each, dict) else each


def value_at(pointer: str, value: Any) -> Any:
    """Return the value at a JSON Pointer, or ABSENT."""
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(name, ABSENT)
        elif isinstance(value, list) and is_index(name) and int(name) < len(value):
            value = value[int(name)]
        else:
            return ABSENT
    return value


def is_index(name: str) -> bool:
    """Return whether the part of a path may be the index of a list. Python refuses to read a number of thousands of digits."""
    return name.isdecimal() and len(name) < 20


def tasks_in(condition: Json) -> Iterator[str]:
    """Yield the id of each task that the condition asks about."""
    waiting = [condition]
    while waiting:
        each = waiting.pop()
        if "task" in each:
            yield each["task"]
        waiting += [part for part, _ in parts_of(each, "") if isinstance(part, dict)]


def renamed(condition: Json, ids: Mapping[str, str]) -> Json:
    """Return the condition with other ids of tasks."""
    if "task" in condition:
        return condition | {"task": ids.get(condition["task"], condition["task"])}
    if "not" in condition:
        return {"not": renamed(condition["not"], ids)}
    return {name: [renamed(each, ids) for each in parts] for name, parts in condition.items()}


def about(condition: Any, task: str, depth: int = 1) -> Any:
    """Return a condition without tasks with the one that its comparisons are about."""
    if not isinstance(condition, dict) or depth > DEEPEST:
        return condition
    if "not" in condition:
        return condition | {"not": about(condition["not"], task, depth + 1)}
    for name in ("all", "any"):
        if isinstance(condition.get(name), list):
            return condition | {name: [about(part, task, depth + 1) for part in condition[name]]}
    return condition if "task" in condition else condition | {"task": task}


def naming_tasks(condition: Any, path: str, depth: int = 1) -> Iterator[str]:
    """Yield the place of each task that is named in a condition that is to have none."""
    if not isinstance(condition, dict) or depth > DEEPEST:
        return
    if "task" in condition:
        yield f"{path}.task"
    for part, place in parts_of(condition, path):
        yield from naming_tasks(part, place, depth + 1)


def decided(condition: Json, results: Mapping[str, Any], *, gone: Collection[str]) -> Json:
    """Return the condition with what it asks about the tasks that are `gone` decided by the results.

    Raises TooMuchToCompare.
    """
    if "task" in condition:
        return condition if condition["task"] not in gone else ALWAYS if holds(condition, results) else NEVER
    if "not" in condition:
        return {"not": decided(condition["not"], results, gone=gone)}
    return {name: [decided(each, results, gone=gone) for each in parts] for name, parts in condition.items()}


def described(condition: Json) -> str:
    """Return the condition in words, without its values, which may be secret."""
    if condition in (ALWAYS, NEVER):
        return "always" if condition == ALWAYS else "never"
    for name, word in (("all", " and "), ("any", " or ")):
        if name in condition:
            return word.join(f"({described(each)})" for each in condition[name])
    if "not" in condition:
        return f"not ({described(condition['not'])})"
    place = f"{condition.get('path', '')} of " if condition.get("path") else ""
    return f"{place}'{condition['task']}' {WORDS[condition['op']]}"


def problems(condition: object, path: str) -> Iterator[Problem]:
    """Yield what is wrong with the shape of a condition."""
    counted = 0
    waiting: list[tuple[object, str, int]] = [(condition, path, 1)]
    while waiting:
        each, place, depth = waiting.pop()
        counted += 1
        if depth > DEEPEST or counted > MOST:
            yield path, f"has more than {MOST} conditions, or more than {DEEPEST} inside each other"
            return
        if not isinstance(each, dict):
            yield place, "must be an object: a condition"
        elif len(kinds := each.keys() & {"all", "any", "not", "task"}) != 1:
            yield place, "must have exactly one of 'task', 'all', 'any' and 'not'"
        elif "task" in kinds:
            yield from _comparison_problems(each, place)
        elif surplus := sorted(each.keys() - kinds):
            yield f"{place}.{surplus[0]}", f"is not known beside '{kinds.pop()}'"
        else:
            for name in ("all", "any"):
                if name in each and not isinstance(each[name], list):
                    yield f"{place}.{name}", "must be a list of conditions"
            waiting += [(part, where, depth + 1) for part, where in parts_of(each, place)]


def parts_of(condition: Json, place: str) -> Iterator[tuple[object, str]]:
    """Yield the conditions right inside this one, each with its place."""
    if "not" in condition:
        yield condition["not"], f"{place}.not"
    for name in ("all", "any"):
        if isinstance(parts := condition.get(name), list):
            yield from ((part, f"{place}.{name}[{index}]") for index, part in enumerate(parts))


def _comparison_problems(condition: Json, place: str) -> Iterator[Problem]:
    if surplus := sorted(condition.keys() - {"task", "path", "op", "value"}):
        yield f"{place}.{surplus[0]}", "is not known; a condition has task, path, op and value"
    if not isinstance(condition["task"], str):
        yield f"{place}.task", "must be the id of a dependency"
    pointer = condition.get("path", "")
    if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
        yield f"{place}.path", "must be a JSON Pointer, such as /score, or absent for the whole result"
    operator = condition.get("op")
    if not isinstance(operator, str) or operator not in OPERATORS:
        yield f"{place}.op", f"must be one of {', '.join(OPERATORS)}"
    elif operator in UNARY and "value" in condition:
        yield f"{place}.value", f"is not known beside the op '{operator}'"
    elif operator not in UNARY and "value" not in condition:
        yield f"{place}.value", "is required"
    elif operator == "in" and not isinstance(condition["value"], list):
        yield f"{place}.value", "must be a list"


def is_equal(found: Any, value: Any) -> bool:
    """Return whether two values are equal as JSON: true is not 1, but 1.0 is."""
    return bool(found == value) and isinstance(found, bool) == isinstance(value, bool)


def _ordered(compare: Test) -> Test:
    """Return a comparison of two numbers or two texts; of anything else it is false."""

    def test(found: Any, value: Any) -> bool:
        are_numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (found, value))
        are_texts = isinstance(found, str) and isinstance(value, str)
        return (are_numbers or are_texts) and compare(found, value)

    return test


def _contains(found: Any, value: Any) -> bool:
    if isinstance(found, str):
        return isinstance(value, str) and value in found
    return isinstance(found, list | dict) and _is_among(value, found)


def _is_among(value: Any, values: list[Any] | dict[str, Any]) -> bool:
    if isinstance(values, dict):
        return isinstance(value, str) and value in values
    return value in values and any(
        is_equal(each, value) for each in values
    )  # the first is quick, and knows no booleans


OPERATORS: Final[Mapping[str, Test]] = {
    "eq": is_equal,
    "ne": lambda found, value: found is not ABSENT and not is_equal(found, value),
    "lt": _ordered(lt),
    "le": _ordered(le),
    "gt": _ordered(gt),
    "ge": _ordered(ge),
    "in": lambda found, value: found is not ABSENT and _is_among(found, value),
    "contains": _contains,
    "exists": lambda found, _: found is not ABSENT,
    "empty": lambda found, _: found is ABSENT or any(is_equal(found, each) for each in EMPTY),
}
UNARY: Final = ("exists", "empty")
WORDS: Final[Mapping[str, str]] = {
    "eq": "equals the value",
    "ne": "differs from the value",
    "lt": "is below the value",
    "le": "is at most the value",
    "gt": "is above the value",
    "ge": "is at least the value",
    "in": "is one of the values",
    "contains": "contains the value",
    "exists": "exists",
    "empty": "is empty",
}
