"""A semaphore for the tasks that run at once in a worker process; users share it fairly."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from heapq import heappop, heappush
from itertools import count

from django.conf import settings

from tasks.telemetry import metrics


class Shares:
    """The number, out of so many places, that each user may hold: all of them without authentication."""

    def __init__(self, size: int) -> None:
        config = settings.APFLOW
        self.usual = max(1, size * config.share_of() // 100)
        self.own = {user_id: max(1, size * config.share_of(user_id) // 100) for user_id in config.shares or ()}

    def of(self, user_id: str) -> int:
        return self.own.get(user_id, self.usual)


class FairSemaphore:
    """A semaphore for which users take turns.

    Among one user's tasks the lowest `priority` goes first, then the one that arrived first. No user
    holds more slots than `share` returns.
    """

    def __init__(self, size: int, *, share: Callable[[str], int] | None = None) -> None:
        self._free = size
        self._share = share or (lambda _: size)
        self._held: Counter[str] = Counter()
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
        if self._free and self._held[user_id] < self._share(user_id):  # then those who wait hold their share
            self._take(user_id)
        else:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heappush(self._waiting.setdefault(user_id, []), (priority, next(self._arrival), turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._release(user_id)
                raise
        try:
            yield
        finally:
            self._release(user_id)

    def _take(self, user_id: str) -> None:
        self._free -= 1
        self._held[user_id] += 1

    def _release(self, user_id: str) -> None:
        self._free += 1
        self._held[user_id] -= 1
        if not self._held[user_id]:
            del self._held[user_id]
        for waiting_user in list(self._waiting):
            if self._held[waiting_user] < self._share(waiting_user) and (turn := self._next_turn(waiting_user)):
                self._take(waiting_user)
                turn.set_result(None)
                return

    def _next_turn(self, user_id: str) -> asyncio.Future[None] | None:
        """Remove and return the user's best waiter, and move the user to the end; None if none is left."""
        waiting = self._waiting.pop(user_id)
        while waiting:
            turn = heappop(waiting)[2]
            if not turn.done():
                if waiting:
                    self._waiting[user_id] = waiting
                return turn
        return None
