"""Group commit: the one thread of a worker process that writes, many changes per transaction.

A row's update and its event go into one transaction, fenced by the run's epoch. Sequence numbers
are assigned inside it, while the run's row is locked, so they are dense and in order.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

import orjson
from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper

from apflow_site.db.connections import IS_SQLITE, refresh
from llmkeys import run_secrets
from tasks.queue import notify
from tasks.queue.leases import DB_NOW, GIVE_UP_SECONDS
from tasks.rules.exceptions import LeaseLost
from tasks.storage.bulk import marks
from tasks.telemetry import metrics
from tasks.worker.changes import IN_ORDER, Change, QuestionAsked, QuestionClosed, RunClosed, TaskFinished
from tasks.worker.result_memory import ResultMemory

T = TypeVar("T")
logger = logging.getLogger(__name__)

MAX_BATCH: Final = 2_000
FEW_TREES: Final = 20
NOTE_QUESTION: Final = f"UPDATE tasks_run SET asked_at = {DB_NOW} WHERE id = %s"  # noqa: S608  (constants of ours)
ADD_EVENT: Final = (
    "INSERT INTO tasks_taskevent (run_id, seq, type, task_id, payload, created_at) "  # noqa: S608
    f"VALUES (%s, %s, %s, %s, %s, {DB_NOW})"
)
UNHURRIED_SECONDS: Final = 0.002
"""How long changes that are not awaited may wait for one that is: a quick task starts and ends in one commit."""
REST_SECONDS: Final = 10e-6
"""Per running tree; 5 ms with 500 of them."""


class SomeRowUnchanged(DatabaseError):
    """A row of a batch did not have the state that its change expects."""


@dataclass(slots=True, kw_only=True)
class Call:
    """Other database work, queued like a change."""

    function: Callable[[], Any]
    done: asyncio.Future[Any] = field(repr=False)


class GroupCommit:
    """Writes changes from one thread.

    Create it on the worker process's event loop, and call `put` and `commit` only from that loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: SimpleQueue[Sequence[Change | Call]] = SimpleQueue()
        self._rest_seconds = 0.0
        self.memory = ResultMemory()
        """Limits the results that wait here."""
        threading.Thread(target=self._write_for_ever, name="group-commit", daemon=True).start()

    def pace(self, trees: int) -> None:
        """Set the wait before each commit: none with few running trees, brief with many.

        The wait lets one commit write more changes.
        """
        self._rest_seconds = trees * REST_SECONDS if trees > FEW_TREES else 0.0

    def put(self, change: Change) -> None:
        """Queue the change and return. A lost lease is reported by the next `commit`."""
        self._queue.put([change])

    async def commit(self, change: Change) -> None:
        """Return when the change is committed.

        Raises LeaseLost, or the database's error for this row.
        """
        await self.commit_together([change])

    async def commit_together(self, changes: Sequence[Change]) -> None:
        """Return when the changes are committed, all in one transaction.

        Raises LeaseLost, or the database's error for one of these rows.
        """
        done = [self._loop.create_future() for _ in changes]
        for change, each in zip(changes, done, strict=True):
            change.done = each
        self._queue.put(changes)
        await asyncio.gather(*done)

    async def call(self, function: Callable[[], T]) -> T:
        """Run database work on the writer thread, and return its result."""
        done: asyncio.Future[T] = self._loop.create_future()
        self._queue.put([Call(function=function, done=done)])
        return await done

    def _write_for_ever(self) -> None:
        while True:
            for is_call, items in groupby(self._waiting(), key=is_a_call):
                carry_out = _call if is_call else _write
                self._loop.call_soon_threadsafe(_answer, carry_out(list(items)))

    def _waiting(self) -> list[Change | Call]:
        items = [*self._queue.get()]
        if self._rest_seconds:
            time.sleep(self._rest_seconds)
        with suppress(Empty):
            while not any(map(is_awaited, items)):
                items += self._queue.get(timeout=UNHURRIED_SECONDS)
        with suppress(Empty):
            while len(items) < MAX_BATCH:
                items += self._queue.get_nowait()
        return items


def is_awaited(item: Change | Call) -> bool:
    return item.done is not None


def is_a_call(item: Change | Call) -> bool:
    return isinstance(item, Call)


Answer = tuple["asyncio.Future[Any]", Any, BaseException | None]


def _answer(answers: Iterable[Answer]) -> None:
    for done, result, error in answers:
        if done.done():
            continue  # its waiter was cancelled
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
    except Exception as error:  # noqa: BLE001  (the caller awaits it)
        return call.done, None, error


