"""The tasks of one round of a loop (`tasks.rules.rounds`)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from tasks.rules.rounds import LAST, ROUND
from tasks.worker.load_run import LoadedTask
from tasks.worker.spawning.growth import CannotGrow, Draft, Growth, Room, growth_of, stored_id
from tasks.worker.spawning.parts import Part, only, template_of

OF_THE_LOOP: Final = ("repeat", "when", "budget")
"""The params of a task that repeats which its rounds do not have."""


def round_draft(
    task: LoadedTask, template: Sequence[LoadedTask], *, number: int, last: Any, room: Room, now: datetime
) -> Draft:
    """Return the tasks of a round: of the task itself or, if it is a group, of its template. Raises CannotGrow."""
    copied = template_of(template) if template else only(task)
    if len(copied.tasks) > room.tasks:
        raise CannotGrow(
            f"Round {number:,} needs more than the {room.tasks:,} tasks that may still be added to this tree "
            "(limits.spawned_tasks)."
        )

    def grow(ids: Mapping[str, str]) -> Growth:
        values = {LAST: last, ROUND: number}
        part = Part(spawner=task, mark=f"#{number}", values=values, ids=ids, without=() if template else OF_THE_LOOP)
        return growth_of(part.rows(copied, now=now), room)

    return Draft(wanted={each.id: stored_id(f"{each.id}#{number}") for each in copied.tasks}, grow=grow)
