"""Steps: a task adds tasks to its tree, and is called again with how they ended (`Spawn` with `again`). Pure.

The latest step of a task is stored with it, in the transaction that adds the tasks of the step.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tasks.rules.interrupts import INTERRUPTED
from tasks.rules.strict_json import Json
from tasks.status import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The latest step of a task: its number, from 1, and how many tasks it added.

    `again`: the executor is called again with `memo`. `usage` is the token usage of the task until then.
    """

    number: int
    tasks: int
    again: bool = False
    memo: Any = None
    usage: Json | None = None

    def stored(self) -> Json:
        """Return the JSON of the step, which `read` takes."""
        return self.over() | {"usage": self.usage} | ({"memo": self.memo} if self.again else {})

    def over(self) -> Json:
        """Return what is left of it when the task has completed."""
        return {"number": self.number, "tasks": self.tasks}


def read(stored: Json) -> Step:
    """Return the step of which `stored` is the JSON."""
    return Step(
        number=stored["number"],
        tasks=stored["tasks"],
        again="memo" in stored,
        memo=stored.get("memo"),
        usage=stored.get("usage"),
    )


class Stored(Protocol):
    """The attributes of a task that are read here."""

    id: str
    parent_id: str | None
    status: str
    error: str | None
    spawned_by: str | None


def taken_up(tree: Sequence[Stored], steps: Mapping[str, Json]) -> set[str]:
    """Return the ids of the tasks whose end is decided: that of the task that takes the steps builds on it.

    They are what such a task has added, with all below it: in earlier steps, if it has failed, and in all steps of a
    task that has completed. `steps` maps the ids of the tasks that take steps to what is stored of them.
    """
    by_spawner = defaultdict[str, list[Stored]](list)
    for task in tree:
        if task.spawned_by is not None and task.spawned_by in steps:
            by_spawner[task.spawned_by].append(task)
    completed = {task.id for task in tree if task.status == Status.COMPLETED}
    found = set[str]()
    for task_id, parts in by_spawner.items():
        earlier = len(parts) - steps[task_id]["tasks"]
        for index, part in enumerate(parts):
            # The end of a part that a crash has interrupted is not known.
            has_failed = part.status == Status.FAILED and INTERRUPTED not in (part.error or "")
            if task_id in completed or index < earlier or has_failed:
                found.add(part.id)
    for task in tree:  # a task comes after what it is below
        if task.parent_id in found or task.spawned_by in found:
            found.add(task.id)
    return found
