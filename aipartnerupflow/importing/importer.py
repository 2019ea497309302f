"""Imports all trees of a source, a batch of them at a time, and reports what it left out and why.

A value that this server cannot store is a reason to leave a tree out; what has no equivalent is a note.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final

from django.db import transaction

from aipartnerupflow.importing.sources import LINKED, Cell, Source
from tasks.rules.exceptions import TasksError
from tasks.rules.strict_json import Json, MalformedJson, decode
from tasks.rules.task_schedules import COUNTED, ENABLED, ENDS, EXPRESSION, MOST, STARTS, TYPE, WRITTEN
from tasks.services.schedules.task_schedules import ForeignSchedule, import_schedule
from tasks.services.trees.imports import Fate, ForeignTree, State, import_trees
from tasks.status import Status

Row = Mapping[str, Cell]

TRANSLATED: Final = frozenset(
    "id parent_id user_id name status priority dependencies inputs params result error schemas progress created_at "
    "started_at updated_at completed_at has_children has_copy has_references original_task_id origin_type".split()
)
BOOKKEEPING: Final = frozenset(
    f"{LINKED} task_tree_id lease_id lease_expires_at attempt_id idempotency_key last_assigned_node".split()
)
"""Columns by which the predecessor ran its tasks."""
OF_SCHEDULE: Final = (*WRITTEN, *COUNTED)
ONLY_ROOTS: Final = (
    "Here only the root of a tree can have a schedule. Give it to the root, or store the task as a tree of its own."
)
EMPTY: Final = (None, "", "null", "false", "0", "{}", "[]")
RESULT_NESTING: Final = 200
LOWEST_PRIORITY: Final = 3
INTERRUPTED: Final = "Interrupted: the task was in progress when it was imported. Run it again, unless what it does must not happen twice."
NO_REASON: Final = "The task failed before it was imported. The server that ran it stored no reason."


class CannotStore(Exception):
    """A task has a value that this server cannot store. The message names both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A change of a task during the import. `fields` are the values that were not imported."""

    task_id: str
    text: str
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LostSchedule:
    """A schedule that cannot be imported, though its task can."""

    task_id: str
    name: str
    reason: str


def schedules_of(rows: Iterable[Row]) -> tuple[ForeignSchedule | None, list[LostSchedule]]:
    """Return the schedule of the tree of these rows, the root's first, and those that cannot be imported. Raises CannotStore."""
    kept: ForeignSchedule | None = None
    lost: list[LostSchedule] = []
    for row in rows:
        if not (row.get(TYPE) or row.get(EXPRESSION)):
            continue
        if row.get("parent_id") is None:
            kept = _schedule(row)
        else:
            lost.append(LostSchedule(task_id=str(row["id"]), name=str(row["name"]), reason=ONLY_ROOTS))
    return kept, lost


def _schedule(row: Row) -> ForeignSchedule:
    most, count = row.get(MOST), row.get("run_count")
    fields: Json = {
        TYPE: _text(row, TYPE),
        EXPRESSION: _text(row, EXPRESSION),
        ENABLED: _is_true(row, ENABLED),
        MOST: int(most) if most else None,
    }
    times = {name: moment.isoformat() for name in (STARTS, ENDS) if (moment := _time(row, name))}
    return ForeignSchedule(
        task_id=str(row["id"]),
        fields=fields | times,
        run_count=int(count) if count else 0,
        last_run_at=_time(row, "last_run_at"),
    )


def translate(rows: Iterable[Row]) -> tuple[ForeignTree, list[Note]]:
    """Return the tree of these rows, the root's first, and what the import changes in it. Raises CannotStore."""
    notes: list[Note] = []
    tasks: list[Json] = []
    states: dict[str, State] = {}
    for row in rows:
        notes += _notes(row)
        task = _task(row)
        tasks.append(task)
        states[task["id"]] = _state(row)
    return ForeignTree(tasks=tasks, states=states), notes


def _task(row: Row) -> Json:
    given = {
        "id": _text(row, "id"),
        "parent_id": _text(row, "parent_id"),
        "user_id": _text(row, "user_id") or None,
        "name": _text(row, "name"),
        "priority": min(max(0, _priority(row)), LOWEST_PRIORITY),
        "dependencies": _dependencies(row),
        "inputs": _json(row, "inputs"),
        "params": _json(row, "params"),
        "schemas": _json(row, "schemas"),
    }
    return {name: value for name, value in given.items() if value is not None}


