"""The boxes of a tree that grows: maps, loops and spawners, their parts, and which of these a page shows."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple

from django.db.models.functions import Length

from aipartnerupflow.growth import ENDED, URGENT, status_of
from tasks.dashboard.looks import Shown, mark_handled, seen_of
from tasks.dashboard.words import summary
from tasks.models import Task
from tasks.rules.maps import templates_of
from tasks.rules.strict_json import Json
from tasks.status import Status

MOST_OPEN: Final = 12
"""A box with more parts is closed until it is opened."""
MOST_SHOWN: Final = 100
"""The number of parts of an open box that a page shows."""
LONGEST_PARAMS: Final = 100_000
MAP: Final = "map"
LOOP: Final = "loop"
SPAWNER: Final = "spawner"


@dataclass(frozen=True, slots=True, kw_only=True)
class Folds:
    """The boxes that are open or closed regardless of their size. The boxes around `selected_id` are open too."""

    opened: frozenset[str] = frozenset()
    closed: frozenset[str] = frozenset()
    selected_id: str = ""


@dataclass(kw_only=True)
class Box:
    """A map, loop or spawner; `most` is the limit of a loop.

    `parts` are its items, its rounds, or its tasks with all below them, in order.
    """

    task: Shown
    kind: str
    most: int | None
    template: list[Shown]
    parts: list[list[Shown]]
    is_open: bool = False
    shown: frozenset[int] = frozenset()

    @cached_property
    def part_statuses(self) -> list[str]:
        return [status_of({task.shown_status for task in part}) for part in self.parts]

    @cached_property
    def statuses(self) -> list[str]:
        """The statuses that count: those of items or rounds, or of all tasks of a spawner."""
        return (
            [task.shown_status for part in self.parts for task in part] if self.kind == SPAWNER else self.part_statuses
        )

    @property
    def left_out(self) -> int:
        """The number of parts that an open box does not show."""
        return len(self.parts) - len(self.shown) if self.is_open else 0

    @property
    def summary(self) -> str:
        """The number and state of the parts in words, without failures."""
        counts = Counter(self.statuses)
        done = sum(number for status, number in counts.items() if status in ENDED)
        is_over = Status(self.task.status).is_terminal
        return summary(self.kind, done=done, count=counts.total(), most=self.most, is_over=is_over)

    @property
    def failed_count(self) -> int:
        return self.statuses.count(Status.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxes:
    """The boxes of a tree by the ids of their tasks, and where each task is drawn."""

    by_id: dict[str, Box]
    part_of: dict[str, tuple[Box, int]]
    """The box and the number of the part to which an added task belongs."""
    templates: dict[str, Box]
    """The tasks of templates, with the outermost box that runs copies of them."""
    place: dict[str, str | None] = field(default_factory=dict)
    """The task itself, the closed box in its place, or None for a template with copies."""

    def counts(self, task: Shown) -> bool:
        """Return whether the task is one of the tree's for people: a template is not, once its copies run in its place."""
        is_over = task.id in self.templates and task.status == Status.SKIPPED
        return self.place[task.id] is not None and not is_over


class _Member(NamedTuple):
    """The fields of a task that `tasks.rules.maps` reads."""

    id: str
    parent_id: str | None
    executor_id: str | None
    spawned_by: str | None
    params: Mapping[str, Any] | None


def boxes_of(tasks: Sequence[Shown], settings: Mapping[str, Json], folds: Folds) -> Boxes:
    """Find the boxes of a tree. `tasks` are in the order of their positions, `settings` are those of `settings_of_boxes`."""
    rows = {task.id: task for task in tasks}
    if not settings and not any(task.spawned_by in rows for task in tasks):
        return Boxes(by_id={}, part_of={}, templates={}, place={task.id: task.id for task in tasks})
    spawned = defaultdict[str, list[Shown]](list)
    for task in tasks:
        if task.spawned_by is not None and task.spawned_by in rows:
            spawned[task.spawned_by].append(task)
    members = [
        _Member(each.id, each.parent_id, each.executor_id, each.spawned_by, settings.get(each.id)) for each in tasks
    ]
    templates = {box_id: [rows[each.id] for each in found] for box_id, found in templates_of(members).items()}
    copied = {each.id for box_id, template in templates.items() if spawned[box_id] for each in template}
    by_id = {
        task.id: _box(task, settings.get(task.id, {}), templates.get(task.id, []), spawned.get(task.id, []), copied)
        for task in tasks
        if task.id in settings or task.id in spawned
    }
    found = Boxes(
        by_id=by_id,
        part_of={each.id: (box, n) for box in by_id.values() for n, part in enumerate(box.parts) for each in part},
        templates={each.id: box for box in reversed(by_id.values()) for each in box.template},
    )
    chosen = _around(found, folds.selected_id)
    for box_id, box in found.by_id.items():
        is_wanted = box_id in chosen or box_id in folds.opened or len(box.parts) <= MOST_OPEN
        box.is_open = bool(box.parts) and is_wanted and box_id not in folds.closed
        if box.is_open:
            numbers: Iterable[int] = range(len(box.parts))
            if len(box.parts) > MOST_SHOWN:
                statuses, first = box.part_statuses, chosen.get(box_id)
                numbers = sorted(numbers, key=lambda n: (n != first, rank_of(statuses[n])))
            box.shown = frozenset(list(numbers)[:MOST_SHOWN])
    found.place.update(_places(tasks, found, copied))
    return found


