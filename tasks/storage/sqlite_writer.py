"""SQLite's one writer in a process that serves requests: it commits all the calls that wait together.

Many requests that write at once would each take the write lock, commit and hand it on. Together they take it once; each call has a savepoint
of its own, so that one that fails leaves the others alone, and nobody gets an answer before the commit.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from queue import Empty, SimpleQueue
from typing import Any, Final

from django.db import DatabaseError, transaction

from tasks.storage.connections import refresh

MAX_TOGETHER: Final = 32


@dataclass(frozen=True, slots=True)
class Call:
    """Work for the lane, and who waits for it."""

    function: Callable[[], Any]
    done: asyncio.Future[Any]


Answer = tuple[Any, BaseException | None]


class WriteLane:
    def __init__(self) -> None:
        self._queue: SimpleQueue[Call] = SimpleQueue()
        threading.Thread(target=self._write_for_ever, name="write", daemon=True).start()

    async def run(self, function: Callable[[], Any]) -> Any:
        """What the function returns or raises, once it is committed."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.put(Call(function, done))
        return await done

    def _write_for_ever(self) -> None:
        while True:
            calls = self._waiting()
            refresh()
            answers = [_alone(calls[0])] if len(calls) == 1 else _together(calls)
            for call, answer in zip(calls, answers, strict=True):
                with suppress(RuntimeError):  # its loop has ended, and with it whoever waited
                    call.done.get_loop().call_soon_threadsafe(_answer, call.done, answer)

    def _waiting(self) -> list[Call]:
        calls = [self._queue.get()]
        with suppress(Empty):
            while len(calls) < MAX_TOGETHER:
                calls.append(self._queue.get_nowait())
        return calls


def _together(calls: Sequence[Call]) -> list[Answer]:
    try:
        with transaction.atomic():
            return [_alone(call) for call in calls]
    except DatabaseError as error:  # the commit failed, and with it all that it was to keep
        return [(None, error)] * len(calls)


def _alone(call: Call) -> Answer:
    try:
        with transaction.atomic():
            return call.function(), None
    except Exception as error:  # noqa: BLE001  (goes to whoever awaits the call)
        return None, error


def _answer(done: asyncio.Future[Any], answer: Answer) -> None:
    result, error = answer
    if done.done():
        return  # whoever waited was cancelled
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)


@cache
def this_write_lane() -> WriteLane:
    """The lane of this process."""
    return WriteLane()
