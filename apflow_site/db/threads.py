"""Threads that make calls for an event loop.

`concurrent.futures` does the same with a second future, locks and callbacks for each call, which takes longer than
most queries.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol

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
