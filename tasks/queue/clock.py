"""The database's clock, by which all processes agree, and the watch for when it says nothing about the owners of leases.

After a disturbance that hit all of them, their leases have expired though they are alive and about to renew them: the clock
was set ahead, this machine slept, or the database did not answer for a while.
"""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from django.db import connection

from tasks.queue.leases import DB_NOW, moment

TOLERATED_SECONDS: Final = 2.0
SILENT_SECONDS: Final = 6.0
"""The database has not answered for so long: several sweeps."""
RENEWAL_SECONDS: Final = 10.0
"""After a disturbance, live owners renew their leases within this time, however long these last."""


def database_time() -> datetime:
    """Return the time of the database server, in UTC. On SQLite to the millisecond."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {DB_NOW.replace('%%', '%')}")
        (now,) = cursor.fetchone()
    return moment(now)


class ExpiryWatch:
    """Looks at the database's clock before each sweep."""

    def __init__(self, steady: Callable[[], float] = time.monotonic) -> None:
        """`steady` is a clock in seconds that stops while the machine sleeps."""
        self._steady = steady
        self._looked_at = steady()
        self._database_time: datetime | None = None
        self._disturbed_at = float("-inf")

    def may_expire(self) -> bool:
        """Look. False: there was a disturbance just now, or so lately that live owners may not have
        renewed their leases since.
        """
        looked_at = self._steady()
        there = database_time()
        now = self._steady()
        if self._database_time is not None:
            passed_there = (there - self._database_time).total_seconds()
            passed_here = now - self._looked_at
            if passed_here > SILENT_SECONDS or passed_there > passed_here + TOLERATED_SECONDS:
                self._disturbed_at = now
        self._looked_at, self._database_time = looked_at, there
        return now - self._disturbed_at > RENEWAL_SECONDS
