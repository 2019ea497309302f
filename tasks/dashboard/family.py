"""Growth in the panel of a task: the parts of a map, loop or spawner, or the part that the task is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tasks.dashboard.boxes import LOOP, MAP, Box, Boxes, Folds, boxes_of, rank_of, settings_of_boxes
from tasks.models import Task

PARTS_SHOWN: Final = 50
COLUMNS: Final = ("id", "name", "status", "parent_id", "executor_id", "spawned_by", "root_id")
WORDS: Final = {MAP: "Item", LOOP: "Round"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The number of the part that a task is in its box, from 1, and the same task in the parts before and after."""

    box: Box
    number: int
    previous: Task | None
    next: Task | None

    @property
    def word(self) -> str:
        return WORDS.get(self.box.kind, "Added by")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """`parts` has one task of each part of `box`, urgent ones first; `template_of` is set for a task of a template."""

    box: Box | None
    parts: list[Task]
    more_parts: int
    place: Place | None
    template_of: Box | None


def family_of(task: Task) -> Family | None:
    """Return the relations of a task by growth. None if it has none."""
    settings = settings_of_boxes(task.root_id)
    tree = Task.objects.tree(task.root_id)
    if not settings and not tree.exclude(spawned_by=None).exists():
        return None
    boxes = boxes_of(list(tree.only(*COLUMNS)), settings, Folds())
    box = boxes.by_id.get(task.id)
    tellers = _tellers(box) if box else []
    return Family(
        box=box,
        parts=tellers[:PARTS_SHOWN],
        more_parts=max(0, len(tellers) - PARTS_SHOWN),
        place=_place(task, boxes),
        template_of=boxes.templates.get(task.id),
    )


def _tellers(box: Box) -> list[Task]:
    """Return the task of each part that says most: the first urgent one, or the first."""
    found = [min(part, key=lambda task: rank_of(task.status)) for part in box.parts]
    return sorted(found, key=lambda task: rank_of(task.status))


def _place(task: Task, boxes: Boxes) -> Place | None:
    if task.id not in boxes.part_of:
        return None
    box, number = boxes.part_of[task.id]
    at = [each.id for each in box.parts[number]].index(task.id)
    return Place(
        box=box, number=number + 1, previous=_same(box.parts, number - 1, at), next=_same(box.parts, number + 1, at)
    )


def _same(parts: Sequence[Sequence[Task]], number: int, at: int) -> Task | None:
    if not 0 <= number < len(parts):
        return None
    return parts[number][min(at, len(parts[number]) - 1)]
