"""A semaphore for the tasks that run at once in a worker process; users share it fairly."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from heapq import heappop, heappush
from itertools import count

from tasks.telemetry import metrics


class FairSemaphore:
    """A semaphore for which users take turns.

    Among one user's tasks the lowest `priority` goes first, then the one that arrived first.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: OrderedDict[str, list[tuple[int, int, asyncio.Future[None]]]] = OrderedDict()
        self._arrival = count()

    @asynccontextmanager
    async def take(self, user_id: str, priority: int) -> AsyncIterator[None]:
        """Take a slot for a task, which is counted as in progress."""
        async with self.turn(user_id, priority):
            with metrics.one_in_progress():
                yield

    @asynccontextmanager
    async def turn(self, user_id: str, priority: int) -> AsyncIterator[None]:
        await self._acquire(user_id, priority)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, user_id: str, priority: int) -> None:
        if self._free and not self._waiting:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._waiting.setdefault(user_id, []), (priority, next(self._arrival), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release()
            raise

    def _release(self) -> None:
        while self._waiting:
            if turn := self._next_turn():
                turn.set_result(None)
                return
        self._free += 1

    def _next_turn(self) -> asyncio.Future[None] | None:
        """Remove and return the best waiter of the first user, who moves to the end; None if none
        is left.
        """
        user_id, waiting = self._waiting.popitem(last=False)
        while waiting:
            turn = heappop(waiting)[2]
            if not turn.done():
                if waiting:
                    self._waiting[user_id] = waiting
                return turn
        return None
