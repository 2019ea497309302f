"""The parts of maps, loops and spawners, in trees as the server replies with them. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

Json = Mapping[str, Any]
MANY: Final = 12
"""A map, loop or spawner with more parts is shown as one line."""
URGENT: Final = ("failed", "cancelled", "in_progress")
ENDED: Final = ("completed", "failed", "cancelled", "skipped")
NOUNS: Final = {"map": "item", "loop": "round", "spawner": "task"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """`parts` are the items of a map, the rounds of a loop or the tasks of a spawner, each with all below it.

    `template` are the children of a map or loop that run only as copies; `most` is the limit of a loop.
    """

    task: Json
    kind: Literal["map", "loop", "spawner"]
    parts: list[list[Json]]
    template: Sequence[Json]
    most: int = 0

    def statuses(self, now: Mapping[str, str] | None = None) -> list[str]:
        """Return the status of each part, as the dashboard counts it. `now` has the statuses of tasks by id, if known better."""
        known = now or {}
        return [_status_of({known.get(task["id"], task["status"]) for task in part}) for part in self.parts]

    @property
    def failed(self) -> list[Json]:
        """The tasks that failed, without those that did not run because of another one."""
        return [task for part in self.parts for task in part if task["status"] == "failed" and task["started_at"]]

    @property
    def has_many(self) -> bool:
        return len(self.parts) > MANY

    def summary(self, now: Mapping[str, str] | None = None) -> str:
        """Return how far it is, such as `7 of 10 items, 1 failed`. `now` is as in `statuses`."""
        counts = Counter(self.statuses(now))
        number = len(self.parts)
        if not number:
            state: str = self.kind
        elif self.kind != "loop":
            state = f"{sum(counts[status] for status in ENDED):,} of {counted(number, NOUNS[self.kind])}"
        elif (now or {}).get(self.task["id"], self.task["status"]) in ENDED:
            state = counted(number, "round")
        else:
            state = f"round {number:,} of {self.most:,}"
        return f"{state}, {counts['failed']:,} failed" if counts["failed"] else state


def growth_of(task: Json) -> Growth | None:
    """Return the parts of a task with nested `children`. None if it is no map or loop and has added no tasks."""
    children: Sequence[Json] = task.get("children") or ()
    added = [child for child in children if child.get("spawned_by") == task["id"]]
    params = task.get("params") or {}
    is_group = not (task.get("schemas") or {}).get("method") and not params.get("executor_id")
    template = [child for child in children if child.get("spawned_by") != task["id"]] if is_group else []
    if "for_each" in params:
        return Growth(task=task, kind="map", parts=_parts(added, len(template)), template=template)
    if "repeat" in params:
        most = params["repeat"].get("max", 20)
        return Growth(task=task, kind="loop", parts=_parts(added, len(template)), template=template, most=most)
    if not added:
        return None
    return Growth(task=task, kind="spawner", parts=[[each] for child in added for each in walk(child)], template=())


def walk(task: Json) -> Iterator[Json]:
    """Yield the task and all below it, parents first."""
    queue = [task]
    while queue:
        each = queue.pop()
        yield each
        queue += reversed(each.get("children") or ())


def template_ids(root: Json) -> set[str]:
    """Return the ids of all tasks in the tree that run only as copies."""
    growths = filter(None, map(growth_of, walk(root)))
    return {each["id"] for growth in growths for child in growth.template for each in walk(child)}


def shown_children(task: Json) -> Sequence[Json]:
    """Return the children that a tree on a terminal has below the task.

    A task with many parts shows only those with failures; a template that has copies shows nothing.
    """
    children = with_copies(task)
    growth = growth_of(task)
    if growth is None or not growth.has_many:
        return children
    return [child for child in children if any(each["status"] == "failed" for each in walk(child))]


def with_copies(task: Json) -> Sequence[Json]:
    """Return the children without the template of a map or loop that has copies."""
    children: Sequence[Json] = task.get("children") or ()
    growth = growth_of(task)
    if growth is None or not growth.parts or not growth.template:
        return children
    return [child for child in children if child.get("spawned_by") == task["id"]]


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: 1 item, 10 items."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _parts(added: Sequence[Json], size: int) -> list[list[Json]]:
    """Each part has as many children as the template, in the same order."""
    size = max(1, size)
    starts = range(0, len(added), size)
    return [[each for child in added[start : start + size] for each in walk(child)] for start in starts]


def _status_of(statuses: set[str]) -> str:
    for status in URGENT:
        if status in statuses:
            return status
    if "pending" in statuses:
        return "pending" if len(statuses) == 1 else "in_progress"
    return "completed" if "completed" in statuses else "skipped"
