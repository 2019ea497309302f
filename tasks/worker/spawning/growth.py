"""What a task adds to its tree."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import NAMESPACE_URL, uuid5

from tasks.models import Task
from tasks.worker.load_run import LoadedTask, loaded
from tasks.worker.outcomes import Outcome

LONGEST_ID: Final = 255
InUse = Callable[[list[str]], Collection[str]]
"""Returns those of some ids that stored tasks have."""


class CannotGrow(Exception):
    """The tasks would exceed a limit, or are not valid. The message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """New tasks of a tree, spawned by one that stays open until they are over, unless it has an `outcome`."""

    rows: Sequence[Task]
    tasks: Sequence[LoadedTask]
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Where new tasks go: the position of the first, and how many there may be, with how many bytes of JSON."""

    position: int
    tasks: int
    bytes: int


def growth_of(rows: Sequence[Task], room: Room, *, outcome: Outcome | None = None) -> Growth:
    """Raises CannotGrow if the rows are too large."""
    tasks, left = list[LoadedTask](), room.bytes
    for row in rows:
        task = loaded(row)
        left -= task.memory
        if left < 0:
            raise CannotGrow(
                f"The inputs of the tasks that this one adds would have more than the {room.bytes:,} bytes that "
                "limits.run_bytes allows. Pass references instead of large values."
            )
        tasks.append(task)
    return Growth(rows=rows, tasks=tasks, outcome=outcome)


def readable(task_id: str) -> str:
    """The id itself or, if it is too long, another one made of it."""
    return task_id if len(task_id) <= LONGEST_ID else uuid5(NAMESPACE_URL, task_id).hex


def unused(wanted: Mapping[str, str], in_use: InUse, *, root_id: str) -> dict[str, str]:
    """Return the mapping with other values for those that are in use, by tasks of any user."""
    ids = {key: readable(task_id) for key, task_id in wanted.items()}
    taken = set(in_use(list(ids.values())))
    return {key: uuid5(NAMESPACE_URL, f"{root_id} {each}").hex if each in taken else each for key, each in ids.items()}
