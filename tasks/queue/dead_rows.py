"""Queries that dead rows make slow are made seldom.

PostgreSQL keeps the old versions of rows while an open transaction might still read them, whosever it is. Each run leaves some at
the beginning of the indexes by which runs are claimed and counted: after minutes, such a query reads more of them than all others
read together.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from apflow_site.db.connections import IS_SQLITE

SLOW_SECONDS: Final = 0.02
REST: Final = 10
"""After a slow query there is none for so many times the time that it took."""
SLACK: Final = 256
"""Submissions that do not see each other's runs may take turns that are lower by a few than one that has been claimed."""


class Rest:
    """The time without queries of one kind, after a slow one. SQLite keeps no dead rows, and waits for its lock at times: there is none."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        slow_seconds: float = math.inf if IS_SQLITE else SLOW_SECONDS,
    ) -> None:
        self._clock = clock
        self._slow_seconds = slow_seconds
        self._ends_at = 0.0

    @property
    def is_over(self) -> bool:
        return self._clock() >= self._ends_at

    @contextmanager
    def after(self) -> Iterator[None]:
        """Begin after the query in the block, if that is slow."""
        began_at = self._clock()
        yield
        ended_at = self._clock()
        if ended_at - began_at > self._slow_seconds:
            self._ends_at = ended_at + REST * (ended_at - began_at)


class Beginning:
    """The turn from which claims of this process look for runs.

    New runs have higher turns than claimed ones (`tasks.queue.fairness`). Only runs that wait again have lower ones; these are
    found by the looks at all turns, which have a rest if they are slow.
    """

    def __init__(self, rest: Rest | None = None) -> None:
        self._rest = rest or Rest()
        self._reached = 0

    @contextmanager
    def look(self) -> Iterator[int]:
        """Return the turn for a look in the block: 0, or during the rest that of the runs that were claimed last."""
        if self._rest.is_over:
            with self._rest.after():
                yield 0
        else:
            yield max(0, self._reached - SLACK)

    def claimed(self, turns: list[int]) -> None:
        """Note the turns of runs that have been claimed."""
        self._reached = min(turns, default=self._reached)
