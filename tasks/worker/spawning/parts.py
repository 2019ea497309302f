"""Copies of templates: for an item of a map, or for a round of a loop; and the maps and loops that make them."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from aipartnerupflow.executors import ExecutorError, Json
from tasks.executors import get_executor
from tasks.executors.filling import filled_inputs
from tasks.models import Task
from tasks.rules.conditions import TooMuchToCompare
from tasks.rules.exceptions import ExecutorNotFound
from tasks.rules.files import with_values
from tasks.rules.maps import CannotMap, ForEach
from tasks.rules.places import escaped
from tasks.rules.references import label_of, settled_params
from tasks.rules.rounds import LAST, ROUND, given_inside
from tasks.services.secrets.write_only import sealed_inputs
from tasks.services.trees.persist import row_below
from tasks.worker.load_run import LoadedTask
from tasks.worker.spawning.growth import CannotGrow, Draft, Growth, Room, growth_of, stored_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """The tasks of which copies are made.

    `hidden` maps their ids to the names of values that mean something else to them (`tasks.rules.rounds`).
    """

    tasks: Sequence[LoadedTask]
    parents: Collection[str | None]
    hidden: Mapping[str, Collection[str]]


def template_of(tasks: Sequence[LoadedTask]) -> Template:
    """Return the template of a map or of a group that repeats."""
    return Template(tasks=tasks, parents={task.parent_id for task in tasks}, hidden=given_inside(tasks))


def only(task: LoadedTask) -> Template:
    """Return the template of a task that repeats itself."""
    return Template(tasks=[task], parents=(), hidden={})


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One copy of a template below `spawner`.

    `mark`, such as `[3]`, is added to names, `values` are what places and conditions may name besides
    dependencies, and `ids` maps the ids of the template to those of the copy. The copies do not have the params `without`.
    """

    spawner: LoadedTask
    mark: str
    values: Mapping[str, Any]
    ids: Mapping[str, str]
    without: Collection[str] = ()
    read: Mapping[str, Any] = field(default_factory=dict)
    """The large values that conditions and maps inside get, by the ids of their files. Inputs refer to them."""

    def rows(self, template: Template, *, now: datetime) -> Iterable[Task]:
        """Yield the copies. Raises CannotGrow."""
        for each in template.tasks:
            hidden = template.hidden.get(each.id, ())
            values = {name: value for name, value in self.values.items() if name not in hidden}
            try:
                inputs, params = _inputs(each, values), self._params(each, values)
            except (ExecutorError, TooMuchToCompare, CannotMap) as error:
                raise CannotGrow(f"{self.mark.strip()}, task '{each.id}': {error}") from None
            yield row_below(
                self.spawner,
                now=now,
                id=self.ids[each.id],
                parent_id=self.ids.get(each.parent_id or "", self.spawner.id),
                label=each.label or each.id,
                name=self._name(each),
                priority=each.priority,
                executor_id=each.executor_id,
                dependencies=[self._dependency(item) for item in each.dependencies],
                inputs=sealed_inputs(inputs, executor_id=each.executor_id, schemas=each.schemas, owner=each.user_id),
                schemas=each.schemas or None,
                params=params or None,
                has_children=each.id in template.parents,
            )

    def _name(self, task: LoadedTask) -> str:
        """Return the name with the mark, unless it is that of an executor."""
        suffix = f" {self.mark}"
        return task.name if task.name == task.executor_id else task.name[: 255 - len(suffix)] + suffix

    def _dependency(self, item: Json) -> Json:
        """Return the dependency. One inside the template keeps its name, by which places know it."""
        copied = self.ids.get(item["id"])
        return item if copied is None else item | {"id": copied, "as": label_of(item)}

    def _params(self, task: LoadedTask, values: Mapping[str, Any]) -> Json:
        """Return the params with what they ask about the values decided: a condition, and the items of a map inside."""
        kept = {name: value for name, value in task.params.items() if name not in self.without}
        return settled_params(kept, with_values(values, self.read) if self.read else values, gone=values) or {}


def _inputs(task: LoadedTask, values: Mapping[str, Any]) -> Json:
    inputs = filled_inputs(task, values, known=values, keeps_literals=True)
    if _reads_inputs(task):
        return inputs | {name: escaped(value) for name, value in values.items() if name not in inputs}
    return inputs


def _reads_inputs(task: LoadedTask) -> bool:
    """Return whether the executor itself looks up names in the inputs, in templates or in expressions."""
    if task.executor_id is None:
        return False
    try:
        executor = get_executor(task.executor_id)
    except ExecutorNotFound:  # the configuration has changed; the copy fails by itself
        return False
    return bool(executor.templates | executor.verbatim)


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


OF_THE_LOOP: Final = ("repeat", "when", "budget")
"""The params of a task that repeats which its rounds do not have."""


def round_draft(
    task: LoadedTask,
    template: Sequence[LoadedTask],
    read: Mapping[str, Any],
    *,
    number: int,
    last: Any,
    room: Room,
    now: datetime,
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
        without = () if template else OF_THE_LOOP
        part = Part(spawner=task, mark=f"#{number}", values=values, ids=ids, without=without, read=read)
        return growth_of(part.rows(copied, now=now), room)

    return Draft(wanted={each.id: stored_id(f"{each.id}#{number}") for each in copied.tasks}, grow=grow)