def write_now(changes: Sequence[Change]) -> None:
    """Write the changes from the calling thread: the event loop of this process no longer can.

    Changes that are refused are logged.
    """
    for error in _write_together(changes):
        if error is not None:
            logger.error("A last change was refused", exc_info=error, extra={"event": "journal.refused"})


def _write(changes: Sequence[Any]) -> list[Answer]:
    errors = _write_together(changes)
    return [(change.done, None, error) for change, error in zip(changes, errors, strict=True) if change.done]


def _write_together(changes: Sequence[Change]) -> list[BaseException | None]:
    """Write all changes in one commit.

    If the database refuses it, write each change alone, so that only the bad row fails.
    """
    patience = time.monotonic() + GIVE_UP_SECONDS
    while True:
        try:
            refresh()
            return list(_commit(changes))
        except (OperationalError, InterfaceError) as error:
            # The database is unavailable or its write lock is taken: the lease leaves time to
            # retry.
            connection.close()
            if time.monotonic() > patience:
                return [error] * len(changes)
            time.sleep(0.1)
        except Exception as error:  # a bad value must not end this thread
            if len(changes) == 1:
                logger.error("A change was refused", exc_info=error, extra={"event": "journal.refused"})
                return [error]
            logger.warning("A change was refused; writing each alone", extra={"event": "journal.split"})
            return _write_each(changes)


def _write_each(changes: Sequence[Change]) -> list[BaseException | None]:
    """Write each change alone. A run does not end if the outcome of its last task was refused."""
    errors = list[BaseException | None]()
    refused = dict[str, BaseException]()
    for change in changes:
        error = refused.get(change.run_id) if isinstance(change, RunClosed) else None
        if error is None:
            (error,) = _write_together([change])
        if error is not None and isinstance(change, TaskFinished):
            refused[change.run_id] = error
        errors.append(error)
    return errors


def _commit(changes: Sequence[Change]) -> list[BaseException | None]:
    """Write the changes in one transaction; an error per change, or None.

    Raises what the database raises.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        fence = _lock_runs(cursor, sorted({change.run_id for change in changes}))
        held = [change.epoch == fence.get(change.run_id, (None, 0))[0] for change in changes]
        live = [change for change, is_held in zip(changes, held, strict=True) if is_held]
        for kind in IN_ORDER:
            live = _apply(cursor, kind, live)
        _note_questions(cursor, live)
        if ended := [change.run_id for change in live if isinstance(change, RunClosed)]:
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
    """Map the ids of unfinished runs to (epoch, last_seq), and lock their rows until the commit."""
    lock = "" if IS_SQLITE else " ORDER BY id FOR UPDATE"
    cursor.execute(
        f"SELECT id, epoch, last_seq FROM tasks_run WHERE finished_at IS NULL AND id IN ({marks(run_ids)}){lock}",  # noqa: S608
        run_ids,
    )
    return {run_id: (epoch, last_seq) for run_id, epoch, last_seq in cursor.fetchall()}


def _apply(cursor: CursorWrapper, kind: type[Change], live: list[Change]) -> list[Change]:
    """Write the changes of one kind.

    Returns `live` without a change that an earlier, unconfirmed commit wrote.
    """
    rows = [change.values for change in live if type(change) is kind]
    if not rows:
        return live
    cursor.executemany(kind.STATEMENT, rows)
    if cursor.rowcount == len(rows):
        return live
    if len(live) > 1:
        raise SomeRowUnchanged
    return []


def _note_questions(cursor: CursorWrapper, live: list[Change]) -> None:
    """Update the status time of each run that asked a question, or closed one."""
    run_ids = {change.run_id for change in live if isinstance(change, QuestionAsked | QuestionClosed)}
    if run_ids:
        cursor.executemany(NOTE_QUESTION, [(run_id,) for run_id in run_ids])


def _append_events(cursor: CursorWrapper, changes: list[Change], last_seqs: dict[str, int]) -> None:
    rows = []
    grown: dict[str, int] = {}
    for change in changes:
        if change.event is None:
            continue
        event = change.event
        event["seq"] = grown[change.run_id] = seq = grown.get(change.run_id, last_seqs[change.run_id]) + 1
        rows.append((change.run_id, seq, event["type"], event["task_id"], orjson.dumps(event).decode()))
    if rows:
        cursor.executemany(ADD_EVENT, rows)
        cursor.executemany(
            "UPDATE tasks_run SET last_seq = %s WHERE id = %s", [(seq, run_id) for run_id, seq in grown.items()]
        )
