"""Maps: `params.for_each` of a group runs its children, the template, once for each item of a list. Pure.

`{"items": [..] or {"task": id, "path": "/urls"}, "as": "item", "max_parallel": 10, "max_items": 1000,
"on_failure": "fail" or "collect"}`; all but `items` are optional.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from tasks.rules.conditions import ABSENT, value_at
from tasks.rules.places import RUN
from tasks.rules.templates import LABEL

MOST_ITEMS: Final = 100_000
FIELDS: Final = ("items", "as", "max_parallel", "max_items", "on_failure")
NO_LIST: Final = (
    "The items of this map are no list: {what} of '{task}'. Correct params.for_each.items, or what that task returns."
)
NO_LIST_IN_INPUTS: Final = (
    "The items of this map are no list: what is at '{path}' in the inputs of the run. Give the run this list with run_inputs, "
    "or correct params.for_each.items."
)
TOO_MANY: Final = "The list has {count:,} items, more than the {most:,} of params.for_each.max_items."

Problem = tuple[str, str]


class CannotMap(Exception):
    """The items are no list, or too many. The message says what to do."""


class MappedTask(Protocol):
    """The attributes of a task that are read here."""

    @property
    def id(self) -> str: ...

    @property
    def parent_id(self) -> str | None: ...

    @property
    def executor_id(self) -> str | None: ...

    @property
    def spawned_by(self) -> str | None: ...

    @property
    def params(self) -> Mapping[str, Any] | None: ...


T = TypeVar("T", bound=MappedTask)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForEach:
    """The settings of a map. `label` is what `as` says."""

    items: Any
    label: str
    max_parallel: int
    max_items: int
    collects: bool


def for_each_of(params: Mapping[str, Any] | None) -> ForEach | None:
    """Read `params.for_each`, which has been checked; None if there is none."""
    given = (params or {}).get("for_each")
    if given is None:
        return None
    return ForEach(
        items=given["items"],
        label=given.get("as", "item"),
        max_parallel=int(given.get("max_parallel", 10)),
        max_items=int(given.get("max_items", 1000)),
        collects=given.get("on_failure") == "collect",
    )


def items_of(for_each: ForEach, results: Mapping[str, Any]) -> list[Any]:
    """Return the items. `results` are those of the dependencies, by label. Raises CannotMap."""
    items = for_each.items
    if isinstance(items, dict):
        path = items.get("path", "")
        items = value_at(path, results.get(items["task"], ABSENT))
        if not isinstance(items, list):
            source = for_each.items["task"]
            if source == RUN:
                raise CannotMap(NO_LIST_IN_INPUTS.format(path=path.removeprefix("/inputs")))
            what = f"what is at '{path}' in the result" if path else "the result"
            raise CannotMap(NO_LIST.format(what=what, task=source))
    if len(items) > for_each.max_items:
        raise CannotMap(TOO_MANY.format(count=len(items), most=for_each.max_items))
    return list(items)


def source_of(params: Mapping[str, Any] | None) -> str | None:
    """Return the label of the dependency whose result has the items; None if they are given, or if there is no map."""
    for_each = for_each_of(params)
    return for_each.items["task"] if for_each is not None and isinstance(for_each.items, dict) else None


def templates_of(tasks: Iterable[T]) -> dict[str, list[T]]:
    """Map the id of each map, and of each group that repeats, to the tasks of its template, in the order of the tasks.

    They never run themselves. The template of a map inside a template belongs to both.
    """
    tasks = list(tasks)
    maps = [
        task.id
        for task in tasks
        if task.params and ("for_each" in task.params or ("repeat" in task.params and task.executor_id is None))
    ]
    if not maps:
        return {}
    children: dict[str | None, list[T]] = {}
    for task in tasks:
        children.setdefault(task.parent_id, []).append(task)
    order = {task.id: number for number, task in enumerate(tasks)}
    templates = {}
    for map_id in maps:
        found = [task for task in children.get(map_id, ()) if task.spawned_by != map_id]
        for task in found:
            found += children.get(task.id, ())
        templates[map_id] = sorted(found, key=lambda task: order[task.id])
    return templates


def problems(value: object, path: str) -> Iterator[Problem]:
    """Yield what is wrong with the shape of `params.for_each`."""
    if not isinstance(value, dict):
        yield path, "must be an object with 'items'"
        return
    for field in sorted(value.keys() - set(FIELDS)):
        yield f"{path}.{field[:255]}", f"is not known; a map has {', '.join(FIELDS)}"
    if "items" not in value:
        yield f"{path}.items", "is required"
    else:
        yield from _item_problems(value["items"], f"{path}.items")
    if not (isinstance(label := value.get("as", "item"), str) and LABEL.fullmatch(label)):
        yield f"{path}.as", "must be a name of 1 to 255 letters, digits, '_' and '-'"
    for field in ("max_parallel", "max_items"):
        number = value.get(field, 1)
        is_one = isinstance(number, int | float) and not isinstance(number, bool) and number == int(number)
        if not is_one or not 1 <= number <= MOST_ITEMS:
            yield f"{path}.{field}", f"must be an integer from 1 to {MOST_ITEMS:,}"
    if value.get("on_failure", "fail") not in ("fail", "collect"):
        yield f"{path}.on_failure", "must be 'fail' or 'collect'"


def _item_problems(items: object, path: str) -> Iterator[Problem]:
    if isinstance(items, list):
        return
    if not isinstance(items, dict):
        yield path, 'must be a list, or where one is: {"task": id, "path": "/urls"}'
        return
    for field in sorted(items.keys() - {"task", "path"}):
        yield f"{path}.{field[:255]}", "is not known; items have task and path"
    if not isinstance(items.get("task"), str):
        yield f"{path}.task", "must be the id of a dependency"
    pointer = items.get("path", "")
    if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
        yield f"{path}.path", "must be a JSON Pointer, such as /urls, or absent for the whole result"