def _state(row: Row) -> State:
    try:
        status = Status(str(row["status"]))
    except ValueError:
        raise CannotStore(f"Task '{_label(row)}': its status '{row['status']}' does not exist here.") from None
    was_running = status is Status.IN_PROGRESS
    error = INTERRUPTED if was_running else (row.get("error") or "").replace("\0", "\ufffd")
    created_at = _time(row, "created_at") or datetime.fromtimestamp(0, UTC)
    updated_at = _time(row, "updated_at") or created_at
    progress = float(row.get("progress") or 0)
    return State(
        status=Status.FAILED if was_running else status,
        result=_json(row, "result", nesting=RESULT_NESTING),
        error=error or (NO_REASON if status is Status.FAILED else None),
        progress=min(max(0.0, progress), 1.0) if math.isfinite(progress) else 0.0,
        created_at=created_at,
        updated_at=updated_at,
        started_at=_time(row, "started_at"),
        completed_at=updated_at if was_running else _time(row, "completed_at"),
        has_copy=_is_true(row, "has_copy") or _is_true(row, "has_references"),
        original_task_id=_text(row, "original_task_id") or None,
    )


def _notes(row: Row) -> Iterator[Note]:
    task_id = str(row["id"])
    if row["status"] == Status.IN_PROGRESS:
        yield Note(task_id=task_id, text="It was in progress, and is imported as failed.")
    if not 0 <= _priority(row) <= LOWEST_PRIORITY:
        fields = {"priority": str(row["priority"])}
        yield Note(task_id=task_id, text=f"Priorities are 0 to {LOWEST_PRIORITY} here.", fields=fields)
    if row.get("origin_type") == "link" and row.get(LINKED) is None:
        text = f"It is linked to task '{row.get('original_task_id')}', which does not exist: it has no inputs and no result."
        yield Note(task_id=task_id, text=text)
    unknown = {
        name: value
        for name, value in row.items()
        if name not in TRANSLATED and name not in BOOKKEEPING and name not in OF_SCHEDULE and value not in EMPTY
    }
    if unknown:
        fields = {name: value for name, value in unknown.items() if value is not None}
        yield Note(task_id=task_id, text="This server does not have these fields of a task.", fields=fields)


# --- one column ---


def _text(row: Row, column: str) -> str | None:
    value = row.get(column)
    if value is not None and "\0" in value:
        raise CannotStore(f"Task '{_label(row)}': {column} contains the character NUL.")
    return value


def _json(row: Row, column: str, *, nesting: int = 64) -> Any:
    """Return the decoded value; None for null, which the predecessor stores in two ways."""
    value = row.get(column)
    if value is None:
        return None
    try:
        return decode(value.encode(), nesting=nesting)
    except MalformedJson as error:
        raise CannotStore(f"Task '{_label(row)}': {column} cannot be stored. {error.message}") from None


def _dependencies(row: Row) -> Any:
    """Return the dependencies, each once: it is required if any of its entries says so."""
    given = _json(row, "dependencies")
    if not isinstance(given, list):
        return given
    kept: dict[str, Any] = {}
    for item in given:
        dependency = {"id": item}
        if isinstance(item, dict):  # without what the predecessor adds to it
            dependency = {"id": item.get("id") or item.get("name")}
            dependency |= {"required": item["required"]} if "required" in item else {}
        known = kept.setdefault(str(dependency.get("id")), dependency)
        if dependency.get("required", True) is True:
            known.pop("required", None)
    return list(kept.values())


def _priority(row: Row) -> int:
    value = row.get("priority")
    return 2 if value is None else int(value)


def _time(row: Row, column: str) -> datetime | None:
    """Return a moment in UTC, which is what a time without a zone is in."""
    value = row.get(column)
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise CannotStore(f"Task '{_label(row)}': {column} is not a time: '{value}'.") from None


def _is_true(row: Row, column: str) -> bool:
    return row.get(column) in ("true", "1")


def _label(row: Row) -> str:
    return str(row["id"]).replace("\0", "\ufffd")


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
            tree, notes = translate(rows)
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
