"""The parts of maps, loops and spawners, in trees as the server replies with them. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

Json = Mapping[str, Any]
MANY: Final = 12
"""A map, loop or spawner with more parts is shown as one line."""
URGENT: Final = ("failed", "cancelled", "in_progress")
NOT_RUN: Final = "not_run"
"""The status, for people, of a task that never ran because a dependency failed. In replies it has failed, with `not_run`."""
ENDED: Final = ("completed", "failed", "handled", NOT_RUN, "cancelled", "skipped")
HANDLED: Final = "handled"
"""The status, for people, of a task that failed without failing its run: the task that started it copes with that."""
TROUBLES: Final = {"failed": "failed", NOT_RUN: "not run"}
OPEN_OR_DONE: Final = ("pending", "in_progress", "completed")
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
        return [status_of({known.get(task["id"]) or shown_status(task) for task in part}) for part in self.parts]

    @property
    def failed(self) -> list[Json]:
        """The tasks that failed, without those that did not run because of another one."""
        return [task for part in self.parts for task in part if shown_status(task) == "failed"]

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
        elif (now or {}).get(self.task["id"], shown_status(self.task)) in ENDED:
            state = counted(number, "round")
        else:
            state = f"round {number:,} of {self.most:,}"
        return f"{state}, {counts['failed']:,} failed" if counts["failed"] else state


def shown_status(task: Json) -> str:
    """Return the status of a task, or of an event of one, for people."""
    if task.get("not_run"):
        return NOT_RUN
    copes = task["status"] == "failed" and bool((task.get("params") or {}).get("allow_failure"))
    return HANDLED if copes else task["status"]


def statuses_of(root: Json, now: Mapping[str, str] | None = None) -> dict[str, str]:
    """Map the id of each task to its status for people. `now` has the statuses of some, if known better."""
    found: dict[str, str] = {}
    collecting = set[str]()  # the ids of tasks in maps that collect failures
    for task in walk(root):
        params = task.get("params") or {}
        if task["id"] in collecting or (params.get("for_each") or {}).get("on_failure") == "collect":
            collecting.update(child["id"] for child in task.get("children") or ())
        status = (now or {}).get(task["id"]) or shown_status(task)
        found[task["id"]] = HANDLED if status == "failed" and task["id"] in collecting else status
    return found


def looks(root: Json, now: Mapping[str, str] | None = None) -> dict[str, str]:
    """Map the id of each task to the status that a tree shows: a root has that of its run, and a group that of its children."""
    tasks = list(walk(root))
    parents = {child["id"]: task["id"] for task in tasks for child in task.get("children") or ()}
    groups = [task["id"] for task in tasks if is_group(task) and growth_of(task) is None]
    found = with_groups(statuses_of(root, now), parents, groups)
    return found | ({root["id"]: root["run_status"]} if root.get("run_status") else {})


def with_groups(
    statuses: Mapping[str, str], parents: Mapping[str, str | None], groups: Iterable[str]
) -> dict[str, str]:
    """Return the statuses, all by the id of the task, with those of groups by their children. `tree.js` has the same."""
    found = dict(statuses)
    shown = {task_id for task_id in groups if statuses[task_id] in OPEN_OR_DONE}
    below: dict[str, list[str]] = {}
    for task_id, parent in parents.items():
        if parent in shown:
            below.setdefault(parent, []).append(task_id)

    def depth(task_id: str | None) -> int:
        count = 0
        while (task_id := parents.get(task_id or "")) is not None:
            count += 1
        return count

    for task_id in sorted(below, key=depth, reverse=True):
        own = set() if found[task_id] == "completed" else {found[task_id]}
        found[task_id] = status_of(own | {found[each] for each in below[task_id]})
    return found


def is_group(task: Json) -> bool:
    """Return whether the task runs no code."""
    return not (task.get("schemas") or {}).get("method") and not (task.get("params") or {}).get("executor_id")


def troubles(root: Json) -> str:
    """Count the tasks that failed and those that were not run, such as `1 failed, 5 not run`. Empty if there are none."""
    found = Counter(statuses_of(root).values())
    return ", ".join(f"{found[each]:,} {words}" for each, words in TROUBLES.items() if found[each])


def growth_of(task: Json) -> Growth | None:
    """Return the parts of a task with nested `children`. None if it is no map or loop and has added no tasks."""
    children: Sequence[Json] = task.get("children") or ()
    added = [child for child in children if child.get("spawned_by") == task["id"]]
    params = task.get("params") or {}
    template = [child for child in children if child.get("spawned_by") != task["id"]] if is_group(task) else []
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
    return [child for child in children if any(shown_status(each) == "failed" for each in walk(child))]


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


def status_of(statuses: set[str]) -> str:
    """Return the status of several tasks together. `boxes.js` has the same."""
    for status in URGENT:
        if status in statuses:
            return status
    if "pending" in statuses:
        return "pending" if len(statuses) == 1 else "in_progress"
    if NOT_RUN in statuses:
        return NOT_RUN
    return "skipped" if statuses == {"skipped"} else "completed"
