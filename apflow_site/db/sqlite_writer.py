"""SQLite's one writer in a process that serves requests: it commits all the calls that wait together.

Many requests that write at once would each take the write lock, commit and release it. Together they take it once; each call has a
savepoint of its own, so that a call that fails leaves the others alone, and no call returns before the commit.
"""

import threading
from collections.abc import Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final

from django.db import DatabaseError, transaction

from apflow_site.db.calls import Call, Outcome
from apflow_site.db.connections import refresh

MAX_TOGETHER: Final = 32


class SqliteWriter:
    """A thread. A call's future is done once its transaction is committed."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Call] = SimpleQueue()
        threading.Thread(target=self._write_forever, name="write", daemon=True).start()

    def submit(self, call: Call) -> None:
        """Queue the call, which is made even if its caller is cancelled."""
        self._queue.put(call)

    def _write_forever(self) -> None:
        while True:
            calls = self._waiting()
            refresh()
            outcomes = [_alone(calls[0])] if len(calls) == 1 else _together(calls)
            for call, (result, error) in zip(calls, outcomes, strict=True):
                call.end(result, error)
            del calls, outcomes  # what they refer to must not live until the next ones

    def _waiting(self) -> list[Call]:
        calls = [self._queue.get()]
        with suppress(Empty):
            while len(calls) < MAX_TOGETHER:
                calls.append(self._queue.get_nowait())
        return calls


def _together(calls: Sequence[Call]) -> list[Outcome]:
    try:
        with transaction.atomic():
            return [_alone(call) for call in calls]
    except DatabaseError as error:  # the commit failed, and nothing of the calls is stored
        return [(None, error)] * len(calls)


def _alone(call: Call) -> Outcome:
    try:
        with transaction.atomic():
            return call.function(), None
    except Exception as error:  # noqa: BLE001  (the caller gets it)
        return None, error
