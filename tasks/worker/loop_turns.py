"""Limits how many tasks begin in one turn of the event loop, so that no turn takes long."""

import asyncio
from collections import OrderedDict, deque

TASKS_PER_TURN = 20
"""The first step of a task takes up to a millisecond: what waits on the loop waits 20 ms for them."""


class LoopTurns:
    """Lets `size` tasks begin per turn of the event loop, users in turn.

    A thousand tasks that become ready together would otherwise all begin in the same turn, and so would those of
    every other run of their owner, while other users' tasks and the lease of the process wait.
    """

    def __init__(self, size: int = TASKS_PER_TURN) -> None:
        self._size = self._left = size
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._is_renewed_soon = False

    async def take(self, user_id: str) -> None:
        """Return in this turn of the loop if it has room, else in a later one."""
        self._renew_soon()
        if self._left and not self._waiting:
            self._left -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(user_id, deque()).append(turn)
        await turn

    def _renew_soon(self) -> None:
        if not self._is_renewed_soon:
            self._is_renewed_soon = True
            asyncio.get_running_loop().call_soon(self._renew)

    def _renew(self) -> None:
        self._is_renewed_soon = False
        self._left = self._size
        while self._left and self._waiting:
            self._let_next_through()
        if self._left < self._size:
            self._renew_soon()

    def _let_next_through(self) -> None:
        user_id, turns = self._waiting.popitem(last=False)
        turn = turns.popleft()
        if turns:
            self._waiting[user_id] = turns
        if not turn.done():  # else its task was cancelled
            turn.set_result(None)
            self._left -= 1
