"""The bytes of results that may wait for their commit at the same time, in one worker process.

A result is encoded several times on its way into the database. Hundreds of tasks that complete in
the same moment with the result of one dependency would fill the memory with copies of it.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from tasks.rules.stored_results import is_longer, too_long
from tasks.worker.outcomes import Outcome, completed

WAITING_BYTES: Final = 16 * 2**20
SMALL_BYTES: Final = 2**14
"""Results up to this size do not count."""


class ResultMemory:
    """A semaphore in bytes; first come, first served. A result larger than all of it goes alone."""

    def __init__(self, size: int = WAITING_BYTES) -> None:
        self._size = self._free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """While it is entered, `completed_in_turn` reserves bytes; at its end they are free again."""
        held = _Held(self)
        token = _HELD.set(held)
        try:
            yield
        finally:
            _HELD.reset(token)
            self._give(held.size)

    def has_room(self, size: int) -> bool:
        return not self._waiting and self._free >= min(size, self._size)

    async def take(self, size: int) -> int:
        """Wait for room. Returns how much was taken."""
        size = min(size, self._size)
        if self.has_room(size):
            self._free -= size
            return size
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give(size)
            raise
        return size

    def _give(self, size: int) -> None:
        self._free += size
        while self._waiting and (self._waiting[0][1].done() or self._free >= self._waiting[0][0]):
            size, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= size
                turn.set_result(None)


class _Held:
    """The bytes that one task has reserved."""

    def __init__(self, memory: ResultMemory) -> None:
        self.memory = memory
        self.size = 0


_HELD: Final[ContextVar[_Held | None]] = ContextVar("held result memory", default=None)


async def completed_in_turn(result: Any, *, max_bytes: int, is_composed: bool) -> Outcome:
    """Return the completed outcome when there is room for its result until it is committed.

    `is_composed`: the result may contain those of several dependencies. Raises ExecutorError as
    `completed` does.
    """
    if is_composed and is_longer(result, than=max_bytes):
        raise too_long("The result is longer", max_bytes)
    outcome = completed(result, max_bytes=max_bytes)
    size = len(outcome.stored or b"")
    held = _HELD.get()
    if held is None or size <= SMALL_BYTES:
        return outcome
    if not held.memory.has_room(size):
        del outcome  # the wait is for the memory that it uses
        held.size += await held.memory.take(size)
        return completed(result, max_bytes=max_bytes)
    held.size += await held.memory.take(size)
    return outcome
