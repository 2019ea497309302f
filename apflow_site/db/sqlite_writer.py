"""SQLite's one writer in a process that serves requests: it commits all the calls that wait together.

Many requests that write at once would each take the write lock, commit and release it. Together they take it once; each call has a
savepoint of its own, so that a call that fails leaves the others alone, and no call returns before the commit.
"""

import threading
import time
from typing import Final

from django.db import DatabaseError, transaction

from apflow_site.db.beforehand import NotMadeYet
from apflow_site.db.calls import Call, Note, Outcome, Turns
from apflow_site.db.connections import refresh

MAX_TOGETHER: Final = 32
TOGETHER_SECONDS: Final = 0.02
"""The seconds for which calls are added to a transaction: other processes write between two."""


class SqliteWriter:
    """A thread. A call's future is done once its transaction is committed. Users take turns."""

    def __init__(self, *, note: Note = lambda *_: None) -> None:
        self._note = note
        self._waiting = Turns()
        self._lock = threading.Condition()
        threading.Thread(target=self._write_forever, name="write", daemon=True).start()

    def submit(self, call: Call) -> None:
        """Queue the call, which is made even if its caller is cancelled."""
        with self._lock:
            self._waiting.add(call)
            self._lock.notify()

    def _write_forever(self) -> None:
        while True:
            with self._lock:
                self._waiting.end_overdue()
                while (first := self._waiting.take()) is None:
                    self._lock.wait()
            refresh()
            made = self._together(first) if self._waiting else [self._alone(first)]
            for call, (result, error) in made:
                call.end(result, error)
            del first, made  # what they refer to must not live until the next ones

    def _together(self, first: Call) -> list[tuple[Call, Outcome]]:
        """Carry out the call and those that wait, in one transaction."""
        made: list[tuple[Call, Outcome]] = []
        call: Call | None = first
        try:
            with transaction.atomic():
                until = time.monotonic() + TOGETHER_SECONDS
                while call is not None:
                    made.append(self._alone(call))
                    with self._lock:
                        is_full = len(made) == MAX_TOGETHER or time.monotonic() >= until
                        call = None if is_full else self._waiting.take()
        except DatabaseError as error:  # the commit failed, and nothing of the calls is stored
            return [(call, (None, error)) for call, _ in made]
        return made

    def _alone(self, call: Call) -> tuple[Call, Outcome]:
        begun = time.monotonic()
        try:
            with transaction.atomic():
                return call, (call.function(), None)
        except (Exception, NotMadeYet) as error:  # noqa: BLE001  (the caller gets it)
            return call, (None, error)
        finally:
            self._note(begun - call.asked_at, time.monotonic() - begun)
