"""The journal: the one thread of a worker process that writes, and commits whatever has queued up at once (group commit).

A change is a row update and the event that tells of it; both go into one transaction, fenced by the run's epoch. Sequence numbers are
given inside of it, while the run's row is locked, so they are dense and in order whoever writes.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from itertools import groupby
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

import orjson
from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper

from llmkeys import run_secrets
from tasks.queue import notify
from tasks.queue.leases import GIVE_UP_SECONDS
from tasks.rules.exceptions import LeaseLost
from tasks.rules.strict_json import Json
from tasks.storage.bulk import IS_SQLITE, db_time, marks
from tasks.storage.connections import refresh
from tasks.telemetry import metrics

T = TypeVar("T")
logger = logging.getLogger(__name__)

MAX_BATCH: Final = 2_000
FEW_TREES: Final = 20
REST_SECONDS: Final = 10e-6
"""For each running tree; with 500 of them 5 ms."""


class Kind(Enum):
    """What a change does to its row; the members are in the order in which one task goes through them."""

    START = (
        "UPDATE tasks_task SET status = 'in_progress', started_at = %s, updated_at = %s, attempt = %s, progress = 0 "
        "WHERE id = %s AND status IN ('pending', 'in_progress')"
    )
    PROGRESS = "UPDATE tasks_task SET progress = %s, updated_at = %s WHERE id = %s AND status = 'in_progress'"
    CLOSE_QUESTION = "UPDATE tasks_question SET closed_at = %s WHERE run_id = %s AND task_id = %s AND closed_at IS NULL"
    ASK = (
        "INSERT INTO tasks_question (id, run_id, task_id, text, options, memo, asked_at, expires_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
    )
    FINISH = (
        "UPDATE tasks_task SET status = %s, result = %s, error = %s, progress = %s, token_usage = %s, "
        "completed_at = %s, updated_at = %s WHERE id = %s AND status IN ('pending', 'in_progress')"
    )
    CLOSE = (
        "UPDATE tasks_run SET status = %s, finished_at = %s, lease_owner = NULL, lease_expires_at = NULL "
        "WHERE id = %s AND finished_at IS NULL"
    )
    EVENT = ""  # tells of something that changes no row


@dataclass(slots=True, kw_only=True)
class Change:
    """One step of a run: the values of its statement, and its event without a sequence number."""

    kind: Kind
    run_id: str
    epoch: int
    values: tuple[Any, ...] = ()
    event: Json | None = None
    tally: Callable[[], None] | None = field(default=None, repr=False)  # counts it, once it is committed
    done: asyncio.Future[None] | None = field(default=None, repr=False)


class SomeRowUnchanged(DatabaseError):
    """One of many rows was not in the state that its change expects."""


@dataclass(slots=True, kw_only=True)
class Call:
    """Any other database work of the process, in its turn."""

    function: Callable[[], Any]
    done: asyncio.Future[Any] = field(repr=False)


class GroupCommit:
    """Start it in the worker process, on its loop; `put` and `commit` are for that loop only."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: SimpleQueue[Change | Call] = SimpleQueue()
        self._rest_seconds = 0.0
        threading.Thread(target=self._write_for_ever, name="journal", daemon=True).start()

    def pace(self, trees: int) -> None:
        """With many trees running, wait a moment for more to write with the same commit; with few, write at once."""
        self._rest_seconds = trees * REST_SECONDS if trees > FEW_TREES else 0.0

    def put(self, change: Change) -> None:
        """Write the change soon, before everything that is put later. A lost lease shows at the next `commit`."""
        self._queue.put(change)

    async def commit(self, change: Change) -> None:
        """Return when the change is durable. Raises LeaseLost, or what the database has against the row."""
        change.done = self._loop.create_future()
        self._queue.put(change)
        await change.done

    async def call(self, function: Callable[[], T]) -> T:
        """Run database work on the journal's thread."""
        done: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(Call(function=function, done=done))
        return await done

    def _write_for_ever(self) -> None:
        while True:
            for kind, items in groupby(self._waiting(), key=type):
                carry_out = _call if kind is Call else _write
                self._loop.call_soon_threadsafe(_answer, carry_out(list(items)))

    def _waiting(self) -> list[Change | Call]:
        items = [self._queue.get()]
        if self._rest_seconds:
            time.sleep(self._rest_seconds)
        with suppress(Empty):
            while len(items) < MAX_BATCH:
                items.append(self._queue.get_nowait())
        return items


Answer = tuple["asyncio.Future[Any]", Any, BaseException | None]


def _answer(answers: Iterable[Answer]) -> None:
    for done, result, error in answers:
        if done.done():
            continue  # whoever waited was cancelled
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)


def _call(calls: Sequence[Any]) -> list[Answer]:
    return [_call_one(call) for call in calls]


