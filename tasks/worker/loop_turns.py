"""Limits how many steps of runs are taken in one turn of the event loop, so that no turn takes long."""

import asyncio
from typing import Final, Protocol

from apflow_site.db.calls import TurnsOf

STEPS_PER_TURN: Final = 20
"""The first step of a task takes up to a millisecond: what waits on the loop waits 20 ms for them."""


class TakesSteps(Protocol):
    """A run with tasks that begin, or end without having run."""

    @property
    def user_id(self) -> str: ...

    def take_step(self) -> bool:
        """Begin or end one task. Returns whether another step is left."""


class LoopTurns:
    """Lets runs take `size` steps per turn of the event loop: users in turn, and the runs of a user in turn.

    A thousand tasks that become ready or are cancelled together would otherwise all begin or end in the same turn, and
    so would those of every other run of their owner, while other users' tasks and the lease of the process wait.
    """

    def __init__(self, size: int = STEPS_PER_TURN) -> None:
        self._size = self._left = size
        self._waiting = TurnsOf[TakesSteps]()
        self._is_renewed_soon = False

    def want(self, run: TakesSteps) -> None:
        """Let a run that does not wait here take its steps, in this turn of the loop as far as it has room, then in later ones."""
        self._waiting.add(run)
        self._take_steps()

    def _take_steps(self) -> None:
        while self._left and (run := self._waiting.take()) is not None:
            self._left -= 1
            if run.take_step():
                self._waiting.add(run)
        if self._left < self._size and not self._is_renewed_soon:
            self._is_renewed_soon = True
            asyncio.get_running_loop().call_soon(self._renew)

    def _renew(self) -> None:
        self._is_renewed_soon = False
        self._left = self._size
        self._take_steps()
