"""Imports all trees of a source, a batch of them at a time, and reports what it left out and why."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Final

from django.db import transaction

from aipartnerupflow.importing.sources import Source
from aipartnerupflow.importing.translation import CannotStore, LostSchedule, Note, Row, schedules_of, translated
from tasks.rules.exceptions import TasksError
from tasks.rules.strict_json import Json
from tasks.services.schedules.task_schedules import ForeignSchedule, import_schedule
from tasks.services.trees.imports import Fate, ForeignTree, import_trees

BATCH: Final = 1_000
"""The number of tasks after which a transaction ends. A tree is never divided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A tree that was not imported, a task outside all trees, or the schedule of an imported task.

    `id` and `name` are those of its root or task, and `tasks` is 0 for a schedule.
    """

    id: str
    name: str
    tasks: int
    reason: str


@dataclass(slots=True, kw_only=True)
class Report:
    """The result of an import, or of a dry run. `trees`, `tasks` and `schedules` count those that it stored."""

    source: str
    dry_run: bool
    trees: int = 0
    tasks: int = 0
    schedules: int = 0
    trees_here_already: int = 0
    tasks_here_already: int = 0
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def as_json(self) -> Json:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A tree as it was read."""

    tree: ForeignTree
    notes: Sequence[Note]
    schedule: ForeignSchedule | None
    lost: Sequence[LostSchedule]

    @property
    def size(self) -> int:
        return len(self.tree.tasks)


def import_source(source: Source, *, default_user: str, dry_run: bool, advance: Callable[[int], object]) -> Report:
    """Import the source, and call `advance` with the number of tasks after each batch.

    With `dry_run` nothing is stored. Raises CannotRead.
    """
    report = Report(source=source.title, dry_run=dry_run)
    for batch in _batches(_read(source, report, advance)):
        _store(batch, report, default_user=default_user)
        advance(sum(each.size for each in batch))
    for task_id, name, parent_id in source.unreachable():
        reason = f"It is in no tree: its parent '{parent_id}' does not exist, or is in no tree either."
        report.left_out.append(LeftOut(id=task_id, name=name, tasks=1, reason=reason))
        advance(1)
    return report


def _read(source: Source, report: Report, advance: Callable[[int], object]) -> Iterator[Found]:
    """Yield the trees of the source; note those that cannot be stored."""
    for root_id, members in groupby(source.tasks(), key=lambda pair: pair[0]):
        rows: list[Row] = [row for _, row in members]
        try:
            tree, notes = translated(rows)
            schedule, lost = schedules_of(rows)
        except CannotStore as error:
            report.left_out.append(LeftOut(id=root_id, name=str(rows[0]["name"]), tasks=len(rows), reason=str(error)))
            advance(len(rows))
        else:
            yield Found(tree=tree, notes=notes, schedule=schedule, lost=lost)


def _batches(trees: Iterable[Found]) -> Iterator[list[Found]]:
    batch: list[Found] = []
    size = 0
    for each in trees:
        batch.append(each)
        size += each.size
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@transaction.atomic
def _store(batch: Sequence[Found], report: Report, *, default_user: str) -> None:
    """Store the trees with their schedules, in one transaction."""
    outcomes = import_trees(trees=[each.tree for each in batch], default_user=default_user, dry_run=report.dry_run)
    for each, outcome in zip(batch, outcomes, strict=True):
        if outcome.fate is Fate.PRESENT:
            report.trees_here_already += 1
            report.tasks_here_already += each.size
        elif outcome.fate is Fate.REFUSED:
            name = str(each.tree.tasks[0]["name"])
            report.left_out.append(LeftOut(id=each.tree.root_id, name=name, tasks=each.size, reason=outcome.reason))
        else:
            report.trees += 1
            report.tasks += each.size
            report.notes += each.notes
            report.notes += [Note(task_id=task_id, text=text) for task_id, text in outcome.warnings]
            _store_schedule(each, report)


def _store_schedule(found: Found, report: Report) -> None:
    lost = list(found.lost)
    if found.schedule is not None:
        try:
            import_schedule(found.schedule, dry_run=report.dry_run)
            report.schedules += 1
        except TasksError as error:
            name = str(found.tree.tasks[0]["name"])
            lost.append(LostSchedule(task_id=found.tree.root_id, name=name, reason=error.message))
    report.left_out += [
        LeftOut(id=each.task_id, name=each.name, tasks=0, reason=f"Its schedule is not imported. {each.reason}")
        for each in lost
    ]
