"""What tasks that wait share in a process: the limit of their owner, and the transactions in which waits begin and end."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from django.conf import settings

from apflow_site.db import pools
from tasks.services import waits
from tasks.services.runs import child_runs
from tasks.services.waits import event_waits
from tasks.services.waits.questions import OpenQuestion
from tasks.status import WaitKind

FRESH_SECONDS: Final = 10.0
FULL_SECONDS: Final = 1.0
"""How long a count is believed by which there is no room."""
NO_ROOM: Final = (
    "Cannot wait: user '{user}' has {most:,} open questions and waits already (limits.waits_per_user). "
    "Answer or cancel some of them, and execute this task again."
)


class WaitRoom:
    """Limits how many tasks of one user wait at once (`limits.waits_per_user`), and lets many waits begin and end together.

    It counts in the database now and then, not for each wait, so several worker processes together may pass the limit.
    """

    def __init__(self) -> None:
        self._places: dict[str, _Places] = {}
        self._looks = pools.SharedCalls(event_waits.look_back)
        self._listening = pools.SharedCalls(event_waits.take_or_open, pool="write")
        self._ends = pools.SharedCalls(_end, pool="write")

    @asynccontextmanager
    async def place(self, user_id: str) -> AsyncIterator[str | None]:
        """Hold a place for a wait until it is committed. Yields why there is none, else None."""
        most = settings.APFLOW.limits.waits_per_user
        places = self._places.setdefault(user_id, _Places())
        async with places.counting:
            if not places.is_fresh(most):
                await places.all_committed.wait()
                places.count(await pools.read(waits.count_open, user_id, most=most))
                self._places = {each: its for each, its in self._places.items() if its.is_used or its.is_fresh(most)}
        if places.taken >= most:
            yield NO_ROOM.format(user=user_id, most=most)
        else:
            with places.one():
                yield None

    async def settled(self, user_id: str, wait: OpenQuestion, *, is_over: bool) -> OpenQuestion | None:
        """Let a wait for an event take one that came before it, or end if its time is over; start the tree of one for a run.

        Returns the wait as it is then; None if the task no longer waits.
        """
        if wait.is_listening and not is_over:
            return wait
        if wait.kind == WaitKind.RUN and is_over:
            return wait
        if wait.kind == WaitKind.RUN:
            return await pools.write(child_runs.start, wait.id)
        if is_over:
            return await self._ends.result(user_id, wait.id)
        look = await self._looks.result(user_id, wait.id)
        return None if look is None else await self._listening.result(user_id, look)


def _end(_user_id: str, wait_ids: Sequence[str]) -> dict[str, OpenQuestion]:
    return waits.end(wait_ids)


class _Places:
    """Those of one user: the open waits when they were counted, and those that began here since."""

    def __init__(self) -> None:
        self.taken = 0
        self.counting = asyncio.Lock()
        self.all_committed = asyncio.Event()
        """A count would miss a wait that is not."""
        self.all_committed.set()
        self._uncommitted = 0
        self._counted_at = -math.inf

    @property
    def is_used(self) -> bool:
        return self.counting.locked() or self._uncommitted > 0

    def is_fresh(self, most: int) -> bool:
        """Whether the count is young enough to be believed."""
        return time.monotonic() - self._counted_at < (FULL_SECONDS if self.taken >= most else FRESH_SECONDS)

    def count(self, waits: int) -> None:
        self.taken, self._counted_at = waits, time.monotonic()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take a place for a wait that is committed before this ends."""
        self.taken += 1
        self._uncommitted += 1
        self.all_committed.clear()
        try:
            yield
        finally:
            self._uncommitted -= 1
            if not self._uncommitted:
                self.all_committed.set()
