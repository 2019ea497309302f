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

from django.db import InterfaceError, OperationalError, connection

from apflow_site.db.connections import refresh
from tasks.queue.leases import give_up_seconds
from tasks.worker.changes import Change, RunClosed, TaskFinished
from tasks.worker.commit import SomeRowUnchanged, commit
from tasks.worker.result_memory import ResultMemory

T = TypeVar("T")
logger = logging.getLogger(__name__)

MAX_BATCH: Final = 2_000
FEW_TREES: Final = 20
UNHURRIED_SECONDS: Final = 0.002
"""The seconds that changes that are not awaited may wait for one that is: a quick task starts and ends in one commit."""
REST_SECONDS: Final = 10e-6
"""Per running tree; 5 ms with 500 of them."""


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
        await (done[0] if len(done) == 1 else asyncio.gather(*done))  # `gather` takes as long as the rest of this

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
    patience = time.monotonic() + give_up_seconds()
    while True:
        try:
            refresh()
            return list(commit(changes))
        except (OperationalError, InterfaceError) as error:
            # The database is unavailable or its write lock is taken: the lease leaves time to
            # retry.
            connection.close()
            if time.monotonic() > patience:
                return [error] * len(changes)
            time.sleep(0.1)
        except SomeRowUnchanged:
            # An earlier commit has written this change, and its confirmation was lost.
            return [None] if len(changes) == 1 else _write_each(changes)
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
