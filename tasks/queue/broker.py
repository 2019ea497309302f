"""The queue between services and workers: django-q2's ORM broker, made to wait for the doorbell instead of polling.

A queue row holds the id of a run and nothing else. The signed package that django-q2 wants is made in the process that reads the row, so
whoever can write the table can wake a worker, and no more.
"""

import threading
import time
from functools import cached_property
from typing import Any, Final

from django.db import OperationalError, connection, transaction
from django.utils import timezone
from django_q.brokers.orm import ORM
from django_q.conf import Conf
from django_q.models import OrmQ
from django_q.signing import SignedPackage

from apflow_db.connections import IS_SQLITE
from tasks.ids import new_id
from tasks.queue import notify

PROBE_SECONDS: Final = 3.0
"""So often an idle worker has to prove that it still gets jobs."""
WAIT_SECONDS: Final = 0.5
MAX_WAKE_UPS: Final = 10_000
RUN_TREE: Final = "tasks.jobs.run_tree"
PROBE: Final = "tasks.jobs.probe"

Package = tuple[None, str]


class NotifiedBroker(ORM):
    """Reads the wake-ups of all queued runs at once, and hands out one for each worker process at most: each job claims
    whatever waits."""

    _last_package_at = 0.0

    @cached_property
    def _has_rung(self) -> threading.Event:
        return threading.Event()

    @cached_property
    def _listener(self) -> notify.Listener:
        """A thread of its own, because the pusher itself may stand for long before a full queue of jobs."""
        return notify.Listener(notify.RUNS, self._has_rung.set)

    def dequeue(self) -> list[Package]:
        """Wait for wake-ups, but not for long: the pusher has to see when it must stop."""
        try:
            with self._listener.attentive():
                self._has_rung.clear()  # before the look: whoever rings during it is heard
                run_ids = self._take() or (self._has_rung.wait(WAIT_SECONDS) and self._take()) or []
        except OperationalError:
            connection.close()
            time.sleep(WAIT_SECONDS)  # the database is away; django-q2 itself would give up for ten seconds
            return []
        if run_ids:
            return self._hand_out([_package(RUN_TREE, run_id) for run_id in run_ids[: Conf.WORKERS]])
        if time.monotonic() - self._last_package_at > PROBE_SECONDS:
            return self._hand_out([_package(PROBE)])
        return []

    def _take(self) -> list[str]:
        """Remove the queued rows and return their run ids. What is lost on the way is found by the sweeper."""
        if not _is_anything_queued(self.list_key):
            return []
        queued = OrmQ.objects.filter(key=self.list_key).order_by("id")
        with transaction.atomic():
            if not IS_SQLITE:
                queued = queued.select_for_update(skip_locked=True)
            rows = list(queued.values_list("id", "payload")[:MAX_WAKE_UPS])
            OrmQ.objects.filter(id__in=[row_id for row_id, _ in rows]).delete()
        return [run_id for _, run_id in rows]

    def _hand_out(self, packages: list[Package]) -> list[Package]:
        self._last_package_at = time.monotonic()
        return packages


def _is_anything_queued(key: str) -> bool:
    """Asked at every ring, so without the ORM's cost."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM django_q_ormq WHERE key = %s LIMIT 1", [key])
        return cursor.fetchone() is not None


def _package(function: str, *args: Any) -> Package:
    """A django-q2 job, without an id to acknowledge: its row is gone already."""
    job = {"id": new_id(), "name": function, "func": function, "args": args, "kwargs": {}, "started": timezone.now()}
    return None, SignedPackage.dumps(job)
