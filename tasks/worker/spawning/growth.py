"""The tasks that a task adds to its tree."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import NAMESPACE_URL, uuid5

from tasks.models import Task
from tasks.rules.steps import Step
from tasks.worker.load_run import LoadedTask, loaded
from tasks.worker.outcomes import Outcome

LONGEST_ID: Final = 255


class CannotGrow(Exception):
    """The tasks would exceed a limit, or are not valid. The message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """New tasks of a tree, spawned by one that stays open until they are over, unless it has an `outcome`."""

    rows: Sequence[Task]
    tasks: Sequence[LoadedTask]
    outcome: Outcome | None = None
    step: Step | None = None
    """The step of the spawner that they are."""

    def place(self, first: int) -> None:
        """Give the tasks their positions in the tree, from `first`.

        They get them when they are added, not when they are made: readers take up what is new from the end.
        """
        for position, (row, task) in enumerate(zip(self.rows, self.tasks, strict=True), start=first):
            row.position = task.position = position


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """Tasks that are to be added: the ids that they should have, and `grow`, which makes them with those that are free.

    `grow` takes time in proportion to the tasks. It raises CannotGrow.
    """

    wanted: Mapping[str, str]
    grow: Callable[[Mapping[str, str]], Growth]


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The number of new tasks that there may be, and the bytes of their JSON, of which so many are `used` by others."""

    tasks: int
    bytes: int
    used: int = 0


def growth_of(new: Iterable[Task], room: Room, *, outcome: Outcome | None = None) -> Growth:
    """Make the tasks one by one, while there is room. Raises CannotGrow if they are too large."""
    rows, tasks, left = list[Task](), list[LoadedTask](), room.bytes - room.used
    for row in new:
        task = loaded(row)
        left -= task.memory
        if left < 0:
            raise CannotGrow(
                f"The inputs of the tasks that this one adds would have more than the {room.bytes:,} bytes that "
                "limits.run_bytes allows. Pass references instead of large values."
            )
        rows.append(row)
        tasks.append(task)
    return Growth(rows=rows, tasks=tasks, outcome=outcome)


def stored_id(task_id: str) -> str:
    """Return the id itself or, if it is too long, another one made of it."""
    return task_id if len(task_id) <= LONGEST_ID else uuid5(NAMESPACE_URL, task_id).hex


def free_ids(wanted: Mapping[str, str], in_use: Collection[str], *, root_id: str) -> dict[str, str]:
    """Return the mapping with other ids for those that are in use, by tasks of any user."""
    return {
        key: uuid5(NAMESPACE_URL, f"{root_id} {task_id}").hex if task_id in in_use else task_id
        for key, task_id in wanted.items()
    }