def _call_one(call: Call) -> Answer:
    refresh()
    try:
        return call.done, call.function(), None
    except Exception as error:  # noqa: BLE001  (goes to whoever awaits the call)
        return call.done, None, error


def _write(changes: Sequence[Any]) -> list[Answer]:
    errors = _write_together(changes)
    return [(change.done, None, error) for change, error in zip(changes, errors, strict=True) if change.done]


def _write_together(changes: Sequence[Change]) -> list[BaseException | None]:
    """All changes in one commit; if the database refuses one of them, each alone, so that a bad row fails alone."""
    patience = time.monotonic() + GIVE_UP_SECONDS
    while True:
        try:
            refresh()
            return list(_commit(changes))
        except (OperationalError, InterfaceError) as error:
            # The server is away, or the write lock is taken: the lease allows to wait for a while.
            connection.close()
            if time.monotonic() > patience:
                return [error] * len(changes)
            time.sleep(0.1)
        except Exception as error:  # whatever is wrong with a value, this thread goes on
            if len(changes) == 1:
                logger.error("A change was refused", exc_info=error, extra={"event": "journal.refused"})
                return [error]
            logger.warning("A change was refused; writing each alone", extra={"event": "journal.split"})
            return [error for change in changes for error in _write_together([change])]


def _commit(changes: Sequence[Change]) -> list[BaseException | None]:
    """Raises what the database raises."""
    with transaction.atomic(), connection.cursor() as cursor:
        fence = _lock_runs(cursor, sorted({change.run_id for change in changes}))
        held = [change.epoch == fence.get(change.run_id, (None, 0))[0] for change in changes]
        live = [change for change, is_held in zip(changes, held, strict=True) if is_held]
        for kind in Kind:
            live = _apply(cursor, kind, live)
        _note_questions(cursor, live)
        if ended := [change.run_id for change in live if change.kind is Kind.CLOSE]:
            run_secrets.erase(ended)
        _append_events(cursor, live, {run_id: last_seq for run_id, (_, last_seq) in fence.items()})
        notify.send(notify.EVENTS)
    _count(live)
    return [None if is_held else LeaseLost(change.run_id) for change, is_held in zip(changes, held, strict=True)]


def _count(committed: Sequence[Change]) -> None:
    metrics.published(sum(change.event is not None for change in committed))
    for change in committed:
        if change.tally:
            change.tally()


def _lock_runs(cursor: CursorWrapper, run_ids: list[str]) -> dict[str, tuple[int, int]]:
    """Run id → (epoch, last_seq) of the unfinished runs, their rows locked until the commit."""
    lock = "" if IS_SQLITE else " ORDER BY id FOR UPDATE"
    cursor.execute(
        f"SELECT id, epoch, last_seq FROM tasks_run WHERE finished_at IS NULL AND id IN ({marks(run_ids)}){lock}",  # noqa: S608
        run_ids,
    )
    return {run_id: (epoch, last_seq) for run_id, epoch, last_seq in cursor.fetchall()}


def _apply(cursor: CursorWrapper, kind: Kind, live: list[Change]) -> list[Change]:
    """Write the changes of one kind. Returns `live` without a change that was there already, whose commit went unanswered."""
    rows = [change.values for change in live if change.kind is kind]
    if not rows or not kind.value:
        return live
    cursor.executemany(kind.value, rows)
    if cursor.rowcount == len(rows):
        return live
    if len(live) > 1:
        raise SomeRowUnchanged
    return []


def _note_questions(cursor: CursorWrapper, live: list[Change]) -> None:
    """A run that asks, or goes on after it, has another status from now on."""
    now = db_time(datetime.now(UTC))
    run_ids = {change.run_id for change in live if change.kind in (Kind.ASK, Kind.CLOSE_QUESTION)}
    if run_ids:
        cursor.executemany("UPDATE tasks_run SET asked_at = %s WHERE id = %s", [(now, each) for each in run_ids])


def _append_events(cursor: CursorWrapper, changes: list[Change], last_seqs: dict[str, int]) -> None:
    now = db_time(datetime.now(UTC))
    rows = []
    grown: dict[str, int] = {}
    for change in changes:
        if change.event is None:
            continue
        event = change.event
        event["seq"] = grown[change.run_id] = seq = grown.get(change.run_id, last_seqs[change.run_id]) + 1
        rows.append((change.run_id, seq, event["type"], event["task_id"], orjson.dumps(event).decode(), now))
    if rows:
        cursor.executemany(
            "INSERT INTO tasks_taskevent (run_id, seq, type, task_id, payload, created_at) VALUES (%s, %s, %s, %s, %s, %s)",
            rows,
        )
        cursor.executemany(
            "UPDATE tasks_run SET last_seq = %s WHERE id = %s", [(seq, run_id) for run_id, seq in grown.items()]
        )
