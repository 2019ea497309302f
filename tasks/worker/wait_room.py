"""The state that waiting tasks of a process share: users with too many waits, and the transactions in which waits begin and end."""

import time
from collections.abc import Sequence
from typing import Final

from apflow_site.db import pools
from tasks.rules.exceptions import TooManyWaits
from tasks.services import waits
from tasks.services.runs import child_runs
from tasks.services.waits import event_waits
from tasks.services.waits.questions import OpenQuestion
from tasks.status import WaitKind

FULL_SECONDS: Final = 1.0
"""The seconds for which a count that leaves no room is believed."""
NO_ROOM: Final = (
    "Cannot wait: user '{user}' has {most:,} open questions and waits already (limits.waits_per_user). "
    "Answer or cancel some of them, and execute this task again."
)


class WaitRoom:
    """Lets many waits begin and end together, and remembers for a second who has too many (`limits.waits_per_user`)."""

    def __init__(self) -> None:
        self._full_until: dict[str, float] = {}
        self._looks = pools.SharedCalls(event_waits.look_back)
        self._listening = pools.SharedCalls(event_waits.take_or_open, pool="write")
        self._ends = pools.SharedCalls(_end, pool="write")

    def refuse_if_full(self, user_id: str) -> None:
        """Raise TooManyWaits if the user had no place a moment ago: thousands of tasks may ask, and counting is slow."""
        if self._full_until.get(user_id, 0.0) > time.monotonic():
            raise TooManyWaits(user_id)

    def note_full(self, user_id: str) -> None:
        """Refuse the waits of the user for a while."""
        now = time.monotonic()
        self._full_until = {each: until for each, until in self._full_until.items() if until > now}
        self._full_until.setdefault(user_id, now + FULL_SECONDS)

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