def settings_of_boxes(root_id: str) -> dict[str, Json]:
    """Map the id of each map and loop of a tree to its params, of which those of maps are left out: items may be many."""
    tree = Task.objects.tree(root_id).order_by()
    maps = tree.filter(executor_id=None, params__contains='"for_each":').values_list("id", flat=True)
    loops = tree.annotate(size=Length("params")).filter(size__lte=LONGEST_PARAMS, params__contains='"repeat":')
    found: dict[str, Json] = {task_id: {"for_each": {}} for task_id in maps}
    for task_id, params in loops.values_list("id", "params"):
        if params and "repeat" in params:
            found[task_id] = params
    return found


def _box(task: Shown, settings: Json, template: list[Shown], spawned: list[Shown], copied: Collection[str]) -> Box:
    """Return the box of a task. A map or loop has added the whole template for each part, in order."""
    size = max(1, len(template))
    parts = (
        [spawned[start : start + size] for start in range(0, len(spawned), size)] if settings else _subtrees(spawned)
    )
    kept = [[each for each in part if each.id not in copied] for part in parts]
    repeat = settings.get("repeat")
    return Box(
        task=task,
        kind=LOOP if repeat else MAP if settings else SPAWNER,
        most=repeat.get("max", 20) if repeat else None,
        template=template,
        parts=[part for part in kept if part],
    )


def rank_of(status: str) -> int:
    """Return which status is shown first: a lower number comes before a higher one."""
    return URGENT.index(status) if status in URGENT else len(URGENT)


def _subtrees(spawned: Iterable[Shown]) -> list[list[Shown]]:
    """Group tasks with those that are below them. Parents may come later than their children."""
    rows = {task.id: task for task in spawned}
    found = defaultdict[str, list[Shown]](list)
    for task in rows.values():
        top = task
        while top.parent_id in rows:
            top = rows[top.parent_id]
        found[top.id].append(task)
    return list(found.values())


def _around(boxes: Boxes, task_id: str) -> dict[str, int]:
    """Map the id of each box around a task to the number of the part in which the task is."""
    found = {}
    while task_id in boxes.part_of:
        box, number = boxes.part_of[task_id]
        found[box.task.id] = number
        task_id = box.task.id
    return found


def _places(tasks: Sequence[Shown], boxes: Boxes, copied: Collection[str]) -> dict[str, str | None]:
    """Return the place of each task. Tasks that another one has added come after it in the order of positions."""
    places: dict[str, str | None] = {}
    for task in tasks:
        places[task.id] = None if task.id in copied else task.id
        if task.id in copied or task.id not in boxes.part_of:
            continue
        box, number = boxes.part_of[task.id]
        if places.get(box.task.id) != box.task.id:
            places[task.id] = places.get(box.task.id)
        elif number not in box.shown:
            places[task.id] = box.task.id
    return places


PARTS_SHOWN: Final = 50
WORDS: Final = {MAP: "Item", LOOP: "Round"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The number of the part that a task is in its box, from 1, and the same task in the parts before and after."""

    box: Box
    number: int
    previous: Shown | None
    next: Shown | None

    @property
    def word(self) -> str:
        return WORDS.get(self.box.kind, "Added by")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """`parts` has one task of each part of `box`, urgent ones first; `template_of` is set for a task of a template."""

    box: Box | None
    parts: list[Shown]
    more_parts: int
    place: Place | None
    template_of: Box | None


def family_of(task: Task) -> Family | None:
    """Return the relations of a task by growth. None if it has none."""
    settings = settings_of_boxes(task.root_id)
    if not settings and not Task.objects.tree(task.root_id).exclude(spawned_by=None).exists():
        return None
    tasks = seen_of(task.root_id)
    mark_handled(tasks)
    boxes = boxes_of(tasks, settings, Folds())
    box = boxes.by_id.get(task.id)
    # The task of each part that says most: the first urgent one, or the first.
    urgent = [min(part, key=lambda task: rank_of(task.shown_status)) for part in box.parts] if box else []
    urgent.sort(key=lambda task: rank_of(task.shown_status))
    place = None
    if task.id in boxes.part_of:
        around, number = boxes.part_of[task.id]
        at = [each.id for each in around.parts[number]].index(task.id)
        before, after = _same(around.parts, number - 1, at), _same(around.parts, number + 1, at)
        place = Place(box=around, number=number + 1, previous=before, next=after)
    return Family(
        box=box,
        parts=urgent[:PARTS_SHOWN],
        more_parts=max(0, len(urgent) - PARTS_SHOWN),
        place=place,
        template_of=boxes.templates.get(task.id),
    )


def _same(parts: Sequence[Sequence[Shown]], number: int, at: int) -> Shown | None:
    if not 0 <= number < len(parts):
        return None
    return parts[number][min(at, len(parts[number]) - 1)]
