"""Spawned tasks: `params.spawn` of a task runs the tasks that are found in its result. Pure.

`{"path": "/json/tasks", "join": true, "max_tasks": 100, "executors": [ids], "secrets": [names]}`; all are optional.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

WRAPPER: Final = "$spawn"
"""A result may have its tasks under this name."""
MOST_TASKS: Final = 10_000
MOST_NAMES: Final = 100
FIELDS: Final = ("path", "join", "max_tasks", "executors", "secrets")

Problem = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnSettings:
    """The place of the tasks in the result, and their limits. Without `executors`, all that the server has."""

    path: str
    join: bool
    max_tasks: int
    executors: tuple[str, ...] | None
    secrets: tuple[str, ...]


def settings_of(params: Mapping[str, Any] | None) -> SpawnSettings | None:
    """Read `params.spawn`, which has been checked; None if there is none."""
    given = (params or {}).get("spawn")
    if given is None:
        return None
    executors = given.get("executors")
    return SpawnSettings(
        path=given.get("path", ""),
        join=given.get("join", True),
        max_tasks=int(given.get("max_tasks", 100)),
        executors=None if executors is None else tuple(executors),
        secrets=tuple(given.get("secrets", ())),
    )


def problems(value: object, path: str) -> Iterator[Problem]:
    """Yield what is wrong with the shape of `params.spawn`."""
    if not isinstance(value, dict):
        yield path, 'must be an object, such as {} or {"path": "/json/tasks"}'
        return
    for field in sorted(value.keys() - set(FIELDS)):
        yield f"{path}.{field[:255]}", f"is not known; known are {', '.join(FIELDS)}"
    pointer = value.get("path", "")
    if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
        yield f"{path}.path", "must be a JSON Pointer, such as /json/tasks, or absent for the whole result"
    if not isinstance(value.get("join", True), bool):
        yield f"{path}.join", "must be true or false"
    number = value.get("max_tasks", 1)
    is_number = isinstance(number, int | float) and not isinstance(number, bool) and number == int(number)
    if not is_number or not 1 <= number <= MOST_TASKS:
        yield f"{path}.max_tasks", f"must be an integer from 1 to {MOST_TASKS:,}"
    yield from _list_problems(value.get("executors", []), f"{path}.executors", "ids of executors")
    yield from _list_problems(value.get("secrets", []), f"{path}.secrets", "names of secrets")


def _list_problems(names: object, path: str, kind: str) -> Iterator[Problem]:
    if not isinstance(names, list) or not all(isinstance(each, str) and 0 < len(each) <= 255 for each in names):
        yield path, f"must be a list of {kind}"
    elif len(names) > MOST_NAMES:
        yield path, f"has more than {MOST_NAMES} {kind}"
