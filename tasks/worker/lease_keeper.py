"""Keeps this process's leases, from a thread and a database connection of its own.

So a task that blocks the event loop, or a long queue of writes, costs no lease.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Final

from django.db import DatabaseError, InterfaceError, connection, transaction

from apflow_site.db.connections import refresh
from tasks.queue import leases

logger = logging.getLogger(__name__)

KEEP_SECONDS: Final = 3.0
RETRY_SECONDS: Final = 0.5


class LeaseKeeper:
    """While attentive, calls `beat` and renews the owner's leases on the runs that `held` returns."""

    def __init__(self, *, owner: str, held: Callable[[], Collection[str]], beat: Callable[[], object]) -> None:
        self.renewed_at = time.monotonic()
        """The time when the last successful renewal began. Other threads may read it."""
        self._owner = owner
        self._held = held
        self._beat = beat
        self._is_needed = threading.Event()
        self._is_over = threading.Event()
        threading.Thread(target=self._keep_for_ever, name="leases", daemon=True).start()

    @contextmanager
    def attentive(self) -> Iterator[None]:
        self.renewed_at = time.monotonic()
        self._is_over.clear()
        self._is_needed.set()
        try:
            yield
        finally:
            self._is_needed.clear()
            self._is_over.set()

    def _keep_for_ever(self) -> None:
        while True:
            self._is_needed.wait()
            pause = KEEP_SECONDS
            while not self._is_over.wait(pause):
                pause = KEEP_SECONDS if self._keep() else RETRY_SECONDS
            connection.close()

    def _keep(self) -> bool:
        began_at = time.monotonic()
        try:
            refresh()
            with transaction.atomic():
                self._beat()
                leases.renew(owner=self._owner, run_ids=self._held())
        except (DatabaseError, InterfaceError):
            connection.close()
            logger.warning("Could not renew its leases: the database is unavailable", extra={"event": "lease.late"})
            return False
        self.renewed_at = began_at
        return True
