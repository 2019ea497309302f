"""One commit of a worker process: changes of any runs, each row's update with the event that reports it.

The runs are locked first. Changes of a run that another worker has claimed since are refused, and
the sequence numbers of its events are dense and in order. On PostgreSQL everything after the lock
is sent at once.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import orjson
from django.db import DatabaseError, connection, transaction
from django.db.backends.utils import CursorWrapper

from apflow_site.db.connections import IS_SQLITE
from apflow_site.db.pipelines import pipelined
from llmkeys import run_secrets
from tasks.models import Run, Task
from tasks.queue import notify
from tasks.queue.leases import DB_NOW
from tasks.rules.exceptions import LeaseLost
from tasks.services import notifications, task_states, waits
from tasks.status import Status
from tasks.storage import usage
from tasks.storage.bulk import insert_many, marks
from tasks.telemetry import metrics
from tasks.worker.changes import (
    IN_ORDER,
    Change,
    QuestionAlarmed,
    QuestionAsked,
    QuestionClosed,
    RunClosed,
    StateStored,
    TaskFinished,
    UsageAdded,
    rows_of,
)

NOTE_QUESTION: Final = f"UPDATE tasks_run SET asked_at = {DB_NOW} WHERE id = %s"  # noqa: S608  (constants of ours)
EVENT_ROWS: Final = (
    f"VALUES (%s, %s, %s, %s, %s, {DB_NOW})"
    if IS_SQLITE
    else f"SELECT *, {DB_NOW} FROM unnest(%s::varchar[], %s::integer[], %s::varchar[], %s::varchar[], %s::text[])"  # noqa: S608  (constants of ours)
)
ADD_EVENTS: Final = f"INSERT INTO tasks_taskevent (run_id, seq, type, task_id, payload, created_at) {EVENT_ROWS}"
NOT_HELD: Final = (-1, None, 0)
ADVANCE: Final = "UPDATE tasks_run SET last_seq = %s WHERE id = %s"


class IdTaken(DatabaseError):
    """Another tree has a task with an id that was free a moment ago. Nothing of the commit was written."""


class SomeRowUnchanged(DatabaseError):
    """A row did not have the state that its change expects. Nothing of the commit was written."""


def commit(changes: Sequence[Change]) -> list[BaseException | None]:
    """Write the changes in one transaction; an error per change, or None.

    Raises SomeRowUnchanged, or what the database raises.
    """
    with transaction.atomic():
        fence = _lock_runs(sorted({change.run_id for change in changes}))
        held = [_is_held(change, fence) for change in changes]
        live = [change for change, is_held in zip(changes, held, strict=True) if is_held]
        live = _without_orphans(live, fence)
        if live:
            _write_all(live, {run_id: last_seq for run_id, (_, _, last_seq) in fence.items()})
    _count(live)
    return [None if is_held else LeaseLost(change.run_id) for change, is_held in zip(changes, held, strict=True)]


def _is_held(change: Change, fence: "dict[str, tuple[int, str | None, int]]") -> bool:
    return not change.IS_FENCED or fence.get(change.run_id, NOT_HELD)[:2] == (change.epoch, change.token)


def _without_orphans(live: list[Change], unfinished: Collection[str]) -> list[Change]:
    """Leave out what needs a run that has been deleted. Runs that have ended are locked, so that none is deleted meanwhile."""
    late = sorted({change.run_id for change in live if change.NEEDS_RUN and change.run_id not in unfinished})
    if not late:
        return live
    runs = Run.objects.filter(id__in=late).order_by("id").select_for_update()
    there = set(runs.values_list("id", flat=True))
    return [change for change in live if not change.NEEDS_RUN or change.run_id in unfinished or change.run_id in there]


def _count(committed: Sequence[Change]) -> None:
    metrics.published(sum(event is not None for change in committed for event in (change.event, change.then)))
    for change in committed:
        if change.tally:
            change.tally()


def _lock_runs(run_ids: list[str]) -> dict[str, tuple[int, str | None, int]]:
    """Map the ids of unfinished runs to (epoch, token, last_seq), and lock their rows until the commit."""
    lock = "" if IS_SQLITE else " ORDER BY id FOR UPDATE"
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, epoch, claim_token, last_seq FROM tasks_run "  # noqa: S608
            f"WHERE finished_at IS NULL AND id IN ({marks(run_ids)}){lock}",
            run_ids,
        )
        return {run_id: (epoch, token, seq) for run_id, epoch, token, seq in cursor.fetchall()}


def _write_all(live: Sequence[Change], last_seqs: dict[str, int]) -> None:
    with pipelined():
        rows = rows_of(live)
        written = _write_rows(rows)
        _add_up(rows)
        spawned = [row for change in live for row in change.rows]
        added = insert_many(spawned, Task, skips_known=True) if spawned else None
        _note_questions(rows)
        _write_states(live)
        ended = {change.run_id: change for change in live if isinstance(change, RunClosed)}
        if ended:
            run_secrets.erase(list(ended))
        newest = _append_events(live, last_seqs)
        closings = [(newest.pop(run_id), *change.values) for run_id, change in ended.items()]
        written += _execute(RunClosed.STATEMENT, closings)
        _add_notifications(live, ended)
        _end_waits([change for change in ended.values() if change.wait_id is not None])
        _execute(ADVANCE, [(seq, run_id) for run_id, seq in newest.items()])
        notify.send(notify.EVENTS)
    if any(cursor.rowcount != count for cursor, count in written):
        raise SomeRowUnchanged
    if added is not None and added.rowcount != len(spawned):
        raise IdTaken


Written = list[tuple[CursorWrapper, int]]
"""Cursors, each with how many rows it has to change."""


def _write_rows(rows: Sequence[Change]) -> Written:
    """Write the rows kind by kind, but for those of the runs."""
    return [
        written
        for kind in IN_ORDER
        for written in _execute(kind.STATEMENT, [change.values for change in rows if type(change) is kind])
    ]


def _execute(statement: str, rows: Sequence[tuple[Any, ...]]) -> Written:
    """Execute the statement for each row."""
    if not rows:
        return []
    cursor = connection.cursor()
    if len(rows) == 1:  # the other way costs more for one row
        cursor.execute(statement, rows[0])
    else:
        cursor.executemany(statement, rows)
    return [(cursor, len(rows))]


def _add_up(rows: Sequence[Change]) -> None:
    """Add what model calls used to the sums of their runs."""
    sums: dict[str, list[int]] = {}
    for change in rows:
        if isinstance(change, UsageAdded):
            of_run = sums.get(change.run_id, [0] * len(usage.OF_RUN))
            sums[change.run_id] = [old + new for old, new in zip(of_run, (1, *change.spending[1:]), strict=True)]
    _execute(usage.ADD_TO_RUN, [(*sums[run_id], run_id) for run_id in sorted(sums)])


def _write_states(live: Sequence[Change]) -> None:
    """Write what tasks keep, in the order in which they did, and delete what those have kept that end."""
    for change in live:
        if isinstance(change, StateStored):
            task = (change.run_id, change.task_id)
            _execute(task_states.DELETE, [(*task, key) for key in change.deleted])
            _execute(task_states.STORE, [(*task, key, value) for key, value in change.stored.items()])
        elif isinstance(change, TaskFinished) and change.keeps_state:
            _execute(task_states.DELETE_ALL, [(change.run_id, change.task_id)])


def _note_questions(rows: Sequence[Change]) -> None:
    """Update the status time of each run that asked a question, or closed one."""
    run_ids = {change.run_id for change in rows if isinstance(change, QuestionAsked | QuestionClosed)}
    _execute(NOTE_QUESTION, [(run_id,) for run_id in run_ids])


def _add_notifications(live: Sequence[Change], ended: Mapping[str, RunClosed]) -> None:
    """Queue the messages about failed runs, and about questions to people and their reminders."""
    failed = [(run_id,) for run_id, end in ended.items() if end.status == Status.FAILED]
    if failed:
        _execute(notifications.add_for_failure(), failed)
    asked = [
        (change.run_id, change.question_id, change.question_id, change.run_id, change.event["seq"])
        for change in live
        if isinstance(change, QuestionAsked | QuestionAlarmed) and change.event and change.is_for_people
    ]
    if asked:
        _execute(notifications.add_for_question(), asked)


def _end_waits(ended: Sequence[RunClosed]) -> None:
    """End the waits of other runs for these."""
    if ended:
        _execute(waits.END_FOR_RUN, [(change.at, change.wait_id) for change in ended])
        waits.resume_after([str(change.wait_id) for change in ended])


def _append_events(live: Sequence[Change], last_seqs: dict[str, int]) -> dict[str, int]:
    """Number the events and add them. Returns the newest number of each run that has one."""
    rows = list[tuple[Any, ...]]()
    newest: dict[str, int] = {}
    for change in live:
        for event in filter(None, (change.event, change.then)):
            event["seq"] = newest[change.run_id] = seq = newest.get(change.run_id, last_seqs[change.run_id]) + 1
            rows.append((change.run_id, seq, event["type"], event["task_id"], orjson.dumps(event).decode()))
    if rows:
        columns = tuple(map(list, zip(*rows, strict=True)))
        _execute(ADD_EVENTS, rows if IS_SQLITE else [columns])
    return newest
