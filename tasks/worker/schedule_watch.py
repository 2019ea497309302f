"""Fires schedules at their times: sleeps until the next one is due, or until a schedule changes."""

import logging
import threading
from datetime import UTC, datetime
from typing import Final

from django.db import DatabaseError, connection

from apflow_site.db.connections import IS_SQLITE, refresh
from tasks.queue import clock, maintenance, notify
from tasks.queue.notifier import Notifier
from tasks.services.schedules import due_schedules, firings

logger = logging.getLogger(__name__)

LONGEST_SECONDS: Final = 60.0 if IS_SQLITE else 5.0
"""Between two looks without any schedule. A notification may be lost on PostgreSQL, and clocks may be set."""
QUEUE_SECONDS: Final = 1.0
"""Between two looks while runs wait for an earlier one."""
LEAST_SECONDS: Final = 0.02
"""Between two looks while other processes fire what is due."""
AGAIN_SECONDS: Final = 1.0
"""The pause after the database was unavailable."""


def watch(is_over: threading.Event) -> None:
    """Until then, fire schedules."""
    notifier: Notifier | None = None
    latest = datetime.min.replace(tzinfo=UTC)
    while not is_over.is_set():
        try:
            refresh()
            if notifier is None:
                notifier = notify.listen(notify.SCHEDULES, is_rare=True)
                firings.look_again()
            now = clock.database_time()
            if now + firings.CLOCK_TOLERANCE < latest:
                firings.look_again()
            latest = now
            pause = look(now)
        except DatabaseError:
            logger.warning("Could not fire schedules: the database is unavailable", extra={"event": "schedules.failed"})
            connection.close()
            is_over.wait(AGAIN_SECONDS)
            continue
        if pause:
            notifier.wait(pause)


def look(now: datetime) -> float:
    """Fire what is due. Returns in how many seconds to look again."""
    seconds = due_schedules.seconds_until_due(now)
    is_any_queued = due_schedules.is_any_queued()
    if seconds == 0 or is_any_queued:
        if maintenance.is_on():
            return QUEUE_SECONDS
        if firings.fire_due() or firings.start_queued():
            return 0.0
    longest = QUEUE_SECONDS if is_any_queued else LONGEST_SECONDS
    return longest if seconds is None else min(longest, max(LEAST_SECONDS, seconds))
