"""Calls of the database from an event loop: the threads that make them, and the end of the wait for a silent database.

`concurrent.futures` has threads, too, but a second future, locks and callbacks for each call, which takes longer than
most queries.

A call may take long because its statement does, or because the database, its machine or the network
has stopped: then it would wait for minutes, and the client with it. After a while, a short query on
another connection tells the two apart.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Final, Protocol

from django.db import OperationalError

PATIENCE_SECONDS: Final = 2.0
"""How long a call takes before the database is probed, and how long until it is probed again."""
PROBE_SECONDS: Final = 1.5
"""How long the probe may take. With the above, a client has its answer within 5 seconds."""
Outcome = tuple[Any, BaseException | None]


@dataclass(frozen=True, slots=True)
class Call:
    """A sync function, and the future for its result, which belongs to an event loop of another thread."""

    function: Callable[[], Any]
    done: "asyncio.Future[Any]"

    def outcome(self) -> Outcome:
        """Call the function."""
        try:
            return self.function(), None
        except BaseException as error:  # noqa: BLE001  (the caller gets it)
            return None, error

    def end(self, result: Any, error: BaseException | None) -> None:
        """Let the future know."""
        with suppress(RuntimeError):  # the loop has ended
            self.done.get_loop().call_soon_threadsafe(_set, self.done, result, error)


def _set(done: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if done.done():
        return  # the caller was cancelled
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)


class Caller(Protocol):
    """Makes calls on threads of its own."""

    def submit(self, call: Call) -> None:
        """Return at once."""


class Threads:
    """Up to `most` threads, each of which starts when all others are busy."""

    def __init__(self, most: int, *, name: str) -> None:
        self._most, self._name = most, name
        self._calls: SimpleQueue[Call] = SimpleQueue()
        self._lock = threading.Lock()
        self._open = self._started = 0

    def submit(self, call: Call) -> None:
        """Queue the call. It is not made if its future is cancelled before."""
        with self._lock:
            self._open += 1
            starts = self._open > self._started < self._most
            self._started += starts
        if starts:
            threading.Thread(target=self._call_for_ever, name=self._name, daemon=True).start()
        self._calls.put(call)

    def _call_for_ever(self) -> None:
        while True:
            call = self._calls.get()
            outcome = None if call.done.cancelled() else call.outcome()
            with self._lock:
                self._open -= 1
            if outcome is not None:
                call.end(*outcome)
            del call, outcome  # what they refer to must not live until the next ones


class DatabaseSilent(OperationalError):
    """The database does not answer. Whether it carries out the call later is not known."""


class Patience:
    """Ends a call with DatabaseSilent once the database does not answer `probe`."""

    def __init__(self, call: "asyncio.Future[Any]", probe: Callable[[], Awaitable[object]]) -> None:
        self._call = call
        self._probe = probe
        self._probing: asyncio.Task[None] | None = None
        self._loop = call.get_loop()
        self._timer = self._loop.call_later(PATIENCE_SECONDS, self._begin)
        call.add_done_callback(self._end)

    def _end(self, _: object) -> None:
        self._timer.cancel()
        if self._probing is not None:
            self._probing.cancel()

    def _begin(self) -> None:
        self._probing = self._loop.create_task(self._check())

    async def _check(self) -> None:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._probe()
        except (OperationalError, TimeoutError):
            if not self._call.done():
                self._call.set_exception(DatabaseSilent("The database does not answer"))
        else:
            self._timer = self._loop.call_later(PATIENCE_SECONDS, self._begin)
