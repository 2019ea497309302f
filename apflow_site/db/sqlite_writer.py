"""SQLite's one writer in a process that serves requests: it commits all the calls that wait together.

Many requests that write at once would each take the write lock, commit and release it. Together they take it once; each call has a
savepoint of its own, so that a call that fails leaves the others alone, and no call returns before the commit.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, ParamSpec, TypeVar

from django.db import DatabaseError, transaction

from apflow_site.db.connections import refresh

MAX_TOGETHER: Final = 32
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    function: Callable[[], Any]
    done: Future[Any]


Outcome = tuple[Any, BaseException | None]


class SqliteWriter(Executor):
    """An executor with one thread. A call's future is done once its transaction is committed."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Call] = SimpleQueue()
        threading.Thread(target=self._write_forever, name="write", daemon=True).start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        done: Future[T] = Future()
        done.set_running_or_notify_cancel()  # a call in the queue is made even if its caller is cancelled
        self._queue.put(Call(partial(fn, *args, **kwargs), done))
        return done

    def _write_forever(self) -> None:
        while True:
            calls = self._waiting()
            refresh()
            outcomes = [_alone(calls[0])] if len(calls) == 1 else _together(calls)
            for call, (result, error) in zip(calls, outcomes, strict=True):
                if error is None:
                    call.done.set_result(result)
                else:
                    call.done.set_exception(error)

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
