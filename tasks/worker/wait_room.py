"""How many tasks of one user may wait at once, for an answer, a time, an event or a tree (`limits.waits_per_user`)."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from django.conf import settings

from apflow_site.db import pools
from tasks.services.waits import count_open

FRESH_SECONDS: Final = 10.0
FULL_SECONDS: Final = 1.0
"""How long a count is believed by which there is no room."""
NO_ROOM: Final = (
    "Cannot wait: user '{user}' has {most:,} open questions and waits already (limits.waits_per_user). "
    "Answer or cancel some of them, and execute this task again."
)


@dataclass(slots=True)
class _Count:
    """The open waits of a user when they were counted, and those that began here since."""

    waits: int
    counted_at: float

    def is_fresh(self, now: float, *, most: int) -> bool:
        return now - self.counted_at < (FULL_SECONDS if self.waits >= most else FRESH_SECONDS)


class WaitRoom:
    """Counts in the database now and then, not for each wait, so all workers together may pass the limit a little."""

    def __init__(self) -> None:
        self._counts: dict[str, _Count] = {}
        self._counting = asyncio.Lock()

    async def refusal(self, user_id: str) -> str | None:
        """Return why no further task of the user may wait; None if it may, which then counts."""
        most = settings.APFLOW.limits.waits_per_user
        async with self._counting:
            count = self._counts.get(user_id)
            if count is None or not count.is_fresh(time.monotonic(), most=most):
                count = await self._count(user_id, most)
        if count.waits >= most:
            return NO_ROOM.format(user=user_id, most=most)
        count.waits += 1
        return None

    async def _count(self, user_id: str, most: int) -> _Count:
        waits = await pools.read(count_open, user_id, most=most)
        now = time.monotonic()
        self._counts = {each: count for each, count in self._counts.items() if count.is_fresh(now, most=most)}
        self._counts[user_id] = count = _Count(waits, now)
        return count
