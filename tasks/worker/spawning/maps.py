"""The tasks of a map: a copy of its template for each item (`tasks.rules.maps`)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from tasks.models import Task
from tasks.rules.maps import ForEach
from tasks.worker.load_run import LoadedTask
from tasks.worker.spawning.growth import CannotGrow, Growth, InUse, Room, growth_of, unused
from tasks.worker.spawning.parts import Part


def expanded(
    task: LoadedTask,
    for_each: ForEach,
    template: Sequence[LoadedTask],
    items: Sequence[Any],
    *,
    room: Room,
    in_use: InUse,
    now: datetime,
) -> Growth:
    """Return the copies of the template for all items.

    It takes time in proportion to the tasks. Raises CannotGrow.
    """
    if len(items) * len(template) > room.tasks:
        raise CannotGrow(
            f"{len(items):,} items with {len(template):,} tasks each are more than the {room.tasks:,} tasks that may still "
            "be added to this tree (limits.spawned_tasks)."
        )
    wanted = {f"{index} {each.id}": f"{each.id}[{index}]" for index in range(len(items)) for each in template}
    ids = unused(wanted, in_use, root_id=task.root_id)
    rows = list[Task]()
    for index, item in enumerate(items):
        part = Part(
            spawner=task,
            mark=f"[{index}]",
            values={for_each.label: item, f"{for_each.label}_index": index},
            ids={each.id: ids[f"{index} {each.id}"] for each in template},
            extra={"allow_failure": True} if for_each.collects else {},
        )
        rows.extend(part.rows(template, position=room.position + len(rows), now=now))
    return growth_of(rows, room)
