"""The tasks of a map: a copy of its template for each item (`tasks.rules.maps`)."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from aipartnerupflow.executors import ExecutorError, Json
from tasks.executors import get_executor
from tasks.executors.filling import filled_inputs
from tasks.models import Task
from tasks.rules.conditions import TooMuchToCompare
from tasks.rules.exceptions import ExecutorNotFound
from tasks.rules.inputs import label_of
from tasks.rules.maps import CannotMap, ForEach
from tasks.rules.places import escaped
from tasks.rules.references import settled_params
from tasks.worker.load_run import LoadedTask
from tasks.worker.spawning.growth import CannotGrow, Growth, InUse, Room, growth_of, unused


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
    parents = {each.parent_id for each in template}
    rows = list[Task]()
    for index, item in enumerate(items):
        own = {each.id: ids[f"{index} {each.id}"] for each in template}
        part = _Item(for_each, item, index, ids=own, parents=parents)
        for each in template:
            rows.append(part.copy(each, task, position=room.position + len(rows), now=now))
    return growth_of(rows, room)


class _Item:
    """One item of a map. `ids` maps those of the template to those of its copy for this item; `parents` are its parents."""

    def __init__(
        self, for_each: ForEach, item: Any, index: int, *, ids: Mapping[str, str], parents: Collection[str | None]
    ) -> None:
        self._for_each = for_each
        self._values = {for_each.label: item, f"{for_each.label}_index": index}
        self._index = index
        self._ids = ids
        self._parents = parents

    def copy(self, task: LoadedTask, of_map: LoadedTask, *, position: int, now: datetime) -> Task:
        try:
            inputs, params = self._inputs(task), self._params(task)
        except (ExecutorError, TooMuchToCompare, CannotMap) as error:
            raise CannotGrow(f"Item {self._index}, task '{task.id}': {error}") from None
        return Task(
            id=self._ids[task.id],
            root_id=task.root_id,
            parent_id=self._ids.get(task.parent_id or "", task.parent_id),
            position=position,
            user_id=task.user_id,
            name=self._name(task),
            priority=task.priority,
            executor_id=task.executor_id,
            dependencies=[self._dependency(item) for item in task.dependencies],
            inputs=inputs,
            schemas=task.schemas or None,
            params=params or None,
            has_children=task.id in self._parents,
            spawned_by=of_map.id,
            created_at=now,
            updated_at=now,
        )

    def _name(self, task: LoadedTask) -> str:
        """The number is added, unless the name says which executor it is."""
        suffix = f" [{self._index}]"
        return task.name if task.name == task.executor_id else task.name[: 255 - len(suffix)] + suffix

    def _dependency(self, item: Json) -> Json:
        """A dependency inside the template keeps its name, by which places know it."""
        copied = self._ids.get(item["id"])
        return item if copied is None else item | {"id": copied, "as": label_of(item)}

    def _inputs(self, task: LoadedTask) -> Json:
        inputs = filled_inputs(task, self._values, known=self._values, keeps_literals=True)
        if _reads_inputs(task):
            return inputs | {name: escaped(value) for name, value in self._values.items() if name not in inputs}
        return inputs

    def _params(self, task: LoadedTask) -> Json:
        """The params with what they ask about the item decided: a condition, and the items of a map inside this one."""
        params = settled_params(task.params, self._values, gone=self._values) or {}
        return params | {"allow_failure": True} if self._for_each.collects else params


def _reads_inputs(task: LoadedTask) -> bool:
    """Whether the executor itself looks up names in the inputs, in templates or in expressions."""
    if task.executor_id is None:
        return False
    try:
        executor = get_executor(task.executor_id)
    except ExecutorNotFound:  # the configuration has changed; the copy fails by itself
        return False
    return bool(executor.templates | executor.verbatim)
