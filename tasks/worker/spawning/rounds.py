"""The tasks of one round of a loop (`tasks.rules.rounds`)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from tasks.rules.rounds import LAST, ROUND
from tasks.worker.load_run import LoadedTask
from tasks.worker.spawning.growth import CannotGrow, Growth, InUse, Room, growth_of, unused
from tasks.worker.spawning.parts import Part

OF_THE_LOOP: Final = ("repeat", "when")
"""The params of a task that repeats which its rounds do not have."""


def next_round(
    task: LoadedTask,
    template: Sequence[LoadedTask],
    *,
    number: int,
    last: Any,
    room: Room,
    in_use: InUse,
    now: datetime,
) -> Growth:
    """Return the tasks of a round: of the task itself or, if it is a group, of its template. Raises CannotGrow."""
    parts = template or [task]
    if len(parts) > room.tasks:
        raise CannotGrow(
            f"Round {number:,} needs more than the {room.tasks:,} tasks that may still be added to this tree "
            "(limits.spawned_tasks)."
        )
    ids = unused({each.id: f"{each.id}#{number}" for each in parts}, in_use, root_id=task.root_id)
    part = Part(
        spawner=task,
        mark=f"#{number}",
        values={LAST: last, ROUND: number},
        ids=ids,
        without=() if template else OF_THE_LOOP,
    )
    return growth_of(list(part.rows(parts, position=room.position, now=now)), room)
