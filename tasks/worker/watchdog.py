"""Keeps the leases of a worker process, and watches that and its event loop, from a thread each.

The one that watches needs no database. It counts seconds that it has seen pass itself: a machine that slept,
or a process that was stopped for a while, is not blocked.
"""

import asyncio
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection, transaction

from aipartnerupflow.workflows.loop import interrupt
from apflow_site.db.connections import refresh
from tasks.queue import leases
from tasks.queue.leases import give_up_seconds, lease_seconds
from tasks.telemetry import metrics
from tasks.worker.footprints import Footprints, Work

logger = logging.getLogger(__name__)

KEEP_SECONDS: Final = 3.0
RETRY_SECONDS: Final = 0.5
TICK_SECONDS: Final = 0.5
REPORT_SECONDS: Final = 2.0
"""A step on the loop that takes longer is reported with its stack."""
WORKFLOW_SECONDS: Final = 5.0
"""The code of a workflow that takes longer is stopped: it only decides what comes next."""


class LeaseKeeper:
    """While attentive, calls `beat` and renews the owner's leases on the runs that `held` returns.

    It has a thread and a database connection of its own: a task that blocks the event loop, or a long queue of writes, costs no lease.
    """

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


class Watchdog:
    """`hold_count` returns how many runs the process holds; it is called on the watchdog's thread, as are
    `on_blocked`, which gets the task at fault (None: unknown) and a text that says what happened, and `on_stuck`.
    `on_lease_late` is called on the loop. `on_blocked` and `on_stuck` end the process.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        keeper: LeaseKeeper,
        footprints: Footprints,
        hold_count: Callable[[], int],
        on_lease_late: Callable[[], object],
        on_blocked: Callable[[Work | None, str], object],
        on_stuck: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._give_up_seconds = give_up_seconds()
        # A process that still holds runs then ends, before another one may begin them.
        self._last_resort_seconds = lease_seconds() - 1
        self._keeper = keeper
        self._footprints = footprints
        self._hold_count = hold_count
        self._on_lease_late = on_lease_late
        self._on_blocked = on_blocked
        self._on_stuck = on_stuck
        self._is_needed = threading.Event()
        self._is_over = threading.Event()
        self._has_answered = True
        self._blocked_seconds = 0.0
        self._is_reported = False
        self._is_late = False
        self._loop_thread = 0
        threading.Thread(target=self._watch_for_ever, name="watchdog", daemon=True).start()

    @contextmanager
    def attentive(self) -> Iterator[None]:
        """Watch while the context is open. Open it on the loop's thread."""
        self._loop_thread = threading.get_ident()
        self._has_answered = True
        self._is_late = False
        self._is_over.clear()
        self._is_needed.set()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGUSR1, interrupt)
        try:
            yield
        finally:
            self._is_needed.clear()
            self._is_over.set()
            metrics.occupied(self._footprints.take_loop_seconds())

    def _watch_for_ever(self) -> None:
        while True:
            self._is_needed.wait()
            last = time.monotonic()
            while not self._is_over.wait(TICK_SECONDS):
                now = time.monotonic()
                self._look(min(now - last, 2 * TICK_SECONDS))
                last = now

    def _look(self, seconds: float) -> None:
        metrics.occupied(self._footprints.take_loop_seconds())
        self._look_at_leases()
        if self._has_answered:
            self._has_answered = self._is_reported = False
            self._blocked_seconds = 0.0
            self._loop.call_soon_threadsafe(self._answer, time.monotonic())
            return
        self._blocked_seconds += seconds
        if self._blocked_seconds >= settings.APFLOW.worker.stall_seconds:
            self._on_blocked(
                self._footprints.current, f"Blocked the worker for {self._blocked_seconds:.0f} s in {self._place()}"
            )
        elif self._blocked_seconds >= REPORT_SECONDS and not self._is_reported:
            self._is_reported = True
            self._report()
        elif self._blocked_seconds >= WORKFLOW_SECONDS and signal.getsignal(signal.SIGUSR1) is interrupt:
            os.kill(os.getpid(), signal.SIGUSR1)

    def _answer(self, asked_at: float) -> None:
        self._has_answered = True
        metrics.lagged(time.monotonic() - asked_at)

    def _look_at_leases(self) -> None:
        late_seconds = time.monotonic() - self._keeper.renewed_at
        if late_seconds < self._give_up_seconds:
            self._is_late = False
        elif self._hold_count():
            if not self._is_late:
                self._is_late = True
                self._loop.call_soon_threadsafe(self._on_lease_late)
            if late_seconds > self._last_resort_seconds:
                self._on_stuck()

    def _report(self) -> None:
        stack = "".join(traceback.format_stack(self._frame()))
        work = self._footprints.current
        facts = (
            {}
            if work is None
            else {"run": work.run_id, "task": work.task_id, "executor": work.executor_id, "user": work.user_id}
        )
        logger.warning(
            "The event loop has been blocked for %.0f s by %s:\n%s",
            self._blocked_seconds,
            f"task {work.task_id} ({work.executor_id}) of run {work.run_id}" if work else "unknown code",
            stack,
            extra={"event": "loop.blocked", **facts},
        )

    def _frame(self) -> FrameType | None:
        return sys._current_frames().get(self._loop_thread)

    def _place(self) -> str:
        frame = self._frame()
        if frame is None:
            return "unknown code"
        return f"{frame.f_code.co_qualname} ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})"
