"""The tasks of a map: a copy of its template for each item (`tasks.rules.maps`)."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from tasks.models import Task
from tasks.rules.maps import ForEach
from tasks.worker.load_run import LoadedTask
from tasks.worker.spawning.growth import CannotGrow, Draft, Room, growth_of, stored_id
from tasks.worker.spawning.parts import Part, template_of


def items_draft(
    task: LoadedTask,
    for_each: ForEach,
    template: Sequence[LoadedTask],
    items: Sequence[Any],
    *,
    room: Room,
    now: datetime,
) -> Draft:
    """Return the copies of the template for all items. Raises CannotGrow if they are too many."""
    if len(items) * len(template) > room.tasks:
        raise CannotGrow(
            f"{len(items):,} items with {len(template):,} tasks each are more than the {room.tasks:,} tasks that may still "
            "be added to this tree (limits.spawned_tasks)."
        )
    wanted = {
        f"{index} {each.id}": stored_id(f"{each.id}[{index}]") for index in range(len(items)) for each in template
    }
    return Draft(
        wanted=wanted,
        grow=lambda ids: growth_of(_copies(task, for_each, template, items, ids, now), room),
    )


def _copies(
    task: LoadedTask,
    for_each: ForEach,
    template: Sequence[LoadedTask],
    items: Sequence[Any],
    ids: Mapping[str, str],
    now: datetime,
) -> Iterator[Task]:
    copied = template_of(template)
    for index, item in enumerate(items):
        part = Part(
            spawner=task,
            mark=f"[{index}]",
            values={for_each.label: item, f"{for_each.label}_index": index},
            ids={each.id: ids[f"{index} {each.id}"] for each in template},
        )
        yield from part.rows(copied, now=now)
