"""Group commit: the one thread of a worker process that writes, many changes per transaction.

A row's update and its event go into one transaction, fenced by the run's epoch. Sequence numbers
are assigned inside it, while the run's row is locked, so they are dense and in order.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final, TypeVar

from django.db import IntegrityError, InterfaceError, OperationalError, connection

from apflow_site.db.calls import TurnsOf
from apflow_site.db.connections import refresh
from tasks.queue.leases import give_up_seconds
from tasks.storage.writes import SomeRowUnchanged
from tasks.worker.changes import Change, RunClosed, StepsAdded, TaskFinished
from tasks.worker.commit import commit
from tasks.worker.outcomes import ResultMemory

T = TypeVar("T")
logger = logging.getLogger(__name__)

MOST_ROWS: Final = 500
"""The number of rows and changes that one commit writes, unless they belong together: other processes write between two."""
MOST_ROWS_BESIDE_OTHERS: Final = 100
"""The number while runs of several users are here: a change of one waits for the commit in hand with those of another."""
ANSWERS_PER_TURN: Final = 50
"""The number of waits for a commit that end in one turn of the event loop: what follows them takes a third of a millisecond each."""
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


@dataclass(frozen=True, slots=True)
class Together:
    """Changes that one commit writes, or a call."""

    user_id: str
    items: Sequence[Change | Call]

    @property
    def size(self) -> int:
        return sum(1 if isinstance(item, Call) else 1 + len(item.rows) for item in self.items)

    @property
    def is_awaited(self) -> bool:
        return any(item.done is not None and (isinstance(item, Call) or item.IS_HURRIED) for item in self.items)


Answer = tuple["asyncio.Future[Any]", Any, BaseException | None]


class GroupCommit:
    """Writes changes from one thread. Users take turns; the changes and calls of one user are carried out in their order.

    Create it on the worker process's event loop, and call `put` and `commit` only from that loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Condition()
        self._waiting = TurnsOf[Together]()
        self._awaited = 0
        """The number of those that are awaited."""
        self._rest_seconds = 0.0
        self._most_rows = MOST_ROWS
        self._answers = deque[Answer]()
        self.memory = ResultMemory()
        """Limits the results that wait here."""
        threading.Thread(target=self._write_for_ever, name="group-commit", daemon=True).start()

    def pace(self, trees: int, *, users: int) -> None:
        """Set the wait before each commit, none with few running trees and brief with many, and the size of commits.

        The wait lets one commit write more changes. The trees are those of so many users.
        """
        self._most_rows = MOST_ROWS if users < 2 else MOST_ROWS_BESIDE_OTHERS
        self._rest_seconds = trees * REST_SECONDS if trees > FEW_TREES else 0.0

    def put(self, change: Change) -> None:
        """Queue the change and return. A lost lease is reported by the next `commit`."""
        self._add(Together(change.owner, [change]))

    def put_in_order(self, change: Change) -> asyncio.Future[None]:
        """Queue the change, and return a future that ends when it is committed."""
        change.done = self._loop.create_future()
        self._add(Together(change.owner, [change]))
        return change.done

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
        self._add(Together(changes[0].owner, changes))
        await (done[0] if len(done) == 1 else asyncio.gather(*done))  # `gather` takes as long as the rest of this

    async def call(self, function: Callable[[], T], *, user_id: str = "") -> T:
        """Run database work on the writer thread, after what waits there for this user, and return its result."""
        done: asyncio.Future[T] = self._loop.create_future()
        self._add(Together(user_id, [Call(function=function, done=done)]))
        return await done

    async def empty(self) -> None:
        """Return when all is written that waits now, of every user."""
        with self._lock:
            users = [*self._waiting.users, ""]
        await asyncio.gather(*(self.call(lambda: None, user_id=user_id) for user_id in users))

    def _add(self, work: Together) -> None:
        with self._lock:
            self._waiting.add(work)
            self._awaited += work.is_awaited
            self._lock.notify()

    def _write_for_ever(self) -> None:
        while True:
            for answers in carry_out(self._taken()):
                self._loop.call_soon_threadsafe(self._answer, answers)

    def _answer(self, answers: Iterable[Answer]) -> None:
        """End the waits on the loop, in their order."""
        is_under_way = bool(self._answers)
        self._answers.extend(answers)
        if not is_under_way:
            self._answer_some()

    def _answer_some(self) -> None:
        for _ in range(min(ANSWERS_PER_TURN, len(self._answers))):
            done, result, error = self._answers.popleft()
            if done.done():
                continue  # its waiter was cancelled
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error)
        if self._answers:
            self._loop.call_soon(self._answer_some)

    def _taken(self) -> list[Change | Call]:
        """Wait for work, and take as much as one commit may write. The worker's own calls come last, so that they do not divide it."""
        with self._lock:
            self._lock.wait_for(lambda: self._waiting)
        if self._rest_seconds:
            time.sleep(self._rest_seconds)
        items, own, size = list[Change | Call](), list[Change | Call](), 0
        with self._lock:
            while not self._awaited and self._lock.wait(UNHURRIED_SECONDS):
                pass
            while size < self._most_rows and (work := self._waiting.take()) is not None:
                (items if work.user_id else own).extend(work.items)
                size += work.size
                self._awaited -= work.is_awaited
        return items + own


def carry_out(items: Iterable[Change | Call]) -> Iterator[list[Answer]]:
    """Carry out the items in their order, changes that follow each other in one commit. Yields the ends of their waits."""
    for is_call, some in groupby(items, key=lambda item: isinstance(item, Call)):
        group = list(some)
        yield [_call(each) for each in group] if is_call else _write(group)


def _call(call: Any) -> Answer:
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
    refused: IntegrityError | None = None
    while True:
        try:
            refresh()
            if refused is not None and isinstance(changes[0], StepsAdded):
                return [None if changes[0].is_written() else refused]
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
                if isinstance(error, IntegrityError) and isinstance(changes[0], StepsAdded):
                    refused = error
                    continue
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
